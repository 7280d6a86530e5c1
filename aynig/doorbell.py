"""The FIFO by which hooks and commands poke a daemon that they can't reach otherwise.

A poke carries no facts (design section 3): it says "look again", as the file system watcher and
the timer do. What a hook does with it is in `hooks/`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import selectors
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

# Anyone who may enter the folder may poke: a hook runs as whoever pushes. What is written is
# thrown away, and nobody else may read, for that would steal the poke.
_FIFO_MODE = 0o622
_FIFO_NAME = re.compile(r"\.?(\d+)(?:\.part)?(?:\.new)?")


class _Porter(threading.Thread):
    """Empties the FIFOs of all doorbells and rings for each: one thread, however many."""

    _lock: ClassVar[threading.Lock] = threading.Lock()
    _only: ClassVar[_Porter | None] = None

    @classmethod
    def on_duty(cls) -> _Porter:
        """The one of this process; started with the first doorbell."""
        with cls._lock:
            if cls._only is None or not cls._only.is_alive():
                cls._only = cls()
                cls._only.start()
            return cls._only

    def __init__(self) -> None:
        super().__init__(name="doorbells", daemon=True)
        self._selector = selectors.DefaultSelector()
        self._rings: dict[int, Callable[[], None]] = {}

    def admit(self, descriptor: int, ring: Callable[[], None]) -> None:
        with self._lock:
            self._rings[descriptor] = ring
            self._selector.register(descriptor, selectors.EVENT_READ)

    def dismiss(self, descriptor: int) -> None:
        """Close the descriptor, which is never read after that: its number may be used again."""
        with self._lock:
            del self._rings[descriptor]
            self._selector.unregister(descriptor)
            os.close(descriptor)

    def run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                with self._lock:
                    ring = self._rings.get(key.fd)
                    if ring is None:
                        continue
                    with contextlib.suppress(OSError):
                        # One read a round: a writer that never ends does not hold up others.
                        os.read(key.fd, 1 << 16)
                ring()


class Doorbell:
    """The FIFO by which hooks poke a daemon, `<git dir>/aynig/wake/<pid>`.

    `<pid>.part` is that of a runner that works on a part of the branches: hooks ring it too, but
    count on no more than a full one's answer.

    Writing anything to it rings. While it exists under its name somebody reads it, unless its
    process was killed (`sweep`). `ring` is called from a thread of its own and must not raise.
    Where no FIFO can be made, `problem` says why, and nothing else happens.
    """

    def __init__(self, path: Path, ring: Callable[[], None]) -> None:
        self.path = path
        self.problem = ""
        self._descriptor: int | None = None
        if not hasattr(os, "mkfifo"):
            self.problem = f"can't make {path}: this platform has no FIFOs"
            return
        try:
            self._descriptor = _make_fifo(path)
        except OSError as error:
            self.problem = f"can't make {path}: {_reason(error)}"
            return
        _Porter.on_duty().admit(self._descriptor, ring)

    def close(self) -> None:
        """Remove the FIFO, then stop reading: nobody finds it and waits for a reader."""
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        with contextlib.suppress(OSError):
            self.path.unlink()
        _Porter.on_duty().dismiss(descriptor)

    def __enter__(self) -> Doorbell:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def sweep(folder: Path, alive: Callable[[int], bool]) -> None:
    """Remove the FIFOs of doorbells that nobody answers any more.

    A FIFO that somebody reads stays, whatever `alive` says of the process id in its name: the
    reader may live in another container. `alive` decides where that can't be asked.
    """
    for path in unanswered(folder, alive):
        with contextlib.suppress(OSError):
            path.unlink()


def ring(folder: Path) -> None:
    """Poke every daemon of a repository; nothing where none listens.

    For our own commands, which run no hooks: where files can't be watched, a daemon would hear
    of what they wrote only by polling.
    """
    for path, _ in _fifos(folder):
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                os.write(descriptor, b".")
            finally:
                os.close(descriptor)


def unanswered(folder: Path, alive: Callable[[int], bool]) -> list[Path]:
    """The FIFOs that `sweep` would remove."""
    found = []
    for path, pid in _fifos(folder):
        answered = _is_answered(path)
        if answered is None:
            answered = alive(pid)
        elif not answered and path.name.startswith("."):
            # About to be opened by its maker, and then given its name.
            answered = alive(pid)
        if not answered:
            found.append(path)
    return found


def _fifos(folder: Path) -> Iterator[tuple[Path, int]]:
    try:
        paths = list(folder.iterdir())
    except OSError:
        return
    for path in paths:
        match = _FIFO_NAME.fullmatch(path.name)
        with contextlib.suppress(OSError):
            if match is not None and stat.S_ISFIFO(path.lstat().st_mode):
                yield path, int(match[1])


def _is_answered(path: Path) -> bool | None:
    """Whether a process of this machine has a FIFO open for reading; None for no answer."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        # fifo(7): opening for writing without a reader.
        return False if error.errno == errno.ENXIO else None
    os.close(descriptor)
    return True


def _make_fifo(path: Path) -> int:
    """A FIFO that appears under its name only when it is open; its descriptor."""
    for folder in (path.parent.parent, path.parent):
        _make_folder(folder)
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    os.mkfifo(fresh, 0o600)
    try:
        # For reading and writing: with a writer of our own there is never an end of file, which
        # would have to be waited out.
        descriptor = os.open(fresh, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            # Not left to the umask of whoever started the daemon.
            os.fchmod(descriptor, _FIFO_MODE)
            fresh.rename(path)
        except OSError:
            os.close(descriptor)
            raise
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
    return descriptor


def _make_folder(folder: Path) -> None:
    """Make a folder as open as the one that holds it, as git does in a shared repository."""
    if not folder.is_dir():
        folder.mkdir(exist_ok=True)
        with contextlib.suppress(OSError):
            folder.chmod(stat.S_IMODE(folder.parent.stat().st_mode))


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
