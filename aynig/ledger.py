"""What was spent, added up from the answers in the history (docs/costs.md).

Only commits and refs count, so every runner and every auditor of the same refs gets the same sums.
`trail` finds what is counted, `families` which of it belongs to one task.
"""

from __future__ import annotations

import contextlib
import math
import threading
from bisect import bisect_left
from calendar import timegm
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from itertools import groupby

from aynig import dialects
from aynig.account import (
    DAY,
    REPOSITORY,
    STATE,
    Answer,
    Line,
    day_of,
    scopes_of,
    time_of,
)
from aynig.dialects import Skim
from aynig.families import Families
from aynig.git.repo import Repo
from aynig.git.snapshot import RefReader
from aynig.model import HEADS, LEASES
from aynig.policies.budget import Scope
from aynig.reffeed import Moves
from aynig.scan import collector_at_rest
from aynig.trail import ReadSkim, Trail, Walked
from aynig.usage import Spent, Usage
from aynig.workflow import Limits

HOUR = 3600
# As in `git.history`: clocks of people's machines disagree.
_SLOP = DAY
# Whatever limits an operator has set: sums are to be the same for everybody, and an answer does not
# get cheaper by saying too much.
_LIMITS = dialects.Limits(message_bytes=1 << 26, trailers=1 << 16)


@dataclass(frozen=True, slots=True)
class Entry:
    """One answer of the ledger, or what a lease says was spent before there is one.

    `task` is the oid of the commit that its task began with; of a child that is the task which a
    person has submitted, and `thread` the first commit of its own. `state` is the state that ran,
    `time` when its run ended (seconds since the epoch). `failure` is empty for a success.
    """

    oid: str
    # The triggering commit.
    answers: str
    task: str
    state: str
    # Empty where there is no answer yet.
    to_state: str
    agent: str
    time: int
    usage: Usage
    # As they count for a rate: what it says, else one for each attempt.
    calls: int = 0
    failure: str = ""
    # Of an answer without a script: what kind of step it was.
    step: str = ""
    branch: str = ""
    thread: str = ""

    @property
    def answered(self) -> bool:
        """Is there an answer, or has only a lease told what was spent?"""
        return bool(self.to_state)

    @property
    def succeeded(self) -> bool:
        return not self.failure

    @property
    def day(self) -> date:
        """In UTC."""
        return day_of(self.time)


Spends = Callable[[str, str], Entry | None]


def read_any(message: bytes) -> Skim | None:
    """What a message says, within the limits that are the same for everybody."""
    return dialects.skim(message, _LIMITS)


def open_ledger(repo: Repo, spends: Spends | None = None, read: ReadSkim = read_any) -> Ledger:
    """The ledger of a repository, told of its refs by looks of its own.

    Nothing is read before its first `refresh`.
    """
    reader = RefReader(repo.common_dir, (HEADS, LEASES))
    return Ledger(repo, lambda: reader.look().changes, spends, read)


class Ledger:
    """An index of the answers that branches and leases lead to. Safe between threads.

    `refresh` looks what refs have changed and reads what is new by that; everything else answers
    from memory. It covers the history down to a horizon, which is lowered for what is asked.
    """

    def __init__(
        self,
        repo: Repo,
        moves: Moves,
        spends: Spends | None = None,
        read: ReadSkim = read_any,
        moves_afresh: Callable[[], None] = lambda: None,
    ) -> None:
        """`moves` gives how branches and lease refs changed since it was last called; at first,
        all of them; after `moves_afresh`, also what is quite new. `spends` says what a lease ref at
        an oid has spent that is in no answer yet.
        """
        self._trail = Trail(repo, read)
        self._moves = moves
        self._moves_afresh = moves_afresh
        self._spends = spends
        self._mutex = threading.RLock()
        self._lines: defaultdict[tuple[str, str], Line] = defaultdict(Line)
        self._families = Families(self._trail)
        # What leases say, by lease ref; and those refs by the triggering commit.
        self._live: dict[str, tuple[Entry, Answer]] = {}
        self._live_of: defaultdict[str, set[str]] = defaultdict(set)
        # How many answers are counted to each commit: what its lease says is in them by then.
        self._answered: defaultdict[str, int] = defaultdict(int)

    # --- what is counted --------------------------------------------------------------------

    def refresh(self, *, afresh: bool = False) -> None:
        """Count what came by changes of refs, and no longer count what nothing leads to.

        `afresh`: look at what others may have changed a moment ago, where that is not done anyway.
        """
        if afresh:
            self._moves_afresh()
        with self._mutex, contextlib.nullcontext() if self._trail else collector_at_rest():
            changes = list(self._moves())
            self._take(self._trail.follow(changes))
            for change in changes:
                if change.ref.startswith(LEASES):
                    self._take_live(change.ref, change.new)

    def cover(self, since: float) -> None:
        """Make sure that all answers since a time are counted (seconds since the epoch).

        Minus infinity: all there are.
        """
        with self._mutex:
            horizon = since - _SLOP
            if not self._trail.reaches(horizon):
                with collector_at_rest():
                    self._take(self._trail.deepen(horizon))

    def _take(self, walked: Walked) -> None:
        if walked.mended:
            self._families.forget_threads()
        for oid, said in walked.words:
            self._families.add_word(oid, said)
        for _, answer in walked.came:
            self._answered[answer.answers] += 1
            for ref in tuple(self._live_of.get(answer.answers, ())):
                self._drop_live(ref)
        self._count(walked.came)
        for oid in walked.unsaid:
            self._families.remove_word(oid)
        for state, answer in walked.gone:
            self._discount(state, answer)
            self._answered[answer.answers] -= 1
        if walked.moved:
            self._families.forget()

    def _count(self, found: list[tuple[str, Answer]]) -> None:
        found.sort(key=lambda pair: pair[1])
        batches: defaultdict[tuple[str, str], list[Answer]] = defaultdict(list)
        for state, answer in found:
            self._families.add(answer)
            for scope in scopes_of(state, answer.agent):
                batches[scope].append(answer)
        for scope, batch in batches.items():
            self._lines[scope].add(batch)

    def _discount(self, state: str, answer: Answer) -> None:
        self._families.remove(answer, state)
        for scope in scopes_of(state, answer.agent):
            self._lines[scope].remove(answer)

    def _take_live(self, ref: str, oid: str | None) -> None:
        self._drop_live(ref)
        entry = self._spends(ref, oid) if self._spends is not None and oid is not None else None
        if entry is not None and not self._answered.get(entry.answers):
            answer = Answer(
                entry.time, entry.oid, entry.answers, entry.to_state, entry.agent, entry.usage,
                entry.calls, entry.failure, entry.step,
            )  # fmt: skip
            self._live[ref] = (entry, answer)
            self._live_of[entry.answers].add(ref)
            self._count([(entry.state, answer)])

    def _drop_live(self, ref: str) -> None:
        before = self._live.pop(ref, None)
        if before is None:
            return
        entry, answer = before
        self._discount(entry.state, answer)
        self._live_of[entry.answers].discard(ref)
        if not self._live_of[entry.answers]:
            del self._live_of[entry.answers]

    # --- tasks ------------------------------------------------------------------------------

    def thread_of(self, oid: str) -> str:
        """The first commit of the thread of a commit: of the task of its branch."""
        with self._mutex:
            return self._trail.thread_of(oid)

    def threads_on_line(self, oid: str, seen: set[str]) -> list[str]:
        """See `Trail.threads_on_line`."""
        with self._mutex:
            return list(self._trail.threads_on_line(oid, seen))

    def task_of(self, oid: str) -> str:
        """The first commit of the task that the task of a commit came of, as its child or as a
        child of that; its own, where no other task has started it."""
        with self._mutex:
            return self._families.root_of(self._trail.thread_of(oid))

    def _covered(self, oid: str) -> str:
        """The task of a commit, when all that came of it is counted.

        None of that is older than its first commit, as far as clocks agree.
        """
        root = self.task_of(oid)
        self.cover(self._trail.time_of(root))
        return root

    def spent_on_task(
        self, tip: str, kind: str = REPOSITORY, name: str = "", but: str = ""
    ) -> Spent:
        """What the task of a branch at `tip` has spent so far in one scope, with its family.

        Here and below, `but` is a lease ref whose word is left out.
        """
        with self._mutex:
            root = self._covered(tip)
            own = self._own(but, kind, name)
            return self._families.sum_of(root, (kind, name), own).spent()

    # --- questions --------------------------------------------------------------------------

    def spent_on_day(
        self, day: date, kind: str = REPOSITORY, name: str = "", but: str = ""
    ) -> Spent:
        """What was spent on one day (UTC) in one scope."""
        with self._mutex:
            number = timegm(day.timetuple()) // DAY
            self.cover(number * DAY)
            line = self._lines.get((kind, name))
            if not line or number not in line.days:
                return Spent()
            own = self._own(but, kind, name)
            if own is None or own.time // DAY != number:
                return line.days[number].spent()
            rest = line.days[number].copy()
            rest.count(own, -1)
            return rest.spent()

    def _own(self, ref: str, kind: str, name: str) -> Answer | None:
        """What a lease ref says, where it counts in a scope."""
        entry, answer = self._live.get(ref, (None, None))
        if entry is None or (kind, name) not in scopes_of(entry.state, entry.agent):
            return None
        return answer

    def calls_in_hour(
        self, now: float, kind: str = REPOSITORY, name: str = "", but: str = ""
    ) -> tuple[int, int | None]:
        """The calls of the last hour in one scope, and the time of the oldest of them.

        Those of a clock that is ahead of ours count as well, by an hour at the most.
        """
        with self._mutex:
            self.cover(now - HOUR)
            line = self._lines.get((kind, name))
            calls, oldest = line.calls(now - HOUR, now + HOUR) if line else (0, None)
            own = self._own(but, kind, name)
            if own is not None and now - HOUR < own.time <= now + HOUR:
                calls -= own.calls
            return calls, oldest

    def last_failures(self, state: str, since: float, most: int) -> tuple[tuple[int, str], ...]:
        """The failures of a state in a row, up to now, the newest first: times and what failed.

        No more than `most`, and none from before `since`. Times are whole seconds: where one had a
        success as well, nobody knows which came last, and its failures do not count.
        """
        found: list[tuple[int, str]] = []
        with self._mutex:
            self.cover(since)
            line = self._lines.get((STATE, state))
            answers = reversed(line.answers) if line else ()
            for second, group in groupby(answers, key=time_of):
                if second < since or len(found) >= most:
                    break
                failed = []
                for each in group:
                    if each.to_state and not each.step:
                        if not each.failure:
                            return tuple(found[:most])
                        failed.append((each.time, each.failure))
                found += failed
        return tuple(found[:most])

    def scope(
        self, kind: str, name: str, limits: Limits, tip: str, now: float, but: str = ""
    ) -> Scope:
        """What the policy `budget` judges by, of one scope and of the task of a branch at `tip`."""
        today = day_of(int(now))
        calls, oldest = self.calls_in_hour(now, kind, name, but)
        return Scope(
            name=f"the {kind} {name}" if name else f"the {kind}",
            limits=limits,
            task=self.spent_on_task(tip, kind, name, but),
            shared=self._families.is_shared(self.task_of(tip)),
            day=self.spent_on_day(today, kind, name, but),
            calls=calls,
            oldest=oldest,
        )

    def entries(self, since: float = -math.inf) -> list[Entry]:
        """All that is counted, from a time on, the oldest first."""
        with self._mutex:
            self.cover(since)
            line = self._lines.get((REPOSITORY, ""))
            answers = line.answers if line else []
            start = bisect_left(answers, since, key=time_of)
            return [self._entry(each) for each in answers[start:]]

    def entries_of_task(self, tip: str) -> list[Entry]:
        """All that counts for the task of a branch at `tip`, with its family, the oldest first."""
        with self._mutex:
            root = self._covered(tip)
            return [self._entry(answer) for answer in self._families.members(root)]

    def _entry(self, answer: Answer) -> Entry:
        live = self._live_entry(answer)
        thread = self._trail.thread_of(answer.place)
        task = self._families.root_of(thread)
        if live is not None:
            return replace(live, task=task, thread=thread)
        return Entry(
            oid=answer.oid,
            answers=answer.answers,
            task=task,
            state=self._trail.state_run(answer),
            to_state=answer.to_state,
            agent=answer.agent,
            time=answer.time,
            usage=answer.usage,
            calls=answer.calls,
            failure=answer.failure,
            step=answer.step,
            thread=thread,
        )

    def _live_entry(self, answer: Answer) -> Entry | None:
        """What a lease says, where that is what this is made of."""
        refs = self._live_of.get(answer.answers, ())
        found = (self._live[ref][0] for ref in refs)
        return next((entry for entry in found if entry.oid == answer.oid), None)
