"""Tables that turn trailers into what a commit says, and back.

Design sections 1.1 and 1.2. A dialect is a row of columns (`Dialect`), read by the same few
functions. The native one writes fields into the value (`aynig: key: value`), dwp into the key
(`dwp-key: value`).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from aynig import trailers
from aynig.errors import UsageError
from aynig.model import ROLE_PATTERN, STATE_PATTERN, Field, Statement, Trailer
from aynig.text import escape, quote, shorten

# Design section 1.1: what an operator lets a message weigh unless told otherwise.
MESSAGE_BYTES = 1 << 20
TRAILERS = 256

# How much of a malformed state is shown: a little more than the longest proper one.
SHOWN_STATE = 72

_FORM = "a-z, 0-9, '-' and '_', at most 64 characters, the first a letter or digit"
_FIELD = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]*+)[ \t]*+:(.*+)", re.DOTALL)
_FIELD_KEY = re.compile(r"[a-z0-9][a-z0-9_-]*+")


class Claims(NamedTuple):
    """Trailers, told apart by what they say in one dialect.

    `state` is what the last of several says, None where none says one; `others` are somebody
    else's.
    """

    state: str | None
    fields: tuple[Field, ...]
    others: tuple[Trailer, ...]


@dataclass(frozen=True, slots=True)
class Dialect:
    """One row of the table: how states and fields are written, and where scripts lie."""

    name: str
    # The key of the trailer that holds the state.
    state_key: str
    # What comes before a field's key; empty where fields are in the value, under `state_key`.
    field_prefix: str
    # Paths of scripts in the tree.
    role_script: str
    script: str
    # Whether a response commit goes on top of a state commit that the script made itself.
    adds_response: bool

    def scripts(self, state: str, role: str = "") -> tuple[str, ...]:
        """The paths at which the script of a state may lie, in the order of looking.

        Both are checked for their form, because they become part of a path; raises UsageError.
        """
        check_state(state)
        if not role:
            return (self.script.format(state=state),)
        check_role(role)
        return (
            self.role_script.format(role=role, state=state),
            self.script.format(state=state),
        )

    def claim(self, trailer: Trailer) -> Field | None:
        """What a trailer says in this dialect: a field, or the state under an empty key.

        None for a trailer of somebody else's.
        """
        key = trailer.key.lower()
        if key == self.state_key:
            in_value = not self.field_prefix and ":" in trailer.value
            inner = _FIELD.fullmatch(trailer.value) if in_value else None
            if inner:
                return Field(inner[1].lower(), inner[2].strip(" \t\r\n"))
            return Field("", trailer.value)
        prefix = self.field_prefix
        if prefix and key.startswith(prefix) and len(key) > len(prefix):
            return Field(key[len(prefix) :], trailer.value)
        return None

    def claims(self, block: Iterable[Trailer]) -> Claims:
        """What a trailer block says in this dialect, in its order."""
        state: str | None = None
        fields: list[Field] = []
        others: list[Trailer] = []
        for trailer in block:
            claimed = self.claim(trailer)
            if claimed is None:
                others.append(trailer)
            elif claimed.key:
                fields.append(claimed)
            else:
                state = claimed.value
        return Claims(state, tuple(fields), tuple(others))

    def state_trailer(self, state: str) -> Trailer:
        """The trailer that says a state; UsageError for a malformed one."""
        return Trailer(self.state_key, check_state(state))

    def field_trailer(self, field: Field) -> Trailer:
        """The trailer that says a field; UsageError where it can't be said.

        Trailer keys have no underscore, so in a dialect that writes fields into the key, `_`
        becomes `-`.
        """
        key = _checked_key(field.key)
        value = trailers.check_value(field.value, f"the value of {quote(key)}")
        if not self.field_prefix:
            return Trailer(self.state_key, f"{key}: {value}" if value else f"{key}:")
        written = self.field_prefix + key.replace("_", "-")
        if written == self.state_key:
            raise UsageError(
                f"a field can't be named {quote(key)} in the dialect {self.name}",
                hint=f"choose another name: '{written}' is the state itself",
            )
        return Trailer(written, value)


AYNIG = Dialect(
    name="aynig",
    state_key="aynig",
    field_prefix="",
    role_script=".aynig/roles/{role}/{state}",
    script=".aynig/{state}",
    adds_response=True,
)
DWP = Dialect(
    name="dwp",
    state_key="dwp-state",
    field_prefix="dwp-",
    role_script=".dwp/roles/{role}/command/{state}",
    script=".dwp/command/{state}",
    adds_response=False,
)
# In this order: where a message speaks both, the native one counts.
DIALECTS = (AYNIG, DWP)

# What `AYNIG.claim` finds in a block of one-line trailers: a field's key or nothing, and a value.
_NATIVE_LINE = re.compile(
    r"\naynig[ \t]*+:[ \t\r]*+(?:([a-z0-9][a-z0-9_-]*+)[ \t]*+:)?([^\n]*+)",
    re.IGNORECASE | re.ASCII,
)
_STATE_KEYS = tuple(dialect.state_key.encode() for dialect in DIALECTS)


class _StateLine(NamedTuple):
    """Finds what `Dialect.claim` takes for a state, among trailers of one line each."""

    key: str
    # With the key as it is, which is found by a plain search, and with the key in any case.
    usual: re.Pattern[str]
    in_any_case: re.Pattern[str]


def _state_line(dialect: Dialect) -> _StateLine:
    no_field = "" if dialect.field_prefix else r"(?![ \t\r]*+[a-zA-Z0-9][a-zA-Z0-9_-]*+[ \t]*+:)"
    line = rf"\n{re.escape(dialect.state_key)}[ \t]*+:{no_field}([^\n]*+)"
    return _StateLine(
        dialect.state_key, re.compile(line), re.compile(line, re.IGNORECASE | re.ASCII)
    )


_STATE_LINES = tuple(map(_state_line, DIALECTS))


@dataclass(frozen=True, slots=True)
class Limits:
    """What a message may weigh (design section 1.1): bytes, and number of trailers of any kind."""

    message_bytes: int = MESSAGE_BYTES
    trailers: int = TRAILERS


DEFAULT_LIMITS = Limits()


def by_name(name: str) -> Dialect:
    """The dialect of a `Statement`; UsageError for an unknown name."""
    for dialect in DIALECTS:
        if dialect.name == name:
            return dialect
    known = ", ".join(dialect.name for dialect in DIALECTS)
    raise UsageError(f"there is no dialect {quote(name)}", hint=f"use one of: {known}")


def mentions_state(raw: bytes) -> bool:
    """Might a message carry a state? Only `read` knows; this costs a hundredth of it."""
    return trailers.mentions(raw, _STATE_KEYS)


def read(raw: bytes, limits: Limits = DEFAULT_LIMITS) -> Statement | None:
    """What the message of a commit says; None where it names no state in any dialect.

    A malformed state, and a message over the limits, come back with a `fault`. A message over
    the limit of bytes is not parsed, so whether it names a state is then a guess (a line begins
    with the key of one), and its `state`, `subject` and `body` are empty. The state of a faulty
    message is as it may be shown, never of the form of a proper one.
    """
    if not mentions_state(raw):
        return None
    if len(raw) > limits.message_bytes:
        native = trailers.mentions(raw, _STATE_KEYS[:1])
        fault = f"the message has {len(raw)} bytes, the limit is {limits.message_bytes}"
        return Statement((AYNIG if native else DWP).name, "", "", "", fault=fault)
    message = trailers.split(raw)
    for dialect in DIALECTS:
        statement = _stated(dialect, message, limits)
        if statement:
            return statement
    return None


class Glance(NamedTuple):
    """The part of a `Statement` that decides whether a commit is worked on at all."""

    state: str
    fault: str = ""


def glance(raw: bytes, limits: Limits = DEFAULT_LIMITS) -> Glance | None:
    """State and fault of what `read` returns; a third of the work, for thousands of tips.

    Messages of the usual form, with one-line trailers and a proper state, are settled by one
    search; all others are read.
    """
    if len(raw) <= limits.message_bytes:
        block = trailers.plain_block(raw)
        if block is not None and block.count("\n") <= limits.trailers:
            found = _said_on_one_line(block)
            if found is None or STATE_PATTERN.fullmatch(found):
                return Glance(found) if found else None
    statement = read(raw, limits)
    return Glance(statement.state, statement.fault) if statement else None


class Skim(NamedTuple):
    """State, fields and fault of a `Statement`: what programs go by."""

    state: str
    fields: tuple[tuple[str, str], ...]
    fault: str = ""


def skim(raw: bytes, limits: Limits = DEFAULT_LIMITS) -> Skim | None:
    """State, fields and fault of what `read` returns, for a hundred thousand answers.

    Native messages of the usual form take a fifth of the work; all others are read.
    """
    if len(raw) <= limits.message_bytes:
        block = trailers.plain_block(raw)
        if block is not None and block.count("\n") <= limits.trailers:
            found = _NATIVE_LINE.findall("\n" + block)
            states = [value for key, value in found if not key]
            state = states[-1].strip(" \t\r") if states else ""
            if STATE_PATTERN.fullmatch(state):
                fields = [(key.lower(), value.strip(" \t\r")) for key, value in found if key]
                return Skim(state, tuple(fields))
    statement = read(raw, limits)
    if statement is None:
        return None
    return Skim(statement.state, statement.fields, statement.fault)


def _said_on_one_line(block: str) -> str | None:
    """What a block without continuation lines says as the state."""
    folded = block.lower()
    for key, usual, in_any_case in _STATE_LINES:
        count = folded.count(key)
        if not count:
            continue
        pattern = usual if block.count(key) == count else in_any_case
        found: list[str] = pattern.findall("\n" + block)
        if found:
            return found[-1].strip(" \t\r")
    return None


def _stated(dialect: Dialect, message: trailers.Message, limits: Limits) -> Statement | None:
    """What a message says in one dialect."""
    state, fields, others = dialect.claims(message.trailers)
    if state is None:
        return None
    name, subject, body = dialect.name, message.subject, message.body
    if len(message.trailers) > limits.trailers:
        count = f"the message has {len(message.trailers)} trailers, the limit is {limits.trailers}"
        return Statement(name, "", subject, body, fault=count)
    fault = ""
    if not STATE_PATTERN.fullmatch(state):
        fault = f"{quote(state)} is no state: {_FORM}" if state else "the state is empty"
        state = shorten(escape(state[: SHOWN_STATE + 1]), SHOWN_STATE)
    return Statement(name, state, subject, body, fields, others, fault)


def write(
    dialect: Dialect,
    state: str,
    fields: Iterable[Field],
    others: Iterable[Trailer],
    subject: str,
    body: str,
) -> str:
    """A commit message that says all this in a dialect: state, fields, then other trailers.

    Subject and body are cleaned as `trailers.compose` does. Raises UsageError for anything that
    would be read back as something else: a malformed state or key, a value of several lines,
    another trailer that is a state or field.
    """
    block = [dialect.state_trailer(state)]
    block += [dialect.field_trailer(field) for field in fields]
    for other in others:
        _refuse_claimed(dialect, other)
        block.append(other)
    return trailers.compose(subject, body, block)


def check_limits(raw: bytes, limits: Limits) -> None:
    """UsageError where a message is over the limits: it would be reported, and never run."""
    size, hint = len(raw), "{what}, or raise the limit: git config aynig.{key} {value}"
    if size > limits.message_bytes:
        raise UsageError(
            f"the message has {size} bytes, the limit is {limits.message_bytes}",
            hint=hint.format(what="Shorten it", key="messageLimit", value=size),
        )
    count = len(trailers.parse(raw))
    if count > limits.trailers:
        raise UsageError(
            f"the message has {count} trailers, the limit is {limits.trailers}",
            hint=hint.format(what="Leave some out", key="trailerLimit", value=count),
        )


def _refuse_claimed(dialect: Dialect, trailer: Trailer) -> None:
    """UsageError if a trailer says something in `dialect`, or a state in one that outranks it."""
    for ranked in DIALECTS:
        claimed = ranked.claim(trailer)
        if claimed and (ranked is dialect or not claimed.key):
            raise UsageError(
                f"the trailer {quote(trailer.key)} is one of the dialect {ranked.name}",
                hint="pass it as a state or a field: as it is, it would inject a state",
            )
        if ranked is dialect:
            return


# -- what is written again ---------------------------------------------------------------------


def writable_fields(dialect: Dialect, fields: Iterable[Field]) -> list[Field]:
    """Fields as they are written again: git lets people commit what we would not write."""
    found = []
    for field in fields:
        with contextlib.suppress(UsageError):
            clean = Field(field.key, _as_one_line(field.value))
            dialect.field_trailer(clean)
            found.append(clean)
    return found


def writable_trailers(others: Iterable[Trailer]) -> list[Trailer]:
    """The same of trailers of no dialect."""
    return [Trailer(key, _as_one_line(value)) for key, value in others]


def _as_one_line(value: str) -> str:
    try:
        return trailers.check_value(value, "")
    except UsageError:
        return escape(value)


# -- what people write -----------------------------------------------------------------------


def check_state(text: str) -> str:
    """`text` if it is a state (design section 1.1); UsageError, saying what one is, otherwise."""
    return _checked(text, STATE_PATTERN, "state")


def check_role(text: str) -> str:
    """`text` if it is the name of a role; UsageError otherwise: it names a folder."""
    return _checked(text, ROLE_PATTERN, "role")


def check_field(text: str, separator: str = ":") -> Field:
    """The field that `--trailer K:V` or, with `=` as separator, `--meta K=V` asks for.

    The key is lower-cased, both sides are stripped. Raises UsageError for anything else than a
    key, the separator and one line.
    """
    key, found, value = text.partition(separator)
    if not found:
        raise UsageError(
            f"{quote(text)} has no {quote(separator)}", hint=f"write it as KEY{separator}VALUE"
        )
    written = key.strip(" \t")
    # Lower case of a few other characters (the Kelvin sign) is an ASCII letter.
    name = _checked_key(written.lower() if written.isascii() else written)
    return Field(name, trailers.check_value(_one_line(value, name), f"the value of {quote(name)}"))


def _one_line(value: str, key: str) -> str:
    """`value` without spaces around it, but with the line breaks that have to be refused."""
    stripped = value.strip(" \t")
    if "\n" in stripped or "\r" in stripped:
        raise UsageError(
            f"the value of {quote(key)} has a line break in it",
            hint="write it on one line: a line break there would inject a state",
        )
    return stripped


def _checked(text: str, pattern: re.Pattern[str], what: str) -> str:
    if pattern.fullmatch(text):
        return text
    raise UsageError(f"{quote(text)} is no {what}", hint=f"use {_FORM}")


def _checked_key(key: str) -> str:
    if _FIELD_KEY.fullmatch(key):
        return key
    raise UsageError(
        f"{quote(key)} is no key of a field",
        hint="use a-z, 0-9, '-' and '_', the first a letter or digit",
    )
