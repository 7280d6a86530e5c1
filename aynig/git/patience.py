"""How long commands to one remote may take, also once their runner has been told to stop.

A connection that is gone looks like one that is slow, until the time-out. Nobody who stops a runner
wants to wait for that: what only looks is ended at once then, and what writes soon.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator

# How long, in seconds, a push and what belongs to it may take after the grace time.
LAST_WORDS = 5.0


class Patience:
    """Belongs to one remote; safe to share between threads."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._no_looks = False
        # When the grace time is over.
        self._ending = math.inf
        self._given_up = False
        self._mine = threading.local()

    @contextlib.contextmanager
    def looking(self) -> Iterator[None]:
        """In this block this thread's commands only look: nothing is lost if they are ended."""
        self._mine.looks = True
        try:
            yield
        finally:
            self._mine.looks = False

    @property
    def has_looks(self) -> bool:
        """May the remote be looked at still?"""
        return not self._no_looks

    def end_looks(self) -> None:
        """End the looks that are under way, and have no new ones."""
        self._no_looks = True

    def end(self, grace: float) -> None:
        """The same, and in `grace` seconds everything else has to come to its end as well."""
        self._no_looks = True
        self._ending = min(self._ending, self._clock() + grace)

    def until(self, timeout: float) -> Callable[[], float]:
        """By when a command that begins now has to have ended, as things stand when it is asked."""
        began = self._clock()
        looks = getattr(self._mine, "looks", False)

        def until() -> float:
            if self._given_up or (looks and self._no_looks):
                return -math.inf
            return min(began + timeout, max(self._ending, began) + LAST_WORDS)

        return until

    def exhausted(self) -> None:
        """A command was ended because its time was over."""
        if self._clock() >= self._ending:
            # It is away: whatever else there is to tell it would only wait as long.
            self._given_up = True
