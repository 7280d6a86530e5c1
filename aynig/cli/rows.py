"""Rows of runs as `run` and `log` show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aynig.cli.output import print_table, timestamp
from aynig.durations import format_duration
from aynig.story import RunRow
from aynig.text import counted


def row_as_json(row: RunRow) -> dict[str, Any]:
    """A row for programs: oids whole, times RFC 3339, durations in seconds."""
    return {
        "branch": row.branch,
        "oid": row.oid,
        "answers": row.answers,
        "from_state": row.from_state,
        "state": row.state,
        "run": row.run,
        "attempt": row.attempt,
        "exit": row.exit,
        "duration": row.duration,
        "executed_by": row.executed_by,
        "author": row.author,
        "script": row.script,
        "subject": row.subject,
        "rescue": row.rescue,
        "stopped": row.stopped,
        "fault": row.fault,
        "time": timestamp(row.time),
    }


def print_run_table(rows: Sequence[RunRow], *, held: int = 0, where: str = "") -> None:
    """The closing table of `aynig run`; `where` is the command that tells of `held` tasks."""
    waiting = f"{counted(held, 'task is', 'tasks are')} held, see `{where}`"
    if not rows:
        print(f"Nothing to run: {waiting}." if held else "Nothing to run.")
        return
    print_table(
        ("branch", "state", "answer", "exit", "took", "commit", "message"),
        [
            (
                row.branch,
                row.from_state or "",
                row.state,
                "" if row.exit is None else str(row.exit),
                took(row),
                (row.oid or "")[:10],
                message(row),
            )
            for row in rows
        ],
        stretch="message",
    )
    steps = sum(row.is_step for row in rows)
    counts = [counted(len(rows) - steps, "run")]
    if steps:
        counts.append(counted(steps, "step"))
    counts.append(f"{sum(row.failed for row in rows)} failed")
    interrupted = sum(row.interrupted for row in rows)
    if interrupted:
        counts.append(f"{interrupted} interrupted")
    print(f"{', '.join(counts)}." + (f" {waiting[0].upper()}{waiting[1:]}." if held else ""))


def took(row: RunRow) -> str:
    return "" if row.duration is None else format_duration(row.duration)


def message(row: RunRow) -> str:
    """The subject without the `from -> to: ` that the columns say already."""
    before, arrow, _ = row.subject.partition(" -> ")
    came_from = row.from_state if row.answers is not None or not arrow else before
    return row.subject.removeprefix(f"{came_from} -> {row.state}").removeprefix(": ")
