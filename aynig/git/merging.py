"""Files of several commits merged in memory: no worktree, no program, nothing half-done.

libgit2 merges by itself what git would: renames, modes, links, submodules. Drivers and filters of
gitattributes(5) that are programs are not started, whoever configured them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pygit2
from pygit2.enums import MergeFavor, MergeFlag

from aynig.errors import RepositoryError
from aynig.git.repo import Repo

# The files of the first commit as they are. `ours` is git's own word for it (git-merge(1)).
KEEPING = frozenset({"none", "ours"})
OCTOPUS = "octopus"


@dataclass(frozen=True, slots=True)
class Merged:
    """All of it fits together."""

    tree: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """The first commit that does not fit, and the paths that don't, sorted."""

    tip: str
    paths: tuple[str, ...]


def merge_files(repo: Repo, base: str, tips: Iterable[str], way: str) -> Merged | Conflict:
    """The files of the commit `base` with those of `tips`, one after the other, three-way each.

    `way` is `sequential`; `octopus`, which follows no renames, as git's strategy of that name; or
    one that keeps the files of `base`. Raises RepositoryError where a commit can't be read.
    """
    tree = repo.commit(base).tree
    if way in KEEPING:
        return Merged(tree)
    at = base
    for tip in tips:
        if repo.descends(at, tip):
            continue
        index = _merged(repo, at, tip, renames=way != OCTOPUS)
        if index.conflicts is not None:
            return Conflict(tip, _paths(index))
        tree = _written(repo, index)
        # The next one's merge base is to be found by git's rules. Nothing names this commit.
        at = repo.write_commit(tree=tree, parents=[at, tip], message="merged")
    return Merged(tree)


def _merged(repo: Repo, ours: str, theirs: str, *, renames: bool) -> pygit2.Index:
    flags = MergeFlag.FIND_RENAMES if renames else MergeFlag(0)
    handle = repo.handle
    try:
        return handle.merge_commits(
            handle[ours].id, handle[theirs].id, favor=MergeFavor.NORMAL, flags=flags
        )
    except (KeyError, ValueError, pygit2.GitError) as error:
        raise RepositoryError(
            f"{theirs[:12]} can't be merged into {ours[:12]}: {error}",
            hint="In a shallow or partial clone fetch what is missing; otherwise run `git fsck`.",
        ) from error


def _written(repo: Repo, index: pygit2.Index) -> str:
    try:
        return str(index.write_tree(repo.handle))
    except (OSError, pygit2.GitError) as error:
        raise RepositoryError(f"the merged files can't be written: {error}") from error


def _paths(index: pygit2.Index) -> tuple[str, ...]:
    found: set[str] = set()
    for entries in index.conflicts or ():
        found.update(entry.path for entry in entries if entry is not None)
    return tuple(sorted(found))
