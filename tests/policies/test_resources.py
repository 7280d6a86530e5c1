"""What runs share is counted in places, and a run gets all that it needs or nothing."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aynig.model import Hold, Place, Seat
from aynig.policies.resources import (
    RECHECK,
    judge,
    place_name,
    place_of,
    places_of,
    slot_of,
    unfinished,
)
from aynig.workflow import Limits

NOW = 1_700_000_000.0
PROD = place_of("resource", "prod", 1)
DEMO = place_of("resource", "demo", 1)
BUILD = place_of("state", "build", 3)
ALL = place_of("repository", "", 1)


def seats(place: Place, *branches: str) -> list[Seat]:
    """The slots of a place, each with the branch that has it; "" for a free one."""
    return [Seat(slot_of(place, number), branch=each) for number, each in enumerate(branches)]


def test_who_needs_nothing_has_all() -> None:
    assert judge([], "task", NOW) == ()


@pytest.mark.parametrize(
    ("wanted", "slots"),
    [
        ([(PROD, seats(PROD, ""))], [slot_of(PROD, 0)]),
        ([(BUILD, seats(BUILD, "a", "", ""))], [slot_of(BUILD, 1)]),
        (
            [(PROD, seats(PROD, "")), (BUILD, seats(BUILD, "a", "b", ""))],
            [slot_of(PROD, 0), slot_of(BUILD, 2)],
        ),
    ],
)
def test_the_first_free_slot_of_each_place_is_taken(
    wanted: list[tuple[Place, list[Seat]]], slots: list[str]
) -> None:
    found = judge(wanted, "task", NOW)
    assert not isinstance(found, Hold)
    assert [seat.ref for seat in found] == slots


@pytest.mark.parametrize(
    ("wanted", "place", "detail"),
    [
        ([(PROD, seats(PROD, "task/x"))], PROD, "for the resource prod, which task/x has"),
        (
            [(PROD, seats(PROD, "own"))],
            PROD,
            "for the resource prod, which an earlier run of it has",
        ),
        ([(PROD, seats(PROD, "?"))], PROD, "for the resource prod, which somebody has"),
        (
            [(BUILD, seats(BUILD, "a", "b", "c"))],
            BUILD,
            "for one of 3 places of the state build",
        ),
        (
            [(ALL, seats(ALL, "a"))],
            ALL,
            "for the one place of the repository, which a has",
        ),
        (
            [(PROD, seats(PROD, "")), (DEMO, seats(DEMO, "a"))],
            DEMO,
            "for the resource demo, which a has",
        ),
        (
            [(place_of("resource", "a\x1b[1m", 1), [Seat("r", branch="x")])],
            place_of("resource", "a\x1b[1m", 1),
            "for the resource a\\x1b[1m, which x has",
        ),
        ([(BUILD._replace(capacity=0), [])], BUILD._replace(capacity=0), "for one of 0 places"),
    ],
)
def test_what_is_taken_is_waited_for(
    wanted: list[tuple[Place, list[Seat]]], place: Place, detail: str
) -> None:
    found = judge(wanted, "own", NOW)
    assert isinstance(found, Hold)
    assert found.detail.startswith(detail)
    assert (found.word, found.until, found.places) == ("waiting", NOW + RECHECK, (place,))


def test_an_earlier_run_of_the_same_branch_ends_first() -> None:
    assert unfinished("task", NOW).detail == "for the earlier run of task to end"


def test_a_name_is_the_same_for_all_and_may_lie_in_another() -> None:
    assert place_of("resource", "a/b", 1).name != place_of("resource", "a", 1).name
    assert place_of("state", "a", 1).name != place_of("resource", "a", 1).name
    assert re.fullmatch(r"refs/aynig/slot/[0-9a-f]{40}", PROD.name)
    assert place_name(slot_of(BUILD, 12)) == BUILD.name


def test_limits_without_a_number_of_runs_take_no_place() -> None:
    assert places_of((), [("state", "build", Limits(cost_usd_per_day=Decimal(1)))]) == ()


names = st.lists(st.sampled_from("abcdef"), max_size=6)


@given(names, names)
def test_all_runners_ask_for_the_same_places_in_the_same_order(
    one: list[str], two: list[str]
) -> None:
    limits = [("state", "build", Limits(concurrent=2))]
    found = places_of([*one, *two], limits)
    assert found == places_of([*two, *one, *one], limits)
    assert len(found) == len({*one, *two}) + 1


@given(st.lists(st.lists(st.sampled_from(["", "a", "b"]), max_size=4), max_size=5))
def test_all_or_nothing(held: list[list[str]]) -> None:
    wanted = [(place_of("state", str(number), len(each)), each) for number, each in enumerate(held)]
    found = judge([(place, seats(place, *each)) for place, each in wanted], "task", NOW)
    assert isinstance(found, Hold) is not all("" in each for each in held)
    if not isinstance(found, Hold):
        assert [place_name(seat.ref) for seat in found] == [place.name for place, _ in wanted]
        assert not any(seat.branch for seat in found)
