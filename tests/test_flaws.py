"""What `aynig check` finds in a workflow that can be read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aynig.flaws import ERROR, MOST_MEANT, NOTE, WARNING, Flaw, flaws_of, named_paths, named_refs
from tests.test_flow import offered, parsed

SCRIPTS = ("a", "b", "c", "d")


def found(
    text: str,
    *scripts: str,
    plain: tuple[str, ...] = (),
    present: tuple[str, ...] = (),
) -> list[Flaw]:
    return flaws_of(parsed(text), offered(*(scripts or SCRIPTS), plain=plain, present=present))


def words(
    text: str,
    *scripts: str,
    plain: tuple[str, ...] = (),
    present: tuple[str, ...] = (),
) -> list[tuple[str, str, str]]:
    flaws = found(text, *scripts, plain=plain, present=present)
    return [(flaw.level, flaw.word, flaw.path) for flaw in flaws]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "states: {a: {next: b}, b: {next: done, on-failure: a, retries: {max: 2}, deadline: 1h}}",
        "states: {a: {next: echo}}",
        "states: {a: {next: stalled, on-failure: blocked}}",
        "states: {a: {escalate: ask-somebody}}",
        "states: {a: {escalate: ask, loop: {promise: X, max-iterations: 5, on-limit: ask}}}",
        "states: {plan: {join: {then: a}}}",
        "states: {plan: {on-child: a}}",
        "states: {a: {next: plan, deadline: 1d}, plan: {on-child: a}}",
        "people-only: [released]\nstates: {a: {next: done}}",
        "people-only: [b]\nstates: {a: {next: b, approval: {}}}",
        "start: [a, z]\nstates: {a: {next: b}, b: {}, c: {}}\npeople-only: [c, d]",
        "states: {a: {loop: {promise: X, max-iterations: 5, on-limit: escalate}}}",
        # It goes on until its checks pass.
        "states: {a: {loop: {max-iterations: 5}, verify: [make]}}",
        "states: {a: {loop: {max-iterations: 5}}}",
        "agents: {bob: {command: agents/bob, role: r}}\nstates: {z: {agent: bob, role: r}}",
        "states: {z: {role: whatever}, a: {breaker: {}}}",
        "states: {a: {next: b}, b: {next: c, on-failure: a}, c: {}}\nautonomy: step",
        "states: {a: {on-failure: b}, b: {next: a}}\nlimits: {cost-usd-per-task: 5}",
    ],
)
def test_a_good_workflow_has_no_flaws(text: str) -> None:
    assert words(text, *SCRIPTS, "agents/bob", "roles/whatever/z") == []


@pytest.mark.parametrize(
    ("text", "path", "detail"),
    [
        ("states: {z: {timeout: 5m}}", "states.z", "the state z has no script"),
        ("states: {z: }", "states.z", "the state z has no script"),
        ("states: {a: {next: zeta}}", "states.a.next", "the state zeta has no script"),
        ("states: {a: {on-failure: zeta}}", "states.a.on-failure", "the state zeta has"),
        ("states: {a: {compensate: zeta}}", "states.a.compensate", "the state zeta has"),
        ("states: {a: {join: {then: zeta}}}", "states.a.join.then", "the state zeta has"),
        ("start: [a, zeta]", "start[1]", "the state zeta has no script"),
        ("states: {a: {role: r}, d: {role: q}, bb: {role: r}}", "states.bb", "the state bb has"),
        ("people-only: [z]\nstates: {z: {timeout: 5m}}", "states.z", "the state z has no script"),
        # Once, at what is said of it first, however many lead there.
        ("states: {a: {next: zz}, b: {next: zz}, zz: {}}", "states.zz", "the state zz has no"),
    ],
)
def test_a_state_without_a_script_is_an_error(text: str, path: str, detail: str) -> None:
    flaws = [flaw for flaw in found(text) if flaw.word == "missing-script"]
    assert [(flaw.level, flaw.path) for flaw in flaws] == [(ERROR, path)]
    assert flaws[0].detail.startswith(detail)
    assert flaws[0].mend.startswith("Write .aynig/")


def test_a_misspelled_state_is_answered_with_what_was_meant() -> None:
    (flaw,) = found("states: {review: {next: aproved}}", "review", "approved")
    assert flaw.detail == "the state aproved has no script, did you mean approved?"
    assert flaw.mend == "Write .aynig/aproved and commit it, or correct the name."


def test_as_many_states_as_a_file_can_hold_are_checked_without_comparing_all_with_all() -> None:
    names = [f"state-{number}" for number in range(600)]
    text = "states: {" + ", ".join(f"{name}: {{next: {name}x}}" for name in names) + "}"
    flaws = found(text, *names)
    assert len(flaws) == len(names)
    assert sum("did you mean" in flaw.detail for flaw in flaws) == MOST_MEANT


def test_a_script_without_its_run_bit_is_not_missing() -> None:
    (flaw,) = found("states: {a: {next: plain}}", "a", plain=("plain",))
    assert (flaw.level, flaw.word, flaw.path) == (ERROR, "not-executable", "states.a.next")
    assert flaw.detail == ".aynig/plain can't be run"
    assert flaw.mend.startswith("chmod +x .aynig/plain && git update-index")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "agents: {bob: {command: agents/bob}}",
            (ERROR, "missing-command", "agents.bob.command"),
        ),
        ("agents: {bob: {command: lib/x}}", (ERROR, "not-executable", "agents.bob.command")),
        ("agents: {bob: }\nstates: {a: {agent: bop}}", (ERROR, "unknown-agent", "states.a.agent")),
        ("states: {a: {agent: bob}}", (ERROR, "unknown-agent", "states.a.agent")),
        ("agents: {bob: }\nstates: {a: {role: r}}", (WARNING, "unknown-role", "states.a.role")),
        ("signed: required", (ERROR, "no-signers", "signed")),
        (
            "people-only: [b]\nstates: {a: {next: b}, b: {}}",
            (WARNING, "people-only", "states.a.next"),
        ),
        (
            "people-only: [b]\nstates: {a: {on-failure: b}, b: {}}",
            (WARNING, "people-only", "states.a.on-failure"),
        ),
        ("start: [a, d]\nstates: {a: {next: b}, c: {}}", (WARNING, "unreached", "states.c")),
        ("start: [a, b, c]", (NOTE, "unreached", "start")),
        ("states: {a: {next: a}}", (WARNING, "endless", "states.a.next")),
        (
            "states: {a: {next: b, on-failure: failed}, b: {next: a}}",
            (WARNING, "endless", "states.a.next"),
        ),
        (
            "states: {a: {on-failure: b}, b: {next: a}}",
            (WARNING, "unlimited", "states.a.on-failure"),
        ),
        ("states: {a: {loop: {promise: X}}}", (WARNING, "unlimited", "states.a.loop")),
        ("states: {a: {on-failure: a}}", (WARNING, "to-itself", "states.a.on-failure")),
        ("states: {a: {on-child: a}}", (WARNING, "to-itself", "states.a.on-child")),
        ("states: {a: {compensate: a}}", (WARNING, "to-itself", "states.a.compensate")),
        ("states: {a: {breaker: {pause: 1h}}}", (WARNING, "breaker", "states.a.breaker")),
        ("breaker: {pause: 1h}\nstates: {a: {}}", (WARNING, "breaker", "breaker")),
        (
            "states: {a: {verify: {scenarios: judge}}}",
            (ERROR, "scenarios", "states.a.verify.scenarios"),
        ),
        (
            "children: {each: 2}\nstates: {a: {join: {then: b, need: 3}}}",
            (ERROR, "join", "states.a.join.need"),
        ),
    ],
)
def test_each_flaw_is_told_once_where_it_is_said(text: str, said: tuple[str, str, str]) -> None:
    assert words(text, *SCRIPTS, plain=("lib/x",)) == [said]
    for flaw in found(text, *SCRIPTS, plain=("lib/x",)):
        assert flaw.mend.endswith("."), flaw
        assert "\n" not in flaw.detail + flaw.mend


def test_files_that_are_there_are_no_flaw() -> None:
    text = "signed: required\nallowed-signers: keys"
    assert words(text, present=("keys",)) == []
    # Every worker can read these: worth knowing, and no reason to fail.
    hidden = "states: {a: {verify: {scenarios: judge}}}"
    assert words(hidden, present=("judge",)) == [(NOTE, "scenarios", "states.a.verify.scenarios")]
    assert named_paths(parsed(hidden)) == (".aynig/allowed_signers", "judge")
    assert words("states: {a: {verify: {scenarios: 'ref:judge'}}}") == []


def test_a_ring_is_described_by_its_states() -> None:
    states = "abcdefg"
    chain = ", ".join(
        f"{one}: {{next: {other}}}" for one, other in zip(states, states[1:] + "a", strict=True)
    )
    (flaw,) = found(f"states: {{{chain}}}", *states)
    assert flaw.detail == "no way from here to an end: a, b, c, 4 more in a ring"
    (alone,) = found("states: {a: {next: a}}")
    assert alone.detail == "no way from here to an end: a leads to itself"


@pytest.mark.parametrize(
    "limit",
    ["deadline: 1d", "breaker: {failures: 3}", "limits: {tokens-per-task: 1M}", "risk: high"],
)
def test_one_limit_in_a_ring_is_enough(limit: str) -> None:
    ring = "states: {{a: {{on-failure: b}}, b: {{next: a{}}}}}"
    assert words(ring.format("")) == [(WARNING, "unlimited", "states.a.on-failure")]
    assert words(ring.format(f", {limit}")) == []
    # Retries are of one visit, and say nothing of how often a task comes back.
    assert words(ring.format(", retries: {max: 3}")) != []


def test_scenarios_on_a_ref_that_is_not_there_may_come_later() -> None:
    workflow = parsed("states: {a: {verify: {scenarios: ['judge:set', 'other:set']}}}")
    assert named_refs(workflow) == (("judge", "set"), ("other", "set"))
    offer = replace(offered(*SCRIPTS), absent={("judge", "set"): "there is no judge"})
    (flaw,) = flaws_of(workflow, offer)
    assert (flaw.level, flaw.path) == (WARNING, "states.a.verify.scenarios")
    assert flaw.detail == "there is no judge"
