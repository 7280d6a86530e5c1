"""How branches and lease refs have changed, by what the scan and our own runs have seen of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable

from aynig.git.snapshot import RefReader
from aynig.model import RefChange

Moves = Callable[[], Iterable[RefChange]]
# The lease refs of others are looked at so often, in seconds: they renew less often than that.
_LOOK = 1.0


class Feed:
    """What has changed since it was last called.

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
