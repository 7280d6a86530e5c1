"""Where a task goes that failed for good."""

from __future__ import annotations

import pytest

from aynig.policies.fallback import FAILED, STALLED, Way, way_on
from aynig.workflow import AUTONOMY, StateSettings

ALL = StateSettings(compensate="undo", on_failure="plan-b", escalate="ann")


@pytest.mark.parametrize(
    ("settings", "said", "autonomy", "way"),
    [
        pytest.param(StateSettings(), None, None, Way(FAILED), id="nothing is said"),
        pytest.param(StateSettings(), "fix", None, Way("fix"), id="the script says where"),
        pytest.param(StateSettings(on_failure="b"), "fix", None, Way("fix"), id="which goes first"),
        pytest.param(StateSettings(on_failure="b"), None, None, Way("b"), id="on-failure"),
        pytest.param(
            StateSettings(escalate="ann"), None, None, Way("ann", to_person=True), id="escalate"
        ),
        pytest.param(
            StateSettings(on_failure="b", escalate="ann"), None, None, Way("b"),
            id="a fallback is tried before a person is asked",
        ),
        pytest.param(
            StateSettings(compensate="undo"), None, None, Way("undo", then=FAILED), id="compensate"
        ),
        pytest.param(ALL, None, None, Way("undo", then="plan-b"), id="undone first, then on"),
        pytest.param(ALL, "fix", None, Way("undo", then="fix"), id="whatever the script says"),
        pytest.param(
            StateSettings(), None, "stuck", Way(STALLED, to_person=True), id="stuck: for a person"
        ),
        pytest.param(StateSettings(on_failure="b"), None, "stuck", Way("b"), id="stuck, not yet"),
        pytest.param(StateSettings(), None, "never", Way(FAILED), id="never"),
    ],
)  # fmt: skip
def test_the_way_after_a_failure(
    settings: StateSettings, said: str | None, autonomy: str | None, way: Way
) -> None:
    assert way_on(settings, said=said, autonomy=autonomy) == way


@pytest.mark.parametrize("level", AUTONOMY)
def test_each_level_but_never_stops_for_a_person_when_it_is_stuck(level: str) -> None:
    assert way_on(StateSettings(), said=None, autonomy=level).to_person == (level != "never")
