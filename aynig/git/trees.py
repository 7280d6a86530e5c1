"""Trees as lists of files, and new ones out of old ones, without an index or a working tree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pygit2
from pygit2.enums import ObjectType

from aynig.errors import RepositoryError
from aynig.git.repo import Repo

FILE, PROGRAM = 0o100644, 0o100755
_TREE = 0o040000


def list_files(repo: Repo, tree: str, folders: Iterable[str]) -> dict[str, int]:
    """The paths below `folders` of a tree, and their modes; submodules and links are files here."""
    found: dict[str, int] = {}
    for folder in folders:
        entry = repo.entry(tree, folder)
        if entry is not None and entry[0] == _TREE:
            _list_into(found, repo, entry[1], folder)
        elif entry is not None:
            found[folder] = entry[0]
    return found


def _list_into(found: dict[str, int], repo: Repo, tree: str, folder: str) -> None:
    root: object = repo.handle[tree]
    assert isinstance(root, pygit2.Tree)
    for entry in root:
        path = f"{folder}/{entry.name}"
        if int(entry.filemode) == _TREE:
            _list_into(found, repo, str(entry.id), path)
        else:
            found[path] = int(entry.filemode)


def add_files(repo: Repo, tree: str | None, files: Mapping[str, tuple[int, bytes]]) -> str:
    """A tree like `tree` (None: an empty one) with `files` in it; its oid.

    `files` maps paths to mode and content. What is at one of these paths is replaced; raises
    RepositoryError where a path leads through something that is no folder.
    """
    builder = _builder(repo, tree)
    below: dict[str, dict[str, tuple[int, bytes]]] = {}
    for path, (mode, content) in files.items():
        name, separator, rest = path.partition("/")
        if separator:
            below.setdefault(name, {})[rest] = (mode, content)
        else:
            builder.insert(name, repo.handle.write(ObjectType.BLOB, content), mode)
    for name, inside in below.items():
        entry = repo.entry(tree, name) if tree else None
        if entry is not None and entry[0] != _TREE:
            raise RepositoryError(f"{name} is no folder", hint="Move it out of the way.")
        subtree = add_files(repo, entry[1] if entry else None, inside)
        builder.insert(name, repo.handle[subtree].id, _TREE)
    return str(builder.write())


def _builder(repo: Repo, tree: str | None) -> pygit2.TreeBuilder:
    if tree is None:
        return repo.handle.TreeBuilder()
    found: object = repo.handle[tree]
    assert isinstance(found, pygit2.Tree)
    return repo.handle.TreeBuilder(found)
