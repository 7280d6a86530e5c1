"""One repository with all that is needed to work in it, put together in one place."""

from __future__ import annotations

import functools
import os
import pwd
import re
import socket
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aynig import dialects
from aynig.dialects import Limits
from aynig.elsewhere import Elsewhere
from aynig.errors import ConfigError
from aynig.executors import Executor
from aynig.executors.subprocess import SubprocessExecutor
from aynig.git.address import find_address
from aynig.git.guard import SharedGuard
from aynig.git.history import AnswerIndex
from aynig.git.mirror import Mirror, open_mirror
from aynig.git.refs import Refs, RefStore
from aynig.git.remote import Remote
from aynig.git.repo import Repo
from aynig.git.scripts import ScriptShelf
from aynig.git.seclusion import Seclusion
from aynig.git.sharedrefs import SharedRefs
from aynig.git.snapshot import RefReader
from aynig.git.worktree import Harvest
from aynig.git.worktrees import WorktreePool
from aynig.lease import Leases
from aynig.ledger import Ledger, read_any
from aynig.model import LEASES, Holder, Statement, branch_of
from aynig.processes import is_alive, kill_marked, this_holder
from aynig.reffeed import Feed
from aynig.rescue import rescue_work
from aynig.resources import states_folder
from aynig.runs import RunArchive
from aynig.scan import Scan
from aynig.settings import HERE, Settings, matches, override, read_settings
from aynig.spending import spends_of_leases
from aynig.text import quote, shell_word
from aynig.threads import Threads
from aynig.upstream import Dependencies

_TASK_COMMAND = re.compile(r"`(aynig (?:retry|cancel|approve|reject|answer) [^`]+)`")


@dataclass(frozen=True)
class Site:
    """The parts that work on one repository share. `close` when done."""

    # What people call it; whoever works in several makes sure that no two are called the same.
    name: str
    repo: Repo
    settings: Settings
    holder: Holder
    store: Refs
    leases: Leases
    pool: WorktreePool
    seclusion: Seclusion
    shelf: ScriptShelf
    guard: SharedGuard
    archive: RunArchive
    answers: AnswerIndex
    scan: Scan
    threads: Threads
    upstream: Dependencies
    ledger: Ledger
    executor: Executor
    executed_by: str
    # Where the tasks are those of a remote: `repo` is the mirror of it then.
    mirror: Mirror | None = None
    # Of a mirror, the clone that it belongs to.
    clone: Repo | None = None
    log_level: str = "info"
    # Ends what is left of the script of a run on this machine; how many processes that were.
    end_scripts: Callable[[str], Sequence[object]] = kill_marked

    @property
    def read(self) -> functools.partial[Statement | None]:
        """Reads a commit message within this repository's limits."""
        return reader(self.settings)

    def naming_remote(self, text: str) -> str:
        """A text whose commands about tasks, in backquotes, say of which remote they are."""
        if self.mirror is None:
            return text
        name = shell_word(self.mirror.remote.address.shown)
        return _TASK_COMMAND.sub(lambda found: f"`{found[1]} --remote {name}`", text)

    def close(self) -> None:
        self.pool.close()
        self.store.close()


def reader(settings: Settings) -> functools.partial[Statement | None]:
    """What a commit message says, within the operator's limits."""
    return functools.partial(dialects.read, limits=limits_of(settings))


def make_scan(repo: Repo, settings: Settings, threads: Threads | None = None) -> Scan:
    """The branches that the operator wants worked on."""
    glance = functools.partial(dialects.glance, limits=limits_of(settings))
    return Scan(
        repo,
        glance,
        lambda ref: matches(settings, branch_of(ref)),
        parent_of=(threads or Threads(repo, reader(settings))).parent_of,
    )


def limits_of(settings: Settings) -> Limits:
    """What a message may weigh here."""
    return Limits(settings.message_limit, settings.trailer_limit)


def load_settings(repo: Repo, **flags: object | None) -> Settings:
    """The operator's settings of a repository: git config, then flags."""
    return override(read_settings(repo.config), **flags)


def open_site(path: Path | str, *, log_level: str = "info", **flags: object | None) -> Site:
    """A repository ready to work in, as a runner of its own.

    Raises RepositoryError or ConfigError with what to do.
    """
    repo = Repo.open(path)
    settings = load_settings(repo, **flags)
    repo.sync_objects()
    return make_site(repo, settings, log_level=log_level)


def open_place(path: Path | str, remote: str, **flags: object | None) -> Site:
    """The tasks of a remote, or those of the repository itself where that is `.`."""
    if remote == HERE:
        return open_site(path, log_level="info", **flags)
    return open_remote_site(path, remote, log_level="info", **flags)


def open_remote_site(
    path: Path | str, remote: str, *, log_level: str = "info", **flags: object | None
) -> Site:
    """The tasks of a remote of the clone at `path`, ready to be worked on.

    Nothing is asked of the remote yet. Raises RepositoryError or ConfigError with what to do.
    """
    clone = Repo.open(path)
    settings = load_settings(clone, **flags)
    address = find_address(clone, remote)
    repo, line = open_mirror(clone, address, timeout=settings.remote_timeout)
    repo.sync_objects()
    return make_site(repo, settings, log_level=log_level, line=line, clone=clone)


def make_site(
    repo: Repo,
    settings: Settings,
    *,
    log_level: str = "info",
    line: Remote | None = None,
    clone: Repo | None = None,
) -> Site:
    """The parts for an opened repository; with `line` it is the mirror of a remote."""
    holder = this_holder(_runner_id())
    local = RefStore(repo, holder)
    mirror = Mirror(repo, line, local) if line is not None else None
    store: Refs = SharedRefs(mirror, local) if mirror is not None else local
    archive = RunArchive(repo.home)
    read = reader(settings)
    place = worktree_place(repo, settings)
    threads = Threads(repo, read)
    scan = make_scan(repo, settings, threads)
    answers = AnswerIndex(
        repo, read, scan.take_fresh_tips, mirror.take_fresh_leases if mirror else tuple
    )
    elsewhere = Elsewhere(clone or repo, line.name if line is not None else "")
    leases = Leases(
        repo,
        store,
        holder,
        seconds=settings.lease_seconds,
        is_alive=is_alive,
        agent=settings.agent,
        roles=settings.roles,
    )
    reader_of_leases = RefReader(repo.common_dir, (LEASES,))
    feed = Feed(scan.take_moves, leases.take_touched, reader_of_leases)

    def keep(run: str, left: Harvest) -> str:
        return rescue_work(repo, store, run, "", left)

    return Site(
        name=repo.name if clone is None or line is None else f"{clone.name}:{line.name}",
        repo=repo,
        settings=settings,
        holder=holder,
        store=store,
        leases=leases,
        pool=WorktreePool(repo, place, keep),
        seclusion=Seclusion(repo, keep, hidden=_hidden(clone)),
        shelf=ScriptShelf(repo, states_folder()),
        guard=SharedGuard(repo, archive.path),
        archive=archive,
        answers=answers,
        scan=scan,
        threads=threads,
        upstream=Dependencies(repo, read, scan, threads, answers, elsewhere),
        ledger=Ledger(repo, feed, spends_of_leases(repo, read_any), moves_afresh=feed.wake),
        executor=SubprocessExecutor(),
        executed_by=_executed_by(),
        mirror=mirror,
        clone=clone,
        log_level=log_level,
    )


def _hidden(clone: Repo | None) -> list[Path]:
    """Where the clone of a mirror lies: a path to it is a path to the mirror."""
    places = [clone.common_dir, clone.work_tree, clone.main_work_tree] if clone else []
    return [place for place in places if place is not None]


def tell_apart(places: Sequence[Path]) -> list[str]:
    """A name for each repository by its place: as much of the end of the path as it takes.

    `web` where no other folder is called so, else `alice/web` and `bob/web`; the whole path where
    `web` and `web.git` lie side by side.
    """
    return [_shortest(place, places) for place in places]


def _shortest(place: Path, places: Sequence[Path]) -> str:
    for length in range(1, len(place.parts)):
        name = _end_of(place, length)
        if name and [_end_of(other, length) for other in places].count(name) == 1:
            return name
    return str(place)


def _end_of(place: Path, length: int) -> str:
    """The last parts of a path, without `.git`; empty for a repository that is named `.git`."""
    name = place.name.removesuffix(".git")
    return "/".join([*place.parts[-length:-1], name]) if name else ""


def worktree_place(repo: Repo, settings: Settings) -> Path | None:
    """The folder of this repository's worktrees that the operator wants; None where nobody said.

    A relative one is below the top of the working tree, in a bare repository below the git
    directory, as git takes `core.hooksPath` (git-config(1)); in a linked worktree that of the
    main one counts, so that all processes lend from the same pool. Raises ConfigError.
    """
    if not settings.worktree_dir:
        return None
    top = repo.main_work_tree or repo.common_dir
    try:
        folder = (top / Path(settings.worktree_dir).expanduser()).resolve()
    except RuntimeError as error:
        raise ConfigError(
            f"aynig.worktreeDir: nobody's home is {quote(settings.worktree_dir)}",
            hint="Name an absolute folder, or one below ~/.",
        ) from error
    # Several repositories may share the folder.
    mark = uuid.uuid5(uuid.NAMESPACE_URL, str(repo.common_dir)).hex[:8]
    return folder / f"{repo.name}-{mark}"


def _runner_id() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def _executed_by() -> str:
    """Who runs the scripts, as `user@host`."""
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    return f"{user}@{socket.gethostname()}"
