"""A command to a remote has its time-out; once the runner is to stop, it has less."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from aynig.git.patience import LAST_WORDS, Patience

TIMEOUT = 60.0


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def patience(clock: Clock) -> Patience:
    return Patience(clock=clock)


def test_a_command_has_its_time_out(patience: Patience, clock: Clock) -> None:
    assert patience.until(TIMEOUT)() == clock.now + TIMEOUT


def test_a_look_that_is_under_way_is_over_at_once(patience: Patience, clock: Clock) -> None:
    with patience.looking():
        look = patience.until(TIMEOUT)
    push = patience.until(TIMEOUT)
    patience.end_looks()
    assert look() < clock.now
    assert push() == clock.now + TIMEOUT


def test_no_new_look_begins(patience: Patience, clock: Clock) -> None:
    patience.end_looks()
    with patience.looking():
        assert patience.until(TIMEOUT)() < clock.now
    assert patience.until(TIMEOUT)() > clock.now


def test_a_push_has_the_grace_time_and_a_little_more(patience: Patience, clock: Clock) -> None:
    push = patience.until(TIMEOUT)
    patience.end(10.0)
    assert push() == clock.now + 10.0 + LAST_WORDS


def test_no_push_has_longer_than_its_time_out(patience: Patience, clock: Clock) -> None:
    push = patience.until(TIMEOUT)
    patience.end(3600.0)
    assert push() == clock.now + TIMEOUT


def test_a_push_that_begins_after_the_grace_time_has_a_little_as_well(
    patience: Patience, clock: Clock
) -> None:
    patience.end(10.0)
    clock.now += 30.0
    assert patience.until(TIMEOUT)() == clock.now + LAST_WORDS


def test_a_second_wish_to_stop_may_only_shorten_the_grace_time(
    patience: Patience, clock: Clock
) -> None:
    push = patience.until(TIMEOUT)
    patience.end(10.0)
    patience.end(0.0)
    patience.end(10.0)
    assert push() == clock.now + LAST_WORDS


def test_after_one_that_was_in_vain_nothing_else_is_waited_for(
    patience: Patience, clock: Clock
) -> None:
    patience.end(0.0)
    clock.now += LAST_WORDS
    patience.exhausted()
    assert patience.until(TIMEOUT)() < clock.now


def test_one_that_was_in_vain_before_is_no_reason_to_give_up(
    patience: Patience, clock: Clock
) -> None:
    patience.exhausted()
    patience.end(10.0)
    patience.exhausted()
    assert patience.until(TIMEOUT)() > clock.now
