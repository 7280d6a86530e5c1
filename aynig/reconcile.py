"""The life of an event, in order: read this first.

    ref change -> event -> plan -> lease -> run -> answer -> the branch moves

Each arrow is a frozen value. Only refs and commits survive a restart, so each step may be cut off
anywhere and repeated from the start: the branch and its lease say what is true.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from aynig.answer import Left, Reply, asks_for_retry, judge, outcome, read_reply
from aynig.dialects import by_name
from aynig.durations import parse_duration
from aynig.ending import Finished, Pending, abandon, conclude, conclude_again
from aynig.environment import (
    fields_with_repeats,
    script_context,
    script_environment,
    write_inputs,
)
from aynig.errors import (
    AynigError,
    ConfigError,
    LeaseLost,
    RefBusy,
    RefMoved,
    RepositoryError,
    Unwritable,
    WaitUntil,
    as_unwritable,
    told,
)
from aynig.executors import Control, Job
from aynig.executors.output import tail_of
from aynig.facts import answered_by, gather, named_commit
from aynig.git.history import last_state_commit
from aynig.git.worktree import Harvest, Worktree
from aynig.lease import RENEWALS, read_lease
from aynig.model import RESCUES, Deferral, Event, Hold, Lease, Plan, RunResult, Statement
from aynig.plan import (
    FIRST_RECHECK,
    answered_hold,
    copy_hold,
    deferral_hold,
    make_plan,
    state_hold,
)
from aynig.policies import deferral as retries
from aynig.policies import setback
from aynig.processes import kill_marked
from aynig.rescue import rescue_work
from aynig.respond import write_answer
from aynig.runs import new_run_id
from aynig.scan import read_event
from aynig.site import Site
from aynig.text import shorten

# What the answer says beside the script's own words: a subject, the end of the output, testimony.
# It has to be within the limits of a message as well, or nobody could read it.
_OWN_BYTES = 32 * 1024
_OWN_TRAILERS = 16
# Of an error, so that the name of a rescue ref has room behind it.
_ERROR_WIDTH = 120
# How often a branch that moves under our hands is looked at again before others get their turn.
_CLAIMS = 5


@dataclass(frozen=True, slots=True)
class Started:
    """Told when a script is about to start."""

    plan: Plan
    lease: Lease


@dataclass(frozen=True, slots=True)
class Idle:
    """The branch carries no state, is gone, or moved on between two steps: nothing to say."""


Outcome = Finished | Pending | Hold | Idle


@dataclass(frozen=True, slots=True)
class _Claim:
    """A plan, the lease that was won for it, and what the lease ref pointed at before."""

    plan: Plan
    lease: Lease
    lease_seen: str | None


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
        run: _Run | None = None
        try:
            run = _Run(self._site, claim.plan, claim.lease, control, self._started)
            outcome = run.carry_out()
        except BaseException as error:
            outcome = self._set_back(claim, run, error)
            if outcome is None:
                raise
        finally:
            if not isinstance(outcome, Pending):
                self._site.leases.forget(claim.lease)
        return outcome

    def _set_back(self, claim: _Claim, run: _Run | None, error: BaseException) -> Hold | None:
        lease = run.lease if run else claim.lease
        if as_unwritable(error, self._site.repo.common_dir) is not None:
            # It ends when there is room, however long that takes; a note could not be written.
            self._site.leases.release(lease, lease.trigger)
            return None
        if run is not None and run.has_run:
            return self._give_back(lease, error, setback.delay_after_run(lease.attempt), run.kept)
        # An attempt is one that reached the script.
        lease = replace(lease, attempt=lease.attempt - 1)
        delay = setback.delay_before_start(self._last_delay(claim))
        return self._give_back(lease, error, None if isinstance(error, WaitUntil) else delay)

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
                return deferral_hold(deferral, time.time())
        with contextlib.suppress(AynigError, OSError):
            leases.release(lease, lease.trigger)
        return None

    def _last_delay(self, claim: _Claim) -> float | None:
        seen = claim.lease_seen
        before = read_lease(self._site.repo, claim.lease.name, seen) if seen else None
        if not isinstance(before, Deferral) or before.trigger != claim.plan.event.oid:
            return None
        return before.seconds if before.hold == "error" else None

    def finish(self, pending: Pending) -> Outcome:
        """Try again to land an answer that could not land before; the lease is renewed first."""
        outcome: Outcome | None = None
        try:
            outcome = conclude_again(self._site, pending)
        except BaseException as error:
            delay = setback.delay_after_run(pending.plan.attempt)
            outcome = self._give_back(self._standing(pending), error, delay, pending.kept)
            if outcome is None:
                raise
        finally:
            if not isinstance(outcome, Pending):
                self._site.leases.forget(pending.lease)
        return outcome

    def _standing(self, pending: Pending) -> Lease:
        """The lease of an answer that waits, as it was last renewed."""
        found = self._site.leases.read(pending.plan.event.ref)
        if isinstance(found, Lease) and found.run == pending.lease.run:
            return found
        return pending.lease

    def abandon(self, pending: Pending) -> Finished:
        """Keep a pending answer under a rescue ref and give the lease back: we have to stop."""
        finished = abandon(self._site, pending)
        self._site.leases.forget(pending.lease)
        return finished

    def _claim(self, ref: str) -> _Claim | Hold | Idle:
        """From the branch to the lease of it, all over again where something moved meanwhile."""
        for _ in range(_CLAIMS):
            event = self._event(ref)
            if not isinstance(event, Event):
                return event
            planned = self._plan(event)
            if isinstance(planned, Hold):
                return planned
            plan, seen = planned
            try:
                lease = self._acquire(plan, seen)
            except RefMoved:
                # Another runner was faster, or the branch moved: looking again tells which.
                continue
            return _Claim(plan, lease, seen) if isinstance(lease, Lease) else lease
        return Hold("busy", "it moves faster than it can be taken", time.time() + FIRST_RECHECK)

    def _event(self, ref: str) -> Event | Hold | Idle:
        oid = self._site.repo.read_ref(ref)
        if oid is None:
            return Idle()
        try:
            event = read_event(self._site.repo, ref, oid, self._site.read)
        except RepositoryError as error:
            return Hold("unreadable", error.advice)
        if event is None:
            return Idle()
        return state_hold(event) or event

    def _plan(self, event: Event) -> tuple[Plan, str | None] | Hold:
        try:
            grounds = gather(self._site, event)
        except ConfigError as error:
            return Hold("bad-config", error.advice)
        except RepositoryError as error:
            return Hold("unreadable", error.advice)
        plan = make_plan(event, grounds.facts)
        if isinstance(plan, Plan) and grounds.taken_over is not None:
            # Its script may have outlived it, and would work beside ours.
            kill_marked(grounds.taken_over.run)
        return plan if isinstance(plan, Hold) else (plan, grounds.lease_seen)

    def _acquire(self, plan: Plan, seen: str | None) -> Lease | Hold:
        event = plan.event
        try:
            lease = self._site.leases.acquire(event, seen, new_run_id(), plan.attempt)
        except RefBusy as error:
            return Hold("busy", str(error), time.time() + FIRST_RECHECK)
        hold: Hold | None = None
        try:
            hold = self._forestalled(event)
        except BaseException:
            self._site.leases.forget(lease)
            raise
        if hold is None:
            return lease
        self._site.leases.forget(lease)
        self._site.leases.release(lease, event.oid)
        return hold

    def _forestalled(self, event: Event) -> Hold | None:
        """Is the same commit running on another branch, or was it answered there by now?

        All runners write their lease first and look for others' then, so of two that are after
        the same commit at least one sees the other and steps back. A lease that is gone by the
        time it is looked for has left an answer, if anything: answers are looked for last.
        """
        site = self._site
        solitude = site.store.solitude()
        if solitude is None or solitude != self._solitude:
            site.scan.look()
            self._solitude = solitude
        others = site.scan.sharing(event.oid) - {event.ref}
        for ref in others:
            other = site.leases.read(ref)
            if isinstance(other, Lease) and site.leases.is_live(other, event.oid):
                return copy_hold(ref, time.time())
        if others:
            site.scan.look()
        answer = answered_by(site, event)
        return answered_hold(event, answer) if answer else None


class _Run:
    """One run under one lease, from the worktree to the answer."""

    def __init__(
        self,
        site: Site,
        plan: Plan,
        lease: Lease,
        control: Control,
        started: Callable[[Started], None],
    ) -> None:
        self._site = site
        self._plan = plan
        self.lease = lease
        self._control = control
        self._started = started
        self._folder = site.archive.create(lease.run)
        # May the script have been started?
        self.has_run = False
        # The rescue ref of what it left, where an error kept it from being answered.
        self.kept = ""

    def carry_out(self) -> Outcome:
        self._started(Started(self._plan, self.lease))
        event = self._plan.event
        with self._site.pool.lend(event.oid, event.tree, self.lease.run) as worktree:
            with self._site.guard.watching(self.lease.run) as blame:
                result = self._execute(worktree)
            # Not before what it may have set for all git commands is put back: ours obey it too.
            harvest, fault = self._harvest(worktree)
        fault = "; ".join([*([fault] if fault else []), *blame])
        try:
            return self._conclude(result, harvest, fault)
        except Exception:
            with contextlib.suppress(Exception):
                ref = RESCUES + self.lease.run
                self.kept = ref if self._site.repo.read_ref(ref) else self._rescue(harvest)
            raise

    def _conclude(self, result: RunResult, harvest: Harvest | None, fault: str) -> Outcome:
        left = self._left(harvest, fault)
        if result.stopped in ("drained", "canceled", "lease-lost"):
            return self._give_up(result, harvest)
        if asks_for_retry(result, left):
            deferred = self._defer(result, left, harvest)
            if deferred is not None:
                return deferred
        return self._answer(result, left, harvest)

    # --- run ---------------------------------------------------------------------------------

    def _execute(self, worktree: Worktree) -> RunResult:
        plan, site = self._plan, self._site
        write_inputs(plan, self._folder, self._context())
        configured = site.repo.config_value("user.name") and site.repo.config_value("user.email")
        environment = script_environment(
            plan,
            self._folder,
            outside=os.environ,
            ceiling=str(worktree.path.parent),
            log_level=site.log_level,
            identity=None if configured else site.repo.identity(),
        )
        self._control.set_tick(self._renew, self.lease.seconds * RENEWALS)
        job = Job(
            program=plan.script.program,
            cwd=str(worktree.path),
            env=environment,
            output=self._folder.output,
            output_limit=site.settings.output_limit,
            timeout=plan.timeout,
            grace=site.settings.grace,
            run=self.lease.run,
        )
        self.has_run = True
        try:
            return site.executor.execute(job, self._control)
        except WaitUntil:
            self.has_run = False
            raise

    def _renew(self) -> None:
        self.lease = self._site.leases.renew(self.lease)

    def _context(self) -> dict[str, object]:
        event, site = self._plan.event, self._site
        parents = site.repo.commit(event.oid).parents
        previous = last_state_commit(site.repo, parents[0], site.read) if parents else None
        return script_context(
            self._plan,
            self._folder,
            repository=str(site.repo.work_tree or site.repo.common_dir),
            parents=parents,
            previous=_as_context(previous[0].oid, previous[1]) if previous else None,
            dependencies=self._dependencies(),
        )

    def _dependencies(self) -> list[dict[str, object]]:
        """What finished dependencies hand over: the last state commit of each."""
        site, found = self._site, []
        for name in self._plan.event.statement.values("depends-on"):
            oid = named_commit(site.repo, name)
            last = last_state_commit(site.repo, oid, site.read) if oid else None
            if last is not None:
                found.append({"name": name, **_as_context(last[0].oid, last[1])})
        return found

    # --- what it left --------------------------------------------------------------------------

    def _harvest(self, worktree: Worktree) -> tuple[Harvest | None, str]:
        event = self._plan.event
        try:
            harvest = worktree.harvest(event.oid, event.tree)
        except Exception as error:
            # Whatever it was: the worktree is lent to another script next.
            worktree.keep(self._folder.worktree)
            full = as_unwritable(error, self._site.repo.common_dir / "objects")
            if full is not None:
                # No fault of the script's: it is started again when there is room.
                detail = f"{full}; what it changed is in {self._folder.worktree}"
                raise Unwritable(detail, hint=full.hint) from error
            return None, told(error)
        if not self._site.repo.descends(harvest.head, event.oid):
            return harvest, "the script left commits that do not descend from the one it was given"
        return harvest, ""

    def _left(self, harvest: Harvest | None, fault: str) -> Left:
        own: Statement | None = None
        if harvest is not None and not fault and harvest.head != self._plan.event.oid:
            own = self._site.read(self._site.repo.commit(harvest.head).message)
        reply, excess = self._reply()
        return Left(own, reply, fault or excess)

    def _reply(self) -> tuple[Reply, str]:
        """What the answer file says, and why it can't be an answer."""
        settings = self._site.settings
        most = max(settings.message_limit - _OWN_BYTES, settings.message_limit // 2)
        try:
            raw = self._folder.read_response(most + 1)
        except OSError as error:
            return Reply(), f"its answer can't be read: {error.strerror or error}"
        if raw is None:
            return Reply(), ""
        if len(raw) > most:
            return Reply(), f"its answer is longer than {most} bytes"
        reply = read_reply(raw, by_name(self._plan.event.statement.dialect))
        count, room = len(reply.fields) + len(reply.trailers), settings.trailer_limit
        if count > max(room - _OWN_TRAILERS, room // 2):
            return Reply(), f"its answer has {count} trailers: too many for one message"
        return reply, ""

    # --- answer --------------------------------------------------------------------------------

    def _answer(self, result: RunResult, left: Left, harvest: Harvest | None) -> Outcome:
        verdict = judge(self._plan, result, left)
        kept = self._folder.worktree
        write = functools.partial(
            write_answer,
            self._site.repo,
            self._site.store,
            self._plan,
            self.lease,
            result,
            verdict,
            harvest,
            executed_by=self._site.executed_by,
            output="" if verdict.succeeded else self._last_words(),
            kept=f"aynig/runs/{kept.parent.name}/{kept.name}" if kept.exists() else "",
        )
        landed = conclude(self._site, Pending(self._plan, self.lease, result, write))
        if isinstance(landed, Pending):
            # The script is over, though its lease is held on: people look for this.
            self._folder.conclude(
                started=result.started,
                ended=time.time(),
                exit=result.exit,
                outcome=outcome(result, left.fault),
            )
        return landed

    def _last_words(self) -> str:
        # The script could reach the file: what it made of it must not cost it the answer.
        with contextlib.suppress(OSError):
            return tail_of(self._folder.output)
        return ""

    def _defer(self, result: RunResult, left: Left, harvest: Harvest | None) -> Finished | None:
        """Give the task back for a later retry; None where it has asked often enough."""
        verdict = retries.judge(self._plan.attempt, _asked_delay(left))
        if verdict.delay is None:
            return None
        kept = self._rescue(harvest)
        reason = left.reply.subject or "exit 75"
        try:
            deferral = self._site.leases.defer(self.lease, verdict.delay, " ".join(reason.split()))
        except LeaseLost as error:
            return Finished(self._plan, self.lease, result, None, "refused", str(error))
        return Finished(self._plan, self.lease, result, None, "deferred", kept, deferral)

    def _give_up(self, result: RunResult, harvest: Harvest | None) -> Finished:
        """The run was ended from outside: its work is kept, the lease goes back, no answer."""
        kept = self._rescue(harvest)
        self._site.leases.release(self.lease, self._plan.event.oid)
        ending = "drained" if result.stopped == "drained" else "refused"
        detail = result.stopped + (f"; its work is kept under {kept}" if kept else "")
        return Finished(self._plan, self.lease, result, None, ending, detail)

    def _rescue(self, harvest: Harvest | None) -> str:
        event = self._plan.event
        if harvest is None or (harvest.head == event.oid and not harvest.changed):
            return ""
        return rescue_work(self._site.repo, self._site.store, self.lease.run, event.branch, harvest)


def _asked_delay(left: Left) -> float | None:
    for key, value in left.reply.fields:
        if key == "retry-after":
            with contextlib.suppress(ValueError):
                return parse_duration(value)
    return None


def _as_context(oid: str, statement: Statement) -> dict[str, object]:
    return {
        "oid": oid,
        "state": statement.state,
        "subject": statement.subject,
        "body": statement.body,
        "fields": fields_with_repeats(statement),
    }
