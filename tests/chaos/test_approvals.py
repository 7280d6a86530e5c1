"""A daemon that is killed at any step of an approval asks once, and counts once."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from aynig.site import open_site
from tests.chaos.world import (
    Runners,
    Witness,
    assert_nothing_left,
    assert_sound,
    read_commits,
    runners,
)
from tests.stage import run_until_quiet
from tests.world import GitRepo, wait_for

CONFIG = """\
states:
  build: {approval: {when: after, need: 2}, next: deploy}
  deploy: {risk: high}
"""
# What is on the branch in the end, whatever is killed in between.
CHAIN = [
    "build", "awaiting-approval", "approved", "awaiting-approval", "approved",
    "deploy", "awaiting-approval", "approved", "deploy", "done",
]  # fmt: skip
PEOPLE = ["Emily", "Grace", "Alan"]
# How many states there are when a runner has added one: people write the others.
RUNNERS = [n for n, state in enumerate(CHAIN, start=1) if n > 1 and state != "approved"]
REST = ("awaiting-approval", "done")


def chain(repo: GitRepo) -> list[str]:
    oids = repo.git("rev-list", "--reverse", "--first-parent", "task", "^main").split()
    return [repo.fields(oid).get("", "-") for oid in oids]


def approve(repo: GitRepo, who: str) -> None:
    address = f"{who.lower()}@example.org"
    env = {
        f"GIT_{role}_{part}": value
        for role in ("AUTHOR", "COMMITTER")
        for part, value in (("NAME", who), ("EMAIL", address))
    }
    tree, old = repo.git("rev-parse", "task^{tree}"), repo.tip("task")
    message = "Yes\n\naynig: approved\n"
    oid = repo.git("commit-tree", tree, "-p", old, stdin=message, env={**repo.tick(), **env})
    repo.git("update-ref", "refs/heads/task", oid, old)


@dataclass(frozen=True)
class Moment:
    """When to kill: as soon as the branch has so many states, or at random in each round."""

    states: int = 0
    seed: int = 0

    def is_in(self, repo: GitRepo) -> bool:
        """Is it between the states that there are and the next one that waits for a person?"""
        had = len(chain(repo))
        until = had + 1 + [state in REST for state in CHAIN[had:]].index(True)
        return not self.states or had < self.states <= until

    def come(self, repo: GitRepo, dice: random.Random) -> None:
        if self.states:
            wait_for(lambda: len(chain(repo)) >= self.states, what=f"{self.states} states")
            return
        # Not a wait for anything: it only spreads the kills over what happens.
        for _ in range(dice.randrange(4000)):
            os.sched_yield()


def is_at_rest(repo: GitRepo) -> bool:
    return repo.state("task") in REST


def go_on(fleet: Runners, repo: GitRepo, moment: Moment, dice: random.Random) -> None:
    """The next states up to one that waits for a person."""
    if moment.is_in(repo):
        runner = fleet.daemon()
        wait_for(lambda: "watching" in runner.text() or is_at_rest(repo), what="its start")
        moment.come(repo, dice)
        runner.process.kill()
        runner.wait()
        runner = fleet.daemon()
        wait_for(lambda: is_at_rest(repo), what="the task to wait for a person")
        assert runner.stop() == 0, runner.text()
    else:
        run_until_quiet(open_site(repo.path))


@pytest.mark.parametrize(
    "moment",
    [
        *(pytest.param(Moment(states=number), id=f"{number} states") for number in RUNNERS),
        pytest.param(Moment(seed=1), id="seed 1"),
        *(
            pytest.param(Moment(seed=seed), id=f"seed {seed}", marks=pytest.mark.chaos)
            for seed in range(2, 12)
        ),
    ],
)
def test_a_daemon_killed_at_each_step_of_an_approval_asks_and_counts_once(
    repo: GitRepo, tmp_path: Path, moment: Moment
) -> None:
    witness = Witness(tmp_path / "executions")
    script = f"#!/bin/sh\n{witness.line()}echo work >>work\n"
    files = {".aynig/config.yaml": CONFIG, ".aynig/build": script, ".aynig/deploy": script}
    repo.commit("Please build\n\naynig: build\n", branch="task", files=files, parent=repo.tip())
    dice = random.Random(moment.seed)
    with runners(repo, tmp_path) as fleet:
        for who in [*PEOPLE, ""]:
            go_on(fleet, repo, moment, dice)
            if who:
                approve(repo, who)
    assert chain(repo) == CHAIN
    commits = read_commits(repo)
    answers = [commit.answers for commit in commits.values() if commit.answers]
    assert len(answers) == len(set(answers))
    assert repo.git("show", "task:work") == "work\nwork"
    # A script may be started again after a crash; never one that nobody has approved.
    line = repo.git("rev-list", "--reverse", "--first-parent", "task", "^main").split()
    assert {each.commit for each in witness.executions()} == {line[0], line[-2]}
    assert_nothing_left(repo)
    assert_sound(repo)
