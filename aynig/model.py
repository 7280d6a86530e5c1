"""The values that go from step to step: all frozen, none with behaviour that reaches outside.

Oids are lower-case hexadecimal strings, refs are full names (`refs/heads/main`), times are
seconds since the epoch (UTC) as integers or floats, durations are seconds. Text that came out
of a repository may hold surrogate escapes where its bytes were not UTF-8.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from aynig.workflow import Agent, StateSettings, Workflow

HEADS = "refs/heads/"
LEASES = "refs/aynig/lease/"
RESCUES = "refs/aynig/rescue/"
RUNNERS = "refs/aynig/runner/"
# What of resources and limits is taken: each points at the lease that took it.
SLOTS = "refs/aynig/slot/"
# When a person has closed the circuit breaker of a state.
BREAKERS = "refs/aynig/breaker/"
# What runners of a remote share beside its branches.
BESIDE = (LEASES, SLOTS, BREAKERS)
# The hold of a task whose branch was taken away while it ran.
LOST = "lost"

# Design section 1.1: a state names a file.
STATE_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
# A role names a folder and is written by people in the same way.
ROLE_PATTERN = STATE_PATTERN

ENDED_STATES = frozenset({"done", "failed", "canceled"})
RESERVED_STATES = frozenset({"working"})
# A request for people's approval, and a question to them.
AWAITING_APPROVAL = "awaiting-approval"
AWAITING_ANSWER = "awaiting-answer"
AWAITING = frozenset({AWAITING_APPROVAL, AWAITING_ANSWER})
# Held for a person or a condition; dispatched only where the workflow names a script for them.
HELD_STATES = frozenset({"blocked", "waiting", "stalled"}) | AWAITING


def branch_of(ref: str) -> str:
    """`refs/heads/a/b` as people say it: `a/b`."""
    return ref.removeprefix(HEADS)


class Trailer(NamedTuple):
    """One trailer of a commit message, as git reads it: the key without its separator."""

    key: str
    value: str


class Field(NamedTuple):
    """One field of a dialect: `aynig: assigned-to: bob` is `Field("assigned-to", "bob")`."""

    key: str
    value: str


class RefChange(NamedTuple):
    """A branch that points somewhere else than when it was last seen.

    `old` is None for a branch that is new, `new` is None for one that is gone. A tuple, because
    there are as many at a first look as there are branches.
    """

    ref: str
    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class Statement:
    """What a commit message says in one of the dialects.

    `fault` is empty for a well-formed message; otherwise it says in one clause why the commit
    is never dispatched, and `state` holds what was written, as far as it can be shown.
    """

    dialect: str
    state: str
    subject: str
    body: str
    fields: tuple[Field, ...] = ()
    trailers: tuple[Trailer, ...] = ()
    fault: str = ""

    def value(self, key: str) -> str | None:
        """The last value of a field, or None."""
        found = None
        for name, value in self.fields:
            if name == key:
                found = value
        return found

    def values(self, key: str) -> tuple[str, ...]:
        """All values of a field, in the order of the message."""
        return tuple(value for name, value in self.fields if name == key)


@dataclass(frozen=True, slots=True)
class Event:
    """A branch whose tip carries a state: the one thing that may lead to a run."""

    ref: str
    oid: str
    tree: str
    time: int
    statement: Statement
    # The commit that the statement stands in, where the branch is at another one: in dwp the lease
    # lies on top of it.
    trigger: str = ""

    @property
    def origin(self) -> str:
        """The triggering commit: what an answer answers."""
        return self.trigger or self.oid

    @property
    def branch(self) -> str:
        return branch_of(self.ref)

    @property
    def state(self) -> str:
        return self.statement.state


@dataclass(frozen=True, slots=True)
class Script:
    """A program of the trusted tree (or of those that ship with aynig), ready to start."""

    # Path below `home`, e.g. `review-needed` or `roles/reviewer/review-needed`.
    path: str
    # The blob that will run: it is on record in the answer.
    oid: str
    # The folder the program and what lies beside it were written out to.
    home: str
    # What it is given, where it is the program of an agent.
    argv: tuple[str, ...] = ()

    @property
    def program(self) -> str:
        return f"{self.home}/{self.path}"


@dataclass(frozen=True, slots=True)
class ScriptProblem:
    """Why there is nothing to run for a state: a word for programs, a sentence for people."""

    word: str
    detail: str


@dataclass(frozen=True, slots=True)
class Thread:
    """What the history of a task comes to at one commit of it."""

    # The commit that began the task, and its committer time.
    start: str
    began: int
    # The branch of the task that this one is a child of; empty for none.
    parent: str = ""
    depends_on: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    priority: int | None = None
    # In seconds from the beginning.
    deadline: float | None = None
    autonomy: str = ""
    # The state that ran last, and the commit of it; empty before the first answer.
    ran: str = ""
    # Answers so far, and iterations of the loop that the tip is in.
    steps: int = 0
    iterations: int = 0
    # Answers in a row, of the state that ran last, that changed no file; that failed alike.
    unchanged: int = 0
    failure: str = ""
    failures: int = 0
    # How often a task that this one depends on was sent back to work by it.
    reopened: int = 0
    # Branches of the children that its own runs have started.
    started: frozenset[str] = frozenset()
    # Children that a join has settled, as `branch@oid`; those that the last step has.
    settled: frozenset[str] = frozenset()
    lately: frozenset[str] = frozenset()
    # Ends of other tasks that it was told of, as `branch@oid`: of children, of its parent.
    told: frozenset[str] = frozenset()
    # What people have said to proposals, in order: the commit that was proposed, and if it counts.
    verdicts: tuple[tuple[str, bool], ...] = ()
    # The files that people have accepted last, or begun it with: the oid of their tree.
    accepted: str = ""
    # The commit that a person made last.
    by_person: str = ""
    # The state after the compensation that the tip asks for; empty where it asks for none.
    then: str = ""
    # Was it answered that its time is up, and has no person asked for more since?
    overdue: bool = False


# How an attempt ended of which nobody saw the end.
CRASHED = "crash"


@dataclass(frozen=True, slots=True)
class Attempt:
    """A run of a commit that failed and was to be repeated."""

    # A word of `workflow.ENDINGS`, or `CRASHED`.
    ending: str
    # Did it change any file?
    changed: bool
    # The ref that keeps what it left; empty where it left nothing.
    rescue: str
    # When it ended, in seconds since the epoch.
    time: float
    # How it ended, in a clause.
    text: str


@dataclass(frozen=True, slots=True)
class Step:
    """What aynig answers itself, without a script: the decision of a policy."""

    # A word for programs: the policy that decided.
    kind: str
    state: str
    # A clause for people: it ends the subject of the answer.
    subject: str
    body: str = ""
    fields: tuple[Field, ...] = ()
    trailers: tuple[Trailer, ...] = ()
    # The commit whose files the answer has; empty for those of the triggering one.
    files_of: str = ""
    # Tips of other tasks that the answer has as further parents, and what becomes of their files.
    parents: tuple[str, ...] = ()
    merge: str = "none"
    # The state where those files can't be merged.
    on_conflict: str = "stalled"
    # Is it what the task was to come to, and not the way that follows a failure?
    succeeded: bool = False
    # The task that is sent back to work with it, as `branch@oid`; empty for none.
    reopens: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be run for an event, and on which grounds."""

    event: Event
    script: Script
    settings: StateSettings
    role: str
    attempt: int
    # Infinity for none.
    timeout: float
    # What is answered where no script runs; `script` is then NO_SCRIPT.
    step: Step | None = None
    # The attempts at the same commit that failed before.
    past: tuple[Attempt, ...] = ()
    # What they have cost.
    spent: tuple[Field, ...] = ()
    workflow: Workflow = field(default=Workflow())
    # The oid of the tree that the workflow and the scripts come from.
    trusted: str = ""
    thread: Thread = field(default=Thread("", 0))
    # Whose the task is, where the workflow knows that agent.
    agent: Agent | None = None
    # When the time of the whole task is up; None: never. Is it that which limits this run?
    deadline: float | None = None
    by_deadline: bool = False


@dataclass(frozen=True, slots=True)
class LoopFacts:
    """What a script of a loop is told."""

    number: int
    limit: int
    # The next item of the plan that is not checked; None where there is none.
    item: str | None
    # What the iteration before this one wrote into the body of its answer.
    said: str = ""


NO_SCRIPT = Script(path="", oid="", home="")


class Place(NamedTuple):
    """What no more than `capacity` runs may have at a time: a resource, a share of a limit."""

    # What its slots begin with, `refs/aynig/slot/<hash>`.
    name: str
    capacity: int
    # As a sentence names it: `the resource deploy-prod`.
    told: str
    # The word of the hold of who waits for it.
    word: str = "waiting"


@dataclass(frozen=True, slots=True)
class Hold:
    """Why an event is not run now: one word for programs, a sentence for people."""

    word: str
    detail: str
    # When it is worth another look, in seconds since the epoch; None where only a change helps.
    until: float | None = None
    # What may end it by a change: branches as full refs, commits on which a branch may come to lie,
    # `REMOTE:BRANCH`. Of any branch where it is None and the hold is for other tasks.
    on: frozenset[str] | None = None
    # What has to be free first, where it waits for that.
    places: tuple[Place, ...] = ()
    # When the time of the whole task is up, in seconds since the epoch; it is answered then.
    deadline: float | None = None


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a lease: enough to tell on the same host whether it still lives."""

    runner: str
    host: str
    pid: int
    # Boot id of the host and start time of the process: a pid alone is used again.
    boot: str
    started: str


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run one branch, for as long as `name` points at `oid`."""

    # The ref that holds it, `refs/aynig/lease/<hash>`.
    name: str
    oid: str
    ref: str
    # The triggering commit.
    trigger: str
    run: str
    holder: Holder
    seconds: float
    attempt: int
    time: int
    # Who the holder takes tasks as: for people to read.
    agent: str = ""
    roles: tuple[str, ...] = ()
    past: tuple[Attempt, ...] = ()
    # What this commit has cost so far, all attempts together, as far as it was told; and what of
    # that the attempts before this one have.
    spent: tuple[Field, ...] = ()
    before: tuple[Field, ...] = ()
    # The agent of the workflow that it is run for, whose limits count; empty for none.
    charged: str = ""
    # The slot refs that it has.
    slots: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Seat:
    """One slot as it was seen."""

    ref: str
    # What the ref points at; None where there is none.
    seen: str | None = None
    # The branch whose run has it; empty where it is free.
    branch: str = ""
    # The lease ref by which that was judged, and what it pointed at; empty where none was.
    lease_ref: str = ""
    lease_seen: str | None = None
    # The lease of a dead or expired run, which has to go before the slot may be taken.
    left: Lease | None = None


class Gate(NamedTuple):
    """A ref that all starts of one kind move, and what it was at when they were counted."""

    ref: str
    seen: str | None


@dataclass(frozen=True, slots=True)
class Deferral:
    """A lease ref of a task that is to be tried later: free, but not before its time."""

    oid: str
    ref: str
    trigger: str
    run: str
    attempt: int
    # Both infinite where only a new commit is tried again.
    not_before: float
    seconds: float
    reason: str
    # The word of the hold until then: "waiting" where the script asked for it, "error" after one;
    # of an answer that could not land, why.
    hold: str = "waiting"
    # The response commit that is written already, and the ref that keeps it.
    answer: str = ""
    kept: str = ""
    past: tuple[Attempt, ...] = ()
    spent: tuple[Field, ...] = ()
    charged: str = ""


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a script ended, and where its output lies."""

    # Exit status, None where a signal ended it.
    exit: int | None
    signal: int | None
    started: float
    duration: float
    # Empty, or why aynig itself ended it: "timeout", "deadline", "over-budget", "moved" (the branch
    # is at another commit), "canceled", "drained", "lease-lost".
    stopped: str = ""
    # Empty, or why it could not be started or its result can't be used.
    fault: str = ""
    output: str = ""

    @property
    def succeeded(self) -> bool:
        return self.exit == 0 and not self.stopped and not self.fault


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to a commit, before it is one."""

    state: str
    subject: str
    body: str
    fields: tuple[Field, ...] = field(default=())
    trailers: tuple[Trailer, ...] = field(default=())
