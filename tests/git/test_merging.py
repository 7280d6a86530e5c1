"""Files of several commits are merged as git would, by nothing that runs a program."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from aynig.errors import RepositoryError
from aynig.git.merging import Conflict, Merged, merge_files
from aynig.git.repo import Repo
from tests.world import GitRepo

Files = Mapping[str, str | bytes | None]
LONG = "".join(f"line {n}\n" for n in range(40))


@pytest.fixture
def base(repo: GitRepo) -> str:
    return repo.commit("base", files={"a": LONG, "b": LONG, "run": "#!/bin/sh\n"})


def branch(repo: GitRepo, base: str, name: str, files: Files) -> str:
    return repo.commit(name, branch=name, parent=base, files=files)


def changed(number: int) -> str:
    return LONG.replace(f"line {number}\n", f"changed {number}\n")


def by_git(repo: GitRepo, path: Path, base: str, *tips: str) -> str:
    """The tree that git itself comes to, in a worktree of its own."""
    repo.git("worktree", "add", "--quiet", "--detach", str(path), base)
    for tip in tips:
        repo.git("-C", str(path), "merge", "--quiet", "--no-edit", tip)
    return repo.git("-C", str(path), "rev-parse", "HEAD^{tree}")


@pytest.mark.parametrize("way", ["sequential", "octopus"])
def test_what_fits_together_is_merged_as_git_does(
    repo: GitRepo, base: str, tmp_path: Path, way: str
) -> None:
    tips = [
        branch(repo, base, "one", {"a": changed(1), "new/deep": "1\n"}),
        branch(repo, base, "two", {"a": changed(20), "b": None}),
        branch(repo, base, "three", {"a": changed(38), "run": "#!/bin/sh\nexit\n"}),
    ]
    merged = merge_files(Repo.open(repo.path), base, tips, way)
    assert merged == Merged(by_git(repo, tmp_path / "wt", base, *tips))


def test_renames_are_followed_one_after_the_other_and_not_all_at_once(
    repo: GitRepo, base: str, tmp_path: Path
) -> None:
    tips = [
        branch(repo, base, "one", {"a": None, "renamed": LONG}),
        branch(repo, base, "two", {"a": changed(20)}),
    ]
    opened = Repo.open(repo.path)
    merged = merge_files(opened, base, tips, "sequential")
    assert merged == Merged(by_git(repo, tmp_path / "wt", base, *tips))
    assert isinstance(merge_files(opened, base, tips, "octopus"), Conflict)


def test_a_tip_that_is_there_already_changes_nothing(repo: GitRepo, base: str) -> None:
    one = branch(repo, base, "one", {"a": changed(1)})
    opened = Repo.open(repo.path)
    tree = repo.git("rev-parse", f"{one}^{{tree}}")
    assert merge_files(opened, one, [base, one], "sequential") == Merged(tree)


@pytest.mark.parametrize("way", ["sequential", "octopus"])
@pytest.mark.parametrize(
    ("ours", "theirs", "paths"),
    [
        pytest.param({"a": changed(1)}, {"a": LONG.replace("line 1\n", "x\n")}, ("a",), id="text"),
        pytest.param({"bin": b"\0one"}, {"bin": b"\0two"}, ("bin",), id="binary"),
        pytest.param({"a": changed(1)}, {"a": None}, ("a",), id="changed here, deleted there"),
        pytest.param(
            {"new": "one\n", "z": "1\n"}, {"new": "two\n", "z": "2\n"}, ("new", "z"),
            id="added on both sides, all paths are named",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(
    repo: GitRepo, base: str, way: str, ours: Files, theirs: Files, paths: tuple[str, ...]
) -> None:
    one, two = branch(repo, base, "one", ours), branch(repo, base, "two", theirs)
    assert merge_files(Repo.open(repo.path), base, [one, two], way) == Conflict(two, paths)


@pytest.mark.parametrize("mode", ["120000", "160000"])
def test_links_and_submodules_that_differ_do_not_fit(repo: GitRepo, base: str, mode: str) -> None:
    tips = []
    for name in ("one", "two"):
        oid = base if name == "one" else repo.tip()
        if mode == "120000" or name == "two":
            oid = repo.git("hash-object", "-w", "--stdin", stdin=name)
        if mode == "160000":
            oid = branch(repo, base, f"sub-{name}", {"x": name})
        repo.git("read-tree", base, env=_index(repo))
        repo.git("update-index", "--add", "--cacheinfo", f"{mode},{oid},thing", env=_index(repo))
        tree = repo.git("write-tree", env=_index(repo))
        tips.append(repo.git("commit-tree", tree, "-p", base, stdin=name))
    found = merge_files(Repo.open(repo.path), base, tips, "sequential")
    assert found == Conflict(tips[1], ("thing",))


def _index(repo: GitRepo) -> dict[str, str]:
    return {"GIT_INDEX_FILE": str(repo.git_dir / "merging-index")}


def test_no_program_runs_that_attributes_ask_for(repo: GitRepo, base: str, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    repo.git("config", "merge.mine.driver", f"touch {ran}")
    repo.git("config", "filter.mine.clean", f"touch {ran}; cat")
    repo.git("config", "filter.mine.smudge", f"touch {ran}; cat")
    attributes = "a merge=mine filter=mine\n"
    (repo.path / ".gitattributes").write_text(attributes)
    (repo.git_dir / "info").mkdir(exist_ok=True)
    (repo.git_dir / "info/attributes").write_text(attributes)
    one = branch(repo, base, "one", {".gitattributes": attributes, "a": changed(1)})
    two = branch(repo, base, "two", {".gitattributes": attributes, "a": changed(20)})
    assert isinstance(merge_files(Repo.open(repo.path), base, [one, two], "sequential"), Merged)
    assert not ran.exists()


def test_a_name_that_is_no_text_is_named_all_the_same(repo: GitRepo, base: str) -> None:
    name = b"\xff".decode("utf-8", "surrogateescape")
    one, two = branch(repo, base, "one", {name: "1"}), branch(repo, base, "two", {name: "2"})
    assert merge_files(Repo.open(repo.path), base, [one, two], "octopus") == Conflict(two, (name,))


def test_a_commit_that_is_missing_is_said(repo: GitRepo, base: str) -> None:
    with pytest.raises(RepositoryError, match="can't be merged"):
        merge_files(Repo.open(repo.path), base, ["1" * 40], "sequential")
