from __future__ import annotations

from pathlib import Path

import pytest

from tests.examples.example import pictures, pictures_of, printed, run_example, subjects, values
from tests.world import GitRepo

TASK = "task/leap-year"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("worker-and-judge") / "repo"


@pytest.fixture
def done(place: Path) -> GitRepo:
    return GitRepo(place) if place.exists() else run_example("worker-and-judge", place)


def attempts(repo: GitRepo) -> list[str]:
    return [each.partition(": ")[2] for each in values(repo, TASK, "failed-attempt")]


def test_five_attempts_make_one_answer(done: GitRepo) -> None:
    assert subjects(done, TASK)[1:] == [
        "build: Write leap-year: a program that says yes or no of a year.",
        "build -> done: verified 5/5; leap years by the rule",
    ]
    assert done.fields(TASK)["attempt"] == "5"
    assert len(attempts(done)) == 4


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (1, "verification: 3/5; kept under "),
        (2, "failure: it changed '.aynig/config.yaml': only people change the workflow"),
        (3, "verification: 3/5; it said verified, which is not for it to say"),
        (4, "failure: it changed no file, and changes are expected"),
    ],
)
def test_each_trick_is_seen_through_and_told(done: GitRepo, number: int, told: str) -> None:
    assert attempts(done)[number - 1].startswith(told)


def test_what_the_worker_writes_of_itself_is_not_believed(done: GitRepo) -> None:
    assert values(done, TASK, "verified") == ["5/5"]
    assert values(done, TASK, "overruled") == ["verified"]


def test_what_an_attempt_left_is_kept_beside_the_branch(done: GitRepo) -> None:
    first, second, third = (
        each.partition("kept under ")[2] for each in attempts(done) if "kept under" in each
    )
    assert "2024) echo yes" in done.git("show", f"{first}:leap-year")
    assert "build: {next: done}" in done.git("show", f"{second}:.aynig/config.yaml")
    assert "% 4" in done.git("show", f"{third}:leap-year")


def test_the_worker_finds_no_hidden_scenarios(done: GitRepo) -> None:
    run = attempts(done)[0].rpartition("/")[2]
    output = (done.git_dir / "aynig" / "runs" / run / "output").read_text()
    assert "fatal: invalid object name 'hidden'" in output
    assert "Add scenarios" not in output
    assert "leap-year 1900" not in output


def test_nothing_but_the_program_lands(done: GitRepo) -> None:
    assert done.git("diff", "--name-only", "main", TASK) == "leap-year"


def test_the_answer_was_judged_by_what_was_published_before(done: GitRepo) -> None:
    assert values(done, TASK, "judged-by") == values(done, f"{TASK}~1", "commitment")
    assert "done: held\n  5 of 5 checks passed\n" in printed(done)
    assert "published before the work began, which names it; what was revealed" in printed(done)


def test_the_revealed_scenarios_are_those_of_the_hidden_branch(done: GitRepo) -> None:
    (revealed,) = done.git("rev-parse", "refs/aynig/judge/leap-years^{tree}").split()
    assert done.git("rev-parse", "hidden:hidden") in (
        revealed,
        *done.git("ls-tree", "--object-only", "refs/aynig/judge/leap-years").split(),
    )


def test_the_picture_in_the_readme_is_what_comes_out(done: GitRepo) -> None:
    assert pictures("worker-and-judge") == pictures_of(printed(done))
