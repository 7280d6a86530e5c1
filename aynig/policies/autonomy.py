"""Where a workflow stops for a person, beside the approvals of single states."""

from __future__ import annotations

from aynig.workflow import AUTONOMY

NEVER = AUTONOMY[-1]


def level(workflow: str | None, asked: str) -> str:
    """What counts for a task: the workflow's level, or a stricter one that the task asks for.

    `asked` is what people wrote: a word that is none is as good as no word.
    """
    levels = [word for word in (workflow or NEVER, asked) if word in AUTONOMY]
    return min(levels, key=AUTONOMY.index, default=NEVER)


def proposes(level: str, *, state: str, succeeded: bool, checkpoint: bool = False) -> bool:
    """Does an answer with this state wait for a person? Where one does, so it does at each
    stricter level.

    `checkpoint` is of the state that ran, or that has waited for children. What is `stuck` is a
    matter of `fallback`.
    """
    if level == "step":
        return True
    if level == "checkpoint" and checkpoint and succeeded:
        return True
    # Also where a failure leads there (`on-failure: done`): no task is done by itself.
    return level in ("checkpoint", "end") and state == "done"
