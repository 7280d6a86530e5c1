"""The mirror of a remote: what killed gits and runners leave in it is no obstacle."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from aynig.git.mirror import Mirror
from aynig.lease import lease_name
from aynig.model import HEADS
from tests.fleet import Fleet

_LEASE = lease_name(f"{HEADS}task")
_LOCKS = [
    # As a look at the default branch of the remote leaves it,
    "HEAD.lock",
    # and a packing.
    "packed-refs.lock",
    f"{HEADS}main.lock",
    f"{HEADS}task.lock",
    f"{_LEASE}.lock",
]


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    fleet = Fleet.make(tmp_path, {"go": "exit 0"})
    fleet.tasks.task(branch="first")
    fleet.run("bob")
    return fleet


def _place(fleet: Fleet) -> Path:
    (place,) = (fleet.clone("bob").git_dir / "aynig" / "remotes").iterdir()
    return place


def _leave(fleet: Fleet, lock: str) -> Path:
    path = _place(fleet) / lock
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def _opened(fleet: Fleet) -> Mirror:
    mirror = fleet.open("bob").mirror
    assert mirror is not None
    return mirror


@pytest.mark.parametrize("lock", _LOCKS)
def test_a_lock_of_a_killed_git_is_gone_with_the_next_start(fleet: Fleet, lock: str) -> None:
    path = _leave(fleet, lock)
    fleet.server.commit("The default branch moves as well")
    fleet.tasks.task()
    told = fleet.run("bob")
    assert fleet.server.state("task") == "done"
    assert [notice.detail for notice in told.of("problem")] == [f"after a crash: removed {path}"]
    assert not path.exists()


def test_a_runner_that_lives_looks_past_the_lock_of_a_killed_git(fleet: Fleet) -> None:
    mirror = _opened(fleet)
    mirror.sync(leases=True)
    trigger = fleet.tasks.task()
    fleet.server.git("update-ref", _LEASE, trigger)
    _leave(fleet, f"{HEADS}task.lock")
    assert mirror.sync(leases=True)
    assert mirror.repo.read_ref(f"{HEADS}task") == trigger
    assert mirror.repo.read_ref(_LEASE) == trigger


def test_a_lock_stays_while_a_git_is_at_work_there(fleet: Fleet) -> None:
    mirror, path = _opened(fleet), _leave(fleet, _LOCKS[0])
    with subprocess.Popen(
        ["git", f"--git-dir={_place(fleet)}", "update-ref", "--stdin"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as git:
        assert git.stdin is not None
        assert git.stdout is not None
        git.stdin.write(b"start\n")
        git.stdin.flush()
        assert git.stdout.readline() == b"start: ok\n"
        assert mirror.clear_locks() == []
        assert path.exists()
    assert mirror.clear_locks() == [path]


def test_what_a_killed_process_has_half_made_is_deleted_by_the_next_one(fleet: Fleet) -> None:
    place = _place(fleet)
    with subprocess.Popen(["true"]) as dead:
        pass
    half = place.with_name(f".{place.name}.{dead.pid}")
    (half / "objects").mkdir(parents=True)
    trash = place.with_name("trash-0a1b2c3d")
    trash.mkdir()
    config = place / f".config.{dead.pid}"
    config.touch()
    # Somebody is just making this one.
    made = place.with_name(f".{place.name}.{os.getpid()}")
    made.mkdir()
    fleet.open("bob").close()
    assert not any(path.exists() for path in (half, trash, config))
    assert made.exists()
