from __future__ import annotations

from pathlib import Path

import pytest

from tests.examples.example import pictures, pictures_of, printed, run_example, subjects, values
from tests.world import GitRepo

VALIDATE, TRANSFORM, DELIVER = "orders/validate", "orders/transform", "orders/deliver"
MISSING = ["the order of Bob in USD is missing", "the order of Dan in USD is missing"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data-pipeline") / "repo"


@pytest.fixture
def done(place: Path) -> GitRepo:
    return GitRepo(place) if place.exists() else run_example("data-pipeline", place)


def test_the_picture_in_the_readme_is_what_comes_out(done: GitRepo) -> None:
    assert pictures("data-pipeline") == pictures_of(printed(done))


@pytest.mark.parametrize("branch", [VALIDATE, TRANSFORM, DELIVER])
def test_each_task_of_the_plan_ends_well(done: GitRepo, branch: str) -> None:
    assert done.state(branch) == "done"


def test_a_task_runs_when_those_before_it_are_done(done: GitRepo) -> None:
    rows = [line.split() for line in printed(done).split("\n") if line.startswith("orders/")]
    ran = [row[1] for row in rows if len(row) > 5][:5]
    assert ran == ["validate", "transform", "deliver", "transform", "deliver"]


def test_the_third_sends_the_second_back_once_and_says_why(done: GitRepo) -> None:
    back, answer = f"{TRANSFORM}~1", f"{DELIVER}~1"
    assert subjects(done, DELIVER)[2:] == [
        "deliver -> deliver: back to orders/transform: 2 orders are missing",
        "deliver -> done: 4 orders sent",
    ]
    assert values(done, answer, "reopened") == [TRANSFORM]
    assert values(done, answer, "validation-errors") == MISSING
    assert done.fields(back)[""] == "transform"
    assert values(done, back, "reopened-by") == [DELIVER]
    assert values(done, back, "reopens") == [done.git("rev-parse", f"{TRANSFORM}~2")]
    assert values(done, back, "validation-errors") == MISSING


def test_what_it_says_of_itself_is_not_what_is_in_the_list(done: GitRepo) -> None:
    assert done.fields(f"{TRANSFORM}~2")["meta-rows"] == "4"
    assert done.git("show", f"{TRANSFORM}~2:euros.csv") == "Ada,12.50\nEve,5.25"


def test_results_are_handed_over_by_fields_of_the_answers(done: GitRepo) -> None:
    assert done.fields(VALIDATE)["meta-file"] == "valid.csv"
    assert done.fields(VALIDATE)["meta-rows"] == done.fields(DELIVER)["meta-rows"] == "4"
    assert done.git("show", f"{TRANSFORM}:euros.csv") == "Ada,12.50\nBob,7.20\nDan,18.00\nEve,5.25"
    # A task has the files that it began with, and its own.
    assert done.git("diff", "--name-only", "main", TRANSFORM) == "euros.csv"


def test_the_list_was_sent_once(done: GitRepo, place: Path) -> None:
    outbox = place.with_name(f"{place.name}.outbox")
    (sent,) = outbox.glob("*.csv")
    assert sent.name == "orders-deliver.csv"
    assert sent.read_text() == done.git("show", f"{TRANSFORM}:euros.csv") + "\n"


def test_a_delivery_that_fails_half_way_is_taken_back(done: GitRepo) -> None:
    assert done.state("orders/again") == "failed"
    undone = done.fields("orders/again~1")
    assert undone[""] == "recall"
    assert undone["compensates"] == done.git("rev-parse", "orders/again~2")
    assert "mailbox is full" in undone["failure"]
