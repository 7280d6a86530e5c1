from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from aynig.config import parse_workflow
from aynig.starter import CONFIG, FILES, HELLO
from tests.world import GitRepo, aynig


def files_of(repo: GitRepo, rev: str = "HEAD") -> list[str]:
    return repo.git("ls-tree", "-r", "--name-only", rev).splitlines()


def test_the_sample_works_at_once(repo: GitRepo) -> None:
    made = aynig("init", cwd=repo.path)
    assert made.returncode == 0, made.stderr
    repo.git("add", ".aynig")
    repo.git("commit", "--quiet", "-m", "Add aynig")
    message = "Say hello\n\nthree words here\n\naynig: hello\n"
    repo.commit(message, branch="task", parent=repo.tip())
    done = aynig("run", cwd=repo.path)
    assert done.returncode == 0, done.stderr
    assert repo.state("task") == "done"
    assert repo.fields("task")["meta-words"] == "3"
    assert repo.git("show", "task:hello.txt").strip() == "three words here"


def test_the_commands_that_come_next_are_printed(repo: GitRepo) -> None:
    told = aynig("init", cwd=repo.path).stdout
    assert "made .aynig/hello" in told
    command = next(line for line in told.splitlines() if "git add" in line)
    subprocess.run(["sh", "-c", command], cwd=repo.path, check=True, capture_output=True)
    assert files_of(repo) == [".aynig/config.yaml", ".aynig/hello"]
    assert repo.git("ls-tree", "HEAD", ".aynig/hello").startswith("100755 ")


def test_a_repository_that_keeps_no_run_bits_is_told_of_it(repo: GitRepo) -> None:
    repo.git("config", "core.fileMode", "false")
    told = aynig("init", cwd=repo.path).stdout
    command = next(line for line in told.splitlines() if "git add" in line)
    subprocess.run(["sh", "-c", command], cwd=repo.path, check=True, capture_output=True)
    assert repo.git("ls-tree", "HEAD", ".aynig/hello").startswith("100755 ")


def test_files_are_made_at_the_top_also_from_a_subdirectory(repo: GitRepo) -> None:
    below = repo.path / "deep" / "down"
    below.mkdir(parents=True)
    aynig("init", cwd=below)
    assert (repo.path / ".aynig" / "hello").stat().st_mode & 0o111
    assert not (below / ".aynig").exists()


def test_nothing_is_written_over_and_what_was_there_is_told(repo: GitRepo) -> None:
    (repo.path / ".aynig").mkdir()
    (repo.path / ".aynig" / "hello").write_text("mine")
    done = aynig("init", "--json", cwd=repo.path)
    assert json.loads(done.stdout) == [
        {"path": ".aynig/hello", "made": False, "branch": None, "commit": None},
        {"path": ".aynig/config.yaml", "made": True, "branch": None, "commit": None},
    ]
    assert (repo.path / ".aynig" / "hello").read_text() == "mine"
    again = aynig("init", cwd=repo.path)
    assert again.returncode == 0
    assert again.stdout.count("there already:") == 2


@pytest.mark.parametrize("kind", ["file", "link"])
def test_something_else_in_the_place_of_the_folder_is_an_error(repo: GitRepo, kind: str) -> None:
    place = repo.path / ".aynig"
    if kind == "file":
        place.write_text("")
    else:
        place.symlink_to("/tmp")
    done = aynig("init", cwd=repo.path)
    assert done.returncode == 1
    assert "is no folder" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("empty", [True, False], ids=["unborn", "with-commits"])
def test_a_bare_repository_gets_a_commit_on_its_default_branch(tmp_path: Path, empty: bool) -> None:
    bare = GitRepo.init(tmp_path / "b.git", bare=True, empty=empty)
    if not empty:
        bare.commit("more", files={"README": "text", ".aynig/own": "#!/bin/sh\n"})
    before = bare.tip()
    done = aynig("init", cwd=bare.path)
    assert done.returncode == 0, done.stderr
    assert bare.tip() in bare.git("rev-list", "--all", "--max-count=1")
    assert bare.git("rev-parse", "main^@") == before
    kept = [] if empty else [".aynig/own", "README"]
    assert sorted(files_of(bare)) == sorted([*FILES, *kept])
    assert bare.git("ls-tree", "HEAD", ".aynig/hello").startswith("100755 ")
    # git itself does not write the empty tree, though commits name it.
    bare.git("hash-object", "-t", "tree", "-w", "--stdin")
    assert "missing" not in bare.git("fsck", "--strict")
    assert bare.state() == ""


def test_in_a_bare_repository_a_second_time_makes_no_commit(bare: GitRepo) -> None:
    aynig("init", cwd=bare.path)
    tip = bare.tip()
    again = aynig("init", "--json", cwd=bare.path)
    assert [row["made"] for row in json.loads(again.stdout)] == [False, False]
    assert bare.tip() == tip


def test_a_file_in_a_bare_repository_is_not_replaced(bare: GitRepo) -> None:
    bare.commit("own", files={".aynig/hello": "#!/bin/sh\n# mine\n"})
    aynig("init", cwd=bare.path)
    assert bare.git("show", "main:.aynig/hello") == "#!/bin/sh\n# mine"


def test_a_default_branch_that_somebody_has_checked_out_is_left_alone(
    bare: GitRepo, tmp_path: Path
) -> None:
    bare.git("worktree", "add", "--quiet", str(tmp_path / "linked"), "main")
    tip = bare.tip()
    done = aynig("init", cwd=bare.path)
    assert done.returncode == 1
    assert "is checked out in" in done.stderr
    assert bare.tip() == tip


def test_a_bare_repository_with_a_detached_head_has_no_default_branch(bare: GitRepo) -> None:
    (bare.path / "HEAD").write_text(bare.tip() + "\n")
    done = aynig("init", cwd=bare.path)
    assert done.returncode == 1
    assert "git symbolic-ref HEAD" in done.stderr


def test_the_config_file_is_valid_as_it_is_and_with_all_its_comments_taken_out() -> None:
    workflow = parse_workflow(CONFIG, where="config.yaml")
    bare_text = "\n".join(line for line in CONFIG.splitlines() if not line.lstrip().startswith("#"))
    assert parse_workflow(bare_text, where="config.yaml") == workflow
    settings = workflow.of("hello")
    assert (settings.next, settings.on_failure, settings.timeout) == ("done", "failed", 300.0)


def test_what_is_commented_out_in_the_config_file_is_valid_too() -> None:
    opened = re.sub(r"^( +)# ([a-z-]+: [a-z]+)$", r"\1\2", CONFIG, flags=re.MULTILINE)
    assert parse_workflow(opened, where="config.yaml").of("hello").role == "greeter"


def test_every_key_of_the_config_file_is_explained() -> None:
    from aynig.config import RUN_KEYS

    lines = CONFIG.splitlines()
    for key in RUN_KEYS:
        place = next(
            number for number, line in enumerate(lines) if line.lstrip("# ").startswith(f"{key}:")
        )
        assert lines[place - 1].lstrip().startswith("# "), key


def test_the_sample_state_is_plain_posix_shell() -> None:
    subprocess.run(["sh", "-n"], input=HELLO.encode(), check=True)
