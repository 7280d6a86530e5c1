"""Takes, renews and gives back the lease that dwp keeps on the branch.

A `working` commit on top of the triggering commit takes the branch by one compare-and-swap, and
each renewal goes on top of the last: the branch only ever moves forward, as the runners beside us
expect it (design section 1.1). Nothing here needs another ref; all goes through `store.commit`.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace

from aynig import dialects
from aynig.dialects import DWP
from aynig.errors import LeaseLost, RefMoved, RepositoryError, RunFault, UsageError
from aynig.facts import answered_by, trusted_tree
from aynig.git.refs import RefEdit
from aynig.git.replay import merge_base, replay
from aynig.git.worktree import Harvest
from aynig.lease import RENEWALS, lease_name
from aynig.model import Deferral, Event, Field, Hold, Lease, Plan, Statement, Trailer
from aynig.onbranch import (
    STALLED,
    WORKING,
    Working,
    handed_on,
    lease_seconds,
    read_working,
    working_fields,
    writable,
)
from aynig.plan import answered_hold, copy_hold, state_hold
from aynig.processes import is_alive, kill_marked
from aynig.scan import read_event
from aynig.site import Site, limits_of
from aynig.text import escape
from aynig.trailers import encode

# What a trigger may ask for: a lease that is never renewed has to end some day.
_LONGEST = 86_400
# How often a renewal is tried again where the script has just renewed by itself.
_TRIES = 3

# What the branch of a run has come to.
OURS, ADVANCED, LOST, CANCELED = "ours", "advanced", "lost", "canceled"


def leases_on_branch(site: Site, event: Event) -> bool:
    """Is the lease of this event one that lies on its branch?

    Where the operator says nothing, that is so in a repository with `.dwp/` and without `.aynig/`
    in the trusted tree. Events of the native dialect never have it. Raises ConfigError.
    """
    if event.statement.dialect != DWP.name:
        return False
    if site.settings.dialect:
        return site.settings.dialect == DWP.name
    tree = trusted_tree(site.repo, site.settings, event)
    native = site.repo.entry(tree, ".aynig")
    return native is None and site.repo.entry(tree, ".dwp") is not None


class BranchLease:
    """The lease of one run on its branch. `plan` follows the branch: its event is at our tip."""

    def __init__(self, site: Site, plan: Plan, run: str, first: str) -> None:
        self._site = site
        self._run = run
        # The commit that took the branch: what the script's commits descend from.
        self.first = first
        self.plan = plan
        statement = plan.event.statement
        self._seconds = _lease_time(site, statement)
        self._renewed = time.monotonic()

    @property
    def interval(self) -> float:
        """How often to renew, in seconds."""
        return self._seconds * RENEWALS

    def judge(self, tip: str | None) -> str:
        """What the branch has come to: still ours, advanced by the script, lost, or canceled.

        Whoever moves the branch on from our lease has answered, as the dialect has it: it can't be
        told whether that was the script. Another runner says by its commit that it took over.
        """
        if tip == self.plan.event.oid:
            return OURS
        if tip is None or not self._site.repo.descends(tip, self.first):
            return LOST
        try:
            statement = self._site.read(self._site.repo.commit(tip).message)
        except RepositoryError:
            return LOST
        if statement is None:
            return ADVANCED
        working = read_working(statement, 0)
        if working is not None:
            return OURS if working.run == self._run else LOST
        if statement.state == STALLED and statement.value("stalled-run") == self._run:
            return LOST
        if statement.state == "canceled" and statement.value("cancels"):
            return CANCELED
        return ADVANCED

    def keeps(self, tip: str | None) -> bool:
        """Does the run go on although its branch is at this commit now?"""
        return self.judge(tip) in (OURS, ADVANCED)

    def tip(self) -> str | None:
        """What the branch points at now."""
        return self._site.repo.read_ref(self.plan.event.ref)

    def renew(self) -> None:
        """Put a new sign of life on top; nothing where the script has moved the branch on.

        Raises LeaseLost where somebody else has the branch.
        """
        event = self.plan.event
        for _ in range(_TRIES):
            tip = self.tip()
            found = self.judge(tip)
            if found == LOST:
                raise LeaseLost(f"{event.branch} was taken over", ref=event.ref)
            if found != OURS or tip is None:
                return
            try:
                self._put(tip, _working_commit(self._site, self._at(tip), self._run, self._seconds))
            except RefMoved:
                continue
            self._renewed = time.monotonic()
            return

    def renew_if_due(self) -> None:
        """The same for an answer that waits, which is looked at far more often."""
        if time.monotonic() - self._renewed >= self.interval:
            self.renew()

    def adopt(self, tip: str) -> None:
        """Go on from a commit that the script has put on the branch."""
        self.plan = replace(self.plan, event=self._at(tip))

    def caught_up(self, harvest: Harvest) -> Harvest:
        """What the script left, on top of the lease as it was last renewed.

        Raises RunFault where the branch has got other files meanwhile.
        """
        repo, tip = self._site.repo, self.plan.event.oid
        if repo.descends(harvest.head, tip):
            return harvest
        fork = merge_base(repo, harvest.head, tip)
        if fork is None or repo.commit(fork).tree != repo.commit(tip).tree:
            raise RunFault("the branch has got other files than the script has worked on")
        return replace(harvest, head=replay(repo, harvest.head, fork, tip))

    def followed(self, answer: str, before: str) -> str:
        """An answer that was written on the lease `before`, on the lease as it is now."""
        return replay(self._site.repo, answer, before, self.plan.event.oid)

    # --- giving it back ----------------------------------------------------------------------

    def write_hand_back(self) -> str:
        """A commit that asks for the same again, not yet on the branch; its oid."""
        event = self.plan.event
        statement = event.statement
        fields = [
            *writable(field for field in statement.fields if field.key != "handed-back"),
            Field("handed-back", self._run),
        ]
        message = _written(
            self._site, statement.state, fields, statement.trailers, statement.subject,
            statement.body,
        )  # fmt: skip
        return _commit_on(self._site, event, message)

    def hand_back(self, oid: str) -> None:
        """Make what `write_hand_back` has written the tip; raises RefMoved."""
        self._put(self.plan.event.oid, oid)

    def given_up(self, lease: Lease) -> Lease:
        """After an error: hand the task back, as far as possible; the lease for what is there now.

        Where that fails, the lease on the branch runs out and is marked so.
        """
        with contextlib.suppress(Exception):
            tip = self.tip()
            if tip is not None and self.judge(tip) == OURS:
                self.adopt(tip)
                oid = self.write_hand_back()
                self.hand_back(oid)
                return replace(lease, trigger=oid)
        return lease

    def stall(self, kept: str) -> str:
        """Mark our own run as one that could not be brought to its end; the oid. RefMoved."""
        event = self.plan.event
        working = Working(self._run, "", event.state, self._seconds, event.time)
        record = replace(_record(self._site, event, working), kept=kept)
        return _mark_stalled(self._site, event, working, record, "its runner had to stop")

    def _at(self, tip: str) -> Event:
        info = self._site.repo.commit(tip)
        return replace(self.plan.event, oid=tip, tree=info.tree, time=info.time)

    def _put(self, old: str, new: str) -> None:
        self._site.store.commit([RefEdit(self.plan.event.ref, old, new)])
        self._site.scan.note(self.plan.event.ref, new)
        self.plan = replace(self.plan, event=self._at(new))


def take(site: Site, plan: Plan, lease: Lease) -> BranchLease:
    """Take the branch of a plan; raises RefMoved where it is no longer at the trigger."""
    event, seconds = plan.event, _lease_time(site, plan.event.statement)
    oid = _working_commit(site, event, lease.run, seconds)
    site.store.commit([RefEdit(event.ref, event.oid, oid)])
    site.scan.note(event.ref, oid)
    site.answers.note(oid, event.oid)
    info = site.repo.commit(oid)
    taken = replace(event, oid=oid, tree=info.tree, time=info.time, trigger=event.oid)
    return BranchLease(site, replace(plan, event=taken), lease.run, oid)


# --- somebody's lease --------------------------------------------------------------------------


def resolve_working(site: Site, event: Event) -> Event | Hold:
    """What a tip that is a lease comes to: a Hold while it is live, else the tip that marks it.

    Raises RefMoved where the branch has moved meanwhile, ConfigError.
    """
    hold = working_hold(site, event)
    if hold is not None and hold.word != "expired":
        return hold
    working = read_working(event.statement, event.time)
    assert working is not None
    record = _record(site, event, working)
    if record.dead:
        # Its script may have outlived it, and would go on beside whoever comes next.
        kill_marked(working.run)
    marked = read_event(
        site.repo, event.ref, _mark_stalled(site, event, working, record), site.read
    )
    assert marked is not None
    return marked


def working_hold(site: Site, event: Event) -> Hold | None:
    """Why a tip that is a lease is left alone; the word `expired` where nothing keeps it.

    None for any other tip. The clock of this machine against the committer date decides, as it
    does for the runners beside us, and so not our own observation.
    """
    working = read_working(event.statement, event.time)
    if working is None:
        return None
    now = time.time()
    if not leases_on_branch(site, event):
        reserved = state_hold(event)
        assert reserved is not None
        return replace(reserved, detail=f"{reserved.detail}: {working.told(now)}")
    answer = answered_by(site, event)
    if answer:
        return answered_hold(event, answer)
    owner = _owner(site, event, working)
    if owner != event.ref:
        return copy_hold(owner, now)
    if not working.is_live(now):
        return Hold("expired", f"{working.told(now)}: the next runner marks it {STALLED}")
    if _record(site, event, working).dead:
        return Hold("expired", f"{working.whose}, has died: a runner here marks it {STALLED}")
    return Hold("running", working.told(now), working.until)


def _owner(site: Site, event: Event, working: Working) -> str:
    """Of several branches at the same lease, the one that it is marked on once it has run out.

    That of our own record; of others' runs nobody knows, and it is the first by name.
    """
    sharing = sorted(filter(site.scan.wanted, site.scan.sharing(event.oid)))
    if len(sharing) < 2:
        return event.ref
    ours = (ref for ref in sharing if _record(site, replace(event, ref=ref), working).oid)
    return next(ours, sharing[0])


def run_began(site: Site, event: Event) -> float:
    """When the run of a lease began: the date of the first commit of it on the branch."""
    working = read_working(event.statement, event.time)
    oid, began = event.oid, float(event.time)
    while working is not None:
        parents = site.repo.commit(oid).parents
        if not parents or not site.repo.has_commit(parents[0]):
            break
        oid = parents[0]
        info = site.repo.commit(oid)
        before = read_working(site.read(info.message), info.time)
        if before is None or before.run != working.run:
            break
        began = float(info.time)
    return began


def worked_on(site: Site, oid: str) -> Statement | None:
    """The state commit that a lease, or a run that was marked stalled, has to do with.

    The youngest below it that is neither; None where there is none.
    """
    following: str | None = oid
    while following is not None and site.repo.has_commit(following):
        info = site.repo.commit(following)
        statement = site.read(info.message)
        marked = statement is not None and statement.value("stalled-run") is not None
        if statement is not None and statement.state != WORKING and not marked:
            return statement
        following = info.parents[0] if info.parents else None
    return None


@dataclass(frozen=True, slots=True)
class _Record:
    """What the lease ref says of the run whose lease lies on the branch."""

    name: str
    # What the lease ref points at; None where it has no record of this run.
    oid: str | None = None
    # Is the run one of ours, by a process of this host that is no more?
    dead: bool = False
    # The rescue ref of an answer that it has left.
    kept: str = ""


def _record(site: Site, event: Event, working: Working) -> _Record:
    """The proof that a lease is of a dead runner of ours: our runs have a record in the lease ref.

    A record that was deferred was left by the dead runner's successor, who has found that out.
    """
    name, standing = lease_name(event.ref), site.leases.read(event.ref)
    if not isinstance(standing, Lease | Deferral) or standing.run != working.run:
        return _Record(name)
    if isinstance(standing, Deferral):
        return _Record(name, standing.oid, True, standing.kept)
    if standing.holder.runner == site.holder.runner:
        return _Record(name, standing.oid, not site.leases.holds(standing.run))
    return _Record(name, standing.oid, is_alive(standing.holder) is False)


def _mark_stalled(
    site: Site, event: Event, working: Working, record: _Record, why: str = ""
) -> str:
    """One transaction: the branch is marked, and the record of the run is given back."""
    fields = [Field("stalled-run", working.run)]
    if working.origin:
        fields.append(Field("origin-state", working.origin))
    if record.kept:
        fields.append(Field("rescue", record.kept))
    why = why or ("its runner died" if record.dead else _what_is_left(working))
    body = f"Run {escape(working.run)} was not brought to its end: {why}."
    if record.kept:
        body += f" What it did is kept under {record.kept}."
    message = _written(site, STALLED, writable(fields), (), f"{WORKING} -> {STALLED}: {why}", body)
    oid = _commit_on(site, event, message)
    edits = [RefEdit(event.ref, event.oid, oid)]
    if record.oid is not None:
        edits.append(RefEdit(record.name, record.oid, oid))
    site.store.commit(edits)
    return oid


def _what_is_left(working: Working) -> str:
    return working.told(time.time()).rpartition(", ")[2]


# --- commits -----------------------------------------------------------------------------------


def _lease_time(site: Site, statement: Statement) -> int:
    """What the trigger asks for, else the operator's."""
    asked = statement.value("lease-seconds")
    if asked is None:
        return max(1, round(site.settings.dwp_lease_seconds))
    return min(lease_seconds(asked), _LONGEST)


def _working_commit(site: Site, event: Event, run: str, seconds: int) -> str:
    """A lease on top of an event's commit, not yet on the branch; its oid."""
    kept = writable(handed_on(event.statement.fields, source=True))
    subject = f"{WORKING}: {event.state}"
    runner = site.holder.runner
    try:
        fields = working_fields(event.state, run, runner, seconds, kept)
        message = _written(site, WORKING, fields, (), subject, "")
    except UsageError:
        # Too much for one message. The script has it all the same.
        message = _written(
            site, WORKING, working_fields(event.state, run, runner, seconds), (), subject, ""
        )
    return _commit_on(site, event, message)


def _written(
    site: Site,
    state: str,
    fields: list[Field],
    others: tuple[Trailer, ...],
    subject: str,
    body: str,
) -> str:
    foreign = [each for each in others if all(row.claim(each) is None for row in dialects.DIALECTS)]
    message = dialects.write(DWP, state, fields, foreign, subject, body)
    dialects.check_limits(encode(message), limits_of(site.settings))
    return message


def _commit_on(site: Site, event: Event, message: str) -> str:
    return site.repo.write_commit(
        tree=event.tree,
        parents=[event.oid],
        message=message,
        not_before=site.repo.commit(event.oid).time,
        unique=True,
    )
