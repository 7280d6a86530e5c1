"""What `run` and `daemon` share: their options, their log lines, and how signals reach them."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import click

from aynig.cli.output import paint, timestamp
from aynig.cli.rows import message, row_as_json, took
from aynig.daemon import Engine
from aynig.notices import Notice, Observer
from aynig.text import escape

branch_option = click.option(
    "--branch",
    "branches",
    metavar="GLOB",
    multiple=True,
    help="Only branches that match; repeatable. `*` matches slashes too.",
)
jobs_option = click.option("--jobs", metavar="N", help="Run at most N scripts at the same time.")
role_option = click.option(
    "--role",
    "roles",
    metavar="NAME",
    multiple=True,
    help="Look below roles/NAME first; on a remote take only what has the role; repeatable.",
)
agent_option = click.option(
    "--agent", metavar="NAME", help="Take what is assigned to NAME, or to nobody."
)

dialect_option = click.option(
    "--dialect", metavar="NAME", help="dwp: leases lie on the branches, as other runners see them."
)


@contextlib.contextmanager
def signals(engine: Engine) -> Iterator[list[int]]:
    """SIGINT, SIGTERM and SIGHUP drain, a second one stops at once; the list holds what came."""
    caught: list[int] = []

    def on_signal(number: int, _frame: FrameType | None) -> None:
        caught.append(number)
        engine.stop()

    # What was started with nohup stays deaf to a terminal that goes away.
    wanted = [each for each in _STOPPING if signal.getsignal(each) is not signal.SIG_IGN]
    before = {number: signal.signal(number, on_signal) for number in wanted}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Audience:
    """Tells notices for as long as somebody reads them; when nobody does, the work is drained.

    Design section 3: a fault in telling must not become one of a task. So no notice raises where
    it comes up, in the middle of a run; `check` does, when the work is over.
    """

    def __init__(self, tell: Observer) -> None:
        self._tell = tell
        # An engine tells one notice at a time; what is beside it tells some as well.
        self._telling = threading.Lock()
        self._gone: BrokenPipeError | None = None
        self._leave: Callable[[], None] | None = None

    def hear(self, notice: Notice) -> None:
        """Tell one notice."""
        with self._telling:
            if self._gone is not None:
                return
            try:
                self._tell(notice)
            except BrokenPipeError as error:
                self._gone = error
                if self._leave is not None:
                    self._leave()

    def stops(self, engine: Engine) -> None:
        """Whose work is drained."""
        self._leave = engine.stop
        if self._gone is not None:
            engine.stop()

    def check(self) -> None:
        """Raises BrokenPipeError if the readers have gone."""
        if self._gone is not None:
            raise self._gone


def print_progress(notice: Notice, *, named: bool = False) -> None:
    """One line for people, on standard error: standard output is for the table."""
    text = notice_as_text(notice, named=named)
    if text and notice.kind not in ("event", "watching"):
        click.echo(text, file=sys.stderr)


def notice_as_text(notice: Notice, *, named: bool = False) -> str:
    """A notice as a line without its time; `named` says of which repository it is."""
    repository = escape(notice.repository)
    branch = f"{repository}: {escape(notice.branch)}" if named else escape(notice.branch)
    kind = paint(f"{notice.kind:<8}", _colour(notice), stream=sys.stderr)
    if notice.kind == "event":
        return f"{kind} {branch}: {escape(notice.state) or 'malformed'} at {notice.oid[:10]}"
    if notice.kind == "run":
        attempt = f", attempt {notice.attempt}" if notice.attempt > 1 else ""
        return f"{kind} {branch}: {notice.state} (run {notice.run}{attempt})"
    if notice.kind == "hold":
        state = escape(notice.state) or "?"
        # Of a state that is itself a hold, once is enough.
        held = state if notice.hold == notice.state else f"{state}: {notice.hold}"
        return f"{kind} {branch}: {held}: {escape(notice.detail)}"
    if notice.kind in ("draining", "stopped", "listening") or not notice.repository:
        return f"{kind} {escape(notice.detail)}"
    if notice.kind in ("problem", "watching"):
        return f"{kind} {repository}: {escape(notice.detail)}"
    assert notice.row is not None
    row = notice.row
    where = f" at {row.oid[:10]}" if row.oid else ""
    words = message(row) if notice.kind == "answer" else notice.detail
    said = f": {escape(words)}" if words else ""
    passed = f" in {took(row)}" if row.duration is not None else ""
    return f"{kind} {branch}: {row.from_state} -> {row.state}{where}{passed}{said}"


def _colour(notice: Notice) -> str | None:
    from aynig.cli.output import COLOURS

    if notice.row is not None and notice.row.failed:
        return "red"
    return COLOURS.get(notice.hold) or COLOURS.get(notice.kind)


def notice_as_json(notice: Notice) -> dict[str, Any]:
    """A notice for programs."""
    found: dict[str, Any] = {
        "time": timestamp(notice.time),
        "kind": notice.kind,
        "repository": notice.repository or None,
    }
    if notice.branch:
        found |= {"branch": notice.branch, "oid": notice.oid or None, "state": notice.state}
    for key in ("run", "attempt", "script", "path", "hold", "detail"):
        value = getattr(notice, key)
        if value:
            found[key] = value
    if notice.row is not None:
        found |= row_as_json(notice.row) | {"time": found["time"]}
    return found
