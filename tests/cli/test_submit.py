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
        ("aynig", f"depends-on: {first}"),
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
