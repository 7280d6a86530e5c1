"""SIGKILL at any instant loses nothing, repeats no answer and leaves nothing lying about."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from aynig.errors import RefBusy
from aynig.git.checkouts import find_checkout
from aynig.git.landings import landing
from aynig.git.repo import Repo
from tests.chaos.world import (
    History,
    Runner,
    Runners,
    Witness,
    assert_nothing_left,
    assert_sound,
    children_of,
    command_of,
    descendants_of,
    plant,
    runners,
    tasks,
    wait_until_all,
)
from tests.world import GitRepo, wait_for

# --- what is killed


def _kill_daemon(runner: Runner) -> None:
    """The process alone, as the kernel does when memory runs out."""
    runner.process.kill()


def _kill_session(runner: Runner) -> None:
    """The daemon and its git, not its scripts, which have sessions of their own."""
    os.killpg(runner.pid, signal.SIGKILL)


def _kill_all(runner: Runner) -> None:
    """The daemon and all that it started, as a container is stopped: the daemon first or last."""
    for pid in [*descendants_of(runner.pid), runner.pid]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _kill_git(runner: Runner) -> None:
    """Only the git commands of the daemon; it goes on."""
    for pid in children_of(runner.pid):
        if command_of(pid)[:1] == ["git"]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


Kill = Callable[[Runner], None]
_KILLS: dict[str, tuple[Kill, ...]] = {
    "the daemon": (_kill_daemon,),
    "daemon and git": (_kill_session,),
    "daemon, git and scripts": (_kill_all,),
    "git": (_kill_git,),
    "anything": (_kill_daemon, _kill_session, _kill_all, _kill_git),
}

# --- the tasks: chains of two and three states, with every kind of answer


def _scripts(witness: Witness) -> dict[str, str]:
    start = f"#!/bin/sh\nset -e\n{witness.line()}"
    identity = "git -c user.name=S -c user.email=s@example.org commit --quiet"
    return {
        ".aynig/say": start + 'echo "aynig: write" >>"$AYNIG_RESPONSE"\n',
        ".aynig/write": start
        + "mkdir -p out/deep\nfor n in 1 2 3 4; do\n"
        + '  echo "$AYNIG_BRANCH" >"out/deep/$n"\ndone\n'
        + "echo more >>README\n"
        + 'echo "aynig: commit" >>"$AYNIG_RESPONSE"\n',
        ".aynig/commit": start
        + "echo own >own\ngit add own\n"
        + f'{identity} -m "a commit of its own"\n'
        + "rm README\n",
    }


def _plant_tasks(repo: GitRepo, witness: Witness, count: int) -> None:
    messages = tasks(count, "say") | {
        f"task/{n}": f"short {n}\n\naynig: write\n" for n in range(0, count, 3)
    }
    # One branch is checked out in the working tree, and its answers land there as well.
    repo.commit("readme", files={"README": "read me\n"})
    plant(repo, messages, _scripts(witness))
    repo.git("checkout", "--quiet", "task/1")


def _is_done(repo: GitRepo) -> bool:
    states = repo.git("for-each-ref", "--format=%(contents:subject)", "refs/heads/task/")
    return all("-> done" in line for line in states.split("\n"))


def _await_executions(repo: GitRepo, witness: Witness, count: int) -> None:
    wait_for(lambda: len(witness.executions()) >= count or _is_done(repo), what="more executions")


def _crash(
    fleet: Runners, repo: GitRepo, witness: Witness, kills: tuple[Kill, ...], count: int, seed: int
) -> int:
    """Kill and start again until all is done; how often was killed.

    A kill comes when some more scripts have started than before, and then at a random instant
    of what follows: by counting starts, not time, the daemon gets somewhere however slow it is.
    """
    dice = random.Random(seed)
    runner = fleet.daemon("--jobs", "4")
    done = 0
    while done < count:
        seen = len(witness.executions()) + dice.choice((0, 1, 1, 2, 3))
        _await_executions(repo, witness, seen)
        # Not a wait for anything: it only spreads the kills over what happens in between.
        for _ in range(dice.randrange(4000)):
            os.sched_yield()
        kill = dice.choice(kills)
        kill(runner)
        done += 1
        if kill is not _kill_git:
            runner.wait()
            runner = fleet.daemon("--jobs", "4")
        if _is_done(repo):
            break
    wait_until_all(repo, {"done"})
    assert runner.stop() == 0, runner.text()
    return done


@pytest.mark.parametrize(
    ("branches", "count"),
    [
        pytest.param(30, 12, id="12 kills"),
        pytest.param(100, 48, id="48 kills", marks=pytest.mark.chaos),
    ],
)
@pytest.mark.parametrize("kinds", _KILLS)
def test_a_daemon_killed_again_and_again_answers_each_commit_once_and_leaves_nothing(
    repo: GitRepo, tmp_path: Path, kinds: str, branches: int, count: int
) -> None:
    witness = Witness(tmp_path / "executions")
    _plant_tasks(repo, witness, branches)
    with runners(repo, tmp_path) as fleet:
        kills = _crash(fleet, repo, witness, _KILLS[kinds], count, seed=branches)
    again = sum(len(runs) - 1 for runs in witness.repeated().values())
    print(f"{kinds}: {kills} kills, {len(witness.executions())} executions, {again} of them again")
    assert kills >= min(count, 12)
    history = History.of(repo)
    history.assert_each_answered_once()
    for n in range(branches):
        first = "write" if n % 3 == 0 else "say"
        assert history.chain(f"task/{n}")[0] == first
        assert history.chain(f"task/{n}")[-1] == "done"
        assert repo.git("ls-tree", "-r", "--name-only", f"task/{n}").split("\n") == [
            ".aynig/commit",
            ".aynig/say",
            ".aynig/write",
            "out/deep/1",
            "out/deep/2",
            "out/deep/3",
            "out/deep/4",
            "own",
        ]
    assert repo.git("symbolic-ref", "HEAD") == "refs/heads/task/1"
    assert_nothing_left(repo)
    assert_sound(repo)


def test_a_landing_whose_ref_change_fails_leaves_the_files_as_they_were(repo: GitRepo) -> None:
    old = repo.commit("old", files={"README": "read me\n", "gone": "gone\n"})
    repo.sync()
    files = {"README": "read me\nmore\n", "out/deep/1": "new\n", "gone": None}
    new = repo.commit("new", files=files, update=False)
    opened = Repo.open(repo.path)
    checkout = find_checkout(opened, "refs/heads/main")
    assert checkout is not None

    def land_in_vain() -> None:
        with landing(opened, checkout, old, new):
            assert (repo.path / "out/deep/1").exists()
            raise RefBusy("the git that was to change refs was killed")

    # More than once: what was put back is no obstacle to the next one.
    for _ in range(3):
        with pytest.raises(RefBusy):
            land_in_vain()
    assert sorted(path.name for path in repo.path.iterdir()) == [".git", "README", "gone"]
    assert_nothing_left(repo)
    assert repo.git("status", "--porcelain") == ""
