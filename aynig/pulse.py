"""What happens beside a script while it runs: its lease is renewed, and what it spends is read.

Both have their own rhythm. Reading a small file once a second costs nothing; a renewal is a write
that others see.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from aynig.renewal import Renewal
from aynig.usage import Usage
from aynig.usagefile import Tally, read_on

INTERVAL = 1.0


class Pulse:
    """Ticks for one run."""

    def __init__(
        self,
        renewal: Renewal,
        interval: float,
        exceeded: Callable[[Usage], str],
        stop: Callable[[], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`interval` is that of renewals, in seconds. `exceeded` says in words why so much is too
        much, `stop` is called once then."""
        self._renewal = renewal
        self._interval = interval
        self._file: Path | None = None
        self._exceeded = exceeded
        self._stop = stop
        self._clock = clock
        self._next = clock() + interval
        self.tally = Tally()
        # Why the run was stopped; empty where it was not.
        self.overspent = ""

    def watch(self, usage_file: Path) -> None:
        """Read this file from now on."""
        self._file = usage_file

    @property
    def interval(self) -> float:
        """How often `tick` wants to be called, in seconds."""
        return min(INTERVAL, self._interval)

    def tick(self) -> None:
        """Do what is due. Raises what went wrong with the renewal; it is tried at the next one."""
        self.read_usage()
        now = self._clock()
        if now >= self._next:
            self._next = now + self._interval
            self._renewal.tick()

    def read_usage(self) -> None:
        """Read on in the usage file, and stop the run where it has spent more than is left."""
        if self._file is not None:
            self.tally = read_on(self._file, self.tally)
        if not self.overspent:
            self.overspent = self._exceeded(self.tally.usage)
            if self.overspent:
                self._stop()

    def last_usage(self) -> Tally:
        """All of the file, when the script is over."""
        self.read_usage()
        self.tally = self.tally.ended()
        return self.tally
