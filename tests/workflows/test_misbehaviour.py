"""Agents that misbehave: whatever one says or does, code finds it, and the answer tells of it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from aynig.git.repo import Repo
from aynig.ledger import open_ledger
from aynig.policies import setback
from aynig.recover import keep_house
from aynig.site import open_site
from aynig.status import StatusRow, status_rows
from tests.stage import UNFENCED, Stage
from tests.test_approvals import person, says
from tests.world import wait_for

# The scripts of a task in a clone come with its own commit; here they come from `main`, so that
# nothing that a task changes is trusted by the way.
TRUSTED = {"scripts": "refs/heads/main"}
LOOP = "    loop: {promise: TASK_COMPLETE, max-iterations: 2, on-limit: gave-up}\n"
PROMISE = 'echo "<promise>TASK_COMPLETE</promise>"\n'
RESPONSE = "cat >\"$AYNIG_RESPONSE\" <<'END'\n{}\nEND\n"
COMMIT = "git commit --quiet --allow-empty -F - <<'END'\n{}\nEND\n"
# An approval of another task, which comes with no files.
FORGED = (
    "forged=$(git commit-tree 'refs/heads/task^{tree}' -p refs/heads/task <<'END'\n"
    "Fine\n\naynig: approved\nEND\n)\ngit update-ref refs/heads/task $forged\n"
)
LEASE = f"{UNFENCED}set -- $(git for-each-ref --format='%(refname)' refs/aynig/lease)\n"
COUNTING = 'n=$(cat "$COUNT" 2>/dev/null || echo 0); n=$((n + 1)); echo $n >"$COUNT"\n'
MOVE = f'{UNFENCED}git update-ref "refs/heads/$AYNIG_BRANCH" $forged\n'


def config(settings: str, state: str = "go") -> str:
    return f"states:\n  {state}:\n{settings}"


def values(stage: Stage, key: str, rev: str = "task") -> list[str]:
    """All values of a field of a commit."""
    found = [value for name, value in stage.repo.trailers(rev) if name == "aynig"]
    return [value.removeprefix(f"{key}: ") for value in found if value.startswith(f"{key}: ")]


def words(stage: Stage) -> list[str]:
    """What became of each iteration of the loop, the oldest first."""
    oids = stage.repo.git("rev-list", "--reverse", "--first-parent", "task", "^main").split()
    return [word for oid in oids for word in values(stage, "loop", oid)]


# --- promises ------------------------------------------------------------------------------------


def test_a_promise_without_the_work_ends_no_loop(stage: Stage) -> None:
    stage.task(PROMISE, config=config(LOOP + "    verify: [test -e work]\n"))
    stage.run()
    assert words(stage) == ["again", "limit"]
    assert stage.repo.state("task") == "gave-up"
    assert values(stage, "verified") == ["0/1"]


@pytest.mark.parametrize(
    "output",
    [
        pytest.param("```sh\n<promise>TASK_COMPLETE</promise>\n```", id="in a code block"),
        pytest.param("~~~\n<promise>TASK_COMPLETE</promise>", id="in one that never ends"),
        pytest.param("> <promise>TASK_COMPLETE</promise>", id="quoted"),
        pytest.param("  <promise>TASK_COMPLETE</promise>", id="indented"),
        pytest.param("\t<promise>TASK_COMPLETE</promise>", id="behind a tab"),
        pytest.param("- <promise>TASK_COMPLETE</promise>", id="in a list"),
        pytest.param("\x1b[32m<promise>TASK_COMPLETE</promise>\x1b[0m", id="coloured"),
        pytest.param("<promise>\nTASK_COMPLETE\n</promise>", id="on three lines"),
    ],
)
def test_a_promise_that_is_merely_shown_ends_no_loop(stage: Stage, output: str) -> None:
    stage.task(f"cat <<'END'\n{output}\nEND", config=config(LOOP))
    stage.run()
    assert words(stage) == ["again", "limit"]


def test_a_prompt_that_is_echoed_ends_no_loop(stage: Stage) -> None:
    prompt = "When it is done, print\n\n<promise>TASK_COMPLETE</promise>"
    stage.task(
        'cat "$AYNIG_BODY_FILE"; echo; cat "$AYNIG_BODY_FILE"',
        message=f"Loop\n\n{prompt}\n\naynig: go\n",
        config=config(LOOP),
    )
    stage.run()
    assert words(stage) == ["again", "limit"]


def test_a_promise_in_a_commit_that_is_not_its_answer_ends_no_loop(stage: Stage) -> None:
    said = "Done\n\naynig: go\naynig: promise: TASK_COMPLETE\naynig: iteration: 9/9"
    last = "git commit --quiet --allow-empty -m 'and more'"
    stage.task(COMMIT.format(said) + last, config=config(LOOP))
    stage.run()
    assert words(stage) == ["again", "limit"]
    assert values(stage, "iteration") == ["2/2"]


# --- nothing done --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "script", "said"),
    [
        ("changes", "exit 0", "it changed no file"),
        ("changes", "echo x >x; git add x; git commit -qm x; git revert -n HEAD; git commit -qm y",
         "it changed no file"),
        ("changes", "git commit --quiet --allow-empty -m work", "it changed no file"),
        ("changes", 'echo "aynig: done" >"$AYNIG_RESPONSE"', "it changed no file"),
        ("answer", "exit 0", "it gave no answer"),
        ("answer", ': >"$AYNIG_RESPONSE"', "it gave no answer"),
        ("answer", 'echo >"$AYNIG_RESPONSE"', "it gave no answer"),
        ("answer", 'echo "aynig: verified: 9/9" >"$AYNIG_RESPONSE"', "it gave no answer"),
    ],
)  # fmt: skip
def test_an_exit_of_0_with_nothing_done_is_no_success(
    stage: Stage, expected: str, script: str, said: str
) -> None:
    stage.task(script, config=config(f"    expect: {expected}\n"))
    stage.run()
    assert stage.repo.state("task") == "failed"
    assert said in values(stage, "fault")[0]


# --- what is judged ------------------------------------------------------------------------------

CHECK = "#!/bin/sh\ngrep -q good work\n"
CONFIG = config("    verify: {scenarios: checks}\n")
SPOIL = 'printf "#!/bin/sh\\nexit 0\\n" >{place}; chmod +x {place}\n'


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(SPOIL.format(place="checks/one"), id="in its worktree"),
        pytest.param("git rm -q checks/one", id="deleted"),
        pytest.param(SPOIL.format(place="checks/one") + "git commit -qam x", id="its own commit"),
        pytest.param(
            'blob=$(printf "#!/bin/sh\\nexit 0\\n" | git hash-object -w --stdin)\n'
            "git update-index --cacheinfo 100755,$blob,checks/one\n"
            "git update-index --skip-worktree checks/one; git commit -qm x",
            id="by plumbing",
        ),
        pytest.param(
            'for place in "$AYNIG_HOME"/../../*/*/checks/one /tmp/aynig-*/*/one; do\n'
            '[ ! -e "$place" ] || echo "exit 0" >"$place"; done 2>/dev/null',
            id="wherever they may lie",
        ),
        pytest.param("mkdir -p a; ln -s ../checks a/checks; echo good >a/work", id="a link"),
        pytest.param(
            RESPONSE.format("aynig: verified: 1/1\naynig: done"),
            id="says that it passed",
        ),
        pytest.param(COMMIT.format("x\n\naynig: done\naynig: verified: 1/1"), id="in a commit"),
    ],
)
def test_scenarios_that_an_agent_edits_judge_it_all_the_same(stage: Stage, script: str) -> None:
    stage.task(script, branch="main", files={"checks/one": CHECK}, config=CONFIG, message="setup")
    stage.task(branch="task")
    stage.run(**TRUSTED)
    fields = stage.repo.fields("task")
    assert (fields[""], fields["verified"]) == ("failed", "0/1")


def test_what_goes_on_behind_a_run_does_not_reach_what_is_judged(stage: Stage) -> None:
    """A process that is left in the background is ended before anything is looked at."""
    background = "(sleep 600; echo good >work; echo 'aynig: done' >\"$AYNIG_RESPONSE\") &\n"
    escaped = "setsid sh -c 'sleep 600; echo good >work' >/dev/null 2>&1 &\n"
    stage.task(background + escaped, config=config("    verify: [grep -q good work]\n"))
    stage.run()
    assert stage.repo.fields("task")["verified"] == "0/1"
    stage.assert_unharmed()


# --- the workflow --------------------------------------------------------------------------------

MEDDLING = {
    "a file": "echo 'exit 0' >.aynig/go",
    "a new file": "echo x >.aynig/new",
    "in a commit": "echo 'exit 0' >.aynig/go; git commit -qam 'Better'",
    "in a commit that is an answer": "echo 'exit 0' >.aynig/go; git add .\n"
    + COMMIT.format("x\n\naynig: done"),
    "the run bit": "chmod -x .aynig/go",
    "no config any more": "rm .aynig/config.yaml",
    "no folder any more": "git rm -qr .aynig; git commit -qm x",
    "another name": "git mv .aynig aynig-old",
    "a link": "cp -r .aynig other; rm -r .aynig; ln -s other .aynig",
    "a link as a script": "ln -sf ../evil .aynig/go",
    "by plumbing": 'git update-index --cacheinfo "100755,$(git hash-object -w /dev/null),.aynig/go"'
    "; git update-index --skip-worktree .aynig/go; git commit -qm x",
    "assumed to be unchanged": "git update-index --assume-unchanged .aynig/go; echo >.aynig/go",
    "not to be looked at": "git update-index --skip-worktree .aynig/go; echo >.aynig/go",
    "left out of what git sees": "git sparse-checkout set --no-cone '/*' '!/.aynig/'\n"
    "mkdir -p .aynig; echo >.aynig/go; chmod +x .aynig/go",
    "a submodule": "git rm -qr --cached .aynig; git update-index --add --cacheinfo "
    "160000,$AYNIG_COMMIT_HASH,.aynig; git commit -qm x",
    "in another case": "mkdir .AYNIG; echo x >.AYNIG/config.yaml",
    "in the other dialect's folder": "mkdir -p .dwp/command; echo x >.dwp/command/go",
    "by an attribute": "echo '.aynig/go -text' >.aynig/.gitattributes",
    "ignored": "echo .aynig >.gitignore; echo x >.aynig/new; git add -f .aynig/new",
}


@pytest.mark.parametrize("script", [pytest.param(text, id=name) for name, text in MEDDLING.items()])
def test_an_agent_that_changes_the_workflow_has_failed(stage: Stage, script: str) -> None:
    stage.task(script, config=config("    next: review\n"), files={".aynig/review": "#!/bin/sh\n"})
    before = stage.repo.git("ls-tree", "-r", "task")
    stage.run()
    assert stage.repo.state("task") == "failed"
    assert "only people change the workflow" in values(stage, "fault")[0]
    assert stage.repo.git("ls-tree", "-r", "task") == before
    # Nothing of what it did is lost: a person may want it.
    assert stage.repo.git("rev-parse", values(stage, "rescue")[0])


def test_an_agent_that_changes_the_workflow_where_there_was_none_has_failed(stage: Stage) -> None:
    stage.task("git update-index --add --cacheinfo 160000,$AYNIG_COMMIT_HASH,.aynig; "
               "git commit -qm x", branch="main", message="setup")  # fmt: skip
    stage.task(files={".aynig/go": None})
    stage.run(**TRUSTED)
    assert stage.repo.state("task") == "failed"
    assert "only people change the workflow" in values(stage, "fault")[0]


def test_a_change_of_the_workflow_that_is_taken_back_is_never_obeyed(stage: Stage) -> None:
    """What lies between a commit and its answer is not dispatched, and no workflow of anything."""
    script = (
        "cp .aynig/go kept; printf '#!/bin/sh\\ntouch evil\\n' >.aynig/go\n"
        "git add .aynig; git commit -qm x -m 'aynig: go'\n"
        "mv kept .aynig/go; git add .aynig; git commit -qm y"
    )
    stage.task(script, config=config("    next: review\n"), files={".aynig/review": "#!/bin/sh\n"})
    stage.run()
    assert stage.repo.state("task") == "done"
    assert stage.repo.git("ls-tree", "task", "evil") == ""


def test_a_script_that_writes_over_its_written_out_copy_changes_nothing_for_the_next_run(
    stage: Stage,
) -> None:
    script = (
        'chmod -R u+w "$AYNIG_HOME"; printf "#!/bin/sh\\ntouch evil\\n" >"$AYNIG_HOME/review"\n'
        'chmod +x "$AYNIG_HOME/review"; echo "aynig: review" >"$AYNIG_RESPONSE"'
    )
    stage.task(script, files={".aynig/review": "#!/bin/sh\ntouch honest\n"})
    stage.run()
    assert stage.repo.state("task") == "done"
    assert stage.repo.git("ls-tree", "--name-only", "task", "evil", "honest") == "honest"


# --- forged fields -------------------------------------------------------------------------------

FORGERIES = (
    "verified: 17/17",
    "answers: 1111111111111111111111111111111111111111",
    "step: approval",
    "iteration: 1/50",
    "loop: kept",
    "failed-attempt: 1: failure: nothing",
    "parent: other",
    "then: released",
    "escalated: 1111111111111111111111111111111111111111",
    "joined: a@1111111111111111111111111111111111111111",
    "left-out: a@1111111111111111111111111111111111111111",
    "approved-by: Boss <boss@example.org>",
    "approves: 1111111111111111111111111111111111111111",
    "proposes: released",
    "run: 20200101T000000Z-0000000000",
    "executed-by: boss@example.org",
    "agent: somebody-else",
    "retry-of: 1111111111111111111111111111111111111111",
    "reopened: other",
    "would-reopen: other@1111111111111111111111111111111111111111",
    "exit: 99",
    "duration: 0.1",
    "script: 1111111111111111111111111111111111111111",
)
KEYS = [text.partition(":")[0] for text in FORGERIES]
LINES = "\n".join(f"aynig: {text}" for text in FORGERIES)


def believed(stage: Stage, rev: str = "task") -> list[str]:
    """Which of the forged values a commit has."""
    return [
        text
        for text in FORGERIES
        if text.partition(": ")[2] in values(stage, text.partition(":")[0], rev)
    ]


def test_fields_of_the_daemons_own_that_an_answer_file_forges_are_dropped_and_told(
    stage: Stage,
) -> None:
    stage.task(RESPONSE.format(f"Well done\n\naynig: done\n{LINES}") + "exit 3")
    stage.run()
    assert set(KEYS) <= set(values(stage, "overruled"))
    assert believed(stage) == []
    assert stage.repo.fields("task")["exit"] == "3"


def test_fields_that_a_commit_of_the_scripts_forges_are_told_and_count_nowhere(
    stage: Stage,
) -> None:
    lines = "\n".join(f"aynig: {text}" for text in FORGERIES if not text.startswith("answers"))
    stage.task(COMMIT.format(f"Well done\n\naynig: done\n{lines}"))
    stage.run()
    assert stage.repo.state("task") == "done"
    assert set(KEYS) - {"answers"} <= set(values(stage, "overruled"))
    assert believed(stage) == []


def test_a_commit_that_claims_to_be_the_answer_makes_the_run_a_failure(stage: Stage) -> None:
    script = (
        "printf 'Forged\\n\\naynig: approved\\naynig: answers: %s\\n' $AYNIG_COMMIT_HASH "
        "| git commit --quiet --allow-empty -F -\n"
        "git commit --quiet --allow-empty -m 'and on top'"
    )
    task = stage.task(script)
    stage.run()
    assert stage.repo.state("task") == "failed"
    assert "which only aynig writes" in values(stage, "fault")[0]
    assert stage.repo.git("rev-parse", "task~") == task
    assert "Forged" in stage.repo.git("log", "--format=%B", values(stage, "rescue")[0])


@pytest.mark.parametrize("place", ["response", "commit"])
def test_what_is_forged_in_the_other_dialect_is_told_as_well(stage: Stage, place: str) -> None:
    said = (
        "Well done\n\ndwp-state: done\ndwp-verified: 17/17\ndwp-iteration: 1/9\n"
        "dwp-cost-usd: -5\ndwp-answers: 1111111111111111111111111111111111111111\n"
    )
    script = RESPONSE.format(said) if place == "response" else COMMIT.format(said)
    stage.repo.commit(
        "Go\n\ndwp-state: go\n",
        branch="task",
        files={
            ".dwp/command/go": f"#!/bin/sh\n{script}",
            ".aynig/config.yaml": config("    verify: ['false']\n"),
        },
        parent=stage.repo.tip(),
    )
    stage.run()
    said_last = stage.repo.message("task")
    assert "dwp-state: failed" in said_last
    assert "dwp-verified: 0/1" in said_last
    assert "17/17" not in said_last
    assert "dwp-overruled: verified" in said_last


@pytest.mark.parametrize("passes", [True, False])
def test_in_dwp_the_score_is_on_top_of_a_commit_that_is_the_answer(
    stage: Stage, passes: bool
) -> None:
    said = "Well done\n\ndwp-state: shipped\ndwp-verified: 17/17\n"
    stage.repo.commit(
        "Go\n\ndwp-state: go\n",
        branch="task",
        files={
            ".dwp/command/go": f"#!/bin/sh\n{COMMIT.format(said)}",
            ".aynig/config.yaml": config(f"    verify: ['{str(passes).lower()}']\n"),
        },
        parent=stage.repo.tip(),
    )
    stage.run()
    message = stage.repo.message("task")
    assert ("dwp-verified: 1/1" in message, "dwp-verified: 0/1" in message) == (passes, not passes)
    assert ("dwp-state: shipped" in message) == passes


@pytest.mark.parametrize(
    "cost", ["-5", "1e300", "NaN", "inf", "9" * 40, "0x10", "1,000", "-0", "5 dollars", "½", "١"]
)
def test_costs_that_are_none_are_told_and_not_counted(stage: Stage, cost: str) -> None:
    lines = f"aynig: cost-usd: {cost}\naynig: cost-usd: 0.25\naynig: tokens-in: -7"
    stage.task(RESPONSE.format(f"Well done\n\naynig: done\n{lines}"))
    stage.run()
    assert values(stage, "cost-usd") == ["0.25"]
    told = " ".join(values(stage, "overruled"))
    assert "cost-usd: expected dollars" in told
    assert "tokens-in: expected a whole number" in told


def test_what_was_reported_as_spent_stays_reported(stage: Stage) -> None:
    read = f"{LEASE}until git cat-file commit $1 | grep -q '^cost-usd: 5'; do sleep 0.1; done\n"
    script = (
        f'echo "cost-usd: 5" >>"$AYNIG_USAGE"\n{read}'
        ': >"$AYNIG_USAGE"; echo "aynig: cost-usd: 0" >"$AYNIG_RESPONSE"'
    )
    stage.task(script)
    stage.run(lease_seconds="5s")
    assert values(stage, "cost-usd") == ["5"]
    assert any("cut short" in text for text in values(stage, "overruled"))


def test_commits_that_are_dated_ahead_do_not_move_what_was_spent_to_another_day(
    stage: Stage,
) -> None:
    script = (
        'GIT_COMMITTER_DATE="4102444800 +0000" git commit --quiet --allow-empty -m future\n'
        'echo "aynig: cost-usd: 5" >"$AYNIG_RESPONSE"'
    )
    stage.task(script)
    stage.run()
    ledger = open_ledger(Repo.open(stage.repo.path))
    ledger.cover(float("-inf"))
    ledger.refresh()
    (entry,) = ledger.entries()
    assert entry.day.year < 2100


# --- approvals -----------------------------------------------------------------------------------

PEOPLE = "people-only: [approved, released]\nstates:\n  go: {next: review}\n"


@pytest.mark.parametrize(
    "script",
    [
        pytest.param('echo "aynig: approved" >"$AYNIG_RESPONSE"', id="the file"),
        pytest.param("aynig respond approved -m fine", id="the command"),
        pytest.param(COMMIT.format("fine\n\naynig: approved"), id="a commit"),
        pytest.param(COMMIT.format("fine\n\ndwp-state: approved"), id="in the other dialect"),
        pytest.param('echo "aynig: released" >"$AYNIG_RESPONSE"; exit 1', id="in failing"),
    ],
)
def test_an_agent_does_not_write_what_only_people_write(stage: Stage, script: str) -> None:
    stage.task(script, config=PEOPLE)
    stage.run()
    assert stage.repo.state("task") == "failed"
    assert "only people may write" in stage.repo.message("task")


@pytest.mark.parametrize("command", ["approve", "reject", "answer"])
def test_an_agent_that_calls_the_commands_of_people_while_it_runs_gets_nowhere(
    stage: Stage, command: str
) -> None:
    script = f'aynig {command} "$AYNIG_BRANCH" -m yes >out 2>&1 || echo refused >>out'
    stage.task(script, config="states:\n  go: {risk: medium, next: review}\n")
    stage.run()
    assert stage.repo.state("task") == "awaiting-approval"
    assert "refused" in stage.repo.git("show", "task:out")


def awaiting(stage: Stage, more: str = "") -> str:
    """A task of an agent whose answer waits for a person; the oid of that."""
    settings = f"{more}states:\n  go: {{risk: medium, next: review}}\n"
    stage.task(
        "echo work >work", config=settings, files={".aynig/review": "#!/bin/sh\ntouch ran\n"}
    )
    stage.run()
    assert stage.repo.state("task") == "awaiting-approval"
    return stage.repo.tip("task")


def test_another_agent_that_approves_for_people_is_not_counted(stage: Stage) -> None:
    awaiting(stage)
    stage.task(
        "aynig approve task -m yes >out 2>&1 && exit 1\n" + FORGED,
        branch="other",
        state="meddle",
        config="states:\n  meddle: {risk: medium}\n",
    )
    stage.run()
    assert stage.repo.state("task") == "awaiting-approval"
    assert "is a script, and only people approve" in values(stage, "refused")[0]
    assert "a script" in stage.repo.git("show", "other:out")


def test_a_boss_that_an_agent_pretends_to_be_is_not_counted_where_signatures_are_asked_for(
    stage: Stage,
) -> None:
    awaiting(stage, "signed: required\n")
    boss = " ".join(f"{key}='{value}'" for key, value in person("Boss").items())
    stage.task(
        f"export {boss}\n{FORGED}",
        branch="other",
        state="meddle",
    )
    stage.run()
    assert stage.repo.state("task") == "awaiting-approval"
    assert "has to be signed" in values(stage, "refused")[0]


def test_an_approval_that_brings_files_along_is_not_counted(stage: Stage) -> None:
    awaiting(stage)
    says(stage, "approved", files={"work": "something else\n"})
    stage.run()
    assert stage.repo.state("task") == "awaiting-approval"
    assert "changes files" in values(stage, "refused")[0]


def test_who_a_repository_says_that_people_are_is_put_back(stage: Stage) -> None:
    stage.repo.git("config", "user.email", "ada@example.org")
    stage.repo.git("config", "user.name", "Ada")
    stage.task(
        'config="$(git rev-parse --git-common-dir)/config"\n'
        'git config -f "$config" user.email boss@example.org\n'
        'git config -f "$config" core.hooksPath "$PWD"\n'
    )
    stage.run()
    assert stage.repo.state("task") == "failed"
    assert stage.repo.git("config", "user.email") == "ada@example.org"
    assert stage.repo.git("config", "core.hooksPath", check=False) == ""
    assert "core.hookspath" in values(stage, "fault")[0]
    assert "user.email" in values(stage, "fault")[0]


# --- refs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    ["git reset --quiet --hard HEAD~", "git checkout --quiet --orphan x; git commit -qm x",
     "git commit --quiet --amend -m x"],
)  # fmt: skip
def test_an_agent_that_rewrites_history_in_its_worktree_has_failed(
    stage: Stage, script: str
) -> None:
    task = stage.task(script)
    stage.run()
    assert stage.repo.state("task") == "failed"
    assert "do not descend" in values(stage, "fault")[0]
    assert stage.repo.git("rev-parse", "task~") == task


FORGED_NEXT = "next=$(git commit-tree 'HEAD^{tree}' -p HEAD -m x -m 'aynig: approved')\n"
# Ways to move a branch that is called `task`, and what is told of each.
MOVES = {
    "by plumbing": (f"{FORGED_NEXT}git update-ref refs/heads/task $next", "move task to "),
    "by a transaction": (
        f"{FORGED_NEXT}printf 'start\nupdate refs/heads/task %s\ncommit\n' $next "
        "| git update-ref --stdin",
        "move task to ",
    ),
    "together with others": (
        f"{FORGED_NEXT}printf 'create refs/heads/x %s\nupdate refs/heads/task %s\n' $next $next "
        "| git update-ref --stdin",
        "move task to ",
    ),
    "set back": ("git update-ref refs/heads/task HEAD~", "move task to "),
    "forced": ("git branch -f task HEAD~", "move task to "),
    "deleted": ("git branch -D task", "delete task"),
    "deleted by plumbing": ("git update-ref -d refs/heads/task", "delete task"),
    "renamed": ("git branch -m task other", "delete task"),
    "from the user's own worktree": (
        'git -C "$(git rev-parse --git-common-dir)/.." branch -D task', "delete task",
    ),
    "in the git directory": (
        'cd "$(git rev-parse --git-common-dir)" && git branch -D task', "delete task",
    ),
    "committed to": (
        "git checkout -q task && git commit -q --allow-empty -m x -m 'aynig: approved'",
        "move task to ",
    ),
    "reset": ("git checkout -q task && git reset -q --soft HEAD~", "move task to "),
    "through another name": (
        "git symbolic-ref refs/heads/alias refs/heads/task && "
        "git update-ref refs/heads/alias HEAD~",
        "move task to ",
    ),
    "fetched over": ("git fetch -q . +main:task", "move task to "),
    "pushed over": ("git push -q . +HEAD~:task", "push to task"),
    "pushed on": (f"{FORGED_NEXT}git push -q . $next:refs/heads/task", "push to task"),
    "pushed away": ("git push -q . :task", "delete task by a push"),
    "pushed away by its path": (
        'git push -q "file://$(git rev-parse --git-common-dir)" :task', "delete task by a push",
    ),
    "pushed with all others": (
        "git -c push.default=matching push -q --force "
        '"$(git rev-parse --git-common-dir)" HEAD~:refs/heads/x HEAD~:refs/heads/task',
        "push to task",
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", MOVES)
def test_an_agent_that_moves_its_own_branch_is_refused_and_that_is_told(
    stage: Stage, how: str
) -> None:
    script, words = MOVES[how]
    task = stage.task(
        f"echo work >work\n({script}) 2>said && touch moved\ngit checkout -q --detach"
    )
    stage.run()
    assert stage.repo.state("task") == "done"
    assert stage.repo.git("rev-parse", "task~") == task
    (told,) = values(stage, "tried")
    assert told.startswith(words)
    assert f"It tried to {told}, which was refused" in stage.repo.message("task")
    assert "answered when this script ends" in stage.repo.git("show", "task:said")
    assert stage.repo.git("ls-tree", "--name-only", "task", "moved", "work") == "work"


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("unset ${!AYNIG_*}; git branch -D task", id="without our variables"),
        pytest.param("cd / && git --git-dir=$common branch -D task", id="from elsewhere"),
        pytest.param("GIT_DIR=$common git branch -D task", id="named by the environment"),
        pytest.param("git config --global core.hooksPath /none; git branch -D task", id="settings"),
    ],
)
def test_hooks_of_its_own_branch_are_found_wherever_it_is(stage: Stage, script: str) -> None:
    head = '#!/bin/bash\nexport HOME="$PWD"\ncommon=$(git rev-parse --git-common-dir)\n'
    stage.task(head + f"({script}) && exit 1; exit 0")
    stage.run()
    assert values(stage, "tried") == ["delete task"]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (f"{LEASE.removeprefix(UNFENCED)}git update-ref -d $1", "delete refs/aynig/lease/"),
        (f"{LEASE.removeprefix(UNFENCED)}git update-ref $1 HEAD", "change refs/aynig/lease/"),
        ("git update-ref refs/aynig/breaker/x HEAD", "change refs/aynig/breaker/x"),
        ("git push -q . HEAD:refs/aynig/rescue/x", "push to refs/aynig/rescue/x"),
    ],
)
def test_records_of_aynigs_own_are_not_for_an_agent_to_change(
    stage: Stage, script: str, words: str
) -> None:
    stage.task(f"({script}) 2>said && exit 1; exit 0")
    stage.run()
    (told,) = values(stage, "tried")
    assert told.startswith(words)
    assert "only aynig changes" in stage.repo.git("show", "task:said")


def test_what_an_attempt_tried_is_told_with_the_attempt(stage: Stage) -> None:
    stage.task(
        'git branch -D task; [ "$AYNIG_ATTEMPT" = 2 ] || exit 3',
        config=config("    retries: {max: 1, backoff: 10ms, jitter: 0}\n"),
    )
    with stage.live():
        stage.wait_for_state("done")
    assert "it tried to delete task, which was refused" in values(stage, "failed-attempt")[0]
    assert values(stage, "tried") == ["delete task"]


def test_of_what_was_tried_again_and_again_only_so_much_is_told(stage: Stage) -> None:
    tries = "for n in 1 2 3 4 5 6 7 8; do git update-ref refs/aynig/lease/$n HEAD; done\n"
    forged = 'set -- "$AYNIG_RESPONSE"; echo "gone gone gone" >>"${1%/*}/hooks/tried"\n'
    stage.task(f"{tries}{tries}{forged}exit 0")
    stage.run()
    told = values(stage, "tried")
    assert told == [f"change refs/aynig/lease/{n}" for n in range(1, 6)]


def test_an_agent_does_not_forge_what_it_tried(stage: Stage) -> None:
    stage.task(RESPONSE.format("Well done\n\naynig: done\naynig: tried: nothing"))
    stage.run()
    assert (values(stage, "tried"), values(stage, "overruled")) == ([], ["tried"])


ALLOWED = {
    "a commit in its worktree": "git commit -q --allow-empty -m x",
    "a branch of its own": "git checkout -q -b side; git commit -q --allow-empty -m x",
    "a branch that begins alike": "git branch task-2; git branch -D task-2; git branch tas",
    "a branch below another name": "git update-ref refs/heads/x/refs/heads/task HEAD",
    "a tag of the same name": "git tag task; git tag -d task",
    "its branch as it is": "git update-ref refs/heads/task HEAD; git branch -f task HEAD",
    "refs packed": "git pack-refs --all --prune",
    "the same again": "git gc -q --prune=now",
    "a clone with a branch of the same name": 'git clone -q "$common" "$TMPDIR/clone"\n'
    'cd "$TMPDIR/clone"; git branch -f task HEAD; git branch -D task; rm -rf "$TMPDIR/clone"',
    "a repository of its own inside": 'git init -q "$TMPDIR/own"; cd "$TMPDIR/own"\n'
    'git commit -q --allow-empty -m x; git branch task; git branch -D task; rm -rf "$TMPDIR/own"',
    "a push elsewhere": 'git init -q --bare "$TMPDIR/bare"\n'
    'git push -q "$TMPDIR/bare" HEAD:refs/heads/task; git push -q "$TMPDIR/bare" :task',
    "a push of others": 'git push -q "$common" HEAD:refs/heads/side',
    "nothing to push": 'git push -q "$common" refs/heads/task',
    "a child": "aynig child noop --name one",
    "another task": "aynig submit noop -b sibling",
    "another task canceled": "aynig submit waiting -b sibling; aynig cancel sibling",
    "an answer": "aynig respond done -m fine",
}


@pytest.mark.parametrize("what", ALLOWED)
def test_what_an_agent_may_do_beside_its_own_branch_goes_on_to_work(
    stage: Stage, what: str, tmp_path: Path
) -> None:
    head = f"set -e\nexport TMPDIR={tmp_path}\ncommon=$(git rev-parse --git-common-dir)\n"
    stage.task(f"{head}{ALLOWED[what]}")
    stage.run()
    assert stage.repo.state("task") == "done", stage.repo.message("task")
    assert values(stage, "tried") == []


def hook(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("where", ["", "absolute", "~/hooks", "hooks-of-task"])
def test_hooks_of_the_repository_are_called_in_scripts_as_ever(
    stage: Stage, where: str, tmp_path: Path
) -> None:
    """By their own path: they may look for their files beside themselves."""
    log = tmp_path / "log"
    folder = {
        "": stage.repo.git_dir / "hooks",
        "absolute": tmp_path / "hooks",
        "~/hooks": Path(os.environ["HOME"]) / "hooks",
        "hooks-of-task": tmp_path / "none",
    }[where]
    names = ("pre-commit", "commit-msg", "post-commit", "pre-push", "reference-transaction")
    text = f'[ -f "${{0%/*}}/beside" ] && echo "${{0##*/}} $*" "$(cat)" >>{log}'
    for name in names:
        hook(folder / name, text)
    (folder / "beside").touch()
    if where:
        path = str(folder) if where == "absolute" else where
        stage.repo.git("config", "core.hooksPath", path)
    files = {f"hooks-of-task/{name}": f"#!/bin/sh\n{text}\n" for name in (*names, "beside")}
    stage.task(
        "git commit -q --allow-empty -m x; git push -q . HEAD:refs/heads/side",
        files=files if where == "hooks-of-task" else {},
    )
    stage.run()
    assert stage.repo.state("task") == "done"
    lines = log.read_text().splitlines()
    first = [line.split()[0] for line in lines]
    assert {"pre-commit", "commit-msg", "post-commit", "pre-push"} <= set(first)
    oid = stage.repo.tip("task~")
    assert any(line.startswith("reference-transaction prepared") and oid in line for line in lines)
    assert any(line.startswith("pre-push . . HEAD") and "refs/heads/side" in line for line in lines)


def test_a_hook_of_the_repository_that_refuses_refuses_in_scripts_as_ever(stage: Stage) -> None:
    stage.task(
        "git commit -q --allow-empty -m x && exit 1\n"
        "git branch side && exit 2\ngit push -q . HEAD:refs/heads/x && exit 3\nexit 0"
    )
    for name in ("pre-commit", "pre-push", "reference-transaction"):
        hook(stage.repo.git_dir / "hooks" / name, "cat >/dev/null; exit 1")
    stage.run()
    assert stage.repo.state("task") == "done"
    assert (stage.repo.tip("side"), stage.repo.tip("x")) == ("", "")


def test_people_move_and_delete_branches_as_ever(stage: Stage) -> None:
    stage.task("git branch -D task; exit 0")
    stage.run()
    stage.repo.git("branch", "-f", "task", "task~")
    stage.repo.git("push", "--quiet", ".", ":task")
    assert stage.repo.tip("task") == ""


def lost(stage: Stage) -> list[StatusRow]:
    site = open_site(stage.repo.path)
    try:
        return [row for row in status_rows(site) if row.hold == "lost"]
    finally:
        site.close()


PASSED_BY = {
    "without the environment": f"{UNFENCED}git branch -D task",
    "with other hooks": "git -c core.hooksPath=/none branch -D task",
    "with an environment of its own": 'env -i PATH="$PATH" git branch -D task',
    "a push past hooks": "git push -q --no-verify . :task",
    "a push from a clone": 'git clone -q "$common" "$TMPDIR/clone"\n'
    'git -C "$TMPDIR/clone" push -q origin :task',
    "the file of the ref": 'rm "$common/refs/heads/task"',
    "a transaction of others": "git -c core.hooksPath= update-ref -d refs/heads/task; exit 75",
    "and fails": f"{UNFENCED}git branch -D task; exit 1",
    "set back": f"{UNFENCED}git update-ref refs/heads/task main",
    "set back, to be tried again": f"{UNFENCED}git update-ref refs/heads/task main; exit 75",
}


@pytest.mark.parametrize("how", PASSED_BY)
def test_a_task_whose_branch_is_taken_away_behind_our_back_is_kept_and_told_of(
    stage: Stage, how: str, tmp_path: Path
) -> None:
    head = f"export TMPDIR={tmp_path}\ncommon=$(git rev-parse --git-common-dir)\n"
    task = stage.task(f"{head}[ -e {tmp_path}/once ] && exit\ntouch {tmp_path}/once\n"
                      f"echo work >work\n{PASSED_BY[how]}")  # fmt: skip
    stage.run()
    assert stage.repo.tip("task") in ("", stage.repo.tip("main"))
    (row,) = lost(stage)
    assert (row.branch, row.tip, row.state) == ("task", task, "go")
    (kept,) = stage.repo.git("for-each-ref", "--format=%(refname)", "refs/aynig/rescue").split()
    assert stage.repo.git("show", f"{kept}:work") == "work"
    assert stage.repo.git("merge-base", kept, task) == task
    assert kept in row.detail
    # What is told to run it again does so.
    commands = re.findall("`([^`]+)`", row.detail)
    assert commands[1] == f"git update-ref -d {kept}"
    stage.repo.git(*commands[0].split()[1:])
    stage.run()
    assert stage.repo.state("task") == "done"
    assert lost(stage) == []


def test_a_task_without_any_work_that_is_taken_away_is_kept_until_it_is_forgotten(
    stage: Stage,
) -> None:
    task = stage.task(f"{UNFENCED}git branch -D task")
    stage.run()
    site = open_site(stage.repo.path)
    keep_house(site)
    site.close()
    (row,) = lost(stage)
    kept = re.findall("update-ref -d ([^`]+)`", row.detail)[0]
    assert stage.repo.git("merge-base", kept, task) == task
    stage.repo.git("update-ref", "-d", kept)
    assert lost(stage) == []


def test_work_without_the_commit_of_its_task_is_kept_beside_that(stage: Stage) -> None:
    script = "git checkout -q --orphan x; git commit -q -m other; git branch -D task"
    task = stage.task(f"{UNFENCED}{script}")
    stage.run()
    oids = stage.repo.git("for-each-ref", "--format=%(objectname)", "refs/aynig/rescue").split()
    assert len(oids) == 2
    (row,) = lost(stage)
    assert stage.repo.git("rev-parse", row.detail.split("update-ref -d ")[1].split("`")[0]) == task


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("git branch -m task renamed", id="renamed"),
        pytest.param("git update-ref refs/heads/main task; git branch -D task", id="merged"),
    ],
)
def test_a_task_that_another_branch_has_is_not_lost(stage: Stage, script: str) -> None:
    stage.task(f"[ $AYNIG_BRANCH = task ] || exit\n{UNFENCED}{script}")
    stage.run()
    assert lost(stage) == []


def test_a_person_who_deletes_the_branch_of_a_task_that_has_ended_hears_nothing(
    stage: Stage,
) -> None:
    stage.task("exit 0")
    stage.run()
    stage.repo.git("branch", "-D", "task")
    assert lost(stage) == []


def test_a_record_that_somebody_forged_puts_nothing_into_commands(stage: Stage) -> None:
    stage.task(f"{UNFENCED}git branch -D task")
    stage.run()
    (name,) = stage.repo.git("for-each-ref", "--format=%(refname)", "refs/aynig/lease").split()
    record = stage.repo.git("cat-file", "commit", name)
    for forged in (
        re.sub("kept: .*", "kept: refs/heads/main; rm x", record),
        re.sub("branch: .*", "branch: refs/heads/other", record),
        re.sub("trigger: .*", "trigger: $(rm x)", record),
    ):
        oid = stage.repo.git("hash-object", "-t", "commit", "-w", "--stdin", stdin=forged)
        stage.repo.git("update-ref", name, oid)
        assert [row for row in lost(stage) if "'$(rm x)'" not in row.detail] == []


def test_work_that_moves_its_branch_when_it_is_judged_is_refused_and_told(stage: Stage) -> None:
    """The programs under test are the agent's, and they run where the branch is."""
    task = stage.task(
        "printf 'git branch -D task\\nexit 0\\n' >work", config=config("    verify: [sh ./work]\n")
    )
    stage.run()
    assert stage.repo.state("task") == "failed"
    assert stage.repo.git("rev-parse", "task~") == task
    assert (values(stage, "verified"), values(stage, "tried")) == (["0/1"], ["delete task"])


def test_an_agent_that_deletes_its_branch_loses_its_answer_and_no_work(stage: Stage) -> None:
    stage.task(f'{UNFENCED}echo work >work; git update-ref -d "refs/heads/$AYNIG_BRANCH"')
    told = stage.run()
    assert stage.repo.tip("task") == ""
    detail = " ".join(notice.detail for notice in told.notices)
    assert "has moved; its work is kept under refs/aynig/rescue/" in detail


def test_an_agent_that_sets_its_branch_back_is_not_run_again_for_it(
    stage: Stage, counted: Path
) -> None:
    script = COUNTING + '[ $n = 2 ] || { echo "aynig: go" >"$AYNIG_RESPONSE"; exit; }\n'
    task = stage.task(script + f'{UNFENCED}git update-ref "refs/heads/$AYNIG_BRANCH" HEAD~')
    stage.run()
    assert stage.repo.tip("task") == task
    assert counted.read_text() == "2\n"


def test_a_forged_answer_to_an_earlier_commit_hides_no_answers(stage: Stage, counted: Path) -> None:
    """By it an agent would have its costs, its iterations and its failures forgotten."""
    first = "first=$(git rev-list --reverse HEAD ^refs/heads/main | head -n 1)\n"
    message = 'printf "go\\n\\naynig: go\\naynig: answers: $first\\naynig: run: x\\n"'
    forge = f"forged=$({message} | git commit-tree 'HEAD^{{tree}}' -p HEAD)\n"
    stage.task(
        COUNTING
        + "[ $n -lt 20 ] || exit 1\n"
        + 'echo "aynig: cost-usd: 1" >"$AYNIG_RESPONSE"\n'
        + f"[ $n != 3 ] || {{ {first}{forge}{MOVE}exit; }}",
        config="states:\n  go: {loop: {promise: X, max-iterations: 4, on-limit: gave-up}}\n",
    )
    stage.run()
    assert stage.repo.state("task") == "gave-up"
    oids = stage.repo.git("rev-list", "--first-parent", "task", "^main").split()
    assert [each for oid in oids for each in values(stage, "iteration", oid)] == [
        "4/4", "3/4", "2/4", "1/4",
    ]  # fmt: skip
    ledger = open_ledger(Repo.open(stage.repo.path))
    ledger.cover(float("-inf"))
    ledger.refresh()
    assert sum(entry.usage.cost for entry in ledger.entries()) == 4


@pytest.mark.parametrize(
    "lose",
    [
        pytest.param('git update-ref -d "$1"', id="deleted"),
        pytest.param('git update-ref "$1" HEAD', id="no lease any more"),
        pytest.param(
            'git update-ref "$1" $(git cat-file commit "$1" | sed -e \'/^author/d\' '
            "-e 's/^kind: lease/kind: deferral/; s/^attempt: .*/attempt: 0/; /^past/d' "
            "-e 's/^nonce: .*/not-before: 0\\nseconds: 0\\nreason: x/' -e '1,/^$/d' "
            '| git commit-tree "$1^{tree}")',
            id="forged",
        ),
    ],
)
def test_attempts_that_an_agent_wants_forgotten_are_remembered(
    stage: Stage, counted: Path, lose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It rewrites the record of them, its own lease; the run counts as one that had an error."""
    monkeypatch.setattr(setback, "FIRST_DELAY", 0.1)
    stage.task(
        COUNTING + LEASE + f"[ $n != 2 ] || {{ {lose}; exit 3; }}\nexit 3",
        config=config("    retries: {max: 2, backoff: 10ms, jitter: 0}\n"),
    )
    with stage.live():
        wait_for(lambda: stage.repo.state("task") == "failed", what="the attempts to be used up")
    told = values(stage, "failed-attempt")
    assert told[0].startswith("1: failure: exit 3")
    assert int(counted.read_text()) <= 4


# --- children ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "said"),
    [
        pytest.param(
            "(echo tasks:; seq -f '- {name: c%.0f, state: go}' 1000000) >\"$AYNIG_CHILDREN\"",
            "1,000,000|1000000",
            id="a million",
        ),
        pytest.param('head -c 40000000 /dev/zero >"$AYNIG_CHILDREN"', "bytes", id="huge"),
        pytest.param(
            "printf 'a: &a [x]\\nb: &b [*a,*a]\\nc: [*b,*b]\\n' >\"$AYNIG_CHILDREN\"",
            "alias|anchor",
            id="aliases",
        ),
        pytest.param(
            "printf 'tasks: &a [*a]\\n' >\"$AYNIG_CHILDREN\"", "alias|anchor", id="itself"
        ),
        pytest.param(
            "printf 'tasks:\\n- {name: a, state: go, branch: main}\\n' >\"$AYNIG_CHILDREN\"",
            "main",
            id="a branch that is there",
        ),
        pytest.param(
            "printf 'tasks:\\n- {name: a, state: go, branch: ../../x}\\n' >\"$AYNIG_CHILDREN\"",
            "branch",
            id="a path",
        ),
        pytest.param('ln -s /dev/zero "$AYNIG_CHILDREN"', "can't be read", id="without end"),
        pytest.param('mkfifo "$AYNIG_CHILDREN"', "can't be read", id="a pipe"),
    ],
)
def test_children_that_nobody_may_have_are_refused(stage: Stage, script: str, said: str) -> None:
    stage.task(script)
    branches = stage.repo.git("for-each-ref", "--format=%(refname)", "refs/heads")
    stage.run()
    assert stage.repo.state("task") == "failed"
    fault = values(stage, "fault")[0]
    assert any(word in fault for word in said.split("|")), fault
    assert stage.repo.git("for-each-ref", "--format=%(refname)", "refs/heads") == branches


# --- failing on purpose --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "guard", ["verify: ['false']", "expect: changes, verify: ['false']", "risk: medium"]
)
def test_who_fails_and_says_done_has_failed_and_nothing_of_it_lands(
    stage: Stage, guard: str
) -> None:
    stage.task(
        "echo bad >bad; git add bad; git commit -qm 'All good' -m 'aynig: done'; exit 1",
        config=f"states:\n  go: {{{guard}}}\n",
    )
    stage.run()
    assert stage.repo.state("task") == "failed"
    assert values(stage, "overruled") == ["done"]
    assert "bad" not in stage.repo.git("ls-tree", "--name-only", "task").split()
    assert stage.repo.git("show", f"{stage.repo.fields('task')['rescue']}:bad") == "bad"
