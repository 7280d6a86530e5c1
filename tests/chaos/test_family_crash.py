"""Parents and children come to the same end wherever a runner is killed on the way.

It is killed around each change of refs, and in the middle of it, where git has moved the first ref
of a transaction and not the others.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from aynig.model import RESCUES
from tests.chaos.world import PACKAGE_ROOT, leftovers
from tests.stage import Stage
from tests.test_family import child, config, fan_out, parent, parents_of, values
from tests.world import GitRepo, aynig

_RUN = """
import os, signal, sys
from aynig.git.refs import RefStore
from aynig.cli.main import main

left = int(sys.argv[1])
commit = RefStore.commit

def step():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

def halting(self, edits):
    step()
    if left == 1 and len(edits) > 1:
        commit(self, edits[:1])
        step()
    step()
    commit(self, edits)
    step()

RefStore.commit = halting
main(["run", "--jobs", "1"])
"""
_AYNIG = f"{sys.executable} -m aynig"
# More steps than any of these stories has.
_MANY = 200


@dataclass(frozen=True)
class Story:
    """What is there at the beginning, and what has to be there at the end."""

    begin: Callable[[Stage], None]
    verify: Callable[[GitRepo], None]


def _all_come_together(repo: GitRepo) -> None:
    assert repo.state("big") == "collect"
    join = repo.tip("big")
    answer, *tips = parents_of(repo, join)
    assert tips == [repo.tip("big-one"), repo.tip("big-two")]
    assert values(repo, answer, "child") == ["big-one", "big-two"]
    for name in ("big-one", "big-two"):
        assert parents_of(repo, f"{name}~1") == [answer]
    assert repo.git("ls-tree", "--name-only", "big", "big-one", "big-two") == "big-one\nbig-two"


def _each_was_told_once(repo: GitRepo) -> None:
    assert repo.state("big") == "done"
    told = repo.git("show", "big:told").split("\n")
    assert sorted(told) == sorted(f"{name}@{repo.tip(name)}" for name in ("one", "two"))


def _all_are_canceled(repo: GitRepo) -> None:
    for name in ("one", "two", "three"):
        assert repo.state(name) == "canceled"
        assert parents_of(repo, name) == [repo.fields(name)["cancels"]]


def _begin_fan_out(stage: Stage) -> None:
    split, go = fan_out("one", "two"), 'echo x >"$AYNIG_BRANCH"'
    parent(stage, config(), state="split", split=split, go=go)


def _begin_supervision(stage: Stage) -> None:
    settings = "states: {watch: {on-child: decide}}\n"
    decide = f"""echo "$AYNIG_TRAILER_CHILD" >>told
[ "$(wc -l <told)" = 2 ] && {_AYNIG} respond done || {_AYNIG} respond watch"""
    parent(stage, settings, state="watch", decide=decide)
    for name in ("one", "two"):
        child(stage.repo, name, "done")


def _begin_cancellation(stage: Stage) -> None:
    parent(stage, config(), go="exit 0")
    for name, of in (("one", "big"), ("two", "big"), ("three", "one")):
        child(stage.repo, name, "go", of=of)
    stage.repo.commit("enough\n\naynig: canceled\n", branch="big")


STORIES = {
    "fan-out and join": Story(_begin_fan_out, _all_come_together),
    "a supervisor": Story(_begin_supervision, _each_was_told_once),
    "a canceled parent": Story(_begin_cancellation, _all_are_canceled),
}


@pytest.mark.parametrize(
    "stride",
    [
        pytest.param(5, id="each fifth step"),
        pytest.param(1, id="each step", marks=pytest.mark.chaos),
    ],
)
@pytest.mark.parametrize("name", STORIES)
def test_a_runner_killed_at_any_step_changes_nothing_of_the_end(
    stage: Stage, tmp_path: Path, name: str, stride: int
) -> None:
    story = STORIES[name]
    story.begin(stage)
    for number in range(1, _MANY, stride):
        place = tmp_path / f"copy-{number}"
        shutil.copytree(stage.repo.path, place)
        repo = GitRepo(place)
        killed = subprocess.run(
            [sys.executable, "-c", _RUN, str(number)],
            cwd=place,
            env={**os.environ, "PYTHONPATH": str(PACKAGE_ROOT)},
            capture_output=True,
            check=False,
        ).returncode
        assert killed in (0, -signal.SIGKILL)
        if killed:
            done = aynig("run", "--jobs", "1", cwd=place, env={"PYTHONPATH": str(PACKAGE_ROOT)})
            assert done.returncode in (0, 1), done.stderr
        story.verify(repo)
        # Of a transaction that was cut off, a lease may be left that keeps nobody from anything.
        left = leftovers(repo, leases=False)
        assert not left
        assert RESCUES not in repo.git("for-each-ref")
        shutil.rmtree(place)
        if not killed:
            assert number > 5
            return
    raise AssertionError("it never came to its end by itself")
