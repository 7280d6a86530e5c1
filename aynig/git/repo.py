"""One repository, opened: where its parts lie, its objects read and written.

Objects are read and written through libgit2, which needs no process; refs are another module's
part (`refs`, `snapshot`).
"""

from __future__ import annotations

import functools
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pygit2

from aynig.errors import (
    AynigError,
    GitFailed,
    RepositoryError,
    as_unwritable,
)
from aynig.git.command import git_text
from aynig.git.disk import Mark, mark_of
from aynig.git.reffiles import PACKED_REFS, packed_error, packed_fault
from aynig.git.unusable import no_repository, refuse_formats, refuse_parts, refuse_place, unreadable
from aynig.model import HEADS
from aynig.trailers import encode

EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
# libgit2 keeps up to 256 MiB of objects by default; a daemon beside a repository is to be small.
_CACHE_BYTES = 8 * 1024 * 1024
# Repositories whose extensions need nothing from us: missing objects are errors, never fetched.
_EXTENSIONS = ["partialclone", "worktreeconfig", "preciousobjects"]
_UNWANTED_IN_NAMES = re.compile(r"[<>\n\x00-\x1f]+")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who writes a commit: name and address, clean of what would make the commit malformed."""

    name: str
    email: str

    @classmethod
    def cleaned(cls, name: str, email: str) -> Identity:
        """A newline or an angle bracket in a name makes a commit that `git fsck` rejects."""
        return cls(
            _UNWANTED_IN_NAMES.sub(" ", name).strip() or "aynig",
            _UNWANTED_IN_NAMES.sub("", email).strip(),
        )


@dataclass(frozen=True, slots=True)
class CommitInfo:
    """What is needed of a commit: the raw message is bytes, the time is the committer's."""

    oid: str
    tree: str
    parents: tuple[str, ...]
    time: int
    message: bytes


@functools.cache
def _set_up_libgit2() -> None:
    settings = pygit2.Settings()
    settings.cache_max_size(_CACHE_BYTES)
    settings.set_extensions(_EXTENSIONS)
    # We write each object once and know what we write; the checks read every parent again.
    settings.enable_strict_object_creation(False)


class Repo:
    """A repository on disk. Safe to share between threads: each gets a libgit2 handle of its own.

    `git_dir` is the directory of this working tree (below `worktrees/` for a linked one),
    `common_dir` is where refs, objects and configuration lie, `work_tree` is None when bare.
    """

    def __init__(self, git_dir: Path, common_dir: Path, work_tree: Path | None) -> None:
        self.git_dir = git_dir
        self.common_dir = common_dir
        self.work_tree = work_tree
        self._local = threading.local()
        # Asked for at each read of a ref: to make a path costs more than to look at it.
        self._packed_refs = common_dir / PACKED_REFS
        # What it was when it was last looked for faults, and what was found.
        self._packed_known: tuple[Mark | None, str] = (None, "")

    @classmethod
    def open(cls, path: Path | str = ".") -> Repo:
        """The repository that `path` is in, found as git finds it.

        Raises RepositoryError, with what to do about it, where there is none (NoRepository), where
        it can't be read, or where libgit2 does not know its format (reftable, sha256).
        """
        _set_up_libgit2()
        start = Path(path).absolute()
        refuse_place(start)
        try:
            found = pygit2.discover_repository(str(start))
        except (pygit2.GitError, KeyError, ValueError) as error:
            raise unreadable(start, str(error)) from error
        if not found:
            raise no_repository(start)
        try:
            handle = pygit2.Repository(found)
        except (pygit2.GitError, KeyError, ValueError) as error:
            raise unreadable(Path(found), str(error)) from error
        git_dir = Path(handle.path)
        work_tree = Path(handle.workdir) if handle.workdir and not handle.is_bare else None
        repo = cls(git_dir, _common_dir(git_dir), work_tree)
        refuse_parts(git_dir, repo.common_dir)
        refuse_formats(repo.common_dir, dict(repo.config))
        return repo

    @property
    def bare(self) -> bool:
        return self.work_tree is None

    @property
    def home(self) -> Path:
        """The folder of aynig's own files: none of them is needed to go on after a loss."""
        return self.common_dir / "aynig"

    @property
    def place(self) -> Path:
        """The folder that people know it by: the working tree, or the git directory when bare."""
        return self.work_tree or self.common_dir

    @property
    def name(self) -> str:
        """What people call it: the folder's name, without `.git`."""
        return self.place.name.removesuffix(".git") or str(self.place)

    @functools.cached_property
    def main_work_tree(self) -> Path | None:
        """The working tree that is no linked one; None where the repository itself is bare.

        Many keep a bare repository in a folder named `.git`, beside linked worktrees.
        """
        if self.git_dir == self.common_dir:
            return self.work_tree
        try:
            main = pygit2.Repository(str(self.common_dir))
        except pygit2.GitError:
            return None
        return Path(main.workdir) if main.workdir and not main.is_bare else None

    @property
    def handle(self) -> pygit2.Repository:
        """This thread's libgit2 handle; RepositoryError where it can't be opened any more."""
        handle = getattr(self._local, "handle", None)
        if handle is None:
            try:
                handle = self._local.handle = pygit2.Repository(str(self.git_dir))
            except (pygit2.GitError, KeyError, ValueError) as error:
                raise unreadable(self.git_dir, str(error)) from error
        return handle

    def read_config(self) -> list[tuple[str, str | None]]:
        """All git settings that apply here, as `git config --list` knows them, in order.

        Read by the git binary, because libgit2 does not look at `GIT_CONFIG_GLOBAL`.
        """
        return _config_pairs(git_text(self.git_dir, ["config", "--null", "--list"]))

    def own_config(self) -> list[tuple[str, str | None]]:
        """The settings of this repository alone, with what its file includes."""
        args = ["config", "--null", "--local", "--includes", "--list"]
        return _config_pairs(git_text(self.git_dir, args))

    @functools.cached_property
    def config(self) -> tuple[tuple[str, str | None], ...]:
        """`read_config`, as it was when it was first asked for."""
        return tuple(self.read_config())

    def config_value(self, key: str) -> str | None:
        """The last value of one git setting; None where it is not set."""
        found = None
        for name, value in self.config:
            if name == key:
                found = value
        return found

    def identity(self, role: str = "COMMITTER") -> Identity:
        """Who our commits are by: git's own settings, and a name of aynig's where none is set."""
        # The order of git-commit(1), "Commit information".
        section = role.lower()
        name = (
            os.environ.get(f"GIT_{role}_NAME")
            or self.config_value(f"{section}.name")
            or self.config_value("user.name")
        )
        email = (
            os.environ.get(f"GIT_{role}_EMAIL")
            or self.config_value(f"{section}.email")
            or self.config_value("user.email")
            or os.environ.get("EMAIL")
        )
        if name and email:
            return Identity.cleaned(name, email)
        return Identity("aynig", f"aynig@{socket.gethostname()}")

    def sync_objects(self) -> bool:
        """Let libgit2 sync its objects where the user's git would (`core.fsync`); was it asked?

        Reference: git-config(1), core.fsync. Refs are written by git itself, which obeys it.
        """
        wanted = (self.config_value("core.fsync") or "").replace(" ", "").split(",")
        on = bool({"loose-object", "objects", "committed", "added", "all"} & set(wanted))
        on = on and "-loose-object" not in wanted
        if not on:
            on = self.config_value("core.fsyncobjectfiles") in ("true", "1", "yes", "on")
        if on:
            pygit2.Settings().enable_fsync_gitdir(True)
        return on

    # --- reading ---------------------------------------------------------------------------

    def commit(self, oid: str) -> CommitInfo:
        """A commit by its full oid; RepositoryError where it is missing or something else."""
        found = self._read_commit(oid)
        return CommitInfo(
            oid,
            str(found.tree_id),
            tuple(str(parent) for parent in found.parent_ids),
            found.commit_time,
            found.raw_message,
        )

    def message(self, oid: str) -> tuple[int, bytes]:
        """Committer time and raw message of a commit, for thousands of tips; as `commit`."""
        found = self._read_commit(oid)
        return found.commit_time, found.raw_message

    def lineage(self, oid: str) -> tuple[int, tuple[str, ...], bytes]:
        """Committer time, parents and raw message of a commit, for walks; as `commit`."""
        found = self._read_commit(oid)
        return found.commit_time, tuple(map(str, found.parent_ids)), found.raw_message

    def _read_commit(self, oid: str) -> pygit2.Commit:
        try:
            found: object = self.handle[oid]
        except (KeyError, ValueError, pygit2.GitError) as error:
            raise RepositoryError(
                f"commit {oid} can't be read: {error}",
                hint="In a shallow or partial clone fetch it; otherwise run `git fsck`.",
            ) from error
        if not isinstance(found, pygit2.Commit):
            raise RepositoryError(f"{oid} is no commit", hint="A branch points at it: mend it.")
        return found

    def has_commit(self, oid: str) -> bool:
        try:
            return isinstance(self.handle[oid], pygit2.Commit)
        except (KeyError, ValueError, pygit2.GitError):
            return False

    def resolve(self, rev: str) -> str | None:
        """The commit that a person means by `rev`; None where there is none.

        Full and abbreviated oids, branches, tags and git's other spellings (gitrevisions(7)). A
        branch goes before a tag of the same name: a task is a branch.
        """
        branch = self.read_ref(HEADS + rev) if rev and not rev.startswith("refs/") else None
        if branch:
            return branch
        try:
            found = self.handle.revparse_single(rev)
            return str(found.peel(pygit2.Commit).id)
        except (KeyError, ValueError, pygit2.GitError):
            self._mind_packed_refs()
            return None
        except OSError as error:
            raise self._refs_closed(error) from error

    def read_ref(self, ref: str) -> str | None:
        """What a ref points at now, symbolic refs followed; None where it is absent or broken.

        Raises RepositoryError where `packed-refs` can't be used: nobody knows then what is absent.
        """
        try:
            return str(self.handle.references[ref].resolve().target)
        except (KeyError, ValueError, pygit2.GitError):
            self._mind_packed_refs()
            return None
        except OSError as error:
            raise self._refs_closed(error) from error

    def refs_below(self, prefix: str) -> dict[str, str]:
        """All refs whose names start with `prefix`, and their oids; RepositoryError as above."""
        found = {}
        self._mind_packed_refs()
        try:
            for name in self.handle.references.iterator():
                if name.name.startswith(prefix) and isinstance(name.target, pygit2.Oid):
                    found[name.name] = str(name.target)
        except (pygit2.GitError, OSError) as error:
            raise self._refs_closed(error) from error
        return found

    def _refs_closed(self, error: Exception) -> RepositoryError:
        self._mind_packed_refs()
        return RepositoryError(
            f"the refs of {self.common_dir} can't be read: {error}",
            hint="See what `git for-each-ref` says.",
        )

    def _mind_packed_refs(self) -> None:
        """RepositoryError where `packed-refs` is at fault, not what was looked for and not found.

        libgit2 complains of it once at most, and takes every packed ref for absent from then on.
        """
        mark = mark_of(self._packed_refs)
        known, fault = self._packed_known
        if mark is not None and mark != known:
            fault = packed_fault(self.common_dir)
            self._packed_known = (mark, fault)
        if mark is not None and fault:
            # A file that could not be opened may be read at the next try.
            self._packed_known = (None, "")
            raise packed_error(self.common_dir, fault)

    def head_ref(self) -> str | None:
        """The default branch: what HEAD of the repository names, also where it is unborn."""
        return _symbolic(self.common_dir / "HEAD")

    def current_ref(self) -> str | None:
        """The branch that is checked out in this working tree; None for a detached HEAD."""
        return _symbolic(self.git_dir / "HEAD")

    def entry(self, tree: str, path: str) -> tuple[int, str] | None:
        """Mode and oid of what lies at `path` in a tree; None where nothing does."""
        try:
            root = self.handle[tree]
            found = root[path]  # type: ignore[index]
        except (KeyError, ValueError, pygit2.GitError):
            return None
        return int(found.filemode), str(found.id)

    def names(self, tree: str) -> list[str]:
        """What the entries at the top of a tree are called."""
        try:
            root: object = self.handle[tree]
        except (KeyError, ValueError, pygit2.GitError) as error:
            raise RepositoryError(f"tree {tree} can't be read: {error}") from error
        if not isinstance(root, pygit2.Tree):
            raise RepositoryError(f"{tree} is no tree")
        return [entry.name or "" for entry in root]

    def blob(self, oid: str) -> bytes:
        """The bytes of a blob."""
        try:
            found: object = self.handle[oid]
        except (KeyError, ValueError, pygit2.GitError) as error:
            raise RepositoryError(f"blob {oid} can't be read: {error}") from error
        if not isinstance(found, pygit2.Blob):
            raise RepositoryError(f"{oid} is no blob")
        return bytes(found.data)

    def descends(self, oid: str, ancestor: str) -> bool:
        """Is `ancestor` the commit `oid` itself or reachable from it?"""
        if oid == ancestor:
            return True
        try:
            return bool(self.handle.descendant_of(oid, ancestor))
        except (KeyError, ValueError, pygit2.GitError):
            return False

    def is_reached(self, oid: str, *prefixes: str) -> bool:
        """Does any ref below these prefixes lead to a commit? Raises GitFailed."""
        # A git that fails must not look like a commit without an answer: it would run again.
        args = ["for-each-ref", "--count=1", f"--contains={oid}", *prefixes]
        return bool(git_text(self.common_dir, args))

    # --- writing ---------------------------------------------------------------------------

    def write_commit(
        self,
        *,
        tree: str,
        parents: Iterable[str],
        message: str,
        author: Identity | None = None,
        not_before: int = 0,
        unique: bool = False,
    ) -> str:
        """A new commit, not yet named by any ref; its oid.

        `unique` adds a header that git passes over, so that two requests of the same words in the
        same second are two commits: equal ones would be one object, and one task.

        The object is written as it stands, because a commit message is bytes and libgit2's own
        call wants text. `not_before` keeps a child from being older than its parent where clocks
        disagree: walks by date rely on it. Raises Unwritable where the disk is full.
        """
        committer = self.identity("COMMITTER")
        author = author or self.identity("AUTHOR")
        stamp = f"{max(int(time.time()), not_before)} +0000"
        head = [f"tree {tree}", *(f"parent {parent}" for parent in parents)]
        head.append(f"author {author.name} <{author.email}> {stamp}")
        head.append(f"committer {committer.name} <{committer.email}> {stamp}")
        if unique:
            head.append(f"nonce {uuid.uuid4().hex}")
        text = message if message.endswith("\n") else message + "\n"
        data = encode("\n".join(head) + "\n\n" + text)
        try:
            return str(self.handle.write(pygit2.enums.ObjectType.COMMIT, data))
        except (OSError, pygit2.GitError) as error:
            raise self._not_written(error) from error

    def _not_written(self, error: Exception) -> AynigError:
        place = self.common_dir / "objects"
        return as_unwritable(OSError(str(error)), place) or GitFailed(
            f"no object can be written in {place}: {error}"
        )

    @functools.cached_property
    def _empty_tree(self) -> str:
        try:
            return str(self.handle.TreeBuilder().write())
        except (OSError, pygit2.GitError) as error:
            raise self._not_written(error) from error

    def empty_tree(self) -> str:
        """The oid of the empty tree, which is made sure to exist as an object."""
        return self._empty_tree


def _config_pairs(text: str) -> list[tuple[str, str | None]]:
    """What `git config --null --list` prints."""
    pairs = []
    for item in text.split("\0"):
        key, separator, value = item.partition("\n")
        if key:
            pairs.append((key, value if separator else None))
    return pairs


def _symbolic(head: Path) -> str | None:
    """The ref that a HEAD file names; None where it names none."""
    try:
        text = head.read_text().strip()
    except OSError:
        return None
    return text.removeprefix("ref:").strip() if text.startswith("ref:") else None


def _common_dir(git_dir: Path) -> Path:
    try:
        text = (git_dir / "commondir").read_text().strip()
    except OSError:
        return git_dir
    return (git_dir / text).resolve()
