"""Many tasks at once when a daemon starts: none is dropped, and those at rest cost nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.world import (
    History,
    Witness,
    assert_nothing_left,
    assert_sound,
    plant,
    runners,
    sow,
    tasks,
    wait_until_all,
)
from tests.world import GitRepo, wait_for

_DONE = '#!/bin/sh\n{line}echo "aynig: done" >>"$AYNIG_RESPONSE"\n'
# Every write reaches the disk before the next, and each script writes some: what a slow disk
# does to the work beside it, this does on any disk.
_SLOW = '#!/bin/sh\n{line}sync\nseq 2000 >large\nsync\necho "aynig: done" >>"$AYNIG_RESPONSE"\n'


def _objects(repo: GitRepo) -> frozenset[str]:
    text = repo.git("cat-file", "--batch-all-objects", "--batch-check=%(objectname)", "--unordered")
    return frozenset(text.split("\n"))


@pytest.mark.parametrize(
    ("script", "count", "durable"),
    [
        pytest.param(_DONE, 300, False, id="300 tasks"),
        pytest.param(_SLOW, 40, True, id="40 tasks, slow disk"),
        pytest.param(_SLOW, 300, True, id="300 tasks, slow disk", marks=pytest.mark.chaos),
    ],
)
def test_of_many_tasks_at_once_none_is_dropped(
    repo: GitRepo, tmp_path: Path, script: str, count: int, durable: bool
) -> None:
    witness = Witness(tmp_path / "executions")
    plant(repo, tasks(count, "work"), {".aynig/work": script.format(line=witness.line())})
    if durable:
        repo.git("config", "core.fsync", "all")
    with runners(repo, tmp_path) as fleet:
        daemon = fleet.daemon()
        wait_until_all(repo, {"done"})
        assert daemon.stop() == 0, daemon.text()
    History.of(repo).assert_each_answered_once()
    assert len(witness.executions()) == count
    assert witness.repeated() == {}
    assert_nothing_left(repo)
    assert_sound(repo)


def test_tasks_at_rest_cost_no_object_no_worktree_and_no_process(
    repo: GitRepo, tmp_path: Path
) -> None:
    witness = Witness(tmp_path / "executions")
    script = {".aynig/done": _DONE.format(line=witness.line())}
    plant(repo, tasks(300, "done"), script | {".aynig/work": script[".aynig/done"]})
    before, tips = _objects(repo), repo.git("for-each-ref")
    with runners(repo, tmp_path) as fleet:
        daemon = fleet.daemon()
        daemon.await_ready()
        assert _objects(repo) == before
        assert repo.git("for-each-ref") == tips
        # That it goes on to the next event says that it is through with these.
        sow(repo, {"probe": "probe\n\naynig: work\n"})
        wait_for(lambda: repo.state("probe") == "done", what="the answer to the probe")
        assert daemon.stop() == 0, daemon.text()
    assert [execution.branch for execution in witness.executions()] == ["probe"]
    assert len(list((repo.git_dir / "aynig" / "runs").iterdir())) == 1
    assert not list((repo.git_dir / "worktrees").iterdir())
    assert "task/" not in daemon.text()
    untouched = repo.git("for-each-ref", "refs/heads/task/")
    assert untouched in tips
    assert_nothing_left(repo)


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "loose"])
def test_five_thousand_branches_need_few_open_files(
    repo: GitRepo, tmp_path: Path, packed: bool
) -> None:
    witness = Witness(tmp_path / "executions")
    script = {".aynig/work": _DONE.format(line=witness.line())}
    plant(repo, tasks(5000, "done", "rest") | tasks(20, "work"), script)
    if packed:
        repo.git("pack-refs", "--all")
    with runners(repo, tmp_path) as fleet:
        limit = ["sh", "-c", 'ulimit -n 1024; exec "$@"', "sh"]
        daemon = fleet.daemon(prefix=limit)
        wait_until_all(repo, {"done"})
        daemon.await_ready()
        sow(repo, {"rest/late": "late\n\naynig: work\n"})
        wait_for(lambda: repo.state("rest/late") == "done", what="the answer to a later one")
        assert len(list(Path(f"/proc/{daemon.pid}/fd").iterdir())) < 200
        assert daemon.stop() == 0, daemon.text()
    assert "Too many open files" not in daemon.text()
    assert len(witness.executions()) == 21
    assert_nothing_left(repo)
