"""`run_git` starts git with nothing of the surroundings that could lead it elsewhere."""

from __future__ import annotations

import math
import os
import signal
import subprocess
from pathlib import Path

import pytest

from aynig.errors import GitFailed
from aynig.git.command import (
    SAFE_SETTINGS,
    clean_environment,
    git_text,
    pipe_git,
    reason,
    run_git,
)
from aynig.processes import OWN, is_running
from tests.world import GitRepo

ELSEWHERE = {
    "GIT_DIR": "/nonexistent",
    "GIT_WORK_TREE": "/nonexistent",
    "GIT_INDEX_FILE": "/nonexistent",
    "GIT_OBJECT_DIRECTORY": "/nonexistent",
    "GIT_COMMON_DIR": "/nonexistent",
    "GIT_QUARANTINE_PATH": "/nonexistent",
    "GIT_NAMESPACE": "elsewhere",
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "core.bare",
    "GIT_CONFIG_VALUE_0": "true",
    "GIT_CONFIG_PARAMETERS": "'core.bare'='true'",
    "GIT_TRACE": "1",
}


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ELSEWHERE.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("elsewhere")
def test_a_repository_named_by_the_environment_is_not_taken_for_ours(tmp_path: Path) -> None:
    assert not set(ELSEWHERE) & set(clean_environment())


def test_git_names_no_variable_that_would_get_through() -> None:
    local = git_text(None, ["rev-parse", "--local-env-vars"]).split()
    os.environ.update(dict.fromkeys(local, "x"))
    assert not set(local) & set(clean_environment())


def test_identity_and_configuration_of_the_person_get_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GIT_SSH_COMMAND", "ssh -v")
    kept = clean_environment({"GIT_INDEX_FILE": "meant"})
    assert kept["GIT_AUTHOR_NAME"] == "Ada Author"
    assert kept["GIT_CONFIG_GLOBAL"] == os.environ["GIT_CONFIG_GLOBAL"]
    assert kept["GIT_SSH_COMMAND"] == "ssh -v"
    assert kept["GIT_INDEX_FILE"] == "meant"


def test_messages_are_in_the_language_that_is_read_here(
    monkeypatch: pytest.MonkeyPatch, repo: GitRepo
) -> None:
    monkeypatch.setenv("LANGUAGE", "de:fr")
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    monkeypatch.delenv("LC_ALL")
    done = run_git(repo.git_dir, ["rev-parse", "--verify", "none"])
    assert reason(done.stderr) == "Needed a single revision"
    assert clean_environment()["LANGUAGE"] == ""


def test_hooks_and_monitors_of_the_repository_do_not_run(repo: GitRepo, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(0o755)
    repo.git("config", "core.fsmonitor", str(program))
    hooks = repo.git_dir / "hooks"
    for name in ("reference-transaction", "post-checkout", "post-index-change"):
        (hooks / name).write_bytes(program.read_bytes())
        (hooks / name).chmod(0o755)
    git_text(repo.git_dir, ["checkout", "--quiet", "-b", "other"], work_tree=repo.path)
    git_text(repo.git_dir, ["status"], work_tree=repo.path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("complaints", "line"),
    [
        (b"", "no message"),
        (b"warning: x\nfatal: the reason\n\nAnother git process\nremove the file\n", "the reason"),
        (b"error: the reason\nfatal: adding files failed\n", "the reason"),
        (b"said\nlast\n", "last"),
        (b"fatal: \xff\n", "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_the_reason_is_the_first_line_that_git_marks(complaints: bytes, line: str) -> None:
    assert reason(complaints) == line


def test_a_command_that_fails_says_why(repo: GitRepo) -> None:
    with pytest.raises(GitFailed, match=r"^git rev-parse failed: Needed a single revision$"):
        git_text(repo.git_dir, ["rev-parse", "--verify", "--end-of-options", "none"])


@pytest.mark.parametrize("kind", ["gone", "file"])
def test_a_folder_that_is_none_is_told_of(repo: GitRepo, tmp_path: Path, kind: str) -> None:
    place = tmp_path / kind
    if kind == "file":
        place.write_text("")
    with pytest.raises(GitFailed, match=f"the folder {place} is gone"):
        run_git(repo.git_dir, ["status"], work_tree=place)


def test_without_git_there_is_a_hint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitFailed, match="not installed") as caught:
        run_git(None, ["version"])
    assert caught.value.hint


def test_a_nul_in_an_argument_is_an_error_of_ours(repo: GitRepo) -> None:
    with pytest.raises(GitFailed, match="can't be started"):
        run_git(repo.git_dir, ["rev-parse", "a\0b"])


def test_output_that_is_no_utf_8_comes_back_as_it_was(repo: GitRepo) -> None:
    name = os.fsdecode(b"caf\xe9")
    repo.git("branch", name)
    assert git_text(repo.git_dir, ["branch", "--list", name]).strip() == name


def test_much_input_and_much_output_at_once_do_not_block(repo: GitRepo) -> None:
    lines = f"{repo.tip()}\n".encode() * 50_000
    done = run_git(repo.git_dir, ["cat-file", "--batch-check"], stdin=lines)
    assert done.stdout.count(b"\n") == 50_000


def test_git_is_in_a_session_of_its_own_and_counts_as_ours(repo: GitRepo) -> None:
    repo.git("config", "alias.where", "!ps -o sid= -p $$")
    assert int(git_text(repo.git_dir, ["where"])) != os.getsid(0)


def test_no_child_and_no_file_is_left_after_failures(repo: GitRepo, tmp_path: Path) -> None:
    before, children = len(list(Path("/proc/self/fd").iterdir())), set(OWN._pids)
    for _ in range(50):
        run_git(repo.git_dir, ["rev-parse", "--verify", "none"])
        with pytest.raises(GitFailed):
            run_git(repo.git_dir, ["status"], work_tree=tmp_path / "none")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert OWN._pids <= children


def test_a_git_that_is_killed_is_told_by_its_status(repo: GitRepo) -> None:
    repo.git("config", "alias.die", "!kill -9 $PPID")
    assert run_git(repo.git_dir, ["die"]).returncode == -signal.SIGKILL


def test_the_safe_settings_are_known_to_git() -> None:
    subprocess.run(["git", *SAFE_SETTINGS, "version"], check=True, capture_output=True)


def test_a_command_whose_time_is_over_is_ended_with_all_that_it_started(
    repo: GitRepo, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    repo.git("config", "alias.hang", f"!sleep 1000 & echo $! >'{started}'; wait")
    asked = []

    def until() -> float:
        """It has all the time, until the child is there."""
        asked.append(1)
        return 0.0 if started.exists() and started.read_text() else math.inf

    with pytest.raises(subprocess.TimeoutExpired):
        run_git(repo.git_dir, ["hang"], until=until)
    assert asked
    assert not is_running(int(started.read_text()))


def test_input_arrives_whole_also_where_the_time_is_looked_at_meanwhile(
    repo: GitRepo, tmp_path: Path
) -> None:
    """`Popen.communicate` forgets the rest of it once it was interrupted."""
    repo.git("config", "alias.slow", f"!while [ ! -e '{tmp_path}/go' ]; do sleep 0.05; done; cat")
    asked = []

    def until() -> float:
        asked.append(1)
        if len(asked) > 3:
            (tmp_path / "go").touch()
        return math.inf

    data = b"x" * 300_000
    assert run_git(repo.git_dir, ["slow"], stdin=data, until=until).stdout == data


PACK = ("pack-objects", "--revs", "--stdout", "--quiet")


def test_what_one_git_says_another_takes(repo: GitRepo, bare: GitRepo) -> None:
    repo.git("mktree", stdin="")
    tip = repo.commit("more", files={"file": "text\n" * 100_000})
    wanted = f"{tip}\n".encode()
    pipe_git(repo.git_dir, PACK, bare.git_dir, ("unpack-objects", "-q"), stdin=wanted)
    assert bare.git("log", "-1", "--format=%s", tip) == "more"


def test_of_two_gits_the_one_that_failed_is_named(repo: GitRepo, bare: GitRepo) -> None:
    wanted = f"{repo.tip()}\n".encode()
    repo.git("mktree", stdin="")
    with pytest.raises(GitFailed, match="pack-objects failed"):
        pipe_git(repo.git_dir, PACK, bare.git_dir, ("unpack-objects",), stdin=b"no-such\n")
    with pytest.raises(GitFailed, match="index-pack failed"):
        pipe_git(repo.git_dir, PACK, bare.git_dir, ("index-pack", "--no-such"), stdin=wanted)
