"""The read model of runners: who was seen, what each is running, and which are idle."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from aynig.branchlease import run_began
from aynig.errors import RepositoryError
from aynig.git.repo import Repo
from aynig.lease import read_lease, time_left
from aynig.model import HEADS, LEASES, Holder, Lease, branch_of
from aynig.onbranch import WORKING, Working, read_working
from aynig.presence import Presence, presences
from aynig.processes import is_alive, is_running
from aynig.runs import run_time
from aynig.scan import read_event
from aynig.site import Site
from aynig.status import listening

RUNNING, IDLE, SILENT, DEAD = "running", "idle", "silent", "dead"


@dataclass(frozen=True, slots=True)
class Held:
    """A task that a runner holds. `since` is None where the id of the run does not say."""

    branch: str
    state: str | None
    run: str
    since: float | None
    lease_seconds: float
    # Never negative; by the clock of whoever wrote the lease.
    lease_left: float


@dataclass(frozen=True, slots=True)
class RunnerRow:
    """One runner. What nobody has said is None.

    `state` is `running`, `idle`, `silent` (all that is known of it has had its time, by the clocks
    of those who wrote it: it may be dead) or `dead` (a process of this host that is none any more).
    `since` is the start of its first run, or when it fell idle; `seen` is when it last wrote.
    """

    runner: str
    host: str | None
    pid: int | None
    state: str
    since: float | None = None
    seen: float | None = None
    agent: str | None = None
    roles: tuple[str, ...] | None = None
    jobs: int | None = None
    tasks: tuple[Held, ...] = ()


@dataclass(frozen=True, slots=True)
class Claimed:
    """A branch that is itself the lease of its task, as in dwp; `began` is the start of the run."""

    branch: str
    working: Working
    began: float


def runner_rows(site: Site) -> list[RunnerRow]:
    """A row a runner, by name; those of a remote as its refs are at this moment.

    The mirror of a remote has been looked at before. Raises Unreachable or Refused.
    """
    now = time.time()
    said = presences(site.mirror) if site.mirror is not None else []
    known = states(site)
    rows = merge(list(live_leases(site.repo)), said, known, now, list(_claimed(site, known)))
    if site.mirror is None:
        rows += _listeners(site, rows)
    return sorted(rows, key=lambda row: row.runner)


def live_leases(repo: Repo) -> Iterator[Lease]:
    """The leases that are not void: their branches still point at what they were taken for."""
    for name, oid in repo.refs_below(LEASES).items():
        lease = read_lease(repo, name, oid)
        if isinstance(lease, Lease) and repo.read_ref(lease.ref) == lease.trigger:
            yield lease


def states(site: Site) -> Mapping[str, str]:
    """The state of each branch, by ref."""
    site.scan.look()
    site.scan.take_changes()
    return {ref: tip.state for ref, tip in site.scan.tips().items()}


def _claimed(site: Site, states: Mapping[str, str]) -> Iterator[Claimed]:
    for ref, oid in site.repo.refs_below(HEADS).items() if WORKING in states.values() else ():
        if states.get(ref) != WORKING:
            continue
        with contextlib.suppress(RepositoryError):
            event = read_event(site.repo, ref, oid, site.read)
            working = read_working(event.statement, event.time) if event is not None else None
            if event is not None and working is not None and working.runner:
                yield Claimed(branch_of(ref), working, run_began(site, event))


def merge(
    leases: Iterable[Lease],
    said: Iterable[Presence],
    states: Mapping[str, str],
    now: float,
    claimed: Iterable[Claimed] = (),
) -> list[RunnerRow]:
    """What leases and records say of each runner; a lease goes before a record.

    Here clocks of others are believed: nothing is decided by it.
    """
    rows = {presence.card.holder.runner: _of_presence(presence, now) for presence in said}
    found: dict[str, list[Lease]] = {}
    for lease in leases:
        found.setdefault(lease.holder.runner, []).append(lease)
    for runner, held in found.items():
        rows[runner] = _with_leases(rows.get(runner), held, states, now)
    for claim in claimed:
        runner = claim.working.runner
        if claim.branch not in {task.branch for row in rows.values() for task in row.tasks}:
            rows[runner] = _with_claim(rows.get(runner), claim, now)
    return list(rows.values())


def _of_presence(presence: Presence, now: float) -> RunnerRow:
    card = presence.card
    silent = now - presence.time > presence.seconds
    return RunnerRow(
        runner=card.holder.runner,
        host=card.holder.host,
        pid=card.holder.pid,
        state=_state(card.holder, SILENT if silent else IDLE),
        since=presence.since,
        seen=float(presence.time),
        agent=card.agent or None,
        roles=card.roles,
        jobs=card.jobs,
    )


def _with_leases(
    row: RunnerRow | None, leases: list[Lease], states: Mapping[str, str], now: float
) -> RunnerRow:
    holder = leases[0].holder
    tasks = sorted((_held(lease, states, now) for lease in leases), key=lambda held: held.branch)
    seen = float(max(lease.time for lease in leases))
    if row is None:
        agent, roles = leases[0].agent or None, leases[0].roles
        row = RunnerRow(holder.runner, holder.host, holder.pid, RUNNING, agent=agent, roles=roles)
    # That it was idle before it took them says nothing of now.
    fresh = any(held.lease_left > 0 for held in tasks)
    return replace(
        row,
        state=_state(holder, RUNNING if fresh else SILENT),
        since=min((held.since for held in tasks if held.since is not None), default=None),
        seen=max(seen, row.seen or seen),
        tasks=tuple(tasks),
    )


def _with_claim(row: RunnerRow | None, claim: Claimed, now: float) -> RunnerRow:
    working = claim.working
    left = max(working.until - now, 0.0)
    task = Held(
        claim.branch, working.origin or None, working.run, claim.began, working.seconds, left
    )
    row = row or RunnerRow(working.runner, None, None, SILENT)
    tasks = (*row.tasks, task)
    return replace(
        row,
        state=RUNNING if any(held.lease_left > 0 for held in tasks) else SILENT,
        since=min(held.since for held in tasks if held.since is not None),
        seen=max(working.since, row.seen or working.since),
        tasks=tuple(sorted(tasks, key=lambda held: held.branch)),
    )


def _held(lease: Lease, states: Mapping[str, str], now: float) -> Held:
    return Held(
        branch=branch_of(lease.ref),
        state=states.get(lease.ref) or None,
        run=lease.run,
        since=run_time(lease.run),
        lease_seconds=lease.seconds,
        lease_left=time_left(lease, now),
    )


def _state(holder: Holder, state: str) -> str:
    return DEAD if is_alive(holder) is False else state


def _listeners(site: Site, rows: Iterable[RunnerRow]) -> Iterator[RunnerRow]:
    """The processes of this machine that wait for work in the repository itself.

    All that is known of those is that hooks can wake them.
    """
    host = socket.gethostname()
    known = {row.pid for row in rows if row.host == host}
    for pid, since in listening(site):
        if pid not in known:
            state = IDLE if is_running(pid) else DEAD
            yield RunnerRow(f"{host}-{pid}", host, pid, state, since=since)
