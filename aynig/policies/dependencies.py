"""May a task start, as far as the tasks it depends on go? (`aynig: depends-on: <oid or branch>`)

A task is held until each dependency has ended in success. One that ended otherwise blocks it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from aynig.text import escape

_OID = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Dependency:
    """What is known of one `depends-on`: the states at the tips of the branches that hold it.

    `states` is empty where nothing of that name exists.
    """

    name: str
    states: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DependencyVerdict:
    """`word` is empty where the task may start, else the word of the hold."""

    word: str = ""
    detail: str = ""


def judge(dependencies: Sequence[Dependency]) -> DependencyVerdict:
    """One branch that ended in `done` is enough for an oid that several branches contain."""
    open_ones = [each for each in dependencies if "done" not in each.states]
    if not open_ones:
        return DependencyVerdict()
    for each in open_ones:
        if each.states and set(each.states) <= {"failed", "canceled"}:
            return DependencyVerdict("blocked", f"{_shown(each)} ended as {each.states[0]}")
    missing = [each for each in open_ones if not each.states]
    if missing:
        return DependencyVerdict("waiting", f"for {_shown(missing[0])}, which is on no branch here")
    names = ", ".join(_shown(each) for each in open_ones)
    return DependencyVerdict("waiting", f"for {names} to be done")


def _shown(dependency: Dependency) -> str:
    name = dependency.name
    return name[:12] if _OID.fullmatch(name) else escape(name)
