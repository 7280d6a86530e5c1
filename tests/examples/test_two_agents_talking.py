from __future__ import annotations

from pathlib import Path

import pytest

from tests.examples.example import (
    EXAMPLES,
    pictures,
    pictures_of,
    printed,
    run_example,
    subjects,
    values,
)
from tests.world import GitRepo

BICYCLE, PIANO, DOOR = "task/bicycle", "task/piano", "task/door"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("two-agents-talking") / "repo"


@pytest.fixture
def done(place: Path) -> GitRepo:
    return GitRepo(place) if place.exists() else run_example("two-agents-talking", place)


def turns(repo: GitRepo, branch: str) -> list[str]:
    """The turns of a conversation, oldest first."""
    oids = repo.git("rev-list", "--reverse", f"main..{branch}").split("\n")
    return [oid for oid in oids if "iteration" in repo.fields(oid)]


def test_the_picture_in_the_readme_is_what_comes_out(done: GitRepo) -> None:
    assert pictures("two-agents-talking") == pictures_of(printed(done))


@pytest.mark.parametrize("branch", [BICYCLE, PIANO, DOOR])
def test_the_turns_are_assigned_to_one_and_the_other(done: GitRepo, branch: str) -> None:
    owners = [done.fields(oid).get("assigned-to") for oid in turns(done, branch)]
    # After the last one that is allowed nobody has the turn.
    assert owners == [*["buyer", "seller"] * 3, "buyer", None][: len(owners)]
    agents = [done.fields(oid)["agent"] for oid in turns(done, branch)]
    assert agents == ["seller", *owners[:-1]]


def test_each_peer_has_a_runner_of_its_own(done: GitRepo) -> None:
    runners = [done.fields(oid)["runner"] for oid in turns(done, BICYCLE)]
    assert len(set(runners)) == len(runners) == 8


def test_they_agree_and_that_ends_it(done: GitRepo) -> None:
    assert done.state(BICYCLE) == "done"
    assert done.fields(BICYCLE)["loop"] == "kept"
    talk = done.git("show", f"{BICYCLE}:talk.txt")
    assert talk.endswith("seller: 90\nbuyer: deal at 90")
    assert talk in (EXAMPLES / "two-agents-talking" / "README.md").read_text()


def test_a_deal_that_only_one_has_made_is_no_deal(done: GitRepo) -> None:
    fourth = turns(done, BICYCLE)[3]
    fields = done.fields(fourth)
    assert (fields["iteration"], fields["loop"], fields["verified"]) == ("4/8", "again", "0/1")
    assert "it promised, and its checks failed" in done.message(fourth)
    assert done.git("diff", f"{fourth}~", fourth) == ""
    assert "seller: 50\nbuyer: deal at 50" in done.git("show", f"{fields['rescue']}:talk.txt")


def test_a_conversation_without_an_end_is_ended_by_the_limit(done: GitRepo) -> None:
    assert len(turns(done, PIANO)) == 8
    assert values(done, f"{PIANO}~1", "loop") == ["limit"]
    assert subjects(done, PIANO)[-1] == (
        "no-deal -> failed: they part: buyer: 100 was the last word"
    )


def test_a_conversation_about_nothing_is_held_by_the_breaker(done: GitRepo) -> None:
    assert len(turns(done, DOOR)) == 3
    assert done.git("diff", "main", DOOR) == ""
    readme = (EXAMPLES / "two-agents-talking" / "README.md").read_text()
    for held in ("3 runs in a row changed nothing; tried again in ", "`aynig resume task/door`"):
        assert held in printed(done)
        assert held in readme
