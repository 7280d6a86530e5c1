"""A repository is put together the same way from wherever it is opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from aynig.diagnosis import examine
from aynig.errors import ConfigError
from aynig.git.repo import Repo
from aynig.site import load_settings, tell_apart, worktree_place
from tests.stage import Stage
from tests.world import GitRepo


def place(folder: Path) -> Path:
    """Where worktrees go for a command that is started in `folder`."""
    repo = Repo.open(folder)
    found = worktree_place(repo, load_settings(repo))
    assert found is not None
    return found.parent


def test_a_relative_folder_of_worktrees_is_below_the_top_of_the_working_tree(
    repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = repo.path / "a/b"
    below.mkdir(parents=True)
    repo.git("worktree", "add", "-q", str(tmp_path / "linked"))
    repo.git("config", "aynig.worktreeDir", "../trees")
    for folder in (repo.path, below, tmp_path / "linked"):
        monkeypatch.chdir(folder)
        assert place(Path()) == tmp_path / "trees"


def test_in_a_bare_repository_it_is_below_the_git_directory(
    bare: GitRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare.git("config", "aynig.worktreeDir", "trees")
    for folder in (bare.path, bare.path / "refs"):
        monkeypatch.chdir(folder)
        assert place(Path()) == bare.path / "trees"


def test_a_run_from_a_subdirectory_uses_that_folder(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.repo.git("config", "aynig.worktreeDir", "../trees")
    stage.task("pwd >where")
    (stage.repo.path / "below").mkdir()
    monkeypatch.chdir(stage.repo.path / "below")
    Stage(GitRepo(Path())).run()
    where = stage.repo.git("show", "task:where")
    assert Path(where).is_relative_to(tmp_path / "trees")


def test_the_home_of_nobody_is_an_error_that_names_the_setting(repo: GitRepo) -> None:
    repo.git("config", "aynig.worktreeDir", "~nobody-of-this-name/trees")
    with pytest.raises(ConfigError, match=r"aynig\.worktreeDir.*nobody-of-this-name"):
        place(repo.path)
    found = [one for one in examine(repo.path) if one.check == "settings"]
    assert [one.level for one in found] == ["error"]


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("places", "names"),
    [
        (["/srv/web"], ["web"]),
        (["/srv/web.git", "/srv/api"], ["web", "api"]),
        (["/srv/alice/web", "/srv/bob/web", "/srv/api"], ["alice/web", "bob/web", "api"]),
        (["/a/x/web", "/b/x/web", "/web"], ["a/x/web", "b/x/web", "/web"]),
        (["/srv/web", "/srv/web.git"], ["/srv/web", "/srv/web.git"]),
        (["/srv/web/.git", "/srv/api/.git"], ["/srv/web/.git", "/srv/api/.git"]),
    ],
)
def test_repositories_are_told_apart_by_as_little_of_their_paths_as_it_takes(
    places: list[str], names: list[str]
) -> None:
    assert tell_apart([Path(place) for place in places]) == names
