"""Where a task goes that failed for good: `compensate`, `on-failure`, `escalate`, or the end."""

from __future__ import annotations

from dataclasses import dataclass

from aynig.model import Field
from aynig.workflow import StateSettings

FAILED = "failed"
STALLED = "stalled"


@dataclass(frozen=True, slots=True)
class Way:
    """The next state; `then` is the one after a compensation, `to_person` where a person's."""

    state: str
    then: str = ""
    to_person: bool = False


def fields_of(way: Way, trigger: str) -> list[Field]:
    """What an answer says of the way; `trigger` is the commit that it answers."""
    found = [Field("compensates", trigger), Field("then", way.then)] if way.then else []
    return [*found, Field("escalated", trigger)] if way.to_person else found


def way_on(settings: StateSettings, *, said: str | None, autonomy: str | None) -> Way:
    """The way after a failure. `said` is the state that the script itself named, if it could.

    Effects outside git are undone whatever the script says; after that it goes on as it would have
    without. A workflow that stops when it is stuck ends for a person, not as failed.
    """
    onward = _without_compensation(settings, said, autonomy)
    if settings.compensate is not None:
        return Way(settings.compensate, then=onward.state)
    return onward


def _without_compensation(settings: StateSettings, said: str | None, autonomy: str | None) -> Way:
    if said is not None:
        return Way(said)
    if settings.on_failure is not None:
        return Way(settings.on_failure)
    if settings.escalate is not None:
        return Way(settings.escalate, to_person=True)
    if autonomy not in (None, "", "never"):
        return Way(STALLED, to_person=True)
    return Way(FAILED)
