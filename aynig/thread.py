"""The thread of a task: its own history, folded one commit at a time. Pure.

From the tip down, an answer leads to the commit that it answers, so what a script committed in
between is never read: whatever it claims there, it claims in vain. A state commit of a person
continues the thread where the commit below it carries a state that has not ended well; otherwise it
begins a new one. `threads` reads the commits.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from aynig.durations import parse_duration
from aynig.model import AWAITING_APPROVAL, Field, Statement, Thread
from aynig.workflow import DEADLINE

# A person's commit on top of one of these begins another task, unless it says that it goes on.
_OVER = frozenset({"done", "failed", "canceled"})
# Fields of commits that go on with a task that has ended; each names the commit below.
GOES_ON = ("retry-of", "reopens")
# The field of a first commit that could be taken for the next one of the task below it.
BEGINS = "begins"
# How the subject of a retry begins.
RETRY = "retry "
# What people say to a proposal; it is judged by the next step.
REPLIES = frozenset({"approved", "rejected", "answered"})
# How the subjects of answers begin, and how those of approved ones end.
_ARROW = re.compile(r"^[a-z0-9_-]+ -> [a-z0-9_-]+(?:: |$)")
_APPROVED = re.compile(r"(?: \(approved by [^()]*\))+$")
_NUMBER = re.compile(r"-?[0-9]{1,9}")
# Longest that priorities of people's fields may be.
_PRIORITIES = range(-100, 101)

__all__ = [
    "BEGINS",
    "REPLIES",
    "RETRY",
    "Thread",
    "Told",
    "begin",
    "carried",
    "continues",
    "first_words",
    "follow",
    "unique",
]


@dataclass(frozen=True, slots=True)
class Told:
    """A commit of a thread, as far as it matters for the fold."""

    oid: str
    time: int
    tree: str
    # First parent; empty for a commit without one.
    parent: str
    statement: Statement


def continues(commit: Told, below: Statement | None) -> bool:
    """Does a person's state commit go on with the task of the commit below it?

    One that names a parent of its own is a child that was started there.
    """
    said = commit.statement
    if below is None:
        return False
    if any(said.value(key) == commit.parent for key in GOES_ON):
        return True
    return below.state not in _OVER and said.value("parent") is None and not said.value(BEGINS)


def begin(commit: Told) -> Thread:
    """The thread of a task that a commit begins."""
    return _with_fields(
        Thread(start=commit.oid, began=commit.time, accepted=commit.tree, by_person=commit.oid),
        commit.statement,
    )


def follow(before: Thread, commit: Told, answered: Told | None) -> Thread:
    """The thread after one more commit; `answered` is what it answers, None for a person's."""
    if answered is None:
        return _with_fields(_after_person(before, commit), commit.statement)
    return _after_answer(before, commit, answered)


def _after_person(before: Thread, commit: Told) -> Thread:
    """A person has looked at it: what went wrong in a row until now counts no more.

    Who tries a join again wants the same children, which may have been mended meanwhile.
    """
    if commit.statement.state in REPLIES:
        return before
    if commit.statement.value("retry-of") is not None:
        before = replace(before, settled=before.settled - before.lately)
    same = commit.statement.state == before.ran
    return replace(
        before,
        iterations=before.iterations if same else 0,
        unchanged=0,
        failure="",
        failures=0,
        by_person=commit.oid,
        then="",
        lately=frozenset(),
        overdue=False,
    )


def _after_answer(before: Thread, commit: Told, answered: Told) -> Thread:
    statement, ran = commit.statement, answered.statement.state
    if statement.value("step") is not None:
        return _after_step(before, commit)
    again = ran == before.ran
    failure = statement.value("failure") or ""
    unchanged = commit.tree == answered.tree
    return replace(
        before,
        ran=ran,
        steps=before.steps + 1,
        iterations=_count(statement.value("iteration")) if again_in(statement, ran) else 0,
        unchanged=(before.unchanged if again else 0) + 1 if unchanged else 0,
        failure=failure,
        failures=(before.failures if again and failure == before.failure else 0) + 1
        if failure
        else 0,
        then=_then(statement),
        reopened=before.reopened + (statement.value("reopened") is not None),
        started=before.started.union(statement.values("child")),
        lately=frozenset(),
        overdue=before.overdue or statement.value("stopped") == DEADLINE,
    )


def again_in(statement: Statement, state: str) -> bool:
    """Does an answer lead to this state, at once or when it is approved?"""
    return state in (statement.state, statement.value("proposes"))


def _after_step(before: Thread, commit: Told) -> Thread:
    statement = commit.statement
    settled = frozenset((*statement.values("joined"), *statement.values("left-out")))
    told = before.told.union(statement.values("child"), statement.values("canceled-by"))
    if statement.state == AWAITING_APPROVAL:
        # It says what would be joined or told of: until somebody approves that, nothing is.
        settled, told = frozenset(), before.told
    late = before.overdue or statement.value("step") == DEADLINE
    return replace(
        before,
        settled=before.settled | settled,
        lately=settled - before.settled,
        told=told,
        verdicts=(*before.verdicts, *_verdicts(statement)),
        accepted=commit.tree if statement.value("approves") else before.accepted,
        overdue=late,
        then=_then(statement) or before.then,
        # An answer that waited for approval sends nobody back before.
        reopened=before.reopened + (statement.value("reopened") is not None),
    )


def _then(statement: Statement) -> str:
    """What follows the compensation that an answer asks for: one that is approved says so again."""
    return "" if statement.state == AWAITING_APPROVAL else statement.value("then") or ""


def _verdicts(statement: Statement) -> list[tuple[str, bool]]:
    approved, rejected = statement.value("approves"), statement.value("rejects")
    found = [(approved, True)] if approved else []
    return [*found, (rejected, False)] if rejected else found


def _with_fields(thread: Thread, statement: Statement) -> Thread:
    """What a person's commit says of the whole task; what it does not say stays."""
    changes: dict[str, object] = {}
    for key in ("depends-on", "resource"):
        values = statement.values(key)
        if values:
            changes["depends_on" if key == "depends-on" else "resources"] = unique(values)
    for key in ("parent", "autonomy"):
        value = statement.value(key)
        if value:
            changes[key] = value
    priority = statement.value("priority")
    if priority is not None and _NUMBER.fullmatch(priority) and int(priority) in _PRIORITIES:
        changes["priority"] = int(priority)
    deadline = statement.value("deadline")
    if deadline is not None:
        with contextlib.suppress(ValueError):
            changes["deadline"] = parse_duration(deadline)
    return replace(thread, **changes) if changes else thread  # type: ignore[arg-type]


def first_words(statement: Statement) -> str:
    """The subject of a task without what retries and approvals have put around it."""
    subject = statement.subject
    if statement.value("approves") is not None:
        subject = _APPROVED.sub("", _ARROW.sub("", subject))
    if statement.value("retry-of") is not None:
        subject = subject.removeprefix(RETRY)
    return subject


def unique(values: Iterable[str]) -> tuple[str, ...]:
    """The values in their order, each once."""
    return tuple(dict.fromkeys(values))


def carried(statement: Statement, state: str, said: Iterable[Field] = ()) -> list[Field]:
    """The fields that an answer with this state takes over from the commit that it answers.

    So the tip alone tells whose child a task is, also to somebody who walks no history. Where the
    same state runs again, the task stays whose it is; unless the answer has `said` whose.
    """
    keys = ["parent"]
    if state == statement.state and all(field.key != "assigned-to" for field in said):
        keys.append("assigned-to")
    found = ((key, statement.value(key)) for key in keys)
    return [Field(key, value) for key, value in found if value]


def _count(text: str | None) -> int:
    """`4` of `4/50`; 0 for what is no count."""
    number = (text or "").partition("/")[0]
    return int(number) if number.isascii() and number.isdigit() and len(number) < 10 else 0
