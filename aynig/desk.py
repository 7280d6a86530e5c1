"""What the daemon remembers of one repository between two looks.

Nothing here must survive: a desk is built anew from the refs at every start.
"""

from __future__ import annotations

import contextlib
import functools
import math
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from aynig import barred, notices
from aynig.ending import Finished, Pending
from aynig.errors import AynigError, RepositoryError, as_unwritable, hold_word, told
from aynig.execution import Started
from aynig.executors import Control
from aynig.executors.summons import Summon, Summons
from aynig.facts import level_of, trusted_commit
from aynig.family import CANCELED
from aynig.git.snapshot import RefReader
from aynig.held import OF_OTHER_TASKS, Held, HeldTasks
from aynig.model import AWAITING, BREAKERS, ENDED_STATES, HEADS, Hold, RefChange
from aynig.notices import Observer
from aynig.places import free_slots
from aynig.plan import FIRST_RECHECK, LONGEST_RECHECK
from aynig.policies import priority, setback
from aynig.policies.contention import Contention
from aynig.policies.priority import Rank
from aynig.policies.resources import RECHECK
from aynig.reconcile import Barred, Outcome, Outrun, Reconciler
from aynig.scan import Tip
from aynig.site import Site
from aynig.sync import Sync
from aynig.turns import Lines, Turns

# Holds that say when they end.
_TIMED = frozenset({"waiting", "breaker", "over-budget"})
# Holds that only a person ends, and is called for.
_OF_PEOPLE = frozenset({*AWAITING, "stalled"})
# Holds that end by themselves, and soon: another runner at the same commit, a lock.
_PASSING = frozenset({"busy", "copy"})
# Holds that a change of the trusted tree may end.
_OF_THE_TREE = frozenset(
    {
        "missing-script",
        "not-executable",
        "bad-script",
        "bad-interpreter",
        "bad-config",
        "assigned",
        "breaker",
        "over-budget",
    }
)
_OF_BREAKERS = frozenset({"breaker"})
# Holds that end when the repository can be read again.
_OF_THE_REPOSITORY = frozenset({"error", "unreadable", "unwritable", "unreachable"})
# Holds that a change of lease refs may end, of which no branch tells.
_OF_LEASES = frozenset(
    {"running", "copy", "busy", "waiting", "error", "refused", "broken", "breaker"}
)
# So many commits below a tip are looked through for those that are waited for.
_FAR_BELOW = 64
# How long a hold is at most, in seconds, where another look at the task asks the remote something.
_LONGEST = {
    "unreachable": 60.0,
    "refused": setback.REFUSED_DELAY,
    "unwritable": 30.0,
    "busy": 30.0,
}


@dataclass
class _Active:
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


@dataclass
class _Bar:
    """The remote took no lease of ours at the last try: one task at a time tries again, ever less
    often, and not each of a thousand by itself."""

    delay: float = 0.0
    until: float = 0.0
    # The task that tries.
    trying: str = ""

    def put(self, ref: str, longest: float) -> None:
        if self.delay and ref != self.trying:
            return
        self.delay = min(self.delay * 2, longest) or 2 * FIRST_RECHECK
        self.until = time.monotonic() + self.delay * random.uniform(1.0, 1.5)
        self.trying = ""

    def lift(self) -> None:
        self.delay, self.trying = 0.0, ""

    @property
    def holds(self) -> bool:
        return bool(self.delay) and (bool(self.trying) or time.monotonic() < self.until)


Work = Callable[[], Outcome]


class Desk:
    """The queue of one repository: what is ready, under way, held. Belongs to the loop's thread,
    but for `started`."""

    def __init__(
        self,
        site: Site,
        observe: Observer,
        *,
        follow: bool,
        sync: Sync | None = None,
        patient: bool = True,
    ) -> None:
        """Not `patient`: whoever ends the work tells what is wrong with the repository then."""
        self.site = site
        # The looks at the remote, where the tasks are those of one.
        self.sync = sync
        self.key = str(site.repo.common_dir)
        self.settled = True
        # Why nothing can be done in the repository at this time, in one line; empty where it can.
        self.fault = ""
        self._observe = observe
        self._follow = follow
        self._patient = patient
        self._reconciler = Reconciler(site, self.started)
        self._queue = Turns(self._glance, self._rank)
        # The last runs that branches had, counted.
        self._turns: dict[str, int] = {}
        self._lines = Lines()
        # Those that have left a line to try, and for what.
        self._called: dict[str, frozenset[str]] = {}
        self._turn = 0
        self._next_call = 0.0
        self._closings = RefReader(site.repo.common_dir, (BREAKERS,))
        self._active: dict[str, _Active] = {}
        self._held = HeldTasks()
        self._pending: dict[str, Pending] = {}
        # Counts changes of branches; the last one of each, as long as work is under way.
        self._changes = 0
        self._changed: dict[str, int] = {}
        # The last hold of a branch: told of once, and looked at again ever less often.
        self._last_hold: dict[str, Held] = {}
        # What branches of other repositories pointed at, as far as tasks wait for them.
        self._seen_elsewhere: dict[str, str | None] = {}
        self._contention = Contention()
        self._summons = Summons(
            site.settings.notify,
            site.name,
            site.repo.place,
            lambda problem: observe(notices.of_problem(site.name, problem)),
        )
        self._trusted: str | None = None
        self._gone = False
        self._bar = _Bar()

    # --- looking -----------------------------------------------------------------------------

    def look(self, *, first: bool = False, afresh: bool = False) -> None:
        """Queue what changed since the last look; `afresh` trusts nothing remembered.

        Raises what is wrong with the repository at the `first` look; later that is told, once, and
        no work is given out before a look has found it mended.
        """
        if not self._is_there():
            return
        try:
            self._look(first=first, afresh=afresh)
        except Exception as error:
            if first:
                raise
            # Whatever it is, it is this repository's, and must not stop the others.
            self._fail(told(error))
            return
        if self.sync is not None and self.sync.fault:
            self._fail(self._without_name(self.sync.fault))
            return
        if self.fault:
            self.fault = ""
            self._observe(notices.of_watching(self.site))
            self._requeue(_OF_THE_REPOSITORY)

    def _without_name(self, fault: str) -> str:
        """What is wrong with a remote: that of the site names the remote already."""
        mirror = self.site.mirror
        return (
            fault.removeprefix(f"{mirror.remote.address.shown}: ") if mirror is not None else fault
        )

    def _fail(self, fault: str) -> None:
        self.settled = True
        known, self.fault = self.fault, fault
        if fault != known and self._patient:
            self._observe(
                notices.of_problem(self.site.name, f"{fault.rstrip('.')}; tried again at each look")
            )

    def _look(self, *, first: bool, afresh: bool) -> None:
        scan = self.site.scan
        if afresh:
            self.settled = scan.look_afresh()
        else:
            # Our own runs change refs all the time, and look by themselves besides.
            in_turn = self._active and not self.fault
            self.settled = scan.look_in_turn() if in_turn else scan.look()
        changes = self.site.scan.take_changes()
        for change in changes:
            self._take_change(change.ref, change.new, first=first)
        if not first:
            self._free_others(changes)
        self._mind_elsewhere()
        self._call_waiting()
        self._mind_breakers()
        self._mind_trust()

    def _is_there(self) -> bool:
        there = self.site.repo.common_dir.is_dir()
        if not there and not self._gone:
            self._observe(notices.of_problem(self.site.name, "the repository is gone"))
        self._gone = not there
        return there

    def _take_change(self, ref: str, oid: str | None, *, first: bool) -> None:
        active = self._active.get(ref)
        if active is not None and active.trigger not in ("", oid):
            self._stop_if_moved(ref, active)
        self._held.pop(ref)
        self._lines.leave(ref)
        if ref in self._pending:
            # An answer that waits can't land any more, whatever it was that came instead.
            self._enqueue(ref)
        tip = self.site.scan.tip(ref)
        if tip is not None and not first:
            self._tell_kin(ref, tip)
        if tip is None or (not tip.state and not tip.fault):
            self._last_hold.pop(ref, None)
            self._lines.leave(ref)
            self._turns.pop(ref, None)
            return
        if (tip.actionable or not first) and not self._is_answer_of(active, tip.oid):
            self._observe(notices.of_event(self.site, ref, tip))
        # One that can't even be read has no time; to pass that over would look like success.
        is_news = tip.fault and (not first or not tip.time)
        if (tip.actionable or is_news) and (self._follow or first):
            self._enqueue(ref)

    def _is_answer_of(self, active: _Active | None, oid: str) -> bool:
        """Was this landed by a run of ours that is about to say so?"""
        if active is None or not active.trigger:
            return False
        try:
            statement = self.site.read(self.site.repo.commit(oid).message)
        except RepositoryError:
            return False
        return statement is not None and statement.value("answers") == active.trigger

    def _free_others(self, changes: Iterable[RefChange]) -> None:
        """Look again at tasks that depend on another, where one may have ended or appeared."""
        for change in changes:
            if change.old is not None:
                self._free_copies(change.old)
            tip = self.site.scan.tip(change.ref)
            over = change.old is None or tip is None or tip.state in ENDED_STATES
            self._free(change.ref, over=over)
            self._free_those_below(change)

    def _free(self, ref: str, *, over: bool) -> None:
        """A branch has changed; `over`: who waits for its end is to look at it."""
        self._changes += 1
        self._changed[ref] = self._changes
        for other in self._held.waiting_for(ref, over=over):
            self._enqueue(other)
        for other in self._held.waiting_for_any() if over else ():
            self._enqueue(other)

    def _is_outdated(self, hold: Hold, begun: int) -> bool:
        """May what ends a hold have happened while the task was looked at?"""
        if hold.word not in OF_OTHER_TASKS and not hold.on:
            return False
        if hold.on is None or any(not key.startswith("refs/") for key in hold.on):
            return self._changes > begun and hold.until is None
        return any(self._changed.get(key, 0) > begun for key in hold.on)

    def _free_those_below(self, change: RefChange) -> None:
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
            if not found and not self.site.scan.branches_at(oid) - {change.ref}:
                with contextlib.suppress(RepositoryError):
                    pending += self.site.repo.commit(oid).parents

    def _mind_elsewhere(self) -> None:
        """Tasks that wait for branches of other repositories, of whose changes no look tells."""
        for name in self._held.elsewhere:
            known, before = name in self._seen_elsewhere, self._seen_elsewhere.get(name)
            oid = self._seen_elsewhere[name] = self.site.upstream.elsewhere.oid(name)
            # Where it was not looked at before, it may have changed since the task was held.
            if not known or before != oid:
                for ref in self._held.waiting_for(name):
                    self._enqueue(ref)

    @property
    def looks_elsewhere(self) -> bool:
        """Does anything wait for a branch of another repository?"""
        return bool(self._held.elsewhere)

    def _tell_kin(self, ref: str, tip: Tip) -> None:
        """A parent that waits is looked at again for any of its children, also for one that it did
        not know of; the children of one that is canceled are at once, and their scripts stopped."""
        if tip.parent and self._concerns_parent(ref, tip):
            self._enqueue(HEADS + tip.parent)
        if tip.state != CANCELED:
            return
        for child in self.site.scan.children(ref):
            active = self._active.get(child)
            if active is not None:
                active.control.stop("canceled")
            known = self.site.scan.tip(child)
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

    def _free_copies(self, oid: str) -> None:
        """One of several branches at a commit has moved on: the others may say why they wait."""
        for ref in self._held.copies_of(oid):
            self._enqueue(ref)

    def _stop_if_moved(self, ref: str, active: _Active) -> None:
        """End a run whose answer can't land any more: the new tip is what counts.

        The branch itself is asked: a look may be older than what the run was started for, where
        several runners carry one chain on.
        """
        with contextlib.suppress(RepositoryError):
            tip = self.site.repo.read_ref(ref)
            if tip != active.trigger and not (active.keeps is not None and active.keeps(tip)):
                active.control.stop("canceled" if self._is_canceled(tip) else "moved")

    def _is_canceled(self, oid: str | None) -> bool:
        """Does this tip say that the task was canceled? Anything else has only moved the branch."""
        if oid is None:
            return False
        try:
            statement = self.site.read(self.site.repo.commit(oid).message)
        except RepositoryError:
            return False
        return statement is not None and statement.state == "canceled"

    def _mind_breakers(self) -> None:
        """A person may have closed that of a state."""
        if self._closings.look().changes:
            self._requeue(_OF_BREAKERS)

    def _mind_trust(self) -> None:
        """Scripts that come from another branch may be mended by a change there."""
        trusted = trusted_commit(self.site.repo, self.site.settings)
        if trusted != self._trusted:
            self._trusted = trusted
            self._requeue_of_the_tree()

    def _requeue(self, words: frozenset[str]) -> None:
        for ref in self._held.of_words(words):
            self._enqueue(ref)

    def _requeue_of_the_tree(self) -> None:
        """A new workflow may have other places, and more of them."""
        self._requeue(_OF_THE_TREE)
        for ref, held in self._held.items():
            if held.hold.places:
                self._enqueue(ref)

    def _enqueue(self, ref: str) -> None:
        self._held.pop(ref)
        self._lines.leave(ref)
        self._queue.add(ref)

    def _glance(self, ref: str) -> tuple[str, float] | None:
        tip = self.site.scan.tip(ref)
        return (tip.oid, float(tip.time)) if tip is not None else None

    def _rank(self, ref: str) -> Rank:
        oid, since = self._glance(ref) or ("", 0.0)
        level = level_of(self.site, ref, oid) if oid else priority.NORMAL
        return priority.rank(level, since, time.time(), self._turns.get(ref, 0), ref)

    # --- places that runs share --------------------------------------------------------------

    def _call_waiting(self) -> None:
        """Queue those that are next in line, as many as there are free places."""
        if not self._lines:
            return
        self._next_call = time.monotonic() + RECHECK
        for place in self._lines.places():
            called = sum(place.name in names for names in self._called.values())
            for ref in self._lines.first(place.name, free_slots(self.site, place) - called):
                self._called[ref] = frozenset({place.name})
                self._enqueue(ref)

    # --- starting ----------------------------------------------------------------------------

    def next_work(self) -> tuple[str, Work] | None:
        """The next branch that can be worked on now, and what to call in a thread for it."""
        if not self._active:
            self._changed.clear()
        if self._contention.until:
            return self.next_landing()
        # Runners that look at the same queue begin at different branches.
        pick = random.randrange if self.sync is not None else None
        while not self._is_closed:
            if self._bar.holds:
                return self.next_landing()
            # The turn of one that is under way comes when that has ended.
            ref = self._queue.take(lambda ref: ref not in self._active, pick)
            if ref is None:
                return None
            if ref in self._pending:
                return ref, self._land(ref)
            tip = self.site.scan.tip(ref)
            if tip is None:
                self._called.pop(ref, None)
            else:
                control = Control()
                if self._bar.delay:
                    self._bar.trying = ref
                self._active[ref] = _Active(control, tip.oid, self._changes)
                return ref, functools.partial(self._reconciler.reconcile, ref, control)
        return None

    def next_landing(self) -> tuple[str, Work] | None:
        """The same for the next answer that waits: it needs no place among the scripts, and its
        lease runs out if nobody renews it."""
        for ref in self._pending:
            if ref in self._queue and ref not in self._active and not self.fault:
                self._queue.discard(ref)
                return ref, self._land(ref)
        return None

    def _land(self, ref: str) -> Work:
        pending = self._pending.pop(ref)
        oid = pending.plan.event.oid
        self._active[ref] = _Active(Control(), oid, self._changes, oid)
        return functools.partial(self._reconciler.finish, pending)

    def started(self, started: Started) -> None:
        """A script is about to start; called from the thread of the run."""
        active = self._active.get(started.plan.event.ref)
        if active is not None:
            active.trigger = started.plan.event.oid
            active.has_script = True
            self._contention = Contention()
            # There is a lease, so the others may try again, however long this one takes.
            self._bar.lift()
            if self.sync is not None:
                barred.forget(self.site)
            active.keeps = started.keeps
            # It may have moved before there was a run that the look could have ended.
            self._stop_if_moved(started.plan.event.ref, active)
        self._observe(notices.of_start(self.site, started))

    @property
    def _is_closed(self) -> bool:
        """Is no work given out, because nobody knows how things stand?"""
        return bool(self.fault) or (self.sync is not None and not self.sync.fresh)

    @property
    def minds_leases(self) -> bool:
        """Could a task be waiting for the lease of another runner?"""
        return bool(self._queue) or self._held.has(_OF_LEASES)

    @property
    def ready(self) -> bool:
        """Is there anything that could be started now?"""
        return not self._is_closed and any(
            ref in self._pending or not self._bar.holds
            for ref in self._queue
            if ref not in self._active
        )

    @property
    def idle(self) -> bool:
        """Is nothing to be done here, as far as is known?"""
        return not (self._is_closed or self._active or self._queue or self._pending)

    @property
    def passing(self) -> bool:
        """Does anything wait for what is over in a moment, such as a lock of another process?"""
        return self._held.has(_PASSING) and any(
            held.hold.word in _PASSING and held.due is not None and held.delay < LONGEST_RECHECK
            for _, held in self._held.items()
        )

    @property
    def doubtful(self) -> bool:
        """Does anything wait for a lease of which nobody knows yet whether its holder lives?"""
        return not self._is_closed and any(
            held.hold.word == "running" and self.site.leases.in_doubt(ref)
            for ref, held in self._held.items()
        )

    # --- collecting --------------------------------------------------------------------------

    def collect(self, ref: str, outcome: Outcome | BaseException) -> None:
        """Take in how the work on a branch ended."""
        active = self._active.pop(ref, None)
        self._called.pop(ref, None)
        if active is not None and active.has_script:
            self._turns[ref] = self._turn = self._turn + 1
        oid = (active.trigger or active.oid) if active is not None else ""
        if isinstance(outcome, Barred) and self.sync is not None:
            self._bar.put(ref, _LONGEST[outcome.word])
            barred.note(self.site, outcome)
        elif ref == self._bar.trying:
            # It never came to the question: another one asks it.
            self._bar.trying = ""
        if active is not None and active.has_script and isinstance(outcome, Hold):
            # What held it before is told again: it was tried in between.
            self._last_hold.pop(ref, None)
        if isinstance(outcome, BaseException):
            full = as_unwritable(outcome, self.site.repo.common_dir)
            error = full or outcome
            self._hold(ref, oid, Hold(_word(error), told(error), time.time() + FIRST_RECHECK))
        elif isinstance(outcome, Hold):
            self._hold(ref, oid, outcome)
            if active is not None and self._is_outdated(outcome, active.changes):
                self._enqueue(ref)
        elif isinstance(outcome, Pending):
            self._pending[ref] = outcome
            detail = f"the answer waits: {outcome.detail}"
            self._hold(ref, oid, Hold(outcome.word, detail, time.time() + FIRST_RECHECK))
        elif isinstance(outcome, Finished):
            self._finish(ref, outcome)
        elif isinstance(outcome, Outrun):
            self._contention = self._contention.lost(time.monotonic(), random.random())
            self._enqueue(ref)
        # What has ended may have had what others wait for.
        self._call_waiting()

    def _finish(self, ref: str, finished: Finished) -> None:
        self._last_hold.pop(ref, None)
        self._observe(notices.of_finish(self.site, finished))
        if finished.ending == "refused" and self.sync is not None:
            # With the next look goes what was kept, and this may be the only machine that has it.
            self.sync.wake()
        if finished.deferral is not None:
            deferral = finished.deferral
            hold = Hold("waiting", deferral.reason, deferral.not_before)
            due = time.monotonic() + deferral.seconds
            ends = _on_our_clock(finished.plan.deadline)
            held = Held(hold, finished.plan.event.oid, 0.0, due, ends)
            self._last_hold[ref] = held
            self._held.put(ref, held)
            return
        self._free_copies(finished.plan.event.origin)
        tip = self.site.scan.tip(ref)
        if finished.answer is not None and tip is not None:
            self._tell_kin(ref, tip)
            self._welcome(edit.ref for edit in finished.answer.along)
        ended = finished.answer is not None and finished.answer.state in ENDED_STATES
        if finished.answer is not None:
            self._free(ref, over=ended)
        if not ended and finished.ending != "drained" and self._follow:
            self._enqueue(ref)

    def _welcome(self, refs: Iterable[str]) -> None:
        """New branches that came with an answer of ours, of which no look will tell."""
        for ref in refs:
            tip = self.site.scan.tip(ref)
            if tip is None or not self.site.scan.wanted(ref):
                continue
            self._observe(notices.of_event(self.site, ref, tip))
            if self._follow:
                self._enqueue(ref)

    def _hold(self, ref: str, oid: str, hold: Hold) -> None:
        before = self._last_hold.get(ref)
        known = before is not None and (before.oid, before.hold.word) == (oid, hold.word)
        delay = FIRST_RECHECK
        if known and before is not None:
            remote = self.sync is not None
            longest = _LONGEST.get(hold.word, LONGEST_RECHECK) if remote else LONGEST_RECHECK
            delay = min(before.delay * 2, longest) or FIRST_RECHECK
        due = None
        if hold.until is not None and not hold.places:
            # A task that asked for a time gets that time; anything else is looked at ever less.
            wait = hold.until - time.time() if hold.word in _TIMED else delay
            if self.sync is not None:
                wait *= random.uniform(1.0, 1.5)
            due = time.monotonic() + max(wait, 0.0)
        held = Held(hold, oid, delay, due, _on_our_clock(hold.deadline))
        self._last_hold[ref] = held
        if not known and hold.word != "ended":
            tip = self.site.scan.tip(ref)
            state = tip.state if tip is not None else ""
            notice = notices.of_hold(self.site, ref, oid, state, hold)
            self._observe(notice)
            if hold.word in _OF_PEOPLE:
                sentence = f"{notice.branch} waits for a person: {notice.detail}"
                self._summons.call(Summon(notice.branch, state, oid, sentence))
        if ref not in self._queue:
            self._held.put(ref, held)
            if hold.places:
                self._lines.wait(self._rank(ref), hold.places)

    # --- time --------------------------------------------------------------------------------

    def recheck(self, now: float) -> None:
        """Queue again what waited for a time that has come; give back what leases are owed."""
        if self.sync is None:
            self.site.leases.settle()
        self._contention = self._contention.at(now)
        for ref in self._held.due(now):
            self._enqueue(ref)
        if self._lines and self._next_call <= now:
            self._call_waiting()

    def next_due(self) -> float | None:
        """When `recheck` will find something next, on the monotonic clock."""
        times = [due for due in [self._held.next_due] if due is not None]
        if self._lines:
            times.append(self._next_call)
        if self._queue and self._contention.until:
            times.append(self._contention.until)
        if self._bar.holds and not self._bar.trying:
            times.append(self._bar.until)
        return min(times, default=None)

    # --- stopping ----------------------------------------------------------------------------

    @property
    def scripts(self) -> int:
        """How many scripts are under way, those whose answer is about to land included."""
        return sum(active.has_script for active in list(self._active.values()))

    def drain(self, grace: float | None) -> None:
        """Tell every script that is under way to come to its end."""
        for active in list(self._active.values()):
            active.control.stop("drained", grace)

    def hurry(self, grace: float) -> None:
        """Have no patience with a remote that does not answer, once `grace` seconds are over."""
        if self.site.mirror is not None:
            self.site.mirror.remote.patience.end(grace)

    def end_looks(self) -> None:
        """Look at the remote no more; from any thread."""
        if self.site.mirror is not None:
            self.site.mirror.remote.patience.end_looks()

    def end_summons(self) -> None:
        """People have been called for what waits for them; nobody waits for them to come."""
        self._summons.close()

    def abandon_pending(self) -> None:
        """Keep the answers that could not land, and give their leases back."""
        for pending in self._pending.values():
            try:
                finished = self._reconciler.abandon(pending)
            except (AynigError, OSError) as error:
                self._observe(notices.of_problem(self.site.name, told(error)))
                continue
            self._observe(notices.of_finish(self.site, finished))
        self._pending.clear()


def _on_our_clock(end: float | None) -> float:
    """A time in seconds since the epoch on the monotonic clock; infinity for none."""
    return math.inf if end is None else time.monotonic() + max(end - time.time(), 0.0)


def _word(error: BaseException) -> str:
    """The word of a hold: an error that only time ends is one nonetheless."""
    word = hold_word(error)
    return "error" if word == "busy" else word
