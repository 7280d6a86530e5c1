"""Looks up what a run needs that others may have: slots of resources and of limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aynig.breakers import probe_place, run_of
from aynig.errors import WaitUntil
from aynig.limits import limits_of
from aynig.model import Event, Hold, Place, Seat, Thread
from aynig.policies import resources
from aynig.policies.breaker import judge_state
from aynig.policies.resources import places_of, slot_of
from aynig.site import Site
from aynig.workflow import StateSettings, Workflow


def wanted(
    site: Site, event: Event, workflow: Workflow, settings: StateSettings, thread: Thread
) -> tuple[Place, ...]:
    """What a run of a task needs, as the workflow and the task itself say.

    Where the breaker of its state lets one run through to try, the right to be that one as well.
    """
    found = places_of(
        (*settings.resources, *thread.resources),
        limits_of(workflow, settings, event.statement),
    )
    if settings.breaker is None:
        return found
    run = run_of(site.ledger, site.repo, settings.breaker, event.state, site.leases.now())
    probe = probe_place(settings.breaker, run)
    return (*found, probe) if probe is not None else found


def state_hold_afresh(site: Site, event: Event, settings: StateSettings) -> Hold | None:
    """Is the breaker of a state open, also after what others have just come to?"""
    if settings.breaker is None:
        return None
    site.scan.look()
    now = site.leases.now()
    run = run_of(site.ledger, site.repo, settings.breaker, event.state, now, afresh=True)
    return judge_state(settings.breaker, run, now) if run is not None else None


def find_seats(site: Site, branch: str, places: Sequence[Place]) -> tuple[Seat, ...] | Hold:
    """A free slot of each place, or why there is none."""
    if not places:
        return ()
    return resources.judge(
        [(place, _seats(site, place)) for place in places], branch, site.leases.now()
    )


def free_slots(site: Site, place: Place) -> int:
    """How many of a place's slots are free at this moment, as far as is known here."""
    return sum(not seat.branch for seat in _seats(site, place))


def _seats(site: Site, place: Place) -> Iterator[Seat]:
    for number in range(place.capacity):
        seat = site.leases.seat(slot_of(place, number))
        yield seat if seat.branch or not _is_unsure(site, seat) else _asked(site, seat)


def _is_unsure(site: Site, seat: Seat) -> bool:
    """Was the slot taken by a lease of which nothing is known here?

    Refs are listed one after the other: what has just been taken may show by its slot alone. A
    lease ref that is there is compared when the slot is taken, one that is absent can't be.
    """
    return site.mirror is not None and bool(seat.lease_ref) and seat.lease_seen is None


def _asked(site: Site, seat: Seat) -> Seat:
    assert site.mirror is not None
    try:
        there = site.mirror.remote.read([seat.lease_ref])
    except WaitUntil:
        there = {seat.lease_ref: ""}
    return Seat(seat.ref, seat.seen, branch="?") if there else seat
