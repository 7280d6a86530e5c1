"""Durations: what people write, what they read, and that the two agree."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aynig.durations import LONGEST, format_duration, parse_duration, parse_limit
from aynig.text import escape


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("5m", 300),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("2d", 172_800),
        ("2w", 1_209_600),
        ("250ms", 0.25),
        ("1m250ms", 60.25),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("90", 90),
        ("0.1", 0.1),
        ("010", 10),
        (" 5m ", 300),
        (90, 90),
        (0.5, 0.5),
        (1e-05, 1e-05),
        (LONGEST, LONGEST),
    ],
)
def test_a_duration_is_read_as_seconds(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "soon",
        "s",
        "5 m",
        "5M",
        "5min",
        "30m1h",
        "1h1h",
        "1h  30m",
        "1:30",
        "1_000",
        "0x10",
        "1e3",
        "+5",
        "-5s",
        "1.s",
        "٣s",
        "none",
        "inf",
        "nan",
        "5s\n5s",
        math.inf,
        math.nan,
        True,
        "1" * 65,
    ],
)
def test_what_is_no_duration_is_refused_with_examples(text: str | float) -> None:
    with pytest.raises(ValueError, match=r"^expected a duration such as 90s, 5m, 1h30m or 2d"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["0", "0s", "0h0m", "0.000", 0, 0.0])
def test_nothing_is_no_duration(text: str | float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["36501d", "9" * 60, 1e300])
def test_a_duration_that_no_timer_can_wait_for_is_refused(text: str | float) -> None:
    with pytest.raises(ValueError, match="at most 100 years"):
        parse_duration(text)


def test_the_refusal_of_a_long_text_is_one_short_line() -> None:
    with pytest.raises(ValueError, match="expected a duration") as caught:
        parse_duration("x\n" * 100_000)
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["none", math.inf])
def test_none_is_no_limit(text: str | float) -> None:
    assert parse_limit(text) == math.inf


def test_a_limit_is_a_duration_otherwise() -> None:
    assert parse_limit("5m") == 300
    with pytest.raises(ValueError, match="expected a duration"):
        parse_limit("never")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0004, "0s"),
        (0.25, "250ms"),
        (0.9994, "999ms"),
        (0.9996, "1s"),
        (1, "1s"),
        (12.34, "12.3s"),
        (59.94, "59.9s"),
        (59.96, "1m"),
        (60, "1m"),
        (90, "1m 30s"),
        (3599.4, "59m 59s"),
        (3599.6, "1h"),
        (3900, "1h 5m"),
        (86_400 - 29, "1d"),
        (14 * 86_400, "14d"),
        (2 * 86_400 + 3 * 3600 + 60, "2d 3h"),
        (-5, "-5s"),
        (math.inf, "none"),
    ],
)
def test_a_duration_is_shown_in_two_units_at_most(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@settings(derandomize=True)
@given(st.floats(min_value=0.0005, max_value=LONGEST, exclude_min=True))
def test_what_is_shown_is_read_back_as_what_is_shown(seconds: float) -> None:
    text = format_duration(seconds)
    back = parse_duration(text)
    assert format_duration(back) == text
    # Two units: never off by more than half of the smaller one.
    unit = 3600 if seconds > 86_000 else 60 if seconds > 3590 else 1 if seconds > 59 else 0.1
    assert abs(back - seconds) <= unit / 2 + 1e-6


@settings(derandomize=True)
@given(st.integers(1, 60_000), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_a_number_with_a_unit_is_exact(number: int, unit: str) -> None:
    scale = {"ms": (1, 1000), "s": (1, 1), "m": (60, 1), "h": (3600, 1), "d": (86_400, 1)}[unit]
    if number * scale[0] <= LONGEST:
        assert parse_duration(f"{number}{unit}") == number * scale[0] / scale[1]


@settings(derandomize=True)
@given(st.one_of(st.text(), st.floats(), st.integers(), st.text("0123456789.wdhms ", max_size=12)))
def test_anything_is_a_duration_above_0_or_a_value_error(text: str | float) -> None:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        assert escape(str(error)) == str(error)  # noqa: PT017 - both ends are right
    else:
        assert 0 < seconds <= LONGEST
