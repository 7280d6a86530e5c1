"""Reads the refs of one repository, and every next time only what was touched.

A look costs one stat of `packed-refs` and one of each directory below the prefixes when nothing
happened (design section 5, "Reading refs"). It reads the `files` ref storage as git itself
writes it (gitrepository-layout(5), git-pack-refs(1)); every writer of that storage renames a
complete file into place, so a change always shows in the time stamp of a directory. A program
that overwrites a ref file in place escapes that; `RefReader.forget` finds it.

The order is what makes it right while others write. Loose refs are read first, `packed-refs`
last: packing writes the packed file before it removes the loose ones, so a ref that has just
left its directory is in the packed file by then. Deleting goes the other way round, so a stale
packed value is gone before the loose one that hid it.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from types import MappingProxyType

from aynig.errors import RepositoryError
from aynig.git.reffiles import (
    HIDDEN,
    ILLEGAL_NAME,
    IS_NOT_THERE,
    RECENT,
    UNSURE,
    UNTOLD,
    Loose,
    Stamp,
    is_recent,
    mark_of,
    packed_stamp,
    parse_packed,
    read_loose,
    reason,
)
from aynig.model import HEADS, RefChange


@dataclass(frozen=True, slots=True)
class Look:
    """What the refs were at one look.

    `refs` maps full names to oids and `broken` full names (or a file of the ref storage) to a
    reason; both stay as they are. `changes` is in the order of the names. `settled` is False
    where something was touched so recently that a further change might carry the same time
    stamp: look again after `RECENT` seconds.
    """

    refs: Mapping[str, str]
    changes: tuple[RefChange, ...]
    broken: Mapping[str, str]
    settled: bool


@dataclass(slots=True)
class _Source:
    """A directory or file whose stamp tells whether it has to be read again."""

    path: str
    stamp: Stamp | None = None
    # When the stamp was seen for the first time (monotonic clock, seconds).
    since: float = -inf
    recent: bool = False
    # Holds a file with the mark `UNTOLD`.
    untold: bool = False
    fault: str = ""

    def renew(self, stamp: Stamp, *, first: bool) -> None:
        """To be called right before reading what was found to carry `stamp`.

        The age of a change is judged by the file's own time stamp and, because that may come
        from another machine's clock, by how long ago it was first seen.
        """
        now = time.monotonic()
        if stamp != self.stamp:
            self.stamp = stamp
            self.since = -inf if first else now
        self.recent = now - self.since < RECENT or is_recent(stamp[0])
        self.untold = False
        self.fault = ""


@dataclass(slots=True)
class _Folder(_Source):
    """A directory of loose refs; `prefix` is what the names of its refs start with."""

    prefix: str = ""
    # Ref name to the mark of the file that it was read from. One number, not a tuple of four:
    # there may be many thousands.
    marks: dict[str, int] = field(default_factory=dict)


class RefReader:
    """Looks at the refs of one repository and says what changed since its last look.

    `common_dir` is the git directory that holds the refs (for a linked worktree the common
    one); each prefix is a folder of refs and ends with a slash. `look` and `forget` belong to
    one thread, `note` may be called from any.
    """

    def __init__(self, common_dir: Path, prefixes: tuple[str, ...] = (HEADS,)) -> None:
        for prefix in prefixes:
            if not re.fullmatch(r"refs/(?:.+/)?", prefix):
                raise ValueError(f"{prefix!r} is no folder of refs: expected refs/.../")
        self._common = os.fspath(common_dir)
        self._prefixes = prefixes
        self._refs: Mapping[str, str] = MappingProxyType({})
        self._broken: Mapping[str, str] = MappingProxyType({})
        self._first = True
        self._notes: dict[str, str | None] = {}
        self._touched: set[str] = set()
        self._folders: dict[str, _Folder] = {}
        for prefix in prefixes:
            self._folders[prefix] = _Folder(f"{self._common}/{prefix[:-1]}", prefix=prefix)
        self._loose: dict[str, str] = {}
        self._loose_faults: dict[str, str] = {}
        self._packed_file = _Source(f"{self._common}/packed-refs")
        self._packed_hash: int | None = None
        # What was wrong with all of the contents of that hash.
        self._packed_error = ""
        self._packed: dict[str, str] = {}
        self._packed_faults: dict[str, str] = {}

    def look(self) -> Look:
        """Read what was touched since the last look.

        Raises RepositoryError where the repository itself is gone: that its branches are gone
        with it would be a false report of, say, a disk that is not mounted.
        """
        # Taken before anything is read: what is noted is on disk already, so it is either
        # seen below or was replaced, and never reported backwards.
        notes = self._take_notes()
        try:
            looked = self._look_loose()
            looked = self._look_packed() or looked
        except BaseException:
            # Not told yet, so still to be compared with; a later note is the newer one.
            for ref, oid in notes.items():
                self._notes.setdefault(ref, oid)
            raise
        changes = self._changes(notes) if self._touched or notes or self._first else ()
        if looked:
            self._renew_broken()
        self._first = False
        return Look(self._refs, changes, self._broken, self._is_settled())

    def note(self, ref: str, oid: str | None) -> None:
        """The caller has set `ref` to `oid` (None: deleted it), and need not be told.

        To be called after the ref was set. If it has moved on by the next look, that look
        reports the change from `oid`.
        """
        if ref.startswith(self._prefixes):
            self._notes[ref] = oid

    def forget(self) -> None:
        """Let the next look read everything again, also what no time stamp calls for.

        What was told before is kept, so that look still reports changes only.
        """
        for folder in self._folders.values():
            folder.stamp = None
            folder.marks = dict.fromkeys(folder.marks, UNSURE)
        self._packed_file.stamp = None
        self._packed_hash = None

    # -- loose refs ----------------------------------------------------------------------

    def _look_loose(self) -> bool:
        """Read the directories that were touched; whether anything was read."""
        looked = False
        for ref in tuple(self._loose_faults):
            # Few, and possibly mended in place, which no directory shows.
            looked = True
            self._load(ref, f"{self._common}/{ref}")
        # A list that grows while it is walked: new directories are read in the same look.
        queue = list(self._folders.values())
        for folder in queue:
            try:
                found = os.stat(folder.path)  # noqa: PTH116 (a Path costs more than the stat)
            except IS_NOT_THERE:
                looked |= self._vanish(folder)
                continue
            except OSError as error:
                folder.fault = reason(error)
                looked = True
                continue
            stamp = (found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
            known = stamp == folder.stamp and not folder.recent
            if known and not folder.untold and not folder.fault:
                continue
            looked = True
            folder.renew(stamp, first=self._first)
            self._scan(folder, queue)
        return looked

    def _vanish(self, folder: _Folder) -> bool:
        """A directory that is no more: its refs were deleted or packed."""
        if folder.prefix in self._prefixes:
            if not os.path.isdir(f"{self._common}/refs"):  # noqa: PTH112 (see above)
                raise RepositoryError(f"{self._common} is no git repository any more")
            if folder.stamp is None:
                return False
            folder.stamp, folder.recent, folder.fault = None, False, ""
        else:
            del self._folders[folder.prefix]
        for ref in folder.marks:
            self._put(ref, None)
        folder.marks.clear()
        return True

    def _scan(self, folder: _Folder, queue: list[_Folder]) -> None:
        """List one directory, and read each file that is new or not the one it was."""
        listed: set[str] = set()
        try:
            with os.scandir(folder.path) as entries:
                for entry in entries:
                    name = entry.name
                    # Neither can be part of a ref name, and git passes over both.
                    if name.startswith(".") or name.endswith(".lock"):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        self._enter(f"{folder.prefix}{name}/", entry.path, queue)
                        continue
                    ref = folder.prefix + name
                    listed.add(ref)
                    self._check(folder, ref, entry)
        except FileNotFoundError:
            self._vanish(folder)
            return
        except NotADirectoryError:
            self._vanish(folder)
            if folder.prefix in self._prefixes:
                folder.fault = "not a directory: another ref storage than files?"
            return
        except OSError as error:
            folder.fault = reason(error)
            return
        # A listing may miss a name that is being replaced while it is read, so what is missing
        # is asked for by its name before it counts as gone.
        for ref in folder.marks.keys() - listed:
            mark = self._load(ref, folder.path + ref[len(folder.prefix) - 1 :])
            if mark is None:
                del folder.marks[ref]
            else:
                self._mark(folder, ref, mark)

    def _enter(self, prefix: str, path: str, queue: list[_Folder]) -> None:
        if prefix not in self._folders:
            self._folders[prefix] = folder = _Folder(path, prefix=prefix)
            queue.append(folder)

    def _check(self, folder: _Folder, ref: str, entry: os.DirEntry[str]) -> None:
        """Read a listed file unless it is the one that was read before."""
        known = folder.marks.get(ref)
        if known:
            try:
                if mark_of(entry.stat(follow_symlinks=False)) == known:
                    return
            except FileNotFoundError:
                pass
        mark = self._load(ref, entry.path)
        if mark is not None:
            self._mark(folder, ref, mark)
        else:
            folder.marks.pop(ref, None)

    def _mark(self, folder: _Folder, ref: str, mark: int) -> None:
        folder.marks[ref] = mark
        if mark == UNSURE:
            # A file may be overwritten without a trace in its directory.
            folder.recent = True
        elif mark == UNTOLD:
            folder.untold = True

    def _load(self, ref: str, path: str) -> int | None:
        """Read one loose file into what is known; its mark, or None where it is gone."""
        found = read_loose(path)
        if found is not None and not found.fault and ILLEGAL_NAME.search(ref):
            found = Loose(HIDDEN, "not a legal ref name", found.mark)
        self._put(ref, found)
        return None if found is None else found.mark

    def _put(self, ref: str, found: Loose | None) -> None:
        before = self._loose.get(ref)
        if found is None:
            self._loose.pop(ref, None)
            self._loose_faults.pop(ref, None)
            if before is not None:
                self._touched.add(ref)
            return
        oid = found.oid
        if oid is None:
            # Not readable now (permission, too many open files): that says nothing about the
            # branch, so what was last known stands.
            oid = self._refs.get(ref, HIDDEN)
        if found.fault:
            self._loose_faults[ref] = found.fault
        else:
            self._loose_faults.pop(ref, None)
        if oid != before:
            self._loose[ref] = oid
            self._touched.add(ref)

    # -- packed refs ---------------------------------------------------------------------

    def _look_packed(self) -> bool:
        """Read `packed-refs` if it was touched; whether it was read."""
        file = self._packed_file
        try:
            found = os.stat(file.path)  # noqa: PTH116
            stamp = packed_stamp(found)
            if stamp == file.stamp and not file.recent and not file.fault:
                return False
            with open(file.path, "rb", buffering=0) as stream:  # noqa: PTH123
                file.renew(packed_stamp(os.fstat(stream.fileno())), first=self._first)
                data = stream.readall()
        except IS_NOT_THERE:
            if file.stamp is None and not self._packed:
                return False
            file.stamp, file.recent, file.fault = None, False, ""
            data = b""
        except OSError as error:
            file.fault = reason(error)
            return True
        # A file that was rewritten with the same contents, or read twice because it is young,
        # is not taken apart twice. The hash is 64 bits wide and seeded per process.
        fingerprint = hash(data)
        if fingerprint != self._packed_hash:
            self._packed_hash = fingerprint
            self._packed_error = ""
            try:
                self._take_packed(os.fsdecode(data))
            except ValueError as error:
                # What was last known stands: that a line is garbage ends no branch.
                self._packed_error = str(error)
        file.fault = self._packed_error
        return True

    def _take_packed(self, text: str) -> None:
        packed, faults = parse_packed(text, self._prefixes)
        before = self._packed
        if before or not self._first:
            self._touched.update(name for name, _ in before.items() ^ packed.items())
        self._packed, self._packed_faults = packed, faults

    # -- both together -------------------------------------------------------------------

    def _take_notes(self) -> dict[str, str | None]:
        notes: dict[str, str | None] = {}
        while self._notes:
            # One by one: another thread may be adding.
            ref, oid = self._notes.popitem()
            notes[ref] = oid
        return notes

    def _value(self, ref: str) -> str | None:
        value = self._loose.get(ref)
        if value is None:
            value = self._packed.get(ref)
        return value or None

    def _changes(self, notes: Mapping[str, str | None]) -> tuple[RefChange, ...]:
        """Renew `refs` where something was touched, and compare with what the caller knows."""
        before = self._refs
        if self._first:
            refs = {**self._packed, **self._loose}
            for ref in [ref for ref, oid in self._loose.items() if oid == HIDDEN]:
                del refs[ref]
            names: Iterable[str] = {**refs, **notes} if notes else refs
        else:
            refs = dict(before)
            for ref in self._touched:
                value = self._value(ref)
                if value is None:
                    refs.pop(ref, None)
                else:
                    refs[ref] = value
            names = self._touched | notes.keys()
        # A new mapping each time: the one that was handed out stays as it is.
        self._refs = MappingProxyType(refs)
        self._touched = set()
        changes = []
        for ref in sorted(names):
            old, new = notes[ref] if ref in notes else before.get(ref), refs.get(ref)
            if old != new:
                changes.append(RefChange(ref, old, new))
        return tuple(changes)

    def _renew_broken(self) -> None:
        broken = {
            ref: fault for ref, fault in self._packed_faults.items() if ref not in self._loose
        }
        for source in (self._packed_file, *self._folders.values()):
            if source.fault:
                broken[source.path.removeprefix(f"{self._common}/")] = source.fault
        broken.update(self._loose_faults)
        if broken != self._broken:
            self._broken = MappingProxyType(broken)

    def _is_settled(self) -> bool:
        if self._packed_file.recent:
            return False
        return not any(folder.recent for folder in self._folders.values())
