from __future__ import annotations

from pathlib import Path

import pytest

from tests.examples.example import pictures, pictures_of, printed, run_example, values
from tests.world import GitRepo

HOURS = "task/hours"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("human-approval") / "repo"


@pytest.fixture
def done(place: Path) -> GitRepo:
    return GitRepo(place) if place.exists() else run_example("human-approval", place)


def found(repo: GitRepo, branch: str, subject: str) -> str:
    """The commit of a branch whose subject begins like this; there is one."""
    lines = repo.git("log", "--format=%H %s", f"main..{branch}").split("\n")
    (oid,) = (line.split()[0] for line in lines if line.partition(" ")[2].startswith(subject))
    return oid


def test_the_picture_in_the_readme_is_what_comes_out(done: GitRepo) -> None:
    assert pictures("human-approval") == pictures_of(printed(done))


def test_low_risk_asks_nobody(done: GitRepo) -> None:
    assert done.state("task/blanks") == "done"
    assert done.git("rev-list", "--count", "main~1..task/blanks") == "2"


def test_the_question_waits_and_its_answer_starts_the_state_again(done: GitRepo) -> None:
    asked = found(done, HOURS, "write -> awaiting-answer")
    assert done.fields(asked)["question"] == "When are we open on Saturdays?"
    again = found(done, HOURS, "answered -> write")
    assert done.fields(again)["answer"] == "9 to 12"
    assert done.fields(again)["answered-by"] == "Linus <linus@example.org>"


def test_what_was_rejected_stays_in_the_history_and_off_the_branch(done: GitRepo) -> None:
    proposal = found(done, HOURS, "write -> awaiting-approval: publish? a sentence")
    assert "thrilled" in done.git("show", f"{proposal}:page.txt")
    assert done.git("rev-parse", f"{HOURS}~11") == proposal
    rejected = found(done, HOURS, "rejected -> write")
    assert values(done, rejected, "validation-errors") == ["Too many words"]
    assert done.git("diff", "main~1", rejected, "--", "page.txt") == ""
    assert "thrilled" not in done.git("show", f"{HOURS}:page.txt")


def test_a_proposal_shows_what_it_changed(done: GitRepo) -> None:
    proposal = found(done, HOURS, "write -> awaiting-approval: publish? the hours")
    assert "+Saturdays: 9 to 12" in done.message(proposal)
    assert done.fields(proposal)["proposes"] == "publish"


def test_nobody_approves_their_own_work(done: GitRepo) -> None:
    assert "Wren <wren@agents.example> did the work, and nobody approves their own" in printed(done)
    assert "Best page ever" not in done.git("log", "--format=%s", HOURS)


def test_what_is_published_was_approved_twice_by_those_who_may(done: GitRepo) -> None:
    (first,) = values(done, found(done, HOURS, "approved -> publish: approved by G"), "approved-by")
    assert first == "Grace <grace@example.org>"
    assert values(done, f"{HOURS}~1", "approved-by") == ["Linus <linus@example.org>"]
    refused = found(done, HOURS, "approved -> awaiting-approval")
    assert "Mallory" in done.fields(refused)["refused"]
    assert done.git("show", f"{HOURS}:published.txt")


def test_an_agent_that_writes_the_yes_itself_has_failed(done: GitRepo) -> None:
    fields = done.fields("task/beer")
    assert fields[""] == "failed"
    assert fields["fault"] == "it wrote `approved`, which only people may write"
    assert "Free beer" in done.git("show", f"{fields['rescue']}:page.txt")
    assert "Free beer" not in done.git("show", "task/beer:page.txt")


def test_where_signatures_are_required_a_name_is_not_enough(done: GitRepo) -> None:
    refused = found(done, "task/page", "approved -> awaiting-approval")
    assert "is not signed" in done.fields(refused)["refused"]
    (by,) = values(done, "task/page~1", "approved-by")
    assert by.startswith("linus@example.org (SHA256:")
    assert done.state("task/page") == "done"
