"""Asks the policies about a task, in order: the first that has something to say decides.

What a policy needs to know is looked up here or in the module that it names; the deciding itself is
done in `policies/`, and is pure.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from aynig import approvals, spending
from aynig.approvals import Trusted
from aynig.breakers import run_of
from aynig.errors import ConfigError, RepositoryError
from aynig.family import children_ruling, kin_hold, parent_ruling, proposal_ruling
from aynig.git.scenarios import Origin, find_scenarios
from aynig.model import CRASHED, Attempt, Event, Hold, Lease, Step
from aynig.places import find_seats, wanted
from aynig.plan import FIRST_RECHECK
from aynig.policies import breaker, crashes, deadline, dependencies, resources
from aynig.policies.breaker import Streak
from aynig.policies.deadline import Course
from aynig.site import Site
from aynig.thread import Thread
from aynig.workflow import StateSettings, Workflow


def _untrusted(tree: str) -> tuple[str, Workflow]:
    return tree, Workflow()


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
    # What counted for an earlier commit of the task, by the tree of that.
    trusted: Trusted = _untrusted
    # The lease of the branch, as it was left or as it is.
    standing: Lease | None = None
    # Is there a script for its state?
    runnable: bool = False
    # The oid of the tree that the workflow and the scripts come from.
    tree: str = ""

    @property
    def goes_on(self) -> bool:
        """Is it aynig's to go on with: by a run, or by what its children come to?"""
        return self.runnable or self.settings.waits


Ruling = Hold | Step


def _dependencies(site: Site, case: Case) -> Ruling | None:
    """Those of the task, for all of its life: one that is sent back to work holds it again."""
    ref, on_failure = case.event.ref, case.settings.on_dependency_failure
    found = [site.upstream.look_up(ref, name) for name in case.thread.depends_on]
    open_ones = dependencies.waited_for((each.dependency for each in found), on_failure)
    cycle = site.upstream.cycle(ref, found) if open_ones else ()
    return dependencies.judge(open_ones, on_failure, cycle, ref)


Question = Callable[[Site, Case], Ruling | None]


def _breaker(site: Site, case: Case) -> Ruling | None:
    settings = case.settings.breaker
    if settings is None:
        return None
    hold = breaker.judge_task(settings, streak(case), case.event.branch, case.now)
    if hold is not None:
        return hold
    run = run_of(site.ledger, site.repo, settings, case.event.state, case.now)
    return breaker.judge_state(settings, run, case.now) if run is not None else None


def streak(case: Case) -> Streak:
    """What a task has done in a row: its last answers, and the attempts at its tip on top."""
    thread, past = case.thread, case.past
    same = thread.ran == case.event.state
    unchanged = thread.unchanged if same else 0
    failure, failures = (thread.failure, thread.failures) if same else ("", 0)
    for attempt in past:
        if attempt.ending != CRASHED:
            unchanged = 0 if attempt.changed else unchanged + 1
        text = attempt.text.partition("\n")[0]
        failure, failures = text, failures + 1 if text == failure else 1
    last = past[-1].time if past else float(case.event.time)
    return Streak(unchanged, failures, failure, last)


def _kills_its_runners(site: Site, case: Case) -> Ruling | None:
    event = case.event
    autonomy = case.thread.autonomy or case.workflow.autonomy
    return crashes.judge(case.past, case.settings, event.branch, event.origin, autonomy, case.now)


def _is_canceled_with_its_parent(site: Site, case: Case) -> Ruling | None:
    return parent_ruling(site, case.event, case.thread)


def _is_only_proposed(site: Site, case: Case) -> Ruling | None:
    return proposal_ruling(site, case.event, case.thread)


def _has_too_many_kin(site: Site, case: Case) -> Ruling | None:
    return kin_hold(site, case.event, case.workflow.children, case.thread)


def _waits_for_children(site: Site, case: Case) -> Ruling | None:
    """Its step may end the task, so what that depends on has to be done before it as well."""
    if not case.settings.waits:
        return None
    level = case.workflow.autonomy
    return _dependencies(site, case) or children_ruling(
        site, case.event, case.settings, level, case.thread
    )


def _reply(site: Site, case: Case) -> Ruling | None:
    return approvals.of_reply(site, case.event, case.trusted)


def _people_only(site: Site, case: Case) -> Ruling | None:
    return approvals.only_people(site, case.event, case.workflow)


def _approval(site: Site, case: Case) -> Ruling | None:
    return approvals.before(site, case.event, case.settings, case.thread, case.trusted)


def _ends_first(site: Site, case: Case) -> Ruling | None:
    """To take the lease of an earlier run over is to take its slots from it."""
    lease = case.standing
    if lease is None or not lease.slots or not site.leases.is_kept(lease):
        return None
    return resources.unfinished(case.event.branch, case.now)


def _has_its_judges(site: Site, case: Case) -> Ruling | None:
    """Before a worker costs anything: are the scenarios there that it will be judged by?

    Those of another repository are asked for when it is time: that takes a connection.
    """
    settings = case.settings.verify
    origin = Origin(site.repo, site.clone or site.repo, case.tree, site.settings.remote_timeout)
    for source in settings.scenarios if settings is not None else ():
        if source.repository:
            continue
        try:
            find_scenarios(origin, source, site.repo.common_dir)
        except ConfigError as error:
            # A ref that is made makes no change of this branch.
            return Hold("bad-config", error.advice, case.now + FIRST_RECHECK)
    return None


def _is_over_budget(site: Site, case: Case) -> Ruling | None:
    limits = spending.limits_of_spending(case.workflow, case.settings, case.event.statement)
    return spending.hold_of(site.ledger, case.event, limits, case.now)


def _waits_for_places(site: Site, case: Case) -> Ruling | None:
    places = wanted(site, case.event, case.workflow, case.settings, case.thread)
    found = find_seats(site, case.event.branch, places)
    return found if isinstance(found, Hold) else None


def course_of(site: Site, settings: StateSettings, thread: Thread) -> Course:
    """How long a task may take, and how it stands."""
    limit = deadline.shorter(settings.deadline, thread.deadline)
    touched = float(thread.began)
    if limit is not None and thread.by_person:
        with contextlib.suppress(RepositoryError):
            touched = float(site.repo.commit(thread.by_person).time)
    return Course(limit, float(thread.began), touched, thread.overdue)


def _is_too_late(site: Site, case: Case) -> Ruling | None:
    """Not where a person or nobody is to do something: nothing would be started there."""
    if not case.goes_on:
        return None
    settings, thread = case.settings, case.thread
    autonomy = thread.autonomy or case.workflow.autonomy
    course = course_of(site, settings, thread)
    event = case.event
    return deadline.judge(course, settings, event.branch, event.origin, autonomy, case.now)


# Whether or not the state has a script.
_FIRST: tuple[Question, ...] = (
    _ends_first,
    _is_canceled_with_its_parent,
    _is_only_proposed,
    _is_too_late,
    _has_too_many_kin,
    _reply,
    _people_only,
    _waits_for_children,
)
# Of a run that could start now.
_LAST: tuple[Question, ...] = (
    _kills_its_runners,
    _dependencies,
    _approval,
    _has_its_judges,
    _breaker,
    _is_over_budget,
    _waits_for_places,
)


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
