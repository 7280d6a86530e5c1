"""What a run has spent: money, tokens and calls, as its answer or its usage file says. Pure.

An amount is well-formed or not believed: cost is dollars as a decimal of at most six places, the
others are whole numbers. None is negative and none is ever a float, so that sums over years are
exact and the same for everybody who adds them up. What is said several times is added up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_UP, Decimal
from typing import TypeVar

from aynig.model import Field
from aynig.text import quote

COST = "cost-usd"
TOKENS_IN = "tokens-in"
TOKENS_OUT = "tokens-out"
CALLS = "calls"
KEYS = (COST, TOKENS_IN, TOKENS_OUT, CALLS)
_COUNTS = frozenset(KEYS[1:])
_TOKENS = frozenset((TOKENS_IN, TOKENS_OUT))
# What `cost-usd`, `tokens-in` and `tokens-out` say where something was spent and nobody can tell
# how much.
UNKNOWN = "unknown"

MOST_COST = Decimal(10**9)
MOST_COUNT = 10**15
_DOLLARS = re.compile(r"[0-9]{1,10}(?:\.[0-9]{1,6})?|\.[0-9]{1,6}")
_COUNT = re.compile(r"[0-9]{1,16}")
_SMALLEST = Decimal("0.000001")

N = TypeVar("N", int, Decimal)


@dataclass(frozen=True, slots=True)
class Usage:
    """Amounts spent; None: nothing was said of it, which is not the same as 0.

    `unknown` says that there is a part beside `cost_usd` of which nobody knows how much it is,
    `tokens_unknown` the same of tokens.
    """

    cost_usd: Decimal | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    calls: int | None = None
    unknown: bool = False
    tokens_unknown: bool = False

    @property
    def cost(self) -> Decimal:
        """Dollars as far as they are known."""
        return self.cost_usd or Decimal(0)

    @property
    def tokens(self) -> int:
        """Of both directions."""
        return (self.tokens_in or 0) + (self.tokens_out or 0)

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            _sum(self.cost_usd, other.cost_usd),
            _sum(self.tokens_in, other.tokens_in),
            _sum(self.tokens_out, other.tokens_out),
            _sum(self.calls, other.calls),
            self.unknown or other.unknown,
            self.tokens_unknown or other.tokens_unknown,
        )


NOTHING = Usage()


@dataclass(frozen=True, slots=True)
class Spent:
    """What several answers have spent together.

    `unknown` is the oid of the last of them of which nobody knows what it cost; empty where there
    is none. `unknown_tokens` is the same for tokens.
    """

    usage: Usage = NOTHING
    unknown: str = ""
    unknown_tokens: str = ""


def read_amount(key: str, value: str) -> Usage | str:
    """One amount as it was written; a sentence where it is not believed."""
    if key not in KEYS:
        return f"{quote(key)} is nothing that can be spent: expected one of {', '.join(KEYS)}"
    usage, faults = read_usage([(key, value)])
    return faults[0] if faults else usage


def read_usage(fields: Iterable[tuple[str, str]]) -> tuple[Usage, tuple[str, ...]]:
    """What the fields of an answer say was spent, and what of that is not believed, in words.

    Fields with other keys are passed over.
    """
    cost: Decimal | None = None
    counts: dict[str, int] = {}
    unknown = tokens_unknown = False
    faults: list[str] = []
    for key, value in fields:
        if key == COST:
            dollars = _dollars(value)
            if dollars is not None:
                cost = dollars if cost is None else cost + dollars
            elif value == UNKNOWN:
                unknown = True
            else:
                most = f"at most {MOST_COST} with at most 6 decimal places"
                faults.append(
                    f"{key}: expected dollars, {most}, or {UNKNOWN}, found {quote(value)}"
                )
        elif key in _TOKENS and value == UNKNOWN:
            tokens_unknown = True
        elif key in _COUNTS:
            count = int(value) if _COUNT.fullmatch(value) else -1
            if 0 <= count <= MOST_COUNT:
                counts[key] = counts.get(key, 0) + count
            else:
                whole = f"a whole number from 0 to {MOST_COUNT}"
                faults.append(f"{key}: expected {whole}, found {quote(value)}")
    usage = Usage(
        cost,
        counts.get(TOKENS_IN),
        counts.get(TOKENS_OUT),
        counts.get(CALLS),
        unknown,
        tokens_unknown,
    )
    return usage, tuple(faults)


def _dollars(value: str) -> Decimal | None:
    if not _DOLLARS.fullmatch(value):
        return None
    dollars = Decimal(value)
    return dollars if dollars <= MOST_COST else None


def total(reported_by_file: Usage, said_in_answer: Usage) -> Usage:
    """Of each key the larger: a script that reports on its way may say the sum once more."""
    return Usage(
        _larger(reported_by_file.cost_usd, said_in_answer.cost_usd),
        _larger(reported_by_file.tokens_in, said_in_answer.tokens_in),
        _larger(reported_by_file.tokens_out, said_in_answer.tokens_out),
        _larger(reported_by_file.calls, said_in_answer.calls),
        reported_by_file.unknown or said_in_answer.unknown,
        reported_by_file.tokens_unknown or said_in_answer.tokens_unknown,
    )


def fields_of(usage: Usage) -> tuple[Field, ...]:
    """The fields that say this in an answer, without those that would say 0.

    Sums that are too large for one field are cut down to the largest that is believed.
    """
    found = []
    if usage.cost_usd:
        found.append(Field(COST, format_cost(min(usage.cost_usd, MOST_COST))))
    if usage.unknown:
        found.append(Field(COST, UNKNOWN))
    counts = ((TOKENS_IN, usage.tokens_in), (TOKENS_OUT, usage.tokens_out), (CALLS, usage.calls))
    if usage.tokens_unknown:
        found.append(Field(TOKENS_IN, UNKNOWN))
    found += [Field(key, str(min(count, MOST_COUNT))) for key, count in counts if count]
    return tuple(found)


def format_cost(dollars: Decimal) -> str:
    """`0.42`: without needless zeros and without an exponent, at most six places."""
    return f"{dollars.quantize(_SMALLEST, ROUND_UP).normalize():f}"


def _sum(one: N | None, other: N | None) -> N | None:
    if one is None or other is None:
        return other if one is None else one
    return one + other


def _larger(one: N | None, other: N | None) -> N | None:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)
