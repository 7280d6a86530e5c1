"""Pictures of declared workflows."""

from __future__ import annotations

import re
import textwrap

import pytest
from hypothesis import given, settings

from aynig.drawing import Drawing, as_dot, as_mermaid, as_text, drawing_of
from aynig.flow import flow_of
from aynig.workflow import Workflow
from tests.test_config import WORKFLOWS
from tests.test_flow import offered, parsed

PIPELINE = """\
    start: [submitted]
    people-only: [released]
    agents:
      coder: {command: agents/coder}
    states:
      submitted: {next: build}
      build:
        agent: coder
        next: review
        on-failure: stalled
        loop: {promise: DONE, max-iterations: 20, on-limit: ask}
        verify: {commands: [make test], scenarios: "judge:all"}
        deadline: 2h
      review: {role: reviewer, next: deploy, on-failure: build, retries: {max: 1}}
      deploy:
        risk: high
        approval: {need: 2}
        resource: [production, db]
        compensate: roll-back
        escalate: ask
        priority: 5
        checkpoint: true
    """
FAN = """\
    states:
      split: {join: {need: 2, then: gather, on-conflict: mend}, on-child: decide}
      mend: {next: gather}
    """


def drawn(text: str, *scripts: str) -> Drawing:
    workflow, offer = parsed(textwrap.dedent(text)), offered(*scripts)
    return drawing_of(workflow, offer, flow_of(workflow, offer))


@pytest.fixture
def pipeline() -> Drawing:
    return drawn(PIPELINE, "submitted", "review", "deploy", "roll-back", "agents/coder")


@pytest.fixture
def fan() -> Drawing:
    return drawn(FAN, "decide", "gather", "mend", "spare")


def test_a_pipeline_as_text(pipeline: Drawing) -> None:
    assert as_text(pipeline) == [
        "submitted · begins",
        "└─ next → build",
        "build · agent coder · loop up to 20 · verified by 2 judges · deadline 2h",
        "├─ loop          → build",
        "├─ next          → review",
        "├─ loop.on-limit → ask",
        "└─ on-failure    → stalled",
        "review · role reviewer · up to 1 retry",
        "├─ next       → deploy",
        "└─ on-failure → build",
        "deploy · 2 people agree first · checkpoint · priority 5",
        "│   · alone with production, db",
        "├─ compensate → roll-back",
        "├─ escalate   → ask",
        "└─ by default → done",
        "roll-back",
        "└─ by default → ask",
        "ask · no script",
        "stalled · held for a person",
        "done · ends",
    ]


def test_a_fan_as_text(fan: Drawing) -> None:
    assert as_text(fan) == [
        "split · begins · joins 2 children",
        "├─ on-child         → decide",
        "├─ join.then        → gather",
        "└─ join.on-conflict → mend",
        "decide",
        "└─ by default → done",
        "gather",
        "└─ by default → done",
        "mend",
        "└─ next → gather",
        "spare · begins",
        "└─ by default → done",
        "done · ends",
    ]


def test_a_fan_in_mermaid(fan: Drawing) -> None:
    assert as_mermaid(fan) == [
        "flowchart TD",
        '    s0(["split<br/>joins 2 children"])',
        '    s1["decide"]',
        '    s2["gather"]',
        '    s3["mend"]',
        '    s4(["spare"])',
        '    s5((("done")))',
        '    s0 -->|"on-child"| s1',
        '    s0 -->|"join.then"| s2',
        '    s0 -->|"join.on-conflict"| s3',
        "    s1 --> s5",
        "    s2 --> s5",
        '    s3 -->|"next"| s2',
        "    s4 --> s5",
    ]


def test_a_fan_in_dot(fan: Drawing) -> None:
    assert as_dot(fan) == [
        "digraph workflow {",
        "    node [shape=box];",
        '    "split" [label="split\\njoins 2 children", style=rounded];',
        '    "decide" [label="decide"];',
        '    "gather" [label="gather"];',
        '    "mend" [label="mend"];',
        '    "spare" [label="spare", style=rounded];',
        '    "done" [label="done", shape=doublecircle];',
        '    "split" -> "decide" [label="on-child"];',
        '    "split" -> "gather" [label="join.then"];',
        '    "split" -> "mend" [label="join.on-conflict"];',
        '    "decide" -> "done";',
        '    "gather" -> "done";',
        '    "mend" -> "gather" [label="next"];',
        '    "spare" -> "done";',
        "}",
    ]


def test_ways_of_failure_are_drawn_apart(pipeline: Drawing) -> None:
    assert '    s1 -.->|"on-failure"| s6' in as_mermaid(pipeline)
    assert '    s6{{"stalled"}}' in as_mermaid(pipeline)
    assert '    "build" -> "stalled" [label="on-failure", style=dashed];' in as_dot(pipeline)
    assert '    "stalled" [label="stalled", shape=hexagon];' in as_dot(pipeline)


def test_names_that_mean_something_in_a_language_are_only_names() -> None:
    odd = drawn('states: {end: {agent: "a\\"b\\\\c;#<x>`"}, node: {next: end}}', "end", "node")
    (first,) = (line for line in as_mermaid(odd) if "end" in line)
    assert first == '    s1["end<br/>agent a#34;b#92;c#59;#35;#60;x#62;#96;"]'
    assert '    "end" [label="end\\nagent a\\"b\\\\c;#<x>`"];' in as_dot(odd)


def test_what_all_states_have_is_not_said_of_each() -> None:
    text = "retries: {max: 2}\nstates: {a: {}, b: {retries: {max: 3}}}"
    assert [line for line in as_text(drawn(text, "a", "b")) if "begins" in line] == [
        "a · begins",
        "b · begins · up to 3 retries",
    ]


def test_what_waits_for_children_is_not_said_to_have_no_script() -> None:
    lines = as_text(drawn("states: {a: {join: {then: c}}, b: {on-child: c}}", "c"))
    assert lines[0] == "a · begins · joins all children"
    assert "b · begins · waits for children" in lines


def test_without_states_there_is_an_empty_picture() -> None:
    nothing = drawn("")
    assert as_text(nothing) == []
    assert as_mermaid(nothing) == ["flowchart TD"]
    assert as_dot(nothing) == ["digraph workflow {", "    node [shape=box];", "}"]


_QUOTED = r'"(?:[^"\\]|\\.)*"'
_DOT_LINE = re.compile(
    rf"    (?:node|{_QUOTED}(?: -> {_QUOTED})?)"
    rf"(?: \[\w+=(?:\w+|{_QUOTED})(?:, \w+=(?:\w+|{_QUOTED}))*\])?;"
)
_MERMAID_LINE = re.compile(
    r'    s\d+(?:[\[({]+"[^"\n`]+"[\])}]+| (?:-->|-\.->)(?:\|"[a-z.-]+"\|)? s\d+)'
)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(WORKFLOWS)
def test_any_workflow_is_drawn_with_all_its_states(workflow: Workflow) -> None:
    offer = offered("a", "b", "roles/c/d")
    flow = flow_of(workflow, offer)
    drawing = drawing_of(workflow, offer, flow)
    named = {name for name, _ in workflow.states} | set(workflow.start)
    assert named <= set(flow.states)
    assert len(flow.states) == len(set(flow.states))
    assert {end for edge in flow.edges for end in edge[:2]} <= set(flow.states)
    text, mermaid, dot = as_text(drawing), as_mermaid(drawing), as_dot(drawing)
    heads = [line.split(" · ")[0] for line in text if line[0] not in "├└│ "]
    assert heads == list(flow.states)
    assert sum(line[0] in "├└" for line in text) == len(flow.edges)
    assert all(_MERMAID_LINE.fullmatch(line) for line in mermaid[1:])
    assert len(mermaid) == 1 + len(flow.states) + len(flow.edges)
    assert all(_DOT_LINE.fullmatch(line) for line in dot[1:-1])
    assert all(f'    "{name}" [' in "\n".join(dot) for name in flow.states)
