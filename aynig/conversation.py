"""What a state has asked people so far, and what they answered: told to the script again.

Each run is a fresh process, and its words are the last answer alone.
"""

from __future__ import annotations

from typing import Any

from aynig.approvals import author_of, reply_words
from aynig.model import AWAITING_ANSWER
from aynig.site import Site
from aynig.thread import Told

_MOST_ROUNDS = 1000


def conversation(site: Site, oid: str) -> dict[str, Any] | None:
    """The task and the rounds since, oldest first; None where nothing was asked."""
    rounds: list[dict[str, str]] = []
    told = site.threads.told(oid)
    for _ in range(_MOST_ROUNDS):
        found = exchange(site, told) if told is not None else None
        if found is None:
            break
        told, said = found
        rounds.append(said)
    if not rounds or told is None:
        return None
    task = told.statement
    rounds.reverse()
    return {
        "task": {"oid": told.oid, "subject": task.subject, "body": task.body},
        "rounds": rounds,
    }


def exchange(site: Site, told: Told) -> tuple[Told, dict[str, str]] | None:
    """Who asked, and the question with its answer, where a commit goes on after one."""
    reply = site.threads.answered(told.oid) if told.statement.value("step") else None
    question = site.threads.told(reply.parent) if reply is not None and reply.parent else None
    if reply is None or question is None or question.statement.state != AWAITING_ANSWER:
        return None
    asking = site.threads.answered(question.oid)
    if asking is None:
        return None
    return asking, {
        "question": question.statement.value("question") or "",
        "answer": reply_words(reply.statement),
        "by": author_of(site, reply.oid),
    }
