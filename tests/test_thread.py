"""The thread of a task: what goes on with it, what begins another, and what is counted."""

from __future__ import annotations

import pytest

from aynig.model import Thread
from aynig.thread import Told, begin, carried, continues, follow
from tests.values import OID, OTHER_OID, statement

TREE, OTHER_TREE = "d" * 40, "e" * 40


def told(message: str, *, oid: str = OID, tree: str = TREE, parent: str = OTHER_OID) -> Told:
    """A commit with these fields; the first is its state."""
    lines = "".join(f"aynig: {line}\n" for line in message.split("; "))
    return Told(oid, 1000, tree, parent, statement(f"Subject\n\n{lines}"))


@pytest.mark.parametrize(
    ("said", "below", "goes_on"),
    [
        pytest.param("go", None, False, id="nothing is below"),
        pytest.param("go", "work", True, id="a task under way"),
        pytest.param("approved", "awaiting-approval", True, id="a reply"),
        pytest.param("go", "done", False, id="one that is done"),
        pytest.param("go", "failed", False, id="one that failed"),
        pytest.param("go", "canceled", False, id="one that was canceled"),
        pytest.param(f"go; retry-of: {OTHER_OID}", "failed", True, id="a retry of it"),
        pytest.param(f"go; retry-of: {OID}", "failed", False, id="a retry of something else"),
        pytest.param(f"go; reopens: {OTHER_OID}", "done", True, id="sent back to work"),
        pytest.param("go; parent: big", "work", False, id="a child that begins there"),
        pytest.param("go; begins: task", "work", False, id="a task that begins there"),
    ],
)
def test_a_commit_of_a_person_goes_on_or_begins(
    said: str, below: str | None, goes_on: bool
) -> None:
    found = told(below).statement if below is not None else None
    assert continues(told(said), found) is goes_on


def test_a_task_is_what_its_first_commit_says() -> None:
    said = "go; parent: big; depends-on: a; depends-on: b; depends-on: a; resource: db"
    found = begin(told(f"{said}; priority: 7; deadline: 2h; autonomy: step"))
    assert (found.start, found.began, found.by_person) == (OID, 1000, OID)
    assert (found.parent, found.depends_on, found.resources) == ("big", ("a", "b"), ("db",))
    assert (found.priority, found.deadline, found.autonomy) == (7, 7200.0, "step")


@pytest.mark.parametrize("field", ["priority: 101", "priority: x", "deadline: soon"])
def test_what_is_malformed_counts_for_nothing(field: str) -> None:
    found = begin(told(f"go; {field}"))
    assert (found.priority, found.deadline) == (None, None)


def answered(before: Thread, said: str, *, tree: str = TREE, ran: str = "go") -> Thread:
    """The thread after an answer to a run of `ran` that began with TREE."""
    return follow(before, told(f"{said}; answers: {OTHER_OID}", tree=tree), told(ran))


def test_answers_in_a_row_that_change_nothing_and_fail_alike_are_counted() -> None:
    found = begin(told("go"))
    for number in (1, 2):
        found = answered(found, "go; failure: exit 1")
        assert (found.unchanged, found.failures, found.steps) == (number, number, number)
    assert answered(found, "go; failure: exit 2").failures == 1
    assert answered(found, "go", tree=OTHER_TREE).unchanged == 0
    assert answered(found, "go", ran="other").unchanged == 1


def test_iterations_go_on_through_approvals_and_people_and_end_with_the_loop() -> None:
    found = answered(begin(told("go")), "go; iteration: 3/9")
    assert found.iterations == 3
    assert answered(found, "awaiting-approval; proposes: go; iteration: 4/9").iterations == 4
    assert follow(found, told("approved"), None).iterations == 3
    assert follow(found, told(f"go; resumes: {OTHER_OID}"), None).iterations == 3
    assert follow(found, told("other"), None).iterations == 0
    assert answered(found, "done; iteration: 4/9").iterations == 0


def test_what_a_person_commits_forgives_what_went_wrong_in_a_row() -> None:
    found = answered(begin(told("go")), "go; failure: exit 1")
    found = follow(found, told("go"), None)
    assert (found.unchanged, found.failures, found.failure) == (0, 0, "")


def test_a_step_counts_as_no_run_and_settles_children() -> None:
    found = answered(begin(told("go")), "next; step: join; joined: a@1; left-out: b@2")
    assert (found.steps, found.settled) == (0, frozenset({"a@1", "b@2"}))


def test_a_request_settles_and_tells_of_nothing_until_it_is_approved() -> None:
    said = "step: join; joined: a@1; left-out: b@2; child: c@3"
    asked = answered(begin(told("go")), f"awaiting-approval; proposes: next; {said}")
    assert (asked.settled, asked.lately, asked.told) == (frozenset(), frozenset(), frozenset())
    found = answered(asked, f"next; {said.replace('join;', 'approval;')}", ran="approved")
    assert found.settled == found.lately == frozenset({"a@1", "b@2"})
    assert found.told == frozenset({"c@3"})
    # What is told again on the way to a run is no news.
    again = answered(found, f"next; {said.replace('join;', 'approval;')}", ran="approved")
    assert (again.settled, again.lately) == (found.settled, frozenset())


def test_what_follows_a_compensation_counts_when_that_is_approved() -> None:
    asked = answered(begin(told("go")), "awaiting-approval; proposes: undo; then: failed")
    approved = answered(asked, "undo; step: approval; then: failed", ran="approved")
    corrected = answered(asked, "go; step: approval", ran="answered")
    assert (asked.then, approved.then, corrected.then) == ("", "failed", "")
    # Whether it may run is asked about what is to follow as well.
    before = answered(approved, "awaiting-approval; step: approval; proposes: undo", ran="undo")
    assert before.then == "failed"


def test_a_task_is_sent_back_by_the_answer_or_by_the_approval_of_it() -> None:
    at_once = answered(begin(told("go")), "go; reopened: up")
    asked = answered(at_once, f"awaiting-approval; proposes: go; would-reopen: up@{OID}")
    approved = answered(asked, "go; step: approval; reopened: up", ran="approved")
    assert [at_once.reopened, asked.reopened, approved.reopened] == [1, 1, 2]


def test_every_answer_of_a_child_says_whose_it_is() -> None:
    said = told("go; parent: big").statement
    assert [tuple(field) for field in carried(said, "next", ())] == [("parent", "big")]
