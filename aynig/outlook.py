"""What an engine does about remotes beside the runs: it looks at them, and says that it is there.

Each look has a thread of its own, so that none waits for another remote that does not answer. All
else belongs to the loop's thread.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from aynig import notices
from aynig.desk import Desk
from aynig.errors import AynigError, WaitUntil
from aynig.git.sharedrefs import SharedRefs
from aynig.notices import Observer
from aynig.presence import Announcement, Card
from aynig.processes import is_alive
from aynig.recover import bury_dead
from aynig.site import Site
from aynig.sync import LONGEST, Sync

Submit = Callable[[Callable[[], None]], object]


def remote_key(key: str) -> str:
    """The waker's source for what says to look at the remote, not only at its mirror."""
    return f"{key}\n"


def make_sync(site: Site, observe: Observer) -> Sync | None:
    """The looks at the remote of a site; None where it has none."""
    if site.mirror is None or not isinstance(site.store, SharedRefs):
        return None

    def first() -> None:
        for leftover in bury_dead(site):
            observe(notices.of_problem(site.name, f"after a crash: {leftover.detail}"))

    return Sync(
        site.mirror, site.store, poll=site.settings.poll, settle=site.leases.settle, first=first
    )


def is_unseen(desk: Desk) -> bool:
    """Has nobody told yet how things stand on the remote?"""
    sync = desk.sync
    return sync is not None and (sync.running or not (sync.fresh or sync.fault))


def publish(site: Site) -> None:
    """What is kept on this machine alone would be out of reach once it is switched off."""
    if isinstance(site.store, SharedRefs):
        with contextlib.suppress(AynigError, OSError):
            site.store.publish()


class Outlook:
    """The looks at the remotes of several desks, and the records that say that we are idle."""

    def __init__(self, submit: Submit, wake: Callable[[str], None], observe: Observer) -> None:
        """`submit` gives something to a thread.

        `wake` is called with the key of a desk whose refs may have changed, or with nothing.
        """
        self._submit = submit
        self._wake = wake
        self._observe = observe
        self._looked: deque[Desk] = deque()
        self._announcements: dict[str, Announcement] = {}

    def announce(self, desk: Desk) -> None:
        """From now on say on its remote when there is nothing to do, if it has one."""
        site = desk.site
        if site.mirror is not None:
            settings = site.settings
            card = Card(site.holder, settings.agent, settings.roles, settings.jobs)
            self._announcements[desk.key] = Announcement(site.mirror, card, is_alive=is_alive)

    def begin_looks(self, desks: Iterable[Desk], *, full: bool) -> None:
        """Take in the looks that are over, and begin those that are due.

        `full` says that all places have work, here and below.
        """
        while self._looked:
            desk = self._looked.popleft()
            assert desk.sync is not None
            desk.sync.end(desk.site.settings.lease_seconds / 2 if desk.minds_leases else LONGEST)
        now = time.monotonic()
        for desk, sync in _at_rest(desks):
            if _due(desk, sync, full=full) <= now:
                sync.begin()
                self._submit(self._look(desk, sync, leases=desk.minds_leases))

    def _look(self, desk: Desk, sync: Sync, *, leases: bool) -> Callable[[], None]:
        def look() -> None:
            sync.run(leases=leases)
            self._looked.append(desk)
            self._wake(desk.key)

        return look

    def speak(self, desks: Iterable[Desk], *, full: bool) -> None:
        """An idle runner says so, rather than being asked; after all that is more urgent."""
        for desk in desks:
            announcement = self._announcements.get(desk.key)
            if announcement is None:
                continue
            announcement.mind(busy=desk.scripts > 0, idle=not full and desk.idle)
            if announcement.due <= time.monotonic():
                announcement.begin()
                self._submit(self._say(desk, announcement))

    def _say(self, desk: Desk, announcement: Announcement) -> Callable[[], None]:
        def say() -> None:
            problem = announcement.run()
            if problem:
                self._observe(notices.of_problem(desk.site.name, problem))
            self._wake("")

        return say

    def due(self, desks: Iterable[Desk], *, full: bool) -> Iterator[float]:
        """When there is something to be begun, on the monotonic clock."""
        yield from (announcement.due for announcement in self._announcements.values())
        yield from (_due(desk, sync, full=full) for desk, sync in _at_rest(desks))

    def sweep(self, desk: Desk) -> None:
        """Delete the records of runners that are dead. Raises Refused, and OSError."""
        if desk.key in self._announcements:
            # A remote that is away is told of by those who need it.
            with contextlib.suppress(WaitUntil):
                self._announcements[desk.key].sweep()

    def withdraw(self, desk: Desk) -> None:
        """Say on its remote that we are here no more, if that was ever said."""
        if desk.key in self._announcements:
            self._announcements[desk.key].withdraw()


def _at_rest(desks: Iterable[Desk]) -> Iterator[tuple[Desk, Sync]]:
    for desk in desks:
        if desk.sync is not None and not desk.sync.running:
            yield desk, desk.sync


def _due(desk: Desk, sync: Sync, *, full: bool) -> float:
    """When the remote is to be looked at next: at leisure while all places have work."""
    return sync.due_beside_work if full or desk.ready else sync.due
