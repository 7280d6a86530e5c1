"""A command in a hint can be copied into a shell, whatever a branch, a file or a key is called.

`test_text` says that a word that went through `shell_word` is read as itself. Here: that every
hint which holds a name of others sends it through there.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from aynig.checks.repository import check_refs
from aynig.errors import ConfigError
from aynig.git.repo import Repo
from aynig.model import Hold
from aynig.plan import make_plan
from aynig.settings import read_settings
from aynig.text import operand, shell_word
from tests.test_imports import MODULES
from tests.test_text import ODD_NAMES
from tests.values import OTHER_OID, event, facts
from tests.world import GitRepo

# Where in a text a shell command begins.
_PROGRAM = re.compile(r"(?:^|[`;&:] ?)(?:git|aynig|rm|sed|kill) [a-z-][^`]*$")
# What makes a word of a command; other names are those of variables that hold such a word.
_MADE_WORDS = {"shell_word", "operand", "_word"}
# Numbers, oids and words of our own, and variables that were made by one of the above.
_SAFE = {
    "add", "commit", "flag", "git", "message", "oid", "remote", "row.example", "row.key", "word",
    "RESCUES", "old[:12]", "new[:12]",
}  # fmt: skip
# No command: a message of a commit, or the end of a sentence about a git that failed.
_NO_COMMANDS = {
    "lease",
    "presence",
    "git.worktree",
    "git.authorship",
    "git.command",
    "git.refs",
    "git.landings",
    "git.mirror",
    "showcase",
}


def interpolated(path: Path) -> Iterator[str]:
    """What f-strings of a module put in after the beginning of a command."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.JoinedStr):
            continue
        before = ""
        for piece in node.values:
            if isinstance(piece, ast.Constant):
                before += str(piece.value)
            elif isinstance(piece, ast.FormattedValue):
                if _PROGRAM.search(before):
                    yield ast.unparse(piece.value)
                # A variable `git` holds the beginning of a git command.
                before += ast.unparse(piece.value)


def is_a_word(expression: str) -> bool:
    return expression in _SAFE or expression.partition("(")[0] in _MADE_WORDS


@pytest.mark.parametrize("name", sorted(set(MODULES) - _NO_COMMANDS))
def test_what_stands_in_a_command_is_made_a_word_of_it(name: str) -> None:
    assert [found for found in interpolated(MODULES[name]) if not is_a_word(found)] == []


def test_commands_are_found_in_the_sources() -> None:
    assert "operand(event.branch)" in list(interpolated(MODULES["plan"]))
    assert "shell_word(key)" in list(interpolated(MODULES["settings"]))
    assert "_word(ref)" in list(interpolated(MODULES["checks.repository"]))


@pytest.mark.parametrize("name", [name for name in ODD_NAMES if name])
def test_the_hint_to_retry_names_the_branch_as_a_shell_needs_it(name: str) -> None:
    planned = make_plan(event(branch=name), facts(answered_by=OTHER_OID))
    assert isinstance(planned, Hold)
    assert f"`aynig retry {operand(name)}`" in planned.detail


@pytest.mark.parametrize("name", [name for name in ODD_NAMES if name])
def test_the_hint_to_remove_a_setting_names_it_as_a_shell_needs_it(name: str) -> None:
    key = f"aynig.{name}.jobs"
    with pytest.raises(ConfigError) as caught:
        read_settings([(key, "4")])
    assert caught.value.hint.endswith(f" --unset-all {shell_word(key)}")


@pytest.mark.parametrize("name", ["${IFS}x", "it's", "$(id)"])
def test_the_mend_of_a_broken_ref_names_it_as_a_shell_needs_it(repo: GitRepo, name: str) -> None:
    (finding,) = check_refs(Repo.open(repo.path), {f"refs/heads/{name}": "is empty"})
    place = repo.git_dir / "refs/heads" / name
    assert finding.mend.startswith(f"rm {shell_word(str(place))}, ")
    assert f" update-ref {shell_word(f'refs/heads/{name}')} OID" in finding.mend
