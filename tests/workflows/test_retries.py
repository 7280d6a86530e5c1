"""A run that was no success is repeated as its workflow says; history holds the answer alone."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aynig.policies import crashes
from tests.stage import Stage, aynig
from tests.world import aynig as program
from tests.world import wait_for

# Fails until it has been started so often; counts beside the repository, where nothing is reset.
COUNTING = """
n=$(cat "$COUNT" 2>/dev/null || echo 0); n=$((n + 1)); echo $n >"$COUNT"
echo "attempt $AYNIG_ATTEMPT"
"""

ONE_MORE = "{max: 1, backoff: 10ms}"


def config(retries: str, more: str = "") -> str:
    return f"states:\n  go:\n    retries: {retries}\n{more}"


@pytest.mark.usefixtures("counted")
def test_a_failed_run_is_repeated_and_the_answer_says_how_many_it_took_and_why(
    stage: Stage,
) -> None:
    script = COUNTING + 'echo "boom $n"; echo "$n" >made; [ $n = 3 ]'
    task = stage.task(script, config=config("{max: 3, backoff: 10ms}"))
    with stage.live():
        answer = stage.wait_for_state("done")
    assert stage.repo.git("rev-parse", f"{answer}~") == task, "an attempt made a commit"
    trailers = [value for key, value in stage.repo.trailers(answer) if key == "aynig"]
    told = [value for value in trailers if value.startswith("failed-attempt: ")]
    assert [line.split(";")[0] for line in told] == [
        "failed-attempt: 1: failure: exit 1: boom 1",
        "failed-attempt: 2: failure: exit 1: boom 2",
    ]
    assert stage.repo.fields(answer)["attempt"] == "3"
    assert stage.repo.git("show", f"{answer}:made") == "3"
    kept = told[0].partition("kept under ")[2]
    assert stage.repo.git("show", f"{kept}:made") == "1"
    stage.assert_unharmed()


@pytest.mark.usefixtures("counted")
def test_when_the_attempts_are_used_up_the_task_has_failed(stage: Stage) -> None:
    stage.task(COUNTING + "exit 3", config=config("{max: 2, backoff: 10ms}"))
    with stage.live():
        answer = stage.wait_for_state("failed")
    fields = stage.repo.fields(answer)
    assert (fields["attempt"], fields["exit"], fields["failure"]) == ("3", "3", "exit 3: attempt 3")


@pytest.mark.usefixtures("counted")
def test_an_end_that_is_not_named_is_not_repeated(stage: Stage) -> None:
    stage.task(COUNTING + "exit 3", config=config("{max: 5, backoff: 10ms, on: [timeout]}"))
    stage.run()
    assert stage.repo.state("task") == "failed"
    assert stage.repo.fields(stage.repo.tip("task"))["attempt"] == "1"


@pytest.mark.usefixtures("counted")
def test_a_run_that_takes_too_long_is_repeated(stage: Stage) -> None:
    script = COUNTING + "[ $n = 2 ] || exec sleep 60"
    stage.task(script, config=config("{max: 1, backoff: 10ms}", "    timeout: 300ms\n"))
    with stage.live(grace="100ms"):
        answer = stage.wait_for_state("done")
    assert stage.repo.fields(answer)["failed-attempt"].startswith("1: timeout: timed out")


@pytest.mark.usefixtures("counted")
def test_a_pause_that_the_script_asks_for_counts_in_the_place_of_the_backoff(stage: Stage) -> None:
    script = COUNTING + '[ $n = 2 ] && exit; echo "aynig: retry-after: 20ms" >"$AYNIG_RESPONSE"'
    stage.task(script + "\nexit 75", config=config("{max: 1, backoff: 1d}"))
    with stage.live():
        stage.wait_for_state("done")


@pytest.mark.usefixtures("counted")
def test_the_pause_shows_in_the_status_with_its_end_and_survives_a_restart(stage: Stage) -> None:
    stage.task(COUNTING + "exit 3", config=config("{max: 2, backoff: 1h, jitter: 0}"))
    stage.run()
    rows = [stage.status(), stage.status()]
    assert {row.hold for row in rows} == {"waiting"}
    assert "attempt 2 in" in rows[0].detail
    assert "exit 3: attempt 1" in rows[0].detail
    assert rows[0].until == rows[1].until
    assert rows[0].until is not None
    # Another start of the program does not begin to count again.
    stage.run()
    assert stage.status().until == rows[0].until


@pytest.mark.usefixtures("counted")
def test_a_retry_by_a_person_begins_with_the_first_attempt_again(stage: Stage) -> None:
    stage.task(COUNTING + "[ $n = 3 ]", config=config("{max: 1, backoff: 10ms}"))
    with stage.live():
        stage.wait_for_state("failed")
    assert aynig("retry", "task") == 0
    with stage.live():
        answer = stage.wait_for_state("done")
    assert stage.repo.fields(answer)["attempt"] == "1"


@pytest.mark.usefixtures("counted")
def test_the_next_attempt_is_told_why_the_last_one_failed(stage: Stage) -> None:
    script = COUNTING + 'echo "[$AYNIG_FEEDBACK]" >told; echo wrong units; [ $n = 2 ]'
    stage.task(script, config=config("{max: 1, backoff: 10ms}"))
    with stage.live():
        answer = stage.wait_for_state("done")
    assert stage.repo.git("show", f"{answer}:told") == "[exit 1: wrong units]"


def test_an_attempt_that_is_drained_forgets_nothing_of_those_before(
    stage: Stage, counted: Path
) -> None:
    script = COUNTING + "[ $n = 1 ] && exit 3; [ $n = 3 ] || exec sleep 60"
    stage.task(script, config=config("{max: 1, backoff: 10ms}"))
    with stage.live(grace="0"):
        wait_for(lambda: counted.exists() and counted.read_text() == "2\n", what="attempt 2")
    row = stage.status()
    assert (row.hold, row.detail.split(";")[0]) == (
        None,
        "ready for attempt 2 (its run was given up)",
    )
    stage.run()
    assert (
        stage.repo.fields(stage.repo.tip("task"))["failed-attempt"]
        == "1: failure: exit 3: attempt 1"
    )


@pytest.mark.usefixtures("counted")
def test_what_runs_have_spent_that_were_killed_with_their_runner_is_added_up(stage: Stage) -> None:
    script = 'echo "cost-usd: 1" >>"$AYNIG_USAGE"; [ $n = 3 ] || kill -9 $PPID'
    stage.task(COUNTING + script, config=config("{max: 0}"))
    for _ in range(2):
        assert program("run", cwd=stage.repo.path).returncode == -signal.SIGKILL
    stage.run()
    fields = stage.repo.fields(stage.repo.tip("task"))
    assert (fields[""], fields["cost-usd"], fields["attempt"]) == ("done", "3", "3")


# The program, but nothing waits after a crash.
AT_ONCE = """
from aynig.policies import crashes
from aynig.cli.main import main
crashes.FIRST_DELAY = 0.0
main(["run"])
"""


@pytest.mark.parametrize(
    ("more", "state"),
    [("", "failed"), ("    on-failure: mend\n", "mend"), ("    escalate: look\n", "look")],
)
def test_a_script_that_kills_its_runner_is_not_started_for_ever(
    stage: Stage, counted: Path, more: str, state: str
) -> None:
    script = COUNTING + 'echo "cost-usd: 1" >>"$AYNIG_USAGE"; kill -9 $PPID'
    task = stage.task(script, config=config("{max: 1}", more))
    for _ in range(crashes.MOST):
        assert run_at_once(stage) == -signal.SIGKILL
    assert run_at_once(stage) in (0, 1)
    answer = stage.repo.tip("task")
    assert stage.repo.git("rev-parse", f"{answer}~") == task
    assert counted.read_text() == f"{crashes.MOST}\n"
    fields = stage.repo.fields(answer)
    assert (fields[""], fields["step"], fields["cost-usd"]) == (state, "crashes", "10")
    assert fields["failure"] == "its runner died 10 times while it ran"
    assert fields["failed-attempt"] == "10: crash: its runner died while it ran"
    stage.assert_unharmed()


def run_at_once(stage: Stage) -> int:
    done = subprocess.run(
        [sys.executable, "-c", AT_ONCE], cwd=stage.repo.path, capture_output=True, check=False
    )
    return done.returncode


def test_after_the_third_crash_a_task_waits_for_its_time(stage: Stage, counted: Path) -> None:
    stage.task(COUNTING + "kill -9 $PPID")
    for _ in range(crashes.AT_ONCE):
        assert program("run", cwd=stage.repo.path).returncode == -signal.SIGKILL
    assert program("run", cwd=stage.repo.path).returncode == 0
    row = stage.status()
    assert (row.hold, row.detail.partition(" in ")[0]) == (
        "waiting",
        "its runner died 3 times: attempt 4",
    )
    assert counted.read_text() == "3\n"


def test_a_crash_is_no_attempt_that_retries_count(stage: Stage, counted: Path) -> None:
    stage.task(COUNTING + "[ $n = 1 ] && kill -9 $PPID; [ $n = 3 ]", config=config(ONE_MORE))
    assert program("run", cwd=stage.repo.path).returncode == -signal.SIGKILL
    with stage.live():
        answer = stage.wait_for_state("done")
    assert counted.read_text() == "3\n"
    assert stage.repo.fields(answer)["attempt"] == "3"
