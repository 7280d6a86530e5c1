"""Scenarios of a verification: found in a tree of this repository or of another, and written out.

A scenario is a program in a folder of scenarios, or a folder in it with one program. It is known
by the name of its entry. What begins with a dot or an underscore is none: a place for what several
share.

Those of another repository go to an object store of their own: the repository at work never has
them, neither as objects nor as a remote.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pygit2

from aynig.errors import ConfigError, RepositoryError, as_unwritable
from aynig.git.address import find_address
from aynig.git.line import Line
from aynig.git.remote import Remote
from aynig.git.repo import Repo
from aynig.git.scripts import Found, follow, leaving_link, write_out
from aynig.model import HEADS, ScriptProblem
from aynig.text import quote
from aynig.workflow import Scenarios

_TREE, _FILE, _PROGRAM, _LINK = 0o040000, 0o100644, 0o100755, 0o120000
_OID = re.compile(r"[0-9a-f]{40}")
_TAGS = "refs/tags/"
# The program of a folder that holds several.
_RUN = "run"


@dataclass(frozen=True, slots=True)
class ScenarioTree:
    """A folder of scenarios: its tree, and the repository that has the objects."""

    repo: Repo
    tree: str
    # Where it was found, for people; without credentials.
    shown: str


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario; both paths are below the folder of scenarios."""

    name: str
    program: str
    # What `AYNIG_SCENARIO` names: the scenario's own folder, `.` for a program without one.
    folder: str


@dataclass(frozen=True, slots=True)
class Origin:
    """Where scenarios are looked for: the repository at work, and whose remotes are meant."""

    repo: Repo
    # The clone, where `repo` is the mirror of a remote.
    clone: Repo
    # The trusted tree.
    trusted: str
    # In seconds, as for `Remote`.
    timeout: float


def find_scenarios(origin: Origin, source: Scenarios, private: Path) -> ScenarioTree:
    """The folder that a source names; `private` is where those of another repository go.

    Raises ConfigError where there is no such thing, Unreachable or Refused where a remote can't be
    asked, Unwritable.
    """
    if source.repository:
        return _from_elsewhere(origin, source, private)
    if not source.ref:
        return _folder_in(origin.repo, origin.trusted, source.path, "the trusted tree")
    shown = f"{quote(source.ref)} of this repository"
    commit = origin.repo.resolve(source.ref)
    if commit is None:
        raise ConfigError(
            f"scenarios come from {shown}, which does not exist",
            hint="Make that ref, or name another in `scenarios`.",
        )
    return _folder_in(origin.repo, origin.repo.commit(commit).tree, source.path, shown)


def _from_elsewhere(origin: Origin, source: Scenarios, private: Path) -> ScenarioTree:
    address = find_address(origin.clone, source.repository)
    line = Line(private)
    remote = Remote(line, line.ready() / "objects", address, timeout=origin.timeout)
    shown = f"{quote(source.ref or 'HEAD')} of {address.shown}"
    oid = _asked_for(remote, source.ref)
    if oid is None:
        raise ConfigError(
            f"scenarios come from {shown}, which does not exist there",
            hint="Push that ref, or name another in `scenarios`.",
        )
    remote.fetch_alone(oid)
    repo = Repo.open(line.path)
    try:
        found: object = repo.handle[oid].peel(pygit2.Tree)
    except (KeyError, ValueError, pygit2.GitError) as error:
        raise ConfigError(
            f"scenarios come from {shown}, which holds no files",
            hint="Name a branch, a tag or a commit in `scenarios`.",
        ) from error
    assert isinstance(found, pygit2.Tree)
    return _folder_in(repo, str(found.id), source.path, shown)


def _asked_for(remote: Remote, ref: str) -> str | None:
    """What a person means by `ref` on a remote: a full name, a branch, a tag, an oid."""
    if _OID.fullmatch(ref):
        return ref
    wanted = ref or remote.default_branch() or ""
    names = [wanted] if wanted.startswith("refs/") else [HEADS + wanted, _TAGS + wanted]
    found = remote.read(names)
    return next((found[name] for name in names if name in found), None)


def _folder_in(repo: Repo, tree: str, path: str, shown: str) -> ScenarioTree:
    """A folder of a tree; the top of it for an empty path or `.`."""
    wanted = path.strip("/").removeprefix("./")
    if wanted in ("", "."):
        return ScenarioTree(repo, tree, shown)
    entry = repo.entry(tree, wanted)
    where = f"{quote(path)} in {shown}"
    if entry is None:
        raise ConfigError(
            f"scenarios come from {where}, which does not exist",
            hint="Commit that folder, or name another in `scenarios`.",
        )
    if entry[0] != _TREE:
        raise ConfigError(
            f"scenarios come from {where}, which is no folder",
            hint="Name the folder that the scenarios lie in.",
        )
    return ScenarioTree(repo, entry[1], where)


def scenarios_in(place: ScenarioTree) -> tuple[Scenario, ...]:
    """All scenarios of a folder, sorted by name.

    Raises ConfigError for what was meant as a scenario and can't be run: one that is passed over in
    silence would be one that nothing fails.
    """
    leaving = leaving_link(place.repo, place.tree)
    if leaving is not None:
        raise _unfit(place, leaving, "is a symbolic link that leaves the folder of scenarios")
    found = [
        _scenario(place, name)
        for name in _names(place.repo, place.tree)
        if not name.startswith((".", "_"))
    ]
    return tuple(sorted((each for each in found if each is not None), key=lambda one: one.name))


def _scenario(place: ScenarioTree, name: str) -> Scenario | None:
    entry = _entry(place, name)
    if entry is None:
        return None
    if entry.mode == _PROGRAM:
        return Scenario(name, entry.path, ".")
    if entry.mode == _TREE:
        return _of_folder(place, name, entry)
    if place.repo.blob(entry.oid)[:2] == b"#!":
        raise _unfit(place, name, "has no run bit", "Give it: git update-index --chmod=+x FILE")
    return None


def _of_folder(place: ScenarioTree, name: str, folder: Found) -> Scenario:
    programs = [
        inside
        for inside in _names(place.repo, folder.oid)
        if (entry := _entry(place, f"{folder.path}/{inside}")) and entry.mode == _PROGRAM
    ]
    if _RUN in programs:
        programs = [_RUN]
    if len(programs) == 1:
        # The name may be a link, and the program beside it is the one of that folder all the same.
        return Scenario(name, f"{folder.path}/{programs[0]}", folder.path)
    if programs:
        raise _unfit(place, name, "holds several programs", f"Name the one to start {_RUN}.")
    raise _unfit(
        place,
        name,
        "holds no program with the run bit",
        "Give it to one, or begin the name of the folder with an underscore if it is no scenario.",
    )


def _entry(place: ScenarioTree, path: str) -> Found | None:
    """What a path leads to; None for a submodule."""
    found = follow(place.repo, place.tree, path)
    if isinstance(found, ScriptProblem):
        raise ConfigError(f"in the scenarios of {place.shown}, {found.detail}")
    return found if found is not None and found.mode in (_TREE, _FILE, _PROGRAM) else None


def _names(repo: Repo, tree: str) -> list[str]:
    root: object = repo.handle[tree]
    assert isinstance(root, pygit2.Tree)
    return [entry.name or "" for entry in root]


def _unfit(place: ScenarioTree, path: str, why: str, hint: str = "") -> ConfigError:
    return ConfigError(f"{quote(path)} in the scenarios of {place.shown} {why}", hint=hint)


def lay_out(repo: Repo, tree: str, folder: Path) -> None:
    """Write a tree into a new private folder. Raises ConfigError, Unwritable."""
    try:
        folder.mkdir(mode=0o700)
        write_out(repo, tree, folder)
    except (OSError, RepositoryError, KeyError, ValueError, pygit2.GitError) as error:
        raise as_unwritable(error, folder) or ConfigError(
            f"the tree {tree} can't be written out: {error}"
        ) from error
