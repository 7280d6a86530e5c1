"""`aynig status`: a row a branch."""

from __future__ import annotations

import time
from typing import Any

import click

from aynig.cli.output import age, json_option, print_json, print_table, timestamp
from aynig.cli.place import open_one, remote_option, remotes_of
from aynig.cli.rows import message, row_as_json
from aynig.errors import AynigError, WaitUntil, told
from aynig.git.address import redact
from aynig.settings import HERE
from aynig.status import NOTHING_RUNS, StatusRow, status_rows
from aynig.text import escape, shell_word


@click.command("status")
@click.option("--all", "show_all", is_flag=True, help="Branches without a state as well.")
@remote_option
@json_option
def command(show_all: bool, as_json: bool, remote: str | None) -> int:
    """Show a row a branch: its state, what holds it, since when, and its last answer.

    \b
    Example:
      aynig status
      aynig status --json | jq '.[] | select(.hold == "missing-script")'
    """
    names = remotes_of(".", (remote,) if remote else ())
    found: dict[str, list[StatusRow]] = {}
    failures: list[AynigError] = []
    for name in names:
        try:
            found[name] = _rows(name, show_all)
        except WaitUntil as error:
            # One that can't be asked hides none of the others.
            failures.append(error)
    if as_json:
        print_json([_as_json(row, name) for name, rows in found.items() for row in rows])
    else:
        for number, (name, rows) in enumerate(found.items()):
            if len(names) > 1:
                click.echo(f"{'' if number == 0 else chr(10)}{_heading(name)}")
            _print(rows, name)
    if not failures:
        return 0
    for failure in failures[:-1]:
        click.echo(f"aynig: {escape(told(failure))}", err=True)
    raise failures[-1]


def _rows(name: str, show_all: bool) -> list[StatusRow]:
    site = open_one(name)
    try:
        return list(status_rows(site, idle=show_all))
    finally:
        site.close()


def _heading(name: str) -> str:
    return "This repository:" if name == HERE else f"{escape(redact(name))}:"


def _as_json(row: StatusRow, name: str) -> dict[str, Any]:
    last = row.last_answer
    return {
        "remote": None if name == HERE else redact(name),
        "branch": row.branch,
        "tip": row.tip or None,
        "state": row.state,
        "hold": row.hold,
        "detail": row.detail,
        "since": timestamp(row.since) if row.tip else None,
        "until": timestamp(row.until),
        "deadline": timestamp(row.deadline),
        "run": row.run,
        "runner": row.runner,
        "lease_seconds": row.lease_seconds,
        "lease_left": None if row.lease_left is None else round(row.lease_left, 3),
        "last_answer": row_as_json(last) if last is not None else None,
    }


def _print(rows: list[StatusRow], name: str) -> None:
    if not rows:
        where = "here" if name == HERE else "there"
        click.echo(f"No task {where}: no branch carries a state. See `aynig submit --help`.")
        return
    now = time.time()
    print_table(
        ("branch", "state", "hold", "age", "detail", "last answer"),
        [
            (
                row.branch,
                row.state or "-",
                row.hold or "-",
                age(now - row.since) if row.tip and row.since else "-",
                _detail(row),
                _last(row),
            )
            for row in rows
        ],
        stretch="detail",
        below=("last answer",),
    )
    if any(row.detail.endswith(NOTHING_RUNS) for row in rows):
        click.echo(_nothing_runs(name))


def _nothing_runs(name: str) -> str:
    """That nobody is at work here. Who is at work elsewhere, a remote does not tell."""
    if name == HERE:
        return f"{NOTHING_RUNS[0].upper()}{NOTHING_RUNS[1:]}."
    return (
        "No runner of this clone is at work; those of other machines may be.\n"
        f"To take part: `aynig run --remote {shell_word(redact(name))}`."
    )


def _detail(row: StatusRow) -> str:
    """The detail where there is one beside state and hold; that nothing runs is told once below."""
    if row.hold == "ended":
        return "-"
    return row.detail.removesuffix(f"; {NOTHING_RUNS}")


def _last(row: StatusRow) -> str:
    last = row.last_answer
    if last is None:
        return "-"
    said = message(last)
    return f"{last.state}: {said}" if said else last.state
