"""Where a workflow stops for a person."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aynig.policies.autonomy import level, proposes
from aynig.workflow import AUTONOMY


@pytest.mark.parametrize(
    ("workflow", "asked", "expected"),
    [
        (None, "", "never"),
        (None, "end", "end"),
        ("stuck", "", "stuck"),
        ("stuck", "step", "step"),
        ("step", "never", "step"),
        ("end", "whenever", "end"),
        (None, "whenever", "never"),
    ],
)
def test_a_task_may_only_ask_for_what_is_stricter(
    workflow: str | None, asked: str, expected: str
) -> None:
    assert level(workflow, asked) == expected


@pytest.mark.parametrize(
    ("at", "state", "succeeded", "checkpoint", "expected"),
    [
        ("never", "done", True, True, False),
        ("stuck", "done", True, True, False),
        ("end", "done", True, False, True),
        ("end", "review", True, True, False),
        ("end", "done", False, False, True),
        ("stuck", "done", False, False, False),
        ("checkpoint", "review", True, True, True),
        ("checkpoint", "review", True, False, False),
        ("checkpoint", "done", True, False, True),
        ("checkpoint", "fallback", False, True, False),
        ("step", "review", True, False, True),
        ("step", "fallback", False, False, True),
    ],
)
def test_whether_an_answer_waits_for_a_person(
    at: str, state: str, succeeded: bool, checkpoint: bool, expected: bool
) -> None:
    assert proposes(at, state=state, succeeded=succeeded, checkpoint=checkpoint) == expected


@settings(derandomize=True)
@given(st.sampled_from(["done", "review", "fallback"]), st.booleans(), st.booleans())
def test_a_stricter_level_stops_wherever_a_later_one_does(
    state: str, succeeded: bool, checkpoint: bool
) -> None:
    stops = [
        proposes(at, state=state, succeeded=succeeded, checkpoint=checkpoint) for at in AUTONOMY
    ]
    assert stops == sorted(stops, reverse=True)
    assert not stops[-1]
