"""The three rows about speed once more, on a large tree."""

from __future__ import annotations

from bench import chain, latency, many, plain_git
from bench.ground import make_pair
from bench.measure import MILLI, Context, Row, median

_FILES = 20_000
_STATES = 20


def rows(context: Context) -> list[Row]:
    """Latency, chain and many branches; what cleaning a used worktree costs is beside them."""
    pair = make_pair(context.folder / "large", files=_FILES, bare=True)
    small = make_pair(context.folder / "small", bare=True)
    states, rounds = context.times(_STATES, 5), context.times(5, 1)
    costs = chain.measure(pair, context.folder, states, rounds)
    base = chain.measure(small, context.folder, states, rounds)
    worktree = plain_git.make_worktree(pair.plain)
    cleaning = median([plain_git.status_of_all([worktree]) for _ in range(context.times(15, 5))])
    grown = costs.ours - base.ours
    note = f"{grown * MILLI:.0f} ms more than 10 files; git status {cleaning * MILLI:.0f} ms"
    found = [
        costs.row(
            "large",
            f"chain, {_FILES:,} files",
            "grows by a cleaning",
            grown <= 1.2 * cleaning,
            note,
        )
    ]
    ours, plain = latency.measure(pair, context.times(4, 1))
    found += latency.make_rows(
        "large", f"commit to first instruction, {_FILES:,} files", ours, plain, "as a small tree"
    )
    rate, loops = many.measure(pair, context.times(60, 10), context.times(3, 1))
    worktrees = [plain_git.make_worktree(pair.plain, number) for number in range(many.JOBS)]
    together = median([plain_git.status_of_all(worktrees) for _ in range(context.times(9, 3))])
    limit = many.JOBS / (base.ours + base.script + together)
    met = rate >= limit
    what = f"many branches, {_FILES:,} files"
    target = f"at least {limit:.0f}/s"
    note = f"{many.JOBS} git status at a time: {together * MILLI:.0f} ms"
    found.append(Row("large", what, rate, loops, "states/s", loops / rate, target, met, note))
    return found
