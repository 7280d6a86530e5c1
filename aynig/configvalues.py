"""Single values of `.aynig/config.yaml`: one function a kind, each strict and with a hint.

All raise ConfigError, with the place of the value, what was expected and what was found.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import TypeVar

from aynig.durations import EXAMPLES, parse_duration, parse_limit
from aynig.model import RESERVED_STATES, ROLE_PATTERN, STATE_PATTERN
from aynig.text import nearest
from aynig.workflow import ALL, ANY, Need
from aynig.yamlfile import Spot, items

_T = TypeVar("_T")

# Below the kernel's limit of 128 KiB for one variable or argument, with room for its name.
MAX_VALUE_BYTES = 120 * 1024
# No word of a person, and no name of a file or ref that one would write, needs more.
MAX_WORD = 1024
MAX_MONEY = Decimal(10**9)
MAX_COUNT = 10**15

_NAME_RULE = "a-z, 0-9, - and _, at most 64 characters"
_QUOTE = 'Quote it: "{}"'
_TRUE, _FALSE = ("true", "yes", "on", "y"), ("false", "no", "off", "n")
_SUFFIXES = {"": 1, "k": 1_000, "K": 1_000, "M": 1_000_000}

NOT_PRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_WHOLE = re.compile(r"[+-]?[0-9][0-9_]{0,18}")
_AMOUNT = re.compile(r"[0-9]{1,10}(?:\.[0-9]{1,9})?")
_TOKENS = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)([kKM]?)")
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,3})?)%")
_IDENTITY = re.compile(r"[^<>\s](?:[^<>]*[^<>\s])? <[^<>\s]+>")
_RESOURCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")


# --- texts -----------------------------------------------------------------------------------


def text_of(spot: Spot, expected: str, hint: str) -> str:
    """The text of a node that YAML takes for text, and not for a boolean or a number."""
    text = spot.scalar
    if text is None:
        raise spot.error(expected, hint=hint)
    if spot.tag != "str":
        raise spot.error(expected, hint=_QUOTE.format(text) if len(text) < 40 and text else hint)
    return text


def line_of(spot: Spot, expected: str, hint: str) -> str:
    """A text on one line, printable and with no space around it."""
    text = text_of(spot, expected, hint)
    if not text or text != text.strip() or NOT_PRINTABLE.search(text) or len(text) > MAX_WORD:
        raise spot.error(expected, hint=hint)
    return text


def state_of(spot: Spot) -> str:
    """The name of a state that a commit may carry."""
    rule = f"a state ({_NAME_RULE})"
    name = text_of(spot, rule, "Name a state, such as review-needed.")
    if not STATE_PATTERN.fullmatch(name):
        raise spot.error(rule, hint="Rename the state: it is the name of its script's file.")
    if name in RESERVED_STATES:
        raise spot.complaint(f"the state {name} is reserved", hint="Choose another name.")
    return name


def role_of(spot: Spot) -> str:
    """The name of a role."""
    rule = f"a role ({_NAME_RULE})"
    name = text_of(spot, rule, "Name a role, such as reviewer.")
    if not ROLE_PATTERN.fullmatch(name):
        raise spot.error(rule, hint="Rename the role: it is the name of a folder.")
    return name


def agent_of(spot: Spot) -> str:
    """The name of an agent: what `assigned-to` and `git config aynig.agent` say."""
    rule = "an agent (a name without spaces)"
    hint = "Name an agent, such as coder."
    name = line_of(spot, rule, hint)
    if re.search(r"\s", name):
        raise spot.error(rule, hint=hint)
    return name


def resource_of(spot: Spot) -> str:
    """The name of something that only one task may use at a time."""
    rule = "a resource (letters, digits, ., _, / and -, at most 128 characters)"
    name = text_of(spot, rule, "Name a resource, such as deploy-prod.")
    if not _RESOURCE.fullmatch(name):
        raise spot.error(rule, hint="Name a resource, such as deploy-prod.")
    return name


def person_of(spot: Spot) -> str:
    """Somebody who may approve: a name, an address or the fingerprint of a key."""
    rule = "a person's name, address or key fingerprint"
    return line_of(spot, rule, "Write what git says of the author, such as ann@example.org.")


def identity_of(spot: Spot) -> str:
    """`Name <address>`, as git writes it."""
    rule = "an identity such as Coder <coder@agents.example>"
    hint = "Write a name and an address in angle brackets, on one line."
    text = line_of(spot, rule, hint)
    if not _IDENTITY.fullmatch(text):
        raise spot.error(rule, hint=hint)
    return text


def promise_of(spot: Spot) -> str:
    """What a loop waits for; it stands in tags and in a field, so it is one plain line."""
    rule = "a promise (one line without < and >)"
    hint = "Choose a word that nobody writes by chance, such as TASK_COMPLETE."
    text = line_of(spot, rule, hint)
    if "<" in text or ">" in text:
        raise spot.error(rule, hint=hint)
    return text


def shell_line_of(spot: Spot) -> str:
    """A command for the shell, as it was written; it may have several lines."""
    rule = "a command"
    hint = "Write what a shell would run, such as make test."
    text = text_of(spot, rule, hint)
    if not text.strip() or "\0" in text or any("\ud800" <= one <= "\udfff" for one in text):
        raise spot.error(rule, hint=hint)
    if len(text.encode()) > MAX_VALUE_BYTES:
        raise spot.complaint(
            f"expected at most {MAX_VALUE_BYTES // 1024} KiB, found {len(text.encode())} bytes",
            hint="Put the command into a file beside the scripts.",
        )
    return text


def word(words: Sequence[str]) -> Callable[[Spot], str]:
    """Reads one of some words."""
    rule = f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]

    def read(spot: Spot) -> str:
        text = spot.scalar
        if text is not None and text in words:
            return text
        near = nearest(text, words) if text else None
        hint = f"Did you mean {near}?" if near else f"Words that exist here: {', '.join(words)}."
        raise spot.error(rule, hint=hint)

    return read


def truth_of(spot: Spot) -> bool:
    """true or false, in any of YAML's ways to write them."""
    text = (spot.scalar or "").lower()
    if spot.tag == "bool" and text in _TRUE + _FALSE:
        return text in _TRUE
    raise spot.error("true or false", hint="Write true or false, without quotes.")


# --- lists -----------------------------------------------------------------------------------


def several(read: Callable[[Spot], _T]) -> Callable[[Spot], tuple[_T, ...]]:
    """Reads a list with at least one entry and none twice, or one entry alone without a list."""

    def read_all(spot: Spot) -> tuple[_T, ...]:
        found: list[_T] = []
        for entry in items(spot):
            value = read(entry)
            if value in found:
                raise entry.complaint("expected each entry once", hint="Remove one of the two.")
            found.append(value)
        if not found:
            raise spot.complaint("expected an entry, found none", hint="Remove the key or fill it.")
        return tuple(found)

    return read_all


# --- numbers ---------------------------------------------------------------------------------


def whole(least: int, most: int) -> Callable[[Spot], int]:
    """Reads a whole number within bounds; `010` is ten, as everybody means it."""

    def read(spot: Spot) -> int:
        number = _whole(spot)
        if number is None or not least <= number <= most:
            rule = f"a whole number from {least} to {most}"
            raise spot.error(rule, hint=f"Write a number from {least} to {most}.")
        return number

    return read


def share(least: int, most: int) -> Callable[[Spot], float]:
    """Reads a number within bounds, with or without decimals."""

    def read(spot: Spot) -> float:
        number = _amount(spot)
        if number is None or not least <= number <= most:
            rule = f"a number from {least} to {most}"
            raise spot.error(rule, hint=f"Write a number from {least} to {most}.")
        return float(number)

    return read


def money_of(spot: Spot) -> Decimal:
    """US dollars, exactly as they were written."""
    rule = "an amount of US dollars such as 5 or 0.50"
    hint = f"Write a number from 0 to {MAX_MONEY}, without a currency sign."
    amount = _amount(spot)
    if amount is None or amount > MAX_MONEY:
        raise spot.error(rule, hint=hint)
    return amount


def tokens_of(spot: Spot) -> int:
    """A number of tokens: `250000`, `250k` or `1.5M`."""
    rule = "a number of tokens such as 250000, 250k or 1.5M"
    hint = "Write a whole number, with k for thousands or M for millions."
    text = spot.scalar or ""
    parts = _TOKENS.fullmatch(text.replace("_", ""))
    if parts is None or spot.tag not in ("int", "float", "str"):
        raise spot.error(rule, hint=hint)
    number = Decimal(parts[1]) * _SUFFIXES[parts[2]]
    if number != int(number) or number > MAX_COUNT:
        raise spot.error(rule, hint=hint)
    return int(number)


def need_of(spot: Spot) -> Need:
    """How many are enough: `all`, `any`, `2`, `90%`."""
    text = spot.scalar or ""
    share_written = _PERCENT.fullmatch(text)
    percent = Decimal(share_written[1]) if share_written else None
    count = _whole(spot)
    if text == "all":
        return ALL
    if text == "any":
        return ANY
    if percent is not None and 1 <= percent <= 100:
        return Need(percent=percent)
    if count is not None and 1 <= count <= MAX_COUNT:
        return Need(count=count)
    raise spot.error(
        "all, any, a number from 1 or a share such as 90%",
        hint="Write all, any, a number above 0, or a share from 1% to 100%.",
    )


def _whole(spot: Spot) -> int | None:
    text = spot.scalar or ""
    if spot.tag not in ("int", "str") or not _WHOLE.fullmatch(text):
        return None
    return int(text.replace("_", ""))


def _amount(spot: Spot) -> Decimal | None:
    """A number that is not negative, exactly as it was written."""
    text = (spot.scalar or "").replace("_", "")
    if spot.tag not in ("int", "float", "str") or not _AMOUNT.fullmatch(text):
        return None
    return Decimal(text)


# --- durations -------------------------------------------------------------------------------


def limit_of(spot: Spot) -> float:
    """Seconds above 0, or infinity for `none`."""
    rule = f"a duration such as {EXAMPLES}, or none"
    return _duration(spot, rule, parse_limit)


def duration_of(spot: Spot) -> float:
    """Seconds above 0."""
    return _duration(spot, f"a duration such as {EXAMPLES}", parse_duration)


def pause_of(spot: Spot) -> float:
    """Seconds, also none at all: `0`."""
    if spot.tag in ("int", "str", "float") and spot.scalar in ("0", "0s", "0.0"):
        return 0.0
    return _duration(spot, f"a duration such as {EXAMPLES}, or 0", parse_duration)


def _duration(spot: Spot, rule: str, parse: Callable[[str], float]) -> float:
    hint = "Write a duration above 0; a bare number is seconds."
    text = spot.scalar
    if text is None or spot.tag not in ("str", "int", "float"):
        raise spot.error(rule, hint=hint)
    try:
        return parse(text)
    except ValueError as error:
        raise spot.error(rule, hint=hint) from error
