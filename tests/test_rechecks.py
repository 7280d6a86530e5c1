"""A held task is looked at ever less often, and one that asked for a time gets that time."""

from __future__ import annotations

import math
import time

import pytest

from aynig.held import Held
from aynig.model import Hold, Place
from aynig.plan import FIRST_RECHECK, LONGEST_RECHECK
from aynig.rechecks import LONGEST, held_for, held_until, on_our_clock


def test_each_look_at_the_same_hold_is_twice_as_far_away_up_to_a_limit() -> None:
    held, delays = None, []
    for _ in range(6):
        held = held_for(Hold("running", "", time.time()), "abc", held, remote=False)
        delays.append(held.delay)
    assert delays == [1.0, 2.0, 4.0, 8.0, LONGEST_RECHECK, LONGEST_RECHECK]


@pytest.mark.parametrize("word", sorted(LONGEST))
def test_what_asks_a_remote_something_is_looked_at_less_often_still(word: str) -> None:
    held: Held | None = None
    for _ in range(12):
        held = held_for(Hold(word, "", time.time()), "abc", held, remote=True)
    assert held is not None
    assert held.delay == LONGEST[word]


@pytest.mark.parametrize("word", ["waiting", "breaker", "over-budget"])
def test_one_that_asked_for_a_time_gets_that_time(word: str) -> None:
    held = held_for(Hold(word, "", time.time() + 1000.0), "abc", None, remote=False)
    assert held.due is not None
    assert time.monotonic() + FIRST_RECHECK < held.due <= time.monotonic() + 1000.0


@pytest.mark.parametrize(
    "hold",
    [
        Hold("blocked", ""),
        Hold("waiting", "", time.time() + 5, places=(Place("slot", 1, "the resource x"),)),
    ],
)
def test_what_a_change_ends_is_not_looked_at_by_the_clock(hold: Hold) -> None:
    assert held_for(hold, "abc", None, remote=False).due is None


def test_the_end_of_the_whole_task_goes_with_it() -> None:
    end = time.time() + 1000.0
    held = held_until(Hold("waiting", ""), "abc", 5.0, end)
    assert held.ends == pytest.approx(time.monotonic() + 1000.0, abs=60.0)
    assert on_our_clock(None) == math.inf
