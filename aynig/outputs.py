"""Where the output of a run is: in a folder of this machine, or on which other machine.

A run for a remote leaves its folder in the mirror of that remote; any other in the repository
itself.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from aynig.git.history import Read, first_parents
from aynig.git.mirror import mirrors_of
from aynig.git.repo import Repo
from aynig.lease import lease_name, read_lease
from aynig.model import HEADS, LEASES, Lease, Statement
from aynig.runs import RunArchive, RunFolder

# How far back an answer is looked for in each branch.
_COMMITS_BACK = 50


@dataclass(frozen=True, slots=True)
class Found:
    """The folder of a run, and the repository whose refs say how the run stands."""

    repo: Repo
    folder: RunFolder


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A run that did not leave its folder here, as its lease or its answer has it."""

    run: str
    runner: str
    host: str

    @property
    def is_here(self) -> bool:
        """Did it take place on this machine all the same?"""
        return self.host == socket.gethostname()


def mirrors(clone: Repo) -> list[Repo]:
    """The mirrors of all remotes that anything was ever asked of from a clone."""
    return [Repo.open(place) for place in mirrors_of(clone)]


def find_run(repos: Sequence[Repo], name: str) -> Found | None:
    """The last run of a branch, or the run of that id or unique beginning, in any of these."""
    for look in (_of_branch, _of_run):
        found = [
            Found(repo, folder)
            for repo in repos
            if (folder := look(RunArchive(repo.home), name)) is not None
        ]
        if found:
            return max(found, key=lambda one: one.folder.run)
    return None


def _of_branch(archive: RunArchive, name: str) -> RunFolder | None:
    return archive.latest(HEADS + name)


def _of_run(archive: RunArchive, name: str) -> RunFolder | None:
    return archive.find(name)


def last_run(repos: Iterable[Repo], name: str, read: Read) -> Elsewhere | None:
    """Who had the last run of a branch, or the run of that id or beginning: as the refs say it."""
    for repo in repos:
        for look in (_last_of_branch, _by_id):
            found = look(repo, name, read)
            if found is not None:
                return found
    return None


def _last_of_branch(repo: Repo, name: str, read: Read) -> Elsewhere | None:
    ref = HEADS + name
    tip = repo.read_ref(ref)
    if tip is None:
        return None
    oid = repo.read_ref(lease_name(ref))
    lease = read_lease(repo, lease_name(ref), oid) if oid else None
    if isinstance(lease, Lease) and lease.trigger == tip:
        return Elsewhere(lease.run, lease.holder.runner, lease.holder.host)
    return next(_answers(repo, tip, read, lambda run: True), None)


def _by_id(repo: Repo, name: str, read: Read) -> Elsewhere | None:
    for ref, oid in repo.refs_below(LEASES).items():
        lease = read_lease(repo, ref, oid)
        if isinstance(lease, Lease) and lease.run.startswith(name):
            return Elsewhere(lease.run, lease.holder.runner, lease.holder.host)
    for tip in dict.fromkeys(repo.refs_below(HEADS).values()):
        found = next(_answers(repo, tip, read, lambda run: run.startswith(name)), None)
        if found is not None:
            return found
    return None


def _answers(
    repo: Repo, tip: str, read: Read, wanted: Callable[[str], bool]
) -> Iterator[Elsewhere]:
    """Those of the history of a tip that name a wanted run, youngest first."""
    for info in itertools.islice(first_parents(repo, tip), _COMMITS_BACK):
        statement = read(info.message)
        run = statement.value("run") if statement is not None else None
        if statement is not None and run and wanted(run):
            runner = statement.value("runner") or ""
            yield Elsewhere(run, runner, _host(statement, runner))


def _host(statement: Statement, runner: str) -> str:
    """The machine of a runner: as `executed-by` names it, else the beginning of its own name."""
    _, _, host = (statement.value("executed-by") or "").rpartition("@")
    return host or runner.rsplit("-", 2)[0]
