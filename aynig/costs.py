"""The read model of costs: what was spent, a row a task, branch, state, agent or day."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from aynig.git.history import Read, last_state_commit
from aynig.git.repo import Repo
from aynig.ledger import Entry, Ledger
from aynig.model import HEADS, branch_of

TASK, BRANCH, STATE, AGENT, DAY = "task", "branch", "state", "agent", "day"
KINDS = (TASK, BRANCH, STATE, AGENT, DAY)
# Their names are oids, and branches are known by them.
OF_BRANCHES = frozenset({TASK, BRANCH})


@dataclass(frozen=True, slots=True)
class CostRow:
    """What several answers have spent.

    `name` is the oid of a task's first commit (of a child's, where it is a row a branch), a state,
    an agent (empty: none was named) or a day (`2026-01-31`). `branch` is set for a task that a
    branch still leads to by itself.
    """

    name: str
    answers: int
    # Of so many runs, which no answer tells of, leases say what they have spent.
    unanswered: int
    cost_usd: Decimal
    tokens_in: int
    tokens_out: int
    calls: int
    # Of so many answers nobody knows the cost.
    unknown: int
    branch: str = ""


def rows_by(kind: str, entries: Iterable[Entry], branches: Mapping[str, str]) -> list[CostRow]:
    """A row for each name, tasks, branches and days in the order of time, others by name.

    `branches` has the branch of each first commit that has one.
    """
    groups: dict[str, list[Entry]] = {}
    if kind == BRANCH:
        entries = _by_family(entries)
    for entry in entries:
        groups.setdefault(_NAME[kind](entry), []).append(entry)
    rows = [_row(name, group, branches.get(name, "")) for name, group in groups.items()]
    return rows if kind in (*OF_BRANCHES, DAY) else sorted(rows, key=lambda row: row.name)


def _by_family(entries: Iterable[Entry]) -> list[Entry]:
    """Each family's own after the other, and what came of a task after it."""
    found = list(entries)
    place = {entry.task: number for number, entry in reversed(list(enumerate(found)))}
    return sorted(found, key=lambda entry: (place[entry.task], entry.thread != entry.task))


def entries_of(
    repo: Repo, ledger: Ledger, tip: str | None, since: int | None, read: Read
) -> list[Entry]:
    """What is counted since a time: all of it, or of the last task of a branch at `tip`, with its
    parents and children."""
    start = -math.inf if since is None else since
    if tip is None:
        return ledger.entries(start)
    last = last_state_commit(repo, tip, read)
    entries = ledger.entries_of_task(last[0].oid) if last is not None else []
    return [entry for entry in entries if entry.time >= start]


def total_of(rows: Iterable[CostRow]) -> CostRow:
    """All rows in one."""
    rows = list(rows)
    return CostRow(
        name="total",
        answers=sum(row.answers for row in rows),
        unanswered=sum(row.unanswered for row in rows),
        cost_usd=sum((row.cost_usd for row in rows), Decimal(0)),
        tokens_in=sum(row.tokens_in for row in rows),
        tokens_out=sum(row.tokens_out for row in rows),
        calls=sum(row.calls for row in rows),
        unknown=sum(row.unknown for row in rows),
    )


def branches_of_tasks(repo: Repo, ledger: Ledger) -> dict[str, str]:
    """The branch of each task, also of children, by the oid of its first commit.

    First comes what each branch is at, then what lies below that; of several branches that share a
    task, the first by name counts. The default branch is looked at first: all others begin on it.
    """
    default = repo.head_ref()
    tips = sorted(repo.refs_below(HEADS).items(), key=lambda tip: (tip[0] != default, tip[0]))
    found: dict[str, str] = {}
    for ref, oid in tips:
        found.setdefault(ledger.thread_of(oid), branch_of(ref))
    seen: set[str] = set()
    for ref, oid in tips:
        for task in ledger.threads_on_line(oid, seen):
            found.setdefault(task, branch_of(ref))
    return found


_NAME: Mapping[str, Callable[[Entry], str]] = {
    TASK: lambda entry: entry.task,
    BRANCH: lambda entry: entry.thread,
    STATE: lambda entry: entry.state,
    AGENT: lambda entry: entry.agent,
    DAY: lambda entry: entry.day.isoformat(),
}


def _row(name: str, entries: list[Entry], branch: str) -> CostRow:
    usages = [entry.usage for entry in entries]
    return CostRow(
        name=name,
        answers=sum(entry.answered for entry in entries),
        unanswered=sum(not entry.answered for entry in entries),
        cost_usd=sum((usage.cost for usage in usages), Decimal(0)),
        tokens_in=sum(usage.tokens_in or 0 for usage in usages),
        tokens_out=sum(usage.tokens_out or 0 for usage in usages),
        calls=sum(entry.calls for entry in entries),
        unknown=sum(usage.unknown for usage in usages),
        branch=branch,
    )
