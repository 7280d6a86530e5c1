"""A repository in dwp: the lease lies on the branch, and the script may move the branch itself."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aynig.cli.main import run as command_line
from aynig.ending import Finished
from aynig.errors import WaitUntil
from aynig.executors import Control, Job
from aynig.executors.subprocess import SubprocessExecutor
from aynig.model import HEADS, Event, Hold, Lease, RunResult
from aynig.reconcile import Reconciler
from aynig.site import open_site
from tests.stage import Stage, aynig, daemon, sh
from tests.world import GitRepo, wait_for

RUNNER = Path(__file__).resolve().parents[1]
# The program as scripts call it, found although no `aynig` may be installed.
AYNIG = f"{sys.executable} -P -m aynig"


def task(
    stage: Stage,
    script: str | None,
    *,
    branch: str = "task",
    state: str = "go",
    more: str = "",
    files: Mapping[str, str | bytes | None] | None = None,
) -> str:
    """A commit in dwp that asks for a state and brings along its script."""
    found: dict[str, str | bytes | None] = dict(files or {})
    if script is not None:
        found[f".dwp/command/{state}"] = sh(f"export PYTHONPATH={RUNNER}\n{script}")
    message = f"Please {state}\n\nThe prompt\n\ndwp-state: {state}\n{more}"
    parent = stage.repo.tip(branch) or stage.repo.tip("main")
    return stage.repo.commit(message, branch=branch, files=found, parent=parent)


def said(repo: GitRepo, rev: str = "task") -> dict[str, str]:
    return dict(repo.trailers(rev))


def states(repo: GitRepo, branch: str = "task") -> list[str]:
    """The states of a branch, oldest first; renewals count once each."""
    text = repo.git("log", "--reverse", "--format=%(trailers:key=dwp-state,valueonly)", branch)
    return text.split()


def wait_for_state(repo: GitRepo, state: str, branch: str = "task") -> None:
    wait_for(
        lambda: states(repo, branch)[-1:] == [state],
        what=f"{branch} to be {state}, not {states(repo, branch)}",
    )


def on_branch(repo: GitRepo, message: str, branch: str = "task") -> str:
    """A commit of the time that it is now, as a foreign runner makes it."""
    tip = repo.tip(branch)
    oid = repo.git("commit-tree", f"{tip}^{{tree}}", "-p", tip, stdin=message)
    repo.git("update-ref", f"refs/heads/{branch}", oid, tip)
    return oid


def working(run: str, seconds: int = 300, origin: str = "go") -> str:
    return (
        f"working\n\ndwp-state: working\ndwp-origin-state: {origin}\ndwp-run-id: {run}\n"
        f"dwp-runner-id: other-box\ndwp-lease-seconds: {seconds}\n"
    )


# --- a run ---------------------------------------------------------------------------------------


def test_a_lease_lies_between_the_state_and_its_answer(stage: Stage) -> None:
    trigger = task(stage, "echo x >made", more="dwp-issue: 7\n")
    told = stage.run()
    assert states(stage.repo) == ["go", "working", "done"]
    lease = said(stage.repo, "task^")
    run = lease.pop("dwp-run-id")
    assert lease.pop("dwp-runner-id")
    assert lease == {
        "dwp-state": "working", "dwp-origin-state": "go", "dwp-lease-seconds": "300",
        "dwp-issue": "7",
    }  # fmt: skip
    assert stage.repo.git("rev-parse", "task^^", "task^^{tree}") == stage.repo.git(
        "rev-parse", trigger, "task^^{tree}"
    )
    answer = said(stage.repo)
    assert (answer["dwp-answers"], answer["dwp-run"]) == (trigger, run)
    assert stage.repo.git("show", "task:made") == "x"
    assert told.row("task").answers == trigger
    stage.assert_unharmed()


def test_native_leases_are_used_where_the_repository_has_its_own_scripts(stage: Stage) -> None:
    task(stage, "true", files={".aynig/other": "#!/bin/sh\n"})
    stage.run()
    assert states(stage.repo) == ["go", "done"]


@pytest.mark.parametrize(
    ("dialect", "found"), [("dwp", ["go", "working", "done"]), ("aynig", ["go", "done"])]
)
def test_the_operator_decides_where_the_lease_lies(
    stage: Stage, dialect: str, found: list[str]
) -> None:
    files = {".aynig/other": "#!/bin/sh\n"} if dialect == "dwp" else {}
    task(stage, "true", files=files)
    stage.run(dialect=dialect)
    assert states(stage.repo) == found


def test_run_and_daemon_have_the_dialect_as_an_option(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(stage.repo.path)
    task(stage, "true", files={".aynig/other": "#!/bin/sh\n"})
    assert aynig("run", "-q", "--dialect", "dwp") == 0
    assert states(stage.repo) == ["go", "working", "done"]
    task(stage, None, branch="task", state="go")
    with daemon(stage.repo.path, "--dialect", "dwp", "--poll", "0.1"):
        wait_for(lambda: len(states(stage.repo)) == 6)
    assert states(stage.repo)[3:] == ["go", "working", "done"]
    assert command_line(["run", "--dialect", "other"]) == 2


def test_native_tasks_are_worked_on_beside_it(stage: Stage) -> None:
    stage.task("true", branch="ours")
    task(stage, "true", branch="theirs")
    stage.run(dialect="dwp")
    assert stage.repo.state("ours") == "done"
    assert states(stage.repo, "theirs") == ["go", "working", "done"]


def test_a_failure_is_answered_on_top_of_the_lease(stage: Stage) -> None:
    task(stage, "echo lost >file; exit 3")
    stage.run()
    assert states(stage.repo) == ["go", "working", "failed"]
    answer = said(stage.repo)
    assert answer["dwp-exit"] == "3"
    assert stage.repo.git("show", f"{answer['dwp-rescue']}:file") == "lost"


def test_the_answer_file_is_read_in_dwp(stage: Stage) -> None:
    task(stage, 'printf "dwp-state: approved\\ndwp-note: well\\n" >"$AYNIG_RESPONSE"')
    task(stage, None, branch="task2")
    stage.run(branches=["task"])
    assert states(stage.repo) == ["go", "working", "approved"]
    assert said(stage.repo)["dwp-note"] == "well"


def test_a_branch_that_is_checked_out_stays_clean(stage: Stage) -> None:
    stage.repo.sync()
    task(stage, "echo x >made", branch="main")
    stage.repo.sync()
    stage.run()
    assert states(stage.repo, "main") == ["go", "working", "done"]
    assert (stage.repo.path / "made").read_text() == "x\n"
    assert stage.repo.git("status", "--porcelain") == ""


def test_a_chain_goes_on(stage: Stage) -> None:
    files = {".dwp/command/next": "#!/bin/sh\n"}
    task(stage, f"{AYNIG} set-state --dwp-state next", files=files)
    stage.run()
    assert states(stage.repo) == ["go", "working", "next", "working", "done"]


# --- the script moves on by itself ---------------------------------------------------------------


def test_set_state_is_the_answer_as_it_is(stage: Stage) -> None:
    script = f"echo x >made; git add made; {AYNIG} set-state --dwp-state ready --prompt Well"
    task(stage, script)
    stage.run()
    assert states(stage.repo) == ["go", "working", "ready"]
    assert said(stage.repo) == {"dwp-state": "ready"}
    assert stage.repo.git("show", "task:made") == "x"


def test_commits_of_plain_git_are_the_answer_as_they_are(stage: Stage) -> None:
    script = (
        "git commit -q --allow-empty -m one\n"
        'git commit -q --allow-empty -m "two\n\ndwp-state: ready"'
    )
    task(stage, script)
    stage.run()
    assert stage.repo.git("log", "-3", "--format=%s", "task") == "two\none\nworking: go"


@pytest.mark.parametrize(
    "move",
    [
        'git update-ref "refs/heads/$AYNIG_BRANCH" HEAD',
        'git push -q . "HEAD:refs/heads/$AYNIG_BRANCH"',
        f"{AYNIG} set-state --dwp-state ready --dwp-remote here",
    ],
    ids=["update-ref", "push", "set-state"],
)
def test_a_branch_that_the_script_has_moved_gets_nothing_on_top(stage: Stage, move: str) -> None:
    stage.repo.git("remote", "add", "here", str(stage.repo.path))
    own = 'git commit -q --allow-empty -m "own\n\ndwp-state: ready"\n' if "git" in move else ""
    task(stage, f"{own}{move}\nexit 1")
    told = stage.run()
    assert states(stage.repo) == ["go", "working", "ready"]
    assert told.row("task").oid == stage.repo.tip("task")
    assert told.row("task").state == "ready"
    stage.assert_unharmed()


def test_a_script_that_has_moved_its_branch_may_go_on(stage: Stage) -> None:
    gate = os.environ["GATE"] = str(stage.repo.git_dir / "gate")
    task(
        stage,
        'git commit -q --allow-empty -m "own\n\ndwp-state: ready"\n'
        'git update-ref "refs/heads/$AYNIG_BRANCH" HEAD\n'
        'until [ -e "$GATE" ]; do sleep 0.05; done',
    )
    with stage.live(poll=0.05) as told:
        wait_for(
            lambda: any(notice.state == "ready" for notice in told.of("event")),
            what="the daemon to see what the script did",
        )
        Path(gate).touch()
        wait_for(lambda: told.of("answer"), what="the run to end")
    row = told.row("task")
    assert (row.state, row.exit, row.stopped) == ("ready", 0, None)


def test_what_is_not_on_the_branch_that_the_script_has_moved_is_kept(stage: Stage) -> None:
    task(
        stage,
        'git commit -q --allow-empty -m "own\n\ndwp-state: ready"\n'
        'git update-ref "refs/heads/$AYNIG_BRANCH" HEAD\necho x >left',
    )
    told = stage.run()
    kept = told.row("task").rescue
    assert kept is not None
    assert stage.repo.git("show", f"{kept}:left") == "x"


def test_a_branch_that_was_moved_half_way_is_taken_to_the_end(stage: Stage) -> None:
    task(
        stage,
        'git commit -q --allow-empty -m half\ngit update-ref "refs/heads/$AYNIG_BRANCH" HEAD\n'
        f"{AYNIG} set-state --dwp-state ready",
    )
    stage.run()
    assert stage.repo.git("log", "-3", "--format=%s", "task") == "ready\nhalf\nworking: go"


def test_a_renewal_by_the_script_is_no_answer(stage: Stage) -> None:
    task(stage, f"{AYNIG} set-working --lease-seconds 900 && echo x >made")
    stage.run()
    assert states(stage.repo) == ["go", "working", "working", "done"]
    assert said(stage.repo, "task^")["dwp-lease-seconds"] == "900"
    assert said(stage.repo, "task^")["dwp-run-id"] == said(stage.repo, "task^^")["dwp-run-id"]


# --- renewing ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    ['git commit -q -m "own\n\ndwp-state: ready"', f"{AYNIG} set-state --dwp-state ready"],
    ids=["git", "set-state"],
)
def test_a_long_script_keeps_its_lease_and_lands_on_top_of_it(
    stage: Stage, tmp_path: Path, answer: str
) -> None:
    """Its own commit is on the first lease; the renewals lie in between."""
    gate = tmp_path / "gate"
    gate.mkdir()
    script = (
        "git commit -q --allow-empty -m early\n"
        f"until [ -e {gate}/open ]; do sleep 0.05; done\n"
        f"echo x >made; git add made; {answer}"
    )
    task(stage, script, more="dwp-lease-seconds: 2\n")
    with stage.live():
        wait_for(lambda: states(stage.repo).count("working") >= 3, what="renewals")
        first = stage.repo.git("rev-parse", "task")
        (gate / "open").touch()
        wait_for_state(stage.repo, "ready")
    assert states(stage.repo)[:1] + states(stage.repo)[-1:] == ["go", "ready"]
    # The branch has only ever moved forward.
    stage.repo.git("merge-base", "--is-ancestor", first, "task")
    assert stage.repo.git("log", "-3", "--format=%s", "task") in (
        "own\nearly\nworking: go",
        "ready\nearly\nworking: go",
    )
    runs = stage.repo.git("log", "--format=%(trailers:key=dwp-run-id,valueonly)", "task").split()
    assert len(set(runs)) == 1
    assert stage.repo.git("show", "task:made") == "x"
    stage.assert_unharmed()


# --- giving it back ------------------------------------------------------------------------------


def test_a_run_that_is_drained_hands_the_task_back(stage: Stage) -> None:
    """Nobody has to wait for the lease to run out."""
    trigger = task(stage, "sleep 600", more="dwp-issue: 7\n")
    with stage.live(grace=0) as told:
        wait_for(lambda: told.of("run"), what="the script to start")
    assert states(stage.repo) == ["go", "working", "go"]
    assert stage.repo.git("log", "-1", "--format=%s%n%b", "task").startswith(
        "Please go\nThe prompt\n"
    )
    again = said(stage.repo)
    assert again.pop("dwp-handed-back")
    assert again == {"dwp-state": "go", "dwp-issue": "7"}
    stage.repo.commit("x", branch="other", files={".dwp/command/go": "#!/bin/sh\n"}, parent=trigger)
    assert stage.status().hold is None
    stage.assert_unharmed()


def test_a_later_retry_waits_on_a_new_commit_and_counts_attempts(stage: Stage) -> None:
    task(
        stage,
        '[ "$AYNIG_ATTEMPT" = 2 ] && exit 0\n'
        'echo "dwp-retry-after: 1h" >"$AYNIG_RESPONSE"; exit 75',
    )
    stage.run()
    assert states(stage.repo) == ["go", "working", "go"]
    assert stage.status().hold == "waiting"
    assert stage.status().detail.startswith("attempt 2 in 1h")
    # The same record with no time to wait.
    name = stage.repo.git("for-each-ref", "--format=%(refname)", "refs/aynig/lease")
    text = stage.repo.message(name).replace("seconds: 3600.000", "seconds: 0.000")
    oid = stage.repo.git("commit-tree", f"{name}^{{tree}}", stdin=text + "\n")
    stage.repo.git("update-ref", name, oid)
    stage.run()
    assert states(stage.repo) == ["go", "working", "go", "working", "done"]
    assert said(stage.repo)["dwp-attempt"] == "2"


class NoRoom(SubprocessExecutor):
    """A machine that has no room for a process."""

    def execute(self, job: Job, control: Control) -> RunResult:
        raise WaitUntil("no room for a process")


def test_a_machine_without_room_costs_one_lease_and_then_time(stage: Stage) -> None:
    task(stage, "true")
    site = replace(open_site(stage.repo.path), executor=NoRoom())
    try:
        site.scan.look()
        for _ in range(3):
            outcome = Reconciler(site, lambda _started: None).reconcile(HEADS + "task", Control())
            assert isinstance(outcome, Hold)
            assert outcome.word == "error"
    finally:
        site.close()
    assert states(stage.repo) == ["go", "working", "go"]
    assert stage.status().detail.startswith("attempt 1 in")


def test_an_answer_waits_under_its_lease_for_a_clean_working_tree(stage: Stage) -> None:
    repo = stage.repo
    repo.commit("File", files={"mine": "1\n"})
    task(stage, "echo 2 >>mine; until [ -e $OPEN ]; do sleep 0.05; done", branch="main",
         more="dwp-lease-seconds: 2\n")  # fmt: skip
    repo.sync()
    gate = repo.git_dir / "open"
    os.environ["OPEN"] = str(gate)
    with stage.live(poll=0.1) as told:
        wait_for(lambda: told.of("run"), what="the script to start")
        (repo.path / "mine").write_text("changed by a person\n")
        gate.touch()
        wait_for(lambda: "dirty-worktree" in told.holds("main"), what="the answer to wait")
        assert stage.status("main").hold == "dirty-worktree"
        count = states(repo, "main").count("working")
        wait_for(lambda: states(repo, "main").count("working") > count, what="a renewal")
        assert (repo.path / "mine").read_text() == "changed by a person\n"
        repo.sync()
        wait_for_state(repo, "done", "main")
        wait_for(lambda: told.of("answer"), what="the answer to be told")
    assert (repo.path / "mine").read_text() == "1\n2\n"
    assert repo.git("for-each-ref", "refs/aynig/rescue") == ""
    stage.assert_unharmed()


def test_an_answer_that_waits_when_the_runner_stops_is_kept_and_marked(stage: Stage) -> None:
    repo = stage.repo
    repo.commit("File", files={"mine": "1\n"})
    task(stage, "echo 2 >>mine; until [ -e $OPEN ]; do sleep 0.05; done", branch="main")
    repo.sync()
    gate = repo.git_dir / "open"
    os.environ["OPEN"] = str(gate)
    with stage.live(poll=0.1) as told:
        wait_for(lambda: told.of("run"), what="the script to start")
        (repo.path / "mine").write_text("changed by a person\n")
        gate.touch()
        wait_for(lambda: "dirty-worktree" in told.holds("main"), what="the answer to wait")
    assert states(repo, "main") == ["go", "working", "stalled"]
    assert repo.git("show", f"{said(repo, 'main')['dwp-rescue']}:mine") == "1\n2"


# --- others --------------------------------------------------------------------------------------


def test_a_live_lease_of_another_runner_is_left_alone(stage: Stage) -> None:
    task(stage, "true")
    theirs = on_branch(stage.repo, working("theirs"))
    told = stage.run()
    assert not told.of("run")
    assert stage.repo.tip("task") == theirs
    row = stage.status()
    assert (row.hold, row.run, row.runner) == ("running", "theirs", "other-box")
    assert row.detail.startswith("go, run theirs by other-box, lease for another ")
    assert row.until is not None


@pytest.mark.parametrize("seconds", ["300", "nonsense"])
def test_a_lease_that_ran_out_is_marked_stalled(stage: Stage, seconds: str) -> None:
    task(stage, "true")
    # The clock of `commit` is years behind.
    left = stage.repo.commit(
        working("theirs").replace("seconds: 300", f"seconds: {seconds}"), branch="task"
    )
    assert stage.status().hold == "expired"
    told = stage.run()
    assert not told.of("run")
    assert stage.repo.git("rev-parse", "task^") == left
    assert said(stage.repo) == {
        "dwp-state": "stalled", "dwp-stalled-run": "theirs", "dwp-origin-state": "go",
    }  # fmt: skip
    row = stage.status()
    assert row.hold == "stalled"
    assert "`aynig retry task`" in row.detail


def test_a_script_for_stalled_runs_then(stage: Stage) -> None:
    files = {".dwp/command/stalled": sh('echo "$AYNIG_TRAILER_DWP_STALLED_RUN" >whose')}
    task(stage, "true", files=files)
    stage.repo.commit(working("theirs"), branch="task")
    stage.run()
    assert states(stage.repo) == ["go", "working", "stalled", "working", "done"]
    assert stage.repo.git("show", "task:whose") == "theirs"


def test_a_native_runner_leaves_leases_on_branches_alone(stage: Stage) -> None:
    task(stage, "true")
    left = stage.repo.commit(working("theirs"), branch="task")
    stage.run(dialect="aynig")
    assert stage.repo.tip("task") == left


def test_a_run_that_others_have_taken_over_is_ended_and_its_work_is_kept(stage: Stage) -> None:
    gate = os.environ["GATE"] = str(stage.repo.git_dir / "gate")
    task(stage, 'echo x >made; touch "$GATE"; sleep 600', more="dwp-lease-seconds: 2\n")
    with stage.live() as told:
        wait_for(lambda: Path(gate).exists(), what="the script to work")
        run = told.of("run")[0].run
        theirs = on_branch(stage.repo, f"x\n\ndwp-state: stalled\ndwp-stalled-run: {run}\n")
        wait_for(lambda: told.of("refused"), what="the run to be ended")
        assert stage.repo.tip("task") == theirs
    assert stage.repo.git("show", f"refs/aynig/rescue/{run}:made") == "x"
    stage.assert_unharmed()


def test_a_task_that_is_canceled_ends_its_script(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    task(stage, "sleep 600")
    monkeypatch.chdir(stage.repo.path)
    with stage.live() as told:
        wait_for(lambda: told.of("run"), what="the script to start")
        assert aynig("cancel", "task") == 0
        wait_for(lambda: told.of("refused"), what="the run to be ended")
    assert "canceled" in told.of("refused")[0].detail
    assert states(stage.repo) == ["go", "working", "canceled"]


def test_a_dead_runner_of_ours_is_known_at_once(stage: Stage) -> None:
    """Its lease would hold for five minutes; the record of the run proves that it is ours."""
    task(stage, "sleep 600")
    with daemon(stage.repo.path) as found:
        found.wait_for("run", "task")
        # A copy of the lease, before it by name, is nobody's run.
        stage.repo.git("branch", "copy", "task")
        assert stage.status().hold == "running"
        found.process.kill()
        found.process.wait()
    row = stage.status()
    assert (row.hold, "has died" in row.detail) == ("expired", True)
    stage.run()
    assert states(stage.repo) == ["go", "working", "stalled"]
    assert states(stage.repo, "copy") == ["go", "working"]
    stage.assert_unharmed()


def test_a_lease_with_our_host_in_its_name_is_not_proof_enough(stage: Stage) -> None:
    task(stage, "true")
    theirs = on_branch(stage.repo, working("x").replace("other-box", socket.gethostname()))
    stage.run()
    assert stage.repo.tip("task") == theirs


# --- one commit is dispatched once ---------------------------------------------------------------


def test_a_copied_tip_is_run_once(stage: Stage) -> None:
    trigger = task(stage, "true", branch="a")
    stage.repo.git("branch", "b", "a")
    told = stage.run()
    assert len(told.of("run")) == 1
    assert stage.repo.tip("b") == trigger
    assert stage.status("b").hold == "answered"
    assert not stage.run().of("run")


def test_a_copy_of_what_another_runner_has_begun_is_not_run(stage: Stage) -> None:
    task(stage, "true", branch="a")
    stage.repo.git("branch", "b", "a")
    on_branch(stage.repo, working("theirs"), branch="a")
    assert not stage.run().of("run")
    on_branch(stage.repo, "x\n\ndwp-state: done\n", branch="a")
    assert not stage.run().of("run")
    assert stage.status("b").hold == "answered"


def test_a_copy_that_another_runner_begins_just_before_ours_is_not_run(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runners beside us leave no notes, so their doings have to be looked for every time."""
    for branch in ("first", "second", "a"):
        task(stage, "true", branch=branch)
    site = open_site(stage.repo.path)
    reconciler = Reconciler(site, lambda _started: None)
    acquire = site.leases.acquire

    def late(event: Event, seen: str | None, run: str, *rest: Any, **more: Any) -> Lease:
        stage.repo.git("branch", "b", "a")
        on_branch(stage.repo, working("theirs"), branch="b")
        return acquire(event, seen, run, *rest, **more)

    try:
        site.scan.look()
        assert isinstance(reconciler.reconcile(HEADS + "first", Control()), Finished)
        wait_for(lambda: site.store.solitude() is not None, what="proof that no other is there")
        assert isinstance(reconciler.reconcile(HEADS + "second", Control()), Finished)
        monkeypatch.setattr(site.leases, "acquire", late)
        outcome = reconciler.reconcile(HEADS + "a", Control())
    finally:
        site.close()
    assert isinstance(outcome, Hold)
    assert outcome.word == "answered"
    assert states(stage.repo, "a") == ["go"]


def test_a_copy_of_a_lease_is_marked_once(stage: Stage) -> None:
    task(stage, "true", branch="a")
    left = stage.repo.commit(working("theirs"), branch="a")
    stage.repo.git("branch", "b", "a")
    stage.run()
    assert states(stage.repo, "a")[-1] == "stalled"
    assert stage.repo.tip("b") == left
    assert not stage.run().of("run")


def test_two_daemons_and_many_branches_run_each_commit_once(stage: Stage, tmp_path: Path) -> None:
    log = tmp_path / "log"
    for number in range(12):
        task(
            stage, f'echo "$AYNIG_COMMIT_HASH" >>{log}', branch=f"task/{number}", state=f"s{number}"
        )
    with stage.live(poll=0.05), stage.live(poll=0.05):
        for number in range(12):
            wait_for_state(stage.repo, "done", f"task/{number}")
    ran = log.read_text().split()
    assert len(ran) == len(set(ran)) == 12
    stage.assert_unharmed()


# --- side by side --------------------------------------------------------------------------------

FOREIGN = r"""#!/bin/sh
# A runner of the same protocol in git alone: claims, renews, answers; with `die` it only claims.
# The runs that it is to make at most are in $1, its lease time in $2.
put() { # branch, tip, message: one compare-and-swap
    oid=$(printf '%b' "$3" | git commit-tree "$2^{tree}" -p "$2") || return 1
    git update-ref "refs/heads/$1" "$oid" "$2" 2>/dev/null && echo "$oid"
}
left=$1
for branch in $(git for-each-ref --format='%(refname:short)' refs/heads/task/); do
    [ "$left" -gt 0 ] || break
    tip=$(git rev-parse "refs/heads/$branch")
    state=$(git log -1 --format='%(trailers:key=dwp-state,valueonly)' "$tip" | head -1)
    [ "$state" = go ] || continue
    lease="w\n\ndwp-state: working\ndwp-origin-state: go\n"
    lease="${lease}dwp-run-id: foreign-$tip\ndwp-lease-seconds: $2\n"
    at=$(put "$branch" "$tip" "$lease") || continue
    echo "$tip" >>"$LOG"
    left=$((left - 1))
    [ "$3" = die ] && continue
    at=$(put "$branch" "$at" "$lease") && put "$branch" "$at" 'x\n\ndwp-state: done\n' >/dev/null
done
"""


def foreign(stage: Stage, *args: str) -> None:
    subprocess.run(["sh", "-c", FOREIGN, "foreign", *args], cwd=stage.repo.path, check=True)


def test_a_foreign_runner_and_ours_share_a_repository(stage: Stage, tmp_path: Path) -> None:
    log = os.environ["LOG"] = str(tmp_path / "log")
    branches = [f"task/{number}" for number in range(16)]
    triggers = [task(stage, 'echo "$AYNIG_COMMIT_HASH" >>"$LOG"', branch=each) for each in branches]
    # Each has something for sure: three that it died on, two that it holds, two that it has done.
    foreign(stage, "3", "1", "die")
    foreign(stage, "2", "3600", "die")
    foreign(stage, "2", "60")
    lost, held, done = branches_in(stage, branches)
    assert (len(lost), len(held), len(done)) == (3, 2, 2)
    with stage.live(poll=0.05) as told:
        rival = threading.Thread(target=foreign, args=(stage, "4", "60"))
        rival.start()
        rival.join()
        for each in branches:
            if each not in held:
                wait_for(lambda each=each: states(stage.repo, each)[-1] in ("done", "stalled"))  # type: ignore[misc]
    ran = Path(log).read_text().split()
    # Each commit was begun by one runner, and once.
    assert sorted(ran) == sorted(set(ran)) == sorted(set(triggers))
    assert {each for each in branches if states(stage.repo, each)[-1] == "stalled"} == set(lost)
    assert {each for each in branches if states(stage.repo, each)[-1] == "working"} == set(held)
    assert told.of("run")
    stage.assert_unharmed()


def branches_in(stage: Stage, branches: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Those with a lease that ends soon, with one that does not, and those that are done."""
    soon: list[str] = []
    held: list[str] = []
    done: list[str] = []
    for each in branches:
        found = said(stage.repo, each)
        if found["dwp-state"] == "done":
            done.append(each)
        elif found["dwp-state"] == "working":
            (held if found["dwp-lease-seconds"] == "3600" else soon).append(each)
    return soon, held, done


# --- looking at it -------------------------------------------------------------------------------


def test_the_log_has_a_row_for_a_lease_and_none_for_its_renewals(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task(stage, "true")
    for message in (working("theirs"), working("theirs"), "Own\n\ndwp-state: ready\n"):
        stage.repo.commit(message, branch="task")
    monkeypatch.chdir(stage.repo.path)
    aynig("log", "task", "--json")
    rows = json.loads(capsys.readouterr().out)
    shown = [(row["from_state"], row["state"], row["run"], row["executed_by"]) for row in rows]
    assert shown == [
        (None, "go", None, None),
        ("go", "working", "theirs", "other-box"),
        ("go", "ready", "theirs", "other-box"),
    ]


def test_status_says_since_when_a_run_is_under_way(stage: Stage) -> None:
    task(stage, "true")
    first = stage.repo.commit(working("theirs"), branch="task")
    on_branch(stage.repo, working("theirs"))
    began = int(stage.repo.git("log", "-1", "--format=%ct", first))
    assert stage.status().since == began


def test_retry_of_a_stalled_task_is_about_what_it_was(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    task(stage, "true", more="dwp-issue: 7\n")
    stage.repo.commit(working("theirs"), branch="task")
    monkeypatch.chdir(stage.repo.path)
    stage.run()
    assert aynig("retry", "task") == 0
    assert states(stage.repo) == ["go", "working", "stalled", "go"]
    assert said(stage.repo)["dwp-issue"] == "7"
    stage.run()
    assert states(stage.repo)[-2:] == ["working", "done"]


def test_retry_of_what_is_under_way_is_refused(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task(stage, "true")
    theirs = on_branch(stage.repo, working("theirs"))
    monkeypatch.chdir(stage.repo.path)
    assert aynig("retry", "task") == 1
    assert "run theirs by other-box" in capsys.readouterr().err
    assert stage.repo.tip("task") == theirs


def test_in_a_bare_repository_the_default_branch_decides(bare_stage: Stage) -> None:
    stage = bare_stage
    stage.repo.commit("Scripts", files={".dwp/command/go": "#!/bin/sh\n"})
    task(stage, None)
    stage.run()
    assert states(stage.repo)[-2:] == ["working", "done"]


def test_whenever_a_daemon_is_killed_no_commit_is_begun_twice(stage: Stage, tmp_path: Path) -> None:
    """Its tasks are marked for a person then: nobody knows how far a script has come."""
    log = os.environ["LOG"] = str(tmp_path / "log")
    Path(log).touch()
    branches = [f"task/{number}" for number in range(10)]
    for each in branches:
        task(stage, 'echo "$AYNIG_COMMIT_HASH" >>"$LOG"; sleep 0.1', branch=each)
    for kills in range(1, 5):
        with daemon(stage.repo.path, "--jobs", "2") as found:
            began = len(Path(log).read_text().split())
            # A little later each time, so that it is hit in other steps.
            wait_for(lambda: len(Path(log).read_text().split()) >= min(began + kills % 3, 10))  # noqa: B023
            found.process.kill()
            found.process.wait()
    stage.run()
    ran = Path(log).read_text().split()
    assert len(ran) == len(set(ran))
    ended = [states(stage.repo, each)[-1] for each in branches]
    assert set(ended) <= {"done", "stalled"}
    assert ended.count("done") >= 1
    stage.assert_unharmed()
