"""State scripts: found in a trusted tree, checked, and written out once per tree.

Which tree is trusted is design section 3, Trust; this module is told. A script runs from a
private copy of the whole folder (`AYNIG_HOME`), because its worktree belongs to the task: what
the task changes there must not change what runs.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import stat
import sys
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pygit2

from aynig.errors import AynigError, RepositoryError, as_unwritable
from aynig.git.disk import delete_folder, discard
from aynig.git.repo import Repo
from aynig.model import Script, ScriptProblem
from aynig.text import quote, shell_word

_TREE, _FILE, _PROGRAM, _LINK, _GITLINK = 0o040000, 0o100644, 0o100755, 0o120000, 0o160000
_LINKS_FOLLOWED = 8
# execve(2) reads no more of the first line.
_SHEBANG_LENGTH = 256
# How often another process may be faster at writing out the same tree.
_ROUNDS = 8


@dataclass(frozen=True, slots=True)
class Found:
    """An entry of a tree: the path that it was found at, its blob or tree, its mode."""

    path: str
    oid: str
    mode: int


class ScriptShelf:
    """Finds scripts in trees and keeps what was written out of them."""

    def __init__(self, repo: Repo, shipped: Path) -> None:
        self._repo = repo
        self._folder = repo.home / "scripts"
        self._shipped = shipped
        self.shipped_home = str(shipped)
        self._mutex = threading.Lock()
        # What each written-out tree looked like on disk right after writing it.
        self._marks: dict[str, tuple[tuple[object, ...], ...]] = {}

    def find(
        self, tree: str, folder: str, names: tuple[str, ...], state: str
    ) -> Script | ScriptProblem:
        """The script for a state: the first of `names` below `folder`, else one that ships.

        `names` are paths below `folder`, in the order of looking. What is found first counts, also
        where it can't be run: a broken script of the repository's own is never replaced in silence
        by one that ships with aynig. Raises Unwritable where there is no room to write it out.
        """
        entry = self._repo.entry(tree, folder)
        for name in names:
            found = follow(self._repo, entry[1], name) if entry and entry[0] == _TREE else None
            if isinstance(found, ScriptProblem):
                return found
            if found is not None and entry is not None:
                problem = self._problem_of(found, f"{folder}/{name}")
                return problem or self._shelve(entry[1], found, f"{folder}/{name}")
        shipped = self._shipped / state
        if shipped.is_file() and os.access(shipped, os.X_OK):
            return Script(path=state, oid=_blob_oid(shipped), home=self.shipped_home)
        wanted = " or ".join(f"{folder}/{name}" for name in names)
        return ScriptProblem("missing-script", f"no script {wanted}")

    def _problem_of(self, found: Found, shown: str) -> ScriptProblem | None:
        if found.mode == _TREE:
            return ScriptProblem("bad-script", f"{shown} is a folder, not a script")
        if found.mode == _GITLINK:
            return ScriptProblem("bad-script", f"{shown} is a submodule, not a script")
        if found.mode != _PROGRAM:
            mend = f"git update-index --chmod=+x {shell_word(shown)}"
            return ScriptProblem("not-executable", f"{shown} has no run bit: {mend}, then commit")
        return interpreter_problem(self._shebang(found.oid), shown)

    @functools.lru_cache(maxsize=1024)  # noqa: B019 - blobs never change, and the shelf is one
    def _shebang(self, oid: str) -> bytes:
        return self._repo.blob(oid)[:_SHEBANG_LENGTH]

    # --- writing out -----------------------------------------------------------------------

    def _shelve(self, tree: str, found: Found, shown: str) -> Script | ScriptProblem:
        home = self._folder / tree
        with self._mutex:
            mark = self._marks.get(tree)
            if not mark or mark != mark_below(home):
                try:
                    self._write_out(tree, home)
                except (OSError, AynigError, KeyError, ValueError, pygit2.GitError) as error:
                    full = as_unwritable(error, home)
                    if full is not None:
                        raise full from error
                    return ScriptProblem("bad-script", f"{shown} can't be written out: {error}")
                self._marks[tree] = mark_below(home)
            # Says to all processes that it is in use: see `sweep`.
            with contextlib.suppress(OSError):
                os.utime(home)
        return Script(path=found.path, oid=found.oid, home=str(home))

    def _write_out(self, tree: str, home: Path) -> None:
        """Write the whole tree aside and rename it into place: other processes may use it now.

        One that is there already is of an earlier process or was changed by a script; either way
        only our own writing is known to be true.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        aside = self._folder / f"new-{uuid.uuid4().hex[:8]}"
        aside.mkdir(mode=0o700)
        try:
            write_out(self._repo, tree, aside)
            for _ in range(_ROUNDS):
                with contextlib.suppress(OSError):
                    # Works only where there is nothing: never under the feet of a script that
                    # another process has started from there.
                    aside.rename(home)
                    return
                with contextlib.suppress(FileNotFoundError):
                    if _same_files(home, aside):
                        return
                discard(home, self._folder)
            raise OSError(f"{home} changes all the time")
        finally:
            delete_folder(aside)

    def sweep(self, retention: float, now: float) -> None:
        """Forget written-out trees that nobody used for `retention` seconds."""
        with contextlib.suppress(OSError):
            for home in self._folder.iterdir():
                with self._mutex, contextlib.suppress(OSError):
                    if now - home.lstat().st_mtime > retention:
                        self._marks.pop(home.name, None)
                        discard(home, self._folder)


def follow(repo: Repo, tree: str, name: str) -> Found | ScriptProblem | None:
    """What a name inside the tree leads to, through symbolic links that stay inside."""
    path = name
    for _ in range(_LINKS_FOLLOWED):
        entry = repo.entry(tree, path)
        if entry is None:
            if path == name:
                return None
            return ScriptProblem("bad-script", f"{name} is a symbolic link to nothing: {path}")
        mode, oid = entry
        if mode != _LINK:
            return Found(path, oid, mode)
        target = os.fsdecode(repo.blob(oid))
        inside = resolve_link(path, target)
        if inside is None:
            return ScriptProblem(
                "bad-script", f"{name} is a symbolic link that leaves the tree: {target}"
            )
        path = inside
    return ScriptProblem("bad-script", f"{name} is a symbolic link that goes in circles")


def write_out(repo: Repo, tree: str, folder: Path) -> None:
    """Write the files of a tree into an empty folder: read-only, with the run bit where git has it.

    Submodules and symbolic links that leave the tree are left out. Raises RepositoryError, OSError.
    """
    for path, mode, oid in _files(repo, tree, ""):
        _write_entry(folder, path, mode, repo.blob(oid))


def leaving_link(repo: Repo, tree: str) -> str | None:
    """The first symbolic link that `write_out` leaves out because it leaves the tree."""
    for path, mode, oid in _entries(repo, tree, ""):
        if mode == _LINK and resolve_link(path, os.fsdecode(repo.blob(oid))) is None:
            return path
    return None


def _files(repo: Repo, tree: str, below: str) -> Iterator[tuple[str, int, str]]:
    for path, mode, oid in _entries(repo, tree, below):
        if mode == _LINK and resolve_link(path, os.fsdecode(repo.blob(oid))) is None:
            continue
        if mode != _GITLINK:
            yield path, mode, oid


def _entries(repo: Repo, tree: str, below: str) -> Iterator[tuple[str, int, str]]:
    """Path, mode and oid of all in a tree but the folders themselves."""
    root: object = repo.handle[tree]
    assert isinstance(root, pygit2.Tree)
    for entry in root:
        name = entry.name or ""
        if "/" in name or name in ("", ".", ".."):
            raise RepositoryError(f"{name!r} can't be the name of a file")
        path = f"{below}{name}"
        mode = int(entry.filemode)
        if mode == _TREE:
            yield from _entries(repo, str(entry.id), f"{path}/")
        else:
            yield path, mode, str(entry.id)


def interpreter_problem(head: bytes, shown: str) -> ScriptProblem | None:
    """Can this machine start a program that begins with `head`? None means yes.

    The kernel's rule (execve(2)): an absolute interpreter after `#!`; `env` looks along PATH.
    """
    if head.startswith(b"\x7fELF"):
        return None
    if not head.startswith(b"#!"):
        return ScriptProblem(
            "bad-interpreter", f"{shown} has no first line that names an interpreter (#!/bin/sh)"
        )
    line = os.fsdecode(head[2:].partition(b"\n")[0])
    words = line.split()
    if line.endswith("\r"):
        # The kernel takes the carriage return for a part of the name.
        named = quote(line.strip(" \t"))
        detail = f"{shown} has Windows line ends (CRLF): the first line names {named}"
        return ScriptProblem("bad-interpreter", detail)
    if not words:
        return ScriptProblem("bad-interpreter", f"{shown} names no interpreter in its first line")
    if not words[0].startswith("/") or not _is_program(words[0]):
        return ScriptProblem("bad-interpreter", f"{shown} needs {words[0]}, which is not installed")
    if Path(words[0]).name == "env":
        return _env_problem(line.split(maxsplit=1)[1:], shown)
    return None


def _env_problem(rest: list[str], shown: str) -> ScriptProblem | None:
    """`env` gets all that follows it as one argument, and takes it apart only for `-S`."""
    argument = rest[0].strip() if rest else ""
    option = re.match(r"-v?S\s*|--split-string[=\s]\s*", argument)
    words = argument[option.end() :].split() if option else [argument]
    wanted = _env_program(words)
    if option is None and " " in argument and sys.platform == "linux":
        return ScriptProblem(
            "bad-interpreter", f"{shown} gives arguments to env, which needs `env -S {argument}`"
        )
    if not wanted:
        # env would start the script as the program, which starts env, and so on.
        return ScriptProblem("bad-interpreter", f"{shown} names no program for env to start")
    if shutil.which(wanted) is None:
        return ScriptProblem("bad-interpreter", f"{shown} needs {wanted}, which is not installed")
    return None


def _env_program(words: list[str]) -> str | None:
    """The program that `env` is asked to start: options and assignments come before it."""
    rest = iter(words)
    for word in rest:
        if word in ("-u", "-C", "--unset", "--chdir"):
            next(rest, None)
        elif not word.startswith("-") and "=" not in word:
            return word
    return None


def _is_program(path: str) -> bool:
    return Path(path).is_file() and os.access(path, os.X_OK)


def resolve_link(path: str, target: str) -> str | None:
    """Where a symbolic link inside the tree leads, as a path in the tree; None when outside."""
    if not target or target.startswith("/") or "\0" in target:
        return None
    parts: list[str] = list(PurePosixPath(path).parent.parts)
    for part in target.split("/"):
        if part in ("", "."):
            continue
        if part == "..":
            if not parts:
                return None
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts) or None


def _write_entry(root: Path, path: str, mode: int, data: bytes) -> None:
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    if mode == _LINK:
        place.symlink_to(os.fsdecode(data))
        return
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW
    fd = os.open(place, flags, 0o500 if mode == _PROGRAM else 0o400)
    with os.fdopen(fd, "wb") as file:
        file.write(data)


def mark_below(folder: Path) -> tuple[tuple[object, ...], ...]:
    """Tells whether anything below was changed: a script may reach its own AYNIG_HOME."""
    found: list[tuple[object, ...]] = []
    pending = [str(folder)]
    while pending:
        try:
            entries = list(os.scandir(pending.pop()))
        except OSError:
            return ()
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                pending.append(entry.path)
            found.append(
                (entry.path, status.st_mode, status.st_ino, status.st_size, status.st_ctime_ns)
            )
    return tuple(sorted(found, key=lambda row: str(row[0])))


def _same_files(one: Path, other: Path) -> bool:
    """Are two folders alike, with all that is in them? `other` is known to be small and plain."""
    expected, found = _listing(other), _listing(one)
    if expected.keys() != found.keys() or any(found[name] != expected[name] for name in found):
        return False
    return all(
        (one / name).read_bytes() == (other / name).read_bytes()
        for name, (mode, _, _) in expected.items()
        if stat.S_ISREG(mode)
    )


def _listing(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Mode, size and link target of all that is below a folder, and of itself; nothing is read."""
    found = {}
    pending = [folder]
    while pending:
        path = pending.pop()
        status = path.lstat()
        target, size = "", status.st_size
        if stat.S_ISLNK(status.st_mode):
            target = str(path.readlink())
        elif stat.S_ISDIR(status.st_mode):
            size = 0
            pending += path.iterdir()
        found[str(path.relative_to(folder))] = (status.st_mode, size, target)
    return found


def _blob_oid(path: Path) -> str:
    return str(pygit2.hash(path.read_bytes()))
