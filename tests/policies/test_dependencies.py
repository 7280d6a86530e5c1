"""A task starts when all that it depends on is done, and says what it waits for."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aynig.model import Field, Hold, Step
from aynig.policies.dependencies import FAIL, RUN, WAIT, Dependency, judge, waited_for

OID = "3f2c9d1ab123" + "0" * 28
TASK = "refs/heads/task"
STATES = st.sampled_from(["done", "failed", "canceled", "review", "", "stalled"])


def on(name: str, *states: str) -> Dependency:
    return Dependency(name, states, frozenset((f"refs/heads/{name}",)))


def verdict(*found: Dependency, on_failure: str = WAIT, cycle: tuple[str, ...] = ()) -> object:
    return judge(waited_for(found, on_failure), on_failure, cycle, TASK)


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
    found = verdict(*dependencies)
    assert found is None if not word else isinstance(found, Hold)
    if isinstance(found, Hold):
        assert (found.word, found.detail) == (word, detail)


def test_a_hold_ends_only_by_a_change_of_what_is_still_open() -> None:
    found = verdict(on("a", "review"), on("b", "done"), on("c", ""))
    assert isinstance(found, Hold)
    assert found.on == frozenset({"refs/heads/a", "refs/heads/c"})


def test_what_is_nowhere_may_come_with_any_branch() -> None:
    found = verdict(on("a", "review"), Dependency("e" * 40, ()))
    assert isinstance(found, Hold)
    assert found.on is None


@pytest.mark.parametrize(
    ("cycle", "detail"),
    [
        ((TASK, "refs/heads/a", TASK), "waits for itself: task -> a -> task"),
        (("refs/heads/a", "refs/heads/b", "refs/heads/a"), "a waits for itself: a -> b -> a"),
    ],
)
def test_a_circle_blocks_and_is_drawn(cycle: tuple[str, ...], detail: str) -> None:
    found = verdict(on("a", "review"), cycle=cycle)
    assert isinstance(found, Hold)
    assert (found.word, found.detail) == ("blocked", detail)


@pytest.mark.parametrize("state", ["failed", "canceled"])
def test_where_a_failure_fails_the_task_ends_and_names_the_dependency(state: str) -> None:
    found = verdict(on("b", "review"), on("a", state), on_failure=FAIL)
    assert isinstance(found, Step)
    assert (found.kind, found.state, found.subject) == (
        "dependency",
        "failed",
        f"a ended as {state}",
    )
    assert found.fields == (Field("blocked-by", "a"),)


def test_where_a_failure_does_not_matter_the_task_still_waits_for_the_others() -> None:
    assert verdict(on("a", "failed"), on("b", "done"), on_failure=RUN) is None
    found = verdict(on("a", "failed"), on("b", "review"), on_failure=RUN)
    assert isinstance(found, Hold)
    assert found.detail == "for b to be done"


@settings(derandomize=True)
@given(st.lists(st.lists(STATES, max_size=3), max_size=5), st.sampled_from([FAIL, WAIT, RUN]))
def test_a_task_starts_exactly_when_each_dependency_is_done_or_its_failure_does_not_matter(
    states: list[list[str]], on_failure: str
) -> None:
    found = verdict(*[on(f"d{n}", *each) for n, each in enumerate(states)], on_failure=on_failure)
    ready = all(
        "done" in each or (on_failure == RUN and each and set(each) <= {"failed", "canceled"})
        for each in states
    )
    assert (found is None) == ready


@settings(derandomize=True)
@given(st.permutations(["done", "failed", "review", ""]))
def test_the_order_of_dependencies_does_not_change_the_word(order: list[str]) -> None:
    found = verdict(*[on(f"d-{state}", state) for state in order])
    assert isinstance(found, Hold)
    assert found.word == "blocked"
