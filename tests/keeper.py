"""Runs a server as a child, and ends it together with everything that it started.

    python -I -S keeper.py COMMAND...

A process group is not enough: `sshd` gives each connection a session of its own. So this process
is their sub-reaper (prctl(2)): whatever loses its parent becomes its child, and all of it can be
found by asking who is whose parent. It is told by its standard input: `term` ends the server
gracefully, `kill` and the end of the input (the tests are dead) at once. It goes when nothing is
left below it.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

_PR_SET_CHILD_SUBREAPER = 36
# Seconds that a server and its connections have after SIGTERM. A safety net.
_GRACE = 10.0


def descendants() -> list[int]:
    """The pids of all living processes below this one."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208, a Path for each process costs more
        if not entry.isdigit():
            continue
        with suppress(OSError), open(f"/proc/{entry}/stat", "rb") as file:  # noqa: PTH123
            text = file.read()
            state, parent = text[text.rfind(b")") + 1 :].split()[:2]
            if state not in (b"Z", b"X"):
                children.setdefault(int(parent), []).append(int(entry))
    found: list[int] = []
    waiting = [os.getpid()]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(OSError):
            os.kill(pid, number)


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _ended(gone: Callable[[], bool], patience: float) -> bool:
    """Reap until `gone()`; False where that takes longer than `patience` seconds."""
    deadline = time.monotonic() + patience
    while not gone():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
        _reap()
    return True


def _kill() -> None:
    # Until nobody is left: what is just being started is not in the first list.
    while left := descendants():
        _signal(left, signal.SIGKILL)
        _ended(lambda: not descendants(), 0.1)
    # All are dead and ours now: none is left for an init that may be slow to take them.
    with suppress(ChildProcessError):
        while True:
            os.wait()


def _terminate(server: int) -> None:
    """First the server alone, so that no new connection is taken; then what still goes on."""
    _signal([server], signal.SIGTERM)
    _ended(lambda: server not in descendants(), _GRACE)
    _signal(descendants(), signal.SIGTERM)
    _ended(lambda: not descendants(), _GRACE)


def main(command: list[str]) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    bell, ringer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(ringer, warn_on_full_buffer=False)
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True).pid
    while server in descendants():
        ready = select.select([0, bell], [], [])[0]
        if bell in ready:
            os.read(bell, 4096)
            _reap()
        if 0 in ready:
            if os.read(0, 64).strip() == b"term":
                _terminate(server)
            break
    _kill()


if __name__ == "__main__":
    main(sys.argv[1:])
