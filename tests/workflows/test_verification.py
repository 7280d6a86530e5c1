"""The worker is never the judge: commands and hidden scenarios say whether a run has succeeded."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stage import Stage, aynig, sh

COUNTING = 'n=$(cat "$COUNT" 2>/dev/null || echo 0); n=$((n + 1)); echo $n >"$COUNT"\n'


def hide(stage: Stage, **scenarios: str) -> None:
    """A branch with scenarios that no worker is to see."""
    files = {f"hidden/{name}": sh(text) for name, text in scenarios.items()}
    stage.repo.commit("Scenarios", branch="judge", files=files, parent=stage.repo.tip("main"))


def config(verify: str, more: str = "") -> str:
    return f"states:\n  go:\n    verify: {verify}\n{more}"


HIDDEN = "{scenarios: 'judge:hidden'}"


def test_commands_judge_the_result_and_the_answer_has_the_score(stage: Stage) -> None:
    stage.task("echo 42 >answer", config=config("['grep -q 42 answer', 'test ! -e junk']"))
    stage.run()
    assert stage.repo.state("task") == "done"
    assert stage.repo.fields("task")["verified"] == "2/2"


@pytest.mark.usefixtures("counted")
def test_a_result_that_is_not_good_enough_has_one_more_attempt_and_then_fails(
    stage: Stage,
) -> None:
    stage.task(
        COUNTING + "echo 41 >answer",
        config=config("['grep -q 42 answer']", "    on-failure: look\n"),
    )
    with stage.live():
        tip = stage.wait_for_state("look")
    fields = stage.repo.fields(tip)
    assert (fields["verified"], fields["attempt"]) == ("0/1", "2")
    assert fields["failed-attempt"].startswith("1: verification: 0/1")
    assert stage.repo.git("ls-tree", "--name-only", "task", "answer") == ""
    assert stage.repo.git("show", f"{fields['rescue']}:answer") == "41"


def test_hidden_scenarios_are_found_nowhere_by_the_worker_and_judge_it(stage: Stage) -> None:
    hide(stage, adds="grep -q 42 answer", subtracts="grep -q 43 answer || true")
    stage.task(
        "echo 42 >answer\n"
        "{ git show judge:hidden/adds; git log --all --format=%s; env;\n"
        '  git cat-file --batch-all-objects --batch; cat "$AYNIG_CONTEXT"; } >found 2>&1\n'
        'grep -c "4$(echo 3) answer" found >count\n'
        'grep -c "$(echo Scen)arios" found >>count\nrm found',
        config=config(HIDDEN),
    )
    stage.run()
    assert stage.repo.state("task") == "done"
    assert stage.repo.fields("task")["verified"] == "2/2"
    assert stage.repo.git("show", "task:count") == "0\n0"
    stage.assert_unharmed()


@pytest.mark.parametrize("commands", ["", "commands: ['true'], "])
def test_an_empty_folder_of_scenarios_is_named_as_what_is_wrong(
    stage: Stage, commands: str
) -> None:
    hide(stage, _notes="exit 0")
    checks = f"{{{commands}scenarios: 'judge:hidden'}}"
    stage.task("echo 42 >answer", config=config(checks, "    retries: {max: 0}\n"))
    stage.run()
    fields = stage.repo.fields("task")
    assert fields[""] == "failed"
    assert fields["verified"] == ("1/1" if commands else "0/0")
    assert fields["failure"].startswith("verification: there is no scenario in 'hidden' in ")
    assert "there is no scenario in 'hidden'" in stage.repo.message("task").partition("\n")[0]


@pytest.mark.parametrize(("show", "told"), [("score", None), ("names", "adds"), ("output", "adds")])
def test_the_names_of_failed_scenarios_are_told_as_far_as_the_workflow_allows(
    stage: Stage, show: str, told: str | None
) -> None:
    hide(stage, adds="echo no 42 here; exit 1", other="exit 0")
    stage.task(
        'echo "$AYNIG_FEEDBACK" >&2',
        config=config(f"{{scenarios: 'judge:hidden', show: {show}}}", "    retries: {max: 0}\n"),
    )
    stage.run()
    assert stage.repo.state("task") == "failed"
    fields = stage.repo.fields("task")
    assert fields["verified"] == "1/2"
    assert (told is None) == ("failed-scenario" not in fields)
    assert ("no 42 here" in stage.repo.message("task")) == (show == "output")
    assert ("adds" in stage.repo.message("task")) == (told is not None)


@pytest.mark.parametrize(("need", "state"), [("1", "done"), ("50%", "done"), ("all", "failed")])
def test_need_says_how_many_are_enough(stage: Stage, need: str, state: str) -> None:
    stage.task(
        "exit 0",
        config=config(f"{{commands: ['true', 'false'], need: {need}}}", "    retries: {max: 0}\n"),
    )
    stage.run()
    assert stage.repo.state("task") == state


def test_what_the_checks_change_never_lands(stage: Stage) -> None:
    stage.task("echo 1 >a", config=config("['echo junk >junk', 'test ! -e junk']"))
    stage.run()
    assert stage.repo.fields("task")["verified"] == "2/2"
    assert stage.repo.git("ls-tree", "--name-only", "task", "junk") == ""


def test_work_that_is_judged_by_a_published_hash_waits_until_there_is_one(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    hide(stage, adds="exit 0")
    stage.task("exit 0", config=config("{scenarios: 'judge:hidden', committed: true}"))
    stage.run()
    assert stage.repo.state("task") == "go", "it began before the hash was there"
    assert "judge commit" in stage.status().detail
    assert aynig("judge", "commit", "judge:hidden", "--name", "release") == 0
    assert aynig("resume", "task") == 0
    stage.run()
    assert stage.repo.state("task") == "done"
    assert stage.repo.fields("task")["judged-by"]
    assert aynig("judge", "reveal", "release") == 0
    assert aynig("audit", "task") == 0


@pytest.mark.parametrize(
    ("expect", "script", "words"),
    [
        ("changes", "exit 0", "it changed no file, and changes are expected"),
        ("answer", "echo made >made", "it gave no answer, and one is expected"),
    ],
)
def test_a_run_that_produced_nothing_where_something_is_expected_has_failed(
    stage: Stage, expect: str, script: str, words: str
) -> None:
    stage.task(script, config=f"states:\n  go:\n    expect: {expect}\n")
    stage.run()
    assert stage.repo.state("task") == "failed"
    assert stage.repo.fields("task")["fault"] == words


@pytest.mark.parametrize(
    ("expect", "script"),
    [
        ("changes", "echo made >made"),
        ("answer", "aynig respond done -m 'I looked at it'"),
        ("none", "exit 0"),
    ],
)
def test_what_is_expected_and_there_is_a_success(stage: Stage, expect: str, script: str) -> None:
    stage.task(script, config=f"states:\n  go:\n    expect: {expect}\n")
    stage.run()
    assert stage.repo.state("task") == "done"


def test_no_worker_starts_before_the_scenarios_are_there(stage: Stage) -> None:
    stage.task("exit 0", config=config(HIDDEN))
    assert not stage.run().of("run")
    row = stage.status()
    assert row.hold == "bad-config"
    assert "scenarios come from 'judge' of this repository, which does not exist" in row.detail
    hide(stage, adds="exit 0")
    stage.run()
    assert stage.repo.state("task") == "done"
