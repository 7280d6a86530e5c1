"""The read model that every face uses: a row a branch, with its state and what holds it."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Set
from dataclasses import dataclass

from aynig import barred
from aynig.branchlease import run_began, working_hold
from aynig.durations import format_duration
from aynig.errors import ConfigError, RepositoryError, Unwritable
from aynig.facts import broken_hold, deadline_of, gather, unreadable_hold
from aynig.git.checkouts import BEFORE_AN_ANSWER, find_checkout, obstacle
from aynig.git.mirror import BROKEN_THERE
from aynig.lease import time_left
from aynig.lost import lost_tasks, way_back, way_off
from aynig.model import HEADS, LOST, Deferral, Event, Hold, Lease, Plan, branch_of
from aynig.onbranch import WORKING, read_working
from aynig.plan import make_plan, state_hold
from aynig.runs import run_time
from aynig.scan import Tip, read_event
from aynig.site import Site
from aynig.story import RunRow, rows_of_branch
from aynig.text import escape

# How far back the last answer is looked for: people's own commits may lie on top of it, and below
# a new task there may be the whole history of a project.
_COMMITS_BACK = 50
# The holds that say when they end.
_TIMED = frozenset({"waiting", "error", "breaker", "over-budget"})
NOTHING_RUNS = "nothing runs here: `aynig run` or `aynig daemon` starts what is ready"


@dataclass(frozen=True, slots=True)
class StatusRow:
    """One branch. `hold` is None for a task that is ready, and for a branch with no state.

    `since` is when the hold began: the start of the run, otherwise the time of the tip.
    """

    branch: str
    tip: str
    state: str | None
    hold: str | None
    detail: str
    since: float
    until: float | None = None
    run: str | None = None
    runner: str | None = None
    # Of the lease, by the clock of whoever wrote it.
    lease_seconds: float | None = None
    lease_left: float | None = None
    last_answer: RunRow | None = None
    # When the time of the whole task is up; None: never.
    deadline: float | None = None


def status_rows(site: Site, *, idle: bool = False) -> Iterator[StatusRow]:
    """A row for each branch that carries a state, by name; with `idle` for all branches."""
    site.scan.look()
    site.scan.take_changes()
    tips = site.scan.tips()
    oids = frozenset(tip.oid for tip in tips.values())
    there = site.mirror.broken if site.mirror is not None else ()
    for ref in sorted(ref for ref in there if ref.startswith(HEADS)):
        yield StatusRow(branch_of(ref), "", None, "broken", BROKEN_THERE, 0.0)
    for ref, tip in sorted(tips.items()):
        if ref in there:
            continue
        if tip.state or tip.fault:
            yield _task_row(site, ref, tip, oids)
        elif idle:
            yield StatusRow(branch_of(ref), tip.oid, None, None, "no state", tip.time)
    for record in lost_tasks(site, [ref for ref, tip in tips.items() if tip.state or tip.fault]):
        yield _lost_row(site, record)
    for ref, reason in sorted(site.scan.broken.items()):
        yield StatusRow(branch_of(ref), "", None, "broken", reason, 0.0)


def status_row(site: Site, ref: str) -> StatusRow | None:
    """The row of one branch; None where there is none."""
    site.scan.look()
    tip = site.scan.tip(ref)
    if tip is None:
        return None
    return _task_row(site, ref, tip, frozenset(tip.oid for tip in site.scan.tips().values()))


def _lost_row(site: Site, record: Deferral) -> StatusRow:
    """The row of a task whose branch was taken away while it ran."""
    branch, oid = branch_of(record.ref), record.trigger
    statement = None
    with contextlib.suppress(RepositoryError):
        statement = site.read(site.repo.commit(oid).message)
    kept = f"its commit and its work are kept under {record.kept}"
    ways = [f"`{way_back(site, record)}` runs it again"]
    if way_off(site, record):
        ways.append(f"`{way_off(site, record)}` forgets it")
    detail = f"{record.reason}; {kept}: {', '.join(ways)}"
    return StatusRow(
        branch=branch,
        tip=oid,
        state=statement.state if statement is not None else None,
        hold=LOST,
        detail=escape(detail),
        since=run_time(record.run) or 0.0,
        run=record.run,
    )


def _task_row(site: Site, ref: str, tip: Tip, tips: Set[str]) -> StatusRow:
    """`tips` are the commits that branches point at."""
    at_work = _row_of_lease(site, ref, tip, tips)
    if at_work is not None:
        return at_work
    hold, lease, tried = _hold(site, ref, tip)
    run = lease.run if lease is not None else None
    left = time_left(lease, time.time()) if lease is not None else None
    detail = hold.detail if hold is not None else _readiness(site, tried)
    if lease is not None and hold is not None and hold.word == "running":
        detail += f", {lease_left_text(lease.seconds, left or 0.0)}"
    return StatusRow(
        branch=branch_of(ref),
        tip=tip.oid,
        state=tip.state or None,
        hold=hold.word if hold is not None else None,
        detail=site.naming_remote(detail),
        since=run_time(run) or tip.time,
        until=hold.until if hold is not None and hold.word in _TIMED else None,
        run=run,
        runner=lease.holder.runner if lease is not None else None,
        lease_seconds=lease.seconds if lease is not None else None,
        lease_left=left,
        last_answer=_last_answer(site, ref, tip.oid, tips),
        deadline=_deadline(site, ref, tip),
    )


def _deadline(site: Site, ref: str, tip: Tip) -> float | None:
    if not tip.actionable:
        return None
    try:
        event = read_event(site.repo, ref, tip.oid, site.read)
    except RepositoryError:
        return None
    return deadline_of(site, event) if event is not None else None


def _row_of_lease(site: Site, ref: str, tip: Tip, tips: Set[str]) -> StatusRow | None:
    """The row of a branch whose tip is itself a lease, as in dwp; `since` is when the run began."""
    if tip.state != WORKING:
        return None
    try:
        event = read_event(site.repo, ref, tip.oid, site.read)
    except RepositoryError:
        return None
    working = read_working(event.statement, event.time) if event is not None else None
    if event is None or working is None:
        return None
    try:
        hold = working_hold(site, event)
        if hold is not None and hold.word == "running":
            hold = _answer_waits(site, event, working.run) or hold
    except ConfigError as error:
        hold = Hold("bad-config", error.advice)
    return StatusRow(
        branch=branch_of(ref),
        tip=tip.oid,
        state=tip.state,
        hold=hold.word if hold is not None else None,
        detail=site.naming_remote(hold.detail) if hold is not None else "",
        since=run_began(site, event),
        until=hold.until if hold is not None and hold.word == "running" else None,
        run=working.run or None,
        runner=working.runner or None,
        lease_seconds=float(working.seconds),
        lease_left=max(working.until - time.time(), 0.0),
        last_answer=_last_answer(site, ref, tip.oid, tips),
    )


def lease_left_text(seconds: float, left: float) -> str:
    """What is left of a lease, for people: `lease 41s of 1m left`."""
    whole = format_duration(seconds)
    if not left:
        return f"its lease of {whole} was not renewed in time, going by its clock"
    return f"lease {format_duration(float(math.ceil(left)))} of {whole} left"


def _hold(site: Site, ref: str, tip: Tip) -> tuple[Hold | None, Lease | None, Deferral | None]:
    """What holds a task, the lease where it runs, and what the last try came to where it's due."""
    broken = broken_hold(site, ref)
    if broken is not None:
        return broken, None, None
    try:
        event = read_event(site.repo, ref, tip.oid, site.read)
    except RepositoryError as error:
        return unreadable_hold(site, error), None, None
    if event is None:
        return None, None, None
    hold = state_hold(event)
    if hold is not None:
        return hold, None, None
    if not site.scan.wanted(ref):
        return Hold("excluded", "aynig.branch names other branches only"), None, None
    try:
        facts = gather(site, event).facts
    except ConfigError as error:
        return Hold("bad-config", error.advice), None, None
    except RepositoryError as error:
        return unreadable_hold(site, error), None, None
    except Unwritable as error:
        return Hold("unwritable", error.advice), None, None
    planned = make_plan(event, facts)
    if facts.lease is not None:
        return _answer_waits(site, event, facts.lease.run) or _as_hold(planned), facts.lease, None
    if isinstance(planned, Plan) and facts.deferral is not None and facts.deferral.answer:
        return _left_waiting(facts.deferral), None, None
    return _as_hold(planned) or barred.read(site), None, facts.deferral


def _as_hold(planned: Plan | Hold) -> Hold | None:
    return planned if isinstance(planned, Hold) else None


def _answer_waits(site: Site, event: Event, run: str) -> Hold | None:
    """The script is over, and its answer waits, mostly for a person's working tree to be clean."""
    folder = site.archive.find(run)
    found = folder.facts() if folder is not None else {}
    if "ended" not in found:
        return None
    checkout = find_checkout(site.repo, event.ref)
    reason = obstacle(checkout, BEFORE_AN_ANSWER) if checkout is not None else ""
    if reason:
        return Hold("dirty-worktree", f"the answer waits: {reason}")
    # Files in the way that git does not track are known to the runner alone.
    word, waits = found.get("hold"), found.get("waits")
    if isinstance(word, str) and isinstance(waits, str) and word and waits:
        return Hold(word, f"the answer waits: {escape(waits)}")
    return None


def _left_waiting(deferral: Deferral) -> Hold:
    detail = f"the answer waits: {escape(deferral.reason)}; it is kept under {deferral.kept}"
    return Hold(deferral.hold, detail)


def _readiness(site: Site, tried: Deferral | None) -> str:
    ready = "ready"
    if tried is not None:
        ready += f" for attempt {tried.attempt + 1} ({escape(tried.reason)})"
    return ready if runners(site) else f"{ready}; {NOTHING_RUNS}"


def runners(site: Site) -> list[str]:
    """The processes that listen for a poke in this repository, by process id."""
    return [str(pid) for pid, whole, _ in _doorbells(site) if whole]


def listening(site: Site) -> list[tuple[int, float]]:
    """The same, and those that work on a part of its tasks; each with since when."""
    return [(pid, since) for pid, _, since in _doorbells(site)]


def _doorbells(site: Site) -> Iterator[tuple[int, bool, float]]:
    """Process id, whether it works on all tasks, and when its doorbell was hung up."""
    with contextlib.suppress(OSError):
        for entry in (site.repo.home / "wake").iterdir():
            pid, dot, part = entry.name.partition(".")
            if pid.isdigit() and part in ("", "part"):
                yield int(pid), not dot, entry.stat().st_mtime


def _last_answer(site: Site, ref: str, tip: str, tips: Set[str]) -> RunRow | None:
    """The youngest answer of the task's own: that of the history it was forked off is another's.

    Where its own part of the history begins: above the tip of another branch, above what the
    default branch contains, and above what the first commit of a child lies on.
    """
    rows = rows_of_branch(
        site.repo, ref, site.read, most=_COMMITS_BACK, above=tips | _below_child(site, tip)
    )
    found = next((row for row in rows if row.answers is not None), None)
    if found is None or found.oid in (None, tip):
        return found
    # What lies below an answer that the default branch contains is in there as well: one question.
    main = site.repo.head_ref()
    head = site.scan.tip(main) if main is not None and main != ref else None
    if head is not None and found.oid is not None and site.repo.descends(head.oid, found.oid):
        return None
    return found


def _below_child(site: Site, tip: str) -> Set[str]:
    """The commit that a child was begun on: its parent's, which may have gone on since."""
    thread = site.threads.of(tip)
    if thread is None or not thread.parent:
        return frozenset()
    try:
        return frozenset(site.repo.commit(thread.start).parents[:1])
    except RepositoryError:
        return frozenset()
