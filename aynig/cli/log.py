"""`aynig log`: the story of a task."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

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

    Attempts that failed and were repeated have a line of their own, with why.

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
        print_json([_as_json(row) for row in rows])
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
            raise UserError(
                f"there is no branch {quote(branch_of(ref))}",
                hint="See `git branch`, and `aynig status` for one that was lost while it ran.",
            )
        name = site.mirror.remote.address.shown
        raise UserError(
            f"there is no branch {quote(branch_of(ref))} on {name}",
            hint=f"See `aynig status --remote {operand(name)}`.",
        )
    return ref


def _as_json(row: RunRow) -> dict[str, Any]:
    told = {"failure": row.failure, "failed_attempts": list(row.failed_attempts)}
    return row_as_json(row) | told


def _print(rows: list[RunRow]) -> None:
    lines = [line for row in rows for line in (*_attempts(row), _line(row))]
    headings = ["when (UTC)", "state", "from", "exit", "took", "try", "by", "commit", "message"]
    if all(row.attempt in (None, 1) for row in rows):
        # Most tasks succeed at the first: the room is better used for the message.
        place = headings.index("try")
        lines = [line[:place] + line[place + 1 :] for line in lines]
        headings.pop(place)
    print_table(headings, lines, stretch="message")


def _line(row: RunRow) -> list[str]:
    return [
        moment(row.time),
        row.state,
        row.from_state or "",
        "" if row.exit is None else str(row.exit),
        took(row),
        "" if row.attempt is None else str(row.attempt),
        row.executed_by or row.author or "",
        (row.oid or "")[:10],
        _told(row),
    ]


def _told(row: RunRow) -> str:
    """The message, and where the run has failed, what it is known by."""
    said, failure = message(row), row.failure or ""
    if failure.startswith(said) or not failure:
        return failure or said
    return said if failure in said else f"{said}; {failure}"


def _attempts(row: RunRow) -> Iterator[list[str]]:
    """A line for each attempt that failed before the one that was answered."""
    for attempt in row.failed_attempts:
        number, _, why = attempt.partition(": ")
        yield ["", "", row.from_state or "", "", "", number, "", "", why]
