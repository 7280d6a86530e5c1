"""Who a process is, and finding what a run left behind; all with real processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from aynig.model import Holder
from aynig.processes import (
    OWN,
    OwnChildren,
    adopted_children,
    become_subreaper,
    boot_id,
    is_alive,
    kill_marked,
    marked_processes,
    reap_dead,
    reap_strays,
    start_time,
    this_holder,
)
from tests.world import wait_for

# Another id in each process: whoever tests beside us must not find our processes by their mark.
US = f"-{os.getpid()}"
RUN = f"run-1{US}"

Sleeper = subprocess.Popen[bytes]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def sleeper(
    stack: ExitStack, env: Mapping[str, str] | None = None, *, own_session: bool = False
) -> Sleeper:
    child = subprocess.Popen(
        ["sleep", "1000"], env={**os.environ, **(env or {})}, start_new_session=own_session
    )
    stack.callback(child.wait)
    stack.callback(child.kill)
    return child


def holder_of(child: Sleeper) -> Holder:
    return replace(this_holder("me"), pid=child.pid, started=start_time(child.pid))


def orphan(tmp_path: Path, run: str, command: str = "exec sleep 1000") -> int:
    """A process in a session of its own whose parent has ended; it becomes our child."""
    assert become_subreaper()
    pid_file = tmp_path / "orphan.pid"
    script = f"setsid sh -c 'echo $$ >{pid_file}.new; mv {pid_file}.new {pid_file}; {command}' &"
    subprocess.run(["sh", "-c", script], env={**os.environ, "AYNIG_RUN_ID": run}, check=True)
    wait_for(pid_file.exists, what="the orphan's pid")
    pid = int(pid_file.read_text())
    wait_for(lambda: pid in adopted_children(), what="the orphan to be handed over")
    return pid


# --- who a process is


def test_the_calling_process_is_alive() -> None:
    holder = this_holder("me")
    assert holder.runner == "me"
    assert holder.host == socket.gethostname()
    assert holder.boot == boot_id() != ""
    assert is_alive(holder) is True


def test_a_process_that_ended_is_dead_also_before_it_is_waited_for(stack: ExitStack) -> None:
    child = sleeper(stack)
    holder = holder_of(child)
    assert is_alive(holder) is True
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert is_alive(holder) is False
    child.wait()
    assert is_alive(holder) is False
    assert start_time(child.pid) == ""


def boot_with(boot: str = "", namespace: str = "", machine: str = "") -> str:
    ours = boot_id().split("/")
    return "/".join(mine or own for mine, own in zip((boot, namespace, machine), ours, strict=True))


@pytest.mark.parametrize(
    ("changes", "alive"),
    [
        ({"host": "elsewhere"}, None),
        ({"started": "1"}, False),
        ({"pid": 0}, False),
        ({"pid": -1}, False),
        ({"pid": 2**22 + 1}, False),
        ({"started": ""}, None),
        ({"boot": "another"}, False),
        ({"boot": boot_with(boot="another")}, False),
        ({"boot": boot_with(namespace="1")}, None),
        ({"boot": ""}, True),
    ],
    ids=[
        "another-host",
        "a-pid-used-again",
        "no-pid",
        "negative-pid",
        "impossible-pid",
        "no-start-time",
        "another-boot-of-unknown-machine",
        "another-boot",
        "another-container",
        "no-boot",
    ],
)
def test_a_holder_that_differs(changes: dict[str, str | int], alive: bool | None) -> None:
    assert is_alive(replace(this_holder("me"), **changes)) is alive  # type: ignore[arg-type]


def test_two_machines_of_one_name_are_not_mistaken_for_each_other() -> None:
    if boot_id().endswith("/"):
        pytest.skip("this machine has no machine-id(5)")
    holder = replace(this_holder("me"), boot=boot_with(boot="another", machine="0123456789ab"))
    assert is_alive(holder) is None


@pytest.mark.parametrize("name", ["a) S 1 2 3 (b", "two words", ")))", "("], ids=str)
def test_a_command_name_with_brackets_does_not_mislead(
    tmp_path: Path, stack: ExitStack, name: str
) -> None:
    program = tmp_path / name
    program.symlink_to(subprocess.check_output(["which", "sleep"], text=True).strip())
    child = subprocess.Popen([program, "1000"])
    stack.callback(child.wait)
    stack.callback(child.kill)
    assert f"({name[:15]})".encode() in Path(f"/proc/{child.pid}/stat").read_bytes()
    plain = sleeper(stack)
    assert int(start_time(plain.pid)) >= int(start_time(child.pid)) > 0
    assert is_alive(holder_of(child)) is True


# --- marks


def test_all_processes_with_the_mark_are_killed_and_no_others(stack: ExitStack) -> None:
    marked = [sleeper(stack, {"AYNIG_RUN_ID": RUN}, own_session=True) for _ in range(3)]
    others = [
        sleeper(stack, {"AYNIG_RUN_ID": f"{RUN}1"}),
        sleeper(stack, {"AYNIG_RUN_ID": RUN[:-1]}),
        sleeper(stack, {"X_AYNIG_RUN_ID": RUN}),
        sleeper(stack, {"OTHER": f"AYNIG_RUN_ID={RUN}"}),
        sleeper(stack),
    ]
    assert sorted(kill_marked(RUN)) == sorted(child.pid for child in marked)
    assert [child.wait() for child in marked] == [-signal.SIGKILL] * 3
    assert [child.poll() for child in others] == [None] * 5
    assert kill_marked(RUN) == []


def test_another_variable_can_be_the_mark(stack: ExitStack) -> None:
    child = sleeper(stack, {"OTHER_MARK": RUN})
    assert kill_marked(RUN, variable="OTHER_MARK") == [child.pid]


def test_the_caller_and_its_ancestors_are_spared() -> None:
    program = (
        "import subprocess, sys\n"
        'child = \'from aynig.processes import *; print(kill_marked("mine"),'
        ' marked_processes("mine".__eq__))\'\n'
        "subprocess.run([sys.executable, '-c', child], check=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "AYNIG_RUN_ID": "mine"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "[] {}\n"), done.stderr


def test_marks_of_dead_runs_are_listed_with_their_run(stack: ExitStack) -> None:
    dead = sleeper(stack, {"AYNIG_RUN_ID": f"dead{US}"})
    sleeper(stack, {"AYNIG_RUN_ID": f"alive{US}"})
    assert marked_processes(lambda run: run == f"dead{US}") == {dead.pid: f"dead{US}"}


# --- strays


def test_adopted_children_that_ended_are_waited_for_and_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    ended, lives = orphan(tmp_path / "a", RUN), orphan(tmp_path / "b", RUN)
    os.kill(ended, signal.SIGKILL)

    def is_gone() -> bool:
        reap_dead()
        return not Path(f"/proc/{ended}").exists()

    wait_for(is_gone, what="the dead one to be waited for")
    assert lives in adopted_children()
    reap_strays(RUN)


def test_a_stray_is_adopted_and_killed_by_its_mark(tmp_path: Path) -> None:
    pid = orphan(tmp_path, RUN)
    assert reap_strays("another run") == []
    assert start_time(pid) != ""
    assert pid in reap_strays(RUN)
    assert start_time(pid) == ""


def test_a_stray_that_ended_by_itself_is_waited_for(tmp_path: Path) -> None:
    pid = orphan(tmp_path, RUN)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: b") Z " in Path(f"/proc/{pid}/stat").read_bytes(), what="its death")
    assert reap_strays("another run") == []
    assert start_time(pid) == ""


def test_a_stray_with_children_goes_with_them(tmp_path: Path) -> None:
    inner = tmp_path / "inner.pid"
    pid = orphan(
        tmp_path, RUN, f'setsid sh -c "echo \\$\\$ >{inner}; exec sleep 1000" & sleep 1000'
    )
    wait_for(lambda: inner.exists() and inner.read_text().strip(), what="the inner pid")
    below = int(inner.read_text())
    assert {pid, below} <= set(reap_strays(RUN))
    assert start_time(pid) == start_time(below) == ""


def test_known_children_keep_their_exit_status() -> None:
    def popen() -> Sleeper:
        return subprocess.Popen(["sh", "-c", "exit 7"], start_new_session=True)

    child = OWN.start(popen)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert child.pid not in adopted_children()
    reap_strays("any run")
    assert child.wait() == 7
    OWN.ended(child.pid)
    assert child.pid not in OWN


def test_children_that_share_our_session_are_never_taken_for_strays() -> None:
    with subprocess.Popen(["sh", "-c", "exit 7"], env={"AYNIG_RUN_ID": "run-c"}) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        reap_strays("run-c", OwnChildren())
        assert child.wait() == 7


def test_a_start_that_fails_leaves_nothing_known() -> None:
    children = OwnChildren()
    with suppress(FileNotFoundError):
        children.start(lambda: subprocess.Popen(["/does/not/exist"], start_new_session=True))
    assert children._pids == set()
