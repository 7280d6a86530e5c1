from __future__ import annotations

from pathlib import Path

import pytest

from tests.examples.drawing import drawn, pictures
from tests.examples.example import run_example, subjects
from tests.world import GitRepo, aynig

COLOURS, VARNISH = "task/colours", "task/varnish"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ralph-loop") / "repo"


@pytest.fixture
def done(place: Path) -> GitRepo:
    return GitRepo(place) if place.exists() else run_example("ralph-loop", place)


def iteration(number: int) -> str:
    """The answer of an iteration of the loop that comes to its end."""
    return f"{COLOURS}~{5 - number}"


def files(repo: GitRepo, rev: str) -> str:
    return repo.git("rev-parse", f"{rev}^{{tree}}")


def test_each_iteration_is_a_commit_until_the_promise_is_kept(done: GitRepo) -> None:
    assert subjects(done, COLOURS)[2:] == [
        "paint -> paint: iteration 1 of 8; it promised, and its checks failed; verified 0/1; "
        "all done",
        "paint -> paint: iteration 2 of 8; verified 1/1; red",
        "paint -> paint: iteration 3 of 8; exit 1",
        "paint -> paint: iteration 4 of 8; verified 1/1; green",
        "paint -> done: iteration 5 of 8: ALL_COLOURS_ARE_THERE; verified 1/1; blue",
    ]
    told = [done.fields(iteration(number)) for number in range(1, 6)]
    assert [fields["iteration"] for fields in told] == ["1/8", "2/8", "3/8", "4/8", "5/8"]
    assert [fields["loop"] for fields in told] == ["again"] * 4 + ["kept"]


def test_a_promise_without_the_work_does_not_count(done: GitRepo) -> None:
    fields = done.fields(iteration(1))
    assert (fields["verified"], fields["failure"]) == ("0/1", "verification: 0/1")
    assert "- [x] blue" in done.git("show", f"{fields['rescue']}:plan.md")


@pytest.mark.parametrize("number", [1, 3])
def test_an_iteration_that_is_not_good_is_reset(done: GitRepo, number: int) -> None:
    assert files(done, iteration(number)) == files(done, f"{iteration(number)}~1")
    assert files(done, done.fields(iteration(number))["rescue"]) != files(done, iteration(number))


def test_a_promise_that_is_only_shown_does_not_end_the_loop(done: GitRepo) -> None:
    assert done.fields(iteration(2))["verified"] == "1/1"
    assert done.fields(iteration(2))["loop"] == "again"
    assert "- [x] red" in done.git("show", f"{iteration(2)}:plan.md")


def test_in_the_end_all_of_the_plan_is_done(done: GitRepo) -> None:
    plan = done.git("show", f"{COLOURS}:plan.md").split("\n")
    assert plan[-3:] == ["- [x] red", "- [x] green", "- [x] blue"]
    found = [done.git("show", f"{COLOURS}:{name}.txt") for name in ("red", "green", "blue")]
    assert found == ["#ff0000", "#00ff00", "#0000ff"]


def test_one_that_never_ends_is_handed_to_a_person_at_its_limit(done: GitRepo) -> None:
    assert subjects(done, VARNISH)[2:] == [
        "polish -> polish: iteration 1 of 3; one more coat",
        "polish -> polish: iteration 2 of 3; one more coat",
        "polish -> needs-help: 3 of 3 iterations; one more coat",
    ]
    fields = done.fields(VARNISH)
    assert fields["loop"] == "limit"
    assert fields["escalated"] == done.git("rev-parse", f"{VARNISH}~1")
    message = done.message(VARNISH)
    assert "almost <promise>PERFECT</promise>, but not quite" in message
    assert f"  aynig retry {VARNISH} " in message


def test_status_shows_that_it_waits_for_a_person(done: GitRepo) -> None:
    told = aynig("status", cwd=done.path).stdout
    (row,) = [line for line in told.split("\n") if line.startswith(VARNISH)]
    assert row.split()[1:3] == ["needs-help", "stalled"]


def test_the_picture_in_the_readme_is_what_comes_out(done: GitRepo, tmp_path: Path) -> None:
    assert pictures("ralph-loop") == [drawn(done, tmp_path / "copy")]
