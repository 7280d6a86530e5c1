"""One worktree of the pool: made the clean one of a commit, and looked through afterwards."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pygit2
from pygit2.enums import CheckoutStrategy, FileStatus

from aynig.errors import GitFailed, RunFault
from aynig.git.command import reason, run_git
from aynig.git.disk import (
    Mark,
    copy_file,
    delete_folder,
    discard,
    ensure_small,
    is_folder,
    mark_of,
    read_small,
)
from aynig.git.indexfile import IndexFacts, is_whole, read_index
from aynig.git.repo import Repo
from aynig.git.survey import Expected, Survey, Surveyor

# Above this many files libgit2 holds the interpreter lock for too long: git does the work.
_LARGE = 2000
# How far the clock that stamps files may lag behind, in seconds, and more.
_COARSE_CLOCK = 0.1
# How often a git command that was killed by a signal is started again.
_TRIES = 5
ADMIN_PREFIX = "aynig-"
_GITLINK, _LINK = 0o160000, 0o120000
# What an administrative folder holds when nothing is under way: all else is the last script's.
_ADMIN_FILES = frozenset({"HEAD", "commondir", "gitdir", "index", "locked", "pristine"})
_FORCE = (
    CheckoutStrategy.FORCE
    | CheckoutStrategy.REMOVE_UNTRACKED
    | CheckoutStrategy.REMOVE_IGNORED
    | CheckoutStrategy.DISABLE_PATHSPEC_MATCH
)
_CLEAN_FLAGS = (FileStatus.CURRENT, FileStatus.IGNORED)
_TO_ADD = (FileStatus.WT_NEW, FileStatus.WT_MODIFIED, FileStatus.WT_TYPECHANGE)
# Up to so much is added in this process: more would hold up its other threads.
_FEW, _FEW_BYTES = 64, 1024 * 1024
# A sparse or split index of the user's, or one in a newer format, is not for our worktrees, and
# what was written there by a script is not to be taken for unchanged.
_PLAIN = (
    "-c", "core.sparseCheckout=false",
    "-c", "core.splitIndex=false",
    "-c", "core.untrackedCache=false",
    "-c", "core.trustctime=true",
    "-c", "core.checkStat=default",
    "-c", "index.version=2",
    "-c", "index.threads=1",
    "-c", "index.skipHash=false",
    "-c", "checkout.workers=0",
    "-c", "advice.addEmbeddedRepo=false",
    "-c", "core.safecrlf=false",
)  # fmt: skip
# What libgit2 leaves out of a checkout while its status says clean (design section 5).
_SIGNATURE = re.compile(r"aynig run ([A-Za-z0-9-]+) at ([0-9a-f]{40})\n")
_ONLY_GIT = (b"filter", b"working-tree-encoding")
_GONE = "the script removed its worktree"
_BROKEN = (OSError, GitFailed, pygit2.GitError, KeyError, ValueError)


@dataclass(frozen=True, slots=True)
class Harvest:
    """What a script left in its worktree.

    `head` is the commit that it is at, `tree` the oid of the files as they lie there (the tree of
    `head` where nothing is changed).
    """

    head: str
    tree: str
    changed: bool


@dataclass(frozen=True, slots=True)
class _Found:
    """Are there changed or new files, are there ignored ones; all of them, where libgit2 looked."""

    changed: bool
    ignored: bool
    files: Mapping[str, int] = field(default_factory=dict)


class Worktree:
    """One worktree of the pool, lent to one run at a time."""

    def __init__(self, repo: Repo, folder: Path, lock_fd: int, prefix: str = ADMIN_PREFIX) -> None:
        self._repo = repo
        self._folder = folder
        self._lock_fd = lock_fd
        self._parked = folder / "admin"
        self.name = f"{prefix}{folder.name}"
        self.admin = repo.common_dir / "worktrees" / self.name
        # The folder that the script works in.
        self.path = folder / "tree"
        # The tree that the files are known to be, by what we did ourselves; None: not known.
        self.clean_at: str | None = None
        # When it was last given back, on the monotonic clock.
        self.idle_since = time.monotonic()
        self._lent_at = ""
        # The run that it was lent to last.
        self.lent_to = ""
        self._marks: tuple[Mark | None, Mark | None] = (None, None)
        # The second of the index's time stamp where `_settle_index` gave it.
        self._settled_at = 0
        self._facts: IndexFacts | None = None
        self._by_git = True
        # May there be something that libgit2 must not be let near?
        self._dangerous = True
        self._kept_handle: tuple[object, pygit2.Repository] | None = None
        self._surveyor = Surveyor(self.path)

    # --- lending ---------------------------------------------------------------------------

    def prepare(self, commit: str, tree: str) -> None:
        """Make it the clean worktree of `commit`, whatever was here before."""
        # From here on a script may be at work: only a harvest can say that it is clean again.
        known, self.clean_at = self.clean_at, None
        try:
            if not is_folder(self.path) or not self._has_admin():
                self._rebuild()
                known = None
            self._register(commit)
            if known != tree:
                self._fill(commit, tree)
                if self._survey().strays:
                    raise GitFailed("there are things that git does not see")
        except _BROKEN:
            # Whatever the last script did to it, a new one is not affected by.
            self._rebuild()
            self._register(commit)
            self._fill(commit, tree)
        self._lent_at, self._dangerous = tree, True

    def sign(self, run: str, commit: str) -> None:
        """Name the run that the worktree is lent to, now that it is wholly filled.

        `git worktree list --verbose` shows it as the reason of the lock.
        """
        self.lent_to = run
        if run:
            ensure_small(self.admin / "locked", f"aynig run {run} at {commit}\n", self._folder)

    def signature(self) -> tuple[str, str] | None:
        """Run and commit that it was lent to when its process died; None for one at rest."""
        found = _SIGNATURE.fullmatch(read_small(self.admin / "locked") or "")
        return (found[1], found[2]) if found else None

    @property
    def is_ours(self) -> bool:
        """Is the lock file that we hold still the one that others look at?

        A person who removes the folder takes it away: another process may be in the same place.
        """
        try:
            return os.fstat(self._lock_fd).st_ino == (self._folder / "lock").stat().st_ino
        except OSError:
            return False

    def park(self) -> None:
        """Take it out of git's sight until it is lent again."""
        self.idle_since = time.monotonic()
        if not os.path.lexists(self.admin):
            return
        if not self.is_ours:
            # Its folder was deleted while it was lent; another process may have one of that number.
            signed = self.signature()
            if signed is not None and signed[0] == self.lent_to:
                discard(self.admin, self._folder)
            return
        with contextlib.suppress(OSError):
            discard(self._parked, self._folder)
            self.admin.rename(self._parked)

    def _has_admin(self) -> bool:
        self.park()
        return is_folder(self._parked)

    def _rebuild(self) -> None:
        for path in (self.path, self._parked, self.admin):
            discard(path, self._folder)
        self._marks, self._kept_handle = (None, None), None
        self._parked.mkdir(parents=True)
        self.path.mkdir()

    def _register(self, commit: str) -> None:
        trash = self._folder
        for entry in self._parked.iterdir():
            if entry.name not in _ADMIN_FILES:
                discard(entry, trash)
        ensure_small(self._parked / "HEAD", f"{commit}\n", trash)
        ensure_small(self._parked / "commondir", "../..\n", trash)
        ensure_small(self._parked / "gitdir", f"{self.path}/.git\n", trash)
        # Keeps `git worktree remove` and prune off while a script works in it.
        ensure_small(self._parked / "locked", "aynig runs a script here", trash)
        self.admin.parent.mkdir(exist_ok=True)
        self._parked.rename(self.admin)
        ensure_small(self.path / ".git", f"gitdir: {self.admin}\n", trash)

    # --- filling ---------------------------------------------------------------------------

    def _fill(self, commit: str, tree: str) -> None:
        before = self._restore_index()
        if before is None or self._by_git or not self._fill_small(before, tree):
            if before is not None and not self._by_git:
                # What libgit2 has left half right would pass for unchanged.
                self._drop_index()
            self._fill_by_git(commit)
        after = self._judge()
        if before is not None and (after is None or before.attributes != after.attributes):
            # Files that are the same in both may have to look different now.
            self._drop_index()
            self._fill_by_git(commit)
            self._judge()
        copy_file(self.admin / "index", self.admin / "pristine")
        self._remember_marks()

    def _restore_index(self) -> IndexFacts | None:
        """Put our own index back, and say what is in it; None where there is none to trust.

        The script may have marked files as unchanged in its index.
        """
        index, pristine = self.admin / "index", self.admin / "pristine"
        known = self._marks[1]
        self._drop_index()
        if not pristine.is_file() or pristine.is_symlink():
            return None
        if known is not None and known != mark_of(pristine):
            return None
        data = pristine.read_bytes()
        facts = read_index(data) if is_whole(data) else None
        if facts is not None:
            copy_file(pristine, index)
            if known is None:
                # Of an earlier process: what it has to be filled by is not known either.
                self._by_git = self._needs_git(facts)
        return facts

    def _drop_index(self) -> None:
        discard(self.admin / "index", self._folder)

    def _fill_small(self, before: IndexFacts, tree: str) -> bool:
        self._facts = before
        if self._dangerous and self._survey().dangerous:
            return False
        if any(self._is_no_link(tree, path) for path in before.links):
            return False
        handle = self._handle()
        target = handle[tree]
        handle.checkout_tree(target, strategy=_FORCE)  # type: ignore[no-untyped-call]
        facts = read_index((self.admin / "index").read_bytes())
        if facts is None or self._asks_for_git(facts):
            return False
        return not any(flag != FileStatus.CURRENT for flag in _status(handle).values())

    def _is_no_link(self, tree: str, path: str) -> bool:
        """libgit2 would write through a link where another tree has a file or a folder."""
        found = self._repo.entry(tree, path)
        return found is not None and found[0] != _LINK

    def _fill_by_git(self, commit: str) -> None:
        self._git("read-tree", "--reset", "-u", commit)
        self._git("clean", "-ffdxq")

    def _judge(self) -> IndexFacts | None:
        """Take down what has to be known of the tree that the index has now."""
        self._facts = read_index((self.admin / "index").read_bytes())
        self._by_git = self._facts is None or self._needs_git(self._facts)
        return self._facts

    def _needs_git(self, facts: IndexFacts) -> bool:
        return facts.count > _LARGE or self._asks_for_git(facts)

    def _asks_for_git(self, facts: IndexFacts) -> bool:
        """Is there an attribute that only git obeys, in the tree or beside it?"""
        for _, oid in facts.attributes:
            blob: object = self._repo.handle.get(oid)
            if not isinstance(blob, pygit2.Blob) or any(word in blob.data for word in _ONLY_GIT):
                return True
        for place in _attribute_files(self._repo):
            with contextlib.suppress(OSError):
                text = place.read_bytes()
                if any(word in text for word in _ONLY_GIT):
                    return True
        return False

    def _survey(self) -> Survey:
        facts = self._facts
        if facts is None:
            return self._surveyor.survey(Expected())
        return self._surveyor.survey(Expected(facts.folders, facts.gitlinks, facts.links))

    def _handle(self) -> pygit2.Repository:
        """A libgit2 handle on this worktree, kept for as long as the settings are the same.

        It asks index, attributes and ignored names whether they have changed, but not the
        settings that decide about line ends and modes.
        """
        config = mark_of(self._repo.common_dir / "config")
        if self._kept_handle is None or self._kept_handle[0] != config:
            self._kept_handle = (config, pygit2.Repository(str(self.admin)))
        return self._kept_handle[1]

    # --- harvesting ------------------------------------------------------------------------

    def harvest(self, commit: str, tree: str) -> Harvest:
        """What the script left here, written as objects; nothing of it is lost by asking.

        Raises RunFault where it can't be used: the worktree is gone, HEAD is unreadable, files
        can't be added, a repository was made inside.
        """
        self.clean_at = None
        if not (self.is_ours and is_folder(self.path) and is_folder(self.admin)):
            raise RunFault(_GONE)
        # Settings of the script's own would decide what is added, and by which program.
        discard(self.admin / "config.worktree", self._folder)
        head = self._read_head()
        base = tree if head == commit else self._repo.commit(head).tree
        untouched = mark_of(self.admin / "index") == self._marks[0]
        if not untouched:
            self._mend_index()
        seen = self._survey()
        self._dangerous = seen.dangerous
        found = self._look(untouched=untouched)
        if not found.changed:
            if untouched and not found.ignored and base == self._lent_at and not seen.strays:
                self.clean_at = base
                self._settle_index()
            return Harvest(head, base, changed=False)
        written = self._write_small(found.files) if untouched else None
        written = written or self._write_tree(base)
        return Harvest(head, written, changed=written != base)

    def _remember_marks(self) -> None:
        self._marks = (mark_of(self.admin / "index"), mark_of(self.admin / "pristine"))

    def _settle_index(self) -> None:
        """Stamp the index anew, once the second that it was written in is over.

        git compares times in whole seconds, and reads every file that was written in the same
        second as the index again at each status. All of them were found unchanged just now, and
        what is changed from here on has a later second.
        """
        mark = self._marks[0]
        if not self._by_git or mark is None:
            return
        written, now = mark[1] // 1_000_000_000, time.time()
        if self._settled_at == written or now < written + 1 + _COARSE_CLOCK:
            return
        index, pristine = self.admin / "index", self.admin / "pristine"
        for path in (index, pristine):
            os.utime(path)
        self._remember_marks()
        self._settled_at = int(index.stat().st_mtime)

    def _read_head(self) -> str:
        text = (read_small(self.admin / "HEAD") or "").strip()
        if text.startswith("ref:"):
            ref = text.removeprefix("ref:").strip()
            oid = self._repo.read_ref(ref)
            if oid is None:
                raise RunFault(f"the script left the worktree on {ref}, which has no commit")
            return oid
        if re.fullmatch("[0-9a-f]{40}", text) and self._repo.has_commit(text):
            return text
        raise RunFault("HEAD of the worktree names no commit")

    def _mend_index(self) -> None:
        """Make the script's own index tell all: no file hidden, and never garbage.

        It is kept otherwise, because a file may be in it that is ignored (`git add --force`).
        """
        index = self.admin / "index"
        discard(self.admin / "index.lock", self._folder)
        try:
            data = index.read_bytes() if index.is_file() and not index.is_symlink() else b""
        except OSError:
            data = b""
        if not is_whole(data):
            # Without any, files that are tracked and ignored would be taken for deleted.
            self._drop_index()
            copy_file(self.admin / "pristine", index)
            return
        facts = read_index(data)
        if facts is None or facts.has_hidden:
            self._show_hidden()

    def _show_hidden(self) -> None:
        listed = [entry for entry in self._git("ls-files", "-v", "-z").split(b"\0") if entry]
        hidden = [entry[2:] for entry in listed if entry[:1].islower() or entry[:1] == b"S"]
        names = b"".join(name + b"\0" for name in hidden)
        for option in ("--no-assume-unchanged", "--no-skip-worktree"):
            self._git("update-index", option, "-z", "--stdin", stdin=names)

    def _look(self, *, untouched: bool) -> _Found:
        if not self._by_git and not self._dangerous:
            with contextlib.suppress(pygit2.GitError, KeyError, ValueError, OSError):
                # A kept handle goes on with the index that it knows where that is gone.
                handle = self._handle() if untouched else pygit2.Repository(str(self.admin))
                flags = _status(handle)
                changed = any(flag not in _CLEAN_FLAGS for flag in flags.values())
                ignored = [path for path, flag in flags.items() if flag == FileStatus.IGNORED]
                if changed or not any(self._is_repository(path) for path in ignored):
                    return _Found(changed, bool(ignored), flags)
        text = self._git(
            "status", "--porcelain", "-z", "--untracked-files=all", "--ignored=matching"
        )
        entries = [entry[:2] for entry in text.split(b"\0") if entry]
        return _Found(any(entry != b"!!" for entry in entries), b"!!" in entries)

    def _is_repository(self, path: str) -> bool:
        """To libgit2 a repository without a commit is ignored, to git it is in the way."""
        return path.endswith("/") and os.path.lexists(self.path / path / ".git")

    def _write_small(self, files: Mapping[str, int]) -> str | None:
        """What `_write_tree` does, without starting a git; None where only git can do it."""
        gone = [path for path, flag in files.items() if flag == FileStatus.WT_DELETED]
        there = [path for path, flag in files.items() if flag in _TO_ADD]
        if self._facts is None or len(gone) + len(there) != sum(
            flag != FileStatus.IGNORED for flag in files.values()
        ):
            return None
        if not there + gone or any(path.endswith("/") for path in there):
            return None
        if any(path.endswith(".gitattributes") or self._is_repository(path) for path in files):
            # Attributes may ask for what only git does, and a repository inside is a fault.
            return None
        try:
            sizes = [os.lstat(self.path / path).st_size for path in there]
            if sum(sizes) > _FEW_BYTES or len(sizes) > _FEW or self._asks_for_git(self._facts):
                return None
            index = self._handle().index
            # Its own copy: what lies on the disk stays as it is.
            self._kept_handle = None
            for path in gone:
                index.remove(path)
            for path in there:
                index.add(path)
            return str(index.write_tree())
        except _BROKEN:
            return None

    def _write_tree(self, base: str) -> str:
        discard(self.admin / "index.lock", self._folder)
        try:
            self._git("add", "--all")
            tree = self._git("write-tree").decode().strip()
        except GitFailed as error:
            raise RunFault(f"the changed files can't be added: {error}") from error
        nested = _new_gitlinks(self._repo.handle, base, tree)
        if nested:
            raise RunFault(f"the script made a repository inside its worktree: {nested[0]}")
        return tree

    def keep(self, place: Path) -> None:
        """Move the files aside, where git can't keep them: the next script gets a new worktree."""
        if not self.is_ours or not is_folder(self.path):
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        link = self.path / ".git"
        if not is_folder(link):
            # It would make git take these files for those of the next script.
            discard(link, self._folder)
        try:
            self.path.rename(place)
        except OSError:
            # Another file system, or a folder without the write bit.
            with contextlib.suppress(shutil.Error):
                shutil.copytree(self.path, place, symlinks=True, ignore=_no_special_files)

    def _git(self, *args: str, stdin: bytes = b"") -> bytes:
        for _ in range(_TRIES):
            done = run_git(self.admin, args, work_tree=self.path, settings=_PLAIN, stdin=stdin)
            if done.returncode >= 0:
                break
            # Killed, for want of memory perhaps: that says nothing about the script's files.
            (self.admin / "index.lock").unlink(missing_ok=True)
        if done.returncode:
            raise GitFailed(f"git {args[0]}: {reason(done.stderr)}")
        return done.stdout

    def close(self) -> None:
        """Let another process have it."""
        self.clean_at = None
        with contextlib.suppress(OSError):
            # How long nobody has used it is told by the lock file.
            os.utime(self._lock_fd)
        os.close(self._lock_fd)

    def remove(self) -> None:
        """Delete its files; the lock file goes last, so that nobody builds on a half."""
        for path in (self.path, self._parked):
            discard(path, self._folder)
        delete_folder(self._folder)


def _status(handle: pygit2.Repository) -> dict[str, int]:
    return handle.status(untracked_files="all", ignored=True)


def _attribute_files(repo: Repo) -> Iterator[Path]:
    """The attributes beside the tree (gitattributes(5)); those of the system are git's own."""
    yield repo.common_dir / "info" / "attributes"
    named = repo.config_value("core.attributesfile")
    if named:
        yield Path(named).expanduser()
    else:
        base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
        yield Path(base).expanduser() / "git" / "attributes"


def _no_special_files(folder: str, names: list[str]) -> set[str]:
    """Those that can't be copied: FIFOs, sockets, devices."""
    kinds = {name: Path(folder, name) for name in names}
    return {
        name
        for name, path in kinds.items()
        if not (path.is_symlink() or path.is_file() or path.is_dir())
    }


def _new_gitlinks(handle: pygit2.Repository, base: str, tree: str) -> list[str]:
    before: object = handle[base]
    after: object = handle[tree]
    assert isinstance(before, pygit2.Tree)
    assert isinstance(after, pygit2.Tree)
    deltas = before.diff_to_tree(after).deltas
    return [
        delta.new_file.path or ""
        for delta in deltas
        if delta.new_file.mode == _GITLINK and delta.old_file.mode != _GITLINK
    ]
