"""Tasks multiply as far as the workflow allows, and end with a parent that is canceled."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aynig.model import HEADS, Hold, Step
from aynig.policies.kinship import Kin, before, canceled_with, judge, proposed, refusal
from aynig.workflow import ChildLimits

LIMITS = ChildLimits(depth=2, each=3, total=5)


@pytest.mark.parametrize(
    ("kin", "detail"),
    [
        pytest.param(Kin("a", ()), "", id="no child of anybody"),
        pytest.param(Kin("a", ("b",)), "", id="a child"),
        pytest.param(Kin("a", ("b", "c")), "", id="as deep as may be"),
        pytest.param(
            Kin("a", ("b", "c", "d")), "a child at depth 3, the limit is 2: b, c, d", id="too deep"
        ),
        pytest.param(Kin("a", ("b", "a")), "it is its own ancestor: a -> b -> a", id="a circle"),
        pytest.param(Kin("a", ("a",)), "it is its own ancestor: a -> a", id="its own parent"),
        pytest.param(Kin("a", ("b",), 2, 4), "", id="the last one"),
        pytest.param(
            Kin("a", ("b",), 3, 3), "b has 3 children before it, the limit is 3", id="one too many"
        ),
        pytest.param(
            Kin("a", ("b", "c"), 0, 5),
            "5 tasks that come of c go before it, the limit is 5",
            id="too many in all",
        ),
    ],
)
def test_the_verdict_on_a_child(kin: Kin, detail: str) -> None:
    found = judge(kin, LIMITS)
    assert (found.detail if found is not None else "") == detail
    assert found is None or (found.word, found.until) == ("blocked", None)


@pytest.mark.parametrize(
    ("asked", "depth", "siblings", "relatives", "why"),
    [
        pytest.param(3, 0, 0, 0, "", id="as many as may be"),
        pytest.param(4, 0, 0, 0, "asked for 4 children, the limit is 3", id="too many"),
        pytest.param(
            1_000_000, 0, 0, 0, "asked for 1,000,000 children, the limit is 3", id="a million"
        ),
        pytest.param(
            2, 0, 2, 2, "asked for 2 children, the limit is 3, 2 are there", id="with those there"
        ),
        pytest.param(
            1, 2, 0, 3, "asked for 1 child at depth 3, the limit is 2", id="too deep"
        ),
        pytest.param(
            3, 1, 0, 3,
            "asked for 3 children, the limit of all that come of one task is 5, 3 are there",
            id="too many in all",
        ),
    ],
)  # fmt: skip
def test_what_a_script_may_start(
    asked: int, depth: int, siblings: int, relatives: int, why: str
) -> None:
    found = refusal(asked, LIMITS, depth=depth, siblings=siblings, relatives=relatives, room=100)
    assert found == why


def test_an_answer_has_to_name_them_all() -> None:
    limits = ChildLimits(depth=1, each=1000, total=1000)
    found = refusal(200, limits, depth=0, siblings=0, relatives=0, room=196)
    assert found == "asked for 200 children, an answer has room for 196"


@settings(derandomize=True)
@given(st.integers(1, 10), st.integers(0, 4), st.integers(0, 10), st.integers(0, 10))
def test_no_limit_is_ever_exceeded(asked: int, depth: int, siblings: int, relatives: int) -> None:
    why = refusal(asked, LIMITS, depth=depth, siblings=siblings, relatives=relatives, room=100)
    within = depth + 1 <= 2 and siblings + asked <= 3 and relatives + asked <= 5
    assert (why == "") == within


@settings(derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 3), st.text("ab", max_size=3)), unique=True, max_size=9))
def test_exactly_as_many_as_are_allowed_may_run_whoever_is_asked_first(
    births: list[tuple[int, str]],
) -> None:
    running = [
        birth
        for birth in births
        if judge(Kin("a", ("b",), before(birth, [o for o in births if o != birth])), LIMITS) is None
    ]
    assert len(running) == min(len(births), LIMITS.each)


def test_a_child_ends_once_for_each_time_that_its_parent_is_canceled() -> None:
    first = canceled_with("big", "a" * 40, "c" * 40, frozenset(), "by Ada")
    assert first is not None
    assert (first.state, first.kind) == ("canceled", "parent-canceled")
    assert ("cancels", "c" * 40) in first.fields
    assert first.body == "by Ada"
    told = frozenset({f"big@{'a' * 40}"})
    assert canceled_with("big", "a" * 40, "d" * 40, told, "") is None
    assert canceled_with("big", "b" * 40, "d" * 40, told, "") is not None


def test_a_child_of_a_proposal_waits_for_people() -> None:
    held = proposed("big", None, "c" * 40)
    assert isinstance(held, Hold)
    assert (held.word, held.on) == ("proposed", frozenset({HEADS + "big"}))
    assert proposed("big", True, "c" * 40) is None
    ended = proposed("big", False, "c" * 40)
    assert isinstance(ended, Step)
    assert ended.state == "canceled"
