"""The operator's settings: `aynig.*` of git config, overridden by flags.

Pure: somebody else reads git config. One table, the fields of `Settings` with what is said
next to each, drives keys, flags, types, bounds, defaults and help text.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from aynig.errors import ConfigError
from aynig.settingkinds import (
    AGENT_NAME,
    BRANCH_GLOB,
    COMMAND,
    DAY,
    DIALECT_NAME,
    FILE,
    FOLDER,
    GIB,
    HOUR,
    KIB,
    LISTEN,
    MIB,
    MINUTE,
    REF_NAME,
    REMOTE_NAME,
    ROLE_NAME,
    Kind,
    Size,
    Span,
    Whole,
)
from aynig.text import nearest, quote, shell_word

SECTION = "aynig."
# The value of `aynig.scripts` that takes scripts from the triggering commit (design section 3).
SCRIPTS_OF_BRANCH = "branch"
# The value of `aynig.remote` that is the repository itself, as in git's own `branch.<name>.remote`.
HERE = "."


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
