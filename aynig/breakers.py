"""What is looked up about the circuit breaker of a state: its failures, and who has closed it."""

from __future__ import annotations

import hashlib
import uuid

from aynig.account import STATE
from aynig.errors import RefMoved
from aynig.git.refs import RefEdit, Refs
from aynig.git.repo import Repo
from aynig.ledger import Ledger
from aynig.model import BREAKERS, Place
from aynig.policies.breaker import Run, is_probe
from aynig.policies.resources import place_of
from aynig.records import read_record, write_record, written
from aynig.text import escape
from aynig.workflow import Breaker

_SUBJECT = "aynig breaker of "
# Who else closes it at the same moment has done what was wanted.
_TRIES = 3


def breaker_ref(state: str) -> str:
    """The ref that says when a person has closed the breaker of a state."""
    return BREAKERS + hashlib.sha1(state.encode(), usedforsecurity=False).hexdigest()


def closed_at(repo: Repo, state: str) -> int:
    """When that was last, by the clock of whoever did it; 0 for never."""
    oid = repo.read_ref(breaker_ref(state))
    record = read_record(repo, oid, (_SUBJECT.encode(),)) if oid else None
    return record.time if record is not None and record.fields.get("kind") == "breaker" else 0


def close(repo: Repo, store: Refs, state: str, by: str) -> str:
    """Write that its failures until now count no more; the oid. Raises WaitUntil."""
    pairs = [
        ("kind", "breaker"),
        ("state", state),
        ("by", written(by)),
        ("nonce", uuid.uuid4().hex),
    ]
    oid = write_record(repo, f"{_SUBJECT}{state}", pairs)
    ref = breaker_ref(state)
    for left in reversed(range(_TRIES)):
        try:
            store.commit([RefEdit(ref, repo.read_ref(ref), oid)])
            break
        except RefMoved:
            if not left:
                raise
    return oid


def spent_breakers(repo: Repo, before: float) -> list[RefEdit]:
    """What deletes the refs of breakers that were closed before a time, and say nothing any more.

    Who closes one at this moment has changed its ref, and it stays.
    """
    found = []
    for ref, oid in repo.refs_below(BREAKERS).items():
        record = read_record(repo, oid, (_SUBJECT.encode(),))
        if record is not None and record.time < before:
            found.append(RefEdit(ref, oid, None))
    return found


def run_of(
    ledger: Ledger, repo: Repo, settings: Breaker, state: str, now: float, *, afresh: bool = False
) -> Run | None:
    """The failures of a state in a row; None where its breaker does not mind them."""
    if settings.failures is None:
        return None
    ledger.refresh(afresh=afresh)
    since = max(now - settings.within, closed_at(repo, state) + 1)
    found = ledger.last_failures(state, since, settings.failures)
    return Run(state, len(found), float(found[0][0]) if found else 0.0)


def probe_place(settings: Breaker, run: Run | None) -> Place | None:
    """What the one run needs that is let through to try; None where all are."""
    if run is None or not is_probe(settings, run):
        return None
    name = place_of(f"breaker of {STATE}", run.state, 1).name
    return Place(name, 1, f"the try of {escape(run.state)} after its failures", "breaker")
