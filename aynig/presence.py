"""An idle runner announces itself on its remote; one that works is known by its leases.

The record is written a moment after the runner fell idle, renewed rarely while it stays so, and
deleted when it stops. Nothing waits for it, nothing depends on it, and a task costs no push more.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from aynig.errors import AynigError, RefMoved, Refused, told
from aynig.git.mirror import Mirror
from aynig.git.refs import RefEdit
from aynig.git.repo import Repo
from aynig.model import RUNNERS, Holder
from aynig.records import (
    Sightings,
    holder_of,
    holder_pairs,
    read_record,
    worker_of,
    worker_pairs,
    write_record,
    written,
)

# For how many seconds a record counts, and at which part of it it is renewed.
SECONDS = 900.0
RENEWALS = 0.4
# A runner counts as idle after so many seconds with nothing to do, drawn anew each time.
_MOMENT = (1.0, 3.0)
# However often it falls idle, no sooner than this after the last time is it said again.
_AGAIN = 60.0
_JITTER = 0.2
_SUBJECT = b"aynig runner "


@dataclass(frozen=True, slots=True)
class Card:
    """What a runner says of itself."""

    holder: Holder
    agent: str
    roles: tuple[str, ...]
    jobs: int


@dataclass(frozen=True, slots=True)
class Presence:
    """A runner that was idle when it wrote this. `since` and `time` are by its own clock."""

    name: str
    oid: str
    card: Card
    seconds: float
    since: float
    time: int


def presence_name(runner: str) -> str:
    """The ref of a runner's record: a hash, because host names need not be ref names."""
    digest = hashlib.sha1(runner.encode("utf-8", "surrogateescape"), usedforsecurity=False)
    return RUNNERS + digest.hexdigest()


def write_presence(repo: Repo, card: Card, since: float, seconds: float = SECONDS) -> str:
    """Write the record; its oid. Raises Unwritable, and UsageError for a name that can't be one."""
    return write_record(
        repo,
        f"aynig runner {written(card.holder.runner)}",
        [
            ("kind", "runner"),
            *holder_pairs(card.holder),
            *worker_pairs(card.agent, card.roles),
            ("jobs", str(card.jobs)),
            ("seconds", f"{seconds:g}"),
            ("since", f"{since:.3f}"),
            # Whoever looks on sees by the oid that it was renewed.
            ("nonce", uuid.uuid4().hex),
        ],
    )


def read_presence(repo: Repo, name: str, oid: str) -> Presence | None:
    """What a runner ref points at; None where that is no such record."""
    record = read_record(repo, oid, (_SUBJECT,))
    if record is None:
        return None
    fields = record.fields
    agent, roles = worker_of(fields)
    try:
        found = Presence(
            name=name,
            oid=oid,
            card=Card(
                holder=holder_of(fields),
                agent=agent,
                roles=roles,
                jobs=int(fields["jobs"]),
            ),
            seconds=float(fields["seconds"]),
            since=float(fields["since"]),
            time=record.time,
        )
    except (KeyError, ValueError):
        return None
    return found if math.isfinite(found.seconds) and math.isfinite(found.since) else None


def presences(mirror: Mirror) -> list[Presence]:
    """The records on a remote, as they are at this moment. Raises Unreachable or Refused."""
    found = (read_presence(mirror.repo, *each) for each in sorted(mirror.below(RUNNERS).items()))
    return [presence for presence in found if presence is not None]


class Announcement:
    """The record of this runner on one remote.

    `mind`, `due` and `begin` belong to the loop; the others may take as long as the network does,
    and belong to a thread of their own.
    """

    def __init__(
        self,
        mirror: Mirror,
        card: Card,
        *,
        is_alive: Callable[[Holder], bool | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._mirror = mirror
        self._card = card
        self._name = presence_name(card.holder.runner)
        self._is_alive = is_alive
        self._clock = clock
        self._sightings = Sightings(clock)
        # Since when there is nothing to do, by the calendar, and when that is worth telling.
        self._since: float | None = None
        self._settled = 0.0
        # What our ref points at as far as we know, since when that says that we are idle, and when
        # it was last written.
        self._oid: str | None = None
        self._said: float | None = None
        self._last = -math.inf
        self._pause = 0.0
        # Not before this, whatever happens: the remote would not have it.
        self._barred = -math.inf
        self._running = False
        self._complained = False

    def mind(self, *, busy: bool, idle: bool) -> None:
        """How things stand: a script runs, or nothing is to be done. In between nothing changes."""
        if busy:
            self._since = None
        elif idle and self._since is None:
            self._since = time.time()
            self._settled = self._clock() + random.uniform(*_MOMENT)

    @property
    def due(self) -> float:
        """When `run` is to be called, on the monotonic clock."""
        if self._running or self._since is None:
            return math.inf
        pause = self._pause if self._since == self._said else min(self._pause, _AGAIN)
        return max(self._settled, self._last + pause, self._barred)

    def begin(self) -> None:
        """`run` is given to a thread."""
        self._running = True

    def run(self) -> str:
        """Say that we are here, and look who no longer is; what is wrong, once.

        Raises nothing. A remote that is away is told of by those who need it.
        """
        problem = ""
        try:
            self._announce()
            self.sweep()
        except Exception as error:
            refused = isinstance(error, Refused)
            self._barred = self._clock() + (SECONDS if refused else _AGAIN) * _spread()
            if refused and not self._complained:
                self._complained = True
                problem = f"it can't be said there that this runner is idle: {told(error)}"
        finally:
            self._running = False
        return problem

    def _announce(self) -> None:
        since = self._since
        if since is None:
            return
        oid = write_presence(self._mirror.repo, self._card, since)
        try:
            self._push(self._oid, oid)
        except RefMoved:
            # It was swept while we were busy, or a push went through of which nobody could tell.
            self._push(self._mirror.remote.read([self._name]).get(self._name), oid)
        self._oid, self._said = oid, since
        self._last, self._pause = self._clock(), SECONDS * RENEWALS * _spread()

    def _push(self, old: str | None, new: str | None) -> None:
        self._mirror.remote.push([RefEdit(self._name, old, new)])

    def sweep(self) -> None:
        """Delete the records of runners that are dead, or were not heard of for their whole time.

        That is by our own clock, from when we first saw them. Raises Unreachable or Refused.
        """
        found = presences(self._mirror)
        self._sightings.keep({presence.name for presence in found})
        for presence in found:
            if presence.name != self._name and self._is_over(presence):
                # Where it was renewed meanwhile it lives, and where it is gone all is well.
                with contextlib.suppress(RefMoved):
                    self._mirror.remote.push([RefEdit(presence.name, presence.oid, None)])

    def _is_over(self, presence: Presence) -> bool:
        if self._is_alive(presence.card.holder) is False:
            return True
        seen = self._sightings.since(presence.name, presence.oid)
        return self._clock() - seen >= presence.seconds

    def withdraw(self) -> None:
        """We stop: nobody is to count on us. Raises nothing, and asks nothing if nothing was said.

        What can't be deleted now is swept by others.
        """
        if self._oid is not None:
            with contextlib.suppress(AynigError, OSError):
                self._push(self._oid, None)


def _spread() -> float:
    """So many runners that fell idle together do not renew together."""
    return random.uniform(1 - _JITTER, 1 + _JITTER)
