"""Costs are grouped by what people ask for, and each task finds the branch that it is known by."""

from __future__ import annotations

import pytest

from aynig.costs import branches_of_tasks, rows_by, total_of
from aynig.git.repo import Repo
from aynig.ledger import Ledger, open_ledger
from tests.world import GitRepo


def answer(repo: GitRepo, branch: str, *lines: str, state: str = "done") -> str:
    block = [state, *lines, f"answers: {repo.tip(branch)}"]
    message = "answer\n\n" + "".join(f"aynig: {line}\n" for line in block)
    return repo.commit(message, branch=branch)


def task(repo: GitRepo, branch: str, state: str = "build", parent: str | None = None) -> str:
    parent = parent or (None if repo.tip(branch) else repo.tip())
    return repo.commit(f"task\n\naynig: {state}\n", branch=branch, parent=parent)


def ledger_of(repo: GitRepo) -> Ledger:
    ledger = open_ledger(Repo.open(repo.path))
    ledger.refresh()
    return ledger


@pytest.fixture
def spent(repo: GitRepo) -> GitRepo:
    """Two tasks, of which one has taken two steps."""
    task(repo, "b")
    answer(repo, "b", "cost-usd: 0.5", "tokens-in: 3", "agent: coder", state="review")
    task(repo, "a", "review")
    answer(repo, "a", "cost-usd: unknown", "calls: 4")
    answer(repo, "b", "cost-usd: 0.25", "tokens-out: 2")
    return repo


def test_there_is_a_row_for_each_name_and_one_for_all(spent: GitRepo) -> None:
    entries = ledger_of(spent).entries()
    rows = rows_by("state", entries, {})
    assert [(row.name, row.answers, str(row.cost_usd), row.unknown) for row in rows] == [
        ("build", 1, "0.5", 0),
        ("review", 2, "0.25", 1),
    ]
    assert [row.name for row in rows_by("agent", entries, {})] == ["", "coder"]
    assert [row.name for row in rows_by("day", entries, {})] == ["2023-11-14"]
    assert [row.answers for row in rows_by("task", entries, {})] == [2, 1]
    for kind in ("task", "state", "agent", "day"):
        total = total_of(rows_by(kind, entries, {}))
        assert (str(total.cost_usd), total.tokens_in, total.tokens_out) == ("0.75", 3, 2)
        assert (total.answers, total.calls, total.unknown) == (3, 6, 1)


def test_a_task_is_known_by_the_branch_that_is_at_it(spent: GitRepo) -> None:
    first = spent.git("rev-parse", "a~1", "b~2").split()
    second = task(spent, "b")
    answer(spent, "b")
    spent.git("branch", "a-copy", "a")
    spent.git("branch", "aa", "b~2")
    task(spent, "c", parent=spent.tip("b"))
    answer(spent, "c")
    third = spent.git("rev-parse", "c~1")
    found = branches_of_tasks(Repo.open(spent.path), ledger_of(spent))
    assert [found.get(oid) for oid in (*first, second, third)] == ["a", "aa", "b", "c"]


def test_a_task_that_was_merged_and_deleted_has_no_branch(spent: GitRepo) -> None:
    (of_a,) = spent.git("rev-parse", "a~1").split()
    tree = spent.git("rev-parse", "main^{tree}")
    merge = spent.git("commit-tree", tree, "-p", "main", "-p", "a", "-m", "x", env=spent.tick())
    spent.git("update-ref", "refs/heads/main", merge)
    spent.git("update-ref", "-d", "refs/heads/a")
    ledger = ledger_of(spent)
    assert of_a in {entry.task for entry in ledger.entries()}
    assert of_a not in branches_of_tasks(Repo.open(spent.path), ledger)
