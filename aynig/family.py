"""Parents and children: what a task's policies have to know of its kin, looked up."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice

from aynig import beside
from aynig.git.authorship import made_by
from aynig.git.repo import Repo
from aynig.model import HEADS, Event, Hold, Statement, Step, branch_of
from aynig.policies import joining, kinship, supervising
from aynig.policies.fallback import way_on
from aynig.policies.joining import Child
from aynig.policies.kinship import Kin
from aynig.site import Site
from aynig.thread import Thread
from aynig.workflow import ChildLimits, StateSettings

CANCELED = "canceled"
# Trailers of an answer that are not its children.
_OTHER_TRAILERS = 60
# The fields that name a child by its branch and oid.
_TOLD = ("joined", "unmerged", "left-out", "child")
_OID = re.compile(r"[0-9a-f]{40}")


def children_ruling(
    site: Site, event: Event, settings: StateSettings, autonomy: str | None, thread: Thread
) -> Hold | Step | None:
    """What a state that waits for children does next; None for one that does not."""
    if not settings.waits:
        return None
    children = find_children(site, event, thread)
    room = room_for_children(site.settings.trailer_limit)
    if len(children) > room:
        return Hold("blocked", f"it has {len(children)} children, an answer has room for {room}")
    if settings.on_child is not None:
        must_tell = supervising.next_to_tell(children, thread.told) is not None
        if must_tell or settings.join is None:
            return supervising.judge(settings.on_child, children, thread.told)
    assert settings.join is not None
    way = way_on(settings, said=None, autonomy=thread.autonomy or autonomy)
    supervised = settings.on_child is not None
    return joining.judge(settings.join, children, way, event.origin, supervised=supervised)


def parent_ruling(site: Site, event: Event, thread: Thread) -> Step | None:
    """A child ends with a parent that is canceled."""
    if not thread.parent:
        return None
    tip = site.scan.tip(HEADS + thread.parent)
    if tip is None or tip.state != CANCELED:
        return None
    told = site.threads.told(tip.oid)
    name, _ = made_by(site.repo, tip.oid).author
    words = f"{told.statement.subject} (by {name})" if told is not None else f"by {name}"
    return kinship.canceled_with(thread.parent, tip.oid, event.origin, thread.told, words)


def proposal_ruling(site: Site, event: Event, thread: Thread) -> Hold | Step | None:
    """A child whose beginning is only proposed waits for what people say to that."""
    if not thread.parent or thread.start != event.origin:
        return None
    parents = site.repo.commit(thread.start).parents
    answer = site.threads.told(parents[0]) if parents else None
    if answer is None or answer.statement.value("children") is None:
        return None
    if answer.statement.value("proposes") is None:
        return None
    tip = site.scan.tip(HEADS + thread.parent)
    above = site.threads.of(tip.oid) if tip is not None else None
    # What was changed before it was approved has a request of its own, on top of the answer.
    verdicts = above.verdicts if above is not None else ()
    first = next((good for oid, good in verdicts if site.repo.descends(oid, answer.oid)), None)
    return kinship.proposed(thread.parent, first, event.origin)


def kin_hold(site: Site, event: Event, limits: ChildLimits, thread: Thread) -> Hold | None:
    """Why a child may not run that nobody has counted when it came."""
    if not thread.parent:
        return None
    return kinship.judge(_kin(site, event, limits, thread), limits)


def room_for_children(trailers: int) -> int:
    """How many children an answer can name, with so many trailers that a message may have."""
    return max(trailers - _OTHER_TRAILERS, trailers // 2)


# --- children ----------------------------------------------------------------------------------


def find_children(site: Site, event: Event, thread: Thread) -> tuple[Child, ...]:
    """The children of a task that no join has settled, and that are none of an earlier task's."""
    refs = site.scan.children(event.ref) | {HEADS + branch for branch in thread.started}
    found = (_child(site, event, thread, ref) for ref in sorted(refs))
    return tuple(child for child in found if child is not None)


def _child(site: Site, event: Event, thread: Thread, ref: str) -> Child | None:
    branch, tip = branch_of(ref), site.scan.tip(ref)
    own = branch in thread.started
    if _is_settled(site, thread, branch, tip.oid if tip is not None else ""):
        return None
    if tip is None:
        return Child(branch, "", "", gone=_is_gone(site, ref))
    merged = site.repo.descends(event.oid, tip.oid)
    if not own and (merged or _is_of_earlier_task(site, thread, tip.oid)):
        return None
    state = "" if tip.fault else tip.state
    return Child(branch, tip.oid, state, merged=merged, time=tip.time)


def _is_gone(site: Site, ref: str) -> bool:
    """Was the branch of a child deleted? It may be about to come, too."""
    if site.mirror is not None:
        # What was read while a server took a push may be a part of it.
        site.mirror.sync(leases=False)
    elif site.repo.read_ref(ref) is None:
        beside.mend(site)
    return site.repo.read_ref(ref) is None and not beside.is_coming(site, ref)


def _is_settled(site: Site, thread: Thread, branch: str, oid: str) -> bool:
    """Has a join had this child, at whatever commit it was then?

    One of the same name that was begun anew since is another one.
    """
    oids = [
        place.rpartition("@")[2] for place in thread.settled if place.rpartition("@")[0] == branch
    ]
    if not oids or not oid or oid in oids:
        return bool(oids)
    now = site.threads.of(oid)
    return now is not None and any(_start(site, other) == now.start for other in oids)


def _start(site: Site, oid: str) -> str:
    thread = site.threads.of(oid)
    return thread.start if thread is not None else ""


def _is_of_earlier_task(site: Site, thread: Thread, oid: str) -> bool:
    """Was it started by a task that was on the branch of its parent before this one?"""
    child = site.threads.of(oid)
    if child is None or not site.repo.has_commit(child.start):
        return False
    parents = site.repo.commit(child.start).parents
    if not parents or not site.repo.has_commit(parents[0]):
        return False
    statement = site.read(site.repo.commit(parents[0]).message)
    if statement is None or statement.value("children") is None:
        return False
    return not site.repo.descends(parents[0], thread.start)


def named_children(repo: Repo, statement: Statement) -> list[tuple[str, str, str]]:
    """The children that a commit tells of: what of them it says, branch and oid.

    What it says may be a claim of whoever pushed it: a child is one that can be read here.
    """
    found = []
    for key in _TOLD:
        for place in statement.values(key):
            branch, _, oid = place.rpartition("@")
            if branch and _OID.fullmatch(oid) and repo.has_commit(oid):
                found.append((key, branch, oid))
    return found


# --- kin ---------------------------------------------------------------------------------------


def find_ancestors(site: Site, branch: str, parent: str) -> tuple[str, ...]:
    """The parent of a task, the parent of that, and so on, up to the first or to one twice."""
    found: list[str] = []
    while parent and parent not in found:
        found.append(parent)
        if parent == branch:
            break
        tip = site.scan.tip(HEADS + parent)
        parent = tip.parent if tip is not None else ""
    return tuple(found)


def find_descendants(site: Site, branch: str) -> Iterator[str]:
    """The refs of all tasks that come of one, each once."""
    seen = {HEADS + branch}
    pending = [HEADS + branch]
    while pending:
        for ref in sorted(site.scan.children(pending.pop()) - seen):
            seen.add(ref)
            pending.append(ref)
            yield ref


def _kin(site: Site, event: Event, limits: ChildLimits, thread: Thread) -> Kin:
    ancestors = find_ancestors(site, event.branch, thread.parent)
    # What has begun was counted when it did.
    if thread.start != event.origin or event.branch in ancestors:
        return Kin(event.branch, ancestors)
    mine = (thread.began, thread.start)
    siblings = site.scan.children(HEADS + thread.parent)
    root = ancestors[-1]
    # Of a family that is small enough no more has to be known, and nearly all are.
    few = sum(1 for _ in islice(find_descendants(site, root), limits.total + 1)) <= limits.total
    return Kin(
        event.branch,
        ancestors,
        -1 if len(siblings) <= limits.each else _before(site, mine, siblings),
        -1 if few else _before(site, mine, find_descendants(site, root)),
    )


def _before(site: Site, mine: tuple[int, str], refs: Iterable[str]) -> int:
    others = []
    for ref in refs:
        tip = site.scan.tip(ref)
        thread = site.threads.of(tip.oid) if tip is not None else None
        if thread is not None:
            others.append((thread.began, thread.start))
    return kinship.before(mine, others)
