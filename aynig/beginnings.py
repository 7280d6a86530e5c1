"""How tasks begin: what their first commits say, checked as a whole before anything is written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from aynig import dialects
from aynig.dialects import DIALECTS
from aynig.errors import RefMoved, UsageError, UserError
from aynig.git.refs import RefEdit
from aynig.model import ENDED_STATES, HEADS, Field, branch_of
from aynig.planfile import PlanFile, PlannedTask
from aynig.policies.dependencies import in_words
from aynig.site import Site, limits_of
from aynig.text import escape, quote, shorten
from aynig.thread import BEGINS
from aynig.trailers import encode

SUBJECT_WIDTH = 100


@dataclass(frozen=True, slots=True)
class Begun:
    """A task that was begun."""

    name: str
    branch: str
    oid: str
    state: str


@dataclass(frozen=True, slots=True)
class _Draft:
    """A first commit that is not written yet."""

    task: PlannedTask
    base: str | None
    message: str


# --- what one waits for ------------------------------------------------------------------------


def waits_for(site: Site, rev: str) -> str:
    """What `depends-on` says of a revision that a person names.

    A branch follows, so it stays a name, and so does `REMOTE:BRANCH`; anything else is a commit,
    and is pinned by its full oid. Raises UsageError for what does not exist, or never ends.
    """
    rev = rev.removeprefix(HEADS)
    tip = site.repo.read_ref(HEADS + rev) if rev else None
    if tip is not None:
        if site.read(site.repo.commit(tip).message) is None:
            raise UsageError(
                f"the branch {quote(rev)} carries no state, so it would be waited for in vain",
                hint="Name the branch or the commit of a task.",
            )
        return rev
    if ":" in rev:
        return _waits_elsewhere(site, rev)
    oid = site.repo.resolve(rev)
    if oid is None and site.clone is not None:
        oid = site.clone.resolve(rev)
        oid = oid if oid is not None and site.repo.has_commit(oid) else None
    if oid is None:
        raise UsageError(
            f"there is no commit {quote(rev)} to wait for", hint="See `git log --all`."
        )
    return oid


def _waits_elsewhere(site: Site, rev: str) -> str:
    elsewhere = site.upstream.elsewhere
    own = elsewhere.own_branch(rev)
    if own is not None and site.repo.read_ref(HEADS + own) is not None:
        return rev
    if own is None and elsewhere.find(rev) is not None:
        return rev
    remote, _, branch = rev.partition(":")
    raise UsageError(
        f"there is no branch {quote(branch)} of the remote {quote(remote)} to wait for",
        hint="A branch of a remote is written REMOTE:BRANCH, and is known once it was fetched.",
    )


def refuse_vain_waits(
    site: Site,
    waiting: Mapping[str, Sequence[str]],
    parents: Mapping[str, str],
    new: Set[str] = frozenset(),
) -> None:
    """UsageError where one of these tasks, by ref, would wait for ever.

    `waiting` are their dependencies, `parents` the refs of the parents of those that are children,
    `new` the branches among the dependencies that are made together with them. The scan has to be
    up to date.
    """
    for ref, names in waiting.items():
        for name in names:
            if name not in new:
                _refuse_vain_wait(site, ref, name)
    cycle = site.upstream.cycle_if(waiting, parents)
    if cycle:
        first = next((ref for ref in cycle if ref in waiting), cycle[0])
        at = cycle.index(first)
        around = [*cycle[at:-1], *cycle[:at], first]
        raise UsageError(
            f"{quote(branch_of(first))} {in_words([branch_of(ref) for ref in around])}",
            hint="Leave one of these dependencies out.",
        )


def _refuse_vain_wait(site: Site, ref: str, name: str) -> None:
    found = site.upstream.look_up(ref, name)
    if found.states or ":" in name or not site.repo.has_commit(name):
        return
    if site.scan.tip(ref) is not None:
        raise UsageError(
            f"{quote(branch_of(ref))} would wait for itself: {name[:12]} is on no other branch",
            hint="Name the branch or the commit of another task.",
        )
    raise UsageError(
        f"{name[:12]} is on no branch, so it would be waited for in vain",
        hint="Name the branch or the commit of a task.",
    )


def beginning(site: Site, base: str | None) -> list[Field]:
    """What the first commit of a task says to be taken for one where it lies on another's."""
    below = site.read(site.repo.commit(base).message) if base is not None else None
    goes_on = below is not None and below.state not in ENDED_STATES
    return [Field(BEGINS, "task")] if goes_on else []


def subject_of(state: str, body: str) -> str:
    """The subject of a first commit: its state, and how its prompt begins."""
    first = next((line.strip() for line in body.splitlines() if line.strip()), "")
    return shorten(f"{state}: {escape(first)}" if first else state, SUBJECT_WIDTH)


# --- a whole plan ------------------------------------------------------------------------------


def begin_all(site: Site, plan: PlanFile, bases: Mapping[str, str | None]) -> list[Begun]:
    """Begin all tasks of a plan by one transaction; `bases` are the commits by the tasks' names.

    Raises UsageError, before anything is written, for what can't be; UserError where a branch came
    in between.
    """
    site.scan.look()
    _refuse_taken(site, plan.tasks)
    branches = {task.name: task.target for task in plan.tasks}
    waiting: dict[str, list[str]] = {}
    for task in plan.tasks:
        with placed(task):
            names = [waits_for(site, rev) for rev in task.after]
        waiting[HEADS + task.target] = [*(branches[name] for name in task.needs), *names]
    refuse_vain_waits(site, waiting, {}, frozenset(branches.values()))
    drafts = [
        _draft(site, task, bases[task.name], waiting[HEADS + task.target]) for task in plan.tasks
    ]
    written = [_write(site, draft) for draft in drafts]
    try:
        site.store.commit([RefEdit(HEADS + each.branch, None, each.oid) for each in written])
    except RefMoved as error:
        raise UserError(
            f"a branch of the plan was made meanwhile: {error}", hint="Look at it and try again."
        ) from error
    return written


@contextlib.contextmanager
def placed(task: PlannedTask) -> Iterator[None]:
    """What is wrong with a task is said with its place in the plan."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{task.source}: {error}", hint=error.hint) from error


def _refuse_taken(site: Site, tasks: Iterable[PlannedTask]) -> None:
    """Branches that exist, or that stand in the way: refs are files."""
    taken = {branch_of(ref) for ref in site.repo.refs_below(HEADS)}
    folders = {
        branch.rsplit("/", number)[0]: branch
        for branch in taken
        for number in range(1, branch.count("/") + 1)
    }
    for task in tasks:
        parts = task.target.split("/")
        above = ["/".join(parts[:number]) for number in range(1, len(parts))]
        with placed(task):
            if task.target in taken:
                raise UsageError(
                    f"the branch {quote(task.target)} exists", hint="Name another one: `branch:`."
                )
            for other in [*filter(taken.__contains__, above), folders.get(task.target)]:
                if other is not None:
                    raise UsageError(
                        f"{quote(task.target)} can't be made beside the branch {quote(other)}",
                        hint="Choose another name.",
                    )


def _draft(site: Site, task: PlannedTask, base: str | None, names: Iterable[str]) -> _Draft:
    fields = [Field("assigned-to", task.to)] if task.to is not None else []
    fields += [Field("depends-on", name) for name in names]
    if task.priority is not None:
        fields.append(Field("priority", str(task.priority)))
    if task.deadline is not None:
        fields.append(Field("deadline", task.deadline))
    fields += [Field("resource", name) for name in task.resources]
    fields += [*task.fields, *beginning(site, base)]
    with placed(task):
        message = dialects.write(
            DIALECTS[0], task.state, fields, (), subject_of(task.state, task.body), task.body
        )
        dialects.check_limits(encode(message), limits_of(site.settings))
    return _Draft(task, base, message)


def _write(site: Site, draft: _Draft) -> Begun:
    info = site.repo.commit(draft.base) if draft.base is not None else None
    oid = site.repo.write_commit(
        tree=info.tree if info else site.repo.empty_tree(),
        parents=[info.oid] if info else [],
        message=draft.message,
        not_before=info.time if info else 0,
        unique=True,
    )
    task = draft.task
    return Begun(task.name, task.target, oid, task.state)
