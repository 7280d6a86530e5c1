"""When a task that is held is looked at again, where no change of refs tells."""

from __future__ import annotations

import math
import random
import time

from aynig.held import Held
from aynig.model import Hold
from aynig.plan import FIRST_RECHECK, LONGEST_RECHECK
from aynig.policies import setback

# Holds that say when they end.
_TIMED = frozenset({"waiting", "breaker", "over-budget"})
# How long a hold is at most, in seconds, where another look at the task asks the remote something.
LONGEST = {
    "unreachable": 60.0,
    "refused": setback.REFUSED_DELAY,
    "unwritable": 30.0,
    "busy": 30.0,
}


def held_for(hold: Hold, oid: str, before: Held | None, *, remote: bool) -> Held:
    """How long a hold of a commit lasts; `before` is what held it for the same reason.

    A task that asked for a time gets that time; anything else is looked at ever less often. On a
    `remote` runners don't look at once.
    """
    delay = FIRST_RECHECK
    if before is not None:
        longest = LONGEST.get(hold.word, LONGEST_RECHECK) if remote else LONGEST_RECHECK
        delay = min(before.delay * 2, longest) or FIRST_RECHECK
    due = None
    if hold.until is not None and not hold.places:
        wait = hold.until - time.time() if hold.word in _TIMED else delay
        if remote:
            wait *= random.uniform(1.0, 1.5)
        due = time.monotonic() + max(wait, 0.0)
    return Held(hold, oid, delay, due, on_our_clock(hold.deadline))


def held_until(hold: Hold, oid: str, seconds: float, deadline: float | None) -> Held:
    """A hold of a commit that lasts so many seconds, or until the time of its task is up."""
    return Held(hold, oid, 0.0, time.monotonic() + seconds, on_our_clock(deadline))


def on_our_clock(end: float | None) -> float:
    """A time in seconds since the epoch on the monotonic clock; infinity for none."""
    return math.inf if end is None else time.monotonic() + max(end - time.time(), 0.0)
