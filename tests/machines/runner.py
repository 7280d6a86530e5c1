"""A runner of the fleet: the real decision logic on parts that are in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

from aynig.elsewhere import Elsewhere
from aynig.ending import Finished, Pending
from aynig.errors import AynigError
from aynig.executors import Control
from aynig.git.history import AnswerIndex
from aynig.git.mirror import Mirror
from aynig.git.seclusion import Seclusion
from aynig.git.sharedrefs import SharedRefs
from aynig.git.snapshot import RefReader
from aynig.lease import Leases
from aynig.ledger import Ledger
from aynig.model import Holder
from aynig.reconcile import Reconciler
from aynig.scan import Scan, actionable
from aynig.settings import Settings
from aynig.site import Site
from aynig.threads import Threads
from aynig.upstream import Dependencies
from tests.machines.parts import (
    NOWHERE,
    Machine,
    MemoryArchive,
    MemoryExecutor,
    MemoryGuard,
    MemoryPool,
    MemoryReader,
    MemoryRefs,
    MemoryRemote,
    MemoryRepo,
    MemoryShelf,
)
from tests.machines.server import read
from tests.machines.strand import Cue, Killed, Strand

SECONDS = 60.0
SETTINGS = Settings(jobs=2, lease_seconds=SECONDS, grace=1.0)

MakeLeases = Callable[..., Leases]


def make_site(machine: Machine, holder: Holder, make_leases: MakeLeases = Leases) -> Site:
    """As `aynig.site.make_site`, in memory."""
    repo = MemoryRepo(machine)
    local = MemoryRefs(machine)

    def reader(place: Path, prefixes: tuple[str, ...]) -> RefReader:
        disk = machine.disk
        return MemoryReader(lambda: disk.refs if place == NOWHERE else disk.line, prefixes)

    mirror = Mirror(repo, MemoryRemote(machine), local, reader=reader)
    store = SharedRefs(mirror, local)
    threads = Threads(repo, read)
    scan = Scan(repo, read, lambda ref: True, reader=reader, parent_of=threads.parent_of)
    answers = AnswerIndex(repo, read, scan.take_fresh_tips, mirror.take_fresh_leases)
    pool = MemoryPool(machine)
    leases = make_leases(
        repo,
        store,
        holder,
        seconds=SECONDS,
        is_alive=machine.pusher.is_alive,
        clock=machine.monotonic,
        now=machine.wall,
    )
    return Site(
        name="origin",
        repo=repo,
        settings=SETTINGS,
        holder=holder,
        store=store,
        leases=leases,
        pool=cast(Any, pool),
        seclusion=Seclusion(repo),
        shelf=cast(Any, MemoryShelf(machine)),
        guard=cast(Any, MemoryGuard()),
        archive=cast(Any, MemoryArchive(machine)),
        answers=answers,
        upstream=Dependencies(repo, read, scan, threads, answers, Elsewhere(repo, "origin")),
        scan=scan,
        threads=threads,
        ledger=Ledger(repo, tuple),
        executor=MemoryExecutor(machine, pool),
        executed_by=holder.runner,
        mirror=mirror,
        end_scripts=lambda run: (),
    )


@dataclass
class Runner:
    """One process: its work under way, and the answers that wait to land."""

    machine: Machine
    site: Site
    reconciler: Reconciler
    strands: dict[str, Strand] = field(default_factory=dict)
    pending: dict[str, Pending] = field(default_factory=dict)
    # How the work on each branch ended last.
    outcomes: dict[str, object] = field(default_factory=dict)
    # What should not have happened.
    broken: list[str] = field(default_factory=list)

    @classmethod
    def start(
        cls, machine: Machine, host: str, number: int, make_leases: MakeLeases = Leases
    ) -> Runner:
        holder = Holder(machine.pusher.name, host, number, "boot", "0")
        site = make_site(machine, holder, make_leases)
        return cls(machine, site, Reconciler(site, lambda started: None))

    # --- looking ---------------------------------------------------------------------------------

    def sync(self) -> bool:
        """Look at the remote; was it there?"""
        assert self.site.mirror is not None
        try:
            self.site.mirror.sync(leases=True)
        except AynigError:
            return False
        finally:
            self.site.scan.look()
        self.site.leases.settle()
        return True

    def tasks(self) -> list[str]:
        """The branches that might lead to a run, as far as this runner knows."""
        scan = self.site.scan
        return sorted(actionable(scan, scan.tips()))

    # --- working ---------------------------------------------------------------------------------

    def claim(self, ref: str, cue: Cue, stops: int) -> None:
        """Do what the tip of a branch asks for, or land the answer to it that waits."""
        if ref in self.strands:
            return
        pending = self.pending.pop(ref, None)
        work = partial(self.reconciler.reconcile, ref, Control())
        self.strands[ref] = Strand(partial(self.reconciler.finish, pending) if pending else work)
        self.advance(ref, cue, stops)

    def advance(self, ref: str, cue: Cue, stops: int) -> None:
        """Let the work on a branch go on for so many stops, but not past its script."""
        strand = self.strands[ref]
        strand.advance(cue, stops)
        if strand.over:
            del self.strands[ref]
            self._collect(ref, strand)

    def finish(self, ref: str) -> None:
        """Let the work on a branch come to its end, with luck and a script that succeeds."""
        while ref in self.strands:
            self.advance(ref, Cue(), 9)

    def _collect(self, ref: str, strand: Strand) -> None:
        outcome, error = strand.outcome, strand.error
        if error is not None and not isinstance(error, AynigError):
            raise error
        self.outcomes[ref] = outcome
        if isinstance(outcome, Pending):
            self.pending[ref] = outcome
        if isinstance(outcome, Finished):
            self._check(outcome)

    def _check(self, finished: Finished) -> None:
        tip = self.machine.server.refs.get(finished.plan.event.ref)
        if finished.ending == "answered":
            landed = dict(self.machine.server.answers.get(finished.plan.event.oid, ()))
            if finished.answer is None or finished.answer.oid not in landed:
                self.broken.append(f"an answer to {finished.plan.event.oid} never landed")
        elif finished.ending == "refused" and tip is not None and tip != finished.plan.event.oid:
            said = self.machine.server.objects.said(tip)
            if said is not None and said.value("run") == finished.lease.run:
                self.broken.append(f"{tip} landed, and was told as {finished.ending}")

    # --- ending ----------------------------------------------------------------------------------

    def drain(self) -> None:
        """As on SIGTERM: scripts are ended, answers that wait are kept."""
        for ref, strand in list(self.strands.items()):
            while ref in self.strands:
                self.advance(ref, Cue(script="drained") if strand.at == "script" else Cue(), 1)
        for pending in self.pending.values():
            try:
                self.reconciler.abandon(pending)
            except AynigError:
                continue
        self.pending.clear()
        self.site.leases.settle()

    def die(self) -> None:
        """As on SIGKILL."""
        self.machine.alive = False
        for strand in self.strands.values():
            strand.kill()
            if not isinstance(strand.error, Killed | None):
                raise strand.error
        self.strands.clear()
