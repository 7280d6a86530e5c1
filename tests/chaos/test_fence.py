"""A runner that was stopped for longer than its lease lands nothing, and loses nothing.

The promise of design section 2, with real daemons, and with the clock of one of them an hour off.
Each branch is a round; many rounds share one stop.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.chaos.world import (
    History,
    Witness,
    assert_sound,
    live_leases,
    marked_processes,
    sow,
    tasks,
    wait_until_all,
)
from tests.fleet import ORIGIN, Fleet
from tests.servers import require, serving
from tests.stage import Daemon, daemon
from tests.world import GitRepo, wait_for

# As many runs as are begun at once have to be renewed by two cores in time.
LEASES = {4: 5, 50: 40}
HOUR = 3600
# Fifty runs at once on a busy machine take their time.
PATIENCE = 300.0
# The first attempt works, and ends when the gate opens; a later one ends by itself.
_SCRIPT = """{line}
echo "$AYNIG_ATTEMPT by $AYNIG_RUN_ID" >work
if [ "$AYNIG_ATTEMPT" = 1 ]; then
  touch {folder}/begun.${{AYNIG_BRANCH#task/}}
  until [ -e {folder}/gate ]; do sleep 0.05; done
  touch {folder}/ended.${{AYNIG_BRANCH#task/}}
fi
"""
_RESCUES = "refs/aynig/rescue/"


@dataclass(frozen=True)
class Stop:
    """What one stop is tried with."""

    transport: str
    # Has the script ended when the lease runs out, or does it run?
    script: str
    # By how many seconds the clocks of holder and taker are wrong.
    holder: int = 0
    taker: int = 0

    def __str__(self) -> str:
        clocks = [(name, getattr(self, name)) for name in ("holder", "taker")]
        wrong = [f"{name} {off:+d}s" for name, off in clocks if off]
        return ", ".join([self.transport, f"script {self.script}", *wrong])


_SHORT = [
    Stop("http", "ended"),
    Stop("daemon", "runs", holder=HOUR),
    Stop("ssh", "ended", holder=-HOUR),
]
_LONG = [
    *_SHORT,
    Stop("http", "runs", holder=-HOUR, taker=HOUR),
    Stop("http", "ended", taker=HOUR),
    Stop("daemon", "ended", taker=-HOUR),
    Stop("ssh", "runs"),
    Stop("file", "runs"),
    Stop("file", "ended", holder=HOUR, taker=-HOUR),
]
_STOPS = [
    *(pytest.param(stop, 4, id=str(stop)) for stop in _SHORT),
    *(pytest.param(stop, 50, id=f"{stop}, 50 times", marks=pytest.mark.chaos) for stop in _LONG),
]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@dataclass
class World:
    """A server, the runner that holds the leases, and the one that takes over."""

    fleet: Fleet
    folder: Path
    witness: Witness
    stack: ExitStack

    def daemon(self, name: str, off: int, branches: int) -> Daemon:
        path = self.fleet.clone(name).path
        args = ("--remote", ORIGIN, "--jobs", str(branches), "--poll", "0.5")
        return self.stack.enter_context(daemon(path, *args, env=_wrong_clock(off)))

    def told_of(self, what: str) -> int:
        return len(list(self.folder.glob(f"{what}.*")))

    def rescued(self, repo: GitRepo) -> dict[str, str]:
        """The rescue refs of a repository, and the file that the script wrote."""
        names = repo.git("for-each-ref", "--format=%(refname)", _RESCUES).split()
        return {name: repo.git("show", f"{name}:work") for name in names}

    @property
    def mirror(self) -> GitRepo:
        """Where the holder keeps what it could not answer."""
        (place,) = self.fleet.clone("holder").git_dir.glob("aynig/remotes/*.git")
        return GitRepo(place, bare=True)


def _wrong_clock(off: int) -> Mapping[str, str]:
    """The variables of a process whose clock is wrong.

    Its monotonic clock is off by as much, from its start on: that changes no duration. (Told to
    leave that one alone, the library makes sleep(3) fail.)
    """
    if not off:
        return {}
    require("faketime", "faketime")
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME": f"{off:+d}s",
    }


def _world(stack: ExitStack, tmp_path: Path, transport: str, branches: int) -> World:
    root = tmp_path / "srv"
    root.mkdir()
    server = stack.enter_context(serving(transport, root))
    os.environ.update(server.env)
    witness = Witness(tmp_path / "executions")
    script = _SCRIPT.format(line=witness.line(), folder=tmp_path)
    fleet = Fleet.make(root, {"go": script}, url=server.url("server.git"))
    fleet.folder = tmp_path
    lease = (("aynig.leaseSeconds", str(LEASES[branches])), ("aynig.grace", "1s"))
    fleet.config = (*server.git_config, *lease)
    sow(fleet.server, tasks(branches, "go"))
    return World(fleet, tmp_path, witness, stack)


def _assert_only_the_taker_has_answered(world: World, branches: int) -> None:
    history = History.of(world.fleet.server)
    history.assert_each_answered_once()
    runs = world.witness.executions()
    assert len(runs) == 2 * branches
    for number in range(branches):
        branch = f"task/{number}"
        assert history.chain(branch) == ["go", "done"]
        first, second = (one.run for one in runs if one.branch == branch)
        fields = world.fleet.server.fields(branch)
        assert (fields["run"], fields["attempt"]) == (second, "2")
        assert world.fleet.server.git("show", f"{branch}:work") == f"2 by {second}"
        assert world.rescued(world.fleet.server)[_RESCUES + first] == f"1 by {first}"
    assert len(world.rescued(world.fleet.server)) == branches
    assert live_leases(world.fleet.server) == []
    assert_sound(world.fleet.server)
    world.fleet.fsck()


@pytest.mark.parametrize(("stop", "branches"), _STOPS)
def test_a_stopped_runner_whose_lease_ran_out_is_refused_and_its_work_is_kept(
    stack: ExitStack, tmp_path: Path, stop: Stop, branches: int
) -> None:
    world = _world(stack, tmp_path, stop.transport, branches)
    holder = world.daemon("holder", stop.holder, branches)
    wait_for(lambda: world.told_of("begun") == branches, what="the scripts", patience=PATIENCE)
    holder.process.send_signal(signal.SIGSTOP)
    if stop.script == "ended":
        (tmp_path / "gate").touch()
        wait_for(
            lambda: world.told_of("ended") == branches, what="the scripts to end", patience=PATIENCE
        )
    began = time.monotonic()
    taker = world.daemon("taker", stop.taker, branches)
    wait_for(
        lambda: len(world.witness.executions()) > branches,
        what="the first to be taken over",
        patience=PATIENCE,
    )
    assert time.monotonic() - began >= LEASES[branches]
    wait_until_all(world.fleet.server, {"done"}, patience=PATIENCE)
    holder.process.send_signal(signal.SIGCONT)
    wait_for(
        lambda: len(holder.of("refused")) == branches,
        what=f"refusals: {holder.lines}",
        patience=PATIENCE,
    )
    assert not holder.of("answer")
    assert len(taker.of("answer")) == branches
    assert len(world.rescued(world.mirror)) == branches
    wait_for(
        lambda: len(world.rescued(world.fleet.server)) == branches,
        what="all to be kept",
        patience=PATIENCE,
    )
    for runner in (holder, taker):
        runner.process.send_signal(signal.SIGTERM)
        assert runner.process.wait() == 0
    assert not marked_processes(world.fleet.clone("holder"))
    _assert_only_the_taker_has_answered(world, branches)
