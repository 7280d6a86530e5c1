"""A team pushes to a remote, and runners with clones of their own take the work from it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from aynig.executors import Control
from aynig.lease import Leases, lease_name
from aynig.model import HEADS, Hold
from aynig.processes import MARK, is_alive
from aynig.reconcile import Reconciler
from aynig.scan import read_event
from aynig.status import status_rows
from tests.fleet import Fleet
from tests.world import GitRepo, aynig, wait_for

NEXT = "states:\n  go: {next: check}\n"


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    scripts = {"go": "echo worked >>file", "check": 'test "$(cat file)" = worked'}
    return Fleet.make(tmp_path, scripts, workflow=NEXT)


def test_a_task_on_the_remote_is_carried_through_its_states(fleet: Fleet) -> None:
    trigger = fleet.tasks.task()
    fleet.run("bob")
    assert fleet.server.state("task") == "done"
    story = fleet.server.git("log", "--format=%s", "--reverse", f"{trigger}..task").split("\n")
    assert story == ["go -> check", "check -> done"]
    assert fleet.server.fields("task~1")["answers"] == trigger
    assert fleet.server.git("show", "task:file") == "worked"
    fleet.fsck()


def test_the_lease_ref_of_an_ended_task_is_at_its_answer(fleet: Fleet) -> None:
    fleet.tasks.task()
    fleet.run("bob")
    assert fleet.lease() == fleet.server.tip("task")


def test_a_clone_knows_nothing_of_it_but_in_its_mirror(fleet: Fleet) -> None:
    clone = fleet.clone("bob")
    before = clone.git("for-each-ref"), clone.git("config", "--local", "--list")
    fleet.tasks.task()
    fleet.run("bob")
    assert (clone.git("for-each-ref"), clone.git("config", "--local", "--list")) == before
    assert clone.git("status", "--porcelain") == ""


def test_a_daemon_beside_the_server_is_woken_by_a_push(fleet: Fleet) -> None:
    with fleet.live("bob"):
        work = fleet.clone("alice")
        work.git("checkout", "--quiet", "-b", "task")
        work.git("commit", "--quiet", "--allow-empty", "-m", "Please\n\naynig: go\n")
        work.git("push", "--quiet", "origin", "task")
        wait_for(lambda: fleet.server.state("task") == "done", what="the task to be done")


def test_of_two_runners_one_answers_each_task(fleet: Fleet) -> None:
    for number in range(10):
        fleet.tasks.task(branch=f"task/{number}")
    with fleet.live("bob", jobs=2), fleet.live("carol", jobs=2):
        for number in range(10):
            fleet.tasks.wait_for_state("done", f"task/{number}")
    for number in range(10):
        count = fleet.server.git("rev-list", "--count", f"main..task/{number}")
        assert count == "3"
    fleet.fsck()


def test_scripts_come_from_the_default_branch_of_the_remote(fleet: Fleet) -> None:
    fleet.tasks.task("echo theirs >file; exit 0")
    fleet.run("bob")
    assert fleet.server.git("show", "task:file") == "worked"


@pytest.mark.parametrize(
    ("push", "words"),
    [
        ("git push -q origin :task", "delete task by a push"),
        ("git push -q --force origin HEAD~:refs/heads/task", "push to task"),
        ("git commit -q --allow-empty -m x; git push -q origin HEAD:task", "push to task"),
        ('git push -q "$(git config remote.origin.url)" :task', "delete task by a push"),
        ("git update-ref -d refs/heads/task", "delete task"),
        ("git push -q origin HEAD:refs/aynig/lease/x", "push to refs/aynig/lease/x"),
    ],
)
def test_an_agent_that_pushes_to_its_own_branch_is_refused_and_that_is_told(
    tmp_path: Path, push: str, words: str
) -> None:
    fleet = Fleet.make(tmp_path, {"go": f"({push}) && exit 1; exit 0"})
    trigger = fleet.tasks.task()
    fleet.run("bob")
    assert fleet.server.state("task") == "done"
    assert fleet.server.git("merge-base", trigger, "task") == trigger
    assert fleet.server.fields("task")["tried"] == words


def test_an_agent_pushes_other_branches_to_the_remote(tmp_path: Path) -> None:
    fleet = Fleet.make(tmp_path, {"go": "git push -q origin HEAD:refs/heads/other HEAD:task-2"})
    fleet.tasks.task(branch="task")
    fleet.server.git("branch", "task-2", "main")
    fleet.run("bob")
    assert fleet.server.state("task") == "done"
    assert "tried" not in fleet.server.fields("task")


def test_a_task_that_is_taken_away_on_the_remote_is_told_of_by_all(tmp_path: Path) -> None:
    fleet = Fleet.make(tmp_path, {"go": "git push -q --no-verify origin :task"})
    task = fleet.tasks.task()
    fleet.run("bob")
    site = fleet.open("carol")
    assert site.mirror is not None
    site.mirror.sync(leases=True)
    (row,) = status_rows(site)
    site.close()
    assert (row.branch, row.hold) == ("task", "lost")
    command = re.findall("`([^`]+)`", row.detail)[0]
    subprocess.run(["sh", "-e", "-c", command], cwd=fleet.clone("carol").path, check=True)
    assert fleet.server.tip("task") == task


def test_people_submit_to_the_remote_and_see_its_truth(fleet: Fleet) -> None:
    alice = fleet.clone("alice").path
    assert aynig("submit", "go", "-b", "task", "--remote", "origin", cwd=alice).returncode == 0
    assert fleet.server.state("task") == "go"
    assert fleet.status("carol").state == "go"
    assert aynig("run", "--remote", "origin", cwd=fleet.clone("bob").path).returncode == 0
    shown = aynig("status", "--remote", "origin", cwd=alice)
    assert "done" in shown.stdout
    told = aynig("log", "task", "--remote", "origin", cwd=alice)
    assert [line.split()[2] for line in told.stdout.split("\n")[1:4]] == ["go", "check", "done"]


def test_a_submitted_task_begins_where_the_clone_is_pushed_or_not(fleet: Fleet) -> None:
    alice = fleet.clone("alice")
    alice.git("commit", "--quiet", "--allow-empty", "-m", "not pushed")
    aynig("submit", "go", "-b", "task", "--remote", "origin", cwd=alice.path)
    assert fleet.server.git("log", "-1", "--format=%s", "task~1") == "not pushed"
    fleet.run("bob")
    assert fleet.server.state("task") == "done"


def test_a_task_is_canceled_and_retried_on_the_remote(fleet: Fleet) -> None:
    alice = fleet.clone("alice").path
    fleet.tasks.task()
    assert aynig("cancel", "task", "--remote", "origin", cwd=alice).returncode == 0
    assert fleet.server.state("task") == "canceled"
    assert aynig("retry", "task", "--remote", "origin", cwd=alice).returncode == 0
    assert fleet.server.state("task") == "go"


def test_an_answer_that_is_refused_is_offered_again_soon_and_then_ever_less_often(
    fleet: Fleet,
) -> None:
    hook = fleet.server.path / "hooks" / "update"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text('#!/bin/sh\ncase "$1" in refs/heads/*) echo "no room" >&2; exit 1 ;; esac\n')
    hook.chmod(0o755)
    fleet.tasks.task()
    for seconds in ("10.000", "20.000", "40.000"):
        fleet.run("bob")
        assert fleet.server.state("task") == "go"
        left = fleet.server.message(fleet.lease())
        assert f"\nseconds: {seconds}\n" in left
        # The time has come.
        over = re.sub("(?m)^not-before: .*", "not-before: 0", left)
        tree = fleet.server.git("rev-parse", f"{fleet.lease()}^{{tree}}")
        oid = fleet.server.git("commit-tree", tree, stdin=over)
        fleet.server.git("update-ref", lease_name("refs/heads/task"), oid)
    hook.unlink()
    fleet.run("bob")
    assert fleet.server.state("task") == "done"


def test_a_script_is_ended_when_its_lease_was_taken_over_and_not_for_a_try(fleet: Fleet) -> None:
    oid, ref = fleet.tasks.task(), f"{HEADS}task"
    carol, bob = fleet.open("carol"), fleet.open("bob")
    for site in (carol, bob):
        assert site.mirror is not None
        site.mirror.sync(leases=True)
    event = read_event(carol.repo, ref, oid, carol.read)
    assert event is not None
    short = Leases(carol.repo, carol.store, carol.holder, seconds=0.01, is_alive=is_alive)
    lease = short.acquire(event, None, "run-of-carol", 1)
    assert bob.mirror is not None
    bob.mirror.sync(leases=True)
    bob.scan.look()
    wait_for(lambda: not bob.leases.is_live(lease, oid), what="the end of the lease")
    hook = fleet.server.path / "hooks" / "update"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    with subprocess.Popen(["sleep", "600"], env={**os.environ, MARK: lease.run}) as script:
        try:
            reconciler = Reconciler(bob, lambda started: None)
            assert isinstance(reconciler.reconcile(ref, Control()), Hold)
            assert script.poll() is None
            hook.unlink()
            reconciler.reconcile(ref, Control())
            assert script.wait() == -signal.SIGKILL
        finally:
            script.kill()
    assert fleet.server.state("task") == "check"


@pytest.mark.parametrize(
    "options",
    [("--depth=1",), ("--filter=blob:none",), ("--single-branch",), ("--bare",), ("--mirror",)],
    ids=lambda options: options[0],
)
def test_any_kind_of_clone_will_do(tmp_path: Path, options: tuple[str, ...]) -> None:
    fleet = Fleet.make(tmp_path, {"go": "git log --format=%s >story"})
    fleet.server.git("config", "uploadpack.allowFilter", "true")
    fleet.url = f"file://{fleet.server.path}"
    fleet.clone("bob", *options)
    fleet.tasks.task()
    fleet.run("bob")
    assert fleet.server.state("task") == "done"
    assert fleet.server.git("show", "task:story") == "Please go\nThe workflow"


def test_a_remote_may_be_named_once_for_all_commands(fleet: Fleet) -> None:
    bob = fleet.clone("bob")
    bob.git("config", "aynig.remote", "origin")
    fleet.tasks.task()
    assert aynig("run", cwd=bob.path).returncode == 0
    assert fleet.server.state("task") == "done"
    assert "No task here" in aynig("status", "--remote", ".", cwd=bob.path).stdout


def test_a_repository_without_that_remote_says_which_there_are(repo: GitRepo) -> None:
    repo.git("remote", "add", "upstream", "/nowhere")
    said = aynig("run", "--remote", "origin", cwd=repo.path)
    assert (said.returncode, said.stderr) == (
        2,
        "aynig: there is no remote 'origin'. There are: upstream.\n",
    )
