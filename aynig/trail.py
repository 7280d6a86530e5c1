"""The commits that refs lead to, walked as docs/costs.md has it, and the threads that they are of.

From an answer to the commit that it answers, and to its other parents; from any other commit to all
its parents. What an agent commits between a commit and its answer is jumped over: nobody but the
daemon vouches for what stands there. Only what is new is walked, down to a horizon that is lowered
for what is asked. Not safe between threads: the ledger sees to that.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from aynig.account import Answer, read_answer
from aynig.dialects import Skim
from aynig.errors import RepositoryError
from aynig.git.history import hidden_answer
from aynig.git.repo import Repo
from aynig.model import HEADS, RefChange
from aynig.thread import GOES_ON

# States that end a task for good; what a person asks for on top of others goes on with it.
_OVER = frozenset({"done", "canceled"})
_OID = re.compile(r"[0-9a-f]{40}")
# Commits below the tip of a branch among which its last task is looked for.
_FAR_BACK = 1000

ReadSkim = Callable[[bytes], Skim | None]


class Node:
    """A commit that refs lead to. `leads` is None where the walk has not gone on from there."""

    __slots__ = (
        "answer", "apart", "fans_out", "goes_on", "held", "leads", "parent", "ran", "resumes",
        "state", "time",
    )  # fmt: skip

    def __init__(self) -> None:
        # How many refs and commits lead to it: with none left it is no longer counted.
        self.held = 0
        self.time = 0
        self.state = ""
        self.leads: tuple[str, ...] | None = None
        self.answer: Answer | None = None
        # The state that an answer's run was of.
        self.ran = ""
        # Is it a person's word that the task may go on?
        self.resumes = False
        # Does it begin a task though it lies on one, or go on with one that is over?
        self.apart = False
        self.goes_on = False
        # The branch that a first commit says it is a child of; of an answer, has it children?
        self.parent = ""
        self.fans_out = False


@dataclass(slots=True)
class Walked:
    """What a walk has found."""

    # Answers that refs lead to by now, or no longer, each with the state that its run was of.
    came: list[tuple[str, Answer]] = field(default_factory=list)
    gone: list[tuple[str, Answer]] = field(default_factory=list)
    # Commits by which a person lets a task go on, and their times; those that are gone.
    words: list[tuple[str, int]] = field(default_factory=list)
    unsaid: list[str] = field(default_factory=list)
    # May commits be of other threads than before? May a task be another one's child?
    mended: bool = False
    moved: bool = False


class Trail:
    """An index of the history that branches and leases lead to."""

    def __init__(self, repo: Repo, read: ReadSkim) -> None:
        self._repo = repo
        self._skim = read
        self._horizon = math.inf
        self._refs: dict[str, str] = {}
        self._nodes: dict[str, Node] = {}
        self._pending: list[str] = []
        # Where the walk stopped: at commits older than the horizon, and at those it can't read.
        self._frontier: set[str] = set()
        self._missing: set[str] = set()
        self._roots: dict[str, str] = {}
        # The threads of the branches that children name as their parents.
        self._named: dict[str, str | None] = {}
        # What was missing when those were looked up.
        self._torn: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._nodes)

    # --- walking ------------------------------------------------------------------------------

    def follow(self, changes: Iterable[RefChange]) -> Walked:
        """Walk to where refs are by now, and from where they were."""
        changes, dropped, walked = list(changes), list[str](), Walked()
        for change in changes:
            before = self._refs.pop(change.ref, None)
            if before is not None:
                dropped.append(before)
            if change.new is not None:
                self._refs[change.ref] = change.new
                self._hold(change.new)
        if changes:
            walked.mended = self._look_for_missing()
        self._walk(walked)
        self._release(dropped, walked)
        walked.moved = self._have_parents_moved(changes)
        return walked

    def reaches(self, horizon: float) -> bool:
        """Is all walked to since a time, as far as it can be read? In seconds since the epoch."""
        return horizon >= self._horizon

    def deepen(self, horizon: float) -> Walked:
        """Walk on to all commits since a time, as above."""
        self._horizon = horizon
        deeper = [oid for oid in self._frontier if self._nodes[oid].time >= horizon]
        self._frontier.difference_update(deeper)
        self._pending += deeper
        walked = Walked()
        self._walk(walked)
        return walked

    def _look_for_missing(self) -> bool:
        """It may have been fetched since; was it, where that matters for threads?"""
        self._pending += self._missing
        self._missing.clear()
        if not any(self._repo.has_commit(oid) for oid in self._torn):
            return False
        self._torn.clear()
        self._named.clear()
        self._roots.clear()
        return True

    def _hold(self, oid: str) -> None:
        node = self._nodes.get(oid)
        if node is None:
            node = self._nodes[oid] = Node()
            self._pending.append(oid)
        node.held += 1

    def _walk(self, walked: Walked) -> None:
        """Read what is pending, and what that leads to, down to the horizon."""
        found: list[tuple[Node, Answer]] = []
        pending = self._pending
        while pending:
            oid = pending.pop()
            node = self._nodes[oid]
            try:
                node.time, parents, message = self._repo.lineage(oid)
            except RepositoryError:
                self._missing.add(oid)
                continue
            said = self._read(node, message)
            if node.time < self._horizon:
                self._frontier.add(oid)
                continue
            node.leads = self._leads(oid, node, parents, said)
            for lead in node.leads:
                self._hold(lead)
            if node.answer is not None:
                found.append((node, node.answer))
            elif node.resumes:
                walked.words.append((oid, node.time))
        walked.came += [(self._ran(node), answer) for node, answer in found]

    def _read(self, node: Node, message: bytes) -> Skim | None:
        """Note the state that a commit carries; what it says, where it says anything properly."""
        said = self._skim(message) if b":" in message else None
        if said is None or said.fault:
            return None
        node.state = said.state
        return said

    def _leads(
        self, oid: str, node: Node, parents: tuple[str, ...], said: Skim | None
    ) -> tuple[str, ...]:
        """Where a commit leads to; notes the answer that it is, or that a person lets it go on."""
        fields = dict(said.fields) if said is not None else {}
        answered = fields.get("answers")
        if said is None or answered is None:
            node.resumes = "resumes" in fields
            node.parent = fields.get("parent", "")
            node.apart = "begins" in fields
            node.goes_on = bool(parents) and parents[0] in map(fields.get, GOES_ON)
            return parents
        if answered not in parents:
            if answered == oid or not _OID.fullmatch(answered):
                return parents
            if not self._may_jump(oid, parents, answered):
                return parents
            parents = (answered, *parents[1:])
        node.answer = read_answer(oid, node.time, said, fields)
        node.fans_out = "children" in fields
        return parents

    def _may_jump(self, oid: str, parents: tuple[str, ...], answered: str) -> bool:
        """Only over what a script has committed: who jumps over answers would hide their costs."""
        if not parents or not self._repo.descends(oid, answered):
            return False
        return hidden_answer(self._repo, parents[0], answered, self._claim_of) is None

    def _claim_of(self, message: bytes) -> str | None:
        said = self._skim(message)
        return dict(said.fields).get("answers") if said is not None else None

    def _release(self, oids: list[str], walked: Walked) -> None:
        """Refs have left these commits: what nothing leads to any more is no longer counted."""
        while oids:
            oid = oids.pop()
            node = self._nodes[oid]
            node.held -= 1
            if node.held:
                continue
            del self._nodes[oid]
            self._frontier.discard(oid)
            self._missing.discard(oid)
            oids += node.leads or ()
            if node.resumes and node.leads is not None:
                walked.unsaid.append(oid)
            if node.answer is not None:
                walked.gone.append((node.ran, node.answer))

    # --- commits ------------------------------------------------------------------------------

    def time_of(self, oid: str) -> float:
        """When a commit was made, in seconds since the epoch; minus infinity for one that can't be
        read."""
        node = self._look_at(oid)
        return node.time if node is not None else -math.inf

    def state_run(self, answer: Answer) -> str:
        """The state that the run of an answer was of."""
        node = self._nodes.get(answer.oid)
        if node is not None and node.answer is not None:
            return self._ran(node)
        return self._state_of(answer.answers)

    def _state_of(self, oid: str) -> str:
        node = self._look_at(oid)
        return node.state if node is not None else ""

    def _look_at(self, oid: str) -> Node | None:
        """A commit, also one that the walk has not come to; None where it can't be read."""
        node = self._nodes.get(oid)
        if node is None or node.leads is None:
            node = Node()
            try:
                node.time, parents, message = self._repo.lineage(oid)
            except RepositoryError:
                self._torn.add(oid)
                return None
            node.leads = self._leads(oid, node, parents, self._read(node, message))
        return node

    def _ran(self, node: Node) -> str:
        """The state that the run of an answer was of."""
        if node.answer is not None and not node.ran:
            node.ran = self._state_of(node.answer.answers)
        return node.ran

    # --- threads ------------------------------------------------------------------------------

    def thread_of(self, oid: str) -> str:
        """The first commit of the thread of a commit: of the task of its branch."""
        path = []
        root = oid
        for root, _ in self._thread(oid):
            if root in self._roots:
                root = self._roots[root]
                break
            path.append(root)
        self._roots.update(dict.fromkeys(path, root))
        return root

    def line_of(self, oid: str) -> frozenset[str]:
        """All commits of the thread up to this one."""
        return frozenset(each for each, _ in self._thread(oid))

    def above(self, thread: str) -> str | None:
        """The thread that started this one, as a child; None for one that a person has begun.

        A child begins on the answer that started it. One that was made by hand is known by the
        branch that it names, so it belongs to what that branch is at.
        """
        node = self._look_at(thread)
        if node is None or not node.parent:
            return None
        below = self._look_at(node.leads[0]) if node.leads else None
        if below is not None and below.fans_out and node.leads:
            return self.thread_of(node.leads[0])
        ref = HEADS + node.parent
        if ref not in self._named:
            self._named[ref] = self._thread_at(ref)
        return self._named[ref]

    def threads_on_line(self, oid: str, seen: set[str]) -> Iterator[str]:
        """The threads that lie on the line of a branch at `oid`, the last first.

        What is in `seen` is on another's line, and ends this one; what was walked is added to it.
        What lies below a child is its parent's.
        """
        following: str | None = oid
        while following is not None and following not in seen:
            seen.add(following)
            node = self._look_at(following)
            if node is None:
                return
            if node.answer is not None:
                yield self.thread_of(following)
                following = node.answer.answers
            elif node.parent:
                return
            else:
                following = node.leads[0] if node.leads else None

    def _below(self, node: Node) -> str | None:
        """The commit of the same thread before this one; None where the thread begins here."""
        if node.answer is not None:
            return node.answer.answers
        if not node.state or not node.leads:
            return None
        if node.goes_on:
            return node.leads[0]
        if node.parent or node.apart:
            return None
        state = self._state_of(node.leads[0])
        return node.leads[0] if state and state not in _OVER else None

    def _thread(self, oid: str) -> Iterator[tuple[str, Node]]:
        """A commit and those of its thread before it, as far as this clone has them."""
        following: str | None = oid
        while following is not None:
            node = self._look_at(following)
            if node is None:
                return
            yield following, node
            following = self._below(node)

    def _thread_at(self, ref: str) -> str | None:
        """The thread of the last task of a branch; what people add to its files is no task."""
        following = self._refs.get(ref)
        for _ in range(_FAR_BACK):
            node = self._look_at(following) if following is not None else None
            if node is None or following is None:
                return None
            if node.state:
                return self.thread_of(following)
            following = node.leads[0] if node.leads else None
        return None

    def _have_parents_moved(self, changes: Iterable[RefChange]) -> bool:
        """Is the branch of a parent at another task now? Its children go with it."""
        moved = {change.ref for change in changes} & self._named.keys()
        if all(self._thread_at(ref) == self._named[ref] for ref in moved):
            return False
        self._named.clear()
        return True
