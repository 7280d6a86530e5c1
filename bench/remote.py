"""One state on a remote: what it costs beyond its script, and how often the remote is asked."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bench import plain_remote
from bench.ground import EMPTY, Daemon
from bench.hub import Command, Hubs, Trace, serve, transports, wake
from bench.measure import MILLI, Context, Row, alternate, median, timed

REMOTE = ("--remote", "origin", "--poll", "600")


@dataclass(frozen=True, slots=True)
class Counts:
    """The git commands of one state."""

    # Those until the lease is pushed, from then on until the answer is, and the answer.
    steps: tuple[int, int, int]
    pushes: int
    fetches: int
    helpers: int


def rows(context: Context) -> list[Row]:
    """By path and by HTTP."""
    found = []
    for transport in transports():
        with serve(context.folder, transport) as hubs, Trace(context.folder) as trace:
            found.append(_measure(hubs, trace, context.times(15, 2)))
    return found


def _measure(hubs: Hubs, trace: Trace, rounds: int) -> Row:
    clone, by_hand = hubs.ours.clone("runner"), hubs.plain.clone("loop")
    worktree = plain_remote.make_worktree(by_hand)
    counts: list[Counts] = []
    tasks = (f"task/{number}" for number in range(1000))

    def plain() -> float:
        branch = next(tasks)
        hubs.plain.server.set_refs(hubs.plain.server.state_commits(EMPTY, [f"refs/heads/{branch}"]))
        return timed(lambda: plain_remote.run_one(by_hand, branch, worktree))

    with Daemon(clone, jobs=1, flags=REMOTE) as daemon:

        def ours() -> float:
            tasks_of_ours = hubs.ours.server.state_commits(EMPTY, [f"refs/heads/{next(tasks)}"])
            mark = trace.mark()
            hubs.ours.server.set_refs(tasks_of_ours)
            begun = time.perf_counter()
            wake(clone)
            took = daemon.await_notices("answer")[0] - begun
            trace.settle()
            counts.append(_count(trace.commands(mark)))
            return took

        trace.settle()
        our_times, plain_times = alternate(ours, plain, rounds)
    return _row(hubs.transport, our_times, plain_times, counts[1:])


def _count(commands: Sequence[Command]) -> Counts:
    known = [
        command
        for command in commands
        if command.name in ("push", "fetch", "ls-remote") and not command.is_presence
    ]
    names = Counter(command.name for command in known)
    places = [place for place, command in enumerate(known) if command.name == "push"]
    lease, answer = places[0], places[-1]
    return Counts(
        (lease, answer - lease, 1),
        names["push"],
        sum(command.name == "fetch" for command in known[:answer]),
        sum(command.helpers for command in known[: answer + 1]),
    )


def _row(transport: str, ours: list[float], plain: list[float], counts: list[Counts]) -> Row:
    pushes = max(count.pushes for count in counts)
    fetches = [count.fetches for count in counts]
    steps = [max(count.steps[step] for count in counts) for step in range(3)]
    helpers = median([count.helpers for count in counts])
    return Row(
        name="remote",
        what=f"a state on a remote, {transport}",
        ours=median(ours) * MILLI,
        plain=median(plain) * MILLI,
        unit="ms",
        ratio=median(ours) / median(plain),
        target="2 pushes, 1 fetch, git started under 3 times a step",
        met=pushes == 2 and median(fetches) <= 1 and max(steps) < 3,
        note=f"{pushes} pushes, {median(fetches):g} fetch (at most {max(fetches)}); git started "
        f"{steps[0]} times to fetch, {steps[1]} to lease, {steps[2]} to answer, and "
        f"{helpers:g} times by itself",
    )
