"""Working trees of people: which branch is checked out where, and whether an answer may land there.

Uncommitted work of a person is never touched (design section 3). Where a working tree is not
clean, the task waits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from aynig.errors import WaitUntil
from aynig.git import command
from aynig.git.disk import read_small
from aynig.git.repo import Repo
from aynig.git.worktree import ADMIN_PREFIX
from aynig.model import HEADS, branch_of

# What lies in a git directory while a command of several steps is under way, and its name.
_UNDER_WAY = {
    "rebase-merge": "a rebase",
    "rebase-apply": "a rebase or `git am`",
    "MERGE_HEAD": "a merge",
    "CHERRY_PICK_HEAD": "a cherry-pick",
    "REVERT_HEAD": "a revert",
    "sequencer": "a cherry-pick or a revert",
    "BISECT_START": "a bisect",
}


@dataclass(frozen=True, slots=True)
class Checkout:
    """A working tree that has a branch checked out, or is about to come back to it."""

    work_tree: Path
    git_dir: Path
    ref: str
    # The other working trees with the same branch (`git worktree add --force`).
    others: tuple[Checkout, ...] = ()

    @property
    def where(self) -> str:
        """As the beginning of a sentence that tells why an answer can't land here."""
        return f"{branch_of(self.ref)} is checked out in {self.work_tree}"


class DirtyWorktree(WaitUntil):
    """The branch is checked out where a person has uncommitted work: the answer waits."""


def find_checkout(repo: Repo, ref: str) -> Checkout | None:
    """Where a branch is checked out; None where no working tree of a person has it.

    A branch that is being rebased or bisected counts as checked out, as it does for git.
    """
    found = [
        Checkout(work_tree, git_dir, ref)
        for git_dir, work_tree in _working_trees(repo)
        if ref in _claimed(git_dir)
    ]
    if not found:
        return None
    return replace(found[0], others=tuple(found[1:]))


def _working_trees(repo: Repo) -> Iterator[tuple[Path, Path]]:
    if repo.main_work_tree is not None:
        yield repo.common_dir, repo.main_work_tree
    try:
        admins = sorted((repo.common_dir / "worktrees").iterdir())
    except OSError:
        return
    for admin in admins:
        told = None if admin.name.startswith(ADMIN_PREFIX) else read_small(admin / "gitdir")
        if told is not None:
            # Relative to the administrative folder with `worktree.useRelativePaths`.
            place = (admin / told.removesuffix("\n")).parent
            if place.is_dir():
                yield admin, place


def _claimed(git_dir: Path) -> set[str]:
    """The branches that a git directory says it is on, or will come back to."""
    claimed = set()
    for name in ("HEAD", "rebase-merge/head-name", "rebase-apply/head-name"):
        text = read_small(git_dir / name) or ""
        claimed.add(text.strip().removeprefix("ref:").strip())
    claimed.add(HEADS + (read_small(git_dir / "BISECT_START") or "").strip())
    # Of `git rebase --update-refs`: a ref, then two oids, and so on.
    claimed |= set((read_small(git_dir / "rebase-merge" / "update-refs") or "").split("\n")[::3])
    return claimed - {"", HEADS}


# What to do about uncommitted changes: before a script runs, and once its answer waits.
BEFORE_A_RUN = "stash them, or commit them with the state (a commit without it takes the task back)"
BEFORE_AN_ANSWER = "stash them (a commit on the branch would be in the place of the answer)"


def obstacle(checkout: Checkout, mend: str) -> str:
    """Why an answer can't land in this working tree now, in one clause; empty when it can.

    `mend` is what to do about uncommitted changes.
    """
    for each in (checkout, *checkout.others):
        found = _obstacle_in(each, mend)
        if found:
            return found
    return ""


def _obstacle_in(checkout: Checkout, mend: str) -> str:
    for name, what in _UNDER_WAY.items():
        if (checkout.git_dir / name).exists():
            return f"{checkout.where}, where {what} is under way: finish or abort it"
    if (checkout.git_dir / "index.lock").exists():
        return f"{checkout.where}, where another git command holds index.lock"
    if has_no_files(checkout):
        return ""
    if not (checkout.git_dir / "index").exists():
        return f"{checkout.where}, which has no index"
    done = command.run_git(
        checkout.git_dir,
        ["status", "--porcelain", "-z", "--untracked-files=no", "--ignore-submodules=all"],
        work_tree=checkout.work_tree,
    )
    if done.returncode:
        return f"{checkout.where}, and git status fails there: {command.reason(done.stderr)}"
    changed = [entry for entry in done.stdout.split(b"\0") if entry]
    if changed:
        count = f"{len(changed)} file{'s' if len(changed) > 1 else ''}"
        return f"{checkout.where} with uncommitted changes ({count}): {mend}"
    return ""


def has_no_files(checkout: Checkout) -> bool:
    """Was nothing ever checked out here (`git clone --no-checkout`)?"""
    if (checkout.git_dir / "index").exists():
        return False
    with contextlib.suppress(OSError):
        return not any(entry.name != ".git" for entry in checkout.work_tree.iterdir())
    return False
