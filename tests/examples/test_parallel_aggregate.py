from __future__ import annotations

from pathlib import Path

import pytest

from tests.examples.drawing import drawn, pictures, values
from tests.examples.example import run_example, subjects
from tests.world import GitRepo

WORLD = ("world-french", "world-german", "world-spanish")
NORTH = ("north-danish", "north-norwegian")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parallel-aggregate") / "repo"


@pytest.fixture
def done(place: Path) -> GitRepo:
    return GitRepo(place) if place.exists() else run_example("parallel-aggregate", place)


def parents(repo: GitRepo, rev: str) -> list[str]:
    return repo.git("rev-list", "--parents", "--max-count=1", rev).split()[1:]


def places(repo: GitRepo, *branches: str) -> list[str]:
    return [f"{branch}@{repo.tip(branch)}" for branch in branches]


def test_children_begin_with_what_their_parent_answered(done: GitRepo) -> None:
    answer = done.git("rev-parse", "world~2")
    assert sorted(values(done, answer, "child")) == sorted([*WORLD, "world-klingon"])
    for child in (*WORLD, "world-klingon"):
        assert parents(done, f"{child}~1") == [answer]
        assert done.fields(child)["parent"] == "world"


def test_three_of_four_are_enough_and_are_the_parents_of_the_merge(done: GitRepo) -> None:
    tips = [done.tip(child) for child in WORLD]
    assert parents(done, "world~1") == [done.git("rev-parse", "world~2"), *tips]
    assert values(done, "world~1", "joined") == places(done, *WORLD)
    assert done.fields("world~1")["step"] == "join"


def test_the_child_that_failed_is_left_out_with_all_that_it_wrote(done: GitRepo) -> None:
    assert done.state("world-klingon") == "failed"
    (left,) = values(done, "world~1", "left-out")
    assert left.startswith("world-klingon@")
    files = done.git("ls-tree", "--name-only", "world").split("\n")
    assert [name for name in files if name.startswith("page.")] == [
        "page.french.md",
        "page.german.md",
        "page.spanish.md",
    ]
    rescue = done.fields("world-klingon")["rescue"]
    assert done.git("show", f"{rescue}:page.klingon.md") == "?"


def test_what_the_children_handed_over_is_summed_up(done: GitRepo) -> None:
    assert "world-french: 3\nworld-german: 2\nworld-spanish: 3\n" in done.message("world")


def test_files_that_do_not_fit_are_a_state_of_their_own_and_nothing_is_merged(
    done: GitRepo,
) -> None:
    assert subjects(done, "north") == [
        "Add the workflow",
        "split: danish norwegian",
        "split -> gather: 2 languages",
        "gather -> untangle: conflict in index.md",
        "Bring in north-danish",
        "Bring in north-norwegian",
        "untangle -> publish: both lines of index.md are kept",
        "publish -> done: 2 pages",
    ]
    conflict = "north~4"
    assert parents(done, conflict) == [done.git("rev-parse", "north~5")]
    assert done.git("diff", "--name-only", "north~5", conflict) == ""
    assert values(done, conflict, "conflict") == ["index.md"]
    assert values(done, conflict, "unmerged") == places(done, *NORTH)
    assert values(done, conflict, "conflict-with") == places(done, "north-norwegian")


def test_the_script_of_that_state_keeps_what_both_have_written(done: GitRepo) -> None:
    for child in NORTH:
        assert done.state(child) == "done"
        done.git("merge-base", "--is-ancestor", child, "north")
    assert done.git("show", "north:index.md").split("\n")[1:] == ["- danish", "- norwegian"]


def test_the_pictures_in_the_readme_are_what_comes_out(done: GitRepo, tmp_path: Path) -> None:
    world = drawn(done, tmp_path / "world", "main", "world", "world-klingon", *WORLD)
    north = drawn(done, tmp_path / "north", "main", "north", *NORTH)
    assert pictures("parallel-aggregate") == [world, north]
