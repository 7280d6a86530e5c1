"""A line between a runner and a server that can be pulled out and put back.

With root's rights it is a real one: the runner is in a network namespace of its own, and its
interface goes down (ip-netns(8)). Without, it is the proxy, which takes connections and passes
nothing on. In both nobody is told that the other end is gone.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from tests.proxy import FAIR, LOOPBACK, Proxy, Weather
from tests.servers import GitDaemon, Listening, SmartHttp, Sshd, require, running

KINDS: Mapping[str, type[Listening]] = {"daemon": GitDaemon, "http": SmartHttp, "ssh": Sshd}
_NEEDS = {"http": ("lighttpd", "lighttpd"), "ssh": ("sshd", "openssh-server")}
_numbers = itertools.count()


class Cable(Protocol):
    """The line; `prefix` starts a command at the runner's end, where the server has this `url`."""

    @property
    def prefix(self) -> tuple[str, ...]: ...

    @property
    def url(self) -> str: ...

    def cut(self) -> None:
        """From now on no byte goes through; connections that are open stay so."""

    def mend(self) -> None:
        """All is as it was; what was under way may arrive late."""


class _Namespace:
    def __init__(self, name: str, url: str) -> None:
        self.prefix = ("ip", "netns", "exec", name)
        self.url = url
        self._outer = _outer(name)

    def cut(self) -> None:
        _ip("link", "set", self._outer, "down")

    def mend(self) -> None:
        _ip("link", "set", self._outer, "up")


class _Proxied:
    prefix: tuple[str, ...] = ()

    def __init__(self, proxy: Proxy, url: str) -> None:
        self._proxy = proxy
        self.url = url

    def cut(self) -> None:
        self._proxy.weather = Weather(silent=True)

    def mend(self) -> None:
        self._proxy.weather = FAIR


@contextlib.contextmanager
def wired(kind: str, root: Path, name: str) -> Iterator[tuple[Listening, Cable]]:
    """A server of the repositories in `root`, and a cable to the repository `name` there."""
    if kind in _NEEDS:
        require(*_NEEDS[kind])
    folder = root.parent / f"{root.name}-{kind}"
    if not _may_have_namespaces():
        with running(KINDS[kind](root, folder, LOOPBACK)) as server, Proxy(server.port) as proxy:
            yield server, _Proxied(proxy, server.url(name, port=proxy.port))
        return
    with _namespace() as (space, host), running(KINDS[kind](root, folder, host)) as server:
        yield server, _Namespace(space, server.url(name))


def _may_have_namespaces() -> bool:
    """Only root may make them, and not in every container."""
    if os.getuid() != 0 or not shutil.which("ip"):
        return False
    name = f"ay{os.getpid()}x"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    if made.returncode == 0:
        _ip("netns", "del", name)
    return made.returncode == 0


@contextlib.contextmanager
def _namespace() -> Iterator[tuple[str, str]]:
    """A network namespace and the address of this side, as seen from it."""
    # Others may run the same tests beside us: their pids differ, and so the networks.
    number = os.getpid() * 4 + next(_numbers) % 4
    name = f"ay{number}"
    net = f"10.{64 + (number >> 14) % 64}.{(number >> 6) & 255}.{{}}"
    here, there = net.format((number & 63) * 4 + 1), net.format((number & 63) * 4 + 2)
    _ip("netns", "add", name)
    try:
        _ip("link", "add", _outer(name), "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("addr", "add", f"{here}/30", "dev", _outer(name))
        _ip("link", "set", _outer(name), "up")
        _ip("-n", name, "addr", "add", f"{there}/30", "dev", "eth0")
        _ip("-n", name, "link", "set", "eth0", "up")
        _ip("-n", name, "link", "set", "lo", "up")
        yield name, here
    finally:
        # The interface goes with the namespace, which lives as long as a process in it does.
        subprocess.run(["ip", "link", "del", _outer(name)], capture_output=True, check=False)
        _ip("netns", "del", name)


def _outer(name: str) -> str:
    return f"{name}o"


def _ip(*args: str) -> None:
    done = subprocess.run(["ip", *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {args}: {done.stderr}"
