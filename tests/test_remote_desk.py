"""What a runner does about tasks that its neighbours are after too, step by step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aynig.desk import Desk
from aynig.git.sharedrefs import SharedRefs
from aynig.lease import lease_name
from aynig.model import HEADS
from aynig.notices import Notice
from aynig.policies.contention import FIRST, LONGEST
from aynig.runs import new_run_id
from aynig.scan import read_event
from aynig.site import Site
from aynig.sync import Sync
from tests.fleet import Fleet
from tests.stage import Work


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet.make(tmp_path, {"go": "exit 0"})


@contextmanager
def looked(fleet: Fleet) -> Iterator[Work]:
    site = fleet.open("bob")
    assert site.mirror is not None
    assert isinstance(site.store, SharedRefs)
    sync = Sync(site.mirror, site.store, poll=60.0)
    sync.run(leases=True)
    told: list[Notice] = []
    bob = Work(Desk(site, told.append, follow=True, sync=sync), told)
    bob.desk.look(first=True)
    try:
        yield bob
    finally:
        site.close()


@contextmanager
def holding(fleet: Fleet, *branches: str) -> Iterator[None]:
    """Another runner has the leases of these, which Bob has not heard of."""
    site = fleet.open("carol")
    assert site.mirror is not None
    try:
        site.mirror.sync(leases=True)
        for branch in branches:
            hold(site, HEADS + branch)
        yield
    finally:
        site.close()


def hold(site: Site, ref: str) -> None:
    oid = site.repo.read_ref(ref)
    assert oid is not None
    event = read_event(site.repo, ref, oid, site.read)
    assert event is not None
    site.leases.acquire(event, site.repo.read_ref(lease_name(ref)), new_run_id(), 1)


def test_who_lost_a_claim_makes_no_other_for_a_while(fleet: Fleet) -> None:
    branches = ["a", "b", "c"]
    for branch in branches:
        fleet.tasks.task(branch=branch)
    with looked(fleet) as bob, holding(fleet, *branches):
        assert bob.step() in branches
        assert bob.step() is None
        assert bob.desk.ready
        due = bob.desk.next_due()
        assert due is not None
        assert due - time.monotonic() < LONGEST
        bob.desk.recheck(due)
        # By then it knows of all that were taken: none of them is claimed in vain.
        assert {bob.step() for _ in branches} == {*branches}
        assert bob.kinds("hold") == ["running"] * 3


def test_a_task_that_was_lost_is_taken_when_it_is_free_again(fleet: Fleet) -> None:
    fleet.tasks.task()
    with looked(fleet) as bob:
        # It moved on: what Bob has seen can't be claimed any more, but the next state can.
        fleet.tasks.task()
        assert bob.step() == "task"
        due = bob.desk.next_due()
        assert due is not None
        bob.desk.recheck(due)
        assert bob.step() == "task"
    assert fleet.server.state("task") == "done"


def lose(fleet: Fleet, bob: Work, branch: str) -> float:
    """Let Bob claim a task that another has by then; how many seconds he claims nothing."""
    fleet.tasks.task(branch=branch)
    look(bob)
    with holding(fleet, branch):
        assert bob.step() == branch
    due = bob.desk.next_due()
    assert due is not None
    wait = due - time.monotonic()
    bob.desk.recheck(due)
    # So that nothing else is waited for at the next.
    fleet.server.git("update-ref", "-d", HEADS + branch)
    look(bob)
    assert bob.desk.next_due() is None
    return wait


def look(bob: Work) -> None:
    assert bob.desk.sync is not None
    bob.desk.sync.run(leases=True)
    bob.desk.look()


def test_losses_in_a_row_cost_more_and_more_until_a_claim_is_won(fleet: Fleet) -> None:
    with looked(fleet) as bob:
        for branch in "abcd":
            last = lose(fleet, bob, branch)
        assert last > FIRST
        fleet.tasks.task(branch="won")
        look(bob)
        assert bob.step() == "won"
        assert fleet.server.state("won") == "done"
        assert lose(fleet, bob, "e") <= FIRST
