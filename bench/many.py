"""Many branches at once, one state each."""

from __future__ import annotations

import time

from bench import plain_git
from bench.ground import EMPTY, Daemon, Ground, Pair, make_pair
from bench.measure import Context, Row, alternate, median, timed
from bench.plain_git import make_worktree

_BRANCHES = 300
JOBS = 2
_TARGET = 120


def rows(context: Context) -> list[Row]:
    """On a small tree."""
    count = context.times(_BRANCHES, 60)
    ours, plain = measure(make_pair(context.folder), count, context.times(7, 2))
    what = f"{count} branches, a state each, {JOBS} at a time"
    target = f"at least {_TARGET}/s"
    return [Row("many", what, ours, plain, "states/s", plain / ours, target, ours >= _TARGET)]


def measure(pair: Pair, count: int, rounds: int) -> tuple[float, float]:
    """States a second: the daemon's and those of as many shell loops."""
    worktrees = [make_worktree(pair.plain, number) for number in range(JOBS)]

    def plain() -> float:
        tasks = _make_tasks(pair.plain, count)
        branches = [ref.removeprefix("refs/heads/") for ref in tasks]
        return timed(lambda: plain_git.run_many(pair.plain, branches, worktrees))

    with Daemon(pair.ours, jobs=JOBS) as daemon:
        # Each of the daemon's worktrees is made by then.
        _ours(pair.ours, daemon, 10 * JOBS)
        ours, loops = alternate(lambda: _ours(pair.ours, daemon, count), plain, rounds)
    return count / median(ours), count / median(loops)


def _ours(ground: Ground, daemon: Daemon, count: int) -> float:
    """From the moment at which the branches are set, the setting included, to the last answer."""
    tasks = _commits(ground, count)
    begun = time.perf_counter()
    ground.set_refs(tasks)
    return daemon.await_notices("answer", count)[-1] - begun


def _make_tasks(ground: Ground, count: int) -> dict[str, str]:
    tasks = _commits(ground, count)
    ground.set_refs(tasks)
    return tasks


def _commits(ground: Ground, count: int) -> dict[str, str]:
    return ground.state_commits(EMPTY, [f"refs/heads/many/{number}" for number in range(count)])
