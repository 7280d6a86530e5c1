"""`aynig log`: the story of a task."""

from __future__ import annotations

import click

from aynig.cli.output import json_option, moment, print_json, print_table
from aynig.cli.place import open_one, remote_option, remotes_of
from aynig.cli.rows import message, row_as_json, took
from aynig.errors import UserError
from aynig.git.repo import Repo
from aynig.model import HEADS, branch_of
from aynig.settings import HERE
from aynig.site import Site, load_settings, reader
from aynig.story import RunRow, rows_of_branch
from aynig.text import operand, quote


@click.command("log")
@click.argument("branch", required=False)
@remote_option
@json_option
def command(branch: str | None, as_json: bool, remote: str | None) -> int:
    """Show the story of a task, oldest first: each state, who executed it, how long, exit, oid.

    Without BRANCH it is that of the branch that is checked out.

    \b
    Example:
      aynig log task/login
    """
    if remotes_of(".", (remote,) if remote else ()) == (HERE,):
        repo = Repo.open(".")
        ref = _ref(repo, branch)
        rows = list(rows_of_branch(repo, ref, reader(load_settings(repo))))
    else:
        site = open_one(remote)
        try:
            ref = _ref(site.repo, branch or _current(site), site)
            rows = list(rows_of_branch(site.repo, ref, site.read))
        finally:
            site.close()
    rows.reverse()
    if as_json:
        print_json([row_as_json(row) for row in rows])
    elif rows:
        _print(rows)
    else:
        click.echo(f"{quote(branch_of(ref))} is no task: none of its commits carries a state.")
    return 0


def _current(site: Site) -> str | None:
    """The branch that is checked out in the clone."""
    current = site.clone.current_ref() if site.clone is not None else None
    return branch_of(current) if current is not None else None


def _ref(repo: Repo, branch: str | None, site: Site | None = None) -> str:
    if branch is not None:
        ref: str | None = HEADS + branch
    else:
        ref = repo.current_ref()
    if ref is None:
        raise UserError("HEAD is detached", hint="Name a branch: `aynig log BRANCH`.")
    if repo.read_ref(ref) is None:
        if site is None or site.mirror is None:
            raise UserError(f"there is no branch {quote(branch_of(ref))}", hint="See `git branch`.")
        name = site.mirror.remote.address.shown
        raise UserError(
            f"there is no branch {quote(branch_of(ref))} on {name}",
            hint=f"See `aynig status --remote {operand(name)}`.",
        )
    return ref


def _print(rows: list[RunRow]) -> None:
    columns = {
        "when (UTC)": [moment(row.time) for row in rows],
        "state": [row.state for row in rows],
        "from": [row.from_state or "" for row in rows],
        "exit": ["" if row.exit is None else str(row.exit) for row in rows],
        "took": [took(row) for row in rows],
        "try": ["" if row.attempt is None else str(row.attempt) for row in rows],
        "by": [row.executed_by or row.author or "" for row in rows],
        "commit": [(row.oid or "")[:10] for row in rows],
        "message": [message(row) for row in rows],
    }
    if all(row.attempt in (None, 1) for row in rows):
        # Most tasks succeed at the first: the room is better used for the message.
        del columns["try"]
    print_table(list(columns), zip(*columns.values(), strict=True), stretch="message")
