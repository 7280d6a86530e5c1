"""A run's answer becomes a proposal or a question where a person is to look at it first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aynig.answer import Verdict
from aynig.model import Field, Response, Step
from aynig.proposing import proposed, proposed_step
from aynig.workflow import AUTONOMY, Approval, StateSettings

MEDIUM = StateSettings(approval=Approval())
HIGH = StateSettings(approval=Approval(when="before"))


def verdict(state: str, *, succeeded: bool = True, fields: tuple[Field, ...] = ()) -> Verdict:
    response = Response(state, f"go -> {state}: said", "words", fields)
    return Verdict(response, succeeded, succeeded, is_own_commit=True, fault="")


def ruled(before: Verdict, settings: StateSettings = MEDIUM, level: str = "never") -> Verdict:
    return proposed(before, ran="go", settings=settings, level=level)


@pytest.mark.parametrize(
    ("before", "settings", "level", "state", "proposes"),
    [
        (verdict("next"), StateSettings(), "never", "next", None),
        (verdict("next"), MEDIUM, "never", "awaiting-approval", "next"),
        (verdict("done"), MEDIUM, "never", "awaiting-approval", "done"),
        (verdict("next"), HIGH, "never", "next", None),
        (verdict("next"), HIGH, "step", "awaiting-approval", "next"),
        (verdict("failed", succeeded=False), MEDIUM, "never", "failed", None),
        (verdict("next", succeeded=False), MEDIUM, "never", "next", None),
        (verdict("blocked"), MEDIUM, "step", "blocked", None),
        (verdict("stalled"), MEDIUM, "step", "stalled", None),
        (verdict("failed"), MEDIUM, "step", "failed", None),
        (verdict("failed", succeeded=False), MEDIUM, "step", "failed", None),
        (verdict("next", succeeded=False), StateSettings(), "step", "awaiting-approval", "next"),
        (replace(verdict("next", succeeded=False), to_person=True), MEDIUM, "step", "next", None),
        (verdict("awaiting-approval"), StateSettings(), "never", "awaiting-approval", "done"),
        (verdict("awaiting-approval"), StateSettings(next="on"), "never", "awaiting-approval",
         "on"),
    ],
)  # fmt: skip
def test_the_answer_after_the_policies(
    before: Verdict, settings: StateSettings, level: str, state: str, proposes: str | None
) -> None:
    after = ruled(before, settings, level)
    assert after.response.state == state
    assert dict(after.response.fields).get("proposes") == proposes
    assert after.is_own_commit == (after is before)


def test_commits_that_land_after_a_failure_are_proposed_as_well() -> None:
    landing = replace(verdict("next", succeeded=False), lands_commits=True)
    assert ruled(landing).response.state == "awaiting-approval"


@pytest.mark.parametrize("settings", [MEDIUM, HIGH, StateSettings()])
def test_a_question_is_asked_whatever_the_answer_would_have_been(settings: Any) -> None:
    asks = verdict("done", fields=(Field("question", "Which?"), Field("meta-x", "1")))
    after = ruled(asks, settings).response
    assert (after.state, after.subject) == ("awaiting-answer", "go -> awaiting-answer: Which?")
    assert after.fields == (*asks.response.fields, Field("proposes", "go"))


def test_a_failed_run_asks_nothing() -> None:
    asks = verdict("failed", succeeded=False, fields=(Field("question", "Which?"),))
    assert ruled(asks).response.state == "failed"


JOIN = Step(
    "join", "done", "joins 2 children", parents=("a" * 40,), merge="octopus", succeeded=True
)
IN_VAIN = Step("join", "broken", "0 of 2 children done")


@pytest.mark.parametrize(
    ("step", "checkpoint", "asked_at"),
    [
        (JOIN, False, {"step", "checkpoint", "end"}),
        (replace(JOIN, state="collect"), False, {"step"}),
        (replace(JOIN, state="collect"), True, {"step", "checkpoint"}),
        (IN_VAIN, True, {"step"}),
        (replace(IN_VAIN, state="done"), False, {"step", "checkpoint", "end"}),
        (Step("on-child", "decide", "a done", succeeded=True), False, {"step"}),
        (Step("on-child", "decide", "a done", succeeded=True), True, {"step", "checkpoint"}),
        (Step("on-child", "done", "a done", succeeded=True), False, {"step", "checkpoint", "end"}),
        (Step("deadline", "late", "its deadline"), True, {"step"}),
        (Step("deadline", "done", "its deadline"), True, {"step", "checkpoint", "end"}),
        # These end for a person, or badly: there is nothing to agree to.
        (replace(IN_VAIN, fields=(Field("escalated", "x"),)), True, set()),
        (replace(IN_VAIN, state="stalled"), True, set()),
        (Step("dependency", "failed", "a ended as failed"), True, set()),
        (Step("parent-canceled", "canceled", "its parent"), True, set()),
        # These are what a person has said already.
        (Step("approval", "done", "approved by Grace"), True, set()),
        (Step("approval", "awaiting-approval", "may go run?"), True, set()),
    ],
)
def test_at_which_levels_a_step_of_aynigs_own_is_asked_about(
    step: Step, checkpoint: bool, asked_at: set[str]
) -> None:
    found = {level: proposed_step(step, checkpoint=checkpoint, level=level) for level in AUTONOMY}
    assert {level for level, request in found.items() if request} == asked_at
    for request in filter(None, found.values()):
        assert (request.state, request.kind) == ("awaiting-approval", step.kind)
        assert request.fields == (*step.fields, Field("proposes", step.state))
        assert (request.parents, request.merge) == ((), "none")


def test_a_proposal_says_what_it_would_be() -> None:
    assert ruled(verdict("next")).response.subject == "go -> awaiting-approval: next? said"
