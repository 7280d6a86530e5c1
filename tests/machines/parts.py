"""What a runner's parts are where there is neither a disk nor a process: the same calls, in memory.

Only what touches the machine is replaced. `Mirror`, `SharedRefs`, `Leases`, `Scan`, `AnswerIndex`
and all that decides are the real ones.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aynig.errors import RefMoved, Refused, RepositoryError, Unreachable
from aynig.executors import Control, Job
from aynig.facts import CONFIG_FILE
from aynig.git.address import Address
from aynig.git.line import Line
from aynig.git.refs import RefEdit, RefStore
from aynig.git.remote import Heads, Remote
from aynig.git.repo import EMPTY_TREE, CommitInfo, Identity, Repo
from aynig.git.snapshot import Look, RefReader
from aynig.git.worktree import Harvest
from aynig.model import BESIDE, HEADS, RefChange, RunResult, Script, ScriptProblem
from aynig.runs import RunFolder
from tests.machines.server import MAIN, Pusher, Server
from tests.machines.strand import Killed, stop_here
from tests.world import EPOCH

NOWHERE = Path("/nowhere")
SHARING = "states:\n  go: {next: check, resource: one}\n  check: {resource: one}\n"
_SCRIPT = "c" * 40
_WORK = "e" * 40


@dataclass
class Disk:
    """What survives the death of a runner: the mirror with its objects."""

    refs: dict[str, str] = field(default_factory=dict)
    # The lease refs of the git directory that fetch runs in.
    line: dict[str, str] = field(default_factory=dict)
    objects: set[str] = field(default_factory=set)


@dataclass
class Machine:
    """One computer with one runner on it, and its clock."""

    server: Server
    disk: Disk
    pusher: Pusher
    # Seconds by which its wall clock is ahead.
    offset: float = 0.0
    started: float = 0.0
    alive: bool = True
    online: bool = True
    # What happens to the next renewal.
    renewal: str = "up"
    # Pushes that their sender has given up, and that may still arrive.
    late: list[tuple[list[RefEdit], Pusher]] = field(default_factory=list)
    # The runs whose scripts are under way.
    running: dict[str, Job] = field(default_factory=dict)
    # What the scripts have said to do, by run.
    said: dict[str, str] = field(default_factory=dict)

    def arrive_late(self, *, lost: bool) -> None:
        """A push reaches the server after nobody waits for it any more, or never does."""
        edits, pusher = self.late.pop(0)
        if not lost:
            with contextlib.suppress(RefMoved):
                self.server.push(edits, pusher)

    def check(self) -> None:
        if not self.alive:
            raise Killed

    def monotonic(self) -> float:
        return (self.server.time - self.started) * self.pusher.rate

    def wall(self) -> float:
        return EPOCH + self.offset + self.server.time * self.pusher.rate


class MemoryRepo(Repo):
    """The mirror of one runner."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(NOWHERE, NOWHERE, None)
        self._machine = machine
        self._disk = machine.disk
        self._objects = machine.server.objects

    def commit(self, oid: str) -> CommitInfo:
        self._machine.check()
        if oid not in self._disk.objects:
            raise RepositoryError(f"commit {oid} is not here")
        return self._objects.commit(oid)

    def message(self, oid: str) -> tuple[int, bytes]:
        found = self.commit(oid)
        return found.time, found.message

    def has_commit(self, oid: str) -> bool:
        return oid in self._disk.objects

    def read_ref(self, ref: str) -> str | None:
        self._machine.check()
        return self._disk.refs.get(ref)

    def resolve(self, rev: str) -> str | None:
        return self._disk.refs.get(rev) or self._disk.refs.get(HEADS + rev)

    def refs_below(self, prefix: str) -> dict[str, str]:
        self._machine.check()
        return {ref: oid for ref, oid in self._disk.refs.items() if ref.startswith(prefix)}

    def head_ref(self) -> str | None:
        return MAIN

    def entry(self, tree: str, path: str) -> tuple[int, str] | None:
        if path == CONFIG_FILE:
            return 0o100644, self._machine.server.workflow_oid
        return (0o040000, EMPTY_TREE) if path == ".aynig" else None

    def names(self, tree: str) -> list[str]:
        return [".aynig"]

    def blob(self, oid: str) -> bytes:
        return self._machine.server.workflow.encode()

    def config_value(self, key: str) -> str | None:
        return None

    def identity(self, role: str = "COMMITTER") -> Identity:
        return Identity("aynig", "aynig@example.com")

    def descends(self, oid: str, ancestor: str) -> bool:
        return self._objects.reaches(oid, ancestor)

    def is_reached(self, oid: str, *prefixes: str) -> bool:
        self._machine.check()
        tips = [tip for ref, tip in self._disk.refs.items() if ref.startswith(prefixes)]
        return any(self._objects.reaches(tip, oid) for tip in tips)

    def write_commit(
        self,
        *,
        tree: str,
        parents: Iterable[str],
        message: str,
        author: Identity | None = None,
        not_before: int = 0,
        unique: bool = False,
    ) -> str:
        self._machine.check()
        time = max(int(self._machine.wall()), not_before)
        oid = self._objects.write(tree, parents, message, time)
        self._disk.objects.add(oid)
        return oid

    def empty_tree(self) -> str:
        return EMPTY_TREE


class MemoryReader(RefReader):
    """Looks at refs in memory."""

    def __init__(self, refs: Callable[[], dict[str, str]], prefixes: tuple[str, ...]) -> None:
        self._source = refs
        self._wanted = prefixes
        self._known: dict[str, str] = {}

    def look(self) -> Look:
        before, now = self._known, {}
        for ref, oid in self._source().items():
            if ref.startswith(self._wanted):
                now[ref] = oid
        changes: tuple[RefChange, ...] = ()
        if before != now:
            changes = tuple(
                RefChange(ref, before.get(ref), now.get(ref))
                for ref in sorted(before.keys() | now.keys())
                if before.get(ref) != now.get(ref)
            )
        self._known = now
        return Look(now, changes, {}, True)

    def note(self, ref: str, oid: str | None) -> None:
        self._known = {each: at for each, at in self._known.items() if each != ref}
        if oid is not None:
            self._known[ref] = oid

    def forget(self) -> None:
        """It remembers nothing that could be wrong."""


class MemoryRefs(RefStore):
    """The compare-and-swap of the mirror itself."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def commit(self, edits: Sequence[RefEdit]) -> None:
        self._machine.check()
        refs = self._machine.disk.refs
        for edit in edits:
            if refs.get(edit.ref) != edit.old:
                raise RefMoved(f"{edit.ref} is not at {edit.old}", ref=edit.ref)
        for edit in edits:
            if edit.new is None:
                refs.pop(edit.ref, None)
            else:
                refs[edit.ref] = edit.new

    def delete(self, edits: Iterable[RefEdit]) -> None:
        self.commit(list(edits))

    def close(self) -> None:
        """Nothing runs."""


class MemoryRemote(Remote):
    """The way to the server, on which anything may happen to a push."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(Line(NOWHERE), NOWHERE, Address("origin", "memory://", NOWHERE, ()))
        self._machine = machine
        self._server = machine.server

    def heads(self, known: Heads | None = None) -> Heads:
        self._mind_link()
        raw = b"%d" % self._server.version
        if known is not None and known.raw == raw:
            return known
        return Heads(self._server.below(HEADS), raw)

    def default_branch(self) -> str | None:
        return MAIN

    def read(self, refs: Iterable[str]) -> dict[str, str]:
        self._mind_link()
        return {ref: self._server.refs[ref] for ref in refs if ref in self._server.refs}

    def below(self, prefix: str) -> dict[str, str]:
        self._mind_link()
        return self._server.below(prefix)

    def fetch(
        self, wanted: Mapping[str, str], tips: Iterable[str], *, leases: bool = False
    ) -> tuple[str, ...]:
        self._mind_link()
        disk = self._machine.disk
        found = list(wanted.values())
        if leases:
            disk.line = {r: o for p in BESIDE for r, o in self._server.below(p).items()}
            found += disk.line.values()
        while found:
            oid = found.pop()
            if oid not in disk.objects:
                disk.objects.add(oid)
                found += self._server.objects.commits[oid].parents
        return ()

    def push(self, edits: Sequence[RefEdit]) -> None:
        renews = threading.current_thread().name == "aynig-renewal"
        fate = self._machine.renewal if renews else stop_here("push").push
        self._mind_link()
        if fate == "down":
            raise Unreachable("the connection was refused")
        if fate == "refused":
            raise Refused("a hook has rejected it")
        if fate == "late":
            self._machine.late.append((list(edits), self._machine.pusher))
            raise Unreachable("no answer has come")
        try:
            self._server.push(edits, self._machine.pusher)
        except RefMoved:
            if fate != "lost":
                raise
        if fate == "lost":
            raise Unreachable("the connection was reset")
        if not renews:
            stop_here("pushed")

    def _mind_link(self) -> None:
        self._machine.check()
        if not self._machine.online:
            raise Unreachable("there is no network")


# --- a run ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MemoryFolder(RunFolder):
    """The folder of a run, of which nothing is kept but what the script answers."""

    machine: Machine

    def write(self, name: str, data: bytes) -> None:
        """Nobody reads it."""

    def read_response(self, most: int) -> bytes | None:
        said = self.machine.said.get(self.run)
        return b"aynig: promise: DONE\n" if said == "promise" else None

    def conclude(self, **facts: Any) -> None:
        """Nobody reads it."""


class MemoryArchive:
    """Folders of runs."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def create(self, run: str) -> RunFolder:
        return MemoryFolder(NOWHERE / run, self._machine)


class MemoryShelf:
    """The scripts: one for each state that the server names."""

    shipped_home = "/shipped"

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def find(
        self, tree: str, folder: str, names: Sequence[str], state: str
    ) -> Script | ScriptProblem:
        if state in self._machine.server.scripts:
            return Script(state, _SCRIPT, "/home/of/scripts")
        return ScriptProblem("missing-script", f"no script for {state}")


class MemoryGuard:
    """Nothing that is shared can be changed by a script of these."""

    def fence(self, *place: object) -> None:
        """There is no git that could be kept from anything."""

    @contextlib.contextmanager
    def watching(self, run: str) -> Iterator[list[str]]:
        yield []


@dataclass
class MemoryWorktree:
    """What a script of these leaves: changed files, where it says so."""

    machine: Machine
    run: str
    path: Path = NOWHERE
    works: bool = False

    def harvest(self, commit: str, tree: str) -> Harvest:
        return Harvest(commit, _WORK if self.works else tree, self.works)

    def keep(self, place: Path) -> None:
        """There are no files."""


class MemoryPool:
    """Worktrees."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.lent: dict[str, MemoryWorktree] = {}

    @contextlib.contextmanager
    def lend(self, commit: str, tree: str, run: str = "") -> Iterator[MemoryWorktree]:
        worktree = self.lent[run] = MemoryWorktree(self._machine, run)
        yield worktree
        del self.lent[run]

    def close(self) -> None:
        """Nothing is open."""


class MemoryExecutor:
    """Scripts that do what they are told: renew, end in some way, go on."""

    def __init__(self, machine: Machine, pool: MemoryPool) -> None:
        self._machine = machine
        self._pool = pool

    def execute(self, job: Job, control: Control) -> RunResult:
        machine = self._machine
        machine.running[job.run] = job
        machine.server.watch(job)
        try:
            said = self._wait(control)
            if said == "ok":
                said = machine.server.script(job)
            machine.said[job.run] = said
        finally:
            del machine.running[job.run]
        machine.check()
        self._pool.lent[job.run].works = said != "idle"
        exits = {"fail": 1, "again": 75}
        stopped = said if said in ("drained", "moved") else control.stopped
        status = None if stopped else exits.get(said, 0)
        return RunResult(status, 9 if stopped else None, machine.wall(), 1.0, stopped)

    def _wait(self, control: Control) -> str:
        while True:
            cue = stop_here("script")
            if cue.script != "renew":
                return cue.script
            self._machine.renewal = cue.push
            control.tick()
            for thread in threading.enumerate():
                if thread.name == "aynig-renewal":
                    thread.join()
            if control.stopped:
                return "stopped"
