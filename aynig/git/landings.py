"""An answer lands in a working tree of a person: files, branch and index go forward together.

The index lock is held all the while, so that no git command of the person's sees the one without
the other. Files first, then the ref, then the index. What a crash leaves half done is finished or
undone by the next start; both go by what the files hold, never by what they should hold, so that
nothing of a person's is taken for ours.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pygit2

from aynig.errors import GitFailed
from aynig.git.checkouts import BEFORE_AN_ANSWER, Checkout, DirtyWorktree, has_no_files, obstacle
from aynig.git.command import git_text, reason, run_git
from aynig.git.disk import copy_file, is_folder, read_small
from aynig.git.repo import Repo
from aynig.model import Holder
from aynig.processes import kill_marked, start_time, this_holder

_GITLINK = 0o160000
# How often a git that was killed is started again.
_TRIES = 5
_REFRESH = ["update-index", "-q", "--refresh"]
_REGULAR = (0o100644, 0o100755)


@dataclass(frozen=True, slots=True)
class _Entry:
    mode: int
    oid: str


# Path in the tree: what lies there before and after, None for nothing.
_Changes = Mapping[str, tuple[_Entry | None, _Entry | None]]


@dataclass(frozen=True, slots=True)
class _Files:
    """The files of one landing in a git directory; their names tell them from all others."""

    git_dir: Path
    nonce: str

    @property
    def index(self) -> Path:
        return self.git_dir / "index"

    @property
    def lock(self) -> Path:
        return self.git_dir / "index.lock"

    @property
    def aside(self) -> Path:
        """The index as it will be."""
        return self.git_dir / f"aynig-index-{self.nonce}"

    @property
    def is_locked(self) -> bool:
        """Is the index lock ours?"""
        return read_small(self.lock) == self.nonce

    def take_lock(self) -> None:
        """Raises FileExistsError where another git command holds it.

        Linked into place with its content, so that at no instant it could be anybody's.
        """
        own = self.git_dir / f"aynig-lock-{self.nonce}"
        own.write_text(self.nonce)
        try:
            os.link(own, self.lock)
        finally:
            own.unlink()

    def clear(self) -> None:
        for ending in ("", ".lock", ".new"):
            self.aside.with_name(self.aside.name + ending).unlink(missing_ok=True)
        (self.git_dir / f"aynig-lock-{self.nonce}").unlink(missing_ok=True)
        if self.is_locked:
            self.lock.unlink(missing_ok=True)


@contextlib.contextmanager
def landing(repo: Repo, checkout: Checkout, old: str, new: str) -> Iterator[None]:
    """Fast-forward a working tree from `old` to `new` around the ref change in the block.

    Whatever the block raises, the files go back. What a crash leaves is mended by
    `recover_landings`. Where several working trees have the branch, all of them follow.

    Raises DirtyWorktree where there is uncommitted work or a file in the way; then nothing was
    changed and the block was not run.
    """
    found = obstacle(checkout, BEFORE_AN_ANSWER)
    if found:
        raise DirtyWorktree(found)
    changes = _changes(repo, old, new)
    with contextlib.ExitStack() as stack:
        for each in (checkout, *checkout.others):
            if not has_no_files(each):
                stack.enter_context(_landing_in(repo, each, old, new, changes))
        yield


@contextlib.contextmanager
def _landing_in(
    repo: Repo, checkout: Checkout, old: str, new: str, changes: _Changes
) -> Iterator[None]:
    blocking = _in_the_way(checkout.work_tree, changes)
    if blocking:
        raise DirtyWorktree(f"{checkout.where}, where {blocking} is in the way: move it")
    files = _Files(checkout.git_dir, uuid.uuid4().hex)
    journal = _write_journal(repo, checkout, files, old, new)
    try:
        try:
            files.take_lock()
        except FileExistsError:
            raise DirtyWorktree(
                f"{checkout.where}, where another git command holds index.lock"
            ) from None
        copy_file(files.index, files.aside)
        try:
            _move_files(checkout, files.aside, old, new)
            yield
        except BaseException:
            _put_back_surely(checkout, changes)
            raise
        # Not by way of index.lock, as git does it: after a crash nobody could tell what it holds.
        files.aside.replace(files.index)
    finally:
        files.clear()
        journal.unlink(missing_ok=True)


def _changes(repo: Repo, old: str, new: str) -> _Changes:
    found: dict[str, tuple[_Entry | None, _Entry | None]] = {}
    before: object = repo.handle[repo.commit(old).tree]
    after: object = repo.handle[repo.commit(new).tree]
    assert isinstance(before, pygit2.Tree)
    assert isinstance(after, pygit2.Tree)
    for delta in before.diff_to_tree(after).deltas:
        path = os.fsdecode(delta.new_file.raw_path or delta.old_file.raw_path or b"")
        first, last = found.get(path, (None, None))
        # A file that becomes a link is told of twice, as deleted and as added.
        found[path] = (_entry(delta.old_file) or first, _entry(delta.new_file) or last)
    return found


def _entry(file: pygit2.DiffFile) -> _Entry | None:
    return _Entry(int(file.mode), str(file.id)) if int(file.mode) else None


def _in_the_way(work_tree: Path, changes: _Changes) -> str:
    """A file of the person's where the answer brings one, ignored ones too; empty for none.

    git itself overwrites ignored files (git-merge(1), --overwrite-ignore).
    """
    for path, (before, after) in changes.items():
        if before is not None or after is None or after.mode == _GITLINK:
            continue
        place = work_tree / path
        if not os.path.lexists(place):
            continue
        if not is_folder(place):
            return path
        for root, _, names in os.walk(place):
            for name in names:
                inside = str((Path(root) / name).relative_to(work_tree))
                if changes.get(inside, (None, None))[0] is None:
                    return inside
    return ""


def _move_files(checkout: Checkout, index: Path, old: str, new: str) -> None:
    """What `git merge --ff-only` does to files: refuses before the first where one is in the way.

    Files that were put back, or only touched, are older or younger than the index says; git looks
    at their contents only when it is asked to. Reference: git-read-tree(1), two tree merge.
    """
    move = ["read-tree", "-m", "-u", old, new]
    done = _with_index(checkout, index, move)
    if done.returncode > 0:
        _with_index(checkout, index, _REFRESH)
        done = _with_index(checkout, index, move)
    if done.returncode:
        raise DirtyWorktree(
            f"{checkout.where}, where git can't update the files: {reason(done.stderr)}"
        )


def _with_index(
    checkout: Checkout, index: Path, args: list[str]
) -> subprocess.CompletedProcess[bytes]:
    env = {"GIT_INDEX_FILE": str(index)}
    return run_git(checkout.git_dir, args, work_tree=checkout.work_tree, env=env)


# --- going back ------------------------------------------------------------------------------


def _put_back_surely(checkout: Checkout, changes: _Changes) -> None:
    """Once more where a git of it was killed: it goes by what the files hold, so it may be cut off.

    Without this, what killed the git that moved the ref, and now this one, would leave a person
    with changes that nobody made.
    """
    for left in reversed(range(_TRIES)):
        try:
            _put_back(checkout, changes)
        except GitFailed:
            if not left:
                raise
        else:
            return


def _put_back(checkout: Checkout, changes: _Changes) -> None:
    """Bring the files that are at the new state, or on the way there, back to the old one.

    A file that is neither is a person's, edited since: it is left alone.
    """
    moved = _moved(checkout, changes)
    for path in moved:
        place = checkout.work_tree / path
        with contextlib.suppress(OSError):
            place.unlink()
        _remove_empty_folders(checkout.work_tree, Path(path).parent)
    before = {path: old for path in moved if (old := changes[path][0]) is not None}
    for path in before:
        _remove_folders_without_files(checkout.work_tree / path)
    present = [path for path in before if not os.path.lexists(checkout.work_tree / path)]
    with _temporary_index(checkout, {path: before[path] for path in present}) as env:
        git_text(
            checkout.git_dir,
            ["checkout-index", "-z", "--stdin"],
            work_tree=checkout.work_tree,
            env=env,
            stdin=_lines(present),
        )


def _moved(checkout: Checkout, changes: _Changes) -> list[str]:
    after = {path: new for path, (_, new) in changes.items() if new is not None}
    with _temporary_index(checkout, after) as env:
        # An index that was never in touch with the files takes all of them for changed; the exit
        # status is that some are.
        done = run_git(checkout.git_dir, _REFRESH, work_tree=checkout.work_tree, env=env)
        if done.returncode not in (0, 1):
            raise GitFailed(f"the files can't be compared: {reason(done.stderr)}")
        text = git_text(
            checkout.git_dir,
            ["diff-files", "-z", "--name-only"],
            work_tree=checkout.work_tree,
            env=env,
        )
        different = set(text.split("\0"))
    left_out = _left_out(checkout)
    found = []
    for path, (before, new) in changes.items():
        place = checkout.work_tree / path
        if path in left_out or _GITLINK in (before and before.mode, new and new.mode):
            continue
        if not os.path.lexists(place) or is_folder(place):
            # A folder is what a file gave way to, or was about to.
            if before is not None:
                found.append(path)
        else:
            part = any(each and _is_part(checkout, place, each) for each in (before, new))
            if part or (new is not None and path not in different):
                found.append(path)
    return found


def _is_part(checkout: Checkout, place: Path, new: _Entry) -> bool:
    """Was git stopped while it wrote this file?"""
    if new.mode not in _REGULAR or place.is_symlink() or not place.is_file():
        return False
    done = run_git(checkout.git_dir, ["cat-file", "blob", new.oid])
    size = place.stat().st_size
    return size < len(done.stdout) and done.stdout.startswith(place.read_bytes())


def _left_out(checkout: Checkout) -> set[str]:
    """What a sparse checkout leaves out is no missing file."""
    text = git_text(checkout.git_dir, ["ls-files", "-t", "-z"], work_tree=checkout.work_tree)
    return {line[2:] for line in text.split("\0") if line.startswith("S ")}


@contextlib.contextmanager
def _temporary_index(checkout: Checkout, entries: Mapping[str, _Entry]) -> Iterator[dict[str, str]]:
    place = checkout.git_dir / f"aynig-index-{uuid.uuid4().hex}"
    env = {"GIT_INDEX_FILE": str(place)}
    lines = b"".join(
        b"%o %s\t%s\0" % (entry.mode, entry.oid.encode(), os.fsencode(path))
        for path, entry in entries.items()
    )
    try:
        git_text(checkout.git_dir, ["update-index", "-z", "--index-info"], env=env, stdin=lines)
        yield env
    finally:
        for each in (place, place.with_name(f"{place.name}.lock")):
            each.unlink(missing_ok=True)


def _lines(paths: list[str]) -> bytes:
    return b"".join(os.fsencode(path) + b"\0" for path in paths)


def _remove_empty_folders(work_tree: Path, folder: Path) -> None:
    with contextlib.suppress(OSError):
        while folder != Path():
            (work_tree / folder).rmdir()
            folder = folder.parent


def _remove_folders_without_files(place: Path) -> None:
    if is_folder(place):
        for root, _, _ in os.walk(place, topdown=False):
            with contextlib.suppress(OSError):
                Path(root).rmdir()


# --- after a crash ---------------------------------------------------------------------------


def _write_journal(repo: Repo, checkout: Checkout, files: _Files, old: str, new: str) -> Path:
    record = {
        "holder": asdict(this_holder("")),
        "git_dir": str(checkout.git_dir),
        "work_tree": str(checkout.work_tree),
        "ref": checkout.ref,
        "old": old,
        "new": new,
        "nonce": files.nonce,
    }
    folder = repo.home / "landing"
    folder.mkdir(parents=True, exist_ok=True)
    # Who writes it is in its name: a crash may leave it empty.
    journal = folder / f"{os.getpid()}-{files.nonce}.json"
    journal.write_text(json.dumps(record))
    return journal


def recover_landings(repo: Repo, is_alive: Callable[[Holder], bool | None]) -> list[str]:
    """Finish or undo what crashed landings left half done; a sentence for each.

    The branch decides: at the answer, the index follows; anywhere else the files go back.
    """
    told = []
    for journal in sorted((repo.home / "landing").glob("*.json")):
        try:
            record = json.loads(journal.read_bytes())
            if is_alive(Holder(**record["holder"])) is not False:
                continue
            told += _recover(repo, record)
        except (ValueError, KeyError, TypeError):
            # Cut short by a crash before anything was done, or being written just now.
            if _is_being_written(journal):
                continue
        except (GitFailed, OSError) as error:
            told.append(f"a landing was cut short and can't be mended: {error}")
            continue
        journal.unlink(missing_ok=True)
    return told


def _is_being_written(journal: Path) -> bool:
    pid = journal.name.partition("-")[0]
    if not pid.isdigit() or not start_time(int(pid)):
        return False
    # The number may be another process's by now.
    with contextlib.suppress(OSError):
        return time.time() - journal.stat().st_mtime < 60
    return False


def _recover(repo: Repo, record: Mapping[str, str]) -> list[str]:
    checkout = Checkout(Path(record["work_tree"]), Path(record["git_dir"]), record["ref"])
    files = _Files(checkout.git_dir, record["nonce"])
    if not files.is_locked and not files.aside.exists():
        # It had not begun, or was over.
        files.clear()
        return []
    # The git that moves files outlives us, being in a session of its own.
    kill_marked(str(files.aside), variable="GIT_INDEX_FILE")
    if not files.is_locked:
        # A person took our lock away.
        try:
            files.take_lock()
        except FileExistsError:
            raise GitFailed(f"another git command holds {files.lock}") from None
    tip = repo.read_ref(checkout.ref)
    landed = tip is not None and repo.descends(tip, record["new"])
    if not landed:
        _put_back(checkout, _changes(repo, record["old"], record["new"]))
    elif files.aside.exists():
        files.aside.replace(files.index)
    files.clear()
    way = "finished" if landed else "undone"
    return [f"a landing in {checkout.work_tree} was cut short and is {way}"]
