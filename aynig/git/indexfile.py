"""Reads git's index file, as far as a worktree has to be judged by it.

Reference: gitformat-index(5). libgit2 has no call for the flags that hide a file from
`git status`, and asking it for 1,000 entries takes three times as long.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass

_GITLINK, _LINK = 0o160000, 0o120000
_HEAD = struct.Struct(">4sLL")
# Of an entry, after its ten numbers for stat: mode is the seventh of them.
_ENTRY = struct.Struct(">24xL12x20sH")
_EXTENDED, _ASSUME_UNCHANGED, _NAME_LENGTH = 0x4000, 0x8000, 0x0FFF
_SKIP_WORKTREE = 0x4000
_EMPTY_HASH = bytes(20)


@dataclass(frozen=True, slots=True)
class IndexFacts:
    """What an index says of its worktree; paths are file system text."""

    count: int
    folders: frozenset[str]
    gitlinks: frozenset[str]
    # Path and blob of each symbolic link.
    links: Mapping[str, str]
    # Path and blob of each `.gitattributes`.
    attributes: tuple[tuple[str, str], ...]
    # Is there a file that git was told not to look at?
    has_hidden: bool


def is_whole(data: bytes) -> bool:
    """Is this an index, and was all of it written?"""
    if len(data) < _HEAD.size + 20 or not data.startswith(b"DIRC"):
        return False
    return data[-20:] in (hashlib.sha1(data[:-20], usedforsecurity=False).digest(), _EMPTY_HASH)


def read_index(data: bytes) -> IndexFacts | None:
    """The facts of an index; None where it is of a kind that only git reads (version 4, split)."""
    _, version, count = _HEAD.unpack_from(data)
    if version not in (2, 3):
        return None
    folders: dict[bytes, None] = {}
    gitlinks, attributes = [], []
    links: dict[str, str] = {}
    has_hidden = False
    place = _HEAD.size
    for _ in range(count):
        mode, oid, flags = _ENTRY.unpack_from(data, place)
        start = place + _ENTRY.size
        has_hidden |= bool(flags & _ASSUME_UNCHANGED)
        if flags & _EXTENDED:
            has_hidden |= bool(int.from_bytes(data[start : start + 2], "big") & _SKIP_WORKTREE)
            start += 2
        length = flags & _NAME_LENGTH
        # A name of 4,095 bytes or more does not fit into the field.
        end = data.index(b"\0", start) if length == _NAME_LENGTH else start + length
        name = data[start:end]
        folders[name.rpartition(b"/")[0]] = None
        if mode == _GITLINK:
            gitlinks.append(_text(name))
        elif mode == _LINK:
            links[_text(name)] = oid.hex()
        elif name.endswith(b".gitattributes"):
            attributes.append((_text(name), oid.hex()))
        place = end + 8 - (end - place) % 8
    if b"link" in data[place:-20]:
        return None
    return IndexFacts(
        count,
        _with_parents(folders, gitlinks),
        frozenset(gitlinks),
        links,
        tuple(attributes),
        has_hidden,
    )


def _with_parents(folders: dict[bytes, None], gitlinks: list[str]) -> frozenset[str]:
    found = set(gitlinks)
    for link in gitlinks:
        folders[link.encode("utf-8", "surrogateescape").rpartition(b"/")[0]] = None
    for folder in folders:
        path = _text(folder)
        while path and path not in found:
            found.add(path)
            path = path.rpartition("/")[0]
    return frozenset(found)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
