"""When a run that was no success is started again, and when it is not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aynig.policies.retries import LONGEST, chance_of, judge
from aynig.workflow import ENDINGS, FAILURE, OVER_BUDGET, TEMPFAIL, TIMEOUT, VERIFICATION, Retries

PLAIN = Retries(max=3, backoff=10.0, factor=2.0, jitter=0.0)


@pytest.mark.parametrize(
    ("retries", "ending", "failed", "asked", "delay"),
    [
        pytest.param(PLAIN, FAILURE, 0, None, 10.0, id="the first pause is the backoff"),
        pytest.param(PLAIN, FAILURE, 2, None, 40.0, id="it grows by the factor"),
        pytest.param(PLAIN, FAILURE, 3, None, None, id="max are the attempts beyond the first"),
        pytest.param(PLAIN, TIMEOUT, 0, 5.0, 10.0, id="only exit 75 asks for a time"),
        pytest.param(PLAIN, TEMPFAIL, 1, 5.0, 5.0, id="which counts as it is"),
        pytest.param(PLAIN, TEMPFAIL, 3, 5.0, None, id="and not for ever"),
        pytest.param(Retries(max=0), FAILURE, 0, None, None, id="none"),
        pytest.param(Retries(on=(TIMEOUT,)), FAILURE, 0, None, None, id="an end that is not named"),
        pytest.param(Retries(on=(TIMEOUT,)), TEMPFAIL, 0, 5.0, None, id="nor asked for"),
        pytest.param(PLAIN, OVER_BUDGET, 0, None, None, id="money that is gone is gone"),
        pytest.param(
            Retries(max=99, backoff=1.0, factor=1e300, jitter=0.0), FAILURE, 98, None, LONGEST,
            id="a huge factor has an end",
        ),
        pytest.param(None, FAILURE, 0, None, None, id="unasked: a failure is one"),
        pytest.param(None, TEMPFAIL, 0, None, 10.0, id="unasked: exit 75"),
        pytest.param(None, TEMPFAIL, 6, None, 600.0, id="unasked: at most ten minutes"),
        pytest.param(None, TEMPFAIL, 10, 86400.0, 86400.0, id="unasked: the script's own time"),
        pytest.param(None, TEMPFAIL, 11, 1.0, None, id="unasked: twelve times in all"),
        pytest.param(None, VERIFICATION, 0, None, 0.0, id="unasked: judged, once more at once"),
        pytest.param(None, VERIFICATION, 1, None, None, id="unasked: and no more than once"),
    ],
)  # fmt: skip
def test_the_verdict_on_a_run_that_was_no_success(
    retries: Retries | None, ending: str, failed: int, asked: float | None, delay: float | None
) -> None:
    assert judge(retries, ending, failed, asked, 0.5).delay == delay


RETRIES = st.builds(
    Retries,
    max=st.integers(0, 1000),
    backoff=st.floats(0, 1e6),
    factor=st.floats(1, 1e9),
    jitter=st.floats(0, 1),
    on=st.lists(st.sampled_from(ENDINGS), unique=True).map(tuple),
)


@settings(derandomize=True)
@given(RETRIES, st.sampled_from(ENDINGS), st.integers(0, 2000), st.floats(0, 1))
def test_a_pause_is_never_negative_or_endless_and_the_attempts_come_to_an_end(
    retries: Retries, ending: str, failed: int, chance: float
) -> None:
    delay = judge(retries, ending, failed, None, chance).delay
    assert (delay is None) == (ending not in retries.on or failed >= retries.max)
    assert delay is None or 0 <= delay <= 2 * LONGEST


@settings(derandomize=True)
@given(st.text("0123456789abcdef", min_size=40, max_size=40), st.integers(1, 100))
def test_all_runners_draw_the_same_chance(trigger: str, attempt: int) -> None:
    assert 0 <= chance_of(trigger, attempt) < 1
    assert chance_of(trigger, attempt) == chance_of(trigger, attempt)
