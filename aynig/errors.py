"""What can go wrong, sorted by what has to happen next.

Every error carries one line that says what is wrong (`str(error)`) and, where there is
something to do about it, a `hint`. Nothing here prints or exits: that is the command line's
part.
"""

from __future__ import annotations


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


def told(error: BaseException) -> str:
    """An error for people, in one line; what was not foreseen shows its type as well."""
    if isinstance(error, AynigError):
        return error.advice
    return str(error) if isinstance(error, OSError) else repr(error)
