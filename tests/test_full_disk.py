"""A disk without room is the machine's fault: tasks wait for it, and nothing is lost.

The limit of file sizes of a process (setrlimit(2)) stands for the disk: it needs no privileges, and
it can be lifted again from outside.
"""

from __future__ import annotations

import resource
import subprocess
from pathlib import Path

import pytest

from aynig.model import RESCUES
from tests.cli.conftest import command
from tests.stage import Daemon, Stage, daemon
from tests.world import wait_for

FAST = ("--poll", "0.1")


def fill(running: Daemon) -> None:
    """From now on neither the daemon nor a child that it starts can write to any file."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (0, hard))


def make_room(running: Daemon) -> None:
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (hard, hard))


def without_room(cwd: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """A command that can write to no file."""
    limited = ["sh", "-c", 'ulimit -S -f 0; exec "$@"', "sh", *command(*args)]
    return subprocess.run(limited, cwd=cwd, capture_output=True, text=True, check=False)


def test_a_task_waits_for_room_with_what_could_not_be_written_and_goes_on_by_itself(
    stage: Stage,
) -> None:
    with daemon(stage.repo.path, *FAST) as running:
        fill(running)
        stage.task("echo x >f")
        held = running.wait_for("hold", "task")
        assert held["hold"] == "unwritable"
        assert f"{stage.repo.git_dir}/aynig/scripts" in held["detail"]
        assert stage.repo.state("task") == "go"
        make_room(running)
        stage.wait_for_state("done")
    assert stage.repo.git("show", "task:f") == "x"
    stage.assert_unharmed()


@pytest.mark.parametrize("change", ["", "echo x >f"], ids=["no files", "files"])
def test_room_that_ends_while_the_script_runs_fails_no_task(
    stage: Stage, tmp_path: Path, change: str
) -> None:
    began, go = tmp_path / "began", tmp_path / "go"
    # The limit is the script's as well: what it writes while it lasts is none of ours.
    script = f"{change}\necho x >>{began}; until test -e {go}; do sleep 0.01; done"
    with daemon(stage.repo.path, *FAST) as running:
        stage.task(script)
        wait_for(began.exists, what="the script to begin")
        fill(running)
        go.mkdir()
        held = running.wait_for("hold", "task")
        assert held["hold"] == "unwritable"
        assert str(stage.repo.git_dir) in held["detail"]
        if change:
            assert f"what it changed is in {stage.repo.git_dir}/aynig/runs/" in held["detail"]
        make_room(running)
        stage.wait_for_state("done")
    # Without files there was an answer in hand, which only had to be written.
    assert began.read_text() == ("x\nx\n" if change else "x\n")
    if change:
        assert stage.repo.git("show", "task:f") == "x"
    stage.assert_unharmed()


def test_an_answer_that_came_too_late_is_written_and_kept_when_there_is_room(
    stage: Stage, tmp_path: Path
) -> None:
    began, go = tmp_path / "began", tmp_path / "go"
    with daemon(stage.repo.path, *FAST) as running:
        stage.task(f"mkdir {began}; until test -e {go}; do sleep 0.01; done")
        wait_for(began.exists, what="the script to begin")
        fill(running)
        go.mkdir()
        assert running.wait_for("hold", "task")["hold"] == "unwritable"
        newer = stage.repo.commit("mine\n\naynig: done\n", branch="task")
        make_room(running)
        refused = running.wait_for("refused", "task")
    ref = stage.repo.git("for-each-ref", "--format=%(refname)", RESCUES)
    assert ref in refused["detail"]
    assert stage.repo.fields(ref)[""] == "done"
    assert stage.repo.tip("task") == newer
    stage.assert_unharmed()


def test_a_run_without_room_ends_with_failure_and_the_next_one_does_the_task(stage: Stage) -> None:
    stage.task("exit 0")
    done = without_room(stage.repo.path, "run")
    assert done.returncode == 1
    assert f"task: go: unwritable: {stage.repo.git_dir}/" in done.stderr
    assert "Traceback" not in done.stderr
    stage.run()
    assert stage.repo.state("task") == "done"
    stage.assert_unharmed()


def test_status_blames_no_script_for_it(stage: Stage) -> None:
    stage.task("exit 0")
    done = without_room(stage.repo.path, "status", "--json")
    assert '"hold": "unwritable"' in done.stdout


def test_submit_says_where_there_is_no_room(stage: Stage) -> None:
    done = without_room(stage.repo.path, "submit", "go", "-m", "Fix it")
    assert done.returncode == 1
    place = stage.repo.git_dir / "objects"
    assert done.stderr.startswith(f"aynig: {place} can't be written: ")
    assert stage.repo.tip("task/fix-it") == ""
