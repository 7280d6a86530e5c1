"""Of many who push at once to one ref of a remote, exactly one wins (design section 2).

Each pusher has a clone and a mirror of its own, and takes leases and lands answers by the same
calls as a runner. The oracle is what plain git says of the server's refs.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from aynig.errors import RefBusy, RefMoved, Unreachable
from aynig.lease import lease_name
from aynig.model import Event, Lease
from aynig.respond import Answer, land
from aynig.site import Site
from tests import values
from tests.chaos.world import History, sow
from tests.fleet import Fleet
from tests.servers import TRANSPORTS, Server, serving

PUSHERS = 20
_FEW = {"ssh": 2}
_MANY = {"ssh": 10}
_LENGTHS = [
    pytest.param(_FEW, id="few rounds"),
    pytest.param(_MANY, id="many rounds", marks=pytest.mark.chaos),
]


@dataclass
class Crowd:
    """Pushers that wait for each other, and then push at once."""

    fleet: Fleet
    pushers: list[Site]
    pool: ThreadPoolExecutor
    barrier: threading.Barrier

    def race(self, push: Callable[[int, Site], str]) -> str:
        """What the one winner has pushed; fails unless each other one was told that it lost.

        A server on a busy machine resets a connection now and then: who was cut off was told
        nothing, and has not won for that.
        """

        def attempt(number: int) -> str | Exception:
            self.barrier.wait()
            try:
                return push(number, self.pushers[number])
            except Exception as error:
                return error

        ends = list(self.pool.map(attempt, range(len(self.pushers))))
        winners = [end for end in ends if isinstance(end, str)]
        others = [e for e in ends if not isinstance(e, str | RefMoved | RefBusy | Unreachable)]
        assert not others, others
        assert len(winners) == 1, ends
        return winners[0]

    def at(self, *refs: str) -> list[str]:
        """What refs of the server point at."""
        return self.fleet.server.git("rev-parse", *refs).split("\n")


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(transport: str, tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "srv").mkdir()
    with serving(transport, tmp_path / "srv") as server:
        yield server


@pytest.fixture
def fleet(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)
    fleet = Fleet.make(server.root, {"go": "exit 0"}, url=server.url("server.git"))
    fleet.folder = tmp_path
    fleet.config = server.git_config
    return fleet


@pytest.fixture
def crowd(fleet: Fleet) -> Iterator[Crowd]:
    first = fleet.clone("pusher-0")
    with ExitStack() as stack:
        pushers = []
        for number in range(PUSHERS):
            if number:
                place = fleet.folder / f"pusher-{number}"
                shutil.copytree(first.path, place, symlinks=True)
                fleet.clones[place.name] = replace(first, path=place)
            site = fleet.open(f"pusher-{number}")
            stack.callback(site.close)
            pushers.append(site)
        pool = stack.enter_context(ThreadPoolExecutor(PUSHERS))
        yield Crowd(fleet, pushers, pool, threading.Barrier(PUSHERS))


def _everybody_looks(crowd: Crowd) -> None:
    def look(site: Site) -> None:
        assert site.mirror is not None
        site.mirror.sync(leases=True)

    list(crowd.pool.map(look, crowd.pushers))


def _take(crowd: Crowd, event: Event, seen: str | None, word: str) -> Lease:
    """All try to replace what was `seen` of a branch's lease by a lease of their own."""
    taken: dict[str, Lease] = {}

    def push(number: int, site: Site) -> str:
        lease = site.leases.acquire(event, seen, f"{word}-{number}", 1)
        taken[lease.oid] = lease
        return lease.oid

    winner = crowd.race(push)
    assert crowd.at(lease_name(event.ref), event.ref) == [winner, event.oid]
    return taken[winner]


def _answer(crowd: Crowd, event: Event, lease: Lease) -> str:
    """All believe that the lease is theirs, and answer."""

    def push(number: int, site: Site) -> str:
        oid = site.repo.write_commit(
            tree=site.repo.commit(event.oid).tree,
            parents=[event.oid],
            message=f"go -> done: {number}\n\naynig: done\naynig: answers: {event.oid}\n",
        )
        plan = values.plan(event=event)
        land(site.repo, site.store, plan, lease, Answer(oid, "done", "", ""))
        return oid

    winner = crowd.race(push)
    assert crowd.at(event.ref, lease.name) == [winner, winner]
    return winner


@pytest.mark.parametrize("lengths", _LENGTHS)
def test_of_twenty_pushers_at_one_ref_exactly_one_wins_each_round(
    crowd: Crowd, transport: str, lengths: dict[str, int]
) -> None:
    rounds = lengths.get(transport, 4 if lengths is _FEW else 50)
    server = crowd.fleet.server
    names = [f"task/{number}" for number in range(rounds)]
    sow(server, {name: f"{name}\n\naynig: go\n" for name in names})
    _everybody_looks(crowd)
    for name in names:
        oid = server.tip(name)
        event = replace(values.event(branch=name, oid=oid), tree=server.git("rev-parse", f"{oid}:"))
        created = _take(crowd, event, None, "create")
        replaced = _take(crowd, event, created.oid, "replace")
        _answer(crowd, event, replaced)
    history = History.of(server)
    history.assert_each_answered_once()
    assert all(history.state(name) == "done" for name in names)
    crowd.fleet.fsck()
