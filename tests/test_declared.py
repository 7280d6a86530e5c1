"""A declared workflow, read from a commit and from a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from aynig.declared import Declared, read_folder, read_tree
from aynig.errors import ConfigError
from aynig.git.repo import Repo
from tests.world import SCRIPT_OK, GitRepo

WHERE = ".aynig/config.yaml"
CONFIG = """\
states:
  build:
    on-failure: test
    join: {then: test}
start:
  - build
  - other
retries:
  max: 1
"""


def from_tree(repo: GitRepo, rev: str = "main") -> Declared:
    found = Repo.open(repo.path)
    oid = found.resolve(rev)
    assert oid is not None
    return read_tree(found, found.commit(oid).tree, WHERE)


@pytest.fixture
def written(repo: GitRepo) -> GitRepo:
    """A repository with scripts of all kinds, committed and checked out."""
    files = {
        WHERE: CONFIG,
        ".aynig/build": SCRIPT_OK,
        ".aynig/roles/coder/test": SCRIPT_OK,
        ".aynig/lib/shared": SCRIPT_OK,
        ".aynig/notes.md": "text",
        ".dwp/command/old": SCRIPT_OK,
        "elsewhere": SCRIPT_OK,
        "keys": "text",
    }
    repo.commit("files", files=files)
    repo.sync()
    (repo.path / ".aynig" / "linked").symlink_to("lib/shared")
    (repo.path / ".aynig" / "outside").symlink_to("../elsewhere")
    (repo.path / ".aynig" / "nothing").symlink_to("gone")
    (repo.path / ".aynig" / "plain").write_text("no run bit")
    repo.git("add", ".aynig")
    repo.git("commit", "--quiet", "-m", "links")
    return repo


def test_a_commit_and_a_folder_read_alike(written: GitRepo) -> None:
    tree, folder = from_tree(written), read_folder(written.path, WHERE)
    assert tree == folder
    assert {path for path, runs in tree.offer.files.items() if runs} == {
        ".aynig/build",
        ".aynig/roles/coder/test",
        ".aynig/lib/shared",
        ".aynig/linked",
        ".dwp/command/old",
    }
    assert set(tree.offer.scripts) == {
        "build",
        "test",
        "linked",
        "outside",
        "nothing",
        "plain",
        "old",
    }
    assert {"echo", "noop"} <= set(tree.offer.shipped)


def test_what_lies_in_the_folder_counts_and_not_what_was_committed(written: GitRepo) -> None:
    (written.path / WHERE).write_text("signed: required\n")
    (written.path / ".aynig" / "new").write_text("x")
    folder = read_folder(written.path, WHERE)
    assert folder.workflow.signed
    assert not from_tree(written).workflow.signed
    assert folder.offer.files[".aynig/new"] is False
    (written.path / ".aynig" / "allowed_signers").write_text("x")
    assert read_folder(written.path, WHERE).flaws == []


def test_each_key_path_is_found_in_its_line(written: GitRepo) -> None:
    declared = from_tree(written)
    places = [
        "states.build.on-failure",
        "states.build.join.then",
        "start[1]",
        "retries.max",
        "retries",
    ]
    assert [declared.line_of(path) for path in places] == [3, 4, 7, 9, 8]
    # What is not written there is part of something that is.
    assert declared.line_of("states.build.timeout") == 2
    assert declared.line_of("limits") is None


def test_flaws_come_in_the_order_of_the_file(written: GitRepo) -> None:
    (written.path / WHERE).write_text(
        "signed: required\nstart: [build]\nstates:\n  zeta: {next: done}\n  build: {agent: x}\n"
        "agents: {y: {command: gone}}\n"
    )
    flaws = read_folder(written.path, WHERE).flaws
    assert [flaw.path for flaw in flaws if flaw.level != "note"] == [
        "signed",
        "states.zeta",
        "states.zeta",
        "states.build.agent",
        "agents.y.command",
    ]


def test_without_a_config_file_there_is_nothing_to_find(repo: GitRepo, tmp_path: Path) -> None:
    for declared in (from_tree(repo), read_folder(tmp_path, WHERE)):
        assert not declared.given
        assert declared.flaws == []


def test_a_config_file_that_is_none_is_refused(repo: GitRepo) -> None:
    (repo.path / ".aynig").mkdir()
    (repo.path / WHERE).symlink_to("/etc/passwd")
    repo.git("add", ".aynig")
    repo.git("commit", "--quiet", "-m", "link")
    with pytest.raises(ConfigError, match="is no file"):
        from_tree(repo)
    with pytest.raises(ConfigError, match="is no file"):
        read_folder(repo.path, WHERE)


def test_a_file_that_is_too_large_is_refused_as_such(tmp_path: Path) -> None:
    (tmp_path / ".aynig").mkdir()
    (tmp_path / WHERE).write_text("#" * 300_000)
    with pytest.raises(ConfigError, match="expected at most 256 KiB"):
        read_folder(tmp_path, WHERE)
