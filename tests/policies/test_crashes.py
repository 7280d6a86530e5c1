"""A commit whose runner dies again and again is tried ever later, and not for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aynig.attempts import after_crash, attempt_pairs, attempts_of
from aynig.model import Attempt, Hold, Step
from aynig.policies.crashes import AT_ONCE, FIRST_DELAY, MOST, crashes_in, failures_in, judge
from aynig.workflow import StateSettings

NONE = StateSettings()
NOW = 1_700_000_000.0
FAILED = Attempt("failure", True, "", NOW, "exit 1")


def crashed(times: int, at: float = NOW) -> tuple[Attempt, ...]:
    past: tuple[Attempt, ...] = ()
    for _ in range(times):
        past = after_crash(past, at)
    return past


def verdict(
    past: tuple[Attempt, ...], now: float = NOW, settings: StateSettings = NONE
) -> Hold | Step | None:
    return judge(past, settings, "task", "abc", None, now)


@pytest.mark.parametrize(
    ("past", "pause"),
    [
        ((), None),
        ((FAILED,) * 20, None),
        (crashed(AT_ONCE - 1), None),
        (crashed(AT_ONCE), FIRST_DELAY),
        (crashed(AT_ONCE + 1), FIRST_DELAY * 2),
        ((*crashed(AT_ONCE), FAILED), None),
        ((FAILED,) * 9 + crashed(AT_ONCE), FIRST_DELAY),
    ],
)
def test_the_first_crashes_cost_nothing_and_the_next_ever_more(
    past: tuple[Attempt, ...], pause: float | None
) -> None:
    found = verdict(past)
    assert (found.until if isinstance(found, Hold) else found) == (pause and NOW + pause)
    assert verdict(past, NOW + (pause or 0)) is None


def test_a_clock_that_was_set_back_keeps_a_task_for_its_pause_at_most() -> None:
    found = verdict(crashed(AT_ONCE, NOW + 1e6))
    assert isinstance(found, Hold)
    assert found.until == NOW + FIRST_DELAY


@pytest.mark.parametrize(
    ("settings", "state"),
    [
        (StateSettings(), "failed"),
        (StateSettings(on_failure="mend"), "mend"),
        (StateSettings(escalate="look"), "look"),
        (StateSettings(compensate="undo", on_failure="mend"), "undo"),
    ],
)
def test_after_so_many_it_goes_where_a_failure_goes(settings: StateSettings, state: str) -> None:
    found = verdict(crashed(MOST), NOW, settings)
    assert isinstance(found, Step)
    assert (found.kind, found.state) == ("crashes", state)


@given(st.lists(st.sampled_from("cf"), max_size=15))
def test_crashes_and_failures_are_counted_apart_and_survive_the_record(kinds: list[str]) -> None:
    past: tuple[Attempt, ...] = ()
    for kind in kinds:
        past = after_crash(past, NOW) if kind == "c" else (*past, FAILED)
    again = attempts_of(dict(attempt_pairs(past)))
    counted = (kinds.count("c"), kinds.count("f"))
    assert (crashes_in(again), failures_in(again)) == counted
