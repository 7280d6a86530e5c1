"""A task whose time is up is not started, a run of it is stopped, and both are told."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.killing import each_step, run_killed_at
from tests.stage import Stage
from tests.world import GitRepo, wait_for

SHORT = "states:\n  go: {deadline: 10s, on-failure: late}\n"
LATE = {".aynig/late": '#!/bin/sh\necho "meanwhile" >"$AYNIG_RESPONSE"\n'}


@pytest.fixture
def stage(repo: GitRepo) -> Stage:
    """Its commits are of today."""
    repo._clock = int(time.time()) - 3600
    return Stage(repo)


def begun(stage: Stage, seconds: float) -> None:
    """The next commit is so old."""
    stage.repo._clock = int(time.time() - seconds) - 60


def test_a_task_past_its_deadline_is_answered_and_not_started(stage: Stage) -> None:
    begun(stage, 75)
    stage.task("touch ran", config=SHORT, files=LATE)
    stage.run()
    late = stage.repo.fields("task^")
    assert (late[""], late["step"]) == ("late", "deadline")
    assert late["failure"].startswith("its deadline of 10s was over for 1m")
    # What comes after a failure may take its time.
    assert stage.repo.state("task") == "done"
    assert stage.repo.git("log", "--format=%s", "-1", "task").endswith("meanwhile")
    assert "ran" not in stage.repo.git("ls-tree", "--name-only", "task")


def test_the_shorter_deadline_counts_and_a_task_may_have_one_of_its_own(stage: Stage) -> None:
    begun(stage, 75)
    stage.task("true", fields={"deadline": "1m"})
    begun(stage, 75)
    stage.task("true", branch="longer", fields={"deadline": "2m"})
    stage.run()
    assert stage.repo.state("task") == "failed"
    assert stage.repo.state("longer") == "done"


def test_a_run_is_stopped_at_the_deadline_and_not_tried_again(stage: Stage) -> None:
    begun(stage, 0)
    stage.task(
        "sleep 600",
        config="retries: {max: 3, backoff: 0s}\nstates:\n  go: {deadline: 2s, timeout: 5m}\n",
    )
    stage.run(grace=0.5)
    fields = stage.repo.fields("task")
    assert (fields[""], fields["stopped"], fields["attempt"]) == ("failed", "deadline", "1")
    assert fields["failure"].startswith("its deadline was over")
    assert "its deadline was over" in stage.repo.git("log", "--format=%s", "-1", "task")
    stage.assert_unharmed()


def test_a_loop_ends_at_the_deadline(stage: Stage) -> None:
    begun(stage, 0)
    stage.task("sleep 0.3", config="states:\n  go: {deadline: 2s, loop: {promise: KEPT}}\n")
    stage.run(grace=0.5)
    assert stage.repo.state("task") == "failed"


def test_who_waits_is_answered_when_the_time_is_up(stage: Stage) -> None:
    begun(stage, 0)
    stage.task("true", fields={"deadline": "3s", "depends-on": "other"})
    with stage.live() as told:
        wait_for(lambda: told.holds("task"))
        row = stage.status()
        assert row.deadline is not None
        assert row.deadline - time.time() < 3.5
        stage.wait_for_state("failed")


def test_who_waits_for_children_is_answered_when_the_time_is_up(stage: Stage) -> None:
    begun(stage, 0)
    config = "states:\n  gather: {join: {then: x}, deadline: 3s, on-failure: late}\n"
    stage.task(state="gather", config=config)
    stage.repo.commit("x\n\naynig: blocked\naynig: parent: task\n", branch="child")
    with stage.live() as told:
        wait_for(lambda: told.holds("task"))
        assert stage.status().hold == "waiting"
        assert stage.wait_for_state("late")
    assert stage.repo.fields("task")["step"] == "deadline"


def test_a_pause_before_another_attempt_does_not_go_beyond_it(stage: Stage) -> None:
    begun(stage, 0)
    config = "retries: {max: 3, backoff: 1h}\nstates:\n  go: {deadline: 3s}\n"
    stage.task("exit 1", config=config)
    with stage.live():
        stage.wait_for_state("failed")
    assert stage.repo.fields("task")["step"] == "deadline"


def test_who_asks_for_it_again_gives_it_the_same_time_once_more(stage: Stage) -> None:
    begun(stage, 75)
    stage.task("true", fields={"deadline": "1m"})
    stage.run()
    assert stage.repo.state("task") == "failed"
    stage.repo._clock = int(time.time()) - 60
    failed = stage.repo.tip("task")
    stage.repo.commit(f"Again\n\naynig: go\naynig: retry-of: {failed}\n", branch="task")
    stage.run()
    assert stage.repo.state("task") == "done"


def test_whatever_step_a_run_is_killed_at_a_late_task_is_answered_once(tmp_path: Path) -> None:
    for number, (step, when) in enumerate(each_step()):
        stage = Stage(GitRepo.init(tmp_path / f"repo-{number}"))
        begun(stage, 75)
        stage.task(f"echo >>{tmp_path}/ran", config=SHORT, files=LATE)
        killed = run_killed_at(stage.repo.path, step, when)
        stage.run()
        states = stage.repo.git("log", "--format=%(trailers:key=aynig,valueonly)", "task").split(
            "\n"
        )
        assert states.count("step: deadline") == 1, (step, when)
        assert stage.repo.state("task") == "done", (step, when)
        if not killed:
            break
    assert not (tmp_path / "ran").exists()
