"""A runner that lost a claim waits for a random time, the longer the more it lost in a row."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aynig.policies.contention import FIRST, LONGEST, Contention

CHANCES = st.floats(0, 1)


def after(*chances: float) -> list[float]:
    """How long each of some losses in a row is waited for."""
    found, now, waits = Contention(), 50.0, []
    for chance in chances:
        found = found.lost(now, chance)
        waits.append(found.until - now)
        now = found.until
        found = found.at(now)
    return waits


def test_who_loses_nothing_never_waits() -> None:
    assert Contention().until == Contention().at(1e9).until == 0


def test_each_loss_in_a_row_costs_twice_the_last_up_to_a_limit() -> None:
    waits = after(*[1.0] * 8)
    assert waits[:4] == pytest.approx([FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST])
    assert waits[-2:] == pytest.approx([LONGEST, LONGEST])


@settings(derandomize=True)
@given(st.lists(CHANCES, min_size=1, max_size=40))
def test_a_loss_never_costs_nothing_nor_more_than_the_longest(chances: list[float]) -> None:
    assert all(FIRST / 2 - 1e-6 <= wait <= LONGEST + 1e-6 for wait in after(*chances))


def test_two_that_lost_together_come_back_apart() -> None:
    assert after(0.2) != after(0.7)


def test_claims_that_were_lost_side_by_side_count_once() -> None:
    once = Contention().lost(50.0, 0.5)
    assert once.lost(50.01, 0.5) == once


def test_the_wait_is_over_at_its_time_and_the_losses_are_remembered() -> None:
    lost = Contention().lost(50.0, 1.0)
    assert lost.at(lost.until - 0.01) == lost
    assert lost.at(lost.until) == Contention(losses=1)
