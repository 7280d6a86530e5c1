"""What a daemon costs that has nothing to do: memory, and processor time."""

from __future__ import annotations

import os
import subprocess
import time

from bench.ground import EMPTY, Daemon, Ground, make_ground
from bench.measure import Context, Row
from bench.plain_git import LIST_TRAILERS

_BRANCHES = 10_000
_LIMIT = 100


def rows(context: Context) -> list[Row]:
    """With many branches at rest, after it has done a little work."""
    ground = make_ground(context.folder, branches=_BRANCHES)
    with Daemon(ground) as daemon:
        ground.set_refs(ground.state_commits(EMPTY, [f"refs/heads/new/{n}" for n in range(20)]))
        daemon.await_notices("answer", 20)
        time.sleep(1)
        seconds = context.times(20, 3)
        before = daemon.cpu()
        time.sleep(seconds)
        used = (daemon.cpu() - before) / seconds * 100
        memory = daemon.memory()
    listing = _memory_of_listing(ground)
    what = f"memory of the daemon, {_BRANCHES:,} branches"
    idle = f"processor time at rest, {_BRANCHES:,} branches"
    target = f"under {_LIMIT} MB"
    note = "plain: the peak of one for-each-ref"
    return [
        Row("memory", what, memory, listing, "MB", memory / listing, target, memory < _LIMIT, note),
        Row("memory", idle, used, None, "%", None, "not measurable", used < 0.5, f"in {seconds} s"),
    ]


def _memory_of_listing(ground: Ground) -> float:
    child = subprocess.Popen(["git", *LIST_TRAILERS], cwd=ground.path, stdout=subprocess.DEVNULL)
    usage = os.wait4(child.pid, 0)[2]
    child.returncode = 0
    return usage.ru_maxrss / 1000
