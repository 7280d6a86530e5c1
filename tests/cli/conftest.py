"""The command line as a person meets it: called in this process, or as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aynig.cli.main import run
from tests.world import GitRepo

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Said:
    """What a command said, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The list of objects that `--json` prints."""
        found = json.loads(self.out)
        assert isinstance(found, list)
        return found

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


@dataclass
class Shell:
    """Calls `aynig` in a repository."""

    repo: GitRepo
    _read: Callable[[], tuple[str, str]]

    def __call__(self, *args: str) -> Said:
        status = run(list(args))
        return Said(status, *self._read())

    def process(self, *args: str, stdin: bytes = b"", **env: str) -> Said:
        """The same as a process of its own."""
        done = subprocess.run(
            command(*args),
            cwd=self.repo.path,
            env={**os.environ, **env},
            input=stdin,
            capture_output=True,
            check=False,
        )
        return Said(done.returncode, done.stdout.decode(), done.stderr.decode())

    def start(self, *args: str, **env: str) -> subprocess.Popen[bytes]:
        """A process that goes on; standard output and standard error are pipes."""
        return subprocess.Popen(
            command(*args),
            cwd=self.repo.path,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )


def command(*args: str) -> list[str]:
    # The package is found although the working directory is that of the test's repository.
    start = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from aynig.cli.main import main; main()"
    )
    return [sys.executable, "-c", start, *args]


@pytest.fixture
def aynig(
    repo: GitRepo, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Shell:
    """`aynig` in a repository with a working tree."""
    monkeypatch.chdir(repo.path)
    return Shell(repo, lambda: tuple(capsys.readouterr()))  # type: ignore[arg-type, return-value]
