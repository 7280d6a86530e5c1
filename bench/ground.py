"""Repositories to measure in, made by `git fast-import`, and a daemon beside them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

# States of the test repositories: one that does nothing, one that rings, one without an end, three
# that sleep.
EMPTY, RING, ENDLESS = "empty", "ring", "endless"
NAP, REST, LONG = "nap", "rest", "long"
# How long each of those sleeps, in seconds.
NAP_SECONDS, REST_SECONDS, LONG_SECONDS = 0.2, 2, 20

_CONFIG = "states:\n  endless:\n    next: endless\n"
_FILES_IN_A_FOLDER = 100
_PATIENCE = 120.0


def seal(home: Path) -> None:
    """Nothing of the person's who runs this: no configuration, no identity, no GIT_ variables."""
    for name in [name for name in os.environ if name.startswith(("GIT_", "AYNIG_"))]:
        del os.environ[name]
    home.mkdir(parents=True, exist_ok=True)
    os.environ |= {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "LC_ALL": "C.UTF-8",
    }
    (home / ".gitconfig").write_text(
        "[user]\n\tname = Bench\n\temail = bench@example.org\n[gc]\n\tauto = 0\n"
    )


@dataclass(frozen=True, slots=True)
class Ground:
    """A repository with the states above on `main`, and a FIFO that the state `ring` rings."""

    path: Path
    bell: Path

    def git(self, *args: str, stdin: bytes = b"") -> str:
        """Run git here; its standard output without the last newline."""
        done = subprocess.run(
            ["git", *args], cwd=self.path, input=stdin, capture_output=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"git {args}: {done.stderr.decode(errors='replace')}")
        return done.stdout.decode().removesuffix("\n")

    def state_commit(self, state: str, parent: str = "refs/heads/main") -> str:
        """A commit with a state, named by no ref yet."""
        message = f"work {time.monotonic_ns()}\n\naynig: {state}\n"
        return self.git("commit-tree", f"{parent}^{{tree}}", "-p", parent, "-m", message)

    def state_commits(self, state: str, refs: Sequence[str]) -> dict[str, str]:
        """A commit with a state for each branch, as a map that `set_refs` takes."""
        return {ref: self.state_commit(state) for ref in refs}

    def drop_refs(self, refs: Iterable[str]) -> None:
        """Delete branches by one git process."""
        self.git("update-ref", "--stdin", stdin="".join(f"delete {ref}\n" for ref in refs).encode())

    def set_refs(self, refs: Mapping[str, str]) -> None:
        """Set many refs by one git process."""
        lines = "".join(f"update {ref} {oid}\n" for ref, oid in refs.items())
        self.git("update-ref", "--stdin", stdin=lines.encode())


@dataclass(frozen=True, slots=True)
class Pair:
    """Two repositories alike: the daemon works in one, the shell loop in the other."""

    ours: Ground
    plain: Ground


def make_pair(folder: Path, *, files: int = 10, bare: bool = False) -> Pair:
    """Two repositories without branches but `main`."""
    return Pair(
        make_ground(folder / "ours", files=files, bare=bare),
        make_ground(folder / "plain", files=files, bare=bare),
    )


def make_ground(
    folder: Path,
    *,
    files: int = 10,
    branches: int = 0,
    state: str = "done",
    bare: bool = False,
    config: str = _CONFIG,
) -> Ground:
    """A repository with `files` files and `branches` packed branches at a commit each."""
    ground = Ground(folder / "repo", folder / "bell")
    ground.path.mkdir(parents=True)
    os.mkfifo(ground.bell)
    ground.git("init", "--quiet", "--initial-branch=main", *(["--bare"] if bare else []))
    stream = b"".join(_stream(ground.bell, files, branches, state, config))
    ground.git("fast-import", "--quiet", stdin=stream)
    if not bare:
        ground.git("reset", "--quiet", "--hard")
    ground.git("pack-refs", "--all")
    return ground


def _stream(bell: Path, files: int, branches: int, state: str, config: str) -> Iterator[bytes]:
    """See git-fast-import(1)."""
    scripts = {
        f".aynig/{EMPTY}": "#!/bin/sh\nexit 0\n",
        f".aynig/{ENDLESS}": "#!/bin/sh\nexit 0\n",
        f".aynig/{RING}": f"#!/bin/sh\necho >'{bell}'\n",
        f".aynig/{NAP}": f"#!/bin/sh\nexec sleep {NAP_SECONDS}\n",
        f".aynig/{REST}": f"#!/bin/sh\nexec sleep {REST_SECONDS}\n",
        f".aynig/{LONG}": f"#!/bin/sh\nexec sleep {LONG_SECONDS}\n",
    }
    yield _commit("refs/heads/main", "the files\n", "")
    for path, text in scripts.items():
        yield f"M 100755 inline {path}\n".encode() + _data(text)
    yield b"M 100644 inline .aynig/config.yaml\n" + _data(config)
    for number in range(files):
        path = f"src/{number // _FILES_IN_A_FOLDER:03d}/file{number:05d}.txt"
        yield f"M 100644 inline {path}\n".encode() + _data(f"line of {number}\n" * 5)
    for number in range(branches):
        message = _answer(number, state)
        yield _commit(branch_ref(number), message, "from refs/heads/main\n")


def _answer(number: int, state: str) -> str:
    """A message as those of the tips of tasks that are over."""
    return (
        f"review -> {state}: looked at {number}\n\nThe text of task {number}.\n\n"
        f"aynig: {state}\naynig: answers: {number:040x}\n"
        f"aynig: run: 20260131T093000Z-{number:010x}\naynig: runner: host-4242-1f3a9c2e\n"
        f"aynig: executed-by: bench@host\naynig: attempt: 1\naynig: exit: 0\n"
        f"aynig: duration: 0.123\naynig: script: {number:040x}\n"
    )


def branch_ref(number: int) -> str:
    """The full name of a branch: in folders of a hundred, as in busy repositories."""
    return f"refs/heads/task/{number // 100:03d}/{number:05d}"


def _commit(ref: str, message: str, origin: str) -> bytes:
    who = "committer Bench <bench@example.org> 1700000000 +0000\n"
    return f"commit {ref}\n{who}".encode() + _data(message) + origin.encode()


def _data(text: str) -> bytes:
    raw = text.encode()
    return b"data %d\n%s\n" % (len(raw), raw)


class Child:
    """A process that is talked with by pipes, and ended where its `with` block ends."""

    def __init__(self, command: Sequence[str], folder: Path | None = None) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def tell(self, text: str) -> None:
        """Write to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())
        self._process.stdin.flush()

    def read_line(self) -> bytes:
        """Its next line; raises RuntimeError where there is none any more."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args!r} has ended")
        return line

    def end(self) -> None:
        """Its standard input is at its end; wait until it has seen that."""
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate(timeout=_PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.end()


class Daemon(Child):
    """`aynig daemon` as a process of its own; what it logs is read here."""

    def __init__(self, ground: Ground, *, jobs: int = 2, flags: Sequence[str] = ()) -> None:
        command = [sys.executable, "-m", "aynig", "daemon", str(ground.path), *flags]
        super().__init__([*command, "--jobs", str(jobs), "--log-format", "json"])
        self.await_notices("watching")

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def pipe(self) -> int:
        """The descriptor of its log, for who reads that of several; it has no line buffered."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def await_notices(self, kind: str, count: int = 1) -> list[float]:
        """Read the log up to `count` notices of a kind; when each arrived (perf_counter)."""
        return [moment for moment, _ in self.read_notices(kind, count)]

    def read_notices(self, kind: str, count: int = 1) -> list[tuple[float, dict[str, Any]]]:
        """`await_notices` with the notices themselves."""
        wanted = f'"kind": "{kind}"'.encode()
        found: list[tuple[float, bytes]] = []
        while len(found) < count:
            line = self.read_line()
            if wanted in line:
                found.append((time.perf_counter(), line))
            elif b'"kind": "problem"' in line:
                raise RuntimeError(line.decode())
        return [(moment, json.loads(line)) for moment, line in found]

    def cpu(self) -> float:
        """Seconds of processor time that it has used (proc(5), utime and stime)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """Resident memory in MB."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1000
        raise RuntimeError("no VmRSS in /proc")

    def end(self) -> None:
        """Ask it to drain, at last."""
        self._process.send_signal(signal.SIGTERM)
        super().end()
