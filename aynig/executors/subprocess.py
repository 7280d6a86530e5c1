"""Runs a job as a process of this machine: the default executor.

The script gets a session of its own, and when its main process is gone, everything else that it
started is ended too: a script owns its worktree only for as long as it runs. What stays in the
process group is found by that, what left it by sub-reaper and mark (aynig.processes).
"""

from __future__ import annotations

import array
import errno
import fcntl
import math
import os
import selectors
import signal
import subprocess
import termios
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from aynig import processes
from aynig.errors import RunFault, WaitUntil
from aynig.executors import Control, Job, Stop, stronger
from aynig.executors.output import CHUNK, OutputFile
from aynig.model import RunResult

# After a drain's grace: the script had its time, this is only for its last words.
LAST_WORDS = 2.0

_NO_ROOM = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
# The longest sleep of the loop: poll(2) counts milliseconds in an int.
_LONGEST_WAIT = 3600.0
_POLL = 0.02
# How long what was killed may take to be gone.
_PATIENCE = 2.0


class SubprocessExecutor:
    """Starts the program of a job directly, with no shell in between.

    Makes this process the sub-reaper of its descendants. Session leaders that other code starts
    in this process have to go through `processes.OWN.start`.
    """

    def __init__(self) -> None:
        processes.keep_exit_statuses()
        self._subreaper = processes.become_subreaper()

    def execute(self, job: Job, control: Control) -> RunResult:
        """Run it to its end; see the protocol."""
        started, begun = time.time(), time.monotonic()
        fault, stopped, status = "", control.stopped, None
        if not stopped:
            output = OutputFile(job.output, job.output_limit)
            try:
                run = _Run(job, control, output, self._subreaper)
                status, stopped = run.execute()
            except RunFault as error:
                fault = str(error)
            finally:
                output.close()
                control.output_problem = output.problem
        return RunResult(
            exit=status if status is not None and status >= 0 else None,
            signal=-status if status is not None and status < 0 else None,
            started=started,
            duration=time.monotonic() - begun,
            stopped=stopped,
            fault=fault,
            output=str(job.output),
        )


# --- ending a run


class _Ending:
    """When which signal is due. All times are of the monotonic clock."""

    def __init__(self) -> None:
        self.reason = ""
        self.signalled = False
        self.term_at = math.inf
        self.kill_at = math.inf

    def ask(self, stop: Stop, now: float, usual_grace: float) -> None:
        """A wish to stop; of several, the earlier time and the stronger reason count."""
        grace = max(0.0, usual_grace if stop.grace is None else stop.grace)
        patient = stop.reason == "drained"
        term_at = now + grace if patient else now
        kill_at = term_at + (min(grace, LAST_WORDS) if patient else grace)
        self.reason = stronger(self.reason, stop.reason)
        self.kill_at = min(self.kill_at, kill_at)
        if not self.signalled:
            self.term_at = min(self.term_at, term_at)

    def due(self, now: float) -> signal.Signals | None:
        """The signal to send now, once each."""
        if now >= self.kill_at:
            self.term_at = self.kill_at = math.inf
            self.signalled = True
            return signal.SIGKILL
        if now >= self.term_at:
            self.term_at = math.inf
            self.signalled = True
            return signal.SIGTERM
        return None

    @property
    def next(self) -> float:
        return min(self.term_at, self.kill_at)

    @property
    def in_grace(self) -> bool:
        """Between SIGTERM and SIGKILL."""
        return self.signalled and self.kill_at < math.inf


class _Run:
    """One run: the process, its pipe, and the loop around them."""

    def __init__(self, job: Job, control: Control, output: OutputFile, subreaper: bool) -> None:
        self._job = job
        self._control = control
        self._output = output
        self._subreaper = subreaper
        self._ending = _Ending()
        # poll(2) needs no descriptor of its own, and there are three at most to wait for.
        self._selector = selectors.PollSelector()

    def execute(self) -> tuple[int, str]:
        """The return code as Popen gives it, and why aynig ended it, if it did."""
        with ExitStack() as stack:
            try:
                wake = stack.enter_context(self._control.attached())
            except OSError as error:
                raise _no_room(error) from error
            self._child = child = _start(self._job)
            assert child.stdout is not None
            self._pipe = child.stdout
            self._deadline = time.monotonic() + self._job.timeout
            stack.callback(self._leave)
            self._selector.register(wake, selectors.EVENT_READ, self._take)
            self._selector.register(self._pipe, selectors.EVENT_READ, self._pump)
            self._watch()
            self._end_group()
            self._end_strays()
            self._drain()
            return child.returncode, self._ending.reason if self._ending.signalled else ""

    def _leave(self) -> None:
        """Whatever happened: no process without an owner, no descriptor left open."""
        if self._child.returncode is None:
            self._signal(signal.SIGKILL)
            self._reap()
        self._pipe.close()
        self._selector.close()

    def _reap(self) -> None:
        self._child.wait()
        processes.OWN.ended(self._child.pid)

    # --- while the script runs

    def _watch(self) -> None:
        """Until the main process has ended; it is not waited for yet, which keeps its pid ours."""
        pidfd = _pidfd(self._child.pid)
        if pidfd is None:
            while not _has_ended(self._child):
                self._turn(_POLL)
            return
        try:
            self._selector.register(pidfd, selectors.EVENT_READ)
            while not self._turn():
                pass
            self._selector.unregister(pidfd)
        finally:
            os.close(pidfd)

    def _turn(self, longest: float = _LONGEST_WAIT) -> bool:
        """Wait for the next thing and do it; whether the main process was seen to have ended."""
        now = time.monotonic()
        due = min(self._ending.next, self._control.next_tick, self._deadline)
        for key, _ in self._selector.select(max(0.0, min(due - now, longest))):
            if key.data is None:
                return True
            key.data()
        now = time.monotonic()
        if now >= self._control.next_tick:
            self._control.tick()
            now = time.monotonic()
        if now >= self._deadline:
            self._deadline = math.inf
            # A script that is being ended already has no more time to run out of.
            if not self._ending.signalled:
                self._ending.ask(Stop("timeout"), now, self._job.grace)
        number = self._ending.due(now)
        if number is not None:
            self._signal(number)
        return False

    def _take(self) -> None:
        now = time.monotonic()
        for stop in self._control.take():
            self._ending.ask(stop, now, self._job.grace)

    def _pump(self) -> None:
        chunk = os.read(self._pipe.fileno(), CHUNK)
        if chunk:
            self._output.write(chunk)
        else:
            # All writers closed it, which says nothing about whether the script goes on.
            self._selector.unregister(self._pipe)
            self._pipe.close()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, number)
            if number == signal.SIGTERM:
                # A stopped process would keep the signal for later.
                os.killpg(self._child.pid, signal.SIGCONT)

    # --- after its main process

    def _end_group(self) -> None:
        """Nothing of the process group goes on. What was sent SIGTERM has its grace, though."""
        if self._ending.in_grace:
            self._reap()
            while self._ending.in_grace and self._group_lives():
                self._turn(_POLL)
        else:
            # Before the pid is given back: afterwards the number could be another group's.
            self._signal(signal.SIGKILL)
            self._reap()
        deadline = time.monotonic() + _PATIENCE
        while self._group_lives() and time.monotonic() < deadline:
            self._signal(signal.SIGKILL)
            # No event tells that a group is empty: its members may be others' children.
            time.sleep(0.001)

    def _group_lives(self) -> bool:
        """Whether the process group has members yet. As sub-reaper we are the parent of them."""
        group = self._child.pid
        try:
            while os.waitpid(-group, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            if self._subreaper:
                return False
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, 0)
                return True
            return False
        return True

    def _end_strays(self) -> None:
        if self._subreaper:
            processes.reap_strays(self._job.run, session=self._child.pid)
        else:
            processes.kill_marked(self._job.run)

    def _drain(self) -> None:
        """Take what is in the pipe now. Who holds it open yet is not waited for."""
        if self._pipe.closed:
            return
        pipe = self._pipe.fileno()
        waiting = array.array("i", [0])
        fcntl.ioctl(pipe, termios.FIONREAD, waiting)
        left = waiting[0]
        while left > 0 and (chunk := os.read(pipe, min(left, CHUNK))):
            self._output.write(chunk)
            left -= len(chunk)


# --- starting


def _start(job: Job) -> subprocess.Popen[bytes]:
    """Raises RunFault where the script can't be started, WaitUntil where none can be now."""
    patience = time.monotonic() + _PATIENCE
    while True:
        try:
            return processes.OWN.start(lambda: _popen(job))
        except OSError as error:
            # Another thread's child can hold a file that was just written, until its own exec.
            if error.errno == errno.ETXTBSY and time.monotonic() < patience:
                # No event tells when that is.
                time.sleep(0.005)
                continue
            if error.errno in _NO_ROOM:
                raise _no_room(error) from error
            raise RunFault(_why_not(error, job)) from error
        except ValueError as error:
            raise RunFault(f"its environment can't be passed on: {error}") from error


def _popen(job: Job) -> subprocess.Popen[bytes]:
    # A blocked signal is inherited: a script started from such a thread could not be ended.
    blocked = signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        # No preexec_fn, so that Popen can use vfork (design section 5, "Starting processes").
        return subprocess.Popen(
            [job.program, *job.argv],
            cwd=job.cwd,
            env=job.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            close_fds=True,
            start_new_session=True,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _no_room(error: OSError) -> WaitUntil:
    return WaitUntil(
        f"no process can be started now: {error.strerror}",
        hint="Look at the limits of processes and open files (ulimit -u, ulimit -n).",
    )


def _why_not(error: OSError, job: Job) -> str:
    """Why execve(2) refused, in one clause about the script."""
    if error.filename is not None and os.fspath(error.filename) == job.cwd:
        return f"its working directory can't be entered: {error.strerror}"
    shebang = _shebang(job.program)
    interpreter = (shebang.split() or [""])[0]
    if error.errno == errno.ENOEXEC:
        if interpreter:
            return f"its interpreter {interpreter} is no program of this machine"
        return "it has no shebang line and is no program of this machine"
    if error.errno == errno.ENOENT and os.path.lexists(job.program):
        if shebang.endswith("\r"):
            return f"its first line ends in CR LF, so there is no interpreter {interpreter!r}"
        return f"its interpreter {interpreter or '(dynamic loader)'} does not exist"
    if error.errno == errno.EACCES:
        if Path(job.program).is_dir():
            return "it is a directory"
        if os.access(job.program, os.X_OK) and interpreter:
            return f"its interpreter {interpreter} is not executable"
        return "it has no run bit, or lies on a file system mounted noexec"
    if error.errno == errno.E2BIG:
        return "its arguments and environment are larger than the kernel takes"
    return f"it can't be started: {error.strerror}"


def _shebang(program: str) -> str:
    """What follows `#!` in the first line, with a carriage return at its end; empty if none."""
    try:
        with Path(program).open("rb") as file:
            first = file.read(256).split(b"\n")[0]
    except OSError:
        return ""
    return first[2:].decode(errors="replace") if first.startswith(b"#!") else ""


def _pidfd(pid: int) -> int | None:
    """A descriptor that becomes readable when the process ends (pidfd_open(2)), if there is one."""
    pidfd_open: Callable[[int], int] | None = getattr(os, "pidfd_open", None)
    try:
        return pidfd_open(pid) if pidfd_open is not None else None
    except OSError:
        return None


def _has_ended(child: subprocess.Popen[bytes]) -> bool:
    """Whether it ended, without taking its exit status where that can be avoided."""
    if not hasattr(os, "waitid"):
        return child.poll() is not None
    return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
