"""The order in which queued tasks get their turn, and who waits in line for a place.

To rank a task costs reading it, and there may be ten thousand: they are ranked a few at a time, the
oldest first, so that the first one need not wait for that.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator

from aynig.model import Place
from aynig.policies.priority import Rank

# So many more tasks are ranked each time that one is given out.
_MORE = 32
# Among so many of the same priority a runner that is not alone begins anywhere.
_EQUALS = 32

# Of a branch: its tip and the time of that; None for one that is gone.
Glance = Callable[[str], tuple[str, float] | None]


class Turns:
    """The queue of one repository: full refs, each once."""

    def __init__(self, glance: Glance, rank: Callable[[str], Rank]) -> None:
        self._glance = glance
        self._rank = rank
        self._numbers = itertools.count()
        # The tip that each was queued for, and the number of its entry: others are out of date.
        self._in: dict[str, tuple[str, int]] = {}
        self._unranked: list[tuple[float, str, int]] = []
        self._ranked: list[tuple[Rank, int]] = []

    def __len__(self) -> int:
        return len(self._in)

    def __iter__(self) -> Iterator[str]:
        return iter(self._in)

    def __contains__(self, ref: str) -> bool:
        return ref in self._in

    def add(self, ref: str) -> None:
        """Queue a branch; where it is queued, and is at another commit now, by that."""
        oid, time = self._glance(ref) or ("", 0.0)
        if self._in.get(ref, (None,))[0] == oid:
            return
        number = next(self._numbers)
        self._in[ref] = (oid, number)
        heapq.heappush(self._unranked, (time, ref, number))

    def discard(self, ref: str) -> None:
        self._in.pop(ref, None)

    def take(
        self, fits: Callable[[str], bool], pick: Callable[[int], int] | None = None
    ) -> str | None:
        """The next that fits, which is queued no longer; None where none does.

        `pick` chooses among so many of the same priority; without it the first goes first.
        """
        self._rank_more()
        passed: list[tuple[Rank, int]] = []
        found: list[tuple[Rank, int]] = []
        while len(found) < (_EQUALS if pick is not None else 1):
            if not self._ranked and not found:
                self._rank_more()
            if not self._ranked:
                break
            entry = heapq.heappop(self._ranked)
            if not self._is_current(entry[0].name, entry[1]):
                continue
            if not fits(entry[0].name):
                passed.append(entry)
            elif found and entry[0].level != found[0][0].level:
                passed.append(entry)
                break
            else:
                found.append(entry)
        chosen = found.pop(pick(len(found)) if pick is not None else 0) if found else None
        for entry in (*passed, *found):
            heapq.heappush(self._ranked, entry)
        if chosen is None:
            return None
        self.discard(chosen[0].name)
        return chosen[0].name

    def _is_current(self, ref: str, number: int) -> bool:
        return self._in.get(ref, ("", -1))[1] == number

    def _rank_more(self) -> None:
        left = _MORE
        while self._unranked and left:
            _, ref, number = heapq.heappop(self._unranked)
            if self._is_current(ref, number):
                heapq.heappush(self._ranked, (self._rank(ref), number))
                left -= 1


class Lines:
    """Who waits for which places, in the order in which they get them."""

    def __init__(self) -> None:
        self._places: dict[str, Place] = {}
        self._lines: dict[str, list[Rank]] = {}
        # Of each that waits: the places, and its rank.
        self._in: dict[str, tuple[tuple[str, ...], Rank]] = {}

    def __bool__(self) -> bool:
        return bool(self._in)

    def __contains__(self, ref: str) -> bool:
        return ref in self._in

    def wait(self, rank: Rank, places: Iterable[Place]) -> None:
        """The branch `rank.name` waits for these."""
        self.leave(rank.name)
        names = []
        for place in places:
            names.append(place.name)
            # The last to come has read the workflow last.
            self._places[place.name] = place
            heapq.heappush(self._lines.setdefault(place.name, []), rank)
        self._in[rank.name] = (tuple(names), rank)

    def leave(self, ref: str) -> None:
        self._in.pop(ref, None)

    def places(self) -> list[Place]:
        """Those that somebody waits for."""
        for name in list(self._lines):
            self._tidy(name)
        return [self._places[name] for name in self._lines]

    def first(self, name: str, most: int) -> list[str]:
        """Who is next at a place, at most so many; they wait no longer."""
        found: list[str] = []
        while len(found) < most:
            self._tidy(name)
            line = self._lines.get(name)
            if not line:
                break
            ref = heapq.heappop(line).name
            self.leave(ref)
            found.append(ref)
        return found

    def _tidy(self, name: str) -> None:
        line = self._lines.get(name, [])
        while line and not self._waits(line[0], name):
            heapq.heappop(line)
        if not line:
            self._lines.pop(name, None)

    def _waits(self, rank: Rank, name: str) -> bool:
        names, current = self._in.get(rank.name, ((), None))
        return name in names and current == rank
