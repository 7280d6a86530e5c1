"""Keeps what all worktrees share as it was: `config`, `hooks/` and `info/`.

A linked worktree shares them with the user's own: a script that sets `core.hooksPath` or
`core.fsmonitor` in "its" worktree would make the user's next `git status` run its program
(design sections 3 and 5).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aynig.errors import GitFailed
from aynig.git.command import git_text
from aynig.git.disk import Mark, discard, mark_of
from aynig.git.repo import Repo

_FOLDERS = ("hooks", "info")
_FILES = ("config", "config.worktree")
# Written by `git gc` for servers without git (git-update-server-info(1)); holds no program.
_DERIVED = "info/refs"
# Larger files in hooks/ are only watched by their mark, not kept in memory.
_KEEP_BYTES = 1024 * 1024

_Marks = tuple[tuple[str, int, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class _Entry:
    mode: int
    # The content of a file, the target of a link, the mark of what can't be kept.
    data: bytes
    kept: bool = True


_Entries = dict[str, _Entry]


@dataclass
class _Watch:
    """The runs that are on their way at the same time, and what was shared before the first."""

    mark: _Marks
    entries: _Entries
    active: dict[str, list[str]] = field(default_factory=dict)


class SharedGuard:
    """Compares what is shared before and after each run, and puts it back.

    Runs that overlap can't be told apart, so a change blames all that were under way. What git's
    own commands write for branches (`branch.*`: push -u, switch --track) is left alone; anything
    else that changes while a script runs is put back, with the changed file kept beside the
    outputs of the run. A `hooks` that is a symbolic link is guarded as a link: what lies behind
    it is not the repository's.
    """

    def __init__(self, repo: Repo, keep: Path) -> None:
        self._repo = repo
        self._keep = keep
        self._mutex = threading.Lock()
        self._watch: _Watch | None = None
        self._known: tuple[_Marks, _Entries] | None = None
        self._before = _Before(repo.home / "guard")

    @contextlib.contextmanager
    def watching(self, run: str) -> Iterator[list[str]]:
        """The list is filled by the end of the block: a sentence for each thing put back."""
        with self._mutex:
            if self._watch is None:
                self._watch = self._begin()
            blame = self._watch.active[run] = []
        try:
            yield blame
        finally:
            with self._mutex:
                try:
                    self._check(self._watch, run)
                finally:
                    del self._watch.active[run]
                    if not self._watch.active:
                        self._watch = None
                        self._before.release()

    def _begin(self) -> _Watch:
        """What is shared now; the files are read again only when one has changed."""
        mark = self._mark()
        if self._known is None or self._known[0] != mark:
            self._known = (mark, self._read())
        # Where runs of another process are under way, theirs is the state from before.
        entries = self._before.agree(self._known[1])
        return _Watch(mark if entries == self._known[1] else (), dict(entries))

    def _check(self, watch: _Watch, run: str) -> None:
        mark = self._mark()
        if mark == watch.mark:
            return
        # Folders first: what seems to lie in one may lie behind a link that took its place.
        restored = [name for name in _FOLDERS if self._settle(watch, run, name, self._read())]
        now = self._read()
        names = sorted(watch.entries.keys() | now.keys())
        restored += [name for name in names if self._settle(watch, run, name, now)]
        watch.mark = self._mark()
        for blame in watch.active.values():
            blame += [f"{name} of the repository was changed while it ran" for name in restored]

    def _settle(self, watch: _Watch, run: str, name: str, now: Mapping[str, _Entry]) -> bool:
        """Put one thing back if it has changed; has it?"""
        before, after = watch.entries.get(name), now.get(name)
        if before == after:
            return False
        if name in _FILES and after is not None and self._harmless(before, after):
            watch.entries[name] = after
            return False
        if before is not None and not before.kept and after is not None:
            # Too large to have been kept: it can only be told.
            watch.entries[name] = after
            return True
        self._put_back(run, name, before)
        return True

    def _put_back(self, run: str, name: str, entry: _Entry | None) -> None:
        place = self._repo.common_dir / name
        kept = self._keep / run / "changed" / name
        with contextlib.suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            place.rename(kept)
        discard(place, self._repo.home)
        if entry is None or not entry.kept:
            return
        if stat.S_ISDIR(entry.mode):
            place.mkdir()
            place.chmod(stat.S_IMODE(entry.mode))
        elif stat.S_ISLNK(entry.mode):
            place.symlink_to(os.fsdecode(entry.data))
        else:
            aside = place.with_name(f"{place.name}.aynig")
            aside.write_bytes(entry.data)
            aside.chmod(stat.S_IMODE(entry.mode))
            aside.replace(place)

    def _harmless(self, before: _Entry | None, after: _Entry) -> bool:
        """Do two versions of a config file differ in nothing but `branch.*`?"""
        try:
            return stat.S_ISREG(after.mode) and _without_branches(before) == _without_branches(
                after
            )
        except (GitFailed, OSError):
            return False

    def _mark(self) -> _Marks:
        """Tells whether anything changed: looked at before and after every run, so kept cheap."""
        found = []
        for path in self._paths():
            with contextlib.suppress(OSError):
                status = os.lstat(path)
                # Putting something back in a folder changes its time, and nothing else of it.
                stamp = 0 if stat.S_ISDIR(status.st_mode) else status.st_ctime_ns
                size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
                found.append((path, status.st_mode, status.st_ino, size, stamp))
        return tuple(found)

    def _read(self) -> _Entries:
        found = {}
        for name in self._paths():
            path = Path(name)
            with contextlib.suppress(OSError):
                found[str(path.relative_to(self._repo.common_dir))] = _entry_of(path)
        return found

    def _paths(self) -> Iterator[str]:
        root = str(self._repo.common_dir)
        for name in (*_FILES, *_FOLDERS):
            yield f"{root}/{name}"
        pending = [f"{root}/{name}" for name in _FOLDERS]
        while pending:
            folder = pending.pop()
            if Path(folder).is_symlink():
                continue
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                for entry in sorted(entries, key=lambda each: each.name):
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    if entry.path != f"{root}/{_DERIVED}":
                        yield entry.path


class _Before:
    """The state from before the first of all runs that are under way, in whatever process.

    A process that begins in the middle would otherwise take for good what the script of another
    has just changed, and put that back in its turn.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fd: int | None = None
        self._written: tuple[Mark | None, _Entries] | None = None

    def agree(self, now: _Entries) -> _Entries:
        """`now` where no other process has runs under way, else what they began with."""
        place = self._folder / "before.json"
        fd = self._open()
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            fcntl.flock(fd, fcntl.LOCK_SH)
            return _load(place) or now
        if self._written is None or self._written != (mark_of(place), now):
            aside = place.with_name("before.json.new")
            aside.write_text(_dump(now))
            aside.replace(place)
            self._written = (mark_of(place), now)
        fcntl.flock(fd, fcntl.LOCK_SH)
        return now

    def release(self) -> None:
        if self._fd is not None:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _open(self) -> int:
        lock = self._folder / "lock"
        if self._fd is not None and mark_of(lock) is None:
            # A person has removed the folder.
            os.close(self._fd)
            self._fd = None
        if self._fd is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        return self._fd


def _entry_of(path: Path) -> _Entry:
    status = path.lstat()
    if stat.S_ISDIR(status.st_mode):
        return _Entry(status.st_mode, b"")
    if stat.S_ISLNK(status.st_mode):
        return _Entry(status.st_mode, os.fsencode(path.readlink()))
    if stat.S_ISREG(status.st_mode) and status.st_size <= _KEEP_BYTES:
        return _Entry(status.st_mode, path.read_bytes())
    return _Entry(status.st_mode, repr(mark_of(path)).encode(), kept=False)


def _dump(entries: _Entries) -> str:
    rows = {
        name: (entry.mode, entry.data.decode("latin-1"), entry.kept)
        for name, entry in entries.items()
    }
    return json.dumps(rows)


def _load(place: Path) -> _Entries | None:
    try:
        rows = json.loads(place.read_text())
        return {
            name: _Entry(mode, data.encode("latin-1"), kept)
            for name, (mode, data, kept) in rows.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def _without_branches(entry: _Entry | None) -> list[str]:
    if entry is None:
        return []
    text = git_text(
        None,
        ["config", "--file", "-", "--null", "--list"],
        stdin=entry.data,
    )
    return [item for item in text.split("\0") if not item.startswith("branch.")]
