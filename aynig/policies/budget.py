"""May a task start, as far as money, tokens and calls go? (`limits:` of states, agents, all)

Each limit counts for a scope: a state, an agent, the repository. Where a cost is limited and what
was spent can't be known, nothing starts: an amount that nobody knows may be any.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from aynig.text import escape
from aynig.usage import Spent, Usage, format_cost
from aynig.workflow import Limits

WORD = "over-budget"
# Of calls there are more within the hour.
RATE_WORD = "waiting"

_DAY = 86_400
_HOUR = 3600
_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Scope:
    """The limits of one scope, and what was spent in it.

    `task` is what the task in question has spent there, with all that it came of and that came of
    it, `day` all tasks since midnight (UTC); `calls` are those of the last hour, of which the first
    was at `oldest`.
    """

    # As a sentence names it: `the state build`.
    name: str
    limits: Limits
    task: Spent = field(default=Spent())
    day: Spent = field(default=Spent())
    calls: int = 0
    oldest: float | None = None
    # Have several branches of one family had a part in `task`?
    shared: bool = False


@dataclass(frozen=True, slots=True)
class BudgetVerdict:
    """`word` is empty where the task may start, else the word of the hold.

    `until` is when it may be different, in seconds since the epoch; None: a person has to act.
    """

    word: str = ""
    detail: str = ""
    until: float | None = None
    # Is it only that nobody knows what this task has spent, so that a person's word is enough?
    forgivable: bool = False


@dataclass(frozen=True, slots=True)
class Amount:
    """How much is left, and by which limit of which scope."""

    left: Decimal
    limit: str


@dataclass(frozen=True, slots=True)
class Left:
    """The least that any limit leaves for one run; None where nothing limits it."""

    cost_usd: Amount | None = None
    tokens: Amount | None = None
    calls: Amount | None = None


@dataclass(frozen=True, slots=True)
class _Bound:
    """One limit as it stands."""

    # What is limited: `cost`, `tokens` or `calls`.
    what: str
    key: str
    scope: str
    # In words: `on this task`.
    where: str
    limit: Decimal
    spent: Decimal
    until: float | None
    # The oid of an answer whose cost, or whose tokens, nobody knows.
    unknown: str = ""

    @property
    def left(self) -> Decimal:
        return max(self.limit - self.spent, Decimal(0))

    @property
    def label(self) -> str:
        return f"{self.key} of {self.scope}"


def judge(scopes: Sequence[Scope], now: float) -> BudgetVerdict:
    """Of several limits that are reached, the one is named that holds the task for longest."""
    reached = [
        bound for bound in _bounds(scopes, now) if bound.unknown or bound.spent >= bound.limit
    ]
    if not reached:
        return BudgetVerdict()
    first = max(reached, key=lambda bound: (bound.until is None, bound.until or 0.0))
    word = RATE_WORD if first.what == "calls" and first.until is not None else WORD
    forgivable = bool(first.unknown) and first.until is None
    return BudgetVerdict(word, _sentence(first), first.until, forgivable)


def left(scopes: Sequence[Scope], now: float) -> Left:
    """The smallest amounts that are left for a run about to start."""
    bounds = list(_bounds(scopes, now))
    return Left(*(_least(bounds, what) for what in ("cost", "tokens", "calls")))


def exceeded(remaining: Left, usage: Usage) -> str:
    """Why a run that has reported this so far has to be stopped; empty where it is within.

    A run that can't tell what it costs is not within any cost.
    """
    cost, tokens, calls = remaining.cost_usd, remaining.tokens, remaining.calls
    if cost is not None and usage.unknown:
        return f"it can't tell what it costs, and {cost.limit} leaves ${format_cost(cost.left)}"
    if cost is not None and usage.cost > cost.left:
        spent, rest = format_cost(usage.cost), format_cost(cost.left)
        return f"it has spent ${spent}, and {cost.limit} leaves ${rest}"
    if tokens is not None and usage.tokens_unknown:
        return f"it can't tell how many tokens it uses, and {tokens.limit} leaves {tokens.left}"
    if tokens is not None and usage.tokens > tokens.left:
        return f"it has used {usage.tokens} tokens, and {tokens.limit} leaves {tokens.left}"
    if calls is not None and (usage.calls or 0) > calls.left:
        return f"it has made {usage.calls} calls, and {calls.limit} leaves {calls.left}"
    return ""


def _bounds(scopes: Sequence[Scope], now: float) -> Iterable[_Bound]:
    tomorrow = float((int(now // _DAY) + 1) * _DAY)
    for scope in scopes:
        limits, name = scope.limits, escape(scope.name)
        task = "on this task with its parents and children" if scope.shared else "on this task"
        for key, limit, spent, where, until in (
            ("cost-usd-per-task", limits.cost_usd_per_task, scope.task, task, None),
            ("cost-usd-per-day", limits.cost_usd_per_day, scope.day, "today (UTC)", tomorrow),
        ):
            if limit is not None:
                cost = spent.usage.cost
                unknown = spent.unknown
                yield _Bound("cost", key, name, where, limit, cost, until, unknown)
        for key, most, used, where, until in (
            ("tokens-per-task", limits.tokens_per_task, scope.task, task, None),
            ("tokens-per-day", limits.tokens_per_day, scope.day, "today (UTC)", tomorrow),
        ):
            if most is not None:
                tokens = Decimal(used.usage.tokens)
                unknown = used.unknown_tokens
                yield _Bound("tokens", key, name, where, Decimal(most), tokens, until, unknown)
        if limits.calls_per_hour is not None:
            # Without a call in the hour only a limit of 0 is reached, which no time ends.
            over = scope.oldest + _HOUR if scope.oldest is not None else None
            yield _Bound(
                "calls",
                "calls-per-hour",
                name,
                "in the last hour",
                Decimal(limits.calls_per_hour),
                Decimal(scope.calls),
                over,
            )


def _sentence(bound: _Bound) -> str:
    if bound.unknown:
        answer = bound.unknown[:_SHOWN]
        if bound.what == "tokens":
            told = f"how many tokens the answer {answer} has used"
            return f"nobody knows {told} {bound.where}, and {bound.label} is {bound.limit}"
        return (
            f"nobody knows what the answer {answer} has cost {bound.where}, and "
            f"{bound.label} is ${format_cost(bound.limit)}"
        )
    if bound.what == "cost":
        spent, limit = f"${format_cost(bound.spent)}", f"${format_cost(bound.limit)}"
    else:
        spent, limit = f"{bound.spent} {bound.what}", f"{bound.limit}"
    return f"{bound.scope} has spent {spent} {bound.where}, and {bound.key} is {limit}"


def _least(bounds: Iterable[_Bound], what: str) -> Amount | None:
    fitting = [bound for bound in bounds if bound.what == what]
    if not fitting:
        return None
    least = min(fitting, key=lambda bound: bound.left)
    return Amount(least.left, least.label)
