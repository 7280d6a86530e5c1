"""A task sends one that it depends on back to work, which holds it until that is done again."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from aynig.ending import Finished, Pending, conclude
from aynig.errors import UserError
from aynig.git.refs import RefEdit
from aynig.model import HEADS, RESCUES, Lease
from aynig.reopening import write_reopening
from aynig.respond import Answer
from aynig.scan import read_event
from aynig.site import open_site
from tests import values
from tests.killing import each_step, run_killed_at
from tests.stage import Daemon, Stage, aynig, daemon
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


# --- an answer that waits for approval ------------------------------------------------------------

MEDIUM = "states:\n  check: {risk: medium}\n"


def asked(stage: Stage, config: str = MEDIUM, check: str = CHECK) -> str:
    """A task whose answer would send the other one back, if somebody approves it; its oid."""
    stage.task(BUILD, branch="made", state="build", config=config)
    script = check.replace("{upstream}", "made")
    fields = {"depends-on": "made"}
    stage.task(script, branch="checked", state="check", config=config, fields=fields)
    stage.run()
    if stage.repo.state("made") == "awaiting-approval":
        says(stage, "approve", "made")
        stage.run()
    assert stage.repo.state("made") == "done"
    return stage.repo.tip("checked")


def says(stage: Stage, *words: str) -> None:
    """What a person says, in the place of a request."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(stage.repo.path)
        assert aynig(*words) == 0


def sent_back(repo: GitRepo) -> int:
    return sum("sent back" in line for line in subjects(repo, "made"))


def test_what_waits_for_approval_sends_nobody_back_before(stage: Stage) -> None:
    repo = stage.repo
    request = asked(stage)
    done = repo.tip("made")
    assert repo.state("checked") == "awaiting-approval"
    assert fields(repo, request)["would-reopen"] == f"made@{done}"
    assert "reopened" not in fields(repo, request)
    assert "made is sent back to work." in repo.message(request)
    stage.run()
    assert repo.tip("made") == done
    says(stage, "approve", "checked")
    stage.run()
    assert subjects(repo, "made")[2:] == [
        "done -> build: sent back by checked: no good",
        "build -> done",
    ]
    assert repo.git("show", "made:told").split("\n") == ["no good", "not even finished"]
    # It has run again since, found no fault, and waits to be approved again.
    [approved] = [
        line for line in subjects(repo, "checked") if line.startswith("approved -> check")
    ]
    found = repo.git("log", "--format=%H", f"--grep={approved}", "--fixed-strings", "checked")
    assert fields(repo, found)["reopened"] == "made"
    assert fields(repo, "checked")["proposes"] == "done"
    stage.assert_unharmed()


@pytest.mark.parametrize("reply", ["reject", "answer"])
def test_what_is_not_approved_sends_nobody_back(stage: Stage, reply: str) -> None:
    asked(stage, check=CHECK.replace("printf", '[ -n "$AYNIG_TRAILER_ANSWER" ] && exit 0\nprintf'))
    says(stage, reply, "checked", "-m", "It will do")
    stage.run()
    assert (
        stage.repo.state("checked")
        == {
            "reject": "failed",
            "answer": "awaiting-approval",
        }[reply]
    )
    assert sent_back(stage.repo) == 0
    assert "would-reopen" not in fields(stage.repo, "checked")
    says(stage, *(["approve", "checked"] if reply == "answer" else ["retry", "checked"]))
    stage.run()
    assert sent_back(stage.repo) == 0


def test_what_was_approved_may_itself_be_sent_back(stage: Stage) -> None:
    asked(stage, "autonomy: step\n")
    says(stage, "approve", "checked")
    stage.run()
    assert sent_back(stage.repo) == 1
    assert stage.repo.state("made") == "awaiting-approval"
    assert stage.status("checked").detail == "for made to be done"


def test_what_was_done_anew_meanwhile_is_left_alone(stage: Stage) -> None:
    asked(stage)
    says(stage, "reopen", "made", "-m", "For another reason")
    stage.run()
    assert stage.repo.state("made") == "done"
    done = stage.repo.tip("made")
    says(stage, "approve", "checked")
    stage.run()
    assert stage.repo.tip("made") == done
    assert fields(stage.repo, "checked")["proposes"] == "done"


def test_a_question_is_no_way_around_an_approval(stage: Stage) -> None:
    asked(stage, check=CHECK + "echo 'aynig: question: Well?' >>\"$AYNIG_RESPONSE\"\n")
    assert stage.repo.state("checked") == "awaiting-answer"
    assert sent_back(stage.repo) == 0
    says(stage, "answer", "checked", "-m", "Well what?")
    stage.run()
    assert sent_back(stage.repo) == 0


def test_a_script_can_not_say_that_something_would_be_sent_back(stage: Stage) -> None:
    forged = f"echo 'aynig: would-reopen: made@{'1' * 40}' >>\"$AYNIG_RESPONSE\"\n"
    request = asked(stage, check=forged)
    assert fields(stage.repo, request)["overruled"] == "would-reopen"
    assert "would-reopen" not in fields(stage.repo, request)


def test_what_a_request_says_of_a_task_that_it_does_not_depend_on_is_not_believed(
    stage: Stage,
) -> None:
    repo = stage.repo
    stage.task("true", branch="other", state="build", config=MEDIUM)
    start = stage.task("true", branch="checked", state="check", config=MEDIUM)
    stage.run()
    other = repo.tip("other")
    message = (
        "check -> awaiting-approval: check?\n\naynig: awaiting-approval\naynig: proposes: check\n"
        f"aynig: answers: {start}\naynig: would-reopen: other@{other}\n"
    )
    repo.git("update-ref", "refs/heads/checked", repo.commit(message, branch="x", parent=start))
    says(stage, "approve", "checked")
    stage.run()
    assert repo.tip("other") == other


def test_killed_at_any_step_an_approval_sends_back_once(tmp_path: Path) -> None:
    kept = False
    for number, (step, when) in enumerate(each_step()):
        stage = Stage(GitRepo.init(tmp_path / f"repo-{number}"))
        asked(stage)
        says(stage, "approve", "checked")
        killed = run_killed_at(stage.repo.path, step, when)
        kept = kept or "-beside" in stage.repo.git("for-each-ref", RESCUES)
        stage.run()
        assert sent_back(stage.repo) == 1, (step, when)
        assert stage.repo.state("made") == "done", (step, when)
        assert fields(stage.repo, "checked")["proposes"] == "done", (step, when)
        if not killed:
            break
    # A git that is killed half-way through the transaction is no loss either.
    assert kept


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
