"""What a task waits for: the tasks that its `depends-on` names, found without a git process.

A name is a branch, an oid, `REMOTE:BRANCH`, or an abbreviated oid or a tag that somebody committed
by hand. A branch is done where its tip is. An oid is done where a `done` goes on from it that some
branch contains: found by walking up from the oid, through what the index of answers has seen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from aynig.cycles import find_cycle
from aynig.elsewhere import Elsewhere, Sighting
from aynig.environment import fields_with_repeats
from aynig.errors import RepositoryError
from aynig.git.history import AnswerIndex, Read, last_state_commit
from aynig.git.names import is_ref
from aynig.git.repo import CommitInfo, Repo
from aynig.model import HEADS, Statement
from aynig.policies.dependencies import Dependency
from aynig.scan import Scan
from aynig.thread import BEGINS, GOES_ON
from aynig.threads import Threads
from aynig.waits import Waits

# What is remembered of commits that were walked over; what is forgotten is read again.
_MOST = 50_000
# So many commits above an oid are minded one by one.
_MOST_COMMITS = 256
_META = "meta-"


@dataclass(frozen=True, slots=True)
class Upstream:
    """One dependency, looked up."""

    name: str
    states: tuple[str, ...] = ()
    on: frozenset[str] | None = None
    # The commit that hands its results over, and the repository that has it; the answer where it
    # is done. Empty where there is none.
    oid: str = ""
    repo: Repo | None = None
    # The branch that is waited for, or the branches that hold the oid.
    refs: frozenset[str] = frozenset()

    @property
    def dependency(self) -> Dependency:
        return Dependency(self.name, self.states, self.on)

    @property
    def is_open(self) -> bool:
        return "done" not in self.states


class _Step(NamedTuple):
    """A commit on the way up."""

    time: int
    state: str
    first_parent: str
    # Does it begin a task of its own, whatever lies below it?
    begins: bool
    # Does it go on with a task that had ended?
    goes_on: bool


class _Climb(NamedTuple):
    """What lies above an oid."""

    done: str
    refs: frozenset[str]
    commits: frozenset[str]


class Dependencies:
    """Looks dependencies up, for one repository. Safe to share between threads."""

    def __init__(
        self,
        repo: Repo,
        read: Read,
        scan: Scan,
        threads: Threads,
        answers: AnswerIndex,
        elsewhere: Elsewhere,
    ) -> None:
        self._repo = repo
        self._read = read
        self._scan = scan
        self._threads = threads
        self._answers = answers
        self.elsewhere = elsewhere
        self._waits = Waits(self._waited_for)
        self._steps: dict[str, _Step] = {}

    def look_up(self, ref: str, name: str) -> Upstream:
        """What the task on the branch `ref` has in the dependency `name`."""
        own = self.elsewhere.own_branch(name)
        branch = HEADS + (own if own is not None else name)
        tip = self._scan.tip(branch)
        if tip is not None:
            on = frozenset((branch,))
            return Upstream(name, (tip.state,), on, tip.oid, self._repo, on)
        if own is not None:
            return Upstream(name, (), frozenset((branch,)))
        if ":" in name:
            return self._look_elsewhere(name)
        oid = self.named_commit(name)
        return self._look_above(ref, name, oid) if oid is not None else Upstream(name)

    def named_commit(self, name: str) -> str | None:
        """The commit that a field means: an oid, a branch or a tag, as any other runner reads it.

        Fields are claims by whoever pushed: git's further spellings (gitrevisions(7)) search
        messages and the reflogs of this machine.
        """
        return self._repo.resolve(name) if is_ref(HEADS + name) else None

    def cycle(self, ref: str, found: Iterable[Upstream]) -> tuple[str, ...]:
        """The circle that the task waits in, or that it waits for, by refs; empty for none."""
        return self._waits.cycle(ref, _open_refs(found))

    def cycle_if(
        self, waiting: Mapping[str, Sequence[str]], parents: Mapping[str, str]
    ) -> tuple[str, ...]:
        """The circle that there would be if these tasks, by ref, waited for that, by refs.

        `parents` are the refs of the parents of those that are children. Nothing is remembered.
        """
        started: dict[str, list[str]] = {}
        for ref, parent in parents.items():
            started.setdefault(parent, []).append(ref)

        def below(ref: str) -> list[str]:
            names = waiting.get(ref)
            if names is None:
                found = self._waited_for(ref, waiting)
            else:
                found = self._named(ref, names, waiting)
            return [*sorted(found), *started.get(ref, ())]

        return find_cycle(waiting, below)

    def _named(self, ref: str, names: Iterable[str], new: Container[str]) -> set[str]:
        """What these names mean, among them branches that are about to be made."""
        found = {HEADS + name for name in names if HEADS + name in new}
        others = (name for name in names if HEADS + name not in new)
        return found | _open_refs(self.look_up(ref, name) for name in others)

    # --- oids ----------------------------------------------------------------------------------

    def _look_above(self, ref: str, name: str, oid: str) -> Upstream:
        climb = self._climb(ref, oid)
        # Above a commit of an old main line lies half a repository: any branch may end that wait.
        on = climb.refs | climb.commits if len(climb.commits) <= _MOST_COMMITS else None
        if climb.done:
            return Upstream(name, ("done",), on, climb.done, self._repo, climb.refs)
        tips = [tip for tip in map(self._scan.tip, sorted(climb.refs)) if tip is not None]
        stated = [tip for tip in tips if tip.state] or tips
        last = max(stated, key=lambda tip: tip.time, default=None)
        return Upstream(
            name,
            tuple(tip.state for tip in stated),
            on,
            last.oid if last is not None else "",
            self._repo,
            climb.refs,
        )

    def _climb(self, ref: str, oid: str) -> _Climb:
        """From an oid up to the nearest `done`, or else to all tips above it.

        A task goes on along first parents; above a commit of no task everything is looked at.
        """
        start = self._step(oid)
        refs: set[str] = set()
        seen, pending = {oid}, deque([(oid, start)])
        while pending:
            at, step = pending.popleft()
            refs.update(branch for branch in self._scan.branches_at(at) if branch != ref)
            above = [(each, self._step(each)) for each in self._answers.on_top(at, step.time)]
            if step.state == "done" and self._stands(at, above):
                return _Climb(at, frozenset(refs), frozenset(seen))
            for each, further in above:
                is_same = not further.begins and (not start.state or further.first_parent == at)
                if each not in seen and is_same:
                    seen.add(each)
                    pending.append((each, further))
        return _Climb("", frozenset(refs), frozenset(seen))

    def _stands(self, done: str, above: Sequence[tuple[str, _Step]]) -> bool:
        """Does some branch still contain a `done`, and none a commit that takes it back?"""
        if any(step.goes_on and self._is_contained(oid) for oid, step in above):
            return False
        return self._is_contained(done)

    def _is_contained(self, oid: str) -> bool:
        seen, pending = {oid}, deque([oid])
        while pending:
            at = pending.popleft()
            if self._scan.branches_at(at):
                return True
            for each in self._answers.on_top(at, self._step(at).time):
                if each not in seen:
                    seen.add(each)
                    pending.append(each)
        return False

    def _step(self, oid: str) -> _Step:
        known = self._steps.get(oid)
        if known is None:
            try:
                info = self._repo.commit(oid)
            except RepositoryError:
                # It may be there the next time.
                return _Step(0, "", "", begins=False, goes_on=False)
            if len(self._steps) >= _MOST:
                self._steps.clear()
            known = self._steps[oid] = self._read_step(info)
        return known

    def _read_step(self, info: CommitInfo) -> _Step:
        said = self._read(info.message)
        parent = info.parents[0] if info.parents else ""
        if said is None or said.fault:
            return _Step(info.time, "", parent, begins=False, goes_on=False)
        is_answer = said.value("answers") is not None
        begins = not is_answer and bool(said.value(BEGINS) or said.value("parent"))
        goes_on = any(said.value(key) == parent for key in GOES_ON)
        return _Step(info.time, said.state, parent, begins=begins and not goes_on, goes_on=goes_on)

    # --- elsewhere -----------------------------------------------------------------------------

    def _look_elsewhere(self, name: str) -> Upstream:
        sighting = self.elsewhere.find(name)
        on = frozenset((name,))
        if sighting is None:
            return Upstream(name, (), on)
        said = self._said(sighting)
        state = said.state if said is not None else ""
        return Upstream(name, (state,), on, sighting.commit.oid, sighting.repo)

    def _said(self, sighting: Sighting) -> Statement | None:
        said = self._read(sighting.commit.message)
        return said if said is not None and not said.fault else None

    # --- who waits for whom --------------------------------------------------------------------

    def _waited_for(self, ref: str, new: Container[str] = ()) -> set[str]:
        """What a task waits for now: what it depends on, and the end of its children."""
        tip = self._scan.tip(ref)
        if tip is None or not tip.actionable:
            return set()
        thread = self._threads.of(tip.oid)
        names = thread.depends_on if thread is not None else ()
        found = self._named(ref, names, new)
        for child in self._scan.children(ref):
            started = self._scan.tip(child)
            if started is not None and started.actionable:
                found.add(child)
        return found

    # --- what is handed over -------------------------------------------------------------------

    def handed_over(self, ref: str, names: Iterable[str]) -> Iterator[dict[str, object]]:
        """The answer and the metadata of each dependency, for the context of a script."""
        for name in names:
            found = self.look_up(ref, name)
            if not found.oid or found.repo is None:
                continue
            last = last_state_commit(found.repo, found.oid, self._read)
            if last is not None:
                yield {"name": name, **as_context(last[0].oid, last[1])}


def as_context(oid: str, statement: Statement) -> dict[str, object]:
    """A state commit as scripts are told of it; `meta` has what it hands over by `meta-KEY`."""
    fields = fields_with_repeats(statement)
    meta = {
        key.removeprefix(_META): values[0] if len(values) == 1 else values
        for key, values in fields.items()
        if key.startswith(_META)
    }
    return {
        "oid": oid,
        "state": statement.state,
        "subject": statement.subject,
        "body": statement.body,
        "fields": fields,
        "meta": meta,
    }


def _open_refs(found: Iterable[Upstream]) -> set[str]:
    return {ref for each in found if each.is_open for ref in each.refs}
