"""People approve, reject and answer; each decision is a commit, and nothing else decides."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from aynig.site import open_site
from aynig.tasks import retry
from tests.fleet import Fleet
from tests.keys import Key, allowed_signers
from tests.stage import Stage, aynig, sh
from tests.world import GitRepo, wait_for

BEFORE = """\
states:
  deploy: {risk: high}
"""
TWO = """\
states:
  deploy: {approval: {when: before, need: 2}}
"""
AFTER = """\
states:
  build: {approval: {when: after, on-reject: rework}, next: review}
"""
REVIEW = {".aynig/review": '#!/bin/sh\ncat "$AYNIG_BODY_FILE" >heard\n'}
BUILD = 'echo new >file\necho "Built it\n\nFor you\n\naynig: meta-x: 7" >"$AYNIG_RESPONSE"'


def person(name: str, address: str = "") -> dict[str, str]:
    """The environment of a commit that a person makes."""
    address = address or f"{name.lower()}@example.org"
    return {
        f"GIT_{role}_{part}": value
        for role in ("AUTHOR", "COMMITTER")
        for part, value in (("NAME", name), ("EMAIL", address))
    }


def says(
    stage: Stage,
    state: str,
    words: str = "",
    *,
    by: Mapping[str, str] | None = None,
    files: Mapping[str, str] | None = None,
    fields: Mapping[str, str] | None = None,
    branch: str = "task",
) -> str:
    """A person's plain commit with a state on top of a branch."""
    repo = stage.repo
    lines = [f"aynig: {key}: {value}" for key, value in (fields or {}).items()]
    trailers = "\n".join([f"aynig: {state}", *lines])
    below = repo.commit("files", branch=branch, files=files, update=False) if files else branch
    tree = repo.git("rev-parse", f"{below}^{{tree}}")
    env = {**repo.tick(), **(by or person("Emily"))}
    message = f"{words or f'I say {state}'}\n\n{trailers}\n"
    oid = repo.git("commit-tree", tree, "-p", branch, stdin=message, env=env)
    repo.git("update-ref", f"refs/heads/{branch}", oid)
    return oid


def states(stage: Stage, branch: str = "task") -> list[str]:
    """The states of a branch, oldest first; a commit without one is `-`."""
    oids = stage.repo.git("rev-list", "--reverse", "--first-parent", branch, "^main").split()
    return [stage.repo.fields(oid).get("", "-") for oid in oids]


def asked_before(stage: Stage, script: str = "touch ran", config: str = BEFORE) -> str:
    """A task that waits for an approval to start; the oid of the request."""
    message = "Deploy it\n\nAll of it\n\naynig: deploy\naynig: meta-x: 1\nNote: hear\n"
    stage.task(script, state="deploy", config=config, message=message)
    stage.run()
    assert stage.repo.state("task") == "awaiting-approval"
    return stage.repo.tip("task")


def proposed(stage: Stage, script: str = BUILD, config: str = AFTER) -> str:
    """A task whose answer waits as a proposal; the oid of that."""
    rework = {".aynig/rework": '#!/bin/sh\ncat "$AYNIG_BODY_FILE" >heard\n'}
    stage.task(script, state="build", config=config, files={**REVIEW, **rework})
    stage.run()
    assert stage.repo.state("task") == "awaiting-approval"
    return stage.repo.tip("task")


def show(repo: GitRepo, path: str, rev: str = "task") -> str:
    return repo.git("show", f"{rev}:{path}", check=False)


# --- before a run ----------------------------------------------------------------------------


def test_a_risky_state_asks_before_it_runs_and_the_history_carries_the_request(
    stage: Stage,
) -> None:
    request = asked_before(stage)
    assert states(stage) == ["deploy", "awaiting-approval"]
    fields = stage.repo.fields(request)
    assert fields["proposes"] == "deploy"
    assert fields["proposal"] == fields["answers"] == stage.repo.git("rev-parse", "task~1")
    message = stage.repo.message(request)
    assert "Deploy it" in message
    assert "+touch ran" in message
    assert "aynig approve task" in stage.status().detail


def test_what_came_with_a_question_is_shown_to_who_approves(stage: Stage) -> None:
    ask = 'echo bad >a; echo "aynig: question: may I?" >"$AYNIG_RESPONSE"'
    stage.task(
        f"[ -e a ] && echo good >b || {{ {ask}; }}", config="states:\n  go: {risk: medium}\n"
    )
    stage.run()
    assert states(stage) == ["go", "awaiting-answer"]
    says(stage, "answered")
    stage.run()
    proposed, _, unseen = stage.repo.message("task").partition("nobody has approved yet:")
    assert ("+good" in proposed, "+bad" in proposed) == (True, False)
    assert "+bad" in unseen
    says(stage, "approved")
    stage.run()
    assert stage.repo.state("task") == "done"


@pytest.mark.parametrize("risk", ["high", "medium"])
def test_what_was_rejected_can_be_retried_and_asks_anew(
    stage: Stage, risk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(stage.repo.path)
    stage.task("echo one >a", config=f"states:\n  go: {{risk: {risk}}}\n")
    stage.run()
    says(stage, "rejected")
    stage.run()
    assert stage.repo.state("task") == "failed"
    assert aynig("retry", "task") == 0
    assert stage.repo.state("task") == "go"
    stage.run()
    assert stage.repo.state("task") == "awaiting-approval"
    says(stage, "approved")
    stage.run()
    assert stage.repo.state("task") == "done"


def test_what_was_approved_once_is_not_shown_again(stage: Stage) -> None:
    config = "states:\n  go: {risk: medium, next: more}\n  more: {risk: medium}\n"
    stage.task("echo one >a", config=config, files={".aynig/more": sh("echo two >b")})
    stage.run()
    says(stage, "approved")
    stage.run()
    message = stage.repo.message("task")
    assert ("+two" in message, "+one" in message) == (True, False)
    assert "nobody has approved" not in message


def test_who_is_asked_sees_what_the_task_is(stage: Stage) -> None:
    config = "states:\n  build: {risk: medium, next: deploy}\n  deploy: {risk: high}\n"
    files = {".aynig/deploy": "#!/bin/sh\n"}
    message = "Better doors\n\nFor all of\n\naynig: not this\nthe house.\n\naynig: build\n"
    stage.task(BUILD, state="build", config=config, files=files, message=message)
    stage.run()
    task = "The task is:\n\n    Better doors\n\n    For all of\n    \n    aynig: not this\n"
    proposal = stage.repo.message("task")
    assert task in proposal
    assert proposal.index("What it proposes:") < proposal.index(task)
    says(stage, "approved", by=person("A Bot", "x@vm.aynig.invalid"))
    stage.run()
    again = stage.repo.message("task")
    assert "This does not count" in again
    assert task in again
    says(stage, "approved")
    stage.run()
    # The script's own words go on with the task, and the next one is asked for with both.
    assert "The task is:" not in stage.repo.message("task~1")
    request = stage.repo.message("task")
    assert "May deploy run?" in request
    assert task in request


def test_nothing_times_out_into_yes(stage: Stage) -> None:
    request = asked_before(stage)
    stage.run()
    assert stage.repo.tip("task") == request


def test_an_approved_state_runs_with_the_words_that_were_approved(stage: Stage) -> None:
    script = 'cat "$AYNIG_BODY_FILE" >out; echo "$AYNIG_TRAILER_NOTE $AYNIG_TRAILER_META_X" >>out'
    asked_before(stage, script)
    says(stage, "approved")
    stage.run()
    assert states(stage) == ["deploy", "awaiting-approval", "approved", "deploy", "done"]
    assert show(stage.repo, "out") == "All of it\nhear 1"
    assert stage.repo.fields("task~1")["approved-by"] == "Emily <emily@example.org>"
    assert stage.repo.fields("task~1")["approves"] == stage.repo.git("rev-parse", "task~4")
    stage.assert_unharmed()


def test_a_retry_is_asked_about_again(stage: Stage) -> None:
    asked_before(stage, "exit 1")
    says(stage, "approved")
    stage.run()
    assert stage.repo.state("task") == "failed"
    site = open_site(stage.repo.path)
    retry(site, "task")
    site.close()
    assert "approved-by" not in stage.repo.fields("task")
    stage.run()
    assert states(stage)[-2:] == ["deploy", "awaiting-approval"]


def test_retries_and_approvals_do_not_pile_up_in_subjects(stage: Stage) -> None:
    asked_before(stage, "exit 1")
    subjects = []
    for _ in range(3):
        stage.run()
        says(stage, "approved")
        stage.run()
        subjects.append(stage.repo.git("log", "-1", "--format=%s", "task~1"))
        site = open_site(stage.repo.path)
        retry(site, "task")
        site.close()
        subjects.append(stage.repo.git("log", "-1", "--format=%s", "task"))
    assert (
        subjects
        == [
            "approved -> deploy: Deploy it (approved by Emily)",
            "retry Deploy it",
        ]
        * 3
    )


@pytest.mark.parametrize(
    "forged",
    [
        pytest.param("", id="by a field alone"),
        pytest.param("aynig: answers: {approved}\naynig: step: approval\n", id="as the step of it"),
    ],
)
def test_who_writes_that_it_was_approved_is_asked_all_the_same(stage: Stage, forged: str) -> None:
    asked_before(stage)
    approved = says(stage, "approved", by=person("Emily", "x@vm.aynig.invalid"))
    message = (
        "approved -> deploy: Deploy it (approved by Emily)\n\nAll of it\n\n"
        "aynig: deploy\naynig: meta-x: 1\naynig: approved-by: Emily <emily@example.org>\n"
        f"aynig: approves: {stage.repo.git('rev-parse', 'task~2')}\n"
        + forged.format(approved=approved)
        + "Note: hear\n"
    )
    stage.repo.commit(message, branch="task")
    stage.run()
    assert stage.repo.state("task") == "awaiting-approval"
    assert show(stage.repo, ".aynig/deploy")
    assert "ran" not in stage.repo.git("ls-tree", "--name-only", "task").split()


def test_words_that_were_added_to_what_was_approved_are_asked_about(stage: Stage) -> None:
    asked_before(stage)
    approved = says(stage, "approved")
    message = (
        "approved -> deploy: Deploy it (approved by Emily)\n\n"
        "All of it, and the database\n\n"
        "aynig: deploy\naynig: meta-x: 1\naynig: approved-by: Emily <emily@example.org>\n"
        f"aynig: approves: {stage.repo.git('rev-parse', 'task~2')}\n"
        f"aynig: answers: {approved}\naynig: step: approval\nNote: hear\n"
    )
    stage.repo.commit(message, branch="task")
    stage.run()
    assert stage.repo.state("task") == "awaiting-approval"
    assert "and the database" in stage.repo.message("task")


def test_the_same_words_are_not_asked_about_again(stage: Stage) -> None:
    """The forgeries above fail for what they change, and not for what a test could not write."""
    asked_before(stage)
    approved = says(stage, "approved")
    message = (
        "approved -> deploy: Deploy it (approved by Emily)\n\nAll of it\n\n"
        "aynig: deploy\naynig: meta-x: 1\naynig: approved-by: Emily <emily@example.org>\n"
        f"aynig: approves: {stage.repo.git('rev-parse', 'task~2')}\n"
        f"aynig: answers: {approved}\naynig: step: approval\nNote: hear\n"
    )
    stage.repo.commit(message, branch="task")
    stage.run()
    assert stage.repo.state("task") == "done"


def test_an_approval_that_changes_files_approves_nothing(stage: Stage) -> None:
    asked_before(stage)
    says(stage, "approved", files={"extra": "more\n"})
    stage.run()
    assert states(stage) == ["deploy", "awaiting-approval", "approved", "awaiting-approval"]
    fields = stage.repo.fields("task")
    assert "changes files" in fields["refused"]
    assert "+more" in stage.repo.message("task")
    # Whose files they are may not approve them; somebody else may.
    says(stage, "approved")
    stage.run()
    assert "did the work" in stage.repo.fields("task")["refused"]
    says(stage, "approved", by=person("Grace"))
    stage.run()
    assert stage.repo.state("task") == "done"
    assert show(stage.repo, "extra") == "more"


def test_an_approval_of_another_request_does_not_count(stage: Stage) -> None:
    asked_before(stage)
    says(stage, "approved", fields={"approves": "1" * 40})
    stage.run()
    assert "it approves 111111111111" in stage.repo.fields("task")["refused"]


def test_two_different_people_have_to_agree(stage: Stage) -> None:
    asked_before(stage, config=TWO)
    says(stage, "approved")
    stage.run()
    fields = stage.repo.fields("task")
    assert (fields[""], fields["approvals"]) == ("awaiting-approval", "1/2")
    assert fields["approved-by"] == "Emily <emily@example.org>"
    assert "1/2 approvals" in stage.status().detail
    says(stage, "approved")
    stage.run()
    fields = stage.repo.fields("task")
    assert (fields["approvals"], fields["refused"]) == (
        "1/2",
        "Emily <emily@example.org> has approved it already",
    )
    says(stage, "approved", by=person("Grace"))
    stage.run()
    assert stage.repo.state("task") == "done"
    started = stage.repo.trailers("task~1")
    assert [value for _, value in started if value.startswith("approved-by: ")] == [
        "approved-by: Emily <emily@example.org>",
        "approved-by: Grace <grace@example.org>",
    ]


def test_a_rejected_run_never_starts_and_the_task_fails_with_the_words(stage: Stage) -> None:
    asked_before(stage)
    says(stage, "rejected", "Not on a Friday")
    stage.run()
    assert states(stage) == ["deploy", "awaiting-approval", "rejected", "failed"]
    fields = stage.repo.fields("task")
    assert fields["validation-errors"] == "Not on a Friday"
    assert fields["rejected-by"] == "Emily <emily@example.org>"


def test_what_a_person_answers_to_a_request_becomes_part_of_it(stage: Stage) -> None:
    asked_before(stage)
    says(stage, "answered", "Only the half of it")
    stage.run()
    assert states(stage)[-3:] == ["answered", "deploy", "awaiting-approval"]
    assert "Only the half of it" in stage.repo.message("task")


def test_approved_is_an_ordinary_state_on_top_of_anything_else(stage: Stage) -> None:
    stage.task("touch ran", state="approved")
    stage.run()
    assert states(stage) == ["approved", "done"]


def test_approved_is_an_ordinary_state_on_a_task_that_a_person_holds(stage: Stage) -> None:
    stage.task("touch ran", state="approved", message="hold\n\naynig: awaiting-approval\n")
    says(stage, "approved")
    stage.run()
    assert states(stage) == ["awaiting-approval", "approved", "done"]


# --- after a run -----------------------------------------------------------------------------


def test_the_answer_of_a_run_waits_as_a_proposal_with_its_files_and_the_diff(stage: Stage) -> None:
    proposal = proposed(stage)
    fields, message = stage.repo.fields(proposal), stage.repo.message(proposal)
    assert fields["proposes"] == "review"
    assert message.startswith("build -> awaiting-approval: review? Built it\n\nFor you\n")
    assert "+new" in message
    assert show(stage.repo, "file") == "new"


def test_an_accepted_proposal_goes_on_with_the_scripts_own_words_and_fields(stage: Stage) -> None:
    proposal = proposed(stage)
    says(stage, "approved")
    stage.run()
    assert states(stage) == ["build", "awaiting-approval", "approved", "review", "done"]
    assert show(stage.repo, "heard") == "For you"
    fields = stage.repo.fields("task~1")
    assert (fields["meta-x"], fields["approves"]) == ("7", proposal)


def test_a_rejected_proposal_is_taken_back_and_kept_in_the_history(stage: Stage) -> None:
    proposal = proposed(stage)
    says(stage, "rejected", "Too short")
    stage.run()
    assert states(stage) == ["build", "awaiting-approval", "rejected", "rework", "done"]
    assert not show(stage.repo, "file")
    assert show(stage.repo, "file", proposal) == "new"
    assert "Too short" in show(stage.repo, "heard")
    assert stage.repo.fields("task~1")["rejects"] == proposal


def test_a_proposal_is_corrected_by_the_state_that_made_it(stage: Stage) -> None:
    proposed(stage, 'echo new >>file; cat "$AYNIG_BODY_FILE" >heard')
    says(stage, "answered", "Longer, please")
    stage.run()
    assert states(stage)[-3:] == ["answered", "build", "awaiting-approval"]
    assert show(stage.repo, "file") == "new\nnew"
    assert "Longer, please" in show(stage.repo, "heard")


@pytest.mark.parametrize(
    ("by", "why"),
    [
        (person("Bot", "build@vm.aynig.invalid"), "did the work"),
        (person("Bot", "other@vm.aynig.invalid"), "is a script"),
        (person("Worker", "worker@example.org"), "did the work"),
        (person("WORKER", "elsewhere@example.org"), "did the work"),
        ({**person("Emily"), "GIT_COMMITTER_NAME": "Worker"}, "did the work"),
    ],
)
def test_nobody_approves_their_own_work(stage: Stage, by: Mapping[str, str], why: str) -> None:
    commit = "git -c user.name=x commit --quiet --allow-empty"
    script = (
        f"{commit} -m own --author='Worker <worker@example.org>'\n"
        f"{commit} -m own --author='Bot2 <build@vm.aynig.invalid>'"
    )
    proposed(stage, script)
    says(stage, "approved", by=by)
    stage.run()
    assert stage.repo.state("task") == "awaiting-approval"
    assert why in stage.repo.fields("task")["refused"]
    says(stage, "approved")
    stage.run()
    assert stage.repo.state("task") == "done"


def test_an_agent_by_its_name_or_identity_does_not_approve(stage: Stage) -> None:
    config = (
        "agents:\n  coder: {identity: 'Cora <cora@agents.example>'}\n"
        "states:\n  build: {agent: coder, risk: medium}\n"
    )
    proposed(stage, 'git commit --quiet --allow-empty -m own; echo "aynig: done" '
             '>"$AYNIG_RESPONSE"', config)  # fmt: skip
    assert stage.repo.git("log", "-1", "--format=%an %ce", "task~1") == "Cora cora@agents.example"
    for by in (person("coder"), person("Emily", "Cora@Agents.example")):
        says(stage, "approved", by=by)
        stage.run()
        assert "did the work" in stage.repo.fields("task")["refused"]


def test_who_shares_his_git_identity_with_the_daemon_approves_what_scripts_did(
    stage: Stage,
) -> None:
    """One person alone with agents: the scripts commit as themselves."""
    proposed(stage, "echo new >file; git add file; git commit --quiet -m own")
    ours = stage.repo.git("log", "-1", "--format=%an <%ae>", "task")
    assert ours == "Ada Author <ada@example.org>"
    assert stage.repo.git("log", "-1", "--format=%ae", "task~1").endswith(".aynig.invalid")
    says(stage, "approved", by=person("Ada Author", "ada@example.org"))
    stage.run()
    assert stage.repo.state("task") == "done"


def test_only_those_who_are_named_may_approve(stage: Stage) -> None:
    config = "states:\n  deploy: {approval: {when: before, by: [Grace <grace@example.org>]}}\n"
    asked_before(stage, config=config)
    says(stage, "approved")
    stage.run()
    assert "none of those who may" in stage.repo.fields("task")["refused"]
    says(stage, "approved", by=person("Grace"))
    stage.run()
    assert stage.repo.state("task") == "done"


def test_a_proposal_is_not_judged_by_the_rules_that_it_brings(stage: Stage) -> None:
    """The worker may change `.aynig/` here, and takes the rule away that stops it."""
    config = (
        "states:\n"
        "  build: {may-change: [.aynig/], approval: {when: after, by: [grace@example.org]}}\n"
    )
    proposed(stage, "echo 'states: {}' >.aynig/config.yaml", config)
    says(stage, "approved")
    stage.run()
    assert "none of those who may" in stage.repo.fields("task")["refused"]


def test_a_failed_run_proposes_nothing(stage: Stage) -> None:
    stage.task("exit 1", state="build", config=AFTER)
    stage.run()
    assert states(stage) == ["build", "failed"]


def test_a_child_stays_one_whoever_replies(stage: Stage) -> None:
    stage.task(BUILD, state="build", config=AFTER, files=REVIEW, fields={"parent": "main"})
    stage.run()
    says(stage, "approved")
    stage.run()
    assert stage.repo.fields("task")["parent"] == "main"


def test_the_script_of_another_task_does_not_approve(stage: Stage) -> None:
    request = asked_before(stage)
    script = (
        "approved=$(git commit-tree -p task -m Yes -m 'aynig: approved' 'task^{tree}') &&\n"
        "git update-ref refs/heads/task $approved"
    )
    stage.task(script, branch="other", config=BEFORE)
    stage.run()
    assert states(stage) == ["deploy", "awaiting-approval", "approved", "awaiting-approval"]
    assert "is a script, and only people approve" in stage.repo.fields("task")["refused"]
    assert stage.repo.fields("task")["proposal"] == stage.repo.fields(request)["proposal"]


def test_a_script_that_calls_aynig_approve_is_refused(stage: Stage, tmp_path: Path) -> None:
    request = asked_before(stage)
    said = tmp_path / "said"
    package = Path(__file__).resolve().parents[1]
    script = (
        f"cd '{stage.repo.path}' && export PYTHONPATH='{package}'\n"
        f"'{sys.executable}' -m aynig approve task 2>'{said}' || true"
    )
    stage.task(script, branch="other", config=BEFORE)
    stage.run()
    assert "is a script, and only people approve" in said.read_text()
    assert stage.repo.tip("task") == request


# --- questions -------------------------------------------------------------------------------

ASKS = """\
if [ -z "$AYNIG_TRAILER_ANSWER" ]; then
  echo kept >half
  echo "aynig: question: Which port?" >"$AYNIG_RESPONSE"
else
  cat "$AYNIG_BODY_FILE" >heard
  cp "$AYNIG_CONTEXT" context
fi"""


def test_a_question_waits_for_a_person_and_the_state_goes_on_with_the_answer(stage: Stage) -> None:
    stage.task(ASKS, state="build", message="Build\n\nThe task\n\naynig: build\nNote: hear\n")
    stage.run()
    assert states(stage) == ["build", "awaiting-answer"]
    assert show(stage.repo, "half") == "kept"
    assert stage.status().hold == "awaiting-answer"
    assert "Which port? `aynig answer task -m TEXT`" in stage.status().detail
    says(stage, "answered", "8080\n\nAnd 8081")
    stage.run()
    assert states(stage) == ["build", "awaiting-answer", "answered", "build", "done"]
    assert show(stage.repo, "heard") == "8080\n\nAnd 8081"
    context = json.loads(show(stage.repo, "context"))
    assert context["fields"]["question"] == ["Which port?"]
    assert context["conversation"] == {
        "task": {"oid": stage.repo.git("rev-parse", "task~4"), "subject": "Build",
                 "body": "The task"},
        "rounds": [{"question": "Which port?", "answer": "8080\n\nAnd 8081",
                    "by": "Emily <emily@example.org>"}],
    }  # fmt: skip


# --- what only people write ------------------------------------------------------------------

PEOPLE = "people-only: [released]\nstates:\n  go: {next: %s}\n  released: {}\n"


@pytest.mark.parametrize(
    "script",
    [
        pytest.param('echo "aynig: released" >"$AYNIG_RESPONSE"', id="in the answer file"),
        pytest.param(
            "git -c user.name=x -c user.email=x@y commit --quiet --allow-empty -m x "
            "-m 'aynig: released'",
            id="by a commit of its own",
        ),
    ],
)
def test_a_script_that_writes_a_state_of_peoples_has_failed(stage: Stage, script: str) -> None:
    stage.task(script, config=PEOPLE % "review")
    stage.run()
    assert states(stage) == ["go", "failed"]
    assert stage.repo.fields("task")["fault"] == "it wrote `released`, which only people may write"


def test_people_and_the_workflow_itself_may_write_that_state(stage: Stage) -> None:
    files = {".aynig/released": "#!/bin/sh\ntouch out\n"}
    stage.task("exit 0", config=PEOPLE % "released", files=files)
    stage.task("exit 0", branch="other", config=PEOPLE % "review", files=files)
    stage.run()
    says(stage, "released", branch="other")
    stage.run()
    assert stage.repo.state("task") == "done"
    assert stage.repo.state("other") == "done"


def test_a_script_for_the_waiting_state_may_not_reply(stage: Stage) -> None:
    config = "states:\n  deploy: {risk: high}\n"
    files = {".aynig/awaiting-approval": '#!/bin/sh\necho "aynig: approved" >"$AYNIG_RESPONSE"\n'}
    stage.task("touch ran", state="deploy", config=config, files=files)
    stage.run()
    assert states(stage) == ["deploy", "awaiting-approval", "failed"]


def test_a_state_of_peoples_that_a_script_brought_all_the_same_is_held(stage: Stage) -> None:
    """Landed by a runner that knew no such rule."""
    files = {".aynig/released": "#!/bin/sh\ntouch out\n", ".aynig/config.yaml": PEOPLE % "review"}
    first = stage.task("exit 0", files=files)
    answer = f"go -> released\n\naynig: released\naynig: answers: {first}\naynig: exit: 0\n"
    stage.repo.commit(answer, branch="task")
    stage.run()
    assert stage.status().hold == "blocked"
    assert states(stage) == ["go", "released"]


# --- autonomy --------------------------------------------------------------------------------


def levelled(stage: Stage, level: str, *, asked: str = "", script: str = "exit 0") -> list[str]:
    config = f"autonomy: {level}\nstates:\n  go: {{next: review}}\n  review: {{checkpoint: true}}\n"
    review = {".aynig/review": '#!/bin/sh\necho "aynig: last" >"$AYNIG_RESPONSE"\n'}
    last = {".aynig/last": "#!/bin/sh\nexit 0\n"}
    fields = {"autonomy": asked} if asked else {}
    stage.task(script, config=config, files={**review, **last}, fields=fields)
    for _ in range(4):
        stage.run()
        if stage.repo.state("task") == "awaiting-approval":
            says(stage, "approved")
    return [state for state in states(stage) if state != "approved"]


WAITS = "awaiting-approval"


@pytest.mark.parametrize(
    ("level", "asked", "expected"),
    [
        ("never", "", ["go", "review", "last", "done"]),
        ("stuck", "", ["go", "review", "last", "done"]),
        ("end", "", ["go", "review", "last", WAITS, "done"]),
        ("checkpoint", "", ["go", "review", WAITS, "last", WAITS, "done"]),
        ("step", "", ["go", WAITS, "review", WAITS, "last", WAITS, "done"]),
        ("end", "step", ["go", WAITS, "review", WAITS, "last", WAITS, "done"]),
        ("end", "never", ["go", "review", "last", WAITS, "done"]),
    ],
)
def test_the_level_says_where_a_task_stops_and_a_task_may_only_be_stricter(
    stage: Stage, level: str, asked: str, expected: list[str]
) -> None:
    assert levelled(stage, level, asked=asked) == expected


def test_a_failure_without_a_way_on_waits_for_a_person_with_what_he_needs(stage: Stage) -> None:
    assert levelled(stage, "stuck", script="echo why; exit 3") == ["go", "stalled"]
    message = stage.repo.message("task")
    assert "    why" in message
    site = open_site(stage.repo.path)
    assert retry(site, "task").state == "go"
    site.close()


# --- being told ------------------------------------------------------------------------------


def test_a_person_is_called_when_a_task_begins_to_wait(stage: Stage, tmp_path: Path) -> None:
    heard, program = tmp_path / "heard", tmp_path / "program"
    program.write_text(f'#!/bin/sh\n{{ echo "$AYNIG_BRANCH $AYNIG_STATE"; cat; }} >>"{heard}"\n')
    program.chmod(0o755)
    stage.repo.git("config", "aynig.notify", str(program))
    stage.task("touch ran", state="deploy", config=BEFORE)
    stage.task('echo "aynig: question: Why?" >"$AYNIG_RESPONSE"', branch="asks")
    stage.task("exit 0", branch="ends")
    stage.run()
    wait_for(lambda: heard.exists() and len(heard.read_text().splitlines()) == 4, what="the calls")
    lines = heard.read_text().splitlines()
    assert "task awaiting-approval" in lines
    assert "asks awaiting-answer" in lines
    assert "asks waits for a person: Why? `aynig answer asks -m TEXT`" in lines


def test_a_program_that_fails_is_a_problem_and_holds_up_nothing(stage: Stage) -> None:
    stage.repo.git("config", "aynig.notify", "/nowhere/program")
    stage.task("touch ran", state="deploy", config=BEFORE)
    with stage.live() as told:
        wait_for(lambda: told.of("problem"), what="the problem")
        assert "aynig.notify for task" in told.of("problem")[0].detail
        says(stage, "approved")
        stage.wait_for_state("done")


def test_what_follows_of_an_approval_tells_of_that_one_alone(stage: Stage) -> None:
    """A proposal that leads to a state which asks in its turn: two approvals in a row."""
    config = "states:\n  build: {risk: medium, next: deploy}\n  deploy: {risk: high}\n"
    deploy = {".aynig/deploy": "#!/bin/sh\necho out\n"}
    stage.task(BUILD, state="build", config=config, files=deploy)
    stage.run()
    says(stage, "approved")
    stage.run()
    says(stage, "approved", by=person("Grace"))
    stage.run()
    assert stage.repo.git("log", "-1", "--format=%s", "task~1") == (
        "approved -> deploy: approved by Grace"
    )


def test_a_state_that_the_subject_begins_with_is_not_said_twice(stage: Stage) -> None:
    stage.task("true", state="deploy", config=BEFORE, message="deploy: It\n\naynig: deploy\n")
    stage.run()
    says(stage, "approved")
    stage.run()
    assert stage.repo.git("log", "-1", "--format=%s", "task~1") == (
        "approved -> deploy: It (approved by Emily)"
    )


# --- on a remote -----------------------------------------------------------------------------


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    scripts = {"deploy": "touch ran", "build": "echo new >file"}
    return Fleet.make(tmp_path, scripts, workflow=f"{BEFORE}  build: {{risk: medium}}\n")


@pytest.mark.parametrize("state", ["deploy", "build"])
def test_on_a_remote_one_runner_asks_and_another_goes_on(fleet: Fleet, state: str) -> None:
    fleet.tasks.task(state=state)
    fleet.run("bob")
    assert fleet.server.state("task") == "awaiting-approval"
    assert "--remote origin`" in fleet.status("bob").detail
    says(fleet.tasks, "approved")
    fleet.run("carol")
    assert fleet.server.state("task") == "done"
    fleet.fsck()


def test_on_a_remote_a_task_brings_no_rules_of_its_own(fleet: Fleet) -> None:
    fleet.tasks.task(state="deploy", config="states: {deploy: {}}")
    fleet.run("bob")
    assert fleet.server.state("task") == "awaiting-approval"


def test_aynig_approve_pushes_the_approval(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.tasks.task(state="deploy")
    fleet.run("bob")
    monkeypatch.chdir(fleet.clone("alice").path)
    assert aynig("approve", "task", "-m", "Yes", "--remote", "origin") == 0
    assert fleet.server.state("task") == "approved"
    assert aynig("approve", "task", "--remote", "origin") == 1
    assert "replied to already" in capsys.readouterr().err
    fleet.run("bob")
    assert fleet.server.state("task") == "done"


def test_on_a_remote_a_signed_approval_is_held_against_the_trusted_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = Key.made(tmp_path, "emily")
    fleet = Fleet.make(tmp_path, {"deploy": "touch ran"}, workflow=f"signed: required\n{BEFORE}")
    listed = {".aynig/allowed_signers": allowed_signers([("emily@example.org", key)])}
    fleet.tasks.task(state="deploy", files=listed)
    fleet.run("bob")
    clone = fleet.clone("alice")
    clone.git("config", "gpg.format", "ssh")
    clone.git("config", "user.signingKey", str(key.path))
    monkeypatch.chdir(clone.path)
    # That the task itself lists the key is no proof.
    assert aynig("approve", "task", "--remote", "origin") == 1
    fleet.server.commit("keys", files=listed)
    assert aynig("approve", "task", "--remote", "origin") == 0
    fleet.run("bob")
    assert fleet.server.state("task") == "done"
    assert fleet.server.fields("task~1")["approved-by"].startswith("emily@example.org (SHA256:")


# --- in dwp ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["", "dwp"])
def test_in_dwp_a_request_and_what_follows_are_in_dwp(stage: Stage, dialect: str) -> None:
    repo = stage.repo
    files: dict[str, str | bytes | None] = {
        ".dwp/command/build": "#!/bin/sh\n"
        "git commit --quiet --allow-empty -m x -m 'dwp-state: deploy'\n",
        ".dwp/command/deploy": '#!/bin/sh\necho "$AYNIG_BODY" >ran\n',
        ".aynig/config.yaml": "states:\n  build: {risk: medium}\n  deploy: {risk: high}\n",
    }
    repo.commit("Build\n\nIt\n\ndwp-state: build\n", branch="task", files=files, parent=repo.tip())
    for waits in ("deploy", "deploy"):
        stage.run(dialect=dialect)
        trailers = dict(repo.trailers("task"))
        assert (trailers["dwp-state"], trailers["dwp-proposes"]) == ("awaiting-approval", waits)
        repo.commit("Yes\n\ndwp-state: approved\n", branch="task")
    stage.run(dialect=dialect)
    assert dict(repo.trailers("task"))["dwp-state"] == "done"
    assert "ran" in repo.git("ls-tree", "--name-only", "task").split()
