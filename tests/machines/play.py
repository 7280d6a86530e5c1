"""A random workflow, played by two runners and people; a referee looks at each script that begins.

The runners, the server and all that decides are those of `fleet`; what is drawn here is what tasks
there are, what their states demand, what their scripts do, who dies when, and what people say.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from unittest import mock

from hypothesis import strategies as st

from aynig.config import parse_workflow
from aynig.executors import Job
from aynig.git.authorship import Made
from aynig.git.repo import Repo
from aynig.model import ENDED_STATES, HEADS, Hold, Statement
from aynig.policies.retries import ASKED
from aynig.workflow import BEFORE, StateSettings, Workflow
from tests.machines.runner import SECONDS
from tests.machines.strand import Cue
from tests.machines.world import World

MOST_TASKS = 12
STATES = ("make", "test", "ship")
# The first is what scripts do most of the time.
WORDS = ("ok", "promise", "fail", "again", "idle")
ACTIONS = (*("claim",) * 8, *("go on",) * 8, "wait", "long", "kill", "kill", "say", "say", "cancel")
# What a task that has not ended may wait for in the end, and nothing else.
REASONS = frozenset({"waiting", "blocked", "awaiting-approval", "stalled"})


@dataclass(frozen=True)
class TaskPlan:
    """One task: its branch, its first state, whom it waits for, and what its scripts do."""

    name: str
    state: str
    after: tuple[str, ...]
    words: tuple[str, ...]

    @property
    def ref(self) -> str:
        return HEADS + self.name


@dataclass(frozen=True)
class Story:
    """All that is drawn: nothing that happens then is left to chance."""

    config: str
    tasks: tuple[TaskPlan, ...]
    acts: tuple[tuple[str, int, int], ...]
    # Do people approve in the end what is left?
    kind: bool


@st.composite
def states(draw: st.DrawFn) -> str:
    """What one state demands, as a line of the config file."""
    parts = [f"retries: {{max: {draw(st.integers(0, 3))}, backoff: 1s, jitter: 0}}"]
    parts.append(f"on-dependency-failure: {draw(st.sampled_from(['wait', 'fail', 'run']))}")
    kind = draw(st.sampled_from(["", "", "loop", "approval", "resource", "fallback", "limit"]))
    if kind == "loop":
        limit = draw(st.integers(1, 4))
        parts.append(f"loop: {{promise: DONE, max-iterations: {limit}, on-limit: failed}}")
    if kind == "approval":
        parts.append("approval: {when: before, show: none}")
    if kind == "resource":
        parts.append("resource: database")
    if kind == "limit":
        parts.append(f"limits: {{concurrent: {draw(st.integers(1, 2))}}}")
    if kind == "fallback":
        parts.append("on-failure: repair")
    return "{" + ", ".join(parts) + "}"


@st.composite
def stories(draw: st.DrawFn, acts: int = 60) -> Story:
    lines = [f"  {name}: {draw(states())}" for name in STATES]
    limit = draw(st.sampled_from(["", "", "limits: {concurrent: 1}", "limits: {concurrent: 2}"]))
    config = f"{limit}\nstates:\n" + "\n".join([*lines, "  repair: {next: done}"]) + "\n"
    count = draw(st.integers(1, MOST_TASKS))
    names = [f"t{number}" for number in range(count)]
    tasks = []
    for number, name in enumerate(names):
        # Mostly on those before it: of circles few get anywhere.
        others = names[:number] if draw(st.integers(0, 9)) else [*names, "nobody"]
        after = draw(st.lists(st.sampled_from(others), max_size=3, unique=True)) if others else []
        words = draw(st.lists(st.sampled_from(WORDS), max_size=8))
        tasks.append(TaskPlan(name, draw(st.sampled_from(STATES)), tuple(after), tuple(words)))
    dice = st.tuples(st.sampled_from(ACTIONS), st.integers(0, 63), st.integers(0, 63))
    happens = draw(st.lists(dice, max_size=acts))
    return Story(config, tuple(tasks), tuple(happens), draw(st.booleans()))


@dataclass
class Play:
    """A story on the stage."""

    story: Story
    world: World = field(default_factory=World)
    broken: list[str] = field(default_factory=list)
    workflow: Workflow = field(init=False)
    # How often a script was started for each commit.
    starts: Counter[str] = field(default_factory=Counter)
    # The commits that a runner died on, or lost to another: they may be started once more each.
    disturbed: Counter[str] = field(default_factory=Counter)
    _turns: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        server = self.world.server
        self.workflow = parse_workflow(self.story.config.encode(), where="config.yaml")
        server.workflow = self.story.config
        server.scripts = frozenset({*STATES, "repair"})
        server.script, server.watch = self._turn, self._watch
        self.tasks = {task.ref: task for task in self.story.tasks}
        for task in self.story.tasks:
            self.world.push(task.ref, task.state, [f"depends-on: {name}" for name in task.after])
        for _ in range(2):
            self.world.add()

    def perform(self) -> None:
        """The whole of it, to its end."""
        try:
            for act, one, two in self.story.acts:
                self._act(act, one, two)
            self._end()
            self._look_at_the_end()
            self.broken += self.world.broken
        finally:
            self.world.close()

    # --- what happens ----------------------------------------

    def _act(self, act: str, one: int, two: int) -> None:
        world = self.world
        runner = world.fleet[one % 2]
        refs = list(self.tasks)
        ref = refs[two % len(refs)]
        if act == "claim":
            runner.sync()
            tasks = [*runner.pending, *runner.tasks()]
            runner.claim(tasks[two % len(tasks)] if tasks else ref, Cue(), 1 + one % 9)
        elif act == "go on":
            under_way = [(each, ref) for each in world.fleet for ref in each.strands]
            if under_way:
                runner, ref = under_way[two % len(under_way)]
                runner.advance(ref, Cue(), 1 + one % 9)
        elif act == "wait":
            world.server.time += 1.0 + two % 4
        elif act == "long":
            self._disturb(*world.fleet)
            world.server.time += SECONDS + 1
        elif act == "kill":
            self._disturb(runner)
            world.restart(runner, disk=bool(two % 4))
        elif act == "say":
            self._say(ref, "rejected" if two % 5 == 1 else "approved")
        elif act == "cancel" and two % 3 == 0 and self._state(ref) not in ENDED_STATES:
            world.push(ref, "canceled")

    def _disturb(self, *runners: object) -> None:
        """What is under way there may have to be begun again."""
        for runner in self.world.fleet:
            if any(runner is each for each in runners):
                self.disturbed.update(self.world.server.refs[ref] for ref in runner.strands)

    def _say(self, ref: str, state: str) -> bool:
        """A person replies to a request, where there is one."""
        if self._state(ref) != "awaiting-approval":
            return False
        self.world.push(ref, state)
        return True

    def _end(self) -> None:
        """Everybody works until there is nothing left to do, and people say what they have to."""
        self.world.work_off()
        while self.story.kind and sum(self._say(ref, "approved") for ref in self.tasks):
            self.world.work_off()

    def _turn(self, job: Job) -> str:
        """What a script does: as its task has it, and in the end all that is wanted of it."""
        task = self.tasks[HEADS + job.env["AYNIG_BRANCH"]]
        turn = self._turns[task.name]
        self._turns[task.name] += 1
        return task.words[turn] if turn < len(task.words) else "promise"

    # --- what must hold when a script begins ----------------------------------------

    def _watch(self, job: Job) -> None:
        task = self.tasks[HEADS + job.env["AYNIG_BRANCH"]]
        state, oid = job.env["AYNIG_STATE"], job.env["AYNIG_COMMIT_HASH"]
        settings = self.workflow.of(state)
        self.starts[oid] += 1
        for problem in (
            *self._unmet(task, settings),
            *self._unapproved(oid, settings),
            *self._too_often(oid, settings),
            *self._crowded(job, settings),
        ):
            self.broken.append(f"{task.name} ({state}): {problem}")

    def _unmet(self, task: TaskPlan, settings: StateSettings) -> Iterator[str]:
        enough = {"done"}
        if settings.on_dependency_failure == "run":
            enough |= {"failed", "canceled"}
        for name in task.after:
            state = self._state(HEADS + name)
            if state not in enough:
                yield f"run before {name}, which is {state or 'nowhere'}"

    def _unapproved(self, oid: str, settings: StateSettings) -> Iterator[str]:
        if settings.approval is None or settings.approval.when != BEFORE:
            return
        said, below = self._said(oid), self._said(self._parent(oid))
        replied = below is not None and below.state == "approved" and not below.value("answers")
        if not replied or said is None or said.value("step") != "approval":
            yield "run without an approval"

    def _too_often(self, oid: str, settings: StateSettings) -> Iterator[str]:
        retries = settings.retries
        most = 1 + (retries or ASKED).max + self.disturbed[oid]
        if self.starts[oid] > most:
            yield f"started {self.starts[oid]} times, at most {most} are allowed"
        limit = settings.loop.limit if settings.loop is not None else None
        iterations = self._iterations(oid)
        if limit is not None and iterations >= limit:
            yield f"iteration {iterations + 1} of a loop of {limit}"

    def _iterations(self, oid: str) -> int:
        """How many iterations of the same state lie below a commit, counted by their commits."""
        state, count = self._said(oid), 0
        while state is not None:
            answered = state.value("answers")
            below = self._said(answered) if answered else None
            if below is None or below.state != state.state:
                break
            state, count = below, count + 1
        return count

    def _crowded(self, job: Job, settings: StateSettings) -> Iterator[str]:
        others = list(self._others(job))
        for other in others:
            state, branch = other.env["AYNIG_STATE"], other.env["AYNIG_BRANCH"]
            if set(self.workflow.of(state).resources) & set(settings.resources):
                yield f"run beside {branch}, which has the resource"
        alike = [other for other in others if other.env["AYNIG_STATE"] == job.env["AYNIG_STATE"]]
        for limits, some in ((settings.limits, alike), (self.workflow.limits, others)):
            most = limits.concurrent if limits is not None else None
            if most is not None and len(some) >= most:
                yield f"{len(some) + 1} at the same time, at most {most} are allowed"

    def _others(self, job: Job) -> Iterator[Job]:
        """The scripts that are under way beside one, as far as their runners may go on."""
        certain = self.world.server.certain()
        for runner in self.world.fleet:
            for run, other in runner.machine.running.items():
                if run != job.run and run in certain:
                    yield other

    # --- what must hold in the end ----------------------------------------

    def _look_at_the_end(self) -> None:
        for task in self.story.tasks:
            state = self._state(task.ref)
            if state in ENDED_STATES:
                continue
            runner = self.world.fleet[0]
            runner.sync()
            runner.claim(task.ref, Cue(), 9)
            held = runner.outcomes.get(task.ref)
            if not isinstance(held, Hold) or held.word not in REASONS or not held.detail:
                self.broken.append(f"{task.name} is left at {state}: {held}")
            elif not self._has_reason(task, state, held):
                self.broken.append(f"{task.name} ({state}) has no reason to be {held}")

    def _has_reason(self, task: TaskPlan, state: str, held: Hold) -> bool:
        if state == "awaiting-approval":
            return not self.story.kind and held.word == "awaiting-approval"
        unmet = [name for name in task.after if self._state(HEADS + name) != "done"]
        return bool(unmet) and held.word in ("waiting", "blocked")

    # --- what the server has ----------------------------------------

    def _state(self, ref: str) -> str:
        return self.world.state(ref) if ref in self.world.server.refs else ""

    def _said(self, oid: str | None) -> Statement | None:
        return self.world.server.objects.said(oid) if oid else None

    def _parent(self, oid: str) -> str | None:
        parents: Sequence[str] = self.world.server.objects.commit(oid).parents
        return parents[0] if parents else None


PERSON = ("Emily", "emily@example.org")
RUNNER = ("aynig", "aynig@example.com")


def _made_by(repo: Repo, oid: str) -> Made:
    """Commits in memory have no authors: what says `run` was made by a runner."""
    message = repo.commit(oid).message
    who = RUNNER if b"\naynig: run: " in message else PERSON
    return Made(who, who, message)


def _made_between(repo: Repo, newest: str, oldest: str) -> list[Made]:
    return []


@contextlib.contextmanager
def people_in_memory() -> Iterator[None]:
    """Who made a commit is asked of the objects in memory, as all else of them is."""
    with (
        mock.patch("aynig.requests.made_by", _made_by),
        mock.patch("aynig.approvals.made_by", _made_by),
        mock.patch("aynig.requests.made_between", _made_between),
    ):
        yield
