"""Locks that a crash left are told from locks that somebody holds."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from aynig.errors import RefBusy
from aynig.git.locks import LockJournal, StaleLock, clear_stale_locks, find_stale_locks
from aynig.git.refs import RefEdit, RefStore
from aynig.git.repo import Repo
from aynig.model import HEADS
from aynig.processes import is_alive, is_running, this_holder
from tests.world import GitRepo, wait_for

OLD, NEW = HEADS + "old", HEADS + "new"

# Takes the locks of both refs, and then waits for that of packed-refs, which the test has.
LOCKER = f"""
import sys
from aynig.git.refs import RefEdit, RefStore
from aynig.git.repo import Repo
from aynig.processes import this_holder

store = RefStore(Repo.open(sys.argv[1]), this_holder("locker"))
store.commit([RefEdit("{NEW}", None, sys.argv[2]), RefEdit("{OLD}", sys.argv[2], None)])
"""


@dataclass
class Scene:
    """A repository with the branch `old`, in which a stranger holds packed-refs.lock."""

    world: GitRepo
    repo: Repo

    @property
    def stranger(self) -> Path:
        return self.world.git_dir / "packed-refs.lock"

    def left(self) -> list[StaleLock]:
        return find_stale_locks(self.repo, is_alive, is_running)

    def lock(self, ref: str) -> Path:
        return self.world.git_dir / f"{ref}.lock"

    def has_both(self) -> bool:
        with contextlib.suppress(OSError):
            content = self.lock(NEW).read_text(encoding="ascii").strip()
            return content == self.world.tip() and self.lock(OLD).exists()
        return False

    def git(self) -> int:
        """The git that is in a transaction now."""
        (journal,) = (self.repo.home / "locks").iterdir()
        return int(json.loads(journal.read_bytes())["git"])


@pytest.fixture
def scene(repo: GitRepo) -> Scene:
    repo.git("update-ref", OLD, repo.tip())
    made = Scene(repo, Repo.open(repo.path))
    made.stranger.touch()
    hour_ago = time.time() - 3600
    os.utime(made.stranger, (hour_ago, hour_ago))
    return made


@contextlib.contextmanager
def stopped_in_a_transaction(scene: Scene) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A runner whose git has both locks and goes no further."""
    runner = subprocess.Popen(
        [sys.executable, "-c", LOCKER, str(scene.world.path), scene.world.tip()]
    )
    git = 0
    try:
        wait_for(scene.has_both, what="both locks")
        git = scene.git()
        os.kill(git, signal.SIGSTOP)
        assert scene.has_both()
        yield runner, git
    finally:
        runner.kill()
        runner.wait()
        if git:
            with contextlib.suppress(ProcessLookupError):
                os.kill(git, signal.SIGKILL)
            wait_for(lambda: not is_running(git), what="the end of git")


def test_a_lock_is_stale_when_both_the_runner_and_its_git_are_dead(scene: Scene) -> None:
    with stopped_in_a_transaction(scene) as (runner, _):
        assert scene.left() == []
        runner.kill()
        runner.wait()
        assert scene.left() == []
    left = scene.left()
    assert {(lock.ref, lock.path) for lock in left} == {
        (NEW, scene.lock(NEW)),
        (OLD, scene.lock(OLD)),
    }
    clear_stale_locks(left)
    assert sorted(scene.world.git_dir.rglob("*.lock")) == [scene.stranger]
    assert scene.left() == []


def test_after_the_stale_locks_are_cleared_the_refs_can_be_changed(scene: Scene) -> None:
    with stopped_in_a_transaction(scene):
        pass
    scene.stranger.unlink()
    clear_stale_locks(scene.left())
    store = RefStore(scene.repo, this_holder("test"))
    store.commit([RefEdit(NEW, None, scene.world.tip()), RefEdit(OLD, scene.world.tip(), None)])
    store.close()
    assert (scene.world.tip("new"), scene.world.tip("old")) == (scene.world.tip(), "")


def test_a_lock_with_another_oid_than_the_announced_is_somebody_elses(scene: Scene) -> None:
    with stopped_in_a_transaction(scene):
        pass
    scene.lock(NEW).write_text("2" * 40 + "\n")
    assert [lock.ref for lock in scene.left()] == [OLD]


def test_an_empty_lock_is_left_alone_while_any_git_is_at_work_here(scene: Scene) -> None:
    with stopped_in_a_transaction(scene):
        pass
    worker = subprocess.Popen(
        ["git", "hash-object", "--stdin"], cwd=scene.world.path, stdin=subprocess.PIPE
    )
    name = Path(f"/proc/{worker.pid}/comm")
    wait_for(lambda: name.read_bytes().startswith(b"git"), what="git")
    try:
        assert [lock.ref for lock in scene.left()] == [NEW]
    finally:
        worker.communicate()
    assert {lock.ref for lock in scene.left()} == {NEW, OLD}


def test_a_lock_that_could_not_be_judged_is_found_by_a_later_look(scene: Scene) -> None:
    with stopped_in_a_transaction(scene):
        pass
    # What is left is empty, as where git was killed before it wrote the first oid.
    scene.lock(NEW).unlink()
    worker = subprocess.Popen(
        ["git", "hash-object", "--stdin"], cwd=scene.world.path, stdin=subprocess.PIPE
    )
    name = Path(f"/proc/{worker.pid}/comm")
    wait_for(lambda: name.read_bytes().startswith(b"git"), what="git")
    try:
        assert scene.left() == []
    finally:
        worker.communicate()
    assert [lock.ref for lock in scene.left()] == [OLD]


def test_an_empty_lock_that_is_younger_than_the_transaction_is_somebody_elses(
    scene: Scene,
) -> None:
    with stopped_in_a_transaction(scene):
        pass
    later = time.time() + 3600
    os.utime(scene.lock(OLD), (later, later))
    assert [lock.ref for lock in scene.left()] == [NEW]


def test_a_lock_that_a_living_runner_announces_too_is_left_alone(scene: Scene) -> None:
    with stopped_in_a_transaction(scene):
        pass
    journal = LockJournal(scene.repo.home / "locks", this_holder("successor"))
    with journal.announcing([(NEW, "3" * 40)], os.getpid()):
        assert [lock.ref for lock in scene.left()] == [OLD]
    journal.close()
    assert {lock.ref for lock in scene.left()} == {NEW, OLD}


def test_a_lock_that_nobody_announced_is_never_stale(scene: Scene) -> None:
    scene.lock(NEW).write_text(scene.world.tip())
    scene.lock(OLD).touch()
    assert scene.left() == []


def test_a_git_that_is_killed_under_a_living_runner_leaves_no_lock(scene: Scene) -> None:
    store = RefStore(scene.repo, this_holder("test"))
    tip = scene.world.tip()
    raised: list[BaseException] = []

    def commit() -> None:
        try:
            store.commit([RefEdit(NEW, None, tip), RefEdit(OLD, tip, None)])
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=commit)
    thread.start()
    wait_for(scene.has_both, what="both locks")
    os.kill(scene.git(), signal.SIGKILL)
    thread.join()
    assert [type(error) for error in raised] == [RefBusy]
    assert sorted(scene.world.git_dir.rglob("*.lock")) == [scene.stranger]
    store.commit([RefEdit(NEW, None, tip)])
    store.close()
    assert scene.world.tip("new") == tip


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"holder": {}}'], ids=["empty", "half", "list", "fields"]
)
def test_a_journal_that_can_not_be_read_is_kept_for_a_while_and_then_removed(
    scene: Scene, text: str
) -> None:
    folder = scene.repo.home / "locks"
    folder.mkdir(parents=True)
    journal = folder / "0-dead"
    journal.write_text(text)
    assert scene.left() == []
    assert journal.exists()
    hour_ago = time.time() - 3600
    os.utime(journal, (hour_ago, hour_ago))
    assert scene.left() == []
    assert not journal.exists()
