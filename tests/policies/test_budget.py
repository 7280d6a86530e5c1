"""Nothing starts where a limit is reached, and a run that goes beyond what is left is told of."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aynig.policies.budget import Amount, BudgetVerdict, Left, Scope, exceeded, judge, left
from aynig.usage import Spent, Usage
from aynig.workflow import Limits

MIDNIGHT = 1_700_006_400
NOW = MIDNIGHT - 3000.0
COSTLY = Limits(cost_usd_per_task=Decimal(5), cost_usd_per_day=Decimal(50))
TOKENS = Limits(tokens_per_task=1000, tokens_per_day=9000)
ANSWER = "0123456789abcdef0123456789abcdef01234567"


def spent(cost: str = "0", tokens: int = 0, unknown: str = "") -> Spent:
    return Spent(Usage(Decimal(cost), tokens, unknown=bool(unknown)), unknown)


def scope(limits: Limits, name: str = "the state build", **facts: object) -> Scope:
    return replace(Scope(name, limits), **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "within",
    [
        scope(Limits(), task=spent("1000", 10**9), day=spent("1000"), calls=10**6, oldest=NOW),
        scope(COSTLY, task=spent("4.999999"), day=spent("49.999999")),
        scope(COSTLY, task=spent(tokens=10**9), calls=10**6, oldest=NOW),
        scope(TOKENS, task=spent("1000", 999), day=spent("1000", 8999)),
        scope(Limits(calls_per_hour=3), calls=2, oldest=NOW),
        scope(TOKENS, task=spent(unknown=ANSWER), day=spent(unknown=ANSWER)),
    ],
)
def test_within_its_limits_a_task_may_start(within: Scope) -> None:
    assert judge([within], NOW) == BudgetVerdict()


@pytest.mark.parametrize(
    ("over", "detail", "until"),
    [
        (
            scope(COSTLY, task=spent("5.02")),
            "the state build has spent $5.02 on this task, and cost-usd-per-task is $5",
            None,
        ),
        (
            scope(COSTLY, "the repository", day=spent("50")),
            "the repository has spent $50 today (UTC), and cost-usd-per-day is $50",
            MIDNIGHT,
        ),
        (
            scope(TOKENS, task=spent(tokens=1000)),
            "the state build has spent 1000 tokens on this task, and tokens-per-task is 1000",
            None,
        ),
        (
            scope(TOKENS, "the agent coder", day=spent(tokens=9001)),
            "the agent coder has spent 9001 tokens today (UTC), and tokens-per-day is 9000",
            MIDNIGHT,
        ),
        (
            scope(Limits(calls_per_hour=3), calls=3, oldest=NOW - 600),
            "the state build has spent 3 calls in the last hour, and calls-per-hour is 3",
            NOW + 3000,
        ),
        (
            scope(Limits(calls_per_hour=0)),
            "the state build has spent 0 calls in the last hour, and calls-per-hour is 0",
            None,
        ),
        (
            scope(Limits(cost_usd_per_task=Decimal(0))),
            "the state build has spent $0 on this task, and cost-usd-per-task is $0",
            None,
        ),
        (
            scope(COSTLY, task=spent("0.1", unknown=ANSWER)),
            "nobody knows what the answer 0123456789ab has cost on this task, and "
            "cost-usd-per-task of the state build is $5",
            None,
        ),
        (
            scope(COSTLY, day=spent("0.1", unknown=ANSWER)),
            "nobody knows what the answer 0123456789ab has cost today (UTC), and "
            "cost-usd-per-day of the state build is $50",
            MIDNIGHT,
        ),
    ],
)
def test_a_limit_that_is_reached_holds_the_task_and_is_named(
    over: Scope, detail: str, until: float | None
) -> None:
    fine = scope(Limits(calls_per_hour=100), "the repository")
    for scopes in ([over], [over, fine], [fine, over]):
        word = "waiting" if "calls" in detail and until is not None else "over-budget"
        forgivable = "nobody knows" in detail and until is None
        assert judge(scopes, NOW) == BudgetVerdict(word, detail, until, forgivable)


def test_of_several_the_one_is_named_that_holds_for_longest() -> None:
    hour = scope(Limits(calls_per_hour=1), calls=1, oldest=NOW - 3000)
    day = scope(COSTLY, day=spent("50"))
    task = scope(COSTLY, task=spent("5"))
    assert judge([hour, day], NOW).until == MIDNIGHT
    assert judge([day, task, hour], NOW).until is None


@pytest.mark.parametrize(
    ("now", "until"), [(MIDNIGHT - 0.5, MIDNIGHT), (MIDNIGHT, MIDNIGHT + 86_400)]
)
def test_a_day_ends_at_midnight_utc(now: float, until: float) -> None:
    assert judge([scope(COSTLY, day=spent("50"))], now).until == until


def test_what_is_left_is_the_least_that_any_scope_leaves() -> None:
    scopes = [
        scope(COSTLY, task=spent("1"), day=spent("48.50")),
        scope(TOKENS, "the agent coder", task=spent(tokens=400), day=spent(tokens=400)),
        scope(Limits(calls_per_hour=10, cost_usd_per_day=Decimal(90)), "the repository", calls=4),
    ]
    assert left(scopes, NOW) == Left(
        Amount(Decimal("1.50"), "cost-usd-per-day of the state build"),
        Amount(Decimal(600), "tokens-per-task of the agent coder"),
        Amount(Decimal(6), "calls-per-hour of the repository"),
    )
    assert left([scope(Limits())], NOW) == Left()


LEFT = Left(Amount(Decimal("1.5"), "A"), Amount(Decimal(600), "B"), Amount(Decimal(6), "C"))


@pytest.mark.parametrize(
    ("usage", "sentence"),
    [
        (Usage(), ""),
        (Usage(Decimal("1.5"), 300, 300, 6), ""),
        (Usage(Decimal("1.500001")), "it has spent $1.500001, and A leaves $1.5"),
        (Usage(tokens_in=600, tokens_out=1), "it has used 601 tokens, and B leaves 600"),
        (Usage(calls=7), "it has made 7 calls, and C leaves 6"),
        (Usage(unknown=True), "it can't tell what it costs, and A leaves $1.5"),
    ],
)
def test_a_run_that_has_spent_more_than_is_left_is_told_of(usage: Usage, sentence: str) -> None:
    assert exceeded(LEFT, usage) == sentence
    assert exceeded(Left(), usage) == ""


amounts = st.none() | st.integers(0, 20)
costs = st.none() | st.decimals(0, 20, places=2)
limits = st.builds(
    Limits,
    calls_per_hour=amounts,
    cost_usd_per_task=costs,
    cost_usd_per_day=costs,
    tokens_per_task=amounts,
    tokens_per_day=amounts,
)
spendings = st.builds(
    lambda cost, tokens, unknown: Spent(Usage(cost, tokens, unknown=unknown), ANSWER * unknown),
    st.decimals(0, 20, places=2),
    st.integers(0, 20),
    st.booleans(),
)
scopes_ = st.lists(
    st.builds(
        Scope,
        st.sampled_from(["the state build", "the repository"]),
        limits,
        spendings,
        spendings,
        st.integers(0, 20),
        st.just(NOW - 60),
    ),
    max_size=3,
)


@settings(derandomize=True)
@given(scopes_)
def test_a_hold_says_why_and_ends_in_the_future_or_never(scopes: list[Scope]) -> None:
    verdict = judge(scopes, NOW)
    assert bool(verdict.word) == bool(verdict.detail)
    if verdict.until is not None:
        assert verdict.word
        assert verdict.until > NOW


@settings(derandomize=True)
@given(scopes_)
def test_a_task_that_may_start_has_something_left_of_all_that_is_limited(
    scopes: list[Scope],
) -> None:
    if judge(scopes, NOW).word:
        return
    remaining = left(scopes, NOW)
    for amount in (remaining.cost_usd, remaining.tokens, remaining.calls):
        assert amount is None or amount.left > 0
    assert exceeded(remaining, Usage()) == ""


@settings(derandomize=True)
@given(scopes_, st.decimals(0, 20, places=2), st.integers(0, 20))
def test_a_run_that_stays_within_what_is_left_passes_no_limit(
    scopes: list[Scope], cost: Decimal, tokens: int
) -> None:
    usage = Usage(cost, tokens)
    if judge(scopes, NOW).word or exceeded(left(scopes, NOW), usage):
        return
    for each in scopes:
        for limit, before in (
            (each.limits.cost_usd_per_task, each.task),
            (each.limits.cost_usd_per_day, each.day),
        ):
            assert limit is None or (before.usage + usage).cost <= limit
        for most, before in (
            (each.limits.tokens_per_task, each.task),
            (each.limits.tokens_per_day, each.day),
        ):
            assert most is None or (before.usage + usage).tokens <= most


@settings(derandomize=True)
@given(scopes_, scopes_)
def test_a_further_scope_never_lets_a_task_start(some: list[Scope], more: list[Scope]) -> None:
    if judge(some, NOW).word:
        assert judge([*some, *more], NOW).word
