"""What was spent, added up from the answers in the history (docs/costs.md).

Only commits and refs count, so every runner and every auditor of the same refs gets the same sums.
What is counted is what the refs lead to by three steps: from an answer to the commit that it
answers, and to its other parents; from any other commit to all its parents. What an agent commits
between a commit and its answer is jumped over: nobody but the daemon vouches for what stands there.
"""

from __future__ import annotations

import contextlib
import math
import re
import threading
import time
from bisect import bisect_left
from calendar import timegm
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
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
    read_answer,
    scopes_of,
    time_of,
)
from aynig.dialects import Skim
from aynig.errors import RepositoryError
from aynig.families import Families
from aynig.git.history import hidden_answer
from aynig.git.repo import Repo
from aynig.git.snapshot import RefReader
from aynig.model import HEADS, LEASES, RefChange
from aynig.policies.budget import Scope
from aynig.scan import collector_at_rest
from aynig.thread import GOES_ON
from aynig.usage import Spent, Usage
from aynig.workflow import Limits

HOUR = 3600
# As in `git.history`: clocks of people's machines disagree.
_SLOP = DAY
# States that end a task for good; what a person asks for on top of others goes on with it.
_OVER = frozenset({"done", "canceled"})
_OID = re.compile(r"[0-9a-f]{40}")
# Whatever limits an operator has set: sums are to be the same for everybody, and an answer does not
# get cheaper by saying too much.
_LIMITS = dialects.Limits(message_bytes=1 << 26, trailers=1 << 16)
# Commits below the tip of a branch among which its last task is looked for.
_FAR_BACK = 1000

ReadSkim = Callable[[bytes], Skim | None]
Moves = Callable[[], Iterable[RefChange]]


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
# The lease refs of others are looked at so often, in seconds: they renew less often than that.
_LOOK = 1.0


class Feed:
    """How branches and lease refs have changed, by what the scan and our own runs have seen.

    A look at the disk costs more where there are many lease refs, so it is not made each time.
    """

    def __init__(
        self,
        moves: Moves,
        touched: Moves,
        reader: RefReader,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`moves` are those of branches, `touched` the lease refs that we have written, `reader`
        looks at all lease refs."""
        self._moves = moves
        self._touched = touched
        self._reader = reader
        self._clock = clock
        self._next = -math.inf

    def wake(self) -> None:
        """The next call looks at the disk."""
        self._next = -math.inf

    def __call__(self) -> list[RefChange]:
        # Branches last: an answer is not there before the lease that it replaces.
        found: list[RefChange] = []
        now = self._clock()
        if now >= self._next:
            self._next = now + _LOOK
            found += self._reader.look().changes
        return [*found, *self._touched(), *self._moves()]


class _Node:
    """A commit that refs lead to. `leads` is None where the walk has not gone on from there."""

    __slots__ = (
        "answer", "apart", "fans_out", "goes_on", "held", "leads", "parent", "ran", "resumes",
        "state", "time",
    )  # fmt: skip

    def __init__(self) -> None:
        # How many refs and commits lead to it: with none left it is no longer counted.
        self.held = 0
        self.time = 0
        self.state = ""
        self.leads: tuple[str, ...] | None = None
        self.answer: Answer | None = None
        # The state that an answer's run was of.
        self.ran = ""
        # Is it a person's word that the task may go on?
        self.resumes = False
        # Does it begin a task though it lies on one, or go on with one that is over?
        self.apart = False
        self.goes_on = False
        # The branch that a first commit says it is a child of; of an answer, has it children?
        self.parent = ""
        self.fans_out = False


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
        self._repo = repo
        self._skim = read
        self._moves = moves
        self._moves_afresh = moves_afresh
        self._spends = spends
        self._mutex = threading.RLock()
        self._horizon = math.inf
        self._refs: dict[str, str] = {}
        self._nodes: dict[str, _Node] = {}
        self._pending: list[str] = []
        # Where the walk stopped: at commits older than the horizon, and at those it can't read.
        self._frontier: set[str] = set()
        self._missing: set[str] = set()
        self._lines: defaultdict[tuple[str, str], Line] = defaultdict(Line)
        self._roots: dict[str, str] = {}
        # The threads of the branches that children name as their parents.
        self._named: dict[str, str | None] = {}
        self._families = Families(self)
        # What was missing when those were looked up.
        self._torn: set[str] = set()
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
        with self._mutex, contextlib.nullcontext() if self._nodes else collector_at_rest():
            dropped = []
            changes = list(self._moves())
            for change in changes:
                before = self._refs.pop(change.ref, None)
                if before is not None:
                    dropped.append(before)
                if change.new is not None:
                    self._refs[change.ref] = change.new
                    self._hold(change.new)
            if changes:
                # It may have been fetched since.
                self._pending += self._missing
                self._missing.clear()
                if any(self._repo.has_commit(oid) for oid in self._torn):
                    self._torn.clear()
                    self._families.forget_threads()
                    self._named.clear()
                    self._roots.clear()
            self._walk()
            self._release(dropped)
            self._look_at_parents(changes)
            for change in changes:
                if change.ref.startswith(LEASES):
                    self._take_live(change.ref, change.new)

    def cover(self, since: float) -> None:
        """Make sure that all answers since a time are counted (seconds since the epoch).

        Minus infinity: all there are.
        """
        with self._mutex:
            horizon = since - _SLOP
            if horizon >= self._horizon:
                return
            self._horizon = horizon
            deeper = [oid for oid in self._frontier if self._nodes[oid].time >= horizon]
            self._frontier.difference_update(deeper)
            self._pending += deeper
            with collector_at_rest():
                self._walk()

    def _hold(self, oid: str) -> None:
        node = self._nodes.get(oid)
        if node is None:
            node = self._nodes[oid] = _Node()
            self._pending.append(oid)
        node.held += 1

    def _walk(self) -> None:
        """Read what is pending, and what that leads to, down to the horizon."""
        found: list[tuple[_Node, Answer]] = []
        pending = self._pending
        while pending:
            oid = pending.pop()
            node = self._nodes[oid]
            try:
                node.time, parents, message = self._repo.lineage(oid)
            except RepositoryError:
                self._missing.add(oid)
                continue
            said = self._read(node, message)
            if node.time < self._horizon:
                self._frontier.add(oid)
                continue
            node.leads = self._leads(oid, node, parents, said)
            for lead in node.leads:
                self._hold(lead)
            if node.answer is not None:
                found.append((node, node.answer))
            elif node.resumes:
                self._families.add_word(oid, node.time)
        for _, answer in found:
            self._answered[answer.answers] += 1
            for ref in tuple(self._live_of.get(answer.answers, ())):
                self._drop_live(ref)
        self._count([(self._ran(node), answer) for node, answer in found])

    def _read(self, node: _Node, message: bytes) -> Skim | None:
        """Note the state that a commit carries; what it says, where it says anything properly."""
        said = self._skim(message) if b":" in message else None
        if said is None or said.fault:
            return None
        node.state = said.state
        return said

    def _leads(
        self, oid: str, node: _Node, parents: tuple[str, ...], said: Skim | None
    ) -> tuple[str, ...]:
        """Where a commit leads to; notes the answer that it is, or that a person lets it go on."""
        fields = dict(said.fields) if said is not None else {}
        answered = fields.get("answers")
        if said is None or answered is None:
            node.resumes = "resumes" in fields
            node.parent = fields.get("parent", "")
            node.apart = "begins" in fields
            node.goes_on = bool(parents) and parents[0] in map(fields.get, GOES_ON)
            return parents
        if answered not in parents:
            if answered == oid or not _OID.fullmatch(answered):
                return parents
            if not self._may_jump(oid, parents, answered):
                return parents
            parents = (answered, *parents[1:])
        node.answer = read_answer(oid, node.time, said, fields)
        node.fans_out = "children" in fields
        return parents

    def _may_jump(self, oid: str, parents: tuple[str, ...], answered: str) -> bool:
        """Only over what a script has committed: who jumps over answers would hide their costs."""
        if not parents or not self._repo.descends(oid, answered):
            return False
        return hidden_answer(self._repo, parents[0], answered, self._claim_of) is None

    def _claim_of(self, message: bytes) -> str | None:
        said = self._skim(message)
        return dict(said.fields).get("answers") if said is not None else None

    def _release(self, oids: list[str]) -> None:
        """Refs have left these commits: what nothing leads to any more is no longer counted."""
        while oids:
            oid = oids.pop()
            node = self._nodes[oid]
            node.held -= 1
            if node.held:
                continue
            del self._nodes[oid]
            self._frontier.discard(oid)
            self._missing.discard(oid)
            oids += node.leads or ()
            if node.resumes and node.leads is not None:
                self._families.remove_word(oid)
            if node.answer is not None:
                self._discount(node.ran, node.answer)
                self._answered[node.answer.answers] -= 1

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

    def _state_of(self, oid: str) -> str:
        node = self._look_at(oid)
        return node.state if node is not None else ""

    def _look_at(self, oid: str) -> _Node | None:
        """A commit, also one that the walk has not come to; None where it can't be read."""
        node = self._nodes.get(oid)
        if node is None or node.leads is None:
            node = _Node()
            try:
                node.time, parents, message = self._repo.lineage(oid)
            except RepositoryError:
                self._torn.add(oid)
                return None
            node.leads = self._leads(oid, node, parents, self._read(node, message))
        return node

    def _ran(self, node: _Node) -> str:
        """The state that the run of an answer was of."""
        if node.answer is not None and not node.ran:
            node.ran = self._state_of(node.answer.answers)
        return node.ran

    def _below(self, node: _Node) -> str | None:
        """The commit of the same thread before this one; None where the thread begins here."""
        if node.answer is not None:
            return node.answer.answers
        if not node.state or not node.leads:
            return None
        if node.goes_on:
            return node.leads[0]
        if node.parent or node.apart:
            return None
        state = self._state_of(node.leads[0])
        return node.leads[0] if state and state not in _OVER else None

    def _thread(self, oid: str) -> Iterator[tuple[str, _Node]]:
        """A commit and those of its thread before it, as far as this clone has them."""
        following: str | None = oid
        while following is not None:
            node = self._look_at(following)
            if node is None:
                return
            yield following, node
            following = self._below(node)

    def thread_of(self, oid: str) -> str:
        """The first commit of the thread of a commit: of the task of its branch."""
        with self._mutex:
            path = []
            root = oid
            for root, _ in self._thread(oid):
                if root in self._roots:
                    root = self._roots[root]
                    break
                path.append(root)
            self._roots.update(dict.fromkeys(path, root))
            return root

    def line_of(self, oid: str) -> frozenset[str]:
        """All commits of the thread up to this one."""
        with self._mutex:
            return frozenset(each for each, _ in self._thread(oid))

    def task_of(self, oid: str) -> str:
        """The first commit of the task that the task of a commit came of, as its child or as a
        child of that; its own, where no other task has started it."""
        with self._mutex:
            return self._families.root_of(self.thread_of(oid))

    def above(self, thread: str) -> str | None:
        """The thread that started this one, as a child; None for one that a person has begun.

        A child begins on the answer that started it. One that was made by hand is known by the
        branch that it names, so it belongs to what that branch is at.
        """
        node = self._look_at(thread)
        if node is None or not node.parent:
            return None
        below = self._look_at(node.leads[0]) if node.leads else None
        if below is not None and below.fans_out and node.leads:
            return self.thread_of(node.leads[0])
        ref = HEADS + node.parent
        if ref not in self._named:
            self._named[ref] = self._thread_at(ref)
        return self._named[ref]

    def _thread_at(self, ref: str) -> str | None:
        """The thread of the last task of a branch; what people add to its files is no task."""
        following = self._refs.get(ref)
        for _ in range(_FAR_BACK):
            node = self._look_at(following) if following is not None else None
            if node is None or following is None:
                return None
            if node.state:
                return self.thread_of(following)
            following = node.leads[0] if node.leads else None
        return None

    def _look_at_parents(self, changes: Iterable[RefChange]) -> None:
        """Where the branch of a parent is at another task now, its children go with it."""
        moved = {change.ref for change in changes} & self._named.keys()
        if any(self._thread_at(ref) != self._named[ref] for ref in moved):
            self._named.clear()
            self._families.forget()

    def state_run(self, answer: Answer) -> str:
        """The state that the run of an answer was of."""
        node = self._nodes.get(answer.oid)
        if node is not None and node.answer is not None:
            return self._ran(node)
        return self._state_of(answer.answers)

    def threads_on_line(self, oid: str, seen: set[str]) -> Iterator[str]:
        """The threads that lie on the line of a branch at `oid`, the last first.

        What is in `seen` is on another's line, and ends this one; what was walked is added to it.
        What lies below a child is its parent's.
        """
        with self._mutex:
            following: str | None = oid
            while following is not None and following not in seen:
                seen.add(following)
                node = self._look_at(following)
                if node is None:
                    return
                if node.answer is not None:
                    yield self.thread_of(following)
                    following = node.answer.answers
                elif node.parent:
                    return
                else:
                    following = node.leads[0] if node.leads else None

    def _covered(self, oid: str) -> str:
        """The task of a commit, when all that came of it is counted.

        None of that is older than its first commit, as far as clocks agree.
        """
        root = self.task_of(oid)
        node = self._look_at(root)
        self.cover(node.time if node is not None else -math.inf)
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
        thread = self.thread_of(answer.place)
        task = self._families.root_of(thread)
        if live is not None:
            return replace(live, task=task, thread=thread)
        return Entry(
            oid=answer.oid,
            answers=answer.answers,
            task=task,
            state=self._nodes[answer.oid].ran,
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
