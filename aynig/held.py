"""The tasks that wait, found by what they wait for: a change costs what it concerns."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Set
from dataclasses import dataclass

from aynig.model import Hold

# Holds that the end of another task may end.
OF_OTHER_TASKS = frozenset({"waiting", "blocked"})


@dataclass
class Held:
    """A branch that waits: for a change of refs, or until `due` on the monotonic clock."""

    hold: Hold
    oid: str
    delay: float
    due: float | None
    # When the time of the whole task is up, on the same clock.
    ends: float = math.inf


class HeldTasks:
    """What is held, by ref. Belongs to one thread."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}
        self._words: Counter[str] = Counter()
        # Those that wait for a change of something: a ref, a commit, `REMOTE:BRANCH`.
        self._on: dict[str, set[str]] = {}
        # Those of these that are no refs: a set each, to be asked for at every look.
        self._commits: set[str] = set()
        self._elsewhere: set[str] = set()
        # Those that wait for other tasks, and nobody knows which.
        self._for_any: set[str] = set()
        # Those that wait for another branch at the same commit.
        self._copies: dict[str, set[str]] = {}
        self._timed: dict[str, float] = {}

    def put(self, ref: str, held: Held) -> None:
        """Hold a branch; in the place of what held it before."""
        self.pop(ref)
        hold = held.hold
        self._held[ref] = held
        self._words[hold.word] += 1
        next_look = min(held.ends, math.inf if held.due is None else held.due)
        if next_look < math.inf:
            self._timed[ref] = next_look
        for key in hold.on or ():
            self._wait_on(key, ref)
        for_others = hold.word in OF_OTHER_TASKS and held.due is None and not hold.places
        if hold.on is None and for_others:
            self._for_any.add(ref)
        if hold.word == "copy":
            self._copies.setdefault(held.oid, set()).add(ref)

    def get(self, ref: str) -> Held | None:
        """What holds a branch."""
        return self._held.get(ref)

    def pop(self, ref: str) -> Held | None:
        """Hold a branch no longer; what held it."""
        held = self._held.pop(ref, None)
        if held is None:
            return None
        self._words[held.hold.word] -= 1
        self._timed.pop(ref, None)
        self._for_any.discard(ref)
        for key in held.hold.on or ():
            self._wait_on_no_more(key, ref)
        if held.hold.word == "copy":
            _discard(self._copies, held.oid, ref)
        return held

    def _wait_on(self, key: str, ref: str) -> None:
        self._on.setdefault(key, set()).add(ref)
        if ":" in key:
            self._elsewhere.add(key)
        elif not key.startswith("refs/"):
            self._commits.add(key)

    def _wait_on_no_more(self, key: str, ref: str) -> None:
        _discard(self._on, key, ref)
        if key not in self._on:
            self._elsewhere.discard(key)
            self._commits.discard(key)

    def items(self) -> list[tuple[str, Held]]:
        """All of them, by ref."""
        return list(self._held.items())

    def of_words(self, words: Set[str]) -> list[str]:
        """Those that are held with one of these words."""
        if not self.has(words):
            return []
        return [ref for ref, held in self._held.items() if held.hold.word in words]

    def has(self, words: Set[str]) -> bool:
        """Is anything held with one of these words?"""
        return any(self._words[word] for word in words)

    def waiting_for(self, key: str, *, over: bool = True) -> list[str]:
        """Those that a change of this may concern.

        Not `over`: the task goes on, so who waits for the end of it waits on.
        """
        found = self._on.get(key, ())
        return [ref for ref in found if over or self._held[ref].hold.word not in OF_OTHER_TASKS]

    def waiting_for_any(self) -> list[str]:
        """Those that wait for other tasks, and nobody knows which."""
        return list(self._for_any)

    def copies_of(self, oid: str) -> list[str]:
        """Those that wait for another branch at this commit."""
        return list(self._copies.get(oid, ()))

    @property
    def commits(self) -> Set[str]:
        """The commits that are waited for."""
        return self._commits

    @property
    def elsewhere(self) -> list[str]:
        """The branches of other repositories that are waited for, as `REMOTE:BRANCH`."""
        return list(self._elsewhere)

    def due(self, now: float) -> list[str]:
        """Those whose time has come."""
        return [ref for ref, due in self._timed.items() if due <= now]

    @property
    def next_due(self) -> float | None:
        """When the next one's time comes."""
        return min(self._timed.values(), default=None)


def _discard(index: dict[str, set[str]], key: str, ref: str) -> None:
    index[key].discard(ref)
    if not index[key]:
        del index[key]
