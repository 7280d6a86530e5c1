"""What the daemon tells while it works: a value for each event, run and answer.

Faces (terminal, JSON) turn them into lines; nothing here prints.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from aynig.ending import Finished
from aynig.execution import Started
from aynig.model import Hold, branch_of
from aynig.scan import Tip
from aynig.site import Site
from aynig.story import RunRow, row_of_run
from aynig.text import counted


@dataclass(frozen=True, slots=True)
class Notice:
    """`kind` is one of event, run, answer, deferred, refused, drained, hold, problem, watching,
    listening, draining, stopped.

    `script` is the oid of the blob that runs, `path` where it lies below the scripts' folder.
    `hold` is the word of a Hold, `detail` a sentence for people; `row` is there when a run ended.
    `repository` is empty for what concerns all of them.
    """

    kind: str
    repository: str
    branch: str = ""
    oid: str = ""
    state: str = ""
    run: str = ""
    attempt: int = 0
    script: str = ""
    path: str = ""
    hold: str = ""
    detail: str = ""
    row: RunRow | None = None
    time: float = field(default_factory=time.time)


Observer = Callable[[Notice], None]


def of_event(site: Site, ref: str, tip: Tip) -> Notice:
    """A branch whose tip carries a state."""
    return Notice("event", site.name, branch_of(ref), tip.oid, tip.state)


def of_start(site: Site, started: Started) -> Notice:
    """A script that is about to start."""
    plan = started.plan
    return Notice(
        "run",
        site.name,
        plan.event.branch,
        plan.event.origin,
        plan.event.state,
        run=started.lease.run,
        attempt=plan.attempt,
        script=plan.script.oid,
        path=plan.script.path,
    )


_KINDS = {
    "answered": "answer",
    "deferred": "deferred",
    "refused": "refused",
    "drained": "drained",
}


def of_finish(site: Site, finished: Finished) -> Notice:
    """A run that is over, with or without an answer."""
    row = row_of_run(finished, site.executed_by)
    return Notice(
        _KINDS[finished.ending],
        site.name,
        row.branch,
        row.oid or "",
        row.state,
        run=finished.lease.run,
        attempt=finished.plan.attempt,
        script=finished.plan.script.oid,
        path=finished.plan.script.path,
        detail=row.subject if finished.deferral is not None else finished.detail,
        row=row,
    )


def of_hold(site: Site, ref: str, oid: str, state: str, hold: Hold) -> Notice:
    """A branch that waits."""
    return Notice(
        "hold",
        site.name,
        branch_of(ref),
        oid,
        state,
        hold=hold.word,
        detail=site.naming_remote(hold.detail),
    )


def of_drain(scripts: int, *, at_once: bool) -> Notice:
    """A wish to stop has been heard; so many scripts are under way."""
    under_way = f"{counted(scripts, 'script')} under way"
    way = "at once" if at_once else "nothing new starts"
    return Notice("draining", "", detail=f"told to stop, {way}: {under_way}")


def of_stop() -> Notice:
    """The drain is over."""
    return Notice("stopped", "", detail="nothing is under way any more")


def of_watching(site: Site) -> Notice:
    """A repository that is being worked in from now on."""
    return Notice("watching", site.name, detail=str(site.repo.common_dir))


def of_listening(url: str, *, signed: bool) -> Notice:
    """Where wake-ups are listened for from now on, and whose."""
    whose = "signed wake-ups" if signed else "wake-ups without a signature, of this machine"
    return Notice("listening", "", detail=f"{url} for {whose}")


def of_problem(repository: str, detail: str) -> Notice:
    """Something that is wrong beside the tasks."""
    return Notice("problem", repository, detail=detail)
