"""Who a process is, and how to end it together with what it left behind.

A pid alone names nobody: it is used again. Boot id, PID namespace and start time make it a name
(proc(5)). A script's process group is not all of it either: what calls setsid leaves the group,
and only two traces remain (design section 5, "Killing only the process group"): it is handed
to us when its parent dies, because we are its sub-reaper (prctl(2)), and its environment still
carries the run's id.

Where there is no `/proc`, everything here answers "cannot be told" or finds nothing.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Container, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import AnyStr, NamedTuple

from aynig.model import Holder

MARK = "AYNIG_RUN_ID"

_PR_SET_CHILD_SUBREAPER = 36
# linux/sched.h
_PF_EXITING = 0x4
_PF_KTHREAD = 0x200000
_PROC = Path("/proc")
_ROUNDS = 64
# How long a killed process may take to be gone; only one stuck in the kernel takes longer.
_PATIENCE = 2.0


class _Stat(NamedTuple):
    """The fields of /proc/<pid>/stat that are of use here (proc(5))."""

    state: str
    parent: int
    group: int
    session: int
    flags: int
    started: str
    # Where its environment lies in its memory; 0 where we are not told.
    env_start: int
    env_end: int

    @property
    def dead(self) -> bool:
        return self.state in "ZXx"

    @property
    def is_in_exec(self) -> bool:
        """Its environment looks empty only because it is exchanged for another just now."""
        if self.dead or self.flags & (_PF_EXITING | _PF_KTHREAD):
            return False
        return self.env_start != self.env_end or self.env_end == 0


def _stat(pid: int) -> _Stat | None:
    text = _read(f"/proc/{pid}/stat")
    # The command name stands in brackets and may hold brackets and spaces itself.
    fields = text[text.rfind(b")") + 1 :].split()
    if len(fields) < 49:
        return None
    parent, group, session, flags, env_start, env_end = (
        int(fields[place]) for place in (1, 2, 3, 6, 47, 48)
    )
    state, started = fields[0].decode(), fields[19].decode()
    return _Stat(state, parent, group, session, flags, started, env_start, env_end)


def _read(path: str) -> bytes:
    """All of a file below /proc; empty if it is gone or not for us. (Path is slow in here.)"""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    return _read_to_end(fd)


def _read_to_end(fd: int) -> bytes:
    try:
        chunks = list(iter(lambda: os.read(fd, 65536), b""))
    except OSError:
        return b""
    finally:
        os.close(fd)
    return b"".join(chunks)


# --- who a process is


@functools.cache
def boot_id() -> str:
    """What a pid of this process's world is valid in: `<boot>/<PID namespace>/<machine>`.

    Parts that cannot be told are empty. The machine is a hash, since machine-id(5) asks not to
    show the id itself; two clones of one image that share a host name differ at least by it.
    """
    boot = _read("/proc/sys/kernel/random/boot_id").decode().strip()
    if not boot:
        return ""
    try:
        namespace = str((_PROC / "self/ns/pid").stat().st_ino)
    except OSError:
        namespace = ""
    machine = _read("/etc/machine-id").strip()
    shown = hashlib.sha256(b"aynig" + machine).hexdigest()[:12] if machine else ""
    return f"{boot}/{namespace}/{shown}"


def start_time(pid: int) -> str:
    """When a process began, in clock ticks since the boot; empty if it is gone."""
    stat = _stat(pid)
    return stat.started if stat else ""


def is_running(pid: int) -> bool:
    """Is there a process of this number, other than one that ended and is not yet waited for?"""
    stat = _stat(pid)
    return stat is not None and not stat.dead


def this_holder(runner: str) -> Holder:
    """The calling process, as a lease names it."""
    pid = os.getpid()
    return Holder(runner, socket.gethostname(), pid, boot_id(), start_time(pid))


def is_alive(holder: Holder) -> bool | None:
    """Whether the process that holds a lease still runs; None where that cannot be told.

    It can be told of processes of this host only, and not of those in another container.
    """
    if holder.host != socket.gethostname():
        return None
    boot, namespace, machine = _parts(holder.boot)
    our_boot, our_namespace, our_machine = _parts(boot_id())
    if machine and our_machine and machine != our_machine:
        return None
    if boot and our_boot and boot != our_boot:
        return False
    if namespace and our_namespace and namespace != our_namespace:
        return None
    return _is_running(holder.pid, holder.started)


def _parts(boot: str) -> tuple[str, str, str]:
    first, _, rest = boot.partition("/")
    namespace, _, machine = rest.partition("/")
    return first, namespace, machine


def _is_running(pid: int, started: str) -> bool | None:
    if pid <= 0:
        return False
    stat = _stat(pid)
    if stat is not None:
        return not stat.dead and (stat.started == started if started else None)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return None
    # It exists but has no /proc entry: it has just ended, or there is no /proc to compare with.
    return False if _stat(os.getpid()) else None


# --- the children of this process


class OwnChildren:
    """The children that this process started in sessions of their own and will wait for itself.

    All of those have to be started through `start`: a session leader that is not in here counts
    as a stray, and its exit status would be taken from whoever waits for it.
    """

    def __init__(self) -> None:
        self._pids: set[int] = set()
        self._lock = threading.Lock()

    def start(self, popen: Callable[[], subprocess.Popen[AnyStr]]) -> subprocess.Popen[AnyStr]:
        """Call `popen` and keep its pid in mind until `ended`; its exceptions pass through."""
        with self._lock:
            child = popen()
            self._pids.add(child.pid)
        return child

    def ended(self, pid: int) -> None:
        """The owner has the exit status."""
        self._pids.discard(pid)

    def __contains__(self, pid: object) -> bool:
        if pid in self._pids:
            return True
        # A child exists a moment before its pid is known here: wait for starts under way.
        with self._lock:
            return pid in self._pids


OWN = OwnChildren()


@functools.cache
def _prctl() -> Callable[..., int] | None:
    try:
        function: Callable[..., int] = ctypes.CDLL(None, use_errno=True).prctl
    except (OSError, AttributeError):
        return None
    return function


def become_subreaper() -> bool:
    """From now on orphaned descendants become children of this process, not of init.

    False where the system has no such thing. It lasts as long as the process.
    """
    prctl = _prctl()
    return prctl is not None and prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def keep_exit_statuses() -> None:
    """Undo an ignored SIGCHLD that was inherited: with it, exit statuses are lost (wait(2)).

    Popen would report success for every child. Has an effect in the main thread only.
    """
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        with suppress(ValueError):
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def adopted_children(known: Container[int] = OWN) -> list[int]:
    """Children in other sessions that are not `known`: orphans that were handed to us.

    A child that shares our session is never one: scripts get a session of their own, and no
    process can join an existing one.
    """
    ours = os.getsid(0)
    found = []
    for pid in _children():
        stat = _stat(pid)
        if stat is not None and stat.session != ours and pid not in known:
            found.append(pid)
    return found


def _children() -> set[int]:
    """The direct children of all threads, dead ones not yet waited for among them."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except (ChildProcessError, AttributeError):
        return set()
    paths = [f"{thread.path}/children" for thread in _numbered(f"/proc/{os.getpid()}/task")]
    if not any(map(os.path.exists, paths)):
        parent = os.getpid()
        pids = (int(entry.name) for entry in _numbered("/proc"))
        return {pid for pid in pids if (stat := _stat(pid)) and stat.parent == parent}
    # Twice, because a listing may skip a child when another one ends meanwhile (proc(5)).
    return {int(pid) for path in paths * 2 for pid in _read(path).split()}


def _numbered(folder: str) -> list[os.DirEntry[str]]:
    """The entries of a folder of /proc that stand for processes or threads."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if entry.name.isdigit()]
    except OSError:
        return []


def reap_strays(run: str, known: Container[int] = OWN, *, session: int = 0) -> list[int]:
    """End what a run left behind outside of its process group; the pids that were killed.

    A stray is an adopted child with this run's mark or in the session that the run began in.
    Adopted children that have ended are waited for, whoever's they were.
    """
    killed: list[int] = []
    for _ in range(_ROUNDS):
        adopted = adopted_children(known)
        if not adopted:
            break
        strays = {pid: None for pid in adopted if _belongs(pid, run, session)}
        if strays:
            killed += _kill(strays, lambda pid: _belongs(pid, run, session))
            # Its own children may be marked strays as well, and are not ours to see yet.
            killed += kill_marked(run)
        for pid in adopted:
            _reap(pid)
        if not strays:
            break
    return killed


def reap_dead() -> None:
    """Wait for adopted children that have ended: what a git of ours has left, say.

    Where no script ends, nobody else does.
    """
    for pid in adopted_children():
        _reap(pid)


def end_processes_with(arguments: Collection[str]) -> None:
    """End the process groups of those that were started with one of these arguments."""
    wanted = {os.fsencode(argument) for argument in arguments}
    for entry in _numbered("/proc"):
        with suppress(OSError):
            words = Path(entry.path, "cmdline").read_bytes().split(b"\0")
            if wanted.intersection(words) and os.getpgid(int(entry.name)) == int(entry.name):
                os.killpg(int(entry.name), signal.SIGTERM)


def _belongs(pid: int, run: str, session: int) -> bool:
    stat = _stat(pid)
    if stat is None or stat.dead:
        return False
    return (session > 0 and stat.session == session) or _mark(pid, MARK) == run


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


# --- the mark that a run leaves in its environment


def kill_marked(run: str, *, variable: str = MARK) -> list[int]:
    """SIGKILL all of our user's processes that have `variable=run`; the pids that were killed.

    Looks again until none is left. The calling process and its ancestors are spared.
    """
    killed: list[int] = []
    for _ in range(_ROUNDS):
        found = {pid: None for pid, mark in _marked(variable) if mark == run}
        if not found:
            break
        killed += _kill(found, lambda pid: _mark(pid, variable) == run)
    return list(dict.fromkeys(killed))


def marked_processes(is_dead_run: Callable[[str], bool]) -> dict[int, str]:
    """Our user's processes that carry the mark of a run that `is_dead_run` says has ended."""
    verdicts: dict[str, bool] = {}
    found = {}
    for pid, run in _marked(MARK):
        if run not in verdicts:
            verdicts[run] = is_dead_run(run)
        if verdicts[run]:
            found[pid] = run
    return found


def _marked(variable: str) -> Iterator[tuple[int, str]]:
    user = os.geteuid()
    spared = _lineage()
    for entry in _numbered("/proc"):
        pid = int(entry.name)
        try:
            foreign = entry.stat().st_uid != user
        except OSError:
            continue
        if foreign or pid in spared:
            continue
        mark = _mark(pid, variable)
        if mark:
            yield pid, mark


def _mark(pid: int, variable: str) -> str:
    """The value of a variable in the environment that a process was started with."""
    environment = _environment(pid)
    start = f"{variable}=".encode()
    # Most environments of a machine don't have it: look before taking them apart.
    if start not in environment:
        return ""
    for entry in environment.split(b"\0"):
        if entry.startswith(start):
            return os.fsdecode(entry[len(start) :])
    return ""


def _environment(pid: int) -> bytes:
    """The environment that a process was started with; empty if it is not for us.

    In the middle of execve(2) it reads as empty, which is just when a stray was begun: only
    what is empty for good counts.
    """
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fd = os.open(f"/proc/{pid}/environ", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return b""
        environment = _read_to_end(fd)
        if environment:
            return environment
        stat = _stat(pid)
        if stat is None or not stat.is_in_exec or time.monotonic() > deadline:
            return b""
        # Nothing tells when an execve ends; it takes less than a turn of the processor.
        time.sleep(0)


def _lineage() -> set[int]:
    """The calling process and its ancestors."""
    line: set[int] = set()
    pid = os.getpid()
    while pid > 0 and pid not in line:
        line.add(pid)
        stat = _stat(pid)
        pid = stat.parent if stat else 0
    return line


def _kill(pids: Iterable[int], still: Callable[[int], bool]) -> list[int]:
    """SIGKILL those of `pids` that `still` holds for, and wait until they are dead."""
    pidfd_open: Callable[[int], int] | None = getattr(os, "pidfd_open", None)
    killed, handles = [], []
    try:
        for pid in pids:
            try:
                # The handle first, the look second: so the pid can't be somebody else's by now.
                if pidfd_open is not None:
                    handles.append(pidfd_open(pid))
                if still(pid):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
            except OSError:
                continue
        _await_all(handles if killed else [])
    finally:
        for handle in handles:
            os.close(handle)
    return killed


def _await_all(handles: Iterable[int]) -> None:
    """Wait until the processes behind pidfds have ended, but not for ever."""
    deadline = time.monotonic() + _PATIENCE
    for handle in handles:
        waiting = select.poll()
        waiting.register(handle, select.POLLIN)
        waiting.poll(max(0.0, deadline - time.monotonic()) * 1000)
