"""The graph of a workflow as text, as Mermaid and as DOT. Pure: each is a list of lines."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from aynig.durations import format_duration
from aynig.flow import COMPENSATE, ESCALATE, FAILURE, LIMIT, REJECT, Edge, Flow, Offer, runs
from aynig.model import ENDED_STATES, HELD_STATES
from aynig.text import counted
from aynig.workflow import BEFORE, StateSettings, Workflow

# What of an edge is no progress: drawn with a broken line.
_ASIDE = frozenset({FAILURE, COMPENSATE, ESCALATE, LIMIT, REJECT})
# The answer of a script that says nothing.
_BY_DEFAULT = "by default"
_DOT = " · "


@dataclass(frozen=True, slots=True)
class Drawing:
    """A graph, and what is said beside each of its states."""

    flow: Flow
    notes: Mapping[str, tuple[str, ...]]


def drawing_of(workflow: Workflow, offer: Offer, flow: Flow) -> Drawing:
    """What the pictures show."""
    notes = {name: tuple(_notes(workflow, offer, flow, name)) for name in flow.states}
    return Drawing(flow, notes)


def _notes(workflow: Workflow, offer: Offer, flow: Flow, name: str) -> Iterator[str]:
    if name in flow.begins:
        yield "begins"
    if name in ENDED_STATES:
        yield "ends"
        return
    if name in workflow.people_only:
        yield "people only"
    settings = workflow.of(name)
    if settings.on_child and not settings.join:
        yield "waits for children"
    elif not (settings.join or runs(workflow, offer, name)):
        yield "held for a person" if name in HELD_STATES else "no script"
    yield from _who(settings)
    yield from _what(settings)
    # The defaults of all states would only fill the picture.
    if settings.retries and settings.retries != workflow.defaults.retries:
        yield f"up to {counted(settings.retries.max, 'retry', 'retries')}"
    if settings.deadline:
        yield f"deadline {format_duration(settings.deadline)}"
    if settings.priority:
        yield f"priority {settings.priority}"
    if settings.resources:
        yield f"alone with {', '.join(settings.resources)}"


def _who(settings: StateSettings) -> Iterator[str]:
    if settings.agent:
        yield f"agent {settings.agent}"
    if settings.role:
        yield f"role {settings.role}"


def _what(settings: StateSettings) -> Iterator[str]:
    loop, join, approval, verify = (
        settings.loop,
        settings.join,
        settings.approval,
        settings.verify,
    )
    if loop:
        yield f"loop up to {loop.limit}"
    if join:
        yield f"joins {join.need} children"
    if verify:
        judges = len(verify.commands) + len(verify.scenarios)
        yield f"verified by {counted(judges, 'judge')}"
    if approval:
        people = counted(approval.need, "person", "people")
        verb = "agrees" if approval.need == 1 else "agree"
        yield f"{people} {verb} {'first' if approval.when == BEFORE else 'afterwards'}"
    if settings.checkpoint:
        yield "checkpoint"


# --- text ------------------------------------------------------------------------------------


def as_text(drawing: Drawing, width: int = 80) -> list[str]:
    """A paragraph a state, in the order in which a task meets them, for a terminal."""
    leaving = drawing.flow.leaving()
    lines: list[str] = []
    for name in drawing.flow.states:
        edges = leaving[name]
        lines += _head(name, drawing.notes[name], width, "│   " if edges else "    ")
        lines += _branches(edges)
    return lines


def _head(name: str, notes: tuple[str, ...], width: int, indent: str) -> list[str]:
    whole = _DOT.join([name, *notes])
    # A note is not torn apart, but for one that is wider than the terminal.
    joined = whole.replace(" ", "\xa0").replace(_DOT.replace(" ", "\xa0"), " ·\xa0")
    wrapped = textwrap.wrap(
        joined, width, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )
    return [line.replace("\xa0", " ") for line in wrapped]


def _branches(edges: list[Edge]) -> Iterator[str]:
    wide = max((len(edge.why or _BY_DEFAULT) for edge in edges), default=0)
    for number, edge in enumerate(edges, start=1):
        corner = "└─" if number == len(edges) else "├─"
        yield f"{corner} {edge.why or _BY_DEFAULT:<{wide}} → {edge.target}"


# --- Mermaid ---------------------------------------------------------------------------------


def as_mermaid(drawing: Drawing) -> list[str]:
    """A flowchart (mermaid.js.org/syntax/flowchart.html).

    States have numbers there: some names, such as `end`, are words of the language.
    """
    flow = drawing.flow
    number = {name: f"s{place}" for place, name in enumerate(flow.states)}
    lines = ["flowchart TD"]
    for name in flow.states:
        text = "<br/>".join(_in_mermaid(one) for one in (name, *_shown(drawing, name)))
        before, after = _shape(flow, name)
        lines.append(f'    {number[name]}{before}"{text}"{after}')
    for edge in flow.edges:
        arrow = "-.->" if edge.why in _ASIDE else "-->"
        label = f'|"{edge.why}"|' if edge.why else ""
        lines.append(f"    {number[edge.source]} {arrow}{label} {number[edge.target]}")
    return lines


def _shape(flow: Flow, name: str) -> tuple[str, str]:
    if name in ENDED_STATES:
        return "(((", ")))"
    if name in HELD_STATES:
        return "{{", "}}"
    return ("([", "])") if name in flow.begins else ("[", "]")


def _shown(drawing: Drawing, name: str) -> tuple[str, ...]:
    """The notes that a shape does not say."""
    return tuple(
        note for note in drawing.notes[name] if note not in ("begins", "ends", "held for a person")
    )


def _in_mermaid(text: str) -> str:
    """Text within quotes: what might mean something there as the number of its character."""
    return re.sub(r"[^\w .,:%/()+@-]", lambda found: f"#{ord(found[0])};", text)


# --- DOT -------------------------------------------------------------------------------------


def as_dot(drawing: Drawing) -> list[str]:
    """A digraph (graphviz.org/doc/info/lang.html)."""
    flow = drawing.flow
    lines = ["digraph workflow {", "    node [shape=box];"]
    for name in flow.states:
        label = "\\n".join(_in_dot(one) for one in (name, *_shown(drawing, name)))
        look = ""
        if name in ENDED_STATES:
            look = ", shape=doublecircle"
        elif name in HELD_STATES:
            look = ", shape=hexagon"
        elif name in flow.begins:
            look = ", style=rounded"
        lines.append(f'    "{_in_dot(name)}" [label="{label}"{look}];')
    for edge in flow.edges:
        said = [f'label="{edge.why}"'] if edge.why else []
        said += ["style=dashed"] if edge.why in _ASIDE else []
        attributes = f" [{', '.join(said)}]" if said else ""
        lines.append(f'    "{_in_dot(edge.source)}" -> "{_in_dot(edge.target)}"{attributes};')
    return [*lines, "}"]


def _in_dot(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
