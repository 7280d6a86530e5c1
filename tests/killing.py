"""A run that is killed at one of its steps: before or after any of its ref transactions.

The process ends by SIGKILL, as the kernel does it. What survives is what git has on disk, and the
scripts that were started.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_PROGRAM = """
import os, signal, sys, threading
from aynig.git import refs
from aynig.git.sharedrefs import SharedRefs
from aynig.cli.main import main

step, when, *args = sys.argv[1:]
lock, count = threading.Lock(), 0

def watched(commit):
    def commit_or_die(self, edits):
        global count
        with lock:
            count += 1
            now = count == int(step)
        if now and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        commit(self, edits)
        if now:
            os.kill(os.getpid(), signal.SIGKILL)
    return commit_or_die

store = SharedRefs if "--remote" in args else refs.RefStore
store.commit = watched(store.commit)
sys.argv = ["aynig", *args]
main()
"""
_MOST = 60


def run_killed_at(path: Path, step: int, when: str, *args: str) -> bool:
    """`aynig run`, killed `before` or `after` that transaction of it; False: it had fewer."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(step), when, "run", "-q", *args],
        cwd=path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode == -signal.SIGKILL:
        return True
    assert done.returncode in (0, 1), done.stderr.decode()
    return False


def each_step() -> Iterator[tuple[int, str]]:
    """Steps without an end: the test ends them, when a run has come to its own."""
    for step in range(1, _MOST):
        yield from ((step, "before"), (step, "after"))
    raise AssertionError("there is no end of steps")
