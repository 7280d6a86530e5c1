"""Parents and children on a remote, shared by several runners."""

from __future__ import annotations

from pathlib import Path

import pytest

from aynig.model import RESCUES
from tests.fleet import Fleet
from tests.test_family import fan_out, parents_of
from tests.world import wait_for

WORKFLOW = """\
states:
  gather:
    join: {wait-for: children, need: all, then: collect}
"""
NAMES = ("one", "two", "three")


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    scripts = {
        "split": fan_out(*NAMES),
        "go": 'echo "$AYNIG_BRANCH" >"$AYNIG_BRANCH"',
        "collect": "exit 0",
        "stay": "touch stays; sleep 3600",
    }
    return Fleet.make(tmp_path, scripts, workflow=WORKFLOW)


def test_two_runners_share_the_children_and_join_them_once(fleet: Fleet) -> None:
    fleet.tasks.task(branch="big", state="split")
    with fleet.live("bob", jobs=2), fleet.live("carol", jobs=2):
        fleet.tasks.wait_for_state("done", "big")
    join = fleet.server.git("rev-parse", "big^")
    answer, *tips = parents_of(fleet.server, join)
    assert sorted(tips) == sorted(fleet.server.tip(f"big-{name}") for name in NAMES)
    for name in NAMES:
        assert parents_of(fleet.server, f"big-{name}~1") == [answer]
    assert RESCUES not in fleet.server.git("for-each-ref")
    fleet.fsck()


def test_a_join_that_waits_for_approval_is_made_by_any_runner(tmp_path: Path) -> None:
    workflow = WORKFLOW.replace("collect", "done") + "autonomy: end\n"
    fleet = Fleet.make(tmp_path, {"go": "exit 0"}, workflow=workflow)
    server = fleet.server
    fleet.tasks.task(branch="big", state="gather")
    tips = []
    for name in NAMES:
        server.commit("x\n\naynig: done\naynig: parent: big\n", branch=name, files={name: name})
        tips.append(server.tip(name))
    with fleet.live("bob"):
        fleet.tasks.wait_for_state("awaiting-approval", "big")
    assert len(parents_of(server, "big")) == 1
    server.commit("Well done\n\naynig: approved\n", branch="big")
    with fleet.live("carol"):
        fleet.tasks.wait_for_state("done", "big")
    assert sorted(parents_of(server, "big")[1:]) == sorted(tips)
    assert set(NAMES) <= set(server.git("ls-tree", "--name-only", "big").split())
    fleet.fsck()


def test_a_parent_that_is_canceled_stops_its_children_on_all_runners(fleet: Fleet) -> None:
    fleet.tasks.task(branch="big", state="stalled")
    for name in NAMES:
        fleet.tasks.task(branch=name, state="stay", fields={"parent": "big"})
    with fleet.live("bob", jobs=2) as bob, fleet.live("carol", jobs=2) as carol:
        wait_for(lambda: len(bob.of("run") + carol.of("run")) == 3, what="all to run")
        fleet.server.commit("enough\n\naynig: canceled\n", branch="big")
        for name in NAMES:
            fleet.tasks.wait_for_state("canceled", name)
    fleet.fsck()
