"""Where a branch is checked out, and what keeps an answer from landing there."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from aynig.git.checkouts import BEFORE_A_RUN, find_checkout, has_no_files, obstacle
from aynig.git.repo import Repo
from aynig.model import HEADS
from tests.world import GitRepo

MAIN = HEADS + "main"
TASK = HEADS + "task"


@pytest.fixture
def world(repo: GitRepo) -> GitRepo:
    """`main` is checked out, with two files; `side` changes one of them in another way."""
    repo.commit("files", files={"a.txt": "one\n", "b.txt": "two\n"})
    repo.sync()
    repo.commit("side", branch="side", parent=repo.tip(), files={"a.txt": "side\n"})
    repo.commit("task", branch="task", parent=repo.tip(), files={"c.txt": "three\n"})
    return repo


def place(world: GitRepo, ref: str = MAIN) -> Path | None:
    """The working tree that has a branch."""
    found = find_checkout(Repo.open(world.path), ref)
    return found.work_tree if found else None


def in_the_way(world: GitRepo, ref: str = MAIN) -> str:
    found = find_checkout(Repo.open(world.path), ref)
    assert found is not None
    return obstacle(found, BEFORE_A_RUN)


def linked(world: GitRepo, *args: str) -> Path:
    folder = world.path.parent / "linked"
    world.git("worktree", "add", "--quiet", *args[:-1], str(folder), args[-1])
    return folder


def clash(world: GitRepo) -> None:
    """`main` and `side` no longer fit."""
    world.commit("ours", files={"a.txt": "ours\n"})
    world.sync()


# --- what is checked out where


def test_the_branch_of_the_main_working_tree_is_checked_out(world: GitRepo) -> None:
    assert place(world) == world.path
    assert place(world, TASK) is None


def test_the_branch_of_a_linked_worktree_is_checked_out(world: GitRepo) -> None:
    folder = linked(world, "task")
    assert place(world, TASK) == folder
    assert find_checkout(Repo.open(folder), MAIN) == find_checkout(Repo.open(world.path), MAIN)


def test_a_worktree_whose_folder_is_gone_has_no_branch(world: GitRepo) -> None:
    shutil.rmtree(linked(world, "task"))
    assert place(world, TASK) is None


def test_a_branch_in_two_working_trees_names_both(world: GitRepo) -> None:
    folder = linked(world, "--force", "main")
    found = find_checkout(Repo.open(world.path), MAIN)
    assert found is not None
    assert {found.work_tree, *(other.work_tree for other in found.others)} == {world.path, folder}
    (folder / "a.txt").write_text("changed\n")
    assert str(folder) in obstacle(found, BEFORE_A_RUN)


def test_a_detached_head_has_no_branch(world: GitRepo) -> None:
    world.git("checkout", "--quiet", "--detach")
    assert place(world) is None


def test_a_branch_without_a_commit_is_checked_out(tmp_path: Path) -> None:
    assert place(GitRepo.init(tmp_path / "new", empty=True)) == tmp_path / "new"


def test_a_bare_repository_has_nothing_checked_out(bare: GitRepo) -> None:
    assert place(bare) is None


def test_a_branch_that_is_being_rebased_is_checked_out(world: GitRepo) -> None:
    clash(world)
    world.git("rebase", "--quiet", "side", check=False)
    assert world.git("symbolic-ref", "--quiet", "HEAD", check=False) == ""
    assert place(world) == world.path
    assert "rebase" in in_the_way(world)
    world.git("rebase", "--abort")
    assert in_the_way(world) == ""


def test_a_branch_that_a_rebase_will_move_is_checked_out(world: GitRepo) -> None:
    stack = world.commit("more", branch="task", files={"d.txt": "four\n"})
    world.git("update-ref", HEADS + "top", world.commit("top", parent=stack, update=False))
    clash(world)
    world.git("checkout", "--quiet", "top")
    stop = {"GIT_SEQUENCE_EDITOR": "sed -i '1i break'"}
    world.git("rebase", "--interactive", "--update-refs", "main", env=stop)
    assert place(world, HEADS + "top") == world.path
    assert place(world, TASK) == world.path


def test_a_branch_that_is_being_bisected_is_checked_out(world: GitRepo) -> None:
    world.commit("later")
    world.commit("last")
    world.sync()
    world.git("bisect", "start", "main", "main~3")
    assert world.git("symbolic-ref", "--quiet", "HEAD", check=False) == ""
    assert place(world) == world.path
    assert "bisect" in in_the_way(world)
    world.git("bisect", "reset")
    assert in_the_way(world) == ""


# --- what is in the way


def test_a_clean_working_tree_is_no_obstacle(world: GitRepo) -> None:
    assert in_the_way(world) == ""


def test_untracked_and_ignored_files_alone_are_no_obstacle(world: GitRepo) -> None:
    (world.git_dir / "info").mkdir(exist_ok=True)
    (world.git_dir / "info" / "exclude").write_text("*.o\n")
    (world.path / "new.txt").write_text("mine\n")
    (world.path / "new.o").write_text("mine\n")
    assert in_the_way(world) == ""


def test_a_file_that_was_only_touched_is_no_obstacle(world: GitRepo) -> None:
    text = (world.path / "a.txt").read_bytes()
    (world.path / "a.txt").unlink()
    (world.path / "a.txt").write_bytes(text)
    assert in_the_way(world) == ""


def test_a_staged_change_is_an_obstacle(world: GitRepo) -> None:
    (world.path / "new.txt").write_text("mine\n")
    world.git("add", "new.txt")
    assert "(1 file)" in in_the_way(world)


def test_a_change_that_is_staged_and_taken_back_in_the_file_is_an_obstacle(
    world: GitRepo,
) -> None:
    (world.path / "a.txt").write_text("staged\n")
    world.git("add", "a.txt")
    (world.path / "a.txt").write_text("one\n")
    assert "uncommitted changes" in in_the_way(world)


def test_changes_that_are_not_staged_are_an_obstacle(world: GitRepo) -> None:
    (world.path / "a.txt").write_text("changed\n")
    (world.path / "b.txt").unlink()
    assert "(2 files)" in in_the_way(world)


def test_a_change_in_a_linked_worktree_is_no_obstacle_for_another(world: GitRepo) -> None:
    folder = linked(world, "task")
    (folder / "c.txt").write_text("changed\n")
    assert in_the_way(world) == ""
    assert "(1 file)" in in_the_way(world, TASK)


@pytest.mark.parametrize(
    ("command", "word"),
    [
        (["merge", "side"], "a merge"),
        (["merge", "--no-ff", "--no-commit", "task"], "a merge"),
        (["cherry-pick", "side"], "a cherry-pick"),
        (["cherry-pick", "side", "task"], "a cherry-pick"),
        (["revert", "HEAD~1"], "a revert"),
        (["rebase", "side"], "a rebase"),
        (["rebase", "--apply", "side"], "a rebase"),
    ],
    ids=["merge", "clean-merge", "cherry-pick", "two-picks", "revert", "rebase", "apply"],
)
def test_a_command_that_is_under_way_is_an_obstacle(
    world: GitRepo, command: list[str], word: str
) -> None:
    clash(world)
    world.git(*command, check=False)
    assert word in in_the_way(world)


def test_a_merge_under_way_in_a_linked_worktree_is_an_obstacle_there_only(world: GitRepo) -> None:
    folder = linked(world, "task")
    subprocess.run(
        ["git", "merge", "--quiet", "--no-ff", "--no-commit", "side"], cwd=folder, check=True
    )
    assert "a merge" in in_the_way(world, TASK)
    assert in_the_way(world) == ""


def test_a_held_index_lock_is_an_obstacle(world: GitRepo) -> None:
    lock = world.git_dir / "index.lock"
    lock.touch()
    assert "index.lock" in in_the_way(world)
    lock.unlink()
    assert in_the_way(world) == ""


def test_files_without_an_index_are_an_obstacle(world: GitRepo) -> None:
    (world.git_dir / "index").unlink()
    assert "no index" in in_the_way(world)


def test_an_index_that_git_can_not_read_is_an_obstacle(world: GitRepo) -> None:
    (world.git_dir / "index").write_bytes(b"nonsense")
    assert "git status fails" in in_the_way(world)


def test_a_clone_without_files_is_no_obstacle(world: GitRepo) -> None:
    world.git("clone", "--quiet", "--no-checkout", ".", str(world.path.parent / "clone"))
    clone = GitRepo(world.path.parent / "clone")
    found = find_checkout(Repo.open(clone.path), MAIN)
    assert found is not None
    assert has_no_files(found)
    assert obstacle(found, BEFORE_A_RUN) == ""


def test_looking_for_obstacles_does_not_write_the_index(world: GitRepo) -> None:
    before = (world.git_dir / "index").read_bytes()
    (world.path / "a.txt").touch()
    assert in_the_way(world) == ""
    assert (world.git_dir / "index").read_bytes() == before
