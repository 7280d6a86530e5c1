"""The policies in `.aynig/config.yaml`: one small function each, from a node to a frozen value."""

from __future__ import annotations

from dataclasses import replace
from typing import TypedDict

from aynig.configplaces import path_of, program_of, scenarios_of
from aynig.configvalues import (
    agent_of,
    duration_of,
    identity_of,
    limit_of,
    money_of,
    need_of,
    pause_of,
    person_of,
    promise_of,
    resource_of,
    role_of,
    several,
    share_of,
    shell_line_of,
    state_of,
    tokens_of,
    truth_of,
    whole_of,
    word_of,
)
from aynig.workflow import (
    AFTER,
    ALL,
    BEFORE,
    ENDINGS,
    Agent,
    Approval,
    Breaker,
    ChildLimits,
    Join,
    Limits,
    Loop,
    Retries,
    StateSettings,
    Verification,
)
from aynig.yamlfile import Spot, known_pairs, pairs

RETRIES_KEYS = ("max", "backoff", "factor", "jitter", "on")
BREAKER_KEYS = ("no-change", "same-failure", "failures", "within", "pause")
LIMITS_KEYS = (
    "calls-per-hour",
    "concurrent",
    "cost-usd-per-task",
    "cost-usd-per-day",
    "tokens-per-task",
    "tokens-per-day",
)
CHILDREN_KEYS = ("depth", "each", "total")
JOIN_KEYS = ("wait-for", "need", "then", "merge", "on-conflict")
LOOP_KEYS = ("promise", "max-iterations", "plan", "on-limit")
VERIFY_KEYS = ("commands", "scenarios", "need", "show", "timeout", "committed")
APPROVAL_KEYS = ("when", "by", "need", "show", "on-reject")
AGENT_KEYS = ("role", "command", "identity", "limits")
POLICY_KEYS = (
    "agent",
    "retries",
    "breaker",
    "limits",
    "compensate",
    "escalate",
    "on-dependency-failure",
    "join",
    "on-child",
    "loop",
    "verify",
    "expect",
    "risk",
    "approval",
    "checkpoint",
    "resource",
    "deadline",
    "priority",
    "may-change",
)

DEPENDENCY_FAILURE = ("fail", "wait", "run")
MERGES = ("none", "ours", "octopus", "sequential")
SCORES = ("score", "names", "output")
EXPECTATIONS = ("changes", "answer", "none")
DIFFS = ("diff", "stat", "none")
RISKS = ("high", "medium", "low")
# When a person is asked, by risk; where risk is low nobody is.
WHEN = {"high": BEFORE, "medium": AFTER}

MOST_ATTEMPTS = 1_000
MOST_ITERATIONS = 10_000
# What a pause may grow by each time.
LARGEST_FACTOR = 100
# Of people, children and the like: above any that a repository could hold.
MANY = 1_000_000


# What a state may say ------------------------------------------------------------------------


def policies_of(given: dict[str, Spot], settings: StateSettings) -> StateSettings:
    """The settings with all that a state says of policies; `given` are its keys."""

    def state(key: str) -> str | None:
        return state_of(given[key]) if key in given else None

    return replace(
        settings,
        agent=agent_of(given["agent"]) if "agent" in given else None,
        retries=retries_of(given["retries"]) if "retries" in given else None,
        breaker=breaker_of(given["breaker"]) if "breaker" in given else None,
        limits=limits_of(given["limits"]) if "limits" in given else None,
        compensate=state("compensate"),
        escalate=state("escalate"),
        on_dependency_failure=_dependency_failure(given),
        join=_join(given["join"]) if "join" in given else None,
        on_child=state("on-child"),
        loop=_loop(given["loop"]) if "loop" in given else None,
        verify=_verification(given["verify"]) if "verify" in given else None,
        expect=word_of(given["expect"], EXPECTATIONS) if "expect" in given else None,
        approval=_approval(given),
        checkpoint=truth_of(given["checkpoint"]) if "checkpoint" in given else False,
        resources=several(given["resource"], resource_of) if "resource" in given else (),
        deadline=duration_of(given["deadline"]) if "deadline" in given else None,
        priority=whole_of(given["priority"], -100, 100) if "priority" in given else None,
        may_change=several(given["may-change"], path_of) if "may-change" in given else (),
    )


def _dependency_failure(given: dict[str, Spot]) -> str:
    spot = given.get("on-dependency-failure")
    return word_of(spot, DEPENDENCY_FAILURE) if spot else "wait"


# Retries, breaker, limits --------------------------------------------------------------------


class _RetriesGiven(TypedDict, total=False):
    max: int
    backoff: float
    factor: float
    jitter: float
    on: tuple[str, ...]


def retries_of(spot: Spot) -> Retries:
    """How often a state is tried again, and after what pause."""
    given = known_pairs(spot, RETRIES_KEYS)
    found = _RetriesGiven()
    if "max" in given:
        found["max"] = whole_of(given["max"], 0, MOST_ATTEMPTS)
    if "backoff" in given:
        found["backoff"] = pause_of(given["backoff"])
    if "factor" in given:
        found["factor"] = share_of(given["factor"], 1, LARGEST_FACTOR)
    if "jitter" in given:
        found["jitter"] = share_of(given["jitter"], 0, 1)
    if "on" in given:
        found["on"] = several(given["on"], lambda entry: word_of(entry, ENDINGS))
    return Retries(**found)


def breaker_of(spot: Spot) -> Breaker:
    """After what a state is held; a mapping without keys switches the default off."""
    given = known_pairs(spot, BREAKER_KEYS)

    def count(key: str) -> int | None:
        return whole_of(given[key], 1, MANY) if key in given else None

    found = Breaker(
        no_change=count("no-change"),
        same_failure=count("same-failure"),
        failures=count("failures"),
    )
    if "within" in given:
        found = replace(found, within=duration_of(given["within"]))
    if "pause" in given:
        found = replace(found, pause=duration_of(given["pause"]))
    return found


def limits_of(spot: Spot) -> Limits:
    """Rate and budget."""
    given = known_pairs(spot, LIMITS_KEYS)

    calls, concurrent = given.get("calls-per-hour"), given.get("concurrent")
    a_task, a_day = given.get("cost-usd-per-task"), given.get("cost-usd-per-day")
    tokens, tokens_a_day = given.get("tokens-per-task"), given.get("tokens-per-day")
    return Limits(
        calls_per_hour=whole_of(calls, 1, MANY) if calls else None,
        concurrent=whole_of(concurrent, 1, MANY) if concurrent else None,
        cost_usd_per_task=money_of(a_task) if a_task else None,
        cost_usd_per_day=money_of(a_day) if a_day else None,
        tokens_per_task=tokens_of(tokens) if tokens else None,
        tokens_per_day=tokens_of(tokens_a_day) if tokens_a_day else None,
    )


# Fan-out and fan-in --------------------------------------------------------------------------


def children_of(spot: Spot) -> ChildLimits:
    """How far tasks may multiply."""
    given = known_pairs(spot, CHILDREN_KEYS)
    normal = ChildLimits()
    return ChildLimits(
        depth=whole_of(given["depth"], 0, 100) if "depth" in given else normal.depth,
        each=whole_of(given["each"], 0, MANY) if "each" in given else normal.each,
        total=whole_of(given["total"], 0, MANY) if "total" in given else normal.total,
    )


def _join(spot: Spot) -> Join:
    given = known_pairs(spot, JOIN_KEYS)
    _demand(spot, given, "then", "Name the state that the task goes on in.")
    if "wait-for" in given:
        word_of(given["wait-for"], ("children",))
    conflict = given.get("on-conflict")
    return Join(
        then=state_of(given["then"]),
        need=need_of(given["need"]) if "need" in given else ALL,
        merge=word_of(given["merge"], MERGES) if "merge" in given else "sequential",
        on_conflict=state_of(conflict) if conflict else None,
    )


# Loops ---------------------------------------------------------------------------------------


def _loop(spot: Spot) -> Loop:
    given = known_pairs(spot, LOOP_KEYS)
    iterations, on_limit = given.get("max-iterations"), given.get("on-limit")
    if on_limit is not None and on_limit.scalar == "escalate":
        # A word here: the state that the key of that name says.
        on_limit = None
    return Loop(
        promise=promise_of(given["promise"]) if "promise" in given else None,
        max_iterations=whole_of(iterations, 1, MOST_ITERATIONS) if iterations else None,
        plan=path_of(given["plan"]) if "plan" in given else None,
        on_limit=state_of(on_limit) if on_limit else None,
    )


# Verification --------------------------------------------------------------------------------


def _verification(spot: Spot) -> Verification:
    if spot.is_list:
        return Verification(commands=several(spot, shell_line_of))
    if spot.scalar is not None:
        raise spot.error("a list of commands or a mapping", hint="Write [make test], a list.")
    given = known_pairs(spot, VERIFY_KEYS)
    if "commands" not in given and "scenarios" not in given:
        raise spot.complaint(
            "expected commands or scenarios, found neither", hint="Say what judges a run."
        )
    normal = Verification()
    commands = several(given["commands"], shell_line_of) if "commands" in given else ()
    need = need_of(given["need"]) if "need" in given else ALL
    # How many scenarios there will be is not known here.
    if "scenarios" not in given and need.of(len(commands)) > len(commands):
        raise given["need"].complaint(
            f"expected at most as many as there are ({len(commands)}), found {need}",
            hint="Need fewer, or write all.",
        )
    return Verification(
        commands=commands,
        scenarios=scenarios_of(given["scenarios"]) if "scenarios" in given else (),
        need=need,
        show=word_of(given["show"], SCORES) if "show" in given else normal.show,
        timeout=limit_of(given["timeout"]) if "timeout" in given else normal.timeout,
        committed=truth_of(given["committed"]) if "committed" in given else False,
    )


# Approval ------------------------------------------------------------------------------------


def _approval(given: dict[str, Spot]) -> Approval | None:
    """What `risk` and `approval` say together: the one when, the other who and how many."""
    risk, approval = given.get("risk"), given.get("approval")
    word = word_of(risk, RISKS) if risk else None
    if approval is None:
        return Approval(when=WHEN[word]) if word in WHEN else None
    keys = known_pairs(approval, APPROVAL_KEYS)
    if risk is not None and ("when" in keys or word not in WHEN):
        raise approval.complaint(
            f"expected no {'when' if 'when' in keys else 'approval'} beside risk {word}",
            hint="Remove one of the two: both say when a person is asked.",
        )
    when = word_of(keys["when"], (BEFORE, AFTER)) if "when" in keys else WHEN.get(word or "", AFTER)
    by = several(keys["by"], person_of) if "by" in keys else ()
    need = whole_of(keys["need"], 1, MANY) if "need" in keys else 1
    if by and need > len(by):
        raise keys["need"].complaint(
            f"expected at most as many as may approve ({len(by)}), found {need}",
            hint="Name more people in by, or need fewer.",
        )
    return Approval(
        when=when,
        by=by,
        need=need,
        show=word_of(keys["show"], DIFFS) if "show" in keys else "diff",
        on_reject=state_of(keys["on-reject"]) if "on-reject" in keys else None,
    )


# Agents --------------------------------------------------------------------------------------


def agents_of(spot: Spot) -> tuple[Agent, ...]:
    """Those that tasks are assigned to, in the order of the file."""
    return tuple(
        _agent(agent_of(name), value)
        for name, value in pairs(spot, "a mapping of agents to settings")
    )


def _agent(name: str, spot: Spot) -> Agent:
    given = known_pairs(spot, AGENT_KEYS)
    return Agent(
        name=name,
        role=role_of(given["role"]) if "role" in given else None,
        command=program_of(given["command"]) if "command" in given else (),
        limits=limits_of(given["limits"]) if "limits" in given else None,
        identity=identity_of(given["identity"]) if "identity" in given else None,
    )


def _demand(spot: Spot, given: dict[str, Spot], key: str, hint: str) -> None:
    if key not in given:
        raise spot.complaint(f"expected the key {key}", hint=hint)


# The whole -----------------------------------------------------------------------------------


def states_of(spot: Spot) -> tuple[str, ...]:
    """A list of states."""
    return several(spot, state_of)


def signed_of(spot: Spot) -> bool:
    """`required`, or `no` with or without quotes."""
    if spot.scalar == "required":
        return True
    if (spot.scalar or "").lower() == "no":
        return False
    raise spot.error("required or no", hint="Write signed: required, or remove the key.")
