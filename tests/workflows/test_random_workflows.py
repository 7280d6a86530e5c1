"""Random workflows always come to an end, and keep their limits on the way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from aynig.policies import loop, retries
from aynig.workflow import Loop, Retries
from tests.machines.play import Play, Story, people_in_memory, stories

PARTS = 2


def play_all(runs: int, begin: int, *, shrink: bool = True) -> None:
    """So many stories, always the same ones."""

    @seed(begin)
    @settings(
        max_examples=runs,
        deadline=None,
        database=None,
        phases=[Phase.generate, *([Phase.shrink] if shrink else [])],
        suppress_health_check=list(HealthCheck),
    )
    @given(stories())
    def each(story: Story) -> None:
        play = Play(story)
        play.perform()
        assert not play.broken, play.broken

    with people_in_memory():
        each()


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize(
    "runs", [pytest.param(300, id="300 stories"), pytest.param(20_000, marks=pytest.mark.chaos)]
)
def test_a_random_workflow_ends_and_keeps_its_limits(runs: int, part: int) -> None:
    play_all(runs // PARTS, begin=runs + part)


# --- the referee sees what is wrong ---------------------------------------------------------------


def no_ruling(*facts: object, **more: object) -> None:
    return None


def one_retry_more(given: Retries | None, *facts: Any) -> retries.RetryVerdict:
    return _judge_retries(replace(given, max=given.max + 1) if given else None, *facts)


def one_iteration_more(given: Loop, iteration: loop.Iteration) -> loop.LoopVerdict:
    return _judge_loop(replace(given, max_iterations=given.limit + 1), iteration)


def no_places(*facts: object) -> tuple[()]:
    return ()


_judge_retries, _judge_loop = retries.judge, loop.judge


@pytest.mark.parametrize(
    ("place", "broken", "said"),
    [
        pytest.param(
            "aynig.policies.dependencies.judge", no_ruling, "run before", id="dependencies"
        ),
        pytest.param(
            "aynig.policies.retries.judge", one_retry_more, "started . times", id="retries"
        ),
        pytest.param("aynig.answer.judge_loop", one_iteration_more, "of a loop of", id="loops"),
        pytest.param("aynig.approvals.before", no_ruling, "without an approval", id="approvals"),
        pytest.param("aynig.places.places_of", no_places, "has the resource", id="resources"),
        pytest.param("aynig.places.limits_of", no_places, "at the same time", id="limits"),
    ],
)
def test_a_broken_policy_is_found(place: str, broken: object, said: str) -> None:
    with mock.patch(place, broken), pytest.raises(AssertionError, match=said):
        play_all(200, begin=1, shrink=False)
