"""Who waits for whom, and whether anybody waits for themselves.

A search for a circle goes through all that is reached, so what was found clear is remembered. Only
one who waits for something new can close a circle, and then those count as clear no more that wait
for him. Among ten thousand tasks a look costs what has changed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable

from aynig.cycles import find_cycle


class Waits:
    """The waits of one repository, by ref. Safe to share between threads."""

    def __init__(self, below: Callable[[str], Iterable[str]]) -> None:
        """`below` gives what one waits for now."""
        self._below = below
        self._mutex = threading.Lock()
        self._known: dict[str, frozenset[str]] = {}
        self._waiting: dict[str, set[str]] = {}
        self._clear: set[str] = set()
        # Counts what was clear and is not any more.
        self._doubts = 0

    def cycle(self, ref: str, below: Collection[str]) -> tuple[str, ...]:
        """The circle that `ref`, which waits for `below`, is in or waits for; empty for none.

        Where it is in the circle itself, that begins with it: `a b c a`.
        """
        with self._mutex:
            self._learn(ref, below)
            if ref in self._clear:
                return ()
            while True:
                doubts = self._doubts
                found, reached = self._search(ref)
                # What was passed over as clear may have come into doubt further on.
                if found or doubts == self._doubts:
                    break
            if not found:
                self._clear |= reached
            return _from(ref, found)

    def _search(self, ref: str) -> tuple[tuple[str, ...], set[str]]:
        """A circle, and all that was reached; what is clear is passed over."""
        reached = {ref}

        def look(name: str) -> Iterable[str]:
            if name != ref:
                self._learn(name, self._below(name))
            if name in self._clear:
                return ()
            reached.add(name)
            return sorted(self._known[name])

        return find_cycle([ref], look), reached

    def _learn(self, ref: str, below: Iterable[str]) -> None:
        now, before = frozenset(below), self._known.get(ref)
        if before == now:
            return
        for name in now - (before or frozenset()):
            self._waiting.setdefault(name, set()).add(ref)
        for name in (before or frozenset()) - now:
            self._waiting[name].discard(ref)
        self._known[ref] = now
        if before is None or now - before:
            self._doubt(ref)

    def _doubt(self, ref: str) -> None:
        pending = [ref]
        while pending:
            name = pending.pop()
            if name in self._clear:
                self._clear.discard(name)
                self._doubts += 1
            pending += [each for each in self._waiting.get(name, ()) if each in self._clear]


def _from(ref: str, cycle: tuple[str, ...]) -> tuple[str, ...]:
    if ref not in cycle:
        return cycle
    at = cycle.index(ref)
    return (*cycle[at:-1], *cycle[:at], ref)
