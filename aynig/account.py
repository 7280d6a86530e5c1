"""Answers as the ledger keeps them, and the sums of what they have spent. Pure.

An answer counts for the repository, for the state that ran and, where it names one, for the agent.
"""

from __future__ import annotations

import itertools
import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import NamedTuple

from aynig.dialects import Skim
from aynig.runs import run_time
from aynig.usage import Spent, Usage, read_usage

STATE, AGENT, REPOSITORY = "state", "agent", "repository"

DAY = 86_400
_FIRST_ORDINAL = date(1970, 1, 1).toordinal()

_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]+)?")
_ATTEMPT = re.compile(r"[1-9][0-9]{0,3}")


class Answer(NamedTuple):
    """A tuple that sorts by time, and that the garbage collector lets alone.

    See `ledger.Entry`, which is made of it.
    """

    # When its run ended.
    time: int
    oid: str
    answers: str
    to_state: str
    agent: str
    usage: Usage
    calls: int
    failure: str
    step: str

    @property
    def place(self) -> str:
        """A commit of the thread that it counts for; what a lease says is no commit of one."""
        return self.oid if self.to_state else self.answers


def day_of(time: int) -> date:
    """The day of a time, in UTC; a commit may claim to be of the year 300000."""
    ordinal = _FIRST_ORDINAL + time // DAY
    return date.fromordinal(min(max(ordinal, date.min.toordinal()), date.max.toordinal()))


def scopes_of(state: str, agent: str) -> tuple[tuple[str, str], ...]:
    """What an answer counts for."""
    if agent:
        return (REPOSITORY, ""), (STATE, state), (AGENT, agent)
    return (REPOSITORY, ""), (STATE, state)


def read_answer(oid: str, time: int, said: Skim, fields: Mapping[str, str]) -> Answer:
    """The answer that a commit is; `time` is the committer's, `fields` the last of each key.

    Where it says nothing of calls, each attempt of a script counts as one.
    """
    usage, _ = read_usage(said.fields)
    step = fields.get("step", "")
    calls = usage.calls
    if calls is None:
        attempt = fields.get("attempt", "")
        calls = 0 if step else int(attempt) if _ATTEMPT.fullmatch(attempt) else 1
    return Answer(
        time=min(time, _end_of_run(fields.get("run", ""), fields.get("duration", ""), time)),
        oid=oid,
        answers=fields["answers"],
        to_state=said.state,
        agent=fields.get("agent", ""),
        usage=usage,
        calls=calls,
        failure="" if step else _failure(said.state, fields),
        step=step,
    )


def _failure(to_state: str, fields: Mapping[str, str]) -> str:
    """What failed, in the words of the answer: alike for failures that are alike."""
    if fields.get("stopped"):
        return fields["stopped"]
    if fields.get("fault"):
        return fields["fault"]
    if fields.get("exit", "0") != "0":
        return f"exit {fields['exit']}"
    return "failed" if to_state == "failed" else ""


def _end_of_run(run: str, duration: str, otherwise: int) -> int:
    """When a run ended, by its name and duration; `otherwise` where they don't say.

    A commit is never older than its parent, and an agent may date its own far ahead: the time of
    the answer on top of that says nothing.
    """
    begun = run_time(run)
    if begun is None:
        return otherwise
    return int(begun + (float(duration) if _SECONDS.fullmatch(duration) else 0.0))


class Unknown:
    """Answers of which something is not known, and the last of them."""

    __slots__ = ("last", "which")

    def __init__(self) -> None:
        self.which: set[tuple[int, str]] = set()
        self.last = (0, "")

    def count(self, which: tuple[int, str], sign: int) -> None:
        if sign > 0:
            self.which.add(which)
            self.last = max(self.last, which)
            return
        self.which.discard(which)
        if which == self.last:
            self.last = max(self.which, default=(0, ""))

    def copy(self) -> Unknown:
        other = Unknown()
        other.which, other.last = set(self.which), self.last
        return other


class Sum:
    """What was spent in one scope, on one day or task."""

    __slots__ = ("calls", "cost", "tokens_in", "tokens_out", "unknown", "unknown_tokens")

    def __init__(self) -> None:
        self.cost = Decimal(0)
        self.tokens_in = 0
        self.tokens_out = 0
        self.calls = 0
        # The answers whose cost, and whose tokens, nobody knows.
        self.unknown = Unknown()
        self.unknown_tokens = Unknown()

    def count(self, answer: Answer, sign: int = 1) -> None:
        usage = answer.usage
        if usage.cost_usd:
            self.cost += usage.cost_usd * sign
        if usage.tokens_in:
            self.tokens_in += usage.tokens_in * sign
        if usage.tokens_out:
            self.tokens_out += usage.tokens_out * sign
        self.calls += answer.calls * sign
        if usage.unknown:
            self.unknown.count((answer.time, answer.oid), sign)
        if usage.tokens_unknown:
            self.unknown_tokens.count((answer.time, answer.oid), sign)

    def forgive(self) -> None:
        """A person has seen it: what nobody knows counts no more."""
        self.unknown, self.unknown_tokens = Unknown(), Unknown()

    def copy(self) -> Sum:
        other = Sum()
        other.cost, other.calls = self.cost, self.calls
        other.tokens_in, other.tokens_out = self.tokens_in, self.tokens_out
        other.unknown = self.unknown.copy()
        other.unknown_tokens = self.unknown_tokens.copy()
        return other

    def spent(self) -> Spent:
        usage = Usage(
            self.cost,
            self.tokens_in,
            self.tokens_out,
            self.calls,
            bool(self.unknown.last[1]),
            bool(self.unknown_tokens.last[1]),
        )
        return Spent(usage, self.unknown.last[1], self.unknown_tokens.last[1])


class Line:
    """The answers of one scope in the order of time, and how many calls there were before each."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self._before: list[int] = [0]
        self.days: defaultdict[int, Sum] = defaultdict(Sum)

    def add(self, new: list[Answer]) -> None:
        """`new` is in the order of time; nearly always it comes after all others."""
        start = bisect_left(self.answers, new[0])
        self.answers[start:] = sorted(self.answers[start:] + new)
        self._recount(start)
        for answer in new:
            self.days[answer.time // DAY].count(answer)

    def remove(self, answer: Answer) -> None:
        place = bisect_left(self.answers, answer)
        del self.answers[place]
        self._recount(place)
        self.days[answer.time // DAY].count(answer, -1)

    def _recount(self, start: int) -> None:
        del self._before[start + 1 :]
        calls = (answer.calls for answer in self.answers[start:])
        self._before += itertools.islice(
            itertools.accumulate(calls, initial=self._before[start]), 1, None
        )

    def calls(self, after: float, until: float) -> tuple[int, int | None]:
        """How many calls there were after one time and until another, and the first's time."""
        before = self._before
        start = bisect_right(self.answers, after, key=time_of)
        end = bisect_right(self.answers, until, key=time_of)
        # No copy of the part in between: it may be long, and the first has calls mostly.
        for place in range(start, end):
            if self.answers[place].calls:
                return before[end] - before[start], self.answers[place].time
        return 0, None


def time_of(answer: Answer) -> int:
    return answer.time
