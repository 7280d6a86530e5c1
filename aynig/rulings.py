"""Asks the policies about a task, in order: the first that has something to say decides.

What a policy needs to know is looked up here or in the module that it names; the deciding itself is
done in `policies/`, and is pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aynig import approvals
from aynig.approvals import Trusted
from aynig.family import children_ruling, kin_hold, parent_ruling, proposal_ruling
from aynig.model import Attempt, Event, Hold, Step
from aynig.policies import breaker, dependencies
from aynig.policies.breaker import Streak
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
    return breaker.judge_task(settings, streak(case), case.event.branch, case.now)


def streak(case: Case) -> Streak:
    """What a task has done in a row: its last answers, and the attempts at its tip on top."""
    thread, past = case.thread, case.past
    same = thread.ran == case.event.state
    unchanged = thread.unchanged if same else 0
    failure, failures = (thread.failure, thread.failures) if same else ("", 0)
    for attempt in past:
        unchanged = 0 if attempt.changed else unchanged + 1
        text = attempt.text.partition("\n")[0]
        failure, failures = text, failures + 1 if text == failure else 1
    last = past[-1].time if past else float(case.event.time)
    return Streak(unchanged, failures, failure, last)


def _is_canceled_with_its_parent(site: Site, case: Case) -> Ruling | None:
    return parent_ruling(site, case.event, case.thread)


def _is_only_proposed(site: Site, case: Case) -> Ruling | None:
    return proposal_ruling(site, case.event, case.thread)


def _has_too_many_kin(site: Site, case: Case) -> Ruling | None:
    return kin_hold(site, case.event, case.workflow.children, case.thread)


def _waits_for_children(site: Site, case: Case) -> Ruling | None:
    return children_ruling(site, case.event, case.settings, case.workflow.autonomy, case.thread)


def _reply(site: Site, case: Case) -> Ruling | None:
    return approvals.of_reply(site, case.event, case.trusted)


def _people_only(site: Site, case: Case) -> Ruling | None:
    return approvals.only_people(site, case.event, case.workflow)


def _approval(site: Site, case: Case) -> Ruling | None:
    return approvals.before(site, case.event, case.settings, case.thread, case.trusted)


# Whether or not the state has a script.
_FIRST: tuple[Question, ...] = (
    _is_canceled_with_its_parent,
    _is_only_proposed,
    _has_too_many_kin,
    _reply,
    _people_only,
    _waits_for_children,
)
# Of a run that could start now.
_LAST: tuple[Question, ...] = (_dependencies, _approval, _breaker)


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
