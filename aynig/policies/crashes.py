"""A commit whose runner dies again and again: is it the commit? (no key: it holds everywhere)

Nobody sees how such an attempt ended, and a run that kills its runner says nothing of itself. So it
is started again at once, then ever later, and after so many it has failed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from aynig.durations import format_duration
from aynig.model import CRASHED, Attempt, Field, Hold, Step
from aynig.policies.fallback import fields_of, way_on
from aynig.text import operand
from aynig.workflow import StateSettings

KIND = "crashes"
# A machine that is started anew, or a daemon, costs a task nothing.
AT_ONCE = 3
FIRST_DELAY = 5.0
FACTOR = 2.0
# About ten minutes of waiting in all.
MOST = 10


def crashes_in(past: Sequence[Attempt]) -> int:
    """At how many attempts at one commit the runner died."""
    return sum(attempt.ending == CRASHED for attempt in past)


def failures_in(past: Sequence[Attempt]) -> int:
    """How many attempts at one commit came to an end of their own, which `retries` counts."""
    return len(past) - crashes_in(past)


def judge(
    past: Sequence[Attempt],
    settings: StateSettings,
    branch: str,
    trigger: str,
    autonomy: str | None,
    now: float,
) -> Hold | Step | None:
    """The verdict on a task at one commit; `now` in seconds since the epoch.

    None: it may be started. A Hold until its time has come, a Step when there was enough of it.
    """
    crashes = crashes_in(past)
    if crashes >= MOST:
        return _end(crashes, settings, branch, trigger, autonomy)
    last = past[-1] if past else None
    if crashes < AT_ONCE or last is None or last.ending != CRASHED:
        return None
    pause = FIRST_DELAY * math.pow(FACTOR, crashes - AT_ONCE)
    # A clock that was set back must not keep a task for longer.
    left = min(last.time + pause - now, pause)
    if left <= 0:
        return None
    detail = (
        f"its runner died {crashes} times: attempt {len(past) + 1} in "
        f"{format_duration(math.ceil(left))}"
    )
    return Hold("waiting", detail, now + left)


def _end(
    crashes: int, settings: StateSettings, branch: str, trigger: str, autonomy: str | None
) -> Step:
    way = way_on(settings, said=None, autonomy=autonomy)
    told = f"its runner died {crashes} times while it ran"
    fields = (Field("failure", told), *fields_of(way, trigger))
    body = (
        "Each time the process of the runner was ended, or its machine: by the script, or by "
        f"what it used up.\nTo try once more: aynig retry {operand(branch)}"
    )
    return Step(KIND, way.state, told, body, fields)
