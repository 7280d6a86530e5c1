"""Is a task one for this runner? (`aynig: assigned-to: <agent or role>`, `role` of a state)

A runner takes what is assigned to it or to nobody, and of that what its roles are for. One without
roles takes what needs none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aynig.text import escape


@dataclass(frozen=True, slots=True)
class Worker:
    """Who a runner says it is. `picky` where others are there to take what it leaves."""

    agent: str = ""
    roles: tuple[str, ...] = ()
    picky: bool = False


@dataclass(frozen=True, slots=True)
class AssignmentVerdict:
    """`word` is empty where the runner may take the task, else the word of the hold."""

    word: str = ""
    detail: str = ""


def owner_of(assigned: Sequence[str], by_state: str) -> str:
    """Whose task it is: the last value of `assigned-to`, else the agent of its state; one owner.

    An empty value takes it back from whoever it was.
    """
    return (assigned[-1] if assigned else "") or by_state


def judge(
    worker: Worker, owner: str, role: str, own_role: str, agent_role: str = ""
) -> AssignmentVerdict:
    """`owner` is an agent or a role, `agent_role` the role that the workflow gives that agent.

    `role` is what the workflow says of the state, `own_role` the worker's role that has a script
    for it; all may be empty.
    """
    choosy = worker.picky or worker.agent
    names = {worker.agent, *worker.roles}
    if owner and choosy and not names & {owner, agent_role or owner}:
        return AssignmentVerdict("assigned", f"to {escape(owner)}")
    if not worker.picky or owner:
        return AssignmentVerdict()
    if role and role not in worker.roles:
        return AssignmentVerdict("assigned", f"to runners with the role {escape(role)}")
    if worker.roles and not role and not own_role:
        return AssignmentVerdict("assigned", "to runners without a role: its state has none")
    return AssignmentVerdict()
