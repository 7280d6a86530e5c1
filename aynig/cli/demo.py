"""`aynig demo`: the main job, shown on a real repository made for it."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from aynig import showcase
from aynig.cli.output import COLOURS, json_option, paint, print_json, wants_colour
from aynig.cli.rows import message, row_as_json
from aynig.cli.work import Audience, signals
from aynig.durations import format_duration
from aynig.notices import Notice
from aynig.showcase import TASKS, Tally, Unexpected
from aynig.story import RunRow

_BRANCH_WIDTH = max(len(task.branch) for task in TASKS)
_INTERRUPTED = 130


@click.command("demo")
@click.option("--keep", is_flag=True, help="Leave the repository to look at, and print its path.")
@json_option
def command(keep: bool, as_json: bool) -> int:
    """Run a small workflow in a repository of its own and show its history.

    Needs no network, no git identity and no settings. One of its scripts fails on purpose: the
    exit status is 0 if all went as it has to, that failure included.

    \b
    Example:
      aynig demo
      aynig demo --keep
    """
    teller = _Silent() if as_json else _Teller()
    with showcase.sealed(), _folder(keep) as folder:
        teller.introduce()
        showcase.build(folder)
        showcase.submit(folder)
        if not _work(folder, teller):
            return _INTERRUPTED
        tally = showcase.judge(folder, teller.runs)
        if as_json:
            print_json([_as_json(folder if keep else None, tally, teller.runs)])
        else:
            teller.conclude(folder, tally, keep)
    return 0


@contextlib.contextmanager
def _folder(keep: bool) -> Iterator[Path]:
    """A temporary folder; it stays where that was asked for, or where something went wrong."""
    folder = Path(tempfile.mkdtemp(prefix="aynig-demo-"))
    try:
        yield folder
    except Unexpected as error:
        keep = True
        raise Unexpected(f"{error}; the repository is {folder}", hint=error.hint) from error
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _work(folder: Path, teller: _Silent) -> bool:
    """Run until nothing waits any more; False when interrupted."""
    for _ in range(showcase.MOST_ROUNDS):
        audience = Audience(teller.observe)
        engine = showcase.engine(folder, audience.hear)
        audience.stops(engine)
        with signals(engine) as caught:
            engine.run()
        audience.check()
        if caught:
            return False
        wait = showcase.next_retry(folder)
        if wait is None:
            return True
        # A task has asked to be tried again then, and nothing else is to be done.
        time.sleep(wait)
    return True


def _as_json(folder: Path | None, tally: Tally, runs: Sequence[RunRow]) -> dict[str, Any]:
    return {
        "repository": str(folder) if folder else None,
        **asdict(tally),
        "rows": [row_as_json(row) for row in runs],
    }


class _Silent:
    """Keeps the rows of the runs."""

    def __init__(self) -> None:
        self.runs: list[RunRow] = []

    def observe(self, notice: Notice) -> None:
        if notice.row is not None:
            self.runs.append(notice.row)

    def introduce(self) -> None:
        """Nothing to say."""

    def conclude(self, folder: Path, tally: Tally, keep: bool) -> None:
        """Nothing to say."""


class _Teller(_Silent):
    """Tells a stranger what goes on, while it goes on."""

    def __init__(self) -> None:
        super().__init__()
        self._began = 0.0

    def introduce(self) -> None:
        print("A new repository. Its workflow is one script a state, in .aynig/ on main.")
        print("Three tasks, each a branch with one commit that asks for a state:\n")
        for task in TASKS:
            print(f"  {task.branch:<{_BRANCH_WIDTH}}  aynig: {task.state:<6}  {task.point}")
        print("\nNow aynig looks at the branches, and runs what they ask for:\n")
        self._began = time.monotonic()

    def observe(self, notice: Notice) -> None:
        super().observe(notice)
        if notice.kind == "run":
            again = f", attempt {notice.attempt}" if notice.attempt > 1 else ""
            self._say(notice.branch, f"{notice.state} starts{again}")
        elif notice.kind == "problem":
            self._say(notice.branch, f"{paint('problem')}: {notice.detail}")
        elif notice.row is not None:
            self._say(notice.branch, self._ending(notice, notice.row))

    def _ending(self, notice: Notice, row: RunRow) -> str:
        if notice.kind == "deferred":
            return f"{row.from_state} asks for a later retry: {notice.detail}"
        said = message(row)
        state = paint(row.state, "red" if row.failed else "green")
        return f"{row.from_state} -> {state}" + (f": {said}" if said else "")

    def _say(self, branch: str, text: str) -> None:
        passed = time.monotonic() - self._began
        print(f"  {passed:4.1f}s  {branch:<{_BRANCH_WIDTH}}  {text}", flush=True)

    def conclude(self, folder: Path, tally: Tally, keep: bool) -> None:
        print("\nEach answer is a commit. The history is the queue and the record:\n")
        print("$ git log --graph --oneline --all")
        print(showcase.history(folder, colour=wants_colour()))
        print("\nThe answer of the script that failed, in full:\n")
        print("$ git log -1 --format=%B task/sums")
        print(showcase.answer(folder, "task/sums").rstrip("\n"))
        passed = format_duration(round(time.monotonic() - self._began, 1))
        counts = (
            f"{tally.tasks} tasks, {tally.runs} runs, {tally.answers} answers, "
            f"{tally.failed} failed (on purpose), {tally.retried} retried, in {passed}."
        )
        print()
        if keep:
            print(f"The repository is {folder}")
        print(paint(counts, COLOURS["done"]))
