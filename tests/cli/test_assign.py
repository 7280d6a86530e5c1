"""`aynig assign` says whose a task is, and `aynig reopen` sends it back to work."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Shell
from tests.stage import Stage
from tests.world import GitRepo, wait_for


def fields(repo: GitRepo, rev: str) -> dict[str, str]:
    pairs = [value.partition(": ") for key, value in repo.trailers(rev) if key == "aynig"]
    return {key: value for key, _, value in pairs if key}


def test_a_task_is_assigned_with_all_that_it_said(aynig: Shell) -> None:
    aynig("submit", "go", "-b", "task", "-m", "Do it\n\nwell", "--to", "bob", "--trailer", "X: y")
    before = aynig.repo.tip("task")
    said = aynig("assign", "task", "coder")
    assert (said.status, said.out) == (0, f"task {aynig.repo.tip('task')}\n")
    assert aynig.repo.git("rev-parse", "task^") == before
    assert aynig.repo.trailers("task") == [
        ("aynig", "go"),
        ("aynig", "assigned-to: coder"),
        ("X", "y"),
    ]
    assert aynig.repo.message("task").startswith("go: assigned to coder\n\nDo it\n\nwell\n")
    aynig("assign", "task", "--nobody")
    assert "assigned-to" not in fields(aynig.repo, "task")
    assert aynig.repo.state("task") == "go"


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (["task"], "there is no AGENT"),
        (["task", "bob", "--nobody"], "can't be given together"),
        (["task", "two words"], "is no agent"),
        (["task", "two\nlines"], "control character"),
        (["nowhere", "bob"], "nowhere"),
        (["over", "bob"], "over has ended: done"),
    ],
)
def test_what_can_not_be_assigned_is_said(aynig: Shell, args: list[str], error: str) -> None:
    aynig("submit", "go", "-b", "task")
    aynig.repo.commit("x\n\naynig: done\n", branch="over")
    before = aynig.repo.git("for-each-ref")
    said = aynig("assign", *args)
    assert said.status in (1, 2)
    assert error in said.err
    assert aynig.repo.git("for-each-ref") == before


def test_a_task_that_is_running_is_taken_away_only_by_force(aynig: Shell) -> None:
    stage = Stage(aynig.repo)
    stage.task("exec sleep 600")
    with stage.live() as told:
        wait_for(lambda: told.of("run", "task"), what="the script")
        assert "is running" in aynig("assign", "task", "bob").err
        assert aynig("assign", "task", "bob", "--force").status == 0
        wait_for(lambda: len(told.of("run", "task")) == 2, what="the next one")
        assert aynig("cancel", "task").status == 0
    assert fields(aynig.repo, "task^")["assigned-to"] == "bob"


def test_a_task_that_is_done_is_sent_back_with_what_is_wrong(aynig: Shell) -> None:
    stage = Stage(aynig.repo)
    stage.task('echo "$AYNIG_TRAILER_VALIDATION_ERRORS" >told')
    stage.run()
    done = aynig.repo.tip("task")
    said = aynig("reopen", "task", "-m", "May is missing", "-m", "so is June", "--json")
    assert said.rows == [{"branch": "task", "oid": aynig.repo.tip("task"), "state": "go"}]
    assert fields(aynig.repo, "task")["reopens"] == done
    stage.run()
    assert aynig.repo.state("task") == "done"
    assert aynig.repo.git("show", "task:told") == "May is missing\nso is June"


@pytest.mark.parametrize(("state", "error"), [("go", "is not done: go"), ("done", "no run led")])
def test_only_what_a_run_has_done_is_sent_back(aynig: Shell, state: str, error: str) -> None:
    aynig.repo.commit(f"x\n\naynig: {state}\n", branch="task")
    said = aynig("reopen", "task")
    assert (said.status, said.out) == (1, "")
    assert error in said.err
