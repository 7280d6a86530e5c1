"""May a task start, as far as the tasks it depends on go? (`aynig: depends-on: <oid or branch>`)

A task is held until each dependency has ended in success. What one that ended otherwise does to it
is `on-dependency-failure` of its state: `wait` blocks it, `fail` ends it, `run` starts it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aynig.cycles import shown
from aynig.model import Field, Hold, Step, branch_of
from aynig.text import escape

FAIL, WAIT, RUN = "fail", "wait", "run"

_OID = re.compile(r"[0-9a-f]{40}")
_BADLY = frozenset({"failed", "canceled"})


@dataclass(frozen=True, slots=True)
class Dependency:
    """What is known of one `depends-on`.

    `states` are those at the tips of the branches that hold it, `done` among them where it is done;
    empty where nothing of that name exists. `on` is what may change that: full refs of branches,
    commits on which a branch may come to lie, `REMOTE:BRANCH`; None where that is not known.
    """

    name: str
    states: tuple[str, ...]
    on: frozenset[str] | None = None

    @property
    def is_done(self) -> bool:
        """One branch that ended in `done` is enough for an oid that several branches contain."""
        return "done" in self.states

    @property
    def ended_badly(self) -> bool:
        return bool(self.states) and set(self.states) <= _BADLY


def waited_for(dependencies: Iterable[Dependency], on_failure: str) -> list[Dependency]:
    """Those that a task does not start without."""
    return [
        each
        for each in dependencies
        if not each.is_done and not (on_failure == RUN and each.ended_badly)
    ]


def judge(
    open_ones: Sequence[Dependency], on_failure: str, cycle: Sequence[str] = (), ref: str = ""
) -> Hold | Step | None:
    """What becomes of the task at `ref`, which waits for `open_ones`; None where it may start.

    `cycle` are the refs of a circle that it waits in, which begins with it, or that it waits for.
    """
    if not open_ones:
        return None
    failed = next((each for each in open_ones if each.ended_badly), None)
    if failed is not None and on_failure == FAIL:
        name = _shown(failed)
        return Step(
            "dependency",
            "failed",
            f"{name} ended as {failed.states[0]}",
            f"It depends on {name}, which ended as {failed.states[0]}.",
            (Field("blocked-by", failed.name),),
        )
    on = _changes(open_ones)
    if failed is not None:
        return Hold("blocked", f"{_shown(failed)} ended as {failed.states[0]}", on=on)
    if cycle:
        who = "" if cycle[0] == ref else f"{escape(branch_of(cycle[0]))} "
        return Hold("blocked", who + in_words([branch_of(each) for each in cycle]), on=on)
    missing = [each for each in open_ones if not each.states]
    if missing:
        return Hold("waiting", f"for {_shown(missing[0])}, which is on no branch here", on=on)
    names = ", ".join(_shown(each) for each in open_ones)
    return Hold("waiting", f"for {names} to be done", on=on)


def in_words(cycle: Sequence[str]) -> str:
    """`waits for itself: a -> b -> a`, of names."""
    return f"waits for itself: {shown(cycle)}"


def _changes(open_ones: Iterable[Dependency]) -> frozenset[str] | None:
    """What may end the wait: of any one of those that are waited for, since which is last?"""
    found: set[str] = set()
    for each in open_ones:
        if each.on is None:
            return None
        found |= each.on
    return frozenset(found)


def _shown(dependency: Dependency) -> str:
    name = dependency.name
    return name[:12] if _OID.fullmatch(name) else escape(name)
