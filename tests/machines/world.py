"""A server, its runners, and the people who push to it: what may happen, as plain calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from aynig.git.refs import RefEdit
from aynig.git.repo import EMPTY_TREE
from aynig.lease import Leases, lease_name
from aynig.model import ENDED_STATES, HEADS, Deferral, Holder
from tests.machines.parts import Disk, Machine
from tests.machines.runner import SECONDS, MakeLeases, Runner
from tests.machines.server import MAIN, WORKFLOW, Pusher, Server
from tests.machines.strand import Cue
from tests.world import EPOCH

BRANCHES = tuple(HEADS + name for name in ("one", "two", "three"))
# After so many rounds in which nothing changed, nothing will.
_QUIET = 2
# More rounds than any number of tasks has use for.
_FOR_EVER = 500


@dataclass
class World:
    """All there is."""

    make_leases: MakeLeases = Leases
    # Do runners leave out the guard of lease refs? None does, but where a test breaks it.
    careless: bool = False
    workflow: str = WORKFLOW
    server: Server = field(default_factory=Server)
    fleet: list[Runner] = field(default_factory=list)
    _made: int = 0

    def __post_init__(self) -> None:
        self.server.workflow = self.workflow

    # --- runners -----------------------------------------------------------------------------

    def add(self, host: str = "", *, offset: float = 0.0, rate: float = 1.0) -> Runner:
        """One more runner, on a computer of its own or on that of another."""
        host = host or f"host-{len(self.fleet)}"
        machine = Machine(
            self.server,
            Disk(),
            self._pusher(host, rate),
            offset,
            self.server.time,
        )
        runner = Runner.start(machine, host, self._number(), self.make_leases)
        self.fleet.append(runner)
        runner.sync()
        return runner

    def restart(self, runner: Runner, *, disk: bool = True, gently: bool = False) -> Runner:
        """End a process and begin another on the same computer, perhaps with a new disk."""
        if gently:
            runner.drain()
        runner.die()
        old, host = runner.machine, runner.site.holder.host
        machine = Machine(
            self.server,
            old.disk if disk else Disk(),
            self._pusher(host, old.pusher.rate),
            old.offset,
            self.server.time,
            online=old.online,
            late=old.late,
        )
        reborn = Runner.start(machine, host, self._number(), self.make_leases)
        self.fleet[self.fleet.index(runner)] = reborn
        return reborn

    def _pusher(self, host: str, rate: float) -> Pusher:
        def is_alive(holder: Holder) -> bool | None:
            if holder.host != host:
                return None
            return any(each.machine.pusher.name == holder.runner for each in self.fleet)

        def is_careless(edit: RefEdit) -> bool:
            return self.careless and edit.ref in map(lease_name, BRANCHES)

        return Pusher(f"runner-{self._number()}", rate, is_alive, is_careless)

    def _number(self) -> int:
        self._made += 1
        return self._made

    # --- people ------------------------------------------------------------------------------

    def push(self, ref: str, state: str = "go", fields: Sequence[str] = ()) -> str:
        """A commit on top of a branch, or of the default branch for a new one; its oid.

        `fields` are lines such as `depends-on: other`.
        """
        objects, tip = self.server.objects, self.server.refs.get(ref, self.server.refs[MAIN])
        lines = "".join(f"\naynig: {line}" for line in fields)
        said = f"\n\naynig: {state}{lines}" if state else ""
        time = max(int(EPOCH + self.server.time), objects.commit(tip).time)
        message = f"Please {state} {self._number()}{said}\n"
        oid = objects.write(EMPTY_TREE, (tip,), message, time)
        self.server.put(ref, oid)
        return oid

    def copy(self, ref: str, other: str) -> None:
        if other in self.server.refs:
            self.server.put(ref, self.server.refs[other])

    def set_back(self, ref: str) -> None:
        """To the commit before the last, where there is one."""
        tip = self.server.refs.get(ref)
        parents = self.server.objects.commit(tip).parents if tip is not None else ()
        if parents:
            self.server.put(ref, parents[0])

    def state(self, ref: str) -> str:
        """What the tip of a branch says; empty for nothing."""
        said = self.server.objects.said(self.server.refs[ref])
        return said.state if said is not None else ""

    # --- what must hold ----------------------------------------------------------------------

    @property
    def broken(self) -> list[str]:
        """What the referee and the runners have to complain of."""
        return [*self.server.broken, *(text for each in self.fleet for text in each.broken)]

    def run_twice(self) -> list[str]:
        """Commits of which two scripts are under way, each under a lease that nobody may doubt."""
        certain = self.server.certain()
        under_way = [run for each in self.fleet for run in each.machine.running if run in certain]
        triggers = [certain[run].trigger for run in under_way]
        return [oid for oid in triggers if triggers.count(oid) > 1]

    def shared(self) -> list[str]:
        """Slots that two scripts under way have, each under a lease that nobody may doubt."""
        certain = self.server.certain(moved=True)
        under_way = [run for each in self.fleet for run in each.machine.running if run in certain]
        slots = [slot for run in under_way for slot in certain[run].slots]
        return [slot for slot in slots if slots.count(slot) > 1]

    # --- the end -----------------------------------------------------------------------------

    def work_off(self) -> None:
        """All is mended, and everybody works until nothing is left to do."""
        for runner in self.fleet:
            runner.machine.online = True
            runner.machine.late.clear()
        quiet = 0
        for _ in range(_FOR_EVER):
            if quiet == _QUIET:
                return
            before = dict(self.server.refs)
            for runner in self.fleet:
                for ref in list(runner.strands):
                    runner.finish(ref)
                runner.sync()
                for ref in [*runner.pending, *runner.tasks()]:
                    runner.claim(ref, Cue(), 9)
                    runner.finish(ref)
            self.server.time += 10 * SECONDS
            quiet = quiet + 1 if before == self.server.refs else 0
        raise AssertionError("they would work for ever")

    def lost(self) -> list[str]:
        """Events that nobody will come back to, and leases that nobody gives back."""
        found = []
        for ref, tip in self.server.below(HEADS).items():
            said = self.server.objects.said(tip)
            if said is None or said.state in ENDED_STATES or self.server.is_answered(tip):
                continue
            name = lease_name(ref)
            left = self.server.objects.lease(name, self.server.refs.get(name))
            given_up = isinstance(left, Deferral) and left.seconds == float("inf")
            if not given_up:
                found.append(f"{ref} is left at {said.state}: {left}")
        for lease in self.server.live_leases():
            if not self.server.is_answered(lease.trigger):
                found.append(f"the lease of {lease.ref} is left")
        found += [f"an answer to {ref} waits" for each in self.fleet for ref in each.pending]
        return found

    def close(self) -> None:
        for runner in self.fleet:
            runner.die()
