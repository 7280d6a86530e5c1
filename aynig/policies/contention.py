"""How long a runner claims nothing after another was faster.

Runners that look at one queue would otherwise go from lost claim to lost claim side by side. Who
loses nothing never waits: where nobody else is there, this costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

# Seconds that a first loss costs at the most; each further one in a row costs twice the last.
FIRST = 0.1
LONGEST = 2.0


@dataclass(frozen=True, slots=True)
class Contention:
    """How a runner has fared against others of late.

    `until` is when it may claim again, on its monotonic clock; 0 where it may at once.
    """

    losses: int = 0
    until: float = 0.0

    def lost(self, now: float, chance: float) -> Contention:
        """After a lost claim; `chance` is drawn evenly from 0 to 1.

        Claims that were under way side by side met the same neighbours: they count as one.
        """
        if self.until:
            return self
        longest = min(FIRST * 2.0**self.losses, LONGEST)
        # Never at once, or whoever lost would be at the next task together with the same others.
        return Contention(self.losses + 1, now + longest * (0.5 + chance / 2))

    def at(self, now: float) -> Contention:
        """The same at a later time: what was to be waited for may be over."""
        return replace(self, until=0.0) if 0 < self.until <= now else self
