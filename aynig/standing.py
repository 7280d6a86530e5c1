"""What the lease ref of a branch says of one commit: who has it, and how it was tried before."""

from __future__ import annotations

from dataclasses import dataclass

from aynig.attempts import after_crash
from aynig.model import Attempt, Deferral, Event, Field, Lease
from aynig.site import Site


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of earlier attempts at a commit, and of the one that may be under way."""

    # What the lease ref pointed at.
    seen: str | None
    # Any lease that is there, also of an earlier commit; and one of this commit that is live.
    lease: Lease | None
    live: Lease | None
    deferral: Deferral | None
    # How often the commit was tried, how that ended and what it has cost.
    tried: int
    past: tuple[Attempt, ...]
    spent: tuple[Field, ...]


def read_standing(site: Site, event: Event) -> Standing:
    """Look it up; one whose runner died or was cut off has a crash among its attempts."""
    standing = site.leases.read(event.ref)
    seen = standing if isinstance(standing, str) or standing is None else standing.oid
    lease = standing if isinstance(standing, Lease) else None
    live = lease if lease is not None and site.leases.is_live(lease, event.oid) else None
    deferral = None
    if isinstance(standing, Deferral) and standing.trigger == event.oid:
        deferral = site.leases.by_our_clock(standing)
    ours = lease if lease is not None and lease.trigger == event.oid else None
    before = deferral or ours
    if before is None:
        return Standing(seen, lease, live, None, 0, (), _spent_below(site, event, standing))
    past = before.past
    if live is None and ours is not None:
        past = after_crash(past, float(ours.time))
    return Standing(seen, lease, live, deferral, before.attempt, past, before.spent)


def _spent_below(site: Site, event: Event, standing: object) -> tuple[Field, ...]:
    """What runs of the same task have spent that no answer tells of, because it has moved on.

    The next lease takes the place of the record that says so.
    """
    if not isinstance(standing, Lease | Deferral) or not standing.spent:
        return ()
    trigger = standing.trigger
    if trigger == event.oid or not site.repo.has_commit(trigger):
        return ()
    if site.answers.answer_to(trigger, site.repo.commit(trigger).time) is not None:
        return ()
    same = site.ledger.thread_of(trigger) == site.ledger.thread_of(event.origin)
    return standing.spent if same else ()
