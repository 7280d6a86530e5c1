"""The queue gives out the most urgent, costs little with thousands, and keeps lines apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from aynig.policies.priority import Rank, rank
from aynig.policies.resources import place_of
from aynig.turns import Lines, Turns

PROD, DEMO = place_of("resource", "prod", 1), place_of("resource", "demo", 1)


@dataclass
class Board:
    """Branches with a tip, its time, and a priority; counts how many were ranked."""

    tips: dict[str, tuple[str, float]] = field(default_factory=dict)
    levels: dict[str, int] = field(default_factory=dict)
    ranked: int = 0

    def rank(self, ref: str) -> Rank:
        self.ranked += 1
        return rank(self.levels.get(ref, 0), self.tips[ref][1], 1e9, 0, ref)

    def queue(self) -> Turns:
        turns = Turns(self.tips.get, self.rank)
        for ref in self.tips:
            turns.add(ref)
        return turns


def board(**times: float) -> Board:
    return Board({name: (name * 3, time) for name, time in times.items()})


def all_of(turns: Turns, fits: Callable[[str], bool] = lambda ref: True) -> list[str]:
    found = []
    while (ref := turns.take(fits)) is not None:
        found.append(ref)
    return found


def test_the_oldest_goes_first_and_a_higher_priority_before_it() -> None:
    made = board(a=30.0, b=10.0, c=20.0)
    made.levels["c"] = 1
    assert all_of(made.queue()) == ["c", "b", "a"]


def test_what_does_not_fit_keeps_its_place() -> None:
    turns = board(a=1.0, b=2.0, c=3.0).queue()
    assert turns.take(lambda ref: ref != "a") == "b"
    assert "a" in turns
    assert all_of(turns) == ["a", "c"]
    assert not turns


def test_what_was_taken_out_is_not_given_out() -> None:
    turns = board(a=1.0, b=2.0).queue()
    turns.discard("a")
    assert all_of(turns) == ["b"]


def test_a_branch_is_there_once_and_in_its_new_place_when_it_has_moved() -> None:
    made = board(a=1.0, b=2.0)
    turns = made.queue()
    turns.add("a")
    made.tips["a"] = ("new", 3.0)
    turns.add("a")
    assert len(turns) == 2
    assert all_of(turns) == ["b", "a"]


def test_who_is_not_alone_begins_anywhere_among_equals() -> None:
    made = board(a=1.0, b=2.0, c=3.0)
    made.levels["c"] = -50
    turns = made.queue()
    assert turns.take(lambda ref: True, lambda number: number - 1) == "b"
    assert turns.take(lambda ref: True, lambda number: number - 1) == "a"
    assert turns.take(lambda ref: True, lambda number: number - 1) == "c"


def test_the_first_of_ten_thousand_is_given_out_when_few_are_ranked() -> None:
    made = Board({f"{number:05}": (str(number), float(number)) for number in range(10_000)})
    turns = made.queue()
    assert turns.take(lambda ref: True) == "00000"
    assert made.ranked < 100


@given(st.dictionaries(st.text("abc", min_size=1, max_size=4), st.integers(-100, 100), max_size=90))
def test_all_are_given_out_once(levels: dict[str, int]) -> None:
    made = Board({name: (name, 0.0) for name in levels}, levels)
    found = all_of(made.queue())
    assert sorted(found) == sorted(levels)
    if len(levels) <= 32:
        assert found == sorted(levels, key=made.rank)


# --- lines ---------------------------------------------------------------------------------------


def ranked(name: str, time: float) -> Rank:
    return rank(0, time, 1e9, 0, name)


def test_a_line_is_left_by_who_has_waited_longest() -> None:
    lines = Lines()
    for name, time in (("a", 3.0), ("b", 1.0), ("c", 2.0)):
        lines.wait(ranked(name, time), [PROD])
    assert lines.places() == [PROD]
    assert lines.first(PROD.name, 2) == ["b", "c"]
    assert lines.first(PROD.name, 0) == []
    assert lines.first(PROD.name, 5) == ["a"]
    assert not lines
    assert lines.places() == []


def test_who_leaves_one_line_leaves_all_of_them() -> None:
    lines = Lines()
    lines.wait(ranked("a", 1.0), [PROD, DEMO])
    lines.wait(ranked("b", 2.0), [DEMO])
    assert lines.first(PROD.name, 9) == ["a"]
    assert lines.first(DEMO.name, 9) == ["b"]


def test_who_waits_for_something_else_by_now_is_not_called_for_what_was() -> None:
    lines = Lines()
    lines.wait(ranked("a", 1.0), [PROD])
    lines.wait(ranked("a", 1.0), [DEMO])
    assert "a" in lines
    assert lines.places() == [DEMO]
    lines.leave("a")
    assert lines.first(DEMO.name, 9) == []
