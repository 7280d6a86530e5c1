"""What people ask of a task that is there: retry, resume, assign, reopen, cancel.

Each is one state commit on its branch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from aynig import trailers
from aynig.answer import RESERVED_FIELDS
from aynig.branchlease import worked_on
from aynig.breakers import close
from aynig.dialects import (
    Dialect,
    by_name,
    check_state,
    writable_fields,
    writable_trailers,
)
from aynig.durations import format_duration
from aynig.errors import ConfigError, RefMoved, UsageError, UserError
from aynig.facts import gather
from aynig.git.history import last_state_commit
from aynig.git.refs import RefEdit
from aynig.git.repo import CommitInfo
from aynig.model import (
    AWAITING,
    AWAITING_APPROVAL,
    ENDED_STATES,
    HEADS,
    HELD_STATES,
    Deferral,
    Field,
    Hold,
    Lease,
    Statement,
    branch_of,
)
from aynig.onbranch import read_working
from aynig.plan import make_plan
from aynig.reopening import write_reopening
from aynig.respond import write_state
from aynig.scan import read_event
from aynig.site import Site, limits_of
from aynig.spending import judge, limits_of_spending
from aynig.text import escape, operand, quote, shorten
from aynig.thread import REPLIES, RETRY, first_words
from aynig.usage import KEYS

_SUBJECT_WIDTH = 100
_TRIES = 20
# The field that names the tip that a retry was written on.
_RETRY_OF = "retry-of"
# The field that names the tip that waited, for its circuit breaker or its budget.
_RESUMES = "resumes"
# A person may say whose child a task is.
RUNNERS_ONLY = RESERVED_FIELDS - {"parent"}
_NOT_AGAIN = RUNNERS_ONLY | {_RETRY_OF, "promise", *KEYS}
_OWNER = "assigned-to"


@dataclass(frozen=True, slots=True)
class Written:
    """A state commit that was put on a branch."""

    branch: str
    oid: str
    state: str


# --- retry -----------------------------------------------------------------------------------


def retry(site: Site, branch: str, start: str | None = None) -> Written:
    """A new commit with the state that failed, and the same message.

    With `start` it goes on from an earlier commit of the branch: with the files of that one, and
    the state that it or the last commit below it carries. The branch is never rewritten.

    After a failure that is the state of the commit that was answered; at a tip that was never
    answered, its own. A tip that a retry wrote is not retried before it has run: of several at
    once, one counts.
    """
    ref, info, tip = tip_of(site, branch)
    _mind_request(site, branch, tip)
    if _live_lease(site, ref, info.oid) is not None:
        raise UserError(
            f"{escape(branch)} is running",
            hint=site.naming_remote(f"Cancel it first: `aynig cancel {operand(branch)}`."),
        )
    working = read_working(tip, info.time)
    if working is not None and working.is_live(time.time()):
        raise UserError(
            f"{escape(branch)} is running: {working.told(time.time())}",
            hint=site.naming_remote(f"Cancel it first: `aynig cancel {operand(branch)}`."),
        )
    if _is_retry(info, tip) and not _has_run(site, ref, info):
        raise UserError(
            f"{escape(branch)} was retried already and has not run since",
            hint="`aynig status` says what holds it.",
        )
    good = _earlier(site, branch, info.oid, start) if start is not None else None
    if good is not None:
        failed = good[1]
    else:
        failed = _left_statement(site, info, tip) or _failed_statement(site, tip)
    subject = first_words(failed)
    dialect = by_name(failed.dialect)
    oid = write_state(
        site.repo,
        site.store,
        ref,
        info.oid,
        check_state(failed.state),
        subject=f"{RETRY}{subject}",
        body=failed.body,
        fields=[*_writable(dialect, failed.fields), Field(_RETRY_OF, info.oid)],
        files_of=good[0] if good is not None else None,
        others=writable_trailers(failed.trailers),
        dialect=dialect,
        limits=limits_of(site.settings),
    )
    return Written(branch, oid, failed.state)


def _earlier(site: Site, branch: str, tip: str, start: str) -> tuple[str, Statement]:
    """The commit of a branch to go on from, and the state that is run again there."""
    oid = site.repo.resolve(start)
    if oid is None:
        raise UsageError(f"there is no commit {quote(start)}", hint="See `git log --all`.")
    if not site.repo.descends(tip, oid):
        raise UsageError(
            f"{quote(start)} is no commit of {quote(branch)}",
            hint=f"`aynig log {operand(branch)}` shows those that it has.",
        )
    found = last_state_commit(site.repo, oid, site.read)
    if found is None or found[1].fault or found[1].state in ENDED_STATES:
        state = f"ended there: {found[1].state}" if found is not None else "no state there"
        raise UsageError(
            f"nothing can be run again from {quote(start)}: {escape(branch)} has {state}",
            hint="Name a commit whose state is to be run again.",
        )
    return oid, found[1]


def resume(site: Site, branch: str) -> Written:
    """The same state again, as a person's word that it may go on: it closes a circuit breaker."""
    ref, info, tip = tip_of(site, branch)
    _mind_request(site, branch, tip)
    if tip.state in ENDED_STATES or tip.fault:
        what = "is malformed" if tip.fault else f"has ended: {tip.state}"
        raise UserError(
            f"{escape(branch)} {what}",
            hint=f"`aynig retry {operand(branch)}` runs again what failed.",
        )
    if tip.value("escalated") or tip.value("stalled-run"):
        raise UserError(
            f"{escape(branch)} waits for a person, and not for a breaker or a limit",
            hint=f"`aynig retry {operand(branch)}` runs again what failed.",
        )
    if _live_lease(site, ref, info.oid) is not None:
        raise UserError(f"{escape(branch)} is running", hint="There is nothing to resume.")
    _refuse_vain_word(site, ref, info.oid)
    dialect = by_name(tip.dialect)
    oid = write_state(
        site.repo,
        site.store,
        ref,
        info.oid,
        tip.state,
        subject=state_subject_of(tip, "resumed"),
        body=tip.body,
        fields=[*_writable(dialect, tip.fields), Field(_RESUMES, info.oid)],
        others=writable_trailers(tip.trailers),
        dialect=dialect,
        limits=limits_of(site.settings),
    )
    return Written(branch, oid, tip.state)


def _refuse_vain_word(site: Site, ref: str, tip: str) -> None:
    """UserError for a task that only a limit holds which no word of a person lifts."""
    event = read_event(site.repo, ref, tip, site.read)
    if event is None:
        return
    site.scan.look()
    try:
        facts = gather(site, event).facts
    except ConfigError:
        # That has a hold of its own.
        return
    hold = make_plan(event, facts)
    limits = limits_of_spending(facts.workflow, facts.settings, event.statement)
    now = site.leases.now()
    verdict = judge(site.ledger, limits, event.origin, now)
    if not isinstance(hold, Hold) or hold.word != verdict.word or verdict.forgivable:
        return
    if not verdict.word or not hold.detail.startswith(verdict.detail):
        return
    raised = "a higher limit in .aynig/config.yaml lets it go on"
    if verdict.until is None:
        hint = f"{raised[0].upper()}{raised[1:]}."
    else:
        end = datetime.fromtimestamp(verdict.until, UTC)
        left = format_duration(max(1.0, float(math.ceil(verdict.until - now))))
        hint = f"That ends by itself at {end:%Y-%m-%d %H:%M} UTC, in {left}; or {raised}."
    raise UserError(
        f"{escape(branch_of(ref))} is held, and a word does not lift that: {verdict.detail}",
        hint=hint,
    )


def _mind_request(site: Site, branch: str, tip: Statement) -> None:
    """UserError for a request: the same state again would ask for nothing any more."""
    if tip.state == AWAITING_APPROVAL and tip.value("proposes"):
        raise UserError(
            f"{escape(branch)} waits for a reply to what it proposes",
            hint=site.naming_remote(f"`aynig answer {operand(branch)} -m TEXT` has it done again."),
        )


def assign(site: Site, branch: str, agent: str, *, force: bool = False) -> Written:
    """The same state again with another owner, an agent or a role; an empty one: nobody's.

    A task that is running has an owner already, who works on it: it is taken from him by `force`
    only, which ends the script.
    """
    owner = trailers.check_value(agent, "the agent")
    if any(character.isspace() for character in owner):
        raise UsageError(f"{quote(agent)} is no agent", hint="A name has no spaces.")
    ref, info, tip = tip_of(site, branch)
    _mind_request(site, branch, tip)
    if tip.state in ENDED_STATES or tip.fault:
        what = "is malformed" if tip.fault else f"has ended: {tip.state}"
        raise UserError(f"{escape(branch)} {what}", hint="There is nothing to assign.")
    if _live_lease(site, ref, info.oid) is not None and not force:
        raise UserError(
            f"{escape(branch)} is running",
            hint="With --force its script is ended, and the next one begins anew.",
        )
    dialect = by_name(tip.dialect)
    fields = [each for each in _writable(dialect, tip.fields) if each.key != _OWNER]
    oid = write_state(
        site.repo,
        site.store,
        ref,
        info.oid,
        tip.state,
        subject=state_subject_of(tip, f"assigned to {owner}" if owner else "assigned to nobody"),
        body=tip.body,
        fields=[*fields, *([Field(_OWNER, owner)] if owner else [])],
        others=writable_trailers(tip.trailers),
        dialect=dialect,
        limits=limits_of(site.settings),
    )
    return Written(branch, oid, tip.state)


def reopen(site: Site, branch: str, why: Sequence[str] = ()) -> Written:
    """Send a task that is done back to work, with what is wrong: its last state runs again."""
    ref, info, tip = tip_of(site, branch)
    if tip.state != "done":
        raise UserError(
            f"{escape(branch)} is not done: {tip.state}",
            hint="What failed is run again by `aynig retry`, what waits goes on by itself.",
        )
    errors = [trailers.check_value(text, "-m") for text in why]
    oid = write_reopening(site, info.oid, errors, "")
    try:
        site.store.commit([RefEdit(ref, info.oid, oid)])
    except RefMoved as error:
        raise UserError(
            f"{escape(branch)} has moved meanwhile: {error}", hint="Look at it and try again."
        ) from error
    statement = site.read(site.repo.commit(oid).message)
    assert statement is not None
    return Written(branch, oid, statement.state)


def resume_state(site: Site, state: str) -> Written:
    """Close the circuit breaker of a state, for all runners."""
    who = site.repo.identity()
    oid = close(site.repo, site.store, check_state(state), f"{who.name} <{who.email}>")
    return Written("", oid, state)


def state_subject_of(tip: Statement, why: str) -> str:
    """The subject of a state commit that repeats the state of the tip."""
    return shorten(f"{tip.state}: {why}", _SUBJECT_WIDTH)


def _is_retry(info: CommitInfo, tip: Statement) -> bool:
    """Did a retry write this commit where it is? One that was copied elsewhere is a new task."""
    return tip.value(_RETRY_OF) in info.parents and tip.value("answers") is None


def _has_run(site: Site, ref: str, info: CommitInfo) -> bool:
    """Was a script started for this commit, with or without an answer, here or on a copy?"""
    standing = site.leases.read(ref)
    if isinstance(standing, Lease | Deferral) and standing.trigger == info.oid:
        return True
    site.scan.look()
    return site.answers.answer_to(info.oid, info.time) is not None


def _writable(dialect: Dialect, fields: Iterable[Field]) -> list[Field]:
    return writable_fields(dialect, [field for field in fields if field.key not in _NOT_AGAIN])


def _left_statement(site: Site, info: CommitInfo, tip: Statement) -> Statement | None:
    """What a run was about that left its lease on the branch, as in dwp, or was marked stalled."""
    left = read_working(tip, info.time) is not None or tip.value("stalled-run") is not None
    return worked_on(site, info.oid) if left else None


def _asked_about(site: Site, oid: str) -> Statement | None:
    """What a commit asks for; of a reply, or of a request, what that is about.

    To write `rejected` once more would be a reply to nothing.
    """
    following: str | None = oid
    for _ in range(_TRIES):
        if following is None or not site.repo.has_commit(following):
            return None
        commit = site.repo.commit(following)
        found = site.read(commit.message)
        if found is None or found.fault:
            return found
        if found.state in REPLIES:
            following = commit.parents[0] if commit.parents else None
        elif found.state in AWAITING and found.value("proposes"):
            following = found.value("answers")
        else:
            return found
    return None


def _failed_statement(site: Site, tip: Statement) -> Statement:
    before = tip.value("answers") or tip.value("cancels")
    ended_badly = tip.state in ENDED_STATES - {"done"} or tip.value("exit") not in (None, "0")
    ended_badly = ended_badly or tip.value("escalated") is not None
    # What a person may have mended since is joined again; a state with a script of its own runs.
    ended_badly = ended_badly or (
        tip.state in HELD_STATES and tip.value("conflict-with") is not None
    )
    if before and ended_badly:
        found = _asked_about(site, before)
        if found is not None:
            return found
    if tip.fault:
        raise UserError(
            f"the tip is malformed: {tip.fault}",
            hint="A new state is written with `aynig submit STATE -b BRANCH`.",
        )
    if tip.state in ENDED_STATES:
        raise UserError(
            f"nothing failed: the state is {tip.state}",
            hint="A new state is written with `aynig submit STATE -b BRANCH`.",
        )
    return tip


# --- cancel ----------------------------------------------------------------------------------


def cancel(site: Site, branch: str, reason: str = "") -> tuple[Written, Lease | None]:
    """Write `canceled` on a task; the runner that has it in hand then stops its script.

    Returns the lease of the run that was under way as well, if there was one.
    """
    for _ in range(_TRIES):
        ref, info, tip = tip_of(site, branch)
        if tip.state in ENDED_STATES:
            raise UserError(
                f"{escape(branch)} has ended already: {tip.state}",
                hint="There is nothing to cancel.",
            )
        lease = _live_lease(site, ref, info.oid)
        try:
            oid = write_state(
                site.repo,
                site.store,
                ref,
                info.oid,
                "canceled",
                subject=f"{tip.state or 'malformed'} -> canceled: {escape(reason) or 'asked for'}",
                fields=[Field("cancels", info.oid)],
                dialect=by_name(tip.dialect),
                limits=limits_of(site.settings),
            )
        except UserError as error:
            if not isinstance(error.__cause__, RefMoved):
                raise
            # Its script has just answered: what is canceled is the state that came of it.
            continue
        return Written(branch, oid, "canceled"), lease
    raise UserError(f"{escape(branch)} keeps moving", hint="Try again.")


def _live_lease(site: Site, ref: str, tip: str) -> Lease | None:
    standing = site.leases.read(ref)
    if isinstance(standing, Lease) and site.leases.is_live(standing, tip):
        return standing
    return None


def tip_of(site: Site, branch: str) -> tuple[str, CommitInfo, Statement]:
    """A task's ref, the commit at its tip, and what that says; UserError where it is none."""
    ref = HEADS + branch
    oid = site.repo.read_ref(ref)
    if oid is None:
        if site.mirror is None:
            raise UserError(f"there is no branch {quote(branch)}", hint="See `aynig status --all`.")
        name = site.mirror.remote.address.shown
        raise UserError(
            f"there is no branch {quote(branch)} on {name}",
            hint=f"See `aynig status --all --remote {operand(name)}`.",
        )
    info = site.repo.commit(oid)
    statement = site.read(info.message)
    if statement is None:
        raise UserError(
            f"{escape(branch)} is no task: its tip carries no state",
            hint="A state is written with `aynig submit STATE -b BRANCH`.",
        )
    return ref, info, statement
