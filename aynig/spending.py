"""Looks up what was spent where a limit counts, before a run and while it lasts.

What runs in progress have spent is in their leases, so all runners count it; what is in an answer
is counted there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from aynig.dialects import Skim
from aynig.errors import RepositoryError
from aynig.git.repo import Repo
from aynig.lease import read_lease
from aynig.ledger import Entry, Ledger, Spends
from aynig.limits import limits_of
from aynig.model import Deferral, Event, Gate, Hold, Lease, Plan, Statement
from aynig.policies import budget
from aynig.policies.budget import BudgetVerdict, Left, Scope
from aynig.policies.resources import place_of
from aynig.text import operand
from aynig.usage import NOTHING, Usage, read_usage
from aynig.workflow import Limits, StateSettings, Workflow

# How often it is looked what others have spent beside a run, in seconds.
_AGAIN = 5.0
ReadSkim = Callable[[bytes], Skim | None]


def spends_of_leases(repo: Repo, skim: ReadSkim) -> Spends:
    """What a lease ref says was spent at its commit; None where it says nothing."""

    def spends(ref: str, oid: str) -> Entry | None:
        found = read_lease(repo, ref, oid)
        if not isinstance(found, Lease | Deferral) or not (found.spent or found.attempt):
            return None
        try:
            said = skim(repo.message(found.trigger)[1])
            written, _ = repo.message(oid)
        except RepositoryError:
            return None
        usage, _ = read_usage(found.spent)
        return Entry(
            oid=oid,
            answers=found.trigger,
            task="",
            state=said.state if said is not None else "",
            to_state="",
            agent=found.charged,
            time=written,
            usage=usage,
            calls=max(usage.calls or 0, found.attempt),
        )

    return spends


def limits_of_spending(
    workflow: Workflow, settings: StateSettings, statement: Statement
) -> list[tuple[str, str, Limits]]:
    """Of the limits that count, those for which it has to be known what was spent."""
    found = limits_of(workflow, settings, statement)
    return [each for each in found if replace(each[2], concurrent=None) != Limits()]


def hold_of(
    ledger: Ledger,
    event: Event,
    limits: list[tuple[str, str, Limits]],
    now: float,
    *,
    afresh: bool = False,
) -> Hold | None:
    """Why a task may not start; asks nothing of the ledger where nothing is limited.

    `afresh`: also what others have written a moment ago.
    """
    if not limits:
        return None
    verdict = judge(ledger, limits, event.origin, now, afresh=afresh)
    if not verdict.word:
        return None
    more = f"; `aynig resume {operand(event.branch)}` lets it go on" if verdict.forgivable else ""
    return Hold(verdict.word, verdict.detail + more, verdict.until)


def judge(
    ledger: Ledger,
    limits: list[tuple[str, str, Limits]],
    tip: str,
    now: float,
    *,
    afresh: bool = False,
) -> BudgetVerdict:
    """May a task at `tip` start, as far as what was spent goes?"""
    return budget.judge(_scopes(ledger, limits, tip, now, afresh=afresh), now)


def gates_of(repo: Repo, limits: list[tuple[str, str, Limits]]) -> tuple[Gate, ...]:
    """The refs that every start within a rate moves, as they are now.

    Of two that have counted the same calls, only one can move them.
    """
    names = [
        f"{place_of(f'calls of {kind}', name, 1).name}-calls"
        for kind, name, said in limits
        if said.calls_per_hour is not None
    ]
    return tuple(Gate(name, repo.read_ref(name)) for name in sorted(names))


def _scopes(
    ledger: Ledger,
    limits: list[tuple[str, str, Limits]],
    tip: str,
    now: float,
    but: str = "",
    *,
    afresh: bool = False,
) -> list[Scope]:
    ledger.refresh(afresh=afresh)
    return [ledger.scope(kind, name, said, tip, now, but) for kind, name, said in limits]


class Allowance:
    """What one run may spend. Called with what it has spent so far, from the thread of the run."""

    def __init__(
        self, ledger: Ledger, plan: Plan, lease: str, now: Callable[[], float] = time.time
    ) -> None:
        """`lease` is the lease ref of the run: what that says is its own."""
        self._ledger = ledger
        self._limits = limits_of_spending(plan.workflow, plan.settings, plan.event.statement)
        self._tip = plan.event.origin
        self._before, _ = read_usage(plan.spent)
        self._lease = lease
        self._now = now
        self._left = Left()
        self._next = 0.0

    def __call__(self, usage: Usage) -> str:
        """Why the run has to be stopped; empty where it is within."""
        if not self._limits or usage == NOTHING:
            return ""
        now = self._now()
        if now >= self._next:
            self._next = now + _AGAIN
            scopes = _scopes(self._ledger, self._limits, self._tip, now, self._lease)
            self._left = budget.left(scopes, now)
        return budget.exceeded(self._left, self._before + usage)

    def completed(self, usage: Usage) -> Usage:
        """What a run has spent that is over, with a word of what it should have said of it."""
        said = [limits for _, _, limits in self._limits]
        if usage.cost_usd is None and any(
            each.cost_usd_per_task is not None or each.cost_usd_per_day is not None for each in said
        ):
            usage = replace(usage, unknown=True)
        told_tokens = usage.tokens_in is not None or usage.tokens_out is not None
        if not told_tokens and any(
            each.tokens_per_task is not None or each.tokens_per_day is not None for each in said
        ):
            usage = replace(usage, tokens_unknown=True)
        return usage
