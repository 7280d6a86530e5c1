"""The lease that dwp keeps on the branch itself: read from commits, and put into words for them.

A `working` commit is the lease. It names the state that is worked on, the run, the runner and the
lease time; the committer date is the sign of life (design section 1.1). Pure.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from aynig.answer import RESERVED_FIELDS
from aynig.dialects import DWP
from aynig.durations import format_duration
from aynig.errors import UsageError
from aynig.model import Field, Statement
from aynig.text import escape

WORKING = "working"
STALLED = "stalled"
# What runners of the dialect take where a commit does not say, in seconds.
LEASE_SECONDS = 300

# What only the writer of a `working` commit says; it is never handed on from commit to commit.
LEASE_FIELDS = frozenset(
    {"origin-state", "run-id", "runner-id", "lease-seconds", "stalled-run", "source"}
)
# What says something about the one commit that it stands in.
_OF_ONE_COMMIT = RESERVED_FIELDS | {"cancels", "retry-of", "handed-back"}


@dataclass(frozen=True, slots=True)
class Working:
    """What a `working` commit says: who works on which state, and for how long that holds."""

    run: str
    runner: str
    # The state that is worked on.
    origin: str
    seconds: int
    # The committer date, in seconds since the epoch.
    since: float

    @property
    def until(self) -> float:
        """When the lease runs out unless it is renewed, in seconds since the epoch."""
        return self.since + self.seconds

    def is_live(self, now: float) -> bool:
        """By the local clock against the committer date, as all runners of the dialect judge it."""
        return now <= self.until

    @property
    def whose(self) -> str:
        """What is worked on, and by whom, in a clause for people."""
        by = f" by {escape(self.runner)}" if self.runner else ""
        return f"{escape(self.origin) or '?'}, run {escape(self.run) or '?'}{by}"

    def told(self, now: float) -> str:
        """Whose it is and what is left of it, in a clause for people."""
        left = round(self.until - now)
        if self.is_live(now):
            return f"{self.whose}, lease for another {format_duration(float(max(left, 1)))}"
        return f"{self.whose}, lease ran out {format_duration(float(max(-left, 1)))} ago"


def read_working(statement: Statement | None, time: float) -> Working | None:
    """The lease that a commit is; None for a commit that is none.

    What is missing or malformed is passed over: a lease without its time has the usual one.
    """
    if statement is None or statement.fault or statement.dialect != DWP.name:
        return None
    if statement.state != WORKING:
        return None
    return Working(
        run=statement.value("run-id") or "",
        runner=statement.value("runner-id") or "",
        origin=statement.value("origin-state") or "",
        seconds=lease_seconds(statement.value("lease-seconds")),
        since=time,
    )


def lease_seconds(text: str | None) -> int:
    """The lease time that a field says; the usual one for anything that is no number of seconds."""
    if text is not None and re.fullmatch(r"[0-9]{1,9}", text) and int(text):
        return int(text)
    return LEASE_SECONDS


def working_fields(
    origin: str, run: str, runner: str, seconds: int, handed_on: Iterable[Field] = ()
) -> list[Field]:
    """The fields of a `working` commit; `handed_on` are those of the commit that it stands on."""
    return [
        Field("origin-state", origin),
        Field("run-id", run),
        Field("runner-id", runner),
        Field("lease-seconds", str(seconds)),
        *handed_on,
    ]


def handed_on(fields: Iterable[Field], *, source: bool = False) -> list[Field]:
    """The fields that go from a commit to the next one of the same work, each as it was.

    `source` keeps the one that names the remote.
    """
    kept = LEASE_FIELDS - {"source"} if source else LEASE_FIELDS
    return [field for field in fields if field.key not in kept | _OF_ONE_COMMIT]


def writable(fields: Iterable[Field]) -> list[Field]:
    """Fields as we may write them again: git lets people commit what we would not.

    A value with a control character is escaped; a key that can't be one is left out.
    """
    found = []
    for key, value in fields:
        for text in (value, escape(value)):
            with contextlib.suppress(UsageError):
                DWP.field_trailer(Field(key, text))
                found.append(Field(key, text))
                break
    return found
