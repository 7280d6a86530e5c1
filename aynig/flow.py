"""The declared workflow as a graph: states, and what leads from one to the next. Pure.

A script may itself answer any state, and a person may write any: the graph has what the file says,
and for a state that says nothing the answer that a script has by default, `done`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from aynig.dialects import DIALECTS
from aynig.model import ENDED_STATES, HELD_STATES, ROLE_PATTERN, STATE_PATTERN
from aynig.workflow import StateSettings, Workflow

# Why one state leads to another: the keys of the file.
NEXT, FAILURE, COMPENSATE, ESCALATE = "next", "on-failure", "compensate", "escalate"
JOIN, CONFLICT, CHILD = "join.then", "join.on-conflict", "on-child"
LOOP, LIMIT, REJECT = "loop", "loop.on-limit", "approval.on-reject"
# What a script answers where neither it nor the file says anything.
DEFAULT = ""

# What no person and no script needs to be there for.
_UNRUN = ENDED_STATES | HELD_STATES


class Edge(NamedTuple):
    """`source` leads to `target`; `why` is the key that says so, empty for the default answer."""

    source: str
    target: str
    why: str


@dataclass(frozen=True, slots=True)
class Flow:
    """The graph. `begins` are the states that tasks start in; all three are in a stable order."""

    states: tuple[str, ...]
    edges: tuple[Edge, ...]
    begins: tuple[str, ...]

    def reasons(self) -> Mapping[str, set[str]]:
        """Why anything leads to a state, of each state that anything leads to."""
        found: dict[str, set[str]] = {}
        for edge in self.edges:
            found.setdefault(edge.target, set()).add(edge.why)
        return found

    def leaving(self) -> Mapping[str, list[Edge]]:
        """The edges of each state that they start at."""
        found: dict[str, list[Edge]] = {name: [] for name in self.states}
        for edge in self.edges:
            found[edge.source].append(edge)
        return found


@dataclass(frozen=True, slots=True)
class Offer:
    """What a tree has of the files that a workflow depends on: see `offer_of`."""

    # Every file below `.aynig/` and `.dwp/`, from the top of the tree: may it be run?
    files: Mapping[str, bool] = field(default_factory=dict)
    # State -> role (empty for none) -> the path of its script.
    scripts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    # States that aynig itself has a script for.
    shipped: Collection[str] = ()
    # What else the workflow names and the tree has: scenarios, the file of allowed signers.
    present: Collection[str] = ()
    # Folders of scenarios on refs that are not there, as (ref, path), and in words what is missing.
    absent: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def script_of(self, state: str, role: str | None) -> str | None:
        """The path of the script of a state, also of one that can't run.

        Where the file gives the state no role, that of any role will do: runners have theirs.
        """
        found = self.scripts.get(state, {})
        if role:
            return found.get(role) or found.get("")
        return found.get("") or next(iter(found.values()), None)


def offer_of(
    files: Mapping[str, bool],
    shipped: Collection[str] = (),
    present: Collection[str] = (),
    absent: Mapping[tuple[str, str], str] | None = None,
) -> Offer:
    """`files` are those below the folders for scripts, and whether each may be run."""
    scripts: dict[str, dict[str, str]] = {}
    for path in sorted(files):
        place = script_at(path)
        if place is not None:
            # Of two dialects the first counts, as everywhere.
            scripts.setdefault(place[0], {}).setdefault(place[1], path)
    return Offer(files, scripts, shipped, present, absent or {})


def script_at(path: str) -> tuple[str, str] | None:
    """The state and the role (or none) that a file would be the script of; None for no place."""
    parts = path.split("/")
    state = parts[-1]
    if not STATE_PATTERN.fullmatch(state):
        return None
    for dialect in DIALECTS:
        if path == dialect.script.format(state=state):
            return state, ""
        for role in parts[2:3]:
            named = ROLE_PATTERN.fullmatch(role)
            if named and path == dialect.role_script.format(role=role, state=state):
                return state, role
    return None


def runs(workflow: Workflow, offer: Offer, state: str) -> bool:
    """Is there something that aynig could run for a state?"""
    settings = workflow.of(state)
    agent = workflow.agent(settings.agent) if settings.agent else None
    if agent is not None and agent.command:
        return True
    if offer.script_of(state, settings.role) is not None:
        return True
    return state in offer.shipped and state not in HELD_STATES


def flow_of(workflow: Workflow, offer: Offer) -> Flow:
    """The graph of a workflow, together with the scripts that nothing in it names."""
    named = [name for name, _ in workflow.states]
    scripted = _scripted(workflow, offer)
    edges = [edge for name, settings in workflow.states for edge in _declared(name, settings)]
    pointed = [edge.target for edge in edges]
    everything = list(dict.fromkeys([*workflow.start, *named, *pointed, *scripted]))
    edges += _defaults(workflow, offer, everything, edges)
    everything = list(dict.fromkeys([*everything, *(edge.target for edge in edges)]))
    begins = workflow.start or _unpointed(everything, edges)
    states = _in_reading_order(begins, everything, edges)
    rank = {name: number for number, name in enumerate(states)}
    edges.sort(key=lambda edge: rank[edge.source])
    return Flow(tuple(states), tuple(edges), tuple(begins))


def _scripted(workflow: Workflow, offer: Offer) -> list[str]:
    """The states of all scripts that may be run, without the programs of agents beside them."""
    commands = {f".aynig/{agent.command[0]}" for agent in workflow.agents if agent.command}
    return [
        state
        for state, paths in offer.scripts.items()
        if any(offer.files[path] and path not in commands for path in paths.values())
    ]


def _declared(name: str, settings: StateSettings) -> Iterator[Edge]:
    """What the file says of one state, in the order in which it happens."""
    join, loop, approval = settings.join, settings.loop, settings.approval
    wanted: list[tuple[str, str | None]] = [
        (LOOP, name if loop else None),
        (CHILD, settings.on_child),
        (JOIN, join.then if join else None),
        (CONFLICT, join.on_conflict if join else None),
        (NEXT, settings.next),
        (LIMIT, loop.on_limit if loop else None),
        (REJECT, approval.on_reject if approval else None),
        (FAILURE, settings.on_failure),
        (COMPENSATE, settings.compensate),
        (ESCALATE, settings.escalate),
    ]
    yield from (Edge(name, target, why) for why, target in wanted if target)


def _defaults(
    workflow: Workflow, offer: Offer, states: Iterable[str], declared: Iterable[Edge]
) -> list[Edge]:
    """What follows each state that could run and does not say so itself.

    After a compensation a task goes the way that it would have gone without (`policies.fallback`).
    """
    ways: dict[str, dict[str, None]] = {}
    otherwise: set[str] = set(workflow.start)
    for edge in declared:
        if edge.why == COMPENSATE:
            failing = workflow.of(edge.source)
            onward = failing.on_failure or failing.escalate or "failed"
            ways.setdefault(edge.target, {})[onward] = None
        else:
            otherwise.add(edge.target)
    found = []
    for name in states:
        settings = workflow.of(name)
        # What waits for children runs no script.
        goes_on = settings.next or settings.waits
        if name in ENDED_STATES or not runs(workflow, offer, name):
            continue
        found += [Edge(name, target, DEFAULT) for target in ways.get(name, ())]
        if not goes_on and (name not in ways or name in otherwise):
            found.append(Edge(name, "done", DEFAULT))
    return found


def _unpointed(states: Iterable[str], edges: Iterable[Edge]) -> list[str]:
    """The states that nothing but themselves leads to; ended and held ones never begin."""
    pointed = {edge.target for edge in edges if edge.target != edge.source}
    return [name for name in states if name not in pointed and name not in _UNRUN]


def _in_reading_order(
    begins: Iterable[str], states: Iterable[str], edges: Iterable[Edge]
) -> list[str]:
    """As a task meets them, from the beginnings on; then the rest, and the ended ones last."""
    leaving: dict[str, list[str]] = {}
    for edge in edges:
        leaving.setdefault(edge.source, []).append(edge.target)
    found: dict[str, None] = {}
    for first in (*begins, *states):
        # Depth first, so that a chain stands in one piece.
        pending = [first]
        while pending:
            name = pending.pop()
            if name not in found and name not in ENDED_STATES:
                found[name] = None
                pending += reversed(leaving.get(name, []))
    ended = [name for name in states if name in ENDED_STATES]
    return [*found, *ended]


def reached(flow: Flow, also: Iterable[str] = ()) -> set[str]:
    """The states that a task may come to from the beginnings, and from those of `also`."""
    leaving = flow.leaving()
    found: set[str] = set()
    pending = [*flow.begins, *also]
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending += (edge.target for edge in leaving.get(name, ()))
    return found


def rings(edges: Iterable[Edge]) -> list[tuple[str, ...]]:
    """The groups of states from each of which all others of its group can be reached.

    A state that leads to itself is a group of its own. Kosaraju's algorithm, without recursion: a
    file may name thousands of states.
    """
    ahead: dict[str, list[str]] = {}
    back: dict[str, list[str]] = {}
    for edge in edges:
        ahead.setdefault(edge.source, []).append(edge.target)
        back.setdefault(edge.target, []).append(edge.source)
    placed: set[str] = set()
    found: list[tuple[str, ...]] = []
    for first in reversed(_by_end(ahead)):
        group: list[str] = []
        pending = [first]
        while pending:
            name = pending.pop()
            if name not in placed:
                placed.add(name)
                group.append(name)
                pending += back.get(name, [])
        if len(group) > 1 or (group and first in ahead.get(first, [])):
            found.append(tuple(group))
    return found


def _by_end(ahead: Mapping[str, list[str]]) -> list[str]:
    """All states in the order in which a search in depth leaves them."""
    seen: set[str] = set()
    order: list[str] = []
    for first in ahead:
        pending = [(first, False)]
        while pending:
            name, left = pending.pop()
            if left:
                order.append(name)
            elif name not in seen:
                seen.add(name)
                pending.append((name, True))
                pending += ((one, False) for one in ahead.get(name, []))
    return order
