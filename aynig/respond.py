"""The only writer of branches: answers, and the state commits of people.

An answer lands by one transaction over the branch and its lease (design section 2), so a runner
that lost its lease can't land one. Work that does not land is kept under `refs/aynig/rescue/`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass

from aynig import dialects
from aynig.answer import SUBJECT_WIDTH, Verdict, exit_status
from aynig.attempts import MOST_TOLD, attempt_fields
from aynig.dialects import DEFAULT_LIMITS, DIALECTS, Dialect, Limits, by_name
from aynig.errors import GitFailed, RefMoved, UserError, WaitUntil
from aynig.git.checkouts import DirtyWorktree, find_checkout
from aynig.git.landings import landing
from aynig.git.merging import Conflict, merge_files
from aynig.git.refs import RefEdit, Refs
from aynig.git.repo import Repo
from aynig.git.worktree import Harvest
from aynig.model import (
    Event,
    Field,
    Lease,
    Plan,
    RunResult,
    Step,
    Trailer,
    branch_of,
)
from aynig.policies.joining import after_conflict
from aynig.rescue import rescue_work
from aynig.text import escape, operand, shorten
from aynig.thread import carried
from aynig.trailers import encode


@dataclass(frozen=True, slots=True)
class Answer:
    """A response commit that is written and waits to land."""

    oid: str
    state: str
    subject: str
    # The rescue ref of the run's work, where some of it does not land.
    rescue: str
    # What was at fault, where the run failed for that; on one line.
    fault: str = ""
    # What changes beside the branch in the same transaction: new children, tasks sent back to work.
    along: tuple[RefEdit, ...] = ()


def write_answer(
    repo: Repo,
    store: Refs,
    plan: Plan,
    lease: Lease,
    result: RunResult,
    verdict: Verdict,
    harvest: Harvest | None,
    *,
    executed_by: str,
    output: str,
    kept: str,
) -> Answer:
    """Write the response commit, and before it the rescue of what it leaves behind.

    `output` is the end of what the script printed, shown after a failure. `kept` names a folder
    where files had to go that git could not keep.
    """
    event = plan.event
    rescue = _rescue_harvest(repo, store, plan, lease, verdict, harvest)
    base, tree = event.oid, event.tree
    if harvest is not None and verdict.lands_commits:
        base = harvest.head
        tree = harvest.tree if verdict.succeeded else repo.commit(harvest.head).tree
    if verdict.is_own_commit and base != event.oid:
        return Answer(base, verdict.response.state, verdict.response.subject, rescue)
    testimony = _testimony(plan, lease, result, verdict, rescue, executed_by)
    response = verdict.response
    message = dialects.write(
        by_name(event.statement.dialect),
        response.state,
        [
            *response.fields,
            *carried(event.statement, response.state, response.fields),
            *verdict.told,
            *testimony,
        ],
        _foreign(response.trailers),
        response.subject,
        "\n\n".join(
            part
            for part in (
                _body(response.body, output, rescue, kept),
                _for_person(plan, rescue) if verdict.to_person else "",
            )
            if part
        ),
    )
    parent_time = repo.commit(base).time
    oid = repo.write_commit(tree=tree, parents=[base], message=message, not_before=parent_time)
    return Answer(oid, response.state, response.subject, rescue, _one_line(verdict.fault))


def write_step(repo: Repo, plan: Plan, lease: Lease, step: Step, *, executed_by: str) -> Answer:
    """Write the answer of a step: one that a policy gives, and no script.

    Where the files of its further parents can't be merged, that is what it says.
    """
    event = plan.event
    step, tree = with_files(repo, event, step)
    subject = f"{event.state} -> {step.state}"
    message = dialects.write(
        by_name(event.statement.dialect),
        step.state,
        [
            *step.fields,
            *carried(event.statement, step.state, step.fields),
            Field("answers", event.origin),
            Field("run", lease.run),
            Field("runner", lease.holder.runner),
            Field("executed-by", executed_by),
            Field("step", step.kind),
            # What was tried at this commit has no other answer to be told and to be paid by.
            *attempt_fields(plan.past),
            *plan.spent,
        ],
        _foreign(step.trailers),
        shorten(f"{subject}: {step.subject}" if step.subject else subject, SUBJECT_WIDTH),
        step.body,
    )
    parents = [event.oid, *step.parents]
    latest = max(repo.commit(oid).time for oid in parents)
    oid = repo.write_commit(tree=tree, parents=parents, message=message, not_before=latest)
    return Answer(oid, step.state, message.partition("\n")[0], "")


def with_files(repo: Repo, event: Event, step: Step) -> tuple[Step, str]:
    """A step as its answer says it, and the tree of that; where files don't fit, what follows."""
    merged = merge_files(repo, step.files_of or event.oid, step.parents, step.merge)
    if isinstance(merged, Conflict):
        return after_conflict(step, merged.tip, merged.paths), event.tree
    return step, merged.tree


def _testimony(
    plan: Plan,
    lease: Lease,
    result: RunResult,
    verdict: Verdict,
    rescue: str,
    executed_by: str,
) -> list[Field]:
    found = [
        Field("answers", plan.event.origin),
        Field("run", lease.run),
        Field("runner", lease.holder.runner),
        Field("executed-by", executed_by),
        Field("attempt", str(plan.attempt)),
        Field("exit", str(exit_status(result))),
        Field("duration", f"{result.duration:.3f}"),
        Field("script", plan.script.oid),
    ]
    if plan.agent is not None:
        found.append(Field("agent", plan.agent.name))
    if result.stopped:
        found.append(Field("stopped", result.stopped))
    if verdict.fault:
        found.append(Field("fault", _one_line(verdict.fault)))
    if rescue:
        found.append(Field("rescue", rescue))
    return found


def _rescue_harvest(
    repo: Repo,
    store: Refs,
    plan: Plan,
    lease: Lease,
    verdict: Verdict,
    harvest: Harvest | None,
) -> str:
    """Keep what the answer will not contain; the rescue ref, or an empty string."""
    if harvest is None or (verdict.succeeded and not _stands_alone(verdict, harvest)):
        return ""
    left_commits = harvest.head != plan.event.oid and not verdict.lands_commits
    if not left_commits and not harvest.changed:
        return ""
    return rescue_work(repo, store, lease.run, branch_of(plan.event.ref), harvest)


def _stands_alone(verdict: Verdict, harvest: Harvest) -> bool:
    """Is the answer a commit of the script's own, with files beside it that it left out?"""
    return verdict.is_own_commit and harvest.changed


def land(repo: Repo, store: Refs, plan: Plan, lease: Lease, answer: Answer) -> None:
    """Make the answer the tip of its branch and give the lease back, both or neither.

    Raises RefMoved where the branch has moved or the lease is lost, DirtyWorktree where a person
    has uncommitted work in the way, RefBusy where a lock is held.
    """
    event = plan.event
    edits = (
        RefEdit(event.ref, event.oid, answer.oid),
        RefEdit(lease.name, lease.oid, answer.oid),
        *answer.along,
    )
    checkout = find_checkout(repo, event.ref)
    if checkout is None or event.tree == repo.commit(answer.oid).tree:
        _move_both(repo, store, edits)
        return
    with landing(repo, checkout, event.oid, answer.oid):
        _move_both(repo, store, edits)


def _move_both(repo: Repo, store: Refs, edits: tuple[RefEdit, ...]) -> None:
    """Move the branch and then the lease, and what goes along, as one transaction.

    A git that is killed in the middle of it has moved the branch alone. Nobody else can have put
    the answer there, so it has landed all the same; the lease is void by that, and follows.
    """
    branch, lease, *along = edits
    try:
        store.commit(edits)
    except (RefMoved, WaitUntil, GitFailed):
        if repo.read_ref(branch.ref) != branch.new:
            raise
        for late in (lease, *along):
            with contextlib.suppress(RefMoved, WaitUntil, GitFailed):
                store.commit([late])


# --- state commits of people -----------------------------------------------------------------


def write_state(
    repo: Repo,
    store: Refs,
    ref: str,
    old: str | None,
    state: str,
    *,
    subject: str,
    body: str = "",
    fields: Iterable[Field] = (),
    others: Iterable[Trailer] = (),
    base: str | None = None,
    files_of: str | None = None,
    dialect: Dialect = DIALECTS[0],
    limits: Limits = DEFAULT_LIMITS,
) -> str:
    """Put a commit with a state on a branch without touching files; its oid.

    With `files_of` it has the files of that commit, and so has a working tree that has the branch
    checked out; DirtyWorktree where there is uncommitted work.

    `old` is what the branch points at (None: it is new, and starts at `base`, or with no parent and
    no files where that is None as well). Raises UsageError, before anything is written, for what
    would be malformed or over `limits`; UserError where the branch is no longer there.
    """
    message = dialects.write(dialect, state, fields, others, subject, body)
    dialects.check_limits(encode(message), limits)
    parent = old or base
    info = repo.commit(parent) if parent else None
    tree = info.tree if info else repo.empty_tree()
    oid = repo.write_commit(
        tree=repo.commit(files_of).tree if files_of else tree,
        parents=[parent] if parent else [],
        message=message,
        not_before=info.time if info else 0,
        unique=True,
    )
    checkout = find_checkout(repo, ref) if files_of and old else None
    at_hand = landing(repo, checkout, old, oid) if checkout and old else contextlib.nullcontext()
    with at_hand:
        move_branch(store, ref, old, oid)
    return oid


def move_branch(store: Refs, ref: str, old: str | None, oid: str) -> None:
    """Put a person's commit on a branch; UserError where that is no longer at `old`."""
    try:
        store.commit([RefEdit(ref, old, oid)])
    except RefMoved as error:
        raise UserError(
            f"{branch_of(ref)} has moved meanwhile: {error}", hint="Look at it and try again."
        ) from error


def state_subject(event: Event, state: str, why: str) -> str:
    """The subject of a state commit that a command writes on top of an event."""
    return f"{event.state} -> {state}: {why}"


def _foreign(others: Iterable[Trailer]) -> list[Trailer]:
    """The trailers that are of no dialect: a state of another dialect would be a second answer."""
    return [trailer for trailer in others if all(row.claim(trailer) is None for row in DIALECTS)]


def _body(text: str, output: str, rescue_ref: str, kept: str) -> str:
    parts = [text.strip("\n")] if text.strip() else []
    if rescue_ref:
        parts.append(f"What it changed did not land and is kept under {rescue_ref}.")
    if kept:
        parts.append(f"Its files are kept in {kept}.")
    if output.strip():
        shown = "\n".join(f"    {line}" for line in output.rstrip("\n").split("\n"))
        parts.append(f"The end of its output:\n\n{shown}")
    return "\n\n".join(parts)


def _for_person(plan: Plan, rescue_ref: str) -> str:
    """What a person needs to go on with a task that was handed over."""
    branch = operand(plan.event.branch)
    lines = [f"{len(plan.past) + 1} attempts were made." if plan.past else ""]
    for number, attempt in enumerate(plan.past[-MOST_TOLD:], len(plan.past[:-MOST_TOLD]) + 1):
        kept = f" (git show {attempt.rescue})" if attempt.rescue else ""
        lines.append(f"  {number}. {attempt.ending}: {_one_line(attempt.text)}{kept}")
    lines += [
        "To go on:",
        f"  aynig retry {branch}               the same again",
        f"  aynig retry {branch} --from REV    from an earlier commit",
        f"  aynig submit STATE -b {branch}     another state",
        f"  aynig cancel {branch}              the end",
    ]
    if rescue_ref:
        lines.append(f"  git show {rescue_ref}    what did not land")
    return "\n".join(line for line in lines if line)


def _one_line(text: str) -> str:
    return escape(" ".join(text.split()))


__all__ = [
    "Answer",
    "DirtyWorktree",
    "land",
    "state_subject",
    "with_files",
    "write_answer",
    "write_state",
    "write_step",
]
