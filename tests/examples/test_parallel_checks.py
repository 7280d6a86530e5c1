from __future__ import annotations

from pathlib import Path

import pytest

from tests.examples.example import history, picture, run_example, subjects
from tests.world import GitRepo

CHECKS = ("links", "length", "titles")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parallel-checks") / "repo"


@pytest.fixture
def done(place: Path) -> GitRepo:
    return GitRepo(place) if place.exists() else run_example("parallel-checks", place)


@pytest.mark.parametrize("check", CHECKS)
def test_each_check_ends_its_own_branch(done: GitRepo, check: str) -> None:
    assert subjects(done, f"check/{check}") == [
        "Add pages and the workflow",
        f"Check {check}",
        f"check-{check} -> done: findings: 1",
    ]


@pytest.mark.parametrize("check", CHECKS)
def test_the_report_comes_after_each_check_and_contains_it(done: GitRepo, check: str) -> None:
    done.git("merge-base", "--is-ancestor", f"check/{check}", "report")
    assert done.git("show", f"report:reports/{check}.txt")


def test_the_report_sums_up_what_the_checks_handed_over(done: GitRepo) -> None:
    assert done.fields("report")["meta-findings"] == "3"
    assert "check/links: 1\ncheck/length: 1\ncheck/titles: 1" in done.message("report")


def test_the_answer_stands_on_the_merge_that_the_script_made(done: GitRepo) -> None:
    assert subjects(done, "report")[-2:] == [
        "Bring the checks together",
        "collect -> done: findings: 3",
    ]
    parents = done.git("rev-list", "--parents", "--max-count=1", "report~1").split()[1:]
    assert parents == [
        done.git("rev-parse", "report~2"),
        *(done.tip(f"check/{check}") for check in CHECKS),
    ]


def test_the_picture_in_the_readme_is_what_comes_out(done: GitRepo) -> None:
    # Branches without an order between them may be drawn in another one.
    assert sorted(picture("parallel-checks")) == sorted(history(done))
