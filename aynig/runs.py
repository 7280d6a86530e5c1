"""The folder of a run: what the script was given, what it printed, what it answered.

`<git dir>/aynig/runs/<run>/` is kept for the retention time and is needed by nothing but people:
commits alone carry the task on.
"""

from __future__ import annotations

import calendar
import contextlib
import errno
import functools
import json
import os
import re
import shutil
import stat
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

# More than any message can make of it.
_MOST_JSON = 64 * 1024 * 1024
_RUN_ID = re.compile(r"([0-9]{8})T([01][0-9]|2[0-3])([0-5][0-9])([0-5][0-9])Z(?:-|\Z)")


def new_run_id() -> str:
    """A name that sorts by time and is a ref component: `20260131T093000Z-1f3a9c2e07`.

    The first three digits behind the hyphen are milliseconds: a branch may have many runs in one
    second, and the last of them is found by its name.
    """
    now = time.time()
    second = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    return f"{second}-{int(now % 1 * 1000):03x}{uuid.uuid4().hex[:7]}"


def run_time(run: str | None) -> float | None:
    """When a run began, from its id: seconds since the epoch."""
    found = _RUN_ID.match(run or "")
    midnight = _midnight(found[1]) if found else None
    if found is None or midnight is None:
        return None
    return float(midnight + int(found[2]) * 3600 + int(found[3]) * 60 + int(found[4]))


@functools.lru_cache(maxsize=1024)
def _midnight(digits: str) -> int | None:
    """The first second of a day such as `20260131`: asked for the same days again and again."""
    try:
        day = date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return None
    return calendar.timegm(day.timetuple())


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The files of one run."""

    path: Path

    @property
    def run(self) -> str:
        return self.path.name

    @property
    def output(self) -> Path:
        """Standard output and standard error, in one."""
        return self.path / "output"

    @property
    def body(self) -> Path:
        return self.path / "body"

    @property
    def context(self) -> Path:
        return self.path / "context.json"

    @property
    def response(self) -> Path:
        return self.path / "response"

    @property
    def usage(self) -> Path:
        """What the script appends to while it spends."""
        return self.path / "usage"

    @property
    def children(self) -> Path:
        """The plan of the children that the script asks for."""
        return self.path / "children.yaml"

    @property
    def hooks(self) -> Path:
        """The hooks that its git commands find while it runs."""
        return self.path / "hooks"

    @property
    def worktree(self) -> Path:
        """Where the files go that git could not keep."""
        return self.path / "worktree"

    def write(self, name: str, data: bytes) -> None:
        """Write one file whole. Without pathlib's detours: it is done several times a run."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        fd = os.open(f"{self.path}/{name}", flags, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
        finally:
            os.close(fd)

    def read_response(self, most: int) -> bytes | None:
        """The first `most` bytes of the answer file; None where there is none.

        Raises OSError where it can't be read or is no file.
        """
        return self.read(self.response.name, most)

    def read(self, name: str, most: int) -> bytes | None:
        """The same of any file of the run."""
        try:
            return _read_file(self.path / name, most)
        except FileNotFoundError:
            return None

    def read_children(self, most: int) -> bytes | None:
        """The same of the plan of its children."""
        try:
            return _read_file(self.children, most)
        except FileNotFoundError:
            return None

    def conclude(self, **facts: Any) -> None:
        """Write `run.json`: when and how the run ended. Only people look at it."""
        with contextlib.suppress(OSError):
            # The script could reach it, and may have put anything there.
            (self.path / "run.json").unlink(missing_ok=True)
            self.write("run.json", json.dumps(facts).encode())

    def facts(self) -> dict[str, Any]:
        """What the script was given, and, where the run is over, how it ended."""
        return _read_json(self.context) | _read_json(self.path / "run.json")


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none, or only half of one."""
    try:
        found = json.loads(_read_file(path, _MOST_JSON))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _read_file(path: Path, most: int) -> bytes:
    """The first `most` bytes; OSError for what is no file: a pipe would wait for a writer."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no file")
        return os.read(fd, min(most, status.st_size))
    finally:
        os.close(fd)


class RunArchive:
    """All run folders of a repository."""

    def __init__(self, home: Path) -> None:
        self.path = home / "runs"

    def create(self, run: str) -> RunFolder:
        """A new folder, readable by its owner only: prompts and outputs may hold secrets."""
        folder = self.path / run
        try:
            folder.mkdir(mode=0o700)
        except FileNotFoundError:
            folder.mkdir(parents=True, mode=0o700)
        return RunFolder(folder)

    def find(self, run: str) -> RunFolder | None:
        """The folder of a run, by its id or a unique beginning of it."""
        if not run or "/" in run or run.startswith("."):
            return None
        exact = self.path / run
        if exact.is_dir():
            return RunFolder(exact)
        found = [folder for folder in self if folder.run.startswith(run)]
        return found[0] if len(found) == 1 else None

    def latest(self, ref: str) -> RunFolder | None:
        """The last run of a branch."""
        for folder in self:
            if folder.facts().get("ref") == ref:
                return folder
        return None

    def __iter__(self) -> Iterator[RunFolder]:
        """The newest first."""
        try:
            names = sorted((entry.name for entry in self.path.iterdir()), reverse=True)
        except OSError:
            return
        yield from (RunFolder(self.path / name) for name in names)

    def sweep(self, retention: float, now: float) -> int:
        """Delete what is older than `retention` seconds; how many."""
        count = 0
        for folder in self:
            try:
                old = now - folder.path.stat().st_mtime > retention
            except OSError:
                continue
            if old:
                shutil.rmtree(folder.path, ignore_errors=True)
                count += 1
        return count
