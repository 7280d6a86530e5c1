"""What the tests of races and crashes share: many tasks at once, runners as processes, oracles.

Two oracles that know nothing of each other say what happened. The history says how each commit
was answered, read by plain git. A file that every script appends a line to as its first act
(O_APPEND, so that no line is lost) says how often each commit was executed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.world import EPOCH, GitRepo, wait_for

AYNIG = [sys.executable, "-m", "aynig"]
PACKAGE_ROOT = Path(__file__).resolve().parents[2]
ENDED = frozenset({"done", "failed", "canceled"})


# --- the oracle of executions


class Execution(NamedTuple):
    """One script start, as the script itself told it."""

    run: str
    branch: str
    commit: str


@dataclass(frozen=True)
class Witness:
    """The file that every script start adds a line to."""

    path: Path

    def line(self) -> str:
        """The shell command for a script: one write, by the shell itself."""
        return f'echo "$AYNIG_RUN_ID $AYNIG_BRANCH $AYNIG_COMMIT_HASH" >>{self.path}\n'

    def executions(self) -> list[Execution]:
        with suppress(FileNotFoundError):
            return [Execution(*line.split(" ")) for line in self.path.read_text().splitlines()]
        return []

    def repeated(self) -> dict[str, list[Execution]]:
        """The commits that were executed more than once, with all their executions."""
        found: dict[str, list[Execution]] = {}
        for execution in self.executions():
            found.setdefault(execution.commit, []).append(execution)
        return {commit: runs for commit, runs in found.items() if len(runs) > 1}


# --- the oracle of answers


@dataclass(frozen=True)
class Commit:
    """A commit as `git log` shows it."""

    oid: str
    parents: tuple[str, ...]
    state: str
    answers: str


_FORMAT = "%H%x1f%P%x1f%(trailers:key=aynig,valueonly,separator=%x1e)"


def read_commits(repo: GitRepo) -> dict[str, Commit]:
    """All commits that any branch leads to."""
    text = repo.git("log", "--branches", "--full-history", f"--format={_FORMAT}")
    found = {}
    # Not `splitlines`, which breaks at the separators as well.
    for line in text.split("\n"):
        oid, parents, values = line.split("\x1f")
        state = answers = ""
        for value in values.split("\x1e"):
            key, colon, rest = value.partition(": ")
            if not colon:
                state = value or state
            elif key == "answers":
                answers = rest
        found[oid] = Commit(oid, tuple(parents.split()), state, answers)
    return found


def read_tips(repo: GitRepo) -> dict[str, str]:
    """Every branch and what it points at."""
    text = repo.git("for-each-ref", "--format=%(objectname) %(refname:lstrip=2)", "refs/heads/")
    return {name: oid for oid, _, name in (line.partition(" ") for line in text.split("\n"))}


@dataclass(frozen=True)
class History:
    """What the branches say at one moment."""

    tips: Mapping[str, str]
    commits: Mapping[str, Commit]

    @classmethod
    def of(cls, repo: GitRepo) -> History:
        return cls(read_tips(repo), read_commits(repo))

    def state(self, branch: str) -> str:
        return self.commits[self.tips[branch]].state

    def chain(self, branch: str) -> list[str]:
        """The states on the first-parent line of a branch, oldest first."""
        states, oid = [], self.tips[branch]
        while oid in self.commits:
            commit = self.commits[oid]
            if commit.state:
                states.append(commit.state)
            oid = commit.parents[0] if commit.parents else ""
        return states[::-1]

    def answers(self) -> Counter[str]:
        """How many commits answer each commit."""
        return Counter(commit.answers for commit in self.commits.values() if commit.answers)

    def assert_each_answered_once(self) -> None:
        """Each state that is not an end has one answer, which descends from it; none is left."""
        counted = self.answers()
        asked = {oid for oid, c in self.commits.items() if c.state and c.state not in ENDED}
        assert not asked - counted.keys(), "commits without an answer"
        assert not counted.keys() - asked, "answers to what was not asked"
        twice = {oid: count for oid, count in counted.items() if count != 1}
        assert not twice, f"answered more than once: {twice}"
        for commit in self.commits.values():
            if commit.answers:
                above = set(self._first_parents(commit))
                assert commit.answers in above, "an answer beside its question"

    def _first_parents(self, commit: Commit) -> Iterator[str]:
        while commit.parents and commit.parents[0] in self.commits:
            commit = self.commits[commit.parents[0]]
            yield commit.oid


# --- tasks


def plant(
    repo: GitRepo,
    messages: Mapping[str, str],
    files: Mapping[str, str],
    *,
    start: str = "main",
) -> None:
    """A commit with `files` on `start`, and a branch with one state commit for each message.

    By `git fast-import`, which makes 10,000 branches in a second.
    """
    repo.commit("scripts", branch=start, files=files)
    sow(repo, messages, start=start)
    if not repo.bare:
        repo.sync()


def sow(repo: GitRepo, messages: Mapping[str, str], *, start: str = "main") -> None:
    """A new branch at a commit of its own for each message, all at once."""
    base = repo.tip(start)
    stream = []
    for branch, message in messages.items():
        data = message.encode()
        stream.append(
            b"commit refs/heads/%s\ncommitter Carl Committer <carl@example.org> %d +0000\n"
            b"data %d\n%s\nfrom %s\n\n" % (branch.encode(), EPOCH, len(data), data, base.encode())
        )
    # `fastimport.unpackLimit`: a pack of its own, not ten thousand files.
    repo.git("-c", "fastimport.unpackLimit=1", "fast-import", "--quiet", stdin=b"".join(stream))


def tasks(count: int, state: str, prefix: str = "task") -> dict[str, str]:
    """`count` branches, each with a message of its own: equal commits would be copies."""
    return {f"{prefix}/{n}": f"{prefix} {n}\n\naynig: {state}\n" for n in range(count)}


def chain_scripts(witness: Witness, length: int) -> dict[str, str]:
    """The scripts `s1` to `s<length>`: each names the next, the last one `done`."""
    found = {}
    for n in range(1, length + 1):
        following = f"s{n + 1}" if n < length else "done"
        text = f'#!/bin/sh\n{witness.line()}echo "aynig: {following}" >>"$AYNIG_RESPONSE"\n'
        found[f".aynig/s{n}"] = text
    return found


# --- runners


@dataclass
class Runner:
    """One `aynig` as a process in a session of its own, its output in a file."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def wait(self) -> int:
        """Its exit status; a negative number where a signal ended it."""
        wait_for(lambda: self.process.poll() is not None, what=f"the end of pid {self.pid}")
        return int(self.process.returncode)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send it a signal once it has begun, for before that it would just be killed by it."""
        self.await_ready()
        self.process.send_signal(number)
        return self.wait()

    def await_ready(self) -> None:
        """Until it has looked once: from then on only changes matter."""
        wait_for(lambda: "watching" in self.text() or self.process.poll() is not None, what="ready")
        assert self.process.poll() is None, self.text()


@dataclass
class Runners:
    """Starts runners on one repository and sees to it that none outlives the test."""

    repo: GitRepo
    folder: Path
    started: list[Runner] = field(default_factory=list)

    def start(self, *args: str, prefix: Sequence[str] = ()) -> Runner:
        """`aynig` with arguments; `prefix` is a command that ends in starting another."""
        log = self.folder / f"runner-{len(self.started)}.log"
        path = os.pathsep.join(filter(None, [str(PACKAGE_ROOT), os.environ.get("PYTHONPATH", "")]))
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*prefix, *AYNIG, *args],
                cwd=self.repo.path,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": path},
            )
        runner = Runner(process, log)
        self.started.append(runner)
        return runner

    def daemon(self, *args: str, prefix: Sequence[str] = ()) -> Runner:
        return self.start("daemon", *args, prefix=prefix)

    def end(self) -> None:
        """Kill what still runs, and their scripts: only for a test that has failed already."""
        for runner in self.started:
            if runner.process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(runner.pid, signal.SIGKILL)
                runner.process.wait()
        for pid in marked_processes(self.repo):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextmanager
def runners(repo: GitRepo, folder: Path) -> Iterator[Runners]:
    """Runners whose logs lie in `folder`."""
    found = Runners(repo, folder)
    try:
        yield found
    finally:
        found.end()


# --- processes


def children_of(pid: int) -> list[int]:
    """The direct children of a process, of all its threads."""
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                found += map(int, (task / "children").read_text().split())
    return found


def descendants_of(pid: int) -> list[int]:
    """The children of a process and theirs."""
    found = []
    for child in children_of(pid):
        found += [child, *descendants_of(child)]
    return found


def command_of(pid: int) -> list[str]:
    """The argument list of a process; empty if it is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    return []


def is_running(pid: int) -> bool:
    """Is there such a process? A zombie is dead, whoever is late to wait for it."""
    with suppress(OSError):
        text = Path(f"/proc/{pid}/stat").read_text()
        return text[text.rindex(")") + 2] not in "ZX"
    return False


def marked_processes(repo: GitRepo) -> list[int]:
    """Living processes that were started for a run in this repository."""
    place, found = os.fsencode(f"{repo.git_dir}/aynig/runs/"), []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            environment = (entry / "environ").read_bytes()
            if b"AYNIG_RUN_ID=" in environment and place in environment:
                found.append(int(entry.name))
    return found


def cpu_seconds(pid: int) -> float:
    """The processor time that a process has used by itself, user and system."""
    text = Path(f"/proc/{pid}/stat").read_text()
    fields = text[text.rindex(")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """VmRSS in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"no VmRSS of {pid}")


# --- what has to be true when all is over


def wait_until_all(repo: GitRepo, states: Iterable[str], *, patience: float = 120.0) -> None:
    """Until every branch below task/ carries one of `states`."""
    wanted = frozenset(states)
    fact = _all_in(repo, wanted)
    wait_for(fact, what=f"all tasks to be {sorted(wanted)}", patience=patience)


def _all_in(repo: GitRepo, wanted: frozenset[str]) -> Callable[[], bool]:
    form = "%(trailers:key=aynig,valueonly,separator=%x1e)"

    def fact() -> bool:
        text = repo.git("for-each-ref", f"--format={form}", "refs/heads/task/")
        found = (
            [value for value in line.split("\x1e") if ": " not in value]
            for line in text.split("\n")
        )
        return all(states and states[-1] in wanted for states in found)

    return fact


def leftovers(repo: GitRepo, *, leases: bool = True) -> list[str]:
    """What no runner may leave behind, each in a line: leases, registrations, locks, processes."""
    found = [f"lease or deferral: {line}" for line in live_leases(repo)] if leases else []
    worktrees = repo.git_dir / "worktrees"
    if worktrees.is_dir():
        found += [f"registered: {entry.name}" for entry in worktrees.iterdir()]
    found += [f"lock: {path}" for path in repo.git_dir.rglob("*.lock")]
    found += [f"index aside: {path}" for path in repo.git_dir.glob("aynig-index*")]
    landing = repo.git_dir / "aynig" / "landing"
    if landing.is_dir():
        found += [f"half landing: {entry.name}" for entry in landing.iterdir()]
    found += [f"process: {pid} {command_of(pid)}" for pid in marked_processes(repo)]
    return found


def live_leases(repo: GitRepo) -> list[str]:
    """Lease refs that point at a lease or a deferral, not at an answer.

    Not those which tell that a branch was taken away: they stay.
    """
    form = "%(refname) %(subject) %(trailers:key=hold,valueonly,separator=%x20)"
    text = repo.git("for-each-ref", f"--format={form}", "refs/aynig/lease/")
    return [
        line
        for line in text.split("\n")
        if (" aynig lease of " in line or "deferral" in line) and not line.endswith(" lost")
    ]


def assert_sound(repo: GitRepo) -> None:
    """`git fsck --strict` finds nothing but dangling objects; the working tree is its tip's."""
    done = subprocess.run(
        ["git", "fsck", "--strict", "--no-progress"],
        cwd=repo.path,
        capture_output=True,
        check=False,
        text=True,
    )
    told = [line for line in (done.stdout + done.stderr).splitlines() if "dangling" not in line]
    assert done.returncode == 0, told
    assert not told
    if not repo.bare:
        assert repo.git("status", "--porcelain") == ""
        assert repo.git("diff", "--cached", "HEAD", "--name-only") == ""


def assert_nothing_left(repo: GitRepo) -> None:
    """No leftovers, once the last process has had the time to end."""
    wait_for(lambda: not marked_processes(repo), what="the scripts' processes to end")
    left = leftovers(repo)
    assert not left, left
