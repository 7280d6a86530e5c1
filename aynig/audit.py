"""Looks through a task for what was verified, and holds it against what judges published."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from aynig.commitments import read_commitments
from aynig.errors import RepositoryError, UserError
from aynig.model import HEADS, Statement
from aynig.policies.commitment import AuditVerdict, Claim, Published, judge
from aynig.site import Site
from aynig.text import quote

# Where a commit that begins work names the hash of the scenarios, and where an answer does.
NAMED_BY_PEOPLE = "commitment"
NAMED_BY_ANSWERS = "judged-by"


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One verified answer."""

    oid: str
    state: str
    # The commit that the work began with.
    trigger: str
    claim: Claim
    verdict: AuditVerdict


@dataclass(frozen=True, slots=True)
class _Step:
    """A state commit of a task that counts, and when it was made."""

    oid: str
    time: int
    statement: Statement


def audit(site: Site, branch: str) -> list[AuditRow]:
    """The verified answers of a task, the first one first.

    Raises UserError where there is no such branch, Unreachable or Refused for a remote.
    """
    tip = site.repo.read_ref(HEADS + branch)
    if tip is None:
        raise UserError(f"there is no branch {quote(branch)}", hint="See `aynig status`.")
    published = _published(site)
    rows = []
    named: set[str] = set()
    steps = {step.oid: step for step in _steps(site, tip)}
    for step in reversed(steps.values()):
        said = step.statement
        trigger = steps.get(said.value("answers") or "")
        if said.value("verified") is not None and trigger is not None:
            claim = Claim(
                score=said.value("verified") or "",
                judged_by=tuple(dict.fromkeys(said.values(NAMED_BY_ANSWERS))),
                started=trigger.time,
                named=frozenset(named),
            )
            verdict = judge(claim, published)
            rows.append(AuditRow(step.oid, said.state, trigger.oid, claim, verdict))
        # Only after it: an answer does not say of itself what was known before.
        named.update(said.values(NAMED_BY_ANSWERS), said.values(NAMED_BY_PEOPLE))
    return rows


def _published(site: Site) -> dict[str, Published]:
    """What is known of each hash: when it was there first, and whatever record reveals it."""
    found: dict[str, Published] = {}
    for record in read_commitments(site):
        known, new = found.get(record.digest), record.published
        if known is not None:
            revealed = new if new.nonce else known
            new = replace(revealed, time=min(known.time, new.time))
        found[record.digest] = new
    return found


def _steps(site: Site, tip: str) -> Iterator[_Step]:
    """The state commits of a task, the youngest first.

    From an answer on to what it answers: what a worker has committed in between says nothing here.
    """
    repo, following = site.repo, tip
    while following:
        try:
            info = repo.commit(following)
        except RepositoryError:
            # Here a shallow clone ends.
            return
        statement = site.read(info.message)
        following = info.parents[0] if info.parents else ""
        if statement is None:
            continue
        yield _Step(info.oid, info.time, statement)
        answered = statement.value("answers") or ""
        if answered and answered != info.oid and repo.descends(info.oid, answered):
            following = answered
