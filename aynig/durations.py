"""Durations as people write and read them: `90s`, `1h30m`; always seconds inside."""

from __future__ import annotations

import math
import re
from fractions import Fraction

from aynig.text import quote

EXAMPLES = "90s, 5m, 1h30m or 2d"
# A hundred years: above any sensible wait, and below what the system's timers overflow at.
LONGEST = 36_500 * 86_400

_UNITS = {
    "w": Fraction(604_800),
    "d": Fraction(86_400),
    "h": Fraction(3_600),
    "m": Fraction(60),
    "s": Fraction(1),
    "ms": Fraction(1, 1_000),
}
_NUMBER = r"(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
_SECONDS = re.compile(_NUMBER)
# Each unit at most once and from large to small, so that a slip of the pen is not added up.
_PARTS = re.compile(
    "".join(
        f"(?:(?P<{unit}>{_NUMBER}){unit}{'(?!s)' if unit == 'm' else ''} ?)?" for unit in _UNITS
    )
)
# No duration needs more; a number with a million digits would cost a second to read.
_LENGTH = 64


def parse_duration(text: str | float) -> float:
    """Seconds, above 0 and at most `LONGEST`: `"90s"`, `"1h 30m"`, `"250ms"`, `"90"`, `0.5`.

    A number without a unit is seconds. Units are w, d, h, m, s and ms, each once and from
    large to small. Raises ValueError with a sentence that says what was expected and found.
    """
    written = str(text).strip() if isinstance(text, (str, int, float)) else ""
    seconds = None
    if not isinstance(text, bool) and 0 < len(written) <= _LENGTH:
        seconds = _exact_seconds(written)
        if seconds is None and isinstance(text, float) and math.isfinite(text):
            # Such as 1e-05, which is how Python writes a number that people don't write.
            seconds = Fraction(text)
    if seconds is None:
        raise ValueError(f"expected a duration such as {EXAMPLES}, found {quote(str(text))}")
    if seconds <= 0:
        raise ValueError(f"expected a duration above 0, found {quote(written)}")
    if seconds > LONGEST:
        raise ValueError(f"expected a duration of at most 100 years, found {quote(written)}")
    # A number that is too small to tell from 0 must still be above it.
    return float(seconds) or math.ulp(0.0)


def parse_limit(text: str | float) -> float:
    """A duration as in `parse_duration`, or `none` (and `math.inf`) for no limit: `math.inf`."""
    if text in ("none", math.inf):
        return math.inf
    return parse_duration(text)


def format_duration(seconds: float) -> str:
    """A duration for people, to two units at most: `250ms`, `12.3s`, `1h 5m`, `14d`.

    `parse_duration` reads it back to what is shown; `math.inf` is `none`, as in `parse_limit`.
    A negative one (a clock was set back) has a minus sign.
    """
    if seconds < 0:
        return f"-{format_duration(-seconds)}"
    if math.isinf(seconds):
        return "none"
    # Each step rounds before it compares: 59.97 s is a minute and not 60.0s.
    if (milliseconds := round(seconds * 1_000)) < 1_000:
        return f"{milliseconds}ms" if milliseconds else "0s"
    if (tenths := round(seconds * 10)) < 600:
        return f"{tenths / 10:g}s"
    if (whole := round(seconds)) < 3_600:
        return _two_units(whole, 60, "m", "s")
    if (minutes := round(seconds / 60)) < 1_440:
        return _two_units(minutes, 60, "h", "m")
    return _two_units(round(seconds / 3_600), 24, "d", "h")


def _exact_seconds(written: str) -> Fraction | None:
    if _SECONDS.fullmatch(written):
        return Fraction(written)
    parts = _PARTS.fullmatch(written)
    if parts is None:
        return None
    return sum(
        (Fraction(number) * _UNITS[unit] for unit, number in parts.groupdict().items() if number),
        Fraction(0),
    )


def _two_units(amount: int, base: int, large: str, small: str) -> str:
    upper, lower = divmod(amount, base)
    return f"{upper}{large} {lower}{small}" if lower else f"{upper}{large}"
