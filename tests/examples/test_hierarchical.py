from __future__ import annotations

from pathlib import Path

import pytest

from tests.examples.drawing import drawn, pictures, values
from tests.examples.example import run_example, subjects
from tests.world import GitRepo


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hierarchical") / "repo"


@pytest.fixture
def done(place: Path) -> GitRepo:
    return GitRepo(place) if place.exists() else run_example("hierarchical", place)


def told(repo: GitRepo, rev: str) -> tuple[str, str]:
    """The child that a commit tells the supervisor of, and how it ended."""
    fields = repo.fields(rev)
    branch, _, oid = fields["child"].partition("@")
    assert oid == repo.tip(branch)
    return branch, fields["child-state"]


def test_the_supervisor_decides_after_each_child(done: GitRepo) -> None:
    assert subjects(done, "handbook") == [
        "Add the workflow",
        "direct: A handbook about the mill",
        "direct -> watch: facts first",
        "watch -> decide: handbook-facts failed",
        "decide -> watch: people will know",
        "watch -> decide: handbook-people done",
        "decide -> watch: now the text",
        "watch -> decide: handbook-text done",
        "decide -> watch: nothing is missing",
        "watch -> report: joins 2 of 3 children",
        "report -> done: 3 lines",
    ]
    assert [told(done, f"handbook~{back}") for back in (7, 5, 3)] == [
        ("handbook-facts", "failed"),
        ("handbook-people", "done"),
        ("handbook-text", "done"),
    ]


def test_the_child_that_wants_a_million_children_gets_none(done: GitRepo) -> None:
    fields = done.fields("handbook-facts")
    assert done.state("handbook-facts") == "failed"
    assert fields["fault"] == "asked for 1,000,000 children, the limit is 5"
    assert done.git("branch", "--list", "handbook-facts-*") == ""


def test_a_child_joins_children_of_its_own(done: GitRepo) -> None:
    assert values(done, "handbook-people", "joined") == [
        f"{child}@{done.tip(child)}" for child in ("handbook-people-ann", "handbook-people-bob")
    ]
    assert done.fields("handbook-people-ann")["parent"] == "handbook-people"
    assert done.fields("handbook-people")["parent"] == "handbook"


def test_in_the_end_the_two_that_are_done_are_joined(done: GitRepo) -> None:
    join = "handbook~1"
    assert values(done, join, "joined") == [
        f"{child}@{done.tip(child)}" for child in ("handbook-people", "handbook-text")
    ]
    assert values(done, join, "left-out") == [f"handbook-facts@{done.tip('handbook-facts')}"]
    assert done.git("show", "handbook:handbook.txt").split("\n") == [
        "The mill stood by the river.",
        "ann remembers the noise.",
        "bob remembers the noise.",
    ]


def test_the_picture_in_the_readme_is_what_comes_out(done: GitRepo, tmp_path: Path) -> None:
    assert pictures("hierarchical") == [drawn(done, tmp_path / "copy")]
