"""What a loop says to each iteration: the words it was entered with, and not its last answer."""

from __future__ import annotations

from dataclasses import replace

from aynig.conversation import exchange
from aynig.model import Plan
from aynig.policies.loop import AGAIN
from aynig.site import Site
from aynig.thread import Told


def prompted(site: Site, plan: Plan) -> Plan:
    """The plan with the body that its script gets; another one only within a loop."""
    told = site.threads.told(plan.event.origin) if plan.settings.loop is not None else None
    if told is None:
        return plan
    own = told
    while (below := _below(site, told, own)) is not None:
        told = below
    statement = replace(plan.event.statement, body=told.statement.body)
    return replace(plan, event=replace(plan.event, statement=statement))


def _below(site: Site, told: Told, own: Told) -> Told | None:
    """The commit whose words count in the place of this one's; None where its own do.

    What a person answers to a question is heard by the iteration that it starts (`own`), and no
    more: it is no prompt.
    """
    said = told.statement
    if said.value("answered-by") is not None and told is not own:
        found = exchange(site, told)
        return found[0] if found is not None else None
    if said.value("loop") == AGAIN:
        return site.threads.answered(told.oid)
    parent = site.threads.told(told.parent) if told.parent else None
    if parent is None:
        return None
    if said.value("retry-of") == parent.oid:
        # It repeats what had failed, which may have been an iteration.
        retried = site.threads.answered(parent.oid)
        return retried if retried is not None and retried.statement.body == said.body else None
    # Who edits a file in between, or lets it go on, need not say again what is to be done.
    silent = said.value("resumes") == parent.oid or not said.body.strip()
    return parent if silent and parent.statement.state == said.state else None
