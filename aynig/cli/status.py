"""`aynig status`: a row a branch."""

from __future__ import annotations

import time
from typing import Any

import click

from aynig.cli.output import age, json_option, print_json, print_table, timestamp
from aynig.cli.place import open_one, remote_option
from aynig.cli.rows import message, row_as_json
from aynig.status import NOTHING_RUNS, StatusRow, status_rows


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
    site = open_one(remote)
    try:
        rows = list(status_rows(site, idle=show_all))
    finally:
        site.close()
    if as_json:
        print_json([_as_json(row) for row in rows])
    elif rows:
        _print(rows)
    else:
        click.echo("No task here: no branch carries a state. See `aynig submit --help`.")
    return 0


def _as_json(row: StatusRow) -> dict[str, Any]:
    last = row.last_answer
    return {
        "branch": row.branch,
        "tip": row.tip or None,
        "state": row.state,
        "hold": row.hold,
        "detail": row.detail,
        "since": timestamp(row.since) if row.tip else None,
        "until": timestamp(row.until),
        "run": row.run,
        "runner": row.runner,
        "lease_seconds": row.lease_seconds,
        "lease_left": None if row.lease_left is None else round(row.lease_left, 3),
        "last_answer": row_as_json(last) if last is not None else None,
    }


def _print(rows: list[StatusRow]) -> None:
    now = time.time()
    print_table(
        ("branch", "state", "hold", "age", "detail", "last answer"),
        [
            (
                row.branch,
                row.state or "-",
                row.hold or "-",
                age(now - row.since) if row.tip else "-",
                _detail(row),
                _last(row),
            )
            for row in rows
        ],
        stretch="detail",
        below=("last answer",),
    )
    if any(row.detail.endswith(NOTHING_RUNS) for row in rows):
        click.echo(f"{NOTHING_RUNS[0].upper()}{NOTHING_RUNS[1:]}.")


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
