"""A pool of worktrees that lends: a state script gets one of its own, clean, at its commit.

Making a worktree costs many times what cleaning a used one does (design section 5), so they are
kept and lent again. A worktree is registered with git only while it is lent: its administrative
folder is made aside and renamed into `.git/worktrees/`, and moved back out afterwards, so an idle
pool shows in no `git worktree list` and a crash leaves nothing that git would trip over.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from aynig.errors import GitFailed, RepositoryError, RunFault
from aynig.git.disk import discard, empty_trash, is_folder, read_small
from aynig.git.repo import Repo
from aynig.git.worktree import ADMIN_PREFIX, Harvest, Worktree
from aynig.processes import kill_marked

Rescue = Callable[[str, Harvest], object]


class WorktreePool:
    """Lends worktrees; each belongs to one process at a time, by an operating-system lock."""

    def __init__(
        self, repo: Repo, folder: Path | None = None, rescue: Rescue | None = None
    ) -> None:
        """`rescue` is called with what the script of a dead runner left, by the name of its run."""
        self._repo = repo
        self._rescue = rescue
        self._folder = (folder or repo.home / "worktrees").resolve()
        self._prefix = ADMIN_PREFIX
        if folder is not None:
            # Pools in different folders count from 0 as well, and git knows them all by name.
            digest = hashlib.sha1(os.fsencode(self._folder), usedforsecurity=False).hexdigest()
            self._prefix += f"{digest[:8]}-"
        self._free: list[Worktree] = []
        self._mutex = threading.Lock()

    @contextlib.contextmanager
    def lend(
        self, commit: str, tree: str, run: str = "", *, apart_from: str = ""
    ) -> Iterator[Worktree]:
        """A clean worktree at `commit`, for as long as the block runs.

        With `run` named, what is left in it is kept should this process die meanwhile. It is not
        the one that the run `apart_from` had last.
        """
        worktree = self._take(tree, apart_from)
        try:
            worktree.prepare(commit, tree)
            worktree.sign(run, commit)
            yield worktree
        finally:
            worktree.park()
            with self._mutex:
                self._free.append(worktree)

    def _take(self, tree: str, apart_from: str) -> Worktree:
        with self._mutex:
            for worktree in [each for each in self._free if not each.is_ours]:
                self._free.remove(worktree)
                worktree.close()
            fit = [each for each in self._free if not apart_from or each.lent_to != apart_from]
            if fit:
                best = next((each for each in fit if each.clean_at == tree), fit[-1])
                self._free.remove(best)
                return best
            return next(filter(None, map(self._claim, _numbers())))

    def _claim(self, number: int) -> Worktree | None:
        """The worktree of this number, if no other process has it."""
        folder = self._folder / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        fd = _lock(folder)
        if fd is None:
            return None
        worktree = self._worktree(folder, fd)
        self._salvage(worktree)
        return worktree

    def _salvage(self, worktree: Worktree) -> None:
        """Keep what the script of a dead runner left, before anything else is done here."""
        signed = worktree.signature()
        if signed is None or self._rescue is None:
            return
        run, commit = signed
        # It may have outlived its runner, and would go on writing.
        kill_marked(run)
        try:
            harvest = worktree.harvest(commit, self._repo.commit(commit).tree)
            if harvest.changed or harvest.head != commit:
                self._rescue(run, harvest)
        except (RunFault, GitFailed, RepositoryError, OSError):
            worktree.keep(self._repo.home / "runs" / run / "worktree")

    def _worktree(self, folder: Path, fd: int) -> Worktree:
        return Worktree(self._repo, folder, fd, self._prefix)

    def close(self) -> None:
        """Give all idle worktrees free for other processes."""
        with self._mutex:
            for worktree in self._free:
                worktree.close()
            self._free.clear()

    def sweep(self, retention: float) -> int:
        """Clean up what dead processes left; delete what nobody used for `retention` seconds.

        Returns how many worktrees were still registered from a crash.
        """
        self._retire(retention)
        recovered = 0
        for folder in _folders(self._folder):
            used = _last_use(folder)
            fd = _lock(folder) if folder.name.isdigit() else None
            if fd is None:
                continue
            worktree = self._worktree(folder, fd)
            recovered += os.path.lexists(worktree.admin)
            self._salvage(worktree)
            worktree.park()
            if time.time() - used > retention or not is_folder(folder / "admin"):
                worktree.remove()
            else:
                empty_trash(folder)
            # Not `close`: looking after it is no use of it.
            os.close(fd)
        self._drop_orphans()
        empty_trash(self._repo.home)
        return recovered

    def _retire(self, retention: float) -> None:
        """Delete our own idle ones that were not lent for so long."""
        with self._mutex:
            before = time.monotonic() - retention
            for worktree in [each for each in self._free if each.idle_since < before]:
                self._free.remove(worktree)
                if worktree.is_ours:
                    worktree.remove()
                worktree.close()

    def _drop_orphans(self) -> None:
        """Registrations whose worktree folder somebody removed with `rm -rf`."""
        for admin in _folders(self._repo.common_dir / "worktrees"):
            if not admin.name.startswith(ADMIN_PREFIX):
                continue
            told = read_small(admin / "gitdir")
            if told is not None and Path(told.strip()).parent.parent.is_dir():
                # The lock in that folder says whether it is in use; its own pool looks after it.
                continue
            number = admin.name.removeprefix(self._prefix)
            if told is not None or not (self._folder / number).is_dir():
                discard(admin, self._repo.home)


def registered(repo: Repo) -> list[str]:
    """The worktrees of the pool that are registered with git now: those that are lent."""
    folders = _folders(repo.common_dir / "worktrees")
    return [folder.name for folder in folders if folder.name.startswith(ADMIN_PREFIX)]


def _lock(folder: Path) -> int | None:
    """Take the operating-system lock of a worktree; it goes away with its process."""
    try:
        fd = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        # Its last user has just removed the folder.
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A folder removed by its last user between our open and our lock is not the one on disk.
        if os.fstat(fd).st_ino == (folder / "lock").stat().st_ino:
            return fd
    except OSError:
        pass
    os.close(fd)
    return None


def _last_use(folder: Path) -> float:
    try:
        return (folder / "lock").stat().st_mtime
    except OSError:
        return 0.0


def _numbers() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


def _folders(place: Path) -> list[Path]:
    try:
        return sorted(entry for entry in place.iterdir() if entry.is_dir())
    except OSError:
        return []
