"""What a script is told before it begins: its context, and why the last attempt failed."""

from __future__ import annotations

from aynig.conversation import conversation
from aynig.environment import script_context
from aynig.family import named_children
from aynig.git.history import last_state_commit
from aynig.iterations import loop_facts
from aynig.model import CRASHED, Plan
from aynig.prompts import prompted
from aynig.runs import RunFolder
from aynig.site import Site
from aynig.upstream import as_context


def feedback_of(plan: Plan) -> str:
    """Why the last attempt failed, or the last iteration of a loop; empty where nothing did."""
    # A crash is nobody's word on the work.
    judged = [attempt.text for attempt in plan.past if attempt.ending != CRASHED]
    if judged:
        return judged[-1]
    statement = plan.event.statement
    lines = [statement.value("failure") or "", *statement.values("failed-scenario")]
    lines += statement.values("validation-errors")
    return "\n".join(line for line in lines if line)


def context_of(site: Site, plan: Plan, folder: RunFolder, repository: str) -> dict[str, object]:
    """What the file `$AYNIG_CONTEXT` holds; `repository` is what it calls that."""
    event = plan.event
    parents = site.repo.commit(event.origin).parents
    previous = last_state_commit(site.repo, parents[0], site.read) if parents else None
    return script_context(
        prompted(site, plan),
        folder,
        repository=repository,
        parents=parents,
        previous=as_context(previous[0].oid, previous[1]) if previous else None,
        dependencies=_handed_over(site, plan),
        loop=loop_facts(site.repo, plan),
        children=_children(site, plan),
        conversation=conversation(site, event.origin),
    )


def _handed_over(site: Site, plan: Plan) -> list[dict[str, object]]:
    event = plan.event
    thread = site.threads.of(event.origin)
    names = thread.depends_on if thread is not None else ()
    return list(site.upstream.handed_over(event.ref, names))


def _children(site: Site, plan: Plan) -> list[dict[str, object]]:
    """What children hand over that the commit tells of: the tip of each."""
    found = []
    for role, branch, oid in named_children(site.repo, plan.event.statement):
        statement = site.read(site.repo.commit(oid).message)
        if statement is not None:
            as_child = {"branch": branch, "is": role}
            found.append({**as_child, **as_context(oid, statement)})
    return found
