"""`aynig hooks`: the git hooks that wake a daemon."""

from __future__ import annotations

import os
from collections.abc import Sequence

import click

from aynig import githooks
from aynig.cli.output import json_option, paint, print_json, print_table
from aynig.errors import UsageError, UserError
from aynig.git.repo import Repo
from aynig.githooks import LOCAL, SERVER, Change, HookRow
from aynig.text import escape

server_option = click.option(
    "--server", is_flag=True, help="The post-receive hook, which answers pushes."
)


@click.group("hooks")
def command() -> None:
    """Install, remove or show the git hooks that wake a daemon.

    The local hooks (post-commit, post-merge, post-checkout, post-rewrite) only wake a running
    daemon, where the file system can't be watched. The server's hook (--server, post-receive)
    wakes a daemon or, where none runs, starts `aynig run` in the background; its output goes to
    `aynig/hook.log` in the git directory. Hooks that are there already stay and still run.

    \b
    Example:
      aynig hooks install
      aynig -C /srv/git/project.git hooks install --server
      aynig hooks status
      aynig hooks uninstall
    """


def _refuse_scripts() -> None:
    """What a script changes in the hooks of all worktrees is put back, and its run fails."""
    if os.environ.get("AYNIG_RUN_ID"):
        raise UserError(
            "a state script can't change the hooks of the repository",
            hint="Call this from outside of a run.",
        )


@command.command("install")
@server_option
@json_option
def install(server: bool, as_json: bool) -> None:
    """Put the hooks in place; earlier ones are kept and called first.

    \b
    Example:
      aynig -C /srv/git/project.git hooks install --server
    """
    _refuse_scripts()
    repo = Repo.open(".")
    if repo.bare and not server:
        raise UsageError(
            "nobody commits in a bare repository, so it has no local hooks",
            hint="For pushes: aynig hooks install --server",
        )
    _report(repo, githooks.install(repo, SERVER if server else LOCAL), as_json)


@command.command("uninstall")
@server_option
@json_option
def uninstall(server: bool, as_json: bool) -> None:
    """Take the hooks out and put the earlier ones back.

    All of aynig's, or with --server only that one. A hook that somebody has changed since is
    left alone.

    \b
    Example:
      aynig hooks uninstall
    """
    _refuse_scripts()
    repo = Repo.open(".")
    changes = githooks.uninstall(repo, SERVER if server else LOCAL | SERVER)
    if not changes and not as_json:
        click.echo("No hook of aynig's is installed.")
    _report(repo, changes, as_json)


@command.command("status")
@server_option
@json_option
def status(server: bool, as_json: bool) -> None:
    """Show a row a hook: is it installed, by which version, and what it calls first.

    \b
    Example:
      aynig hooks status --json
    """
    repo = Repo.open(".")
    # Nobody commits in a bare repository.
    rows = githooks.status(repo, SERVER if server or repo.bare else LOCAL | SERVER)
    if as_json:
        print_json([_row_as_json(row) for row in rows])
        return
    print_table(
        ("hook", "state", "by", "calls first", "detail"),
        [
            (
                row.hook,
                row.state,
                f"aynig {row.version}" if row.version else "",
                row.calls.name if row.calls else "",
                row.detail,
            )
            for row in rows
        ],
        stretch="detail",
    )


def _row_as_json(row: HookRow) -> dict[str, object]:
    return {
        "hook": row.hook,
        "path": str(row.path),
        "state": row.state,
        "installed": row.state in ("installed", "outdated"),
        "by": row.version or None,
        "previous": str(row.previous) if row.previous else None,
        "detail": row.detail,
    }


def _report(repo: Repo, changes: Sequence[Change], as_json: bool) -> None:
    if as_json:
        print_json(
            [
                {
                    "hook": change.hook,
                    "path": str(change.path),
                    "action": change.action,
                    "detail": change.detail,
                }
                for change in changes
            ]
        )
        return
    for change in changes:
        detail = f" ({change.detail})" if change.detail else ""
        click.echo(f"{paint(change.action)} {escape(str(change.path))}{escape(detail)}")
    if changes and githooks.is_shared(repo):
        click.echo("The folder is that of core.hooksPath: other repositories may use it too.")
