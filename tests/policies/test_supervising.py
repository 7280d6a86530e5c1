"""A task that decides after each child is told of each end once, and of none too late."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aynig.model import Hold, Step
from aynig.policies.joining import Child
from aynig.policies.supervising import judge

STATES = st.sampled_from(["done", "failed", "canceled", "review", ""])


def child(name: str, state: str, time: int = 0) -> Child:
    return Child(name, name * 40, state, time=time)


@pytest.mark.parametrize(
    ("family", "told", "verdict"),
    [
        pytest.param([child("a", "done")], "", "a done", id="one has ended"),
        pytest.param([child("a", "failed")], "", "a failed", id="however it has"),
        pytest.param([child("a", "done", 9), child("b", "done", 8)], "", "b done", id="the first"),
        pytest.param([child("a", "done"), child("b", "done")], "a", "b done", id="the next"),
        pytest.param(
            [child("a", "done"), child("b", "go")], "a", "for 1 of 2 children: b", id="waits"
        ),
        pytest.param(
            [child("a", "done")], "a", "it was told of the end of its 1 child, and goes on waiting",
            id="nothing is left",
        ),
        pytest.param(
            [], "", "no children were started, so there is none to wait for", id="no child at all"
        ),
        pytest.param(
            [Child("a", "", "", gone=True), child("b", "go")], "", "for 1 of 2 children: b",
            id="one that is gone has no end to tell of",
        ),
    ],
)  # fmt: skip
def test_the_verdict_on_children(family: list[Child], told: str, verdict: str) -> None:
    found = judge("decide", family, {f"{name}@{name * 40}" for name in told})
    assert (found.detail if isinstance(found, Hold) else found.subject) == verdict


def test_one_that_ended_anew_is_told_of_again() -> None:
    before = child("a", "failed")
    after = Child("a", "f" * 40, "done")
    found = judge("decide", [after], {before.place})
    assert isinstance(found, Step)
    assert [field.value for field in found.fields] == [after.place, "done"]


@settings(derandomize=True)
@given(st.lists(st.tuples(STATES, st.integers(0, 3)), max_size=8))
def test_each_end_is_told_exactly_once_and_the_oldest_first(
    states: list[tuple[str, int]],
) -> None:
    family = [child(chr(97 + n), state, time) for n, (state, time) in enumerate(states)]
    told: list[str] = []
    while isinstance(found := judge("decide", family, told), Step):
        told.append(found.fields[0].value)
        assert len(told) <= len(family)
    ended = [each for each in family if each.ended]
    assert sorted(told) == sorted(each.place for each in ended)
    times = {each.place: each.time for each in family}
    assert [times[place] for place in told] == sorted(times[place] for place in told)
