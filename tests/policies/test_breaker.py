"""What went wrong too often in a row waits, then one try is let through."""

from __future__ import annotations

import pytest

from aynig.policies.breaker import Run, Streak, is_probe, judge_state, judge_task
from aynig.workflow import Breaker

NOW = 10_000.0
CLOSED = Breaker()
FULL = Breaker(no_change=3, same_failure=2, failures=4, pause=600.0)


@pytest.mark.parametrize(
    ("breaker", "streak", "words"),
    [
        pytest.param(CLOSED, Streak(99, 99, "x", NOW), None, id="nothing is said"),
        pytest.param(FULL, Streak(2, 1, "x", NOW), None, id="below both"),
        pytest.param(FULL, Streak(3, 0, "", NOW), "3 runs in a row changed nothing", id="idle"),
        pytest.param(
            FULL, Streak(0, 2, "exit 1: no disk", NOW),
            "2 runs in a row failed alike (exit 1: no disk)", id="the same failure",
        ),
        pytest.param(FULL, Streak(3, 0, "", NOW - 600), None, id="the pause is over: one try"),
        pytest.param(FULL, Streak(3, 0, "", NOW - 599), "tried again in 1s", id="not yet"),
        pytest.param(FULL, Streak(9, 0, "", NOW), "`aynig resume task`", id="or by hand"),
        pytest.param(
            FULL, Streak(0, 2, "a\u202eb", NOW), "(a\\u202eb)", id="shown escaped"
        ),
    ],
)  # fmt: skip
def test_the_breaker_of_a_task(breaker: Breaker, streak: Streak, words: str | None) -> None:
    hold = judge_task(breaker, streak, "task", NOW)
    assert (hold is None) == (words is None)
    if hold is not None and words is not None:
        assert hold.word == "breaker"
        assert words in hold.detail
        assert hold.until == streak.last + breaker.pause


@pytest.mark.parametrize(
    ("failures", "last", "opens"), [(3, NOW, False), (4, NOW, True), (4, NOW - 600, False)]
)
def test_the_breaker_of_a_state_opens_after_so_many_failures_across_tasks(
    failures: int, last: float, opens: bool
) -> None:
    hold = judge_state(FULL, Run("build", failures, last), NOW)
    assert (hold is not None) == opens
    assert hold is None or "`aynig resume --state build`" in hold.detail


def test_the_run_after_the_pause_is_the_only_one_that_is_let_through() -> None:
    assert is_probe(FULL, Run("build", 4, NOW))
    assert not is_probe(FULL, Run("build", 3, NOW))
    assert not is_probe(CLOSED, Run("build", 99, NOW))
