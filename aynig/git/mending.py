"""Mends what a crash left in a private copy of a remote: always safe, because it is a cache.

Without the power-safe settings of git a power cut may leave an empty file, and git then refuses
the ref, or all of the repository, for ever. (For locks see `locks`.)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pygit2

from aynig.git.disk import write_whole
from aynig.git.snapshot import RefReader

PLAIN_CONFIG = b"[core]\n\tbare = true\n\trepositoryformatversion = 0\n"
# What says nothing any more; not one that can't be read by us.
_LOST = frozenset({"empty file", "garbage", "null oid"})


def mend_copy(place: Path) -> bool:
    """Make a bare repository that only copies refs of a remote usable again; was there anything?"""
    done = [*_mend_frame(place), *_drop_lost(place)]
    return bool(done)


def _mend_frame(place: Path) -> Iterator[Path]:
    for name in ("objects", "refs"):
        (place / name).mkdir(parents=True, exist_ok=True)
    head, config = place / "HEAD", place / "config"
    if not _says_a_branch(head):
        # The next look asks the remote which it is.
        write_whole(head, b"ref: refs/heads/main\n")
        yield head
    try:
        pygit2.Config(str(config))
    except (pygit2.GitError, OSError):
        write_whole(config, PLAIN_CONFIG)
        yield config


def _says_a_branch(head: Path) -> bool:
    with contextlib.suppress(OSError):
        return head.read_bytes().startswith(b"ref: refs/heads/")
    return False


def _drop_lost(place: Path) -> Iterator[Path]:
    for ref, fault in RefReader(place, ("refs/",)).look().broken.items():
        with contextlib.suppress(OSError):
            if fault in _LOST:
                (place / ref).unlink()
                yield place / ref
