"""What runs a plan: the values that go in, and the line to a run that is under way."""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from aynig.errors import LeaseLost
from aynig.model import RunResult

# Why a run is ended, the weaker word first: a later and stronger one replaces it.
STOP_REASONS = ("drained", "timeout", "over-budget", "moved", "canceled", "lease-lost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One program to run, with all that it gets."""

    # Absolute path; it is the first argument as well, `argv` are the others.
    program: str
    argv: tuple[str, ...] = ()
    cwd: str
    # The whole environment. `AYNIG_RUN_ID` in it is what strays are found by.
    env: Mapping[str, str]
    # Where standard output and standard error go, and how many bytes of them are kept.
    output: Path
    output_limit: int
    # Seconds; infinity for none.
    timeout: float = math.inf
    # Seconds between SIGTERM and SIGKILL.
    grace: float
    # The run's id: the value of `AYNIG_RUN_ID`.
    run: str


@dataclass(frozen=True, slots=True)
class Stop:
    """A wish that the run should end. `grace` in seconds; None means the job's own."""

    reason: str
    grace: float | None = None


class Control:
    """The line from other threads to one run. One per run; holds descriptors only while it lasts.

    A run may be several jobs, one after the other. `tick` is called every `interval` seconds in
    the thread of the run, for as long as a job lasts, and has to return soon: nothing else happens
    meanwhile. LeaseLost ends the run, any other exception is kept in `tick_problem` until a later
    tick succeeds.
    """

    def __init__(self, tick: Callable[[], None] | None = None, interval: float = math.inf) -> None:
        # What last went wrong beside the run itself; for the log.
        self.tick_problem: Exception | None = None
        self.output_problem = ""
        self._tick = tick
        self._interval = interval
        self._next_tick = math.inf
        self._lock = threading.Lock()
        self._stops: deque[Stop] = deque()
        self._reason = ""
        self._wake: tuple[int, int] | None = None

    def set_tick(self, tick: Callable[[], None], interval: float) -> None:
        """Name what is to be called while the script lives; before the run begins."""
        self._tick = tick
        self._interval = interval
        self._next_tick = time.monotonic() + interval

    def stop(self, reason: str, grace: float | None = None) -> None:
        """Ask the run to end; from any thread, also before it begins and after it ended.

        "drained" lets the script go on for `grace` seconds first; "moved" (the branch is at
        another commit), "canceled" and "lease-lost" leave it that time between SIGTERM and
        SIGKILL. A grace of 0 kills at once, also when it comes on top of an earlier wish.
        """
        if reason not in STOP_REASONS:
            raise ValueError(f"no reason to stop a run: {reason}")
        with self._lock:
            self._stops.append(Stop(reason, grace))
            self._reason = stronger(self._reason, reason)
            if self._wake is not None:
                _poke(self._wake[1])

    @property
    def stopped(self) -> str:
        """The strongest reason given so far; empty if none. The run may have ended by itself."""
        return self._reason

    # --- the executor's side

    @contextmanager
    def attached(self) -> Iterator[int]:
        """For the time of the run: a descriptor that is readable when there is a Stop to take."""
        with self._lock:
            self._wake = _wake_pair()
            if self._stops:
                _poke(self._wake[1])
            read_end = self._wake[0]
        if self._tick is not None:
            # One that was due between two jobs of one run is not put off by the next of them.
            self._next_tick = min(self._next_tick, time.monotonic() + self._interval)
        try:
            yield read_end
        finally:
            with self._lock:
                for fd in set(self._wake):
                    os.close(fd)
                self._wake = None

    def take(self) -> list[Stop]:
        """The wishes since the last call, in order."""
        with self._lock:
            if self._wake is not None:
                _calm(self._wake[0])
            stops = list(self._stops)
            self._stops.clear()
        return stops

    @property
    def next_tick(self) -> float:
        """When `tick` is due, on the monotonic clock; infinity for never."""
        return self._next_tick

    def tick(self) -> None:
        """Call `tick` and plan the next one. Raises nothing."""
        if self._tick is None:
            return
        try:
            self._tick()
        except LeaseLost as error:
            self.tick_problem = error
            self._next_tick = math.inf
            self.stop("lease-lost")
        except Exception as error:  # A remote that is away now may be back at the next tick.
            self.tick_problem = error
            self._next_tick = time.monotonic() + self._interval
        else:
            self.tick_problem = None
            self._next_tick = time.monotonic() + self._interval


class Executor(Protocol):
    """Runs a job to its end in the calling thread."""

    def execute(self, job: Job, control: Control) -> RunResult:
        """How it ended. What is the script's fault is in the result, never an exception.

        Raises WaitUntil where the machine has no room for a process at this moment.
        """
        ...


def stronger(one: str, other: str) -> str:
    """Of two reasons to stop, or empty strings, the one that counts."""
    ranks = ("", *STOP_REASONS)
    return max(one, other, key=ranks.index)


def _wake_pair() -> tuple[int, int]:
    """A descriptor to wait on and one to write to: the same where there is an eventfd."""
    if hasattr(os, "eventfd"):
        fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        return fd, fd
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    os.set_blocking(write_end, False)
    return read_end, write_end


def _poke(fd: int) -> None:
    try:
        os.write(fd, (1).to_bytes(8, "little"))
    except BlockingIOError:
        return  # It is full of pokes already.


def _calm(fd: int) -> None:
    try:
        os.read(fd, 65536)
    except BlockingIOError:
        return
