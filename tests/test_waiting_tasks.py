"""Tasks that wait for each other run in their order, whatever is killed, and are freed at once."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from aynig.planfile import parse_plan
from aynig.site import open_site
from aynig.submitting import submit_plan
from tests.stage import NEVER, Stage, daemon
from tests.world import GitRepo, wait_for

# A diamond, and one that waits for all of it by another way.
PLAN = """
tasks:
  - {name: bottom, state: go, after: [left, right]}
  - {name: left, state: go, after: top}
  - {name: right, state: go, after: [top]}
  - {name: top, state: go}
"""
# It looks at what it was handed over: what is missing there was not done.
SCRIPT = """
python3 - <<'END' >got
import json, os
told = json.load(open(os.environ["AYNIG_CONTEXT"]))
for one in told["dependencies"]:
    print(one["name"], one["state"], one["meta"]["of"])
END
echo "aynig: meta-of: $AYNIG_BRANCH" >>"$AYNIG_RESPONSE"
"""
BRANCHES = ("top", "left", "right", "bottom")
GOT = {
    "top": "",
    "left": "top done top",
    "right": "top done top",
    "bottom": "left done left\nright done right",
}


def begin(repo: GitRepo, script: str = SCRIPT, plan: str = PLAN) -> None:
    files: dict[str, str | bytes | None] = {".aynig/go": f"#!/bin/sh\n{script}"}
    repo.commit("scripts", files=files)
    repo.sync()
    site = open_site(repo.path)
    try:
        submit_plan(site, parse_plan(plan, "plan"))
    finally:
        site.close()


def assert_in_order(repo: GitRepo) -> None:
    """Each has run once, after what it waits for, and has what that handed over."""
    for branch in BRANCHES:
        assert repo.state(branch) == "done"
        assert repo.git("rev-list", "--count", f"main..{branch}") == "2"
        assert repo.git("show", f"{branch}:got") == GOT[branch]


def test_a_plan_runs_in_its_order_and_hands_results_over(stage: Stage) -> None:
    begin(stage.repo)
    told = stage.run(jobs=4)
    runs = [notice.branch for notice in told.of("run")]
    assert runs[0] == "top"
    assert runs[3] == "bottom"
    assert_in_order(stage.repo)
    stage.assert_unharmed()


@pytest.mark.parametrize("step", range(8))
def test_killed_at_each_step_a_plan_comes_to_the_same_end(stage: Stage, step: int) -> None:
    begin(stage.repo)
    with daemon(stage.repo.path, "--jobs", "1") as running:
        wait_for(lambda: len(running.of("run") + running.of("answer")) > step, what=f"step {step}")
        os.kill(running.process.pid, signal.SIGKILL)
        running.process.wait()
    stage.run()
    assert_in_order(stage.repo)
    stage.assert_unharmed()


def test_two_runners_keep_the_order(stage: Stage) -> None:
    begin(stage.repo)
    with daemon(stage.repo.path) as one, daemon(stage.repo.path) as other:
        wait_for(lambda: stage.repo.state("bottom") == "done", what="the end")
        assert len(one.of("answer")) + len(other.of("answer")) >= 1
    assert_in_order(stage.repo)


def test_a_failure_in_the_middle_ends_what_depends_on_it_where_the_workflow_says_so(
    stage: Stage,
) -> None:
    config = "states: {go: {on-dependency-failure: fail}}\n"
    stage.repo.commit("settings", files={".aynig/config.yaml": config})
    begin(stage.repo, '[ "$AYNIG_BRANCH" != left ]\n')
    stage.run()
    assert [stage.repo.state(branch) for branch in BRANCHES] == ["done", "failed", "done", "failed"]
    message = stage.repo.message("bottom")
    assert message.startswith("go -> failed: left ended as failed\n")
    assert "aynig: blocked-by: left\n" in message
    assert "aynig: step: dependency" in message


def test_a_task_that_waits_for_a_branch_of_a_remote_is_freed_by_the_look_at_it(
    repo: GitRepo, bare: GitRepo
) -> None:
    script = {".aynig/go": "#!/bin/sh\n", ".aynig/held": "#!/bin/sh\n"}
    bare.commit("scripts", files={**script})
    bare.commit("x\n\naynig: stalled\n", branch="job", parent=bare.tip())
    repo.git("remote", "add", "origin", str(bare.path))
    waits = "x\n\naynig: go\naynig: depends-on: origin:job\n"
    repo.commit(waits, branch="task", parent=repo.tip(), files={**script})
    places = ("--remote", ".", "--remote", "origin", "--poll", str(int(NEVER)))
    with daemon(repo.path, *places) as running:
        wait_for(lambda: running.of("hold", "task"), what="it to wait")
        assert running.of("hold", "task")[0]["hold"] == "waiting"
        wait_for(lambda: running.of("hold", "job"), what="the look at the remote")
        bare.commit("x\n\naynig: done\n", branch="job")
        wait_for(lambda: repo.state("task") == "done", what="the task")


def test_a_task_that_waits_for_a_branch_of_a_remote_is_freed_by_a_fetch(
    repo: GitRepo, tmp_path: Path
) -> None:
    other = GitRepo.init(tmp_path / "other")
    other.commit("x\n\naynig: go\n", branch="job", parent=other.tip())
    repo.git("remote", "add", "origin", str(other.path))
    repo.git("fetch", "--quiet", "origin")
    waits = "x\n\naynig: go\naynig: depends-on: origin:job\n"
    repo.commit(waits, branch="task", parent=repo.tip(), files={".aynig/go": "#!/bin/sh\n"})
    with daemon(repo.path, "--poll", str(int(NEVER))) as running:
        wait_for(lambda: running.of("hold", "task"), what="it to wait")
        other.commit("x\n\naynig: done\n", branch="job")
        repo.git("fetch", "--quiet", "origin")
        wait_for(lambda: repo.state("task") == "done", what="the task")
