"""Draining, stopping at once, and taking over from a runner that was killed."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.chaos.world import (
    Runner,
    Witness,
    assert_nothing_left,
    assert_sound,
    is_running,
    live_leases,
    marked_processes,
    plant,
    runners,
    tasks,
)
from tests.world import GitRepo, wait_for

_COUNT = 3
_JOBS = ("--jobs", str(_COUNT))
# It ends when the gate opens; whoever ends it earlier finds its work.
_GATED = """#!/bin/sh
{line}echo work >work
until [ -e {gate} ]; do sleep 0.02; done
"""
_STUBBORN = """#!/bin/sh
trap '' TERM
{line}echo work >work
while :; do sleep 0.02; done
"""


def _start(repo: GitRepo, tmp_path: Path, script: str) -> tuple[Witness, Path]:
    witness, gate = Witness(tmp_path / "executions"), tmp_path / "gate"
    text = script.format(line=witness.line(), gate=gate)
    plant(repo, tasks(_COUNT, "work"), {".aynig/work": text})
    return witness, gate


def _await_scripts(witness: Witness, count: int, runner: Runner) -> None:
    wait_for(lambda: len(witness.executions()) >= count, what=f"scripts: {runner.text()}")


def _rescued(repo: GitRepo) -> list[str]:
    return repo.git("for-each-ref", "--format=%(refname)", "refs/aynig/rescue/").split()


def _is_draining(runner: Runner) -> bool:
    """A daemon that drains takes its doorbell down first."""
    return not list((Path(f"/proc/{runner.pid}/cwd") / ".git/aynig/wake").glob(f"{runner.pid}*"))


def _assert_free_and_rescued(repo: GitRepo) -> None:
    assert live_leases(repo) == []
    rescued = _rescued(repo)
    assert len(rescued) == _COUNT
    for ref in rescued:
        assert repo.git("show", f"{ref}:work") == "work"
    for number in range(_COUNT):
        assert repo.state(f"task/{number}") == "work"
    assert_nothing_left(repo)
    assert_sound(repo)


@pytest.mark.parametrize(
    ("command", "number", "status"),
    [
        ("daemon", signal.SIGTERM, 0),
        ("daemon", signal.SIGINT, 130),
        ("run", signal.SIGTERM, 130),
        ("run", signal.SIGINT, 130),
    ],
)
def test_scripts_that_end_within_their_grace_have_their_answers_land(
    repo: GitRepo, tmp_path: Path, command: str, number: signal.Signals, status: int
) -> None:
    witness, gate = _start(repo, tmp_path, _GATED)
    repo.commit("late\n\naynig: work\n", branch="late", parent=repo.tip())
    with runners(repo, tmp_path) as fleet:
        runner = fleet.start(command, *_JOBS)
        _await_scripts(witness, _COUNT, runner)
        runner.process.send_signal(number)
        wait_for(lambda: _is_draining(runner), what="the drain")
        gate.touch()
        assert runner.wait() == status, runner.text()
    done = [n for n in range(_COUNT) if repo.state(f"task/{n}") == "done"]
    started = {execution.branch for execution in witness.executions()}
    assert {f"task/{n}" for n in done} == started - {"late"}
    assert (repo.state("late") == "done") == ("late" in started)
    assert len(started) == _COUNT
    assert _rescued(repo) == []
    assert_nothing_left(repo)
    assert_sound(repo)


@pytest.mark.parametrize("script", [_GATED, _STUBBORN], ids=["obedient", "ignores SIGTERM"])
def test_scripts_that_outlast_their_grace_are_stopped_and_their_work_is_kept(
    repo: GitRepo, tmp_path: Path, script: str
) -> None:
    witness, _ = _start(repo, tmp_path, script)
    repo.git("config", "aynig.grace", "0.3s")
    with runners(repo, tmp_path) as fleet:
        runner = fleet.daemon(*_JOBS)
        _await_scripts(witness, _COUNT, runner)
        wait_for(lambda: len(marked_processes(repo)) >= _COUNT, what="the scripts")
        assert runner.stop() == 0, runner.text()
    _assert_free_and_rescued(repo)


def test_a_second_signal_stops_at_once(repo: GitRepo, tmp_path: Path) -> None:
    witness, _ = _start(repo, tmp_path, _STUBBORN)
    repo.git("config", "aynig.grace", "10h")
    with runners(repo, tmp_path) as fleet:
        runner = fleet.daemon(*_JOBS)
        _await_scripts(witness, _COUNT, runner)
        runner.process.send_signal(signal.SIGTERM)
        wait_for(lambda: _is_draining(runner), what="the drain")
        assert runner.stop() == 0, runner.text()
    _assert_free_and_rescued(repo)


def test_what_a_killed_run_held_is_taken_over_at_once_and_its_scripts_end_first(
    repo: GitRepo, tmp_path: Path
) -> None:
    witness, gate = Witness(tmp_path / "executions"), tmp_path / "gate"
    # The second attempt tells whether the first one's process is still there.
    script = f"""#!/bin/sh
{witness.line()}
if mkdir {tmp_path}/first.$$ 2>/dev/null && [ ! -e {gate} ]; then
  echo $$ >{tmp_path}/pid.$(basename "$AYNIG_BRANCH")
  trap '' TERM HUP
  while :; do sleep 0.02; done
fi
pid=$(cat {tmp_path}/pid.$(basename "$AYNIG_BRANCH"))
# A zombie is dead, whoever is late to notice.
case "$(cut -d' ' -f3 "/proc/$pid/stat" 2>/dev/null)" in ''|Z|X) exit 0 ;; esac
exit 9
"""
    plant(repo, tasks(_COUNT, "work"), {".aynig/work": script})
    repo.git("config", "aynig.leaseSeconds", "1h")
    with runners(repo, tmp_path) as fleet:
        first = fleet.start("run", *_JOBS)
        wait_for(lambda: len(list(tmp_path.glob("pid.*"))) == _COUNT, what="all scripts")
        wait_for(lambda: all(p.read_text() for p in tmp_path.glob("pid.*")), what="their pids")
        first.process.kill()
        first.wait()
        assert len(live_leases(repo)) == _COUNT
        orphans = [int(path.read_text()) for path in tmp_path.glob("pid.*")]
        assert all(map(is_running, orphans))
        gate.touch()
        second = fleet.start("run", *_JOBS)
        assert second.wait() == 0, second.text()
    assert not any(map(is_running, orphans))
    assert len(witness.executions()) == 2 * _COUNT
    assert all(repo.state(f"task/{n}") == "done" for n in range(_COUNT))
    assert_nothing_left(repo)
    assert_sound(repo)


def test_what_a_script_had_done_when_its_runner_was_killed_is_kept(
    repo: GitRepo, tmp_path: Path
) -> None:
    ready, gate = tmp_path / "ready", tmp_path / "gate"
    script = f"""#!/bin/sh
[ -e {gate} ] && exit 0
echo committed >one; git add one; git -c user.name=a -c user.email=a@b commit -qm "half"
echo uncommitted >two
touch {ready}
while :; do sleep 0.02; done
"""
    plant(repo, tasks(1, "work"), {".aynig/work": script})
    with runners(repo, tmp_path) as fleet:
        first = fleet.start("run")
        wait_for(ready.exists, what="the script")
        first.process.kill()
        first.wait()
        gate.touch()
        second = fleet.start("run")
        assert second.wait() == 0, second.text()
    (kept,) = _rescued(repo)
    assert repo.git("show", f"{kept}:one") == "committed"
    assert repo.git("show", f"{kept}:two") == "uncommitted"
    assert repo.state("task/0") == "done"
    assert_nothing_left(repo)
    assert_sound(repo)
