"""Well-formed values of the model, of which a test changes the one part that it is about."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from aynig import dialects
from aynig.model import HEADS, Event, Field, Holder, Lease, Plan, RunResult, Script
from aynig.model import Statement as Said
from aynig.plan import Facts
from aynig.policies.assignment import AssignmentVerdict
from aynig.workflow import StateSettings
from tests.world import EPOCH

OID = "a" * 40
OTHER_OID = "b" * 40
HOLDER = Holder("box-1-aaaa", "box", 1, "boot-1", "100")
SCRIPT = Script("go", "c" * 40, "/home/of/scripts")


def said(state: str = "go", **changes: Any) -> Said:
    """What a commit message says."""
    return Said("aynig", state, f"Please {state}", "", **changes)


def statement(message: str) -> Said:
    """What this commit message says; it has to say something."""
    found = dialects.read(message.encode("utf-8", "surrogateescape"))
    assert found is not None
    return found


def event(state: str = "go", *, branch: str = "task", oid: str = OID, **changes: Any) -> Event:
    return Event(HEADS + branch, oid, "d" * 40, EPOCH, said(state, **changes))


def plan(state: str = "go", **changes: Any) -> Plan:
    made = Plan(event(state), SCRIPT, StateSettings(), role="", attempt=1, timeout=math.inf)
    return replace(made, **changes)


def lease(**changes: Any) -> Lease:
    made = Lease(
        name="refs/aynig/lease/1",
        oid=OTHER_OID,
        ref=HEADS + "task",
        trigger=OID,
        run="20260131T093000Z-1f3a9c2e",
        holder=HOLDER,
        seconds=60.0,
        attempt=1,
        time=EPOCH,
    )
    return replace(made, **changes)


def result(status: int | None = 0, **changes: Any) -> RunResult:
    return replace(
        RunResult(exit=status, signal=None, started=float(EPOCH), duration=1.5), **changes
    )


def facts(**changes: Any) -> Facts:
    """Facts that stand in the way of nothing."""
    made = Facts(
        script=SCRIPT,
        settings=StateSettings(),
        role="",
        lease=None,
        deferral=None,
        attempts=0,
        answered_by=None,
        owner=None,
        assignment=AssignmentVerdict(),
        obstacle="",
        default_timeout=math.inf,
        now=float(EPOCH),
    )
    return replace(made, **changes)


def fields(*pairs: tuple[str, str]) -> tuple[Field, ...]:
    return tuple(Field(key, value) for key, value in pairs)
