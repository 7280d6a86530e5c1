"""The life of an event, in order: read this first.

    ref change -> event -> plan -> lease -> run -> answer -> the branch moves

Each arrow is a frozen value. Only refs and commits survive a restart, so each step may be cut off
anywhere and repeated from the start: the branch and its lease say what is true.

From the change to the lease is here. `execution` goes on from the lease to the answer, and `ending`
from the answer to the branch.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from aynig.branchlease import BranchLease, leases_on_branch, resolve_working, take
from aynig.dialects import DWP
from aynig.ending import Ended, Finished, Pending, abandon, conclude_again, left_answer, resume
from aynig.errors import (
    AynigError,
    ConfigError,
    LeaseLost,
    RefMoved,
    Refused,
    RepositoryError,
    Unreachable,
    Unwritable,
    WaitUntil,
    as_unwritable,
    hold_word,
    told,
)
from aynig.execution import Execution, Started
from aynig.executors import Control
from aynig.facts import Grounds, answered_by, broken_hold, gather, unreadable_hold
from aynig.lease import lease_name, read_lease
from aynig.model import Deferral, Event, Gate, Hold, Lease, Plan, Seat, Statement
from aynig.onbranch import read_working
from aynig.places import find_seats, state_hold_afresh, wanted
from aynig.plan import (
    FIRST_RECHECK,
    answered_hold,
    copy_hold,
    deferral_hold,
    make_plan,
    state_hold,
)
from aynig.policies import setback
from aynig.runs import new_run_id
from aynig.scan import read_event
from aynig.site import Site
from aynig.spending import gates_of, hold_of, limits_of_spending
from aynig.stepping import take_step
from aynig.text import shorten

# Of an error, so that the name of a rescue ref has room behind it.
_ERROR_WIDTH = 400
_BARS = (Refused, Unreachable, Unwritable)
# How often a branch that moves under our hands is looked at again before others get their turn.
_CLAIMS = 5


@dataclass(frozen=True, slots=True)
class Idle:
    """The branch carries no state, is gone, or moved on between two steps: nothing to say."""


@dataclass(frozen=True, slots=True)
class Outrun:
    """Another runner was faster, or the branch moved on the remote: to be looked at again."""


@dataclass(frozen=True, slots=True)
class Barred(Hold):
    """No lease could be written on the remote, for a reason that is no single task's."""


Outcome = Ended | Hold | Idle | Outrun
_Seats = tuple[tuple[Seat, ...], tuple[Gate, ...]]


@dataclass(frozen=True, slots=True)
class _Claim:
    """A plan, the lease that was won for it, and what the lease ref pointed at before."""

    plan: Plan
    lease: Lease
    lease_seen: str | None
    # The dead or expired leases that were in the way: of the branch itself, and those of others
    # that had what it needs.
    taken_over: tuple[Lease, ...]
    # The answer that an earlier runner has left to be landed, and what it says.
    left: tuple[Deferral, Statement] | None
    # The lease on the branch, where the dialect has it there.
    stand: BranchLease | None = None


class Reconciler:
    """Carries one branch at a time through its steps. Safe to use from several threads."""

    def __init__(self, site: Site, started: Callable[[Started], None]) -> None:
        self._site = site
        self._started = started
        # That of the last look after a lease was won: where it is the same, there was nobody
        # whose lease or answer another look could find.
        self._solitude: int | None = None

    def reconcile(self, ref: str, control: Control) -> Outcome:
        """Do what the tip of a branch asks for, as far as it can be done now."""
        claim = self._claim(ref)
        if not isinstance(claim, _Claim):
            return claim
        outcome: Outcome | None = None
        run: Execution | None = None
        try:
            for lease in claim.taken_over:
                # Its script may have outlived it, and would work beside ours. Not before the lease
                # is ours: its holder would take what we did for the script's own failure.
                self._site.end_scripts(lease.run)
            if claim.left is not None:
                outcome = resume(self._site, claim.plan, claim.lease, *claim.left)
                return outcome
            if claim.plan.step is not None:
                outcome = take_step(self._site, claim.plan, claim.lease)
                return outcome
            run = Execution(
                self._site, claim.plan, claim.lease, control, self._started, claim.stand
            )
            outcome = run.carry_out()
        except BaseException as error:
            outcome = self._set_back(claim, run, error)
            if outcome is None:
                raise
        finally:
            if not isinstance(outcome, Pending):
                self._site.leases.forget(claim.lease)
        return outcome

    def _set_back(self, claim: _Claim, run: Execution | None, error: BaseException) -> Hold | None:
        lease = run.lease if run else claim.lease
        if claim.stand is not None:
            lease = claim.stand.given_up(lease)
        if as_unwritable(error, self._site.repo.common_dir) is not None:
            # It ends when there is room, however long that takes; a note could not be written.
            self._site.leases.release(lease, lease.trigger)
            return None
        if run is not None and run.has_run:
            return self._give_back(lease, error, setback.delay_after_run(lease.attempt), run.kept)
        # An attempt is one that reached the script.
        lease = replace(lease, attempt=lease.attempt - 1)
        delay = setback.delay_before_start(self._last_delay(claim))
        # A lease on the branch costs two commits each time: it is not taken again at once.
        passing = isinstance(error, WaitUntil) and claim.stand is None
        return self._give_back(lease, error, None if passing else delay)

    def _give_back(
        self, lease: Lease, error: BaseException, delay: float | None, kept: str = ""
    ) -> Hold | None:
        """Give the lease back after an error, with a note for all runners when to try again.

        None where that is as soon as may be, and where the note can't be written.
        """
        leases = self._site.leases
        if delay is not None and isinstance(error, Exception):
            reason = shorten(" ".join(told(error).split()), _ERROR_WIDTH)
            if kept:
                reason += f"; its work is kept under {kept}"
            with contextlib.suppress(Exception):
                deferral = leases.defer(lease, delay, reason, hold="error")
                return deferral_hold(deferral, leases.now())
        with contextlib.suppress(AynigError, OSError):
            leases.release(lease, lease.trigger)
        return None

    def _last_delay(self, claim: _Claim) -> float | None:
        seen = claim.lease_seen
        before = read_lease(self._site.repo, claim.lease.name, seen) if seen else None
        if not isinstance(before, Deferral) or before.trigger != claim.plan.event.origin:
            return None
        return before.seconds if before.hold == "error" else None

    def finish(self, pending: Pending) -> Outcome:
        """Try again to land an answer that could not land before; the lease is renewed first."""
        outcome: Outcome | None = None
        try:
            outcome = conclude_again(self._site, pending)
        except BaseException as error:
            delay = setback.delay_after_run(pending.plan.attempt)
            lease = self._standing(pending)
            if pending.stand is not None:
                lease = pending.stand.given_up(lease)
            outcome = self._give_back(lease, error, delay, pending.kept)
            if outcome is None:
                raise
        finally:
            if not isinstance(outcome, Pending):
                self._site.leases.forget(pending.lease)
        return outcome

    def _standing(self, pending: Pending) -> Lease:
        """The lease of an answer that waits, as it was last renewed."""
        return self._site.leases.standing(pending.lease) or pending.lease

    def abandon(self, pending: Pending) -> Finished:
        """Keep a pending answer under a rescue ref and give the lease back: we have to stop."""
        finished = abandon(self._site, pending)
        self._site.leases.forget(pending.lease)
        return finished

    def _claim(self, ref: str) -> _Claim | Hold | Idle | Outrun:
        """From the branch to the lease of it, all over again where something moved meanwhile.

        On a remote not at once: each claim is a push there, and whoever was faster may well be
        at the next state of the same task.
        """
        for _ in range(_CLAIMS):
            event = self._event(ref)
            if not isinstance(event, Event):
                return event
            planned = self._plan(event)
            if isinstance(planned, Hold):
                return planned
            plan, grounds = planned
            seen = grounds.lease_seen
            left = self._left(event, seen)
            if left is not None:
                plan = replace(plan, attempt=left[0].attempt)
            seats = self._seats(plan) if left is None else ((), ())
            if isinstance(seats, Hold):
                return replace(seats, deadline=plan.deadline)
            try:
                lease = self._acquire(plan, seen, left[0].run if left else new_run_id(), seats)
                if not isinstance(lease, Lease):
                    return lease
                stand = self._take_branch(plan, lease) if left is None else None
            except RefMoved:
                # Another runner was faster, or the branch moved: looking again tells which.
                if self._site.mirror is not None:
                    return Outrun()
                continue
            ousted = [seat.left for seat in seats[0] if seat.left is not None]
            if grounds.taken_over is not None:
                ousted.append(grounds.taken_over)
            return _Claim(plan, lease, seen, tuple(ousted), left, stand)
        return Hold("busy", "it moves faster than it can be taken", time.time() + FIRST_RECHECK)

    def _take_branch(self, plan: Plan, lease: Lease) -> BranchLease | None:
        """The lease on the branch as well, where the dialect has it there; raises RefMoved."""
        try:
            if plan.step is not None or not leases_on_branch(self._site, plan.event):
                return None
            return take(self._site, plan, lease)
        except BaseException:
            self._site.leases.forget(lease)
            self._site.leases.release(lease, plan.event.oid)
            raise

    def _event(self, ref: str) -> Event | Hold | Idle:
        oid = self._site.repo.read_ref(ref)
        if oid is None:
            return Idle()
        broken = broken_hold(self._site, ref)
        if broken is not None:
            # It may be mended as it was, which no change of refs would tell of.
            return replace(broken, until=time.time() + FIRST_RECHECK)
        try:
            event = read_event(self._site.repo, ref, oid, self._site.read)
        except RepositoryError as error:
            return unreadable_hold(self._site, error)
        if event is None:
            return Idle()
        if read_working(event.statement, event.time) is not None:
            return self._after_working(event)
        return state_hold(event) or event

    def _after_working(self, event: Event) -> Event | Hold:
        """A lease on the branch is waited for; one that ran out is marked, and that is the tip."""
        try:
            return resolve_working(self._site, event)
        except ConfigError as error:
            return Hold("bad-config", error.advice)
        except RefMoved as error:
            return Hold("busy", str(error), time.time() + FIRST_RECHECK)
        except WaitUntil as error:
            return Hold(hold_word(error), told(error), time.time() + FIRST_RECHECK)

    def _plan(self, event: Event) -> tuple[Plan, Grounds] | Hold:
        try:
            grounds = gather(self._site, event)
        except ConfigError as error:
            return Hold("bad-config", error.advice)
        except RepositoryError as error:
            return unreadable_hold(self._site, error)
        plan = make_plan(event, grounds.facts)
        return plan if isinstance(plan, Hold) else (plan, grounds)

    def _left(self, event: Event, seen: str | None) -> tuple[Deferral, Statement] | None:
        before = read_lease(self._site.repo, lease_name(event.ref), seen) if seen else None
        if not isinstance(before, Deferral) or before.trigger != event.oid:
            return None
        statement = left_answer(self._site, before)
        return (before, statement) if statement is not None else None

    def _seats(self, plan: Plan) -> _Seats | Hold:
        """What the run needs beside its lease; nothing for what no script is started for."""
        if plan.step is not None:
            return (), ()
        site, event = self._site, plan.event
        limits = limits_of_spending(plan.workflow, plan.settings, event.statement)
        gates = gates_of(site.repo, limits)
        if gates:
            # Again, now that any other start shows by the gates.
            hold = hold_of(site.ledger, event, limits, site.leases.now(), afresh=True)
            if hold is not None:
                return hold
        places = wanted(site, event, plan.workflow, plan.settings, plan.thread)
        seats = find_seats(site, event.branch, places)
        if isinstance(seats, Hold):
            return seats
        if any(place.word == "breaker" for place in places):
            # Who tried before us may have failed a moment ago, as his place is free.
            hold = state_hold_afresh(site, event, plan.settings)
            if hold is not None:
                return hold
        return seats, gates

    def _acquire(self, plan: Plan, seen: str | None, run: str, seats: _Seats) -> Lease | Hold:
        event = plan.event
        try:
            lease = self._site.leases.acquire(
                event,
                seen,
                run,
                plan.attempt,
                plan.past,
                plan.spent,
                charged=plan.agent.name if plan.agent is not None else "",
                seats=seats[0],
                gates=seats[1],
            )
        except WaitUntil as error:
            kind = Barred if isinstance(error, _BARS) else Hold
            return kind(hold_word(error), told(error), time.time() + FIRST_RECHECK)
        hold: Hold | None = None
        try:
            hold = self._forestalled(event, seen)
        except BaseException:
            self._site.leases.forget(lease)
            with contextlib.suppress(AynigError, OSError):
                self._site.leases.release(lease, event.oid)
            raise
        if hold is None:
            return lease
        self._site.leases.forget(lease)
        self._site.leases.release(lease, event.oid)
        return hold

    def _forestalled(self, event: Event, seen: str | None) -> Hold | None:
        """Is the same commit running on another branch, or was it answered there by now?

        All runners write their lease first and look for others' then, so of two that are after
        the same commit at least one sees the other and steps back. A lease that is gone by the
        time it is looked for has left an answer, if anything: answers are looked for last.
        """
        site = self._site
        self._look_for_copies(event, seen)
        solitude = site.store.solitude()
        # Runners that keep their leases on branches write no notes for us.
        alone = solitude is not None and solitude == self._solitude
        if not alone or event.statement.dialect == DWP.name:
            site.scan.look()
            self._solitude = solitude
        others = site.scan.sharing(event.oid) - {event.ref}
        for ref in others:
            other = site.leases.read(ref)
            if not isinstance(other, Lease) or other.trigger != event.oid:
                continue
            if site.leases.is_live(other, event.oid) or not self._revoke(other, event):
                return copy_hold(ref, time.time())
        if others:
            site.scan.look()
        answer = answered_by(site, event)
        return answered_hold(event, answer) if answer else None

    def _revoke(self, lease: Lease, event: Event) -> bool:
        """End a dead or expired lease of the same commit on another branch; False if it lives.

        Its holder may only have been away: he would find it as he left it, and answer there.
        """
        try:
            self._site.leases.defer(lease, 0.0, f"the same commit is run on {event.branch}")
        except LeaseLost:
            return False
        self._site.end_scripts(lease.run)
        return True

    def _look_for_copies(self, event: Event, seen: str | None) -> None:
        """Ask a remote again for branches at the same commit, now that the lease is there.

        Not where the lease ref shows that the commit was written to this branch as an answer: all
        runners then leave it to this branch (`facts.owner`). A lease that was given back leaves
        the same mark, and only an answer can have been written as one.
        """
        mirror, scan = self._site.mirror, self._site.scan
        if mirror is None:
            return
        if seen != event.oid or event.statement.value("answers") is None:
            mirror.sync(leases=False)
            scan.look()
        if scan.sharing(event.oid) - {event.ref}:
            mirror.sync(leases=True)
