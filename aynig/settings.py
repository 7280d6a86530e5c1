"""The operator's settings: `aynig.*` of git config, overridden by flags.

Pure: somebody else reads git config. One table, the fields of `Settings` with what is said
next to each, drives keys, flags, types, bounds, defaults and help text.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Protocol

from aynig.addresses import EXPECTS, parse_address
from aynig.durations import EXAMPLES, LONGEST, format_duration, parse_duration, parse_limit
from aynig.errors import ConfigError
from aynig.model import ROLE_PATTERN, branch_of
from aynig.text import nearest, quote, shell_word

SECTION = "aynig."
# The value of `aynig.scripts` that takes scripts from the triggering commit (design section 3).
SCRIPTS_OF_BRANCH = "branch"
# The value of `aynig.remote` that is the repository itself, as in git's own `branch.<name>.remote`.
HERE = "."

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


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table: a setting by all its names."""

    # The field of `Settings`.
    name: str
    # As people write it in git config; git compares it without regard to case.
    key: str
    flag: str
    kind: Kind
    # Given several times, all values count; otherwise the last one wins.
    many: bool
    # A value that is right, for hints.
    example: str
    # One sentence.
    help: str
    # The value when nothing is said, as it would stand in git config.
    default: str


def _row(key: str, kind: Kind, example: str, text: str, *, many: bool = False) -> dict[str, Any]:
    return {"key": SECTION + key, "kind": kind, "example": example, "help": text, "many": many}


def _default_jobs() -> int:
    # Scripts mostly wait (for a model, a compiler, a network): one core still runs two.
    return min(1024, max(2, os.cpu_count() or 1))


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator of a runner decides. Durations are seconds, sizes are bytes."""

    jobs: int = field(
        default_factory=_default_jobs,
        metadata=_row("jobs", Whole(1, 1024), "4", "How many scripts run at the same time."),
    )
    poll: float = field(
        default=5.0,
        metadata=_row(
            "poll",
            Span(low=0.05, high=DAY),
            "5s",
            "How often the refs are looked at when nothing wakes the daemon before. At a remote "
            "that stays quiet each pause is twice the last, up to a minute.",
        ),
    )
    remotes: tuple[str, ...] = field(
        default=(),
        metadata=_row(
            "remote",
            REMOTE_NAME,
            "origin",
            "Remote whose tasks are worked on instead of the repository's own; repeatable, and . "
            "is the repository itself.",
            many=True,
        ),
    )
    remote_timeout: float = field(
        default=MINUTE,
        metadata=_row(
            "remoteTimeout",
            Span(low=1, high=DAY),
            "60s",
            "How long a remote may take to answer before it counts as away.",
        ),
    )
    branches: tuple[str, ...] = field(
        default=(),
        metadata=_row(
            "branch",
            BRANCH_GLOB,
            "'task/*'",
            "Glob of the branches to work on, where * also matches a slash; all if not given.",
            many=True,
        ),
    )
    lease_seconds: float = field(
        default=MINUTE,
        metadata=_row(
            "leaseSeconds",
            Span(low=5, high=DAY),
            "60",
            "How long a lease that nobody renews keeps other runners away.",
        ),
    )
    worktree_dir: str = field(
        default="",
        metadata=_row(
            "worktreeDir",
            FOLDER,
            "/var/tmp/aynig",
            "Folder of the worktrees that scripts run in; below the git directory if empty.",
        ),
    )
    retention: float = field(
        default=14 * DAY,
        metadata=_row(
            "retention",
            Span(zero=True),
            "14d",
            "How long run folders, idle worktrees and leases of ended branches are kept.",
        ),
    )
    output_limit: int = field(
        default=10 * MIB,
        metadata=_row(
            "outputLimit",
            Size(4 * KIB, 1024 * GIB),
            "10m",
            "The most that is kept of what a script prints; the middle is left out.",
        ),
    )
    timeout: float = field(
        default=HOUR,
        metadata=_row(
            "timeout",
            Span(none=True),
            "1h",
            "How long a script may run where its workflow does not say; none for no limit.",
        ),
    )
    grace: float = field(
        default=10.0,
        metadata=_row(
            "grace",
            Span(high=DAY, zero=True),
            "10s",
            "How long scripts may go on when the daemon stops, and after SIGTERM before SIGKILL.",
        ),
    )
    scripts: str = field(
        default="",
        metadata=_row(
            "scripts",
            REF_NAME,
            "refs/heads/main",
            "Ref whose tree scripts and workflow come from, or branch for that of each task.",
        ),
    )
    roles: tuple[str, ...] = field(
        default=(),
        metadata=_row(
            "role",
            ROLE_NAME,
            "reviewer",
            "Role of this runner: its scripts come first; on a remote it takes only what has it.",
            many=True,
        ),
    )
    agent: str = field(
        default="",
        metadata=_row(
            "agent",
            AGENT_NAME,
            "security-agent",
            "Name of this runner: it takes what is assigned to it, or to nobody.",
        ),
    )
    dialect: str = field(
        default="",
        metadata=_row(
            "dialect",
            DIALECT_NAME,
            "dwp",
            "With dwp, leases of dwp tasks lie on the branch; if empty, where only .dwp/ is there.",
        ),
    )
    dwp_lease_seconds: float = field(
        default=5 * MINUTE,
        metadata=_row(
            "dwpLeaseSeconds",
            Span(low=5, high=DAY),
            "300",
            "The same for a lease on the branch, each renewal of which is a commit.",
        ),
    )
    message_limit: int = field(
        default=MIB,
        metadata=_row(
            "messageLimit",
            Size(KIB, GIB),
            "1m",
            "Commits with a longer message are reported and never run.",
        ),
    )
    trailer_limit: int = field(
        default=256,
        metadata=_row(
            "trailerLimit",
            Whole(1, 1_000_000),
            "256",
            "Commits with more trailers are reported and never run.",
        ),
    )
    notify: str = field(
        default="",
        metadata=_row(
            "notify",
            COMMAND,
            "'notify-send aynig'",
            "Program that is started when a task begins to wait for a person; none if empty.",
        ),
    )
    wake_listen: str = field(
        default="",
        metadata=_row(
            "wakeListen",
            LISTEN,
            "127.0.0.1:8737",
            "Port, or address and port, where a forge may wake the daemon by HTTP.",
        ),
    )
    wake_secret_file: str = field(
        default="",
        metadata=_row(
            "wakeSecretFile",
            FILE,
            "'~/.config/aynig/wake-secret'",
            "File with the secret that such wake-ups have to be signed with.",
        ),
    )


def read_settings(
    pairs: Iterable[tuple[str, str | None]], *, where: str = "git config"
) -> Settings:
    """The settings that git config holds.

    `pairs` are key and value in the order of git config, so that the last one wins; the value
    of a key without `=` is None. Keys outside `aynig.` are passed over. An empty value takes
    back what was said before it, as in git's own multi-valued settings.

    Raises ConfigError, which names `where` and the key.
    """
    values: dict[str, list[str | None]] = {}
    for key, value in pairs:
        if key.lower().startswith(SECTION):
            values.setdefault(_known(key, where).name, []).append(value)
    found: dict[str, object] = {}
    for name, given in values.items():
        row = setting(name)
        if row.many:
            found[name] = _many(row, given, where)
        elif given[-1] != "":
            found[name] = _git_value(row, given[-1], where)
    return _replace(Settings(), found)


def override(settings: Settings, **flags: object | None) -> Settings:
    """`settings` with the flags in place of what git config says.

    Flags are named as the fields of `Settings`. None, or an empty sequence, is a flag that was
    not given. Values are text as it was typed, or of the field's own type.

    Raises ConfigError, which names the flag; TypeError for a flag that is no setting.
    """
    found: dict[str, object] = {}
    for name, value in flags.items():
        row = _BY_NAME.get(name)
        if row is None:
            raise TypeError(f"no setting is named {name}")
        if value is None or value in ((), []):
            continue
        if row.many:
            given = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
            found[name] = tuple(_flag(row, one) for one in given)
        else:
            found[name] = _flag(row, value)
    return _replace(settings, found)


def matches(settings: Settings, branch: str) -> bool:
    """Whether a branch, by its short name, is one that the operator wants worked on.

    Globs are those of Python's fnmatch, with regard to case: `*` and `?` match a slash too, so
    `task/*` matches `task/a/b`. Without globs every branch matches.
    """
    return not settings.branches or any(fnmatchcase(branch, glob) for glob in settings.branches)


def setting(name: str) -> Setting:
    """The row of a field of `Settings`; KeyError where there is none."""
    return _BY_NAME[name]


def _known(key: str, where: str) -> Setting:
    row = _BY_KEY.get(key.lower())
    if row:
        return row
    # Without what all of them begin with: it would make any of them look near.
    known = {name.removeprefix(SECTION): row.key for name, row in _BY_KEY.items()}
    near = nearest(key.lower().removeprefix(SECTION), known)
    meant = f", did you mean {known[near]}?" if near else ""
    # Quoted only where the key is odd: a subsection may hold any character.
    name = key if re.fullmatch(r"[A-Za-z0-9.-]+", key) else quote(key)
    raise ConfigError(
        f"{where}: {name}: unknown setting{meant}",
        hint="Remove it (with --global where it is set for all repositories): "
        f"git config --unset-all {shell_word(key)}",
    )


def _many(row: Setting, given: Sequence[str | None], where: str) -> tuple[object, ...]:
    values: list[object] = []
    for value in given:
        if value == "":
            values.clear()
        else:
            values.append(_git_value(row, value, where))
    return tuple(values)


def _git_value(row: Setting, value: str | None, where: str) -> object:
    add = "--replace-all " if row.many else ""
    hint = f"Set it: git config {add}{row.key} {row.example}"
    return _checked(row, value, f"{where}: {row.key}", hint)


def _flag(row: Setting, value: object) -> object:
    text = "none" if value == math.inf else str(value)
    return _checked(row, text, row.flag, f"Say for example: {row.flag} {row.example}")


def _checked(row: Setting, value: str | None, subject: str, hint: str) -> object:
    if value is None:
        raise ConfigError(f"{subject}: expected {row.kind.expects}, found no value", hint=hint)
    try:
        return row.kind.parse(value)
    except ValueError as error:
        raise ConfigError(f"{subject}: {error}", hint=hint) from error


def _replace(settings: Settings, found: Mapping[str, object]) -> Settings:
    # The table's kinds give each field its type; the checker can't follow that.
    values: dict[str, Any] = dict(found)
    return dataclasses.replace(settings, **values)


def _unexpected(kind: Kind, text: str) -> ValueError:
    return ValueError(f"expected {kind.expects}, found {quote(text)}")


_ONE_OF = {"branches": "branch", "remotes": "remote", "roles": "role"}


def _table() -> tuple[Setting, ...]:
    defaults = Settings()
    rows = []
    for one in dataclasses.fields(Settings):
        value = getattr(defaults, one.name)
        kind: Kind = one.metadata["kind"]
        written = " ".join(value) if one.metadata["many"] else kind.write(value)
        # A flag is given once a value: --branch, and not --branches.
        word = _ONE_OF.get(one.name, one.name.replace("_", "-"))
        rows.append(Setting(one.name, flag=f"--{word}", default=written, **one.metadata))
    return tuple(rows)


# Every setting, in the order in which they are explained.
TABLE = _table()
_BY_NAME = {row.name: row for row in TABLE}
_BY_KEY = {row.key.lower(): row for row in TABLE}
