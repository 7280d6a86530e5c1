"""When a task decides again about its children (`on-child:` of a state): after each that has ended.

One step for each, in the order in which they ended. Those that end while its script decides are
told afterwards.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from aynig.model import Field, Hold, Step
from aynig.policies.joining import Child, waiting
from aynig.text import counted, escape


def judge(state: str, children: Sequence[Child], told: Collection[str]) -> Hold | Step:
    """The next child that its script is told of, in `state`; else what is waited for.

    `children` are those of this round, `told` the places of those that were told of.
    """
    news = next_to_tell(children, told)
    if news is not None:
        return Step(
            kind="on-child",
            state=state,
            subject=f"{escape(news.branch)} {news.state}",
            fields=(Field("child", news.place), Field("child-state", news.state)),
            succeeded=True,
        )
    pending = [child for child in children if not child.ended]
    if pending:
        return waiting(sorted(pending, key=lambda child: child.branch), len(children))
    if not children:
        return Hold("blocked", "no children were started, so there is none to wait for")
    ended = counted(len(children), "child", "children")
    return Hold("blocked", f"it was told of the end of its {ended}, and goes on waiting")


def next_to_tell(children: Sequence[Child], told: Collection[str]) -> Child | None:
    """Of the children that have ended and were not told of, the first one that did."""
    news = [c for c in children if c.ended and not c.gone and c.place not in told]
    return min(news, key=lambda child: (child.time, child.branch), default=None)
