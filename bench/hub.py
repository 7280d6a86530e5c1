"""A bare repository that others reach by its path or by HTTP, clones of it, and what git did."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from aynig.doorbell import ring
from bench.ground import Ground, make_ground
from tests.servers import FilePaths, SmartHttp, beside, running

# How often it is looked whether git is still at work, and for how long it must not be, in seconds.
_GLANCE, _QUIET = 0.02, 0.3
_PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class Hub:
    """A server's repository, and the URL that clones reach it by."""

    transport: str
    server: Ground
    url: str

    def servers(self) -> list[int]:
        """The web server's processes: what they have started counts as theirs."""
        return [
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and _is_server(entry, str(self.server.path.parent.parent))
        ]

    def clone(self, name: str) -> Ground:
        """A clone beside the server, with its default branch checked out."""
        path = self.server.path.parent / name
        self.server.git("clone", "--quiet", "--single-branch", self.url, str(path))
        return Ground(path, self.server.bell)


@dataclass(frozen=True, slots=True)
class Hubs:
    """Two servers alike, of one transport: the daemon works on one, the shell loop on the other."""

    ours: Hub
    plain: Hub

    @property
    def transport(self) -> str:
        return self.ours.transport


@contextlib.contextmanager
def serve(folder: Path, transport: str, *, branches: int = 0) -> Iterator[Hubs]:
    """The servers, by their paths (`file`) or by a web server (`HTTP`), while the block runs.

    `branches` are those of ours.
    """
    root = folder / transport
    counts = {"ours": branches, "plain": 0}
    grounds = {
        side: make_ground(root / side, bare=True, branches=count) for side, count in counts.items()
    }
    with contextlib.ExitStack() as stack:
        server: FilePaths | SmartHttp = FilePaths(root)
        if transport == "HTTP":
            server = stack.enter_context(running(SmartHttp(root, beside(root, "web"))))
        found = {
            side: Hub(transport, ground, server.url(f"{side}/{ground.path.name}"))
            for side, ground in grounds.items()
        }
        yield Hubs(**found)


def transports() -> tuple[str, ...]:
    """The ways to a remote that can be measured here."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])
    return ("file", "HTTP") if shutil.which("lighttpd", path=path) else ("file",)


def _is_server(entry: Path, root: str) -> bool:
    with contextlib.suppress(OSError):
        words = (entry / "cmdline").read_bytes().split(b"\0")
        return b"lighttpd" in words[0] and any(root.encode() in word for word in words)
    return False


def wake(clone: Ground) -> None:
    """Tell the runners of a clone that there may be something new on the remote."""
    for folder in clone.path.glob(".git/aynig/remotes/*.git/aynig/wake"):
        ring(folder)


@dataclass(frozen=True, slots=True)
class Command:
    """A git command that somebody started, with how many processes git itself started for it."""

    name: str
    arguments: Sequence[str]
    exit: int
    begun: float
    helpers: int

    @property
    def is_renewal(self) -> bool:
        """Does it push a lease ref and nothing else?"""
        return self.name == "push" and len(self._refs) == 1 and "/lease/" in self._refs[0]

    @property
    def is_presence(self) -> bool:
        """Does it say that an idle runner is there, or look for others? No task waits for that."""
        refs = self._refs
        return bool(refs) and all("refs/aynig/runner/" in ref for ref in refs)

    @property
    def is_claim(self) -> bool:
        """Does it push a claim, which must not be there yet for a task that is new?"""
        return self.name == "push" and any(
            word.startswith("--force-with-lease=") and word.endswith(":") for word in self.arguments
        )

    @property
    def _refs(self) -> list[str]:
        """What a push writes there, and a fetch here."""
        specs = [word for word in self.arguments if not word.startswith("-")]
        return [spec.partition(":")[2] for spec in specs if ":refs/" in spec]


class Trace:
    """What git commands ran on the client's side while the block runs (git's trace2).

    It is switched on in the configuration of the person, because our own git commands get no
    GIT_ variables; the server behind HTTP has another configuration, and is not seen.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "trace2"

    def __enter__(self) -> Trace:
        self._file.write_bytes(b"")
        _git_config("trace2.eventTarget", str(self._file))
        return self

    def __exit__(self, *_error: object) -> None:
        _git_config("--unset", "trace2.eventTarget")

    def mark(self) -> int:
        """Where the record ends now."""
        return self._file.stat().st_size

    def settle(self) -> None:
        """Wait until no git has been started or has ended for a moment."""
        size, since = self.mark(), time.monotonic()
        while time.monotonic() - since < _QUIET:
            time.sleep(_GLANCE)
            if self.mark() != size:
                size, since = self.mark(), time.monotonic()

    def await_ends(self, mark: int, name: str, count: int) -> list[Command]:
        """The commands since `mark`, as soon as so many of a name have ended."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            found = self.commands(mark)
            if sum(command.name == name for command in found) >= count:
                return found
            if time.monotonic() > deadline:
                raise RuntimeError(f"no {count} git {name} in {_PATIENCE:.0f} s")
            time.sleep(_GLANCE)

    def commands(self, mark: int = 0) -> list[Command]:
        """Those that were started since `mark` and have ended, in the order of their start."""
        begun: dict[str, tuple[float, list[str]]] = {}
        names: dict[str, str] = {}
        exits: dict[str, int] = {}
        helpers: Counter[str] = Counter()
        with self._file.open("rb") as file:
            file.seek(mark)
            events = [json.loads(line) for line in file if line.endswith(b"\n")]
        for event in events:
            first, is_helper, _ = event["sid"].partition("/")
            if is_helper:
                helpers[first] += event["event"] == "start"
            elif event["event"] == "start":
                begun[first] = (event["t_abs"], event["argv"])
                names[first] = event["time"]
            elif event["event"] == "cmd_name":
                names[first] = event["name"]
            elif event["event"] == "exit":
                exits[first] = event["code"]
        return [
            Command(names[sid], arguments, exits[sid], moment, helpers[sid])
            for sid, (moment, arguments) in begun.items()
            if sid in exits
        ]


def _git_config(*arguments: str) -> None:
    subprocess.run(["git", "config", "--global", *arguments], check=True)
