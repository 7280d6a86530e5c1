"""Which tasks are looked at again when a branch has changed: those that it concerns, and no others.

A task says what it waits for when it is held; a change is matched with that. What may have changed
while a task was looked at is counted, so that no release is missed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable

from aynig.errors import RepositoryError
from aynig.family import CANCELED
from aynig.held import OF_OTHER_TASKS, HeldTasks
from aynig.model import ENDED_STATES, HEADS, Hold, RefChange
from aynig.scan import Tip
from aynig.site import Site
from aynig.underway import UnderWay

# So many commits below a tip are looked through for those that are waited for.
_FAR_BELOW = 64


class Releases:
    """The releases of one repository. Belongs to one thread."""

    def __init__(
        self, site: Site, held: HeldTasks, active: UnderWay, enqueue: Callable[[str], None]
    ) -> None:
        """`enqueue` has a branch looked at again."""
        self._site = site
        self._held = held
        self._active = active
        self._enqueue = enqueue
        # Counts changes of branches; the last one of each, as long as work is under way.
        self._changes = 0
        self._changed: dict[str, int] = {}
        # What branches of other repositories pointed at, as far as tasks wait for them.
        self._seen_elsewhere: dict[str, str | None] = {}

    @property
    def changes(self) -> int:
        """How many changes there have been: a mark for `is_outdated`."""
        return self._changes

    def forget(self) -> None:
        """No task is being looked at: which branches have changed since matters to nobody."""
        self._changed.clear()

    def is_outdated(self, hold: Hold, begun: int) -> bool:
        """May what ends a hold have happened since the mark `begun`?"""
        if hold.word not in OF_OTHER_TASKS and not hold.on:
            return False
        if hold.on is None or any(not key.startswith("refs/") for key in hold.on):
            return self._changes > begun and hold.until is None
        return any(self._changed.get(key, 0) > begun for key in hold.on)

    def of_changes(self, changes: Iterable[RefChange]) -> None:
        """Look again at tasks that depend on another, where one may have ended or appeared."""
        for change in changes:
            if change.old is not None:
                self.of_copies(change.old)
            tip = self._site.scan.tip(change.ref)
            over = change.old is None or tip is None or tip.state in ENDED_STATES
            self.of_branch(change.ref, over=over)
            self._of_those_below(change)

    def of_branch(self, ref: str, *, over: bool) -> None:
        """A branch has changed; `over`: who waits for its end is to look at it."""
        self._changes += 1
        self._changed[ref] = self._changes
        for other in self._held.waiting_for(ref, over=over):
            self._enqueue(other)
        for other in self._held.waiting_for_any() if over else ():
            self._enqueue(other)

    def of_copies(self, oid: str) -> None:
        """One of several branches at a commit has moved on: the others may say why they wait."""
        for ref in self._held.copies_of(oid):
            self._enqueue(ref)

    def _of_those_below(self, change: RefChange) -> None:
        """A branch that is new, or was set elsewhere, may lie on commits that are waited for.

        What lies below the tip of another branch was there before.
        """
        pending, seen = [change.new], set[str | None]()
        while pending and self._held.commits:
            oid = pending.pop()
            if oid is None or oid == change.old or oid in seen:
                continue
            seen.add(oid)
            found = self._held.waiting_for(oid)
            if len(seen) > _FAR_BELOW:
                # Too far to look: all of them are asked.
                pending.clear()
                found = [
                    ref for key in [*self._held.commits] for ref in self._held.waiting_for(key)
                ]
            for ref in found:
                self._enqueue(ref)
            # Who waits for something further down waits for this commit too.
            if not found and not self._site.scan.branches_at(oid) - {change.ref}:
                with contextlib.suppress(RepositoryError):
                    pending += self._site.repo.commit(oid).parents

    def from_elsewhere(self) -> None:
        """Tasks that wait for branches of other repositories, of whose changes no look tells."""
        for name in self._held.elsewhere:
            known, before = name in self._seen_elsewhere, self._seen_elsewhere.get(name)
            oid = self._seen_elsewhere[name] = self._site.upstream.elsewhere.oid(name)
            # Where it was not looked at before, it may have changed since the task was held.
            if not known or before != oid:
                for ref in self._held.waiting_for(name):
                    self._enqueue(ref)

    def of_kin(self, ref: str, tip: Tip) -> None:
        """A parent that waits is looked at again for any of its children, also for one that it did
        not know of; the children of one that is canceled are at once, and their scripts stopped."""
        if tip.parent and self._concerns_parent(ref, tip):
            self._enqueue(HEADS + tip.parent)
        if tip.state != CANCELED:
            return
        for child in self._site.scan.children(ref):
            control = self._active.control(child)
            if control is not None:
                control.stop("canceled")
            known = self._site.scan.tip(child)
            if known is not None and known.actionable:
                self._enqueue(child)

    def _concerns_parent(self, ref: str, tip: Tip) -> bool:
        """Does a parent have to look at a child? One that is looked at right now may be too late
        to see it."""
        parent = HEADS + tip.parent
        held = self._held.get(parent)
        if held is None:
            return parent in self._active and tip.state in ENDED_STATES
        if held.hold.word not in OF_OTHER_TASKS:
            return False
        return tip.state in ENDED_STATES or held.hold.on is None or ref not in held.hold.on
