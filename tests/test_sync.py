"""A remote is looked at when somebody wakes us, and else ever less often."""

from __future__ import annotations

import random
from typing import Any, cast

import pytest

from aynig.errors import Unreachable
from aynig.git.patience import Patience
from aynig.sync import LONGEST, Sync


class Remote:
    """Stands for mirror and refs: says whether anything changed, or fails."""

    def __init__(self) -> None:
        self.changed = False
        self.error: Exception | None = None
        self.firsts = 0
        self.remote = self
        self.patience = Patience()
        self.looked = float("-inf")

    def publish(self) -> None:
        pass

    def sync(self, *, leases: bool) -> bool:
        if self.error is not None:
            raise self.error
        return self.changed

    def first(self) -> None:
        self.firsts += 1


@pytest.fixture
def remote() -> Remote:
    return Remote()


@pytest.fixture
def now() -> list[float]:
    return [1000.0]


@pytest.fixture
def looks(remote: Remote, now: list[float], monkeypatch: pytest.MonkeyPatch) -> Sync:
    monkeypatch.setattr(random, "uniform", lambda low, high: 1.0)
    there = cast(Any, remote)
    return Sync(there, there, poll=5.0, first=remote.first, clock=lambda: now[0])


def look(looks: Sync, longest: float = LONGEST) -> float:
    """A look; the pause after it."""
    looks.begin()
    looks.run(leases=False)
    looks.end(longest)
    return looks.due - 1000.0


def test_the_first_look_is_due_at_once(looks: Sync) -> None:
    assert looks.due <= 0.0
    assert not looks.fresh


def test_pauses_grow_while_nothing_changes(looks: Sync) -> None:
    assert [look(looks) for _ in range(6)] == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]


def test_a_change_makes_them_short_again(looks: Sync, remote: Remote) -> None:
    for _ in range(4):
        look(looks)
    remote.changed = True
    assert [look(looks), look(looks)] == [5.0, 5.0]


def test_whoever_minds_leases_looks_as_often_as_they_may_run_out(looks: Sync) -> None:
    assert [look(looks, longest=12.0) for _ in range(4)] == [5.0, 10.0, 12.0, 12.0]


def test_a_long_poll_is_not_made_shorter(remote: Remote, now: list[float]) -> None:
    there = cast(Any, remote)
    looks = Sync(there, there, poll=3600.0, clock=lambda: now[0])
    assert look(looks) >= 2880.0


def test_a_wake_in_the_middle_of_a_look_asks_for_another(looks: Sync) -> None:
    looks.begin()
    looks.wake()
    looks.run(leases=False)
    looks.end(LONGEST)
    assert looks.due <= 0.0


def test_who_has_enough_to_do_is_not_hurried_by_a_wake(
    looks: Sync, remote: Remote, now: list[float]
) -> None:
    looks.begin()
    looks.run(leases=False)
    remote.looked, now[0] = 1000.0, 1001.0
    looks.end(LONGEST)
    looks.wake()
    assert looks.due <= 1000.0
    # Four times as long as the look took.
    assert looks.due_beside_work == 1004.0


def test_nor_is_it_later_than_if_nobody_woke_it(
    looks: Sync, remote: Remote, now: list[float]
) -> None:
    looks.begin()
    looks.run(leases=False)
    remote.looked, now[0] = 1000.0, 1060.0
    looks.end(LONGEST)
    looks.wake()
    assert looks.due_beside_work == 1005.0


def test_a_look_that_a_lease_took_counts_as_one(looks: Sync, remote: Remote) -> None:
    look(looks)
    looks.wake()
    remote.looked = 1500.0
    assert looks.due_beside_work == 1501.0


def test_a_remote_that_is_away_is_asked_ever_less_often_and_says_why(
    looks: Sync, remote: Remote
) -> None:
    remote.error = Unreachable("origin: no route", hint="Wait.")
    assert [look(looks), look(looks)] == [5.0, 10.0]
    assert looks.fault == "origin: no route: Wait"
    assert not looks.fresh


def test_when_it_is_back_the_fault_is_over(looks: Sync, remote: Remote) -> None:
    remote.error = Unreachable("origin: no route")
    look(looks)
    remote.error = None
    look(looks)
    assert looks.fresh
    assert not looks.fault


def test_what_is_to_be_done_first_is_done_after_the_first_look_and_once(
    looks: Sync, remote: Remote
) -> None:
    for _ in range(3):
        look(looks)
    assert remote.firsts == 1


def test_an_error_that_nobody_foresaw_ends_no_thread(looks: Sync, remote: Remote) -> None:
    remote.error = ZeroDivisionError("ours")
    look(looks)
    assert "ZeroDivisionError" in looks.fault


def test_a_look_that_we_end_ourselves_is_no_fault_of_the_remote(
    looks: Sync, remote: Remote
) -> None:
    remote.error = Unreachable("away")
    remote.patience.end_looks()
    look(looks)
    assert (looks.fault, looks.fresh) == ("", False)
