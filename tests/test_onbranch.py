"""The lease on the branch: what a `working` commit says, and whether it still holds."""

from __future__ import annotations

import pytest

from aynig.model import Field
from aynig.onbranch import Working, handed_on, lease_seconds, read_working
from tests.values import statement

MESSAGE = (
    "x\n\ndwp-state: working\ndwp-origin-state: go\ndwp-run-id: r1\ndwp-runner-id: box\n"
    "dwp-lease-seconds: 60\n"
)


def test_a_lease_is_read_with_its_committer_date() -> None:
    assert read_working(statement(MESSAGE), 1000) == Working("r1", "box", "go", 60, 1000)


@pytest.mark.parametrize("message", ["x\n\ndwp-state: go\n", "x\n\naynig: working\n"])
def test_anything_else_is_no_lease(message: str) -> None:
    assert read_working(statement(message), 1000) is None
    assert read_working(None, 1000) is None


@pytest.mark.parametrize(("now", "live"), [(900, True), (1060, True), (1061, False)])
def test_it_holds_for_its_time_after_the_committer_date(now: float, live: bool) -> None:
    found = read_working(statement(MESSAGE), 1000)
    assert found is not None
    assert found.is_live(now) is live


@pytest.mark.parametrize("text", [None, "", "0", "-5", "soon", "1e9", "9" * 12])
def test_a_lease_time_that_is_none_is_the_usual_one(text: str | None) -> None:
    assert lease_seconds(text) == 300


def test_people_are_told_whose_it_is_and_what_is_left() -> None:
    found = Working("r1", "box", "go", 60, 1000)
    assert found.told(1030) == "go, run r1 by box, lease for another 30s"
    assert found.told(1080) == "go, run r1 by box, lease ran out 20s ago"


def test_what_is_of_one_commit_is_not_handed_on() -> None:
    keys = ("note", "run-id", "answers", "source", "lease-seconds", "retry-of")
    fields = [Field(key, "x") for key in keys]
    assert handed_on(fields) == [Field("note", "x")]
    assert handed_on(fields, source=True) == [Field("note", "x"), Field("source", "x")]
