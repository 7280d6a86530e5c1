"""A git server in memory: objects, and refs that change by a really atomic compare-and-swap.

Beside it stands a referee, who looks at each change that a runner makes and notes what breaks the
promise (design section 2). He knows all that no runner knows: the true time, and who lives.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from aynig import dialects
from aynig.errors import RefMoved, RepositoryError
from aynig.executors import Job
from aynig.git.refs import RefEdit
from aynig.git.repo import EMPTY_TREE, CommitInfo
from aynig.lease import lease_name, read_lease
from aynig.model import HEADS, LEASES, Deferral, Lease, Statement
from tests.world import EPOCH

MAIN = HEADS + "main"
WORKFLOW = "states:\n  go: {next: check}\n"
# No clock of a runner is faster than the true one by more than this factor.
FASTEST = 2.0

read = functools.lru_cache(maxsize=65536)(dialects.read)


@dataclass
class Objects:
    """The commits of the whole world, by oid: equal ones are one object, as in git."""

    commits: dict[str, CommitInfo] = field(default_factory=dict)
    _oids: dict[object, str] = field(default_factory=dict)
    _leases: dict[str, Lease | Deferral | str] = field(default_factory=dict)

    def write(self, tree: str, parents: Iterable[str], message: str, time: int) -> str:
        key = (tree, tuple(parents), message, time)
        oid = self._oids.get(key)
        if oid is None:
            oid = self._oids[key] = f"{len(self._oids) + 1:040x}"
            text = message if message.endswith("\n") else message + "\n"
            raw = text.encode("utf-8", "surrogateescape")
            self.commits[oid] = CommitInfo(oid, tree, key[1], time, raw)
        return oid

    def commit(self, oid: str) -> CommitInfo:
        found = self.commits.get(oid)
        if found is None:
            raise RepositoryError(f"commit {oid} can't be read")
        return found

    def reaches(self, oid: str, ancestor: str) -> bool:
        pending, seen = [oid], set()
        while pending:
            each = pending.pop()
            if each == ancestor:
                return True
            if each not in seen:
                seen.add(each)
                pending += self.commits[each].parents
        return False

    def said(self, oid: str) -> Statement | None:
        return read(self.commits[oid].message)

    def lease(self, name: str, oid: str | None) -> Lease | Deferral | str | None:
        if oid is None:
            return None
        if oid not in self._leases:
            # Any object with `commit` will do.
            self._leases[oid] = read_lease(self, name, oid)  # type: ignore[arg-type]
        return self._leases[oid]


@dataclass
class Server:
    """The refs that all runners share, and the true time in seconds."""

    objects: Objects = field(default_factory=Objects)
    refs: dict[str, str] = field(default_factory=dict)
    time: float = 0.0
    # Changed with the branches: what tells a runner that there is nothing new.
    version: int = 0
    # When each ref was set to what it is.
    since: dict[str, float] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    # What was answered: by commit, the answers and the branches they landed on.
    answers: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    # The runs whose branches people have moved away: setting one back makes its lease valid again.
    overtaken: set[str] = field(default_factory=set)
    # Answers that people have taken out of all history.
    forgotten: set[str] = field(default_factory=set)
    # The workflow of the default branch, the states that have a script there, what those do unless
    # they are told otherwise, and who looks on when one begins.
    workflow: str = WORKFLOW
    scripts: frozenset[str] = frozenset({"go", "check"})
    script: Callable[[Job], str] = lambda job: "ok"
    watch: Callable[[Job], None] = lambda job: None

    def __post_init__(self) -> None:
        self.put(MAIN, self.objects.write(EMPTY_TREE, (), "The workflow", EPOCH))

    @property
    def workflow_oid(self) -> str:
        """What is parsed is remembered by this."""
        return hashlib.sha1(self.workflow.encode()).hexdigest()

    def put(self, ref: str, oid: str | None) -> None:
        """As a person does who may do anything."""
        held = self.objects.lease(lease_name(ref), self.refs.get(lease_name(ref)))
        if isinstance(held, Lease) and held.trigger != oid:
            self.overtaken.add(held.run)
        before = self.refs.get(ref)
        self._set(ref, oid)
        if before is not None and (oid is None or not self.objects.reaches(oid, before)):
            told = {answer for each in self.answers.values() for answer, _ in each}
            self.forgotten.update(each for each in told if not self._is_reached(each))

    def _set(self, ref: str, oid: str | None) -> None:
        if oid is None:
            self.refs.pop(ref, None)
        else:
            self.refs[ref] = oid
        self.since[ref] = self.time
        self.version += ref.startswith(HEADS)

    def push(self, edits: Sequence[RefEdit], by: Pusher) -> None:
        """All changes or none."""
        for edit in edits:
            if self.refs.get(edit.ref) != edit.old and not by.careless(edit):
                raise RefMoved(f"{edit.ref} is not at {edit.old}", ref=edit.ref)
        for edit in edits:
            if edit.old != edit.new:
                self._judge(edit, edits, by)
        for edit in edits:
            if edit.old != edit.new:
                self._set(edit.ref, edit.new)

    def below(self, prefix: str) -> dict[str, str]:
        return {ref: oid for ref, oid in self.refs.items() if ref.startswith(prefix)}

    # --- the referee ---------------------------------------------------------------------------

    def _judge(self, edit: RefEdit, edits: Sequence[RefEdit], by: Pusher) -> None:
        if edit.ref.startswith(HEADS):
            self._judge_answer(edit, edits, by)
        elif edit.ref.startswith(LEASES):
            self._judge_lease(edit, by)

    def _judge_answer(self, edit: RefEdit, edits: Sequence[RefEdit], by: Pusher) -> None:
        if edit.new is None or edit.old is None:
            self.broken.append(f"{by.name} made or deleted {edit.ref}")
            return
        said = self.objects.said(edit.new)
        answers = said.value("answers") if said is not None else None
        if said is None or answers is None or answers != self.refs.get(edit.ref):
            self.broken.append(f"{by.name} put {edit.new} on {edit.ref}, which answers {answers}")
            return
        name = lease_name(edit.ref)
        held = self.objects.lease(name, self.refs.get(name))
        if not isinstance(held, Lease) or (held.holder.runner, held.trigger) != (by.name, answers):
            self.broken.append(f"{by.name} answered {edit.ref} without its lease")
        if not any(each.ref == name and each.new != each.old for each in edits):
            self.broken.append(f"{by.name} answered {edit.ref} and kept its lease")
        self._judge_again(edit, answers, said.value("run"), by)
        self.answers.setdefault(answers, []).append((edit.new, edit.ref))

    def _judge_again(self, edit: RefEdit, answers: str, run: str | None, by: Pusher) -> None:
        """One answer to a commit, but for a copy whose branch a person has moved away and back.

        Who saw it moved has run the commit elsewhere, and nobody has told the first runner.
        """
        for oid, ref in self.answers.get(answers, ()):
            earlier = self.objects.said(oid)
            runs = {run, earlier.value("run") if earlier is not None else None}
            if oid in self.forgotten or not self._is_reached(oid):
                continue
            if ref == edit.ref or not runs & self.overtaken:
                self.broken.append(f"{by.name} answered {answers} a second time, on {edit.ref}")

    def _is_reached(self, oid: str) -> bool:
        tips = [tip for ref, tip in self.refs.items() if ref.startswith((HEADS, LEASES))]
        return any(self.objects.reaches(tip, oid) for tip in tips)

    def _judge_lease(self, edit: RefEdit, by: Pusher) -> None:
        """A lease that keeps others out is taken over only when they may know that it is over."""
        before = self.objects.lease(edit.ref, self.refs.get(edit.ref))
        after = self.objects.lease(edit.ref, edit.new)
        if not isinstance(before, Lease) or before.holder.runner == by.name:
            return
        if isinstance(after, Lease) and after.run == before.run:
            self.broken.append(f"{by.name} renewed the lease of {before.holder.runner}")
        if self.refs.get(before.ref) != before.trigger or by.is_alive(before.holder) is False:
            return
        if (self.time - self.since[edit.ref]) * by.rate < before.seconds:
            self.broken.append(f"{by.name} took {before.ref} from {before.holder.runner} too soon")

    def is_answered(self, oid: str) -> bool:
        """Does a ref of a branch or lease lead to an answer to this commit?"""
        return any(self._is_reached(answer) for answer, _ in self.answers.get(oid, ()))

    def live_leases(self, *, moved: bool = False) -> list[Lease]:
        """The leases that name what their branches point at; or pointed at, where they moved on."""
        found = []
        for name, oid in self.below(LEASES).items():
            lease = self.objects.lease(name, oid)
            if isinstance(lease, Lease) and (moved or self.refs.get(lease.ref) == lease.trigger):
                found.append(lease)
        return found

    def certain(self, *, moved: bool = False) -> dict[str, Lease]:
        """By run, the leases that nobody may take for expired yet, however fast his clock."""
        return {
            lease.run: lease
            for lease in self.live_leases(moved=moved)
            if (self.time - self.since[lease.name]) * FASTEST < lease.seconds
            and (moved or lease.run not in self.overtaken)
        }


@dataclass
class Pusher:
    """Whoever pushes, as the referee knows him."""

    name: str
    # By how much his clock is faster than the true one.
    rate: float
    is_alive: Callable[..., bool | None]
    # True for an edit whose guard this pusher leaves out: none does, but where a test breaks it.
    careless: Callable[[RefEdit], bool] = lambda edit: False
