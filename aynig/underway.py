"""The branches that threads are at work on, and what ends a script whose answer can't land.

Belongs to the loop's thread; scripts come and go in others, so what they look at is copied first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from aynig.errors import RepositoryError
from aynig.execution import Started
from aynig.executors import Control
from aynig.family import CANCELED
from aynig.site import Site


@dataclass
class Active:
    """A branch that a thread is at work on."""

    control: Control
    # What the branch pointed at when the work was given out.
    oid: str
    # How many changes of branches there had been by then.
    changes: int = 0
    # The commit that a script was started for; empty before that.
    trigger: str = ""
    # False also where an answer that waits is tried again.
    has_script: bool = False
    # See `Started`.
    keeps: Callable[[str | None], bool] | None = None


class UnderWay:
    """What is under way in one repository, by ref."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._active: dict[str, Active] = {}

    def __bool__(self) -> bool:
        return bool(self._active)

    def __contains__(self, ref: object) -> bool:
        return ref in self._active

    def put(self, ref: str, active: Active) -> None:
        """A thread begins to work on a branch."""
        self._active[ref] = active

    def pop(self, ref: str) -> Active | None:
        """The work on a branch has ended; what it was."""
        return self._active.pop(ref, None)

    def control(self, ref: str) -> Control | None:
        """What stops the work on a branch; None where nothing is under way."""
        active = self._active.get(ref)
        return active.control if active is not None else None

    def begin(self, started: Started) -> bool:
        """A script is about to start; from the thread of the run. Is its branch known here?"""
        active = self._active.get(started.plan.event.ref)
        if active is None:
            return False
        active.trigger = started.plan.event.oid
        active.keeps = started.keeps
        active.has_script = True
        # The branch may have moved before there was a run that a look could have ended.
        self._stop_if_moved(started.plan.event.ref, active)
        return True

    def take_change(self, ref: str, oid: str | None) -> None:
        """A branch points at `oid` by now: a script that was started for another is ended."""
        active = self._active.get(ref)
        if active is not None and active.trigger not in ("", oid):
            self._stop_if_moved(ref, active)

    def _stop_if_moved(self, ref: str, active: Active) -> None:
        """End a run whose answer can't land any more: the new tip is what counts.

        The branch itself is asked: a look may be older than what the run was started for, where
        several runners carry one chain on.
        """
        with contextlib.suppress(RepositoryError):
            tip = self._site.repo.read_ref(ref)
            if tip != active.trigger and not (active.keeps is not None and active.keeps(tip)):
                active.control.stop("canceled" if self._is_canceled(tip) else "moved")

    def _is_canceled(self, oid: str | None) -> bool:
        """Does this tip say that the task was canceled? Anything else has only moved the branch."""
        if oid is None:
            return False
        try:
            statement = self._site.read(self._site.repo.commit(oid).message)
        except RepositoryError:
            return False
        return statement is not None and statement.state == CANCELED

    def has_answered(self, ref: str, oid: str) -> bool:
        """Was this tip landed by a run of ours that is about to say so?"""
        active = self._active.get(ref)
        if active is None or not active.trigger:
            return False
        try:
            statement = self._site.read(self._site.repo.commit(oid).message)
        except RepositoryError:
            return False
        return statement is not None and statement.value("answers") == active.trigger

    @property
    def scripts(self) -> int:
        """How many scripts are under way, those whose answer is about to land included."""
        return sum(active.has_script for active in list(self._active.values()))

    def drain(self, grace: float | None) -> None:
        """Tell every script that is under way to come to its end."""
        for active in list(self._active.values()):
            active.control.stop("drained", grace)
