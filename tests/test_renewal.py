"""A lease is renewed while its script lives, and nobody hangs because the network does."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from aynig.errors import LeaseLost, Unreachable
from aynig.model import Lease
from aynig.renewal import Renewal
from tests.values import HOLDER, OID

LEASE = Lease("refs/aynig/lease/1", "1", "refs/heads/task", OID, "run", HOLDER, 60.0, 1, 0)


def renewed(lease: Lease) -> Lease:
    return replace(lease, oid=str(int(lease.oid) + 1))


@pytest.mark.parametrize("aside", [True, False])
def test_each_tick_renews(aside: bool) -> None:
    renewal = Renewal(LEASE, renewed, lambda: None, aside=aside)
    for expected in ("2", "3"):
        renewal.tick()
        assert renewal.settled().oid == expected


def test_a_tick_does_not_wait_and_a_second_one_starts_no_other() -> None:
    gate, calls = threading.Event(), []

    def slow(lease: Lease) -> Lease:
        calls.append(lease)
        gate.wait()
        return renewed(lease)

    renewal = Renewal(LEASE, slow, lambda: None, aside=True)
    renewal.tick()
    renewal.tick()
    gate.set()
    assert renewal.settled().oid == "2"
    assert len(calls) == 1


def test_a_lease_that_is_lost_is_told() -> None:
    def lose(lease: Lease) -> Lease:
        raise LeaseLost("taken over")

    lost = threading.Event()
    renewal = Renewal(LEASE, lose, lost.set, aside=True)
    renewal.tick()
    assert renewal.settled() == LEASE
    assert lost.is_set()


def test_a_remote_that_is_away_is_tried_again_at_the_next_tick() -> None:
    errors: list[Exception] = [Unreachable("gone")]

    def flaky(lease: Lease) -> Lease:
        if errors:
            raise errors.pop()
        return renewed(lease)

    lost = threading.Event()
    renewal = Renewal(LEASE, flaky, lost.set, aside=True)
    renewal.tick()
    assert renewal.settled() == LEASE
    renewal.tick()
    assert renewal.settled().oid == "2"
    assert not lost.is_set()
