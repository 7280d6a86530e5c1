"""`aynig cancel` ends a task and its script; what the script made is kept."""

from __future__ import annotations

import signal

from tests.cli.conftest import Shell
from tests.world import wait_for

WORKS = '#!/bin/sh\necho work >made\necho "$$" >"{place}"\nexec sleep 600\n'


def test_a_running_script_is_stopped_by_the_daemon_and_its_work_kept(aynig: Shell) -> None:
    place = aynig.repo.path.parent / "pid"
    aynig.repo.commit(
        "x\n\naynig: go\n",
        branch="task",
        parent=aynig.repo.tip(),
        files={".aynig/go": WORKS.format(place=place)},
    )
    daemon = aynig.start("daemon", "--log-format", "json")
    wait_for(lambda: place.exists() and place.read_text().strip(), what="the script")
    said = aynig("cancel", "task", "-m", "superseded")
    assert said.status == 0
    assert said.out == f"task {aynig.repo.tip('task')}\n"
    assert "is stopped by" in said.err
    assert str(daemon.pid) in said.err
    wait_for(lambda: rescued(aynig), what="the rescue")
    (kept,) = rescued(aynig)
    assert aynig.repo.git("show", f"{kept}:made") == "work"
    assert aynig.repo.state("task") == "canceled"
    daemon.send_signal(signal.SIGTERM)
    out, _ = daemon.communicate()
    assert daemon.returncode == 0
    assert b'"kind": "refused"' in out


def rescued(aynig: Shell) -> list[str]:
    return aynig.repo.git("for-each-ref", "--format=%(refname)", "refs/aynig/rescue/").split()


def test_a_task_that_waits_is_canceled_at_once(aynig: Shell) -> None:
    oid = aynig.repo.commit("x\n\naynig: go\n", branch="task", parent=aynig.repo.tip())
    (row,) = aynig("cancel", "task", "--json").rows
    assert row == {"branch": "task", "oid": aynig.repo.tip("task"), "state": "canceled"}
    assert aynig.repo.fields("task") == {"": "canceled", "cancels": oid}
    assert aynig("run").out == "Nothing to run.\n"


def test_what_has_ended_is_not_canceled_again(aynig: Shell) -> None:
    aynig.repo.commit("x\n\naynig: go\n", branch="task", parent=aynig.repo.tip())
    aynig("cancel", "task")
    said = aynig("cancel", "task")
    assert said.status == 1
    assert said.err.startswith("aynig: task has ended already: canceled")
    assert said.err.endswith("There is nothing to cancel.\n")
