"""What the daemon remembers of one repository between two looks.

Nothing here must survive: a desk is built anew from the refs at every start.
"""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable, Iterable

from aynig import barred, notices, rechecks
from aynig.barred import Bar
from aynig.ending import Finished, Pending
from aynig.errors import AynigError, as_unwritable, hold_word, told
from aynig.execution import Started
from aynig.executors import Control
from aynig.executors.summons import Summon, Summons
from aynig.facts import level_of, trusted_commit
from aynig.git.snapshot import RefReader
from aynig.held import Held, HeldTasks
from aynig.model import AWAITING, BREAKERS, ENDED_STATES, Hold
from aynig.notices import Observer
from aynig.places import free_slots
from aynig.plan import FIRST_RECHECK, LONGEST_RECHECK
from aynig.policies import priority
from aynig.policies.contention import Contention
from aynig.policies.priority import Rank
from aynig.policies.resources import RECHECK
from aynig.reconcile import Barred, Outcome, Outrun, Reconciler
from aynig.releasing import Releases
from aynig.site import Site
from aynig.sync import Sync
from aynig.turns import Lines, Turns
from aynig.underway import Active, UnderWay

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
        self._active = UnderWay(site)
        self._held = HeldTasks()
        self._releases = Releases(site, self._held, self._active, self._enqueue)
        self._pending: dict[str, Pending] = {}
        # The last hold of a branch: told of once, and looked at again ever less often.
        self._last_hold: dict[str, Held] = {}
        self._contention = Contention()
        self._summons = Summons(
            site.settings.notify,
            site.name,
            site.repo.place,
            lambda problem: observe(notices.of_problem(site.name, problem)),
        )
        self._trusted: str | None = None
        self._gone = False
        self._bar = Bar()

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
            self._releases.of_changes(changes)
        self._releases.from_elsewhere()
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
        self._active.take_change(ref, oid)
        self._held.pop(ref)
        self._lines.leave(ref)
        if ref in self._pending:
            # An answer that waits can't land any more, whatever it was that came instead.
            self._enqueue(ref)
        tip = self.site.scan.tip(ref)
        if tip is not None and not first:
            self._releases.of_kin(ref, tip)
        if tip is None or (not tip.state and not tip.fault):
            self._last_hold.pop(ref, None)
            self._lines.leave(ref)
            self._turns.pop(ref, None)
            return
        if (tip.actionable or not first) and not self._active.has_answered(ref, tip.oid):
            self._observe(notices.of_event(self.site, ref, tip))
        # One that can't even be read has no time; to pass that over would look like success.
        is_news = tip.fault and (not first or not tip.time)
        if (tip.actionable or is_news) and (self._follow or first):
            self._enqueue(ref)

    @property
    def looks_elsewhere(self) -> bool:
        """Does anything wait for a branch of another repository?"""
        return bool(self._held.elsewhere)

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
            self._releases.forget()
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
                self._active.put(ref, Active(control, tip.oid, self._releases.changes))
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
        self._active.put(ref, Active(Control(), oid, self._releases.changes, oid))
        return functools.partial(self._reconciler.finish, pending)

    def started(self, started: Started) -> None:
        """A script is about to start; called from the thread of the run."""
        if self._active.begin(started):
            self._contention = Contention()
            # There is a lease, so the others may try again, however long this one takes.
            self._bar.lift()
            if self.sync is not None:
                barred.forget(self.site)
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
        active = self._active.pop(ref)
        self._called.pop(ref, None)
        if active is not None and active.has_script:
            self._turns[ref] = self._turn = self._turn + 1
        oid = (active.trigger or active.oid) if active is not None else ""
        if isinstance(outcome, Barred) and self.sync is not None:
            self._bar.put(ref, rechecks.LONGEST[outcome.word])
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
            if active is not None and self._releases.is_outdated(outcome, active.changes):
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
            held = rechecks.held_until(
                hold, finished.plan.event.oid, deferral.seconds, finished.plan.deadline
            )
            self._last_hold[ref] = held
            self._held.put(ref, held)
            return
        self._releases.of_copies(finished.plan.event.origin)
        tip = self.site.scan.tip(ref)
        if finished.answer is not None and tip is not None:
            self._releases.of_kin(ref, tip)
            self._welcome(edit.ref for edit in finished.answer.along)
        ended = finished.answer is not None and finished.answer.state in ENDED_STATES
        if finished.answer is not None:
            self._releases.of_branch(ref, over=ended)
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
        remote = self.sync is not None
        held = rechecks.held_for(hold, oid, before if known else None, remote=remote)
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
        return self._active.scripts

    def drain(self, grace: float | None) -> None:
        """Tell every script that is under way to come to its end."""
        self._active.drain(grace)

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


def _word(error: BaseException) -> str:
    """The word of a hold: an error that only time ends is one nonetheless."""
    word = hold_word(error)
    return "error" if word == "busy" else word
