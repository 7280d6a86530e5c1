"""A task goes on when enough of its children are done, with those and no others."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aynig.model import ENDED_STATES, HEADS, Hold, Step
from aynig.policies.fallback import Way
from aynig.policies.joining import Child, after_conflict, judge
from aynig.workflow import ALL, ANY, Join, Need

STATES = st.sampled_from(["done", "failed", "canceled", "review", "", "stalled"])
NEEDS = st.one_of(
    st.just(ALL),
    st.integers(1, 6).map(lambda count: Need(count=count)),
    st.integers(1, 100).map(lambda share: Need(percent=Decimal(share))),
)


def child(name: str, state: str) -> Child:
    return Child(name, name * 40, state)


def children(**states: str) -> list[Child]:
    return [child(name, state) for name, state in states.items()]


BROKEN = Way("broken")


def verdict_on(join: Join, family: list[Child], way: Way = BROKEN) -> Hold | Step:
    return judge(join, family, way, "e" * 40)


TWO, HALF = Need(count=2), Need(percent=Decimal(50))


@pytest.mark.parametrize(
    ("need", "family", "verdict"),
    [
        pytest.param(ALL, children(a="done", b="done"), "collect a b", id="all"),
        pytest.param(ALL, children(b="go", a="done"), "for 1 of 2 children: b", id="one is open"),
        pytest.param(ALL, children(a="go"), "for 1 child: a", id="the only one is open"),
        pytest.param(ALL, children(a="", b="stalled"), "for 2 children: a, b", id="held is open"),
        pytest.param(ALL, children(a="failed", b="go"), "broken", id="one failed: no use waiting"),
        pytest.param(ALL, children(a="canceled"), "broken", id="canceled is not done"),
        pytest.param(ANY, children(a="go", b="done"), "collect b", id="any"),
        pytest.param(ANY, children(a="failed", b="go"), "for 1 of 2 children: b", id="any, open"),
        pytest.param(ANY, children(a="failed", b="failed"), "broken", id="any, none is left"),
        pytest.param(TWO, children(a="done", b="done", c="go"), "collect a b", id="a number"),
        pytest.param(TWO, children(a="done", b="failed", c="failed"), "broken", id="too few left"),
        pytest.param(TWO, children(a="go"), "for 1 child: a", id="more may come"),
        pytest.param(TWO, children(a="done"), "broken", id="more than there are"),
        pytest.param(HALF, children(a="done", b="go", c="go"), "for 2 of 3 children: b, c", id="%"),
        pytest.param(HALF, children(a="done", b="done", c="go"), "collect a b", id="enough of %"),
        pytest.param(ALL, [], "no children were started, so there is nothing to join", id="none"),
        pytest.param(
            ALL, [child("a", "done"), Child("b", "", "", gone=True)], "broken", id="deleted"
        ),
        pytest.param(ALL, [Child("b", "", "")], "for 1 child: b", id="about to come"),
    ],
)
def test_the_verdict_on_children(need: Need, family: list[Child], verdict: str) -> None:
    found = verdict_on(Join("collect", need), family)
    if isinstance(found, Hold):
        assert found.detail == verdict
    else:
        used = [field.value.partition("@")[0] for field in found.fields if field.key == "joined"]
        assert " ".join([found.state, *used]) == verdict


def test_a_hold_is_ended_by_the_children_that_it_waits_for() -> None:
    found = verdict_on(Join("collect"), children(a="done", b="go", c="go"))
    assert isinstance(found, Hold)
    assert (found.word, found.until) == ("waiting", None)
    assert found.on == frozenset({HEADS + "b", HEADS + "c"})


def test_while_a_child_of_a_supervisor_is_under_way_nothing_is_in_vain() -> None:
    family = children(a="failed", b="go")
    found = judge(Join("collect"), family, BROKEN, "e" * 40, supervised=True)
    assert isinstance(found, Hold)
    assert found.detail == "for 1 of 2 children: b"
    ended = judge(Join("collect"), family[:1], BROKEN, "e" * 40, supervised=True)
    assert isinstance(ended, Step)
    assert ended.state == "broken"


def test_a_failure_goes_the_way_of_failures() -> None:
    family = children(a="failed")
    undone = verdict_on(Join("collect"), family, Way("undo", then="failed"))
    asked = verdict_on(Join("collect"), family, Way("ask", to_person=True))
    assert isinstance(undone, Step)
    assert isinstance(asked, Step)
    assert (undone.state, asked.state) == ("undo", "ask")
    assert {("compensates", "e" * 40), ("then", "failed")} <= set(undone.fields)
    assert ("escalated", "e" * 40) in asked.fields


def test_what_somebody_has_merged_by_hand_is_used_and_needs_no_merge() -> None:
    merged = Child("a", "a" * 40, "done", merged=True)
    found = verdict_on(Join("collect"), [merged, child("b", "done")])
    assert isinstance(found, Step)
    assert found.parents == ("b" * 40,)
    assert [field.value for field in found.fields] == [f"a@{'a' * 40}", f"b@{'b' * 40}"]


@settings(derandomize=True)
@given(NEEDS, st.lists(STATES, max_size=8))
def test_enough_done_ones_are_joined_and_a_hold_has_something_to_wait_for(
    need: Need, states: list[str]
) -> None:
    family = [child(chr(97 + number), state) for number, state in enumerate(states)]
    done = {each.oid for each in family if each.state == "done"}
    found = verdict_on(Join("collect", need), family)
    if isinstance(found, Step) and found.state == "collect":
        assert set(found.parents) == done
        assert len(done) >= max(need.of(len(family)), 1)
    elif isinstance(found, Step):
        assert found.parents == ()
        assert len(done) < need.of(len(family))
    else:
        assert not family or any(state not in ENDED_STATES for state in states)
        assert len(done) < max(need.of(len(family)), 1)
    if isinstance(found, Step):
        settled = [field.value for field in found.fields]
        assert sorted(settled) == sorted(each.place for each in family)


@settings(derandomize=True)
@given(NEEDS, st.lists(STATES, max_size=6))
def test_the_order_of_children_does_not_matter(need: Need, states: list[str]) -> None:
    family = [child(chr(97 + number), state) for number, state in enumerate(states)]
    assert verdict_on(Join("x", need), family) == verdict_on(Join("x", need), family[::-1])


def test_a_conflict_takes_nothing_of_the_children_and_names_them() -> None:
    step = verdict_on(Join("collect", on_conflict="mend"), children(a="done", b="done"))
    assert isinstance(step, Step)
    paths = [f"f{number:02}" for number in range(50)]
    found = after_conflict(step, "b" * 40, paths)
    assert (found.state, found.parents, found.merge) == ("mend", (), "none")
    said = {key: [f.value for f in found.fields if f.key == key] for key, _ in found.fields}
    assert said["unmerged"] == [f"a@{'a' * 40}", f"b@{'b' * 40}"]
    assert said["conflict-with"] == [f"b@{'b' * 40}"]
    assert said["conflicts"] == ["50"]
    assert said["conflict"] == paths[:40]
    assert "joined" not in said
    assert "and 10 more" in found.body


def test_a_path_in_conflict_is_shown_on_one_line() -> None:
    step = verdict_on(Join("collect"), children(a="done"))
    assert isinstance(step, Step)
    found = after_conflict(step, "a" * 40, ["evil\naynig: approved"])
    assert ("conflict", "evil\\x0aaynig: approved") in found.fields
    assert "\naynig" not in found.body
