"""The small commits that runners leave for each other under `refs/aynig/`.

The empty tree, no parents, a subject that says what it is about, and all else in trailers (the
protocol, "The lease" and "Runners").
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from aynig import trailers
from aynig.errors import RepositoryError
from aynig.git.repo import Repo
from aynig.model import Holder, Trailer

# Some of these git allows in the name of a branch; in the value of a trailer they are refused.
_NOT_IN_VALUES = re.compile("[%\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Record:
    """What such a commit says; `time` is its committer time, by its writer's clock."""

    oid: str
    fields: Mapping[str, str]
    time: int


def write_record(repo: Repo, subject: str, pairs: Sequence[tuple[str, str]]) -> str:
    """Write a record; its oid. Raises Unwritable."""
    message = trailers.compose(subject, "", [Trailer(key, value) for key, value in pairs])
    return repo.write_commit(tree=repo.empty_tree(), parents=(), message=message)


def read_record(repo: Repo, oid: str, subjects: tuple[bytes, ...]) -> Record | None:
    """The record that an oid is; None for anything else, and for one of another subject."""
    try:
        info = repo.commit(oid)
    except RepositoryError:
        return None
    if not info.message.startswith(subjects):
        return None
    return Record(oid, dict(trailers.parse(info.message)), info.time)


def written(text: str) -> str:
    """A ref or name as the value of a trailer: what can't stand in one is percent-encoded."""
    return _NOT_IN_VALUES.sub(
        lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), text
    )


def unwritten(text: str) -> str:
    """What `written` was given."""
    return unquote(text, errors="surrogateescape")


def holder_pairs(holder: Holder) -> list[tuple[str, str]]:
    """Who writes a record, so that others of its host can tell whether it still lives."""
    return [
        ("runner", holder.runner),
        ("host", holder.host),
        ("pid", str(holder.pid)),
        ("boot", holder.boot),
        ("started", holder.started),
    ]


def holder_of(fields: Mapping[str, str]) -> Holder:
    """Who has written a record; KeyError or ValueError where it does not say."""
    return Holder(
        runner=fields["runner"],
        host=fields["host"],
        pid=int(fields["pid"]),
        boot=fields["boot"],
        started=fields["started"],
    )


def worker_pairs(agent: str, roles: Sequence[str]) -> list[tuple[str, str]]:
    """Who a runner takes tasks as; nothing where it has neither name nor role."""
    pairs = [("agent", written(agent)), ("roles", " ".join(roles))]
    return [(key, value) for key, value in pairs if value]


def worker_of(fields: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """The name and the roles that `worker_pairs` wrote."""
    return unwritten(fields.get("agent", "")), tuple(fields.get("roles", "").split())


class Sightings:
    """When this runner first saw what records are at now, on its own monotonic clock.

    Nobody else's clock says whether a record has had its time (design section 2). Safe to share
    between threads.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._mutex = threading.Lock()
        self._first: dict[str, tuple[str, float]] = {}
        # What was seen to change: whoever writes there lives, or did a moment ago.
        self._changed: set[str] = set()

    def since(self, name: str, oid: str) -> float:
        """When a ref was first seen to point at this very oid; now, where it was not before."""
        with self._mutex:
            known, since = self._first.get(name, ("", 0.0))
            if known != oid:
                if known:
                    self._changed.add(name)
                since = self._clock()
                self._first[name] = (oid, since)
            return since

    def has_changed(self, name: str) -> bool:
        """Was a ref ever seen to point at one thing and then at another?"""
        with self._mutex:
            return name in self._changed

    def keep(self, names: Container[str]) -> None:
        """Forget all other refs."""
        with self._mutex:
            self._first = {name: seen for name, seen in self._first.items() if name in names}
            self._changed = {name for name in self._changed if name in names}
