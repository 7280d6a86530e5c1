"""Folders for what a worker must not come across: private, outside of the repository, short-lived.

Each is one folder in the system's place for temporary files, with mode 0700 and a file in it that
its process holds locked. The lock goes away with the process, whatever ends it, so the next start
can tell what is left of the dead. The name shows no path: the repository is in it as a digest.

The mode keeps other users out. A process of the same user that searches the disk is not kept out.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aynig.errors import ConfigError, as_unwritable
from aynig.git.disk import delete_folder, read_small
from aynig.git.repo import Repo
from aynig.processes import kill_marked
from aynig.text import quote

# What the folders are for; each kind is swept by whoever knows what may be worth keeping in it.
JUDGE = "judge"
WORKER = "worker"

_LOCK, _RUN = "lock", "run"
_TRIES = 8


@dataclass(frozen=True, slots=True)
class PrivateFolder:
    """One such folder; `run` is the mark of the processes that are started for it."""

    path: Path
    run: str
    fd: int

    def remove(self) -> None:
        """End what is left of its processes, delete it, and give the lock back."""
        if self.run:
            kill_marked(self.run)
        delete_folder(self.path)
        os.close(self.fd)


@contextlib.contextmanager
def private_folder(repo: Repo, kind: str, run: str) -> Iterator[PrivateFolder]:
    """A new folder for as long as the block runs.

    Raises ConfigError where the place for temporary files is inside of the repository, Unwritable
    where it can't be written to.
    """
    folder = make_private_folder(repo, kind, run)
    try:
        yield folder
    finally:
        folder.remove()


def make_private_folder(repo: Repo, kind: str, run: str) -> PrivateFolder:
    """A new folder that its caller removes; raises as `private_folder`."""
    place = _place(repo)
    try:
        for _ in range(_TRIES):
            path = place / f"{_prefix(repo, kind)}{uuid.uuid4().hex[:12]}"
            path.mkdir(mode=0o700)
            fd = _lock(path)
            # A sweep of another process may have come in between, and taken it for one of the dead.
            if fd is not None:
                (path / _RUN).write_text(f"{run}\n")
                return PrivateFolder(path, run, fd)
    except OSError as error:
        raise as_unwritable(error, place) or ConfigError(
            f"no private folder can be made in {place}: {error.strerror or error}",
            hint="Name another place for temporary files with TMPDIR.",
        ) from error
    raise ConfigError(f"folders made in {place} go away at once", hint="Name another with TMPDIR.")


def dead_folders(repo: Repo, kind: str) -> Iterator[PrivateFolder]:
    """The folders of this repository whose processes have died, their strays ended; to be removed.

    Nothing of a living process is given, also where that is in another container.
    """
    with contextlib.suppress(OSError, ConfigError):
        for path in sorted(_place(repo).glob(f"{_prefix(repo, kind)}*")):
            if path.is_symlink() or path.stat().st_uid != os.geteuid():
                continue
            fd = _lock(path)
            if fd is None:
                continue
            run = (read_small(path / _RUN) or "").strip()
            if run:
                # It may have outlived its runner, and would go on writing.
                kill_marked(run)
            yield PrivateFolder(path, run, fd)


def sweep_private(repo: Repo, kind: str) -> int:
    """Delete what dead processes left of a kind; how many folders that were."""
    count = 0
    for folder in dead_folders(repo, kind):
        folder.remove()
        count += 1
    return count


def _lock(path: Path) -> int | None:
    """Hold the lock of a folder; None where another process has it, or the folder is gone."""
    try:
        fd = os.open(path / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_ino == (path / _LOCK).stat().st_ino:
            return fd
    except OSError:
        pass
    os.close(fd)
    return None


def _prefix(repo: Repo, kind: str) -> str:
    digest = hashlib.sha256(os.fsencode(repo.common_dir)).hexdigest()
    return f"aynig-{kind}-{os.geteuid()}-{digest[:12]}-"


def _place(repo: Repo) -> Path:
    """Where temporary files go; ConfigError where a worktree or the repository is around it."""
    place = Path(tempfile.gettempdir()).resolve()
    for top in {repo.place.resolve(), repo.common_dir.resolve()}:
        if place.is_relative_to(top):
            raise ConfigError(
                f"temporary files go to {quote(str(place))}, inside of the repository",
                hint="Name a folder outside of it with TMPDIR.",
            )
    return place
