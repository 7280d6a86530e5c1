"""What only people may write: replies to a request, and the states that the workflow names."""

from __future__ import annotations

from collections.abc import Container

from aynig.model import AWAITING
from aynig.thread import REPLIES


def is_peoples(state: str, people_only: Container[str], *, after: str) -> bool:
    """May only people write this state on top of a commit with the state `after`?"""
    return state in people_only or (state in REPLIES and after in AWAITING)


def fault(state: str | None, people_only: Container[str], *, after: str) -> str:
    """What is wrong with a script's answer, as a clause; empty where it may say so."""
    if state is None or not is_peoples(state, people_only, after=after):
        return ""
    return f"it wrote `{state}`, which only people may write"
