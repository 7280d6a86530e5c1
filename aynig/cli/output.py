"""How commands print: tables for people, JSON for programs, both from the same rows."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import IO, Any

import click

from aynig.durations import format_duration
from aynig.text import escape, escape_json

# The colour of a word wherever it is shown; what is not named here is plain.
COLOURS = {
    "done": "green",
    "answer": "green",
    "ok": "green",
    "failed": "red",
    "problem": "red",
    "refused": "red",
    "malformed": "red",
    "missing-script": "red",
    "not-executable": "red",
    "bad-interpreter": "red",
    "bad-script": "red",
    "bad-config": "red",
    "error": "red",
    "unwritable": "red",
    "canceled": "yellow",
    "blocked": "yellow",
    "waiting": "yellow",
    "deferred": "yellow",
    "dirty-worktree": "yellow",
    "running": "cyan",
    "run": "cyan",
}

# The blanks that fill the last column, before the code that ends its colour.
_TRAILING_BLANKS = re.compile(r" +((?:\x1b\[0m)*)$", re.MULTILINE)

# Blanks between two columns of a table, and what a column is not cut below, in characters.
_GAP = 2
_NARROWEST = 12
# RFC 3339 has years of four digits, and datetime begins with the year 1.
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


def timestamp(seconds: float | None) -> str | None:
    """RFC 3339 in UTC, to the millisecond where there is one: `2026-01-31T09:30:00Z`."""
    if seconds is None:
        return None
    # A commit may claim to be of the year 300000: RFC 3339 ends with 9999.
    moment = datetime.fromtimestamp(min(max(seconds, _FIRST_SECOND), _LAST_SECOND), UTC)
    text = moment.isoformat(timespec="milliseconds" if moment.microsecond else "seconds")
    return text.replace("+00:00", "Z")


def age(seconds: float) -> str:
    """How long something has lasted, for a column, in its largest unit: `3m`; never negative."""
    if seconds < 1:
        return "now"
    return format_duration(float(int(seconds))).partition(" ")[0]


def moment(seconds: float) -> str:
    """A time in UTC for a column, to the minute: `2026-01-31 09:30`."""
    return (timestamp(seconds) or "")[:16].replace("T", " ")


def print_json(rows: Sequence[Mapping[str, Any]]) -> None:
    """One list of objects."""
    click.echo(_as_json([_clean(row) for row in rows], indent=1))


def print_json_line(row: Mapping[str, Any]) -> None:
    """One object on a line of its own (JSON Lines), at once."""
    click.echo(_as_json(_clean(row)))


def _as_json(value: Any, indent: int | None = None) -> str:
    return escape_json(json.dumps(value, ensure_ascii=False, indent=indent))


def _clean(value: Any) -> Any:
    # A byte that was not UTF-8 has no place in JSON.
    if isinstance(value, str):
        return os.fsencode(value).decode("utf-8", "backslashreplace")
    if isinstance(value, Mapping):
        return {key: _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value


def wants_colour(stream: IO[str] | None = None) -> bool:
    """Colour only on a terminal, and never where NO_COLOR is set (no-color.org)."""
    stream = stream or sys.stdout
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(word: str, colour: str | None = None, *, stream: IO[str] | None = None) -> str:
    """A word in its colour, where colour is wanted."""
    chosen = colour or COLOURS.get(word)
    if chosen is None or not wants_colour(stream):
        return word
    return click.style(word, fg=chosen)


def print_table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], *, stretch: str | None = None
) -> None:
    """Aligned columns; on a terminal the column `stretch` gives way first, so that rows stay lines.

    Every cell is escaped here: what comes out of repositories may hold control characters.
    """
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [[escape(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(headings, *cells, strict=True)]
    terminal = sys.stdout.isatty()
    console = Console(
        file=sys.stdout, no_color=not wants_colour(), highlight=False, emoji=False, markup=False
    )
    if terminal:
        # Into a pipe nothing is cut: programs read it.
        first = headings.index(stretch) if stretch in headings else 0
        widths = _fitted(widths, console.width - _GAP * (len(widths) - 1), first)
    console.width = sum(widths) + _GAP * len(widths)
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for heading, width in zip(headings, widths, strict=True):
        table.add_column(heading, no_wrap=True, overflow="ellipsis", width=width)
    for row in cells:
        table.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in row))
    with console.capture() as captured:
        console.print(table)
    click.echo(_TRAILING_BLANKS.sub(r"\1", captured.get()), nl=False, color=True)


def _fitted(widths: Sequence[int], room: int, first: int) -> list[int]:
    """Widths that add up to `room`: column `first` gives way, then always the widest.

    None gets narrower than can be read; a terminal that is too narrow for that breaks lines.
    """
    fitted = list(widths)
    fitted[first] -= min(max(sum(fitted) - room, 0), max(fitted[first] - 2 * _NARROWEST, 0))
    while sum(fitted) > room and max(fitted) > _NARROWEST:
        fitted[fitted.index(max(fitted))] -= 1
    return fitted
