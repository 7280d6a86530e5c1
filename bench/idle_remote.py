"""A look at a remote where nothing changed: what it asks, and what it leaves in memory."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from aynig.site import open_place
from bench.ground import EMPTY, Daemon, Ground
from bench.hub import Hubs, Trace, serve, transports, wake
from bench.measure import MILLI, Context, Row, alternate, median, timed
from bench.remote import REMOTE

_BRANCHES = 10_000
_LOOKS = 20
_LIMIT = 30.0


def rows(context: Context) -> list[Row]:
    """By path and by HTTP."""
    found = []
    for transport in transports():
        with serve(context.folder, transport, branches=_BRANCHES) as hubs:
            clone = hubs.ours.clone("runner")
            grown, commands = _growth(context, hubs, clone)
            asked, ours, plain = _times(hubs, clone, context.times(15, 2))
        found.append(_row(transport, ours, plain, grown, [*commands, *asked]))
    return found


def _growth(context: Context, hubs: Hubs, clone: Ground) -> tuple[float, list[str]]:
    """By how many MB a daemon grows from its first sync over many looks, and what they asked."""
    with Trace(context.folder) as trace, Daemon(clone, jobs=1, flags=REMOTE) as daemon:
        # It has seen all branches when it answers the first task.
        hubs.ours.server.set_refs(hubs.ours.server.state_commits(EMPTY, ["refs/heads/first"]))
        wake(clone)
        daemon.await_notices("answer")
        trace.settle()
        before, mark = daemon.memory(), trace.mark()
        for _ in range(_LOOKS):
            step = trace.mark()
            wake(clone)
            trace.await_ends(step, "ls-remote", 1)
            trace.settle()
        asked = [command for command in trace.commands(mark) if not command.is_presence]
        return daemon.memory() - before, [command.name for command in asked]


def _times(hubs: Hubs, clone: Ground, rounds: int) -> tuple[list[str], list[float], list[float]]:
    """What idle looks ask, and seconds of each; those of `git ls-remote` and `cmp`."""
    site = open_place(clone.path, "origin")
    asked: list[str] = []
    try:
        mirror = site.mirror
        assert mirror is not None
        mirror.sync(leases=False)

        def observe(arguments: Sequence[str]) -> None:
            asked.append(arguments[0])

        mirror.remote.observe = observe
        ours, plain = alternate(
            lambda: timed(lambda: mirror.sync(leases=False)),
            lambda: timed(lambda: _compare(hubs.ours.url, clone)),
            rounds,
        )
    finally:
        site.close()
    return asked, ours, plain


def _compare(url: str, clone: Ground) -> None:
    script = 'git ls-remote --heads "$1" >../new; cmp -s ../new ../old || mv ../new ../old'
    subprocess.run(["sh", "-c", script, "sh", url], cwd=clone.path, check=True)


def _row(
    transport: str, ours: list[float], plain: list[float], grown: float, asked: list[str]
) -> Row:
    looks = _LOOKS + len(ours) + 1
    only = set(asked) == {"ls-remote"} and len(asked) == looks
    others = len(asked) - asked.count("ls-remote")
    return Row(
        name="remote-idle",
        what=f"an idle look at a remote, {_BRANCHES:,} branches, {transport}",
        ours=median(ours) * MILLI,
        plain=median(plain) * MILLI,
        unit="ms",
        ratio=median(ours) / median(plain),
        target=f"one ls-remote, under {_LIMIT:.0f} MB more",
        met=only and grown < _LIMIT,
        note=f"{asked.count('ls-remote')} ls-remote and {others} others in {looks} looks; "
        f"{grown:.1f} MB more after {_LOOKS} looks",
    )
