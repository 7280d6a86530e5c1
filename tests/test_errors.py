"""Errors say what happens next; those of the machine are told from those of a person."""

from __future__ import annotations

import errno
import os

import pytest

from aynig.errors import GitFailed, RunFault, Unwritable, UserError, as_unwritable, told

FULL = os.strerror(errno.ENOSPC)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS])
def test_what_the_machine_can_not_write_is_told_by_file(number: int) -> None:
    reason = os.strerror(number)
    named = as_unwritable(OSError(number, reason, "/a/file"), "/a")
    assert str(named) == f"/a/file can't be written: {reason}"
    unnamed = as_unwritable(OSError(number, reason), "/a")
    assert str(unnamed) == f"/a can't be written: {reason}"
    assert isinstance(named, Unwritable)
    assert named.hint


@pytest.mark.parametrize(
    "error",
    [
        GitFailed(f"git add: unable to write loose object file: {FULL}"),
        OSError(f"failed to write out file: {FULL}"),
        # Which leaves out why.
        GitFailed("cannot update ref 'refs/heads/x': couldn't write '/a/refs/heads/x.lock'"),
    ],
)
def test_libgit2_and_git_give_the_reason_as_text(error: Exception) -> None:
    assert str(as_unwritable(error, "/a")) == f"/a can't be written: {error}"


@pytest.mark.parametrize(
    "error", [OSError(errno.EACCES, "Permission denied"), GitFailed("no"), RunFault("it left")]
)
def test_other_errors_are_none_of_the_machine(error: Exception) -> None:
    assert as_unwritable(error, "/a") is None


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("it is wrong", hint="Mend it."), "it is wrong: Mend it."),
        (OSError(errno.EACCES, "Permission denied", "/a"), "/a: Permission denied"),
        (OSError(errno.EACCES, "Permission denied"), "Permission denied"),
        (ValueError("odd"), "ValueError('odd')"),
    ],
)
def test_an_error_is_told_in_one_line(error: Exception, line: str) -> None:
    assert told(error) == line
