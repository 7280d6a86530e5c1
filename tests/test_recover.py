"""What a dead runner left is mended; nothing of a living one is touched."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from aynig.facts import gather
from aynig.git.refs import RefEdit
from aynig.lease import Leases, lease_name
from aynig.model import HEADS, LEASES, Event, Lease
from aynig.processes import is_alive, start_time, this_holder
from aynig.recover import bury_dead, dead_leases, keep_house, pid_alive, recover
from aynig.scan import read_event
from aynig.site import Site, open_site
from aynig.status import status_rows
from tests.fleet import Fleet
from tests.stage import Stage
from tests.world import SCRIPT_OK, GitRepo

GO = "Please go\n\naynig: go\n"


@pytest.fixture
def site(repo: GitRepo) -> Iterator[Site]:
    opened = open_site(repo.path)
    yield opened
    opened.close()


def ask(repo: GitRepo, site: Site, branch: str = "task") -> Event:
    oid = repo.commit(GO, branch=branch, parent=repo.tip(), files={".aynig/go": SCRIPT_OK})
    event = read_event(site.repo, HEADS + branch, oid, site.read)
    assert event is not None
    return event


def taken(site: Site, event: Event, *, dead: bool, attempt: int = 1) -> Lease:
    """A lease of another runner of this host, which lives or has died."""
    holder = this_holder("another-runner")
    if dead:
        process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        holder = replace(holder, pid=process.pid, started=start_time(process.pid))
        process.communicate()
    leases = Leases(site.repo, site.store, holder, seconds=60.0, is_alive=is_alive)
    return leases.acquire(event, None, f"run-of-{event.branch}", attempt)


def leases_left(repo: GitRepo) -> list[str]:
    return repo.git("for-each-ref", "--format=%(refname)", LEASES).splitlines()


def test_the_lease_of_a_dead_runner_is_freed_and_its_attempt_counted(
    repo: GitRepo, site: Site
) -> None:
    event = ask(repo, site)
    lease = taken(site, event, dead=True, attempt=3)
    assert dead_leases(site.repo) == [replace(lease, time=dead_leases(site.repo)[0].time)]
    assert [leftover.word for leftover in recover(site)] == ["lease"]
    grounds = gather(site, event)
    assert (grounds.facts.lease, grounds.facts.attempts) == (None, 3)
    assert site.leases.acquire(event, grounds.lease_seen, "run-2", 4)
    assert dead_leases(site.repo) == []


def test_a_task_whose_branch_went_with_its_runner_is_kept_and_told_of(repo: GitRepo) -> None:
    stage = Stage(repo)
    script = "echo work >work; GIT_CONFIG_COUNT=0 git branch -D task; kill -9 $PPID; sleep 600"
    task = stage.task(script)
    subprocess.run([sys.executable, "-m", "aynig", "run"], cwd=repo.path, check=False)
    assert repo.tip("task") == ""
    site = open_site(repo.path)
    recover(site)
    keep_house(site)
    (row,) = status_rows(site)
    site.close()
    assert (row.branch, row.hold, row.tip) == ("task", "lost", task)
    kept = repo.git("for-each-ref", "--format=%(refname)", "refs/aynig/rescue").split()
    assert repo.git("rev-parse", kept[1]) == task
    assert repo.git("show", f"{kept[0]}:work") == "work"


def test_the_lease_of_a_living_runner_stays(repo: GitRepo, site: Site) -> None:
    event = ask(repo, site)
    lease = taken(site, event, dead=False)
    assert recover(site) == []
    assert site.repo.read_ref(lease.name) == lease.oid


def test_a_script_that_outlived_its_runner_is_ended(repo: GitRepo, site: Site) -> None:
    lease = taken(site, ask(repo, site), dead=True)
    stray = subprocess.Popen(
        ["sleep", "600"], env={**os.environ, "AYNIG_RUN_ID": lease.run}, start_new_session=True
    )
    bystander = subprocess.Popen(["sleep", "600"], env={**os.environ, "AYNIG_RUN_ID": "another"})
    try:
        (told,) = recover(site)
        assert "ended 1 processes" in told.detail
        assert stray.wait() == -9
        assert bystander.poll() is None
    finally:
        for process in (stray, bystander):
            process.kill()
            process.wait()


def test_what_a_script_shared_before_it_killed_its_runner_is_put_back(stage: Stage) -> None:
    git_dir, home = stage.repo.git_dir, os.environ["HOME"]
    evil = 'echo evil >"$(git rev-parse --git-common-dir)/hooks/post-checkout"'
    stage.task(
        f"[ -e {home}/once ] && exit 0; touch {home}/once\n"
        f"git config core.fsmonitor /evil; git remote add fork u; {evil}; kill -9 $PPID"
    )
    command = [sys.executable, "-m", "aynig", "run"]
    first = subprocess.run(command, cwd=stage.repo.path, check=False, capture_output=True)
    assert first.returncode == -9
    assert stage.repo.git("config", "core.fsmonitor") == "/evil"
    second = subprocess.run(
        command, cwd=stage.repo.path, check=False, capture_output=True, text=True
    )
    said = second.stdout + second.stderr
    assert "config (core.fsmonitor), hooks/post-checkout of the repository changed" in said
    assert stage.repo.git("config", "core.fsmonitor", check=False) == ""
    assert stage.repo.git("config", "remote.fork.url") == "u"
    assert not (git_dir / "hooks" / "post-checkout").exists()
    assert stage.repo.state("task") == "done"


def test_recovering_again_finds_nothing(repo: GitRepo, site: Site) -> None:
    taken(site, ask(repo, site), dead=True)
    recover(site)
    assert recover(site) == []


def test_lease_refs_of_branches_that_are_gone_are_swept(repo: GitRepo, site: Site) -> None:
    kept, gone = ask(repo, site, "kept"), ask(repo, site, "gone")
    for event in (kept, gone):
        taken(site, event, dead=False)
    repo.git("branch", "-D", "gone")
    site.scan.look()
    keep_house(site)
    assert leases_left(repo) == [lease_name(kept.ref)]


def test_lease_refs_of_tasks_that_ended_are_swept_after_the_retention(
    repo: GitRepo, site: Site
) -> None:
    for branch, state in (("old", "done"), ("asked", "go")):
        oid = repo.commit(f"x\n\naynig: {state}\n", branch=branch, parent=repo.tip())
        site.store.commit([RefEdit(lease_name(HEADS + branch), None, oid)])
    repo._clock = int(time.time())
    oid = repo.commit("x\n\naynig: done\n", branch="young", parent=repo.tip())
    site.store.commit([RefEdit(lease_name(HEADS + "young"), None, oid)])
    site.scan.look()
    keep_house(site)
    left = leases_left(repo)
    assert sorted(left) == sorted(lease_name(HEADS + name) for name in ("asked", "young"))


def test_a_lease_is_not_swept_whose_branch_is_too_new_to_be_in_the_mirror(tmp_path: Path) -> None:
    fleet = Fleet.make(tmp_path, {"go": "exit 0"})
    oid = fleet.tasks.task()
    lease = _taken_by_carol(fleet, oid)
    bob = fleet.open("bob")
    assert bob.mirror is not None
    # As where a look lists the branches before it was pushed, and the leases after it was taken.
    fleet.server.git("update-ref", "-d", f"{HEADS}task")
    bob.mirror.sync(leases=True)
    fleet.server.git("update-ref", f"{HEADS}task", oid)
    keep_house(bob)
    assert fleet.lease() == lease


def test_the_lease_of_a_branch_that_is_gone_is_swept_from_the_remote(tmp_path: Path) -> None:
    fleet = Fleet.make(tmp_path, {"go": "exit 0"})
    _taken_by_carol(fleet, fleet.tasks.task())
    bob = fleet.open("bob")
    assert bob.mirror is not None
    fleet.server.git("update-ref", "-d", f"{HEADS}task")
    bob.mirror.sync(leases=True)
    keep_house(bob)
    assert fleet.lease() == ""


def test_a_dead_lease_that_another_runner_has_taken_over_is_no_leftover(tmp_path: Path) -> None:
    fleet = Fleet.make(tmp_path, {"go": "exit 0"})
    oid = fleet.tasks.task()
    lease = _taken_by_carol(fleet, oid, dead=True)
    bob = fleet.open("bob")
    assert bob.mirror is not None
    bob.mirror.sync(leases=True)
    assert [found.oid for found in dead_leases(bob.repo)] == [lease]
    fleet.server.git("update-ref", lease_name(f"{HEADS}task"), oid)
    assert bury_dead(bob) == []


def _taken_by_carol(fleet: Fleet, oid: str, *, dead: bool = False) -> str:
    carol = fleet.open("carol")
    assert carol.mirror is not None
    carol.mirror.sync(leases=True)
    event = read_event(carol.repo, f"{HEADS}task", oid, carol.read)
    assert event is not None
    return taken(carol, event, dead=dead).oid


def test_a_process_that_ended_is_not_alive() -> None:
    process = subprocess.Popen(["true"])
    # Not yet waited for, it is a zombie in between: that is no life either.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not pid_alive(process.pid)
    process.wait()
    assert not pid_alive(process.pid)
    assert not pid_alive(0)
    assert pid_alive(os.getpid())


DIES = """
import os, signal, sys
from aynig.git.private import JUDGE, make_private_folder
from aynig.git.repo import Repo
from aynig.git.seclusion import Seclusion
path, oid, tree, run = sys.argv[1:]
repo = Repo.open(path)
make_private_folder(repo, JUDGE, run + "-verify")
with Seclusion(repo).lend(oid, tree, run) as room:
    (room.path / "made").write_text("work")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_secluded_worker_left_is_rescued_and_its_folders_are_removed(
    repo: GitRepo, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    event = ask(repo, site)
    run = "20260131T093000Z-1f3a9c2e07"
    place = {"TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": str(Path(__file__).parents[1])}
    arguments = [str(repo.path), event.oid, event.tree, run]
    subprocess.run(
        [sys.executable, "-c", DIES, *arguments], env={**os.environ, **place}, check=False
    )
    assert len(list((tmp_path / "tmp").iterdir())) == 2
    assert [leftover.detail for leftover in recover(site)] == [
        "removed 1 secluded worktree", "removed what 1 verification left",
    ]  # fmt: skip
    assert repo.git("show", f"refs/aynig/rescue/{run}:made") == "work"
    assert list((tmp_path / "tmp").iterdir()) == []
    assert recover(site) == []
