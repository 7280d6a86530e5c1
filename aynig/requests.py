"""Reads from commits what a request for approval comes to: what is asked, who worked, who agreed.

The fields of a request say the same for people; nothing here believes them. What counts is which
commit answers which, what files they have, and who made them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from aynig.family import named_children
from aynig.git.authorship import Made, made_between, made_by, verify
from aynig.model import AWAITING_APPROVAL
from aynig.onbranch import read_working
from aynig.policies.approval import KIND, Person, Request, Voice, marks_of
from aynig.site import Site
from aynig.thread import REPLIES, Told
from aynig.workflow import AFTER, BEFORE, Workflow

# The workflow of a task whose commit has this tree, as far as that tree is trusted.
WorkflowOf = Callable[[str], Workflow]
# More rounds than people have patience for: a forged history must not hold up anybody.
_MOST_ROUNDS = 1000


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for approval: to start a run, to accept what one has answered, or to take a step
    that is aynig's own."""

    # workflow.BEFORE or workflow.AFTER.
    when: str
    proposes: str
    # The commit that is to be run, or that was: its state is the one whose settings count.
    trigger: Told
    # The commit whose words go on with the task.
    words: Told
    request: Request
    # Would aynig go on by itself, as with a join? `when` is AFTER then.
    of_step: bool = False
    # The commits that say `approved`, oldest first, that are about this request.
    replies: tuple[Told, ...] = ()


def read_request(site: Site, oid: str, workflow_of: WorkflowOf) -> Asked | None:
    """The request that a commit with the state `awaiting-approval` is a part of.

    None where it asks for nothing: a person wrote that state, to hold the task. Each reply that
    was not enough is followed by the same request again, down to the first; a reply that changed
    files makes another one of it.
    """
    first, replies, asked_again, changed_by = _rounds(site, oid)
    root = site.threads.told(first)
    trigger = site.threads.answered(first)
    proposes = root.statement.value("proposes") if root is not None else None
    if root is None or trigger is None or not proposes:
        return None
    if root.statement.value("step") != KIND:
        worked = _workers_of_run(site, trigger, root, workflow_of)
        worked |= _workers_of_children(site, trigger, root)
        request = Request(root.oid, root.tree, worked)
        of_step = root.statement.value("step") is not None
        asked = Asked(AFTER, proposes, trigger, root, request, of_step)
    elif trigger.statement.state == proposes and trigger.tree == root.tree:
        worked = workers(site, trigger, workflow_of)
        asked = Asked(BEFORE, proposes, trigger, trigger, Request(trigger.oid, root.tree, worked))
    else:
        return None
    request = replace(asked.request, done_by=asked.request.done_by | changed_by)
    if asked_again is not None:
        request = replace(request, oid=asked_again.oid, tree=asked_again.tree)
    return replace(asked, request=request, replies=tuple(reversed(replies)))


def _rounds(site: Site, oid: str) -> tuple[str, list[Told], Told | None, frozenset[str]]:
    """The first commit of a request, and the approvals since, youngest first.

    Then the commit that asks again after files were changed, if there is one, and who did that.
    """
    replies: list[Told] = []
    asked_again: Told | None = None
    changed_by: frozenset[str] = frozenset()
    for _ in range(_MOST_ROUNDS):
        told, reply = site.threads.told(oid), site.threads.answered(oid)
        below = request_below(site, reply) if reply is not None else None
        if told is None or reply is None or below is None:
            break
        if told.statement.value("step") != KIND:
            break
        if reply.tree != below.tree:
            asked_again = asked_again or told
            changed_by |= _marks([made_by(site.repo, reply.oid)])
        elif asked_again is None:
            replies.append(reply)
        oid = below.oid
    return oid, replies, asked_again, changed_by


def request_below(site: Site, reply: Told) -> Told | None:
    """The commit with the state `awaiting-approval` that a person's reply was written on."""
    if reply.statement.state not in REPLIES or not reply.parent:
        return None
    below = site.threads.told(reply.parent)
    return below if below is not None and below.statement.state == AWAITING_APPROVAL else None


def voice_of(site: Site, reply: Told, signers: bytes | None) -> Voice:
    """Who says `approved`; `signers` is the allowed-signers file, None without one."""
    made = made_by(site.repo, reply.oid)
    voice = Voice(
        oid=reply.oid,
        author=Person(*made.author),
        committer=Person(*made.committer),
        tree=reply.tree,
        names=reply.statement.value("approves") or "",
    )
    if signers is None:
        return replace(voice, unsigned="there is no allowed-signers file to hold it against")
    found = verify(site.repo, reply.oid, signers)
    return replace(voice, signer=found.principal, key=found.key, unsigned=found.problem)


# --- who did the work ------------------------------------------------------------------------


def workers(site: Site, told: Told, workflow_of: WorkflowOf) -> frozenset[str]:
    """Who did the work that a commit brings. A person's own commit asks, and executes nothing."""
    answered = site.threads.answered(told.oid)
    if answered is None:
        return frozenset()
    if told.statement.value("step") is None:
        return _workers_of_run(site, answered, told, workflow_of)
    below = request_below(site, answered)
    asked = read_request(site, below.oid, workflow_of) if below is not None else None
    if asked is not None:
        # What was approved is still the work of those who did it.
        return asked.request.done_by
    if answered.statement.state == told.statement.state:
        return workers(site, answered, workflow_of)
    # A join, say: its children's scripts have made commits, and what carries a state is ours.
    made = made_between(site.repo, told.oid, answered.oid)
    return _marks(each for each in made if site.read(each.message) is None)


def _workers_of_run(
    site: Site, trigger: Told, answer: Told, workflow_of: WorkflowOf
) -> frozenset[str]:
    # By the workflow that counted when the work began: not by one that it has written itself.
    workflow = workflow_of(trigger.tree)
    name = workflow.of(trigger.statement.state).agent or ""
    agent = workflow.agent(name)
    identity = (agent.identity or "") if agent is not None else ""
    named, _, rest = identity.partition("<")
    words = [
        answer.statement.value("executed-by") or "",
        answer.statement.value("agent") or "",
        *trigger.statement.values("assigned-to"),
        name,
        named,
        rest.partition(">")[0],
    ]
    made = made_between(site.repo, answer.oid, trigger.oid)
    return marks_of(words) | _marks(each for each in made if not _is_lease(site, each))


def _workers_of_children(site: Site, trigger: Told, request: Told) -> frozenset[str]:
    """Who made the commits that would be joined: none of those that carry a state, which are ours.

    The request itself has none of them yet.
    """
    made = [
        each
        for key, _, oid in named_children(site.repo, request.statement)
        if key == "joined"
        for each in made_between(site.repo, oid, trigger.oid)
    ]
    return _marks(each for each in made if site.read(each.message) is None)


def _is_lease(site: Site, made: Made) -> bool:
    """Is it a lease that lies on the branch, as in dwp? The runner made it, not the script."""
    statement = site.read(made.message)
    return statement is not None and read_working(statement, 0) is not None


def _marks(made: Iterable[Made]) -> frozenset[str]:
    return marks_of(word for each in made for word in (*each.author, *each.committer))
