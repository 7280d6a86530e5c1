"""Wakes, looks, and keeps as many runs going as it may; drains when it is told to stop.

One thread decides (this loop), a pool of threads carries runs out. Whatever wakes the loop carries
no facts: each turn compares the refs with what was last seen (design section 3), so polling alone
is correct and watching only makes it fast.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from aynig import notices
from aynig.desk import Desk, Work
from aynig.doorbell import Doorbell
from aynig.errors import (
    AynigError,
    RepositoryError,
    UsageError,
    as_unwritable,
    told,
)
from aynig.git.repo import Repo
from aynig.notices import Notice, Observer
from aynig.outlook import Outlook, is_unseen, make_sync, publish, remote_key
from aynig.processes import reap_dead
from aynig.reconcile import Outcome
from aynig.recover import clear_locks, keep_house, recover
from aynig.site import Site, load_settings
from aynig.watch import Waker, Watcher

_HOUSEKEEPING = 3600.0
# A program that overwrites a ref file in place leaves no trace in its folder: how often, in
# seconds, a look trusts nothing that is remembered.
_AFRESH = 60.0
# While something is fresher than the file system's clock can tell apart, look again this soon.
_UNSETTLED = 0.06
# Where a file system keeps whole seconds it takes two of them; a clock set back may take longer.
_LONGEST_SETTLING = 5.0
_BESIDE = 2
# How often `aynig run` looks for branches that moved while their scripts run.
_ATTENTIVE = 1.0


@dataclass
class Place:
    """A repository that is to be worked in as soon as that is possible."""

    name: str
    open: Callable[[], Site]
    # Kept from try to try: where its refs can't be read, it is enough to look at them again.
    site: Site | None = None
    # Why it is not being worked in yet, and what was told of that.
    error: Exception | None = None
    told: str = ""


class Engine:
    """Works in one or many repositories until told to stop, or until all is quiet.

    `observe` is called with every Notice, one at a time, from any thread. Those of `absent` could
    not be opened yet: that is tried again at each poll.
    """

    def __init__(
        self,
        sites: Iterable[Site],
        observe: Observer,
        *,
        jobs: int,
        poll: float,
        until_quiet: bool = False,
        follow: bool = True,
        take_over: bool = False,
        absent: Iterable[Place] = (),
    ) -> None:
        self._observer = observe
        self._observing = threading.Lock()
        self._absent = [_opened(site) for site in sites] + list(absent)
        self._desks: dict[str, Desk] = {}
        self._jobs = jobs
        self._poll = min(poll, _ATTENTIVE) if until_quiet else poll
        self._until_quiet = until_quiet
        self._follow = follow
        # Is it not quiet before it is known of each lease whether somebody renews it?
        self._take_over = take_over
        self._waker = Waker()
        self._watcher = Watcher(self._waker)
        self._doorbells: list[Doorbell] = []
        # Beside the jobs: neither housekeeping nor an answer that waits must wait for a script,
        # and no look at one remote for another that does not answer, nor for what is said there.
        beside = _BESIDE + 2 * len(self._absent)
        self._threads = ThreadPoolExecutor(max_workers=jobs + beside, thread_name_prefix="aynig")
        self._outlook = Outlook(self._threads.submit, self._waker.wake, self._observe)
        self._done: deque[tuple[Desk, str, Outcome | BaseException, bool]] = deque()
        self._running = 0
        self._landing = False
        self._stops = 0
        self._stops_obeyed = 0
        self._next_poll = 0.0
        self._next_house = 0.0
        self._next_afresh = 0.0
        self._watch_problems: dict[str, str] = {}

    def stop(self) -> None:
        """Drain: nothing new starts, scripts get their grace. A second call stops at once.

        May be called from a signal handler and from any thread.
        """
        self._stops += 1
        # Also where the loop itself is at a look: the last one of a run that is to end.
        for desk in list(self._desks.values()):
            desk.end_looks()
        self._waker.wake()

    def look_again(self) -> None:
        """Look at all repositories soon: somebody says that there may be something new.

        May be called from any thread, at any time, and never waits. Calls that come before the
        look has begun are answered by one.
        """
        # A copy made in one step: the loop may be taking up a repository at this moment.
        for key in list(self._desks):
            self._waker.wake(key)
            self._waker.wake(remote_key(key))

    def run(self) -> None:
        """Work until stopped, or until quiet where that was asked for.

        Raises what is wrong with the repositories where there is none to work in.
        """
        try:
            self._begin()
            while not self._turn():
                pass
            self._complain()
        finally:
            self._end()

    # --- the loop ----------------------------------------------------------------------------

    def _begin(self) -> None:
        if not self._until_quiet:
            self._watcher.start()
        self._take_up_absent()
        if not self._desks and not self._stops:
            raise _no_repository(self._absent)
        self._tell_absent()
        now = time.monotonic()
        self._next_poll, self._next_house = now + self._poll, now
        self._next_afresh = now + _AFRESH
        self._mind_watcher()

    def _take_up_absent(self) -> None:
        """Begin in each repository where it is possible by now."""
        for place in [] if self._stops else list(self._absent):
            try:
                self._take_up(place)
            except Exception as error:
                # Whatever is wrong with one, it must not keep the others waiting.
                where = place.site.repo.common_dir if place.site is not None else place.name
                place.error = as_unwritable(error, where) or error
            else:
                self._absent.remove(place)

    def _take_up(self, place: Place) -> None:
        site = place.site = place.site or place.open()
        desk = Desk(
            site,
            self._observe,
            follow=self._follow,
            sync=make_sync(site, self._observe),
            patient=not self._until_quiet,
        )
        if desk.key in self._desks:
            raise UsageError(f"it is the same as {self._desks[desk.key].site.name}")
        for leftover in recover(site):
            self._problem(desk, f"after a crash: {leftover.detail}")
        bell = self._hang_doorbell(desk, site.repo)
        if not self._until_quiet:
            self._watcher.add(desk.key, site.repo.common_dir)
        try:
            desk.look(first=True)
        except Exception:
            bell.close()
            self._watcher.remove(desk.key)
            raise
        self._doorbells.append(bell)
        self._listen_at_remote(desk)
        if bell.problem:
            self._problem(desk, f"{bell.problem}: hooks can't wake us, polling goes on")
        self._desks[desk.key] = desk
        if not self._until_quiet:
            self._outlook.announce(desk)
        self._next_house = time.monotonic()
        self._observe(notices.of_watching(site))

    def _tell_absent(self) -> None:
        for place in self._absent:
            text = told(place.error).rstrip(".") if place.error is not None else ""
            if text != place.told:
                place.told = text
                self._observe(notices.of_problem(place.name, f"{text}; tried again at each look"))

    def _complain(self) -> None:
        """Where a run ends because nothing can be read any more, that is no success."""
        faults = [
            desk.fault if desk.sync is None else f"{desk.site.name}: {desk.fault}"
            for desk in self._desks.values()
            if desk.fault and self._until_quiet and not self._stops
        ]
        if faults:
            raise RepositoryError("; ".join(faults))

    def _hang_doorbell(self, desk: Desk, repo: Repo) -> Doorbell:
        name = str(desk.site.holder.pid)
        if self._works_on_a_part(desk.site):
            # A hook that hears only such a one still starts a run for what it passes over.
            name += ".part"
        key = desk.key if desk.sync is None else remote_key(desk.key)
        return Doorbell(repo.home / "wake" / name, lambda: self._waker.wake(key))

    def _listen_at_remote(self, desk: Desk) -> None:
        """A remote in this machine's own file system tells at once: by its hook, and by itself."""
        mirror = desk.site.mirror
        path = mirror.remote.address.path if mirror is not None else None
        if path is None:
            return
        with contextlib.suppress(AynigError, OSError):
            repo = Repo.open(path)
            if not self._until_quiet:
                self._watcher.add(remote_key(desk.key), repo.common_dir)
            bell = self._hang_doorbell(desk, repo)
            if bell.problem:
                bell.close()
            else:
                self._doorbells.append(bell)

    def _works_on_a_part(self, site: Site) -> bool:
        """Do our flags leave branches aside that the repository's own settings do not?"""
        own = load_settings(site.clone or site.repo)
        picky = site.mirror is not None and (site.settings.agent or site.settings.roles)
        return bool(picky) or not self._follow or site.settings.branches != own.branches

    def _turn(self) -> bool:
        """One round: obey, collect, start, wait, look. True when there is no more to do."""
        self._obey_stops()
        self._collect()
        now = time.monotonic()
        if not self._stops:
            for desk in self._desks.values():
                desk.recheck(now)
            self._outlook.begin_looks(self._desks.values(), full=self._is_full)
            self._start_runs()
            self._outlook.speak(self._desks.values(), full=self._is_full)
            self._keep_house(now)
        if self._is_over() and not self._missed_anything():
            return True
        self._look_where_woken(self._waker.wait(self._pause()))
        return False

    def _is_over(self) -> bool:
        if self._running or self._landing or self._done:
            return False
        if self._stops:
            return True
        return self._until_quiet and not any(
            desk.ready or desk.passing or is_unseen(desk) or (self._take_over and desk.doubtful)
            for desk in self._desks.values()
        )

    def _missed_anything(self) -> bool:
        """The look after the doorbells are gone.

        A hook that found one was heard before it went; a later one starts a run of its own.
        """
        if self._stops:
            return False
        for bell in self._doorbells:
            bell.close()
        for desk in self._desks.values():
            if desk.sync is not None and not desk.fault:
                desk.sync.run(leases=True)
            desk.look()
            self._settle(desk)
        return any(desk.ready or desk.passing for desk in self._desks.values())

    def _settle(self, desk: Desk) -> None:
        """Look until a further change could not carry the same time stamp, if that ever comes."""
        patience = time.monotonic() + _LONGEST_SETTLING
        while not desk.settled and not self._stops and time.monotonic() < patience:
            self._waker.wait(_UNSETTLED)
            desk.look()

    def _look_where_woken(self, woken: set[str]) -> None:
        now = time.monotonic()
        everywhere = now >= self._next_poll
        if everywhere:
            self._next_poll = now + self._poll
            reap_dead()
            self._take_up_absent()
            self._tell_absent()
            self._mind_watcher()
        afresh = now >= self._next_afresh
        if afresh:
            self._next_afresh = now + _AFRESH
            for desk in self._desks.values():
                self._threads.submit(self._clear_locks, desk)
        for key, desk in self._desks.items():
            if desk.sync is not None and remote_key(key) in woken:
                desk.sync.wake()
            # A look at a remote tells tasks of other places too that wait for its branches.
            beside = bool(woken) and desk.looks_elsewhere
            if afresh or everywhere or key in woken or beside or not desk.settled:
                desk.look(afresh=afresh)

    def _pause(self) -> float:
        """Seconds until something has to be done even if nothing wakes us."""
        now = time.monotonic()
        times = [self._next_poll]
        if not self._stops:
            times += self._outlook.due(self._desks.values(), full=self._is_full)
        for desk in self._desks.values():
            due = desk.next_due()
            if due is not None and not self._stops:
                times.append(due)
            if not desk.settled:
                times.append(now + _UNSETTLED)
        return max(min(times) - now, 0.0)

    @property
    def _is_full(self) -> bool:
        return self._running >= self._jobs

    # --- runs --------------------------------------------------------------------------------

    def _start_runs(self) -> None:
        """Fill the free places, the repositories taking turns."""
        self._start_landing()
        desks = list(self._desks.values())
        while desks and not self._is_full:
            for desk in list(desks):
                work = None if self._is_full else desk.next_work()
                if work is None:
                    desks.remove(desk)
                else:
                    self._running += 1
                    self._threads.submit(self._carry_out, desk, *work)

    def _start_landing(self) -> None:
        """Where all places are taken, one answer that waits is looked after all the same."""
        if self._landing or not self._is_full:
            return
        for desk in self._desks.values():
            work = desk.next_landing()
            if work is not None:
                self._landing = True
                self._threads.submit(self._carry_out, desk, *work, landing=True)
                return

    def _carry_out(self, desk: Desk, ref: str, work: Work, *, landing: bool = False) -> None:
        outcome: Outcome | BaseException
        try:
            outcome = work()
        except BaseException as error:
            # A fault in one task must not stop the others: it becomes a hold of its branch.
            outcome = error
        self._done.append((desk, ref, outcome, landing))
        self._waker.wake()

    def _collect(self) -> None:
        while self._done:
            desk, ref, outcome, landing = self._done.popleft()
            if landing:
                self._landing = False
            else:
                self._running -= 1
            desk.collect(ref, outcome)

    # --- beside ------------------------------------------------------------------------------

    def _keep_house(self, now: float) -> None:
        if now < self._next_house:
            return
        self._next_house = now + _HOUSEKEEPING
        for desk in self._desks.values():
            self._threads.submit(self._keep_one_house, desk)

    def _clear_locks(self, desk: Desk) -> None:
        with contextlib.suppress(AynigError, OSError):
            clear_locks(desk.site)

    def _keep_one_house(self, desk: Desk) -> None:
        try:
            keep_house(desk.site)
            self._outlook.sweep(desk)
        except (AynigError, OSError) as error:
            self._problem(desk, f"could not tidy up: {error}")

    def _mind_watcher(self) -> None:
        """Try again what could not be watched, and tell once of what can't."""
        if self._until_quiet:
            return
        self._watcher.mend()
        problems = dict(self._watcher.problems)
        for key, problem in problems.items():
            if self._watch_problems.get(key) != problem:
                name = self._desks[key].site.name if key in self._desks else key.strip()
                self._observe(notices.of_problem(name, f"{problem}; polling goes on"))
        self._watch_problems = problems

    def _problem(self, desk: Desk, text: str) -> None:
        self._observe(notices.of_problem(desk.site.name, text))

    def _observe(self, notice: Notice) -> None:
        with self._observing:
            self._observer(notice)

    # --- stopping ----------------------------------------------------------------------------

    def _obey_stops(self) -> None:
        if self._stops == self._stops_obeyed:
            return
        at_once = self._stops > 1
        self._stops_obeyed = self._stops
        # From now on nothing new is taken on, so hooks must not count on us.
        for bell in self._doorbells:
            bell.close()
        scripts = sum(desk.scripts for desk in self._desks.values())
        self._observe(notices.of_drain(scripts, at_once=at_once))
        for desk in self._desks.values():
            grace = 0.0 if at_once else desk.site.settings.grace
            desk.drain(grace)
            desk.hurry(grace)

    def _end(self) -> None:
        """Leave nothing behind: in this order, because a run that ends still writes refs."""
        # A wish to stop that came in the last turn is to be heard of as well.
        self._obey_stops()
        for bell in self._doorbells:
            bell.close()
        for desk in self._desks.values():
            desk.drain(0.0)
            desk.end_looks()
        self._threads.shutdown(wait=True)
        self._collect()
        self._watcher.stop()
        for desk in self._desks.values():
            desk.abandon_pending()
            desk.end_summons()
            desk.site.leases.settle()
            publish(desk.site)
            if self._stops < 2:
                self._outlook.withdraw(desk)
            desk.site.close()
        for place in self._absent:
            if place.site is not None:
                place.site.close()
        self._waker.close()
        if self._stops_obeyed:
            self._observe(notices.of_stop())


def _opened(site: Site) -> Place:
    return Place(site.name, lambda: site, site)


def _no_repository(places: Iterable[Place]) -> Exception:
    errors = [place.error for place in places if place.error is not None]
    if len(errors) == 1:
        return errors[0]
    reasons = "; ".join(told(error).rstrip(".") for error in errors)
    return RepositoryError(f"no repository can be worked in: {reasons}")
