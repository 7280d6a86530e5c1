"""Higher goes first, then who has waited longest; nothing starves."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aynig.policies.priority import STEP, Rank, level_of, rank

NOW = 1_700_000_000.0


@dataclass(frozen=True)
class Waiting:
    name: str
    since: float = NOW - 10
    level: int = 0
    turn: int = 0

    def rank(self, now: float = NOW) -> Rank:
        return rank(self.level, self.since, now, self.turn, self.name)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Waiting("b", level=1), Waiting("a")),
        (Waiting("b"), Waiting("a", level=-1)),
        (Waiting("b", since=NOW - 20), Waiting("a")),
        (Waiting("a"), Waiting("b")),
        (Waiting("b"), Waiting("a", turn=1)),
        (Waiting("b", turn=3), Waiting("a", turn=4)),
        (Waiting("b", since=NOW - 10 - 5 * STEP - 1), Waiting("a", level=5)),
        (Waiting("a", level=5), Waiting("b", since=NOW - 10 - 5 * STEP + 1)),
        (Waiting("b"), Waiting("a", since=NOW + 86_400)),
    ],
)
def test_who_goes_first(first: Waiting, second: Waiting) -> None:
    assert min(second.rank(), first.rank()).name == first.name


@pytest.mark.parametrize(
    ("own", "of_state", "level"), [(None, None, 0), (None, 3, 3), (5, 3, 5), (0, 3, 0)]
)
def test_what_a_task_says_itself_counts_first(
    own: int | None, of_state: int | None, level: int
) -> None:
    assert level_of(own, of_state) == level


levels, ages = st.integers(-100, 100), st.floats(0, 1e6)


@given(levels, levels, ages, ages, st.floats(0, 1e6))
def test_the_order_of_two_does_not_change_while_they_wait(
    one: int, two: int, old: float, young: float, later: float
) -> None:
    a, b = Waiting("a", NOW - old, one), Waiting("b", NOW - young, two)
    assert (a.rank() < b.rank()) == (a.rank(NOW + later) < b.rank(NOW + later))


@given(levels, st.integers(0, 200))
def test_whoever_waits_goes_before_all_that_come_after_a_known_time(level: int, above: int) -> None:
    waiting = Waiting("z", NOW, level)
    late = Waiting("a", NOW + above * STEP + 1, level + above)
    assert waiting.rank(late.since) < late.rank(late.since)
