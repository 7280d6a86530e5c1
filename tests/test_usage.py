"""Amounts are read as they are meant or not at all, and sums are exact."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aynig.model import Field
from aynig.usage import (
    KEYS,
    MOST_COST,
    MOST_COUNT,
    NOTHING,
    Usage,
    fields_of,
    format_cost,
    read_usage,
    total,
)

costs = st.decimals(min_value=0, max_value=10**6, places=6)
counts = st.integers(0, 10**12)
usages = st.builds(
    Usage,
    st.none() | costs,
    st.none() | counts,
    st.none() | counts,
    st.none() | counts,
    st.booleans(),
)


def read(*pairs: tuple[str, str]) -> tuple[Usage, tuple[str, ...]]:
    return read_usage(Field(*pair) for pair in pairs)


def test_an_answer_says_what_it_cost() -> None:
    usage, faults = read(
        ("cost-usd", "0.42"), ("tokens-in", "500"), ("tokens-out", "20"), ("calls", "3"),
        ("exit", "0"),
    )  # fmt: skip
    assert usage == Usage(Decimal("0.42"), 500, 20, 3)
    assert (usage.cost, usage.tokens, faults) == (Decimal("0.42"), 520, ())


def test_to_say_nothing_is_not_to_say_0() -> None:
    assert read(("exit", "0"))[0].cost_usd is None
    assert read(("cost-usd", "0"))[0].cost_usd == 0
    assert NOTHING.cost == 0


@pytest.mark.parametrize(
    ("text", "dollars"),
    [
        ("0", "0"), ("0.000001", "0.000001"), (".5", "0.5"), ("1000000000", "1000000000"),
        ("007.50", "7.5"), ("1000000000.000000", "1000000000"),
    ],
)  # fmt: skip
def test_a_cost_that_is_well_formed(text: str, dollars: str) -> None:
    assert read(("cost-usd", text)) == (Usage(Decimal(dollars)), ())


@pytest.mark.parametrize(
    "text",
    [
        "", ".", "-1", "-0", "+1", "1e3", "1.", "0.0000001", "1000000000.000001", "1000000001",
        "nan", "NaN", "inf", "-inf", "Infinity", "sNaN", "$1", "1 2", "1,5", "0x1", "١", "1\n",
        "Unknown", "9" * 100_000, "1_0",
    ],
)  # fmt: skip
def test_a_cost_that_is_not_believed(text: str) -> None:
    usage, (fault,) = read(("cost-usd", text), ("calls", "2"))
    assert usage == Usage(calls=2), "the rest counts"
    assert fault.startswith("cost-usd: expected dollars")
    assert len(fault) < 250


@pytest.mark.parametrize("key", ["tokens-in", "tokens-out", "calls"])
@pytest.mark.parametrize("text", ["", "-1", "1.0", "1e3", "nan", "Unknown", "١", "1_000", "9" * 17])
def test_a_count_that_is_not_believed(key: str, text: str) -> None:
    usage, (fault,) = read((key, text), ("cost-usd", "1"))
    assert usage == Usage(Decimal(1))
    assert fault.startswith(f"{key}: expected a whole number")


def test_the_largest_count_is_believed_and_one_more_is_not() -> None:
    assert read(("calls", str(MOST_COUNT)))[0].calls == MOST_COUNT
    assert read(("calls", str(MOST_COUNT + 1)))[0].calls is None


def test_what_is_said_several_times_is_added_up() -> None:
    usage, faults = read(("cost-usd", "0.1"), ("cost-usd", "unknown"), ("cost-usd", "0.2"))
    assert usage == Usage(Decimal("0.3"), unknown=True)
    assert not faults


@settings(derandomize=True)
@given(usages, usages)
def test_the_total_is_the_larger_of_what_was_reported_and_said(one: Usage, other: Usage) -> None:
    found = total(one, other)
    assert found == total(other, one)
    assert found.cost == max(one.cost, other.cost)
    assert (found.cost_usd is None) == (one.cost_usd is None and other.cost_usd is None)
    assert found.unknown == (one.unknown or other.unknown)
    assert total(one, one) == one == total(one, NOTHING)


@settings(derandomize=True)
@given(st.lists(usages, max_size=8))
def test_a_sum_does_not_depend_on_the_order_and_is_exact(parts: list[Usage]) -> None:
    forwards, backwards = NOTHING, NOTHING
    for part in parts:
        forwards += part
        backwards = part + backwards
    assert forwards == backwards
    assert forwards.cost == sum((part.cost for part in parts), Decimal(0))


@settings(derandomize=True)
@given(usages)
def test_what_is_written_is_read_back_but_for_what_is_0(usage: Usage) -> None:
    fields = fields_of(usage)
    assert {field.key for field in fields} <= set(KEYS)
    assert not any(field.value == "0" for field in fields)
    found, faults = read_usage(fields)
    assert not faults
    assert (found.cost, found.tokens, found.calls or 0) == (
        usage.cost, usage.tokens, usage.calls or 0,
    )  # fmt: skip
    assert found.unknown == usage.unknown


def test_tokens_may_be_unknown_as_well_and_calls_may_not() -> None:
    usage, faults = read(("tokens-out", "unknown"), ("tokens-in", "5"))
    assert usage == Usage(tokens_in=5, tokens_unknown=True)
    assert not faults
    assert read_usage(fields_of(usage))[0] == usage
    assert (usage + Usage(unknown=True)).tokens_unknown
    assert total(Usage(), usage).tokens_unknown
    assert read(("calls", "unknown"))[1]


def test_a_known_part_and_an_unknown_one_are_both_written() -> None:
    assert fields_of(Usage(Decimal("0.420"), unknown=True, tokens_in=0)) == (
        Field("cost-usd", "0.42"),
        Field("cost-usd", "unknown"),
    )
    assert fields_of(NOTHING) == ()


def test_what_is_too_large_to_be_believed_is_written_as_the_largest_that_is() -> None:
    fields = fields_of(Usage(MOST_COST * 2, calls=MOST_COUNT * 2))
    assert read_usage(fields) == (Usage(MOST_COST, calls=MOST_COUNT), ())


@pytest.mark.parametrize(
    ("dollars", "text"),
    [("0.420000", "0.42"), ("100", "100"), ("1E+3", "1000"), ("0.0000001", "0.000001"), ("0", "0")],
)
def test_a_cost_is_written_without_an_exponent(dollars: str, text: str) -> None:
    assert format_cost(Decimal(dollars)) == text
