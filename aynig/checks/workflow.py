"""The workflow: settings, config.yaml, and the scripts of the tree that is trusted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from aynig import flaws
from aynig.checks import ERROR, OK, WARNING, Finding
from aynig.declared import FOLDERS, read_tree
from aynig.errors import ConfigError
from aynig.facts import CONFIG_FILE, trusted_commit, trusted_name
from aynig.flaws import Flaw
from aynig.flow import script_at
from aynig.git.repo import Repo
from aynig.git.trees import PROGRAM, list_files
from aynig.model import ScriptProblem
from aynig.settings import SCRIPTS_OF_BRANCH
from aynig.site import Site
from aynig.text import shell_word


def check_workflow(site: Site) -> Iterator[Finding]:
    """All that can be told about the scripts and the config file without running anything."""
    tree, where = _tree(site)
    if tree is None:
        detail = f"{where} does not exist yet, so there are no scripts but those of aynig's own"
        yield Finding("scripts", OK, detail, "aynig init")
        return
    files = list_files(site.repo, tree, FOLDERS)
    usable: list[str] = []
    for path, mode in sorted(files.items()):
        yield from _script(site, tree, path, mode, usable)
    if usable:
        yield Finding("scripts", OK, f"{len(usable)} on {where}: {', '.join(usable)}")
    else:
        detail = f"none on {where}: there are only those of aynig's own"
        yield Finding("scripts", OK, detail, "aynig init")
    yield from _config(site, tree, where)
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
    place = script_at(path)
    return place[0] if place else None


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


def _config(site: Site, tree: str, where: str) -> Iterator[Finding]:
    try:
        declared = read_tree(site.repo, tree, CONFIG_FILE)
    except ConfigError as error:
        yield Finding("config", ERROR, str(error), error.hint)
        return
    if not declared.given:
        yield Finding("config", OK, f"no {CONFIG_FILE} on {where}: all states have the defaults")
        return
    found = [flaw for flaw in declared.flaws if flaw.level in _LEVELS and not _has_row(flaw)]
    for flaw in found:
        line = declared.line_of(flaw.path)
        place = f"{CONFIG_FILE}, line {line}" if line else CONFIG_FILE
        detail = f"{place}: {flaw.path}: {flaw.detail}"
        yield Finding("config", _LEVELS[flaw.level], detail, flaw.mend)
    if not found:
        yield Finding("config", OK, f"{CONFIG_FILE} on {where} is right")


# Notes are for `aynig check`.
_LEVELS = {flaws.ERROR: ERROR, flaws.WARNING: WARNING}


def _has_row(flaw: Flaw) -> bool:
    """What may be wrong with a script that is there has a row of its own above."""
    return flaw.word == "not-executable" and not flaw.path.startswith("agents.")


# --- the working tree ------------------------------------------------------------------------


def _uncommitted(repo: Repo, tree: str, where: str) -> Iterator[Finding]:
    """Scripts that lie in the working tree and were never committed: no task sees them."""
    if repo.work_tree is None:
        return
    for folder in FOLDERS:
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
