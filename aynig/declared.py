"""Reads a declared workflow: the config file, and the files that it depends on.

From a commit, or from a folder as it lies there: staged or not, so that a hook and a CI job see
what a person has written.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from aynig.config import config_lines, parse_workflow
from aynig.errors import ConfigError
from aynig.facts import CONFIG_FILE
from aynig.flaws import Flaw, flaws_of, named_paths, named_refs
from aynig.flow import Flow, Offer, flow_of, offer_of
from aynig.git.repo import Repo
from aynig.git.scripts import resolve_link
from aynig.git.trees import PROGRAM, list_files
from aynig.resources import states_folder
from aynig.workflow import Workflow
from aynig.yamlfile import MAX_BYTES

# Where the scripts of each dialect lie.
FOLDERS = (".aynig", ".dwp")

_LINK = 0o120000
_LINKS_FOLLOWED = 8


@dataclass(frozen=True, slots=True)
class Declared:
    """A workflow that could be read, with what it depends on."""

    # The file, for people.
    where: str
    workflow: Workflow
    offer: Offer
    # Key path -> line.
    lines: Mapping[str, int]
    # Is there a config file at all?
    given: bool

    @property
    def flow(self) -> Flow:
        return flow_of(self.workflow, self.offer)

    @property
    def flaws(self) -> list[Flaw]:
        """In the order of the file; what has no line comes last."""
        last = max(self.lines.values(), default=0) + 1
        found = flaws_of(self.workflow, self.offer)
        return sorted(found, key=lambda flaw: self.line_of(flaw.path) or last)

    def line_of(self, path: str) -> int | None:
        """The line of a key path, or of what it is a part of; None where neither is in the file."""
        while path and path not in self.lines:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.lines.get(path)


def read_tree(repo: Repo, tree: str, where: str) -> Declared:
    """The workflow of a tree. Raises ConfigError where its config file is wrong."""
    entry = repo.entry(tree, CONFIG_FILE)
    if entry is not None and entry[0] not in (0o100644, PROGRAM):
        raise _no_file(where)
    modes = list_files(repo, tree, FOLDERS)
    files = {path: _runs_in_tree(repo, tree, path, modes) for path in modes}
    workflow, lines = _parsed(repo.blob(entry[1]) if entry else b"", where)
    present = [path for path in named_paths(workflow) if repo.entry(tree, path) is not None]
    offer = _offer(files, present, _absent(repo, workflow))
    return Declared(where, workflow, offer, lines, entry is not None)


def read_folder(top: Path, where: str, repo: Repo | None = None) -> Declared:
    """The workflow of a folder. Raises ConfigError where its config file is wrong.

    Refs that it names are looked up in `repo`, where the folder is that of one.
    """
    place = top / CONFIG_FILE
    given = os.path.lexists(place)
    files = {path: _runs_on_disk(top, path) for path in _paths_below(top)}
    workflow, lines = _parsed(_content(place, where) if given else b"", where)
    present = [path for path in named_paths(workflow) if os.path.lexists(top / path)]
    absent = _absent(repo, workflow) if repo is not None else {}
    return Declared(where, workflow, _offer(files, present, absent), lines, given)


def _parsed(text: bytes, where: str) -> tuple[Workflow, Mapping[str, int]]:
    return parse_workflow(text, where=where), config_lines(text)


def _absent(repo: Repo, workflow: Workflow) -> dict[tuple[str, str], str]:
    """What there is not of the folders on refs that a workflow names."""
    found = {}
    for ref, path in named_refs(workflow):
        commit = repo.resolve(ref)
        wanted = path.strip("/").removeprefix("./")
        if commit is None:
            found[ref, path] = f"there is no {ref} in this repository yet"
        elif wanted not in ("", ".") and repo.entry(repo.commit(commit).tree, wanted) is None:
            found[ref, path] = f"there is no {path} in {ref} yet"
    return found


def _offer(
    files: Mapping[str, bool], present: Iterable[str], absent: Mapping[tuple[str, str], str]
) -> Offer:
    folder = states_folder()
    shipped = [path.name for path in folder.iterdir() if os.access(path, os.X_OK)]
    return offer_of(files, frozenset(shipped), frozenset(present), absent)


def _no_file(where: str) -> ConfigError:
    return ConfigError(f"{where} is no file", hint="Make it one, and commit it.")


# --- a tree ----------------------------------------------------------------------------------


def _runs_in_tree(repo: Repo, tree: str, path: str, modes: Mapping[str, int]) -> bool:
    """Has it the run bit? A link counts as what it leads to, as long as that is in its folder."""
    folder, _, name = path.partition("/")
    for _ in range(_LINKS_FOLLOWED):
        mode = modes.get(f"{folder}/{name}")
        entry = repo.entry(tree, f"{folder}/{name}") if mode == _LINK else None
        if entry is None:
            return mode == PROGRAM
        target = resolve_link(name, os.fsdecode(repo.blob(entry[1])))
        if target is None:
            return False
        name = target
    return False


# --- a folder --------------------------------------------------------------------------------


def _content(place: Path, where: str) -> bytes:
    try:
        if not stat.S_ISREG(place.lstat().st_mode):
            raise _no_file(where)
        with place.open("rb") as file:
            # One more than may be, so that a file which is too large is told so.
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"{where} can't be read: {error.strerror}", hint="See who may read it."
        ) from error


def _paths_below(top: Path) -> Iterable[str]:
    for folder in FOLDERS:
        for root, folders, names in os.walk(top / folder):
            # A linked folder is one file to git.
            links = [name for name in folders if (Path(root) / name).is_symlink()]
            for name in (*names, *links):
                yield str((Path(root) / name).relative_to(top))


def _runs_on_disk(top: Path, path: str) -> bool:
    try:
        place = (top / path).resolve(strict=True)
    except (OSError, RuntimeError):
        # A link to nothing, or one that goes in circles.
        return False
    inside = place.is_relative_to((top / path.partition("/")[0]).resolve())
    return inside and place.is_file() and os.access(place, os.X_OK)
