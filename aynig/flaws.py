"""What is wrong with a workflow that can be read: a list of flaws, each with its mend. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from aynig.flow import (
    CHILD,
    COMPENSATE,
    CONFLICT,
    ESCALATE,
    FAILURE,
    JOIN,
    LOOP,
    NEXT,
    Edge,
    Flow,
    Offer,
    flow_of,
    reached,
    rings,
    runs,
)
from aynig.model import ENDED_STATES, HELD_STATES, RESERVED_STATES
from aynig.text import nearest, shell_word
from aynig.workflow import DEFAULT_ITERATIONS, Breaker, Limits, StateSettings, Workflow

# For so many names it is looked up which one was meant.
MOST_MEANT = 20

# A note is worth knowing and never counts.
ERROR, WARNING, NOTE = "error", "warning", "note"


@dataclass(frozen=True, slots=True)
class Flaw:
    """One thing: where it is said (`states.review.next`), what is wrong, and what to do."""

    level: str
    # The word for programs.
    word: str
    path: str
    detail: str
    mend: str


def flaws_of(workflow: Workflow, offer: Offer) -> list[Flaw]:
    """All that can be told of a workflow without running it, in the order of its states."""
    flow = flow_of(workflow, offer)
    found = [
        *_missing(workflow, offer, flow),
        *_agents(workflow, offer),
        *_signers(workflow, offer),
        *_people_only(workflow, flow),
        *_unreached(workflow, offer, flow),
        *_endless(workflow, flow),
        *_unlimited(workflow, flow),
        *_breaker("breaker", workflow.defaults.breaker),
    ]
    for name, settings in workflow.states:
        found += _state(workflow, offer, name, settings)
    return found


# --- scripts and agents ----------------------------------------------------------------------


def _missing(workflow: Workflow, offer: Offer, flow: Flow) -> Iterator[Flaw]:
    """States that a task would stop in, because nothing can be run there."""
    known = [name for name in flow.states if runs(workflow, offer, name)]
    said, reasons = _first_said(workflow, flow), flow.reasons()
    told = 0
    for name in flow.states:
        settings = workflow.of(name)
        path = offer.script_of(name, settings.role)
        if _runs_by_agent(workflow, settings) or name not in said:
            continue
        if path is not None and not offer.files[path]:
            yield Flaw(ERROR, "not-executable", said[name], f"{path} can't be run", _chmod(path))
        elif path is None and _needs_script(workflow, offer, name, reasons.get(name, set())):
            # To compare all with all would take minutes, and nobody reads so many.
            near = nearest(name, known) if told < MOST_MEANT else None
            told += 1
            wanted = f".aynig/roles/{settings.role}/{name}" if settings.role else f".aynig/{name}"
            yield Flaw(
                ERROR,
                "missing-script",
                said[name],
                f"the state {name} has no script" + (f", did you mean {near}?" if near else ""),
                f"Write {wanted} and commit it, or correct the name.",
            )


def _first_said(workflow: Workflow, flow: Flow) -> dict[str, str]:
    """Where each state is named first: as one of `states`, else by what leads to it."""
    said = {name: f"states.{name}" for name, _ in workflow.states}
    for edge in flow.edges:
        if edge.why:
            said.setdefault(edge.target, f"states.{edge.source}.{edge.why}")
    for number, name in enumerate(workflow.start):
        said.setdefault(name, f"start[{number}]")
    return said


def _needs_script(workflow: Workflow, offer: Offer, name: str, whys: set[str]) -> bool:
    settings = workflow.of(name)
    if name in ENDED_STATES | HELD_STATES | RESERVED_STATES or runs(workflow, offer, name):
        return False
    # What its children bring is all that it waits for, and they may be submitted by a person.
    if settings.waits:
        return False
    named = any(one == name for one, _ in workflow.states)
    if name in workflow.people_only and not named:
        return False
    # What is escalated goes to a person.
    return named or name in workflow.start or ESCALATE not in whys


def _runs_by_agent(workflow: Workflow, settings: StateSettings) -> bool:
    agent = workflow.agent(settings.agent) if settings.agent else None
    return agent is not None and bool(agent.command)


def _chmod(path: str) -> str:
    word = shell_word(path)
    return f"chmod +x {word} && git update-index --chmod=+x {word}, then commit."


def _agents(workflow: Workflow, offer: Offer) -> Iterator[Flaw]:
    for agent in workflow.agents:
        path = f".aynig/{agent.command[0]}" if agent.command else ""
        place = f"agents.{agent.name}.command"
        if path and path not in offer.files:
            detail = f"there is no {path}"
            yield Flaw(ERROR, "missing-command", place, detail, "Write it, or correct the path.")
        elif path and not offer.files[path]:
            yield Flaw(ERROR, "not-executable", place, f"{path} can't be run", _chmod(path))
    yield from _unknown_agents(workflow)
    if not workflow.agents:
        # Roles are the runners' own then.
        return
    roles = {agent.role for agent in workflow.agents if agent.role}
    roles |= {role for paths in offer.scripts.values() for role in paths if role}
    for name, settings in workflow.states:
        if settings.role and settings.role not in roles:
            yield Flaw(
                WARNING,
                "unknown-role",
                f"states.{name}.role",
                f"no agent has the role {settings.role}, and no script is for it",
                f"Give it to an agent, or make .aynig/roles/{settings.role}/.",
            )


def _unknown_agents(workflow: Workflow) -> Iterator[Flaw]:
    names = [agent.name for agent in workflow.agents]
    for name, settings in workflow.states:
        if settings.agent and settings.agent not in names:
            near = nearest(settings.agent, names)
            yield Flaw(
                ERROR,
                "unknown-agent",
                f"states.{name}.agent",
                f"no agent {settings.agent}" + (f", did you mean {near}?" if near else ""),
                f"Agents that exist: {', '.join(names)}."
                if names
                else f"Name it: `agents: {{{settings.agent}: }}`, even where only a runner has it.",
            )


# --- people ----------------------------------------------------------------------------------


def _signers(workflow: Workflow, offer: Offer) -> Iterator[Flaw]:
    """Approvals that nobody could give: no key would count as anybody's."""
    if not workflow.signed or workflow.allowed_signers in offer.present:
        return
    yield Flaw(
        ERROR,
        "no-signers",
        "signed",
        f"{workflow.allowed_signers} does not exist, so that no signature counts",
        "Commit it: a line for each person, as in ssh-keygen(1).",
    )


def _people_only(workflow: Workflow, flow: Flow) -> Iterator[Flaw]:
    """States of people that a run comes to by itself: that is allowed, and seldom meant."""
    for edge in flow.edges:
        approval = workflow.of(edge.source).approval
        if edge.target in workflow.people_only and edge.why in (NEXT, FAILURE) and not approval:
            yield Flaw(
                WARNING,
                "people-only",
                f"states.{edge.source}.{edge.why}",
                f"only people may write {edge.target}, and here a run comes to it by itself",
                f"Ask a person first (`risk: high`), or take {edge.target} out of people-only.",
            )


# --- the graph -------------------------------------------------------------------------------


def _unreached(workflow: Workflow, offer: Offer, flow: Flow) -> Iterator[Flaw]:
    if not workflow.start:
        return
    # What people write and what aynig itself answers is reached without any edge.
    found = reached(flow, (*workflow.people_only, *HELD_STATES))
    named = {name for name, _ in workflow.states}
    for name in flow.states:
        if name in found or name in ENDED_STATES:
            continue
        if name in named:
            yield Flaw(
                WARNING,
                "unreached",
                f"states.{name}",
                f"nothing leads to {name} from where tasks start",
                "Lead to it, add it to start, or remove it.",
            )
        elif name in offer.scripts:
            detail = f"the script of {name} runs only where another script answers so"
            yield Flaw(NOTE, "unreached", "start", detail, "Add it to start if tasks begin there.")


def _endless(workflow: Workflow, flow: Flow) -> Iterator[Flaw]:
    """Rings that only a failure or a script's own answer leads out of."""
    edges = [edge for edge in flow.edges if not _is_plain_failure(edge)]
    ends = _can_end(flow)
    for group in rings(edges):
        stuck = [name for name in flow.states if name in group and name not in ends]
        for name in stuck[:1]:
            # The script of a state that says nothing of it answers what it likes.
            key = next((edge.why for edge in edges if edge.source == name and edge.why), NEXT)
            yield Flaw(
                WARNING,
                "endless",
                f"states.{name}.{key}",
                f"no way from here to an end: {_round(stuck)}",
                "Let one of them lead to done, or to a state that does.",
            )


def _is_plain_failure(edge: Edge) -> bool:
    """To fail is what every state may do without being told."""
    return edge.why == FAILURE and edge.target == "failed"


def _can_end(flow: Flow) -> set[str]:
    """The states that lead to one that nothing leads away from, or that decides by itself.

    The script that is told of each child says when there are no more: nothing else can.
    """
    edges = [edge for edge in flow.edges if not _is_plain_failure(edge)]
    sources = {edge.source for edge in edges}
    back: dict[str, list[str]] = {}
    for edge in edges:
        back.setdefault(edge.target, []).append(edge.source)
    found: set[str] = set()
    pending = [name for name in flow.states if name not in sources or name in HELD_STATES]
    pending += [edge.target for edge in edges if edge.why == CHILD]
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending += back.get(name, [])
    return found


def _unlimited(workflow: Workflow, flow: Flow) -> Iterator[Flaw]:
    """Rings in which a task may go round without anything that would ever stop it.

    One that can't end at all has its flaw already.
    """
    if workflow.autonomy == "step" or _of_task(workflow.limits):
        return
    ends = _can_end(flow)
    edges = [edge for edge in flow.edges if edge.why in (NEXT, JOIN, CONFLICT)]
    # To itself after a failure: that has a flaw of its own.
    edges += [edge for edge in flow.edges if edge.why == FAILURE and edge.target != edge.source]
    for group in rings(edges):
        members = [name for name in flow.states if name in group]
        if not ends.issuperset(group) or not HELD_STATES.isdisjoint(group):
            continue
        if any(_limited(workflow, name) for name in members):
            continue
        inside = [edge for edge in edges if edge.source in group and edge.target in group]
        first = next(edge for edge in inside if edge.source == members[0])
        yield Flaw(
            WARNING,
            "unlimited",
            f"states.{first.source}.{first.why}",
            f"nothing says how often: {_round(members)}",
            "Give one of them a loop, breaker, limits or deadline.",
        )


def _limited(workflow: Workflow, name: str) -> bool:
    """Is there anything at a state that stops a task which comes back to it again and again?

    Retries are not: they are of one visit.
    """
    settings = workflow.of(name)
    agent = workflow.agent(settings.agent) if settings.agent else None
    return bool(
        settings.loop
        or settings.deadline
        or settings.approval
        or settings.breaker not in (None, Breaker())
        or settings.limits not in (None, Limits())
        or (agent is not None and agent.limits not in (None, Limits()))
    )


def _of_task(limits: Limits | None) -> bool:
    """Limits of a day only slow a task down."""
    return limits is not None and (
        limits.cost_usd_per_task is not None or limits.tokens_per_task is not None
    )


def _round(names: list[str]) -> str:
    shown = names if len(names) <= 4 else [*names[:3], f"{len(names) - 3} more"]
    return f"{shown[0]} leads to itself" if len(names) == 1 else f"{', '.join(shown)} in a ring"


# --- one state -------------------------------------------------------------------------------


def _state(workflow: Workflow, offer: Offer, name: str, settings: StateSettings) -> Iterator[Flaw]:
    yield from _loop(name, settings)
    yield from _to_itself(name, settings)
    if settings.breaker != workflow.defaults.breaker:
        yield from _breaker(f"states.{name}.breaker", settings.breaker)
    yield from _scenarios(offer, name, settings)
    join = settings.join
    if join and join.need.count is not None and join.need.count > workflow.children.each:
        yield Flaw(
            ERROR,
            "join",
            f"states.{name}.join.need",
            f"{join.need} children are needed, and {workflow.children.each} are allowed",
            "Need fewer, or raise children.each.",
        )


def _loop(name: str, settings: StateSettings) -> Iterator[Flaw]:
    loop = settings.loop
    if loop is None:
        return
    if loop.max_iterations is None:
        yield Flaw(
            WARNING,
            "unlimited",
            f"states.{name}.{LOOP}",
            f"a loop without max-iterations ends after {DEFAULT_ITERATIONS}",
            f"Say how many you mean: max-iterations: {DEFAULT_ITERATIONS}.",
        )


# By key; elsewhere a state may well come back to itself.
_ITSELF = {
    FAILURE: "{} leads to itself where it has failed",
    COMPENSATE: "{} would be undone by itself",
    ESCALATE: "{} is handed to a person in the same state",
    CHILD: "{} only waits: what decides about its children is the script of another state",
}


def _to_itself(name: str, settings: StateSettings) -> Iterator[Flaw]:
    keys = (
        (FAILURE, settings.on_failure),
        (COMPENSATE, settings.compensate),
        (ESCALATE, settings.escalate),
        (CHILD, settings.on_child),
    )
    for key, target in keys:
        if target == name:
            yield Flaw(
                WARNING,
                "to-itself",
                f"states.{name}.{key}",
                _ITSELF[key].format(name),
                "Lead to another state."
                if key == CHILD
                else "Use retries, which have a limit, or lead to another state.",
            )


def _breaker(path: str, breaker: Breaker | None) -> Iterator[Flaw]:
    # One without any key switches the default off.
    if breaker is None or breaker == Breaker():
        return
    if breaker.no_change is breaker.same_failure is breaker.failures is None:
        mend = "Give it no-change, same-failure or failures."
        yield Flaw(WARNING, "breaker", path, "nothing opens this breaker", mend)


def _scenarios(offer: Offer, name: str, settings: StateSettings) -> Iterator[Flaw]:
    for place in settings.verify.scenarios if settings.verify else ():
        key = f"states.{name}.verify.scenarios"
        missing = offer.absent.get((place.ref, place.path))
        if missing and not place.repository:
            mend = "Tasks of this state are held until it is there: make it, or name another."
            yield Flaw(WARNING, "scenarios", key, missing, mend)
        if place.ref or place.repository:
            continue
        if place.path in offer.present:
            yield Flaw(
                NOTE,
                "scenarios",
                key,
                f"{place.path} lies in the trusted tree, where workers can read it",
                "Keep scenarios in a ref of their own to hide them: REF:PATH.",
            )
        else:
            detail = f"there is no {place.path} in the trusted tree"
            mend = "Commit it, or name a ref: REF:PATH."
            yield Flaw(ERROR, "scenarios", key, detail, mend)


def named_refs(workflow: Workflow) -> tuple[tuple[str, str], ...]:
    """The folders on refs of this repository that `Offer.absent` has to speak of: (ref, path)."""
    places = [
        (place.ref, place.path)
        for _, settings in workflow.states
        for place in (settings.verify.scenarios if settings.verify else ())
        if place.ref and not place.repository
    ]
    return tuple(dict.fromkeys(places))


def named_paths(workflow: Workflow) -> tuple[str, ...]:
    """The paths outside of the scripts that `Offer.present` has to speak of."""
    places = [
        place.path
        for _, settings in workflow.states
        for place in (settings.verify.scenarios if settings.verify else ())
        if not (place.ref or place.repository)
    ]
    return tuple(dict.fromkeys([workflow.allowed_signers, *places]))
