"""Runners with names and roles of their own share the tasks of one remote."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fleet import Fleet
from tests.stage import Told
from tests.world import aynig, wait_for

WORKFLOW = "states:\n  review: {role: reviewer}\n"
SCRIPTS = {"go": "exit 0", "review": "exit 0", "roles/tester/check": "exit 0", "check": "exit 1"}


@pytest.fixture
def shared(tmp_path: Path) -> Fleet:
    """A server with a state for all, one with a role, and one that a role does better."""
    fleet = Fleet.make(tmp_path, SCRIPTS, workflow=WORKFLOW)
    fleet.tasks.task(branch="free")
    fleet.tasks.task(branch="role", state="review")
    fleet.tasks.task(branch="better", state="check")
    fleet.tasks.task(branch="bobs", fields={"assigned-to": "bob"})
    fleet.tasks.task(branch="testers", fields={"assigned-to": "tester"})
    return fleet


def taken(told: Told) -> dict[str, list[str]]:
    """The branches that a runner ran, and those that it left to others."""
    return {
        "ran": sorted(notice.branch for notice in told.of("run")),
        "left": sorted(n.branch for n in told.of("hold") if n.hold == "assigned"),
    }


def test_a_runner_takes_what_is_for_it_and_leaves_the_rest(shared: Fleet) -> None:
    bob = shared.run("bob", agent="bob", roles=("reviewer",))
    assert taken(bob) == {"ran": ["bobs", "role"], "left": ["better", "free", "testers"]}
    carol = shared.run("carol", agent="carol", roles=("reviewer", "tester"))
    assert taken(carol) == {"ran": ["better", "testers"], "left": ["free"]}
    assert shared.server.state("better") == "done"
    assert taken(shared.run("dave")) == {"ran": ["free"], "left": []}


def test_a_runner_without_roles_takes_what_is_free_for_all(shared: Fleet) -> None:
    told = shared.run("dave")
    assert taken(told) == {"ran": ["better", "free"], "left": ["bobs", "role", "testers"]}
    assert shared.server.state("better") == "failed"
    assert shared.status("alice", "bobs").detail == "to bob"


def test_runners_side_by_side_share_the_work_by_who_they_are(shared: Fleet) -> None:
    with (
        shared.live("bob", agent="bob", roles=("reviewer",)) as bob,
        shared.live("carol", roles=("tester",)) as carol,
    ):
        for branch in ("role", "better", "bobs", "testers"):
            shared.tasks.wait_for_state("done", branch)
    assert taken(bob)["ran"] == ["bobs", "role"]
    assert taken(carol)["ran"] == ["better", "testers"]
    assert shared.server.state("free") == "go"


def test_a_task_that_is_assigned_anew_is_taken_by_its_new_owner(tmp_path: Path) -> None:
    fleet = Fleet.make(tmp_path, {"go": "exit 0"})
    fleet.tasks.task(fields={"assigned-to": "carol"})
    with fleet.live("bob", agent="bob") as told:
        wait_for(lambda: told.holds("task"), what="the task to be held")
        fleet.tasks.task(fields={"assigned-to": "bob"})
        fleet.tasks.wait_for_state("done")
    assert told.holds("task")[:1] == ["assigned"]


def test_the_command_line_says_who_a_runner_is(shared: Fleet) -> None:
    who = ("--remote", "origin", "--role", "reviewer", "--role", "tester", "--agent", "bob")
    assert aynig("run", *who, cwd=shared.clone("bob").path).returncode == 0
    states = {each: shared.server.state(each) for each in ("free", "role", "better", "bobs")}
    assert states == {"free": "go", "role": "done", "better": "done", "bobs": "done"}
