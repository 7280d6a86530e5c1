"""A runner that is cut off from its remote goes on, and does the right thing when it is back.

A hook of the server stops a push half-way where a test wants that: just before the refs change, or
just after. The cable is cut then, and nobody tells the runner what has become of its push.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from aynig.lease import lease_name
from aynig.model import HEADS
from tests.cable import Cable, wired
from tests.chaos.world import History, Witness, command_of, descendants_of, live_leases
from tests.fleet import ORIGIN, Fleet
from tests.servers import Listening
from tests.stage import Daemon, daemon
from tests.world import GitRepo, wait_for

TASK = HEADS + "task"
LEASE = lease_name(TASK)
RESCUES = "refs/aynig/rescue/"
# The first attempt at `go` ends when the gate opens; another one by itself.
_GO = """{line}
echo "$AYNIG_RUN_ID" >work
[ "$AYNIG_ATTEMPT" != 1 ] || until [ -e {gate} ]; do sleep 0.05; done
"""
_HOOK = """#!/bin/sh
# What git tells of each transaction: prepared, then committed (githooks(5), reference-transaction).
cd {folder} || exit 0
read -r phase ref <armed || exit 0
[ "$1" = "$phase" ] || exit 0
grep -q " $ref\\$" || exit 0
mv armed reached
until [ -e go ]; do sleep 0.02; done
[ "$phase" != prepared ]
"""


@dataclass
class World:
    """A server, a runner behind a cable, and at times another one that is not cut off."""

    fleet: Fleet
    listening: Listening
    cable: Cable
    folder: Path
    witness: Witness
    stack: ExitStack

    @property
    def server(self) -> GitRepo:
        return self.fleet.server

    @property
    def gate(self) -> Path:
        """The file with which the first script ends."""
        return self.folder / "gate"

    def start(self) -> Daemon:
        """The runner behind the cable."""
        path = self.fleet.clone("bob").path
        args = ("--remote", ORIGIN, "--poll", "0.3")
        return self.stack.enter_context(daemon(path, *args, prefix=self.cable.prefix))

    def start_other(self) -> Daemon:
        """A runner on whose way to the server there is no cable."""
        clone = self.fleet.clone("carol")
        clone.git("remote", "set-url", ORIGIN, str(self.server.path))
        return self.stack.enter_context(daemon(clone.path, "--remote", ORIGIN, "--poll", "0.3"))

    def arm(self, phase: str, ref: str) -> None:
        """Have the next push that changes `ref` stop at the server."""
        whole = self.folder / "hook" / "armed.new"
        whole.write_text(f"{phase} {ref}\n")
        whole.rename(whole.with_name("armed"))

    def cut_at_the_push(self) -> None:
        """Cut the cable when that push has come."""
        wait_for((self.folder / "hook" / "reached").exists, what="the push")
        self.cable.cut()
        (self.folder / "hook" / "go").touch()

    def await_script(self) -> None:
        wait_for(lambda: self.witness.executions(), what="the script")

    def await_notice_of_being_cut_off(self, runner: Daemon) -> None:
        wait_for(lambda: _is_cut_off(runner), what=f"it to notice: {runner.lines}")

    def await_look(self, runner: Daemon) -> None:
        """Until a runner that was cut off has looked at the remote again."""
        count = len(runner.of("watching"))
        wait_for(lambda: len(runner.of("watching")) > count, what=f"its look: {runner.lines}")

    def await_end(self) -> None:
        wait_for(lambda: self.server.state("task") == "done", what="the task to be done")

    def kept(self, repo: GitRepo | None = None) -> list[str]:
        """The rescue refs of a repository, the server's by default."""
        return (repo or self.server).git("for-each-ref", "--format=%(refname)", RESCUES).split()

    @property
    def mirror(self) -> GitRepo:
        """That of the runner behind the cable."""
        (place,) = self.fleet.clone("bob").git_dir.glob("aynig/remotes/*.git")
        return GitRepo(place, bare=True)

    def assert_sound(self, *runners: Daemon, starts: int = 1, kept: int = 0) -> None:
        """`starts` of the first script, one answer to each commit; what did not land is kept."""
        for runner in runners:
            runner.process.send_signal(signal.SIGTERM)
            assert runner.process.wait() == 0
        history = History.of(self.server)
        history.assert_each_answered_once()
        assert history.chain("task") == ["go", "check", "done"]
        commits = [one.commit for one in self.witness.executions()]
        asked = [oid for oid, one in history.commits.items() if one.state == "go"]
        assert [commits.count(oid) for oid in asked] == [starts]
        assert len(commits) == starts + 1
        assert len(self.kept()) == len(self.kept(self.mirror)) == kept
        assert live_leases(self.server) == []
        self.fleet.fsck()


def _is_cut_off(runner: Daemon) -> bool:
    """Has something that it tried failed, and a look besides?"""
    return bool(runner.of("problem"))


def _waits(runner: Daemon) -> bool:
    return any(line["hold"] == "unreachable" for line in runner.of("hold", "task"))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


_LONG = pytest.mark.chaos


@pytest.fixture(
    params=["http", pytest.param("daemon", marks=_LONG), pytest.param("ssh", marks=_LONG)]
)
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def world(stack: ExitStack, transport: str, tmp_path: Path) -> World:
    root = tmp_path / "srv"
    root.mkdir()
    witness = Witness(tmp_path / "executions")
    scripts = {
        "go": _GO.format(line=witness.line(), gate=tmp_path / "gate"),
        "check": f"{witness.line()}test -s work",
    }
    fleet = Fleet.make(root, scripts, workflow="states:\n  go: {next: check}\n")
    server, cable = stack.enter_context(wired(transport, root, "server.git"))
    os.environ.update(server.env)
    settings = {"leaseSeconds": "5", "remoteTimeout": "1s", "grace": "1s"}
    own = tuple((f"aynig.{key}", value) for key, value in settings.items())
    fleet = Fleet(tmp_path, fleet.server, server.url("server.git"), (*server.git_config, *own))
    fleet.clone("bob").git("remote", "set-url", ORIGIN, cable.url)
    (tmp_path / "hook").mkdir()
    hook = fleet.server.path / "hooks/reference-transaction"
    hook.write_text(_HOOK.format(folder=shlex.quote(str(tmp_path / "hook"))))
    hook.chmod(0o755)
    fleet.tasks.task()
    # Whatever a test has left cut, a runner has to be able to end.
    stack.callback(cable.mend)
    return World(fleet, server, cable, tmp_path, witness, stack)


# --- nobody else is there: the lease stays its own ---------------------------------------------


def test_it_is_cut_off_before_its_first_look(world: World) -> None:
    world.cable.cut()
    world.gate.touch()
    bob = world.start()
    world.await_notice_of_being_cut_off(bob)
    assert not bob.of("run")
    world.cable.mend()
    world.await_end()
    world.assert_sound(bob)


@pytest.mark.parametrize("transport", ["http"], indirect=True)
def test_it_is_cut_off_while_it_fetches(world: World) -> None:
    """A fetch has half an hour; one that brings nothing at all has not."""
    world.gate.touch()
    packer = world.folder / "hook" / "packer"
    packer.write_text(f'#!/bin/sh\ntouch {world.folder}/fetch\nsleep 1\nexec "$@"\n')
    packer.chmod(0o755)
    # Not from a repository's own settings (git-config(1), uploadpack.packObjectsHook).
    with (world.listening.home / ".gitconfig").open("a") as file:
        file.write(f"[uploadpack]\n\tpackObjectsHook = {packer}\n")
    bob = world.start()
    wait_for((world.folder / "fetch").exists, what="its fetch")
    world.cable.cut()
    world.await_notice_of_being_cut_off(bob)
    world.cable.mend()
    world.await_end()
    world.assert_sound(bob)


@pytest.mark.parametrize("phase", ["prepared", "committed"])
def test_it_is_cut_off_while_it_claims(world: World, phase: str) -> None:
    world.gate.touch()
    world.arm(phase, LEASE)
    bob = world.start()
    world.cut_at_the_push()
    wait_for(lambda: _waits(bob), what=f"it to wait: {bob.lines}")
    assert bool(world.fleet.lease()) == (phase == "committed")
    world.cable.mend()
    world.await_end()
    world.assert_sound(bob)


def test_it_goes_on_with_its_script_and_answers_when_it_is_back(world: World) -> None:
    bob = world.start()
    world.await_script()
    world.cable.cut()
    world.await_notice_of_being_cut_off(bob)
    world.gate.touch()
    wait_for(lambda: _waits(bob), what=f"its answer to wait: {bob.lines}")
    assert world.server.state("task") == "go"
    world.cable.mend()
    world.await_end()
    world.assert_sound(bob)


@pytest.mark.parametrize("phase", ["prepared", "committed"])
def test_it_is_cut_off_while_it_renews(world: World, phase: str) -> None:
    bob = world.start()
    world.await_script()
    world.arm(phase, LEASE)
    world.cut_at_the_push()
    world.await_notice_of_being_cut_off(bob)
    world.gate.touch()
    wait_for(lambda: _waits(bob), what=f"its answer to wait: {bob.lines}")
    world.cable.mend()
    world.await_end()
    world.assert_sound(bob)


@pytest.mark.parametrize("phase", ["prepared", "committed"])
def test_it_is_cut_off_while_it_answers(world: World, phase: str) -> None:
    world.arm(phase, TASK)
    world.gate.touch()
    bob = world.start()
    world.cut_at_the_push()
    wait_for(lambda: _waits(bob), what=f"its answer to wait: {bob.lines}")
    assert world.server.state("task") == ("check" if phase == "committed" else "go")
    world.cable.mend()
    world.await_end()
    assert not bob.of("refused")
    world.assert_sound(bob)


# --- another runner takes over -----------------------------------------------------------------


def test_what_it_never_saw_others_have_done(world: World) -> None:
    world.cable.cut()
    world.gate.touch()
    bob = world.start()
    world.await_notice_of_being_cut_off(bob)
    carol = world.start_other()
    world.await_end()
    world.cable.mend()
    world.await_look(bob)
    world.assert_sound(bob, carol)


@pytest.mark.parametrize("phase", ["prepared", "committed"])
def test_what_it_claimed_in_vain_others_do(world: World, phase: str) -> None:
    world.gate.touch()
    world.arm(phase, LEASE)
    bob = world.start()
    world.cut_at_the_push()
    wait_for(lambda: _waits(bob), what=f"it to wait: {bob.lines}")
    carol = world.start_other()
    world.await_end()
    world.cable.mend()
    world.await_look(bob)
    assert not bob.of("run")
    world.assert_sound(bob, carol)


@pytest.mark.parametrize(
    ("ends", "phase"),
    [
        pytest.param(True, "", id="script ended"),
        pytest.param(False, "", id="script runs"),
        pytest.param(True, "prepared", id="script ended, renewal did not land"),
        pytest.param(True, "committed", id="script ended, renewal landed"),
        pytest.param(False, "prepared", id="script runs, renewal did not land", marks=_LONG),
        pytest.param(False, "committed", id="script runs, renewal landed", marks=_LONG),
    ],
)
def test_what_others_took_over_meanwhile_it_can_not_answer(
    world: World, ends: bool, phase: str
) -> None:
    """`phase` is that of the renewal in which it is cut off."""
    bob = world.start()
    world.await_script()
    if phase:
        world.arm(phase, LEASE)
        world.cut_at_the_push()
    else:
        world.cable.cut()
    if ends:
        world.gate.touch()
        wait_for(lambda: _waits(bob), what=f"its answer to wait: {bob.lines}")
    carol = world.start_other()
    world.await_end()
    world.cable.mend()
    bob.wait_for("refused", "task")
    wait_for(lambda: world.kept(), what="its work on the server")
    (kept,) = world.kept()
    first = world.witness.executions()[0].run
    assert kept == RESCUES + first
    assert world.server.git("show", f"{kept}:work") == first
    world.assert_sound(bob, carol, starts=2, kept=1)


def _cut_at_its_answer(world: World, moment: str) -> tuple[Daemon, Daemon]:
    """Bob is cut off in the push of his answer, and is back when another has gone on."""
    world.arm(moment, TASK)
    world.gate.touch()
    bob = world.start()
    world.cut_at_the_push()
    wait_for(lambda: _waits(bob), what=f"its answer to wait: {bob.lines}")
    carol = world.start_other()
    world.await_end()
    world.cable.mend()
    return bob, carol


def test_an_answer_that_did_not_land_others_give(world: World) -> None:
    bob, carol = _cut_at_its_answer(world, "prepared")
    bob.wait_for("refused", "task")
    wait_for(lambda: world.kept(), what="its work on the server")
    world.assert_sound(bob, carol, starts=2, kept=1)


def test_an_answer_that_landed_unseen_is_one_also_when_others_have_gone_on(world: World) -> None:
    bob, carol = _cut_at_its_answer(world, "committed")
    wait_for(lambda: bob.of("answer") + bob.of("refused"), what=f"how it ended: {bob.lines}")
    assert not bob.of("refused")
    world.assert_sound(bob, carol)


# --- stopping without a remote -----------------------------------------------------------------


def _is_asking(runner: Daemon) -> bool:
    return any("ls-remote" in command_of(pid) for pid in descendants_of(runner.process.pid))


def test_a_look_that_hangs_keeps_no_daemon_from_stopping(world: World) -> None:
    world.fleet.clone("bob").git("config", "aynig.remoteTimeout", "1h")
    world.cable.cut()
    bob = world.start()
    wait_for(lambda: _is_asking(bob), what="its look")
    bob.process.send_signal(signal.SIGTERM)
    assert bob.process.wait(60) == 0


def test_a_daemon_that_is_cut_off_stops_and_keeps_the_work_of_its_script(world: World) -> None:
    world.fleet.clone("bob").git("config", "aynig.remoteTimeout", "1h")
    bob = world.start()
    world.await_script()
    world.cable.cut()
    bob.process.send_signal(signal.SIGTERM)
    assert bob.process.wait(60) == 0
    (kept,) = world.kept(world.mirror)
    assert world.mirror.git("show", f"{kept}:work") == world.witness.executions()[0].run
    world.cable.mend()
    carol = world.start_other()
    world.await_end()
    # It brings what it has kept as soon as it is back.
    bob = world.start()
    wait_for(lambda: world.kept(), what="its work on the server")
    world.assert_sound(bob, carol, starts=2, kept=1)


@pytest.mark.parametrize("phase", ["prepared", "committed"])
def test_an_answer_whose_runner_stops_before_it_knows_lands_at_its_next_start(
    world: World, phase: str
) -> None:
    world.fleet.clone("bob").git("config", "aynig.remoteTimeout", "1h")
    world.gate.touch()
    world.arm(phase, TASK)
    bob = world.start()
    world.cut_at_the_push()
    bob.process.send_signal(signal.SIGTERM)
    assert bob.process.wait(60) == 0
    assert len(world.kept(world.mirror)) == 1
    world.cable.mend()
    bob = world.start()
    world.await_end()
    bob.process.send_signal(signal.SIGTERM)
    assert bob.process.wait() == 0
    assert len(world.witness.executions()) == 2


# --- a server that is not there ------------------------------------------------------------------


@pytest.mark.parametrize("silent", [True, False], ids=["silent", "refuses"])
def test_a_run_on_a_server_that_is_away_ends_with_one_line(world: World, silent: bool) -> None:
    if silent:
        world.cable.cut()
    else:
        world.listening.stop()
    done = subprocess.run(
        [*world.cable.prefix, sys.executable, "-m", "aynig", "run", "--remote", ORIGIN],
        cwd=world.fleet.clone("bob").path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("aynig: bob:origin: ")
    assert done.stderr.count("\n") == 1
