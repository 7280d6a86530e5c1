"""May a task start, as far as others have what it needs? (`resource`, `limits.concurrent`)

What runs share is counted in places: a resource has one, a limit as many as it allows. A run takes
a slot of each kind of place, or none at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from aynig.model import SLOTS, Hold, Place, Seat
from aynig.text import escape
from aynig.workflow import Limits

WORD = "waiting"
_WHOLE = ("the resource ", "the try ")
# How soon it is worth another look, in seconds, where nothing tells that a slot is free.
RECHECK = 1.0


def place_of(kind: str, name: str, capacity: int) -> Place:
    """The place of one kind and name: alike for all runners.

    A hash, because names of resources may hold what no ref may, and may lie in each other.
    """
    told = f"the {kind} {escape(name)}" if name else f"the {kind}"
    digest = hashlib.sha1(
        f"{kind} {name}".encode("utf-8", "surrogateescape"), usedforsecurity=False
    )
    return Place(SLOTS + digest.hexdigest(), capacity, told)


def slot_of(place: Place, number: int) -> str:
    """The ref of one of its slots, the first of which is 0."""
    return f"{place.name}-{number}"


def place_name(slot: str) -> str:
    """The name of the place that a slot is one of."""
    return slot.rpartition("-")[0]


def places_of(
    resources: Iterable[str], limits: Iterable[tuple[str, str, Limits]]
) -> tuple[Place, ...]:
    """What a run needs, each once, in an order that is the same for all.

    `limits` are kinds and names of scopes, with what is said of them.
    """
    found = [place_of("resource", name, 1) for name in resources]
    for kind, name, said in limits:
        if said.concurrent is not None:
            found.append(place_of(kind, name, said.concurrent))
    return tuple(sorted(dict.fromkeys(found)))


def judge(
    wanted: Sequence[tuple[Place, Iterable[Seat]]], own: str, now: float
) -> tuple[Seat, ...] | Hold:
    """A free slot of each place, or why there is none. `own` is the branch of the task.

    Of the slots of a place no more are looked at than needed.
    """
    taken = []
    for place, seats in wanted:
        holders = []
        for seat in seats:
            if not seat.branch:
                taken.append(seat)
                break
            holders.append(seat.branch)
        else:
            return _hold(place, holders, own, now)
    return tuple(taken)


def _hold(place: Place, holders: Sequence[str], own: str, now: float) -> Hold:
    detail = f"for one of {place.capacity} places of {place.told}"
    if place.capacity == 1:
        others = [f"{escape(branch)} has" for branch in holders if branch not in (own, "?")]
        mine = ["an earlier run of it has"] if own in holders else []
        who = [*others, *mine, "somebody has"][0]
        shared = "" if place.told.startswith(_WHOLE) else "the one place of "
        detail = f"for {shared}{place.told}, which {who}"
    return Hold(place.word, detail, now + RECHECK, places=(place,))


def unfinished(branch: str, now: float) -> Hold:
    """The branch has moved on, and the run before still has what others may be waiting for."""
    return Hold(WORD, f"for the earlier run of {escape(branch)} to end", now + RECHECK)
