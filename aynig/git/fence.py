"""Hooks of aynig's own around a script: its branch is moved by its answer, and by nothing else.

A script shares all refs with everybody. What it puts on its own branch would count as a person's
commit, and deleting the branch would take the task away without a word. So git commands of a script
find a `reference-transaction` and a `pre-push` hook that refuse it and write down what was tried.
All other hooks are the repository's own, and so are these two after ours.

They are given by settings in the environment that hold in this repository only (git-config(1),
`includeIf`), so nothing of it is written where others find it. It is a fence and no wall: libgit2,
`git -c core.hooksPath=` and whoever writes the files of refs pass it by (docs/protocol.md).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from aynig.errors import GitFailed
from aynig.git.address import Address
from aynig.git.command import git_text
from aynig.git.repo import Repo
from aynig.model import HEADS, branch_of
from aynig.resources import hooks_folder
from aynig.text import escape, shorten

# Hooks of ours, which call the repository's own of the same name when they refuse nothing.
_OURS = ("reference-transaction", "pre-push")
# githooks(5), but for those that only the other side of a push runs.
_HOOKS = frozenset(
    {
        "applypatch-msg", "pre-applypatch", "post-applypatch", "pre-commit", "pre-merge-commit",
        "prepare-commit-msg", "commit-msg", "post-commit", "pre-rebase", "post-checkout",
        "post-merge", "pre-auto-gc", "post-rewrite", "sendemail-validate", "fsmonitor-watchman",
        "p4-changelist", "p4-prepare-changelist", "p4-post-changelist", "p4-pre-submit",
        "post-index-change",
    }
)  # fmt: skip
_MOST_BYTES = 128 * 1024
_MOST_TOLD = 5
_TRIED = re.compile(r"(move|push) (?:([0-9a-f]{40,64})|ref:\S+) (refs/\S+)")


@dataclass(frozen=True, slots=True)
class Fence:
    """The hooks of one run, in a folder of their own."""

    _folder: Path
    # The git directory of the repository that they are for.
    _common_dir: str

    def around(self, environment: Mapping[str, str]) -> dict[str, str]:
        """An environment in which git finds the hooks, whatever settings it has already."""
        found = dict(environment)
        said = found.get("GIT_CONFIG_COUNT") or "0"
        if not re.fullmatch("[0-9]{1,6}", said):
            # Of the state's own `env`: no git command of the script will run at all.
            return found
        count = int(said)
        place = re.sub(r"([*?\[\]\\])", r"\\\1", self._common_dir)
        # Of the repository and of its worktrees, and not of a submodule or of a mirror inside.
        for pattern in (place, f"{place}/worktrees/*"):
            found[f"GIT_CONFIG_KEY_{count}"] = f"includeIf.gitdir:{pattern}.path"
            found[f"GIT_CONFIG_VALUE_{count}"] = str(self._folder / "config")
            count += 1
        found["GIT_CONFIG_COUNT"] = str(count)
        return found

    def tried(self) -> tuple[str, ...]:
        """What was refused, each as words that follow "it tried to": the first few of them.

        The script could reach the file: whatever else stands there is passed over.
        """
        try:
            with (self._folder / "tried").open("rb") as file:
                text = file.read(_MOST_BYTES).decode("utf-8", "surrogateescape")
        except OSError:
            return ()
        found = dict.fromkeys(
            _words(*match.groups()) for match in map(_TRIED.fullmatch, text.splitlines()) if match
        )
        return tuple(found)[:_MOST_TOLD]


def put_up(repo: Repo, folder: Path, ref: str, address: Address | None = None) -> Fence | None:
    """The hooks that guard a branch of a repository, made in a folder that is not there yet.

    `address` is that of the remote whose task it is, where the repository is a mirror. None where a
    path has a line break in it, which no line of a file can hold.
    """
    own = _own_hooks(repo)
    lines = [ref, own, *_places(repo, address)]
    if any("\n" in line for line in (*lines, str(folder))):
        return None
    quoted = str(folder).replace("\\", "\\\\").replace('"', '\\"')
    config = "".join(f"#{line}\n" for line in lines) + f'[core]\n\thooksPath = "{quoted}"\n'
    # For each run: without the detours of pathlib.
    place, shipped = str(folder), str(hooks_folder())
    os.mkdir(place, 0o700)  # noqa: PTH102
    with open(f"{place}/config", "wb") as file:  # noqa: PTH123
        file.write(os.fsencode(config))
    for name in _OURS:
        os.symlink(f"{shipped}/fence-{name}", f"{place}/{name}")  # noqa: PTH211
    for name in _forwarded(own):
        os.symlink(f"{shipped}/fence-forward", f"{place}/{name}")  # noqa: PTH211
    return Fence(folder, str(repo.common_dir))


def _places(repo: Repo, address: Address | None) -> Iterable[str]:
    """Where the branch is the task's: names, URLs and git directories."""
    if address is None:
        return [str(repo.common_dir)]
    found = [address.name, address.url]
    if address.path is not None:
        found += [os.path.realpath(address.path), os.path.realpath(address.path / ".git")]
    return found


def _forwarded(own: str) -> list[str]:
    """The hooks that git is to find beside ours; a relative folder is another one from run to run,
    and may be filled by the script."""
    if not Path(own).is_absolute():
        return sorted(_HOOKS)
    with contextlib.suppress(OSError):
        return sorted(_HOOKS.intersection(path.name for path in Path(own).iterdir()))
    return []


# --- the repository's own ------------------------------------------------------------------------


def configured_hooks(repo: Repo) -> str:
    """What `core.hooksPath` says, with `~` put in full; empty where it is not set."""
    # Our own git commands are told that there are no hooks: that one is not the user's.
    args = ["config", "--show-scope", "--null", "--type=path", "--get-all", "core.hooksPath"]
    with contextlib.suppress(GitFailed):
        parts = git_text(repo.git_dir, args).split("\0")
        pairs = zip(parts[::2], parts[1::2], strict=False)
        said = [value for scope, value in pairs if scope != "command"]
        return said[-1] if said else ""
    return ""


# What was said, and what the file of settings looked like then.
_known: dict[Path, tuple[tuple[int, int, int], str]] = {}


def _own_hooks(repo: Repo) -> str:
    """The folder of the repository's own hooks; a relative one is meant from where hooks run.

    Asking git costs as much as starting a script, so it is asked again only where the repository's
    settings have changed; those of the user are as they were when this process began.
    """
    try:
        status = (repo.common_dir / "config").stat()
        mark = (status.st_mtime_ns, status.st_size, status.st_ino)
    except OSError:
        mark = (0, 0, 0)
    known = _known.get(repo.common_dir)
    if known is None or known[0] != mark:
        known = _known[repo.common_dir] = (mark, configured_hooks(repo))
    return known[1] or str(repo.common_dir / "hooks")


# --- what was tried ------------------------------------------------------------------------------


def _words(verb: str, oid: str | None, ref: str) -> str:
    name = branch_of(ref) if ref.startswith(HEADS) else ref
    shown = shorten(escape(name), 80)
    gone = oid is not None and not oid.strip("0")
    if verb == "push":
        return f"delete {shown} by a push" if gone else f"push to {shown}"
    if gone:
        return f"delete {shown}"
    if not ref.startswith(HEADS):
        return f"change {shown}"
    return f"move {shown} to {oid[:12]}" if oid else f"move {shown} to another branch"
