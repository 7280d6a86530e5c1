"""`aynig audit`: was a task judged by what was fixed before its work began?"""

from __future__ import annotations

from typing import Any

import click

from aynig.audit import AuditRow, audit
from aynig.cli.output import json_option, paint, print_json, timestamp
from aynig.cli.place import open_one, remote_option
from aynig.policies.commitment import BROKEN, HELD, OPEN, UNREVEALED
from aynig.text import escape

_COLOURS = {HELD: "green", OPEN: "yellow", UNREVEALED: "yellow", BROKEN: "red"}


@click.command("audit")
@click.argument("branch")
@remote_option
@json_option
def command(branch: str, as_json: bool, remote: str | None) -> int:
    """Check each verified answer of a task against the hashes that judges published.

    Exit status 0 where all holds, or nothing was committed to; 1 where a hash is missing, came too
    late, is not revealed yet, or is not that of what was revealed.

    \b
    Example:
      aynig audit task/build
      aynig audit task/build --json | jq '.[] | select(.verdict != "held")'
    """
    site = open_one(remote)
    try:
        rows = audit(site, branch)
    finally:
        site.close()
    if as_json:
        print_json([_as_json(row) for row in rows])
    elif rows:
        for row in rows:
            _print(row)
    else:
        click.echo("No answer of this task was verified.")
    return int(any(row.verdict.word in (BROKEN, UNREVEALED) for row in rows))


def _as_json(row: AuditRow) -> dict[str, Any]:
    return {
        "answer": row.oid,
        "state": row.state,
        "trigger": row.trigger,
        "started": timestamp(row.claim.started),
        "verified": row.claim.score,
        "judged_by": row.claim.judged_by,
        "verdict": row.verdict.word,
        "found": row.verdict.told,
    }


def _print(row: AuditRow) -> None:
    word = paint(row.verdict.word, _COLOURS[row.verdict.word])
    click.echo(f"{row.oid[:12]} {escape(row.state)}: {word}")
    for sentence in row.verdict.told:
        click.echo(f"  {sentence}")
