"""One run under one lease, from the worktree to the answer."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from aynig.answer import (
    Findings,
    Left,
    ending_of,
    failure_text,
    judge,
    outcome,
)
from aynig.branchlease import ADVANCED, OURS, BranchLease
from aynig.briefing import context_of, feedback_of
from aynig.conduct import misconduct
from aynig.ending import Ended, Finished, Pending, conclude, set_back_if_lost
from aynig.environment import (
    circumstances,
    script_environment,
    write_inputs,
)
from aynig.errors import (
    RefMoved,
    RunFault,
    Unwritable,
    WaitUntil,
    as_unwritable,
    told,
)
from aynig.executors import Control, Job
from aynig.executors.output import tail_of
from aynig.fanout import Ask, keeping, read_ask, told_children, with_children
from aynig.git.worktree import Harvest
from aynig.iterations import iteration_of, loop_facts
from aynig.lease import RENEWALS
from aynig.lost import give_up_lost, is_lost
from aynig.model import (
    RESCUES,
    Attempt,
    Deferral,
    Field,
    Lease,
    Plan,
    RunResult,
    Statement,
)
from aynig.onbranch import read_working
from aynig.oversight import fault_of_answer, identity_of, ruled
from aynig.policies import retries
from aynig.policies.crashes import failures_in
from aynig.prompts import prompted
from aynig.pulse import Pulse
from aynig.renewal import Renewal
from aynig.reopening import Reopening, read_reopening, told_reopening, with_reopening
from aynig.rescue import rescue_work
from aynig.respond import Answer, write_answer
from aynig.responsefile import asked_delay, reply_of, said_in_vain
from aynig.site import Site
from aynig.spending import Allowance
from aynig.text import escape, shorten
from aynig.thread import unique
from aynig.usage import NOTHING, fields_of, read_usage, total
from aynig.verify import Candidate, demand_commitments, verify
from aynig.workflow import DEADLINE, OVER_BUDGET, TEMPFAIL, VERIFICATION, Verification
from aynig.workplace import Workplace, workplace

# Of a line that tells which check failed.
_TOLD_WIDTH = 2000
# Why a run was ended, where that is no failure of its own.
_GIVEN_UP = ("drained", "moved", "canceled", "lease-lost")


@dataclass(frozen=True, slots=True)
class Started:
    """Told when a script is about to start."""

    plan: Plan
    lease: Lease
    # Whether the run goes on although the branch has moved there; None: it never does.
    keeps: Callable[[str | None], bool] | None = None


class Execution:
    """One run under one lease, from the worktree to the answer."""

    def __init__(
        self,
        site: Site,
        plan: Plan,
        lease: Lease,
        control: Control,
        started: Callable[[Started], None],
        stand: BranchLease | None = None,
    ) -> None:
        self._site = site
        self._plan = stand.plan if stand is not None else plan
        # The lease on the branch, where the dialect has it there.
        self._stand = stand
        # What the script is given, and its commits descend from.
        self._base = self._plan.event
        self.lease = lease
        self._control = control
        self._started = started
        self._folder = site.archive.create(lease.run)
        # May the script have been started?
        self.has_run = False
        # The children that the script asked for.
        self._ask = Ask()
        self._reopening: Reopening | None = None
        # What it tried to do to its branch, and was refused.
        self._tried: tuple[str, ...] = ()
        # The rescue ref of what it left, where an error kept it from being answered.
        self.kept = ""
        self._renewal = Renewal(
            lease,
            self._renew,
            lambda: control.stop("lease-lost"),
            aside=site.mirror is not None,
        )
        self._allowance = Allowance(site.ledger, self._plan, lease.name)
        self._pulse = Pulse(
            self._renewal,
            stand.interval if stand is not None else lease.seconds * RENEWALS,
            self._allowance,
            lambda: control.stop(OVER_BUDGET, site.settings.grace),
            clock=site.leases.clock,
        )

    def carry_out(self) -> Ended:
        stand = self._stand
        # Nothing is told of a run that does not begin.
        self._mind_commitments()
        self._started(Started(self._plan, self.lease, stand.keeps if stand is not None else None))
        fenced = stand is None
        with workplace(
            self._site, self._plan, self.lease.run, self._folder, fenced=fenced
        ) as place:
            with self._site.guard.watching(self.lease.run) as blame:
                result = self._execute(place)
            # Not before what it may have set for all git commands is put back: ours obey it too.
            harvest, fault = self._harvest(place)
            self._tried = place.tried()
        # What was told there is here by now.
        self._pulse.watch(self._folder.usage)
        fault = "; ".join([*([fault] if fault else []), *blame])
        try:
            return self._conclude(result, harvest, fault)
        except Exception:
            with contextlib.suppress(Exception):
                ref = RESCUES + self.lease.run
                self.kept = ref if self._site.repo.read_ref(ref) else self._rescue(harvest)
            raise

    def _conclude(self, result: RunResult, harvest: Harvest | None, fault: str) -> Ended:
        if self._stand is not None:
            harvest, fault, tip = self._look_at_branch(self._stand, harvest, fault)
            if tip is not None:
                return self._advanced(tip, result, harvest)
        left = self._left(harvest, fault)
        if result.stopped in _GIVEN_UP:
            return self._give_up(result, harvest)
        findings = self._findings(result, left, harvest)
        if findings.stopped in _GIVEN_UP:
            return self._give_up(replace(result, stopped=findings.stopped), harvest)
        if ending_of(result, left, findings):
            deferred = self._defer(result, left, findings, harvest)
            if deferred is not None:
                return deferred
        return self._answer(result, left, findings, harvest)

    def _findings(self, result: RunResult, left: Left, harvest: Harvest | None) -> Findings:
        """What the run did and did not do, whatever it says of itself."""
        site, plan = self._site, self._plan
        found = Findings(tried=self._tried)
        tree = harvest.tree if harvest is not None else plan.event.tree
        if not ending_of(result, left, found) or left.own is not None:
            found = replace(found, fault=misconduct(site.repo, site.read, plan, harvest, left))
        good = not ending_of(result, left, found)
        if good and plan.settings.verify is not None:
            found, good = self._verified(plan.settings.verify, harvest, found)
        found = self._with_spending(found, left)
        if not good:
            found = replace(found, last_line=_last_line(self._last_words()))
        asked = prompted(site, plan)
        iteration = iteration_of(site.repo, asked, left, self._folder, tree, good=good)
        return replace(found, iteration=iteration)

    def _verified(
        self, settings: Verification, harvest: Harvest | None, found: Findings
    ) -> tuple[Findings, bool]:
        """The verdict of the checks on what the run has left, and whether they were passed."""
        event = self._plan.event
        candidate = Candidate(
            run=self.lease.run,
            branch=event.branch,
            state=event.state,
            head=harvest.head if harvest is not None else event.oid,
            tree=harvest.tree if harvest is not None else event.tree,
        )
        try:
            judged = verify(self._site, settings, candidate, self._plan.trusted, self._control)
        finally:
            self.lease = self._renewal.settled()
        verdict = judged.verdict
        told = tuple(Field("judged-by", digest) for digest in judged.judged_by)
        told += tuple(
            Field("failed-scenario", shorten(escape(line), _TOLD_WIDTH)) for line in verdict.told
        )
        found = replace(
            found,
            verified=verdict.score,
            unfit=verdict.unfit,
            enough=verdict.enough,
            told=told,
            stopped=judged.stopped,
            tried=unique([*found.tried, *judged.tried]),
        )
        return found, verdict.enough

    def _with_spending(self, found: Findings, left: Left) -> Findings:
        """What the run has cost, with the attempts before it."""
        tally = self._pulse.last_usage()
        said, faults = read_usage(left.reply.fields)
        before, _ = read_usage(self._plan.spent)
        spent = before + self._allowance.completed(total(tally.usage, said))
        return replace(
            found,
            spent=fields_of(spent),
            unbelieved=(*faults, *tally.told()),
            overspent=self._pulse.overspent,
        )

    # --- run ---------------------------------------------------------------------------------

    def _mind_commitments(self) -> None:
        """What is to be judged by hidden scenarios begins when the hash of them is published."""
        settings = self._plan.settings.verify
        if settings is not None and settings.committed:
            demand_commitments(self._site, settings, self._plan.trusted, self.lease.run)

    def _execute(self, place: Workplace) -> RunResult:
        plan, site = prompted(self._site, self._plan), self._site
        script = place.script(plan.script)
        context = context_of(site, self._plan, self._folder, place.repository)
        for folder in place.folders:
            write_inputs(plan, folder, context)
        configured = site.repo.config_value("user.name") and site.repo.config_value("user.email")
        environment = script_environment(
            replace(plan, script=script),
            place.folder,
            outside=os.environ,
            ceiling=str(place.path.parent),
            log_level=site.log_level,
            identity=identity_of(plan) or (None if configured else site.repo.identity()),
            told=circumstances(feedback_of(plan), loop_facts(site.repo, plan)),
        )
        pulse = self._pulse
        pulse.watch(place.folder.usage)
        self._control.set_tick(pulse.tick, pulse.interval)
        job = Job(
            program=script.program,
            argv=script.argv,
            cwd=str(place.path),
            env=place.environment(environment),
            output=self._folder.output,
            output_limit=site.settings.output_limit,
            timeout=plan.timeout,
            grace=site.settings.grace,
            run=self.lease.run,
        )
        self.has_run = True
        try:
            result = site.executor.execute(job, self._control)
            if result.stopped == "timeout" and plan.by_deadline:
                result = replace(result, stopped=DEADLINE)
            return result
        except WaitUntil:
            self.has_run = False
            raise
        finally:
            self.lease = self._renewal.settled()

    def _renew(self, lease: Lease) -> Lease:
        # What is spent counts for everybody from now on, also where this runner dies.
        usage = self._pulse.tally.usage
        if usage != NOTHING:
            before, _ = read_usage(self._plan.spent)
            lease = replace(lease, spent=fields_of(before + usage))
        if self._stand is None:
            return self._site.leases.renew(lease)
        self._stand.renew()
        self._plan = self._stand.plan
        # Others tell by this one whether what it shares with them is free.
        return self._site.leases.renew(lease) if lease.slots else lease

    # --- what it left --------------------------------------------------------------------------

    def _harvest(self, place: Workplace) -> tuple[Harvest | None, str]:
        event = self._base
        try:
            harvest = place.harvest(event.oid, event.tree)
        except Exception as error:
            # Whatever it was: the worktree is lent to another script next.
            place.keep(self._folder.worktree)
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
            if self._stand is not None and own is not None and read_working(own, 0) is not None:
                # The script has renewed its lease: that is no answer.
                own = None
        reply, excess = reply_of(self._site.settings, self._folder, self._plan.event.statement)
        self._ask = read_ask(self._site, self._plan.event, self._folder)
        left = Left(own, reply, fault or excess or self._ask.fault)
        self._reopening = read_reopening(self._site, self._plan, left)
        wrong = self._reopening.fault if self._reopening is not None else ""
        return replace(left, fault=left.fault or fault_of_answer(self._plan, left) or wrong)

    # --- the branch of a lease that lies on it ---------------------------------------------------

    def _look_at_branch(
        self, stand: BranchLease, harvest: Harvest | None, fault: str
    ) -> tuple[Harvest | None, str, str | None]:
        """What the script left, as it stands on the branch now, and what is wrong with it.

        The third is the tip where the branch has been moved on: that is the answer then.
        """
        tip = stand.tip()
        found = stand.judge(tip)
        if tip is None or found not in (OURS, ADVANCED):
            return harvest, fault, None
        if found == ADVANCED and not self._goes_beyond(harvest, tip):
            return harvest, fault, tip
        stand.adopt(tip)
        self._plan = stand.plan
        if harvest is not None and not fault:
            try:
                harvest = stand.caught_up(harvest)
            except RunFault as error:
                fault = told(error)
        return harvest, fault, None

    def _goes_beyond(self, harvest: Harvest | None, tip: str) -> bool:
        """Did the script move the branch half-way only, to a commit without a state?"""
        repo = self._site.repo
        if self._site.read(repo.commit(tip).message) is not None:
            return False
        return harvest is not None and harvest.head != tip and repo.descends(harvest.head, tip)

    def _advanced(self, tip: str, result: RunResult, harvest: Harvest | None) -> Finished:
        """The branch has its answer, and nothing is added; what it does not have is kept."""
        site, event = self._site, self._plan.event
        kept = ""
        if harvest is not None and (harvest.changed or not site.repo.descends(tip, harvest.head)):
            kept = rescue_work(site.repo, site.store, self.lease.run, event.branch, harvest)
        statement = site.read(site.repo.commit(tip).message)
        state = statement.state if statement is not None else "idle"
        subject = statement.subject if statement is not None else "the branch was taken back"
        site.leases.release(self.lease, tip)
        answer = Answer(tip, state, subject, kept)
        return Finished(self._plan, self.lease, result, answer, "answered")

    # --- answer --------------------------------------------------------------------------------

    def _answer(
        self, result: RunResult, left: Left, findings: Findings, harvest: Harvest | None
    ) -> Ended:
        verdict = told_children(judge(self._plan, result, left, findings), self._ask)
        verdict = told_reopening(self._plan, verdict, self._reopening, left)
        verdict = ruled(self._site, self._plan, verdict, harvest)
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
            output="" if verdict.succeeded and not verdict.to_person else self._last_words(),
            kept=f"aynig/runs/{kept.parent.name}/{kept.name}" if kept.exists() else "",
        )
        write_all = with_children(self._site, self._ask, verdict, write)
        write_all = with_reopening(self._site, self._plan, verdict, self._reopening, write_all)
        write_all = keeping(self._site, self.lease.run, self._plan.event.ref, write_all)
        pending = Pending(self._plan, self.lease, result, write_all, stand=self._stand)
        landed = conclude(self._site, pending)
        if isinstance(landed, Pending):
            # The script is over, though its lease is held on: people look for this.
            self._folder.conclude(
                started=result.started,
                ended=time.time(),
                exit=result.exit,
                outcome=outcome(result, left.fault),
                hold=landed.word,
                waits=landed.detail,
            )
        return landed

    def _last_words(self) -> str:
        # The script could reach the file: what it made of it must not cost it the answer.
        with contextlib.suppress(OSError):
            return tail_of(self._folder.output)
        return ""

    def _defer(
        self, result: RunResult, left: Left, findings: Findings, harvest: Harvest | None
    ) -> Finished | None:
        """Give the task back for another attempt; None where there is none any more."""
        plan = self._plan
        if self._stand is None and is_lost(self._site, plan.event.ref, plan.event.oid):
            # There is no branch to give it back to.
            return None
        ending = ending_of(result, left, findings)
        verdict = retries.judge(
            plan.settings.retries,
            ending,
            failures_in(plan.past),
            asked_delay(left),
            retries.chance_of(plan.event.origin, plan.attempt),
        )
        if verdict.delay is None or (ending == VERIFICATION and plan.settings.loop is not None):
            # Of a loop, the next iteration is the next try.
            return None
        kept = self._rescue(harvest)
        changed = harvest is not None and harvest.tree != plan.event.tree
        text = failure_text(result, left, findings)
        if ending == TEMPFAIL and left.reply.subject:
            text = left.reply.subject
        reason = " ".join(text.split())
        ended = result.started + result.duration
        attempt = Attempt(ending, changed, kept, ended, reason)
        told = [field.value for field in findings.told if field.key == "failed-scenario"]
        told += [f"it said {key}, which is not for it to say" for key in said_in_vain(left)]
        told += [f"it tried to {words}, which was refused" for words in findings.tried]
        attempt = replace(attempt, text="\n".join([attempt.text, *told]))
        past = (*self.lease.past, attempt)
        self.lease = replace(self.lease, past=past, spent=findings.spent)
        try:
            deferral = self._put_off(verdict.delay, reason)
        except RefMoved as error:
            set_back_if_lost(self._site, self._plan, self.lease, str(error))
            return Finished(self._plan, self.lease, result, None, "refused", str(error))
        return Finished(self._plan, self.lease, result, None, "deferred", kept, deferral)

    def _put_off(self, delay: float, reason: str) -> Deferral:
        """Raises RefMoved where the branch or its lease is somebody else's by now."""
        stand = self._stand
        if stand is None:
            return self._site.leases.defer(self.lease, delay, reason)
        # The record first: nobody may find the task on the branch without it.
        again = stand.write_hand_back()
        deferral = self._site.leases.defer(replace(self.lease, trigger=again), delay, reason)
        stand.hand_back(again)
        self._plan = stand.plan
        return deferral

    def _give_up(self, result: RunResult, harvest: Harvest | None) -> Finished:
        """The run was ended from outside: its work is kept, the lease goes back, no answer."""
        kept = self._rescue(harvest)
        if self._stand is not None and result.stopped == "drained":
            self._stand.given_up(self.lease)
            self._plan = self._stand.plan
        moved = self._stand is None and result.stopped == "moved"
        if not moved or not give_up_lost(self._site, self.lease, kept):
            self._site.leases.release(self.lease, self._plan.event.oid)
        ending = "drained" if result.stopped == "drained" else "refused"
        detail = outcome(result) + (f"; its work is kept under {kept}" if kept else "")
        if result.stopped == "lease-lost":
            set_back_if_lost(self._site, self._plan, self.lease, detail)
        return Finished(self._plan, self.lease, result, None, ending, detail)

    def _rescue(self, harvest: Harvest | None) -> str:
        event = self._plan.event
        if harvest is None or (harvest.head == event.oid and not harvest.changed):
            return ""
        return rescue_work(self._site.repo, self._site.store, self.lease.run, event.branch, harvest)


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
