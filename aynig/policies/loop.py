"""Does a loop go on? (`loop` of a state: the same prompt again until a promise is kept)

An iteration counts as good when its run succeeded and its checks passed. Only a good one can keep a
promise, so an agent that says it is done and is not goes on.
"""

from __future__ import annotations

from dataclasses import dataclass

from aynig.text import counted
from aynig.workflow import Loop

KEPT = "kept"
AGAIN = "again"
LIMIT = "limit"


@dataclass(frozen=True, slots=True)
class Iteration:
    """How an iteration ended. `number` counts from 1, those that were reset included."""

    number: int
    good: bool
    # Was the exact promise in the answer?
    promised: bool = False
    # Are all items of the plan checked? False without a plan.
    all_checked: bool = False
    # Of so many items that people have put on the plan, so many are gone.
    given: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class LoopVerdict:
    """`word` is KEPT, AGAIN or LIMIT; `detail` a clause for people."""

    word: str
    detail: str


def judge(loop: Loop, iteration: Iteration) -> LoopVerdict:
    """The verdict after an iteration. A promise on the last allowed one counts."""
    if iteration.good and _is_kept(loop, iteration):
        return LoopVerdict(KEPT, _why_kept(loop, iteration))
    broken = "; it promised, and its checks failed" if _is_broken(loop, iteration) else ""
    why = broken + _lost(iteration)
    if iteration.number >= loop.limit:
        return LoopVerdict(LIMIT, f"{iteration.number} of {loop.limit} iterations{why}")
    return LoopVerdict(AGAIN, f"iteration {iteration.number} of {loop.limit}{why}")


def _lost(iteration: Iteration) -> str:
    """Why a plan is not done of which all that is left is checked."""
    if not iteration.lost:
        return ""
    return f"; its plan has lost {iteration.lost} of {counted(iteration.given, 'item')}"


def _is_kept(loop: Loop, iteration: Iteration) -> bool:
    if loop.promise is None and loop.plan is None:
        # Nothing but the checks decides.
        return True
    return (loop.promise is not None and iteration.promised) or iteration.all_checked


def _is_broken(loop: Loop, iteration: Iteration) -> bool:
    return loop.promise is not None and iteration.promised and not iteration.good


def _why_kept(loop: Loop, iteration: Iteration) -> str:
    number = f"iteration {iteration.number} of {loop.limit}"
    if loop.promise is not None and iteration.promised:
        return f"{number}: {loop.promise}"
    return f"{number}: all items are checked" if iteration.all_checked else f"{number}: it is good"
