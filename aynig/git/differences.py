"""What changed between two trees, as text for people."""

from __future__ import annotations

from aynig.git.command import run_git
from aynig.git.repo import Repo

# No program that a repository's settings name takes part in showing it.
_OPTIONS = ("-r", "-M", "--no-ext-diff", "--no-textconv", "--no-color", "--submodule=short")


def difference(repo: Repo, old: str, new: str, *, show: str, most: int) -> str:
    """`diff` or `stat` from one tree to the other, at most about `most` bytes of it.

    Empty where nothing changed and for `none`. A long diff is shown as far as there is room, and
    says how to see the rest.
    """
    if show == "none" or old == new:
        return ""
    stat = _shown(repo, ["--stat=100", "--summary"], old, new)
    if show == "stat":
        return _cut(stat, most, old, new)
    return _cut(f"{stat}\n\n{_shown(repo, ['-p'], old, new)}", most, old, new)


def _shown(repo: Repo, options: list[str], old: str, new: str) -> str:
    args = ["diff-tree", *options, *_OPTIONS, "--end-of-options", old, new]
    done = run_git(repo.common_dir, args)
    return done.stdout.decode("utf-8", "surrogateescape").strip("\n")


def _cut(text: str, most: int, old: str, new: str) -> str:
    data = text.encode("utf-8", "surrogateescape")
    if len(data) <= most:
        return text
    kept = data[:most].rpartition(b"\n")[0].decode("utf-8", "surrogateescape")
    return f"{kept}\n(cut off; all of it: git diff {old[:12]} {new[:12]})"
