"""`aynig log` tells the story of a task, the oldest first."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Shell

KEYS = {
    "branch", "oid", "answers", "from_state", "state", "run", "attempt", "exit", "duration",
    "executed_by", "script",
}  # fmt: skip


@pytest.fixture
def task(aynig: Shell) -> Shell:
    """A task that was asked for, answered, touched by a person, and asked for again."""
    fail = "#!/bin/sh\nexit 3\n"
    aynig.repo.commit(
        "Please go\n\naynig: go\n",
        branch="task",
        parent=aynig.repo.tip(),
        files={".aynig/go": fail},
    )
    aynig("run", "-q")
    aynig.repo.commit("my own mend", branch="task", files={".aynig/go": "#!/bin/sh\n"})
    aynig("submit", "go", "-b", "task", "-m", "Again")
    aynig("run", "-q")
    return aynig


def test_json_has_a_row_a_state_the_oldest_first(task: Shell) -> None:
    rows = task("log", "task", "--json").rows
    assert all(set(row) >= KEYS for row in rows)
    assert [(row["from_state"], row["state"], row["exit"]) for row in rows] == [
        (None, "go", None),
        ("go", "failed", 3),
        (None, "go", None),
        ("go", "done", 0),
    ]
    line = task.repo.git("log", "--format=%H", "--reverse", "--grep=^aynig: ", "task").split()
    assert [row["oid"] for row in rows] == line
    assert rows[1]["answers"] == rows[0]["oid"]
    assert rows[1]["attempt"] == rows[3]["attempt"] == 1
    assert rows[0]["run"] is None
    assert "@" in rows[1]["executed_by"]


def test_for_people_it_is_a_table(task: Shell) -> None:
    said = task("log", "task")
    assert said.status == 0
    assert len(said.lines) == 5
    assert "exit 3" in said.lines[2]
    assert not any(line.endswith(" ") for line in said.lines)


def test_without_a_branch_it_is_the_one_that_is_checked_out(task: Shell) -> None:
    task.repo.git("checkout", "--quiet", "task")
    assert task("log", "--json").rows == task("log", "task", "--json").rows
    task.repo.git("checkout", "--quiet", "--detach")
    said = task("log")
    assert said.status == 1
    assert "`aynig log BRANCH`" in said.err


def test_a_branch_that_is_no_task_is_told_so(aynig: Shell) -> None:
    said = aynig("log", "main")
    assert said.status == 0
    assert "'main' is no task" in said.out
    assert aynig("log", "main", "--json").rows == []


def test_claims_in_the_history_break_no_reader(aynig: Shell) -> None:
    aynig.repo.commit(
        "x\x1b[2J\n\naynig: go\naynig: answers: x\naynig: duration: nan\naynig: exit: x\n"
        "aynig: executed-by: \u202eevil\n",
        branch="task",
        parent=aynig.repo.tip(),
    )
    said = aynig("log", "task")
    assert said.status == 0
    assert "\x1b" not in said.out
    assert "\u202e" not in said.out
    (row,) = aynig("log", "task", "--json").rows
    assert (row["duration"], row["exit"]) == (None, None)


def test_attempts_are_shown_where_there_was_more_than_one(aynig: Shell) -> None:
    for attempt, shown in ((1, False), (2, True)):
        aynig.repo.commit(
            f"x\n\naynig: review\naynig: attempt: {attempt}\n",
            branch="task",
            parent=aynig.repo.tip(),
        )
        assert ("try" in aynig("log", "task").lines[0].split()) is shown


def test_why_attempts_failed_is_told(aynig: Shell) -> None:
    script = "#!/bin/sh\necho boom $AYNIG_ATTEMPT\nexit 3\n"
    files = {".aynig/go": script, ".aynig/config.yaml": "retries: {max: 2, backoff: 0s}\n"}
    aynig.repo.commit("x\n\naynig: go\n", branch="task", parent=aynig.repo.tip(), files=files)
    aynig("run", "-q")
    row = aynig("log", "task", "--json").rows[-1]
    assert row["failed_attempts"] == ["1: failure: exit 3: boom 1", "2: failure: exit 3: boom 2"]
    assert row["failure"] == "exit 3: boom 3"
    first, second, last = aynig("log", "task").lines[-3:]
    assert first.split() == ["go", "1", "failure:", "exit", "3:", "boom", "1"]
    assert second.split()[1] == "2"
    assert last.split()[2:4] == ["failed", "go"]
    assert last.endswith("exit 3: boom 3")
