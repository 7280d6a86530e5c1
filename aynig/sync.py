"""When a remote is looked at: at once where somebody wakes us, else ever less often.

A look at a remote may hang for as long as the network does, so it has a thread of its own. What it
finds is in the mirror, and the loop that decides reads only that.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable

from aynig.errors import AynigError, as_unwritable, told
from aynig.git.mirror import Mirror
from aynig.git.sharedrefs import SharedRefs

# The longest pause between two looks, in seconds, where nothing changes and nobody wakes us.
LONGEST = 60.0
# Who has enough to do looks at most once in so many seconds, and a fifth of the time, but as often
# as if nobody woke it: beside a busy server each push of each runner wakes all of them.
_REST, _REST_BY_LENGTH = 1.0, 4.0
# By so much of itself each pause is longer or shorter, so that many runners do not look at once.
_JITTER = 0.2


class Sync:
    """The looks at one remote. Belongs to the loop's thread, but for `run`."""

    def __init__(
        self,
        mirror: Mirror,
        refs: SharedRefs,
        *,
        poll: float,
        settle: Callable[[], object] = lambda: None,
        first: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`poll` is the first pause in seconds.

        `settle` is called before each look, to write what is owed there; `first` after the first.
        """
        self._mirror = mirror
        self._refs = refs
        self._poll = poll
        self._pause = poll
        self._settle = settle
        self._first = first
        self._clock = clock
        self._due = -math.inf
        self._begun = 0.0
        self._rest = 0.0
        self._changed = False
        self.running = False
        # Was the remote ever seen as it is? Before, nothing is worked on.
        self.fresh = False
        # Why it can't be looked at now, in one line; empty where it can.
        self.fault = ""

    @property
    def due(self) -> float:
        """When the next look is to begin, on the monotonic clock."""
        return self._due

    @property
    def due_beside_work(self) -> float:
        """When it is to begin where there is no hurry, since there is enough to do as it is.

        Whoever takes a lease looks as well, and that counts.
        """
        return max(self._due, self._mirror.looked + self._rest)

    def wake(self) -> None:
        """Look as soon as may be."""
        self._pause = self._poll
        self._due = -math.inf

    def begin(self) -> None:
        """A look is given to a thread: a wake from now on asks for another one."""
        self.running = True
        self._due = math.inf
        self._begun = self._clock()

    def run(self, *, leases: bool) -> None:
        """Look; raises nothing."""
        try:
            self._settle()
            self._refs.publish()
            with self._mirror.remote.patience.looking():
                self._changed = self._mirror.sync(leases=leases)
            if not self.fresh:
                self._first()
        except (AynigError, OSError) as error:
            # A full disk of ours names no file where it is a write that fails.
            full = isinstance(error, OSError) and as_unwritable(error, self._mirror.repo.common_dir)
            # One that we have ended ourselves says nothing about the remote.
            if self._mirror.remote.patience.has_looks:
                self.fault = told(full or error).rstrip(".")
        except Exception as error:
            self.fault = repr(error)
        else:
            self.fault = ""
            self.fresh = True

    def end(self, longest: float) -> None:
        """The look is over; the next one is due after at most `longest` seconds."""
        self.running = False
        now = self._clock()
        self._rest = max(_REST, min(_REST_BY_LENGTH * (now - self._begun), self._poll))
        changed, self._changed = self._changed, False
        if changed:
            self._pause = self._poll
        if self._due == math.inf:
            pause = min(self._pause, max(longest, self._poll))
            self._due = now + pause * random.uniform(1 - _JITTER, 1 + _JITTER)
        if not changed:
            self._pause = min(self._pause * 2, max(LONGEST, self._poll))
