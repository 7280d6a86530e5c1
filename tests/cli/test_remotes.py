"""Commands that speak of a remote, as a person, a crontab or a job calls them."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from aynig.lease import Leases
from aynig.runs import new_run_id
from aynig.scan import read_event
from tests.cli.conftest import Shell
from tests.fleet import Fleet
from tests.world import GitRepo, wait_for

SCRIPTS = {
    "go": "echo made >made",
    "fail": "exit 3",
    "wait": 'until [ -e "$GATE" ]; do sleep 0.1; done',
}


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """A server, and a clone of it that is the working directory."""
    fleet = Fleet.make(tmp_path, SCRIPTS)
    monkeypatch.chdir(fleet.clone("here").path)
    return fleet


@pytest.fixture
def shell(aynig: Shell, fleet: Fleet) -> Shell:
    """`aynig` in that clone."""
    aynig.repo = fleet.clone("here")
    return aynig


def put(fleet: Fleet, state: str, branch: str = "task") -> None:
    """A task on the server."""
    message = f"Please {state}\n\naynig: {state}\n"
    fleet.server.commit(message, branch=branch, parent=fleet.server.tip())


def break_server(fleet: Fleet) -> None:
    fleet.server.path.rename(fleet.folder / "away.git")


def add_backup(fleet: Fleet) -> GitRepo:
    """A second remote of the clone, `backup`, with the same default branch."""
    backup = GitRepo.init(fleet.folder / "backup.git", bare=True, empty=True)
    fleet.server.git("push", "--quiet", str(backup.path), "main")
    fleet.clone("here").git("remote", "add", "backup", str(backup.path))
    return backup


# --- run ----------------------------------------------------------------------------------------


def test_a_run_that_finds_nothing_to_do_succeeds(shell: Shell) -> None:
    said = shell("run", "--remote", "origin")
    assert (said.status, said.out, said.err) == (0, "Nothing to run.\n", "")
    assert shell("run", "--remote", "origin", "--json").rows == []


def test_a_run_that_failed_on_a_remote_is_exit_status_1(shell: Shell, fleet: Fleet) -> None:
    put(fleet, "fail", "bad")
    put(fleet, "go", "good")
    said = shell("run", "--remote", "origin", "--json")
    assert said.status == 1
    assert {row["branch"]: row["state"] for row in said.rows} == {"bad": "failed", "good": "done"}


@pytest.mark.parametrize("more", [[], ["--quiet"], ["--json"]])
def test_a_remote_that_can_t_be_reached_is_one_line_and_exit_status_1(
    shell: Shell, fleet: Fleet, more: list[str]
) -> None:
    break_server(fleet)
    said = shell("run", "--remote", "origin", *more)
    assert (said.status, said.out) == (1, "[]\n" if more == ["--json"] else "")
    assert said.err.startswith("aynig: here:origin: '")
    assert "See whether the URL is right" in said.err
    assert said.err.count("\n") == 1


def test_a_remote_that_is_out_of_reach_hides_nothing_of_the_others(
    shell: Shell, fleet: Fleet
) -> None:
    add_backup(fleet)
    shell("submit", "go", "-b", "task", "--remote", "backup")
    break_server(fleet)
    said = shell("run", "--remote", "origin", "--remote", "backup")
    assert said.status == 1
    assert "1 run, 0 failed." in said.out
    assert "run      here:backup: task: go" in said.err
    assert said.err.splitlines()[-1].startswith("aynig: here:origin: ")


@pytest.mark.parametrize("more", [[], ["--quiet"], ["--json"]])
def test_a_server_that_takes_no_lease_is_told_of_with_exit_status_1(
    shell: Shell, fleet: Fleet, more: list[str]
) -> None:
    put(fleet, "go")
    hook = fleet.server.path / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'closed on Sundays' >&2\nexit 1\n")
    hook.chmod(0o755)
    said = shell("run", "--remote", "origin", *more)
    assert said.status == 1
    (line,) = [line for line in said.err.splitlines() if "closed on Sundays" in line]
    assert "task: go: refused: " in line
    assert "A hook of the server said no" in line


def test_a_task_of_somebody_else_s_is_no_failure_and_the_way_to_see_it_is_named(
    shell: Shell, fleet: Fleet
) -> None:
    shell("submit", "go", "-b", "task", "--to", "bob", "--remote", "origin")
    said = shell("run", "--remote", "origin", "--agent", "alice")
    assert said.status == 0
    assert "hold     task: go: assigned: " in said.err
    assert said.out == "Nothing to run: 1 task is held, see `aynig status --remote origin`.\n"


def test_a_task_that_another_runner_has_is_left_to_it(
    shell: Shell, fleet: Fleet, tmp_path: Path
) -> None:
    put(fleet, "wait")
    gate = tmp_path / "gate"
    runner = shell.start("run", "-q", "--remote", "origin", GATE=str(gate))
    wait_for(lambda: fleet.lease("task"), what="the lease")
    said = shell("run", "--remote", "origin")
    assert said.status == 0
    assert "hold     task: wait: running: on " in said.err
    assert said.out.startswith("Nothing to run: 1 task is held")
    gate.touch()
    runner.communicate()
    assert runner.returncode == 0


def leave_lease(fleet: Fleet) -> None:
    """A lease of another machine's runner that nobody renews."""
    site = fleet.open("there")
    assert site.mirror is not None
    site.mirror.sync(leases=True)
    event = read_event(site.repo, "refs/heads/task", fleet.server.tip("task"), site.read)
    assert event is not None
    holder = replace(site.holder, host="elsewhere", boot="another")
    leases = Leases(site.repo, site.store, holder, seconds=5, is_alive=lambda holder: None)
    leases.acquire(event, None, new_run_id(), 1)
    site.close()


def test_what_a_dead_machine_has_left_is_taken_over_only_where_that_is_waited_for(
    shell: Shell, fleet: Fleet
) -> None:
    put(fleet, "go")
    leave_lease(fleet)
    assert "running: on elsewhere" in shell("run", "--remote", "origin").err
    said = shell("run", "--remote", "origin", "--take-over", "--json")
    assert [(row["state"], row["attempt"]) for row in said.rows] == [("done", 2)]


def test_an_interrupt_is_exit_status_130_and_leaves_the_task_to_the_next(
    shell: Shell, fleet: Fleet, tmp_path: Path
) -> None:
    put(fleet, "wait")
    fleet.clone("here").git("config", "aynig.grace", "1")
    runner = shell.start("run", "-q", "--remote", "origin", GATE=str(tmp_path / "gate"))
    wait_for(lambda: fleet.lease("task"), what="the lease")
    runner.send_signal(signal.SIGINT)
    runner.communicate()
    assert runner.returncode == 130
    assert fleet.server.state("task") == "wait"
    assert shell("status", "--remote", "origin", "--json").rows[0]["hold"] is None


def test_of_several_remotes_each_line_names_its_own(shell: Shell, fleet: Fleet) -> None:
    add_backup(fleet)
    put(fleet, "go", "one")
    shell("submit", "go", "-b", "two", "--remote", "backup")
    said = shell("run", "--remote", "origin", "--remote", "backup")
    assert said.status == 0
    assert "answer   here:origin: one: go -> done" in said.err
    assert "answer   here:backup: two: go -> done" in said.err


# --- status -------------------------------------------------------------------------------------


def test_that_nobody_works_is_said_of_this_clone_alone(shell: Shell, fleet: Fleet) -> None:
    put(fleet, "go")
    said = shell("status", "--remote", "origin")
    assert said.lines[-2:] == [
        "No runner of this clone is at work; those of other machines may be.",
        "To take part: `aynig run --remote origin`.",
    ]


def test_several_remotes_are_shown_each_under_its_name(shell: Shell, fleet: Fleet) -> None:
    add_backup(fleet)
    for name in ("origin", "backup", "."):
        fleet.clone("here").git("config", "--add", "aynig.remote", name)
    put(fleet, "go", "one")
    lines = shell("status").lines
    assert lines[0] == "origin:"
    assert lines[2].startswith("one ")
    there = lines.index("backup:")
    assert lines[there - 1 : there + 2] == [
        "",
        "backup:",
        "No task there: no branch carries a state. See `aynig submit --help`.",
    ]
    assert "This repository:" in lines
    (row,) = shell("status", "--json").rows
    assert (row["remote"], row["branch"]) == ("origin", "one")


def test_the_others_are_shown_where_one_can_t_be_asked(shell: Shell, fleet: Fleet) -> None:
    add_backup(fleet)
    for name in ("origin", "backup"):
        fleet.clone("here").git("config", "--add", "aynig.remote", name)
    shell("submit", "go", "-b", "two", "--remote", "backup")
    break_server(fleet)
    said = shell("status")
    assert said.status == 1
    assert said.lines[0] == "backup:"
    assert said.err.startswith("aynig: origin: ")
    assert [row["branch"] for row in json.loads(shell("status", "--json").out)] == ["two"]


@pytest.mark.parametrize(
    "command", [["log", "x"], ["submit", "go"], ["cancel", "x"], ["retry", "x"]]
)
def test_what_needs_one_remote_says_which_there_are(
    shell: Shell, fleet: Fleet, command: list[str]
) -> None:
    add_backup(fleet)
    for name in ("origin", "backup"):
        fleet.clone("here").git("config", "--add", "aynig.remote", name)
    said = shell(*command)
    assert (said.status, said.out) == (2, "")
    assert said.err == (
        "aynig: aynig.remote names several: 'origin', 'backup'. Name one of them: --remote origin\n"
    )


# --- remotes that are not ready -----------------------------------------------------------------


def test_a_remote_that_is_empty_takes_a_task_and_says_what_is_missing(
    aynig: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    GitRepo.init(tmp_path / "server.git", bare=True, empty=True)
    here = GitRepo.init(tmp_path / "here", empty=True)
    here.git("remote", "add", "origin", str(tmp_path / "server.git"))
    monkeypatch.chdir(here.path)
    assert aynig("run", "--remote", "origin").out == "Nothing to run.\n"
    assert aynig("status", "--remote", "origin").out.startswith("No task there")
    assert aynig("submit", "hello", "-b", "task", "--remote", "origin").status == 0
    said = aynig("run", "--remote", "origin")
    assert said.status == 1
    assert "scripts come from refs/heads/main, which does not exist: Push that branch" in said.err
    assert aynig("init").status == 0
    here.git("add", ".aynig")
    here.git("commit", "--quiet", "--message=Add aynig")
    here.git("push", "--quiet", "origin", "main")
    assert aynig("run", "--remote", "origin", "--json").rows[0]["state"] == "done"


def test_a_remote_whose_head_names_no_branch_says_which_is_missing(
    shell: Shell, fleet: Fleet
) -> None:
    put(fleet, "go")
    fleet.server.git("symbolic-ref", "HEAD", "refs/heads/gone")
    fleet.clone("other")
    said = shell("-C", str(fleet.clones["other"].path), "status", "--remote", "origin", "--json")
    (row,) = said.rows
    assert row["hold"] == "bad-config"
    assert "refs/heads/gone, which does not exist" in row["detail"]


@pytest.mark.parametrize("command", ["status", "run", "daemon", "log", "doctor"])
def test_an_empty_name_is_not_taken_for_no_remote(shell: Shell, command: str) -> None:
    said = shell(command, "--remote", "")
    assert said.status == 2
    assert "it is empty: name a remote, or . for the repository itself" in said.err
