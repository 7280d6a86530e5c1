"""`aynig submit` prints where the task is, and takes its prompt from anywhere."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.conftest import Shell
from tests.world import GitRepo


def test_branch_and_oid_are_printed(aynig: Shell) -> None:
    said = aynig("submit", "go", "-m", "Fix it")
    assert (said.status, said.err) == (0, "")
    assert said.out == f"task/fix-it {aynig.repo.tip('task/fix-it')}\n"


def test_json_names_branch_oid_and_state(aynig: Shell) -> None:
    said = aynig("submit", "go", "-b", "a/b", "--json")
    assert said.rows == [{"branch": "a/b", "oid": aynig.repo.tip("a/b"), "state": "go"}]


@pytest.mark.parametrize("source", ["-", "prompt"])
def test_the_body_is_read_from_a_file_or_from_standard_input(aynig: Shell, source: str) -> None:
    body = b"First line\n\n---\nodd \xff\x1f bytes\n\naynig: evil\n\nthe end, without newline"
    (aynig.repo.path / "prompt").write_bytes(body)
    said = aynig.process("submit", "go", "-b", "task", "-F", source, stdin=body)
    assert said.status == 0, said.err
    message = aynig.repo.message("task").encode("utf-8", "surrogateescape")
    assert body in message
    assert aynig.repo.state("task") == "go"


@pytest.mark.parametrize(
    ("source", "reason"), [("missing", "No such file or directory"), (".", "Is a directory")]
)
def test_a_body_that_can_not_be_read_is_wrong_use(aynig: Shell, source: str, reason: str) -> None:
    said = aynig("submit", "go", "-b", "task", "-F", source)
    assert (said.status, said.out) == (2, "")
    assert f"{source} can't be read: {reason}" in said.err
    assert "Name a file with the body, or - for standard input." in said.err
    assert aynig.repo.tip("task") == ""


def test_a_body_over_the_kernels_limit_of_a_variable_is_no_problem(aynig: Shell) -> None:
    said = aynig.process("submit", "go", "-b", "task", "-F", "-", stdin=b"x" * 300_000)
    assert said.status == 0
    assert len(aynig.repo.message("task")) > 300_000


def test_all_that_can_be_asked_for_is_in_the_commit(aynig: Shell) -> None:
    first = aynig("submit", "go", "-b", "first", "--json").rows[0]["oid"]
    aynig(
        "submit", "go", "-b", "task", "-m", "x", "--to", "bob", "--after", "first",
        "--trailer", "Ticket: #7", "--trailer", "aynig:priority: 5", "--from", "first",
    )  # fmt: skip
    assert aynig.repo.trailers("task") == [
        ("aynig", "go"),
        ("aynig", "assigned-to: bob"),
        ("aynig", "priority: 5"),
        ("aynig", "depends-on: first"),
        ("aynig", "begins: task"),
        ("Ticket", "#7"),
    ]
    assert aynig.repo.git("rev-parse", "task^") == first


def test_a_branch_with_a_leading_dash_is_refused(aynig: Shell) -> None:
    said = aynig("submit", "go", "--branch=-x")
    assert (said.status, said.out) == (2, "")
    assert "no branch name" in said.err


def test_from_a_subdirectory_and_in_spite_of_git_variables(
    aynig: Shell, bare: GitRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    (aynig.repo.path / "deep").mkdir()
    said = aynig.process(
        "-C", "deep", "submit", "go", "-b", "task",
        GIT_DIR=str(bare.path), GIT_INDEX_FILE="/nowhere/index", GIT_WORK_TREE="/nowhere",
    )  # fmt: skip
    assert said.status == 0, said.err
    assert aynig.repo.state("task") == "go"
    assert bare.tip("task") == ""


def test_in_a_linked_worktree_and_on_a_detached_head(
    aynig: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    linked = aynig.repo.path.parent / "linked"
    aynig.repo.git("worktree", "add", "--quiet", "--detach", str(linked))
    monkeypatch.chdir(linked)
    assert aynig("submit", "go", "-b", "task").status == 0
    assert aynig.repo.git("rev-parse", "task^") == aynig.repo.tip()


def test_without_an_identity(aynig: Shell) -> None:
    nobody: dict[str, Any] = {
        f"GIT_{role}_{what}": "" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    said = aynig.process("submit", "go", "-b", "task", **nobody)
    assert said.status == 0, said.err
    assert aynig.repo.git("log", "-1", "--format=%an", "task") == "aynig"


# --- plans ---------------------------------------------------------------------------------------

PLAN = """
tasks:
  - name: load
    state: go
    body: Load it.
    after: [fetch, {first}]
    to: coder
    priority: 5
    deadline: 2h
    resource: db
    fields: {{meta-month: 5}}
  - {{name: fetch, state: go, branch: jobs/fetch}}
"""


def test_a_plan_is_begun_as_a_whole(aynig: Shell) -> None:
    first = aynig("submit", "go", "-b", "first", "--json").rows[0]["oid"]
    (aynig.repo.path / "plan.yaml").write_text(PLAN.format(first=first[:9]))
    said = aynig("submit", "--file", "plan.yaml")
    assert (said.status, said.err) == (0, "")
    assert said.lines == [
        f"jobs/fetch {aynig.repo.tip('jobs/fetch')}",
        f"load {aynig.repo.tip('load')}",
    ]
    assert aynig.repo.trailers("load") == [
        ("aynig", "go"),
        ("aynig", "assigned-to: coder"),
        ("aynig", "depends-on: jobs/fetch"),
        ("aynig", f"depends-on: {first}"),
        ("aynig", "priority: 5"),
        ("aynig", "deadline: 2h"),
        ("aynig", "resource: db"),
        ("aynig", "meta-month: 5"),
    ]
    assert aynig.repo.git("rev-parse", "load^") == aynig.repo.tip()


def test_a_plan_is_read_from_standard_input_and_told_as_json(aynig: Shell) -> None:
    text = b"tasks: [{name: a, state: go}, {name: b, state: review, from: main}]"
    said = aynig.process("submit", "-F", "-", "--json", stdin=text)
    assert said.status == 0, said.err
    assert said.rows == [
        {"name": "a", "branch": "a", "oid": aynig.repo.tip("a"), "state": "go"},
        {"name": "b", "branch": "b", "oid": aynig.repo.tip("b"), "state": "review"},
    ]


def test_hundreds_of_tasks_are_begun_at_once(aynig: Shell) -> None:
    rows = [f"  - {{name: t/{n}, state: go, after: [t/{n + 1}]}}" for n in range(300)]
    (aynig.repo.path / "plan").write_text(
        "\n".join(["tasks:", *rows, "  - {name: t/300, state: go}"])
    )
    said = aynig("submit", "-F", "plan")
    assert (said.status, len(said.lines)) == (0, 301)
    assert len(aynig.repo.git("for-each-ref", "refs/heads/t/").splitlines()) == 301


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("tasks: [{name: a, state: go}, {name: taken, state: go}]", "the branch 'taken' exists"),
        ("tasks: [{name: a, state: go}, {name: taken/b, state: go}]", "beside the branch 'taken'"),
        ("tasks: [{name: a, state: go}, {name: in, state: go}]", "beside the branch 'in/folder'"),
        ("tasks: [{name: a, state: go, after: nowhere}]", "no commit 'nowhere' to wait for"),
        ("tasks: [{name: a, state: go, after: main}]", "carries no state"),
        ("tasks: [{name: a, state: go, from: nowhere}]", "there is no commit 'nowhere'"),
        ("tasks: [{name: a, state: go}, {name: b, state: Go}]", "expected a state"),
        (
            "tasks: [{name: soon, state: go, after: taken}]",
            "waits for itself: soon -> taken -> soon",
        ),
        ("Please fix the login form.", "expected"),
    ],
)
def test_a_plan_with_anything_wrong_in_it_begins_nothing(
    aynig: Shell, text: str, error: str
) -> None:
    aynig("submit", "go", "-b", "in/folder")
    aynig.repo.commit("x\n\naynig: go\naynig: depends-on: soon\n", branch="taken")
    before = aynig.repo.git("for-each-ref", "refs/heads/")
    (aynig.repo.path / "plan").write_text(text)
    said = aynig("submit", "-F", "plan")
    assert (said.status, said.out) == (2, "")
    assert error.replace("'", '"') in said.err.replace("'", '"')
    assert "plan" in said.err or "waits for itself" in said.err
    assert aynig.repo.git("for-each-ref", "refs/heads/") == before


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ([], "there is no STATE"),
        (["-m", "x"], "there is no STATE"),
        (["-F", "plan", "--to", "bob"], "--to has no meaning for a plan"),
        (["-F", "plan", "--after", "main"], "--after has no meaning for a plan"),
    ],
)
def test_without_a_state_there_has_to_be_a_plan_and_nothing_else(
    aynig: Shell, args: list[str], error: str
) -> None:
    (aynig.repo.path / "plan").write_text("tasks: [{name: a, state: go}]")
    said = aynig("submit", *args)
    assert (said.status, said.out) == (2, "")
    assert error in said.err
