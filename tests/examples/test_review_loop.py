from __future__ import annotations

from pathlib import Path

import pytest

from tests.examples.example import history, picture, run_example, subjects
from tests.world import GitRepo


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("review-loop") / "repo"


@pytest.fixture
def done(place: Path) -> GitRepo:
    return GitRepo(place) if place.exists() else run_example("review-loop", place)


def test_the_review_sends_the_work_back_once_and_then_lets_it_pass(done: GitRepo) -> None:
    assert subjects(done, "task/median") == [
        "Add the workflow",
        "Write median",
        "implement -> review: first version of median",
        "review -> fix: 2 findings",
        "fix -> review: 2 findings fixed",
        "review -> done: no findings",
    ]


def test_each_state_answers_the_commit_before_it(done: GitRepo) -> None:
    for back in range(4):
        fields = done.fields(f"task/median~{back}")
        assert fields["answers"] == done.git("rev-parse", f"task/median~{back + 1}")
        assert fields["exit"] == "0"


def test_the_findings_are_handed_on_in_the_body_of_the_answer(done: GitRepo) -> None:
    assert "- median([4, 1, 3, 2]) is 3, not 2.5" in done.message("task/median~2")
    assert done.fields("task/median~2")["meta-findings"] == "2"


def test_only_the_second_version_has_the_mean_of_the_middle(done: GitRepo) -> None:
    assert "middle - 1" not in done.git("show", "task/median~3:median.py")
    assert "middle - 1" in done.git("show", "task/median:median.py")


def test_nothing_but_the_module_lands(done: GitRepo) -> None:
    assert done.git("diff", "--name-only", "main", "task/median") == "median.py"
    assert done.git("status", "--porcelain") == ""


def test_the_picture_in_the_readme_is_what_comes_out(done: GitRepo) -> None:
    assert picture("review-loop") == history(done)
