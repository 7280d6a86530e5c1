"""Asks the policies about a task, in order: the first that has something to say decides.

What a policy needs to know is looked up here or in the module that it names; the deciding itself is
done in `policies/`, and is pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aynig.model import Attempt, Event, Hold, Step
from aynig.site import Site
from aynig.thread import Thread
from aynig.workflow import StateSettings, Workflow


@dataclass(frozen=True, slots=True)
class Case:
    """A task that policies are asked about."""

    event: Event
    settings: StateSettings
    workflow: Workflow
    thread: Thread
    # The attempts at this very commit that failed.
    past: tuple[Attempt, ...]
    now: float


Ruling = Hold | Step
Question = Callable[[Site, Case], Ruling | None]

# Whether or not the state has a script.
_FIRST: tuple[Question, ...] = ()
# Of a run that could start now.
_LAST: tuple[Question, ...] = ()


def first_ruling(site: Site, case: Case) -> Ruling | None:
    """What is decided whatever the state's script is."""
    return _ask(_FIRST, site, case)


def last_ruling(site: Site, case: Case) -> Ruling | None:
    """What is decided of a run that could start now."""
    return _ask(_LAST, site, case)


def _ask(questions: tuple[Question, ...], site: Site, case: Case) -> Ruling | None:
    for question in questions:
        ruling = question(site, case)
        if ruling is not None:
            return ruling
    return None
