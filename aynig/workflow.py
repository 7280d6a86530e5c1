"""What `.aynig/config.yaml` may say, as frozen values: one class a policy (docs/workflow.md).

Durations are seconds, money is US dollars as an exact decimal, `None` means that the file says
nothing. Nothing here decides: that is done in `policies/`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from decimal import Decimal

# What a run may end as, where it was no success: the words of `retries.on`.
FAILURE = "failure"
TIMEOUT = "timeout"
TEMPFAIL = "tempfail"
VERIFICATION = "verification"
ENDINGS = (FAILURE, TIMEOUT, TEMPFAIL, VERIFICATION)
# Stopped because it spent more than was left: another attempt would as well.
OVER_BUDGET = "over-budget"
# Stopped because the time of the whole task was up.
DEADLINE = "deadline"

BEFORE = "before"
AFTER = "after"

# From the one that stops most often for a person to the one that never does.
AUTONOMY = ("step", "checkpoint", "end", "stuck", "never")

DEFAULT_ITERATIONS = 50


@dataclass(frozen=True, slots=True)
class Need:
    """How many of a number are enough: `all`, `any`, `2` or `90%`."""

    count: int | None = None
    percent: Decimal | None = None

    def of(self, total: int) -> int:
        """How many of `total` have to be; more than `total` where a count asks for that."""
        if self.count is not None:
            return self.count
        if self.percent is not None:
            return math.ceil(self.percent * total / 100)
        return total

    def __str__(self) -> str:
        if self.count is not None:
            return "any" if self.count == 1 else str(self.count)
        return f"{self.percent.normalize():f}%" if self.percent is not None else "all"


ALL = Need()
ANY = Need(count=1)


@dataclass(frozen=True, slots=True)
class Retries:
    """`max` attempts beyond the first; the pause grows by `factor`, give or take `jitter`."""

    max: int = 3
    backoff: float = 10.0
    factor: float = 2.0
    # A share of the pause, from 0 to 1.
    jitter: float = 0.2
    on: tuple[str, ...] = (FAILURE, TIMEOUT, TEMPFAIL, VERIFICATION)


@dataclass(frozen=True, slots=True)
class Join:
    """Fan-in: the task goes on in `then` when `need` of its children are done."""

    then: str
    need: Need = ALL
    # What becomes of the children's files: none, ours, octopus, sequential.
    merge: str = "sequential"
    # The state after files that can't be merged.
    on_conflict: str | None = None


@dataclass(frozen=True, slots=True)
class ChildLimits:
    """How far tasks may multiply."""

    # Children of children of...; a task that a person submits has depth 0.
    depth: int = 3
    # Of one parent.
    each: int = 20
    # Of all tasks that come of one.
    total: int = 100


@dataclass(frozen=True, slots=True)
class Loop:
    """The same prompt again in a fresh process until a promise is kept."""

    promise: str | None = None
    # None: the file names no limit. DEFAULT_ITERATIONS counts then.
    max_iterations: int | None = None
    # A file with a list of `- [ ]` items, relative to the top of the tree.
    plan: str | None = None
    # The state after the last allowed iteration; None: `escalate`, else stalled.
    on_limit: str | None = None

    @property
    def limit(self) -> int:
        return self.max_iterations or DEFAULT_ITERATIONS


@dataclass(frozen=True, slots=True)
class Breaker:
    """The circuit breaker: what opens it, and for how long; None: that opens it never."""

    # Iterations or attempts in a row without a change of the tree.
    no_change: int | None = None
    # In a row with the same failure.
    same_failure: int | None = None
    # Failures of the state in a row, across tasks, of the last `within` seconds.
    failures: int | None = None
    within: float = 86_400.0
    # Until one is let through to try.
    pause: float = 1800.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Rate and budget, of a state, an agent or the repository."""

    calls_per_hour: int | None = None
    concurrent: int | None = None
    cost_usd_per_task: Decimal | None = None
    cost_usd_per_day: Decimal | None = None
    tokens_per_task: int | None = None
    tokens_per_day: int | None = None


@dataclass(frozen=True, slots=True)
class Scenarios:
    """Where scenarios lie: a folder at `path` in the tree of `ref`.

    An empty `ref` is the trusted tree. An empty `repository` is this one; else a remote's name,
    a path or a URL.
    """

    path: str
    ref: str = ""
    repository: str = ""


@dataclass(frozen=True, slots=True)
class Verification:
    """What judges a run after it: commands and scenarios, all counted alike."""

    commands: tuple[str, ...] = ()
    scenarios: tuple[Scenarios, ...] = ()
    need: Need = ALL
    # What the answer and the worker may know of failures: nothing but the score, names, output.
    show: str = "score"
    # Of each command and scenario, in seconds.
    timeout: float = 600.0
    # Is a published hash of the scenarios demanded before the worker starts?
    committed: bool = False


@dataclass(frozen=True, slots=True)
class Approval:
    """Who has to agree, and when: before the script runs, or before its answer counts."""

    when: str = AFTER
    # Names, addresses or key fingerprints; empty: anybody but who did the work.
    by: tuple[str, ...] = ()
    need: int = 1
    # What the request shows: diff, stat, none.
    show: str = "diff"
    # The state after a refusal; None: failed.
    on_reject: str | None = None


@dataclass(frozen=True, slots=True)
class Agent:
    """Somebody that tasks are assigned to."""

    name: str
    role: str | None = None
    # A program of the trusted tree that runs in the place of a state's script, and its arguments.
    command: tuple[str, ...] = ()
    limits: Limits | None = None
    # What its commits are made as: `Name <address>`.
    identity: str | None = None


@dataclass(frozen=True, slots=True)
class StateSettings:
    """What the file says of one state; None means that it says nothing."""

    next: str | None = None
    on_failure: str | None = None
    timeout: float | None = None
    role: str | None = None
    env: tuple[tuple[str, str], ...] = ()
    agent: str | None = None
    retries: Retries | None = None
    # Runs to undo what has effects outside git; the task fails after it.
    compensate: str | None = None
    # A person's state, with what the person needs.
    escalate: str | None = None
    # fail, wait, run.
    on_dependency_failure: str = "wait"
    join: Join | None = None
    on_child: str | None = None
    loop: Loop | None = None
    breaker: Breaker | None = None
    limits: Limits | None = None
    verify: Verification | None = None
    # changes, answer, none.
    expect: str | None = None
    approval: Approval | None = None
    # Where `autonomy: checkpoint` stops.
    checkpoint: bool = False
    resources: tuple[str, ...] = ()
    deadline: float | None = None
    priority: int | None = None
    # Protected paths that its scripts may change.
    may_change: tuple[str, ...] = ()

    @property
    def waits(self) -> bool:
        """Is it a waiting room for children, in which no script runs?"""
        return self.join is not None or self.on_child is not None


@dataclass(frozen=True, slots=True)
class Workflow:
    """All of the file. What is said for all states is merged into each by `of`."""

    states: tuple[tuple[str, StateSettings], ...] = ()
    # What counts for states that say nothing of it: retries, breaker, ...
    defaults: StateSettings = field(default=StateSettings())
    agents: tuple[Agent, ...] = ()
    # Of the repository.
    limits: Limits | None = None
    children: ChildLimits = field(default=ChildLimits())
    # States that only people may write.
    people_only: tuple[str, ...] = ()
    # Do approvals have to be signed by a key of `allowed_signers`?
    signed: bool = False
    allowed_signers: str = ".aynig/allowed_signers"
    autonomy: str | None = None
    # States that people and programs outside write: where tasks begin, for `aynig check`.
    start: tuple[str, ...] = ()

    def of(self, state: str) -> StateSettings:
        """The settings of a state; the defaults where the file does not name it."""
        for name, settings in self.states:
            if name == state:
                return settings
        return self.defaults

    def agent(self, name: str) -> Agent | None:
        """The agent of that name, if the file has one."""
        return next((agent for agent in self.agents if agent.name == name), None)
