"""When a task goes on that waits for its children, and with which of them (`join:` of a state).

It goes on as soon as enough of them are done. Only children that are done are used; whatever the
others come to afterwards is not waited for. Where enough can't be done any more, it goes the way of
a failure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from aynig.model import ENDED_STATES, HEADS, Field, Hold, Step
from aynig.policies.fallback import Way, fields_of
from aynig.text import counted, escape
from aynig.workflow import Join

DONE = "done"
# Where the file says nothing of files that can't be merged: a person decides.
CONFLICT_STATE = "stalled"
# Names and paths that are shown in one line; the others are counted.
_SHOWN = 8
# Paths in conflict that the answer names.
_PATHS = 40


@dataclass(frozen=True, slots=True)
class Child:
    """A child of a task as it is now."""

    branch: str
    # Empty where nobody knows it: the branch is gone, or about to come.
    oid: str
    # That of the tip; empty for one that a person has taken back.
    state: str
    gone: bool = False
    # Does the parent have its commits already, because somebody merged them by hand?
    merged: bool = False
    # The committer time of the tip.
    time: int = 0

    @property
    def place(self) -> str:
        """As fields name it: `branch@oid`; `branch@gone` where there is none."""
        return f"{self.branch}@{self.oid or 'gone'}"

    @property
    def ended(self) -> bool:
        return self.gone or self.state in ENDED_STATES


def judge(
    join: Join, children: Sequence[Child], way: Way, origin: str, *, supervised: bool = False
) -> Hold | Step:
    """The verdict on the children that count: those of this round, in any order.

    `way` is where the parent goes after too many failures, `origin` the commit that is answered.
    One that is `supervised` decides after each child, and may start more in the place of one that
    has failed: as long as one is under way, nothing is in vain.
    """
    children = sorted(children, key=lambda child: child.branch)
    if not children:
        return Hold("blocked", "no children were started, so there is nothing to join")
    done = [child for child in children if child.state == DONE]
    pending = [child for child in children if not child.ended]
    need = max(join.need.of(len(children)), 1)
    if len(done) >= need:
        return _joined(join, done, [child for child in children if child not in done])
    # More than there are may be asked for before all of them are there.
    hope = supervised or len(done) + len(pending) >= need or need > len(children)
    if pending and hope:
        return waiting(pending, len(children))
    return _in_vain(join, done, children, way, origin)


def waiting(pending: Sequence[Child], total: int) -> Hold:
    """`for 2 of 3 children: a, b`, until one of them changes."""
    of = f" of {total}" if len(pending) < total else ""
    noun = "child" if len(pending) == 1 and not of else "children"
    names = shown(escape(child.branch) for child in pending)
    return Hold(
        "waiting",
        f"for {len(pending)}{of} {noun}: {names}",
        on=frozenset(HEADS + child.branch for child in pending),
    )


def _joined(join: Join, done: Sequence[Child], others: Sequence[Child]) -> Step:
    tips = dict.fromkeys(child.oid for child in done if not child.merged)
    return Step(
        kind="join",
        state=join.then,
        subject=f"joins {_of(done, [*done, *others])}",
        body=_left_out(others),
        fields=(*_fields("joined", done), *_fields("left-out", others)),
        parents=tuple(tips),
        merge=join.merge,
        on_conflict=join.on_conflict or CONFLICT_STATE,
        succeeded=True,
    )


def _in_vain(
    join: Join, done: Sequence[Child], children: Sequence[Child], way: Way, origin: str
) -> Step:
    lost = [child for child in children if child.state != DONE and child.ended]
    told = shown(f"{escape(child.branch)} {_end(child)}" for child in lost)
    why = told or f"there are only {len(children)}"
    fields = [*_fields("left-out", children), *fields_of(way, origin)]
    return Step(
        kind="join",
        state=way.state,
        subject=f"{_of(done, children)} done, needs {join.need}: {why}",
        body="\n".join(f"{escape(child.branch)}: {_end(child)}" for child in lost),
        fields=tuple(fields),
    )


def _left_out(others: Sequence[Child]) -> str:
    lines = [f"{escape(child.branch)}: {_end(child)}" for child in others]
    return "\n".join(["Left out:", "", *lines]) if lines else ""


def _end(child: Child) -> str:
    if child.gone:
        return "gone"
    return child.state if child.ended else f"not done yet ({child.state or 'without a state'})"


def _of(some: Sequence[Child], children: Sequence[Child]) -> str:
    if len(some) == len(children):
        return counted(len(some), "child", "children")
    return f"{len(some)} of {counted(len(children), 'child', 'children')}"


def _fields(key: str, children: Iterable[Child]) -> list[Field]:
    return [Field(key, child.place) for child in children]


def shown(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    listed = list(names)
    more = len(listed) - _SHOWN
    return ", ".join(listed[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def after_conflict(step: Step, tip: str, paths: Sequence[str]) -> Step:
    """What is answered in the place of a join whose files can't be merged.

    Nothing of the children is taken then, so they may be joined later. `tip` is that of the first
    one that did not fit.
    """
    joined = [field.value for field in step.fields if field.key == "joined"]
    culprit = next((place for place in joined if place.endswith(f"@{tip}")), tip)
    named = [escape(path) for path in paths[:_PATHS]]
    more = len(paths) - len(named)
    listed = [*named, *([f"and {more} more"] if more > 0 else [])]
    return replace(
        step,
        state=step.on_conflict,
        subject=f"conflict in {shown(named)}" if more <= 0 else f"conflict in {len(paths)} files",
        body="\n".join(
            [f"{escape(culprit.rpartition('@')[0] or tip)} does not fit in:", "", *listed]
        ),
        fields=(
            *(field for field in step.fields if field.key not in ("joined", "left-out")),
            *(Field("unmerged", place) for place in joined),
            Field("conflict-with", culprit),
            Field("conflicts", str(len(paths))),
            *(Field("conflict", path) for path in named),
        ),
        parents=(),
        merge="none",
        succeeded=False,
    )
