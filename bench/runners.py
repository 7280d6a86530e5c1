"""Many runners on one queue: how well the work is spread, and how often they fight for a task."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bench import plain_remote
from bench.ground import NAP, NAP_SECONDS, REST, REST_SECONDS, Daemon, Ground
from bench.hub import Hub, Trace, serve, transports, wake
from bench.measure import MILLI, Context, Row
from bench.remote import REMOTE

_RUNNERS = 8
_GAIN, _LOST = 6, 2
_PATIENCE = 300.0


@dataclass(frozen=True, slots=True)
class Queue:
    """The tasks: how many there are, and after how many one runner is stopped."""

    transport: str
    state: str
    seconds: float
    tasks: int
    of_one: int


_QUEUES = (
    Queue("file", NAP, NAP_SECONDS, 300, 30),
    # By HTTP a task costs more, and what is measured is a rate.
    Queue("HTTP", NAP, NAP_SECONDS, 100, 30),
    # So long that the processors have time for all of them.
    Queue("file", REST, REST_SECONDS, 96, 10),
)


@dataclass(frozen=True, slots=True)
class Race:
    """Tasks a second, and claims that were lost for each of them."""

    rate: float
    lost: float
    # Processor time of runners, server and all that they have started, in seconds for a task.
    busy: float


def rows(context: Context) -> list[Row]:
    """One runner and many, by path and by HTTP, the shell loops after them."""
    found = []
    for queue in _QUEUES:
        if queue.transport not in transports():
            continue
        tasks, some = context.times(queue.tasks, 40), context.times(queue.of_one, 6)
        queue = replace(queue, tasks=tasks)
        ours: list[Race] = []
        plain: list[Race] = []
        for runners, count in ((1, some), (_RUNNERS, tasks)):
            folder = context.folder / f"{queue.transport}-{queue.state}-{runners}"
            folder.mkdir()
            with serve(folder, queue.transport) as hubs, Trace(folder) as trace:
                ours.append(_ours(hubs.ours, trace, runners, queue, count))
                plain.append(_plain(hubs.plain, trace, runners, queue, count))
        found.append(_row(queue, ours, plain))
    return found


def _ours(hub: Hub, trace: Trace, runners: int, queue: Queue, count: int) -> Race:
    with contextlib.ExitStack() as stack:
        clones = [hub.clone(f"runner{number}") for number in range(runners)]
        daemons = [stack.enter_context(Daemon(clone, jobs=1, flags=REMOTE)) for clone in clones]
        trace.settle()
        pids = [*(daemon.pid for daemon in daemons), *hub.servers()]
        mark, idle, begun = _put_tasks(hub, trace, queue), _busy(pids), time.perf_counter()
        for clone in clones:
            wake(clone)
        _await([daemon.pipe for daemon in daemons], b'"kind": "answer"', count)
        took, busy = time.perf_counter() - begun, _busy(pids) - idle
    return Race(count / took, _rejected(trace, mark) / count, busy / count)


def _plain(hub: Hub, trace: Trace, runners: int, queue: Queue, count: int) -> Race:
    clones = [hub.clone(f"loop{number}") for number in range(runners)]
    worktrees = [plain_remote.make_worktree(clone) for clone in clones]
    mark, idle, begun = _put_tasks(hub, trace, queue), _busy(hub.servers()), time.perf_counter()
    with _loops(clones, worktrees) as loops:
        _await([loop.stdout.fileno() for loop in loops if loop.stdout], b"many/", count)
        took = time.perf_counter() - begun
        busy = _busy([*(loop.pid for loop in loops), *hub.servers()]) - idle
    return Race(count / took, _rejected(trace, mark) / count, busy / count)


@contextlib.contextmanager
def _loops(clones: list[Ground], worktrees: list[Path]) -> Iterator[list[subprocess.Popen[bytes]]]:
    loops = [
        plain_remote.start_loop(clone, worktree)
        for clone, worktree in zip(clones, worktrees, strict=True)
    ]
    try:
        yield loops
    finally:
        for loop in loops:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(loop.pid, signal.SIGKILL)
            loop.communicate()


def _put_tasks(hub: Hub, trace: Trace, queue: Queue) -> int:
    """Set all branches at once; where the record of git commands ended before."""
    names = [f"refs/heads/many/{number}" for number in range(queue.tasks)]
    refs = hub.server.state_commits(queue.state, names)
    mark = trace.mark()
    hub.server.set_refs(refs)
    return mark


def _await(pipes: list[int], sign: bytes, count: int) -> None:
    """Read what several processes print, up to so many lines with a sign."""
    deadline = time.monotonic() + _PATIENCE
    with selectors.DefaultSelector() as selector:
        for pipe in pipes:
            selector.register(pipe, selectors.EVENT_READ)
        left = count
        rest = dict.fromkeys(pipes, b"")
        while left > 0:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{left} of {count} are missing after {_PATIENCE:.0f} s")
            for key, _ in selector.select(1.0):
                text = os.read(key.fd, 65536)
                if not text:
                    selector.unregister(key.fd)
                *lines, rest[key.fd] = (rest[key.fd] + text).split(b"\n")
                left -= sum(sign in line for line in lines)


def _rejected(trace: Trace, mark: int) -> int:
    """Claims that somebody else was faster with: pushes that were refused."""
    return sum(command.exit != 0 for command in trace.commands(mark) if command.is_claim)


def _busy(pids: list[int]) -> float:
    """Seconds of processor time of processes and of those that they have waited for (proc(5))."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _row(queue: Queue, ours: list[Race], plain: list[Race]) -> Row:
    gain, plain_gain = (many.rate / one.rate for one, many in (ours, plain))
    return Row(
        name="runners",
        what=f"{_RUNNERS} runners, {queue.tasks} tasks of {queue.seconds} s, {queue.transport}",
        ours=ours[1].rate,
        plain=plain[1].rate,
        unit="tasks/s",
        ratio=plain[1].rate / ours[1].rate,
        target=f"{_GAIN}x of one, at most {_LOST} lost claims a task",
        met=gain >= _GAIN and ours[1].lost <= _LOST,
        note=f"{gain:.1f}x of one at {ours[0].rate:.1f}/s, {ours[1].lost:.2f} lost, "
        f"{ours[1].busy * MILLI:.0f} ms of processor time a task; "
        f"plain {plain_gain:.1f}x, {plain[1].lost:.2f} lost, {plain[1].busy * MILLI:.0f} ms",
    )
