"""Adding up what was spent: a long history for the first time, and then what is new in it."""

from __future__ import annotations

import functools
import hashlib
import math
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from aynig import dialects
from aynig.git.repo import EMPTY_TREE, Repo
from aynig.ledger import Ledger, open_ledger, read_any
from bench.ground import Ground, branch_ref, make_ground
from bench.measure import MILLI, Context, Row, alternate, median, timed

_TASKS, _ANSWERS = 5_000, 20
_NEW = 100
_LIMIT = 5.0
_FIRST_TIME = 1_700_000_000
_WHO = "Bench <bench@example.org>"
_QUESTIONS = 200


def rows(context: Context) -> list[Row]:
    """All answers for the first time, then a hundred new ones; what a question costs is beside."""
    ground = make_ground(context.folder, bare=True)
    tasks = context.times(_TASKS, 250)
    history = _History(ground)
    history.write(tasks, _ANSWERS + 1)
    ground.git("pack-refs", "--all")
    answers = tasks * _ANSWERS
    first, listed = alternate(
        lambda: timed(lambda: _first_time(ground, answers)),
        lambda: timed(lambda: _log(ground, ["--all"])),
        context.times(5, 1),
    )
    repo = Repo.open(ground.path)
    counted = _Counted()
    ledger = open_ledger(repo, read=counted.read)
    ledger.refresh()
    ledger.cover(-math.inf)
    later: list[float] = []
    plain: list[float] = []
    for _ in range(context.times(9, 2)):
        before = dict(history.tips)
        history.write(_NEW, 1)
        counted.messages = 0
        later.append(timed(ledger.refresh))
        moved = [tip for ref, tip in history.tips.items() if before[ref] != tip]
        ends = [*moved, *(f"^{before[ref]}" for ref in before)]
        plain.append(timed(functools.partial(_log, ground, ["--stdin"], ends)))
    question = _time_of_questions(repo, ledger, branch_ref(0))
    return [
        Row(
            name="ledger",
            what=f"the ledger over {answers:,} answers, the first time",
            ours=median(first),
            plain=median(listed),
            unit="s",
            ratio=median(first) / median(listed),
            target=f"under {_LIMIT:.0f} s",
            met=median(first) < _LIMIT,
            note="plain: git log of all messages, nothing added up",
        ),
        Row(
            name="ledger",
            what=f"{_NEW} new answers after that",
            ours=median(later) * MILLI,
            plain=median(plain) * MILLI,
            unit="ms",
            ratio=median(later) / median(plain),
            target="only what is new",
            met=counted.messages == _NEW,
            note=f"{counted.messages} messages read; all sums of a task and a day: "
            f"{question * MILLI:.2f} ms",
        ),
    ]


class _Counted:
    """Reads messages, and counts them."""

    def __init__(self) -> None:
        self.messages = 0

    def read(self, message: bytes) -> dialects.Skim | None:
        self.messages += 1
        return read_any(message)


def _first_time(ground: Ground, answers: int) -> Ledger:
    """What `aynig costs` does before it prints: a repository opened afresh, all of it read."""
    ledger = open_ledger(Repo.open(ground.path))
    ledger.refresh()
    ledger.cover(-math.inf)
    first = datetime.fromtimestamp(_FIRST_TIME, UTC).date()
    days = [first + timedelta(number) for number in range(7)]
    assert sum(ledger.spent_on_day(day).usage.calls or 0 for day in days) == answers
    return ledger


def _log(ground: Ground, args: list[str], stdin: list[str] | None = None) -> None:
    subprocess.run(
        ["git", "log", "--format=%B", *args],
        cwd=ground.path,
        input="".join(f"{line}\n" for line in stdin or ()).encode(),
        stdout=subprocess.DEVNULL,
        check=True,
    )


def _time_of_questions(repo: Repo, ledger: Ledger, ref: str) -> float:
    """Seconds for what a start is judged by: task, day and hour, of its state and all."""
    tip = repo.read_ref(ref) or ""
    now = float(_FIRST_TIME + 7200)
    day = datetime.fromtimestamp(now, UTC).date()
    begun = time.perf_counter()
    for _ in range(_QUESTIONS):
        for kind, name in (("state", "build"), ("repository", "")):
            ledger.spent_on_task(tip, kind, name)
            ledger.spent_on_day(day, kind, name)
            ledger.calls_in_hour(now, kind, name)
    return (time.perf_counter() - begun) / _QUESTIONS


class _History:
    """Tasks with answers, written by `git fast-import`; oids are needed before they are made."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self.tips: dict[str, str] = {}
        self._time = _FIRST_TIME

    def write(self, tasks: int, commits: int) -> None:
        """So many more commits on the first branches; the first of a new one asks for its task."""
        stream = [piece for number in range(tasks) for piece in self._line(number, commits)]
        self._ground.git("fast-import", "--quiet", stdin=b"".join(stream))

    def _line(self, number: int, commits: int) -> Iterator[bytes]:
        ref = branch_ref(number)
        # A process of fast-import knows only the branches that it has made itself.
        origin = f"from {ref}^0\n" if ref in self.tips else ""
        for _ in range(commits):
            self._time += 1
            parent = self.tips.get(ref)
            message = _message(number, parent, self._time)
            stamp = f"{_WHO} {self._time} +0000"
            head = [f"tree {EMPTY_TREE}", *([f"parent {parent}"] if parent else [])]
            head += [f"author {stamp}", f"committer {stamp}"]
            data = "\n".join(head).encode() + b"\n\n" + message
            oid = hashlib.sha1(b"commit %d\0" % len(data) + data, usedforsecurity=False)
            self.tips[ref] = oid.hexdigest()
            yield f"commit {ref}\ncommitter {stamp}\ndata {len(message)}\n".encode() + message
            yield f"\n{origin}".encode()
            origin = ""


def _message(number: int, parent: str | None, ended: int) -> bytes:
    if parent is None:
        return f"Build {number}\n\nThe text of task {number}.\n\naynig: build\n".encode()
    run = datetime.fromtimestamp(ended, UTC).strftime("%Y%m%dT%H%M%SZ")
    return (
        f"build -> build: a step of {number}\n\naynig: build\n"
        f"aynig: cost-usd: 0.0{number % 100:02d}\naynig: tokens-in: {number}\n"
        f"aynig: tokens-out: 10\naynig: answers: {parent}\n"
        f"aynig: run: {run}-{number:010x}\naynig: runner: host-4242-1f3a9c2e\n"
        f"aynig: executed-by: bench@host\naynig: attempt: 1\naynig: exit: 0\n"
        f"aynig: duration: 0.123\naynig: script: {number:040x}\n"
    ).encode()
