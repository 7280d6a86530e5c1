"""What becomes of an answer, of a run or of aynig's own, that a person is to see first. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from aynig.answer import SUBJECT_WIDTH, Verdict
from aynig.model import AWAITING_ANSWER, AWAITING_APPROVAL, Field, Response, Step
from aynig.policies import autonomy
from aynig.policies.approval import KIND
from aynig.text import escape, shorten
from aynig.workflow import AFTER, StateSettings

# A script that says this in its answer asks a person, and goes on with what is answered.
QUESTION = "question"
# States that wait for a person or a condition, or have ended badly: there is nothing to accept.
_AT_REST = frozenset({"failed", "canceled", "blocked", "waiting", "stalled", AWAITING_ANSWER})


def proposed(verdict: Verdict, *, ran: str, settings: StateSettings, level: str) -> Verdict:
    """The verdict on a run of the state `ran`, with its answer as a proposal where it has to be.

    `level` is the autonomy that counts for the task.
    """
    response = verdict.response
    asked = question_of(response)
    if verdict.succeeded and asked:
        # It goes on in the same state: a loop has to count it as one of its iterations.
        return _held(verdict, ran, AWAITING_ANSWER, asked, Field("proposes", ran))
    if not waits(verdict, settings, level):
        return verdict
    state = response.state
    if state == AWAITING_APPROVAL:
        # The script asks of its own accord whether it may go on.
        state = settings.next or "done"
    said = _said(ran, response)
    clause = f"{state}? {said}" if said else f"{state}?"
    return _held(verdict, ran, AWAITING_APPROVAL, clause, Field("proposes", state))


def waits(verdict: Verdict, settings: StateSettings, level: str) -> bool:
    """Does it take a person to accept what a run has answered? `level` as in `proposed`."""
    state, approval = verdict.response.state, settings.approval
    if state == AWAITING_APPROVAL:
        return verdict.succeeded
    if state in _AT_REST or verdict.to_person:
        return False
    # What has failed may land commits all the same, where they say what comes next.
    lands = verdict.succeeded or verdict.lands_commits
    if approval is not None and approval.when == AFTER and lands:
        return True
    return autonomy.proposes(
        level, state=state, succeeded=verdict.succeeded, checkpoint=settings.checkpoint
    )


def proposed_step(step: Step, *, checkpoint: bool, level: str) -> Step | None:
    """The request for what aynig would answer itself; None where it may do so unasked.

    It brings nothing yet: no commits of children, and no files. Those are merged by the step that
    follows the approval, so that a refusal has nothing to take back and a join can be tried again.
    `checkpoint` is of the state that is answered, `level` the autonomy that counts for the task.
    """
    asked = {AWAITING_APPROVAL, AWAITING_ANSWER}
    # What follows of a person's reply is what a person has decided.
    if step.kind == KIND or step.state in _AT_REST | asked or _goes_to_person(step):
        return None
    if not autonomy.proposes(
        level, state=step.state, succeeded=step.succeeded, checkpoint=checkpoint
    ):
        return None
    return replace(
        step,
        state=AWAITING_APPROVAL,
        subject=f"{step.state}? {step.subject}" if step.subject else f"{step.state}?",
        fields=(*step.fields, Field("proposes", step.state)),
        files_of="",
        parents=(),
        merge="none",
    )


def _goes_to_person(step: Step) -> bool:
    return any(field.key == "escalated" for field in step.fields)


def _held(verdict: Verdict, ran: str, state: str, said: str, *fields: Field) -> Verdict:
    response = replace(
        verdict.response,
        state=state,
        subject=shorten(f"{ran} -> {state}: {escape(said)}".rstrip(": "), SUBJECT_WIDTH),
        fields=(*verdict.response.fields, *fields),
    )
    # Where a script's own commit would be the answer, this one goes on top of it.
    return replace(verdict, response=response, is_own_commit=False)


def _said(ran: str, response: Response) -> str:
    return response.subject.removeprefix(f"{ran} -> {response.state}").removeprefix(": ")


def question_of(response: Response) -> str:
    """What a script asks people; empty where it asks nothing."""
    values: Sequence[str] = [value for key, value in response.fields if key == QUESTION]
    return values[-1].strip() if values else ""
