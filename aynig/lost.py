"""Tasks whose branch was taken away while they ran: kept, and told of, until somebody forgets them.

Nothing tells whether that was the script or a person, who may mean it: so it is not undone. The
commit of the task and what was done are kept under the rescue ref of the run, and the lease ref,
which outlives the branch, says so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from aynig.errors import AynigError
from aynig.lease import lease_name, read_lease
from aynig.model import HEADS, LEASES, LOST, RESCUES, Deferral, Lease, branch_of
from aynig.rescue import rescue
from aynig.runs import run_time
from aynig.site import Site
from aynig.text import operand, shell_word


def is_lost(site: Site, ref: str, oid: str) -> bool:
    """Is the commit of a task on no branch any more, nor on its own? Raises GitFailed."""
    tip = site.repo.read_ref(ref)
    if tip is not None and site.repo.descends(tip, oid):
        return False
    return not site.repo.is_reached(oid, HEADS)


def give_up_lost(site: Site, lease: Lease, kept: str = "") -> bool:
    """Keep the commit of a task that is lost, beside `kept`, and give its lease back with the word.

    False where it is not lost, or where no word of it is left: the lease is to be released.
    """
    with contextlib.suppress(AynigError, OSError):
        if not is_lost(site, lease.ref, lease.trigger):
            return False
        head = site.repo.read_ref(kept) if kept else None
        if head is None or not site.repo.descends(head, lease.trigger):
            # By a name of its own: of a dead run, its work has yet to be kept.
            kept = rescue(site.repo, site.store, f"{lease.run}-task", lease.trigger)
        tip = site.repo.read_ref(lease.ref)
        if tip is not None and site.read(site.repo.commit(tip).message) is not None:
            # That is what counts. Its answers are known by what the lease ref leads to, so it has
            # to lead to the commit that was lost.
            return False
        what = "was deleted" if tip is None else "was set to other commits"
        # Free at once where the branch comes back.
        site.leases.defer(lease, 0.0, f"its branch {what} while it ran", hold=LOST, kept=kept)
        return True
    return False


def lost_tasks(site: Site, stated: Iterable[str]) -> Iterator[Deferral]:
    """The tasks that are lost; `stated` are the branches whose state says what becomes of them."""
    leases = site.repo.refs_below(LEASES)
    for ref in stated:
        leases.pop(lease_name(ref), None)
    for name, oid in leases.items():
        record = _lost(site, name, oid)
        if record is not None:
            yield record


def is_remembered(site: Site, name: str, oid: str, before: float) -> bool:
    """Does a lease ref tell of a task that was lost after a time, in seconds since the epoch?"""
    record = _lost(site, name, oid)
    return record is not None and (run_time(record.run) or 0.0) >= before


def _lost(site: Site, name: str, oid: str) -> Deferral | None:
    """What a lease ref says of a lost task; None where it does not.

    Nor where a person has brought the task back, or has deleted what was kept, to forget it. What
    the ref says is a claim, and part of it goes into commands.
    """
    record = read_lease(site.repo, name, oid)
    if not isinstance(record, Deferral) or record.hold != LOST or lease_name(record.ref) != name:
        return None
    if not record.ref.startswith(HEADS) or not record.kept.startswith(RESCUES):
        return None
    tip = site.repo.read_ref(record.ref)
    if tip is not None and site.repo.descends(tip, record.trigger):
        return None
    # Of a remote, the rescue refs of other runners are not here.
    known = site.mirror is not None or site.repo.read_ref(record.kept) is not None
    return record if known else None


def way_back(site: Site, record: Deferral) -> str:
    """The command that puts the branch back where it was, so that the task runs again."""
    branch, oid = branch_of(record.ref), record.trigger
    if site.mirror is not None:
        remote = shell_word(site.mirror.remote.address.shown)
        fetched = f"git fetch {remote} {shell_word(record.kept)}"
        return f"{fetched} && git push {remote} {shell_word(f'+{oid}:{record.ref}')}"
    if site.repo.read_ref(record.ref) is None:
        return f"git branch {operand(branch)} {shell_word(oid)}"
    return f"git branch -f {operand(branch)} {shell_word(oid)}"


def way_off(site: Site, record: Deferral) -> str:
    """The command after which nothing tells of it any more; empty where there is none."""
    return f"git update-ref -d {shell_word(record.kept)}" if site.mirror is None else ""
