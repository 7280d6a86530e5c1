"""`aynig run` does all that can be done now, says what it did, and ends."""

from __future__ import annotations

import re

import pytest

from tests.cli.conftest import Shell
from tests.stage import UNFENCED
from tests.world import wait_for

ROW = {
    "branch", "oid", "answers", "from_state", "state", "run", "attempt", "exit", "duration",
    "executed_by", "script",
}  # fmt: skip
SCRIPTS: dict[str, str | bytes | None] = {
    ".aynig/go": '#!/bin/sh\naynig_says=next\necho "aynig: $aynig_says" >"$AYNIG_RESPONSE"\n',
    ".aynig/next": "#!/bin/sh\necho made >made\n",
    ".aynig/fail": "#!/bin/sh\necho boom >&2\nexit 3\n",
    ".aynig/later": "#!/bin/sh\necho 'no network' >\"$AYNIG_RESPONSE\"\nexit 75\n",
}


def task(aynig: Shell, state: str, branch: str = "task") -> str:
    return aynig.repo.commit(
        f"Please {state}\n\naynig: {state}\n",
        branch=branch,
        parent=aynig.repo.tip(),
        files=SCRIPTS,
    )


def test_where_nothing_is_to_do_it_says_so_and_succeeds(aynig: Shell) -> None:
    said = aynig("run")
    assert (said.status, said.out) == (0, "Nothing to run.\n")


def test_a_chain_is_followed_and_each_run_is_a_row(aynig: Shell) -> None:
    asked = task(aynig, "go")
    said = aynig("run", "--json")
    assert (said.status, said.err) == (0, "")
    first, second = said.rows
    assert set(first) >= ROW
    assert (first["branch"], first["answers"]) == ("task", asked)
    assert (first["from_state"], first["state"], first["exit"]) == ("go", "next", 0)
    assert (second["answers"], second["state"]) == (first["oid"], "done")
    assert second["oid"] == aynig.repo.tip("task")
    assert isinstance(first["duration"], float)
    assert first["script"] == aynig.repo.git("rev-parse", f"{asked}:.aynig/go")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z", first["time"])


def test_the_rows_of_run_are_those_of_log(aynig: Shell) -> None:
    task(aynig, "go")
    ran = aynig("run", "--json").rows
    logged = [row for row in aynig("log", "task", "--json").rows if row["answers"]]
    assert [{key: row[key] for key in ROW} for row in ran] == [
        {key: row[key] for key in ROW} for row in logged
    ]


def test_an_answer_without_a_run_is_a_step_and_has_no_exit_status(aynig: Shell) -> None:
    files: dict[str, str | bytes | None] = {
        ".aynig/config.yaml": "states: {go: {join: {then: done}}}"
    }
    aynig.repo.commit("x\n\naynig: go\n", branch="task", files=files)
    aynig.repo.commit("x\n\naynig: done\naynig: parent: task\n", branch="child")
    before = aynig.repo.tip("task")
    said = aynig("run")
    assert said.lines[-1] == "0 runs, 1 step, 0 failed."
    assert " go -> done at " in said.err
    assert " in 0s" not in said.err
    aynig.repo.git("update-ref", "refs/heads/task", before)
    aynig.repo.commit("x\n\naynig: go\n", branch="task", files=files, parent=before)
    (ran,) = aynig("run", "--json").rows
    logged = aynig("log", "task", "--json").rows[-1]
    assert {key: ran[key] for key in ROW} == {key: logged[key] for key in ROW}
    assert (ran["exit"], ran["duration"], ran["script"]) == (None, None, None)


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_run_that_failed_is_exit_status_1(aynig: Shell, more: list[str]) -> None:
    task(aynig, "fail", "bad")
    task(aynig, "next", "good")
    assert aynig("run", *more).status == 1


MENDED = "states: {go: {on-failure: repair}}\n"
BAD_ENDS = {
    "its worktree removed": ('rm -rf "$PWD"', "repair"),
    "a malformed answer": ('echo "aynig: A B" >"$AYNIG_RESPONSE"', "repair"),
    "its branch moved": (f"{UNFENCED}git update-ref refs/heads/task HEAD^", ""),
    "its lease lost": (f"{UNFENCED}git for-each-ref --format='delete %(refname)' refs/aynig/lease |"
                       " git update-ref --stdin", "go"),
}  # fmt: skip


@pytest.mark.parametrize("how", BAD_ENDS)
def test_a_run_that_ended_badly_is_exit_status_1_whatever_its_script_said(
    aynig: Shell, how: str
) -> None:
    script, state = BAD_ENDS[how]
    aynig.repo.commit(
        "Please go\n\naynig: go\n",
        branch="task",
        parent=aynig.repo.tip(),
        files={".aynig/go": f"#!/bin/sh\n{script}\nexit 0\n", ".aynig/config.yaml": MENDED},
    )
    said = aynig("run", "--no-follow", "--json")
    (row,) = said.rows
    assert (said.status, row["exit"]) == (1, 0)
    assert (row["state"], aynig.repo.state("task")) == (state if row["oid"] else "refused", state)
    assert bool(row["fault"]) is bool(row["oid"])


def test_a_run_that_was_interrupted_has_not_failed(aynig: Shell) -> None:
    aynig.repo.git("config", "aynig.grace", "0.1")
    script = "#!/bin/sh\necho begun\nwhile :; do sleep 0.05; done\n"
    files: dict[str, str | bytes | None] = {".aynig/go": script}
    aynig.repo.commit(
        "Please go\n\naynig: go\n", branch="task", parent=aynig.repo.tip(), files=files
    )
    process = aynig.start("run")
    runs = aynig.repo.git_dir / "aynig" / "runs"
    wait_for(lambda: any(p.read_text() for p in runs.glob("*/output")), what="the script")
    process.terminate()
    out, _ = process.communicate()
    assert process.returncode == 130
    assert out.decode().splitlines()[-1] == "1 run, 0 failed, 1 interrupted."


def test_a_later_retry_is_no_failure_and_is_left_for_the_next_time(aynig: Shell) -> None:
    task(aynig, "later")
    said = aynig("run", "--json")
    assert said.status == 0
    assert [(row["state"], row["exit"], row["oid"]) for row in said.rows] == [("waiting", 75, None)]
    assert said.rows[0]["subject"] == "no network"
    assert aynig.repo.state("task") == "later"


def test_the_table_has_the_reason_of_a_later_retry_and_where_the_work_is(aynig: Shell) -> None:
    task(aynig, "later")
    again = SCRIPTS[".aynig/later"]
    assert isinstance(again, str)
    files = {".aynig/later": again.replace("exit", "echo made >made\nexit")}
    aynig.repo.commit(
        "Please\n\naynig: later\n", branch="works", parent=aynig.repo.tip(), files=files
    )
    rows = {row["branch"]: row["subject"] for row in aynig("run", "--json").rows}
    kept = aynig.repo.git("for-each-ref", "--format=%(refname)", "refs/aynig/rescue/")
    assert rows == {"task": "no network", "works": f"no network; its work is kept under {kept}"}


def test_without_following_the_next_state_is_left(aynig: Shell) -> None:
    task(aynig, "go")
    assert len(aynig("run", "--no-follow", "--json").rows) == 1
    assert aynig.repo.state("task") == "next"


def test_only_the_branches_that_match_are_run(aynig: Shell) -> None:
    for branch in ("task/a", "task/deep/b", "other"):
        task(aynig, "next", branch)
    said = aynig("run", "--branch", "task/*", "--json")
    assert {row["branch"] for row in said.rows} == {"task/a", "task/deep/b"}
    assert aynig.repo.state("other") == "next"


def test_for_people_progress_goes_to_standard_error_and_the_table_to_standard_output(
    aynig: Shell,
) -> None:
    task(aynig, "fail")
    said = aynig("run")
    assert re.search(r"^run +task: fail \(run ", said.err, re.MULTILINE)
    assert re.search(r"^answer +task: fail -> failed at [0-9a-f]{10} in ", said.err, re.MULTILINE)
    assert said.lines[0].split() == [
        "branch", "state", "answer", "exit", "took", "commit", "message",
    ]  # fmt: skip
    assert "exit 3" in said.lines[1]
    assert said.lines[-1] == "1 run, 1 failed."
    assert not any(line.endswith(" ") for line in said.lines)
    assert "\x1b" not in said.out + said.err


def test_quiet_leaves_the_table(aynig: Shell) -> None:
    task(aynig, "next")
    said = aynig("run", "-q")
    assert said.err == ""
    assert "done" in said.out


def test_what_holds_a_task_is_told(aynig: Shell) -> None:
    aynig.repo.commit("x\n\naynig: nowhere\n", branch="task", parent=aynig.repo.tip())
    said = aynig("run")
    assert said.status == 0
    assert "missing-script" in said.err
    assert ".aynig/nowhere" in said.err


def test_a_filter_that_fails_is_what_status_says_until_it_is_mended(aynig: Shell) -> None:
    repo = aynig.repo
    repo.git("config", "filter.x.smudge", "false")
    repo.git("config", "filter.x.required", "true")
    repo.commit(
        "Please next\n\naynig: next\n",
        branch="task",
        parent=repo.tip(),
        files={**SCRIPTS, ".gitattributes": "* filter=x\n", "file": "x\n"},
    )
    said = aynig("run")
    assert said.status == 1
    (row,) = aynig("status", "--json").rows
    assert row["hold"] == "error"
    assert "filter 'false' failed" in row["detail"]
    assert "attempt 1 in" in row["detail"]
    assert row["until"] is not None
    for direction in ("smudge", "clean"):
        repo.git("config", f"filter.x.{direction}", "cat")
    assert aynig("retry", "task").status == 0
    assert aynig("run").status == 0
    assert repo.state("task") == "done"


def test_a_task_that_could_not_be_worked_on_is_a_failure(
    aynig: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    task(aynig, "next")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("aynig.runs.RunArchive.create", full)
    said = aynig("run")
    assert said.status == 1
    assert "No space left on device" in said.err
    assert not aynig.repo.git("for-each-ref", "refs/aynig/rescue")
