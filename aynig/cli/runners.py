"""`aynig runners`: a row a runner."""

from __future__ import annotations

import time
from typing import Any

import click

from aynig.cli.output import age, json_option, print_json, print_table, timestamp
from aynig.cli.place import open_one, remote_option
from aynig.fleet import DEAD, IDLE, SILENT, Held, RunnerRow, runner_rows
from aynig.status import lease_left_text
from aynig.text import counted


@click.command("runners")
@remote_option
@json_option
def command(as_json: bool, remote: str | None) -> int:
    """Show a row a runner: what it is running and since when, or that it is idle.

    Of a remote, all that hold a lease there or announced themselves when they fell idle. Of the
    repository itself, those that hold a lease, and the daemons that listen.

    \b
    Example:
      aynig runners --remote origin
      aynig runners --remote origin --json | jq '.[] | select(.state == "idle") | .host'
    """
    site = open_one(remote)
    try:
        rows = runner_rows(site)
    finally:
        site.close()
    if as_json:
        print_json([_as_json(row) for row in rows])
    elif rows:
        _print(rows)
    else:
        click.echo("No runner was seen here. `aynig daemon` and `aynig run` start one.")
    return 0


def _as_json(row: RunnerRow) -> dict[str, Any]:
    return {
        "runner": row.runner,
        "host": row.host,
        "pid": row.pid,
        "agent": row.agent,
        "roles": row.roles,
        "jobs": row.jobs,
        "state": row.state,
        "since": timestamp(row.since),
        "seen": timestamp(row.seen),
        "tasks": [
            {
                "branch": held.branch,
                "state": held.state,
                "run": held.run,
                "since": timestamp(held.since),
                "lease_seconds": held.lease_seconds,
                "lease_left": round(held.lease_left, 3),
            }
            for held in row.tasks
        ],
    }


def _print(rows: list[RunnerRow]) -> None:
    now = time.time()
    print_table(
        ("runner", "state", "for", "seen", "detail", "agent", "roles"),
        [
            (
                row.runner,
                row.state,
                _ago(row.since, now),
                _ago(row.seen, now),
                _detail(row),
                row.agent or "-",
                " ".join(row.roles or ()) or "-",
            )
            for row in rows
        ],
        stretch="detail",
        below=("agent", "roles"),
    )


def _ago(moment: float | None, now: float) -> str:
    return "-" if moment is None else age(now - moment)


def _detail(row: RunnerRow) -> str:
    """What it runs, or why it is shown as it is."""
    parts = [_task(held) for held in row.tasks]
    if row.state == DEAD:
        parts.append(f"pid {row.pid} of this host has ended")
    elif row.state == SILENT and not parts:
        parts.append("not heard of for as long as its word counts")
    elif row.state == IDLE and row.jobs is not None:
        parts.append(f"room for {counted(row.jobs, 'script')}")
    return "; ".join(parts) or "-"


def _task(held: Held) -> str:
    state = f": {held.state}" if held.state else ""
    return f"{held.branch}{state}, run {held.run}, " + lease_left_text(
        held.lease_seconds, held.lease_left
    )
