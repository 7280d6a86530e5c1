"""Circles are found among those who wait for each other, however the waits came about."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from aynig.waits import Waits

NAMES = tuple("abcdefg")
EDGES = st.frozensets(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), max_size=12)


def reaches_circle(edges: frozenset[tuple[str, str]], name: str) -> bool:
    return any(
        _leads(edges, each, each) for each in NAMES if each == name or _leads(edges, name, each)
    )


def _leads(edges: frozenset[tuple[str, str]], start: str, end: str) -> bool:
    reached, pending = set[str](), [start]
    while pending:
        at = pending.pop()
        for one, two in edges:
            if one == at and two == end:
                return True
            if one == at and two not in reached:
                reached.add(two)
                pending.append(two)
    return False


@settings(derandomize=True, max_examples=400)
@given(st.lists(st.tuples(EDGES, st.lists(st.sampled_from(NAMES), max_size=7)), max_size=4))
def test_whoever_is_asked_about_with_all_changes_seen_is_judged_right(
    rounds: list[tuple[frozenset[tuple[str, str]], list[str]]],
) -> None:
    edges: frozenset[tuple[str, str]] = frozenset()
    waits = Waits(lambda name: {two for one, two in edges if one == name})
    for edges, asked in rounds:
        # Each whose waits have changed is looked at: a change of a branch is an event.
        for name in [*NAMES, *asked]:
            waits.cycle(name, {two for one, two in edges if one == name})
        for name in NAMES:
            found = waits.cycle(name, {two for one, two in edges if one == name})
            assert bool(found) == reaches_circle(edges, name)
            if found:
                assert found[0] == found[-1]
                assert all(step in edges for step in itertools.pairwise(found))
                assert name not in found or found[0] == name


def test_in_a_long_chain_only_what_is_new_is_looked_at() -> None:
    looked: list[str] = []

    def below(name: str) -> list[str]:
        looked.append(name)
        return [str(int(name) - 1)] if int(name) else []

    waits = Waits(below)
    for number in range(2000):
        assert waits.cycle(str(number), below(str(number))) == ()
    assert len(looked) <= 3 * 2000
