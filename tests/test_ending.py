"""How a run on a remote ends whose pushes had an outcome that nobody could tell.

The server takes a push and dies before it says so, and what is asked of it next is not answered:
that is what a runner sees whose network goes away at that moment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from aynig.ending import Finished, Pending, abandon, conclude, conclude_again
from aynig.errors import Unreachable
from aynig.lease import lease_name
from aynig.model import HEADS, Lease
from aynig.respond import Answer
from aynig.site import Site
from tests import values
from tests.fleet import Fleet
from tests.servers import serving
from tests.world import GitRepo, wait_for

RESCUES = "refs/aynig/rescue/"


@dataclass
class Line:
    """The way of one runner to the server: it can be cut for what is asked next."""

    server: GitRepo
    site: Site
    dead: bool = False

    def __post_init__(self) -> None:
        assert self.site.mirror is not None
        self.site.mirror.remote.observe = self._pass

    def _pass(self, args: Sequence[str]) -> None:
        if self.dead:
            raise Unreachable("nobody answers")
        if self._hook.exists():
            self.dead = True

    @property
    def _hook(self) -> Path:
        return self.server.path / "hooks/post-receive"

    def cut_after_the_next_push(self) -> None:
        self._hook.write_text("#!/bin/sh\nkill -9 $PPID\n")
        self._hook.chmod(0o755)

    def mend(self) -> None:
        self._hook.unlink(missing_ok=True)
        self.dead = False


@dataclass
class World:
    fleet: Fleet
    bob: Site
    line: Line
    lease: Lease
    answer: Answer

    @property
    def pending(self) -> Pending:
        """An answer that is to land."""
        assert self.bob.mirror is not None
        event = replace(values.event(oid=self.lease.trigger), ref=self.lease.ref)
        event = replace(event, tree=self.bob.repo.commit(event.oid).tree)
        plan = values.plan(event=event)
        return Pending(plan, self.lease, values.result(), lambda: self.answer)

    def conclude_unseen(self) -> Pending:
        """The answer lands, and all that is known of it is that nobody answers."""
        self.line.cut_after_the_next_push()
        ended = conclude(self.bob, self.pending)
        assert isinstance(ended, Pending)
        assert self.fleet.server.tip("task") == self.answer.oid
        return ended

    def kept(self) -> list[str]:
        return [*self.bob.repo.refs_below(RESCUES)]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    fleet = Fleet.make(tmp_path, {"go": "exit 0"})
    oid = fleet.tasks.task()
    bob = fleet.open("bob")
    assert bob.mirror is not None
    bob.mirror.sync(leases=True)
    lease = bob.leases.acquire(values.event(oid=oid), None, "20260131T093000Z-1f3a9c2e", 1)
    message = f"go -> done\n\naynig: done\naynig: answers: {oid}\n"
    tree = bob.repo.commit(oid).tree
    answer = bob.repo.write_commit(tree=tree, parents=[oid], message=message)
    yield World(fleet, bob, Line(fleet.server, bob), lease, Answer(answer, "done", "", ""))
    bob.close()


def test_an_answer_that_landed_unseen_has_landed(world: World) -> None:
    pending = world.conclude_unseen()
    world.line.mend()
    # Before the next look: the mirror does not know yet.
    ended = conclude_again(world.bob, pending)
    assert isinstance(ended, Finished)
    assert ended.ending == "answered"
    assert world.kept() == []


def test_it_has_landed_also_where_others_have_gone_on_from_it(world: World) -> None:
    pending = world.conclude_unseen()
    world.line.mend()
    world.fleet.server.commit("done\n\naynig: again\n", branch="task")
    ended = conclude_again(world.bob, pending)
    assert isinstance(ended, Finished)
    assert ended.ending == "answered"
    assert world.kept() == []


def test_a_renewal_that_landed_unseen_is_no_loss_of_the_lease(world: World) -> None:
    world.line.cut_after_the_next_push()
    with pytest.raises(Unreachable):
        world.bob.leases.renew(world.lease)
    assert world.fleet.lease() != world.lease.oid
    world.line.mend()
    # The server says that the lease is another one, and can't be asked which.
    world.line.cut_after_the_next_push()
    with pytest.raises(Unreachable):
        world.bob.leases.renew(world.lease)
    world.line.mend()
    assert world.bob.leases.renew(world.lease).oid == world.fleet.lease()


def test_who_stops_without_a_remote_keeps_answer_and_lease(world: World) -> None:
    world.line.dead = True
    pending = conclude(world.bob, world.pending)
    assert isinstance(pending, Pending)
    ended = abandon(world.bob, pending)
    assert ended.detail.endswith(f"; the answer is kept under {RESCUES}{world.lease.run}")
    world.line.mend()
    assert world.bob.leases.settle()
    assert world.fleet.lease() == world.lease.oid
    assert world.kept() == [RESCUES + world.lease.run]


def test_work_that_was_refused_is_on_the_remote_without_waiting_for_the_next_poll(
    tmp_path: Path,
) -> None:
    gate = tmp_path / "gate"
    script = f"echo work >work; touch {tmp_path}/begun; until [ -e {gate} ]; do sleep 0.05; done"
    fleet = Fleet.make(tmp_path / "srv", {"go": script})
    fleet.tasks.task()
    # Over a network: nobody here is woken by what happens in its files.
    with serving("daemon", tmp_path / "srv") as server:
        fleet.url = server.url("server.git")
        with fleet.live("bob") as told:
            wait_for((tmp_path / "begun").exists, what="the script")
            oid = fleet.server.commit("mine again", branch="task")
            # Nor is there anything of its own to be pushed any more, with which it could go along.
            fleet.server.git("update-ref", lease_name(HEADS + "task"), oid)
            gate.touch()
            wait_for(lambda: told.of("refused"), what="the refusal")
            (kept,) = wait_for(lambda: fleet.server.git("for-each-ref", RESCUES).splitlines())
            assert fleet.server.git("show", f"{kept.split()[2]}:work") == "work"
