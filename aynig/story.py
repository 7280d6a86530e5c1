"""One row a run: the same whether it was just done or is read from the history years later."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Container, Iterator
from dataclasses import dataclass, replace

from aynig.answer import exit_status, outcome
from aynig.ending import Finished
from aynig.errors import RepositoryError
from aynig.git.authorship import made_by
from aynig.git.history import Read, first_parents
from aynig.git.repo import CommitInfo, Repo
from aynig.model import Statement, branch_of
from aynig.onbranch import WORKING, read_working


@dataclass(frozen=True, slots=True)
class RunRow:
    """A step of a task. All but branch, oid, state, subject and time may be None.

    A row without `answers` is a state commit that a person or a script wrote. `oid` is None for a
    run that left no answer. `exit` is as a shell gives it, `duration` in seconds, `script` the
    oid of the blob that ran.
    """

    branch: str
    oid: str | None
    answers: str | None
    from_state: str | None
    state: str
    run: str | None
    attempt: int | None
    exit: int | None
    duration: float | None
    executed_by: str | None
    script: str | None
    subject: str
    time: float
    rescue: str | None = None
    # Why aynig itself ended the script, and what was at fault.
    stopped: str | None = None
    fault: str | None = None
    # Who made a commit that answers nothing.
    author: str | None = None
    # Why the attempts before it failed, `1: failure: exit 1: no space` each, and why it did.
    failed_attempts: tuple[str, ...] = ()
    failure: str | None = None

    @property
    def failed(self) -> bool:
        """Did the run end badly, whatever state the workflow makes of that?

        A later retry that was asked for is no failure, nor is a run that was interrupted.
        """
        if self.answers is None:
            return False
        if self.oid is None:
            return self.state == _STATE_WITHOUT_ANSWER["refused"]
        badly = self.stopped or self.fault or self.exit not in (0, None)
        return self.state == "failed" or bool(badly)

    @property
    def is_step(self) -> bool:
        """Is it an answer that a policy gave, without a run?"""
        return self.answers is not None and self.exit is None

    @property
    def interrupted(self) -> bool:
        """Was it ended because we had to stop? It is run again then."""
        return self.oid is None and self.state == _STATE_WITHOUT_ANSWER["drained"]


def row_of_run(finished: Finished, executed_by: str) -> RunRow:
    """The row of a run that has just ended."""
    plan, result, answer = finished.plan, finished.result, finished.answer
    # A step has run no script, and its commit says nothing of one.
    ran = plan.step is None
    state = answer.state if answer is not None else _STATE_WITHOUT_ANSWER[finished.ending]
    return RunRow(
        branch=plan.event.branch,
        oid=answer.oid if answer is not None else None,
        answers=plan.event.origin,
        from_state=plan.event.state,
        state=state,
        run=finished.lease.run,
        attempt=plan.attempt if ran else None,
        exit=exit_status(result) if ran else None,
        duration=round(result.duration, 3) if ran else None,
        executed_by=executed_by,
        script=plan.script.oid if ran else None,
        subject=answer.subject if answer is not None else _why_no_answer(finished),
        time=result.started + result.duration,
        rescue=(answer.rescue or None) if answer is not None else None,
        stopped=result.stopped or None,
        fault=(answer.fault if answer is not None else result.fault) or None,
    )


def _why_no_answer(finished: Finished) -> str:
    if finished.deferral is None:
        return finished.detail or outcome(finished.result)
    # The detail is the rescue ref then, where there is one.
    kept = f"; its work is kept under {finished.detail}" if finished.detail else ""
    return finished.deferral.reason + kept


_STATE_WITHOUT_ANSWER = {"deferred": "waiting", "refused": "refused", "drained": "stopped"}


def rows_of_branch(
    repo: Repo,
    ref: str,
    read: Read,
    *,
    most: int | None = None,
    above: Container[str] = (),
) -> Iterator[RunRow]:
    """The story of a task, youngest first: each commit of its line that carries a state.

    `most` is how many commits are looked at; all of them if it is None. The story ends above a
    commit of `above` that is not the tip.
    """
    oid = repo.read_ref(ref)
    if oid is None:
        return
    later: RunRow | None = None
    for row in _rows(repo, ref, oid, read, most, above):
        if later is not None and not _is_renewal(later, row):
            yield _with_lease(later, row)
        later = row
    if later is not None:
        yield later


def _rows(
    repo: Repo, ref: str, oid: str, read: Read, most: int | None, above: Container[str]
) -> Iterator[RunRow]:
    for info in itertools.islice(first_parents(repo, oid), most):
        if info.oid != oid and info.oid in above:
            return
        statement = read(info.message)
        if statement is not None:
            yield _row_of_commit(repo, branch_of(ref), info, statement, read)


def _is_renewal(later: RunRow, row: RunRow) -> bool:
    """Of a lease on the branch, only its beginning is a step: what follows renews it."""
    return later.state == row.state == WORKING and later.run == row.run


def _with_lease(later: RunRow, row: RunRow) -> RunRow:
    """A state commit that a script made on top of a lease: that says whose run it was."""
    if row.state != WORKING or later.answers is not None or later.run is not None:
        return later
    return replace(later, from_state=row.from_state, run=row.run, executed_by=row.executed_by)


def _row_of_commit(
    repo: Repo, branch: str, info: CommitInfo, statement: Statement, read: Read
) -> RunRow:
    answers = statement.value("answers")
    working = read_working(statement, info.time)
    return RunRow(
        branch=branch,
        oid=info.oid,
        answers=answers,
        from_state=_state_at(repo, answers, read) if answers else statement.value("origin-state"),
        state=statement.state,
        run=statement.value("run") or statement.value("run-id") or statement.value("stalled-run"),
        attempt=_number(statement.value("attempt")),
        exit=_number(statement.value("exit")),
        duration=_seconds(statement.value("duration")),
        executed_by=statement.value("executed-by") if working is None else working.runner,
        script=statement.value("script"),
        subject=statement.subject,
        time=info.time,
        rescue=statement.value("rescue"),
        stopped=statement.value("stopped"),
        fault=statement.value("fault"),
        author=None if answers else made_by(repo, info.oid).author[0],
        failed_attempts=statement.values("failed-attempt") if answers else (),
        failure=statement.value("failure") if answers else None,
    )


def _state_at(repo: Repo, oid: str, read: Read) -> str | None:
    # The field is a claim: it need not name a commit.
    with contextlib.suppress(RepositoryError):
        statement = read(repo.commit(oid).message)
        return statement.state if statement is not None else None
    return None


def _number(text: str | None) -> int | None:
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None


def _seconds(text: str | None) -> float | None:
    try:
        seconds = float(text) if text is not None else None
    except ValueError:
        return None
    # JSON has no word for what is not finite.
    return seconds if seconds is not None and math.isfinite(seconds) else None
