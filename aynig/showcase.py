"""The demonstration: a small real workflow in a repository of its own, run by the real engine.

It checks its own outcome, so that it says whether aynig works on this machine. Nothing of the
person's git settings has a say in it: no identity is needed, no template and no hook is used.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from aynig.daemon import Engine
from aynig.errors import AynigError, GitFailed
from aynig.git.command import git_text, run_git
from aynig.git.repo import Repo
from aynig.lease import lease_name, read_lease
from aynig.model import HEADS, Deferral
from aynig.notices import Observer
from aynig.respond import write_state
from aynig.site import open_site, reader
from aynig.story import RunRow, rows_of_branch

# All three tasks side by side.
JOBS = 3
# The first round, and one for each later retry that a script asks for; more is a fault.
MOST_ROUNDS = 5

CONFIG = """\
states:
  write:   { next: review }
  fix:     { next: review }
  fetch:   { next: publish }
"""

WRITE = """\
#!/bin/sh
# What a script changes in its folder lands on the branch with the answer.
sleep 0.3
echo "Hello, world" >greeting.txt
echo "a first draft" >"$AYNIG_RESPONSE"
"""

REVIEW = """\
#!/bin/sh
# Chooses the next state itself: it sends the work back once, then lets it pass.
sleep 0.2
if grep -q '!' greeting.txt; then
    printf 'no objections\\n\\naynig: publish\\n' >"$AYNIG_RESPONSE"
else
    printf 'an exclamation mark is missing\\n\\naynig: fix\\n' >"$AYNIG_RESPONSE"
fi
"""

FIX = """\
#!/bin/sh
echo "Hello, world!" >greeting.txt
echo "added what the review asked for" >"$AYNIG_RESPONSE"
"""

FETCH = """\
#!/bin/sh
# Exit status 75 asks for another attempt later.
sleep 0.3
if [ "$AYNIG_ATTEMPT" -lt 2 ]; then
    printf 'the station is silent\\n\\naynig: retry-after: 1s\\n' >"$AYNIG_RESPONSE"
    exit 75
fi
echo "sunny, 21 degrees" >weather.txt
echo "sunny" >"$AYNIG_RESPONSE"
"""

PUBLISH = """\
#!/bin/sh
mkdir -p public
cp ./*.txt public/
"""

CHECK = """\
#!/bin/sh
echo "adding up 20 and 21"
echo "expected 42, found $((20 + 21))" >&2
exit 1
"""

SCRIPTS = {
    "write": WRITE,
    "review": REVIEW,
    "fix": FIX,
    "fetch": FETCH,
    "publish": PUBLISH,
    "check": CHECK,
}


@dataclass(frozen=True, slots=True)
class Task:
    """One task of the demonstration, and the states that it has to go through."""

    branch: str
    subject: str
    # What is worth watching in it.
    point: str
    states: tuple[str, ...]
    attempts: int = 1

    @property
    def state(self) -> str:
        return self.states[0]


TASKS = (
    Task(
        "task/greeting",
        "Write a greeting",
        "a chain, with a review that sends it back once",
        ("write", "review", "fix", "review", "publish", "done"),
    ),
    Task(
        "task/weather",
        "Fetch the weather",
        "asks to be run again later",
        ("fetch", "publish", "done"),
        attempts=2,
    ),
    Task(
        "task/sums",
        "Check the sums",
        "its script fails",
        ("check", "failed"),
    ),
)


@dataclass(frozen=True, slots=True)
class Tally:
    """What the demonstration comes to, in numbers."""

    tasks: int
    runs: int
    answers: int
    failed: int
    retried: int


class Unexpected(AynigError):
    """The demonstration did not end as it has to."""


@contextlib.contextmanager
def sealed() -> Iterator[None]:
    """For as long as this lasts, git knows no settings but those of the repository."""
    before = {name: value for name, value in os.environ.items() if name.startswith("GIT_")}
    for name in before:
        del os.environ[name]
    ours = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)
        os.environ.update(before)


def build(folder: Path) -> None:
    """Make the repository: one commit on `main` with the workflow. `folder` exists."""
    home = folder / ".aynig"
    home.mkdir()
    (home / "config.yaml").write_text(CONFIG)
    for state, text in SCRIPTS.items():
        script = home / state
        script.write_text(text)
        script.chmod(0o755)
    _git(folder, "init", "--quiet", "--template=", "--initial-branch=main")
    for key, value in _SETTINGS:
        _git(folder, "config", key, value)
    _git(folder, "add", "--all")
    _git(folder, "commit", "--quiet", "--message=Add the workflow")


# libgit2 reads the person's own settings all the same, so what could matter is said here.
_SETTINGS = (
    ("user.name", "aynig demo"),
    ("user.email", "demo@aynig.invalid"),
    ("commit.gpgSign", "false"),
    ("core.autocrlf", "false"),
    ("core.excludesFile", os.devnull),
    ("core.attributesFile", os.devnull),
)


def _git(folder: Path, *args: str) -> None:
    done = run_git(None, args, cwd=folder)
    if done.returncode:
        raise GitFailed(f"git {args[0]}: {done.stderr.decode('utf-8', 'replace').strip()}")


def submit(folder: Path) -> None:
    """Write the first state commit of each task, as `aynig submit` does."""
    site = open_site(folder)
    try:
        base = site.repo.read_ref(HEADS + "main")
        for task in TASKS:
            write_state(
                site.repo,
                site.store,
                HEADS + task.branch,
                None,
                task.state,
                subject=task.subject,
                base=base,
            )
    finally:
        site.close()


def engine(folder: Path, observe: Observer) -> Engine:
    """What `aynig run` is: all that is actionable now, chains followed until quiet."""
    site = open_site(folder, jobs=JOBS)
    return Engine([site], observe, jobs=JOBS, poll=site.settings.poll, until_quiet=True)


def next_retry(folder: Path) -> float | None:
    """Seconds until a script that asked for it may be run again; None where none waits."""
    repo = Repo.open(folder)
    waits = []
    for task in TASKS:
        name = lease_name(HEADS + task.branch)
        oid = repo.read_ref(name)
        standing = read_lease(repo, name, oid) if oid else None
        if isinstance(standing, Deferral):
            waits.append(max(standing.not_before - time.time(), 0.0))
    return min(waits, default=None)


def history(folder: Path, *, colour: bool) -> str:
    """What `git log --graph --oneline --all` prints on a terminal."""
    repo = Repo.open(folder)
    return git_text(
        repo.common_dir,
        [
            "log",
            "--graph",
            "--oneline",
            "--all",
            # On a terminal git decorates by itself; the refs of aynig's own are bookkeeping.
            "--decorate=short",
            "--decorate-refs=refs/heads/",
            f"--color={'always' if colour else 'never'}",
        ],
    ).rstrip("\n")


def answer(folder: Path, branch: str) -> str:
    """The message at the tip of a branch."""
    repo = Repo.open(folder)
    oid = repo.read_ref(HEADS + branch)
    return repo.commit(oid).message.decode("utf-8", "replace") if oid else ""


def stories(folder: Path) -> dict[str, list[RunRow]]:
    """The steps of each task, oldest first."""
    site = open_site(folder)
    try:
        read = reader(site.settings)
        return {
            task.branch: list(rows_of_branch(site.repo, HEADS + task.branch, read))[::-1]
            for task in TASKS
        }
    finally:
        site.close()


def judge(folder: Path, runs: Sequence[RunRow]) -> Tally:
    """The numbers; raises Unexpected where anything is not as it has to be."""
    told = stories(folder)
    faults = [fault for task in TASKS for fault in _faults(task, told[task.branch])]
    check = run_git(Repo.open(folder).common_dir, ["fsck", "--strict", "--no-dangling"])
    if check.returncode:
        faults.append("git fsck: " + check.stderr.decode("utf-8", "replace").strip())
    steps = [row for story in told.values() for row in story]
    answers = [row for row in steps if row.answers]
    retried = [row for row in runs if row.state == "waiting"]
    if len(runs) != len(answers) + len(retried):
        faults.append(f"{len(runs)} runs, but {len(answers)} answers and {len(retried)} retries")
    if faults:
        raise Unexpected(
            f"the demonstration did not end as it has to: {'; '.join(faults)}",
            hint="`aynig doctor` in the repository may say why.",
        )
    failed = sum(row.failed for row in answers)
    return Tally(len(TASKS), len(runs), len(answers), failed, len(retried))


def _faults(task: Task, story: Sequence[RunRow]) -> Iterable[str]:
    states = tuple(row.state for row in story)
    if states != task.states:
        yield f"{task.branch} went {' -> '.join(states)}, not {' -> '.join(task.states)}"
    for before, row in itertools.pairwise(story):
        if row.answers != before.oid:
            yield f"{task.branch}: {row.subject} does not answer the commit before it"
    attempts = max((row.attempt or 1 for row in story), default=1)
    if attempts != task.attempts:
        yield f"{task.branch} took {attempts} attempts, not {task.attempts}"
