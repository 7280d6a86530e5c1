"""A change of a remote's refs happens whole or not at all, and what became of it is found out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from aynig.errors import RefMoved, Refused, Unreachable
from aynig.git.address import find_address
from aynig.git.mirror import Mirror, open_mirror
from aynig.git.refs import RefEdit, RefStore
from aynig.git.repo import EMPTY_TREE, Repo
from aynig.git.sharedrefs import SharedRefs
from aynig.lease import lease_name
from aynig.model import HEADS, RESCUES
from aynig.processes import this_holder
from tests.world import GitRepo

TASK = HEADS + "task"
LEASE = lease_name(TASK)
RESCUE = RESCUES + "20260101T000000Z-0123456789"

Push = Callable[[Sequence[RefEdit]], None]


class Shared:
    """The refs of a server, written from a clone."""

    def __init__(self, folder: Path) -> None:
        self.server = GitRepo.init(folder / "server.git", bare=True, empty=True)
        self.old = self.server.commit("old", branch="task", files={"file": "1"})
        self.server.git("clone", "--quiet", str(self.server.path), str(folder / "clone"))
        clone = Repo.open(folder / "clone")
        repo, remote = open_mirror(clone, find_address(clone, "origin"))
        self.local = RefStore(repo, this_holder("test"))
        self.mirror = Mirror(repo, remote, self.local)
        self.mirror.sync(leases=True)
        self.refs = SharedRefs(self.mirror, self.local)
        self.commands: list[Sequence[str]] = []
        remote.observe = self.commands.append
        self.push = remote.push

    def commit(self, message: str) -> str:
        self.mirror.repo.empty_tree()
        return self.mirror.repo.write_commit(tree=EMPTY_TREE, parents=(), message=message)

    def pushing(self, push: Push) -> None:
        """Let this take the place of a push."""
        self.mirror.remote.push = push  # type: ignore[method-assign,assignment]

    def there(self, ref: str) -> str | None:
        return Repo.open(self.server.path).read_ref(ref)

    def here(self, ref: str) -> str | None:
        return self.mirror.repo.read_ref(ref)

    @property
    def pushes(self) -> int:
        return sum(command[0] == "push" for command in self.commands)


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Shared]:
    made = Shared(tmp_path)
    yield made
    made.refs.close()


def test_a_change_is_one_push_and_then_in_the_mirror(shared: Shared) -> None:
    new = shared.commit("new")
    shared.refs.commit([RefEdit(TASK, shared.old, new), RefEdit(LEASE, None, new)])
    assert (
        shared.there(TASK) == shared.there(LEASE) == shared.here(TASK) == shared.here(LEASE) == new
    )
    assert len(shared.commands) == 1


def test_who_lost_knows_what_the_refs_are_now(shared: Shared) -> None:
    theirs = shared.server.commit("theirs", branch="task")
    with pytest.raises(RefMoved) as lost:
        shared.refs.commit([RefEdit(TASK, shared.old, shared.commit("ours"))])
    assert lost.value.ref == TASK
    assert shared.here(TASK) == theirs


def test_a_push_that_went_through_unheard_has_gone_through(shared: Shared) -> None:
    def unheard(edits: Sequence[RefEdit]) -> None:
        shared.push(edits)
        raise Unreachable("the connection is gone")

    new = shared.commit("new")
    shared.pushing(unheard)
    shared.refs.commit([RefEdit(TASK, shared.old, new)])
    assert shared.there(TASK) == shared.here(TASK) == new


def test_a_push_that_did_not_go_through_may_be_tried_again(shared: Shared) -> None:
    def cut(edits: Sequence[RefEdit]) -> None:
        raise Unreachable("the connection is gone")

    new = shared.commit("new")
    shared.pushing(cut)
    with pytest.raises(Unreachable):
        shared.refs.commit([RefEdit(TASK, shared.old, new)])
    shared.pushing(shared.push)
    shared.refs.commit([RefEdit(TASK, shared.old, new)])
    assert shared.there(TASK) == new


def test_a_push_that_lands_after_it_was_given_up_is_ours_when_tried_again(shared: Shared) -> None:
    def cut(edits: Sequence[RefEdit]) -> None:
        raise Unreachable("the connection is gone")

    new = shared.commit("new")
    edits = [RefEdit(TASK, shared.old, new)]
    shared.pushing(cut)
    with pytest.raises(Unreachable):
        shared.refs.commit(edits)
    shared.push(edits)
    shared.pushing(shared.push)
    shared.refs.commit(edits)
    assert shared.here(TASK) == new


def test_a_push_of_unknown_outcome_that_another_won_is_lost(shared: Shared) -> None:
    def late(edits: Sequence[RefEdit]) -> None:
        shared.server.commit("theirs", branch="task")
        raise Unreachable("the connection is gone")

    shared.pushing(late)
    with pytest.raises(RefMoved):
        shared.refs.commit([RefEdit(TASK, shared.old, shared.commit("ours"))])


def test_where_nobody_can_be_asked_the_outcome_stays_unknown(shared: Shared) -> None:
    new = shared.commit("new")
    shared.server.path.rename(shared.server.path.with_name("away.git"))
    with pytest.raises((Unreachable, Refused)):
        shared.refs.commit([RefEdit(TASK, shared.old, new)])
    assert shared.here(TASK) == shared.old


def test_a_rescue_ref_is_here_at_once_and_goes_along_with_the_next_push(shared: Shared) -> None:
    work, new = shared.commit("work"), shared.commit("new")
    shared.refs.commit([RefEdit(RESCUE, None, work)])
    assert (shared.here(RESCUE), shared.there(RESCUE), shared.pushes) == (work, None, 0)
    shared.refs.commit([RefEdit(TASK, shared.old, new)])
    assert (shared.there(RESCUE), shared.there(TASK), shared.pushes) == (work, new, 1)
    shared.refs.publish()
    assert shared.pushes == 1


def test_what_only_keeps_an_answer_does_not_go_along_with_it(shared: Shared) -> None:
    new = shared.commit("new")
    shared.refs.commit([RefEdit(RESCUE, None, new)])
    shared.refs.commit([RefEdit(TASK, shared.old, new)])
    shared.refs.delete([RefEdit(RESCUE, new, None)])
    assert (shared.there(RESCUE), shared.here(RESCUE), shared.pushes) == (None, None, 1)


def test_a_rescue_ref_that_is_refused_keeps_no_answer_back(shared: Shared) -> None:
    hook = shared.server.path / "hooks" / "update"
    hook.write_text('#!/bin/sh\ncase "$1" in refs/aynig/rescue/*) exit 1 ;; esac\n')
    hook.chmod(0o755)
    work, new = shared.commit("work"), shared.commit("new")
    shared.refs.commit([RefEdit(RESCUE, None, work)])
    shared.refs.commit([RefEdit(TASK, shared.old, new)])
    assert (shared.there(TASK), shared.there(RESCUE), shared.here(RESCUE)) == (new, None, work)


def test_rescue_refs_are_published_where_no_push_takes_them_along(shared: Shared) -> None:
    work = shared.commit("work")
    shared.refs.commit([RefEdit(RESCUE, None, work)])
    shared.refs.publish()
    assert shared.there(RESCUE) == work


def test_a_successor_publishes_what_a_dead_runner_has_kept(shared: Shared) -> None:
    work = shared.commit("work")
    shared.refs.commit([RefEdit(RESCUE, None, work)])
    successor = SharedRefs(shared.mirror, shared.local)
    successor.publish()
    assert shared.there(RESCUE) == work


def test_a_published_rescue_ref_is_deleted_there_as_well(shared: Shared) -> None:
    work = shared.commit("work")
    shared.refs.commit([RefEdit(RESCUE, None, work)])
    shared.refs.publish()
    shared.refs.delete([RefEdit(RESCUE, work, None)])
    assert (shared.there(RESCUE), shared.here(RESCUE)) == (None, None)


def test_leases_that_nobody_needs_are_deleted_with_one_push(shared: Shared) -> None:
    edits = []
    for number in range(5):
        name, oid = lease_name(f"{HEADS}{number}"), shared.commit(str(number))
        shared.refs.commit([RefEdit(name, None, oid)])
        edits.append(RefEdit(name, oid, None))
    shared.commands.clear()
    shared.refs.delete(edits)
    assert shared.pushes == 1
    assert [shared.there(edit.ref) for edit in edits] == [None] * 5
