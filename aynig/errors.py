"""What can go wrong, sorted by what has to happen next.

Every error carries one line that says what is wrong (`str(error)`) and, where there is
something to do about it, a `hint`. Nothing here prints or exits: that is the command line's
part.
"""

from __future__ import annotations

import errno
import os


class AynigError(Exception):
    """The root of every error that aynig raises on purpose.

    `hint` is one sentence in the imperative, or empty.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    @property
    def advice(self) -> str:
        """What is wrong and what to do, as one text."""
        return f"{self}: {self.hint}" if self.hint else str(self)


class UserError(AynigError):
    """What was asked for can't be done: the person who asked changes something first."""


class UsageError(UserError):
    """The request itself is malformed (exit status 2)."""


class ConfigError(UserError):
    """A setting is wrong: the message names file, key path and what was expected."""


class RepositoryError(UserError):
    """This is no repository that aynig can work in, or a part of it is unreadable."""


class NoRepository(RepositoryError):
    """There is no repository at all, where one was looked for."""


class WaitUntil(AynigError):
    """Nothing is wrong, it is only too early: the same step may be tried again later."""


class RefBusy(WaitUntil):
    """Another process holds the ref's lock at this moment."""


class Unwritable(WaitUntil):
    """Nothing can be written there now: the machine is at fault, never a script or a commit."""


class Unreachable(WaitUntil):
    """A remote does not answer at this time: nothing is known of what was asked of it last."""


class Refused(WaitUntil):
    """A remote answers, and will not do it: a person has to change its rules, or our rights.

    Tried again all the same, ever less often, because nothing tells when they were changed.
    """


class RefMoved(AynigError):
    """A ref is no longer what the caller saw: look again before deciding anything."""

    def __init__(self, message: str, *, ref: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.ref = ref


class LeaseLost(RefMoved):
    """The lease belongs to somebody else now, so the answer must not land."""


class RunFault(AynigError):
    """The script did something that makes its result unusable: the run fails, its work is kept."""


class GitFailed(AynigError):
    """A git command exited with a failure that none of the above describes."""


def as_unwritable(error: BaseException, place: object) -> Unwritable | None:
    """The same error as one of the machine, if it is: a full disk, a quota, a read-only mount.

    `place` is what was to be written, for an error that does not name a file itself. libgit2 and
    git give the reason as text alone, so that is looked at too.
    """
    if isinstance(error, Unwritable):
        return error
    text = str(error)
    for number, hint in _UNWRITABLE.items():
        reason = os.strerror(number)
        if isinstance(error, OSError) and error.errno == number:
            return Unwritable(f"{error.filename or place} can't be written: {reason}", hint=hint)
        if reason in text or (number == errno.ENOSPC and _HALF_WRITTEN in text):
            return Unwritable(f"{place} can't be written: {text}", hint=hint)
    return None


def hold_word(error: BaseException) -> str:
    """The word that `status` shows for a task which an error holds."""
    if isinstance(error, Unwritable):
        return "unwritable"
    if isinstance(error, Unreachable):
        return "unreachable"
    if isinstance(error, Refused):
        return "refused"
    return "busy" if isinstance(error, WaitUntil) else "error"


def file_too_large(place: object) -> Unwritable:
    """That a limit of file sizes (setrlimit(2), RLIMIT_FSIZE) is in the way."""
    reason = os.strerror(errno.EFBIG)
    return Unwritable(f"{place} can't be written: {reason}", hint=_UNWRITABLE[errno.EFBIG])


# What git says of a ref's lock that it could make, but not fill: it leaves out why.
_HALF_WRITTEN = "couldn't write '"
_UNWRITABLE = {
    errno.ENOSPC: "Make room there.",
    errno.EDQUOT: "Make room there, or have the quota raised.",
    errno.EFBIG: "Raise the limit of file sizes (ulimit -f).",
    errno.EROFS: "Mount it for writing.",
}


def told(error: BaseException) -> str:
    """An error for people, in one line; what was not foreseen shows its type as well."""
    if isinstance(error, AynigError):
        return error.advice
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) if isinstance(error, OSError) else repr(error)
