"""`aynig runners`: who is there, at a glance and for programs."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Shell
from tests.fleet import Fleet
from tests.stage import daemon
from tests.world import wait_for

KEYS = {
    "runner", "host", "pid", "agent", "roles", "jobs", "state", "since", "seen", "tasks",
}  # fmt: skip
WHO = ("--remote", "origin", "--agent", "bob", "--role", "tester", "--role", "writer")


@pytest.fixture
def fleet(tmp_path: Path, aynig: Shell, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    gate = tmp_path / "gate"
    wait = f"while [ ! -e {gate} ]; do sleep 0.05; done"
    fleet = Fleet.make(tmp_path, {"roles/tester/go": wait, "roles/writer/go": "exit 0"})
    monkeypatch.chdir(fleet.clone("alice").path)
    return fleet


def test_where_nobody_is_it_says_how_to_start_one(aynig: Shell) -> None:
    said = aynig("runners")
    assert said.status == 0
    assert "aynig daemon" in said.out
    assert aynig("runners", "--json").rows == []


def test_a_daemon_is_shown_idle_then_at_work_then_dead_and_not_once_it_stopped(
    fleet: Fleet, aynig: Shell
) -> None:
    def rows() -> list[dict[str, Any]]:
        return aynig("runners", "--remote", "origin", "--json").rows

    with daemon(fleet.clone("bob").path, *WHO) as bob:
        (row,) = wait_for(rows, what="bob to announce himself")
        assert set(row) == KEYS
        assert (row["state"], row["agent"], row["roles"]) == ("idle", "bob", ["tester", "writer"])
        assert (row["pid"], row["tasks"]) == (bob.process.pid, [])
        fleet.tasks.task()
        run = bob.wait_for("run")["run"]
        (row,) = rows()
        assert (row["state"], row["agent"]) == ("running", "bob")
        (task,) = row["tasks"]
        assert (task["branch"], task["state"], task["run"]) == ("task", "go", run)
        assert 0 < task["lease_left"] <= task["lease_seconds"] == 60
        (status,) = aynig("status", "--remote", "origin", "--json").rows
        assert (status["runner"], status["lease_seconds"]) == (row["runner"], 60)
        assert 0 < status["lease_left"] <= 60
        os.kill(bob.process.pid, signal.SIGKILL)
        bob.process.wait()
        (row,) = rows()
        assert row["state"] == "dead"
        (fleet.folder / "gate").touch()
    with daemon(fleet.clone("bob").path, *WHO):
        fleet.tasks.wait_for_state("done")
        wait_for(lambda: [row["state"] for row in rows()] == ["idle"], what="the dead to be swept")
    assert rows() == []


@pytest.mark.parametrize("columns", [80, 160])
def test_the_table_tells_all_of_it(
    fleet: Fleet, aynig: Shell, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    fleet.tasks.task()
    with fleet.live("bob", agent="bob", roles=("tester",), jobs=2) as bob:
        run = wait_for(lambda: bob.of("run"), what="the task to run")[0].run
        shown = re.sub(r"\x1b\[[0-9;]*m", "", aynig("runners", "--remote", "origin").out)
        (fleet.folder / "gate").touch()
        fleet.tasks.wait_for_state("done")
    assert all(len(line) <= columns for line in shown.splitlines())
    text = " ".join(shown.split())
    for word in ("running", f"task: go, run {run}, lease ", " of 1m left"):
        assert word in text
