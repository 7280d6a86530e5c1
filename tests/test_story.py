"""The story of a task is read from its commits alone."""

from __future__ import annotations

import pytest

from aynig import dialects
from aynig.ending import Finished
from aynig.git.history import last_state_commit
from aynig.git.repo import Repo
from aynig.model import HEADS, Deferral
from aynig.respond import Answer
from aynig.story import RunRow, row_of_run, rows_of_branch
from tests.values import OID, OTHER_OID, lease, plan, result
from tests.world import GitRepo


def rows(repo: GitRepo, branch: str = "main", most: int | None = None) -> list[RunRow]:
    opened = Repo.open(repo.path)
    return list(rows_of_branch(opened, HEADS + branch, dialects.read, most=most))


def test_each_commit_that_carries_a_state_is_a_row_the_youngest_first(repo: GitRepo) -> None:
    asked = repo.commit("Please go\n\naynig: go\n")
    repo.commit("a person's own")
    answer = repo.commit(
        "go -> review: well done\n\naynig: review\n"
        f"aynig: answers: {asked}\naynig: run: r-1\naynig: executed-by: ada@box\n"
        "aynig: attempt: 2\naynig: exit: 3\naynig: duration: 1.250\naynig: script: abc\n"
        "aynig: rescue: refs/aynig/rescue/r-1\n"
    )
    first, last = rows(repo)
    assert (first.oid, first.answers, first.from_state, first.state) == (
        answer, asked, "go", "review",
    )  # fmt: skip
    assert (first.run, first.attempt, first.exit, first.duration) == ("r-1", 2, 3, 1.25)
    assert (first.executed_by, first.script) == ("ada@box", "abc")
    assert first.failed
    assert (last.oid, last.answers, last.exit, last.failed) == (asked, None, None, False)


def test_no_more_commits_are_looked_at_than_asked_for(repo: GitRepo) -> None:
    repo.commit("Please go\n\naynig: go\n")
    repo.commit("a person's own")
    assert rows(repo, most=1) == []
    assert len(rows(repo, most=2)) == 1


def test_a_side_branch_that_was_merged_is_not_part_of_the_line(repo: GitRepo) -> None:
    base = repo.tip()
    side = repo.commit("Aside\n\naynig: go\n", branch="side", parent=base)
    tree = repo.git("rev-parse", f"{base}^{{tree}}")
    merge = repo.git("commit-tree", tree, "-p", base, "-p", side, "-m", "merge", env=repo.tick())
    repo.git("update-ref", HEADS + "main", merge)
    assert rows(repo) == []


def test_a_branch_that_is_not_there_has_no_story(repo: GitRepo) -> None:
    assert rows(repo, "gone") == []


@pytest.mark.parametrize("claim", ["nonsense", "e" * 40, "HEAD", "-1", "1e999"])
def test_claims_that_are_not_what_they_should_be_are_shown_as_nothing(
    repo: GitRepo, claim: str
) -> None:
    repo.commit(
        f"x\n\naynig: go\naynig: answers: {claim}\naynig: exit: {claim}x\n"
        f"aynig: attempt: {claim}.5\naynig: duration: {claim}s\n"
    )
    (row,) = rows(repo)
    assert (row.from_state, row.exit, row.attempt, row.duration) == (None, None, None, None)


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e999"])
def test_a_duration_is_a_finite_number_or_nothing(repo: GitRepo, number: str) -> None:
    repo.commit(f"x\n\naynig: go\naynig: duration: {number}\n")
    (row,) = rows(repo)
    assert row.duration is None


def test_a_story_ends_where_a_shallow_clone_does(repo: GitRepo) -> None:
    repo.commit("One\n\naynig: one\n")
    repo.commit("Two\n\naynig: two\n")
    shallow = GitRepo(repo.path.parent / "shallow")
    repo.git("clone", "--quiet", "--depth=1", f"file://{repo.path}", str(shallow.path))
    assert [row.state for row in rows(shallow)] == ["two"]


def test_the_row_of_a_run_is_the_row_of_its_answer() -> None:
    answer = Answer(OTHER_OID, "review", "go -> review", "")
    row = row_of_run(Finished(plan(), lease(), result(), answer, "answered"), "ada@box")
    assert (row.oid, row.answers, row.from_state, row.state) == (OTHER_OID, OID, "go", "review")
    assert (row.exit, row.duration, row.executed_by, row.rescue) == (0, 1.5, "ada@box", None)


DRAINED = result(None, signal=15, stopped="drained")
LATER = Deferral(OTHER_OID, "refs/heads/task", OID, "r", 1, 0.0, 5.0, "later")


@pytest.mark.parametrize(
    ("finished", "state", "failed"),
    [
        (Finished(plan(), lease(), result(75), None, "deferred", deferral=LATER), "waiting", False),
        (Finished(plan(), lease(), result(0), None, "refused", "it moved"), "refused", True),
        (Finished(plan(), lease(), result(1), None, "refused", "it moved"), "refused", True),
        (Finished(plan(), lease(), result(0), None, "drained"), "stopped", False),
        (Finished(plan(), lease(), DRAINED, None, "drained"), "stopped", False),
    ],
)
def test_a_run_without_an_answer_has_a_word_in_its_place(
    finished: Finished, state: str, failed: bool
) -> None:
    row = row_of_run(finished, "ada@box")
    assert (row.oid, row.state, row.failed) == (None, state, failed)
    assert row.subject


@pytest.mark.parametrize(
    ("testimony", "failed"),
    [
        pytest.param("exit: 0", False, id="well"),
        pytest.param("exit: 1", True, id="an exit status"),
        pytest.param("exit: 0\naynig: fault: it removed its worktree", True, id="a fault"),
        pytest.param("exit: 0\naynig: stopped: timeout", True, id="a timeout"),
    ],
)
@pytest.mark.parametrize("state", ["repair", "waiting"])
def test_a_run_that_ended_badly_has_failed_whatever_state_follows(
    repo: GitRepo, testimony: str, failed: bool, state: str
) -> None:
    asked = repo.commit("Please go\n\naynig: go\n")
    repo.commit(f"x\n\naynig: {state}\naynig: answers: {asked}\naynig: {testimony}\n")
    assert rows(repo)[0].failed is failed


def test_the_row_of_a_run_has_its_fault() -> None:
    answer = Answer(OTHER_OID, "repair", "go -> repair", "", "it removed its worktree")
    row = row_of_run(Finished(plan(), lease(), result(), answer, "answered"), "ada@box")
    assert (row.fault, row.stopped, row.failed) == ("it removed its worktree", None, True)


@pytest.mark.parametrize(("between", "found"), [(999, True), (1000, False)])
def test_the_previous_state_is_not_looked_for_through_a_whole_history(
    repo: GitRepo, between: int, found: bool
) -> None:
    who = "Ada <ada@example.org>"
    messages = ["x\n\naynig: go\n", *["more\n"] * between]
    stream = "".join(
        f"commit refs/heads/task\ncommitter {who} {number} +0000\ndata {len(text)}\n{text}\n"
        for number, text in enumerate(messages)
    )
    repo.git("fast-import", "--quiet", stdin=stream)
    last = last_state_commit(Repo.open(repo.path), repo.tip("task"), dialects.read)
    assert (last is not None) is found
