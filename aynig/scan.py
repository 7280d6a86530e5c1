"""Two snapshots of the refs in, events out: what changed since the last look, and what it says.

A look costs in proportion to what changed, not to how many branches there are: the snapshot is
incremental, and only tips that moved are read (design section 3).
"""

from __future__ import annotations

import contextlib
import gc
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from aynig.errors import RepositoryError
from aynig.git.reffiles import PACKED_REFS, refs_error
from aynig.git.repo import Repo
from aynig.git.snapshot import RefReader
from aynig.model import ENDED_STATES, HEADS, Event, RefChange, Statement

Read = Callable[[bytes], Statement | None]

# After a look, so many times its own duration may pass before there need be another one: where
# hundreds of branches share a folder, looking at each of our own answers would take most of the
# time there is.
_REST = 4.0


class Said(Protocol):
    """What has to be known of a message to remember a tip."""

    @property
    def state(self) -> str: ...
    @property
    def fault(self) -> str: ...


class Tip(NamedTuple):
    """What is remembered of a branch: little, because there may be ten thousand of them.

    A tuple, because the garbage collector lets tuples of plain values alone.

    `state` is empty for a tip that carries none; `fault` says that it is malformed.
    """

    oid: str
    time: int
    state: str
    fault: bool = False
    # The branch of the task that this one is a child of; empty for none.
    parent: str = ""

    @property
    def actionable(self) -> bool:
        """Might this tip lead to a run? Ended, malformed and idle tips never do."""
        return bool(self.state) and not self.fault and self.state not in ENDED_STATES


class Scan:
    """The branches of one repository as they were at the last look. Safe between threads."""

    def __init__(
        self,
        repo: Repo,
        read: Callable[[bytes], Said | None],
        wanted: Callable[[str], bool],
        *,
        reader: Callable[[Path, tuple[str, ...]], RefReader] = RefReader,
        parent_of: Callable[[str, bytes], str] = lambda oid, message: "",
    ) -> None:
        """`reader` is what looks at the refs of a git directory, `parent_of` says of a tip with a
        state, by oid and message, of which branch it is a child."""
        self._repo = repo
        self._read = read
        # Whether a branch is one that this runner works on.
        self.wanted = wanted
        self._reader = reader(repo.common_dir, (HEADS,))
        self._mutex = threading.Lock()
        self._tips: dict[str, Tip] = {}
        # The branches at each commit: nearly always it is one.
        self._branches: dict[str, str | set[str]] = {}
        self._parent_of = parent_of
        # The branches that are children of each, by the full ref of the parent.
        self._children: dict[str, set[str]] = {}
        self._changes: list[RefChange] = []
        self._fresh: list[tuple[str, int]] = []
        # What has moved since somebody asked for it; None before.
        self._moves: list[RefChange] | None = None
        self._settled = True
        # A monotonic clock may begin anywhere.
        self._rested = -math.inf
        self.broken: Mapping[str, str] = {}

    def look(self) -> bool:
        """Compare with the refs on disk. False: something is too fresh to trust, look again soon.

        What changed is fetched with `take_changes`; looks add up until then. Raises
        RepositoryError where the repository is gone or `packed-refs` or the folder of the branches
        can't be used; what was known before stands then.
        """
        with self._mutex, contextlib.nullcontext() if self._tips else collector_at_rest():
            begun = time.monotonic()
            look = self._reader.look()
            self.broken = look.broken
            self._settled = look.settled
            self._take(look.changes)
            ended = time.monotonic()
            self._rested = ended + _REST * (ended - begun)
            for whole in (PACKED_REFS, HEADS.rstrip("/")):
                if whole in look.broken:
                    raise refs_error(self._repo.common_dir, whole, look.broken[whole])
            return look.settled

    def _take(self, changes: Iterable[RefChange]) -> None:
        for change in changes:
            # The others count as well: a copy or a dependency may be among them.
            self._set(change.ref, change.new)
            if self.wanted(change.ref):
                self._changes.append(change)

    def look_in_turn(self) -> bool:
        """A look, unless the last one was only just now; False then: look again soon."""
        return time.monotonic() >= self._rested and self.look()

    def look_afresh(self) -> bool:
        """A look that trusts nothing remembered: after an overflow of the watcher."""
        with self._mutex:
            self._reader.forget()
        return self.look()

    def take_changes(self) -> list[RefChange]:
        """The changes since the last call, oldest first; a branch may appear more than once."""
        with self._mutex:
            changes, self._changes = self._changes, []
            return changes

    def take_fresh_tips(self) -> list[tuple[str, int]]:
        """The tips (oid, committer time) that were read since the last call."""
        with self._mutex:
            fresh, self._fresh = self._fresh, []
            return fresh

    def take_moves(self) -> list[RefChange]:
        """How all branches have moved since the last call; at first, where they are."""
        with self._mutex:
            moves = self._moves
            if moves is None:
                moves = [RefChange(ref, None, tip.oid) for ref, tip in self._tips.items()]
            self._moves = []
            return moves

    def note(self, ref: str, oid: str) -> None:
        """We have set this branch ourselves: the next look need not report it."""
        with self._mutex:
            self._reader.note(ref, oid)
            self._set(ref, oid)

    def tip(self, ref: str) -> Tip | None:
        with self._mutex:
            return self._tips.get(ref)

    def tips(self) -> dict[str, Tip]:
        """All branches, by ref."""
        with self._mutex:
            return dict(self._tips)

    def sharing(self, oid: str) -> frozenset[str]:
        """The branches whose tip is this actionable commit: one commit is dispatched once."""
        with self._mutex:
            refs = self._at(oid)
            return refs if any(self._tips[ref].actionable for ref in refs) else frozenset()

    def branches_at(self, oid: str) -> frozenset[str]:
        """The branches whose tip is this commit, whatever it says."""
        with self._mutex:
            return self._at(oid)

    def _at(self, oid: str) -> frozenset[str]:
        refs = self._branches.get(oid, ())
        return frozenset((refs,) if isinstance(refs, str) else refs)

    def children(self, ref: str) -> frozenset[str]:
        """The branches that say that this one is their parent."""
        with self._mutex:
            return frozenset(self._children.get(ref, ()))

    def _set(self, ref: str, oid: str | None) -> None:
        before = self._tips.pop(ref, None)
        if self._moves is not None:
            self._moves.append(RefChange(ref, before.oid if before is not None else None, oid))
        if before is not None and before.parent:
            self._children.get(HEADS + before.parent, set()).discard(ref)
        if before is not None:
            refs = self._branches[before.oid]
            if refs == ref:
                del self._branches[before.oid]
            elif isinstance(refs, set):
                refs.discard(ref)
                if not refs:
                    del self._branches[before.oid]
        if oid is None:
            return
        tip = self._tips[ref] = self._read_tip(oid)
        self._fresh.append((tip.oid, tip.time))
        if tip.parent:
            self._children.setdefault(HEADS + tip.parent, set()).add(ref)
        others = self._branches.setdefault(oid, ref)
        if isinstance(others, set):
            others.add(ref)
        elif others != ref:
            self._branches[oid] = {others, ref}

    def _read_tip(self, oid: str) -> Tip:
        try:
            time, message = self._repo.message(oid)
        except RepositoryError:
            return Tip(oid, 0, "", fault=True)
        said = self._read(message)
        if said is None:
            return Tip(oid, time, "")
        parent = "" if said.fault else self._parent_of(oid, message)
        return Tip(oid, time, said.state, fault=bool(said.fault), parent=parent)


@contextlib.contextmanager
def collector_at_rest() -> Iterator[None]:
    """For thousands of new objects that all stay; the garbage collector would go through them
    again and again, a sixth of a first look's time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def read_event(repo: Repo, ref: str, oid: str, read: Read) -> Event | None:
    """The event that a branch at `oid` is; None where the tip carries no state.

    Raises RepositoryError where the commit can't be read.
    """
    info = repo.commit(oid)
    statement = read(info.message)
    if statement is None:
        return None
    return Event(ref, oid, info.tree, info.time, statement)


def actionable(scan: Scan, refs: Iterable[str]) -> list[str]:
    """Those of `refs` whose tips may lead to a run."""
    found = []
    for ref in refs:
        tip = scan.tip(ref)
        if tip is not None and tip.actionable:
            found.append(ref)
    return found
