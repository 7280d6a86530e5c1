"""Keeps what all worktrees share as it was while scripts run: `config`, `hooks/` and `info/`.

A linked worktree shares them with the user's own: a script that sets `core.hooksPath` or
`core.fsmonitor` in "its" worktree would make the user's next `git status` run its program
(design sections 3 and 5).
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import stat
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aynig.errors import GitFailed
from aynig.git.address import Address
from aynig.git.agreement import COARSE_CLOCK, Agreement
from aynig.git.command import run_git
from aynig.git.fence import Fence, put_up
from aynig.git.inert import Values, offending
from aynig.git.repo import Repo
from aynig.git.settingsfile import list_settings, put_settings_back
from aynig.git.shared import (
    CONFIGS,
    FOLDERS,
    Entries,
    Entry,
    Marks,
    load_entries,
    read_entries,
    read_marks,
    save_entries,
    write_entry,
)

_OF_THE_DEAD = "while a script of a dead runner ran"
# How many names a sentence has at most.
_SHOWN = 5


@dataclass
class _Watch:
    """The runs that are on their way at the same time, and what was shared before the first."""

    mark: Marks
    entries: Entries
    # Announcements from before this time are part of `entries`; seconds since the epoch.
    since: float
    # How much of what processes tell each other of is known.
    heard: int
    active: dict[str, list[str]] = field(default_factory=dict)


class SharedGuard:
    """Compares what is shared before and after each run, and puts it back.

    Runs that overlap can't be told apart, so a change blames all that were under way since the
    last look, and nobody who began after it was found. What people write to `.git/config` every
    day (`inert`) and what aynig's own commands change (`announced`) stays; anything else that
    changes while a script runs is put back, with the changed file kept beside the outputs of the
    run. A `hooks` that is a symbolic link is guarded as a link: what lies behind it is not the
    repository's.
    """

    def __init__(self, repo: Repo, keep: Path) -> None:
        """`keep` is the folder that holds one folder for each run."""
        self._repo = repo
        self._root = repo.common_dir
        self._keep = keep
        self._mutex = threading.Lock()
        self._watch: _Watch | None = None
        self._known: tuple[Marks, Entries] | None = None
        self._before = Agreement(_folder(repo))
        # What was put back in the middle of our work, for whom asks next.
        self._recovered: list[str] = []

    def fence(self, folder: Path, ref: str, address: Address | None = None) -> Fence | None:
        """The hooks that keep the script of one run from its branch: see `fence.put_up`."""
        return put_up(self._repo, folder, ref, address)

    @contextlib.contextmanager
    def watching(self, run: str) -> Iterator[list[str]]:
        """The list is filled by the end of the block: a sentence for each thing put back."""
        with self._mutex:
            if self._watch is None:
                self._watch = self._begin()
            else:
                self._check(self._watch)
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

    def recover(self) -> list[str]:
        """Put back what scripts changed whose runner died before it could look.

        A sentence for each time that something was put back. No run is to blame: nothing tells
        which it was, and that of a person who has changed something since looks the same.
        """
        with self._mutex:
            if self._watch is None and self._before.enter_alone():
                try:
                    self._recover()
                except BaseException:
                    self._before.leave()
                    raise
                self._before.release()
            told, self._recovered = self._recovered, []
            return told

    def left_behind(self) -> list[str]:
        """What `recover` would put back, by its names; changes nothing."""
        with self._mutex:
            if self._watch is not None or not self._before.is_left():
                return []
            before, now = self._before.read() or {}, read_entries(self._root)
            announced = _read_announced(_announced(_folder(self._repo)), self._before.since)
            return [
                offence
                for name in sorted(before.keys() | now.keys() if before else ())
                if (offence := _offending_change(name, before, now, announced)) is not None
            ]

    def _recover(self) -> None:
        """Called by the only process that has runs, or will have."""
        entries = self._before.read() if self._before.under_way else None
        if entries is None:
            return
        watch = _Watch((), entries, self._before.since, 0)
        keep = _unused(_folder(self._repo) / time.strftime("changed-%Y%m%dT%H%M%SZ", time.gmtime()))
        with _announcements(self._repo, fcntl.LOCK_EX) as place:
            offences = self._settle_all(watch, _read_announced(place, watch.since), keep)
        if offences:
            kept = self._shown(keep) if keep.exists() else ""
            self._recovered.append(_sentence(offences, _OF_THE_DEAD, kept))

    def _begin(self) -> _Watch:
        """What is shared now; the files are read again only when one has changed."""
        since = time.time() - COARSE_CLOCK
        alone = self._before.enter()
        try:
            if alone and self._before.under_way:
                self._recover()
            mark = read_marks(self._root)
            if self._known is None or self._known[0] != mark:
                self._known = (mark, read_entries(self._root))
            if alone:
                self._before.begin(self._known[1])
            # Where runs of another process are under way, theirs is the state from before.
            earlier = None if alone else self._before.read()
        except BaseException:
            self._before.leave()
            raise
        heard = self._before.told
        if earlier is None or earlier == self._known[1]:
            return _Watch(mark, dict(self._known[1]), since, heard)
        return _Watch((), earlier, 0.0, heard)

    def _check(self, watch: _Watch, run: str = "") -> None:
        """Put back what has changed; `run` is the one that has just ended."""
        if read_marks(self._root) == watch.mark:
            return
        keep = self._keep / (run or min(watch.active)) / "changed"
        # One process at a time, which sees what the others have let pass.
        with _announcements(self._repo, fcntl.LOCK_EX) as place:
            announced = _read_announced(place, watch.since)
            watch.entries = self._before.read() or watch.entries
            before = dict(watch.entries)
            offences = self._settle_all(watch, announced, keep)
            if watch.entries != before:
                self._before.write(watch.entries)
            if offences:
                kept = self._shown(keep) if keep.exists() else ""
                self._before.tell(_sentence(offences, "while it ran", kept))
            # Of a script of ours it may have been that another process has put something back.
            sentences = self._before.hear(watch.heard)
            watch.heard = self._before.told
        watch.mark = read_marks(self._root)
        for blame in watch.active.values():
            blame += sentences

    def _settle_all(
        self, watch: _Watch, announced: Mapping[str, Entry | None], keep: Path
    ) -> list[str]:
        # Folders first: what seems to lie in one may lie behind a link that took its place.
        offences = self._settle(watch, announced, keep, FOLDERS)
        return offences + self._settle(watch, announced, keep, None)

    def _settle(
        self,
        watch: _Watch,
        announced: Mapping[str, Entry | None],
        keep: Path,
        only: tuple[str, ...] | None,
    ) -> list[str]:
        """Take over what may stay, put back the rest, and name it."""
        now = read_entries(self._root)
        offences = []
        for name in only or sorted(watch.entries.keys() | now.keys()):
            before, after = watch.entries.get(name), now.get(name)
            if before == after:
                continue
            offence = _offending_change(name, watch.entries, now, announced)
            if offence is not None:
                offences.append(offence)
            if offence is None or _is_lost(before, after):
                _take_over(watch.entries, name, after)
            else:
                mended = self._mended(name, before, after)
                self._put_back(name, mended, keep / name)
                _take_over(watch.entries, name, mended)
        return offences

    def _mended(self, name: str, before: Entry | None, after: Entry | None) -> Entry | None:
        """What was there before, together with the settings that may stay."""
        if name not in CONFIGS or before is None or after is None:
            return before
        if not all(each.kept and stat.S_ISREG(each.mode) for each in (before, after)):
            return before
        data = put_settings_back(before.data, after.data, _is_known, _folder(self._repo))
        return before if data is None else Entry(before.mode, data)

    def _put_back(self, name: str, entry: Entry | None, kept: Path) -> None:
        place = self._root / name
        with contextlib.suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            place.rename(kept)
        write_entry(place, entry, self._repo.home)

    def _shown(self, folder: Path) -> str:
        """A folder as it can be named in a commit: nothing about this machine."""
        within = folder.is_relative_to(self._root)
        return str(folder.relative_to(self._root)) if within else folder.name


def _offending_change(
    name: str, entries: Entries, now: Entries, announced: Mapping[str, Entry | None]
) -> str | None:
    before, after = entries.get(name), now.get(name)
    if before == after or (name in announced and announced[name] == after):
        return None
    return _offence(name, before, after)


def _offence(name: str, before: Entry | None, after: Entry | None) -> str | None:
    """A change that must not stay, by its name; None where it may."""
    if _is_lost(before, after):
        return f"{name} (too large to be put back)"
    if name not in CONFIGS:
        return name
    try:
        keys = offending(_settings(before), _settings(after), _is_known)
    except (GitFailed, ValueError):
        return name
    return f"{name} ({_few(keys)})" if keys else None


def _is_lost(before: Entry | None, after: Entry | None) -> bool:
    """Was it too large to be remembered, so that it can only be told?"""
    return before is not None and not before.kept and after is not None


def _sentence(offences: list[str], when: str, kept: str) -> str:
    where = f"; what was found there is kept in {kept}" if kept else ""
    return f"{_few(offences)} of the repository changed {when} and is put back{where}"


def _unused(folder: Path) -> Path:
    """This name, or one like it that nothing has yet: what was kept earlier stays."""
    names = itertools.chain([folder], (Path(f"{folder}-{n}") for n in itertools.count(2)))
    return next(name for name in names if not os.path.lexists(name))


def _few(names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown


def _take_over(entries: Entries, name: str, after: Entry | None) -> None:
    if after is None:
        entries.pop(name, None)
    else:
        entries[name] = after


def _settings(entry: Entry | None) -> Values:
    """What a config file itself sets, without what it includes. Raises GitFailed, ValueError."""
    if entry is None:
        return {}
    if not stat.S_ISREG(entry.mode) or not entry.kept:
        raise ValueError("no file that git reads settings from")
    return list_settings(entry.data)


def _is_known(key: str) -> bool:
    """Is something set for all repositories of this user, or of this machine?"""
    scopes = ("--global", "--system")
    return any(run_git(None, ["config", scope, "--get", key]).stdout for scope in scopes)


def _folder(repo: Repo) -> Path:
    return repo.home / "guard"


# --- changes that are announced ------------------------------------------------------------------


@contextlib.contextmanager
def announcing(repo: Repo) -> Iterator[None]:
    """Around what an aynig command that a person calls changes in `hooks/`: guards let it be.

    A guard that looks meanwhile waits for the end of the block.
    """
    if not repo.home.is_dir():
        # Nothing has ever run here: nobody is there to be told.
        yield
        return
    with _announcements(repo, fcntl.LOCK_EX) as place:
        before = read_entries(repo.common_dir)
        try:
            yield
        finally:
            now = read_entries(repo.common_dir)
            told = load_entries(place) or {}
            for name in before.keys() | now.keys():
                if before.get(name) != now.get(name):
                    told[name] = now.get(name)
            save_entries(place, told)


def _announced(folder: Path) -> Path:
    return folder / "announced.json"


def _read_announced(place: Path, since: float) -> dict[str, Entry | None]:
    with contextlib.suppress(FileNotFoundError):
        if place.stat().st_mtime >= since:
            return load_entries(place) or {}
    return {}


@contextlib.contextmanager
def _announcements(repo: Repo, lock: int) -> Iterator[Path]:
    folder = _folder(repo)
    folder.mkdir(parents=True, exist_ok=True)
    fd = os.open(folder / "announcing", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, lock)
        yield _announced(folder)
    finally:
        os.close(fd)
