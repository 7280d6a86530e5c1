"""A copied tip is not a new event (design section 1.2): one commit is executed once."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.chaos.world import (
    History,
    Runners,
    Witness,
    assert_nothing_left,
    assert_sound,
    plant,
    runners,
    sow,
    tasks,
)
from tests.world import GitRepo, wait_for

_QUICK = '#!/bin/sh\n{line}echo "aynig: done" >>"$AYNIG_RESPONSE"\n'
_GATED = "#!/bin/sh\n{line}until [ -e {gate} ]; do sleep 0.02; done\n"


def _copy(repo: GitRepo, branch: str, *names: str) -> None:
    tip = repo.tip(branch)
    lines = "".join(f"create refs/heads/{name} {tip}\n" for name in names)
    repo.git("update-ref", "--stdin", stdin=lines)


def _files(tmp_path: Path) -> tuple[Witness, Path, dict[str, str]]:
    witness, gate = Witness(tmp_path / "executions"), tmp_path / "gate"
    return (
        witness,
        gate,
        {
            ".aynig/work": _QUICK.format(line=witness.line()),
            ".aynig/gated": _GATED.format(line=witness.line(), gate=gate),
        },
    )


def _probe(repo: GitRepo, fleet: Runners, name: str) -> None:
    """A task whose answer says that the runners are through with what came before it."""
    sow(repo, {name: f"{name}\n\naynig: work\n"})
    wait_for(lambda: repo.state(name) == "done", what=f"{name}: {fleet.started[-1].text()}")


def _count(witness: Witness, oid: str) -> int:
    return sum(execution.commit == oid for execution in witness.executions())


# A copy may come before or after the original in the order of names.
@pytest.mark.parametrize("copies", [("a", "b"), ("y", "z"), ("a", "z", "m/x", "m/y")], ids=str)
@pytest.mark.parametrize("daemons", [1, 3])
def test_copies_made_before_during_and_after_a_run_are_not_run(
    repo: GitRepo, tmp_path: Path, copies: tuple[str, ...], daemons: int
) -> None:
    witness, gate, scripts = _files(tmp_path)
    plant(repo, {"m/task": "one\n\naynig: gated\n"}, scripts)
    oid = repo.tip("m/task")
    _copy(repo, "m/task", *[f"before-{name}" for name in copies], *copies)
    with runners(repo, tmp_path) as fleet:
        for _ in range(daemons):
            fleet.daemon()
        wait_for(lambda: _count(witness, oid), what="the start of the script")
        _copy(repo, "m/task", *[f"0-during/{name}" for name in copies])
        _copy(repo, "m/task", *[f"z-during/{name}" for name in copies])
        _probe(repo, fleet, "probe/1")
        gate.touch()
        wait_for(lambda: _answered(repo, oid), what="the answer")
        repo.git("update-ref", f"refs/heads/0-after/{copies[0]}", oid)
        _probe(repo, fleet, "probe/2")
        for runner in fleet.started:
            assert runner.stop() == 0, runner.text()
        again = fleet.daemon()
        again.await_ready()
        repo.git("update-ref", f"refs/heads/0-restarted/{copies[0]}", oid)
        _probe(repo, fleet, "probe/3")
        assert again.stop() == 0, again.text()
    assert _count(witness, oid) == 1
    assert _answered(repo, oid) == 1
    assert_nothing_left(repo)


def _answered(repo: GitRepo, oid: str) -> int:
    return History.of(repo).answers()[oid]


@pytest.mark.parametrize(
    ("count", "copies"),
    [
        pytest.param(40, 3, id="40 tasks"),
        pytest.param(200, 5, id="200 tasks", marks=pytest.mark.chaos),
    ],
)
def test_copies_made_while_five_runners_work_are_not_run(
    repo: GitRepo, tmp_path: Path, count: int, copies: int
) -> None:
    witness, _, scripts = _files(tmp_path)
    scripts[".aynig/first"] = f'#!/bin/sh\n{witness.line()}echo "aynig: work" >>"$AYNIG_RESPONSE"\n'
    plant(repo, tasks(count, "first"), scripts)
    dice = random.Random(count)
    with runners(repo, tmp_path) as fleet:
        for _ in range(3):
            fleet.daemon("--jobs", "3")
        once = [fleet.start("run", "--jobs", "3") for _ in range(2)]
        for turn in range(copies):
            # Whatever a branch points at by now: before, during or after its run.
            lines = []
            for number in range(count):
                letter = dice.choice("az")
                tip = repo.tip(f"task/{number}") if number % 4 == 0 else ""
                if tip:
                    lines.append(f"create refs/heads/{letter}{turn}/{number} {tip}\n")
            repo.git("update-ref", "--stdin", stdin="".join(lines))
        assert [runner.wait() for runner in once] == [0, 0]
        wait_for(lambda: _all_ended(repo), what="an answer to every commit", patience=120)
        for runner in fleet.started[:3]:
            assert runner.stop() == 0, runner.text()
    assert witness.repeated() == {}
    assert len(witness.executions()) == 2 * count
    assert set(History.of(repo).answers().values()) == {1}
    assert_nothing_left(repo)
    assert_sound(repo)


def _all_ended(repo: GitRepo) -> bool:
    history = History.of(repo)
    asked = {oid for oid, commit in history.commits.items() if commit.state in ("first", "work")}
    return asked <= history.answers().keys()


def test_runs_that_end_when_quiet_leave_no_copied_task_between_them(
    repo: GitRepo, tmp_path: Path
) -> None:
    witness, _, scripts = _files(tmp_path)
    plant(repo, tasks(40, "work"), scripts)
    for number in range(40):
        _copy(repo, f"task/{number}", f"a/{number}", f"z/{number}")
    with runners(repo, tmp_path) as fleet:
        # Each sees a part, so that they meet at the same commit by different branches.
        once = [fleet.start("run", "--jobs", "3", "--branch", f"{part}/*") for part in "az"]
        once += [fleet.start("run", "--jobs", "3")]
        assert [runner.wait() for runner in once] == [0, 0, 0]
    assert witness.repeated() == {}
    assert len(witness.executions()) == 40
    assert_nothing_left(repo)
