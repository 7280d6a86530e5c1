"""Who may run a task: acquire, renew, release, take over (design section 2).

A lease is a ref that points at a small commit. Every change of it is one compare-and-swap against
exactly what was seen. The functions that act for a holder demand the Lease as proof.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from aynig.attempts import attempt_pairs, attempts_of, spent_of, spent_pairs
from aynig.errors import GitFailed, LeaseLost, RefMoved, WaitUntil
from aynig.git.refs import RefEdit, Refs
from aynig.git.repo import Repo
from aynig.model import (
    LEASES,
    LOST,
    Attempt,
    Deferral,
    Event,
    Field,
    Gate,
    Holder,
    Lease,
    RefChange,
    Seat,
    branch_of,
)
from aynig.records import (
    Record,
    Sightings,
    holder_of,
    holder_pairs,
    read_record,
    unwritten,
    worker_of,
    worker_pairs,
    write_record,
    written,
)
from aynig.text import escape, shorten

# Renewing at 0.4 of the lease time leaves room for one renewal that fails.
RENEWALS = 0.4
_SUBJECTS = (b"aynig lease of ", b"aynig deferral of ")
_REASON_WIDTH = 500
# Of the keys that say what earlier attempts have cost.
_BEFORE = "before-"
# What a deferral may be held by.
_HOLDS = frozenset(
    {"waiting", "error", "dirty-worktree", "busy", "unwritable", "unreachable", "refused", LOST}
)


def lease_name(ref: str) -> str:
    """The ref that holds the lease of a branch.

    A hash, because `lease/a` and `lease/a/b` could not both exist.
    """
    digest = hashlib.sha1(ref.encode("utf-8", "surrogateescape"), usedforsecurity=False)
    return LEASES + digest.hexdigest()


def time_left(lease: Lease, now: float) -> float:
    """How long a lease lasts from `now` on if nobody renews it, in seconds, never negative.

    By the clock of whoever wrote it: for people to read, and to decide nothing by.
    """
    return min(max(lease.time + lease.seconds - now, 0.0), lease.seconds)


class Leases:
    """The leases of one repository, as one runner sees and takes them."""

    def __init__(
        self,
        repo: Repo,
        store: Refs,
        holder: Holder,
        *,
        seconds: float,
        is_alive: Callable[[Holder], bool | None],
        agent: str = "",
        roles: tuple[str, ...] = (),
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`clock` decides what has expired; `now`, in seconds since the epoch, is only shown or
        written, and when a deferral ends. `agent` and `roles` are told to people who look who is
        at work."""
        self._repo = repo
        self._store = store
        self._holder = holder
        self._seconds = seconds
        self._agent = agent
        self._roles = roles
        self._is_alive = is_alive
        self.clock = clock
        self.now = now
        self._mutex = threading.Lock()
        self._sightings = Sightings(clock)
        # Our own runs that are under way: a lease in our name for any other is a leftover.
        self._held: set[str] = set()
        # Lease refs that we have written, or whose runs have ended, since somebody last asked.
        self._touched: set[str] = set()
        # Leases that could not be given back, and what their refs are to point at.
        self._owed: list[tuple[Lease, str]] = []

    def read(self, ref: str) -> Lease | Deferral | str | None:
        """What the lease ref of a branch points at: a lease, a deferral, any other oid, nothing."""
        name = lease_name(ref)
        oid = self._repo.read_ref(name)
        return read_lease(self._repo, name, oid) if oid else None

    def is_live(self, lease: Lease, tip: str | None) -> bool:
        """Does the lease still keep others out? `tip` is what its branch points at now.

        Void: the branch has moved on, or the holder is a dead process of this host. Expired: this
        very oid was seen for the whole lease time on our own clock.
        """
        return lease.trigger == tip and self.is_kept(lease)

    def is_kept(self, lease: Lease) -> bool:
        """May the run of a lease still be at work, wherever its branch is by now?

        After a branch has moved on, its script may yet be at its end.
        """
        if lease.holder.runner == self._holder.runner:
            return lease.run in self._held
        if self._is_alive(lease.holder) is False:
            return False
        return self.clock() - self._sightings.since(lease.name, lease.oid) < lease.seconds

    def seat(self, ref: str) -> Seat:
        """One slot: it is taken for as long as the lease that took it is its branch's, and kept.

        So a run gives its slots back with its lease, however it ends.
        """
        # In this order: whoever takes a slot has written both when the first can be read.
        seen = self._repo.read_ref(ref)
        taker = read_lease(self._repo, ref, seen) if seen else None
        if not isinstance(taker, Lease):
            missing = seen is not None and not self._repo.has_commit(seen)
            return Seat(ref, seen, branch="?" if missing else "")
        name = lease_name(taker.ref)
        oid = self._repo.read_ref(name)
        standing = read_lease(self._repo, name, oid) if oid else None
        if not isinstance(standing, Lease) or standing.run != taker.run:
            return Seat(ref, seen, lease_ref=name, lease_seen=oid)
        if self.is_kept(standing):
            return Seat(ref, seen, branch_of(taker.ref), name, oid)
        return Seat(ref, seen, lease_ref=name, lease_seen=oid, left=standing)

    def in_doubt(self, ref: str) -> bool:
        """Could the holder of a branch's lease be dead, for all that was seen of it so far?

        It is on another machine, and the lease has not changed since it was first seen.
        """
        lease = self.read(ref)
        if not isinstance(lease, Lease) or self._is_alive(lease.holder) is not None:
            return False
        return not self._sightings.has_changed(lease.name)

    def by_our_clock(self, deferral: Deferral) -> Deferral:
        """The same deferral, not before a time that our own clock gives.

        It was written by another machine's. So it waits for its seconds at the most, from when it
        was first seen here.
        """
        seen = self.clock() - self._sightings.since(lease_name(deferral.ref), deferral.oid)
        latest = self.now() + max(deferral.seconds - seen, 0.0)
        return replace(deferral, not_before=min(deferral.not_before, latest))

    def acquire(
        self,
        event: Event,
        seen: str | None,
        run: str,
        attempt: int,
        past: tuple[Attempt, ...] = (),
        spent: tuple[Field, ...] = (),
        *,
        charged: str = "",
        seats: Sequence[Seat] = (),
        gates: Sequence[Gate] = (),
    ) -> Lease:
        """Take the lease of a branch that was free when the lease ref was `seen`.

        With it `seats`, which were free, and `gates`: all or nothing. Raises RefMoved when the
        branch, its lease, a slot or a gate is no longer what was seen.
        """
        lease = Lease(
            name=lease_name(event.ref),
            oid="",
            ref=event.ref,
            trigger=event.oid,
            run=run,
            holder=self._holder,
            seconds=self._seconds,
            attempt=attempt,
            time=int(self.now()),
            agent=self._agent,
            roles=self._roles,
            past=past,
            spent=spent,
            before=spent,
            charged=charged,
            slots=tuple(seat.ref for seat in seats),
        )
        lease = replace(lease, oid=self._write(lease))
        self._held.add(run)
        try:
            edits = [RefEdit(lease.name, seen, lease.oid)]
            if self._store.checks_together:
                edits.append(RefEdit(event.ref, event.oid, event.oid))
            edits += self._seating(lease, seats)
            edits += [RefEdit(gate.ref, gate.seen, lease.oid) for gate in gates]
            self._store.commit(edits)
            # Afterwards, because then no other runner can move it any more. Checking it within
            # a transaction of this repository says less and costs a lock file.
            if self._repo.read_ref(event.ref) != event.oid:
                self.release(lease, event.oid)
                raise RefMoved(f"{event.ref} has moved", ref=event.ref)
        except BaseException:
            self._held.discard(run)
            raise
        self._touch(lease.name)
        return lease

    def _seating(self, lease: Lease, seats: Sequence[Seat]) -> list[RefEdit]:
        """What takes the slots, together with a lease.

        A slot is judged by another ref, which has to be the same still; one that is absent on a
        remote can't be asked for in a push. Whoever has expired must find that he has lost.
        """
        edits = {seat.ref: RefEdit(seat.ref, seat.seen, lease.oid) for seat in seats}
        for seat in seats:
            name, seen = seat.lease_ref, seat.lease_seen
            if name in ("", lease.name) or (seen is None and self._store.checks_together):
                continue
            new = seen
            if seat.left is not None:
                deferral = self._deferral(
                    seat.left, 0.0, "its lease had run out, and others waited", "waiting", "", ""
                )
                new = self._write_deferral(deferral)
            edits.setdefault(name, RefEdit(name, seen, new))
        return list(edits.values())

    def holds(self, run: str) -> bool:
        """Is this run one of our own that is under way?"""
        return run in self._held

    def forget(self, lease: Lease) -> None:
        """The run is over, however it ended: what is left of its lease keeps nobody out."""
        self._held.discard(lease.run)
        self._touch(lease.name)

    def _touch(self, name: str) -> None:
        with self._mutex:
            self._touched.add(name)

    def take_touched(self) -> list[RefChange]:
        """What lease refs that we have written are at, since the last call."""
        with self._mutex:
            touched, self._touched = self._touched, set()
        return [RefChange(name, None, self._repo.read_ref(name)) for name in touched]

    def renew(self, lease: Lease) -> Lease:
        """Show that we still live; raises LeaseLost when somebody else has taken over."""
        renewed = replace(lease, oid=self._write(lease))
        try:
            self._store.commit([RefEdit(lease.name, lease.oid, renewed.oid)])
        except RefMoved as error:
            standing = self.standing(lease)
            if standing is not None and standing.oid != lease.oid:
                return self.renew(standing)
            raise LeaseLost(f"the lease of {lease.ref} was taken over", ref=lease.ref) from error
        self._touch(lease.name)
        return renewed

    def standing(self, lease: Lease) -> Lease | None:
        """The lease as its ref has it, where that is still the same run's; None otherwise.

        A renewal of which nobody could tell whether it went through may have.
        """
        found = self.read(lease.ref)
        if isinstance(found, Lease) and (found.run, found.holder) == (lease.run, lease.holder):
            return found
        return None

    def release(self, lease: Lease, to: str) -> None:
        """Give the lease back without an answer, by pointing its ref at `to`, which is no lease.

        Somebody else's lease is left as it is. Where nothing can be written now, the lease is owed:
        `settle` gives it back as soon as that is possible.
        """
        if to == lease.trigger and (lease.past or lease.spent):
            # What came of the attempts before this one counts for the next.
            with contextlib.suppress(LeaseLost, WaitUntil, GitFailed, OSError):
                before = replace(lease, attempt=lease.attempt - 1)
                self.defer(before, 0.0, "its run was given up")
                return
        try:
            self._store.commit([RefEdit(lease.name, lease.oid, to)])
        except RefMoved:
            return
        except (WaitUntil, GitFailed, OSError):
            with self._mutex:
                self._owed.append((lease, to))

    def settle(self) -> bool:
        """Give back what is owed; is nothing owed any more? Costs nothing where nothing is."""
        with self._mutex:
            owed, self._owed = self._owed, []
        for lease, to in owed:
            self.release(lease, to)
        return not self._owed

    def defer(
        self,
        lease: Lease,
        delay: float,
        reason: str,
        *,
        hold: str = "waiting",
        answer: str = "",
        kept: str = "",
    ) -> Deferral:
        """Give the lease back, not to be taken again before `delay` seconds are over.

        `reason` is the script's own text, or an error: it is kept on one line, escaped and
        shortened. Infinity for `delay`: this commit is never tried again. `answer` is a response
        commit that only has to land, kept by the ref `kept`.
        """
        deferral = self._deferral(lease, delay, reason, hold, answer, kept)
        return self._leave(lease, lease.oid, deferral)

    def set_back(self, lease: Lease, delay: float, reason: str) -> bool:
        """Leave word of an error where the lease was lost to nobody: its ref was deleted, say.

        False where somebody else is there, who knows better. Who came after us knows of all our
        attempts: a record that knows of fewer was written to have them forgotten.
        """
        seen = self.read(lease.ref)
        forged = isinstance(seen, Lease | Deferral) and _knows_less(seen, lease)
        if isinstance(seen, Lease | Deferral) and not forged:
            return False
        before = seen.oid if isinstance(seen, Lease | Deferral) else seen
        try:
            self._leave(lease, before, self._deferral(lease, delay, reason, "error", "", ""))
        except LeaseLost:
            return False
        return True

    def _leave(self, lease: Lease, seen: str | None, deferral: Deferral) -> Deferral:
        oid = self._write_deferral(deferral)
        try:
            self._store.commit([RefEdit(lease.name, seen, oid)])
        except RefMoved as error:
            raise LeaseLost(f"the lease of {lease.ref} was taken over", ref=lease.ref) from error
        return replace(deferral, oid=oid)

    def _write_deferral(self, deferral: Deferral) -> str:
        return write_record(
            self._repo,
            f"aynig deferral of {deferral.ref}",
            [
                ("kind", "deferral"),
                ("branch", written(deferral.ref)),
                ("trigger", deferral.trigger),
                ("run", deferral.run),
                ("attempt", str(deferral.attempt)),
                ("not-before", f"{deferral.not_before:.3f}"),
                ("seconds", f"{deferral.seconds:.3f}"),
                ("reason", deferral.reason),
                *([("hold", deferral.hold)] if deferral.hold != "waiting" else []),
                *([("answer", deferral.answer)] if deferral.answer else []),
                *([("kept", deferral.kept)] if deferral.kept else []),
                *attempt_pairs(deferral.past),
                *spent_pairs(deferral.spent),
                *([("charged", written(deferral.charged))] if deferral.charged else []),
            ],
        )

    def _deferral(
        self, lease: Lease, delay: float, reason: str, hold: str, answer: str, kept: str
    ) -> Deferral:
        return Deferral(
            oid="",
            ref=lease.ref,
            trigger=lease.trigger,
            run=lease.run,
            attempt=lease.attempt,
            not_before=self.now() + delay,
            seconds=delay,
            reason=shorten(escape(" ".join(reason.split())), _REASON_WIDTH),
            hold=hold,
            answer=answer,
            kept=kept,
            past=lease.past,
            spent=lease.spent,
            charged=lease.charged,
        )

    def _write(self, lease: Lease) -> str:
        return write_record(
            self._repo,
            f"aynig lease of {lease.ref}",
            [
                ("kind", "lease"),
                ("branch", written(lease.ref)),
                ("trigger", lease.trigger),
                ("run", lease.run),
                *holder_pairs(lease.holder),
                ("seconds", f"{lease.seconds:g}"),
                ("attempt", str(lease.attempt)),
                *worker_pairs(lease.agent, lease.roles),
                *attempt_pairs(lease.past),
                *spent_pairs(lease.spent),
                *((f"{_BEFORE}{key}", value) for key, value in spent_pairs(lease.before)),
                *([("charged", written(lease.charged))] if lease.charged else []),
                *([("slots", " ".join(lease.slots))] if lease.slots else []),
                # Two equal claims in one second would be the same object, and both would succeed.
                ("nonce", uuid.uuid4().hex),
            ],
        )


def _knows_less(record: Lease | Deferral, lease: Lease) -> bool:
    """Has a record of the same commit fewer attempts than a lease that was there before it?"""
    if record.trigger != lease.trigger:
        return False
    return record.attempt < lease.attempt or len(record.past) < len(lease.past)


def read_lease(repo: Repo, name: str, oid: str) -> Lease | Deferral | str:
    """What a lease ref's oid is: a Lease, a Deferral, or just the oid of anything else (free)."""
    record = read_record(repo, oid, _SUBJECTS)
    if record is None:
        return oid
    try:
        if record.fields["kind"] == "lease":
            return _to_lease(name, record)
        return _to_deferral(oid, record.fields)
    except (KeyError, ValueError):
        return oid


def _to_lease(name: str, record: Record) -> Lease:
    fields = record.fields
    agent, roles = worker_of(fields)
    return Lease(
        name=name,
        oid=record.oid,
        ref=unwritten(fields["branch"]),
        trigger=fields["trigger"],
        run=fields["run"],
        holder=holder_of(fields),
        seconds=float(fields["seconds"]),
        attempt=int(fields["attempt"]),
        time=record.time,
        agent=agent,
        roles=roles,
        past=attempts_of(fields),
        spent=spent_of(fields),
        before=spent_of(
            {
                key.removeprefix("before-"): fields[key]
                for key in fields
                if key.startswith("before-")
            }
        ),
        charged=unwritten(fields.get("charged", "")),
        slots=tuple(fields.get("slots", "").split()),
    )


def _to_deferral(oid: str, fields: Mapping[str, str]) -> Deferral:
    not_before, seconds = float(fields["not-before"]), float(fields["seconds"])
    if math.isnan(not_before) or math.isnan(seconds):
        raise ValueError("no time")
    return Deferral(
        oid=oid,
        ref=unwritten(fields["branch"]),
        trigger=fields["trigger"],
        run=fields["run"],
        attempt=int(fields["attempt"]),
        not_before=not_before,
        seconds=seconds,
        reason=fields["reason"],
        hold=fields["hold"] if fields.get("hold") in _HOLDS else "waiting",
        answer=fields.get("answer", ""),
        kept=fields.get("kept", ""),
        past=attempts_of(fields),
        spent=spent_of(fields),
        charged=unwritten(fields.get("charged", "")),
    )
