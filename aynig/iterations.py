"""What is looked up about an iteration of a loop: the plan it works by, and what it promised."""

from __future__ import annotations

import contextlib

from aynig.answer import Left
from aynig.checklist import Item, all_checked, items, next_item
from aynig.errors import RepositoryError
from aynig.executors.output import tail_of
from aynig.git.repo import Repo
from aynig.model import LoopFacts, Plan
from aynig.policies.loop import Iteration
from aynig.promise import is_promised
from aynig.runs import RunFolder

# Of the output, in which the promise is looked for. A plan is a file for people.
_OUTPUT_BYTES = 16 * 1024 * 1024
_PLAN_BYTES = 1024 * 1024


def loop_facts(repo: Repo, plan: Plan) -> LoopFacts | None:
    """Which iteration this is, and what is next on the plan; None where the state is no loop."""
    loop = plan.settings.loop
    if loop is None:
        return None
    listed = plan_items(repo, plan.event.tree, loop.plan) if loop.plan else ()
    said = plan.event.statement.body if plan.thread.iterations else ""
    return LoopFacts(plan.thread.iterations + 1, loop.limit, next_item(listed), said)


def iteration_of(
    repo: Repo, plan: Plan, left: Left, folder: RunFolder, tree: str, *, good: bool
) -> Iteration | None:
    """How an iteration ended whose result is `tree`; None where the state is no loop."""
    loop = plan.settings.loop
    if loop is None:
        return None
    promised = loop.promise is not None and _promised(loop.promise, plan, left, folder)
    checked, given, lost = False, 0, 0
    if loop.plan is not None:
        as_given = plan_items(repo, _tree_of(repo, plan.thread.by_person), loop.plan)
        left_over = plan_items(repo, tree, loop.plan)
        checked = all_checked(left_over, as_given)
        given, lost = len(as_given), max(len(as_given) - len(left_over), 0)
    return Iteration(plan.thread.iterations + 1, good, promised, checked, given, lost)


def plan_items(repo: Repo, tree: str, path: str) -> tuple[Item, ...]:
    """The items of the plan file in a tree; none where there is no such file."""
    entry = repo.entry(tree, path) if tree else None
    if entry is None or entry[0] not in (0o100644, 0o100755):
        return ()
    with contextlib.suppress(RepositoryError):
        return items(repo.blob(entry[1])[:_PLAN_BYTES].decode("utf-8", "replace"))
    return ()


def _tree_of(repo: Repo, oid: str) -> str:
    with contextlib.suppress(RepositoryError):
        return repo.commit(oid).tree if oid else ""
    return ""


def _promised(promise: str, plan: Plan, left: Left, folder: RunFolder) -> bool:
    fields = [*left.reply.fields, *(left.own.fields if left.own is not None else ())]
    if any(field.key == "promise" and field.value == promise for field in fields):
        return True
    output = ""
    with contextlib.suppress(OSError):
        output = tail_of(folder.output, _OUTPUT_BYTES, _OUTPUT_BYTES)
    return is_promised(promise, output, plan.event.statement.body)
