from __future__ import annotations

from pathlib import Path

import pytest

from tests.examples.drawing import drawn, pictures, values
from tests.examples.example import run_example, subjects
from tests.world import GitRepo


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sequential-pipeline") / "repo"


@pytest.fixture
def done(place: Path) -> GitRepo:
    return GitRepo(place) if place.exists() else run_example("sequential-pipeline", place)


def test_each_state_of_the_chain_is_answered_once(done: GitRepo) -> None:
    assert subjects(done, "task/notes") == [
        "Add the workflow",
        "collect: Write the notes of release 1.1",
        "collect -> draft: 2 changes",
        "draft -> check: notes of 2 changes",
        "check -> done: all changes are in",
    ]


def test_the_answer_after_two_failures_says_how_each_of_them_ended(done: GitRepo) -> None:
    assert done.fields("task/notes~2")["attempt"] == "3"
    failures = values(done, "task/notes~2", "failed-attempt")
    assert [said.partition("; ")[0] for said in failures] == [
        "1: failure: exit 1: the tracker does not answer",
        "2: failure: exit 1: the tracker does not answer",
    ]


def test_what_a_failed_attempt_has_written_is_kept_and_does_not_land(done: GitRepo) -> None:
    for said in values(done, "task/notes~2", "failed-attempt"):
        rescue = said.partition("kept under ")[2]
        assert done.git("show", f"{rescue}:changes.txt") == "- the clock"
    landed = done.git("show", "task/notes:changes.txt")
    assert landed == "- the clock keeps time\n- the door closes"


def test_the_state_that_only_people_write_is_refused_and_never_in_the_history(
    done: GitRepo,
) -> None:
    (said,) = values(done, "task/notes~1", "failed-attempt")
    assert said.startswith("1: failure: it wrote `released`, which only people may write")
    assert "aynig: released" not in done.git("log", "--format=%B", "task/notes")


def test_the_picture_in_the_readme_is_what_comes_out(done: GitRepo, tmp_path: Path) -> None:
    assert pictures("sequential-pipeline") == [drawn(done, tmp_path / "copy")]
