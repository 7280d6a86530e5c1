"""What a dead process leaves of its line is cleaned up; what a live one has stays."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from aynig.git.line import Line, sweep
from tests.world import wait_for

# Of no process that runs: its number is above all that there can be (proc(5), pid_max).
DEAD = "4194305-1-abcdef01"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def at_work_in(stack: ExitStack, line: Path) -> subprocess.Popen[bytes]:
    """A program that waits for ever, named like a git in a line."""
    waits = "import time; time.sleep(600)"
    program = subprocess.Popen(
        [sys.executable, "-c", waits, f"--git-dir={line}"], start_new_session=True
    )
    stack.callback(program.wait)
    stack.callback(program.kill)
    return program


def test_a_git_that_outlives_its_runner_is_ended_with_the_next_start(
    stack: ExitStack, tmp_path: Path
) -> None:
    (tmp_path / DEAD).mkdir()
    orphan = at_work_in(stack, tmp_path / DEAD)
    sweep(tmp_path)
    wait_for(lambda: orphan.poll() is not None, what="the orphan to be ended")
    assert not (tmp_path / DEAD).exists()


def test_what_a_live_process_is_at_work_with_stays(stack: ExitStack, tmp_path: Path) -> None:
    line = Line(tmp_path)
    line.ready()
    (tmp_path / DEAD).mkdir()
    ours = at_work_in(stack, line.path)
    sweep(tmp_path)
    assert (line.path / "HEAD").exists()
    assert ours.poll() is None
    line.close()


def test_a_folder_that_is_not_there_is_nothing_to_sweep(tmp_path: Path) -> None:
    sweep(tmp_path / "gone")
