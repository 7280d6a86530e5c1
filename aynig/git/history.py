"""What the history says: what was answered, what lies on top of what, the story of a branch.

One commit is dispatched once in a repository, however many branches point at it (design section
1.2), also after a restart. Only refs and commits survive one, so the answers themselves are the
record: a commit is answered when a commit that descends from it says `answers: <oid>`.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator

from aynig.dialects import DWP
from aynig.errors import RepositoryError
from aynig.git.repo import CommitInfo, Repo
from aynig.model import HEADS, LEASES, Statement

Read = Callable[[bytes], Statement | None]
Fresh = Callable[[], Iterable[tuple[str, int]]]

# Clocks of people's machines disagree; git allows itself a day as well (commit-reach, "slop").
_SLOP = 86_400
_FAR_BACK = 1000


class AnswerIndex:
    """Finds the answer to a commit by walking only what is younger than the commit.

    Answers are never older than what they answer (`Repo.write_commit`), so the index covers all
    history down to a horizon and lowers it when an older commit is asked for. A tip that moves is
    walked down to what is known already.
    """

    def __init__(
        self, repo: Repo, read: Read, fresh: Fresh, leases: Callable[[], Iterable[str]] = tuple
    ) -> None:
        """`fresh` gives the tips (oid, committer time) that are new since it was last called,
        `leases` what lease refs were set to since, as far as others did that."""
        self._repo = repo
        self._read = read
        self._fresh = fresh
        self._leases = leases
        self._mutex = threading.Lock()
        # What claims to answer a commit: anybody can write so, only a descendant counts.
        self._claims: dict[str, list[str]] = {}
        self._horizon: float | None = None
        self._seen: set[str] = set()
        # What lies on top of each commit: the one, or several.
        self._above: dict[str, str | list[str]] = {}
        # Commits at the horizon: where the walk stopped, to go on from when it is lowered.
        self._frontier: dict[str, int] = {}
        self._unread: dict[str, int] = {}

    def note(self, oid: str, answers: str) -> None:
        """An answer that this process has just made."""
        with self._mutex:
            self._claim(answers, oid)

    def answer_to(self, oid: str, time: int, lease: str | None = None) -> str | None:
        """The commit that answers `oid`, if it is still part of the history; else None.

        `lease` is what the lease ref of its branch points at.
        """
        with self._mutex:
            self._catch_up(time, lease)
            claims = tuple(self._claims.get(oid, ()))
        for claim in claims:
            if claim != oid and self._repo.descends(claim, oid) and self._reachable(claim):
                return claim
        return None

    def _catch_up(self, time: int, lease: str | None = None) -> None:
        told = {*self._leases(), *([lease] if lease else [])} - self._seen
        if self._horizon is None:
            told.update(self._repo.refs_below(LEASES).values())
        self._unread.update(self._answers_among(told))
        self._unread.update(self._fresh())
        self._lower(time - _SLOP)

    def _answers_among(self, leases: Iterable[str]) -> Iterator[tuple[str, int]]:
        """A released lease points at the answer, also when its branch was set back since, or
        deleted: then nobody who looks at branches alone has ever seen it."""
        for oid in leases:
            with contextlib.suppress(RepositoryError):
                info = self._repo.commit(oid)
                # A lease is a commit of its own, and there are many in the course of time.
                if info.parents or b"answers:" in info.message:
                    yield oid, info.time

    def _lower(self, horizon: float) -> None:
        if self._horizon is None or horizon < self._horizon:
            self._horizon = horizon
            self._unread.update(self._frontier)
            self._frontier.clear()
        if not self._unread:
            return
        pending, self._unread = list(self._unread.items()), {}
        while pending:
            oid, time = pending.pop()
            if oid in self._seen:
                continue
            if time < self._horizon:
                self._frontier[oid] = time
                continue
            try:
                parents = self._visit(oid)
            except RepositoryError:
                # Looked for again the next time: it may have been fetched by then.
                self._unread[oid] = time
                continue
            self._seen.add(oid)
            pending += parents

    def _visit(self, oid: str) -> list[tuple[str, int]]:
        """Note what a commit answers; its parents with their times."""
        info = self._repo.commit(oid)
        if b"answers:" in info.message:
            statement = self._read(info.message)
            answers = statement.value("answers") if statement else None
            if answers:
                self._claim(answers, oid)
        if b"dwp-state:" in info.message:
            self._note_on_branch(info)
        found = []
        for parent in info.parents:
            self._put(oid, parent)
            if parent in self._seen:
                continue
            # In a shallow clone the parents of the last commits are not there.
            try:
                found.append((parent, self._repo.commit(parent).time))
            except RepositoryError:
                continue
        return found

    def _put(self, oid: str, parent: str) -> None:
        others = self._above.setdefault(parent, oid)
        if isinstance(others, list):
            others.append(oid)
        elif others != oid:
            self._above[parent] = [others, oid]

    def _note_on_branch(self, info: CommitInfo) -> None:
        """In dwp the next commit says that one was dispatched: a lease on top of a state, and what
        comes on top of a lease. The runners beside us write no `answers`.
        """
        statement = self._read(info.message)
        if statement is None or statement.dialect != DWP.name or not info.parents:
            return
        with contextlib.suppress(RepositoryError):
            before = self._read(self._repo.commit(info.parents[0]).message)
            if before is None or before.dialect != DWP.name:
                return
            if "working" in (statement.state, before.state):
                self._claim(info.parents[0], info.oid)

    def _claim(self, answers: str, oid: str) -> None:
        claims = self._claims.setdefault(answers, [])
        if oid not in claims:
            claims.append(oid)

    def on_top(self, oid: str, time: int) -> tuple[str, ...]:
        """The commits that have `oid`, of that committer time, as a parent, as far as branches led
        to them at some time: one that is gone now may be among them."""
        with self._mutex:
            self._catch_up(time)
            found = self._above.get(oid, ())
        return (found,) if isinstance(found, str) else tuple(found)

    def _reachable(self, oid: str) -> bool:
        """Does any branch, or the lease ref of a branch, still lead to this commit?"""
        return self._repo.is_reached(oid, HEADS, LEASES)


def first_parents(repo: Repo, oid: str) -> Iterator[CommitInfo]:
    """A commit and its first parents, youngest first, as far as this clone has them."""
    following: str | None = oid
    while following is not None:
        try:
            info = repo.commit(following)
        except RepositoryError:
            return
        yield info
        following = info.parents[0] if info.parents else None


def hidden_answer(
    repo: Repo, head: str, base: str, answered: Callable[[bytes], str | None]
) -> str | None:
    """A commit from `head` down to `base` that claims to answer `base` or what came of it.

    What lies between a commit and its answer is what its script has committed, and is never read as
    a part of the task's history. Where there are answers in between, they would be lost by it: so
    no run may leave one, and nothing answers across one. `answered` reads what a message answers.
    """
    for number, info in enumerate(first_parents(repo, head)):
        if info.oid == base:
            return None
        # A script may have merged into something else: that goes on for as long as a project.
        if not number & (number - 1) and not repo.descends(info.oid, base):
            return None
        claim = answered(info.message) if b"answers:" in info.message else None
        if claim and repo.descends(claim, base) and repo.descends(info.oid, claim):
            return info.oid
    return None


def last_state_commit(repo: Repo, oid: str, read: Read) -> tuple[CommitInfo, Statement] | None:
    """The youngest commit on the first-parent line that carries a state, of the last thousand.

    Below a new task lies the whole history of a project: to read it would take longer than a run.
    """
    for info in itertools.islice(first_parents(repo, oid), _FAR_BACK):
        statement = read(info.message)
        if statement is not None:
            return info, statement
    return None
