"""A script that asks for a later retry gets it, ever later, and not for ever."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aynig.policies.deferral import FIRST_DELAY, LONGEST_DELAY, MOST_ATTEMPTS, judge


@pytest.mark.parametrize(
    ("attempt", "delay"),
    [(1, 10.0), (2, 20.0), (3, 40.0), (6, 320.0), (7, 600.0), (11, 600.0), (12, None)],
)
def test_the_delay_doubles_from_attempt_to_attempt(attempt: int, delay: float | None) -> None:
    assert judge(attempt, None).delay == delay


@settings(derandomize=True)
@given(st.integers(1, MOST_ATTEMPTS - 2))
def test_a_delay_never_shrinks_and_has_a_limit(attempt: int) -> None:
    now, then = judge(attempt, None).delay, judge(attempt + 1, None).delay
    assert now is not None
    assert then is not None
    assert FIRST_DELAY <= now <= then <= LONGEST_DELAY


@settings(derandomize=True)
@given(st.integers(1, 10_000), st.floats(min_value=0.001, max_value=1e9))
def test_a_delay_that_the_script_names_counts_as_it_is_until_the_attempts_are_used_up(
    attempt: int, asked: float
) -> None:
    assert judge(attempt, asked).delay == (asked if attempt < MOST_ATTEMPTS else None)


@given(st.integers(MOST_ATTEMPTS, 10**9))
@settings(derandomize=True)
def test_a_script_that_never_stops_asking_has_failed(attempt: int) -> None:
    assert judge(attempt, None).delay is None
