"""A daemon with ten thousand idle branches: it rests, and misses nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.world import (
    Runner,
    Witness,
    assert_nothing_left,
    cpu_seconds,
    plant,
    resident_mb,
    runners,
    tasks,
)
from tests.world import GitRepo, wait_for

_COUNT = 10_000
_SCRIPT = '#!/bin/sh\n{line}echo "aynig: done" >>"$AYNIG_RESPONSE"\n'
# So seldom that only the watching can be what finds a commit while a test lasts.
_NEVER = ("--poll", "3600")


@pytest.fixture
def daemon(repo: GitRepo, tmp_path: Path) -> Iterator[Runner]:
    """A daemon on 10,000 packed idle branches, through with its first look."""
    script = _SCRIPT.format(line=Witness(tmp_path / "executions").line())
    plant(repo, tasks(_COUNT, "done", "idle"), {".aynig/work": script})
    repo.git("pack-refs", "--all")
    with runners(repo, tmp_path) as fleet:
        runner = fleet.daemon(*_NEVER)
        runner.await_ready()
        yield runner
        assert runner.stop() == 0, runner.text()
    assert_nothing_left(repo)


def _assert_noticed(repo: GitRepo, branch: str) -> None:
    """A commit on a branch gets its answer."""
    parent = repo.tip(branch) or repo.tip()
    oid = repo.commit("go\n\naynig: work\n", branch=branch, parent=parent)
    wait_for(
        lambda: repo.fields(f"refs/heads/{branch}").get("answers") == oid,
        what=f"the answer on {branch}",
    )


def test_a_commit_on_any_of_them_is_noticed(repo: GitRepo, daemon: Runner) -> None:
    for number in (0, 1, 4999, 9999, 0):
        _assert_noticed(repo, f"idle/{number}")


def test_packing_and_collecting_in_between_hides_nothing(repo: GitRepo, daemon: Runner) -> None:
    _assert_noticed(repo, "idle/17")
    repo.git("pack-refs", "--all", "--prune")
    _assert_noticed(repo, "idle/17")
    _assert_noticed(repo, "idle/18")
    repo.git("gc", "--quiet", "--prune=now")
    _assert_noticed(repo, "idle/18")
    _assert_noticed(repo, "idle/19")
    _assert_noticed(repo, "new/in/folders/of/its/own")
    repo.git("pack-refs", "--all", "--prune")
    _assert_noticed(repo, "new/in/folders/of/its/own")


def test_a_commit_that_is_packed_at_once_is_noticed(repo: GitRepo, daemon: Runner) -> None:
    os.kill(daemon.pid, signal.SIGSTOP)
    oid = repo.commit("go\n\naynig: work\n", branch="idle/77")
    repo.git("pack-refs", "--all", "--prune")
    os.kill(daemon.pid, signal.SIGCONT)
    wait_for(lambda: repo.fields("refs/heads/idle/77").get("answers") == oid, what="its answer")


def test_after_an_overflow_of_the_queue_everything_is_looked_at(
    repo: GitRepo, daemon: Runner
) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    _assert_noticed(repo, "idle/1")
    # While the daemon is stopped nobody empties its queue: a ref makes three events or more.
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        main = repo.tip()
        names = [f"refs/heads/flood/{n}" for n in range(limit // 3 + 200)]
        repo.git("update-ref", "--stdin", stdin="".join(f"create {n} {main}\n" for n in names))
        oid = repo.commit("go\n\naynig: work\n", branch="idle/5000")
    finally:
        os.kill(daemon.pid, signal.SIGCONT)
    wait_for(lambda: repo.fields("refs/heads/idle/5000").get("answers") == oid, what="its answer")
    _assert_noticed(repo, "idle/5001")
    _assert_noticed(repo, "flood/7")


def test_resting_costs_next_to_nothing(repo: GitRepo, daemon: Runner, tmp_path: Path) -> None:
    _assert_noticed(repo, "idle/3")
    sleeper = tmp_path / "sleeper"
    before = cpu_seconds(daemon.pid)
    # Five seconds of a clock that is not ours: the figure is a report, the bound a safety net.
    os.spawnlp(os.P_WAIT, "sleep", str(sleeper), "5")
    used, memory = (cpu_seconds(daemon.pid) - before) / 5, resident_mb(daemon.pid)
    print(f"10,000 idle branches: {used:.1%} of one core, {memory:.0f} MB resident")
    assert used < 0.2
    assert memory < 150
