"""In which order tasks that are ready get their turn (`priority`, from -100 to 100).

Higher goes first. Who waits rises by one for each STEP, so nothing starves; a task that has just
had a run begins to wait anew, so a long chain does not keep the others waiting. All wait at the
same rate: the order of two tasks never changes while they wait, and a task's rank is a fixed value.
"""

from __future__ import annotations

from typing import NamedTuple

NORMAL = 0
# In seconds: so much waiting is worth as much as one more of priority.
STEP = 60.0


class Rank(NamedTuple):
    """Sorts by who goes first."""

    # The time from which on it waits, less what its priority is worth.
    key: float
    # Its last run, counted: of those that have waited for equally long, who had one last is last.
    turn: int
    # The full ref: the same for all runners.
    name: str
    # The priority itself.
    level: int = NORMAL


def level_of(own: int | None, of_state: int | None) -> int:
    """What a task says itself counts before what its state says."""
    if own is not None:
        return own
    return of_state if of_state is not None else NORMAL


def rank(level: int, since: float, now: float, turn: int, name: str) -> Rank:
    """The rank of a task whose tip is from `since`; nobody has waited since a time to come."""
    return Rank(min(since, now) - level * STEP, turn, name, level)
