"""What processes agree on about what all worktrees share, in files that outlive them."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from aynig.git.disk import Mark, mark_of
from aynig.git.shared import Entries, load_entries, save_entries

# How far the clock that stamps files may lag behind, in seconds, and more.
COARSE_CLOCK = 1.0
# What the lock file says: are runs under way?
_UNDER_WAY, _AT_REST = b"1", b"0"
# How often a lock may change hands while we ask for it.
_TRIES = 5


class Agreement:
    """The state from before the first of all runs that are under way, in whatever process.

    A process that begins in the middle would otherwise take for good what the script of another
    has just changed, and put that back in its turn.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._place = folder / "before.json"
        self._told = folder / "put-back"
        self._fd: int | None = None
        self._written: tuple[Mark | None, Entries] | None = None

    def enter(self) -> bool:
        """Keep others from taking the state of now for good.

        True: nobody else has runs under way, and all others wait for `begin` or `release`.
        False: others have, and `read` gives what theirs began with.
        """
        fd = self._open()
        for _ in range(_TRIES):
            if _locked_alone(fd):
                return True
            # Somebody begins, ends or only looks: then we may be alone after all.
            fcntl.flock(fd, fcntl.LOCK_SH)
            if _locked_alone(fd):
                return True
            fcntl.flock(fd, fcntl.LOCK_SH)
            if self.under_way:
                return False
        # Others are there, and yet it is not noted: a script has written to the file.
        os.pwrite(fd, _UNDER_WAY, 0)
        return False

    def enter_alone(self) -> bool:
        """`enter`, unless others have runs under way, or nobody ever had."""
        if mark_of(self._folder / "lock") is None:
            return False
        return _locked_alone(self._open())

    def begin(self, now: Entries) -> None:
        """After `enter` has given True: `now` is what counts from here on."""
        fd = self._open()
        self._told.unlink(missing_ok=True)
        if self._written is None or self._written != (mark_of(self._place), now):
            self.write(now)
            self._written = (mark_of(self._place), dict(now))
        # In place, for every run comes by here; what it says outlives this process.
        os.pwrite(fd, _UNDER_WAY, 0)
        fcntl.flock(fd, fcntl.LOCK_SH)

    @property
    def under_way(self) -> bool:
        """Have runs begun that nobody has ended? Who is alone knows that their process is dead."""
        return os.pread(self._open(), 1, 0) == _UNDER_WAY

    def is_left(self) -> bool:
        """Has a dead process left runs behind?"""
        if not self.enter_alone():
            return False
        try:
            return self.under_way
        finally:
            self.leave()

    @property
    def since(self) -> float:
        """From when on announcements are no part of what was written, in seconds since 1970."""
        return os.fstat(self._open()).st_mtime - COARSE_CLOCK

    def read(self) -> Entries | None:
        """What all have agreed on; None where that can't be read."""
        found = load_entries(self._place)
        return None if found is None else {name: each for name, each in found.items() if each}

    def write(self, entries: Entries) -> None:
        """Let all agree on something else: a change that may stay."""
        save_entries(self._place, dict(entries))

    def tell(self, sentence: str) -> None:
        """Let all know that something was put back."""
        with self._told.open("a", encoding="utf-8", errors="surrogateescape") as file:
            file.write(f"{sentence}\n")

    @property
    def told(self) -> int:
        """How many bytes `hear` would give from the beginning."""
        with contextlib.suppress(OSError):
            return self._told.stat().st_size
        return 0

    def hear(self, since: int) -> list[str]:
        """What was put back since then, by whichever process."""
        with contextlib.suppress(OSError):
            data = self._told.read_bytes()[since:]
            return data.decode("utf-8", "surrogateescape").splitlines()
        return []

    def release(self) -> None:
        """Our runs are over. The last process to say so notes that nothing is left to look at."""
        if self._fd is None:
            return
        if _locked_alone(self._fd):
            with contextlib.suppress(OSError):
                os.pwrite(self._fd, _AT_REST, 0)
        self.leave()

    def leave(self) -> None:
        """Let others in, with what is noted left as it is."""
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


def _locked_alone(fd: int) -> bool:
    """Try for the exclusive lock. Where that fails, a lock that was held is lost (flock(2))."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
