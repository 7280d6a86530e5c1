"""A task that failed for good is undone, handed on, or handed to a person with what it takes."""

from __future__ import annotations

import pytest

from tests.stage import Stage, aynig, sh


def test_on_failure_names_the_state_that_takes_over(stage: Stage) -> None:
    stage.task(
        "exit 1",
        files={".aynig/plan-b": sh("exit 0")},
        config="states:\n  go:\n    on-failure: plan-b\n",
    )
    stage.run()
    tip = stage.repo.tip("task")
    assert stage.repo.state("task") == "done"
    assert stage.repo.fields(f"{tip}~")["failure"] == "exit 1"


def test_a_compensation_undoes_and_then_the_task_has_failed_whatever_it_says(stage: Stage) -> None:
    stage.task(
        "exit 1",
        files={
            ".aynig/undo": sh('echo "undid $AYNIG_TRAILER_COMPENSATES"; aynig respond released')
        },
        config="states:\n  go:\n    compensate: undo\n",
    )
    task = stage.repo.tip("task")
    stage.run()
    tip = stage.repo.tip("task")
    assert stage.repo.state("task") == "failed"
    before = stage.repo.fields(f"{tip}~")
    assert (before[""], before["compensates"], before["then"]) == ("undo", task, "failed")
    assert stage.repo.fields(tip)["overruled"] == "released"


def test_after_a_compensation_the_task_goes_where_it_would_have_gone_without(stage: Stage) -> None:
    stage.task(
        "exit 1",
        files={".aynig/undo": sh("exit 0"), ".aynig/plan-b": sh("exit 0")},
        config="states:\n  go:\n    compensate: undo\n    on-failure: plan-b\n",
    )
    stage.run()
    states = stage.repo.git("log", "--format=%s", "--reverse", "task", "^main").split("\n")
    assert [line.partition(":")[0] for line in states[1:]] == [
        "go -> undo",
        "undo -> plan-b",
        "plan-b -> done",
    ]


def test_a_compensation_that_fails_is_no_success(stage: Stage) -> None:
    stage.task(
        "exit 1",
        files={".aynig/undo": sh("exit 2")},
        config="states:\n  go:\n    compensate: undo\n  undo:\n    escalate: help\n",
    )
    stage.run()
    assert stage.repo.state("task") == "help"


def test_an_escalation_tells_a_person_what_there_is_to_know(stage: Stage) -> None:
    stage.task(
        "echo half >made; echo the disk is on fire; exit 1",
        config="states:\n  go:\n    escalate: needs-ann\n    retries: {max: 1, backoff: 10ms}\n",
    )
    with stage.live():
        tip = stage.wait_for_state("needs-ann")
    message = stage.repo.message(tip)
    rescue = stage.repo.fields(tip)["rescue"]
    assert "    the disk is on fire" in message
    assert "2 attempts were made." in message
    assert "  1. failure: exit 1: the disk is on fire (git show refs/aynig/rescue/" in message
    assert "  aynig retry task " in message
    assert f"git show {rescue}" in message
    assert stage.repo.git("show", f"{rescue}:made") == "half"
    row = stage.status()
    assert row.hold == "stalled"
    assert "`aynig retry task`" in row.detail


@pytest.mark.parametrize("autonomy", ["step", "checkpoint", "end", "stuck"])
def test_a_workflow_that_stops_when_it_is_stuck_ends_for_a_person(
    stage: Stage, autonomy: str
) -> None:
    stage.task("exit 1", config=f"autonomy: {autonomy}\nstates: {{}}\n")
    stage.run()
    assert stage.repo.state("task") == "stalled"
    assert "aynig retry task" in stage.repo.message("task")


def test_a_task_that_was_handed_over_is_run_again_by_retry(stage: Stage) -> None:
    stage.task(
        '[ -e "$HOME/mended" ] || exit 1', config="states:\n  go:\n    escalate: needs-ann\n"
    )
    stage.run()
    assert stage.repo.state("task") == "needs-ann"
    assert aynig("retry", "task") == 0
    assert stage.repo.state("task") == "go"


def test_retry_from_goes_on_from_an_earlier_point_and_rewrites_nothing(stage: Stage) -> None:
    first = stage.task(
        "echo one >file",
        files={".aynig/second": sh("echo two >file"), ".aynig/third": sh("exit 1")},
        config="states:\n  go: {next: second}\n  second: {next: third}\n",
    )
    stage.run()
    failed = stage.repo.tip("task")
    second = stage.repo.git("rev-parse", "task~2")
    assert stage.repo.fields(second)[""] == "second"
    assert aynig("retry", "task", "--from", second) == 0
    assert stage.repo.state("task") == "second"
    assert stage.repo.git("rev-parse", "task~") == failed
    assert stage.repo.git("show", "task:file") == "one"
    stage.run()
    assert stage.repo.state("task") == "failed"
    assert stage.repo.git("merge-base", "--is-ancestor", first, "task") == ""


def test_retry_from_brings_the_working_tree_along_that_has_the_branch(stage: Stage) -> None:
    stage.task("echo one >file", config="states:\n  go: {next: second}\n")
    stage.run()
    first = stage.repo.git("rev-parse", "task~")
    stage.repo.git("checkout", "--quiet", "task")
    assert (stage.repo.path / "file").exists()
    assert aynig("retry", "task", "--from", first) == 0
    assert not (stage.repo.path / "file").exists()
    assert stage.repo.git("status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("start", "words"),
    [("nowhere", "there is no commit"), ("main", "has no state there"), ("task", "ended there")],
)
def test_retry_from_names_what_can_not_be_gone_on_from(
    stage: Stage, capsys: pytest.CaptureFixture[str], start: str, words: str
) -> None:
    stage.task("exit 1")
    stage.run()
    assert aynig("retry", "task", "--from", start) == 2
    assert words in capsys.readouterr().err


def test_resume_does_not_write_the_state_of_a_person_once_more(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.task("exit 1", config="states:\n  go: {escalate: look}\n")
    stage.run()
    tip = stage.repo.tip("task")
    assert aynig("resume", "task") == 1
    assert "`aynig retry task` runs again what failed" in capsys.readouterr().err
    assert stage.repo.tip("task") == tip
