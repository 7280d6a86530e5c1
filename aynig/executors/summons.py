"""Starts the operator's program where a task begins to wait for a person (`aynig.notify`)."""

from __future__ import annotations

import contextlib
import os
import queue
import shlex
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from aynig.processes import OWN
from aynig.text import escape, shorten

# How long, in seconds, the program may take.
PATIENCE = 30.0
# At once: one that hangs must not hold the others back.
_MOST = 4
# How long, in seconds, a runner that ends waits for programs to be started, not for their end.
_STARTING = 2.0
_COMPLAINT_WIDTH = 200


@dataclass(frozen=True, slots=True)
class Summon:
    """A task that waits for a person; `sentence` is what the program reads."""

    branch: str
    state: str
    oid: str
    sentence: str


class Summons:
    """Starts the program once for each commit, beside everything else. Nothing waits for it."""

    def __init__(
        self,
        command: str,
        repository: str,
        place: Path,
        complain: Callable[[str], None],
        *,
        patience: float = PATIENCE,
    ) -> None:
        """`complain` is called from another thread with what went wrong."""
        self._words = shlex.split(command)
        self._repository = repository
        self._place = place
        self._complain = complain
        self._patience = patience
        self._told: set[str] = set()
        self._waiting: queue.SimpleQueue[Summon] = queue.SimpleQueue()
        self._threads = 0
        self._changed = threading.Condition()
        # Those that are not started yet.
        self._owed = 0

    def call(self, summon: Summon) -> None:
        """Start the program for a commit, unless that was done."""
        if not self._words or summon.oid in self._told:
            return
        self._told.add(summon.oid)
        with self._changed:
            self._owed += 1
            if self._threads < _MOST:
                self._threads += 1
                # It must not keep the runner from ending.
                threading.Thread(target=self._work, daemon=True, name="aynig-notify").start()
        self._waiting.put(summon)

    def close(self) -> None:
        """Wait until all were started, within reason."""
        with self._changed:
            self._changed.wait_for(lambda: not self._owed, timeout=_STARTING)

    def _work(self) -> None:
        while True:
            summon = self._waiting.get()
            problem = self._run(summon)
            if problem:
                self._complain(f"aynig.notify for {escape(summon.branch)}: {problem}")

    def _run(self, summon: Summon) -> str:
        """Run the program to its end; what is wrong, or nothing."""
        with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stderr:
            stdin.write(f"{summon.sentence}\n".encode("utf-8", "backslashreplace"))
            stdin.seek(0)
            try:
                child = OWN.start(
                    lambda: subprocess.Popen(
                        self._words,
                        cwd=self._place,
                        env=self._environment(summon),
                        stdin=stdin,
                        stdout=subprocess.DEVNULL,
                        stderr=stderr,
                        start_new_session=True,
                    )
                )
            except (OSError, ValueError) as error:
                return f"it can't be started: {error}"
            finally:
                with self._changed:
                    self._owed -= 1
                    self._changed.notify_all()
            try:
                status = child.wait(self._patience)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                return f"it took longer than {self._patience:.0f} s and was ended"
            finally:
                OWN.ended(child.pid)
            return f"exit {status}{_last_line(stderr)}" if status else ""

    def _environment(self, summon: Summon) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("GIT_", "AYNIG_"))
        }
        return kept | {
            "AYNIG_REPOSITORY": self._repository,
            "AYNIG_BRANCH": summon.branch,
            "AYNIG_STATE": summon.state,
            "AYNIG_COMMIT_HASH": summon.oid,
        }


def _last_line(stderr: IO[bytes]) -> str:
    """The end of what it complained of, as the end of a sentence."""
    stderr.seek(0)
    lines = stderr.read(64 * 1024).decode("utf-8", "replace").strip().splitlines()
    return f": {shorten(escape(lines[-1].strip()), _COMPLAINT_WIDTH)}" if lines else ""
