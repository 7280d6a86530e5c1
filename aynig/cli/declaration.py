"""Which workflow `check` and `graph` speak of: that of a folder, or of a commit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from aynig.declared import Declared, read_folder, read_tree
from aynig.errors import UsageError
from aynig.facts import CONFIG_FILE, trusted_commit, trusted_name
from aynig.git.repo import Repo
from aynig.model import branch_of
from aynig.site import load_settings
from aynig.text import quote

rev_option = click.option(
    "--rev", metavar="REV", help="Read this commit instead of the working tree."
)
folder_argument = click.argument(
    "folder", required=False, type=click.Path(exists=True, file_okay=False)
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a workflow is, for people, and how it is read (raises ConfigError)."""

    where: str
    read: Callable[[], Declared]


def place_of(folder: str | None, rev: str | None) -> Place:
    """What was asked for; without anything the working tree, or the default branch of a bare one.

    Raises UsageError for a commit that does not exist, and NoRepository outside of one.
    """
    if folder is not None and rev is not None:
        raise UsageError("a folder and --rev don't go together", hint="Give one of them.")
    if folder is not None:
        return _folder(Path(folder), str(Path(folder) / CONFIG_FILE))
    repo = Repo.open(".")
    if rev is None and repo.work_tree is not None:
        return _folder(repo.work_tree, CONFIG_FILE, repo)
    return _commit(repo, rev)


def _folder(top: Path, where: str, repo: Repo | None = None) -> Place:
    return Place(where, lambda: read_folder(top, where, repo))


def _commit(repo: Repo, rev: str | None) -> Place:
    if rev is not None:
        oid, shown = repo.resolve(rev), rev
    else:
        # A bare repository: what its scripts come from.
        settings = load_settings(repo)
        oid = trusted_commit(repo, settings) or repo.resolve("HEAD")
        shown = branch_of(trusted_name(repo, settings)) or "HEAD"
    if oid is None:
        raise UsageError(f"there is no commit {quote(shown)}", hint="See `git log --all`.")
    where = f"{CONFIG_FILE} at {shown}"
    return Place(where, lambda: read_tree(repo, repo.commit(oid).tree, where))
