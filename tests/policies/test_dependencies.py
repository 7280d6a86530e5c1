"""A task starts when all that it depends on is done, and says what it waits for."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aynig.policies.dependencies import Dependency, judge

OID = "3f2c9d1ab123" + "0" * 28
STATES = st.sampled_from(["done", "failed", "canceled", "review", "", "stalled"])


def on(name: str, *states: str) -> Dependency:
    return Dependency(name, states)


@pytest.mark.parametrize(
    ("dependencies", "word", "detail"),
    [
        pytest.param([], "", "", id="none"),
        pytest.param([on("a", "done")], "", "", id="done"),
        pytest.param([on("a", "review")], "waiting", "for a to be done", id="under way"),
        pytest.param([on("a", "")], "waiting", "for a to be done", id="a branch without a state"),
        pytest.param([on("a")], "waiting", "for a, which is on no branch here", id="unknown"),
        pytest.param([on("a", "failed")], "blocked", "a ended as failed", id="failed"),
        pytest.param([on("a", "canceled")], "blocked", "a ended as canceled", id="canceled"),
        pytest.param(
            [on("a", "review"), on("b", "failed")], "blocked", "b ended as failed",
            id="one that failed tells more than one that is under way",
        ),
        pytest.param(
            [on("a", "review"), on("b", "done"), on("c", "")], "waiting", "for a, c to be done",
            id="only what is open is named",
        ),
        pytest.param([on(OID, "failed", "done")], "", "", id="done on one of its branches"),
        pytest.param(
            [on(OID, "failed", "review")], "waiting", "for 3f2c9d1ab123 to be done",
            id="failed on one of its branches only; an oid is shown short",
        ),
        pytest.param(
            [on("a\u202e", "review")], "waiting", "for a\\u202e to be done", id="shown escaped"
        ),
    ],
)  # fmt: skip
def test_the_verdict_on_what_a_task_depends_on(
    dependencies: list[Dependency], word: str, detail: str
) -> None:
    verdict = judge(dependencies)
    assert (verdict.word, verdict.detail) == (word, detail)


@settings(derandomize=True)
@given(st.lists(st.lists(STATES, max_size=3), max_size=5))
def test_a_task_starts_exactly_when_each_dependency_is_done_somewhere(
    states: list[list[str]],
) -> None:
    verdict = judge([on(f"d{n}", *each) for n, each in enumerate(states)])
    assert (verdict.word == "") == all("done" in each for each in states)


@settings(derandomize=True)
@given(st.permutations(["done", "failed", "review", ""]))
def test_the_order_of_dependencies_does_not_change_the_word(order: list[str]) -> None:
    assert judge([on(f"d-{state}", state) for state in order]).word == "blocked"
