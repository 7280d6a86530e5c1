"""Decides what a run's answer is (design section 1.4). Pure: what the script left goes in."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from dataclasses import dataclass

from aynig import trailers
from aynig.attempts import attempt_fields
from aynig.dialects import Dialect, by_name, check_state
from aynig.durations import format_duration
from aynig.errors import UsageError
from aynig.model import (
    HELD_STATES,
    RESERVED_STATES,
    Field,
    Plan,
    Response,
    RunResult,
    Statement,
    Trailer,
)
from aynig.policies.autonomy import level
from aynig.policies.fallback import STALLED, way_on
from aynig.policies.loop import AGAIN, LIMIT, Iteration, LoopVerdict
from aynig.policies.loop import judge as judge_loop
from aynig.text import escape, shorten
from aynig.thread import unique
from aynig.usage import KEYS
from aynig.workflow import (
    AFTER,
    DEADLINE,
    FAILURE,
    OVER_BUDGET,
    TEMPFAIL,
    TIMEOUT,
    VERIFICATION,
    StateSettings,
)

TEMPFAIL_STATUS = 75

# The daemon's own testimony: a script that writes these is not believed.
RESERVED_FIELDS = frozenset(
    {
        "answers", "run", "runner", "executed-by", "agent", "attempt", "exit", "signal", "duration",
        "script", "rescue", "stopped", "fault", "step", "overruled", "failed-attempt", "failure",
        "iteration", "loop", "verified", "failed-scenario", "judged-by", "compensates", "then",
        "escalated", "proposes", "proposal", "approves", "approved-by", "approvals", "rejects",
        "replies-to", "retry-of", "resumes", "cancels", "begins", "parent", "reopened",
        "reopened-by", "would-reopen", "tried",
        # Of what people reply.
        "refused", "rejected-by", "answered-by",
        # Of children: what was asked for, what became of them.
        "child", "children", "child-state", "joined", "left-out", "unmerged", "conflict",
        "conflicts", "conflict-with", "canceled-by",
    }
)  # fmt: skip

# What an answer of the script's own would hide, or would say for itself.
_OURS_TO_SAY = frozenset({"verified", "overruled", "tried", "iteration", *KEYS})

SUBJECT_WIDTH = 120
FAILURE_WIDTH = 160


@dataclass(frozen=True, slots=True)
class Reply:
    """What the file `$AYNIG_RESPONSE` says; `state` is None where it names none."""

    state: str | None = None
    subject: str = ""
    body: str = ""
    fields: tuple[Field, ...] = ()
    trailers: tuple[Trailer, ...] = ()
    fault: str = ""
    # What it says and may not say: fields of the daemon's own.
    overruled: tuple[str, ...] = ()


def read_reply(raw: bytes, dialect: Dialect) -> Reply:
    """Read a response file: in the dialect of the task, leniently where its end is meant."""
    # What a file may say without a state; natively it is under the key of the state anyway.
    alone = (f"{dialect.field_prefix}retry-after",) if dialect.field_prefix else ()
    message = trailers.parse_response(raw, keys=(dialect.state_key, *alone))
    state, fields, others = dialect.claims(message.trailers)
    subject = "" if message.subject == trailers.NO_SUBJECT else message.subject
    return Reply(
        state=state,
        subject=subject,
        body=message.body,
        fields=tuple(field for field in fields if field.key not in RESERVED_FIELDS),
        trailers=others,
        fault=_state_fault(state) or _field_fault(dialect, fields, others),
        overruled=reserved(fields),
    )


def reserved(fields: Iterable[Field]) -> tuple[str, ...]:
    """The keys among these that only the daemon may write, each once."""
    return unique(field.key for field in fields if field.key in RESERVED_FIELDS)


def _field_fault(dialect: Dialect, fields: Iterable[Field], others: Iterable[Trailer]) -> str:
    try:
        for field in fields:
            dialect.field_trailer(field)
        for trailer in others:
            trailers.check_value(trailer.value, trailer.key)
    except UsageError as error:
        return f"its answer is malformed: {error}"
    return ""


def _state_fault(state: str | None) -> str:
    if state is None:
        return ""
    try:
        check_state(state)
    except UsageError as error:
        return f"its answer is malformed: {error}"
    if state in RESERVED_STATES:
        return f"its answer is malformed: {state} is a reserved state"
    return ""


@dataclass(frozen=True, slots=True)
class Left:
    """What the script left behind, as far as it matters for the answer."""

    # What the script's own last commit says, where it made one that descends from the trigger.
    own: Statement | None
    reply: Reply
    # Why its worktree can't be used; empty where it can.
    fault: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer's state and message, and whether the script's files and commits land with it."""

    response: Response
    succeeded: bool
    # The commits of the script land: always on success, after a failure only where the last of
    # them says the next state.
    lands_commits: bool
    # The script's last commit is the answer as it is (dwp).
    is_own_commit: bool
    fault: str
    # What the policies have to say in the answer.
    told: tuple[Field, ...] = ()
    # Is the next state one for a person, who has to be told what there is to know?
    to_person: bool = False


@dataclass(frozen=True, slots=True)
class Findings:
    """What aynig found out about a run, beside what the script says of itself."""

    # Why what it did can't be accepted; empty where it can.
    fault: str = ""
    # The score of its verification, where there was one, and what may be told of it.
    verified: str = ""
    # Why no result could have passed it.
    unfit: str = ""
    enough: bool = True
    told: tuple[Field, ...] = ()
    # Why the verification was ended from outside, as in `RunResult.stopped`.
    stopped: str = ""
    # Where its state is a loop.
    iteration: Iteration | None = None
    # What it has cost with the attempts before it, and what it said of that and is not believed.
    spent: tuple[Field, ...] = ()
    unbelieved: tuple[str, ...] = ()
    # Why it was stopped half-way, where it spent more than was left.
    overspent: str = ""
    # The last line of its output, by which failures are told apart.
    last_line: str = ""
    # What it tried to do to its branch, and was refused; words that follow "it tried to".
    tried: tuple[str, ...] = ()


NOTHING_FOUND = Findings()
# States that a run may name although it has failed and is guarded: none of them is a success.
_ENDS_HERE = HELD_STATES | {"failed", "canceled"}


def ending_of(result: RunResult, left: Left, findings: Findings = NOTHING_FOUND) -> str:
    """How a run ended: a word of `workflow.ENDINGS`, empty for a success."""
    if result.stopped == "timeout":
        return TIMEOUT
    if result.stopped in (OVER_BUDGET, DEADLINE):
        return result.stopped
    if result.stopped or result.fault or left.fault or findings.fault:
        return FAILURE
    if result.exit == TEMPFAIL_STATUS:
        return TEMPFAIL
    if result.exit != 0 or _answer_fault(left):
        return FAILURE
    return "" if findings.enough else VERIFICATION


def judge(plan: Plan, result: RunResult, left: Left, findings: Findings = NOTHING_FOUND) -> Verdict:
    """The answer, looked for in the order of design section 1.4.

    A run that was ended from outside, or whose result is unusable, has failed whatever it wrote
    before: a script killed half-way may have answered too early.
    """
    fault = result.fault or left.fault or findings.fault or _answer_fault(left)
    ending = ending_of(result, left, findings)
    believed = not (result.stopped or result.signal is not None or fault) and findings.enough
    said = _said(plan, left, failed=bool(ending)) if believed else _Said()
    way = _way(plan, ending, said.state, findings)
    dialect = by_name(plan.event.statement.dialect)
    told = _told(plan, result, left, findings, way, ending, said)
    # What policies have found has to be said by us; else a commit of the script's own is enough.
    alone = not dialect.adds_response and not any(field.key in _OURS_TO_SAY for field in told)
    return Verdict(
        response=Response(
            state=way.state,
            subject=_subject(plan, way, result, left, fault, findings),
            body=_body(left.reply.body, findings.tried),
            # What is malformed can't be written into a commit; the file itself is kept.
            fields=() if left.reply.fault else _without_spending(left.reply.fields),
            trailers=() if left.reply.fault else left.reply.trailers,
        ),
        succeeded=not ending,
        lands_commits=not ending or said.own,
        is_own_commit=said.own and alone,
        fault=fault,
        told=told,
        to_person=way.to_person,
    )


@dataclass(frozen=True, slots=True)
class _Said:
    """The state that the script names, where it counts, and whether its own commit does."""

    state: str | None = None
    own: bool = False
    # A state that it named in vain.
    overruled: str = ""


def _said(plan: Plan, left: Left, *, failed: bool) -> _Said:
    own = left.own.state if left.own is not None else None
    state = own or left.reply.state
    if state is not None and failed and _is_guarded(plan.settings):
        # Whoever has failed is not judged: so nothing of it lands, and it can't say how to go on.
        return _Said(state) if state in _ENDS_HERE else _Said(overruled=state)
    if state is not None and state not in HELD_STATES and (plan.settings.loop or plan.thread.then):
        # Out of a loop leads a promise, and out of a compensation what failed before it.
        return _Said(overruled=state)
    return _Said(state, own is not None)


def _is_guarded(settings: StateSettings) -> bool:
    """Is what a run left looked at before it counts, or are its effects undone where it failed?"""
    approval = settings.approval
    return (
        settings.verify is not None
        or settings.expect in ("changes", "answer")
        or settings.compensate is not None
        or (approval is not None and approval.when == AFTER)
    )


@dataclass(frozen=True, slots=True)
class _Way:
    """The next state, and why."""

    state: str
    then: str = ""
    to_person: bool = False
    # What a loop makes of the iteration.
    loop: LoopVerdict | None = None


def _way(plan: Plan, ending: str, said: str | None, findings: Findings) -> _Way:
    settings = plan.settings
    goes_round = settings.loop is not None and ending != DEADLINE
    if settings.loop is not None and goes_round and findings.iteration and said is None:
        verdict = judge_loop(settings.loop, findings.iteration)
        if verdict.word == AGAIN:
            return _Way(plan.event.state, loop=verdict)
        if verdict.word == LIMIT:
            state = settings.loop.on_limit or settings.escalate
            return _Way(state or STALLED, to_person=settings.loop.on_limit is None, loop=verdict)
        return _Way(settings.next or "done", loop=verdict)
    if not ending:
        return _Way(said or plan.thread.then or settings.next or "done")
    autonomy = level(plan.workflow.autonomy, plan.thread.autonomy)
    way = way_on(settings, said=said, autonomy=autonomy)
    return _Way(way.state, way.then, way.to_person)


def _told(
    plan: Plan,
    result: RunResult,
    left: Left,
    findings: Findings,
    way: _Way,
    ending: str,
    said: _Said,
) -> tuple[Field, ...]:
    """What the policies have to say in the answer."""
    found = attempt_fields(plan.past)
    if findings.verified:
        found.append(Field("verified", findings.verified))
    found += [*findings.told, *findings.spent]
    if way.loop is not None and plan.settings.loop is not None and findings.iteration is not None:
        number = f"{findings.iteration.number}/{plan.settings.loop.limit}"
        found += [Field("iteration", number), Field("loop", way.loop.word)]
    if ending:
        found.append(Field("failure", failure_text(result, left, findings)))
    if way.then:
        found += [Field("compensates", plan.event.origin), Field("then", way.then)]
    if way.to_person:
        found.append(Field("escalated", plan.event.origin))
    own = reserved(left.own.fields) if left.own is not None else ()
    overruled = unique([*left.reply.overruled, *own, *([said.overruled] if said.overruled else [])])
    unbelieved = [
        shorten(escape(" ".join(text.split())), FAILURE_WIDTH) for text in findings.unbelieved
    ]
    found += [Field("overruled", text) for text in [*overruled, *unbelieved]]
    return (*found, *(Field("tried", words) for words in findings.tried))


def _body(said: str, tried: tuple[str, ...]) -> str:
    """What the script says, and what it tried beside that."""
    if not tried:
        return said
    told = f"It tried to {', to '.join(tried)}, which was refused: its answer moves the branch."
    return f"{said.strip()}\n\n{told}".strip()


def failure_text(result: RunResult, left: Left, findings: Findings) -> str:
    """How a run failed, in one line by which equal failures are known."""
    fault = left.fault or findings.fault or _answer_fault(left)
    text = findings.overspent or outcome(result, fault)
    if not findings.enough and not fault:
        text = f"verification: {findings.unfit or findings.verified}"
    elif result.stopped in ("timeout", DEADLINE):
        # The time it took differs from run to run.
        text = "timed out" if result.stopped == "timeout" else "its deadline was over"
    shows = findings.last_line and findings.enough and not fault
    last = f": {findings.last_line}" if shows else ""
    return _one_line(f"{text}{last}") or "failed"


def _one_line(text: str) -> str:
    return shorten(escape(" ".join(text.split())), FAILURE_WIDTH)


def _without_spending(fields: tuple[Field, ...]) -> tuple[Field, ...]:
    """What was spent is added up from all that is known of it, not from the answer alone."""
    return tuple(field for field in fields if field.key not in KEYS)


def _answer_fault(left: Left) -> str:
    if left.own is not None:
        if left.own.fault:
            return f"its own commit is malformed: {left.own.fault}"
        fault = _state_fault(left.own.state)
        if fault:
            return fault
    return left.reply.fault


def _subject(
    plan: Plan, way: _Way, result: RunResult, left: Left, fault: str, findings: Findings
) -> str:
    """`review-needed -> approved: 2 findings fixed`: `git log --graph` reads as a dashboard."""
    said = left.reply.subject or (left.own.subject if left.own is not None else "")
    ending = ending_of(result, left, findings)
    reason = "" if ending in ("", VERIFICATION) else findings.overspent or outcome(result, fault)
    score = f"verified {findings.verified}" if findings.verified else ""
    score += f": {findings.unfit}" if findings.unfit else ""
    turn = way.loop.detail if way.loop is not None else ""
    undoes = f"to undo, then {way.then}" if way.then else ""
    told = "; ".join(part for part in (turn, reason, score, undoes, said) if part)
    head = f"{plan.event.state} -> {way.state}"
    return shorten(f"{head}: {escape(told)}" if told else head, SUBJECT_WIDTH)


def outcome(result: RunResult, fault: str = "") -> str:
    """How a run ended, in a clause for people; `ok` for success."""
    if fault or result.fault:
        return fault or result.fault
    if result.stopped == "timeout":
        return f"timed out after {format_duration(result.duration)}"
    if result.stopped == DEADLINE:
        return f"stopped after {format_duration(result.duration)}, as its deadline was over"
    if result.stopped == "moved":
        return "the branch has moved"
    if result.stopped:
        return result.stopped
    if result.signal is not None:
        return f"killed by {_signal_name(result.signal)}"
    return "ok" if result.exit == 0 else f"exit {result.exit}"


def exit_status(result: RunResult) -> int:
    """One number as a shell gives it: 128 and the signal's, 126 where nothing could be started."""
    if result.exit is not None:
        return result.exit
    return 128 + result.signal if result.signal is not None else 126


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
