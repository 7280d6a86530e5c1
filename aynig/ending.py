"""How a run ends: its answer lands, waits until it can, or is kept because it never can."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from aynig.beside import complete, kept_for
from aynig.branchlease import BranchLease
from aynig.errors import (
    AynigError,
    GitFailed,
    LeaseLost,
    RefMoved,
    Refused,
    RepositoryError,
    Unreachable,
    WaitUntil,
    as_unwritable,
    hold_word,
    told,
)
from aynig.git.refs import RefEdit
from aynig.lost import give_up_lost
from aynig.model import RESCUES, Deferral, Lease, Plan, RunResult, Statement
from aynig.policies import setback
from aynig.rescue import drop_rescue, rescue
from aynig.respond import Answer, DirtyWorktree, land
from aynig.site import Site
from aynig.text import escape

_MOST_WRITTEN = 5


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that is over. `answer` is None where it was refused, deferred or drained."""

    plan: Plan
    lease: Lease
    result: RunResult
    answer: Answer | None
    # "answered", "deferred", "refused", "drained".
    ending: str
    detail: str = ""
    deferral: Deferral | None = None


@dataclass(frozen=True, slots=True)
class Pending:
    """A run whose answer can't land yet: its lease is kept and renewed."""

    plan: Plan
    lease: Lease
    result: RunResult
    # Writes the commit; `answer` is None as long as that could not be done.
    write: Callable[[], Answer]
    answer: Answer | None = None
    # Why it can't land: the word of the hold, and a clause for people.
    word: str = ""
    detail: str = ""
    # The rescue ref that keeps the answer meanwhile; empty where it could not be written yet.
    kept: str = ""
    # How long, in seconds, it was left aside after the last refusal; 0 before the first.
    set_aside: float = 0.0
    # The lease on the branch, where the dialect has it there.
    stand: BranchLease | None = None
    # How often its answer was written: it says what other tasks change with it, and they move.
    written: int = 0


Ended = Finished | Pending


def conclude(site: Site, pending: Pending) -> Ended:
    """Make the answer the tip; where it can't be now, wait; where it never can, keep it."""
    try:
        pending = _written(pending)
        assert pending.answer is not None
        land(site.repo, site.store, pending.plan, pending.lease, pending.answer)
    except RefMoved as error:
        if _has_landed(site, pending):
            return _landed(site, pending)
        standing = site.leases.standing(pending.lease)
        renewed = standing is not None and standing.oid != pending.lease.oid
        if standing is not None and renewed and not _has_moved(site, pending):
            return conclude(site, replace(pending, lease=standing))
        afresh = _afresh(site, pending, error)
        if afresh is not None:
            return conclude(site, afresh)
        return _refuse(site, pending, _lost(site, pending, error))
    except (WaitUntil, GitFailed, RepositoryError, OSError) as error:
        fault = as_unwritable(error, site.repo.common_dir) or error
        if isinstance(fault, Refused):
            return _postpone(site, pending, fault)
        if not isinstance(fault, (WaitUntil, GitFailed)):
            # Nothing that time mends.
            raise
        if _has_landed(site, pending):
            return _landed(site, pending)
        # What is in the way was looked at first, and would hide for ever that it is too late.
        if _has_moved(site, pending):
            return _refuse(site, pending, _moved(pending))
        return _wait(site, pending, fault)
    return _landed(site, pending)


def _afresh(site: Site, pending: Pending, error: RefMoved) -> Pending | None:
    """The same run with an answer that is written anew, where only another task has moved that was
    to change along with it; None where that is not why it could not land, or happens too often."""
    answer = pending.answer
    others = {edit.ref for edit in answer.along} if answer is not None else set()
    if error.ref not in others or pending.written >= _MOST_WRITTEN or _has_moved(site, pending):
        return None
    site.scan.look()
    again = _written(replace(pending, answer=None))
    assert answer is not None
    assert again.answer is not None
    if pending.kept:
        site.store.commit([RefEdit(pending.kept, answer.oid, again.answer.oid)])
    return again


def conclude_again(site: Site, pending: Pending) -> Ended:
    """The same for an answer that could not land before; its lease is renewed first."""
    if pending.answer is not None and _has_landed(site, pending):
        # By a person's hand (`git merge` of the rescue ref, files and all), or by a push of ours of
        # which nobody could tell what became of it.
        site.leases.release(pending.lease, pending.answer.oid)
        return _landed(site, pending)
    if _has_moved(site, pending):
        return _refuse(site, pending, _moved(pending))
    try:
        renewed = _renewed(site, pending)
    except LeaseLost as error:
        # A push that was given up may have arrived all the same.
        if _has_landed(site, pending):
            return _landed(site, pending)
        return _refuse(site, pending, str(error))
    except (WaitUntil, GitFailed):
        return pending
    return conclude(site, renewed)


def _renewed(site: Site, pending: Pending) -> Pending:
    stand = pending.stand
    if stand is None:
        return replace(pending, lease=site.leases.renew(pending.lease))
    before = pending.plan.event.oid
    stand.renew_if_due()
    if stand.plan.event.oid == before:
        return pending
    pending = replace(pending, plan=stand.plan)
    if pending.answer is None:
        return pending
    old = pending.answer
    new = replace(old, oid=stand.followed(old.oid, before))
    if pending.kept:
        site.store.commit([RefEdit(pending.kept, old.oid, new.oid)])
    return replace(pending, answer=new)


def abandon(site: Site, pending: Pending) -> Finished:
    """Keep the answer and give the lease back: this runner has to stop."""
    plan, lease = pending.plan, pending.lease
    kept = ""
    try:
        pending = _written(pending)
        kept = pending.kept or _keep(site, pending)
        assert pending.answer is not None
        if pending.stand is not None:
            # Nobody else could land it, and nobody is to run it again: a person decides.
            pending.stand.stall(kept)
            detail = f"{pending.detail}; the answer is kept under {kept}"
            return Finished(plan, lease, pending.result, None, "refused", detail)
        deferral = site.leases.defer(
            lease, 0.0, pending.detail, hold=pending.word, answer=pending.answer.oid, kept=kept
        )
    except (AynigError, OSError) as error:
        if kept and isinstance(error, Unreachable):
            # The lease stays as well: who starts here next finds by it what there is to land.
            return Finished(plan, lease, pending.result, None, "refused", _kept_here(pending, kept))
        site.leases.release(lease, plan.event.oid)
        detail = f"{pending.detail}; the answer could not be kept: {told(error)}"
        return Finished(plan, lease, pending.result, None, "refused", detail)
    return Finished(plan, lease, pending.result, None, "deferred", kept, deferral)


def _kept_here(pending: Pending, kept: str) -> str:
    return f"{pending.detail.rstrip('.')}; the answer is kept under {kept}"


def _postpone(site: Site, pending: Pending, error: Refused) -> Ended:
    """The remote does not take the answer, and only a person can change that.

    To hold the lease meanwhile would be a push every few seconds, for nothing. So the answer is
    kept and named in the lease ref, and whoever comes by later lands it without another run.
    """
    pending = _wait(site, pending, error)
    plan, lease, answer = pending.plan, pending.lease, pending.answer
    if answer is None or not pending.kept:
        return pending
    try:
        deferral = site.leases.defer(
            lease,
            setback.delay_after_refusal(pending.set_aside),
            pending.detail,
            hold=pending.word,
            answer=answer.oid,
            kept=pending.kept,
        )
    except LeaseLost as lost:
        return _refuse(site, pending, str(lost))
    except (AynigError, OSError):
        return pending
    return Finished(plan, lease, pending.result, None, "deferred", pending.kept, deferral)


def left_answer(site: Site, deferral: Deferral) -> Statement | None:
    """What the answer says that an earlier runner wrote and could not land; None without one.

    What a lease ref says is a claim: the commit has to be an answer to the trigger.
    """
    oid, trigger = deferral.answer, deferral.trigger
    if oid and site.mirror is not None and not site.repo.has_commit(oid):
        # Left by a runner elsewhere. Without it the script runs again.
        with contextlib.suppress(AynigError, OSError):
            site.mirror.bring(deferral.kept, oid)
    if not oid or not site.repo.has_commit(oid) or not site.repo.descends(oid, trigger):
        return None
    statement = site.read(site.repo.commit(oid).message)
    if statement is None or statement.fault or statement.value("answers") not in (None, trigger):
        return None
    return statement


def resume(site: Site, plan: Plan, lease: Lease, deferral: Deferral, statement: Statement) -> Ended:
    """Land what `left_answer` has found, or go on waiting."""
    oid = deferral.answer
    answer = Answer(
        oid,
        statement.state,
        statement.subject,
        statement.value("rescue") or "",
        along=kept_for(site, deferral.run, oid),
    )
    result = RunResult(
        exit=_number(statement.value("exit")),
        signal=None,
        started=time.time(),
        duration=_seconds(statement.value("duration")),
        stopped=statement.value("stopped") or "",
        fault=statement.value("fault") or "",
    )
    kept = deferral.kept if _keeps(site, deferral) else ""
    set_aside = deferral.seconds if deferral.hold == "refused" else 0.0
    pending = Pending(plan, lease, result, lambda: answer, answer, kept=kept, set_aside=set_aside)
    return conclude(site, pending)


def _keeps(site: Site, deferral: Deferral) -> bool:
    """Is the answer kept by the rescue ref that the deferral names, to be deleted when it lands?

    That is a claim as well. On a remote a wrong one does no harm: a ref is deleted only where it
    points at the answer.
    """
    if not deferral.kept.startswith(RESCUES):
        return False
    return site.mirror is not None or site.repo.read_ref(deferral.kept) == deferral.answer


def set_back_if_lost(site: Site, plan: Plan, lease: Lease, why: str) -> None:
    """Where nobody took the lease, and it is gone all the same, there has to be a pause.

    A script that deletes its own lease ref would otherwise be run again at once, for ever.
    """
    if site.repo.read_ref(plan.event.ref) != plan.event.oid:
        return
    with contextlib.suppress(AynigError, OSError):
        site.leases.set_back(lease, setback.delay_after_run(plan.attempt), why)


def _seconds(text: str | None) -> float:
    return float(text) if text is not None and re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", text) else 0.0


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"-?[0-9]{1,9}", text) else None


def _written(pending: Pending) -> Pending:
    if pending.answer is not None:
        return pending
    return replace(pending, answer=pending.write(), written=pending.written + 1)


def _landed(site: Site, pending: Pending) -> Finished:
    plan, answer = pending.plan, pending.answer
    assert answer is not None
    if site.repo.read_ref(plan.event.ref) == answer.oid:
        site.scan.note(plan.event.ref, answer.oid)
    site.answers.note(answer.oid, plan.event.origin)
    complete(site, pending.lease.run, answer.along)
    for edit in answer.along:
        if edit.new is not None and site.repo.read_ref(edit.ref) == edit.new:
            site.scan.note(edit.ref, edit.new)
    if pending.kept:
        # Not before: a crash in between leaves one ref too many, and loses nothing.
        drop_rescue(site.store, pending.kept, answer.oid)
    return Finished(plan, pending.lease, pending.result, answer, "answered")


def _has_landed(site: Site, pending: Pending) -> bool:
    """Is the answer on its branch, where others may have gone on from it by now?

    Nobody else has made that commit, so however it came there, it was accepted.
    """
    tip = site.repo.read_ref(pending.plan.event.ref)
    answer = pending.answer
    return answer is not None and tip is not None and site.repo.descends(tip, answer.oid)


def _has_moved(site: Site, pending: Pending) -> bool:
    """Is the branch somewhere else than at the triggering commit, and without the answer?"""
    tip = site.repo.read_ref(pending.plan.event.ref)
    return tip != pending.plan.event.oid and not _has_landed(site, pending)


def _lost(site: Site, pending: Pending, error: RefMoved) -> str:
    """Why an answer can't land any more, in words rather than oids."""
    if _has_moved(site, pending):
        return _moved(pending)
    if error.ref != pending.lease.name:
        return str(error)
    now = site.leases.read(pending.plan.event.ref)
    by = f" by {escape(now.holder.runner)}" if isinstance(now, Lease) else ""
    return f"the lease was taken over{by}"


def _moved(pending: Pending) -> str:
    return f"{pending.plan.event.branch} has moved"


def _wait(site: Site, pending: Pending, error: Exception) -> Pending:
    """Nothing names the answer while it waits, and `git gc` deletes what nothing names."""
    kept = pending.kept
    if not kept and pending.answer is not None:
        with contextlib.suppress(AynigError, OSError):
            kept = _keep(site, pending)
    return replace(pending, word=_why(error), detail=told(error), kept=kept)


def _refuse(site: Site, pending: Pending, why: str) -> Ended:
    """The answer can never land: it is kept, and the lease goes back."""
    rescued = pending.answer.rescue if pending.answer is not None else ""
    try:
        kept = pending.kept or rescued or _keep(site, pending)
    except (AynigError, OSError) as error:
        # Nothing else has what the script did: this ends when there is room for it.
        return _wait(site, pending, as_unwritable(error, site.repo.common_dir) or error)
    detail = f"{why}; its work is kept under {kept}"
    # A lease on a branch is lost with it, and others judge that.
    if pending.stand is not None or not give_up_lost(site, pending.lease, kept):
        site.leases.release(pending.lease, pending.plan.event.oid)
    set_back_if_lost(site, pending.plan, pending.lease, detail)
    return Finished(pending.plan, pending.lease, pending.result, None, "refused", detail)


def _keep(site: Site, pending: Pending) -> str:
    answer = _written(pending).answer
    assert answer is not None
    return rescue(site.repo, site.store, pending.lease.run, answer.oid)


def _why(error: Exception) -> str:
    if isinstance(error, DirtyWorktree):
        return "dirty-worktree"
    return hold_word(error)
