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


def judge(worker: Worker, assigned: Sequence[str], role: str, own_role: str) -> AssignmentVerdict:
    """`assigned` are the values of `assigned-to`, the last of which counts.

    `role` is what the workflow says of the state, `own_role` the worker's role that has a script
    for it; both may be empty.
    """
    owner = assigned[-1] if assigned else ""
    choosy = worker.picky or worker.agent
    if owner and choosy and owner != worker.agent and owner not in worker.roles:
        return AssignmentVerdict("assigned", f"to {escape(owner)}")
    if not worker.picky or owner:
        return AssignmentVerdict()
    if role and role not in worker.roles:
        return AssignmentVerdict("assigned", f"to runners with the role {escape(role)}")
    if worker.roles and not role and not own_role:
        return AssignmentVerdict("assigned", "to runners without a role: its state has none")
    return AssignmentVerdict()
