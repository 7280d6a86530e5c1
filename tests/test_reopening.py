"""A task sends one that it depends on back to work, which holds it until that is done again."""

from __future__ import annotations

import os
import signal

import pytest

from aynig.ending import Finished, Pending, conclude
from aynig.errors import UserError
from aynig.git.refs import RefEdit
from aynig.model import HEADS, Lease
from aynig.reopening import write_reopening
from aynig.respond import Answer
from aynig.scan import read_event
from aynig.site import open_site
from tests import values
from tests.stage import Daemon, Stage, daemon
from tests.world import GitRepo, wait_for

# It does what it is told to: the second time better than the first.
BUILD = """
echo "$AYNIG_TRAILER_VALIDATION_ERRORS" >told
if [ -n "$AYNIG_TRAILER_VALIDATION_ERRORS" ]; then echo good >work; else echo bad >work; fi
echo 'aynig: meta-file: work' >>"$AYNIG_RESPONSE"
"""
# It looks at what the other one has done.
CHECK = """
git cat-file blob {upstream}:work | grep -q good && exit 0
printf 'aynig: reopens: {upstream}\\naynig: validation-errors: no good\\n' >>"$AYNIG_RESPONSE"
echo 'aynig: validation-errors: not even finished' >>"$AYNIG_RESPONSE"
"""


def two(stage: Stage, check: str = CHECK, upstream: str = "made", build: str = BUILD) -> None:
    """A task, and one that depends on it."""
    stage.task(build, branch="made", state="build", message="Make it\n\nWell.\n\naynig: build\n")
    stage.task(
        check.replace("{upstream}", upstream),
        branch="checked",
        state="check",
        fields={"depends-on": "made"},
    )


def subjects(repo: GitRepo, branch: str) -> list[str]:
    """The state commits of a task, oldest first."""
    found = repo.git("log", "--first-parent", "--reverse", "--format=%s", f"main..{branch}")
    return found.splitlines()


def fields(repo: GitRepo, rev: str) -> dict[str, str]:
    pairs = [value.partition(": ") for key, value in repo.trailers(rev) if key == "aynig"]
    return {key: value for key, _, value in pairs}


def test_it_is_sent_back_with_what_is_wrong_and_both_end_well(stage: Stage) -> None:
    two(stage)
    stage.run()
    repo = stage.repo
    assert subjects(repo, "made") == [
        "Make it",
        "build -> done",
        "done -> build: sent back by checked: no good",
        "build -> done",
    ]
    assert subjects(repo, "checked") == ["Please check", "check -> check", "check -> done"]
    again = repo.git("rev-parse", "made^")
    assert fields(repo, again)["reopens"] == repo.git("rev-parse", "made~2")
    assert fields(repo, again)["reopened-by"] == "checked"
    assert "Well." in repo.message(again)
    assert repo.git("show", "made:told").split("\n") == ["no good", "not even finished"]
    assert repo.git("show", "made:work") == "good"
    assert fields(repo, "checked^")["reopened"] == "made"
    assert "reopens" not in fields(repo, "checked^")
    stage.assert_unharmed()


def test_it_may_be_named_by_the_oid_that_is_done(stage: Stage) -> None:
    check = """
git cat-file blob made:work | grep -q good && exit 0
echo "aynig: reopens: $(git rev-parse made)" >>"$AYNIG_RESPONSE"
echo "aynig: validation-errors: no good" >>"$AYNIG_RESPONSE"
"""
    two(stage, check)
    stage.run()
    assert [stage.repo.state(name) for name in ("made", "checked")] == ["done", "done"]
    assert len(subjects(stage.repo, "made")) == 4


def test_while_it_is_redone_its_dependents_wait(stage: Stage) -> None:
    two(stage, build=BUILD.replace("echo good >work", "echo good >work; exit 1"))
    stage.run()
    assert stage.repo.state("made") == "failed"
    assert stage.repo.state("checked") == "check"
    row = stage.status("checked")
    assert (row.hold, row.detail) == ("blocked", "made ended as failed")


@pytest.mark.parametrize(
    ("reopens", "fault"),
    [
        ("other", "it reopens other, which it does not depend on"),
        ("main", "it reopens main, which it does not depend on"),
        ("HEAD", "it reopens HEAD, which it does not depend on"),
        ("checked", "it reopens checked, which it does not depend on"),
    ],
)
def test_what_it_does_not_depend_on_can_not_be_reopened(
    stage: Stage, reopens: str, fault: str
) -> None:
    two(stage, CHECK.replace("reopens: {upstream}", f"reopens: {reopens}"))
    stage.task("exit 0", branch="other", state="other")
    stage.run()
    assert stage.repo.state("checked") == "failed"
    assert fields(stage.repo, "checked")["fault"] == fault
    assert "reopened" not in fields(stage.repo, "checked")
    assert subjects(stage.repo, "made") == ["Make it", "build -> done"]


def test_nobody_is_sent_back_for_ever(stage: Stage) -> None:
    two(stage, CHECK.replace("grep -q good", "grep -q never"))
    stage.run()
    assert stage.repo.state("checked") == "failed"
    assert "5 times already" in fields(stage.repo, "checked")["fault"]
    assert sum("sent back" in line for line in subjects(stage.repo, "made")) == 5
    assert stage.repo.state("made") == "done"


def test_a_run_that_fails_sends_nobody_back(stage: Stage) -> None:
    two(stage, CHECK + "exit 1\n")
    stage.run()
    assert stage.repo.state("checked") == "failed"
    assert fields(stage.repo, "checked").keys().isdisjoint({"reopens", "reopened"})
    assert stage.repo.state("made") == "done"


def test_a_script_may_go_on_to_another_state_meanwhile(stage: Stage) -> None:
    two(stage, CHECK + "echo 'aynig: recheck' >>\"$AYNIG_RESPONSE\"\n")
    stage.task("exit 0", branch="checked", state="recheck", message="x\n\naynig: check\n")
    stage.run()
    assert subjects(stage.repo, "checked")[-2:] == ["check -> recheck", "recheck -> done"]


def test_what_a_person_ended_is_nobodys_work_to_redo(stage: Stage) -> None:
    two(stage)
    stage.repo.commit("By hand\n\naynig: done\n", branch="made", files={"work": "bad\n"})
    stage.run()
    assert "by a person's word" in fields(stage.repo, "checked")["fault"]


def test_where_the_other_task_moves_meanwhile_the_answer_is_written_anew(stage: Stage) -> None:
    two(stage)
    repo = stage.repo
    tip = repo.tip("made")
    done = repo.commit(f"build -> done\n\naynig: done\naynig: answers: {tip}\n", branch="made")
    site = open_site(repo.path)
    try:
        site.scan.look()
        event = read_event(site.repo, HEADS + "checked", repo.tip("checked"), site.read)
        assert event is not None
        lease = site.leases.acquire(event, None, "20260131T093000Z-1f3a9c2e", 1)
        assert isinstance(lease, Lease)
        written: list[str] = []

        def write() -> Answer:
            message = f"check -> check {len(written)}\n\naynig: check\n"
            oid = site.repo.write_commit(tree=event.tree, parents=[event.oid], message=message)
            written.append(oid)
            if len(written) > 1:
                return Answer(oid, "check", "", "")
            again = write_reopening(site, done, ["no good"], "checked")
            # Somebody else is faster.
            repo.commit(f"x\n\naynig: build\naynig: reopens: {done}\n", branch="made")
            return Answer(oid, "check", "", "", along=(RefEdit(HEADS + "made", done, again),))

        ended = conclude(site, Pending(values.plan(event=event), lease, values.result(), write))
    finally:
        site.close()
    assert isinstance(ended, Finished)
    assert ended.ending == "answered"
    assert repo.tip("checked") == written[-1] != written[0]
    assert subjects(repo, "made")[-1] == "x"


def test_only_what_a_run_has_ended_can_be_sent_back(stage: Stage) -> None:
    oid = stage.repo.commit("x\n\naynig: done\n", branch="task")
    site = open_site(stage.repo.path)
    try:
        with pytest.raises(UserError, match="no run led to it"):
            write_reopening(site, oid, [], "")
    finally:
        site.close()


# --- killed at every step ------------------------------------------------------------------------


def _kill(running: Daemon) -> None:
    os.kill(running.process.pid, signal.SIGKILL)
    running.process.wait()


@pytest.mark.parametrize(
    ("kind", "branch", "count"),
    [
        ("run", "made", 1),
        ("answer", "made", 1),
        ("run", "checked", 1),
        ("answer", "checked", 1),
        ("run", "made", 2),
        ("answer", "made", 2),
        ("run", "checked", 2),
    ],
)
def test_killed_at_any_step_it_comes_to_the_same_end(
    stage: Stage, kind: str, branch: str, count: int
) -> None:
    two(stage)
    with daemon(stage.repo.path) as running:
        wait_for(lambda: len(running.of(kind, branch)) >= count, what=f"{kind} {count}")
        _kill(running)
    stage.run()
    assert subjects(stage.repo, "made") == [
        "Make it",
        "build -> done",
        "done -> build: sent back by checked: no good",
        "build -> done",
    ]
    assert subjects(stage.repo, "checked") == ["Please check", "check -> check", "check -> done"]
    stage.assert_unharmed()
