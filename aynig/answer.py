"""Decides what a run's answer is (design section 1.4). Pure: what the script left goes in."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from dataclasses import dataclass

from aynig import trailers
from aynig.dialects import Dialect, by_name, check_state
from aynig.durations import format_duration
from aynig.errors import UsageError
from aynig.model import RESERVED_STATES, Field, Plan, Response, RunResult, Statement, Trailer
from aynig.text import escape, shorten

TEMPFAIL = 75

# The daemon's own testimony: a script that writes these is not believed.
RESERVED_FIELDS = frozenset(
    {
        "answers", "run", "runner", "executed-by", "attempt", "exit", "signal", "duration",
        "script", "rescue", "stopped", "fault",
    }
)  # fmt: skip

SUBJECT_WIDTH = 120


@dataclass(frozen=True, slots=True)
class Reply:
    """What the file `$AYNIG_RESPONSE` says; `state` is None where it names none."""

    state: str | None = None
    subject: str = ""
    body: str = ""
    fields: tuple[Field, ...] = ()
    trailers: tuple[Trailer, ...] = ()
    fault: str = ""


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
    )


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


def asks_for_retry(result: RunResult, left: Left) -> bool:
    """Exit status 75, EX_TEMPFAIL of sysexits(3), and nothing else gone wrong."""
    return result.exit == TEMPFAIL and not result.stopped and not result.fault and not left.fault


def judge(plan: Plan, result: RunResult, left: Left) -> Verdict:
    """The answer, looked for in the order of design section 1.4.

    A run that was ended from outside, or whose result is unusable, has failed whatever it wrote
    before: a script killed half-way may have answered too early.
    """
    fault = result.fault or left.fault or _answer_fault(left)
    ended = bool(result.stopped) or result.signal is not None or bool(fault)
    own_state = left.own.state if left.own is not None and not ended else None
    reply_state = None if ended else left.reply.state
    succeeded = result.succeeded and not fault
    state = own_state or reply_state or _configured(plan, succeeded)
    dialect = by_name(plan.event.statement.dialect)
    return Verdict(
        response=Response(
            state=state,
            subject=_subject(plan, state, result, left, fault, succeeded),
            body=left.reply.body,
            # What is malformed can't be written into a commit; the file itself is kept.
            fields=() if left.reply.fault else left.reply.fields,
            trailers=() if left.reply.fault else left.reply.trailers,
        ),
        succeeded=succeeded,
        lands_commits=succeeded or own_state is not None,
        is_own_commit=own_state is not None and not dialect.adds_response,
        fault=fault,
    )


def _answer_fault(left: Left) -> str:
    if left.own is not None:
        if left.own.fault:
            return f"its own commit is malformed: {left.own.fault}"
        fault = _state_fault(left.own.state)
        if fault:
            return fault
    return left.reply.fault


def _configured(plan: Plan, succeeded: bool) -> str:
    if succeeded:
        return plan.settings.next or "done"
    return plan.settings.on_failure or "failed"


def _subject(
    plan: Plan, state: str, result: RunResult, left: Left, fault: str, succeeded: bool
) -> str:
    """`review-needed -> approved: 2 findings fixed`: `git log --graph` reads as a dashboard."""
    said = left.reply.subject or (left.own.subject if left.own is not None else "")
    reason = "" if succeeded else outcome(result, fault)
    told = "; ".join(part for part in (reason, said) if part)
    head = f"{plan.event.state} -> {state}"
    return shorten(f"{head}: {escape(told)}" if told else head, SUBJECT_WIDTH)


def outcome(result: RunResult, fault: str = "") -> str:
    """How a run ended, in a clause for people; `ok` for success."""
    if fault or result.fault:
        return fault or result.fault
    if result.stopped == "timeout":
        return f"timed out after {format_duration(result.duration)}"
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
