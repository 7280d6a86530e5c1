"""The one compare-and-swap: several refs in one transaction, each guarded by what it points at.

It speaks to a long-lived `git update-ref --stdin` (git-update-ref(1)), which measured as fast as
libgit2's transactions, syncs as the user's git is told to, and, when this process is killed,
sees the end of its input and takes its own locks back. libgit2 would leave `<ref>.lock` behind,
and its `create_reference` is not exclusive (design section 5).
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import IO, Protocol

from aynig.errors import GitFailed, RefBusy, RefMoved, as_unwritable
from aynig.git.command import SAFE_SETTINGS, clean_environment, reason, run_git, start_git
from aynig.git.disk import Mark, mark_of
from aynig.git.locks import LOCK_WAIT, OUR_GIT, LockJournal, abandoned_locks, clear_stale_locks
from aynig.git.reffiles import PACKED_REFS, packed_error, packed_fault
from aynig.git.repo import Repo
from aynig.model import Holder
from aynig.processes import OWN

# Loose refs cost 13 times as much to read as packed ones (design section 5).
_MANY_LOOSE = 1000
# A folder that another git has just removed, being empty, is as passing as a lock is.
_BUSY_SIGNS = (b".lock': File exists", b".lock': No such file or directory")
_COMMIT = b"commit\0"
# What git compared with may be past: see `_ready`.
_PACKED_MEANWHILE = b"packed-refs was replaced meanwhile"
# The lock of one ref is held for moments, and all other transactions wait behind this one: of a
# lock that stays, in milliseconds, it is better to hear soon.
_REF_LOCK_WAIT = 300
_LOST = re.compile(
    rb"cannot lock ref '([^\n]+?)': (?:reference already exists"
    rb"|reference is missing but expected|is at [0-9a-f]+ but expected"
    rb"|unable to resolve reference '[^\n]+'$)",
    re.MULTILINE,
)
# git keeps every commit in memory that it was ever asked about: a new process now and then.
_MOST_TRANSACTIONS = 200


@dataclass(frozen=True, slots=True)
class RefEdit:
    """One change of a transaction: from `old` to `new`.

    `old` None: the ref must not exist. `new` None: the ref is deleted. Both the same: the ref is
    only locked and checked.
    """

    ref: str
    old: str | None
    new: str | None


class Refs(Protocol):
    """What writes refs: those of a repository on disk (`RefStore`) or of a remote."""

    @property
    def checks_together(self) -> bool:
        """Is a further check within a transaction cheaper than a look at the ref afterwards?"""

    def commit(self, edits: Sequence[RefEdit]) -> None:
        """Make all changes or none; RefMoved where a ref is not what its edit says."""

    def delete(self, edits: Iterable[RefEdit]) -> None:
        """Delete refs that nobody needs."""

    def solitude(self) -> int | None:
        """Equal values mean that nobody else has written in between; None that others may have."""

    def close(self) -> None:
        """End what runs; a later call starts it again."""


class RefStore:
    """Writes refs of one repository; safe to share between threads, one transaction at a time."""

    # To check another ref within a transaction costs a lock file; to read it afterwards does not.
    checks_together = False

    def __init__(self, repo: Repo, holder: Holder) -> None:
        self._repo = repo
        self._mutex = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._served = 0
        self._packed: Mark | None = None
        self._complaints: IO[bytes] | None = None
        self._journal = LockJournal(repo.home / "locks", holder)
        # What our gits were at, and since when, that were killed and may have left locks.
        self._abandoned: list[tuple[list[tuple[str, str | None]], float]] = []

    def commit(self, edits: Sequence[RefEdit]) -> None:
        """Make all changes or none.

        Raises RefMoved where a ref is not what its edit says, RefBusy where somebody else holds a
        lock for longer than is worth waiting, Unwritable where the disk is full, GitFailed for
        anything else.
        """
        error, killed = self._transact(edits)
        if error == _PACKED_MEANWHILE:
            error, killed = self._transact(edits)
        if killed and not self._is_done(edits):
            error, killed = self._transact(edits)
        if error is not None and not (killed and self._is_done(edits)):
            raise self._explain(edits, error, killed=killed)

    def _transact(self, edits: Sequence[RefEdit]) -> tuple[bytes | None, bool]:
        """One try: what git complained of, None where it did not, and whether it was killed."""
        try:
            return self._transact_once(edits)
        except OSError as error:
            raise as_unwritable(error, self._repo.common_dir) or error from error

    def _transact_once(self, edits: Sequence[RefEdit]) -> tuple[bytes | None, bool]:
        request = b"".join(_request(edits))
        with self._mutex:
            self._clear_abandoned()
            child, began = self._ready(), time.time()
            with self._journal.announcing(_targets(edits), child.pid):
                error = self._exchange(child, request)
                killed = error is not None and child.returncode < 0
                if killed:
                    # It can't take its locks back itself, and nobody else will while we live. As
                    # long as they are announced, a successor will, should we be killed as well.
                    self._abandoned.append((_targets(edits), began))
                    self._clear_abandoned()
        return error, killed

    def _clear_abandoned(self) -> None:
        """Clear the locks of our gits that were killed, as far as it can be told now.

        An empty lock could be another git's that is at work at this moment, such as one of a
        script: such a lock is looked at again with each transaction, until it is gone.
        """
        for left in list(self._abandoned):
            targets, began = left
            clear_stale_locks(abandoned_locks(self._repo, targets, began))
            names = [*(ref for ref, _ in targets), "HEAD", "packed-refs"]
            locks = [f"{self._repo.common_dir}/{name}.lock" for name in names]
            if not any(map(os.path.lexists, locks)):
                self._abandoned.remove(left)

    def delete(self, edits: Iterable[RefEdit]) -> None:
        """Delete refs that nobody needs, in one process of its own.

        Deleting takes the lock of packed-refs, so it stays out of the way of `commit`.
        """
        edits = list(edits)
        if not edits:
            return
        request = b"".join(_request(edits))
        with self._mutex:
            child, began = self._spawn(), time.time()
            with self._journal.announcing(_targets(edits), child.pid):
                child.communicate(request)
                OWN.ended(child.pid)
                if child.returncode < 0:
                    self._abandoned.append((_targets(edits), began))
                    self._clear_abandoned()
            error = self._read_complaints()
        if child.returncode:
            raise self._explain(edits, error)

    def solitude(self) -> int | None:
        """See `LockJournal.solitude`: equal values mean that only we have written in between."""
        return self._journal.solitude()

    def close(self) -> None:
        """End the git process; a later `commit` starts another."""
        with self._mutex:
            self._end()
            self._journal.close()
            if self._complaints is not None:
                self._complaints.close()
                self._complaints = None

    def __del__(self) -> None:
        # A store that was never closed leaves no git behind: it reads the end of its input.
        with contextlib.suppress(Exception):
            self.close()

    def _spawn(self) -> subprocess.Popen[bytes]:
        if self._complaints is None:
            self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `close`
        identity = self._repo.identity()
        environment = clean_environment(
            {"GIT_COMMITTER_NAME": identity.name, "GIT_COMMITTER_EMAIL": identity.email}
        )
        return start_git(
            [
                "git", *SAFE_SETTINGS,
                "-c", f"core.filesRefLockTimeout={_REF_LOCK_WAIT}",
                "-c", f"core.packedRefsTimeout={LOCK_WAIT}",
                f"--git-dir={self._repo.common_dir}",
                *OUR_GIT,
            ],
            env=environment,
            stdout=subprocess.PIPE,
            # A file: a pipe that nobody reads would stop git once its warnings have filled it.
            stderr=self._complaints,
        )  # fmt: skip

    def _ready(self) -> subprocess.Popen[bytes]:
        # git takes packed-refs for unchanged by size, inode and the second: after two packings
        # within one it would compare with values that are past, and let a loser win.
        packed = self._packed_now()
        if self._served >= _MOST_TRANSACTIONS or packed != self._packed:
            self._end()
        self._packed = packed
        if self._child is None:
            self._child, self._served = self._spawn(), 0
        self._served += 1
        return self._child

    def _exchange(self, child: subprocess.Popen[bytes], request: bytes) -> bytes | None:
        """Send one transaction; None when git has committed it, else what git complained."""
        assert child.stdin is not None
        assert child.stdout is not None
        answer = b""
        try:
            request, commit = request.removesuffix(_COMMIT), _COMMIT
            _write_all(child.stdin.fileno(), request)
            while not answer.endswith(b"commit: ok\n"):
                if commit and answer.endswith(b"prepare: ok\n"):
                    if self._packed != self._packed_now():
                        self._end()
                        return _PACKED_MEANWHILE
                    _write_all(child.stdin.fileno(), commit)
                    commit = b""
                chunk = os.read(child.stdout.fileno(), 4096)
                if not chunk:
                    return self._end()
                answer += chunk
        except BrokenPipeError:
            return self._end()
        except BaseException:
            # Interrupted in between: the next transaction must not take the answer to this one.
            self._end()
            raise
        return None

    def _packed_now(self) -> Mark | None:
        return mark_of(self._repo.common_dir / "packed-refs")

    def _is_done(self, edits: Sequence[RefEdit]) -> bool:
        """Did a git that was killed commit before it could say so?"""
        changes = [edit for edit in edits if edit.old != edit.new]
        return bool(changes) and all(self._repo.read_ref(e.ref) == e.new for e in changes)

    def _end(self) -> bytes:
        child, self._child = self._child, None
        if child is None:
            return b""
        with contextlib.suppress(OSError):
            child.communicate()
        child.wait()
        OWN.ended(child.pid)
        return self._read_complaints()

    def _read_complaints(self) -> bytes:
        if self._complaints is None:
            return b""
        self._complaints.seek(0)
        text = self._complaints.read()
        self._complaints.seek(0)
        self._complaints.truncate()
        return text

    def _explain(
        self, edits: Sequence[RefEdit], error: bytes, *, killed: bool = False
    ) -> Exception:
        """The refs themselves say whether we lost a race; git's words only tell the rest apart."""
        if PACKED_REFS.encode() in error:
            fault = packed_fault(self._repo.common_dir)
            if fault:
                unusable = packed_error(self._repo.common_dir, fault)
                return GitFailed(str(unusable), hint=unusable.hint)
        for edit in edits:
            now = self._repo.read_ref(edit.ref)
            if now != edit.old:
                return RefMoved(
                    f"{edit.ref} is at {now or 'nothing'}, not at {edit.old or 'nothing'}",
                    ref=edit.ref,
                )
        # It may have come back to where it was since git looked.
        lost = _LOST.search(error)
        if lost:
            return RefMoved(reason(error), ref=os.fsdecode(lost[1]))
        if any(sign in error for sign in (*_BUSY_SIGNS, _PACKED_MEANWHILE)):
            return RefBusy(
                f"another process holds a lock: {reason(error)}",
                hint="If no git is running, `aynig doctor` names stale locks.",
            )
        if killed:
            return RefBusy("the git that was to change refs was killed")
        failed = GitFailed(f"git refused to change refs: {reason(error)}")
        return as_unwritable(failed, self._repo.common_dir / "refs") or failed


def _targets(edits: Iterable[RefEdit]) -> list[tuple[str, str | None]]:
    """What is to be written where: an edit that only checks writes nothing, "" in a lock."""
    return [(e.ref, "" if e.new == e.old else e.new) for e in edits]


def _request(edits: Iterable[RefEdit]) -> Iterable[bytes]:
    yield b"start\0"
    for edit in edits:
        ref = os.fsencode(edit.ref)
        if b"\0" in ref:
            raise GitFailed(f"{edit.ref!r} can't be the name of a ref")
        # Without this a symbolic ref would lead the change to the branch behind it.
        yield b"option no-deref\0"
        if edit.old == edit.new:
            yield b"verify %s\0%s\0" % (ref, (edit.old or "").encode())
        elif edit.new is None:
            yield b"delete %s\0%s\0" % (ref, (edit.old or "").encode())
        elif edit.old is None:
            yield b"create %s\0%s\0" % (ref, edit.new.encode())
        else:
            yield b"update %s\0%s\0%s\0" % (ref, edit.new.encode(), edit.old.encode())
    yield b"prepare\0commit\0"


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def pack_many_refs(repo: Repo) -> bool:
    """Pack the refs where so many are loose that reading them costs; were they packed?

    By git itself: libgit2's packing, at the same time as another, takes refs back to old values.
    """
    count = sum(len(files) for _, _, files in os.walk(repo.common_dir / "refs"))
    if count < _MANY_LOOSE:
        return False
    return run_git(repo.common_dir, ["pack-refs", "--all", "--prune"]).returncode == 0
