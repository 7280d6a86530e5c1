"""`aynig costs` shows what was spent, as the history says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Shell
from tests.fleet import Fleet
from tests.world import GitRepo

KEYS = {"answers", "unanswered", "cost_usd", "tokens_in", "tokens_out", "calls", "unknown"}


def answer(repo: GitRepo, branch: str, *lines: str, state: str = "done") -> str:
    block = [state, *lines, f"answers: {repo.tip(branch)}"]
    message = "answer\n\n" + "".join(f"aynig: {line}\n" for line in block)
    return repo.commit(message, branch=branch)


@pytest.fixture
def spent(aynig: Shell) -> Shell:
    """Two tasks, with a day between them."""
    repo = aynig.repo
    repo.commit("x\n\naynig: build\n", branch="old", parent=repo.tip())
    answer(repo, "old", "cost-usd: 10", "tokens-in: 1500", "agent: coder", state="review")
    answer(repo, "old", "cost-usd: 0.000125", "calls: 12")
    repo._clock += 86_400
    repo.commit("x\n\naynig: build\n", branch="new", parent=repo.tip())
    answer(repo, "new", "cost-usd: 0.5", "tokens-out: 7")
    return aynig


def test_for_people_it_is_a_table_with_a_total(spent: Shell) -> None:
    said = spent("costs")
    assert said.status == 0
    assert [line.split() for line in said.lines] == [
        ["task", "answers", "cost", "USD", "tokens", "in", "tokens", "out", "calls"],
        ["old", "2", "10.000125", "1500", "0", "13"],
        ["new", "1", "0.500000", "0", "7", "1"],
        ["total", "3", "10.500125", "1500", "7", "14"],
    ]
    ends = {line.index(cost) + len(cost) for line, cost in zip(
        said.lines[1:], ["10.000125", "0.500000", "10.500125"], strict=True
    )}  # fmt: skip
    assert len(ends) == 1, "the points are below each other"
    assert not any(line.endswith(" ") for line in said.lines)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("task", ["old", "new", "total"]),
        ("branch", ["old", "new", "total"]),
        ("state", ["build", "review", "total"]),
        ("agent", ["-", "coder", "total"]),
        ("day", ["2023-11-14", "2023-11-15", "total"]),
    ],
)
def test_it_is_shown_by_what_was_asked_for(spent: Shell, kind: str, names: list[str]) -> None:
    assert [line.split()[0] for line in spent("costs", "--by", kind).lines[1:]] == names


def test_json_has_exact_amounts_and_whole_oids(spent: Shell) -> None:
    rows = spent("costs", "--json").rows
    assert all(set(row) == KEYS | {"task", "branch"} for row in rows)
    assert [(row["branch"], row["cost_usd"]) for row in rows] == [
        ("old", "10.000125"),
        ("new", "0.5"),
    ]
    assert rows[0]["task"] == spent.repo.git("rev-parse", "old~2")
    (row, _) = spent("costs", "--by", "day", "--json").rows
    assert set(row) == KEYS | {"day"}


def test_of_one_branch_it_is_what_its_last_task_has_spent(spent: Shell) -> None:
    rows = spent("costs", "old", "--by", "state", "--json").rows
    assert [(row["state"], row["cost_usd"]) for row in rows] == [
        ("build", "10"),
        ("review", "0.000125"),
    ]
    spent.repo.commit("later, by hand", branch="old")
    assert spent("costs", "old", "--by", "state", "--json").rows == rows
    (row,) = spent("costs", "old", "--json").rows
    assert (row["branch"], row["cost_usd"]) == ("old", "10.000125")
    spent.repo.commit("x\n\naynig: build\n", branch="old")
    answer(spent.repo, "old", "cost-usd: 3")
    assert [row["cost_usd"] for row in spent("costs", "old", "--json").rows] == ["3"]


def test_a_task_is_shown_with_its_children_and_a_branch_with_its_family(spent: Shell) -> None:
    repo = spent.repo
    answer(repo, "new", "cost-usd: 1", "children: 2", state="gather")
    for name in ("one", "two"):
        message = f"{name}\n\naynig: build\naynig: parent: new\n"
        repo.commit(message, branch=name, parent=repo.tip("new"))
        answer(repo, name, "cost-usd: 2")
    repo.git("branch", "-D", "two")
    repo.git("update-ref", "refs/aynig/lease/x", repo.git("rev-parse", "one"))
    (_, row) = spent("costs", "--json").rows
    assert (row["branch"], row["answers"], row["cost_usd"]) == ("new", 3, "3.5")
    for branch in ("new", "one"):
        said = spent("costs", branch)
        assert [line.split()[:3] for line in said.lines] == [
            ["branch", "answers", "cost"],
            ["new", "2", "1.50"],
            ["one", "1", "2.00"],
            ["total", "3", "3.50"],
        ]
    names = [row["branch"] for row in spent("costs", "--by", "branch", "--json").rows]
    assert names == ["old", "new", "one"]


def test_what_was_spent_without_an_answer_is_shown_as_well(aynig: Shell) -> None:
    script = '#!/bin/sh\necho "cost-usd: 0.5" >>"$AYNIG_USAGE"\nexit 1\n'
    config = "retries: {max: 2, backoff: 1h}\nlimits: {cost-usd-per-task: 0.5}\n"
    files = {".aynig/go": script, ".aynig/config.yaml": config}
    aynig.repo.commit("x\n\naynig: go\n", branch="task", parent=aynig.repo.tip(), files=files)
    assert "unanswered" not in aynig("costs").out
    aynig("run", "-q")
    for args in ((), ("task",), ("--by", "state")):
        (row,) = aynig("costs", *args, "--json").rows
        assert (row["answers"], row["unanswered"], row["cost_usd"]) == (0, 1, "0.5")
        assert row["calls"] == 1
    heading, task = aynig("costs").lines
    assert heading.split()[:3] == ["task", "answers", "unanswered"]
    assert task.split()[:4] == ["task", "0", "1", "0.50"]


def test_since_a_day_only_what_came_then_counts(spent: Shell) -> None:
    rows = spent("costs", "--since", "2023-11-15", "--json").rows
    assert [row["branch"] for row in rows] == ["new"]
    assert spent("costs", "old", "--since", "2023-11-15").out == (
        "Nothing was spent: there are no answers.\n"
    )
    said = spent("costs", "--since", "yesterday")
    assert said.status == 2
    assert "%Y-%m-%d" in said.err


def test_what_nobody_knows_is_shown_as_such(spent: Shell) -> None:
    assert "unknown" not in spent("costs").out
    answer(spent.repo, "new", "cost-usd: unknown")
    heading, _, new, total = spent("costs").lines
    assert "unknown" in heading.split()
    assert new.split()[:4] == ["new", "2", "0.500000", "1"]
    assert total.split()[:4] == ["total", "4", "10.500125", "1"]
    assert [row["unknown"] for row in spent("costs", "--json").rows] == [0, 1]


def test_without_answers_nothing_was_spent(aynig: Shell) -> None:
    assert aynig("costs").out == "Nothing was spent: there are no answers.\n"
    assert aynig("costs", "main").status == 0
    assert aynig("costs", "--json").rows == []


def test_a_branch_that_is_not_there_is_said(aynig: Shell) -> None:
    said = aynig("costs", "nothing")
    assert said.status == 1
    assert said.err == "aynig: there is no branch 'nothing'. See `git branch`.\n"


def test_what_the_history_claims_breaks_no_terminal(aynig: Shell) -> None:
    repo = aynig.repo
    repo.commit("x\n\naynig: build\n", branch="task", parent=repo.tip())
    answer(repo, "task", "agent: \x1b[2J", "cost-usd: nan", "tokens-in: -1")
    said = aynig("costs", "--by", "agent")
    assert "\x1b" not in said.out
    assert said.lines[1].split()[1:] == ["1", "0.00", "0", "0", "1"]


def test_a_commit_from_the_far_future_is_a_row_like_any_other(aynig: Shell) -> None:
    repo = aynig.repo
    repo.commit("x\n\naynig: build\n", branch="task", parent=repo.tip())
    far = repo.git("cat-file", "commit", answer(repo, "task", "cost-usd: 1"))
    commit = far.replace(f" {repo._clock} ", f" {10**13} ") + "\n"
    oid = repo.git("hash-object", "-t", "commit", "-w", "--stdin", "--literally", stdin=commit)
    repo.git("update-ref", "refs/heads/task", oid)
    (row,) = aynig("costs", "--by", "day", "--json").rows
    assert (row["day"], row["cost_usd"]) == ("9999-12-31", "1")


def test_of_a_remote_it_is_what_its_branches_say(
    aynig: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = Fleet.make(tmp_path, {"go": "exit 0"})
    aynig.repo = fleet.clone("here")
    monkeypatch.chdir(aynig.repo.path)
    server = fleet.server
    server.commit("x\n\naynig: go\n", branch="task", parent=server.tip())
    answer(server, "task", "cost-usd: 2")
    assert aynig("costs", "--json").rows == []
    (row,) = aynig("costs", "--remote", "origin", "--json").rows
    assert (row["branch"], row["cost_usd"]) == ("task", "2")
    (row,) = aynig("costs", "task", "--remote", "origin", "--json").rows
    assert (row["branch"], row["cost_usd"]) == ("task", "2")
    said = aynig("costs", "nothing", "--remote", "origin")
    assert "See `aynig status --remote origin`" in said.err


def test_what_a_script_says_that_it_cost_is_counted(aynig: Shell) -> None:
    script = (
        "#!/bin/sh\nprintf 'did it\\n\\naynig: done\\naynig: cost-usd: 0.07\\n' >$AYNIG_RESPONSE\n"
    )
    aynig.repo.commit(
        "x\n\naynig: go\n", branch="task", parent=aynig.repo.tip(), files={".aynig/go": script}
    )
    assert aynig("run", "-q").status == 0
    (row,) = aynig("costs", "--json").rows
    assert (row["branch"], row["cost_usd"], row["calls"]) == ("task", "0.07", 1)
