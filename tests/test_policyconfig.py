"""What `.aynig/config.yaml` says of policies: each key, right and wrong."""

from __future__ import annotations

import math
import textwrap
from decimal import Decimal

import pytest

from aynig.config import STATE_KEYS, TOP_KEYS, config_lines, parse_workflow
from aynig.errors import ConfigError
from aynig.policyconfig import WAITING_KEYS
from aynig.workflow import (
    AFTER,
    ALL,
    ANY,
    BEFORE,
    Agent,
    Approval,
    Breaker,
    ChildLimits,
    Join,
    Limits,
    Loop,
    Need,
    Retries,
    Scenarios,
    StateSettings,
    Verification,
    Workflow,
)

WHERE = ".aynig/config.yaml"


def parsed(text: str) -> Workflow:
    return parse_workflow(textwrap.dedent(text), where=WHERE)


def of_state(settings: str) -> StateSettings:
    """The settings of a state in braces: `priority: 5`."""
    return parsed(f"states: {{build: {{{settings}}}}}").of("build")


def refused(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parsed(text)
    assert str(caught.value).startswith(f"{WHERE}, line ")
    assert (str(caught.value) + caught.value.hint).isprintable()
    assert caught.value.hint.endswith((".", "?", '"'))
    return caught.value


# --- a state ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "settings"),
    [
        ("agent: coder", StateSettings(agent="coder")),
        ("agent: Security_1.x", StateSettings(agent="Security_1.x")),
        ("compensate: undo", StateSettings(compensate="undo")),
        ("escalate: needs-help", StateSettings(escalate="needs-help")),
        ("on-dependency-failure: fail", StateSettings(on_dependency_failure="fail")),
        ("on-dependency-failure: wait", StateSettings()),
        ("on-dependency-failure: run", StateSettings(on_dependency_failure="run")),
        ("on-child: decide", StateSettings(on_child="decide")),
        ("expect: changes", StateSettings(expect="changes")),
        ("expect: answer", StateSettings(expect="answer")),
        ("expect: none", StateSettings(expect="none")),
        ("checkpoint: true", StateSettings(checkpoint=True)),
        ("checkpoint: No", StateSettings()),
        ("resource: deploy-prod", StateSettings(resources=("deploy-prod",))),
        ("resource: [db/main, GPU.1]", StateSettings(resources=("db/main", "GPU.1"))),
        ("deadline: 2h", StateSettings(deadline=7200.0)),
        ("priority: 5", StateSettings(priority=5)),
        ("priority: -100", StateSettings(priority=-100)),
        ("priority: +100", StateSettings(priority=100)),
        ("priority: 0", StateSettings(priority=0)),
        ("may-change: .aynig/", StateSettings(may_change=(".aynig",))),
        ("may-change: [./a//b/, c]", StateSettings(may_change=("a/b", "c"))),
        ("retries: , breaker: , limits: , join: , loop: , verify:", StateSettings()),
        ("risk: , approval: , priority: , resource: , may-change:", StateSettings()),
    ],
)
def test_a_state_says_what_is_done_with_it(written: str, settings: StateSettings) -> None:
    assert of_state(written) == settings


STATE_RULE = "expected a state (a-z, 0-9, - and _, at most 64 characters), found"


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("agent: two words", "agent: expected an agent (a name without spaces), found 'two words'"),
        ("agent: 5", "agent: expected an agent"),
        ("agent: [a]", "agent: expected an agent (a name without spaces), found a list"),
        ("compensate: Undo", f"compensate: {STATE_RULE} 'Undo'"),
        ("compensate: working", "compensate: the state working is reserved"),
        ("escalate: [a, b]", f"escalate: {STATE_RULE} a list"),
        ("on-child: ../x", f"on-child: {STATE_RULE} '../x'"),
        ("on-dependency-failure: stop", "on-dependency-failure: expected fail, wait or run"),
        ("expect: change", "expect: expected changes, answer or none, found 'change'"),
        ("expect: no", "expect: expected changes, answer or none, found the boolean no"),
        ("checkpoint: 1", "checkpoint: expected true or false, found the number 1"),
        ("checkpoint: 'true'", "checkpoint: expected true or false, found 'true'"),
        ("resource: two words", "resource: expected a resource"),
        ("resource: []", "resource: expected an entry, found none"),
        ("resource: [a, a]", "resource[1]: expected each entry once"),
        ("resource: [a, 1]", "resource[1]: expected a resource"),
        ("deadline: none", "deadline: expected a duration such as 90s, 5m, 1h30m or 2d, found"),
        ("deadline: 0", "deadline: expected a duration"),
        ("priority: 101", "priority: expected a whole number from -100 to 100, found the number"),
        ("priority: 1.5", "priority: expected a whole number"),
        ("priority: 0x10", "priority: expected a whole number"),
        ("priority: high", "priority: expected a whole number from -100 to 100, found 'high'"),
        ("may-change: /etc", "may-change: expected a relative path without .., found '/etc'"),
        ("may-change: [a, b/../c]", "may-change[1]: expected a relative path"),
        ("may-change: .", "may-change: expected a relative path"),
        ("may-change: .git/config", "may-change: expected a relative path"),
        ('may-change: "a\\nb"', "may-change: expected a relative path"),
    ],
)
def test_a_wrong_setting_of_a_state_is_refused(written: str, text: str) -> None:
    assert f"{WHERE}, line 1: states.build.{text}" in str(
        refused(f"states: {{build: {{{written}}}}}")
    )


# --- retries, breaker, limits ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "retries"),
    [
        ("{}", Retries()),
        ("{max: 0}", Retries(max=0)),
        ("{max: 010}", Retries(max=10)),
        ("{backoff: 0}", Retries(backoff=0.0)),
        ("{backoff: 1m30s}", Retries(backoff=90.0)),
        ("{factor: 1}", Retries(factor=1.0)),
        ("{factor: 1.5, jitter: 0}", Retries(factor=1.5, jitter=0.0)),
        ("{jitter: 1}", Retries(jitter=1.0)),
        ("{on: tempfail}", Retries(on=("tempfail",))),
        (
            "{max: 3, backoff: 10s, factor: 2, jitter: 0.2, on: [failure, timeout]}",
            Retries(3, 10.0, 2.0, 0.2, ("failure", "timeout")),
        ),
    ],
)
def test_retries(written: str, retries: Retries) -> None:
    assert of_state(f"retries: {written}").retries == retries
    # The same for all states, also for those that the file does not name.
    assert parsed(f"retries: {written}").of("elsewhere").retries == retries


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("3", "retries: expected a mapping, found the number 3"),
        ("{max: -1}", "retries.max: expected a whole number from 0 to 1000, found the number -1"),
        ("{max: many}", "retries.max: expected a whole number"),
        ("{backoff: soon}", "retries.backoff: expected a duration"),
        ("{backoff: -1s}", "retries.backoff: expected a duration"),
        ("{factor: 0.5}", "retries.factor: expected a number from 1 to 100, found the number 0.5"),
        ("{factor: .inf}", "retries.factor: expected a number from 1 to 100"),
        ("{jitter: 1.1}", "retries.jitter: expected a number from 0 to 1, found the number 1.1"),
        ("{jitter: -0.1}", "retries.jitter: expected a number from 0 to 1"),
        ("{on: []}", "retries.on: expected an entry"),
        ("{on: [failure, time-out]}", "retries.on[1]: expected failure, timeout, tempfail or"),
        ("{times: 3}", "retries.times: unknown key"),
        ("{bakoff: 3s}", "retries.bakoff: unknown key, did you mean backoff?"),
    ],
)
def test_wrong_retries_are_refused(written: str, text: str) -> None:
    assert f": {text}" in str(refused(f"retries: {written}"))
    assert f": states.build.{text}" in str(refused(f"states: {{build: {{retries: {written}}}}}"))


def test_a_misspelled_word_is_answered_with_what_was_meant() -> None:
    assert refused("retries: {on: [time-out]}").hint == "Did you mean timeout?"
    assert refused("autonomy: alone").hint == (
        "Words that exist here: step, checkpoint, end, stuck, never."
    )


@pytest.mark.parametrize(
    ("written", "breaker"),
    [
        ("{}", Breaker()),
        ("{no-change: 3, same-failure: 4}", Breaker(no_change=3, same_failure=4)),
        (
            "{failures: 5, within: 1d, pause: 30m}",
            Breaker(failures=5, within=86_400.0, pause=1800.0),
        ),
    ],
)
def test_the_circuit_breaker(written: str, breaker: Breaker) -> None:
    assert of_state(f"breaker: {written}").breaker == breaker
    assert parsed(f"breaker: {written}").of("elsewhere").breaker == breaker


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("{no-change: 0}", "breaker.no-change: expected a whole number from 1"),
        ("{same-failure: x}", "breaker.same-failure: expected a whole number"),
        ("{failures: 1.5}", "breaker.failures: expected a whole number"),
        ("{within: none}", "breaker.within: expected a duration"),
        ("{pause: 0}", "breaker.pause: expected a duration"),
        ("{fail: 3}", "breaker.fail: unknown key, did you mean failures?"),
    ],
)
def test_a_wrong_breaker_is_refused(written: str, text: str) -> None:
    assert f": {text}" in str(refused(f"breaker: {written}"))


def test_what_a_state_says_itself_takes_the_place_of_the_default() -> None:
    workflow = parsed(
        """\
        states:
          own: {retries: {max: 1}, breaker: {}}
          silent: {next: own}
        retries: {max: 5, backoff: 1m}
        breaker: {no-change: 3}
        """
    )
    assert workflow.of("own").retries == Retries(max=1)
    assert workflow.of("own").breaker == Breaker()
    for name in ("silent", "elsewhere"):
        assert workflow.of(name).retries == Retries(max=5, backoff=60.0)
        assert workflow.of(name).breaker == Breaker(no_change=3)
    assert workflow.defaults == StateSettings(
        retries=Retries(max=5, backoff=60.0), breaker=Breaker(no_change=3)
    )


@pytest.mark.parametrize(
    ("written", "limits"),
    [
        ("{}", Limits()),
        ("{calls-per-hour: 100, concurrent: 4}", Limits(calls_per_hour=100, concurrent=4)),
        ("{cost-usd-per-task: 5}", Limits(cost_usd_per_task=Decimal(5))),
        ("{cost-usd-per-task: 0}", Limits(cost_usd_per_task=Decimal(0))),
        ("{cost-usd-per-day: 0.1}", Limits(cost_usd_per_day=Decimal("0.1"))),
        ("{cost-usd-per-day: '1_000.50'}", Limits(cost_usd_per_day=Decimal("1000.50"))),
        (
            "{tokens-per-task: 250k, tokens-per-day: 1.5M}",
            Limits(tokens_per_task=250_000, tokens_per_day=1_500_000),
        ),
        ("{tokens-per-task: 1_000}", Limits(tokens_per_task=1000)),
        ("{tokens-per-task: 0}", Limits(tokens_per_task=0)),
    ],
)
def test_limits_of_a_state_an_agent_and_the_repository(written: str, limits: Limits) -> None:
    assert of_state(f"limits: {written}").limits == limits
    assert parsed(f"limits: {written}").limits == limits
    assert parsed(f"agents: {{a: {{limits: {written}}}}}").agents[0].limits == limits


def test_money_is_exact() -> None:
    limits = of_state("limits: {cost-usd-per-task: 0.10}").limits
    assert limits is not None
    # Through a float it would be 0.1000000000000000055.
    assert str(limits.cost_usd_per_task) == "0.10"


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("5", "limits: expected a mapping"),
        ("{calls-per-hour: 0}", "limits.calls-per-hour: expected a whole number from 1"),
        ("{concurrent: 0}", "limits.concurrent: expected a whole number from 1"),
        ("{cost-usd-per-task: -1}", "limits.cost-usd-per-task: expected an amount of US dollars"),
        ("{cost-usd-per-task: $5}", "limits.cost-usd-per-task: expected an amount of US dollars"),
        ("{cost-usd-per-day: 1e3}", "limits.cost-usd-per-day: expected an amount of US dollars"),
        ("{cost-usd-per-day: .nan}", "limits.cost-usd-per-day: expected an amount of US dollars"),
        ("{cost-usd-per-day: 9999999999}", "limits.cost-usd-per-day: expected an amount"),
        ("{tokens-per-task: -1}", "limits.tokens-per-task: expected a number of tokens"),
        ("{tokens-per-task: 0.5}", "limits.tokens-per-task: expected a number of tokens"),
        ("{tokens-per-day: 1G}", "limits.tokens-per-day: expected a number of tokens"),
        ("{cost-usd: 5}", "limits.cost-usd: unknown key"),
    ],
)
def test_wrong_limits_are_refused(written: str, text: str) -> None:
    assert f": {text}" in str(refused(f"limits: {written}"))


# --- join, loop, verify ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "join"),
    [
        ("{then: sum}", Join("sum")),
        ("{wait-for: children, then: sum, need: all}", Join("sum", ALL)),
        ("{then: sum, need: any}", Join("sum", ANY)),
        ("{then: sum, need: 2}", Join("sum", Need(count=2))),
        ("{then: sum, need: 1}", Join("sum", ANY)),
        ("{then: sum, need: 90%}", Join("sum", Need(percent=Decimal(90)))),
        ("{then: sum, need: 66.7%}", Join("sum", Need(percent=Decimal("66.7")))),
        ("{then: sum, merge: none}", Join("sum", merge="none")),
        ("{then: sum, merge: ours}", Join("sum", merge="ours")),
        (
            "{then: sum, merge: octopus, on-conflict: mend}",
            Join("sum", merge="octopus", on_conflict="mend"),
        ),
    ],
)
def test_a_join(written: str, join: Join) -> None:
    assert of_state(f"join: {written}").join == join


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("children", "join: expected a mapping, found 'children'"),
        ("{}", "join: expected the key then"),
        ("{need: all}", "join: expected the key then"),
        ("{then: }", "join: expected the key then"),
        ("{then: sum, wait-for: siblings}", "join.wait-for: expected children, found 'siblings'"),
        ("{then: sum, need: 0}", "join.need: expected all, any, a number from 1 or a share"),
        ("{then: sum, need: -1}", "join.need: expected all, any, a number from 1 or a share"),
        ("{then: sum, need: 0%}", "join.need: expected all, any, a number from 1 or a share"),
        ("{then: sum, need: 101%}", "join.need: expected all, any, a number from 1 or a share"),
        ("{then: sum, need: 1.5}", "join.need: expected all, any, a number from 1 or a share"),
        ("{then: sum, need: most}", "join.need: expected all, any, a number from 1 or a share"),
        ("{then: sum, merge: rebase}", "join.merge: expected none, ours, octopus or sequential"),
        ("{then: sum, on-conflict: A}", f"join.on-conflict: {STATE_RULE} 'A'"),
        ("{than: sum}", "join.than: unknown key, did you mean then?"),
    ],
)
def test_a_wrong_join_is_refused(written: str, text: str) -> None:
    assert f": states.build.{text}" in str(refused(f"states: {{build: {{join: {written}}}}}"))


@pytest.mark.parametrize(
    ("written", "loop"),
    [
        ("{}", Loop()),
        ("{promise: TASK_COMPLETE}", Loop("TASK_COMPLETE")),
        ("{promise: all is done, max-iterations: 1}", Loop("all is done", 1)),
        ("{plan: docs/plan.md, max-iterations: 10000}", Loop(None, 10_000, "docs/plan.md")),
        ("{promise: X, on-limit: escalate}", Loop("X")),
        ("{promise: X, on-limit: give-up}", Loop("X", on_limit="give-up")),
    ],
)
def test_a_loop(written: str, loop: Loop) -> None:
    assert of_state(f"loop: {written}").loop == loop


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("5", "loop: expected a mapping"),
        ("{promise: yes}", "loop.promise: expected a promise (one line without < and >), found"),
        ("{promise: ''}", "loop.promise: expected a promise"),
        ('{promise: "a\\nb"}', "loop.promise: expected a promise"),
        ("{promise: ' a'}", "loop.promise: expected a promise"),
        ("{promise: <promise>X</promise>}", "loop.promise: expected a promise"),
        ("{max-iterations: 0}", "loop.max-iterations: expected a whole number from 1 to 10000"),
        ("{max-iterations: 10001}", "loop.max-iterations: expected a whole number from 1"),
        ("{plan: ../plan.md}", "loop.plan: expected a relative path without .., found '../plan"),
        ("{on-limit: Stop}", f"loop.on-limit: {STATE_RULE} 'Stop'"),
        ("{max_iterations: 5}", "loop.max_iterations: unknown key, did you mean max-iterations?"),
    ],
)
def test_a_wrong_loop_is_refused(written: str, text: str) -> None:
    assert f": states.build.{text}" in str(refused(f"states: {{build: {{loop: {written}}}}}"))


@pytest.mark.parametrize(
    ("written", "verify"),
    [
        ("[make test, ./check]", Verification(("make test", "./check"))),
        ("{commands: make test}", Verification(("make test",))),
        ('{commands: ["a\\nb"]}', Verification(("a\nb",))),
        ("{scenarios: 'judge:all'}", Verification(scenarios=(Scenarios("all", "judge"),))),
        (
            "{scenarios: 'refs/judge/x:a/b:c/'}",
            Verification(scenarios=(Scenarios("a/b:c", "refs/judge/x"),)),
        ),
        ("{scenarios: .aynig/judge/}", Verification(scenarios=(Scenarios(".aynig/judge"),))),
        ("{scenarios: {path: a}}", Verification(scenarios=(Scenarios("a"),))),
        ("{scenarios: {path: a, ref: b}}", Verification(scenarios=(Scenarios("a", "b"),))),
        (
            "{scenarios: [{repository: ../judge.git, ref: main, path: a}, b]}",
            Verification(scenarios=(Scenarios("a", "main", "../judge.git"), Scenarios("b"))),
        ),
        (
            "{commands: [x], need: 90%, show: names, timeout: 10m, committed: true}",
            Verification(("x",), (), Need(percent=Decimal(90)), "names", 600.0, True),
        ),
        ("{commands: [x], timeout: none}", Verification(("x",), timeout=math.inf)),
        ("{commands: [x], show: output}", Verification(("x",), show="output")),
    ],
)
def test_verification(written: str, verify: Verification) -> None:
    assert of_state(f"verify: {written}").verify == verify


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("make test", "verify: expected a list of commands or a mapping, found 'make test'"),
        ("[]", "verify: expected an entry, found none"),
        ("[make test, true]", "verify[1]: expected a command, found the boolean true"),
        ("[' ']", "verify[0]: expected a command"),
        ('["a\\0"]', "verify[0]: expected a command"),
        ("{}", "verify: expected commands or scenarios, found neither"),
        ("{need: all}", "verify: expected commands or scenarios, found neither"),
        ("{scenarios: 'judge:'}", "verify.scenarios: expected scenarios as REF:PATH"),
        ("{scenarios: ':x'}", "verify.scenarios: expected the name of a ref"),
        ("{scenarios: '-x:y'}", "verify.scenarios: expected the name of a ref"),
        ("{scenarios: '../x'}", "verify.scenarios: expected scenarios as REF:PATH, PATH"),
        ("{scenarios: 'a:/x'}", "verify.scenarios: expected scenarios as REF:PATH, PATH"),
        ("{scenarios: {ref: a}}", "verify.scenarios: expected the key path"),
        ("{scenarios: {path: a, ref: 'b c'}}", "verify.scenarios.ref: expected the name of a ref"),
        ("{scenarios: {path: a, repository: o}}", "verify.scenarios: expected the key ref beside"),
        (
            "{scenarios: [{path: a, ref: b, repository: '--upload-pack=x'}]}",
            "verify.scenarios[0].repository: expected a repository",
        ),
        (
            "{scenarios: {path: a, ref: b, repository: 'ext::sh -c x'}}",
            "verify.scenarios.repository: expected a repository",
        ),
        ("{commands: [x], need: 0}", "verify.need: expected all, any, a number from 1"),
        ("{commands: [x], need: 2}", "verify.need: expected at most as many as there are (1)"),
        ("{commands: [x], show: all}", "verify.show: expected score, names or output"),
        ("{commands: [x], timeout: 0}", "verify.timeout: expected a duration"),
        ("{commands: [x], committed: maybe}", "verify.committed: expected true or false"),
        ("{command: [x]}", "verify.command: unknown key, did you mean commands?"),
    ],
)
def test_a_wrong_verification_is_refused(written: str, text: str) -> None:
    assert f": states.build.{text}" in str(refused(f"states: {{build: {{verify: {written}}}}}"))


# --- approval --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "approval"),
    [
        ("risk: high", Approval(when=BEFORE)),
        ("risk: medium", Approval(when=AFTER)),
        ("risk: low", None),
        ("approval: {}", Approval(when=AFTER)),
        ("approval: {when: before}", Approval(when=BEFORE)),
        ("approval: {by: ann}", Approval(by=("ann",))),
        (
            "approval: {by: [Ann B, b@example.org, 'SHA256:xyz'], need: 2}",
            Approval(by=("Ann B", "b@example.org", "SHA256:xyz"), need=2),
        ),
        ("approval: {show: stat, on-reject: rework}", Approval(show="stat", on_reject="rework")),
        ("risk: high, approval: {need: 2}", Approval(when=BEFORE, need=2)),
        ("risk: medium, approval: {show: none}", Approval(when=AFTER, show="none")),
    ],
)
def test_risk_and_approval(written: str, approval: Approval | None) -> None:
    assert of_state(written).approval == approval


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("risk: huge", "risk: expected high, medium or low, found 'huge'"),
        ("approval: ann", "approval: expected a mapping"),
        ("approval: {when: never}", "approval.when: expected before or after"),
        ("approval: {by: []}", "approval.by: expected an entry"),
        ("approval: {by: [ann, ann]}", "approval.by[1]: expected each entry once"),
        ("approval: {by: ['']}", "approval.by[0]: expected a person's name"),
        ("approval: {need: 0}", "approval.need: expected a whole number from 1"),
        ("approval: {by: [ann], need: 2}", "approval.need: expected at most as many as may"),
        ("approval: {show: names}", "approval.show: expected diff, stat or none"),
        ("approval: {on-reject: A}", f"approval.on-reject: {STATE_RULE} 'A'"),
        ("risk: high, approval: {when: before}", "approval: expected no when beside risk high"),
        ("risk: low, approval: {need: 2}", "approval: expected no approval beside risk low"),
        ("approval: {who: [ann]}", "approval.who: unknown key"),
    ],
)
def test_a_wrong_approval_is_refused(written: str, text: str) -> None:
    assert f": states.build.{text}" in str(refused(f"states: {{build: {{{written}}}}}"))


# --- the whole -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "workflow"),
    [
        ("start: [submitted, reported]", Workflow(start=("submitted", "reported"))),
        ("start: submitted", Workflow(start=("submitted",))),
        ("autonomy: step", Workflow(autonomy="step")),
        ("autonomy: never", Workflow(autonomy="never")),
        ("people-only: [approved, released]", Workflow(people_only=("approved", "released"))),
        ("people-only: [done]", Workflow(people_only=("done",))),
        ("signed: required", Workflow(signed=True)),
        ("signed: no", Workflow()),
        ("signed: 'no'", Workflow()),
        ("allowed-signers: keys/people", Workflow(allowed_signers="keys/people")),
        ("children: {depth: 0}", Workflow(children=ChildLimits(depth=0))),
        (
            "children: {depth: 3, each: 7, total: 1_000}",
            Workflow(children=ChildLimits(3, 7, 1000)),
        ),
        ("agents: {coder: }", Workflow(agents=(Agent("coder"),))),
        (
            "agents: {coder: {role: dev, command: agents/coder --fast 'a b'}}",
            Workflow(agents=(Agent("coder", "dev", ("agents/coder", "--fast", "a b")),)),
        ),
        (
            "agents: {coder: {command: [.aynig/agents/coder, -n, 1]}}",
            Workflow(agents=(Agent("coder", None, ("agents/coder", "-n", "1")),)),
        ),
        (
            "agents: {b: {identity: Coder B <b@agents.example>}, a: {}}",
            Workflow(agents=(Agent("b", identity="Coder B <b@agents.example>"), Agent("a"))),
        ),
        (
            "states:\nstart:\nagents:\nretries:\nbreaker:\nlimits:\nchildren:\npeople-only:\n"
            "signed:\nallowed-signers:\nautonomy:\n",
            Workflow(),
        ),
    ],
)
def test_what_counts_for_the_whole_workflow(written: str, workflow: Workflow) -> None:
    assert parsed(written) == workflow


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("start: []", "start: expected an entry, found none"),
        ("start: [Submitted]", f"start[0]: {STATE_RULE} 'Submitted'"),
        ("start: [a, a]", "start[1]: expected each entry once"),
        ("autonomy: sometimes", "autonomy: expected step, checkpoint, end, stuck or never, found"),
        ("people-only: {a: b}", f"people-only: {STATE_RULE} a mapping"),
        ("people-only: working", "people-only: the state working is reserved"),
        ("signed: yes", "signed: expected required or no, found the boolean yes"),
        ("signed: [no]", "signed: expected required or no, found a list"),
        ("allowed-signers: /etc/keys", "allowed-signers: expected a relative path without .."),
        ("children: 3", "children: expected a mapping"),
        ("children: {depth: -1}", "children.depth: expected a whole number from 0 to 100"),
        ("children: {each: many}", "children.each: expected a whole number"),
        ("children: {total: 10000000}", "children.total: expected a whole number"),
        ("children: {all: 3}", "children.all: unknown key"),
        ("agents: [coder]", "agents: expected a mapping of agents to settings, found a list"),
        ("agents: {a b: {}}", "agents: expected an agent (a name without spaces), found 'a b'"),
        ("agents: {a: {role: ../x}}", "agents.a.role: expected a role"),
        ("agents: {a: {command: ''}}", "agents.a.command: expected a program below .aynig/"),
        ("agents: {a: {command: []}}", "agents.a.command: expected a program below .aynig/"),
        ("agents: {a: {command: /bin/sh}}", "agents.a.command: expected a program below .aynig/"),
        ("agents: {a: {command: ../x}}", "agents.a.command: expected a program below .aynig/"),
        ("agents: {a: {command: .aynig/../x}}", "agents.a.command: expected a program below"),
        ("agents: {a: {command: -x}}", "agents.a.command: expected a program below .aynig/"),
        ("agents: {a: {command: a 'b}}", "agents.a.command: expected a program below .aynig/"),
        ("agents: {a: {command: [x, [y]]}}", "agents.a.command[1]: expected a word of a command"),
        ('agents: {a: {command: [x, "y\\0"]}}', "agents.a.command[1]: expected a word"),
        ("agents: {a: {identity: Coder}}", "agents.a.identity: expected an identity such as"),
        ('agents: {a: {identity: "A\\nB <c@d>"}}', "agents.a.identity: expected an identity"),
        ("agents: {a: {identity: <c@d>}}", "agents.a.identity: expected an identity"),
        ("agents: {a: {identity: A <b> <c@d>}}", "agents.a.identity: expected an identity"),
        ("agents: {a: {model: x}}", "agents.a.model: unknown key"),
        ("agent: {}", "agent: unknown key, did you mean agents?"),
        ("deadline: 5m", "deadline: unknown key"),
    ],
)
def test_what_is_wrong_with_the_whole_is_refused(written: str, text: str) -> None:
    assert f"{WHERE}, line 1: {text}" in str(refused(written))


def test_an_error_deep_in_the_file_names_its_line_and_what_to_do() -> None:
    error = refused(
        """\
        agents:
          coder: {role: coder}
        states:
          build:
            verify:
              commands:
                - make test
                - 5
        """
    )
    assert str(error) == (
        f"{WHERE}, line 8: states.build.verify.commands[1]: expected a command, found the number 5"
    )
    assert error.hint == 'Quote it: "5"'


def test_every_key_path_has_its_line() -> None:
    lines = config_lines(
        "states:\n  build:\n    next: a\n    verify:\n      - x\n      - y\nautonomy: end\n"
    )
    assert lines == {
        "states": 1,
        "states.build": 2,
        "states.build.next": 3,
        "states.build.verify": 4,
        "states.build.verify[0]": 5,
        "states.build.verify[1]": 6,
        "autonomy": 7,
    }
    assert config_lines("") == {}


def test_an_unknown_key_is_told_all_that_exist() -> None:
    assert refused("zzz: 1").hint == f"Keys that exist here: {', '.join(TOP_KEYS)}."
    assert (
        refused("states: {a: {zzz: 1}}").hint == f"Keys that exist here: {', '.join(STATE_KEYS)}."
    )


# --- states that wait for children -----------------------------------------------------------

JOIN = "join: {then: collect}"
# What is about a run, with a right value.
OF_RUNS = {
    "timeout": "5m",
    "role": "reviewer",
    "env": "{A: b}",
    "agent": "coder",
    "retries": "{max: 1}",
    "breaker": "{}",
    "limits": "{concurrent: 1}",
    "loop": "{promise: X}",
    "verify": "[make test]",
    "expect": "changes",
    "risk": "high",
    "approval": "{need: 2}",
    "resource": "prod",
    "may-change": ".aynig/",
}


@pytest.mark.parametrize(("key", "value"), OF_RUNS.items())
@pytest.mark.parametrize("waits", [JOIN, "on-child: collect"])
def test_what_is_about_a_run_is_refused_where_children_are_waited_for(
    waits: str, key: str, value: str
) -> None:
    by = waits.partition(":")[0]
    error = refused(f"states:\n  gather:\n    {waits}\n    {key}: {value}\n")
    assert str(error) == (
        f"{WHERE}, line 4: states.gather.{key}: expected no {key} beside {by}: the state waits for "
        "children, and runs no script"
    )
    where = f"{by}.then" if by == "join" else by
    assert error.hint == f"Put {key} on collect ({where}), where a script runs, or remove it."


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        (f"{JOIN}, next: x", "Remove it: join.then says what follows."),
        ("on-child: decide, next: x", "Remove it: on-child says what follows."),
        (
            f"{JOIN}, on-child: decide, verify: [x]",
            "Put verify on collect (join.then) or decide (on-child), where a script runs, or "
            "remove it.",
        ),
        (
            "join: {then: done}, risk: high",
            "Let join.then name a state that runs a script, and put risk there.",
        ),
    ],
)
def test_it_is_said_where_it_belongs(written: str, hint: str) -> None:
    assert refused(f"states: {{gather: {{{written}}}}}").hint == hint


@pytest.mark.parametrize(
    "written",
    [
        "on-failure: x, compensate: y, escalate: z, on-dependency-failure: fail",
        "checkpoint: true, deadline: 2h, priority: 5",
        "verify: , risk: ",
    ],
)
def test_what_means_something_without_a_run_may_stay(written: str) -> None:
    assert of_state(f"{JOIN}, on-child: decide, {written}").join == Join("collect")


def test_a_key_means_something_to_a_waiting_room_or_is_refused_there() -> None:
    assert set(STATE_KEYS) == {*WAITING_KEYS, *OF_RUNS, "next"}


def test_what_counts_for_all_states_is_no_fault_of_one_that_waits() -> None:
    workflow = parsed(f"retries: {{max: 1}}\nbreaker: {{failures: 2}}\nstates: {{g: {{{JOIN}}}}}")
    assert workflow.of("g").join == Join("collect")
