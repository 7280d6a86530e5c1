from __future__ import annotations

from pathlib import Path

import pytest

from tests.examples.drawing import drawn, pictures, values
from tests.examples.example import run_example, subjects
from tests.world import GitRepo

FAST, SLOW = "issue/1", "issue/2"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("event-driven-docs") / "places"


@pytest.fixture
def done(place: Path) -> GitRepo:
    """The server's repository, where everything lands."""
    if not place.exists():
        run_example("event-driven-docs", place)
    return GitRepo(place / "server.git", bare=True)


def test_a_typing_error_goes_the_fast_track(done: GitRepo) -> None:
    assert subjects(done, FAST) == [
        "Add a guide and the workflow",
        "opened: Typo: teh on the first page",
        "opened -> route: thank you",
        "route -> write: fast track",
        "Mend the guide",
        "write -> done",
    ]
    assert "Put the clock" in done.git("show", f"{FAST}:guide.md")


def test_a_question_goes_the_slow_track(done: GitRepo) -> None:
    assert subjects(done, SLOW) == [
        "Add a guide and the workflow",
        "opened: Does it work without a network?",
        "opened -> route: thank you",
        "route -> research: slow track",
        "research -> consider: one fact found",
        "consider -> weigh: asks for two opinions",
        "weigh -> assign: joins 2 children",
        "assign -> write: worth 7 of 10, for deep",
        "Mend the guide",
        "write -> done",
    ]
    assert done.git("show", f"{SLOW}:guide.md").endswith("needs no network.")


def test_the_issue_is_acknowledged_as_a_file(done: GitRepo) -> None:
    assert done.git("show", f"{FAST}:issues/1.md") == "Typo: teh on the first page"


@pytest.mark.parametrize("answer", [f"{FAST}~2", f"{SLOW}~6"])
def test_a_router_that_says_nothing_is_asked_again(done: GitRepo, answer: str) -> None:
    (said,) = values(done, answer, "failed-attempt")
    assert said.startswith("1: failure: it gave no answer, and one is expected")


def test_what_research_claims_of_itself_is_taken_out_and_named(done: GitRepo) -> None:
    answer = f"{SLOW}~5"
    assert values(done, answer, "overruled") == ["verified", "approved-by"]
    fields = done.fields(answer)
    assert not {"verified", "approved-by"} & set(fields)
    assert fields["meta-facts"] == "1"


def test_opinions_count_by_what_they_say_and_not_by_what_they_change(done: GitRepo) -> None:
    opinions = [f"{SLOW}-doubtful", f"{SLOW}-hopeful"]
    joined = [f"{name}@{done.tip(name)}" for name in opinions]
    assert values(done, f"{SLOW}~3", "joined") == joined
    assert "Everything about clocks" in done.git("show", f"{SLOW}-hopeful:guide.md")
    assert done.git("diff", "--name-only", f"{SLOW}~4", f"{SLOW}~3") == ""
    assert "Everything about clocks" not in done.git("show", f"{SLOW}:guide.md")


@pytest.mark.parametrize(
    ("branch", "assigned", "agent", "name"),
    [(FAST, f"{FAST}~2", "swift", "Swift"), (SLOW, f"{SLOW}~2", "deep", "Deep")],
)
def test_an_issue_is_written_by_the_agent_that_it_is_assigned_to(
    done: GitRepo, branch: str, assigned: str, agent: str, name: str
) -> None:
    assert done.fields(assigned)["assigned-to"] == agent
    assert done.fields(branch)["agent"] == agent
    assert done.git("log", "-1", "--format=%an <%ae>", f"{branch}~1") == (
        f"{name} <{agent}@agents.example>"
    )


def test_each_runner_takes_what_its_role_or_its_name_is_for(done: GitRepo) -> None:
    answers = {
        "desk": [f"{FAST}~3", f"{FAST}~2", f"{SLOW}~7", f"{SLOW}~6", f"{SLOW}~4", f"{SLOW}~2"],
        "library": [f"{SLOW}~5", f"{SLOW}-doubtful", f"{SLOW}-hopeful"],
        "swift": [FAST],
        "deep": [SLOW],
    }
    runners = {name: {done.fields(rev)["runner"] for rev in revs} for name, revs in answers.items()}
    assert all(len(found) == 1 for found in runners.values())
    assert len(set().union(*runners.values())) == len(runners)


def test_the_picture_in_the_readme_is_what_comes_out(done: GitRepo, tmp_path: Path) -> None:
    assert pictures("event-driven-docs") == [drawn(done, tmp_path / "copy")]
