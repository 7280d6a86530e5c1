"""The circuit breaker: what went wrong too often in a row waits, then one try is let through."""

from __future__ import annotations

from dataclasses import dataclass

from aynig.durations import format_duration
from aynig.model import Hold
from aynig.text import counted, escape, operand, shorten
from aynig.workflow import Breaker

_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Streak:
    """What a task has done in a row. `last` is when the newest of it ended, in epoch seconds."""

    # Iterations or attempts without a change of the tree.
    unchanged: int
    # With the same failure, and which.
    failures: int
    failure: str
    last: float


@dataclass(frozen=True, slots=True)
class Run:
    """Failures of one state in a row, across tasks, and when the newest of them ended."""

    state: str
    failures: int
    last: float


def judge_task(breaker: Breaker, streak: Streak, branch: str, now: float) -> Hold | None:
    """Is the breaker of a task open? Its own tries close it: a change, or another end."""
    reason = _reason(breaker, streak)
    again = f"`aynig resume {operand(branch)}`"
    return _open(reason, streak.last, breaker, now, again) if reason else None


def judge_state(breaker: Breaker, run: Run, now: float) -> Hold | None:
    """Is the breaker of a state open? One task is let through after the pause: see `is_probe`."""
    if breaker.failures is None or run.failures < breaker.failures:
        return None
    reason = f"{run.state} failed {run.failures} times in a row"
    return _open(reason, run.last, breaker, now, f"`aynig resume --state {operand(run.state)}`")


def is_probe(breaker: Breaker, run: Run) -> bool:
    """Is the next run of a state the one that is let through to try, and the only one?"""
    return breaker.failures is not None and run.failures >= breaker.failures


def _reason(breaker: Breaker, streak: Streak) -> str:
    if breaker.no_change is not None and streak.unchanged >= breaker.no_change:
        return f"{counted(streak.unchanged, 'run')} in a row changed nothing"
    if breaker.same_failure is not None and streak.failures >= breaker.same_failure:
        failure = shorten(escape(streak.failure), _SHOWN)
        return f"{counted(streak.failures, 'run')} in a row failed alike ({failure})"
    return ""


def _open(reason: str, last: float, breaker: Breaker, now: float, again: str) -> Hold | None:
    until = last + breaker.pause
    if now >= until:
        return None
    left = format_duration(max(1.0, float(round(until - now))))
    detail = f"{reason}; tried again in {left}, or by {again}"
    return Hold("breaker", detail, until)
