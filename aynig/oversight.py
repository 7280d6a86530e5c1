"""What people keep in their hands: who a run commits as, and what it or a policy may answer."""

from __future__ import annotations

import re
import socket
from dataclasses import replace

from aynig.answer import Left, Verdict
from aynig.approvals import MARK, approval_of, indented, room, task_words
from aynig.git.differences import difference
from aynig.git.repo import Identity
from aynig.git.worktree import Harvest
from aynig.model import AWAITING_APPROVAL, Plan, Step
from aynig.policies import autonomy, people
from aynig.policies.approval import SCRIPTS_DOMAIN
from aynig.proposing import proposed, proposed_step
from aynig.respond import with_files
from aynig.site import Site
from aynig.text import escape

_UNSHOWN = "(no files are shown)"
_UNSEEN = "What the task has changed before, and nobody has approved yet:"
_NOT_IN_HOSTS = re.compile(r"[^a-z0-9.-]+")


def identity_of(plan: Plan) -> Identity | None:
    """Who a script commits as; None where the workflow does not mind.

    Where people approve, a script that commits as they do would make its work theirs.
    """
    agent = plan.agent
    if agent is not None and agent.identity:
        name, _, rest = agent.identity.partition("<")
        return Identity.cleaned(name, rest.partition(">")[0])
    if not _has_approvals(plan):
        return None
    host = _NOT_IN_HOSTS.sub("-", socket.gethostname().lower()).strip(".-") or "localhost"
    state = plan.event.state
    return Identity.cleaned(f"aynig {state}", f"{state}@{host}{SCRIPTS_DOMAIN}")


def _has_approvals(plan: Plan) -> bool:
    """May people have to approve something of this task, now or later?"""
    states = [settings for _, settings in plan.workflow.states]
    asks = any(settings.approval for settings in [*states, plan.workflow.defaults])
    return asks or _level(plan) != autonomy.NEVER


def _level(plan: Plan) -> str:
    return autonomy.level(plan.workflow.autonomy, plan.thread.autonomy)


def fault_of_answer(plan: Plan, left: Left) -> str:
    """What is wrong with an answer that only people may give; empty where nothing is."""
    said = left.own.state if left.own is not None else left.reply.state
    return people.fault(said, plan.workflow.people_only, after=plan.event.state)


def ruled(site: Site, plan: Plan, verdict: Verdict, harvest: Harvest | None) -> Verdict:
    """The verdict, with the answer as a proposal or a question where people decide."""
    state = plan.event.state
    ruled = proposed(verdict, ran=state, settings=plan.settings, level=_level(plan))
    if ruled.response.state != AWAITING_APPROVAL:
        return ruled
    tree = plan.event.tree
    if harvest is not None and ruled.lands_commits:
        tree = harvest.tree if ruled.succeeded else site.repo.commit(harvest.head).tree
    told = [
        f"{escape(field.value.rpartition('@')[0])} is sent back to work."
        for field in ruled.response.fields
        if field.key == "would-reopen"
    ]
    body = _with_proposal(site, plan, ruled.response.body, tree, *told)
    return replace(ruled, response=replace(ruled.response, body=body))


def ruled_step(site: Site, plan: Plan, step: Step) -> Step:
    """What aynig answers itself, as a request where people decide about it."""
    level = _level(plan)
    if level == autonomy.NEVER:
        return step
    # What can't be merged goes another way, and that is what is asked about then.
    taken, tree = with_files(site.repo, plan.event, step)
    request = proposed_step(taken, checkpoint=plan.settings.checkpoint, level=level)
    if request is None:
        return step
    return replace(request, body=_with_proposal(site, plan, request.body, tree))


def _with_proposal(site: Site, plan: Plan, body: str, tree: str, *told: str) -> str:
    """The words of an answer, and what it would do: as `told`, and what files it would change."""
    show = approval_of(plan.workflow, plan.event.state).show
    before, now = plan.thread.accepted or plan.event.tree, plan.event.tree
    most = room(site) // (1 if before == now else 2)
    shown = difference(site.repo, now, tree, show=show, most=most)
    # A question or a state that asks nobody may have brought files: who approves sees them too.
    unseen = difference(site.repo, before, now, show=show, most=most)
    # The mark is there in any case: it ends the answer's own words.
    parts = [body.strip("\n"), MARK, *told, indented(shown or _UNSHOWN)]
    parts += [_UNSEEN, indented(unseen)] if unseen else []
    parts += task_words(site, plan.thread.start)
    return "\n\n".join(part for part in parts if part)
