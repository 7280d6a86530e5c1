"""From a commit to the first instruction of its script, with the daemon warm."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from bench.ground import RING, Daemon, Ground, Pair, make_pair
from bench.measure import MILLI, Context, Row, median, percentile
from bench.plain_git import Poller, Updater, make_worktree

# The daemon is at rest before each commit: what it looks at again after a change is over.
_REST = 0.08
_CHUNK = 10
_START = "refs/heads/main"


def rows(context: Context) -> list[Row]:
    """On a small tree."""
    ours, plain = measure(make_pair(context.folder), context.times(25, 2))
    return make_rows("latency", "commit to first instruction", ours, plain, "under 10 ms")


def make_rows(
    name: str, what: str, ours: list[float], plain: list[float], target: str
) -> list[Row]:
    """Median and 99th percentile of what `measure` has found."""
    mid, late = median(ours) * MILLI, percentile(ours, 0.99) * MILLI
    slow_mid, slow_late = median(plain) * MILLI, percentile(plain, 0.99) * MILLI
    note = f"{len(ours)} commits"
    met = mid < 10
    return [
        Row(name, f"{what}, median", mid, slow_mid, "ms", mid / slow_mid, target, met),
        Row(name, f"{what}, p99", late, slow_late, "ms", late / slow_late, "", None, note),
    ]


def measure(pair: Pair, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds for each commit, ours and those of a polling shell loop, in chunks by turns."""
    bells = [os.open(ground.bell, os.O_RDWR) for ground in (pair.ours, pair.plain)]
    worktree = make_worktree(pair.plain)
    pair.plain.set_refs({"refs/heads/task": pair.plain.git("rev-parse", _START)})
    ours: list[float] = []
    plain: list[float] = []
    try:
        with (
            Daemon(pair.ours) as daemon,
            Updater(pair.ours) as our_updater,
            Updater(pair.plain) as plain_updater,
        ):

            def answered() -> None:
                daemon.await_notices("answer")

            # The first makes the worktree.
            _chunk(pair.ours, our_updater, bells[0], answered, 1)
            for _ in range(rounds):
                ours += _chunk(pair.ours, our_updater, bells[0], answered, _CHUNK)
                # Only while it is its turn: it keeps a processor busy.
                with Poller(pair.plain, "task", worktree) as poller:
                    plain += _chunk(pair.plain, plain_updater, bells[1], poller.read_line, _CHUNK)
    finally:
        for bell in bells:
            os.close(bell)
    return ours, plain


def _chunk(
    ground: Ground, updater: Updater, bell: int, answered: Callable[[], object], count: int
) -> list[float]:
    found = []
    for _ in range(count):
        exists = ground.git("for-each-ref", "refs/heads/task")
        oid = ground.state_commit(RING, "refs/heads/task" if exists else _START)
        time.sleep(_REST)
        moved = updater.move("refs/heads/task", oid)
        os.read(bell, 4096)
        found.append(time.perf_counter() - moved)
        answered()
    return found
