"""Ref locks that a crash left behind: announced before they are taken, found by a successor.

git takes its locks back when only we are killed. When git is killed as well (a whole control
group, the machine), `<ref>.lock` stays and git refuses that ref for ever (design section 5). A
lock file does not say whose it is, the journal does.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pygit2

from aynig.git.disk import mark_of
from aynig.git.repo import Repo
from aynig.model import Holder
from aynig.processes import start_time

# How long a lock of somebody else is waited for, in milliseconds: a `git gc` holds
# packed-refs.lock for as long as it writes that file.
LOCK_WAIT = 2000
# Time stamps of files are this coarse at the most on the file systems of today, in nanoseconds.
_FRESH = 50_000_000
# How often, and how many seconds apart, it is looked whether a git is still at work.
_LOOKS, _PAUSE = 10, 0.05
# The arguments by which a git of ours is known: what it locks is announced.
OUR_GIT = ("update-ref", "-m", "aynig", "--stdin", "-z")
_OUR_MARK = "\0".join(OUR_GIT).encode()
# Programs of git's that live for long and lock no refs.
_LOCKLESS = (b"fsmonitor--daemon", b"credential-cache", b"cat-file")
# Those that only ask a remote or give it something, as ours do in a mirror all the time.
_OUTWARD = (
    b"\0push\0", b"\0ls-remote\0", b"\0send-pack\0", b"\0pack-objects\0", b"remote-http",
)  # fmt: skip
# Where git makes lock files in a git directory.
_LOCKED = ("*.lock", "refs/**/*.lock", "objects/*.lock", "objects/info/**/*.lock")


@dataclass(frozen=True, slots=True)
class StaleLock:
    """A lock file that a dead process of ours left behind."""

    path: Path
    ref: str
    # Had its git begun to set refs? Then it is the rest of a transaction that was decided.
    decided: bool = False


class LockJournal:
    """Names the refs that one runner is locking now, and what it will set them to."""

    def __init__(self, folder: Path, holder: Holder) -> None:
        self._path = folder / f"{holder.pid}-{holder.runner[-8:]}"
        self._holder = asdict(holder)
        self._fd: int | None = None

    @contextlib.contextmanager
    def announcing(self, targets: Sequence[tuple[str, str | None]], git: int) -> Iterator[None]:
        """Around a transaction of the git process `git`: refs, and the oids they will get.

        An oid of None announces a deletion.
        """
        if self._fd is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self._path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        record = {
            "holder": self._holder,
            "git": git,
            "git_started": _started(git),
            "targets": targets,
        }
        data = json.dumps(record).encode() + b"\n"
        os.pwrite(self._fd, data, 0)
        os.ftruncate(self._fd, len(data))
        yield
        os.ftruncate(self._fd, 0)

    def solitude(self) -> int | None:
        """A value that stays the same while no other runner of the repository comes or goes.

        None where there is another one, or where it can't be told. A runner's journal is there
        before its first transaction and until after its last, so between two equal values nobody
        else has changed a lease or answered.
        """
        folder = self._path.parent
        try:
            changed = folder.stat().st_mtime_ns
            alone = [entry.name for entry in folder.iterdir()] == [self._path.name]
        except OSError:
            return None
        # A time stamp that young may stand for a second change as well.
        return changed if alone and time.time_ns() - changed > _FRESH else None

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
            self._path.unlink(missing_ok=True)


# One git serves many transactions.
_started = functools.lru_cache(maxsize=64)(start_time)


def find_stale_locks(
    repo: Repo, is_alive: Callable[[Holder], bool | None], pid_alive: Callable[[int], bool]
) -> list[StaleLock]:
    """The locks that dead runners of this repository announced and left, and no others.

    Only where the runner and its git are both dead, and where the lock holds what that git would
    have written. Journals of the dead that left no lock are removed.
    """
    found: list[StaleLock] = []
    announced: set[str] = set()
    for path in _entries(repo.home / "locks"):
        record, written = _read(path)
        if record is None:
            # Empty between two transactions, half a line after a crash of the machine.
            if time.time() - written > 60 and not pid_alive(_leading_number(path.name)):
                path.unlink(missing_ok=True)
            continue
        if is_alive(Holder(**record["holder"])) is not False or _git_alive(record, pid_alive):
            announced |= _refs_of(record)
            continue
        left = list(_left_locks(repo, record["targets"], written))
        found += left
        # A lock that could not be judged because some git is at work is looked at again.
        if not left and not _lies_locked(repo, record["targets"]):
            path.unlink(missing_ok=True)
    return [lock for lock in found if lock.ref not in announced]


def clear_private_locks(repo: Repo, folders: Iterable[Path]) -> list[Path]:
    """Remove the locks that nobody announced, in git directories that only we work in; which ones.

    Those of a git that was killed at a fetch, a packing or the like. Only where no git is at work
    in `repo`, which shares the objects of all `folders`.
    """
    # Found first and judged then: whose owner ends in between are gone.
    found = {
        path: mark
        for folder in folders
        for pattern in _LOCKED
        for path in folder.glob(pattern)
        if (mark := mark_of(path)) is not None
    }
    announced = {repo.common_dir / f"{ref}.lock" for ref in _announced(repo)}
    left = {path: mark for path, mark in found.items() if path not in announced}
    if not left or not _is_quiet(repo, _LOCKLESS + _OUTWARD):
        return []
    removed = [path for path, mark in left.items() if mark_of(path) == mark]
    for path in removed:
        path.unlink(missing_ok=True)
    return removed


def _announced(repo: Repo) -> set[str]:
    """The refs that are locked in a transaction now, or were when a runner died.

    Of those `find_stale_locks` knows more.
    """
    records = [_read(path)[0] for path in _entries(repo.home / "locks")]
    return {ref for record in records if record is not None for ref in _refs_of(record)}


def abandoned_locks(
    repo: Repo, targets: Sequence[tuple[str, str | None]], began: float
) -> list[StaleLock]:
    """The locks that a git of this process left when it was killed in a transaction just now."""
    announced: set[str] = set()
    for path in _entries(repo.home / "locks"):
        record, _ = _read(path)
        if record is not None and record["holder"]["pid"] != os.getpid():
            announced |= _refs_of(record)
    return [lock for lock in _left_locks(repo, targets, began) if lock.ref not in announced]


def clear_stale_locks(locks: Iterable[StaleLock]) -> None:
    """Remove what `find_stale_locks` found, so that of each transaction all happens or nothing.

    git writes and checks everything before it renames the first lock into place: when one ref has
    its new value, the other locks only wait for the same.
    """
    for lock in locks:
        if lock.decided:
            with contextlib.suppress(FileNotFoundError):
                lock.path.rename(str(lock.path).removesuffix(".lock"))
        else:
            lock.path.unlink(missing_ok=True)


def _left_locks(
    repo: Repo, targets: Sequence[Sequence[str | None]], written: float
) -> Iterator[StaleLock]:
    """What a git that is dead now left of a transaction that was announced at `written`."""
    wanted = [(ref or "", new or "") for ref, new in targets]
    # git locks HEAD as well when it names one of the branches, and packed-refs for a deletion.
    wanted.append(("HEAD", ""))
    if any(new is None for _, new in targets):
        wanted.append(("packed-refs", ""))
    decided = any(new and repo.read_ref(ref) == new for ref, new in wanted)
    latest = written + len(wanted) * LOCK_WAIT / 1000 + 1
    for ref, new in wanted:
        path = repo.common_dir / f"{ref}.lock"
        with contextlib.suppress(OSError):
            taken = path.stat().st_mtime
            content = path.read_bytes().strip().decode("ascii", "replace")
            # An oid of ours is written by nobody else. Before it is written, and where nothing
            # will be, only the time tells, and that no git is at work that could be the owner.
            ours = content == new if content else written - 1 <= taken <= latest
            if ours and (content or _is_quiet(repo)):
                yield StaleLock(path, ref, decided and bool(content))


def _read(path: Path) -> tuple[dict[str, Any] | None, float]:
    try:
        written = path.stat().st_mtime
        record = json.loads(path.read_bytes() or b"null")
        if record is not None:
            Holder(**record["holder"])
            int(record["git"])
            list(record["targets"])
    except OSError:
        return None, time.time()
    except (ValueError, KeyError, TypeError):
        return None, written
    return record, written


def _refs_of(record: dict[str, Any]) -> set[str]:
    refs = {ref for ref, _ in record["targets"]} | {"HEAD"}
    return refs | {"packed-refs"} if None in dict(record["targets"]).values() else refs


def _git_alive(record: dict[str, Any], pid_alive: Callable[[int], bool]) -> bool:
    """A pid is used again: the start time tells whether it is the same process."""
    pid, started = int(record["git"]), record.get("git_started")
    return pid_alive(pid) and (not started or start_time(pid) == started)


def _lies_locked(repo: Repo, targets: Sequence[Sequence[str | None]]) -> bool:
    return any((repo.common_dir / f"{ref}.lock").exists() for ref, _ in targets)


def is_at_rest(repo: Repo) -> bool:
    """Is no git at work in a repository whose locks nobody announced, as far as one may see?"""
    return not _is_git_at_work(repo, _LOCKLESS)


def _is_quiet(repo: Repo, lockless: Sequence[bytes] = _LOCKLESS) -> bool:
    """Is no git at work, at the latest in a moment? Most of them only read, and end at once."""
    for _ in range(_LOOKS):
        if not _is_git_at_work(repo, lockless):
            return True
        # Other people's processes tell nobody when they end.
        time.sleep(_PAUSE)
    return False


def _is_git_at_work(repo: Repo, lockless: Sequence[bytes]) -> bool:
    """Is there a git process in this repository whose locks nobody announced?"""
    for entry in _entries(Path("/proc")):
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if not (entry / "comm").read_bytes().startswith(b"git"):
                continue
            command = (entry / "cmdline").read_bytes()
            if _OUR_MARK in command or any(word in command for word in lockless):
                continue
            if os.fsencode(repo.common_dir) in command or _works_in(repo, entry):
                return True
    return False


def _works_in(repo: Repo, process: Path) -> bool:
    environment = (process / "environ").read_bytes()
    if b"GIT_DIR=" + os.fsencode(repo.common_dir) in environment:
        return True
    found = pygit2.discover_repository(os.fsdecode((process / "cwd").readlink()))
    return found is not None and Path(found).is_relative_to(repo.common_dir)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _leading_number(name: str) -> int:
    head = name.partition("-")[0]
    return int(head) if head.isdigit() else 0
