"""Fan-out: the children that a run asks for, begun together with its answer or not at all.

A script writes a plan to `$AYNIG_CHILDREN`. Their branches come in the transaction that lands the
answer, and `beside` sees to it that all of them do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from aynig import beside, dialects
from aynig.answer import Verdict
from aynig.dialects import by_name
from aynig.errors import ConfigError, UsageError
from aynig.facts import read_workflow, trusted_tree
from aynig.family import find_ancestors, find_descendants, room_for_children
from aynig.git.names import is_ref
from aynig.git.refs import RefEdit
from aynig.model import AWAITING, ENDED_STATES, HEADS, Event, Field
from aynig.planfile import PlannedTask, parse_plan
from aynig.policies import kinship
from aynig.proposing import question_of
from aynig.respond import Answer
from aynig.runs import RunFolder
from aynig.site import Site, limits_of
from aynig.text import escape, quote, shorten
from aynig.thread import REPLIES
from aynig.trailers import encode
from aynig.workflow import ChildLimits, Workflow

# Of a plan that is longer than may be read, the tasks are counted up to here, in bytes.
_COUNTED = 32 * 1024 * 1024
# So many tasks more than there may be are not even read: each costs a tenth of a millisecond.
_FAR_BEYOND = 1000
_SUBJECT_WIDTH = 100
_ITEM = re.compile(rb"^( *)- ", re.MULTILINE)
_WHERE = "its plan of children"


@dataclass(frozen=True, slots=True)
class Newborn:
    """A child that is to be begun: its branch, and the message of its first commit."""

    branch: str
    message: str


@dataclass(frozen=True, slots=True)
class Ask:
    """What a run asked for; where there is a `fault`, it gets none of it."""

    count: int = 0
    children: tuple[Newborn, ...] = ()
    fault: str = ""


def read_ask(site: Site, event: Event, folder: RunFolder) -> Ask:
    """The children that a script has asked for, checked against all that limits them."""
    try:
        raw = folder.read_children(_COUNTED + 1)
    except OSError as error:
        return Ask(fault=f"{_WHERE} can't be read: {error.strerror or error}")
    if raw is None or not raw.strip():
        return Ask()
    try:
        workflow = read_workflow(site, trusted_tree(site.repo, site.settings, event))
        return _read(site, event, raw, workflow)
    except (ConfigError, UsageError) as error:
        return Ask(count=1, fault=error.advice)


def _read(site: Site, event: Event, raw: bytes, workflow: Workflow) -> Ask:
    limits = workflow.children
    most, guess = site.settings.message_limit, _count(raw)
    too_many = guess > limits.each + _FAR_BEYOND
    if too_many or len(raw) > most:
        size = f"{len(raw):,}" if len(raw) <= _COUNTED else f"more than {_COUNTED:,}"
        fault = _refusal(site, event, guess, limits) if len(raw) <= _COUNTED else ""
        return Ask(guess, fault=fault or f"{_WHERE} has {size} bytes, the limit is {most:,}")
    tasks = parse_plan(raw, _WHERE).tasks
    fault = _refusal(site, event, len(tasks), limits)
    if fault:
        return Ask(len(tasks), fault=fault)
    for task in tasks:
        _refuse_state(task, workflow)
    branches = {task.name: _branch(event, task) for task in tasks}
    children = [_newborn(site, event, task, branches) for task in tasks]
    _refuse_taken(site, [child.branch for child in children])
    return Ask(len(tasks), tuple(children))


def _count(raw: bytes) -> int:
    """About how many tasks a plan has: the items of the outermost list."""
    first = _ITEM.search(raw)
    if first is None:
        return 0
    item = b"\n" + first[1] + b"- "
    return raw.count(item) + raw.startswith(item[1:])


def _refusal(site: Site, event: Event, asked: int, limits: ChildLimits) -> str:
    tip = site.scan.tip(event.ref)
    ancestors = find_ancestors(site, event.branch, tip.parent if tip is not None else "")
    root = ancestors[-1] if ancestors else event.branch
    return kinship.refusal(
        asked,
        limits,
        depth=len(ancestors),
        siblings=len(site.scan.children(event.ref)),
        relatives=sum(1 for _ in find_descendants(site, root)),
        room=room_for_children(site.settings.trailer_limit),
    )


def _refuse_state(task: PlannedTask, workflow: Workflow) -> None:
    """A child that has ended has done nothing, and what only people write no script starts."""
    if task.state in ENDED_STATES or task.state in AWAITING:
        raise UsageError(
            f"{task.source}: a child can't begin as {quote(task.state)}",
            hint="Name the state that is to be run.",
        )
    if task.state in workflow.people_only or task.state in REPLIES:
        raise UsageError(
            f"{task.source}: only people may write the state {quote(task.state)}",
            hint="Name a state that scripts may write.",
        )


# --- one child -----------------------------------------------------------------------------------


def _branch(event: Event, task: PlannedTask) -> str:
    name = task.branch if task.branch is not None else f"{event.branch}-{task.name}"
    if not is_ref(HEADS + name):
        raise UsageError(f"{quote(name)} is no branch name", hint="Choose a shorter name.")
    return name


def _newborn(site: Site, event: Event, task: PlannedTask, branches: dict[str, str]) -> Newborn:
    if task.start is not None:
        raise UsageError(
            f"{task.source}: a child begins at the answer of its parent", hint="Leave `from` out."
        )
    pairs = [("parent", event.branch)]
    pairs += [("depends-on", branches[name]) for name in task.needs]
    pairs += [("depends-on", _waited_for(site, event, task, rev)) for rev in task.after]
    pairs += [("assigned-to", task.to)] if task.to is not None else []
    pairs += [("priority", str(task.priority))] if task.priority is not None else []
    pairs += [("deadline", task.deadline)] if task.deadline is not None else []
    pairs += [("resource", resource) for resource in task.resources]
    fields = [*(Field(key, value) for key, value in pairs), *task.fields]
    first = next((line.strip() for line in task.body.splitlines() if line.strip()), "")
    # The name is in it: two commits that say the same would be one commit.
    subject = f"{task.state}: {escape(task.name)}" + (f": {escape(first)}" if first else "")
    message = dialects.write(
        by_name(event.statement.dialect),
        task.state,
        fields,
        (),
        shorten(subject, max(_SUBJECT_WIDTH, len(f"{task.state}: {task.name}") + 1)),
        task.body,
    )
    dialects.check_limits(encode(message), limits_of(site.settings))
    return Newborn(branches[task.name], message)


def _waited_for(site: Site, event: Event, task: PlannedTask, rev: str) -> str:
    """A commit in full, so that it means the same to everybody; a branch as it is called."""
    if rev == event.branch:
        raise UsageError(
            f"{task.source}: {quote(rev)} is its parent, which waits for it in turn",
            hint="Leave it out of `after`.",
        )
    if ":" in rev or site.repo.read_ref(HEADS + rev) is not None:
        return rev
    oid = site.upstream.named_commit(rev)
    if oid is None:
        raise UsageError(
            f"{task.source}: there is no task {quote(rev)} to wait for",
            hint="Name a child of the same plan, a branch or an oid.",
        )
    return oid


def _refuse_taken(site: Site, branches: Sequence[str]) -> None:
    """A branch can't be where there is one, is a folder of others, nor below one."""
    there = {ref.removeprefix(HEADS) for ref in site.scan.tips()}
    folders = {above for branch in there for above in _above(branch)}
    for branch in branches:
        if branch in there or site.repo.read_ref(HEADS + branch) is not None:
            raise UsageError(
                f"the branch {quote(branch)} of a child exists already", hint="Choose another name."
            )
        if branch in folders or not there.isdisjoint(_above(branch)):
            raise UsageError(
                f"the branch {quote(branch)} of a child can't be made beside those that are there",
                hint="Choose another name.",
            )


def _above(branch: str) -> list[str]:
    parts = branch.split("/")
    return ["/".join(parts[:number]) for number in range(1, len(parts))]


# --- the answer ----------------------------------------------------------------------------------


def told_children(verdict: Verdict, ask: Ask) -> Verdict:
    """A verdict whose answer says what became of the children that were asked for.

    After a question the state runs again, and asks for them again.
    """
    response = verdict.response
    if not ask.count:
        return verdict
    if not verdict.succeeded or question_of(response):
        said = "None of the children that it asked for was started."
        body = "\n\n".join(part for part in (response.body.strip("\n"), said) if part)
        return replace(verdict, response=replace(response, body=body))
    fields = [Field("children", str(ask.count))]
    fields += [Field("child", child.branch) for child in ask.children]
    return replace(verdict, response=replace(response, fields=(*response.fields, *fields)))


def with_children(
    site: Site, ask: Ask, verdict: Verdict, write: Callable[[], Answer]
) -> Callable[[], Answer]:
    """What writes the answer, and the first commits of the children on top of it."""
    if all(field.key != "children" for field in verdict.response.fields) or not ask.children:
        return write

    def write_all() -> Answer:
        answer = write()
        time = site.repo.commit(answer.oid).time
        tree = site.repo.commit(answer.oid).tree
        along = tuple(
            RefEdit(
                HEADS + child.branch,
                None,
                site.repo.write_commit(
                    tree=tree, parents=[answer.oid], message=child.message, not_before=time
                ),
            )
            for child in ask.children
        )
        return replace(answer, along=along)

    return write_all


def keeping(site: Site, run: str, ref: str, write: Callable[[], Answer]) -> Callable[[], Answer]:
    """What writes an answer, and keeps what is to land beside it."""

    def write_and_keep() -> Answer:
        answer = write()
        if answer.along:
            beside.keep(site, run, ref, answer.oid, answer.along)
        return answer

    return write_and_keep
