"""Where two policies have something to say of a task, which of them decides, and why."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from aynig import rulings
from aynig.attempts import after_crash
from aynig.facts import gather
from aynig.model import HEADS, Attempt, Hold, Step
from aynig.places import find_seats
from aynig.policies import crashes
from aynig.policies.resources import place_of
from aynig.scan import read_event
from aynig.site import Site, open_site
from tests.stage import Stage
from tests.world import SCRIPT_OK, GitRepo

FIRST, LAST = "first", "last"


@pytest.fixture
def stage(repo: GitRepo) -> Stage:
    """Its commits are of the last hour."""
    repo._clock = int(time.time()) - 1800
    return Stage(repo)


def ruling(stage: Stage, which: str) -> str:
    """What is decided of `task`: the word of the hold or the kind of the step, and words on it."""
    site = open_site(stage.repo.path)
    try:
        site.scan.look()
        event = read_event(site.repo, HEADS + "task", stage.repo.tip("task"), site.read)
        assert event is not None
        facts = gather(site, event).facts
        found = facts.first if which == FIRST else facts.last
    finally:
        site.close()
    if isinstance(found, Step):
        return f"step {found.kind}: {found.state}: {found.subject}"
    return f"{found.word}: {found.detail}" if isinstance(found, Hold) else "nothing"


# --- what there is -------------------------------------------------------------------------------


def says(
    stage: Stage, state: str, *fields: str, branch: str = "task", config: str = "states: {}\n"
) -> str:
    """A commit with a state on a branch; the script of it is there."""
    repo = stage.repo
    lines = "\n".join(f"aynig: {text}" for text in (state, *fields))
    files = {".aynig/config.yaml": config, ".aynig/go": SCRIPT_OK}
    return repo.commit(
        f"Please {state}\n\n{lines}\n",
        branch=branch,
        parent=repo.tip(branch) or repo.tip("main"),
        files=files,
    )


def takes(stage: Stage, resource: str, branch: str) -> None:
    """A run of a branch that is under way has a resource; that is, this process has."""
    site = open_site(stage.repo.path)
    try:
        _take(site, stage.repo.tip(branch), resource, branch)
    finally:
        site.close()


def _take(site: Site, tip: str, resource: str, branch: str) -> None:
    site.scan.look()
    event = read_event(site.repo, HEADS + branch, tip, site.read)
    assert event is not None
    seats = find_seats(site, branch, [place_of("resource", resource, 1)])
    assert not isinstance(seats, Hold)
    site.leases.acquire(event, None, f"run-of-{branch}", 1, seats=seats)


def has_failed(stage: Stage, config: str, *fields: str) -> None:
    """A task that has failed once, and cost 5 dollars, and comes back to the same state."""
    first = says(stage, "go", *fields, config=config)
    testimony = ("run: r-1", "exit: 1", "duration: 1.0", "attempt: 1", "executed-by: ada@box")
    says(
        stage, "go", f"answers: {first}", "failure: exit 1", "cost-usd: 5", *testimony,
        config=config,
    )  # fmt: skip


def proposes(stage: Stage, answer: str = "awaiting-approval") -> None:
    """The parent of `task` has started it by an answer, which people have to approve."""
    asked = says(stage, "split", branch="big")
    fields = [f"answers: {asked}", "children: 1", "child: task"]
    if answer == "awaiting-approval":
        fields.append("proposes: gather")
    says(stage, answer, *fields, branch="big")
    stage.repo.git("update-ref", "refs/heads/task", stage.repo.tip("big"))


def requested(stage: Stage, *fields: str, config: str) -> str:
    """A task that asks whether it may run; the oid of the request."""
    first = says(stage, "go", *fields, config=config)
    asks = (f"answers: {first}", "step: approval", "proposes: go", f"proposal: {first}")
    return says(stage, "awaiting-approval", *asks, config=config)


# --- who decides ---------------------------------------------------------------------------------


def ends_first(stage: Stage, both: bool) -> None:
    says(stage, "canceled", branch="big")
    says(stage, "go", "parent: big")
    if both:
        takes(stage, "prod", "task")
    says(stage, "go", "parent: big")


def canceled_and_proposed(stage: Stage, both: bool) -> None:
    proposes(stage)
    says(stage, "go", "parent: big")
    if both:
        says(stage, "canceled", branch="big")


def proposed_and_late(stage: Stage, both: bool) -> None:
    proposes(stage, "awaiting-approval" if both else "gather")
    says(stage, "go", "parent: big", "deadline: 1s")


def late_and_too_deep(stage: Stage, both: bool) -> None:
    says(stage, "go", branch="big")
    late = ["deadline: 1s"] if both else []
    says(stage, "go", "parent: big", *late, config="children: {depth: 0}\n")


def too_deep_and_approved(stage: Stage, both: bool) -> None:
    config = "children: {depth: 0}\nstates: {go: {risk: high}}\n"
    says(stage, "go", branch="big")
    requested(stage, *(["parent: big"] if both else []), config=config)
    says(stage, "approved", config=config)


def approved_by_a_script(stage: Stage, both: bool) -> None:
    config = "people-only: [approved]\nstates: {go: {risk: high}}\n"
    below = requested(stage, config=config) if both else says(stage, "go", config=config)
    says(stage, "approved", f"answers: {below}", config=config)


def waits_in_a_state_of_people(stage: Stage, both: bool) -> None:
    config = "people-only: [gather]\nstates: {gather: {join: {then: x}}}\n"
    first = says(stage, "go", config=config)
    says(stage, "gather", *([f"answers: {first}"] if both else []), config=config)


def has_crashed_and_depends(stage: Stage, both: bool) -> None:
    says(stage, "blocked", branch="other")
    tip = says(stage, "go", "depends-on: other")
    if not both:
        return
    past: tuple[Attempt, ...] = ()
    for _ in range(crashes.MOST):
        past = after_crash(past, 0.0)
    site = open_site(stage.repo.path)
    try:
        site.scan.look()
        event = read_event(site.repo, HEADS + "task", tip, site.read)
        assert event is not None
        lease = site.leases.acquire(event, None, "run-of-task", crashes.MOST, past)
        site.leases.defer(lease, 0.0, "its runner died")
    finally:
        site.close()


def depends_and_asks(stage: Stage, both: bool) -> None:
    says(stage, "blocked", branch="other")
    fields = ["depends-on: other"] if both else []
    says(stage, "go", *fields, config="states: {go: {risk: high}}\n")


def asks_and_has_no_judges(stage: Stage, both: bool) -> None:
    risk = "risk: high, " if both else ""
    says(stage, "go", config=f"states: {{go: {{{risk}verify: {{scenarios: judge:hidden}}}}}}\n")


def has_no_judges_and_is_broken(stage: Stage, both: bool) -> None:
    verify = "verify: {scenarios: judge:hidden}, " if both else ""
    has_failed(stage, f"states: {{go: {{{verify}breaker: {{same-failure: 1}}}}}}\n")


def is_broken_and_spent(stage: Stage, both: bool) -> None:
    breaker = "breaker: {same-failure: 1}, " if both else ""
    has_failed(stage, f"states: {{go: {{{breaker}limits: {{cost-usd-per-task: 1}}}}}}\n")


def is_spent_and_finds_no_place(stage: Stage, both: bool) -> None:
    limits = "limits: {cost-usd-per-task: 1}, " if both else ""
    says(stage, "go", branch="other")
    takes(stage, "prod", "other")
    has_failed(stage, f"states: {{go: {{{limits}resource: prod}}}}\n")


@dataclass(frozen=True)
class Pair:
    """Two questions that stand beside each other, and a task of which both have something to say.

    `build` makes it; without `both`, what the first one speaks of is not there.
    """

    wins: str
    yields: str
    build: Callable[[Stage, bool], None]
    said: str
    else_said: str


PAIRS = (
    # To answer takes the lease, and with it what the earlier run still has: others would get it.
    Pair(
        "_ends_first", "_is_canceled_with_its_parent", ends_first,
        "waiting: for the earlier run of task to end", "step parent-canceled: canceled",
    ),
    # Nobody will approve the answer of a parent that is canceled: it would wait for ever.
    Pair(
        "_is_canceled_with_its_parent", "_is_only_proposed", canceled_and_proposed,
        "step parent-canceled: canceled", "proposed: for people to approve the answer of big",
    ),
    # What has not begun can't be late: it must not go another way before people have agreed to it.
    Pair(
        "_is_only_proposed", "_is_too_late", proposed_and_late,
        "proposed: for people to approve the answer of big", "step deadline: failed",
    ),
    # A hold that only a person ends would keep it from being answered when its time is up.
    Pair(
        "_is_too_late", "_has_too_many_kin", late_and_too_deep,
        "step deadline: failed", "blocked: a child at depth 1, the limit is 0",
    ),
    # That people agree to the run does not make room for it.
    Pair(
        "_has_too_many_kin", "_reply", too_deep_and_approved,
        "blocked: a child at depth 1, the limit is 0", "step approval: go",
    ),
    # On a request it is told that what is written there is a reply.
    Pair(
        "_reply", "_people_only", approved_by_a_script,
        "blocked: a script wrote approved, which only people may write here",
        "blocked: a script wrote approved, which only people may write",
    ),
    # Where a script may not lead, no join goes on from.
    Pair(
        "_people_only", "_waits_for_children", waits_in_a_state_of_people,
        "blocked: a script wrote gather, which only people may write",
        "blocked: no children were started",
    ),
    # What has ended for itself has ended: what it would wait for makes it no better.
    Pair(
        "_kills_its_runners", "_dependencies", has_crashed_and_depends,
        "step crashes: failed", "waiting: for other to be done",
    ),
    # People are asked about what can start, and see what it would start with.
    Pair(
        "_dependencies", "_approval", depends_and_asks,
        "waiting: for other to be done", "step approval: awaiting-approval",
    ),
    # It may take days until somebody agrees, and the judges need not be there before.
    Pair(
        "_approval", "_has_its_judges", asks_and_has_no_judges,
        "step approval: awaiting-approval", "bad-config: ",
    ),
    # A breaker closes by itself, and what is then missing would be told too late.
    Pair(
        "_has_its_judges", "_breaker", has_no_judges_and_is_broken,
        "bad-config: ", "breaker: ",
    ),
    # What goes wrong again and again is to be looked at before anybody gives it more money.
    Pair("_breaker", "_is_over_budget", is_broken_and_spent, "breaker: ", "over-budget: "),
    # Who can't pay is called by a person, and not by whoever gives a place free.
    Pair(
        "_is_over_budget", "_waits_for_places", is_spent_and_finds_no_place,
        "over-budget: ", "waiting: for the resource prod, which other has",
    ),
)  # fmt: skip
QUESTIONS = {FIRST: rulings._FIRST, LAST: rulings._LAST}


def which_of(pair: Pair) -> str:
    """Is it about all tasks, or about runs that could start?"""
    names = [question.__name__ for question in QUESTIONS[FIRST]]
    return FIRST if pair.wins in names else LAST


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair.wins}-{pair.yields}"[1:])
def test_the_first_that_has_something_to_say_decides(stage: Stage, pair: Pair) -> None:
    pair.build(stage, True)
    said = ruling(stage, which_of(pair))
    assert said.startswith(pair.said)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair.wins}-{pair.yields}"[1:])
def test_the_next_one_would_have_had_something_to_say(stage: Stage, pair: Pair) -> None:
    pair.build(stage, False)
    said = ruling(stage, which_of(pair))
    assert said.startswith(pair.else_said)
    assert not said.startswith(pair.said)


def test_there_is_a_case_for_each_two_that_stand_beside_each_other() -> None:
    beside = {
        (one.__name__, other.__name__)
        for questions in QUESTIONS.values()
        for one, other in itertools.pairwise(questions)
    }
    assert {(pair.wins, pair.yields) for pair in PAIRS} == beside
