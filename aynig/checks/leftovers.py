"""What crashed runs left behind; most of it the next start of aynig cleans up by itself."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

from aynig.checks import OK, WARNING, Finding
from aynig.doorbell import unanswered
from aynig.git.worktrees import registered
from aynig.lease import read_lease
from aynig.lost import lost_tasks, way_back
from aynig.model import LEASES, Holder, Lease, branch_of
from aynig.processes import is_alive, marked_processes
from aynig.recover import dead_leases, pid_alive, stale_locks
from aynig.site import Site
from aynig.text import escape, quote

MEND = "aynig doctor --mend"


def check_leftovers(site: Site) -> Iterator[Finding]:
    """Everything that a crash can leave; one row that all is well where there is nothing."""
    found = [
        *_locks(site),
        *_leases(site),
        *_worktrees(site),
        *_bells(site),
        *_landings(site),
        *_processes(site),
        *_settings(site),
        *_lost(site),
    ]
    yield from found
    if not found:
        yield Finding("leftovers", OK, "nothing of crashed runs is left")


def _locks(site: Site) -> Iterator[Finding]:
    for lock in stale_locks(site.repo):
        detail = f"a dead run left the lock {lock.path}, so git refuses to change {lock.ref}"
        yield Finding("leftovers", WARNING, detail, MEND)


def _leases(site: Site) -> Iterator[Finding]:
    for lease in dead_leases(site.repo):
        holder = f"process {lease.holder.pid}, which is dead"
        detail = f"the lease of {lease.ref} (run {lease.run}) is held by {holder}"
        yield Finding("leftovers", WARNING, detail, MEND)


def _worktrees(site: Site) -> Iterator[Finding]:
    for name in registered(site.repo):
        admin = site.repo.common_dir / "worktrees" / name
        if not _is_lent(admin):
            detail = f"the worktree {name} is registered with git, and no process has it"
            yield Finding("leftovers", WARNING, detail, MEND)


def _is_lent(admin: Path) -> bool:
    """Whether a process holds the operating-system lock that lies beside a worktree."""
    try:
        link = Path((admin / "gitdir").read_text().strip())
        fd = os.open(link.parent.parent / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def _bells(site: Site) -> Iterator[Finding]:
    for path in unanswered(site.repo.home / "wake", pid_alive):
        yield Finding("leftovers", WARNING, f"nobody answers the doorbell {path}", MEND)


def _landings(site: Site) -> Iterator[Finding]:
    for journal in sorted((site.repo.home / "landing").glob("*.json")):
        try:
            record = json.loads(journal.read_bytes())
            holder, place = Holder(**record["holder"]), record["work_tree"]
        except (OSError, ValueError, KeyError, TypeError):
            # Being written just now, or over; one that a crash cut short is cleaned up unsaid.
            continue
        if is_alive(holder) is False:
            detail = f"an answer was landing in {place} when its process died"
            yield Finding("leftovers", WARNING, detail, MEND)


def _processes(site: Site) -> Iterator[Finding]:
    live = {
        lease.run
        for name, oid in site.repo.refs_below(LEASES).items()
        if isinstance(lease := read_lease(site.repo, name, oid), Lease)
        and is_alive(lease.holder) is not False
    }
    ours = {folder.run for folder in site.archive}
    for pid, run in sorted(marked_processes(lambda run: run in ours and run not in live).items()):
        detail = f"process {pid} is of run {run}, which has ended"
        yield Finding("leftovers", WARNING, detail, f"kill {pid}")


def _settings(site: Site) -> Iterator[Finding]:
    for name in site.guard.left_behind():
        detail = f"{name} of the repository changed while a script of a dead runner ran"
        yield Finding("leftovers", WARNING, detail, MEND)


def _lost(site: Site) -> Iterator[Finding]:
    site.scan.look()
    tips = site.scan.tips()
    for record in lost_tasks(site, [ref for ref, tip in tips.items() if tip.state or tip.fault]):
        branch = quote(branch_of(record.ref))
        detail = f"{branch}: {escape(record.reason)}; it is kept under {escape(record.kept)}"
        yield Finding("leftovers", WARNING, detail, way_back(site, record))
