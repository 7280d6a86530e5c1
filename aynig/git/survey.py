"""Looks for what neither `git status` nor `git clean` nor libgit2 sees in a worktree, or minds."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aynig.git.disk import Mark

# A folder that was changed this lately may change again without its time stamp telling (the clock
# that stamps files goes by ticks): it is not remembered. In nanoseconds.
_FRESH = 100_000_000


@dataclass(frozen=True, slots=True)
class Survey:
    """What lies below a worktree and is dangerous, or not told of by git."""

    # libgit2 waits for ever when it finds a FIFO in the place of a file, and writes through a link
    # that it finds there: outside of the worktree.
    dangerous: bool
    # FIFOs, sockets, devices, empty folders, and what lies in the folder of a submodule.
    strays: bool


@dataclass(frozen=True, slots=True)
class Expected:
    """What a worktree has by its index; paths are relative to its top."""

    folders: frozenset[str] = frozenset()
    # The folders of submodules, which stay empty here.
    gitlinks: frozenset[str] = frozenset()
    # Path and blob of each symbolic link.
    links: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class _Proper:
    """A folder in which all was as it should be, when it looked like this."""

    mark: Mark
    subfolders: tuple[str, ...]


class Surveyor:
    """Surveys one worktree again and again.

    Nothing comes into a folder, leaves it or takes the place of something there without a new time
    stamp of that folder, so one that was in order and has its old stamp is in order. What a file
    contains is not looked at: that is for git.
    """

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._expected = Expected()
        self._proper: dict[str, _Proper] = {}

    def survey(self, expected: Expected) -> Survey:
        """What is there now, besides what is expected."""
        if expected != self._expected:
            self._expected = expected
            self._proper.clear()
        dangerous = strays = False
        pending = [""]
        while pending:
            below = pending.pop()
            known = self._proper.get(below)
            try:
                mark = self._mark(below)
                if known is None or known.mark != mark:
                    found, subfolders = self._scan(below)
                    dangerous |= found.dangerous
                    strays |= found.strays
                    self._remember(below, mark, found, subfolders)
                else:
                    subfolders = known.subfolders
            except OSError:
                return Survey(dangerous=True, strays=True)
            pending += subfolders
        return Survey(dangerous, strays)

    def _mark(self, below: str) -> Mark:
        found = os.lstat(f"{self._root}/{below}")
        return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns

    def _scan(self, below: str) -> tuple[Survey, tuple[str, ...]]:
        expected, links = self._expected, self._expected.links or {}
        subfolders = []
        dangerous = strays = False
        with os.scandir(f"{self._root}/{below}") as entries:
            for entry in entries:
                path = f"{below}/{entry.name}" if below else entry.name
                strays |= below in expected.gitlinks
                if entry.is_dir(follow_symlinks=False):
                    strays |= path not in expected.folders
                    if path != ".git":
                        subfolders.append(path)
                elif entry.is_symlink():
                    dangerous |= links.get(path) != _blob_of_link(entry.path)
                elif not entry.is_file(follow_symlinks=False):
                    dangerous = strays = True
        return Survey(dangerous, strays), tuple(subfolders)

    def _remember(self, below: str, mark: Mark, found: Survey, subfolders: tuple[str, ...]) -> None:
        # The mark is from before the scan: what came meanwhile has a later stamp.
        if not found.dangerous and not found.strays and mark[-1] < time.time_ns() - _FRESH:
            self._proper[below] = _Proper(mark, subfolders)
        else:
            self._proper.pop(below, None)


def _blob_of_link(path: str) -> str:
    target = os.fsencode(os.readlink(path))  # noqa: PTH115 (a Path is slow in this place)
    head = b"blob %d\0" % len(target)
    return hashlib.sha1(head + target, usedforsecurity=False).hexdigest()
