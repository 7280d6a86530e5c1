"""Files and folders that a script may have tampered with: read, written and deleted with care.

Nothing here follows a symbolic link in the last place, waits for a FIFO, or takes a file into
memory because it has the name of a small one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import threading
import uuid
from pathlib import Path

# Well above what git writes to HEAD, gitdir, commondir and the like.
_SMALL = 8192
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

Mark = tuple[int, ...]


def read_small(path: Path) -> str | None:
    """The text of a small regular file; None where there is anything else, or nothing."""
    try:
        fd = os.open(path, _READ)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        data = os.read(fd, _SMALL + 1)
    except OSError:
        return None
    finally:
        os.close(fd)
    return None if len(data) > _SMALL else os.fsdecode(data)


def write_small(path: Path, text: str, trash: Path) -> None:
    """Make `path` a file of its own with this text, whatever lies there."""
    fd = _open_own(path)
    if fd is None:
        discard(path, trash)
        fd = os.open(path, _CREATE, 0o666)
    try:
        data = os.fsencode(text)
        os.write(fd, data)
        if os.fstat(fd).st_size != len(data):
            os.ftruncate(fd, len(data))
    finally:
        os.close(fd)


def _open_own(path: Path) -> int | None:
    """A regular file without a second name, open for writing; None where there is anything else.

    To delete it and make a new one costs five times as much, and fifty times on a file system that
    does not use the inodes of deleted files again at once.
    """
    try:
        fd = os.open(path, _WRITE)
    except OSError:
        return None
    found = os.fstat(fd)
    if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
        return fd
    os.close(fd)
    return None


def ensure_small(path: Path, text: str, trash: Path) -> None:
    """`write_small`, unless it says so already."""
    if read_small(path) != text:
        write_small(path, text, trash)


def write_whole(path: Path, data: bytes) -> None:
    """Put a file in place in one step: whoever reads it sees all of it."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    aside.write_bytes(data)
    aside.rename(path)


def copy_file(source: Path, target: Path) -> None:
    """Put a copy in the place of `target`, with the time of its source.

    git takes files that are no older than their index for possibly changed: a copy of an index
    with a time of its own would hide changes made within one tick of the clock.
    """
    found = source.stat()
    aside = target.with_name(target.name + ".new")
    shutil.copyfile(source, aside)
    os.utime(aside, ns=(found.st_atime_ns, found.st_mtime_ns))
    aside.rename(target)


def mark_of(path: Path) -> Mark | None:
    """Tells whether a file was written since: any write changes its inode or its times."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size, found.st_ctime_ns


def is_folder(path: Path) -> bool:
    """Is this a folder itself, not a link to one?"""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def discard(path: Path, trash: Path) -> None:
    """Make `path` free at once and delete what was there; links are not followed.

    Renaming first costs 2 ms where deleting a large tree in place costs hundreds, and it works
    where a part of it can't be deleted (a container's files belong to another user).
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        path.unlink(missing_ok=True)
        return
    aside = trash / f"trash-{uuid.uuid4().hex[:8]}"
    try:
        path.rename(aside)
    except OSError:
        aside = path
    delete_folder(aside)


def delete_folder(folder: Path) -> None:
    """Delete as much of a folder as can be deleted."""
    shutil.rmtree(folder, ignore_errors=True)
    if os.path.lexists(folder) and os.geteuid() != 0:
        # Only where it did not work at once: a script may have taken the write bit off a folder.
        _make_writable(folder)
        shutil.rmtree(folder, ignore_errors=True)


def empty_trash(folder: Path) -> None:
    """Delete what a crash in the middle of `discard` left in a folder of trash."""
    with contextlib.suppress(OSError):
        for entry in folder.iterdir():
            if entry.name.startswith("trash-"):
                delete_folder(entry)


def _make_writable(folder: Path) -> None:
    pending = [folder]
    while pending:
        place = pending.pop()
        with contextlib.suppress(OSError):
            # Before looking inside: without the bits there is no looking.
            place.chmod(0o700)
            pending += [entry for entry in place.iterdir() if is_folder(entry)]
