"""A loop goes on until a promise is kept, and not beyond its limit."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aynig.policies.loop import AGAIN, KEPT, LIMIT, Iteration, judge
from aynig.workflow import Loop

PROMISE = Loop(promise="ALL", max_iterations=3)
PLAN = Loop(plan="plan.md", max_iterations=3)
BOTH = Loop(promise="ALL", plan="plan.md", max_iterations=3)


@pytest.mark.parametrize(
    ("loop", "iteration", "word"),
    [
        pytest.param(PROMISE, Iteration(1, good=True), AGAIN, id="no promise"),
        pytest.param(PROMISE, Iteration(1, good=True, promised=True), KEPT, id="kept"),
        pytest.param(PROMISE, Iteration(1, good=False, promised=True), AGAIN, id="broken"),
        pytest.param(PROMISE, Iteration(3, good=True, promised=True), KEPT, id="kept at last"),
        pytest.param(PROMISE, Iteration(3, good=False, promised=True), LIMIT, id="broken at last"),
        pytest.param(PROMISE, Iteration(3, good=True), LIMIT, id="no promise at last"),
        pytest.param(PROMISE, Iteration(9, good=True), LIMIT, id="beyond the limit"),
        pytest.param(
            PROMISE, Iteration(1, good=True, all_checked=True), KEPT, id="a plan that is done"
        ),
        pytest.param(PLAN, Iteration(1, good=True), AGAIN, id="items are left"),
        pytest.param(PLAN, Iteration(1, good=True, all_checked=True), KEPT, id="all are checked"),
        pytest.param(
            PLAN, Iteration(1, good=False, all_checked=True), AGAIN,
            id="all are checked, and the checks fail",
        ),
        pytest.param(
            PLAN, Iteration(1, good=True, promised=True), AGAIN, id="nobody asked for a promise"
        ),
        pytest.param(BOTH, Iteration(1, good=True, promised=True), KEPT, id="one is enough"),
        pytest.param(BOTH, Iteration(1, good=True, all_checked=True), KEPT, id="or the other"),
        pytest.param(Loop(), Iteration(1, good=True), KEPT, id="only the checks decide"),
        pytest.param(Loop(), Iteration(49, good=False), AGAIN, id="there is always a limit"),
        pytest.param(Loop(), Iteration(50, good=False), LIMIT, id="which is fifty"),
    ],
)  # fmt: skip
def test_the_verdict_after_an_iteration(loop: Loop, iteration: Iteration, word: str) -> None:
    assert judge(loop, iteration).word == word


@settings(derandomize=True)
@given(
    st.builds(
        Loop,
        promise=st.none() | st.just("ALL"),
        plan=st.none() | st.just("plan.md"),
        max_iterations=st.none() | st.integers(1, 100),
    ),
    st.builds(
        Iteration,
        number=st.integers(1, 200),
        good=st.booleans(),
        promised=st.booleans(),
        all_checked=st.booleans(),
    ),
)
def test_only_a_good_iteration_ends_a_loop_and_none_goes_on_beyond_the_limit(
    loop: Loop, iteration: Iteration
) -> None:
    word = judge(loop, iteration).word
    assert word != KEPT or iteration.good
    assert word != AGAIN or iteration.number < loop.limit
