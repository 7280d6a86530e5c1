"""A runner takes what is assigned to it or to nobody, and of that what its roles are for."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aynig.policies.assignment import Worker, judge, owner_of

ALONE = Worker()
ONE_OF_MANY = Worker(picky=True)
BOB = Worker(agent="bob", picky=True)
REVIEWER = Worker(roles=("reviewer", "tester"), picky=True)
NOT_OURS = "to runners without a role: its state has none"
NAMES = st.sampled_from(["", "bob", "carol", "reviewer"])
ROLES = st.lists(st.sampled_from(["reviewer", "tester"]), unique=True).map(tuple)


@pytest.mark.parametrize(
    ("worker", "assigned", "role", "own_role", "detail"),
    [
        pytest.param(ALONE, [], "", "", "", id="alone: free for all"),
        pytest.param(ALONE, ["bob"], "reviewer", "", "", id="alone: nobody else would take it"),
        pytest.param(Worker(agent="bob"), ["carol"], "", "", "to carol", id="alone, with a name"),
        pytest.param(Worker(roles=("tester",)), [], "", "", "", id="alone, with a role: all"),
        pytest.param(ONE_OF_MANY, [], "", "", "", id="free for all"),
        pytest.param(ONE_OF_MANY, ["bob"], "", "", "to bob", id="somebody's, and we are nobody"),
        pytest.param(
            ONE_OF_MANY, [], "reviewer", "", "to runners with the role reviewer",
            id="a role that we have not",
        ),
        pytest.param(BOB, ["bob"], "", "", "", id="ours"),
        pytest.param(BOB, [], "", "", "", id="nobody's"),
        pytest.param(BOB, ["carol"], "", "", "to carol", id="another's"),
        pytest.param(BOB, ["carol", "bob"], "", "", "", id="the last assignment counts"),
        pytest.param(BOB, ["bob", ""], "", "", "", id="taken back from whoever it was"),
        pytest.param(BOB, ["bob"], "reviewer", "", "", id="who assigned it knows the role"),
        pytest.param(REVIEWER, [], "tester", "", "", id="one of our roles"),
        pytest.param(REVIEWER, [], "writer", "", "to runners with the role writer", id="none"),
        pytest.param(REVIEWER, ["reviewer"], "", "", "", id="assigned to a role of ours"),
        pytest.param(REVIEWER, [], "", "tester", "", id="our role has a script of its own for it"),
        pytest.param(REVIEWER, [], "", "", NOT_OURS, id="free for all is for those without roles"),
        pytest.param(
            BOB, ["a\u202e"], "", "", "to a\\u202e", id="shown escaped"
        ),
    ],
)  # fmt: skip
def test_which_tasks_are_for_a_runner(
    worker: Worker, assigned: list[str], role: str, own_role: str, detail: str
) -> None:
    verdict = judge(worker, owner_of(assigned, ""), role, own_role)
    assert (verdict.word, verdict.detail) == ("assigned" if detail else "", detail)


@settings(derandomize=True)
@given(NAMES, ROLES, st.lists(NAMES.filter(bool), min_size=1), NAMES)
def test_no_runner_takes_what_is_anothers(
    agent: str, roles: tuple[str, ...], assigned: list[str], role: str
) -> None:
    verdict = judge(Worker(agent, roles, picky=True), owner_of(assigned, ""), role, "")
    assert (verdict.word == "") == (assigned[-1] in {agent, *roles})


@pytest.mark.parametrize(
    ("worker", "may"),
    [
        (Worker(agent="coder", picky=True), True),
        (Worker(roles=("coder",), picky=True), True),
        (Worker(roles=("developer",), picky=True), True),
        (Worker(agent="bob", roles=("developer",), picky=True), True),
        (Worker(agent="bob", roles=("tester",), picky=True), False),
        (Worker(agent="bob"), False),
        (Worker(picky=True), False),
        (Worker(), True),
    ],
)
def test_an_agents_tasks_are_for_it_and_for_those_with_its_name_or_its_role_as_a_role(
    worker: Worker, *, may: bool
) -> None:
    assert (judge(worker, "coder", "", "", "developer").word == "") == may


@pytest.mark.parametrize(
    ("assigned", "by_state", "owner"),
    [
        ([], "", ""),
        ([], "coder", "coder"),
        (["bob"], "coder", "bob"),
        (["bob", "carol"], "coder", "carol"),
        (["bob", ""], "coder", "coder"),
    ],
)
def test_a_task_has_one_owner_the_last_that_was_named_or_else_that_of_its_state(
    assigned: list[str], by_state: str, owner: str
) -> None:
    assert owner_of(assigned, by_state) == owner
