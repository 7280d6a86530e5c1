"""Runners of one remote that are killed and stopped at random, while the network and the server
fail as well.

What happens is drawn from a seed; when it happens depends on the machine, too.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.chaos.world import Runner, Runners, command_of, descendants_of, is_running, sow
from tests.proxy import FAIR, Proxy, Weather
from tests.servers import GitDaemon, Listening, SmartHttp, beside, require, running
from tests.world import GitRepo

STATES = ("s1", "s2", "s3", "s4")
# How long the script of each state lasts, in seconds.
_SPANS = (0.2, 0.8, 0.4, 1.5)
# The shortest that may be set.
LEASE_SECONDS = 5.0
# So many tasks are there from the first moment; the others come as the storm goes on, so that
# there is work in all of it.
_FIRST_TASKS = 8
# What a runner says when it starts, at its first look, at a script and at an answer.
_SIGNS = ("", "Z watching", "Z run", "Z run", "Z answer")
# A server that is stopped or can't write is so for at most so many seconds, most of the time.
_SHORT_FAULT = 1.5
# Seconds from one blow to the next, on average.
_PACE = 0.1

# --- the oracle of executions


class Start(NamedTuple):
    """One script start, as the script itself told it."""

    branch: str
    state: str
    commit: str
    run: str


@dataclass(frozen=True)
class Register:
    """The file that every script start appends a line to, before it does anything else."""

    path: Path

    def scripts(self) -> dict[str, str]:
        """The script of each state: it takes its time, changes a file and names the next state."""
        found = {}
        for state, span, following in zip(STATES, _SPANS, (*STATES[1:], "done"), strict=True):
            found[f".aynig/{state}"] = (
                "#!/bin/sh\n"
                'echo "$AYNIG_BRANCH $AYNIG_STATE $AYNIG_COMMIT_HASH $AYNIG_RUN_ID" '
                f">>{self.path} || exit 9\n"
                f"sleep {span}\n"
                'echo "$AYNIG_STATE" >>trace\n'
                f'echo "aynig: {following}" >>"$AYNIG_RESPONSE"\n'
            )
        return found

    def starts(self) -> list[Start]:
        with suppress(FileNotFoundError):
            return [Start(*line.split(" ")) for line in self.path.read_text().splitlines()]
        return []


# --- the server


class _Daemon(GitDaemon):
    def _command(self) -> Sequence[str]:
        return _bound(super()._command())


class _Http(SmartHttp):
    def _command(self) -> Sequence[str]:
        return _bound(super()._command())


def _bound(command: Sequence[str]) -> Sequence[str]:
    """The command of a server that the rights of files bind, as they bind other users than root."""
    if os.geteuid():
        return command
    # Root may write everywhere (capabilities(7)).
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]


@contextmanager
def serving_bound(kind: str, root: Path) -> Iterator[Listening]:
    """A started server that a read-only folder keeps from writing; `kind` is daemon or http."""
    if os.geteuid() == 0:
        require("setpriv", "util-linux")
    if kind == "http":
        require("lighttpd", "lighttpd")
    made = (_Http if kind == "http" else _Daemon)(root, beside(root, kind))
    with running(made) as server:
        yield server


def make_read_only(repo: GitRepo) -> None:
    """Take away the right to write in a repository, when nobody is changing refs there.

    First the right to bring objects, without which no push gets as far as to the refs; all else
    when the pushes that are under way are through. A lock file could not be taken back otherwise.
    (A file system is not remounted while files are open for writing either, mount(2).)
    """
    _change_folders(repo.git_dir / "objects", 0o555)
    patience = time.monotonic() + 2.0
    while _is_pushed_to(repo) and time.monotonic() < patience:
        time.sleep(0.01)  # One that hangs in the network has not begun with the refs.
    _change_folders(repo.git_dir, 0o555)


def _is_pushed_to(repo: GitRepo) -> bool:
    return any("receive-pack" in text for text in processes_in([repo.path]).values())


def make_writable(repo: GitRepo) -> None:
    _change_folders(repo.git_dir, 0o755)


def _change_folders(top: Path, mode: int) -> None:
    for folder, _, _ in os.walk(top):
        # git may remove an empty one meanwhile.
        with suppress(FileNotFoundError):
            Path(folder).chmod(mode)


# --- the runners


@dataclass
class Post:
    """One clone, and the runner that is at work in it: a new one as often as it is killed."""

    clone: GitRepo
    runners: Runners
    runner: Runner
    # It is killed when its log says this, and this many seconds later.
    sign: str = ""
    delay: float = 0.0
    ripe: float = float("inf")
    # When it goes on, on the monotonic clock, and the processes that were stopped with it.
    goes_on: float = 0.0
    stopped: list[int] = field(default_factory=list)

    @property
    def mirror(self) -> GitRepo:
        (place,) = (self.clone.git_dir / "aynig" / "remotes").glob("[!.]*.git")
        return GitRepo(place, bare=True)

    def start(self, dice: random.Random) -> None:
        self.runner = _start(self.runners)
        self.sign, self.delay = dice.choice(_SIGNS), dice.uniform(0, 1.0)
        self.ripe = float("inf")

    def is_ripe(self, now: float) -> bool:
        if self.ripe == float("inf") and self.sign in self.runner.text():
            self.ripe = now + self.delay
        return self.ripe <= now

    def halt(self, pids: list[int], until: float) -> None:
        """SIGSTOP, until `go_on`."""
        self.stopped, self.goes_on = pids, until
        _signal(pids, signal.SIGSTOP)

    def go_on(self) -> None:
        _signal(self.stopped, signal.SIGCONT)
        self.stopped = []


def _start(runners: Runners) -> Runner:
    return runners.daemon("--remote", "origin", "--jobs", "2")


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _gits_of(runner: Runner) -> list[int]:
    return [pid for pid in descendants_of(runner.pid) if command_of(pid)[:1] == ["git"]]


def make_posts(server: GitRepo, url: str, folder: Path, count: int) -> list[Post]:
    """Clones of a server, each with a runner that has just been started."""
    found = []
    settings = {
        "aynig.leaseSeconds": f"{LEASE_SECONDS:g}s",
        "aynig.poll": "1s",
    }
    for number in range(count):
        place = folder / f"post-{number}"
        place.mkdir()
        options = [f"-c{key}={value}" for key, value in settings.items()]
        server.git("clone", "--quiet", *options, url, str(place / "clone"))
        clone = GitRepo(place / "clone")
        runners = Runners(clone, place)
        found.append(Post(clone, runners, _start(runners)))
    return found


# --- the storm


@dataclass
class Storm:
    """Does bad things to runners, network and server until so many runners were killed."""

    server: GitRepo
    listening: Listening
    proxy: Proxy
    posts: list[Post]
    tasks: list[tuple[str, str]]
    dice: random.Random
    told: Counter[str] = field(default_factory=Counter)
    _begun: float = 0.0
    _rate: float = 0.0
    _sown: int = 0
    # What has to be put right, and when.
    _mends: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def rage(self, kills: int, seconds: float) -> None:
        """Until so many runners were killed; then all goes on in fair weather.

        A runner is killed in the middle of its work, as long as that is possible with so many in
        so many seconds; on a slow machine also before it has begun.
        """
        self._begun, self._rate = time.monotonic(), kills / seconds
        blows: list[tuple[int, Callable[[], None]]] = [
            (55, self._kill),
            (8, self._kill_gits),
            (12, self._halt),
            (20, self._change_weather),
            (2, self._stop_server),
            (3, self._forbid_writing),
        ]
        weights = [weight for weight, _ in blows]
        while self.told["kills"] < kills:
            # No wait for anything: it only spreads what happens over what the runners do.
            time.sleep(self.dice.uniform(0, 2 * _PACE))
            self._sow(_FIRST_TASKS + round(len(self.tasks) * self.told["kills"] / kills / 0.8))
            self._mend(time.monotonic())
            ((_, blow),) = self.dice.choices(blows, weights)
            blow()
        self._mend(float("inf"))
        self._sow(len(self.tasks))
        self.proxy.weather = FAIR

    # --- runners

    def _kill(self) -> None:
        now = time.monotonic()
        ripe = [post for post in self.posts if post.is_ripe(now)]
        if not ripe and self.told["kills"] > (now - self._begun) * self._rate:
            return
        post = self.dice.choice(ripe or self.posts)
        self.told["kills too soon"] += not ripe
        runner = post.runner
        assert is_running(runner.pid), f"it ended by itself: {runner.text()}"
        how = self.dice.choice(("alone", "alone", "gits", "all"))
        below = []
        if how == "gits":
            below = _gits_of(runner)
        elif how == "all":
            below = descendants_of(runner.pid)
        victims = [runner.pid, *below]
        self.dice.shuffle(victims)
        _signal(victims, signal.SIGKILL)
        # Those that were stopped with it, and outlive it.
        post.go_on()
        runner.wait()
        self.told["kills"] += 1
        post.start(self.dice)

    def _kill_gits(self) -> None:
        """The runner itself goes on."""
        _signal(_gits_of(self.dice.choice(self.posts).runner), signal.SIGKILL)
        self.told["kills of gits alone"] += 1

    def _halt(self) -> None:
        post = self.dice.choice(self.posts)
        if post.stopped:
            return
        pids = [post.runner.pid]
        if self.dice.random() < 0.5:
            pids += descendants_of(post.runner.pid)
        # For a moment, or for longer than its leases last.
        long = self.dice.random() < 0.5
        span = self.dice.uniform(0.1, 1.0) if not long else LEASE_SECONDS * 1.5
        self.told["stops past the lease" if long else "short stops"] += 1
        post.halt(pids, time.monotonic() + span)

    # --- network and server

    def _change_weather(self) -> None:
        dice = self.dice
        self.proxy.weather = dice.choice(
            (
                *[FAIR] * 8,
                # Within a push, of which the first some hundred bytes are questions.
                Weather(cut_up=dice.randrange(100, 3000)),
                Weather(cut_up=dice.randrange(100, 3000)),
                Weather(cut_down=dice.randrange(100, 6000)),
                Weather(mute_after=dice.randrange(200, 3000)),
                Weather(delay_up=0.2, delay_down=0.2),
                Weather(silent=True),
                Weather(hang_up=True),
                Weather(refuse=True),
            )
        )
        self.told["changes of weather"] += 1

    def _stop_server(self) -> None:
        if self.listening.running:
            self.listening.stop()
            self.told["stops of the server"] += 1
            self._mends.append((self._soon(), self.listening.start))

    def _forbid_writing(self) -> None:
        make_read_only(self.server)
        self.told["times read-only"] += 1
        self._mends.append((self._soon(), lambda: make_writable(self.server)))

    def _soon(self) -> float:
        longest = LEASE_SECONDS * 1.5 if self.dice.random() < 0.2 else _SHORT_FAULT
        return time.monotonic() + self.dice.uniform(0, longest)

    def _mend(self, now: float) -> None:
        """Put right what has lasted long enough by `now`."""
        due = [mend for when, mend in self._mends if when <= now]
        self._mends = [(when, mend) for when, mend in self._mends if when > now]
        for mend in due:
            mend()
        for post in self.posts:
            if post.stopped and post.goes_on <= now:
                post.go_on()

    # --- work

    def _sow(self, count: int) -> None:
        new = dict(self.tasks[self._sown : count])
        if new and os.access(self.server.git_dir / "objects", os.W_OK):
            sow(self.server, new)
            self._sown += len(new)


# --- what is left


def processes_in(folders: list[Path]) -> dict[int, str]:
    """The living processes that were started in or for one of these folders, beside our own."""
    marks = [os.fsencode(folder) for folder in folders]
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            about = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            about += os.fsencode((entry / "cwd").readlink())
            if any(mark in about for mark in marks) and is_running(int(entry.name)):
                found[int(entry.name)] = " ".join(command_of(int(entry.name)))
    return found


def end_all(posts: list[Post], folders: list[Path]) -> None:
    """Kill what still runs: only for a test that has failed already."""
    for post in posts:
        post.go_on()
        for runner in post.runners.started:
            if runner.process.poll() is None:
                runner.process.kill()
                runner.process.wait()
    while left := processes_in(folders):
        _signal(list(left), signal.SIGKILL)


def fsck(place: Path) -> list[str]:
    """What `git fsck --strict` has to say, but for dangling objects."""
    done = subprocess.run(
        ["git", "fsck", "--strict", "--no-progress", "--no-dangling"],
        cwd=place,
        capture_output=True,
        check=False,
        text=True,
    )
    told = [line for line in (done.stdout + done.stderr).splitlines() if "notice:" not in line]
    if done.returncode and not told:
        told = [f"exit status {done.returncode}"]
    return [f"{place}: {line}" for line in told]
