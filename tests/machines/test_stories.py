"""Single stories that the machine has found, each told by itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from aynig.ending import Finished
from aynig.model import Hold
from tests.machines.runner import SECONDS, Runner
from tests.machines.strand import Cue
from tests.machines.world import BRANCHES, World

ONE, TWO, _ = BRANCHES
LUCK = Cue()
TO_THE_SCRIPT = 9


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


def answers(world: World, trigger: str) -> int:
    return len(world.server.answers.get(trigger, ()))


def test_an_answer_counts_whose_branch_was_deleted_before_anybody_looked(world: World) -> None:
    trigger = world.push(ONE)
    world.copy(TWO, ONE)
    ada, bob = world.add(), world.add()
    bob.claim(TWO, LUCK, 1)
    ada.claim(ONE, LUCK, TO_THE_SCRIPT)
    ada.finish(ONE)
    world.server.put(ONE, None)
    bob.sync()
    bob.claim(TWO, LUCK, TO_THE_SCRIPT)
    bob.finish(TWO)
    assert answers(world, trigger) == 1


def test_an_answer_counts_whose_branch_was_deleted_while_a_copy_was_claimed(world: World) -> None:
    world.push(ONE, "")
    trigger = world.push(TWO)
    ada, bob = world.add(), world.add()
    bob.claim(TWO, LUCK, 1)
    assert bob.strands[TWO].at == "push"
    world.copy(ONE, TWO)
    ada.sync()
    ada.claim(ONE, LUCK, TO_THE_SCRIPT)
    ada.finish(ONE)
    world.server.put(ONE, None)
    bob.finish(TWO)
    assert answers(world, trigger) == 1


def test_who_takes_over_a_commit_on_a_copy_ends_the_lease_of_the_other(world: World) -> None:
    trigger = world.push(TWO)
    ada, bob = world.add(), world.add()
    ada.claim(TWO, LUCK, TO_THE_SCRIPT)
    world.copy(ONE, TWO)
    bob.sync()
    bob.claim(ONE, LUCK, TO_THE_SCRIPT)
    assert isinstance(bob.outcomes[ONE], Hold)
    world.server.time += SECONDS + 1
    bob.claim(ONE, LUCK, TO_THE_SCRIPT)
    ada.finish(TWO)
    bob.finish(ONE)
    assert answers(world, trigger) == 1
    assert world.server.objects.said(world.server.refs[ONE]) is not None
    assert not world.broken


def test_a_holder_of_a_copy_who_lives_keeps_the_commit(world: World) -> None:
    trigger = world.push(TWO)
    ada, bob = world.add(), world.add()
    ada.claim(TWO, LUCK, TO_THE_SCRIPT)
    world.copy(ONE, TWO)
    bob.sync()
    bob.claim(ONE, LUCK, TO_THE_SCRIPT)
    world.server.time += SECONDS + 1
    bob.claim(ONE, LUCK, 1)
    ada.advance(TWO, Cue(script="renew"), 1)
    bob.finish(ONE)
    assert isinstance(bob.outcomes[ONE], Hold)
    ada.finish(TWO)
    assert answers(world, trigger) == 1


def test_a_lease_that_was_given_back_does_not_vouch_for_its_branch(world: World) -> None:
    trigger = world.push(TWO)
    ada, bob, eve = world.add(), world.add(), world.add()
    give_back(ada, TWO)
    bob.sync()
    bob.claim(TWO, LUCK, 1)
    assert bob.strands[TWO].at == "push"
    world.push(TWO, "")
    world.server.put(ONE, trigger)
    give_back(ada, ONE)
    world.server.put(TWO, trigger)
    eve.sync()
    eve.claim(ONE, LUCK, TO_THE_SCRIPT)
    bob.advance(TWO, LUCK, TO_THE_SCRIPT)
    assert not world.run_twice()
    bob.finish(TWO)
    eve.finish(ONE)
    assert answers(world, trigger) == 1


def give_back(runner: Runner, ref: str) -> None:
    """Claim a branch, and stop in the middle of its script."""
    runner.sync()
    runner.claim(ref, LUCK, TO_THE_SCRIPT)
    runner.advance(ref, Cue(script="drained"), 9)


@pytest.mark.parametrize("moved_on", [False, True], ids=["the tip", "below the tip"])
def test_an_answer_that_arrives_late_is_told_as_one_that_landed(
    world: World, moved_on: bool
) -> None:
    world.push(ONE)
    ada, bob = world.add(), world.add()
    ada.claim(ONE, LUCK, TO_THE_SCRIPT)
    ada.advance(ONE, LUCK, 1)
    ada.advance(ONE, Cue("late"), 1)
    assert ONE in ada.pending
    ada.machine.arrive_late(lost=False)
    if moved_on:
        bob.sync()
        bob.claim(ONE, LUCK, TO_THE_SCRIPT)
        bob.finish(ONE)
    ada.claim(ONE, LUCK, 9)
    finished = ada.outcomes[ONE]
    assert isinstance(finished, Finished)
    assert finished.ending == "answered"
