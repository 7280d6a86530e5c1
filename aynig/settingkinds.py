"""What kinds of values the operator's settings have: how each is read, described and written.

Pure. A value that is wrong is told in the words "expected ..., found ...".
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from aynig.addresses import EXPECTS, parse_address
from aynig.durations import EXAMPLES, LONGEST, format_duration, parse_duration, parse_limit
from aynig.model import ROLE_PATTERN, branch_of
from aynig.text import quote

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
MINUTE = 60.0
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class Kind(Protocol):
    """What a value is: how it is read, described, and written again."""

    @property
    def expects(self) -> str:
        """What is expected, as the end of the sentence "expected …"."""

    def parse(self, text: str) -> object:
        """The value; raises ValueError with the sentence "expected …, found …"."""

    def write(self, value: object) -> str:
        """The value as it stands in git config."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from `low` to `high`."""

    low: int
    high: int

    @property
    def expects(self) -> str:
        return f"a whole number from {self.low} to {self.high}"

    def parse(self, text: str) -> int:
        # 18 digits are above any bound; the interpreter refuses to read very long ones.
        if re.fullmatch(r"[0-9]{1,18}", text) and self.low <= int(text) <= self.high:
            return int(text)
        raise _unexpected(self, text)

    def write(self, value: object) -> str:
        return str(value)


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes, with the suffixes k, m and g of git-config(1), powers of 1024."""

    low: int
    high: int

    @property
    def expects(self) -> str:
        return f"a size from {self.write(self.low)} to {self.write(self.high)}, such as 10m"

    def parse(self, text: str) -> int:
        parts = re.fullmatch(r"([0-9]{1,18})([kmgKMG]?)", text)
        if parts:
            size = int(parts[1]) * {"": 1, "k": KIB, "m": MIB, "g": GIB}[parts[2].lower()]
            if self.low <= size <= self.high:
                return size
        raise _unexpected(self, text)

    def write(self, value: object) -> str:
        size = int(str(value))
        for suffix, unit in (("g", GIB), ("m", MIB), ("k", KIB)):
            if size and size % unit == 0:
                return f"{size // unit}{suffix}"
        return str(size)


@dataclass(frozen=True, slots=True)
class Span:
    """Seconds from `low` to `high`, written as a duration; `none` is no limit where allowed."""

    low: float = 0.0
    high: float = LONGEST
    # 0 is no duration, but "at once" is a sensible wish for some settings.
    zero: bool = False
    none: bool = False

    @property
    def expects(self) -> str:
        bounds = [f"at least {format_duration(self.low)}"] if self.low else []
        bounds += [f"at most {format_duration(self.high)}"] if self.high < LONGEST else []
        others = ["0"] * self.zero + ["none"] * self.none
        text = f"a duration such as {EXAMPLES}"
        text += f", {' and '.join(bounds)}" if bounds else ""
        return f"{text}, or {' or '.join(others)}" if others else text

    def parse(self, text: str) -> float:
        if self.zero and text in ("0", "0s", "0.0"):
            return 0.0
        try:
            seconds = parse_limit(text) if self.none else parse_duration(text)
        except ValueError as error:
            raise _unexpected(self, text) from error
        if seconds != math.inf and not self.low <= seconds <= self.high:
            raise _unexpected(self, text)
        return seconds

    def write(self, value: object) -> str:
        return format_duration(float(str(value)))


@dataclass(frozen=True, slots=True)
class Text:
    """Text in some form: `read` gives the value, or None for text that does not have it."""

    expects: str
    read: Callable[[str], str | None]

    def parse(self, text: str) -> str:
        value = self.read(text)
        if value is None:
            raise _unexpected(self, text)
        return value

    def write(self, value: object) -> str:
        return str(value)


def _read_glob(text: str) -> str | None:
    # `refs/heads/` in front is a likely slip, and would never match a short name.
    return branch_of(text) if branch_of(text) and not _CONTROL.search(text) else None


def _read_ref(text: str) -> str | None:
    return None if _NO_REF_NAME.search(text) else text


def _read_remote(text: str) -> str | None:
    # What begins with a dash would be an option of git's.
    return None if not text or text.startswith("-") or _CONTROL.search(text) else text


def _read_folder(text: str) -> str | None:
    # Not expanded here: this module knows no home.
    return None if _CONTROL.search(text) else text


def _read_agent(text: str) -> str | None:
    return None if re.search(r"\s", text) or _CONTROL.search(text) else text


def _read_file(text: str) -> str | None:
    # No place is known here that a relative path could be taken from.
    return text if text.startswith(("/", "~")) and not _CONTROL.search(text) else None


def _read_listen(text: str) -> str | None:
    if not text:
        return text
    try:
        return str(parse_address(text))
    except ValueError:
        return None


def _read_command(text: str) -> str | None:
    try:
        return None if _CONTROL.search(text) else text if shlex.split(text) or not text else None
    except ValueError:
        return None


def _read_role(text: str) -> str | None:
    return text if not text or ROLE_PATTERN.fullmatch(text) else None


def _read_dialect(text: str) -> str | None:
    return text if text in ("", "aynig", "dwp") else None


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# git-check-ref-format(1), rules 1 and 3 to 10, and no leading dash, which git reads as an option.
_NO_REF_NAME = re.compile(
    r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^[/-]|/$|\.$|^@$|(?:^|/)\.|\.lock(?:/|$)"
)

BRANCH_GLOB = Text("a glob of branch names such as task/*", _read_glob)
REF_NAME = Text("a ref name such as refs/heads/main, or branch", _read_ref)
REMOTE_NAME = Text("the name of a remote such as origin, or a URL", _read_remote)
FOLDER = Text("a folder", _read_folder)
FILE = Text("the absolute path of a file, or one below ~/", _read_file)
LISTEN = Text(EXPECTS, _read_listen)
# A role names a folder of the trusted tree (design section 1.1).
AGENT_NAME = Text("a name without spaces, such as security-agent", _read_agent)
ROLE_NAME = Text("a role name (a-z, 0-9, - and _, at most 64 characters)", _read_role)

COMMAND = Text("a program and its arguments, as a shell would quote them", _read_command)
DIALECT_NAME = Text("aynig or dwp", _read_dialect)


def _unexpected(kind: Kind, text: str) -> ValueError:
    return ValueError(f"expected {kind.expects}, found {quote(text)}")
