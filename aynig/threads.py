"""Reads the threads of tasks from their commits, and remembers them: commits never change."""

from __future__ import annotations

import threading

from aynig.dialects import mentions_state
from aynig.errors import RepositoryError
from aynig.git.history import Read, hidden_answer
from aynig.git.repo import Repo
from aynig.model import Statement
from aynig.thread import Thread, Told, begin, continues, follow

# As many tips as a large repository has tasks under way; what is forgotten is read again.
_MOST = 50_000
_PARENT = b"parent:"
_ANSWERS = b"answers:"


class Threads:
    """The threads of one repository. Safe to share between threads."""

    def __init__(self, repo: Repo, read: Read) -> None:
        self._repo = repo
        self._read = read
        self._mutex = threading.Lock()
        self._known: dict[str, Thread] = {}

    def of(self, oid: str) -> Thread | None:
        """The thread up to a commit; None where that carries no state, or can't be read.

        Costs a read for each commit of the thread that was not asked for before.
        """
        pending: list[tuple[Told, Told | None]] = []
        at = oid
        thread: Thread | None = None
        while thread is None:
            known = self._known.get(at)
            if known is not None:
                thread = known
                break
            commit = self._told(at)
            if commit is None:
                return None
            answered = self._answered(commit)
            if answered is not None:
                pending.append((commit, answered))
                at = answered.oid
            elif continues(commit, self._statement(commit.parent)):
                pending.append((commit, None))
                at = commit.parent
            else:
                thread = begin(commit)
                self._remember(commit.oid, thread)
        for commit, answered in reversed(pending):
            thread = follow(thread, commit, answered)
            self._remember(commit.oid, thread)
        return thread

    def parent_of(self, oid: str, message: bytes) -> str:
        """Of which branch the task of a tip with a state is a child; empty for none.

        Asked of every tip at a first look, so an answer is taken at its word: it carries the field
        over from what it answers. A person's commit on top of one may have left it out.
        """
        if _PARENT not in message:
            if _ANSWERS in message or not self._is_on_state(oid):
                return ""
            thread = self.of(oid)
            return thread.parent if thread is not None else ""
        statement = self._read(message)
        return (statement.value("parent") or "") if statement is not None else ""

    def _is_on_state(self, oid: str) -> bool:
        try:
            parents = self._repo.commit(oid).parents
            return bool(parents) and mentions_state(self._repo.message(parents[0])[1])
        except RepositoryError:
            return False

    def answered(self, oid: str) -> Told | None:
        """The commit that this one answers, where it is an answer; that is checked."""
        commit = self._told(oid)
        return self._answered(commit) if commit is not None else None

    def told(self, oid: str) -> Told | None:
        """A commit as the fold sees it; None where it carries no state, or can't be read."""
        return self._told(oid)

    def _remember(self, oid: str, thread: Thread) -> None:
        with self._mutex:
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[oid] = thread

    def _told(self, oid: str) -> Told | None:
        try:
            info = self._repo.commit(oid)
        except RepositoryError:
            return None
        statement = self._read(info.message)
        if statement is None:
            return None
        parent = info.parents[0] if info.parents else ""
        return Told(oid, info.time, info.tree, parent, statement)

    def _answered(self, commit: Told) -> Told | None:
        claim = commit.statement.value("answers")
        if not claim or claim == commit.oid:
            return None
        # What it says is a claim: an answer descends from what it answers.
        if claim != commit.parent and not self._may_jump(commit, claim):
            return None
        return self._told(claim)

    def _may_jump(self, commit: Told, claim: str) -> bool:
        if not commit.parent or not self._repo.descends(commit.oid, claim):
            return False
        return hidden_answer(self._repo, commit.parent, claim, self._claim_of) is None

    def _claim_of(self, message: bytes) -> str | None:
        statement = self._read(message)
        return statement.value("answers") if statement is not None else None

    def _statement(self, oid: str) -> Statement | None:
        told = self._told(oid) if oid else None
        return told.statement if told is not None else None
