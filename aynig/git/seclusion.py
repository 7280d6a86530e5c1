"""A worktree for a worker that must not see all of the repository: with an object store of its own.

A linked worktree shares the object store, so whoever works in one can read every ref and every
object that is there. This one belongs to a small repository in a private folder, which has what is
reachable from the triggering commit and nothing else: no refs, no remotes, no alternates, and no
path that leads to the repository at work. What the worker leaves is harvested there and its objects
are brought home; git hashes every one of them again on the way, and nothing else comes along.

It keeps objects out of reach, not a process: a worker runs as the same user on the same disk and
may search it. Only a sandbox keeps that from it (docs/verification.md).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pygit2

from aynig.errors import AynigError, GitFailed, RepositoryError, RunFault, as_unwritable
from aynig.git.command import pipe_git, reason, run_git
from aynig.git.disk import discard, ensure_small, is_folder, read_small, write_whole
from aynig.git.names import is_ref
from aynig.git.private import (
    WORKER,
    PrivateFolder,
    dead_folders,
    private_folder,
)
from aynig.git.repo import Repo
from aynig.git.worktree import Harvest, Worktree
from aynig.git.worktrees import Rescue
from aynig.runs import RunFolder

# What of the repository's own settings counts for files and commits; none of it names a place.
_SECTIONS = ("user.", "author.", "committer.", "filter.", "lfs.")
_KEYS = frozenset(
    {
        "core.autocrlf", "core.eol", "core.filemode", "core.symlinks", "core.ignorecase",
        "core.fsync", "core.fsyncmethod", "core.precomposeunicode",
    }
)  # fmt: skip
# Caches that a worker may have written into its store, and that git would believe.
_CONFIG = b"""[core]
\tbare = true
\trepositoryformatversion = 0
\tcommitGraph = false
\tmultiPackIndex = false
\tlogAllRefUpdates = false
[gc]
\tauto = 0
[maintenance]
\tauto = false
[pack]
\tuseBitmaps = false
"""
_OID = re.compile("[0-9a-f]{40}")
_KEPT_IN_STORE = frozenset({"objects", "worktrees"})
_ADMIN_LINK = "../..\n"
_REFS_FOLLOWED = 5
# Lists of folders, of which the harmless ones are to stay.
_LISTS = ("PATH", "PATHS", "DIRS")


class Secluded:
    """What a worker in seclusion has: a worktree, a folder for its run, a copy of its scripts."""

    def __init__(self, worktree: Worktree, room: _Room, folder: RunFolder) -> None:
        self._worktree = worktree
        self._room = room
        # Body, context and answer file: those in the repository would tell where that is.
        self.folder = folder

    @property
    def path(self) -> Path:
        """The folder that the script works in."""
        return self._worktree.path

    def copy_home(self, home: str) -> str:
        """A copy of the written-out scripts (`Script.home`); where it is. Raises Unwritable."""
        place = self._room.path / "home"
        try:
            shutil.copytree(home, place, symlinks=True)
        except (OSError, shutil.Error) as error:
            raise as_unwritable(error, place) or RepositoryError(
                f"the scripts in {home} can't be copied: {error}"
            ) from error
        return str(place)

    def conceal(self, environment: Mapping[str, str]) -> dict[str, str]:
        """An environment without what names the repository at work.

        Of lists of folders (`PATH`) only such entries are taken out, any other variable goes.
        """
        found = {}
        for name, value in environment.items():
            if self._room.is_told_by(value):
                if not name.endswith(_LISTS):
                    continue
                parts = value.split(os.pathsep)
                value = os.pathsep.join(part for part in parts if not self._room.is_told_by(part))
                if not value:
                    continue
            found[name] = value
        return found

    def harvest(self, commit: str, tree: str) -> Harvest:
        """What the worker left, brought home: the repository has all objects of it then.

        Raises RunFault where it can't be used, Unwritable where it can't be written at home. The
        worker's processes have to be gone.
        """
        return self._room.harvest(commit, tree)

    def keep(self, place: Path) -> None:
        """Move the files aside, where git can't keep them."""
        self._worktree.keep(place)


class Seclusion:
    """Lends secluded worktrees of one repository. Safe to share between threads."""

    def __init__(
        self, repo: Repo, rescue: Rescue | None = None, *, hidden: Sequence[Path] = ()
    ) -> None:
        """`rescue` as for `WorktreePool`; `hidden` are more places that are not to be told.

        The clone, where the repository is the mirror of a remote.
        """
        self._repo = repo
        self._rescue = rescue
        self._hidden = tuple(hidden)

    @contextlib.contextmanager
    def lend(self, commit: str, tree: str, run: str) -> Iterator[Secluded]:
        """A secluded worktree at `commit` for as long as the block runs; all of it goes away then.

        Raises RepositoryError where the history is not whole (a partial clone), Unwritable,
        ConfigError where temporary files go to the repository itself.
        """
        with private_folder(self._repo, WORKER, run) as private, contextlib.ExitStack() as stack:
            room = _Room(self._repo, private.path, self._hidden)
            try:
                room.build(commit)
                worktree = room.worktree()
                stack.callback(worktree.close)
                worktree.prepare(commit, tree)
                worktree.sign(run, commit)
                folder = RunFolder(room.path / "runs" / run)
                folder.path.mkdir(parents=True, mode=0o700)
            except (OSError, GitFailed, pygit2.GitError) as error:
                raise as_unwritable(error, room.path) or RepositoryError(
                    f"no secluded worktree can be made in {room.path}: {error}"
                ) from error
            yield Secluded(worktree, room, folder)

    def sweep(self) -> int:
        """Remove what dead runners left, and keep the work in it; how many there were."""
        count = 0
        for private in dead_folders(self._repo, WORKER):
            try:
                self._salvage(private)
            finally:
                private.remove()
            count += 1
        return count

    def _salvage(self, private: PrivateFolder) -> None:
        room = _Room(self._repo, private.path, self._hidden)
        with contextlib.suppress(AynigError, OSError):
            signed = room.signature()
            if signed is None or self._rescue is None:
                return
            run, commit = signed
            harvest = room.harvest(commit, self._repo.commit(commit).tree)
            if harvest.changed or harvest.head != commit:
                self._rescue(run, harvest)


class _Room:
    """The private folder of one worker, with its store, its worktree and all else."""

    def __init__(self, home: Repo, path: Path, hidden: Sequence[Path]) -> None:
        self._home = home
        self.path = path
        self.store = path / "store"
        self._work = path / "work"
        places = [home.common_dir, home.git_dir, home.work_tree, home.main_work_tree, *hidden]
        told = {str(place).rstrip("/") for place in places if place is not None}
        told |= {os.path.realpath(place) for place in told}
        names = "|".join(re.escape(place) for place in sorted(told) if place)
        # Not a folder beside it whose name begins alike.
        self._told = re.compile(rf"(?:{names})(?![^/:;,\s'\"])")

    def is_told_by(self, text: str) -> bool:
        """Does a text say where the repository at work is?"""
        return self._told.search(text) is not None

    # --- before the worker -----------------------------------------------------------------------

    def build(self, commit: str) -> None:
        """Make the store with what is reachable from a commit."""
        (self.store / "objects" / "pack").mkdir(parents=True)
        self._furnish()
        self._work.mkdir()
        try:
            pipe_git(
                self._home.common_dir,
                ["pack-objects", "--revs", "--stdout", "--quiet", "--delta-base-offset"],
                self.store,
                ["index-pack", "--stdin"],
                stdin=f"{commit}\n".encode(),
            )
        except GitFailed as error:
            raise as_unwritable(error, self.store) or RepositoryError(
                f"the history of {commit[:12]} can't be copied for a worker in seclusion: {error}",
                hint="In a partial clone fetch all of it: git fetch --refetch --no-filter",
            ) from error

    def _furnish(self) -> None:
        """All of a git directory but the objects, as we want it."""
        (self.store / "refs" / "heads").mkdir(parents=True)
        (self.store / "info").mkdir()
        write_whole(self.store / "HEAD", b"ref: refs/heads/none\n")
        self._write_config()
        for name in ("exclude", "attributes"):
            with contextlib.suppress(OSError):
                shutil.copyfile(self._home.common_dir / "info" / name, self.store / "info" / name)
        with contextlib.suppress(FileNotFoundError):
            # Where the history of the repository ends, that of the worker ends as well.
            shutil.copyfile(self._home.common_dir / "shallow", self.store / "shallow")

    def _write_config(self) -> None:
        place = self.store / "config"
        write_whole(place, _CONFIG)
        config = pygit2.Config(str(place))
        for key, value in self._home.own_config():
            wanted = key.startswith(_SECTIONS) or key in _KEYS
            if wanted and value is not None and not self.is_told_by(value):
                config.set_multivar(key, "^$", value)

    def worktree(self) -> Worktree:
        """The worktree, with what is known of it from disk alone."""
        try:
            lock = os.open(self._work / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except FileNotFoundError as error:
            raise RunFault("the worker removed its worktree") from error
        return Worktree(Repo.open(self.store), self._work, lock)

    @property
    def _admin(self) -> Path:
        return self.store / "worktrees" / f"aynig-{self._work.name}"

    def signature(self) -> tuple[str, str] | None:
        """Run and commit that it was made for; None where it was not whole yet."""
        if not (self._work / "lock").exists() or not (self.store / "config").exists():
            return None
        self._restore()
        worktree = self.worktree()
        try:
            return worktree.signature()
        finally:
            worktree.close()

    # --- after the worker ------------------------------------------------------------------------

    def harvest(self, commit: str, tree: str) -> Harvest:
        """What lies in the worktree, its objects brought home."""
        self._restore()
        # Opened anew: what the worker may have put into the store is out of it now, and what an
        # earlier handle remembers of it as well.
        worktree = self.worktree()
        try:
            harvest = worktree.harvest(commit, tree)
        finally:
            worktree.close()
        if harvest.changed or harvest.head != commit:
            self._bring_home(harvest, commit)
        return harvest

    def _restore(self) -> None:
        """Throw away all that the worker could have changed but objects, index and files.

        Refs, settings, hooks, alternates, replacements and caches of history: whatever git of ours
        would obey or believe. Raises RunFault.
        """
        objects = self.store / "objects"
        if not is_folder(objects) or not is_folder(self._admin):
            raise RunFault("the worker removed its repository")
        head = self._head()
        for folder, kept in (
            (self.store, _KEPT_IN_STORE),
            (self.store / "worktrees", frozenset({self._admin.name})),
        ):
            for entry in folder.iterdir():
                if entry.name not in kept:
                    discard(entry, self.path)
        discard(objects / "info", self.path)
        pack = objects / "pack"
        if is_folder(pack):
            for entry in pack.iterdir():
                if entry.suffix not in (".pack", ".idx"):
                    discard(entry, self.path)
        else:
            discard(pack, self.path)
        self._furnish()
        ensure_small(self._admin / "commondir", _ADMIN_LINK, self.path)
        discard(self._admin / "config.worktree", self.path)
        if head is not None:
            ensure_small(self._admin / "HEAD", f"{head}\n", self.path)

    def _head(self) -> str | None:
        """The commit that the worker was at, also on a branch of its own; None: nobody can tell."""
        text = (read_small(self._admin / "HEAD") or "").strip()
        for _ in range(_REFS_FOLLOWED):
            if _OID.fullmatch(text):
                return text
            ref = text.removeprefix("ref:").strip()
            if not text.startswith("ref:") or not is_ref(ref):
                return None
            text = (read_small(self.store / ref) or self._packed(ref) or "").strip()
        return None

    def _packed(self, ref: str) -> str | None:
        lines = (read_small(self.store / "packed-refs") or "").splitlines()
        pairs = [line.partition(" ") for line in lines]
        return next((oid for oid, _, name in pairs if name == ref), None)

    def _bring_home(self, harvest: Harvest, commit: str) -> None:
        """Have the objects of a harvest in the repository, every one hashed again by git."""
        home = self._home.common_dir
        tips = [harvest.head, *([harvest.tree] if harvest.changed else [])]
        wanted = "".join(f"{oid}\n" for oid in (*tips, f"^{commit}"))
        try:
            pipe_git(
                self.store,
                ["pack-objects", "--revs", "--stdout", "--quiet"],
                home,
                ["unpack-objects", "-q"],
                stdin=wanted.encode(),
            )
        except GitFailed as error:
            raise as_unwritable(error, home / "objects") or _unusable(str(error)) from error
        # Not what the store calls by these names, but what came: as git does after a fetch.
        done = run_git(
            home,
            ["rev-list", "--objects", "--quiet", "--stdin"],
            stdin=wanted.encode(),
        )
        if done.returncode:
            raise _unusable(reason(done.stderr))


def _unusable(why: str) -> RunFault:
    return RunFault(f"the objects that the worker left are not whole: {why}")
