"""What only people may write."""

from __future__ import annotations

import pytest

from aynig.policies.people import fault


@pytest.mark.parametrize(
    ("state", "after", "at_fault"),
    [
        (None, "go", False),
        ("done", "go", False),
        ("released", "go", True),
        ("approved", "go", False),
        ("approved", "awaiting-approval", True),
        ("rejected", "awaiting-approval", True),
        ("answered", "awaiting-answer", True),
        ("done", "awaiting-approval", False),
    ],
)
def test_a_script_may_not_reply_nor_write_what_is_peoples(
    state: str | None, after: str, at_fault: bool
) -> None:
    found = fault(state, ("released",), after=after)
    assert bool(found) == at_fault
    assert not found or f"`{state}`" in found
