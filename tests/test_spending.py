"""Nothing starts that can't be paid for, whoever has spent it, and a run that goes too far ends."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from aynig.lease import Leases
from aynig.model import HEADS, Field
from aynig.processes import is_alive, this_holder
from aynig.scan import read_event
from aynig.site import open_site
from aynig.spending import judge
from aynig.workflow import Limits
from tests.fleet import Fleet
from tests.killing import each_step, run_killed_at
from tests.stage import Stage, aynig
from tests.world import GitRepo, wait_for

PER_TASK = "states:\n  go: {next: go, limits: {cost-usd-per-task: 1}}\n"
PER_DAY = "limits: {cost-usd-per-day: 1}\n"
TOKENS = "states:\n  go: {next: go, limits: {tokens-per-task: 1000}}\n"


def costs(dollars: str, more: str = "") -> str:
    return f'echo "aynig: cost-usd: {dollars}" >>"$AYNIG_RESPONSE"\n{more}'


@pytest.fixture
def stage(repo: GitRepo) -> Stage:
    """Its commits are of now."""
    repo._clock = int(time.time()) - 3600
    return Stage(repo)


def runs(stage: Stage, branch: str = "task") -> int:
    """How many answers of scripts a branch has."""
    said = stage.repo.git("log", "--format=%(trailers:key=aynig,valueonly)", branch)
    return sum(line.startswith("exit: ") for line in said.splitlines())


def test_a_task_goes_on_until_its_money_is_spent(stage: Stage) -> None:
    stage.task(costs("0.4"), config=PER_TASK)
    told = stage.run()
    assert runs(stage) == 3
    assert told.holds("task") == ["over-budget"]
    row = stage.status()
    assert (row.hold, row.detail, row.until) == (
        "over-budget",
        "the state go has spent $1.2 on this task, and cost-usd-per-task is $1",
        None,
    )


def test_what_all_tasks_spend_on_a_day_counts_together(stage: Stage) -> None:
    for name in ("a", "b", "c"):
        stage.task(costs("0.6"), branch=name, config=PER_DAY)
    told = stage.run(jobs=1)
    held = [name for name in ("a", "b", "c") if told.holds(name) == ["over-budget"]]
    assert held == ["c"]
    until = stage.status("c").until
    assert until is not None
    assert until % 86_400 == 0


def test_what_runs_in_progress_have_spent_counts(stage: Stage) -> None:
    stage.task("true", branch="other", config=PER_DAY)
    stage.task("true", config=PER_DAY)
    site = open_site(stage.repo.path)
    event = read_event(site.repo, f"{HEADS}other", stage.repo.tip("other"), site.read)
    assert event is not None
    theirs = Leases(site.repo, site.store, this_holder("x"), seconds=60, is_alive=is_alive)
    lease = theirs.acquire(event, None, "run-1", 1)
    with contextlib.closing(site):
        limits = [("repository", "", Limits(cost_usd_per_day=Decimal(1), calls_per_hour=5))]
        site.scan.look()
        tip = stage.repo.tip("task")
        assert judge(site.ledger, limits, tip, time.time()).word == ""
        both = Field("cost-usd", "0.5"), Field("cost-usd", "unknown")
        renewed = theirs.renew(replace(lease, spent=both))
        # As it is written by another process: the next look finds it.
        later = wait_for(lambda: judge(site.ledger, limits, tip, time.time()).detail)
        assert later.startswith(f"nobody knows what the answer {renewed.oid[:12]} has cost today")
        theirs.defer(replace(renewed, spent=(Field("cost-usd", "1.5"),)), 3600, "later")
        wait_for(lambda: "$1.5" in judge(site.ledger, limits, tip, time.time()).detail)
        # When there is an answer, that counts, and the lease no more.
        answer = f"x\n\naynig: done\naynig: answers: {event.oid}\naynig: cost-usd: 0.7\n"
        stage.repo.commit(answer, branch="other")
        site.scan.look()
        assert judge(site.ledger, limits, tip, time.time()).word == ""


FAMILY = """limits: {cost-usd-per-task: 1}
states:
  split: {next: gather}
  gather: {join: {wait-for: children, need: any, then: done}}
"""


def split_into(stage: Stage, children: str, script: str) -> None:
    """A task that spends $0.4 and starts children, each with a script that spends."""
    plan = ", ".join(f"{{name: {name}, state: go}}" for name in children.split())
    stage.task(
        costs("0.4", f"echo 'tasks: [{plan}]' >$AYNIG_CHILDREN"),
        state="split",
        config=FAMILY,
        files={".aynig/go": f"#!/bin/sh\n{script}\n"},
    )


def test_nobody_escapes_a_limit_by_starting_children(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    split_into(stage, "a b c", costs("0.4", "echo 'aynig: go' >>$AYNIG_RESPONSE"))
    told = stage.run(jobs=1)
    children = ["task-a", "task-b", "task-c"]
    assert [told.holds(name) for name in children] == [["over-budget"]] * 3
    assert sum(runs(stage, name) - 1 for name in children) == 2
    assert stage.status("task-c").detail == (
        "the repository has spent $1.2 on this task with its parents and children, "
        "and cost-usd-per-task is $1"
    )
    # What is shown is what it was judged by.
    monkeypatch.chdir(stage.repo.path)
    for args in (["costs"], ["costs", "task"], ["costs", "task-c"]):
        assert aynig(*args, "--json") == 0
        rows = json.loads(capsys.readouterr().out)
        assert sum(Decimal(row["cost_usd"]) for row in rows) == Decimal("1.2")
    assert rows[0]["branch"] == "task"
    assert {row["branch"] for row in rows[1:]} < set(children)
    assert len(rows) == 3


def test_a_run_is_stopped_for_what_others_of_its_family_report(
    stage: Stage, tmp_path: Path
) -> None:
    spend, begun = 'echo "cost-usd: 0.3" >>"$AYNIG_USAGE"; ', tmp_path / "begun"
    split_into(stage, "a b", f"{spend} echo $AYNIG_BRANCH >{begun}; sleep 600 & wait")
    with contextlib.closing(open_site(stage.repo.path)) as site:
        theirs = Leases(site.repo, site.store, this_holder("x"), seconds=600, is_alive=is_alive)
        with stage.live(jobs=1, grace=0.5):
            running = wait_for(lambda: begun.read_text().strip() if begun.exists() else "")
            other = "task-b" if running == "task-a" else "task-a"
            event = read_event(site.repo, HEADS + other, stage.repo.tip(other), site.read)
            assert event is not None
            lease = theirs.acquire(event, None, "run-1", 1)
            theirs.renew(replace(lease, spent=(Field("cost-usd", "0.5"),)))
            stage.wait_for_state("failed", running)
    fields = stage.repo.fields(running)
    assert fields["stopped"] == "over-budget"
    assert fields["failure"].startswith(
        "it has spent $0.3, and cost-usd-per-task of the repository leaves $0.1"
    )


@pytest.mark.parametrize("same_task", [True, False])
def test_what_failed_attempts_have_spent_is_not_forgotten_when_the_task_moves_on(
    stage: Stage, same_task: bool
) -> None:
    config = "limits: {cost-usd-per-task: 1}\nretries: {max: 3, backoff: 1h}\n"
    stage.task('echo "cost-usd: 0.6" >>"$AYNIG_USAGE"; exit 1', config=config)
    stage.run()
    more = "" if same_task else "aynig: begins: task\n"
    said = 'echo "cost-usd: 0.6" >>"$AYNIG_USAGE"; ' + ("sleep 600 & wait" if same_task else "")
    stage.task(said, message=f"once more\n\naynig: go\n{more}")
    stage.run(grace=0.5)
    fields = stage.repo.fields("task")
    if not same_task:
        assert (fields[""], fields["cost-usd"]) == ("done", "0.6")
        return
    assert (fields[""], fields["cost-usd"]) == ("failed", "1.2")
    assert fields["failure"].startswith("it has spent $1.2, and cost-usd-per-task of the rep")


def test_calls_of_the_hour_are_waited_for(stage: Stage) -> None:
    for name in ("a", "b", "c"):
        stage.task("true", branch=name, config="limits: {calls-per-hour: 2}\n")
    told = stage.run(jobs=3)
    words = [told.holds(name) for name in ("a", "b", "c")]
    assert sorted(words) == [[], [], ["waiting"]]
    (held,) = [name for name in ("a", "b", "c") if told.holds(name)]
    until = stage.status(held).until
    assert until is not None
    assert 3000 < until - time.time() <= 3600


def test_a_run_that_reports_more_than_is_left_is_stopped_and_not_repeated(
    stage: Stage, tmp_path: Path
) -> None:
    spend = f'echo "cost-usd: 3" >>"$AYNIG_USAGE"\nsleep 600 & echo $! >{tmp_path}/child; wait'
    stage.task(spend, config=f"retries: {{max: 3, backoff: 0s}}\n{PER_DAY}")
    stage.run(grace=0.5)
    fields = stage.repo.fields("task")
    assert (fields[""], fields["stopped"], fields["attempt"]) == ("failed", "over-budget", "1")
    assert fields["cost-usd"] == "3"
    assert fields["failure"].startswith(
        "it has spent $3, and cost-usd-per-day of the repository leaves $1"
    )
    # With its whole process group.
    child = (tmp_path / "child").read_text().strip()
    assert not Path(f"/proc/{child}").exists()
    stage.assert_unharmed()


def test_where_a_cost_is_limited_and_not_said_the_next_start_is_held(stage: Stage) -> None:
    stage.task("true", config=PER_TASK)
    stage.run()
    answer = stage.repo.tip("task")
    assert runs(stage) == 1
    assert stage.repo.fields(answer)["cost-usd"] == "unknown"
    row = stage.status()
    assert row.hold == "over-budget"
    assert f"nobody knows what the answer {answer[:12]} has cost on this task" in row.detail
    assert "`aynig resume task` lets it go on" in row.detail


def test_the_same_with_tokens(stage: Stage) -> None:
    stage.task(costs("1"), config=TOKENS)
    stage.run()
    assert stage.repo.fields("task")["tokens-in"] == "unknown"
    row = stage.status()
    assert row.hold == "over-budget"
    assert row.detail.startswith("nobody knows how many tokens the answer")


def test_what_costs_nothing_says_so(stage: Stage) -> None:
    stage.task(costs("0"), config=PER_TASK.replace("next: go", "next: done"))
    stage.run()
    assert stage.repo.state("task") == "done"
    assert "cost-usd" not in stage.repo.fields("task")


def test_a_person_lets_a_task_go_on_whose_cost_is_not_known(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = '[ -e once ] && { echo "aynig: cost-usd: 0.6" >>"$AYNIG_RESPONSE"; exit 0; }\n'
    first = 'echo "aynig: cost-usd: 0.6" >>"$AYNIG_RESPONSE"\n'
    first += 'echo "aynig: cost-usd: unknown" >>"$AYNIG_RESPONSE"\ntouch once\n'
    stage.task(script + first, config=PER_TASK)
    stage.run()
    assert runs(stage) == 1
    monkeypatch.chdir(stage.repo.path)
    assert aynig("resume", "task") == 0
    stage.run()
    # What is known of it still counts: two runs of $0.6 each are more than $1.
    assert runs(stage) == 2
    assert "$1.2" in stage.status().detail


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (PER_DAY, "cost-usd-per-day is $1. That ends by itself at 20"),
        (PER_TASK, "cost-usd-per-task is $1. A higher limit in .aynig/config.yaml lets it go on."),
        ("limits: {calls-per-hour: 1}\n", "calls-per-hour is 1. That ends by itself at 20"),
    ],
)
def test_what_no_word_of_a_person_lifts_is_told_to_who_resumes_it(
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    config: str,
    says: str,
) -> None:
    stage.task(costs("2", "echo 'aynig: go' >>$AYNIG_RESPONSE"), config=config)
    stage.run()
    tip = stage.repo.tip("task")
    monkeypatch.chdir(stage.repo.path)
    assert aynig("resume", "task") == 1
    said = capsys.readouterr().err
    assert "task is held, and a word does not lift that: the " in said
    assert says in said
    assert stage.repo.tip("task") == tip


def test_an_agent_has_limits_of_its_own_and_its_answers_name_it(stage: Stage) -> None:
    config = (
        "agents:\n  coder: {limits: {cost-usd-per-day: 1}}\n"
        "states:\n  go: {agent: coder}\n  other: {}\n"
    )
    # Whoever runs for the agent can't charge another one.
    script = costs("2", 'echo "aynig: agent: someone" >>"$AYNIG_RESPONSE"\n')
    stage.task(script, config=config)
    stage.run()
    fields = stage.repo.fields("task")
    assert (fields["agent"], fields["overruled"]) == ("coder", "agent")
    stage.task(script, branch="second", config=config)
    stage.task(script, branch="third", state="other", config=config)
    told = stage.run()
    assert told.holds("second") == ["over-budget"]
    assert "the agent coder has spent $2" in stage.status("second").detail
    assert stage.repo.state("third") == "done"


def test_runners_of_a_remote_share_one_budget(tmp_path: Path) -> None:
    fleet = Fleet.make(tmp_path, {"go": costs("0.6")}, workflow=PER_DAY)
    fleet.server._clock = int(time.time()) - 3600
    fleet.tasks.task(branch="a")
    fleet.run("bob")
    fleet.tasks.task(branch="b")
    fleet.run("carol")
    fleet.tasks.task(branch="c")
    assert fleet.run("bob").holds("c") == ["over-budget"]
    assert fleet.run("carol").holds("c") == ["over-budget"]


def test_whatever_step_a_run_is_killed_at_no_limit_is_exceeded(tmp_path: Path) -> None:
    for number, (step, when) in enumerate(each_step()):
        stage = Stage(GitRepo.init(tmp_path / f"repo-{number}"))
        stage.repo._clock = int(time.time()) - 3600
        book = tmp_path / f"book-{number}"
        spend = f'echo "cost-usd: 0.6" >>"$AYNIG_USAGE"; echo >>{book}'
        for name in ("a", "b", "c"):
            stage.task(spend, branch=name, config=PER_DAY)
        killed = run_killed_at(stage.repo.path, step, when, "--jobs", "1")
        told = stage.run(jobs=1)
        assert len(book.read_text()) <= 2 + killed, (step, when)
        held = [name for name in ("a", "b", "c") if told.holds(name)]
        done = [name for name in ("a", "b", "c") if stage.repo.state(name) == "done"]
        assert sorted(held + done) == ["a", "b", "c"], (step, when)
        assert len(done) <= 2, (step, when)
        if not killed:
            break
