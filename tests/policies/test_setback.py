"""What an error stopped is tried again, but a script that has run is not run over and over."""

from __future__ import annotations

import math

import pytest

from aynig.policies.setback import delay_after_refusal, delay_after_run, delay_before_start


@pytest.mark.parametrize(
    ("last", "delay"), [(None, 10.0), (10.0, 20.0), (40.0, 80.0), (80.0, 120.0), (120.0, 120.0)]
)
def test_what_did_not_start_is_tried_ever_less_often_and_for_ever(
    last: float | None, delay: float
) -> None:
    assert delay_before_start(last) == delay


@pytest.mark.parametrize(
    ("last", "delay"), [(None, 10.0), (0.0, 10.0), (10.0, 20.0), (160.0, 300.0), (300.0, 300.0)]
)
def test_an_answer_that_was_refused_is_offered_ever_less_often_and_for_ever(
    last: float | None, delay: float
) -> None:
    assert delay_after_refusal(last) == delay


@pytest.mark.parametrize(("attempt", "delay"), [(1, 10.0), (2, 20.0), (3, math.inf), (9, math.inf)])
def test_what_has_run_is_run_three_times_at_most(attempt: int, delay: float) -> None:
    assert delay_after_run(attempt) == delay
