"""The git directory in which the commands run that talk to a remote.

It shares the objects of a mirror and has few refs of its own, because git walks all refs it has for
each fetch and push. Each process has one for itself: git would leave locks in it when it is killed,
and nobody could tell whose they are. Made of a few files, it costs next to nothing.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterable
from pathlib import Path

from aynig.git.disk import delete_folder, write_whole
from aynig.processes import end_processes_with, start_time

# Refs to what was fetched lately, so that the next fetch need not check its history again.
KNOWN = "refs/aynig/known/"
# With more refs than this, git takes longer for walking them than it saves.
_MOST_KNOWN = 400
_CONFIG = b"[core]\n\trepositoryformatversion = 0\n\tbare = true\n"


class Line:
    """One such directory below `folder`; made when it is first used, and again after `close`."""

    def __init__(self, folder: Path) -> None:
        pid = os.getpid()
        self.path = folder / f"{pid}-{start_time(pid)}-{uuid.uuid4().hex[:8]}"

    def ready(self) -> Path:
        """The directory, made where it is not there."""
        if not (self.path / "HEAD").exists():
            for name in ("objects", "refs"):
                (self.path / name).mkdir(parents=True, exist_ok=True)
            write_whole(self.path / "config", _CONFIG)
            write_whole(self.path / "HEAD", b"ref: refs/heads/none\n")
        return self.path

    def begin(self, oids: Iterable[str]) -> None:
        """`know`, where nothing is known yet."""
        if not (self.path / KNOWN).exists():
            self.know(oids)

    def know(self, oids: Iterable[str]) -> None:
        """These commits are here with their history. Written as files, which costs no process."""
        folder = self.ready() / KNOWN
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            known = list(folder.iterdir())
            if len(known) > _MOST_KNOWN:
                for path in known:
                    path.unlink(missing_ok=True)
            for oid in oids:
                write_whole(folder / oid[:16], f"{oid}\n".encode())

    def forget(self) -> None:
        """Take back what `know` was told; git commands may be under way."""
        delete_folder(self.path / KNOWN)

    def unlock(self) -> bool:
        """Remove the locks that a fetch of ours has left, when none is under way; were there any?

        Only git itself was killed, say for want of memory, and this process lives on.
        """
        left = [path for path in self.path.rglob("*.lock") if path.is_file()]
        for path in left:
            path.unlink(missing_ok=True)
        return bool(left)

    def close(self) -> None:
        delete_folder(self.path)


def sweep(folder: Path) -> None:
    """Delete the lines of dead processes, and end the gits that are still at work in them.

    Such a git waits for as long as its connection lasts, and nobody is there to lose patience.
    """
    dead = []
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            pid, _, rest = path.name.partition("-")
            if not pid.isdigit() or start_time(int(pid)) != rest.partition("-")[0]:
                dead.append(path)
    if dead:
        end_processes_with({f"--git-dir={path}" for path in dead})
    for path in dead:
        delete_folder(path)
