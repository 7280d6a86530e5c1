"""Folds an event and the facts about it into one plan, or into the reason why there is none.

Pure: everything that has to be looked up is in `Facts`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace

from aynig.durations import format_duration
from aynig.model import (
    AWAITING_ANSWER,
    AWAITING_APPROVAL,
    ENDED_STATES,
    HELD_STATES,
    NO_SCRIPT,
    RESERVED_STATES,
    Attempt,
    Deferral,
    Event,
    Field,
    Hold,
    Lease,
    Plan,
    Script,
    ScriptProblem,
    Step,
    Thread,
    branch_of,
)
from aynig.policies.assignment import AssignmentVerdict
from aynig.text import escape, operand, shorten
from aynig.workflow import DEADLINE, Agent, StateSettings, Workflow

# How soon a hold that no ref change ends is looked at again; doubled from look to look.
FIRST_RECHECK = 1.0
LONGEST_RECHECK = 10.0
_QUESTION_WIDTH = 200


@dataclass(frozen=True, slots=True)
class Facts:
    """What was looked up about an event."""

    script: Script | ScriptProblem
    settings: StateSettings
    # The role in whose folder scripts are looked for first; empty for none.
    role: str
    # The lease of the branch where one is live; a deferral for this very commit.
    lease: Lease | None
    deferral: Deferral | None
    # How often this commit was tried before.
    attempts: int
    # The commit that answered this one already, on whichever branch.
    answered_by: str | None
    # The branch that this commit is dispatched on, where another points at it as well.
    owner: str | None
    # Whether the task is one for this runner.
    assignment: AssignmentVerdict
    # Why an answer could not land in the working tree that has the branch checked out.
    obstacle: str
    default_timeout: float
    now: float
    # What a policy decides of the task whether or not there is a script for its state; what one
    # decides of a run that could start now.
    past: tuple[Attempt, ...] = ()
    spent: tuple[Field, ...] = ()
    workflow: Workflow = field(default=Workflow())
    trusted: str = ""
    thread: Thread = field(default=Thread("", 0))
    # Whose the task is, where the workflow knows that agent.
    agent: Agent | None = None
    # When the time of the whole task is up, in seconds since the epoch; None: never.
    deadline: float | None = None
    first: Hold | Step | None = None
    last: Hold | Step | None = None


# Paths of a conflict that the hold names.
_PATHS_SHOWN = 3
_COUNT = re.compile(r"[0-9]{1,9}")


def make_plan(event: Event, facts: Facts) -> Plan | Hold:
    """The plan for an event; a Hold says in one word, and in a sentence, why there is none."""
    found = _made(event, facts)
    if isinstance(found, Hold) and facts.deadline is not None and facts.deadline > facts.now:
        return replace(found, deadline=facts.deadline)
    return found


def _made(event: Event, facts: Facts) -> Plan | Hold:
    hold = state_hold(event) or _copy_hold(event, facts)
    if hold is not None:
        return hold
    if facts.first is not None:
        # Another runner may be writing that very step: its state needs no script.
        if facts.lease is not None:
            return _running(facts.lease, facts.now)
        return _ruled(event, facts, facts.first)
    hold = (
        _state_without_script(event, facts)
        or _script_hold(event, facts)
        or _lease_hold(facts)
        or _assignment_hold(facts)
    )
    if hold is not None:
        return hold
    if facts.last is not None:
        return _ruled(event, facts, facts.last)
    hold = _obstacle_hold(facts)
    if hold is not None:
        return hold
    assert isinstance(facts.script, Script)
    return _planned(event, facts, facts.script)


def _planned(event: Event, facts: Facts, script: Script, step: Step | None = None) -> Plan:
    timeout = facts.settings.timeout or facts.default_timeout
    left = math.inf if facts.deadline is None else max(facts.deadline - facts.now, 0.0)
    return Plan(
        event=event,
        script=script,
        settings=facts.settings,
        role=facts.role,
        attempt=facts.attempts + 1,
        timeout=min(timeout, left),
        step=step,
        past=facts.past,
        spent=facts.spent,
        workflow=facts.workflow,
        trusted=facts.trusted,
        thread=facts.thread,
        agent=facts.agent,
        deadline=facts.deadline,
        by_deadline=left < timeout,
    )


def _ruled(event: Event, facts: Facts, ruling: Hold | Step) -> Plan | Hold:
    """What a policy decided: a step waits for its time as well, after an error or a refusal."""
    if isinstance(ruling, Hold):
        return ruling
    deferral = facts.deferral
    if deferral is not None and ruling.kind == DEADLINE and deferral.hold == "waiting":
        # What it waits for is another attempt, which there will not be.
        deferral = None
    hold = deferral_hold(deferral, facts.now) if deferral is not None else None
    return hold or _planned(event, facts, NO_SCRIPT, ruling)


def state_hold(event: Event) -> Hold | None:
    """What the message alone decides: malformed, ended or reserved states are never dispatched."""
    if event.statement.fault:
        return Hold("malformed", event.statement.fault)
    if event.state in ENDED_STATES:
        return Hold("ended", event.state)
    if event.state in RESERVED_STATES:
        return Hold("reserved", f"{event.state} is a reserved state: another runner's lease")
    return None


def _state_without_script(event: Event, facts: Facts) -> Hold | None:
    """States that are held for a person or a condition run only where a script is named."""
    if event.state not in HELD_STATES or isinstance(facts.script, Script):
        return None
    run = event.statement.value("stalled-run")
    if event.state == "stalled" and run:
        again = f"`aynig retry {operand(event.branch)}` runs it again"
        return Hold(event.state, f"run {escape(run)} was not brought to its end: {again}")
    return Hold(event.state, _what_people_do(event))


def _what_people_do(event: Event) -> str:
    """What a person may do about a task that is held for one."""
    statement = event.statement
    proposes = statement.value("proposes")
    if event.state == AWAITING_ANSWER and statement.value("question"):
        asked = shorten(escape(statement.value("question") or ""), _QUESTION_WIDTH)
        return f"{asked} `aynig answer {operand(event.branch)} -m TEXT`"
    if statement.value("conflict-with"):
        return _what_a_conflict_needs(event)
    if statement.value("escalated"):
        why = shorten(escape(statement.value("failure") or "it is stuck"), _QUESTION_WIDTH)
        return f"{why}: `aynig retry {operand(event.branch)}` runs it again"
    if event.state != AWAITING_APPROVAL or not proposes:
        return "held for a person or a condition"
    counted, refused = statement.value("approvals"), statement.value("refused")
    beside = [f"{escape(counted)} approvals"] if counted else []
    beside += [f"the last does not count: {escape(refused)}"] if refused else []
    told = f" ({'; '.join(beside)})" if beside else ""
    return (
        f"asks for {escape(proposes)}{told}: `aynig approve {operand(event.branch)}` or "
        f"`aynig reject {operand(event.branch)} -m WHY`"
    )


def _what_a_conflict_needs(event: Event) -> str:
    """Which files of which child a join could not merge, and what has it tried again."""
    statement = event.statement
    child = (statement.value("conflict-with") or "").rpartition("@")[0]
    paths = statement.values("conflict")
    told = [escape(path) for path in paths[:_PATHS_SHOWN]]
    total = statement.value("conflicts") or ""
    more = (int(total) if _COUNT.fullmatch(total) else len(paths)) - len(told)
    where = ", ".join(told) + (f" and {more} more" if more > 0 else "")
    again = f"`aynig retry {operand(event.branch)}` joins again"
    return f"{escape(child)} does not fit in: {where}; mend that child, then {again}"


def _copy_hold(event: Event, facts: Facts) -> Hold | None:
    """Design section 1.2: a copied tip is not a new event."""
    if facts.answered_by:
        return answered_hold(event, facts.answered_by)
    if facts.owner is not None and facts.owner != event.ref:
        return copy_hold(facts.owner, facts.now)
    return None


def answered_hold(event: Event, answer: str) -> Hold:
    """The same commit has its answer already."""
    return Hold(
        "answered",
        f"{event.oid[:12]} was answered by {answer[:12]}: "
        f"`aynig retry {operand(event.branch)}` makes a new event",
    )


def copy_hold(owner: str, now: float) -> Hold:
    """Another branch at the same commit goes first.

    A runner may also step back from it again, and that shows in its lease only: no branch changes.
    """
    detail = f"the same commit is dispatched on {escape(branch_of(owner))}"
    return Hold("copy", detail, now + FIRST_RECHECK)


def _script_hold(event: Event, facts: Facts) -> Hold | None:
    if isinstance(facts.script, Script):
        return None
    escalated = event.statement.value("escalated")
    if escalated is not None and facts.script.word == "missing-script":
        # Nobody has to write a script for a state that is a person's.
        subject = event.statement.subject
        # The state is in a column of its own.
        said = subject.partition(f" -> {event.state}: ")[2] or subject
        why = shorten(escape(event.statement.value("failure") or said), 100)
        again = f"`aynig retry {operand(event.branch)}` goes on, and the tip says what else does"
        return Hold("stalled", f"for a person: {why}: {again}")
    # Only an interpreter can come without any ref changing.
    until = facts.now + FIRST_RECHECK if facts.script.word == "bad-interpreter" else None
    return Hold(facts.script.word, facts.script.detail, until)


def _lease_hold(facts: Facts) -> Hold | None:
    if facts.lease is not None:
        return _running(facts.lease, facts.now)
    return deferral_hold(facts.deferral, facts.now) if facts.deferral is not None else None


def _running(lease: Lease, now: float) -> Hold:
    holder = lease.holder
    detail = f"on {escape(holder.host)}, pid {holder.pid}, run {escape(lease.run)}"
    return Hold("running", detail, now + FIRST_RECHECK)


def deferral_hold(deferral: Deferral, now: float) -> Hold | None:
    """What is to be tried later waits until its time; None where that has come."""
    # A clock that was set back must not keep a task for longer than it asked.
    left = min(deferral.not_before - now, deferral.seconds)
    if left <= 0:
        return None
    reason = escape(deferral.reason)
    if math.isinf(left):
        mend = f"`aynig retry {operand(branch_of(deferral.ref))}` runs it again"
        return Hold(deferral.hold, f"{reason}; given up after attempt {deferral.attempt}: {mend}")
    # A script whose answer is written is not run again.
    what = f"attempt {deferral.attempt + 1}" if not deferral.answer else "its answer again"
    detail = f"{what} in {format_duration(math.ceil(left))} ({reason})"
    return Hold(deferral.hold, detail, now + left)


def _assignment_hold(facts: Facts) -> Hold | None:
    verdict = facts.assignment
    return Hold(verdict.word, verdict.detail) if verdict.word else None


def _obstacle_hold(facts: Facts) -> Hold | None:
    if not facts.obstacle:
        return None
    return Hold("dirty-worktree", facts.obstacle, facts.now + FIRST_RECHECK)
