"""Tasks of the other dialect on a remote: the lease is on the branch there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fleet import Fleet
from tests.world import GitRepo, wait_for

TASK = "Please\n\nWhat is to be done.\n\ndwp-state: go\ndwp-note: one\n"


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    made = Fleet.make(tmp_path, {})
    scripts = {".dwp/command/go": "#!/bin/sh\necho worked >file\n"}
    made.server.commit("Scripts of the other dialect", files=scripts)
    return made


def states(server: GitRepo, branch: str = "task") -> list[str]:
    """The states on a branch, oldest first."""
    text = server.git(
        "log",
        "--reverse",
        "--format=%(trailers:key=dwp-state,valueonly,separator=)",
        f"main..{branch}",
    )
    return text.split()


def wait_until(server: GitRepo, branch: str, state: str) -> None:
    """Until a branch is in this state."""
    wait_for(lambda: states(server, branch)[-1] == state, what=f"{branch} to be {state}")


def test_a_task_is_claimed_on_the_branch_and_answered_in_its_dialect(fleet: Fleet) -> None:
    fleet.server.commit(TASK, branch="task", parent=fleet.server.tip())
    fleet.run("bob")
    assert states(fleet.server) == ["go", "working", "done"]
    assert fleet.server.git("show", "task:file") == "worked"
    fleet.fsck()


def test_of_two_runners_one_claims_each_task(fleet: Fleet) -> None:
    for number in range(6):
        fleet.server.commit(TASK, branch=f"task/{number}", parent=fleet.server.tip())
    with fleet.live("bob", jobs=2), fleet.live("carol", jobs=2):
        for number in range(6):
            wait_until(fleet.server, f"task/{number}", "done")
    for number in range(6):
        assert states(fleet.server, f"task/{number}") == ["go", "working", "done"]
