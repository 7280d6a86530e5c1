"""Which answers count for one task: its own, and those of all that came of it.

The history of one branch's task is its *thread*, known by its first commit. A child has a thread of
its own, below that of its parent; a task that nobody started is the *root* of a family, and limits
of a task count for all of it. Nothing is added up for a family before somebody asks.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Protocol

from aynig.account import Answer, Sum, scopes_of

# Families whose sums are kept at hand.
_MOST = 20_000

Place = tuple[str, str]


class History(Protocol):
    """What has to be looked up in the history."""

    def thread_of(self, oid: str) -> str:
        """The first commit of the thread that a commit is of."""

    def line_of(self, oid: str) -> frozenset[str]:
        """All commits of the thread up to this one."""

    def above(self, thread: str) -> str | None:
        """The thread that started this one, as a child; None for a root."""

    def state_run(self, answer: Answer) -> str:
        """The state that the run of an answer was of."""


@dataclass(frozen=True, slots=True)
class _Pardon:
    """A person's word that what nobody knows from before counts no more."""

    thread: str
    time: int
    line: frozenset[str]

    def covers(self, answer: Answer, thread: str) -> bool:
        """Its own thread it is on top of; of what others had done by then only times tell."""
        if thread != self.thread:
            return answer.time <= self.time
        waits = not answer.to_state and answer.answers in self.line
        return waits or answer.oid in self.line


@dataclass(slots=True)
class _Family:
    # Threads that have answers.
    threads: set[str] = field(default_factory=set)
    pardons: dict[str, _Pardon] = field(default_factory=dict)


class Families:
    """An index of answers by task. Costs nothing for what is added, until somebody asks."""

    def __init__(self, history: History) -> None:
        self._history = history
        # What is added and not placed yet, by oid; of words of people, their times.
        self._answers: dict[str, Answer] = {}
        self._words: dict[str, int] = {}
        self._members: dict[str, dict[str, Answer]] = {}
        self._pardons: dict[str, dict[str, _Pardon]] = {}
        self._roots: dict[str, str] = {}
        self._families: dict[str, _Family] = {}
        self._sums: dict[str, dict[Place, Sum]] = {}

    def add(self, answer: Answer) -> None:
        self._answers[answer.oid] = answer

    def remove(self, answer: Answer, state: str) -> None:
        if self._answers.pop(answer.oid, None) is not None:
            return
        thread = self._history.thread_of(answer.place)
        members = self._members.get(thread, {})
        if members.pop(answer.oid, None) is None:
            return
        root = self._roots.get(thread)
        if root is not None:
            self._count(root, answer, state, -1)

    def add_word(self, oid: str, time: int) -> None:
        """A commit by which a person lets a task go on."""
        self._words[oid] = time

    def remove_word(self, oid: str) -> None:
        if self._words.pop(oid, None) is not None:
            return
        thread = self._history.thread_of(oid)
        self._pardons.get(thread, {}).pop(oid, None)
        root = self._roots.get(thread)
        if root in self._families:
            self._families[root].pardons.pop(oid, None)

    def forget(self) -> None:
        """Who is whose child may have changed."""
        self._roots.clear()
        self._families.clear()
        self._sums.clear()

    def forget_threads(self) -> None:
        """Which commits are of which thread may have changed."""
        for members in self._members.values():
            self._answers.update(members)
        for pardons in self._pardons.values():
            self._words.update((oid, each.time) for oid, each in pardons.items())
        self._members.clear()
        self._pardons.clear()
        self.forget()

    # --- questions --------------------------------------------------------------------------

    def root_of(self, thread: str) -> str:
        """The thread that all others of the family came of; of a circle, the first by name."""
        root = self._roots.get(thread)
        if root is None:
            way = [thread]
            root = thread
            while (above := self._history.above(root)) is not None:
                if above in way:
                    root = min(way[way.index(above) :])
                    break
                root = self._roots.get(above, above)
                way.append(root)
                if root in self._roots:
                    break
            self._roots.update(dict.fromkeys(way, root))
        return root

    def members(self, root: str) -> list[Answer]:
        """All that counts for a family, the oldest first."""
        family = self._family(root)
        return sorted(each for thread in family.threads for each in self._members[thread].values())

    def is_shared(self, root: str) -> bool:
        """Have several threads of a family spent something?"""
        spent = (True for thread in self._family(root).threads if self._members[thread])
        return sum(itertools.islice(spent, 2)) > 1

    def sum_of(self, root: str, place: Place, but: Answer | None = None) -> Sum:
        """What a family has spent in one scope; `but` is left out, where it is in there."""
        found = self._sums_of(root).get(place, Sum()).copy()
        family = self._families[root]
        if but is not None and self._is_in(family, but):
            found.count(but, -1)
        if family.pardons:
            for unknown in (found.unknown, found.unknown_tokens):
                for each in [each for each in unknown.which if self._is_pardoned(family, each[1])]:
                    unknown.count(each, -1)
        return found

    def _is_in(self, family: _Family, answer: Answer) -> bool:
        thread = self._history.thread_of(answer.place)
        return thread in family.threads and answer.oid in self._members[thread]

    def _is_pardoned(self, family: _Family, oid: str) -> bool:
        for thread in family.threads:
            answer = self._members[thread].get(oid)
            if answer is not None:
                return any(each.covers(answer, thread) for each in family.pardons.values())
        return False

    def _sums_of(self, root: str) -> dict[Place, Sum]:
        family = self._family(root)
        if root not in self._sums:
            if len(self._sums) >= _MOST:
                self._sums.clear()
            self._sums[root] = {}
            for thread in family.threads:
                for answer in self._members[thread].values():
                    self._count(root, answer, self._history.state_run(answer), 1)
        return self._sums[root]

    def _count(self, root: str, answer: Answer, state: str, sign: int) -> None:
        sums = self._sums.get(root)
        if sums is not None:
            for scope in scopes_of(state, answer.agent):
                sums.setdefault(scope, Sum()).count(answer, sign)

    # --- places -----------------------------------------------------------------------------

    def _family(self, root: str) -> _Family:
        if not self._families:
            for thread in [*self._members, *self._pardons]:
                self._join(thread)
        self._place()
        return self._families.setdefault(root, _Family())

    def _place(self) -> None:
        answers, self._answers = self._answers, {}
        # The oldest first: each is walked down to what was placed before it.
        for answer in sorted(answers.values()):
            thread = self._history.thread_of(answer.place)
            self._members.setdefault(thread, {})[answer.oid] = answer
            self._join(thread)
            self._count(self._roots[thread], answer, self._history.state_run(answer), 1)
        words, self._words = self._words, {}
        for oid, time in words.items():
            thread = self._history.thread_of(oid)
            pardon = _Pardon(thread, time, self._history.line_of(oid))
            self._pardons.setdefault(thread, {})[oid] = pardon
            self._join(thread)
            self._families[self._roots[thread]].pardons[oid] = pardon

    def _join(self, thread: str) -> None:
        """Make a thread one of its family."""
        root = self.root_of(thread)
        family = self._families.get(root)
        if family is None:
            family = self._families[root] = _Family()
        if thread in self._members:
            family.threads.add(thread)
        if thread in self._pardons:
            family.pardons.update(self._pardons[thread])
