"""Any number of steps of people, runners, networks and clocks, in any order.

The rule says what may happen, the invariants what must never be. At the end all is mended, the
fleet works on until there is nothing left to do, and then no event may have been lost.
"""

from __future__ import annotations

from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from aynig.lease import Leases
from tests.machines.runner import SECONDS, MakeLeases
from tests.machines.server import WORKFLOW
from tests.machines.strand import Cue
from tests.machines.world import BRANCHES, World

# What happens in a step, each as often as it is named.
KINDS = (
    *("push", "copy", "set back", "sync", "wait", "wait", "link", "late", "restart"),
    *("claim",) * 5,
    *("go on",) * 8,
)
# Mostly luck: a run in which nothing ever gets through shows little.
PUSHES = (*("up",) * 7, "lost", "lost", "late", "late", "down", "refused")
SCRIPTS = ("ok", "ok", "ok", "idle", "renew", "renew", "renew", "fail", "again", "moved")
STATES = ("go", "go", "go", "check", "canceled", "")
SPANS = (1.0, 20.0, SECONDS + 1, 400.0)
STOPS = (1, 2, 9)

dice = st.integers(0, 63)
clocks = st.tuples(st.sampled_from([-3600.0, 0.0, 3600.0]), st.sampled_from([0.5, 1.0, 2.0]))


class FleetMachine(RuleBasedStateMachine):
    """Several runners and one server."""

    make_leases: ClassVar[MakeLeases] = Leases
    careless: ClassVar[bool] = False
    workflow: ClassVar[str] = WORKFLOW

    def __init__(self) -> None:
        super().__init__()
        self.world = World(type(self).make_leases, self.careless, self.workflow)

    @initialize(
        made=st.lists(clocks, min_size=2, max_size=4),
        sharing=st.booleans(),
        tasks=st.integers(1, len(BRANCHES)),
        copied=st.booleans(),
    )
    def start(
        self, made: list[tuple[float, float]], sharing: bool, tasks: int, copied: bool
    ) -> None:
        for ref in BRANCHES[:tasks]:
            self.world.push(ref)
        if copied:
            self.world.copy(BRANCHES[1], BRANCHES[0])
        for number, (offset, rate) in enumerate(made):
            # Of a fleet, two may be on one computer.
            host = "host-0" if sharing and number < 2 else ""
            self.world.add(host, offset=offset, rate=rate)

    @rule(
        kind=st.sampled_from(KINDS), which=dice, ref=st.sampled_from(BRANCHES), one=dice, two=dice
    )
    def step(self, kind: str, which: int, ref: str, one: int, two: int) -> None:
        """One rule for all, because hypothesis leaves out whole rules in most runs."""
        world = self.world
        runner = world.fleet[which % len(world.fleet)]
        cue = Cue(PUSHES[one % len(PUSHES)], SCRIPTS[two % len(SCRIPTS)])
        stops = STOPS[two % len(STOPS)]
        if kind == "push":
            world.push(ref, STATES[one % len(STATES)])
        elif kind == "copy":
            world.copy(ref, BRANCHES[one % len(BRANCHES)])
        elif kind == "set back" and one % 4:
            world.set_back(ref)
        elif kind == "set back":
            world.server.put(ref, None)
        elif kind == "sync":
            runner.sync()
        elif kind == "claim":
            if one % 4:
                runner.sync()
            tasks = [*runner.pending, *runner.tasks()]
            runner.claim(tasks[which % len(tasks)] if tasks else ref, cue, stops)
        elif kind == "go on":
            self._go_on(which, cue, stops)
        elif kind == "wait":
            world.server.time += SPANS[one % len(SPANS)]
        elif kind == "link":
            runner.machine.online = bool(one % 3)
        elif kind == "late" and runner.machine.late:
            runner.machine.arrive_late(lost=one % 4 == 1)
        elif kind == "restart":
            world.restart(runner, disk=one % 4 != 1, gently=two % 2 == 1)

    def _go_on(self, which: int, cue: Cue, stops: int) -> None:
        under_way = [(each, ref) for each in self.world.fleet for ref in each.strands]
        if under_way:
            runner, ref = under_way[which % len(under_way)]
            runner.advance(ref, cue, stops)

    @invariant()
    def the_referee_has_nothing_to_say(self) -> None:
        broken = self.world.broken
        assert not broken, broken

    @invariant()
    def no_commit_is_run_twice_under_leases_that_are_live(self) -> None:
        twice = self.world.run_twice()
        assert not twice, f"these run twice: {twice}"

    @invariant()
    def no_two_have_what_only_one_may(self) -> None:
        shared = self.world.shared()
        assert not shared, f"these are had twice: {shared}"

    def teardown(self) -> None:
        try:
            if not self.world.broken:
                self.world.work_off()
                self.the_referee_has_nothing_to_say()
                lost = self.world.lost()
                assert not lost, lost
        finally:
            self.world.close()
