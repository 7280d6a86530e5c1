"""Sent back to work: a run finds that what it was handed over is not good enough.

Its answer says `reopens: <dependency>`, and `validation-errors` as often as there is something to
say. In the transaction that lands the answer, the branch of that dependency gets a commit with the
state that it ran last: so it is not done any more, and its dependents are held again. Where the
answer waits for approval, so does that: it lands with the step that follows, or never.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from aynig import dialects
from aynig.answer import SUBJECT_WIDTH, Left, Verdict
from aynig.dialects import by_name
from aynig.errors import UserError
from aynig.git.refs import RefEdit
from aynig.model import AWAITING, HEADS, HELD_STATES, Field, Plan, Statement, Step, branch_of
from aynig.policies import autonomy
from aynig.proposing import waits
from aynig.respond import Answer
from aynig.site import Site
from aynig.text import counted, escape, shorten
from aynig.thread import REPLIES, Told, carried, unique
from aynig.upstream import Upstream

REOPENS, ERRORS = "reopens", "validation-errors"
# What an answer says of the task that it has sent back; that it would send back when approved.
REOPENED, WOULD_REOPEN = "reopened", "would-reopen"
# So often one task may send others back; then it has failed.
MOST = 5
# How far below a `done` the run is looked for that led to it: steps of policies lie in between.
_STEPS_BACK = 100


@dataclass(frozen=True, slots=True)
class Reopening:
    """A task that is to be sent back to work; where there is a `fault`, it is not."""

    # Its branch, as a full ref, and the `done` that is taken back.
    ref: str = ""
    done: str = ""
    errors: tuple[str, ...] = ()
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """What a task that is done ran last: its state, and what it was asked for."""

    state: str
    asked: Statement


def read_reopening(site: Site, plan: Plan, left: Left) -> Reopening | None:
    """What the answer of a run asks to be reopened; None where it asks for nothing."""
    asked = unique(field.value for field in left.reply.fields if field.key == REOPENS)
    if not asked:
        return None
    if len(asked) > 1:
        return Reopening(fault=f"it reopens {counted(len(asked), 'task')}: one at a time")
    site.scan.look()
    errors = tuple(field.value for field in left.reply.fields if field.key == ERRORS)
    found = _find(site, plan, asked[0])
    if isinstance(found, str):
        return Reopening(fault=found)
    if plan.thread.reopened >= MOST:
        times = counted(plan.thread.reopened, "time")
        return Reopening(fault=f"it has sent tasks back to work {times} already: no more than that")
    work = find_work(site, found.done)
    return Reopening(fault=work) if isinstance(work, str) else replace(found, errors=errors)


def _find(site: Site, plan: Plan, name: str) -> Reopening | str:
    """The task that a script means, or why it is none that can be reopened."""
    found = _dependency(site, plan, name)
    shown = escape(shorten(name, 60))
    if found is None:
        return f"it reopens {shown}, which it does not depend on"
    if ":" in found.name and not found.refs:
        return f"it reopens {shown}, which is a branch of another repository"
    if found.is_open:
        return f"it reopens {shown}, which is not done"
    at = sorted(ref for ref in found.refs if _is_at(site, ref, found.oid))
    if not at:
        return f"it reopens {shown}, whose branch is gone or went on to something else"
    return Reopening(at[0], found.oid)


def _dependency(site: Site, plan: Plan, name: str) -> Upstream | None:
    """That of the task's own dependencies which a script calls so: by branch, or by oid."""
    ref = plan.event.ref
    oid = site.upstream.named_commit(name) if site.scan.tip(HEADS + name) is None else None
    for each in plan.thread.depends_on:
        found = site.upstream.look_up(ref, each)
        if name == each or HEADS + name in found.refs or (oid and oid in (found.oid, each)):
            return found
    return None


def _is_at(site: Site, ref: str, oid: str) -> bool:
    tip = site.scan.tip(ref)
    return tip is not None and tip.oid == oid


def find_work(site: Site, done: str) -> Work | str:
    """What a task ran before it was done, or why nobody knows."""
    thread = site.threads.of(done)
    ran = thread.ran if thread is not None else ""
    oid = done
    for _ in range(_STEPS_BACK):
        answered = site.threads.answered(oid) or _replied_to(site, oid)
        if answered is None:
            break
        if answered.statement.state == ran:
            return Work(ran, answered.statement)
        oid = answered.oid
    return f"{done[:12]} is done by a person's word: no run led to it"


def _replied_to(site: Site, oid: str) -> Told | None:
    """The request or question that a person's commit is the reply to."""
    reply = site.threads.told(oid)
    if reply is None or reply.statement.state not in REPLIES or not reply.parent:
        return None
    below = site.threads.told(reply.parent)
    return below if below is not None and below.statement.state in AWAITING else None


# --- the commits ---------------------------------------------------------------------------------


def write_reopening(site: Site, done: str, errors: Sequence[str], by: str) -> str:
    """The commit that goes on with a task that was done; its oid. `by` is whose branch asks.

    Raises UserError where no run led to it.
    """
    work = find_work(site, done)
    if isinstance(work, str):
        raise UserError(work, hint="A state is written with `aynig submit STATE -b BRANCH`.")
    info = site.repo.commit(done)
    fields = [Field(REOPENS, done)]
    fields += [Field("reopened-by", by)] if by else []
    fields += [Field(ERRORS, text) for text in errors]
    message = dialects.write(
        by_name(work.asked.dialect),
        work.state,
        [*fields, *carried(work.asked, work.state)],
        (),
        shorten(f"done -> {work.state}: {_why(errors, by)}", SUBJECT_WIDTH),
        work.asked.body,
    )
    return site.repo.write_commit(
        tree=info.tree, parents=[done], message=message, not_before=info.time, unique=True
    )


def _why(errors: Sequence[str], by: str) -> str:
    who = f"sent back by {escape(by)}" if by else "sent back to work"
    return f"{who}: {escape(errors[0])}" if errors else who


def told_reopening(plan: Plan, verdict: Verdict, found: Reopening | None, left: Left) -> Verdict:
    """A verdict whose answer says what it has sent back; unless the script names another state, the
    task keeps the one that it is in, and runs again when what it waits for is done again."""
    if found is None:
        return verdict
    response = verdict.response
    fields = tuple(field for field in response.fields if field.key != REOPENS)
    if not verdict.succeeded:
        return replace(verdict, response=replace(response, fields=fields))
    state, subject = response.state, response.subject
    named = left.reply.state is not None or left.own is not None
    if not named and state not in HELD_STATES:
        state = plan.event.state
        head = f"{plan.event.state} -> {response.state}"
        subject = f"{plan.event.state} -> {state}{subject.removeprefix(head)}"
    response = replace(response, state=state, subject=subject)
    branch = branch_of(found.ref)
    level = autonomy.level(plan.workflow.autonomy, plan.thread.autonomy)
    if waits(replace(verdict, response=response), plan.settings, level):
        told = Field(WOULD_REOPEN, f"{branch}@{found.done}")
    else:
        told = Field(REOPENED, branch)
    return replace(verdict, response=replace(response, fields=(*fields, told)))


def with_reopening(
    site: Site, plan: Plan, verdict: Verdict, found: Reopening | None, write: Callable[[], Answer]
) -> Callable[[], Answer]:
    """What writes the answer, and the commit that sends the other task back.

    Where that one was sent back by somebody else meanwhile, the answer lands alone: the task waits
    for it all the same.
    """
    if found is None or found.fault or not verdict.succeeded or verdict.is_own_commit:
        return write
    if all(field.key != REOPENED for field in verdict.response.fields):
        # That is for people to approve.
        return write
    return lambda: _with_both(site, plan, found, write())


def with_approved(
    site: Site, plan: Plan, step: Step, write: Callable[[], Answer]
) -> Callable[[], Answer]:
    """The same for the step that follows the approval of an answer.

    What that says was read from a commit: it has to name a task that this one depends on.
    """
    branch, _, done = step.reopens.rpartition("@")
    if not branch:
        return write
    errors = tuple(field.value for field in step.fields if field.key == ERRORS)

    def write_both() -> Answer:
        site.scan.look()
        found = _find(site, plan, branch)
        answer = write()
        if isinstance(found, str) or found.done != done or isinstance(find_work(site, done), str):
            return answer
        return _with_both(site, plan, replace(found, errors=errors), answer)

    return write_both


def _with_both(site: Site, plan: Plan, found: Reopening, answer: Answer) -> Answer:
    if site.repo.read_ref(found.ref) != found.done:
        return answer
    oid = write_reopening(site, found.done, found.errors, plan.event.branch)
    return replace(answer, along=(*answer.along, RefEdit(found.ref, found.done, oid)))
