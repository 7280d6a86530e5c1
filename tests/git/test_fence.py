"""Where the hooks of a fence are found, and where they are not."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from aynig.git.fence import put_up
from aynig.git.repo import Repo
from tests.world import GitRepo


def fenced(
    repo: GitRepo, folder: Path, given: Mapping[str, str] | None = None, ref: str = "task"
) -> dict[str, str]:
    """The environment of a script whose branch is guarded."""
    fence = put_up(Repo.open(repo.path), folder, f"refs/heads/{ref}")
    assert fence is not None
    return fence.around({**os.environ, **(given or {})})


def allows(place: Path, env: Mapping[str, str], *args: str) -> bool:
    """Does git do this in an environment?"""
    return not subprocess.run(["git", *args], cwd=place, env=env, capture_output=True).returncode


@pytest.mark.parametrize(
    "name", ["a b", "a'b", 'a"b', "a\\b", "a*b", "[ab]", "a?b", "$x", "#;", "ü"]
)
def test_whatever_a_repository_is_called_its_branch_is_guarded(tmp_path: Path, name: str) -> None:
    repo = GitRepo.init(tmp_path / name)
    repo.git("branch", "task")
    env = fenced(repo, tmp_path / name / ".git" / name)
    assert not allows(repo.path, env, "branch", "-D", "task")
    assert allows(repo.path, env, "branch", "other")


def test_a_repository_with_a_line_break_in_its_path_has_no_fence(tmp_path: Path) -> None:
    """It has no place in a setting, and git would refuse all commands of the script."""
    repo = GitRepo.init(tmp_path / "a\nb")
    assert put_up(Repo.open(repo.path), tmp_path / "hooks", "refs/heads/task") is None


@pytest.mark.parametrize("name", ["fix/ü", "-x", "a'b", "a$b", "a;b", "a%b", "x.lock.y", "\udcff"])
def test_whatever_a_branch_is_called_it_is_guarded(
    repo: GitRepo, tmp_path: Path, name: str
) -> None:
    env = fenced(repo, tmp_path / "hooks", ref=name)
    assert not allows(repo.path, env, "update-ref", f"refs/heads/{name}", "HEAD")


def test_settings_of_the_environment_stay(repo: GitRepo, tmp_path: Path) -> None:
    given = {
        "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "user.name", "GIT_CONFIG_VALUE_0": "Grace",
    }  # fmt: skip
    env = fenced(repo, tmp_path / "hooks", given)
    assert allows(repo.path, env, "config", "--get", "user.name", "Grace")
    assert not allows(repo.path, env, "update-ref", "refs/heads/task", "HEAD")


def test_linked_worktrees_are_guarded_and_other_repositories_are_not(
    repo: GitRepo, tmp_path: Path
) -> None:
    repo.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "linked"))
    other = GitRepo.init(tmp_path / "other")
    inner = GitRepo.init(repo.git_dir / "modules" / "inner", bare=True)
    inner.commit("x", branch="x")
    env = fenced(repo, tmp_path / "hooks")
    args = ("update-ref", "refs/heads/task", "HEAD")
    assert not allows(tmp_path / "linked", env, *args)
    assert not allows(repo.git_dir, env, *args)
    assert allows(other.path, env, *args)
    assert allows(inner.path, env, "update-ref", "refs/heads/task", "refs/heads/x")


def test_many_refs_at_once_are_looked_at_to_the_last(repo: GitRepo, tmp_path: Path) -> None:
    env = fenced(repo, tmp_path / "hooks")
    oid = repo.tip()
    for last, fine in (("task", False), ("other", True)):
        names = [*(f"{last}-x/{number}" for number in range(200)), last]
        done = subprocess.run(
            ["git", "update-ref", "--stdin"],
            cwd=repo.path,
            env=env,
            input="".join(f"create refs/heads/{name} {oid}\n" for name in names).encode(),
            capture_output=True,
            check=False,
        )
        assert (done.returncode == 0) == fine


def test_hooks_of_the_repository_are_called_with_all_that_they_are_to_read(
    repo: GitRepo, tmp_path: Path
) -> None:
    log, hook = tmp_path / "log", repo.git_dir / "hooks" / "reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f'#!/bin/sh\n[ "$1" = prepared ] || exit 0\ncat >>{log}\n')
    hook.chmod(0o755)
    env = fenced(repo, tmp_path / "hooks")
    zero, oid = "0" * 40, repo.tip()
    expected = [f"{zero} {oid} refs/heads/x/{number}" for number in range(20)]
    for lines in (expected[:1], expected[1:]):
        subprocess.run(
            ["git", "update-ref", "--stdin"],
            cwd=repo.path,
            env=env,
            input="".join(f"create {line.split()[2]} {oid}\n" for line in lines).encode(),
            check=True,
        )
    assert log.read_text().splitlines() == expected


def test_a_fence_whose_files_are_gone_refuses_rather_than_lets_through(
    repo: GitRepo, tmp_path: Path
) -> None:
    env = fenced(repo, tmp_path / "hooks")
    config = tmp_path / "hooks" / "config"
    config.write_text(f'[core]\n\thooksPath = "{tmp_path}/hooks"\n')
    other = tmp_path / "other"
    other.write_bytes(config.read_bytes())
    env = {name: str(other) if value == str(config) else value for name, value in env.items()}
    config.unlink()
    assert not allows(repo.path, env, "branch", "other")
