"""The doctor looks at a remote as its runners do, and cleans up what they left on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aynig.checks import ERROR, WARNING, Finding
from aynig.diagnosis import examine, mend
from tests.fleet import ORIGIN, Fleet
from tests.world import GitRepo, wait_for


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet.make(tmp_path, {"go": f"touch {tmp_path}/begun; sleep 600"})


def findings(fleet: Fleet, level: str, check: str) -> list[Finding]:
    """Those about the remote, as somebody in the clone of bob gets them."""
    found = examine(fleet.clone("bob").path, [ORIGIN])
    return [one for one in found if (one.level, one.check) == (level, check)]


@pytest.fixture
def crashed(fleet: Fleet, tmp_path: Path) -> Iterator[Fleet]:
    """A run for the remote was killed, and its script lives on."""
    fleet.tasks.task()
    with subprocess.Popen(
        [sys.executable, "-m", "aynig", "run", "--remote", ORIGIN],
        cwd=fleet.clone("bob").path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            wait_for(lambda: (tmp_path / "begun").exists(), what="the script")
        finally:
            process.send_signal(signal.SIGKILL)
    yield fleet
    mend(fleet.clone("bob").path, [ORIGIN])


def test_what_a_killed_runner_of_a_remote_left_is_named(crashed: Fleet) -> None:
    left = findings(crashed, WARNING, "leftovers")
    assert any("the lease of refs/heads/task" in finding.detail for finding in left)
    assert any("the worktree aynig-" in finding.detail for finding in left)
    assert all(finding.detail.startswith("'origin': ") for finding in left)
    assert {finding.mend for finding in left if "process" not in finding.detail[:20]} >= {
        "aynig doctor --mend --remote origin"
    }


def test_what_a_killed_runner_of_a_remote_left_is_cleaned_up_when_asked(crashed: Fleet) -> None:
    done = mend(crashed.clone("bob").path, [ORIGIN])
    assert any("freed the lease of refs/heads/task" in line for line in done)
    assert findings(crashed, WARNING, "leftovers") == []
    (place,) = crashed.clone("bob").git_dir.glob("aynig/remotes/*.git")
    assert len(GitRepo(place).git("worktree", "list").splitlines()) == 1


def test_the_workflow_of_the_remote_is_checked_not_that_of_the_clone(fleet: Fleet) -> None:
    fleet.clone("bob")
    wrong = {".aynig/config.yaml": "states: {go: {bogus: 1}}\n"}
    fleet.server.commit("A mistake", files=wrong)
    (found,) = findings(fleet, ERROR, "config")
    assert found.detail.startswith("'origin': ")
    assert "bogus" in found.detail


def test_a_branch_of_scripts_that_is_not_there_is_an_error(fleet: Fleet) -> None:
    fleet.clone("bob").git("config", "aynig.scripts", "refs/heads/gone")
    fleet.tasks.task()
    found = findings(fleet, ERROR, "scripts")
    assert any("refs/heads/gone, which does not exist there" in one.detail for one in found)


def test_kept_work_is_counted_on_the_remote(fleet: Fleet) -> None:
    fleet.server.git("update-ref", "refs/aynig/rescue/20260101T000000Z-0123456789", "main")
    kept = [one.detail for one in findings(fleet, "ok", "rescues")]
    assert "'origin': the work of 1 failed run is kept there below" in " ".join(kept)


def test_a_copy_of_a_remote_that_moved_is_named_with_what_only_it_keeps(fleet: Fleet) -> None:
    bob = fleet.clone("bob")
    fleet.run("bob")
    (place,) = bob.git_dir.glob("aynig/remotes/*.git")
    assert not findings(fleet, WARNING, "copies")
    fleet.server.path.rename(fleet.folder / "moved.git")
    bob.git("remote", "set-url", ORIGIN, str(fleet.folder / "moved.git"))
    (found,) = findings(fleet, WARNING, "copies")
    assert found.detail.startswith(f"{place} is our copy of 'origin' at {fleet.server.path}")
    assert found.mend == f"If no runner uses it: rm -r {place}"
    copy = GitRepo(place, bare=True)
    copy.git("update-ref", "refs/aynig/rescue/1", copy.tip("main"))
    (found,) = findings(fleet, WARNING, "copies")
    assert found.detail.endswith("it keeps the work of 1 failed run")
    assert found.mend == (
        f"If no runner uses it: git -C {place} push {fleet.server.path} "
        f"'refs/aynig/rescue/*:refs/aynig/rescue/*' && rm -r {place}"
    )
    bob.git("remote", "remove", ORIGIN)
    found = next(one for one in examine(bob.path) if one.check == "copies")
    assert "is our copy of 'origin'" in found.detail
