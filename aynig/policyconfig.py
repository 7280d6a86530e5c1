"""The policies in `.aynig/config.yaml`: one small function each, from a node to a frozen value."""

from __future__ import annotations

from dataclasses import replace

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
    share,
    shell_line_of,
    state_of,
    tokens_of,
    truth_of,
    whole,
    word,
)
from aynig.model import ENDED_STATES
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
from aynig.yamlfile import Given, Spot, known_pairs, pairs

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

# What means something in a state that waits for children: all else is about a run, and there is
# none. A setting that was passed over in silence would be believed to be at work.
WAITING_KEYS = (
    "on-failure",
    "compensate",
    "escalate",
    "on-dependency-failure",
    "join",
    "on-child",
    "checkpoint",
    "deadline",
    "priority",
)

# What `loop.on-limit` may say in the place of a state.
ESCALATE = "escalate"

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


def policies_of(given: Given, settings: StateSettings) -> StateSettings:
    """The settings with all that a state says of policies; `given` are its keys."""
    return replace(
        settings,
        agent=given.read("agent", agent_of, None),
        retries=given.read("retries", retries_of, None),
        breaker=given.read("breaker", breaker_of, None),
        limits=given.read("limits", limits_of, None),
        compensate=given.read("compensate", state_of, None),
        escalate=given.read("escalate", state_of, None),
        on_dependency_failure=given.read("on-dependency-failure", word(DEPENDENCY_FAILURE), "wait"),
        join=given.read("join", _join, None),
        on_child=given.read("on-child", state_of, None),
        loop=given.read("loop", _loop, None),
        verify=given.read("verify", _verification, None),
        expect=given.read("expect", word(EXPECTATIONS), None),
        approval=_risk(given) if "approval" not in given else _approval(given),
        checkpoint=given.read("checkpoint", truth_of, False),
        resources=given.read("resource", several(resource_of), ()),
        deadline=given.read("deadline", duration_of, None),
        priority=given.read("priority", whole(-100, 100), None),
        may_change=given.read("may-change", several(path_of), ()),
    )


def refuse_unrun(given: Given, settings: StateSettings) -> None:
    """ConfigError for what a state that waits for children says of runs; `given` are its keys."""
    if not settings.waits:
        return
    for key, spot in given.items():
        if key not in WAITING_KEYS:
            waits_by = "join" if settings.join else "on-child"
            raise spot.complaint(
                f"expected no {key} beside {waits_by}: the state waits for children, and runs no "
                "script",
                hint=_where_it_belongs(key, settings),
            )


def _where_it_belongs(key: str, settings: StateSettings) -> str:
    join = settings.join
    wanted = [("join.then", join.then if join else None), ("on-child", settings.on_child)]
    named = [(by, state) for by, state in wanted if state is not None]
    if key == "next":
        return f"Remove it: {' and '.join(by for by, _ in named)} says what follows."
    runs = [f"{state} ({by})" for by, state in named if state not in ENDED_STATES]
    if not runs:
        return f"Let {named[0][0]} name a state that runs a script, and put {key} there."
    return f"Put {key} on {' or '.join(runs)}, where a script runs, or remove it."


# Retries, breaker, limits --------------------------------------------------------------------


def retries_of(spot: Spot) -> Retries:
    """How often a state is tried again, and after what pause."""
    given, normal = known_pairs(spot, RETRIES_KEYS), Retries()
    return Retries(
        max=given.read("max", whole(0, MOST_ATTEMPTS), normal.max),
        backoff=given.read("backoff", pause_of, normal.backoff),
        factor=given.read("factor", share(1, LARGEST_FACTOR), normal.factor),
        jitter=given.read("jitter", share(0, 1), normal.jitter),
        on=given.read("on", several(word(ENDINGS)), normal.on),
    )


def breaker_of(spot: Spot) -> Breaker:
    """After what a state is held; a mapping without keys switches the default off."""
    given, normal = known_pairs(spot, BREAKER_KEYS), Breaker()
    return Breaker(
        no_change=given.read("no-change", whole(1, MANY), None),
        same_failure=given.read("same-failure", whole(1, MANY), None),
        failures=given.read("failures", whole(1, MANY), None),
        within=given.read("within", duration_of, normal.within),
        pause=given.read("pause", duration_of, normal.pause),
    )


def limits_of(spot: Spot) -> Limits:
    """Rate and budget."""
    given = known_pairs(spot, LIMITS_KEYS)
    return Limits(
        calls_per_hour=given.read("calls-per-hour", whole(1, MANY), None),
        concurrent=given.read("concurrent", whole(1, MANY), None),
        cost_usd_per_task=given.read("cost-usd-per-task", money_of, None),
        cost_usd_per_day=given.read("cost-usd-per-day", money_of, None),
        tokens_per_task=given.read("tokens-per-task", tokens_of, None),
        tokens_per_day=given.read("tokens-per-day", tokens_of, None),
    )


# Fan-out and fan-in --------------------------------------------------------------------------


def children_of(spot: Spot) -> ChildLimits:
    """How far tasks may multiply."""
    given, normal = known_pairs(spot, CHILDREN_KEYS), ChildLimits()
    return ChildLimits(
        depth=given.read("depth", whole(0, 100), normal.depth),
        each=given.read("each", whole(0, MANY), normal.each),
        total=given.read("total", whole(0, MANY), normal.total),
    )


def _join(spot: Spot) -> Join:
    given = known_pairs(spot, JOIN_KEYS)
    if "then" not in given:
        hint = "Name the state that the task goes on in."
        raise spot.complaint("expected the key then", hint=hint)
    # Nothing else can be waited for yet, so the word is only checked.
    given.read("wait-for", word(("children",)), None)
    return Join(
        then=state_of(given["then"]),
        need=given.read("need", need_of, ALL),
        merge=given.read("merge", word(MERGES), "sequential"),
        on_conflict=given.read("on-conflict", state_of, None),
    )


# Loops ---------------------------------------------------------------------------------------


def _loop(spot: Spot) -> Loop:
    given = known_pairs(spot, LOOP_KEYS)
    return Loop(
        promise=given.read("promise", promise_of, None),
        max_iterations=given.read("max-iterations", whole(1, MOST_ITERATIONS), None),
        plan=given.read("plan", path_of, None),
        on_limit=given.read("on-limit", _on_limit, None),
    )


def _on_limit(spot: Spot) -> str | None:
    # A word here: the state that the key of that name says.
    return None if spot.scalar == ESCALATE else state_of(spot)


# Verification --------------------------------------------------------------------------------


def _verification(spot: Spot) -> Verification:
    if spot.is_list:
        return Verification(commands=several(shell_line_of)(spot))
    if spot.scalar is not None:
        raise spot.error("a list of commands or a mapping", hint="Write [make test], a list.")
    given, normal = known_pairs(spot, VERIFY_KEYS), Verification()
    if "commands" not in given and "scenarios" not in given:
        raise spot.complaint(
            "expected commands or scenarios, found neither", hint="Say what judges a run."
        )
    found = Verification(
        commands=given.read("commands", several(shell_line_of), ()),
        scenarios=given.read("scenarios", scenarios_of, ()),
        need=given.read("need", need_of, ALL),
        show=given.read("show", word(SCORES), normal.show),
        timeout=given.read("timeout", limit_of, normal.timeout),
        committed=given.read("committed", truth_of, False),
    )
    most = len(found.commands)
    # How many scenarios there will be is not known here.
    if not found.scenarios and found.need.of(most) > most:
        raise given["need"].complaint(
            f"expected at most as many as there are ({most}), found {found.need}",
            hint="Need fewer, or write all.",
        )
    return found


# Approval ------------------------------------------------------------------------------------


def _risk(given: Given) -> Approval | None:
    """What `risk` alone says: when a person is asked, if at all."""
    when = WHEN.get(given.read("risk", word(RISKS), ""))
    return Approval(when=when) if when else None


def _approval(given: Given) -> Approval:
    """What `approval` says; `risk` beside it may only say when."""
    spot, risk = given["approval"], given.read("risk", word(RISKS), "")
    keys, normal = known_pairs(spot, APPROVAL_KEYS), Approval()
    if risk and ("when" in keys or risk not in WHEN):
        raise spot.complaint(
            f"expected no {'when' if 'when' in keys else 'approval'} beside risk {risk}",
            hint="Remove one of the two: both say when a person is asked.",
        )
    found = Approval(
        when=keys.read("when", word((BEFORE, AFTER)), WHEN.get(risk, normal.when)),
        by=keys.read("by", several(person_of), ()),
        need=keys.read("need", whole(1, MANY), normal.need),
        show=keys.read("show", word(DIFFS), normal.show),
        on_reject=keys.read("on-reject", state_of, None),
    )
    if found.by and found.need > len(found.by):
        raise keys["need"].complaint(
            f"expected at most as many as may approve ({len(found.by)}), found {found.need}",
            hint="Name more people in by, or need fewer.",
        )
    return found


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
        role=given.read("role", role_of, None),
        command=given.read("command", program_of, ()),
        limits=given.read("limits", limits_of, None),
        identity=given.read("identity", identity_of, None),
    )


# The whole -----------------------------------------------------------------------------------


def signed_of(spot: Spot) -> bool:
    """`required`, or `no` with or without quotes."""
    if spot.scalar == "required":
        return True
    if (spot.scalar or "").lower() == "no":
        return False
    raise spot.error("required or no", hint="Write signed: required, or remove the key.")
