"""A private bare repository in which the branches and leases of a remote are as they last were.

Everything that reads (scan, plan, status, the story) reads it like any repository. What is written
goes to the remote first, guarded by what was seen, and only then here (`sharedrefs`). It is a
cache: whatever is wrong in it is mended by the next look, and losing it loses nothing but the work
that could not be pushed yet (`refs/aynig/rescue/`).
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pygit2

from aynig.errors import (
    AynigError,
    GitFailed,
    RefBusy,
    RefMoved,
    Refused,
    RepositoryError,
    as_unwritable,
)
from aynig.git.address import Address, redact
from aynig.git.command import git_text, reason, run_git
from aynig.git.disk import discard, empty_trash, write_whole
from aynig.git.line import Line, sweep
from aynig.git.locks import clear_private_locks
from aynig.git.mending import PLAIN_CONFIG, mend_copy
from aynig.git.refs import RefEdit, RefStore, pack_many_refs
from aynig.git.remote import TIMEOUT, Heads, Remote
from aynig.git.repo import Repo
from aynig.git.snapshot import RefReader
from aynig.model import BESIDE, HEADS, LEASES
from aynig.processes import is_running
from aynig.text import shell_word

# What of a clone's own settings counts for commits and files made on its behalf.
_SECTIONS = ("user.", "author.", "committer.", "filter.", "lfs.")
_KEYS = frozenset(
    {
        "core.autocrlf", "core.eol", "core.fsync", "core.fsyncmethod", "core.fsyncobjectfiles",
        "core.sharedrepository", "core.filemode", "core.symlinks", "core.ignorecase",
    }
)  # fmt: skip
_MIRRORED = (HEADS, *BESIDE)
# Of a branch or lease that the server has no more of than the name.
BROKEN_THERE = (
    "the remote can't read it, and may take no push before it is mended: `aynig doctor` in the "
    "server's repository says how"
)
# As many loose objects are worth a packing: a renewal or an answer of others leaves a few.
_MANY_LOOSE = 3000
# Old leases are named by nothing. What is worth keeping here has a ref or a worktree.
_PACKING = (
    "-c", f"gc.auto={_MANY_LOOSE}", "-c", "gc.autoDetach=false", "-c", "gc.pruneExpire=1.day.ago",
)  # fmt: skip


class Mirror:
    """The mirror of one remote. Safe to share between threads and processes."""

    def __init__(
        self,
        repo: Repo,
        remote: Remote,
        store: RefStore,
        *,
        reader: Callable[[Path, tuple[str, ...]], RefReader] = RefReader,
    ) -> None:
        """`reader` is what looks at the refs of a git directory."""
        self.repo = repo
        self.remote = remote
        self._store = store
        self._mutex = threading.Lock()
        self._reader = reader(repo.common_dir, _MIRRORED)
        self._leases = reader(remote.line.path, BESIDE)
        self._heads: Heads | None = None
        self._said_leases: Mapping[str, str] = {}
        self._broken_leases: tuple[str, ...] = ()
        self._fresh_leases: dict[str, str] = {}
        # What is being pushed at this moment, and here as well as soon as the remote has taken it.
        self._under_way: dict[str, str | None] = {}
        # Is all as the remote last said? Not so where a process changed a ref in between.
        self._clean = False
        self._asked_default = False
        # When the remote was last asked, on the monotonic clock.
        self.looked = float("-inf")

    def sync(self, *, leases: bool) -> bool:
        """Look at the remote and fetch what changed; did anything change here?

        With `leases` the lease refs as well. Raises Unreachable, Refused, Unwritable, RefBusy.
        """
        with self._mutex:
            try:
                return self._sync(leases=leases)
            except (Refused, RefBusy, RepositoryError):
                # git's words do not tell whose repository is out of order, ours or the remote's.
                if not self._mend():
                    raise
            return self._sync(leases=leases)

    def _sync(self, *, leases: bool) -> bool:
        # Before the remote is asked: what another thread or process puts here meanwhile is
        # younger than what the remote says now, and stays.
        before = self._before()
        heads = self.remote.heads(self._heads)
        self.looked = time.monotonic()
        if heads is self._heads and self._clean and not leases:
            return False
        changed, whole = self._news(heads.refs, before)
        now: dict[str, str | None] = dict(changed)
        # Of one that is broken there nobody knows where it will be.
        gone = [r for r in _below(before, HEADS) if r not in heads.refs and r not in heads.broken]
        now.update(dict.fromkeys(gone))
        self._mind_default(heads)
        # Of a branch that is gone, the lease ref still tells what was answered on it.
        if now or leases:
            tips = self._tips(before, changed)
            self.remote.line.begin(tips[:1])
            self._broken_leases = self.remote.fetch(changed, tips, leases=True)
            current = self._said_leases = self._leases.look().refs
            leased = {*current, *_below(before, *BESIDE)}.difference(self._broken_leases)
            now.update({ref: current.get(ref) for ref in leased})
        for ref in _below(now, LEASES):
            oid = now[ref]
            if oid is not None and before.get(ref) != oid:
                self._fresh_leases[ref] = oid
        self._heads, self._clean = heads, self._apply(before, now) and whole
        if len(changed) > 1000:
            pack_many_refs(self.repo)
        return any(before.get(ref) != oid for ref, oid in now.items())

    def bring(self, ref: str, oid: str) -> None:
        """Fetch a commit that a ref of the remote keeps which is not mirrored. Raises as `sync`."""
        with self._mutex:
            if self.remote.read([ref]).get(ref) == oid:
                self.remote.fetch({ref: oid}, [])

    def below(self, prefix: str) -> Mapping[str, str]:
        """The refs of the remote below a prefix that is not mirrored, as they are at this moment.

        What they point at is here then. Raises as `sync`.
        """
        with self._mutex:
            self.remote.fetch_below(prefix)
            return RefReader(self.remote.line.path, (prefix,)).look().refs

    def take(self, clone: Repo, oid: str) -> None:
        """Have a commit of the clone here as well, with its history. Raises GitFailed."""
        if self._reaches(oid):
            return
        args = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head"]
        done = run_git(
            self.repo.common_dir,
            [*args, "--no-auto-maintenance", "--", str(clone.common_dir), oid],
            settings=("-c", "protocol.version=2"),
        )
        if done.returncode:
            remote = shell_word(self.remote.name)
            raise GitFailed(
                f"{oid[:12]} can't be taken over from {clone.place}: {reason(done.stderr)}",
                hint=f"Push it first: git push {remote} {oid}:refs/heads/BRANCH",
            )

    def _reaches(self, oid: str) -> bool:
        """Is a commit in the history of what is mirrored, and so whole?"""
        return self.repo.has_commit(oid) and self.repo.is_reached(oid, HEADS)

    def said(self, ref: str) -> str | None:
        """What the remote said of a branch or lease ref when it was asked last."""
        if ref.startswith(HEADS):
            return self._heads.refs.get(ref) if self._heads is not None else None
        return self._said_leases.get(ref)

    def take_fresh_leases(self) -> list[str]:
        """What looks have found lease refs set to since the last call."""
        fresh = []
        # Without the mutex: whoever holds that may be waiting for the remote.
        while self._fresh_leases:
            fresh.append(self._fresh_leases.popitem()[1])
        return fresh

    @property
    def broken(self) -> tuple[str, ...]:
        """The branches and leases that the remote could not read itself when it was asked last."""
        heads = self._heads.broken if self._heads is not None else ()
        return (*heads, *self._broken_leases)

    @contextlib.contextmanager
    def pushing(self, edits: Iterable[RefEdit]) -> Iterator[None]:
        """While the block runs, a look that finds these on the remote leaves them to `landed`.

        Their objects are here, and to fetch them would cost as much as a push does.
        """
        mine = {edit.ref: edit.new for edit in edits if edit.old != edit.new}
        self._under_way |= mine
        try:
            yield
        finally:
            for ref in mine:
                self._under_way.pop(ref, None)

    def landed(self, edits: Iterable[RefEdit]) -> None:
        """Follow a push that the remote has taken. Never fails: the next look finds it, too."""
        done = [e for e in edits if e.old != e.new and e.ref.startswith(_MIRRORED)]
        self._clean = False
        try:
            self._set([RefEdit(e.ref, e.old, e.new) for e in done])
        except RefMoved:
            # One that is already there, or is past it by now, must not keep the others back.
            self._set_each(done)
        except (AynigError, OSError):
            return

    def close(self) -> None:
        """Give back what belongs to this process alone."""
        self.remote.line.close()
        self._leases.forget()

    def keep_house(self) -> None:
        """Pack what many fetches have left."""
        with self._mutex:
            # What these refs name may go with the packing.
            self.remote.line.forget()
            run_git(
                self.repo.common_dir,
                ["gc", "--auto", "--quiet"],
                settings=_PACKING,
            )

    def clear_locks(self) -> list[Path]:
        """Remove the locks that killed gits have left in the mirror, where no git is at work."""
        return clear_private_locks(self.repo, [self.repo.common_dir])

    # --- here ----------------------------------------------------------------------------------

    def _before(self) -> Mapping[str, str]:
        look = self._reader.look()
        if look.broken and self._mend():
            look = self._reader.look()
        return look.refs

    def _mend(self) -> bool:
        """Undo what a crash left here; was there anything?"""
        locks = self.remote.line.unlock(), bool(self.clear_locks())
        return any([mend_copy(self.repo.common_dir), *locks])

    def _news(
        self, there: Mapping[str, str], before: Mapping[str, str]
    ) -> tuple[dict[str, str], bool]:
        """What the remote has that is not here, less our own pushes, which nobody need fetch.

        Also, whether that is all: a push that is still under way may yet fail to follow here.
        """
        changed = {ref: oid for ref, oid in there.items() if before.get(ref) != oid}
        if not changed:
            return changed, True
        mine = {ref for ref, oid in self._under_way.copy().items() if changed.get(ref) == oid}
        # Read again, and after that: what was under way when the remote was asked is here by now.
        here = self._before()
        news = {
            ref: oid for ref, oid in changed.items() if ref not in mine and here.get(ref) != oid
        }
        return news, not mine

    def _tips(self, before: Mapping[str, str], changed: Mapping[str, str]) -> list[str]:
        """What the new commits are most likely built on."""
        tips = [before[ref] for ref in changed if ref in before]
        main = before.get(self.repo.head_ref() or "")
        return [*([main] if main else []), *tips]

    def _apply(self, before: Mapping[str, str], now: Mapping[str, str | None]) -> bool:
        """Set refs here from what they were to what they are there; False where one moved."""
        edits = [RefEdit(ref, before.get(ref), oid) for ref, oid in now.items()]
        edits = [edit for edit in edits if edit.old != edit.new]
        clean = True
        while edits:
            try:
                self._set(edits)
            except RefBusy:
                # Another process of ours is at the same work, or a dead one has left its lock. The
                # next look finds what is left; what is not locked must not wait for it.
                self._mend()
                self._set_each(edits)
                return False
            except RefMoved as error:
                clean = False
                left = [edit for edit in edits if edit.ref != error.ref]
                if len(left) == len(edits):
                    return False
                edits = left
                continue
            break
        return clean

    def _set_each(self, edits: Iterable[RefEdit]) -> None:
        for edit in edits:
            with contextlib.suppress(AynigError, OSError):
                self._set([edit])

    def _set(self, edits: Iterable[RefEdit]) -> None:
        edits = list(edits)
        # First, because a branch may be where another one had its folder.
        self._store.delete(edit for edit in edits if edit.new is None)
        self._store.commit([edit for edit in edits if edit.new is not None])

    # --- the default branch ----------------------------------------------------------------------

    def _mind_default(self, heads: Heads) -> None:
        """Scripts come from the branch that HEAD of the remote names: so HEAD is the same here."""
        lost = self.repo.head_ref() not in heads.refs and heads is not self._heads
        if self._asked_default and not lost:
            return
        self._asked_default = True
        default = self.remote.default_branch() if heads.refs else None
        if default is not None and default != self.repo.head_ref():
            git_text(self.repo.common_dir, ["symbolic-ref", "HEAD", default])


def _below(refs: Iterable[str], *prefixes: str) -> list[str]:
    return [ref for ref in refs if ref.startswith(prefixes)]


# --- making one ----------------------------------------------------------------------------------


def mirrors_of(clone: Repo) -> list[Path]:
    """The mirrors that there are in a clone, of remotes that it may not have any more."""
    places = (clone.home / "remotes").glob("[!.]*.git")
    return sorted(place for place in places if (place / "HEAD").exists())


def mirror_place(clone: Repo, address: Address) -> Path:
    """Where the mirror of a remote lies in a clone."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", address.name)[:40]
    mark = hashlib.sha1(f"{address.name}\n{address.url}".encode(), usedforsecurity=False)
    return clone.home / "remotes" / f"{plain}-{mark.hexdigest()[:8]}.git"


def open_mirror(clone: Repo, address: Address, *, timeout: float = TIMEOUT) -> tuple[Repo, Remote]:
    """The mirror of a remote of `clone`, made where there is none yet, and the way to the remote.

    `timeout` as for `Remote`. Raises GitFailed, Unwritable.
    """
    place = mirror_place(clone, address)
    try:
        _sweep_half_made(place)
        if not (place / "HEAD").exists():
            _make(clone, place)
        _configure(clone, place, address)
    except OSError as error:
        raise as_unwritable(error, place) or error from error
    repo = _opened(place)
    sweep(repo.home / "lines")
    line, objects = Line(repo.home / "lines"), repo.common_dir / "objects"
    return repo, Remote(line, objects, address, timeout=timeout)


def _opened(place: Path) -> Repo:
    try:
        return Repo.open(place)
    except RepositoryError:
        if not mend_copy(place):
            raise
    return Repo.open(place)


def _make(clone: Repo, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    aside = place.with_name(f".{place.name}.{threading.get_native_id()}")
    try:
        _seed(clone, aside)
        write_whole(aside / "config", PLAIN_CONFIG)
        with contextlib.suppress(FileExistsError, OSError):
            aside.rename(place)
        if not (place / "HEAD").exists():
            raise GitFailed(f"{place} can't be made", hint="Remove what is there.")
    finally:
        discard(aside, place.parent)


def _sweep_half_made(place: Path) -> None:
    """Delete what processes that were killed while they made a mirror have left beside it.

    What is aside carries the number of its thread at the end.
    """
    empty_trash(place.parent)
    aside = [*place.parent.glob(f".{place.name}.*"), *place.glob(".config.*")]
    for path in aside:
        number = path.name.rpartition(".")[2]
        if number.isdigit() and not is_running(int(number)):
            discard(path, place.parent)


def _seed(clone: Repo, aside: Path) -> None:
    """Begin with what the clone has, where that is whole: files are linked, not copied.

    A shallow or partial clone has no whole history to begin with; all is fetched then.
    """
    partial = clone.config_value("extensions.partialclone") or any(
        key.startswith("remote.") and key.endswith(".promisor") for key, _ in clone.config
    )
    if not (clone.common_dir / "shallow").exists() and not partial:
        source = str(clone.common_dir)
        args = ["clone", "--quiet", "--bare", "--no-tags", "--single-branch", "--template="]
        if run_git(None, [*args, source, str(aside)]).returncode == 0:
            return
        shutil.rmtree(aside, ignore_errors=True)
    _run(["init", "--quiet", "--bare", "--template=", str(aside)])


def _run(args: list[str]) -> None:
    done = run_git(None, args)
    if done.returncode:
        failed = GitFailed(f"git {args[0]} failed: {reason(done.stderr)}")
        raise as_unwritable(failed, args[-1]) or failed


def _configure(clone: Repo, place: Path, address: Address) -> None:
    """Give the mirror what the clone says of identities and files; nothing that is secret.

    Written only where it differs: a change while scripts run would be taken for theirs.
    """
    aside = place / f".config.{threading.get_native_id()}"
    write_whole(aside, PLAIN_CONFIG)
    try:
        config = pygit2.Config(str(aside))
        config[f"remote.{address.name}.url"] = address.url
        for key, value in clone.own_config():
            if value is not None and (key.startswith(_SECTIONS) or key in _KEYS):
                # Scripts read this file: `lfs.url` may have a password in it.
                config.set_multivar(key, "^$", redact(value))
        text = aside.read_bytes()
        if text != (place / "config").read_bytes():
            aside.rename(place / "config")
    except pygit2.GitError as error:
        raise GitFailed(f"{place}/config can't be written: {error}") from error
    finally:
        aside.unlink(missing_ok=True)
