"""Whatever happens: one answer to a commit, under its lease, and no event is lost."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from aynig.lease import Leases
from aynig.model import Lease, Seat
from tests.machines.fleet import FleetMachine
from tests.machines.parts import SHARING

STEPS = 50
PARTS = 4


def play(machine: type[FleetMachine], runs: int, begin: int, *, shrink: bool = True) -> None:
    """So many runs, always the same ones."""
    run_state_machine_as_test(
        seed(begin)(machine),
        settings=settings(
            max_examples=runs,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            phases=[Phase.generate, *([Phase.shrink] if shrink else [])],
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize(
    "runs", [pytest.param(2_000, id="2,000 runs"), pytest.param(20_000, marks=pytest.mark.chaos)]
)
def test_a_fleet_keeps_the_promise_whatever_happens(runs: int, part: int) -> None:
    class Part(FleetMachine):
        """Seeded by itself, so that the parts can go side by side."""

    play(Part, runs // PARTS, begin=runs + part)


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize(
    "runs", [pytest.param(1_000, id="1,000 runs"), pytest.param(10_000, marks=pytest.mark.chaos)]
)
def test_a_fleet_never_has_a_resource_twice_whatever_happens(runs: int, part: int) -> None:
    class Part(FleetMachine):
        workflow = SHARING

    play(Part, runs // PARTS, begin=runs + part)


# --- the machine sees what is wrong --------------------------------------------------------------


class ByTheirDate(Leases):
    """Takes the word of another machine's clock for how old a lease is."""

    def is_live(self, lease: Lease, tip: str | None) -> bool:
        return super().is_live(lease, tip) and self.now() - lease.time < lease.seconds


class ForEver(Leases):
    """Waits for a holder that never comes back."""

    def is_live(self, lease: Lease, tip: str | None) -> bool:
        return lease.trigger == tip


class DatedFleet(FleetMachine):
    make_leases = ByTheirDate


class CarelessFleet(FleetMachine):
    careless = True


class PatientFleet(FleetMachine):
    make_leases = ForEver


class ByHearsay(Leases):
    """Takes for free what is not free."""

    def seat(self, ref: str) -> Seat:
        return Seat(ref, super().seat(ref).seen)


class GreedyFleet(FleetMachine):
    make_leases = ByHearsay
    workflow = SHARING


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        pytest.param(GreedyFleet, "had twice", id="no look at slots"),
        pytest.param(DatedFleet, "too soon", id="expiry by date"),
        pytest.param(CarelessFleet, "took|lease|twice|second", id="no compare-and-swap"),
        pytest.param(PatientFleet, "is left", id="no expiry"),
    ],
)
def test_a_broken_part_is_found(machine: type[FleetMachine], said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        play(machine, 400, begin=1, shrink=False)
