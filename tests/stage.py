"""A repository with given scripts, and the engine run on it: in this process, or as a daemon.

What a test looks at is git's own view of the repository, and the notices that the engine gave.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aynig.cli import main as command_line
from aynig.daemon import Engine
from aynig.desk import Desk
from aynig.model import HEADS
from aynig.notices import Notice
from aynig.site import Site, open_site
from aynig.status import StatusRow, status_row
from aynig.story import RunRow
from tests.chaos.world import assert_nothing_left
from tests.world import GitRepo, wait_for

# Long enough that a test which passes by polling alone does not pass in time.
NEVER = 3600.0
# A script that begins so passes the hooks by that guard its branch: a fence is no wall.
UNFENCED = "export GIT_CONFIG_COUNT=0\n"


@dataclass
class Told:
    """The notices of an engine, in order. Grows while it works."""

    notices: list[Notice] = field(default_factory=list)

    def of(self, kind: str, branch: str | None = None) -> list[Notice]:
        return [
            notice
            for notice in list(self.notices)
            if notice.kind == kind and branch in (None, notice.branch)
        ]

    def holds(self, branch: str) -> list[str]:
        """The words of the holds that were told of a branch."""
        return [notice.hold for notice in self.of("hold", branch)]

    def row(self, branch: str) -> RunRow:
        """The row of the last run of a branch."""
        rows = [n.row for n in list(self.notices) if n.branch == branch and n.row is not None]
        assert rows, [n for n in self.notices if n.branch == branch]
        last = rows[-1]
        assert last is not None
        return last


@dataclass
class Stage:
    """A repository, its tasks, and engines that work in it."""

    repo: GitRepo

    def task(
        self,
        script: str | bytes | None = None,
        *,
        branch: str = "task",
        state: str = "go",
        message: str | bytes | None = None,
        files: Mapping[str, str | bytes | None] | None = None,
        config: str | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> str:
        """A commit on `branch` that asks for `state` and brings along the script of it.

        `script` without a first line that names an interpreter is for sh.
        """
        found: dict[str, str | bytes | None] = dict(files or {})
        if script is not None:
            found[f".aynig/{state}"] = sh(script) if isinstance(script, str) else script
        if config is not None:
            found[".aynig/config.yaml"] = config
        if message is None:
            lines = [f"aynig: {key}: {value}" for key, value in (fields or {}).items()]
            message = "\n".join([f"Please {state}\n", f"aynig: {state}", *lines, ""])
        parent = self.repo.tip(branch) or self.repo.tip("main") or None
        return self.repo.commit(message, branch=branch, files=found, parent=parent)

    def run(self, **flags: Any) -> Told:
        """Work until quiet, as `aynig run` does."""
        return run_until_quiet(open_site(self.repo.path, **flags))

    def live(self, **flags: Any) -> contextlib.AbstractContextManager[Told]:
        """A daemon at work in this process for as long as the block runs."""
        return at_work(open_site(self.repo.path, **{"poll": NEVER, **flags}))

    def status(self, branch: str = "task") -> StatusRow:
        site = open_site(self.repo.path)
        try:
            row = status_row(site, HEADS + branch)
        finally:
            site.close()
        assert row is not None
        return row

    def wait_for_state(self, state: str, branch: str = "task") -> str:
        """The oid of the tip, once it carries `state`."""
        wait_for(lambda: self.repo.state(branch) == state, what=f"{branch} to be {state}")
        return self.repo.tip(branch)

    def assert_unharmed(self) -> None:
        """No lease, worktree, lock or process is left; git finds nothing wrong in the objects."""
        assert_nothing_left(self.repo)
        # The exit status is 0 as well where objects merely dangle.
        self.repo.git("fsck", "--strict", "--no-progress", "--no-dangling")


@dataclass
class Work:
    """A desk that does a step when it is told to, and what it told."""

    desk: Desk
    told: list[Notice] = field(default_factory=list)

    def step(self) -> str | None:
        """Do the next piece of work to its end; the branch."""
        work = self.desk.next_work()
        if work is None:
            return None
        ref, carry_out = work
        self.desk.collect(ref, carry_out())
        return ref.removeprefix(HEADS)

    def steps(self) -> list[str]:
        done = []
        while (branch := self.step()) is not None:
            done.append(branch)
        return done

    def kinds(self, *wanted: str) -> list[str]:
        return [n.hold or n.kind for n in self.told if not wanted or n.kind in wanted]

    def look(self, *, first: bool = False) -> None:
        self.desk.look(first=first)
        while not self.desk.settled:
            self.desk.look(first=first)


def run_until_quiet(site: Site) -> Told:
    """What an engine told that worked on a site until quiet."""
    told = Told()
    jobs, poll = site.settings.jobs, site.settings.poll
    Engine([site], told.notices.append, jobs=jobs, poll=poll, until_quiet=True).run()
    return told


@contextlib.contextmanager
def at_work(site: Site) -> Iterator[Told]:
    """An engine that works on a site for as long as the block runs."""
    told = Told()
    engine = Engine([site], told.notices.append, jobs=site.settings.jobs, poll=site.settings.poll)
    thread = threading.Thread(target=engine.run)
    thread.start()
    try:
        wait_for(lambda: told.of("watching"), what="the daemon to watch")
        yield told
    finally:
        engine.stop()
        thread.join()


def sh(text: str) -> str:
    """A script for sh, unless it says for what it is."""
    return text if text.startswith("#!") else f"#!/bin/sh\n{text}\n"


def aynig(*args: str) -> int:
    """One command of the command line in this process; its exit status."""
    return command_line.run([*args])


# --- a daemon as a process of its own ------------------------------------------------------------


@dataclass
class Daemon:
    """`aynig daemon --log-format json` as a process, and its lines so far."""

    process: subprocess.Popen[bytes]
    lines: list[dict[str, Any]] = field(default_factory=list)

    def of(self, kind: str, branch: str | None = None) -> list[dict[str, Any]]:
        return [
            line
            for line in list(self.lines)
            if line["kind"] == kind and branch in (None, line.get("branch"))
        ]

    def wait_for(self, kind: str, branch: str | None = None) -> dict[str, Any]:
        """The first line of this kind, once it is there."""

        def come() -> list[dict[str, Any]]:
            assert self.of(kind, branch) or self.process.poll() is None, self.lines
            return self.of(kind, branch)

        return wait_for(come, what=f"{kind} of {branch}")[0]

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(json.loads(line))


@contextlib.contextmanager
def daemon(
    path: Path, *args: str, env: Mapping[str, str] | None = None, prefix: Sequence[str] = ()
) -> Iterator[Daemon]:
    """A daemon process that watches already; it is drained at the end if it still runs.

    `prefix` is a command that ends in becoming another.
    """
    process = subprocess.Popen(
        [*prefix, sys.executable, "-m", "aynig", "daemon", "--log-format", "json", *args],
        cwd=path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1]), **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    found = Daemon(process)
    reader = threading.Thread(target=found.read)
    reader.start()
    try:
        found.wait_for("watching")
        yield found
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            # One that a test has stopped could not obey.
            process.send_signal(signal.SIGCONT)
        process.wait()
        reader.join()
        assert process.stdout is not None
        process.stdout.close()
