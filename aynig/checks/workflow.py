"""The workflow: settings, config.yaml, and the scripts of the tree that is trusted."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from aynig.checks import ERROR, OK, WARNING, Finding
from aynig.dialects import AYNIG, DWP, Dialect
from aynig.errors import ConfigError
from aynig.facts import CONFIG_FILE, read_workflow, trusted_commit, trusted_name
from aynig.git.repo import Repo
from aynig.git.trees import PROGRAM, list_files
from aynig.model import (
    ENDED_STATES,
    HELD_STATES,
    ROLE_PATTERN,
    STATE_PATTERN,
    ScriptProblem,
)
from aynig.settings import SCRIPTS_OF_BRANCH
from aynig.site import Site
from aynig.text import shell_word
from aynig.workflow import Workflow

# Where the scripts of each dialect lie, and the folder whose subfolders are roles.
_PLACES: tuple[tuple[Dialect, str], ...] = ((AYNIG, ".aynig"), (DWP, ".dwp"))


def check_workflow(site: Site) -> Iterator[Finding]:
    """All that can be told about the scripts and the config file without running anything."""
    tree, where = _tree(site)
    if tree is None:
        detail = f"{where} does not exist yet, so there are no scripts but those of aynig's own"
        yield Finding("scripts", OK, detail, "aynig init")
        return
    files = list_files(site.repo, tree, tuple(folder for _, folder in _PLACES))
    usable: list[str] = []
    for path, mode in sorted(files.items()):
        yield from _script(site, tree, path, mode, usable)
    if usable:
        yield Finding("scripts", OK, f"{len(usable)} on {where}: {', '.join(usable)}")
    else:
        detail = f"none on {where}: there are only those of aynig's own"
        yield Finding("scripts", OK, detail, "aynig init")
    yield from _config(site, tree, files, where)
    yield from _uncommitted(site.repo, tree, where)


def _tree(site: Site) -> tuple[str | None, str]:
    """The tree that scripts come from and what to call it: HEAD's where each task brings its own.

    Raises ConfigError where a ref was named and is missing.
    """
    name = trusted_name(site.repo, site.settings)
    oid = trusted_commit(site.repo, site.settings) if name else site.repo.resolve("HEAD")
    if oid is None and site.settings.scripts not in ("", SCRIPTS_OF_BRANCH):
        raise ConfigError(
            f"scripts come from {name}, which does not exist",
            hint="Push that branch, or name another with `git config aynig.scripts`.",
        )
    return (site.repo.commit(oid).tree if oid else None), name or "HEAD"


# --- scripts ---------------------------------------------------------------------------------


def _script(site: Site, tree: str, path: str, mode: int, usable: list[str]) -> Iterator[Finding]:
    """One file of the trusted tree; the paths of those that can run are added to `usable`."""
    state = _state_of(path)
    if state is None:
        if mode == PROGRAM and _may_hold_scripts(path.rpartition("/")[0]):
            detail = f"{path} is executable, but its name is no state (a-z, 0-9, - and _)"
            yield Finding("scripts", WARNING, detail, _rename(path))
        return
    folder, _, name = path.partition("/")
    found = site.shelf.find(tree, folder, (name,), state)
    if not isinstance(found, ScriptProblem):
        usable.append(name)
        return
    if found.word == "not-executable" and not _has_shebang(site.repo, tree, path):
        # Some file that a script reads.
        return
    yield Finding("scripts", ERROR, found.detail, _mend_script(found, path))


def _state_of(path: str) -> str | None:
    """The state that a file would be the script of; None for a file that can't be one."""
    for dialect, _ in _PLACES:
        parts = path.split("/")
        state = parts[-1]
        if path == CONFIG_FILE or not STATE_PATTERN.fullmatch(state):
            continue
        if path == dialect.script.format(state=state):
            return state
        for role in parts[2:3]:
            named = ROLE_PATTERN.fullmatch(role)
            if named and path == dialect.role_script.format(role=role, state=state):
                return state
    return None


def _may_hold_scripts(folder: str) -> bool:
    """Elsewhere lies what scripts call, under names of its own."""
    return _state_of(f"{folder}/x") is not None


def _rename(path: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"git mv {shell_word(path)} {shell_word(f'{folder}/{nearest_state(name)}')}"


def nearest_state(name: str) -> str:
    """The state that a file name comes nearest to: `Review it.sh` is `review-it`."""
    stem = name.partition(".")[0].lower()
    letters = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in stem)
    return letters.strip("-")[:64] or "state"


def _has_shebang(repo: Repo, tree: str, path: str) -> bool:
    entry = repo.entry(tree, path)
    return entry is not None and repo.blob(entry[1])[:2] == b"#!"


def _mend_script(problem: ScriptProblem, path: str) -> str:
    word = shell_word(path)
    commit = f"git commit -m {shell_word(f'Mend {Path(path).name}')}"
    if problem.word == "not-executable":
        return f"git update-index --chmod=+x {word} && {commit}"
    if "CRLF" in problem.detail:
        return f"sed -i 's/\\r$//' {word} && git add {word} && {commit}"
    if "first line" in problem.detail:
        return f"sed -i '1i #!/bin/sh' {word} && git add {word} && {commit}"
    if "not installed" in problem.detail:
        return "Install it on this machine, or name another interpreter in the first line."
    return f"Replace {word} by the script itself, and commit."


# --- config.yaml -----------------------------------------------------------------------------


def _config(site: Site, tree: str, files: Mapping[str, int], where: str) -> Iterator[Finding]:
    try:
        workflow = read_workflow(site, tree)
    except ConfigError as error:
        yield Finding("config", ERROR, str(error), error.hint)
        return
    if site.repo.entry(tree, CONFIG_FILE) is None:
        yield Finding("config", OK, f"no {CONFIG_FILE} on {where}: all states have the defaults")
        return
    missing = list(_states_without_script(site, tree, files, workflow))
    yield from missing
    if not missing:
        yield Finding("config", OK, f"{CONFIG_FILE} on {where} is right")


def _states_without_script(
    site: Site, tree: str, files: Mapping[str, int], workflow: Workflow
) -> Iterator[Finding]:
    """States that the file names and that nothing could run: tasks would stop there."""
    told = set()
    for name, settings in workflow.states:
        wanted = [("", name), ("next", settings.next), ("on-failure", settings.on_failure)]
        for key, state in wanted:
            if state is None or state in told or state in ENDED_STATES | HELD_STATES:
                continue
            role = workflow.of(state).role or "".join(site.settings.roles[:1])
            paths = AYNIG.scripts(state, role)
            found = site.shelf.find(
                tree, ".aynig", tuple(path.removeprefix(".aynig/") for path in paths), state
            )
            # What else may be wrong with a script has a row of its own.
            if isinstance(found, ScriptProblem) and not any(path in files for path in paths):
                told.add(state)
                said = f"states.{name}.{key}" if key else f"states.{name}"
                yield Finding(
                    "config",
                    WARNING,
                    f"{CONFIG_FILE}: {said} names the state {state}, which has no script",
                    f"Write {paths[0]} and commit it, or correct the name.",
                )


# --- the working tree ------------------------------------------------------------------------


def _uncommitted(repo: Repo, tree: str, where: str) -> Iterator[Finding]:
    """Scripts that lie in the working tree and were never committed: no task sees them."""
    if repo.work_tree is None:
        return
    for _, folder in _PLACES:
        for root, _, names in os.walk(repo.work_tree / folder):
            for name in sorted(names):
                path = str((Path(root) / name).relative_to(repo.work_tree))
                if _state_of(path) and repo.entry(tree, path) is None:
                    message = shell_word(f"Add {name}")
                    yield Finding(
                        "scripts",
                        WARNING,
                        f"{path} is in the working tree, but not in {where}: no task runs it",
                        f"git add --chmod=+x {shell_word(path)} && git commit -m {message}",
                    )
