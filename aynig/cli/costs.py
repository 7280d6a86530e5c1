"""`aynig costs`: what was spent."""

from __future__ import annotations

from calendar import timegm
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import click

from aynig.cli.output import json_option, print_json, print_table
from aynig.cli.place import open_one, remote_option, remotes_of
from aynig.costs import (
    BRANCH,
    KINDS,
    OF_BRANCHES,
    TASK,
    CostRow,
    branches_of_tasks,
    entries_of,
    rows_by,
    total_of,
)
from aynig.errors import UserError
from aynig.git.repo import Repo
from aynig.ledger import open_ledger, read_any
from aynig.model import HEADS
from aynig.settings import HERE, Settings
from aynig.site import load_settings, reader
from aynig.spending import spends_of_leases
from aynig.text import operand, quote
from aynig.usage import format_cost

_PLACES = 2


@click.command("costs")
@click.argument("branch", required=False)
@click.option("--by", type=click.Choice(KINDS), help="A row for each: task, or branch with BRANCH.")
@click.option(
    "--since",
    metavar="DAY",
    type=click.DateTime(["%Y-%m-%d"]),
    help="Only what was spent since the beginning of a day (UTC), such as 2026-01-31.",
)
@remote_option
@json_option
def command(
    branch: str | None, by: str | None, since: datetime | None, as_json: bool, remote: str | None
) -> int:
    """Show what was spent: money, tokens and calls, as the answers in the history say it.

    A task counts together with its children, as its limits do. With BRANCH it is what the task of
    that branch has spent, a row for each branch of its family.

    \b
    Example:
      aynig costs --by day --since 2026-01-31
    """
    kind = by or (BRANCH if branch is not None else TASK)
    if remotes_of(".", (remote,) if remote else ()) == (HERE,):
        repo = Repo.open(".")
        rows = _rows(repo, load_settings(repo), branch, kind, since, "See `git branch`.")
    else:
        site = open_one(remote)
        try:
            shown = site.mirror.remote.address.shown if site.mirror is not None else HERE
            hint = f"See `aynig status --remote {operand(shown)}`."
            rows = _rows(site.repo, site.settings, branch, kind, since, hint)
        finally:
            site.close()
    if as_json:
        print_json([_as_json(kind, row) for row in rows])
    elif rows:
        _print(kind, rows)
    else:
        click.echo("Nothing was spent: there are no answers.")
    return 0


def _rows(
    repo: Repo,
    settings: Settings,
    branch: str | None,
    kind: str,
    since: datetime | None,
    hint: str,
) -> list[CostRow]:
    ref = None if branch is None else HEADS + branch
    tip = repo.read_ref(ref) if ref is not None else None
    if branch is not None and tip is None:
        raise UserError(f"there is no branch {quote(branch)}", hint=hint)
    ledger = open_ledger(repo, spends_of_leases(repo, read_any))
    ledger.refresh()
    start = timegm(since.timetuple()) if since is not None else None
    entries = entries_of(repo, ledger, tip, start, reader(settings))
    branches = branches_of_tasks(repo, ledger) if kind in OF_BRANCHES else {}
    return rows_by(kind, entries, branches)


def _as_json(kind: str, row: CostRow) -> dict[str, Any]:
    """A row for programs: money as text, because JSON's numbers are not exact."""
    name: dict[str, Any] = {TASK if kind == BRANCH else kind: row.name}
    if kind in OF_BRANCHES:
        name["branch"] = row.branch or None
    return {
        **name,
        "answers": row.answers,
        "unanswered": row.unanswered,
        "cost_usd": format_cost(row.cost_usd),
        "tokens_in": row.tokens_in,
        "tokens_out": row.tokens_out,
        "calls": row.calls,
        "unknown": row.unknown,
    }


def _print(kind: str, rows: list[CostRow]) -> None:
    shown = [*rows, total_of(rows)] if len(rows) > 1 else rows
    names = [_name(kind, row) for row in rows] + ["total"] * (len(shown) - len(rows))
    columns = {
        kind: names,
        "answers": _counts("answers", shown, lambda row: row.answers),
        "unanswered": _counts("unanswered", shown, lambda row: row.unanswered),
        "cost USD": _right("cost USD", _dollars([row.cost_usd for row in shown])),
        "unknown": _counts("unknown", shown, lambda row: row.unknown),
        "tokens in": _counts("tokens in", shown, lambda row: row.tokens_in),
        "tokens out": _counts("tokens out", shown, lambda row: row.tokens_out),
        "calls": _counts("calls", shown, lambda row: row.calls),
    }
    for column, needed in (
        ("unknown", any(row.unknown for row in rows)),
        ("unanswered", any(row.unanswered for row in rows)),
    ):
        if not needed:
            del columns[column]
    print_table(list(columns), zip(*columns.values(), strict=True))


def _name(kind: str, row: CostRow) -> str:
    if kind in OF_BRANCHES:
        return row.branch or row.name[:10]
    return row.name or "-"


def _counts(heading: str, rows: Sequence[CostRow], count: Callable[[CostRow], int]) -> list[str]:
    return _right(heading, [str(count(row)) for row in rows])


def _right(heading: str, cells: list[str]) -> list[str]:
    """Numbers below each other, so that they can be compared."""
    width = max(len(heading), *map(len, cells))
    return [cell.rjust(width) for cell in cells]


def _dollars(costs: Sequence[Decimal]) -> list[str]:
    """Amounts with as many places as the finest of them has, and no fewer than two."""
    written = [format_cost(cost) for cost in costs]
    places = max(_PLACES, *(len(text.partition(".")[2]) for text in written))
    return [f"{cost:.{places}f}" for cost in costs]
