"""From a push to the first instruction of the script, on a runner that the server's hook wakes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import plain_remote
from bench.ground import RING, Daemon, Ground
from bench.hub import Hub, Hubs, serve, transports
from bench.measure import MILLI, Context, Row, alternate, median
from bench.remote import REMOTE

# Daemon and server are at rest before each push.
_REST = 0.5
_LIMIT = 2


def rows(context: Context) -> list[Row]:
    """By path and by HTTP."""
    found = []
    for transport in transports():
        with serve(context.folder, transport) as hubs:
            found.append(_measure(hubs, context.times(15, 2)))
    return found


def _measure(hubs: Hubs, rounds: int) -> Row:
    by_hand = hubs.plain.clone("loop")
    senders = [hub.clone("sender") for hub in (hubs.ours, hubs.plain)]
    numbers = iter(range(1000))
    # The same by hand, with a claim before it: what a runner among others can't do without.
    claimed: list[float] = []
    with _bell(hubs.ours.server) as our_bell, _bell(hubs.plain.server) as plain_bell:

        def by_hand_with(*, claims: bool) -> float:
            branch = f"task/{next(numbers)}"
            _push(senders[1], branch)
            time.sleep(_REST)
            worktree = by_hand.path.with_name("by-hand")
            begun = time.perf_counter()
            child = plain_remote.start_by_hand(by_hand, branch, worktree, claims=claims)
            os.read(plain_bell, 4096)
            took = time.perf_counter() - begun
            child.wait()
            by_hand.git("worktree", "remove", "--force", str(worktree))
            return took

        with _woken(hubs.ours) as (daemon, moments):

            def ours() -> float:
                time.sleep(_REST)
                moments.write_bytes(b"")
                _push(senders[0], f"task/{next(numbers)}")
                os.read(our_bell, 4096)
                rung = time.time_ns()
                daemon.await_notices("answer")
                # The lease and the answer are pushes, too.
                return (rung - int(moments.read_text().split()[0])) / 1e9

            def plain() -> float:
                claimed.append(by_hand_with(claims=True))
                return by_hand_with(claims=False)

            our_times, plain_times = alternate(ours, plain, rounds)
    ratio = median(our_times) / median(plain_times)
    return Row(
        name="woken",
        what=f"push to first instruction on another runner, {hubs.transport}",
        ours=median(our_times) * MILLI,
        plain=median(plain_times) * MILLI,
        unit="ms",
        ratio=ratio,
        target=f"{_LIMIT}x of fetch, worktree and start",
        met=ratio <= _LIMIT,
        note=("woken by the hook" if hubs.transport == "file" else "woken by POST /wake")
        + f"; {median(our_times) / median(claimed):.2f}x of the same by hand with a claim, which "
        f"takes {median(claimed) * MILLI:.0f} ms",
    )


@contextmanager
def _woken(hub: Hub) -> Iterator[tuple[Daemon, Path]]:
    """A daemon that the server's hook wakes, and the file with the moment of each push."""
    moments, clone = hub.server.path / "moments", hub.clone("runner")
    hook = hub.server.path / "hooks/post-receive"
    hook.parent.mkdir(exist_ok=True)
    port = _free_port()
    flags = [*REMOTE, *(["--wake-listen", str(port)] if hub.transport == "HTTP" else [])]
    with Daemon(clone, jobs=1, flags=flags) as daemon:
        lines = ["#!/bin/sh", f"date +%s%N >>'{moments}'"]
        if hub.transport == "HTTP":
            # A forge calls an address; the hook of aynig is for runners beside the server.
            address = f"http://127.0.0.1:{port}/wake"
            lines.append(f"curl -s -X POST {address} </dev/null >/dev/null 2>&1 &")
        hook.write_text("\n".join([*lines, ""]))
        hook.chmod(0o755)
        if hub.transport == "file":
            install = [sys.executable, "-m", "aynig", "hooks", "install", "--server"]
            subprocess.run(install, cwd=hub.server.path, check=True, capture_output=True)
        yield daemon, moments


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def _bell(ground: Ground) -> Iterator[int]:
    descriptor = os.open(ground.bell, os.O_RDWR)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _push(sender: Ground, branch: str) -> None:
    oid = sender.state_commit(RING, "refs/remotes/origin/main")
    sender.git("push", "--quiet", "origin", f"{oid}:refs/heads/{branch}")
