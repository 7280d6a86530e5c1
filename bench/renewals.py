"""A long run on a remote: how often its lease is written, what that costs, and what of it stays."""

from __future__ import annotations

import contextlib
import uuid
from dataclasses import dataclass

from aynig.model import HEADS, Event
from aynig.scan import read_event
from aynig.settings import Settings
from aynig.site import Site, open_place
from bench.ground import EMPTY, LONG, LONG_SECONDS, Daemon, Ground
from bench.hub import Hub, Hubs, Trace, serve, transports
from bench.measure import MILLI, Context, Row, alternate, median, timed
from bench.remote import REMOTE

_HOUR = 3600.0
# The shortest that there is, in seconds: a run of some lease times is over soon.
_SHORT_LEASE = 5
_LIMIT = 200


@dataclass(frozen=True, slots=True)
class Writes:
    """What one long run wrote."""

    renewals: int
    # Commits that its branch has got beside the answer.
    more: int


def rows(context: Context) -> list[Row]:
    """By path and by HTTP: the long run of both at the same time, then the renewals in turns."""
    with contextlib.ExitStack() as stack:
        all_hubs = [stack.enter_context(serve(context.folder, kind)) for kind in transports()]
        with Trace(context.folder) as trace:
            writes = _run_long(all_hubs, trace)
        return [
            _row(hubs.transport, written, *_times(hubs, context.times(15, 2)))
            for hubs, written in zip(all_hubs, writes, strict=True)
        ]


def _run_long(all_hubs: list[Hubs], trace: Trace) -> list[Writes]:
    with contextlib.ExitStack() as stack:
        under_way: list[tuple[Hub, Ground, Daemon, str]] = []
        for hubs in all_hubs:
            hub = hubs.ours
            task = hub.server.state_commit(LONG)
            hub.server.set_refs({f"{HEADS}long": task})
            clone = hub.clone("long")
            clone.git("config", "aynig.leaseSeconds", str(_SHORT_LEASE))
            daemon = stack.enter_context(Daemon(clone, jobs=1, flags=REMOTE))
            under_way.append((hub, clone, daemon, task))
        for _, _, daemon, _ in under_way:
            daemon.await_notices("answer")
    return [_written(trace, hub, clone, task) for hub, clone, _, task in under_way]


def _written(trace: Trace, hub: Hub, clone: Ground, task: str) -> Writes:
    count = sum(
        command.is_renewal and any(str(clone.path) in word for word in command.arguments)
        for command in trace.commands()
    )
    grown = int(hub.server.git("rev-list", "--count", f"{task}..{HEADS}long"))
    return Writes(count, grown - 1)


def _times(hubs: Hubs, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of a renewal, and of a push of a commit by plain git with the same guard."""
    site = open_place(hubs.ours.clone("runner").path, "origin")
    sender = hubs.plain.clone("loop")
    empty = sender.git("hash-object", "-t", "tree", "-w", "/dev/null")
    last = ""

    def plain() -> float:
        nonlocal last
        new = sender.git("commit-tree", empty, "-m", f"renewed {uuid.uuid4()}")
        guard = f"--force-with-lease=refs/plain/long:{last}"
        took = timed(
            lambda: sender.git("push", "--quiet", guard, "origin", f"{new}:refs/plain/long")
        )
        last = new
        return took

    try:
        lease = site.leases.acquire(_task(hubs.ours, site), None, uuid.uuid4().hex, 1)

        def ours() -> float:
            nonlocal lease

            def renew() -> None:
                nonlocal lease
                lease = site.leases.renew(lease)

            return timed(renew)

        return alternate(ours, plain, rounds)
    finally:
        site.close()


def _task(hub: Hub, site: Site) -> Event:
    oid = hub.server.state_commit(EMPTY)
    hub.server.set_refs({f"{HEADS}renewed": oid})
    assert site.mirror is not None
    site.mirror.sync(leases=False)
    event = read_event(site.repo, f"{HEADS}renewed", oid, site.read)
    assert event is not None
    return event


def _row(transport: str, writes: Writes, ours: list[float], plain: list[float]) -> Row:
    default = Settings().lease_seconds
    hourly = writes.renewals * (_HOUR / default) / (LONG_SECONDS / _SHORT_LEASE)
    return Row(
        name="renewals",
        what=f"renewing a lease on a remote, {transport}",
        ours=median(ours) * MILLI,
        plain=median(plain) * MILLI,
        unit="ms",
        ratio=median(ours) / median(plain),
        target=f"under {_LIMIT} in an hour, none on the branch",
        met=hourly < _LIMIT and writes.more == 0,
        note=f"{hourly:.0f} in an hour at {default:g} s ({writes.renewals} in {LONG_SECONDS} s at "
        f"{_SHORT_LEASE} s), {writes.more} commits on the branch",
    )
