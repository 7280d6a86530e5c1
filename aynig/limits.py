"""Whose limits count for a task: those of its state, of its agent, of the repository. Pure."""

from __future__ import annotations

from aynig.account import AGENT, REPOSITORY, STATE
from aynig.model import Statement
from aynig.workflow import Limits, StateSettings, Workflow


def agent_of(workflow: Workflow, settings: StateSettings, statement: Statement) -> str:
    """The agent of the workflow that a task is run for; empty for none.

    Whom the task is assigned to counts before the one that the state names.
    """
    assigned = statement.value("assigned-to")
    for name in (assigned, settings.agent):
        if name and workflow.agent(name) is not None:
            return name
    return ""


def limits_of(
    workflow: Workflow, settings: StateSettings, statement: Statement
) -> list[tuple[str, str, Limits]]:
    """The limits that count, each with the kind and the name of its scope."""
    name = agent_of(workflow, settings, statement)
    agent = workflow.agent(name) if name else None
    found = (
        (STATE, statement.state, settings.limits),
        (AGENT, name, agent.limits if agent is not None else None),
        (REPOSITORY, "", workflow.limits),
    )
    return [(kind, name, limits) for kind, name, limits in found if limits is not None]
