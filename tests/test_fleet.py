"""A row a runner: what it is running, or that it is idle, silent or dead."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from aynig.fleet import Claimed, RunnerRow, merge, runner_rows
from aynig.model import HEADS, Holder, Lease
from aynig.onbranch import Working
from aynig.presence import Card, Presence
from aynig.processes import this_holder
from aynig.site import Site, open_site
from tests.fleet import Fleet
from tests.stage import Stage
from tests.values import HOLDER, lease
from tests.world import EPOCH, GitRepo, wait_for

NOW = float(EPOCH + 20)
OTHER = replace(HOLDER, runner="other-1-bbbb", host="other")


def presence(holder: Holder = HOLDER, **changes: float) -> Presence:
    card = Card(holder, "bob", ("tester",), 2)
    made = Presence("refs/aynig/runner/1", "c" * 40, card, 900.0, EPOCH - 40.0, EPOCH)
    return replace(made, **changes)  # type: ignore[arg-type]


def rows(leases: list[Lease], said: list[Presence]) -> list[RunnerRow]:
    return merge(leases, said, {HEADS + "task": "go"}, NOW)


def test_a_runner_that_announced_itself_is_idle_since_then() -> None:
    (row,) = rows([], [presence()])
    assert (row.runner, row.host, row.state) == (HOLDER.runner, HOLDER.host, "idle")
    assert (row.since, row.seen) == (EPOCH - 40, EPOCH)
    assert (row.agent, row.roles, row.jobs) == ("bob", ("tester",), 2)


def test_a_lease_says_what_a_runner_is_at_and_goes_before_its_record() -> None:
    (row,) = rows([lease(time=EPOCH + 10)], [presence()])
    assert (row.state, row.since, row.seen) == ("running", 1769851800.0, EPOCH + 10)
    (held,) = row.tasks
    assert (held.branch, held.state, held.run) == ("task", "go", lease().run)
    assert (held.lease_seconds, held.lease_left) == (60.0, 50.0)
    assert row.agent == "bob"


def claim(branch: str = "b", runner: str = "theirs", seconds: int = 60) -> Claimed:
    """Of a run that began 10 seconds ago, and was renewed since."""
    return Claimed(branch, Working("7", runner, "go", seconds, NOW - 5), NOW - 10)


def test_a_runner_whose_lease_lies_on_the_branch_is_known_by_that() -> None:
    (row,) = merge([], [], {}, NOW, [claim(), claim("a")])
    assert (row.runner, row.host, row.pid, row.state) == ("theirs", None, None, "running")
    assert (row.since, row.seen) == (NOW - 10, NOW - 5)
    assert [held.branch for held in row.tasks] == ["a", "b"]
    held = row.tasks[0]
    assert (held.state, held.run, held.lease_seconds, held.lease_left) == ("go", "7", 60, 55)
    (late,) = merge([], [], {}, NOW, [claim(seconds=3)])
    assert (late.state, late.tasks[0].lease_left) == ("silent", 0)


def test_a_task_with_a_lease_on_the_branch_and_a_lease_ref_is_shown_once() -> None:
    (row,) = merge([lease()], [], {}, NOW, [claim("task")])
    assert row.runner == HOLDER.runner
    assert [held.branch for held in row.tasks] == ["task"]


def test_a_runner_that_never_was_idle_is_known_by_its_leases_alone() -> None:
    (row,) = rows([lease(), lease(ref=HEADS + "a")], [])
    assert [held.branch for held in row.tasks] == ["a", "task"]
    assert (row.agent, row.roles, row.jobs) == (None, (), None)


def test_a_lease_says_who_its_holder_takes_tasks_as() -> None:
    (row,) = rows([lease(agent="bob", roles=("tester",))], [])
    assert (row.agent, row.roles) == ("bob", ("tester",))


def test_each_runner_has_one_row() -> None:
    found = rows([lease(), lease(ref=HEADS + "b", holder=OTHER)], [presence(OTHER)])
    assert sorted(row.runner for row in found) == [HOLDER.runner, OTHER.runner]


@pytest.mark.parametrize(
    ("leases", "said"),
    [
        ([lease(time=EPOCH - 60)], []),
        ([], [presence(time=EPOCH - 1000)]),
        ([lease(time=EPOCH - 60)], [presence(time=EPOCH - 80)]),
    ],
    ids=["its lease", "its record", "its lease, with a record that still counts"],
)
def test_who_let_its_time_pass_is_silent(leases: list[Lease], said: list[Presence]) -> None:
    (row,) = rows(leases, said)
    assert row.state == "silent"
    assert all(held.lease_left == 0 for held in row.tasks)


def test_what_is_left_of_a_lease_is_never_more_than_all_of_it() -> None:
    (row,) = rows([lease(time=EPOCH + 5000)], [])
    assert row.tasks[0].lease_left == 60


def test_a_dead_process_of_this_host_is_marked() -> None:
    dead = replace(this_holder("us"), started="1")
    assert [row.state for row in rows([lease(holder=dead)], [])] == ["dead"]
    assert [row.state for row in rows([], [presence(dead)])] == ["dead"]


# --- what is on a remote -------------------------------------------------------------------------


@contextmanager
def seen(fleet: Fleet, name: str = "alice") -> Iterator[Site]:
    site = fleet.open(name)
    try:
        yield site
    finally:
        site.close()


def now(fleet: Fleet) -> dict[str, RunnerRow]:
    """The rows as somebody in a clone sees them, by the agent."""
    with seen(fleet) as site:
        assert site.mirror is not None
        site.mirror.sync(leases=True)
        found = runner_rows(site)
    return {row.agent or "": row for row in found}


def test_runners_of_a_remote_are_seen_at_work_and_idle(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    fleet = Fleet.make(tmp_path, {"go": f"while [ ! -e {gate} ]; do sleep 0.05; done"})
    fleet.tasks.task(fields={"assigned-to": "bob"})
    with fleet.live("bob", agent="bob") as bob, fleet.live("carol", agent="carol"):
        wait_for(lambda: bob.of("run"), what="the task to run")
        wait_for(lambda: "carol" in now(fleet), what="carol to announce herself")
        found = now(fleet)
        assert sorted(row.state for row in found.values()) == ["idle", "running"]
        (held,) = found["bob"].tasks
        assert (held.state, held.run) == ("go", bob.of("run")[0].run)
        assert 0 < held.lease_left <= held.lease_seconds == 60
        row = fleet.status("alice")
        assert (row.lease_seconds, row.runner) == (60, found["bob"].runner)
        assert row.detail.endswith("of 1m left")
        gate.touch()
        fleet.tasks.wait_for_state("done")
    assert now(fleet) == {}


def test_a_lease_of_what_has_moved_on_holds_nothing(tmp_path: Path) -> None:
    fleet = Fleet.make(tmp_path, {"go": "exit 0"})
    fleet.tasks.task()
    fleet.run("bob")
    assert now(fleet) == {}


# --- the repository itself -----------------------------------------------------------------------


def local(repo: GitRepo) -> list[RunnerRow]:
    site = open_site(repo.path)
    try:
        return runner_rows(site)
    finally:
        site.close()


def test_a_daemon_that_listens_is_idle_and_at_work_it_has_one_row(
    repo: GitRepo, tmp_path: Path
) -> None:
    stage, gate = Stage(repo), tmp_path / "gate"
    assert local(repo) == []
    with stage.live() as told:
        (row,) = local(repo)
        assert (row.pid, row.host, row.state) == (os.getpid(), socket.gethostname(), "idle")
        assert row.since is not None
        assert row.since <= time.time()
        stage.task(f"while [ ! -e {gate} ]; do sleep 0.05; done")
        wait_for(lambda: told.of("run"), what="the task to run")
        (row,) = local(repo)
        assert (row.state, row.tasks[0].branch) == ("running", "task")
        gate.touch()
        stage.wait_for_state("done")


def test_a_doorbell_that_was_left_is_that_of_a_dead_process(repo: GitRepo) -> None:
    folder = repo.git_dir / "aynig" / "wake"
    folder.mkdir(parents=True)
    (folder / "4000000.part").touch()
    assert [(row.pid, row.state) for row in local(repo)] == [(4000000, "dead")]
