"""Reads the files that hold refs: one loose file, all of `packed-refs`, and their time stamps.

What they say of refs is values; what is remembered of them from look to look is `snapshot`'s. The
formats are those of gitrepository-layout(5) and git-pack-refs(1).
"""

from __future__ import annotations

import os
import re
import stat
import string
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from aynig.errors import RepositoryError
from aynig.text import quote

# A time stamp this young may still hide a later change: kernels stamp files with a clock that
# ticks every few milliseconds (seconds).
RECENT = 0.05
# The same for file systems that keep whole seconds, or every second one (seconds).
RECENT_COARSE = 2.05

# The value of a loose file that is no branch itself but hides a packed one of its name: a
# symbolic ref, or one that can't be used.
HIDDEN = ""
# The mark of a file that has to be read again at the next scan of its directory.
UNSURE = 0
# The mark of a file that is read again at every look, because nothing tells when it changes: a
# link, or one that can't be read. A second look soon would say no more than the first.
UNTOLD = -1

_OID = "[0-9a-fA-F]{40}(?:[0-9a-fA-F]{24})?"
_LOOSE = re.compile(rf"({_OID})(?:\s|\Z)".encode())
_PACKED = re.compile(rf"^({_OID}) (.+)$", re.MULTILINE)
# git-check-ref-format(1), for a name that is known to start with refs/. Each branch begins with
# a set of characters, which makes the search four times as fast as one branch for each rule.
ILLEGAL_NAME = re.compile(
    r"[\x00-\x20\x7f~^:?*\[\\]"
    r"|[./@](?:(?<=/)(?:[./]|\Z)|(?<=\.)(?:\.|lock(?:/|\Z)|\Z)|(?<=@)\{)"
)
PACKED_REFS = "packed-refs"
_UNREADABLE = "can't be read"
# Bytes that are legal anywhere in a name, but for two slashes in a row and one at the end.
_PLAIN = (string.ascii_letters + string.digits + "-_/\n").encode()
IS_NOT_THERE = (FileNotFoundError, NotADirectoryError)

# Never waits for the writer of a FIFO; neither flag exists everywhere.
_OPEN = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)

Stamp = tuple[int, ...]


class Loose(NamedTuple):
    """What a loose file says; `oid` is None where it could not be read at this moment."""

    oid: str | None
    fault: str
    mark: int


def reason(error: OSError) -> str:
    return f"{_UNREADABLE}: {error.strerror or error}"


def is_recent(mtime_ns: int) -> bool:
    """Whether a time stamp may still hide a later change; one in the far future does not."""
    window = RECENT if mtime_ns % 1_000_000_000 else RECENT_COARSE
    return abs(time.time_ns() - mtime_ns) < window * 1e9


def packed_stamp(found: os.stat_result) -> Stamp:
    return (found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size)


def mark_of(found: os.stat_result) -> int:
    """One number that tells a file from another, and from itself before it was changed."""
    return hash((found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)) or 1


def read_loose(path: str) -> Loose | None:
    """Read a file below refs/; None where there is no such file (any more)."""
    try:
        fd = os.open(path, _OPEN | _NOFOLLOW)
    except IS_NOT_THERE:
        return None
    except OSError as error:
        try:
            target = os.readlink(path)  # noqa: PTH115
        except OSError:
            return Loose(None, reason(error), UNTOLD)
        return _read_link(path, target)
    return _read_open(fd)


def _read_link(path: str, target: str) -> Loose:
    """A symbolic link: git takes one into refs/ for a symbolic ref, and reads others."""
    if target.startswith("refs/"):
        return Loose(HIDDEN, "", UNTOLD)
    try:
        fd = os.open(path, _OPEN)
    except OSError as error:
        return Loose(HIDDEN, reason(error), UNTOLD)
    found = _read_open(fd)
    if found is None:
        return Loose(HIDDEN, "a symbolic link to a directory is not followed", UNTOLD)
    return found


def _read_open(fd: int) -> Loose | None:
    """Read an open file and close it; None for a directory."""
    try:
        found = os.fstat(fd)
        if stat.S_ISDIR(found.st_mode):
            return None
        mark = UNSURE if is_recent(found.st_mtime_ns) else mark_of(found)
        if not stat.S_ISREG(found.st_mode):
            return Loose(HIDDEN, "not a regular file", mark)
        # 4 KiB hold every ref file; what is longer is none.
        return Loose(*_parse_loose(os.read(fd, 4096)), mark)
    except OSError as error:
        return Loose(None, reason(error), UNTOLD)
    finally:
        os.close(fd)


def _parse_loose(data: bytes) -> tuple[str, str]:
    """The oid in a loose ref file and what is wrong with it; neither for a symbolic ref."""
    if data.startswith(b"ref:"):
        return HIDDEN, ""
    match = _LOOSE.match(data)
    if match is None:
        return HIDDEN, "garbage" if data.strip() else "empty file"
    oid = match[1].decode().lower()
    if not oid.strip("0"):
        return HIDDEN, "null oid"
    return oid, ""


def parse_packed(text: str, prefixes: tuple[str, ...]) -> tuple[dict[str, str], dict[str, str]]:
    """Take `packed-refs` apart: the refs below `prefixes`, and what is wrong with which of them.

    Raises ValueError, saying which line is wrong, where git refuses the whole file.
    """
    body, _, rest = text.rpartition("\n")
    if rest:
        number = text.count("\n") + 1
        raise ValueError(f"line {number} is cut short: {quote(rest)}")
    if body.startswith("#"):
        # The header, with the traits of the file; its colon is illegal in a name.
        body = body.partition("\n")[2]
    lines = _PACKED.findall(body)
    # `^<oid>` is what the tag on the line above points at.
    if len(lines) + body.count("\n^") != body.count("\n") + bool(body):
        raise ValueError(_odd_line(text))
    refs = {name: oid.lower() for oid, name in lines if name.startswith(prefixes)}
    faults = {}
    for name in _illegal(refs):
        del refs[name]
        faults[name] = "not a legal ref name"
    return refs, faults


def packed_error(common_dir: Path, fault: str) -> RepositoryError:
    """That `packed-refs` can't be used, as one line for people."""
    return refs_error(common_dir, PACKED_REFS, fault)


def refs_error(common_dir: Path, name: str, fault: str) -> RepositoryError:
    """That a file or folder can't be used that holds many refs, as one line for people."""
    hint = "See what `git for-each-ref` says."
    if fault.startswith("line "):
        hint = "Correct or delete that line: git refuses the whole file before."
    elif fault.startswith(_UNREADABLE):
        hint = "Run aynig as somebody who may read it, or give the rights with chmod."
    return RepositoryError(f"{common_dir / name}: {fault}", hint=hint)


def packed_fault(common_dir: Path) -> str:
    """What is wrong with all of `packed-refs`; empty where nothing is."""
    try:
        with (common_dir / PACKED_REFS).open("rb") as stream:
            parse_packed(os.fsdecode(stream.read()), ())
    except IS_NOT_THERE:
        return ""
    except OSError as error:
        return reason(error)
    except ValueError as error:
        return str(error)
    return ""


def _odd_line(text: str) -> str:
    """Which line of `packed-refs` is no ref."""
    for number, line in enumerate(text.split("\n"), 1):
        plain = _PACKED.fullmatch(line) or (line.startswith("^") and number > 1)
        if not plain and not (number == 1 and line.startswith("#")):
            return f"line {number} is no ref: {quote(line)}"
    return "a line is no ref"


def _illegal(names: Iterable[str]) -> list[str]:
    """Those names that git-check-ref-format(1) refuses."""
    # Most repositories have plain names only, and then one pass over all of them is enough.
    lines = os.fsencode("".join([f"{name}\n" for name in names]))
    if not lines.translate(None, _PLAIN) and b"//" not in lines and b"/\n" not in lines:
        return []
    return [name for name in names if ILLEGAL_NAME.search(name)]
