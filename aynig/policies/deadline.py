"""When the time of a whole task is up (`deadline` of a state or of the task, from its beginning).

A task that is too late is not started any more. It goes where it would have gone after a failure,
and there it may take its time: undoing something or asking a person must not be cut off as well.
"""

from __future__ import annotations

from dataclasses import dataclass

from aynig.durations import format_duration
from aynig.model import Field, Step
from aynig.policies.fallback import fields_of, way_on
from aynig.text import operand
from aynig.workflow import DEADLINE, StateSettings


@dataclass(frozen=True, slots=True)
class Course:
    """How long a task may take, and how it stands; times in seconds since the epoch."""

    # The shorter of what the state and the task say; None where neither says anything.
    limit: float | None
    began: float
    # When a person has last asked for something; the beginning where nobody has since.
    touched: float
    # Has it been answered already that the task is late?
    overdue: bool = False


def shorter(one: float | None, other: float | None) -> float | None:
    """Of two limits that may not be there, the one that counts."""
    return min((limit for limit in (one, other) if limit is not None), default=None)


def end_of(course: Course) -> float | None:
    """When the time is up; None: never.

    Who asks for more when it is, gives it the same time once again.
    """
    if course.limit is None or course.overdue:
        return None
    end = course.began + course.limit
    return end if course.touched <= end else course.touched + course.limit


def judge(
    course: Course,
    settings: StateSettings,
    branch: str,
    trigger: str,
    autonomy: str | None,
    now: float,
) -> Step | None:
    """The answer to a task that is too late, and to what of it; None for one that is not."""
    end = end_of(course)
    if end is None or course.limit is None or now < end:
        return None
    way = way_on(settings, said=None, autonomy=autonomy)
    late = format_duration(max(1.0, float(round(now - end))))
    told = f"its deadline of {format_duration(course.limit)} was over for {late}"
    fields = (Field("failure", told), *fields_of(way, trigger))
    return Step(
        kind=DEADLINE,
        state=way.state,
        subject=told,
        body=f"To go on all the same: aynig retry {operand(branch)}",
        fields=fields,
    )
