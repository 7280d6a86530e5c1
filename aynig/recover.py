"""Cleans up after the dead: what a crash left behind, and what nobody needs any more.

Only refs and commits matter to a task, so everything here is safe to repeat and to be cut short.
Nothing of a living process is touched.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from aynig import verify
from aynig.attempts import after_crash
from aynig.beside import mend
from aynig.breakers import spent_breakers
from aynig.doorbell import sweep as sweep_doorbells
from aynig.errors import AynigError, LeaseLost, WaitUntil
from aynig.facts import read_workflow, trusted_commit
from aynig.git.landings import recover_landings
from aynig.git.locks import StaleLock, clear_stale_locks, find_stale_locks
from aynig.git.refs import RefEdit, pack_many_refs
from aynig.git.repo import Repo
from aynig.lease import lease_name, read_lease
from aynig.lost import give_up_lost, is_remembered
from aynig.model import ENDED_STATES, HEADS, LEASES, RESCUES, SLOTS, Field, Lease
from aynig.processes import is_alive, is_running
from aynig.site import Site
from aynig.text import counted
from aynig.usage import fields_of, read_usage, total
from aynig.usagefile import Tally, read_on
from aynig.workflow import Breaker, Workflow


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that a dead runner left: what it is, and the command or step that mends it."""

    word: str
    detail: str


def pid_alive(pid: int) -> bool:
    """Is there a process of this number? A zombie is none."""
    return pid > 0 and is_running(pid)


def dead_leases(repo: Repo) -> list[Lease]:
    """The leases whose holders are dead processes of this host."""
    return [lease for lease in _leases(repo) if is_alive(lease.holder) is False]


def _leases(repo: Repo) -> Iterator[Lease]:
    for name, oid in repo.refs_below(LEASES).items():
        found = read_lease(repo, name, oid)
        if isinstance(found, Lease):
            yield found


def stale_locks(repo: Repo) -> list[StaleLock]:
    """The ref locks that dead runners left."""
    return find_stale_locks(repo, is_alive, pid_alive)


def clear_locks(site: Site) -> None:
    """Remove stale locks that could not be judged before, because some git was at work."""
    clear_stale_locks(stale_locks(site.repo))
    if site.mirror is not None:
        site.mirror.clear_locks()


def recover(site: Site) -> list[Leftover]:
    """Undo what dead runners of this repository left; says what was found.

    In this order: a lock would keep the rest from being mended, a half landing shows a person
    changes that nobody made, a script that outlived its runner still writes. Only then what it
    changed in the settings and hooks is put back: before, it could change them again.
    """
    told = []
    locks = stale_locks(site.repo)
    clear_stale_locks(locks)
    told += [Leftover("lock", f"removed the stale lock of {lock.ref}") for lock in locks]
    if site.mirror is not None:
        told += [Leftover("lock", f"removed {path}") for path in site.mirror.clear_locks()]
    told += [Leftover("landing", text) for text in recover_landings(site.repo, is_alive)]
    if site.mirror is None:
        told += bury_dead(site)
        told += [Leftover("landing", f"began {branch}, a child") for branch in mend(site)]
    told += [Leftover("settings", text) for text in site.guard.recover()]
    sweep_doorbells(site.repo.home / "wake", pid_alive)
    recovered = site.pool.sweep(site.settings.retention)
    if recovered:
        told.append(Leftover("worktree", f"took back {counted(recovered, 'worktree')}"))
    secluded, judged = site.seclusion.sweep(), verify.sweep(site.repo)
    if secluded:
        told.append(Leftover("worktree", f"removed {counted(secluded, 'secluded worktree')}"))
    if judged:
        told.append(
            Leftover("verification", f"removed what {counted(judged, 'verification')} left")
        )
    return told


def bury_dead(site: Site) -> list[Leftover]:
    """Free the leases of dead processes of this host, and end what is left of their scripts.

    Those of a remote after the first look at it: before, nobody knows which there are.
    """
    buried = [_bury(site, lease) for lease in dead_leases(site.repo)]
    return [leftover for leftover in buried if leftover is not None]


def _bury(site: Site, lease: Lease) -> Leftover | None:
    killed = site.end_scripts(lease.run)
    lease = replace(lease, spent=_spent(site, lease))
    if give_up_lost(site, lease):
        return Leftover("lease", f"kept the task of {lease.ref}, which is gone (run {lease.run})")
    try:
        answer, kept = _kept_answer(site, lease)
        if not answer:
            # Free at once, and yet the next attempt is not the first: one that kills its runner
            # shows.
            lease = replace(lease, past=after_crash(lease.past, site.leases.now()))
        site.leases.defer(lease, 0.0, "its runner died", answer=answer, kept=kept)
    except LeaseLost:
        # Another runner was faster, or had been long before we looked.
        return None
    except AynigError as error:
        return Leftover("lease", f"the lease of {lease.ref} could not be freed: {error}")
    scripts = f", ended {len(killed)} processes of it" if killed else ""
    return Leftover("lease", f"freed the lease of {lease.ref}, run {lease.run}{scripts}")


def _spent(site: Site, lease: Lease) -> tuple[Field, ...]:
    """What a dead run had spent: it may have said more than its runner came to tell others."""
    told, _ = read_usage(lease.spent)
    folder = site.archive.find(lease.run)
    if folder is None:
        return lease.spent
    before, _ = read_usage(lease.before)
    return fields_of(total(told, before + read_on(folder.usage, Tally()).ended().usage))


def _kept_answer(site: Site, lease: Lease) -> tuple[str, str]:
    """The answer of a dead run that was waiting to land, and its ref; empty where there is none."""
    for ref in (RESCUES + lease.run, f"{RESCUES}{lease.run}-2"):
        oid = site.repo.read_ref(ref)
        statement = site.read(site.repo.commit(oid).message) if oid else None
        if oid and statement is not None and statement.value("answers") == lease.trigger:
            return oid, ref
    return "", ""


def keep_house(site: Site) -> None:
    """Forget what has served its time: run folders, written-out scripts, worktrees, leases."""
    now = time.time()
    retention = site.settings.retention
    site.archive.sweep(retention, now)
    site.shelf.sweep(retention, now)
    site.pool.sweep(retention)
    site.store.delete(_spent_leases(site, now - retention))
    site.store.delete(_spent_slots(site, now - retention))
    site.store.delete(spent_breakers(site.repo, now - max(retention, _longest_memory(site))))
    pack_many_refs(site.repo)
    if site.mirror is not None:
        site.mirror.keep_house()


def _longest_memory(site: Site) -> float:
    """For how many seconds failures may count, so that it matters when a breaker was closed."""
    commit = trusted_commit(site.repo, site.settings) or site.repo.resolve("HEAD")
    try:
        tree = site.repo.commit(commit).tree if commit is not None else ""
        workflow = read_workflow(site, tree) if tree else Workflow()
    except AynigError:
        return math.inf
    every = [workflow.defaults.breaker, *(settings.breaker for _, settings in workflow.states)]
    return max(each.within for each in (Breaker(), *every) if each is not None)


def _spent_slots(site: Site, before: float) -> list[RefEdit]:
    """The slots that nobody has, and that nobody has taken for long: of a limit that is gone, say.

    Whoever takes one at this moment has changed it, and it stays.
    """
    spent = []
    for ref, oid in site.repo.refs_below(SLOTS).items():
        taker = read_lease(site.repo, ref, oid)
        is_old = not isinstance(taker, Lease) or taker.time < before
        if is_old and not site.leases.seat(ref).branch:
            spent.append(RefEdit(ref, oid, None))
    return spent


def _spent_leases(site: Site, before: float) -> list[RefEdit]:
    """The lease refs of branches that are gone, or that ended long ago."""
    leases = site.repo.refs_below(LEASES)
    spent = _not_needed(site, leases, before)
    if not spent or site.mirror is None:
        return spent
    # Leases are looked at after branches: one that is new is there without its branch. So the
    # branches are asked for once more, when the leases are known.
    try:
        site.mirror.sync(leases=False)
    except WaitUntil:
        return []
    return _not_needed(site, leases, before)


def _not_needed(site: Site, leases: Mapping[str, str], before: float) -> list[RefEdit]:
    needed = {
        lease_name(ref)
        for ref in site.repo.refs_below(HEADS)
        if not _ended_before(site, ref, before)
    }
    return [
        RefEdit(name, oid, None)
        for name, oid in leases.items()
        if name not in needed
        and not _may_be_live(site.repo, name, oid)
        and not is_remembered(site, name, oid, before)
    ]


def _may_be_live(repo: Repo, name: str, oid: str) -> bool:
    """Only a lease of a branch that is there keeps anybody out."""
    lease = read_lease(repo, name, oid)
    return isinstance(lease, Lease) and repo.read_ref(lease.ref) is not None


def _ended_before(site: Site, ref: str, before: float) -> bool:
    tip = site.scan.tip(ref)
    return tip is not None and tip.state in ENDED_STATES and tip.time < before
