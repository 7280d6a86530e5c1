"""Real repositories for tests, and waiting for facts rather than for time."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

EPOCH = 1_700_000_000
TICK = 60

SCRIPT_OK = "#!/bin/sh\nexit 0\n"


def sealed_environment(outside: Mapping[str, str], home: Path) -> dict[str, str]:
    """The environment of a test: nothing of the person's who runs it but PATH and TMPDIR."""
    kept = {name: outside[name] for name in ("PATH", "TMPDIR", "VIRTUAL_ENV") if name in outside}
    # Coverage and the like hook into subprocesses by their own variables.
    kept |= {name: value for name, value in outside.items() if name.startswith(("COV_", "PYTEST_"))}
    return kept | {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": str(home / ".gitconfig"),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONDONTWRITEBYTECODE": "1",
        "GIT_AUTHOR_NAME": "Ada Author",
        "GIT_AUTHOR_EMAIL": "ada@example.org",
        "GIT_COMMITTER_NAME": "Carl Committer",
        "GIT_COMMITTER_EMAIL": "carl@example.org",
    }


def wait_for(fact: Callable[[], T], *, what: str = "", patience: float = 60.0) -> T:
    """Look until `fact()` is truthy and return it; fail with `what` after `patience` seconds.

    The patience is a safety net for a hanging program, never a measurement.
    """
    deadline = time.monotonic() + patience
    while True:
        value = fact()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience:.0f} s in vain for {what or fact}")
        time.sleep(0.01)


# A hook can't be taken away again (sys.addaudithook): there is one, which listens where asked to.
_listeners: dict[str, list[str]] = {}


def _hear(event: str, args: tuple[object, ...]) -> None:
    heard = _listeners.get(event)
    if heard is not None and isinstance(args[0], (str, bytes, os.PathLike)):
        heard.append(os.fsdecode(args[0]))


sys.addaudithook(_hear)


@contextlib.contextmanager
def listening(event: str) -> Iterator[list[str]]:
    """The paths of this process's calls of one kind, as Python's audit events tell them."""
    _listeners[event] = []
    try:
        yield _listeners[event]
    finally:
        del _listeners[event]


def aynig(
    *args: str, cwd: Path, env: Mapping[str, str] | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """The command line as a process of its own, run to its end."""
    return subprocess.run(
        [sys.executable, "-m", "aynig", *args],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


@dataclass
class GitRepo:
    """A repository on disk, driven through the git binary, with a clock that ticks per commit."""

    path: Path
    bare: bool = False
    _clock: int = field(default=EPOCH)

    @classmethod
    def init(cls, path: Path, *, bare: bool = False, empty: bool = False) -> GitRepo:
        """A new repository; with one empty-tree commit on `main` unless `empty`."""
        path.mkdir(parents=True)
        repo = cls(path, bare)
        repo.git("init", "--quiet", "--initial-branch=main", *(["--bare"] if bare else []))
        if not empty:
            repo.commit("root")
        return repo

    @property
    def git_dir(self) -> Path:
        return self.path if self.bare else self.path / ".git"

    def git(
        self,
        *args: str,
        stdin: str | bytes | None = None,
        check: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> str:
        """Run git here; its standard output without the last newline."""
        data = stdin.encode("utf-8", "surrogateescape") if isinstance(stdin, str) else stdin
        done = subprocess.run(
            ["git", *args],
            cwd=self.path,
            input=data if data is not None else b"",
            capture_output=True,
            check=False,
            env={**os.environ, **(env or {})},
        )
        if check and done.returncode:
            raise AssertionError(f"git {args}: {done.stderr.decode(errors='replace')}")
        return done.stdout.decode("utf-8", "surrogateescape").removesuffix("\n")

    def tick(self) -> dict[str, str]:
        """The environment of the next commit: one minute after the last."""
        self._clock += TICK
        stamp = f"{self._clock} +0000"
        return {"GIT_AUTHOR_DATE": stamp, "GIT_COMMITTER_DATE": stamp}

    def commit(
        self,
        message: str | bytes,
        *,
        branch: str = "main",
        files: Mapping[str, str | bytes | None] | None = None,
        parent: str | None = None,
        update: bool = True,
    ) -> str:
        """A commit made by plumbing, on top of `branch` (or of `parent`); its oid.

        `files` maps paths to contents; a content that starts with `#!` gets the run bit, None
        removes the path. The working tree is not touched, so use it for branches that are not
        checked out, or call `sync` afterwards.
        """
        ref = f"refs/heads/{branch}"
        if parent is None:
            parent = self.git("rev-parse", "--verify", "--quiet", ref, check=False)
        index = self.git_dir / "test-index"
        env = {**self.tick(), "GIT_INDEX_FILE": str(index)}
        self.git("read-tree", *([parent] if parent else ["--empty"]), env=env)
        for path, content in (files or {}).items():
            if content is None:
                self.git("update-index", "--force-remove", "--", path, env=env)
                continue
            data = content.encode() if isinstance(content, str) else content
            blob = self.git("hash-object", "-w", "--stdin", stdin=data)
            mode = "100755" if data.startswith(b"#!") else "100644"
            self.git("update-index", "--add", "--cacheinfo", f"{mode},{blob},{path}", env=env)
        tree = self.git("write-tree", env=env)
        data = message if isinstance(message, bytes) else message.encode("utf-8", "surrogateescape")
        oid = self.git(
            "commit-tree", tree, *(["-p", parent] if parent else []), stdin=data, env=env
        )
        index.unlink(missing_ok=True)
        if update:
            self.git("update-ref", ref, oid)
        return oid

    def sync(self) -> None:
        """Make index and working tree follow HEAD after `commit` on the checked-out branch."""
        self.git("reset", "--hard", "--quiet")

    def tip(self, branch: str = "main") -> str:
        """The oid of a branch, or an empty string."""
        return self.git("rev-parse", "--verify", "--quiet", f"refs/heads/{branch}", check=False)

    def message(self, rev: str) -> str:
        return self.git("log", "-1", "--format=%B", rev)

    def trailers(self, rev: str) -> list[tuple[str, str]]:
        """What git itself reads as the trailer block of a commit."""
        text = self.git(
            "interpret-trailers", "--parse", "--no-divider", stdin=self.message(rev) + "\n"
        )
        return [
            (key, value) for key, _, value in (line.partition(": ") for line in text.splitlines())
        ]

    def fields(self, rev: str) -> dict[str, str]:
        """The `aynig: key: value` fields of a commit, the last of each; the state under ``""``."""
        found: dict[str, str] = {}
        for key, value in self.trailers(rev):
            if key == "aynig":
                name, separator, rest = value.partition(": ")
                found[name if separator else ""] = rest if separator else name
        return found

    def state(self, branch: str = "main") -> str:
        """The state at the tip of a branch, as plain git reads it; empty for none."""
        return self.fields(f"refs/heads/{branch}").get("", "") if self.tip(branch) else ""
