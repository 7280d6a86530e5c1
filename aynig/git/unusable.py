"""Why a folder is no repository that aynig can work with, and what to do about it."""

from __future__ import annotations

import errno
import os
import re
import shlex
import stat
from collections.abc import Mapping
from pathlib import Path

from aynig.errors import NoRepository, RepositoryError
from aynig.git.disk import read_small
from aynig.model import HEADS
from aynig.text import shell_word

_HEAD = re.compile(r"ref:\s*refs/|[0-9a-f]{40}")


def refuse_place(start: Path) -> None:
    """RepositoryError for a folder that is not there or may not be entered."""
    try:
        os.stat(f"{start}/.")  # noqa: PTH116 (a Path drops the dot, which asks for a folder)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RepositoryError(f"there is no folder {start}", hint="Check the path.") from error
    except OSError as error:
        raise _closed(start, error.strerror or str(error)) from error


def _closed(path: Path, reason: str) -> RepositoryError:
    return RepositoryError(
        f"{path} can't be read: {reason}",
        hint="Run aynig as somebody who may, or give the rights with chmod.",
    )


def no_repository(start: Path) -> RepositoryError:
    """Why nothing was found: mostly there is none, but a `.git` may be there and be wrong."""
    for folder in (start, *start.parents):
        found = folder / ".git"
        try:
            mode = found.lstat().st_mode
            if stat.S_ISDIR(mode):
                # Asked for, because where it is refused, nothing was found either.
                (found / "HEAD").stat()
        except (FileNotFoundError, NotADirectoryError):
            if os.path.lexists(found):
                return RepositoryError(
                    f"{found} is no git repository: it has no HEAD",
                    hint="Remove it if it is a leftover, or make it one with `git init`.",
                )
            continue
        except OSError as error:
            return _closed(found, error.strerror or str(error))
        target = (read_small(found) or "").strip().removeprefix("gitdir:").strip()
        if stat.S_ISREG(mode) and target and not (folder / target).exists():
            return RepositoryError(
                f"{found} points at {folder / target}, which is not there",
                hint="If the repository was moved, run `git worktree repair` in it.",
            )
        return RepositoryError(
            f"{found} is no git repository", hint="See what `git status` says there."
        )
    return NoRepository(
        f"{start} is not in a git repository",
        hint="Change into one, or make one with `git init`.",
    )


def refuse_parts(git_dir: Path, common_dir: Path) -> None:
    """RepositoryError where a part may not be read, or where HEAD says nothing.

    git takes both for no repository at all, or for one without branches.
    """
    for part in ("HEAD", "objects", "refs", HEADS):
        place = common_dir / part
        # libgit2 opens it all the same, and finds it empty later.
        if place.exists() and not os.access(place, os.R_OK | (os.X_OK if place.is_dir() else 0)):
            raise _closed(place, os.strerror(errno.EACCES))
    for head in {git_dir / "HEAD", common_dir / "HEAD"}:
        text = read_small(head)
        if text is None or _HEAD.match(text):
            # A symbolic link, as in old repositories, is libgit2's to judge.
            continue
        raise RepositoryError(
            f"{head} is {'neither a ref nor a commit' if text.strip() else 'empty'}",
            hint=f"Name the branch in it: echo 'ref: {HEADS}main' >{shlex.quote(str(head))}",
        )


def unreadable(path: Path, reason: str) -> RepositoryError:
    """What libgit2 could not open, by what it said."""
    lowered = reason.lower()
    if "refstorage" in lowered or "reftable" in lowered:
        hint = "It uses reftable: convert it with `git refs migrate --ref-format=files`."
    elif "objectformat" in lowered or "sha256" in lowered:
        hint = "It uses sha256 objects, which aynig can't read yet: use a sha1 repository."
    elif "owner" in lowered or "safe" in lowered:
        safe = f"git config --global --add safe.directory {shell_word(str(path))}"
        hint = f"It belongs to somebody else: {safe}"
    else:
        hint = "See what `git -C` and `git fsck` say of it."
    return RepositoryError(f"{path} can't be opened: {reason}", hint=hint)


def refuse_formats(common_dir: Path, values: Mapping[str, str | None]) -> None:
    """RepositoryError for refs or objects of a form that is not read here; by its config."""
    if values.get("extensions.refstorage", "files") not in ("files", None):
        raise unreadable(common_dir, "its refs are in the reftable format")
    if (values.get("extensions.objectformat") or "sha1") != "sha1":
        raise unreadable(common_dir, "its objects are sha256")
