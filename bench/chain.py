"""One state after another on one branch: what a state costs beyond its script."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from bench import plain_git
from bench.ground import ENDLESS, Daemon, Ground, Pair, make_pair
from bench.measure import MILLI, Context, Row, alternate, median, timed
from bench.plain_git import make_worktree

_STATES = 200
_REF = "refs/heads/chain"


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds a state beyond its script, and those of the script alone."""

    ours: float
    plain: float
    script: float

    def row(self, name: str, what: str, target: str, met: bool, note: str) -> Row:
        """The costs as a line of the table."""
        ratio = self.ours / self.plain
        return Row(
            name, what, self.ours * MILLI, self.plain * MILLI, "ms", ratio, target, met, note
        )


def rows(context: Context) -> list[Row]:
    """On a small tree."""
    states = context.times(_STATES, 40)
    costs = measure(make_pair(context.folder), context.folder, states, context.times(7, 2))
    what = f"a state in a chain of {states}, beyond its script"
    note = f"the script's own process: {costs.script * MILLI:.1f} ms"
    return [costs.row("chain", what, "under 10 ms", costs.ours * MILLI < 10, note)]


def measure(pair: Pair, folder: Path, states: int, rounds: int) -> Costs:
    """The daemon, the shell loop and the script alone, by turns."""
    worktree = make_worktree(pair.plain)
    script = folder / "alone"
    script.write_text("#!/bin/sh\nexit 0\n")
    script.chmod(0o700)
    alone: list[float] = []

    def plain() -> float:
        alone.append(_script_alone(script, states))
        pair.plain.set_refs({_REF: pair.plain.state_commit(ENDLESS)})
        return timed(lambda: plain_git.run_chain(pair.plain, "chain", worktree, states)) / states

    ours, loops = alternate(lambda: _ours(pair.ours, states), plain, rounds)
    own = median(alone)
    return Costs(median(ours) - own, median(loops) - own, own)


def _ours(ground: Ground, states: int) -> float:
    """The time between two answers, of a daemon that is warm by the second."""
    with Daemon(ground) as daemon:
        ground.set_refs({_REF: ground.state_commit(ENDLESS)})
        moments = daemon.await_notices("answer", states + 2)
        ground.drop_refs([_REF])
    return (moments[-1] - moments[1]) / states


def _script_alone(script: Path, times: int) -> float:
    begun = time.perf_counter()
    for _ in range(times):
        os.waitpid(os.posix_spawn(script, [str(script)], os.environ), 0)
    return (time.perf_counter() - begun) / times
