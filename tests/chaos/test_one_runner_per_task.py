"""Several runners on one repository: each commit is executed once and answered once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.world import (
    History,
    Runners,
    Witness,
    assert_nothing_left,
    assert_sound,
    chain_scripts,
    plant,
    runners,
    tasks,
    wait_until_all,
)
from tests.world import GitRepo

_LENGTH = 5
_SIZES = [
    pytest.param(60, id="60 branches"),
    pytest.param(200, id="200 branches", marks=pytest.mark.chaos),
]


def _assert_executed_and_answered_once(repo: GitRepo, witness: Witness, branches: int) -> None:
    history = History.of(repo)
    history.assert_each_answered_once()
    states = [f"s{n}" for n in range(1, _LENGTH + 1)]
    for n in range(branches):
        assert history.chain(f"task/{n}") == [*states, "done"]
    assert witness.repeated() == {}
    asked = {oid for oid, commit in history.commits.items() if commit.state in states}
    assert {execution.commit for execution in witness.executions()} == asked
    assert_nothing_left(repo)
    assert_sound(repo)


def _stop_all(fleet: Runners) -> None:
    for runner in fleet.started:
        if runner.process.poll() is None:
            assert runner.stop() == 0, runner.text()


@pytest.mark.parametrize("branches", _SIZES)
def test_five_runners_share_the_work_and_do_none_of_it_twice(
    repo: GitRepo, tmp_path: Path, branches: int
) -> None:
    witness = Witness(tmp_path / "executions")
    plant(repo, tasks(branches, "s1"), chain_scripts(witness, _LENGTH))
    with runners(repo, tmp_path) as fleet:
        for _ in range(2):
            fleet.daemon("--jobs", "4")
        once = [fleet.start("run", "--jobs", "4") for _ in range(3)]
        assert [runner.wait() for runner in once] == [0, 0, 0], [r.text() for r in once]
        wait_until_all(repo, {"done"})
        _stop_all(fleet)
    _assert_executed_and_answered_once(repo, witness, branches)


@pytest.mark.parametrize("branches", _SIZES)
def test_runners_that_end_when_all_is_quiet_leave_no_task_between_them(
    repo: GitRepo, tmp_path: Path, branches: int
) -> None:
    witness = Witness(tmp_path / "executions")
    plant(repo, tasks(branches, "s1"), chain_scripts(witness, _LENGTH))
    with runners(repo, tmp_path) as fleet:
        once = [fleet.start("run", "--jobs", "4") for _ in range(3)]
        assert [runner.wait() for runner in once] == [0, 0, 0], [r.text() for r in once]
    _assert_executed_and_answered_once(repo, witness, branches)
