"""Taking times on a machine that others use as well: alternate, repeat, and take the middle."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

MILLI = 1000.0


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `ours` and `plain` are in `unit`; `plain` None: nothing compares.

    `ratio` is our time by that of plain git (below 1: we are faster); None where none makes sense.
    """

    name: str
    what: str
    ours: float
    plain: float | None
    unit: str
    ratio: float | None
    target: str
    met: bool | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Context:
    """What every row is given: a folder of its own to fill, and how much to do."""

    folder: Path
    quick: bool

    def times(self, usual: int, quick: int) -> int:
        """How often to repeat."""
        return quick if self.quick else usual


def timed(work: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def alternate(
    ours: Callable[[], float], plain: Callable[[], float], rounds: int
) -> tuple[list[float], list[float]]:
    """Both in turns, so that a busy neighbour hits both alike; the first pair only warms up."""
    ours()
    plain()
    pairs = [(ours(), plain()) for _ in range(rounds)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` (0 to 1) of all values don't exceed."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, max(0, round(share * len(ranked)) - 1))]
