"""The default executor, against real scripts with every bad habit and against real signals."""

from __future__ import annotations

import contextlib
import math
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from aynig.errors import LeaseLost, WaitUntil
from aynig.executors import Control, Executor, Job
from aynig.executors.subprocess import SubprocessExecutor
from aynig.model import RunResult
from aynig.processes import OWN, adopted_children, marked_processes, start_time
from tests.world import wait_for

# What a script waits for that the test ends by a signal.
FOREVER = "while :; do sleep 1000 & wait $!; done\n"
# Tells the test that the traps above it are in place.
READY = "touch ready\n"


@dataclass
class Bench:
    """A folder to run scripts in."""

    folder: Path
    executor: Executor = field(default_factory=SubprocessExecutor)

    def job(
        self,
        text: str | bytes,
        *,
        interpreter: str = "/bin/sh",
        mode: int = 0o755,
        run: str = "",
        argv: tuple[str, ...] = (),
        timeout: float = math.inf,
        grace: float = 60.0,
    ) -> Job:
        # Another id in each test: whoever tests beside us must not be taken for a stray.
        run = run or f"run-of-{self.folder}"
        program = self.folder / "script"
        data = text if isinstance(text, bytes) else f"#!{interpreter}\n{text}".encode()
        program.write_bytes(data)
        program.chmod(mode)
        return Job(
            program=str(program),
            argv=argv,
            cwd=str(self.folder),
            env={"PATH": os.environ["PATH"], "AYNIG_RUN_ID": run},
            output=self.folder / "output",
            output_limit=1 << 20,
            timeout=timeout,
            grace=grace,
            run=run,
        )

    def run(self, text: str | bytes, **settings: object) -> RunResult:
        job = self.job(text, **settings)  # type: ignore[arg-type]
        return self.executor.execute(job, Control())

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text()

    def pid(self, name: str) -> int:
        """A pid that a script wrote down."""
        file = self.folder / name
        return int(wait_for(lambda: file.exists() and file.read_text().strip(), what=name))

    def wait_until_ready(self) -> None:
        wait_for((self.folder / "ready").exists, what="the script to be ready")

    def assert_gone(self, *names: str) -> None:
        for name in names:
            pid = self.pid(name)
            wait_for(lambda pid=pid: start_time(pid) == "", what=f"{name} to be gone")  # type: ignore[misc]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def stopped_when_ready(
    bench: Bench,
    thread: ThreadPoolExecutor,
    text: str,
    *stops: tuple[str, float | None],
    grace: float = 60.0,
) -> RunResult:
    """Run a script, ask it to stop once it is ready, and see how it ended."""
    control = Control()
    job = bench.job(text, grace=grace)
    running: Future[RunResult] = thread.submit(bench.executor.execute, job, control)
    bench.wait_until_ready()
    for stop in stops:
        control.stop(*stop)
    return running.result(timeout=60)


# --- what the script gets and gives


@pytest.mark.parametrize("status", [0, 1, 75, 255], ids=str)
def test_the_exit_status_is_the_script_s(bench: Bench, status: int) -> None:
    result = bench.run(f"exit {status}\n")
    assert (result.exit, result.signal, result.stopped, result.fault) == (status, None, "", "")
    assert result.succeeded is (status == 0)


def test_a_script_that_dies_by_a_signal_has_no_exit_status(bench: Bench) -> None:
    result = bench.run("kill -9 $$\n")
    assert (result.exit, result.signal, result.stopped) == (None, signal.SIGKILL, "")


def test_both_streams_are_kept_in_the_order_they_were_written(bench: Bench) -> None:
    result = bench.run("echo one; echo two >&2; echo three\n")
    assert bench.output == "one\ntwo\nthree\n"
    assert result.output == str(bench.folder / "output")


def test_the_environment_is_exactly_the_one_given(bench: Bench) -> None:
    # env(1) itself, because a shell adds variables of its own.
    job = replace(bench.job(""), program="/usr/bin/env")
    bench.executor.execute(job, Control())
    assert dict(line.split("=", 1) for line in bench.output.splitlines()) == dict(job.env)


def test_arguments_folder_and_standard_input(bench: Bench) -> None:
    bench.run('cat; pwd; printf "%s|" "$@"\n', argv=("a b", "", "$x"))
    assert bench.output == f"{bench.folder}\na b||$x|"


def test_a_signal_that_is_blocked_here_is_not_blocked_there(bench: Bench) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        result = bench.run("kill -TERM $$; exit 3\n")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert result.signal == signal.SIGTERM


def test_duration_and_start_are_those_of_the_run(bench: Bench) -> None:
    result = bench.run("exit 0\n")
    assert result.duration > 0
    assert result.started > 0


# --- output


def test_a_hundred_megabytes_neither_fill_memory_nor_the_disk(bench: Bench) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = bench.run("head -c 100000000 /dev/zero; echo the end\n")
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert result.exit == 0
    assert after - before < 20_000  # KiB
    data = (bench.folder / "output").read_bytes()
    assert len(data) <= (1 << 20) + 100
    assert data.endswith(b"\0the end\n")


def test_a_script_that_closes_its_output_is_waited_for(bench: Bench) -> None:
    result = bench.run("echo before; exec >&- 2>&-; sleep 0.2; : >later; exit 7\n")
    assert result.exit == 7
    assert (bench.folder / "later").exists()
    assert bench.output == "before\n"


def test_an_output_that_cannot_be_kept_does_not_stop_the_run(bench: Bench) -> None:
    job = bench.job("head -c 1000000 /dev/zero; exit 3\n")
    (bench.folder / "output").mkdir()
    control = Control()
    assert bench.executor.execute(job, control).exit == 3
    assert "Is a directory" in control.output_problem


# --- what it leaves behind


def test_background_children_end_with_the_script(bench: Bench) -> None:
    result = bench.run("sleep 1000 & echo $! >child; (trap '' TERM HUP; sleep 1000) & exit 5\n")
    assert result.exit == 5
    bench.assert_gone("child")


def test_a_script_that_forks_and_exits_has_ended(bench: Bench) -> None:
    result = bench.run(
        "(echo $$ >/dev/null; sh -c 'echo $$ >child; sleep 1000') &\n"
        "while [ ! -s child ]; do :; done; exit 4\n"
    )
    assert result.exit == 4
    bench.assert_gone("child")


@pytest.mark.parametrize(
    "streams", ["", ">/dev/null 2>&1"], ids=["holding-the-pipe", "with-streams-of-its-own"]
)
def test_what_left_the_group_by_setsid_is_found(bench: Bench, streams: str) -> None:
    result = bench.run(
        f"setsid sh -c 'echo $$ >stray; exec sleep 1000' {streams} &\n"
        "while [ ! -s stray ]; do :; done; echo last words; exit 6\n"
    )
    assert result.exit == 6
    assert bench.output == "last words\n"
    bench.assert_gone("stray")


def test_a_stray_of_a_stray_is_found(bench: Bench) -> None:
    inner = 'setsid sh -c "echo \\$\\$ >inner; exec sleep 1000" & echo $$ >outer; sleep 1000'
    result = bench.run(
        f"setsid sh -c '{inner}' &\nwhile [ ! -s inner ] || [ ! -s outer ]; do :; done; exit 0\n"
    )
    assert result.succeeded
    bench.assert_gone("inner", "outer")


def test_a_job_with_a_group_and_an_environment_of_its_own_is_found(bench: Bench) -> None:
    result = bench.run(
        "set -m; env -i sh -c 'echo $$ >job; exec sleep 1000' &\n"
        "while [ ! -s job ]; do :; done; exit 0\n",
        interpreter="/bin/bash",
    )
    assert result.succeeded
    bench.assert_gone("job")


# --- being ended


def test_at_the_timeout_the_group_is_asked_to_end(bench: Bench) -> None:
    result = bench.run("trap 'echo cleaned up; exit 9' TERM\n" + FOREVER, timeout=1.0)
    assert (result.exit, result.stopped) == (9, "timeout")
    # The shell may tell of the children that were ended as well.
    assert bench.output.endswith("cleaned up\n")


def test_what_ignores_sigterm_is_killed_after_the_grace(bench: Bench) -> None:
    result = bench.run(
        "trap '' TERM\nsh -c 'echo $$ >child; while :; do sleep 1; done' &\n"
        "setsid sh -c 'echo $$ >stray; while :; do sleep 1; done' &\n"
        "while :; do sleep 1; done\n",
        timeout=0.5,
        grace=0.1,
    )
    assert (result.signal, result.stopped) == (signal.SIGKILL, "timeout")
    bench.assert_gone("child", "stray")


def test_the_rest_of_the_group_has_its_grace_when_the_main_process_is_gone(
    bench: Bench, thread: ThreadPoolExecutor
) -> None:
    agent = f'trap "sleep 0.2; : >saved; exit" TERM; {READY.strip()}; while :; do sleep 0.05; done'
    result = stopped_when_ready(
        bench, thread, f"sh -c '{agent}' &\nwait\n", ("canceled", None), grace=60
    )
    assert (result.signal, result.stopped) == (signal.SIGTERM, "canceled")
    assert (bench.folder / "saved").exists()


def test_a_stopped_process_ends_as_well(bench: Bench, thread: ThreadPoolExecutor) -> None:
    result = stopped_when_ready(bench, thread, READY + "kill -STOP $$\n", ("canceled", None))
    assert (result.signal, result.stopped) == (signal.SIGTERM, "canceled")


@pytest.mark.parametrize("reason", ["canceled", "lease-lost"])
def test_a_cancel_asks_at_once(bench: Bench, thread: ThreadPoolExecutor, reason: str) -> None:
    text = "trap 'exit 3' TERM\n" + READY + FOREVER
    result = stopped_when_ready(bench, thread, text, (reason, None))
    assert (result.exit, result.stopped) == (3, reason)


def test_a_cancel_kills_after_its_grace(bench: Bench, thread: ThreadPoolExecutor) -> None:
    text = "trap '' TERM\n" + READY + "while :; do sleep 1; done\n"
    result = stopped_when_ready(bench, thread, text, ("canceled", 0.1))
    assert (result.signal, result.stopped) == (signal.SIGKILL, "canceled")


def test_a_drain_lets_the_script_end_by_itself(bench: Bench, thread: ThreadPoolExecutor) -> None:
    text = "trap 'exit 3' TERM\n" + READY + "sleep 0.3; exit 0\n"
    result = stopped_when_ready(bench, thread, text, ("drained", 60.0))
    assert (result.exit, result.stopped) == (0, "")
    assert result.succeeded


def test_a_drain_asks_after_its_grace(bench: Bench, thread: ThreadPoolExecutor) -> None:
    text = "trap 'exit 3' TERM\n" + READY + FOREVER
    result = stopped_when_ready(bench, thread, text, ("drained", 0.2))
    assert (result.exit, result.stopped) == (3, "drained")


def test_a_drain_ends_what_does_not_listen(bench: Bench, thread: ThreadPoolExecutor) -> None:
    text = "trap '' TERM\n" + READY + "while :; do sleep 1; done\n"
    result = stopped_when_ready(bench, thread, text, ("drained", 0.1))
    assert (result.signal, result.stopped) == (signal.SIGKILL, "drained")


def test_a_second_stop_without_grace_kills_at_once(
    bench: Bench, thread: ThreadPoolExecutor
) -> None:
    text = "trap '' TERM\n" + READY + "while :; do sleep 1; done\n"
    result = stopped_when_ready(bench, thread, text, ("drained", 1e6), ("drained", 0))
    assert (result.signal, result.stopped) == (signal.SIGKILL, "drained")


def test_the_stronger_reason_counts(bench: Bench, thread: ThreadPoolExecutor) -> None:
    text = READY + FOREVER
    stops = [("drained", 1e6), ("lease-lost", None), ("canceled", 0.0)]
    assert stopped_when_ready(bench, thread, text, *stops).stopped == "lease-lost"


def test_a_run_that_was_stopped_before_it_began_starts_nothing(bench: Bench) -> None:
    control = Control()
    control.stop("drained", 60)
    result = bench.executor.execute(bench.job(": >started\n"), control)
    assert (result.exit, result.signal, result.stopped) == (None, None, "drained")
    assert not (bench.folder / "started").exists()


def test_a_stop_after_the_end_does_nothing(bench: Bench) -> None:
    control = Control()
    assert bench.executor.execute(bench.job("exit 0\n"), control).succeeded
    control.stop("canceled")
    assert control.stopped == "canceled"


def test_a_reason_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="no reason"):
        Control().stop("bored")


# --- ticks


def test_ticks_go_on_while_the_script_runs(bench: Bench) -> None:
    ticks: list[int] = []

    def tick() -> None:
        ticks.append(1)
        if len(ticks) == 3:
            (bench.folder / "go").touch()

    control = Control(tick, interval=0.02)
    text = "while [ ! -e go ]; do sleep 0.01; done; exit 0\n"
    assert bench.executor.execute(bench.job(text), control).succeeded


def test_a_tick_that_lost_the_lease_ends_the_run(bench: Bench) -> None:
    def tick() -> None:
        raise LeaseLost("somebody else has it")

    control = Control(tick, interval=0.05)
    result = bench.executor.execute(bench.job(FOREVER), control)
    assert (result.signal, result.stopped) == (signal.SIGTERM, "lease-lost")
    assert isinstance(control.tick_problem, LeaseLost)


def test_a_tick_that_fails_otherwise_is_tried_again(bench: Bench) -> None:
    problems: list[Exception | None] = []

    def tick() -> None:
        problems.append(control.tick_problem)
        if len(problems) < 3:
            raise OSError("the remote is away")
        (bench.folder / "go").touch()

    control = Control(tick, interval=0.02)
    text = "while [ ! -e go ]; do sleep 0.01; done; exit 0\n"
    assert bench.executor.execute(bench.job(text), control).succeeded
    assert problems[0] is None
    assert all(isinstance(problem, OSError) for problem in problems[1:3])
    assert control.tick_problem is None


# --- what can't be started


@pytest.mark.parametrize(
    ("text", "mode", "fault"),
    [
        ("", 0o644, "run bit"),
        (b"#!/does/not/exist -x\n", 0o755, "its interpreter /does/not/exist does not exist"),
        (b"#!/bin/sh\r\nexit 0\r\n", 0o755, "CR LF"),
        (b"#!/etc/passwd\n", 0o755, "its interpreter /etc/passwd is not executable"),
        (b"echo no shebang\n", 0o755, "no shebang"),
        (b"", 0o755, "no shebang"),
        (b"\x7fELF but not really", 0o755, "no program of this machine"),
    ],
    ids=["run-bit", "interpreter", "crlf", "not-executable", "no-shebang", "empty", "broken-elf"],
)
def test_a_script_that_cannot_be_started_says_why(
    bench: Bench, text: str | bytes, mode: int, fault: str
) -> None:
    result = bench.run(text, mode=mode)
    assert (result.exit, result.signal, result.succeeded) == (None, None, False)
    assert fault in result.fault
    assert "\n" not in result.fault


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"program": "/does/not/exist"}, "No such file"),
        ({"program": "/"}, "directory"),
        ({"cwd": "/does/not/exist"}, "working directory"),
        ({"env": {"BIG": "x" * 200_000}}, "larger than the kernel takes"),
        ({"argv": ("x" * 200_000,)}, "larger than the kernel takes"),
        ({"env": {"A": "nul\0"}}, "environment"),
        ({"env": {"A=B": "x"}}, "environment"),
    ],
    ids=["missing", "folder", "no-cwd", "big-variable", "big-argument", "nul", "odd-name"],
)
def test_a_job_that_cannot_be_started_says_why(
    bench: Bench, changes: dict[str, object], fault: str
) -> None:
    job = replace(bench.job(""), **changes)  # type: ignore[arg-type]
    result = bench.executor.execute(job, Control())
    assert fault in result.fault
    assert result.exit is None


def test_a_machine_with_no_room_is_no_fault_of_the_script(bench: Bench) -> None:
    job = bench.job("exit 0\n")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 8, hard))
    taken = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        # The output file gets one; a process needs more.
        os.close(taken.pop())
        with pytest.raises(WaitUntil, match="no process can be started now"):
            bench.executor.execute(job, Control())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)
    assert bench.executor.execute(job, Control()).succeeded


# --- many runs


def test_runs_leave_no_descriptor_and_no_child(bench: Bench) -> None:
    def descriptors() -> set[str]:
        return set(map(str, Path(f"/proc/{os.getpid()}/fd").iterdir()))

    good = bench.job("sleep 1000 & exit 0\n")
    bench.executor.execute(good, Control())
    before, children = descriptors(), adopted_children()
    for _ in range(200):
        assert bench.executor.execute(good, Control()).succeeded
    bad = bench.job("", mode=0o644)
    for _ in range(20):
        assert bench.executor.execute(bad, Control()).fault
    assert descriptors() == before
    assert adopted_children() == children


def test_parallel_runs_never_take_each_other_s_children(tmp_path: Path) -> None:
    """Eight threads of 50 runs, strays in a third of them, beside other users of children."""
    done = threading.Event()
    runs = f"parallel-{os.getpid()}-"

    def one_thread(number: int) -> list[tuple[int | None, int]]:
        folder = tmp_path / str(number)
        folder.mkdir()
        bench = Bench(folder)
        found = []
        for turn in range(50):
            status = (number * 50 + turn) % 256
            stray = (
                f"setsid sh -c 'echo $$ >stray{turn}; exec sleep 1000' &\n"
                f"while [ ! -s stray{turn} ]; do :; done\n"
                if turn % 3 == 0
                else "sleep 1000 &\n"
            )
            result = bench.run(f"{stray}exit {status}\n", run=f"{runs}{number}-{turn}")
            found.append((result.exit, status))
        return found

    def bystander(own_session: bool) -> set[int]:
        found = set()
        while not done.is_set():
            child = OWN.start(
                lambda: subprocess.Popen(["sh", "-c", "exit 9"], start_new_session=own_session)
            )
            found.add(child.wait())
            OWN.ended(child.pid)
        return found

    with ThreadPoolExecutor(10) as pool:
        beside = [pool.submit(bystander, own_session) for own_session in (True, False)]
        try:
            results = [pair for pairs in pool.map(one_thread, range(8)) for pair in pairs]
        finally:
            done.set()
        assert [future.result() for future in beside] == [{9}, {9}]
    assert [exit_status for exit_status, _ in results] == [status for _, status in results]
    assert len(list(tmp_path.glob("*/stray*"))) == 8 * 17
    assert marked_processes(lambda run: run.startswith(runs)) == {}


def test_a_process_that_ignores_its_children_learns_their_exit_status_all_the_same(
    bench: Bench,
) -> None:
    job = bench.job("exit 3\n")
    program = (
        "import pathlib, sys\n"
        "from aynig.executors import Control, Job\n"
        "from aynig.executors.subprocess import SubprocessExecutor\n"
        "program, folder = sys.argv[1:]\n"
        "job = Job(program=program, cwd=folder, env={}, output=pathlib.Path(folder, 'output'),\n"
        "          output_limit=4096, grace=1.0, run='run-of-a-child')\n"
        "print(SubprocessExecutor().execute(job, Control()).exit)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, job.program, job.cwd],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN),
    )
    assert done.stdout == "3\n", done.stderr


def test_a_system_without_pidfd_and_eventfd_is_served_as_well(
    bench: Bench, thread: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    monkeypatch.delattr(os, "eventfd")
    assert bench.run("sleep 1000 & echo $! >child; exit 5\n").exit == 5
    bench.assert_gone("child")
    text = "trap 'exit 3' TERM\n" + READY + FOREVER
    result = stopped_when_ready(bench, thread, text, ("canceled", None))
    assert (result.exit, result.stopped) == (3, "canceled")


def test_a_tick_that_is_due_between_two_jobs_of_a_run_is_not_put_off_by_the_next() -> None:
    control = Control()
    control.set_tick(lambda: None, 1000.0)
    with control.attached():
        due = control.next_tick
    with control.attached():
        assert control.next_tick == due
