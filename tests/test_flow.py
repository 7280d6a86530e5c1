"""The graph of a declared workflow."""

from __future__ import annotations

import itertools
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aynig.config import parse_workflow
from aynig.flow import Edge, Flow, Offer, flow_of, offer_of, reached, rings, script_at
from aynig.workflow import Workflow


def parsed(text: str) -> Workflow:
    return parse_workflow(textwrap.dedent(text), where="config.yaml")


def offered(*paths: str, plain: tuple[str, ...] = (), present: tuple[str, ...] = ()) -> Offer:
    """A tree with these programs below `.aynig/`, and `plain` files beside them."""
    files = {f".aynig/{path}": True for path in paths}
    return offer_of(files | {f".aynig/{path}": False for path in plain}, ("echo", "noop"), present)


def edges(text: str, *paths: str) -> set[tuple[str, str, str]]:
    return {
        (edge.source, edge.target, edge.why)
        for edge in flow_of(parsed(text), offered(*paths)).edges
    }


@pytest.mark.parametrize(
    ("said", "edge"),
    [
        ("next: b", ("a", "b", "next")),
        ("on-failure: b", ("a", "b", "on-failure")),
        ("compensate: b", ("a", "b", "compensate")),
        ("escalate: b", ("a", "b", "escalate")),
        ("on-child: b", ("a", "b", "on-child")),
        ("join: {then: b}", ("a", "b", "join.then")),
        ("join: {then: c, on-conflict: b}", ("a", "b", "join.on-conflict")),
        ("loop: {promise: X}", ("a", "a", "loop")),
        ("loop: {promise: X, on-limit: b}", ("a", "b", "loop.on-limit")),
        ("approval: {on-reject: b}", ("a", "b", "approval.on-reject")),
    ],
)
def test_each_key_that_names_a_state_is_an_edge(said: str, edge: tuple[str, str, str]) -> None:
    assert edge in edges(f"states: {{a: {{{said}}}}}", "a", "b")


def test_a_script_that_nothing_is_said_of_ends_its_task() -> None:
    assert edges("", "a") == {("a", "done", "")}
    assert edges("states: {a: {timeout: 5m}}", "a") == {("a", "done", "")}
    # One that waits for children runs no script, and goes on when they have ended.
    assert edges("states: {a: {join: {then: b}}}", "a") == {("a", "b", "join.then")}
    assert edges("states: {a: {on-child: b}}", "a") == {("a", "b", "on-child")}


def test_a_state_without_a_script_leads_nowhere_by_itself() -> None:
    assert edges("states: {a: {next: b}}", "a") == {("a", "b", "next")}
    assert edges("states: {a: {timeout: 5m}}") == set()
    # What ships with aynig can be run, but not in the place of a person.
    assert ("echo", "done", "") in edges("states: {a: {next: echo}}", "a")


@pytest.mark.parametrize(
    ("said", "onward"),
    [
        ("", "failed"),
        (", on-failure: b", "b"),
        (", escalate: c", "c"),
        (", on-failure: b, escalate: c", "b"),
    ],
)
def test_after_its_compensation_a_task_goes_where_it_would_have_gone(
    said: str, onward: str
) -> None:
    found = edges(f"states: {{a: {{compensate: undo{said}}}}}", "a", "undo")
    assert {edge for edge in found if edge[0] == "undo"} == {("undo", onward, "")}
    # What is there for something else too may end as well.
    both = edges(f"start: [a, undo]\nstates: {{a: {{compensate: undo{said}}}}}", "a", "undo")
    assert {edge for edge in both if edge[0] == "undo"} == {
        ("undo", onward, ""),
        ("undo", "done", ""),
    }


def test_an_agent_with_a_command_runs_in_the_place_of_a_script() -> None:
    text = "agents: {c: {command: agents/c}}\nstates: {a: {agent: c}}"
    assert edges(text, "agents/c") == {("a", "done", "")}
    # Its program is no state, also where it lies beside them.
    beside = flow_of(parsed("agents: {c: {command: coder}}"), offered("coder"))
    assert beside.states == ()


def test_tasks_begin_where_the_file_says_or_where_nothing_points() -> None:
    text = "states: {b: {next: c}, a: {next: b}, c: {next: b}}"
    assert flow_of(parsed(text), offered("a", "b", "c")).begins == ("a",)
    begun = flow_of(parsed(f"{text}\nstart: [c, b]"), offered("a", "b", "c"))
    assert begun.begins == ("c", "b")
    assert reached(begun) == {"b", "c"}
    assert reached(begun, ["a"]) == {"a", "b", "c"}
    # What only leads to itself is a beginning too; an ended state is none.
    assert flow_of(parsed("states: {a: {next: a}, done: {}}"), offered("a")).begins == ("a",)


def test_states_stand_in_the_order_in_which_a_task_meets_them() -> None:
    text = """\
        states:
          late: {next: done}
          first: {next: second, on-failure: stalled}
          second: {next: late}
        """
    flow = flow_of(parsed(text), offered("late", "first", "second", "zeta"))
    assert flow.states == ("first", "second", "late", "stalled", "zeta", "done")
    assert [edge.source for edge in flow.edges] == ["first", "first", "second", "late", "zeta"]


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (".aynig/build", ("build", "")),
        (".aynig/roles/coder/build", ("build", "coder")),
        (".dwp/command/build", ("build", "")),
        (".dwp/roles/coder/command/build", ("build", "coder")),
        (".aynig/config.yaml", None),
        (".aynig/lib/build", None),
        (".aynig/roles/build", None),
        (".aynig/roles/A/build", None),
        (".aynig/roles/a/b/build", None),
        (".dwp/build", None),
        ("build", None),
    ],
)
def test_where_scripts_lie(path: str, place: tuple[str, str] | None) -> None:
    assert script_at(path) == place


def test_the_script_of_a_role_is_that_of_nobody_else() -> None:
    offer = offered("roles/coder/build", "build", "roles/judge/test")
    assert offer.script_of("build", "coder") == ".aynig/roles/coder/build"
    assert offer.script_of("build", None) == ".aynig/build"
    assert offer.script_of("build", "judge") == ".aynig/build"
    assert offer.script_of("test", None) == ".aynig/roles/judge/test"
    assert offer.script_of("test", "coder") is None


def ring(*pairs: str) -> list[set[str]]:
    return [set(group) for group in rings(Edge(pair[0], pair[1], "next") for pair in pairs)]


def test_a_state_that_leads_to_itself_within_a_ring_is_no_ring_of_its_own() -> None:
    assert ring("ab", "ba", "bb") == [{"a", "b"}]


def test_rings() -> None:
    assert ring("ab", "bc") == []
    assert ring("aa") == [{"a"}]
    assert ring("ab", "ba", "bc", "cd", "dc") == [{"a", "b"}, {"c", "d"}]
    assert ring("ab", "bc", "ca", "cd") == [{"a", "b", "c"}]


def test_a_long_chain_fills_no_stack() -> None:
    names = [f"s{number}" for number in range(5000)]
    chain = [Edge(one, other, "next") for one, other in itertools.pairwise(names)]
    assert rings(chain) == []
    assert len(rings([*chain, Edge(names[-1], names[0], "next")])) == 1


PAIRS = st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("abcdef")), max_size=14)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(PAIRS)
def test_two_states_share_a_ring_when_each_leads_to_the_other(
    pairs: list[tuple[str, str]],
) -> None:
    found = [Edge(one, other, "next") for one, other in pairs]
    groups = rings(found)

    def after(name: str) -> set[str]:
        begins = tuple(edge.target for edge in found if edge.source == name)
        return reached(Flow(tuple("abcdef"), tuple(found), begins))

    for one in "abcdef":
        for other in "abcdef":
            together = any(one in group and other in group for group in groups)
            assert together == (other in after(one) and one in after(other))
