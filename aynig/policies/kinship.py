"""How far tasks may multiply (`children:` of the workflow), and what the end of a parent means.

What a script starts is refused whole where it would be too much, with the run. A child that comes
by hand, as a commit that names its parent, is held where it comes on top of what is allowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aynig.model import HEADS, Field, Hold, Step
from aynig.policies.joining import shown
from aynig.text import counted, escape
from aynig.workflow import ChildLimits


@dataclass(frozen=True, slots=True)
class Kin:
    """Where a task stands among its own."""

    branch: str
    # Its parent, the parent of that, and so on; as far as the branches are there. Where it is its
    # own ancestor, up to and with itself.
    ancestors: tuple[str, ...]
    # How many children of its parent, and how many tasks that come of the first of its ancestors,
    # go before it; -1 where nobody has to ask, because they are few or it has begun.
    siblings_before: int = -1
    relatives_before: int = -1


def judge(kin: Kin, limits: ChildLimits) -> Hold | None:
    """May a child run, as far as its kin goes?"""
    if not kin.ancestors:
        return None
    on = frozenset(HEADS + branch for branch in kin.ancestors)
    parent = escape(kin.ancestors[0])
    if kin.branch in kin.ancestors:
        # Each waits for the next one's end, or cancels it.
        way = " -> ".join(escape(branch) for branch in (kin.branch, *kin.ancestors))
        return Hold("blocked", f"it is its own ancestor: {way}", on=on)
    depth = len(kin.ancestors)
    if depth > limits.depth:
        way = shown(map(escape, kin.ancestors))
        return Hold(
            "blocked", f"a child at depth {depth}, the limit is {limits.depth}: {way}", on=on
        )
    if kin.siblings_before >= limits.each:
        return Hold(
            "blocked",
            f"{parent} has {kin.siblings_before} children before it, the limit is {limits.each}",
        )
    if kin.relatives_before >= limits.total:
        root = escape(kin.ancestors[-1])
        return Hold(
            "blocked",
            f"{kin.relatives_before} tasks that come of {root} go before it, "
            f"the limit is {limits.total}",
        )
    return None


def refusal(
    asked: int, limits: ChildLimits, *, depth: int, siblings: int, relatives: int, room: int
) -> str:
    """Why a task may not start so many children; empty where it may.

    `depth` is that of the task itself, `siblings` and `relatives` count what is there: its own
    children, and all that comes of the first of its ancestors. `room` is how many an answer can
    name.
    """
    what = f"asked for {counted(asked, 'child', 'children')}".replace(str(asked), f"{asked:,}", 1)
    if depth + 1 > limits.depth:
        return f"{what} at depth {depth + 1}, the limit is {limits.depth}"
    if siblings + asked > limits.each:
        there = f", {siblings} are there" if siblings else ""
        return f"{what}, the limit is {limits.each}{there}"
    if relatives + asked > limits.total:
        there = f", {relatives} are there" if relatives else ""
        return f"{what}, the limit of all that come of one task is {limits.total}{there}"
    if asked > room:
        return f"{what}, an answer has room for {room}"
    return ""


def canceled_with(
    parent: str, oid: str, origin: str, told: frozenset[str], words: str
) -> Step | None:
    """The end of a child whose parent is canceled; `oid` is the parent's tip, `origin` the child's.

    `words` say by whom the parent was, and why. A person who takes the child up again afterwards is
    obeyed: it is canceled once for each time that the parent is.
    """
    place = f"{parent}@{oid}"
    if place in told:
        return None
    return Step(
        kind="parent-canceled",
        state="canceled",
        subject=f"its parent {escape(parent)} was canceled",
        body=escape(words),
        fields=(Field("cancels", origin), Field("canceled-by", place)),
    )


def proposed(parent: str, approved: bool | None, origin: str) -> Hold | Step | None:
    """May a child run that the parent has started by an answer that people have to approve?

    `approved` is None where nobody has decided yet.
    """
    if approved is None:
        detail = f"for people to approve the answer of {escape(parent)} that started it"
        return Hold("proposed", detail, on=frozenset({HEADS + parent}))
    if approved:
        return None
    return Step(
        kind="parent-rejected",
        state="canceled",
        subject=f"the answer of {escape(parent)} that started it was rejected",
        fields=(Field("cancels", origin),),
    )


def before(mine: tuple[int, str], others: Sequence[tuple[int, str]]) -> int:
    """How many go before a task, by when they began."""
    return sum(other < mine for other in others)
