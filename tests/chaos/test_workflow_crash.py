"""What a workflow asks for happens once, wherever a runner is killed on the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.steps import EACH, EACH_FIFTH, Story, tell
from tests.stage import Stage, sh
from tests.world import GitRepo


def values(repo: GitRepo, rev: str, key: str) -> list[str]:
    """All values of a field of a commit, in their order."""
    prefix = f"{key}: "
    found = [value for name, value in repo.trailers(rev) if name == "aynig"]
    return [value.removeprefix(prefix) for value in found if value.startswith(prefix)]


def chain(repo: GitRepo, branch: str = "task") -> list[str]:
    """The states of a branch since main, the oldest first."""
    oids = repo.git("rev-list", "--reverse", "--first-parent", branch, "^main").split("\n")
    return [repo.fields(oid)[""] for oid in oids]


def ended(*states: str) -> Callable[[GitRepo], bool]:
    return lambda repo: repo.state("task") in states


# --- retries ---------------------------------------------------------------------------------


def _begin_retries(stage: Stage) -> None:
    """The second attempt succeeds, whoever makes it."""
    stage.task(
        'echo half >half; echo no; [ -n "$AYNIG_FEEDBACK" ]',
        config="states:\n  go:\n    retries: {max: 5, backoff: 0, jitter: 0}\n",
    )


def _was_retried(repo: GitRepo) -> None:
    assert chain(repo) == ["go", "done"]
    told = [line for line in values(repo, "task", "failed-attempt") if ": crash: " not in line]
    assert [line.split(";")[0].partition(": ")[2] for line in told] == ["failure: exit 1: no"]
    kept = told[0].partition("kept under ")[2]
    assert repo.git("show", f"{kept}:half") == "half"


# --- what comes after a failure ----------------------------------------------------------------


def _begin_compensation(stage: Stage) -> None:
    stage.task(
        "exit 1",
        files={".aynig/undo": sh("exit 0"), ".aynig/plan-b": sh("exit 0")},
        config="states:\n  go: {compensate: undo, on-failure: plan-b}\n",
    )


def _was_undone_once(repo: GitRepo) -> None:
    assert chain(repo) == ["go", "undo", "plan-b", "done"]


def _begin_escalation(stage: Stage) -> None:
    stage.task(
        "echo half >half; exit 1", config="states:\n  go: {escalate: look, retries: {max: 0}}\n"
    )


def _is_a_persons_with_all_they_need(repo: GitRepo) -> None:
    assert chain(repo) == ["go", "look"]
    rescue = repo.fields("task")["rescue"]
    assert repo.git("show", f"{rescue}:half") == "half"
    assert "aynig retry task --from REV" in repo.git("show", "-s", "--format=%B", "task")


# --- the circuit breaker -------------------------------------------------------------------------


def _begin_idle_loop(stage: Stage) -> None:
    stage.task(
        "exit 0",
        config="states:\n  go:\n    loop: {promise: ALL, max-iterations: 9}\n"
        "    breaker: {no-change: 2, pause: 1h}\n",
    )


def _was_stopped_after_two(repo: GitRepo) -> None:
    assert chain(repo) == ["go", "go", "go"]
    assert [repo.fields(f"task~{n}").get("iteration") for n in (1, 0)] == ["1/9", "2/9"]


# --- verification --------------------------------------------------------------------------------


def _begin_judged(stage: Stage) -> None:
    """Scenarios on a ref of their own: the worker is secluded, and passes at the second try."""
    stage.repo.commit(
        "Cases", branch="hidden", parent=None, files={"cases/one": sh("test -e made")}
    )
    stage.task(
        '[ -n "$AYNIG_FEEDBACK" ] && echo x >made; exit 0',
        config="states:\n  go:\n    verify: {scenarios: hidden:cases}\n",
    )


def _was_judged_twice(repo: GitRepo) -> None:
    assert chain(repo) == ["go", "done"]
    assert values(repo, "task", "verified") == ["1/1"]
    told = [line for line in values(repo, "task", "failed-attempt") if ": crash: " not in line]
    assert [line.split(";")[0].partition(": ")[2] for line in told] == ["verification: 0/1"]


# --- owners --------------------------------------------------------------------------------------


def _begin_owned(stage: Stage) -> None:
    stage.task(
        "exit 1",
        files={".aynig/agents/ann": sh('echo "$AYNIG_STATE" >made')},
        config="agents:\n  ann: {command: agents/ann}\n",
        fields={"assigned-to": "ann"},
    )


def _its_owner_did_it(repo: GitRepo) -> None:
    assert chain(repo) == ["go", "done"]
    assert (repo.fields("task")["agent"], repo.git("show", "task:made")) == ("ann", "go")


# --- loops -------------------------------------------------------------------------------------


def _begin_loop(stage: Stage) -> None:
    """The second iteration fails and is reset, the third keeps the promise."""
    stage.task(
        'echo "$AYNIG_ITERATION" >>log; [ "$AYNIG_ITERATION" = 2 ] && { echo x >x; exit 1; }\n'
        '[ "$AYNIG_ITERATION" != 3 ] || echo "<promise>ALL</promise>"',
        config="states:\n  go:\n    loop: {promise: ALL, max-iterations: 3}\n"
        "    verify: [test -e log]\n",
    )


def _counted_each_iteration_once(repo: GitRepo) -> None:
    assert chain(repo) == ["go", "go", "go", "done"]
    numbers = [values(repo, f"task~{n}", "iteration") for n in (2, 1, 0)]
    assert numbers == [["1/3"], ["2/3"], ["3/3"]]
    assert repo.git("show", "task:log") == "1\n3"
    assert values(repo, "task", "verified") == ["1/1"]


# --- approvals -----------------------------------------------------------------------------------


def _begin_request(stage: Stage) -> None:
    stage.task("exit 0", config="states:\n  go: {risk: high}\n")


def _asks_once(repo: GitRepo) -> None:
    assert chain(repo) == ["go", "awaiting-approval"]


def _begin_approved(stage: Stage) -> None:
    _begin_request(stage)
    stage.run()
    assert stage.repo.state("task") == "awaiting-approval"
    _reply(stage, "approved")


def _reply(stage: Stage, state: str) -> None:
    person = {
        f"GIT_{role}_{part}": value
        for role in ("AUTHOR", "COMMITTER")
        for part, value in (("NAME", "Ann"), ("EMAIL", "ann@people.example"))
    }
    tip = stage.repo.tip("task")
    oid = stage.repo.git(
        "commit-tree", f"{tip}^{{tree}}", "-p", tip, "-m", f"Reply\n\naynig: {state}\n", env=person
    )
    stage.repo.git("update-ref", "refs/heads/task", oid)


def _ran_once_after_the_approval(repo: GitRepo) -> None:
    assert chain(repo) == ["go", "awaiting-approval", "approved", "go", "done"]


def _begin_proposal(stage: Stage) -> None:
    stage.task("echo new >made", config="states:\n  go: {risk: medium, next: shipped}\n")


def _proposes_once(repo: GitRepo) -> None:
    assert chain(repo) == ["go", "awaiting-approval"]
    assert values(repo, "task", "proposes") == ["shipped"]


def _begin_rejected(stage: Stage) -> None:
    _begin_proposal(stage)
    stage.run()
    _reply(stage, "rejected")


def _was_taken_back(repo: GitRepo) -> None:
    assert chain(repo) == ["go", "awaiting-approval", "rejected", "failed"]
    assert repo.git("ls-tree", "--name-only", "task", "made") == ""


# --- dependencies --------------------------------------------------------------------------------


def _begin_reopening(stage: Stage) -> None:
    """`down` sends `task` back to work once, and goes on with what that has made of it."""
    work = 'echo "$AYNIG_TRAILER_VALIDATION_ERRORS" >>made'
    judge = (
        'grep -q units made 2>/dev/null || grep -q units "$AYNIG_CONTEXT" && exit 0\n'
        'printf "aynig: reopens: task\\naynig: validation-errors: units\\n" >"$AYNIG_RESPONSE"'
    )
    stage.task(work, state="work")
    stage.task(judge, branch="down", state="judge", fields={"depends-on": "task"})


def _was_sent_back_once(repo: GitRepo) -> None:
    assert chain(repo) == ["work", "done", "work", "done"]
    assert repo.git("show", "task:made").strip() == "units"
    assert chain(repo, "down") == ["judge", "judge", "done"]


STORIES = {
    "a retry": Story(_begin_retries, _was_retried, ended("done"), rescues=True),
    "a compensation": Story(_begin_compensation, _was_undone_once, ended("done")),
    "an escalation": Story(
        _begin_escalation, _is_a_persons_with_all_they_need, ended("look"), rescues=True
    ),
    "an idle loop": Story(_begin_idle_loop, _was_stopped_after_two),
    "hidden scenarios": Story(_begin_judged, _was_judged_twice, ended("done"), rescues=True),
    "an owner": Story(_begin_owned, _its_owner_did_it, ended("done")),
    "a loop": Story(_begin_loop, _counted_each_iteration_once, ended("done"), rescues=True),
    "a request": Story(_begin_request, _asks_once, ended("awaiting-approval")),
    "an approval": Story(_begin_approved, _ran_once_after_the_approval, ended("done")),
    "a proposal": Story(_begin_proposal, _proposes_once, ended("awaiting-approval")),
    "a rejection": Story(_begin_rejected, _was_taken_back, ended("failed")),
    "work sent back": Story(
        _begin_reopening, _was_sent_back_once, lambda repo: repo.state("down") == "done"
    ),
}


@pytest.mark.parametrize(
    "stride",
    [
        pytest.param(EACH_FIFTH, id="each fifth step"),
        pytest.param(EACH, id="each step", marks=pytest.mark.chaos),
    ],
)
@pytest.mark.parametrize("name", STORIES)
def test_a_runner_killed_at_any_step_changes_nothing_of_the_end(
    stage: Stage, tmp_path: Path, name: str, stride: int
) -> None:
    tell(stage, tmp_path, STORIES[name], stride)
