"""Trees are listed and added to without an index or a working tree."""

from __future__ import annotations

import pytest

from aynig.errors import RepositoryError
from aynig.git.repo import EMPTY_TREE, Repo
from aynig.git.trees import FILE, PROGRAM, add_files, list_files
from tests.world import GitRepo

LINK = 0o120000


def listing(repo: GitRepo, tree: str) -> dict[str, str]:
    """Path and mode of all files, as git itself lists them."""
    rows = repo.git("ls-tree", "-r", "-z", tree).split("\0")
    return {row.partition("\t")[2]: row.split(" ")[0] for row in rows if row}


def test_files_are_put_into_a_new_tree(repo: GitRepo) -> None:
    files = {
        "a": (FILE, b"a"),
        "x/y/z": (PROGRAM, b"#!/bin/sh\n"),
        "x/link": (LINK, b"y/z"),
        "x-y": (FILE, b""),
    }
    tree = add_files(Repo.open(repo.path), None, files)
    assert listing(repo, tree) == {
        "a": "100644", "x-y": "100644", "x/link": "120000", "x/y/z": "100755",
    }  # fmt: skip
    assert repo.git("cat-file", "blob", f"{tree}:x/y/z") == "#!/bin/sh"
    repo.git("update-ref", "refs/heads/new", repo.git("commit-tree", tree, "-m", "x"))
    # git knows the empty tree of `main` without writing it, and fsck misses it.
    repo.git("hash-object", "-w", "-t", "tree", "--stdin")
    repo.git("fsck", "--strict")


def test_what_was_in_the_tree_stays_but_for_what_is_replaced(repo: GitRepo) -> None:
    repo.commit("x", files={"a": "old", "x/one": "1", "x/two": "2", "other/file": "3"})
    before = repo.git("rev-parse", "main^{tree}")
    tree = add_files(
        Repo.open(repo.path), before, {"a": (PROGRAM, b"new"), "x/one": (FILE, b"one")}
    )
    changed = repo.git("diff-tree", "-r", "--name-only", before, tree).splitlines()
    assert changed == ["a", "x/one"]
    assert repo.git("cat-file", "blob", f"{tree}:x/one") == "one"
    assert listing(repo, tree)["a"] == "100755"


def test_nothing_to_add_changes_nothing(repo: GitRepo) -> None:
    repo.commit("x", files={"a/b": "1"})
    tree = repo.git("rev-parse", "main^{tree}")
    opened = Repo.open(repo.path)
    assert add_files(opened, tree, {}) == tree
    assert add_files(opened, None, {}) == EMPTY_TREE


def test_a_path_through_a_file_is_refused(repo: GitRepo) -> None:
    repo.commit("x", files={"a/b": "1"})
    tree = repo.git("rev-parse", "main^{tree}")
    with pytest.raises(RepositoryError, match="b is no folder") as told:
        add_files(Repo.open(repo.path), tree, {"a/b/c": (FILE, b"")})
    assert told.value.hint


def test_a_file_takes_the_place_of_a_folder(repo: GitRepo) -> None:
    repo.commit("x", files={"a/b": "1"})
    tree = repo.git("rev-parse", "main^{tree}")
    assert listing(repo, add_files(Repo.open(repo.path), tree, {"a": (FILE, b"")})) == {
        "a": "100644"
    }


def test_names_of_odd_letters_are_kept(repo: GitRepo) -> None:
    opened = Repo.open(repo.path)
    tree = add_files(opened, None, {"ü/a b\n": (FILE, b"")})
    assert list(listing(repo, tree)) == ["ü/a b\n"]
    assert list_files(opened, tree, ["ü"]) == {"ü/a b\n": FILE}


def test_all_below_the_folders_is_listed_and_nothing_else(repo: GitRepo) -> None:
    repo.commit("x", files={"in/a": "1", "in/deep/er/b": "#!/bin/sh\n", "too/c": "1", "out/d": "1"})
    opened, tree = Repo.open(repo.path), repo.git("rev-parse", "main^{tree}")
    assert list_files(opened, tree, ["in", "too", "gone"]) == {
        "in/a": FILE, "in/deep/er/b": PROGRAM, "too/c": FILE,
    }  # fmt: skip
    assert list_files(opened, tree, []) == {}
    assert list_files(opened, tree, ["in/deep"]) == {"in/deep/er/b": PROGRAM}


def test_a_file_or_a_link_in_the_place_of_a_folder_is_listed_itself(repo: GitRepo) -> None:
    opened = Repo.open(repo.path)
    tree = add_files(opened, None, {"file": (FILE, b""), "link": (LINK, b"file")})
    assert list_files(opened, tree, ["file", "link"]) == {"file": FILE, "link": LINK}


def test_a_submodule_is_a_file_here(repo: GitRepo) -> None:
    entry = f"160000 commit {'1' * 40}\tmodule"
    inside = repo.git("mktree", "--missing", stdin=entry + "\n")
    tree = repo.git("mktree", stdin=f"040000 tree {inside}\tlib\n")
    assert list_files(Repo.open(repo.path), tree, ["lib"]) == {"lib/module": 0o160000}
