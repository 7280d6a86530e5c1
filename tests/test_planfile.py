"""A plan is read strictly: every error names the place, and no order of tasks matters."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aynig.errors import ConfigError
from aynig.model import Field
from aynig.planfile import PlanFile, parse_plan


def parsed(text: str) -> PlanFile:
    return parse_plan(text, "plan.yaml")


def test_a_task_says_all_that_a_task_can_say() -> None:
    (fetch, load) = parsed(
        """
tasks:
  - name: load
    state: transform
    body: |
      Load it.

      Twice.
    branch: jobs/load
    after: [fetch, 'origin:release', 3f2c9d1, 1234567]
    to: coder
    priority: -5
    deadline: 1h30m
    resource: [db, deploy-prod]
    fields: {meta-version: 1.10, reviewer: [ann, bob]}
    from: v1.0
  - {name: fetch, state: go}
"""
    ).tasks
    assert (fetch.name, fetch.target, fetch.needs, fetch.after) == ("fetch", "fetch", (), ())
    assert (load.state, load.body, load.target) == (
        "transform",
        "Load it.\n\nTwice.\n",
        "jobs/load",
    )
    assert load.needs == ("fetch",)
    assert load.after == ("origin:release", "3f2c9d1", "1234567")
    assert (load.to, load.priority, load.deadline, load.start) == ("coder", -5, "1h30m", "v1.0")
    assert load.resources == ("db", "deploy-prod")
    assert load.fields == (
        Field("meta-version", "1.10"),
        Field("reviewer", "ann"),
        Field("reviewer", "bob"),
    )
    assert load.source == "plan.yaml, line 3: tasks[0]"


def test_one_that_is_waited_for_needs_no_list() -> None:
    assert parsed("tasks: [{name: a, state: go, after: x}]").tasks[0].after == ("x",)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "plan.yaml: expected a list of tasks, found none"),
        ("tasks: []", "plan.yaml, line 1: tasks: expected a task, found none"),
        ("tasks: {a: {state: go}}", "tasks: expected a list of tasks, found a mapping"),
        ("tasks: [{state: go}]", "tasks[0]: expected the key name"),
        ("tasks: [{name: a}]", "tasks[0]: expected the key state"),
        ("tasks: [{name: a, state: Go}]", "tasks[0].state: expected a state"),
        ("tasks: [{name: a, state: working}]", "tasks[0].state: the state working is reserved"),
        ("tasks: [{name: 'a b', state: go}]", "tasks[0].name: expected the name of a branch"),
        ("tasks: [{name: -a, state: go}]", "tasks[0].name: expected the name of a branch"),
        ("tasks: [{name: HEAD, state: go}]", "tasks[0].name: expected the name of a branch"),
        ("tasks: [{name: a, state: go, afters: b}]", "unknown key, did you mean after?"),
        ("tasks: [{name: a, state: go, after: [b, b]}]", "expected each entry once"),
        ("tasks: [{name: a, state: go, after: a}]", "tasks[0].after: 'a' waits for itself"),
        (
            "tasks: [{name: a, state: go}, {name: a, state: go}]",
            "found 'a' again (first on line 1)",
        ),
        (
            "tasks: [{name: a, state: go}, {name: b, branch: a, state: go}]",
            "tasks[1]: the branch 'a' is that of 'a' as well",
        ),
        (
            "tasks: [{name: a/b, state: go}, {name: a, state: go}]",
            "tasks[0]: the branch 'a/b' can't be made beside 'a'",
        ),
        (
            "tasks: [{name: a, state: go, after: b}, {name: b, state: go, after: a}]",
            "tasks: a waits for itself: a -> b -> a",
        ),
        ("tasks: [{name: a, state: go, priority: 101}]", "a whole number from -100 to 100"),
        ("tasks: [{name: a, state: go, deadline: soon}]", "tasks[0].deadline: expected"),
        ("tasks: [{name: a, state: go, fields: {answers: x}}]", "only aynig writes"),
        ("tasks: [{name: a, state: go, fields: {parent: x}}]", "only aynig writes"),
        ("tasks: [{name: a, state: go, fields: {depends-on: x}}]", "in a plan: after"),
        ('tasks: [{name: a, state: go, fields: {x: "1\\naynig: done"}}]', "fields.x: expected"),
        ("tasks: [{name: a, state: go, fields: {X: 1}}]", "expected the key of a field"),
        ('tasks: [{name: a, state: go, body: "\\0"}]', "without NUL"),
        ("tasks: [{name: &a b, state: *a}]", "anchors and aliases"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(text: str, error: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parsed(text)
    assert error.replace("'", '"') in str(refused.value).replace("'", '"')
    assert str(refused.value).startswith("plan.yaml")
    assert refused.value.hint


def test_hundreds_of_tasks_are_no_problem() -> None:
    rows = [f"  - {{name: t{n}, state: go, after: [t{n + 1}]}}" for n in range(600)]
    plan = parsed("\n".join(["tasks:", *rows, "  - {name: t600, state: go}"]))
    assert [task.name for task in plan.tasks] == [f"t{n}" for n in range(600, -1, -1)]


@settings(derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=20, unique=True))
def test_a_plan_is_taken_exactly_where_each_can_come_after_what_it_needs(
    edges: list[tuple[int, int]],
) -> None:
    rows = []
    for number in range(8):
        after = [f"t{below}" for above, below in edges if above == number and above != below]
        rows.append(f"  - {{name: t{number}, state: go, after: [{', '.join(after) or 'x'}]}}")
    text = "\n".join(["tasks:", *rows])
    try:
        order = [task.name for task in parsed(text).tasks]
    except ConfigError as error:
        way = str(error).partition("waits for itself: ")[2].split(" -> ")
        assert way[0] == way[-1]
        pairs = {(f"t{above}", f"t{below}") for above, below in edges}
        assert len(way) > 8 or all(step in pairs for step in itertools.pairwise(way))
        return
    assert sorted(order) == [f"t{number}" for number in range(8)]
    for above, below in edges:
        assert above == below or order.index(f"t{below}") < order.index(f"t{above}")
