"""Of several reasons not to run a task, the one that is named is always the same."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aynig.model import ENDED_STATES, HELD_STATES, Deferral, Field, Hold, Plan, ScriptProblem, Step
from aynig.plan import FIRST_RECHECK, make_plan, state_hold
from aynig.workflow import StateSettings as Settings
from tests.values import OID, OTHER_OID, SCRIPT, event, facts, lease
from tests.world import EPOCH

NO_SCRIPT = ScriptProblem("missing-script", "no script .aynig/go")


def deferral(*, seconds: float = 30.0, not_before: float = EPOCH + 30.0) -> Deferral:
    return Deferral(
        oid=OTHER_OID,
        ref="refs/heads/task",
        trigger=OID,
        run="run",
        attempt=2,
        not_before=not_before,
        seconds=seconds,
        reason="the service is down",
    )


# In the order in which they are named.
OBSTACLES: dict[str, tuple[str, Any]] = {
    "answered": ("answered_by", OTHER_OID),
    "copy": ("owner", "refs/heads/another"),
    "missing-script": ("script", NO_SCRIPT),
    "running": ("lease", lease()),
    "waiting": ("deferral", deferral()),
    "blocked": ("last", Hold("blocked", "x ended as failed")),
    "dirty-worktree": ("obstacle", "main is checked out with uncommitted changes"),
}


@settings(derandomize=True, max_examples=128)
@given(st.sets(st.sampled_from(sorted(OBSTACLES))))
def test_of_several_reasons_the_first_in_the_order_of_life_is_named(words: set[str]) -> None:
    planned = make_plan(event(), facts(**dict(OBSTACLES[word] for word in words)))
    if not words:
        assert isinstance(planned, Plan)
    else:
        assert isinstance(planned, Hold)
        assert planned.word == next(word for word in OBSTACLES if word in words)
        assert planned.detail


@pytest.mark.parametrize(
    ("state", "word"),
    [*((state, "ended") for state in sorted(ENDED_STATES)), ("working", "reserved")],
)
def test_an_ended_or_reserved_state_is_held_whatever_there_is_to_run(state: str, word: str) -> None:
    planned = make_plan(event(state), facts())
    assert isinstance(planned, Hold)
    assert planned.word == word
    assert planned == state_hold(event(state))


def test_a_malformed_message_is_held_before_anything_else_is_asked() -> None:
    planned = make_plan(event("done", fault="the state is empty"), facts())
    assert planned == Hold("malformed", "the state is empty")


@pytest.mark.parametrize("state", sorted(HELD_STATES))
def test_a_state_for_a_person_is_held_unless_the_workflow_has_a_script_for_it(state: str) -> None:
    held = make_plan(event(state), facts(script=NO_SCRIPT))
    assert isinstance(held, Hold)
    assert held.word == state
    assert isinstance(make_plan(event(state), facts()), Plan)


def test_a_step_that_another_runner_is_writing_is_running_and_lacks_no_script() -> None:
    step = Step(kind="join", state="collect", subject="joins 2 children")
    planned = make_plan(event(), facts(script=NO_SCRIPT, first=step, lease=lease()))
    assert isinstance(planned, Hold)
    assert planned.word == "running"


def test_what_is_escalated_says_why_without_the_state_that_the_column_has() -> None:
    asked = event("ask")
    said = "go -> ask: 3 of 3 iterations; one more coat"
    told = replace(asked.statement, subject=said, fields=(Field("escalated", OTHER_OID),))
    held = make_plan(replace(asked, statement=told), facts(script=NO_SCRIPT))
    assert isinstance(held, Hold)
    assert held.detail.startswith("for a person: 3 of 3 iterations; one more coat: `aynig retry ")


def test_only_a_missing_interpreter_is_looked_for_again_by_time() -> None:
    by_change = make_plan(event(), facts(script=NO_SCRIPT))
    by_time = make_plan(event(), facts(script=ScriptProblem("bad-interpreter", "no /bin/nosh")))
    assert isinstance(by_change, Hold)
    assert isinstance(by_time, Hold)
    assert (by_change.until, by_time.until) == (None, EPOCH + FIRST_RECHECK)


def test_the_branch_that_a_commit_is_dispatched_on_is_not_held_as_a_copy() -> None:
    assert isinstance(make_plan(event(), facts(owner="refs/heads/task")), Plan)


@pytest.mark.parametrize(
    ("now", "waits"),
    [
        pytest.param(EPOCH, 30.0, id="its time is ahead"),
        pytest.param(EPOCH + 29.5, 0.5, id="nearly"),
        pytest.param(EPOCH + 30.0, None, id="its time has come"),
        pytest.param(EPOCH + 1e6, None, id="long past"),
        pytest.param(EPOCH - 1e6, 30.0, id="the clock was set back"),
    ],
)
def test_a_deferred_task_waits_until_its_time_and_never_longer_than_it_asked(
    now: float, waits: float | None
) -> None:
    planned = make_plan(event(), facts(deferral=deferral(), now=now))
    if waits is None:
        assert isinstance(planned, Plan)
    else:
        assert isinstance(planned, Hold)
        assert planned.until == now + waits
        assert "attempt 3" in planned.detail
        assert "the service is down" in planned.detail


def test_what_an_error_stopped_is_held_by_that_word() -> None:
    planned = make_plan(event(), facts(deferral=replace(deferral(), hold="error")))
    assert isinstance(planned, Hold)
    assert (planned.word, planned.until) == ("error", EPOCH + 30.0)


def test_what_is_given_up_says_how_it_is_run_again_and_is_not_looked_at_by_time() -> None:
    given_up = replace(deferral(seconds=math.inf, not_before=math.inf), hold="error")
    planned = make_plan(event(), facts(deferral=given_up))
    assert isinstance(planned, Hold)
    assert (planned.word, planned.until) == ("error", None)
    assert "the service is down" in planned.detail
    assert "aynig retry task" in planned.detail


@pytest.mark.parametrize(
    ("of_the_state", "of_the_operator", "expected"),
    [
        pytest.param(None, math.inf, math.inf, id="none at all"),
        pytest.param(None, 60.0, 60.0, id="the operator's"),
        pytest.param(5.0, 60.0, 5.0, id="the state's own goes first"),
        pytest.param(math.inf, 60.0, math.inf, id="also where it asks for none"),
    ],
)
def test_the_timeout_is_the_states_own_or_else_the_operators(
    of_the_state: float | None, of_the_operator: float, expected: float
) -> None:
    own = Settings(timeout=of_the_state)
    planned = make_plan(event(), facts(settings=own, default_timeout=of_the_operator))
    assert isinstance(planned, Plan)
    assert planned.timeout == expected


def test_a_plan_carries_what_was_found_and_counts_the_attempt_on() -> None:
    planned = make_plan(event(), facts(role="reviewer", attempts=4))
    assert isinstance(planned, Plan)
    assert (planned.event, planned.script) == (event(), SCRIPT)
    assert (planned.role, planned.attempt) == ("reviewer", 5)


def test_what_a_hold_quotes_of_the_repository_is_escaped() -> None:
    sly = lease(run="\x1b[2Jrun")
    planned = make_plan(event(branch="a\u202eb"), facts(lease=sly))
    answered = make_plan(event(branch="a\u202eb"), facts(answered_by=OTHER_OID))
    assert isinstance(planned, Hold)
    assert isinstance(answered, Hold)
    assert "\x1b" not in planned.detail
    assert "\u202e" not in answered.detail
