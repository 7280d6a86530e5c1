"""Kills a runner at each step of a story, in turn, and looks at how the story ends all the same.

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

from tests.chaos.world import PACKAGE_ROOT, leftovers
from tests.stage import Stage
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
# More steps than any of these stories has.
_MANY = 200
# So many runs bring any story to its end: one may leave a task that waits for a moment.
_RUNS = 12
EACH_FIFTH, EACH = 5, 1


@dataclass(frozen=True)
class Story:
    """What is there at the beginning, and what has to be there at the end."""

    begin: Callable[[Stage], None]
    verify: Callable[[GitRepo], None]
    # Has it come to its end? Where nobody says, one run does that.
    is_over: Callable[[GitRepo], bool] = lambda repo: True
    # Work that did not land is part of the story.
    rescues: bool = False


def tell(stage: Stage, tmp_path: Path, story: Story, stride: int) -> None:
    """Tell the story over and over, the runner killed one step later each time."""
    story.begin(stage)
    for number in range(1, _MANY, stride):
        place = tmp_path / f"copy-{number}"
        shutil.copytree(stage.repo.path, place, symlinks=True)
        repo = GitRepo(place)
        killed = _run_and_kill(place, number)
        for _ in range(_RUNS):
            if not killed and story.is_over(repo):
                break
            done = aynig("run", "--jobs", "1", cwd=place, env={"PYTHONPATH": str(PACKAGE_ROOT)})
            assert done.returncode in (0, 1), done.stderr
            if story.is_over(repo):
                break
        story.verify(repo)
        # Of a transaction that was cut off, a lease may be left that keeps nobody from anything.
        left = leftovers(repo, leases=False)
        assert not left
        assert story.rescues or "refs/aynig/rescue/" not in repo.git("for-each-ref")
        shutil.rmtree(place)
        if not killed:
            assert number > 5
            return
    raise AssertionError("it never came to its end by itself")


def _run_and_kill(place: Path, number: int) -> bool:
    """Run until quiet, and be killed at a step; was there such a step?"""
    status = subprocess.run(
        [sys.executable, "-c", _RUN, str(number)],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(PACKAGE_ROOT)},
        capture_output=True,
        check=False,
    ).returncode
    assert status in (0, 1, -signal.SIGKILL)
    return status == -signal.SIGKILL
