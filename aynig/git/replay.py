"""Puts commits on another base that has the same files: nothing but their parents change."""

from __future__ import annotations

import pygit2

from aynig.errors import GitFailed, as_unwritable
from aynig.git.command import git_text
from aynig.git.repo import Repo

_COMMIT = pygit2.enums.ObjectType.COMMIT
# A signature would be one of other parents.
_SIGNATURES = (b"gpgsig ", b"gpgsig-sha256 ")


def replay(repo: Repo, head: str, base: str, onto: str) -> str:
    """The commits of `head` that `base` does not have, on top of `onto`; the oid of the last.

    `base` and `onto` must have the same tree. Authors, dates, messages and trees stay as they are,
    so where nothing is to be replayed the answer is `onto`. Raises GitFailed, Unwritable.
    """
    if head == base:
        return onto
    listed = git_text(
        repo.common_dir, ["rev-list", "--topo-order", "--reverse", head, f"^{base}", "--"]
    )
    moved = {base: onto}
    for oid in listed.split("\n") if listed else []:
        moved[oid] = _with_parents(repo, oid, moved)
    return moved.get(head, head)


def merge_base(repo: Repo, one: str, other: str) -> str | None:
    """The commit that two lines of history have forked at; None where they have none in common."""
    try:
        found = repo.handle.merge_base(one, other)
    except (KeyError, ValueError, pygit2.GitError):
        return None
    return str(found) if found is not None else None


def _with_parents(repo: Repo, oid: str, moved: dict[str, str]) -> str:
    try:
        raw = repo.handle.read(oid)[1]
    except (KeyError, ValueError, pygit2.GitError) as error:
        raise GitFailed(f"the commit {oid} can't be read: {error}") from error
    head, separator, message = raw.partition(b"\n\n")
    lines: list[bytes] = []
    changed = skipping = False
    for line in head.split(b"\n"):
        # A header goes on over lines that begin with a space.
        skipping = line.startswith(_SIGNATURES) or (skipping and line.startswith(b" "))
        if skipping:
            continue
        if line.startswith(b"parent "):
            parent = line.removeprefix(b"parent ").decode()
            changed = changed or moved.get(parent, parent) != parent
            line = b"parent " + moved.get(parent, parent).encode()
        lines.append(line)
    if not changed:
        return oid
    try:
        return str(repo.handle.write(_COMMIT, b"\n".join(lines) + separator + message))
    except (OSError, pygit2.GitError) as error:
        place = repo.common_dir / "objects"
        raise as_unwritable(OSError(str(error)), place) or GitFailed(
            f"no object can be written in {place}: {error}"
        ) from error
