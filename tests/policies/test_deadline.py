"""A task that is too late is answered, once, as after a failure."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aynig.model import Field
from aynig.policies.deadline import Course, end_of, judge, shorter
from aynig.workflow import StateSettings

BEGAN = 1_700_000_000.0
HOUR = 3600.0
COURSE = Course(limit=HOUR, began=BEGAN, touched=BEGAN)


@pytest.mark.parametrize(
    ("one", "other", "limit"),
    [(None, None, None), (1.0, None, 1.0), (None, 2.0, 2.0), (3.0, 2.0, 2.0)],
)
def test_the_shorter_of_two_limits_counts(
    one: float | None, other: float | None, limit: float | None
) -> None:
    assert shorter(one, other) == limit


@pytest.mark.parametrize(
    ("course", "end"),
    [
        (COURSE, BEGAN + HOUR),
        (replace(COURSE, limit=None), None),
        (replace(COURSE, overdue=True), None),
        # A person has asked for something while there was time: that is no more time.
        (replace(COURSE, touched=BEGAN + 60), BEGAN + HOUR),
        (replace(COURSE, touched=BEGAN + 2 * HOUR), BEGAN + 3 * HOUR),
    ],
)
def test_when_the_time_is_up(course: Course, end: float | None) -> None:
    assert end_of(course) == end


@pytest.mark.parametrize(
    ("settings", "autonomy", "state", "then"),
    [
        (StateSettings(), None, "failed", ""),
        (StateSettings(on_failure="late"), None, "late", ""),
        (StateSettings(escalate="look"), None, "look", ""),
        (StateSettings(compensate="undo", on_failure="late"), None, "undo", "late"),
        (StateSettings(), "stuck", "stalled", ""),
    ],
)
def test_it_goes_where_a_failure_would_have_gone(
    settings: StateSettings, autonomy: str | None, state: str, then: str
) -> None:
    found = judge(COURSE, settings, "task", "abc", autonomy, BEGAN + HOUR + 90)
    assert found is not None
    assert (found.kind, found.state) == ("deadline", state)
    assert found.subject == "its deadline of 1h was over for 1m 30s"
    assert found.body == "To go on all the same: aynig retry task"
    assert found.fields == (
        Field("failure", found.subject),
        *([Field("compensates", "abc"), Field("then", then)] if then else []),
        *([Field("escalated", "abc")] if state in ("look", "stalled") else []),
    )


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6), st.floats(0, 1e6))
def test_nothing_is_late_before_its_time_and_all_is_after(
    wait: float, limit: float, touched: float
) -> None:
    course = Course(limit, BEGAN, BEGAN + touched)
    end = end_of(course)
    assert end is not None
    assert (judge(course, StateSettings(), "task", "abc", None, end + wait) is None) == (
        end + wait < end
    )
