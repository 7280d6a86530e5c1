"""How commands print: tables for people, JSON for programs, both from the same rows."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import click

from aynig.durations import format_duration
from aynig.text import escape, escape_json

if TYPE_CHECKING:
    from rich.table import Table

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
    "lost": "red",
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

# Blanks between two columns of a table, what a column is not cut below, and from what width on a
# sentence can be read in one, in characters.
_GAP = 2
_NARROWEST = 12
_READABLE = 36
_INDENT = " " * 4
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
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    stretch: str | None = None,
    below: Sequence[str] = (),
) -> None:
    """Aligned columns, a line a row; where a terminal is too narrow for that, nothing is cut short
    that somebody needs.

    Then the column `stretch` is broken into lines, in its place while it has room there to be
    read, and otherwise below its row, together with the columns `below`. What is left beside each
    other gives way only if even that is too wide. Into a pipe each row is one whole line: programs
    read it.

    Every cell is escaped here: what comes out of repositories may hold control characters.
    """
    from rich.cells import cell_len
    from rich.console import Console

    cells = [[escape(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(headings, *cells, strict=True)]
    console = Console(
        file=sys.stdout, no_color=not wants_colour(), highlight=False, emoji=False, markup=False
    )
    room = console.width if sys.stdout.isatty() else math.inf
    layout = _layout(headings, widths, room, stretch, below)
    console.width = sum(layout.widths) + _GAP * len(layout.widths)
    with console.capture() as captured:
        console.print(_table(headings, cells, layout))
    lines = _TRAILING_BLANKS.sub(r"\1", captured.get())
    if layout.below:
        lines = _interleaved(lines, headings, cells, layout, int(room))
    click.echo(lines, nl=False, color=True)


class _Layout(NamedTuple):
    """Which columns stand beside each other, how wide, and which go below their row."""

    beside: list[int]
    widths: list[int]
    below: list[int]
    # The column that is broken into lines where it stands.
    broken: int | None = None


def _layout(
    headings: Sequence[str],
    widths: Sequence[int],
    room: float,
    stretch: str | None,
    below: Sequence[str],
) -> _Layout:
    everything = list(range(len(headings)))
    if _total(widths) <= room or stretch is None:
        return _Layout(everything, _fitted(widths, room), [])
    first = headings.index(stretch)
    left = room - (_total(widths) - widths[first])
    if left >= _READABLE:
        return _Layout(everything, [*widths[:first], int(left), *widths[first + 1 :]], [], first)
    down = [place for place in everything if headings[place] in (stretch, *below)]
    beside = [place for place in everything if place not in down]
    return _Layout(beside, _fitted([widths[place] for place in beside], room), down)


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _fitted(widths: Sequence[int], room: float) -> list[int]:
    """Widths that take no more than `room`: always the widest gives way.

    None gets narrower than can be read; a terminal that is too narrow for that breaks lines.
    """
    fitted = list(widths)
    while _total(fitted) > room and max(fitted) > _NARROWEST:
        fitted[fitted.index(max(fitted))] -= 1
    return fitted


def _table(headings: Sequence[str], cells: Sequence[Sequence[str]], layout: _Layout) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for place, width in zip(layout.beside, layout.widths, strict=True):
        broken = place == layout.broken
        table.add_column(
            headings[place],
            no_wrap=not broken,
            overflow="fold" if broken else "ellipsis",
            width=width,
        )
    for row in cells:
        shown = [row[place] for place in layout.beside]
        table.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in shown))
    return table


def _interleaved(
    lines: str, headings: Sequence[str], cells: Sequence[Sequence[str]], layout: _Layout, width: int
) -> str:
    """The lines of a table, below each what has no place in it; the first without its heading."""
    heading, *rest = lines.splitlines(keepends=True)
    found = [heading]
    for line, row in zip(rest, cells, strict=True):
        found.append(line)
        for number, place in enumerate(layout.below):
            if row[place] not in ("", "-"):
                label = f"{headings[place]}: " if number else ""
                found += (f"{piece}\n" for piece in _broken(label + row[place], width))
    return "".join(found)


def _broken(text: str, width: int) -> list[str]:
    """A text in lines of at most `width` cells, indented."""
    from rich.console import Console
    from rich.text import Text

    pieces = Text(text).wrap(Console(), max(width - len(_INDENT), _NARROWEST), overflow="fold")
    return [_INDENT + piece.plain.rstrip() for piece in pieces]
