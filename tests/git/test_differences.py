"""What changed between two trees, shown to people."""

from __future__ import annotations

import pytest

from aynig.git.differences import difference
from aynig.git.repo import Repo
from tests.world import GitRepo


@pytest.fixture
def trees(repo: GitRepo) -> tuple[str, str]:
    old = repo.git("rev-parse", "main^{tree}")
    repo.commit("more", files={"file": "one\ntwo\n"})
    return old, repo.git("rev-parse", "main^{tree}")


@pytest.mark.parametrize(("show", "has_diff"), [("diff", True), ("stat", False)])
def test_a_diff_begins_with_the_files_that_changed(
    repo: GitRepo, trees: tuple[str, str], show: str, has_diff: bool
) -> None:
    text = difference(Repo.open(repo.path), *trees, show=show, most=4096)
    assert "file | 2 ++" in text
    assert ("+one\n+two" in text) == has_diff


@pytest.mark.parametrize("show", ["diff", "stat", "none"])
def test_nothing_is_said_of_nothing(repo: GitRepo, trees: tuple[str, str], show: str) -> None:
    opened = Repo.open(repo.path)
    assert difference(opened, trees[0], trees[0], show=show, most=4096) == ""
    assert difference(opened, *trees, show="none", most=4096) == ""


def test_a_long_diff_is_cut_and_says_how_to_see_the_rest(
    repo: GitRepo, trees: tuple[str, str]
) -> None:
    repo.commit("long", files={"long": "a line\n" * 10_000})
    new = repo.git("rev-parse", "main^{tree}")
    text = difference(Repo.open(repo.path), trees[0], new, show="diff", most=2048)
    assert len(text) < 2300
    assert text.endswith(f"(cut off; all of it: git diff {trees[0][:12]} {new[:12]})")


def test_no_program_of_the_repository_takes_part(repo: GitRepo, trees: tuple[str, str]) -> None:
    repo.git("config", "diff.external", "touch ran")
    repo.git("config", "diff.x.textconv", "touch ran;")
    (repo.git_dir / "info").mkdir(exist_ok=True)
    (repo.git_dir / "info/attributes").write_text("* diff=x\n")
    assert "+one" in difference(Repo.open(repo.path), *trees, show="diff", most=4096)
    assert not (repo.path / "ran").exists()
