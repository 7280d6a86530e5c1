"""`AnswerIndex` knows which commits were answered, from nothing but refs and commits."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aynig import dialects
from aynig.git.history import AnswerIndex, first_parents, last_state_commit
from aynig.git.repo import EMPTY_TREE, Repo
from aynig.model import HEADS, LEASES, Statement
from tests.world import EPOCH, GitRepo

DAY = 86_400
TASK = "task\n\naynig: review-needed\n"


def answering(oid: str, state: str = "done") -> str:
    return f"answer\n\naynig: {state}\naynig: answers: {oid}\n"


@dataclass
class Lab:
    """A repository and the index over it, with the tips that a scan would tell of."""

    world: GitRepo
    index: AnswerIndex = field(init=False)
    # The messages that the index took to be worth reading.
    messages: list[bytes] = field(default_factory=list)
    _told: set[tuple[str, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self._told.clear()
        self.index = AnswerIndex(Repo.open(self.world.path), self._read, self._fresh)

    def _read(self, message: bytes) -> Statement | None:
        self.messages.append(message)
        return dialects.read(message)

    def _fresh(self) -> Iterable[tuple[str, int]]:
        listing = self.world.git(
            "for-each-ref", "--format=%(refname) %(objectname) %(committerdate:unix)", HEADS
        )
        for line in listing.splitlines():
            ref, oid, time = line.split()
            if (ref, oid) not in self._told:
                self._told.add((ref, oid))
                yield oid, int(time)

    def answer_to(self, oid: str) -> str | None:
        return self.index.answer_to(oid, int(self.world.git("log", "-1", "--format=%ct", oid)))

    def pass_days(self, days: float) -> None:
        self.world._clock += int(days * DAY)


@pytest.fixture
def lab(repo: GitRepo) -> Lab:
    return Lab(repo)


def test_a_task_without_an_answer_has_none(lab: Lab) -> None:
    assert lab.answer_to(lab.world.commit(TASK, branch="task")) is None


def test_the_answer_on_top_of_a_task_is_found(lab: Lab) -> None:
    task = lab.world.commit(TASK, branch="task")
    answer = lab.world.commit(answering(task), branch="task")
    assert lab.answer_to(task) == answer


def test_an_answer_that_comes_later_is_found_then(lab: Lab) -> None:
    task = lab.world.commit(TASK, branch="task")
    assert lab.answer_to(task) is None
    answer = lab.world.commit(answering(task), branch="task")
    assert lab.answer_to(task) == answer


def test_an_answer_far_below_the_tip_is_found(lab: Lab) -> None:
    task = lab.world.commit(TASK, branch="task")
    answer = lab.world.commit(answering(task, "next-state"), branch="task")
    for number in range(3):
        lab.world.commit(f"later {number}", branch="task")
    assert lab.answer_to(task) == answer


def test_an_answer_on_any_branch_counts(lab: Lab) -> None:
    task = lab.world.commit(TASK, branch="task")
    lab.world.git("branch", "copy", task)
    answer = lab.world.commit(answering(task), branch="copy")
    assert lab.world.tip("task") == task
    assert lab.answer_to(task) == answer


def test_an_answer_that_was_merged_elsewhere_counts(lab: Lab) -> None:
    task = lab.world.commit(TASK, branch="task")
    answer = lab.world.commit(answering(task), branch="task")
    tree = lab.world.git("rev-parse", "main^{tree}")
    merge = lab.world.git(
        "commit-tree", tree, "-p", "main", "-p", answer, stdin=b"merge", env=lab.world.tick()
    )
    lab.world.git("update-ref", "refs/heads/main", merge)
    lab.world.git("update-ref", "-d", "refs/heads/task")
    assert lab.answer_to(task) == answer


def test_an_answer_is_found_after_a_restart(lab: Lab) -> None:
    task = lab.world.commit(TASK, branch="task")
    answer = lab.world.commit(answering(task), branch="task")
    assert lab.answer_to(task) == answer
    lab.restart()
    assert lab.answer_to(task) == answer


@pytest.mark.parametrize("restarted", [True, False])
def test_the_answer_of_a_branch_set_back_is_known_by_its_lease_ref(
    lab: Lab, restarted: bool
) -> None:
    task = lab.world.commit(TASK, branch="task")
    answer = lab.world.commit(answering(task), branch="task")
    lab.world.git("update-ref", f"{LEASES}task", answer)
    if not restarted:
        assert lab.answer_to(task) == answer
    lab.world.git("update-ref", "refs/heads/task", task)
    if restarted:
        lab.restart()
    assert lab.answer_to(task) == answer


@pytest.mark.parametrize("restarted", [True, False])
def test_an_answer_that_nothing_leads_to_any_more_does_not_count(lab: Lab, restarted: bool) -> None:
    task = lab.world.commit(TASK, branch="task")
    answer = lab.world.commit(answering(task), branch="task")
    assert lab.answer_to(task) == answer
    lab.world.git("update-ref", "refs/heads/task", task)
    if restarted:
        lab.restart()
    assert lab.answer_to(task) is None


def test_an_answer_that_comes_back_counts_again(lab: Lab) -> None:
    task = lab.world.commit(TASK, branch="task")
    answer = lab.world.commit(answering(task), branch="task")
    lab.world.git("update-ref", "refs/heads/task", task)
    assert lab.answer_to(task) is None
    lab.world.git("update-ref", "refs/heads/rescued", answer)
    assert lab.answer_to(task) == answer


def test_a_tag_alone_does_not_keep_an_answer(lab: Lab) -> None:
    task = lab.world.commit(TASK, branch="task")
    answer = lab.world.commit(answering(task), branch="task")
    lab.world.git("tag", "kept", answer)
    lab.world.git("update-ref", "refs/heads/task", task)
    assert lab.answer_to(task) is None


def test_a_claim_of_a_commit_that_does_not_descend_from_the_task_is_forged(lab: Lab) -> None:
    task = lab.world.commit(TASK, branch="task")
    lab.world.commit(answering(task), branch="main")
    assert lab.answer_to(task) is None


def test_a_forged_claim_does_not_hide_the_true_answer(lab: Lab) -> None:
    task = lab.world.commit(TASK, branch="task")
    lab.world.commit(answering(task), branch="main")
    answer = lab.world.commit(answering(task), branch="task")
    lab.world.commit(answering(task), branch="zz")
    assert lab.answer_to(task) == answer


def test_a_mention_of_an_answer_in_the_text_is_no_answer(lab: Lab) -> None:
    task = lab.world.commit(TASK, branch="task")
    lab.world.commit(f"text\n\nsee answers: {task}\n\nmore text\n", branch="task")
    assert lab.answer_to(task) is None


def test_an_answer_that_this_process_made_is_known_at_once(lab: Lab) -> None:
    task = lab.world.commit(TASK, branch="task")
    answer = lab.world.commit(answering(task), branch="task", update=False)
    lab.index.note(answer, task)
    assert lab.answer_to(task) is None, "no ref leads to it yet"
    lab.world.git("update-ref", "refs/heads/task", answer)
    assert lab.answer_to(task) == answer


def test_the_horizon_is_lowered_for_an_older_task(lab: Lab) -> None:
    old = lab.world.commit(TASK, branch="task")
    old_answer = lab.world.commit(answering(old, "next-state"), branch="task")
    lab.pass_days(30)
    young = lab.world.commit(TASK, branch="task")
    young_answer = lab.world.commit(answering(young), branch="task")
    assert lab.answer_to(young) == young_answer
    assert len(lab.messages) == 1, "what is older than the task is not read"
    assert lab.answer_to(old) == old_answer
    assert len(lab.messages) == 2, "and nothing is read twice"
    assert lab.answer_to(young) == young_answer
    assert len(lab.messages) == 2


def test_clocks_may_disagree_by_some_hours(lab: Lab) -> None:
    lab.pass_days(1)
    task = lab.world.commit(TASK, branch="task")
    lab.pass_days(-0.5)
    answer = lab.world.commit(answering(task), branch="task")
    lab.world.commit("later", branch="task")
    assert lab.answer_to(task) == answer


def shallow(lab: Lab, path: Path, depth: int) -> Lab:
    lab.world.git(
        "clone", "--quiet", "--no-local", f"--depth={depth}", "--branch=task",
        f"file://{lab.world.path}", str(path),
    )  # fmt: skip
    return Lab(GitRepo(path))


def test_an_answer_is_found_in_a_shallow_clone(lab: Lab, tmp_path: Path) -> None:
    lab.world.commit("work", branch="task")
    task = lab.world.commit(TASK, branch="task")
    answer = lab.world.commit(answering(task), branch="task")
    clone = shallow(lab, tmp_path / "clone", 2)
    assert clone.answer_to(task) == answer
    assert [info.oid for info in first_parents(Repo.open(clone.world.path), answer)] == [
        answer,
        task,
    ]


def test_a_task_below_the_end_of_a_shallow_clone_has_no_answer_there(
    lab: Lab, tmp_path: Path
) -> None:
    task = lab.world.commit(TASK, branch="task")
    lab.world.commit(answering(task), branch="task")
    time = int(lab.world.git("log", "-1", "--format=%ct", task))
    clone = shallow(lab, tmp_path / "clone", 1)
    assert clone.index.answer_to(task, time) is None


# --- against brute force ------------------------------------------------------------------------


@dataclass(frozen=True)
class Node:
    """A commit of a made-up history; parents and claims are numbers of earlier ones."""

    parents: tuple[int, ...]
    claim: int | None
    time: int


@dataclass(frozen=True)
class History:
    nodes: tuple[Node, ...]
    # Which commits have a branch, before and after it is moved.
    stages: tuple[frozenset[int], ...]
    leases: frozenset[int]
    asked: tuple[int, ...]


@st.composite
def histories(draw: st.DrawFn) -> History:
    nodes: list[Node] = []
    true_times: list[int] = []
    for number in range(draw(st.integers(2, 10))):
        earlier = st.integers(0, max(number - 1, 0))
        parents = draw(st.lists(earlier, max_size=2, unique=True)) if number else []
        gap = draw(st.sampled_from([0, 60, DAY // 2, 2 * DAY, 9 * DAY]))
        true_times.append(max([true_times[each] for each in parents], default=EPOCH) + gap)
        # A clock that is slow, by less than what the walk allows for.
        slow = draw(st.sampled_from([0, 0, 0, DAY // 3]))
        claim = draw(st.none() | earlier) if number else None
        nodes.append(Node(tuple(parents), claim, true_times[-1] - slow))
    numbers = st.integers(0, len(nodes) - 1)
    some = st.frozensets(numbers, max_size=4)
    asked = draw(st.lists(numbers, min_size=1, max_size=6))
    return History(tuple(nodes), (draw(some), draw(some)), draw(some), tuple(asked))


def message_of(number: int, node: Node, oids: list[str]) -> bytes:
    text = f"commit {number}\n\naynig: some-state\n"
    if node.claim is not None:
        text += f"aynig: answers: {oids[node.claim]}\n"
    return text.encode()


def build(world: GitRepo, nodes: Iterable[Node]) -> list[str]:
    """Write a history in one process; a claim needs the oid of a commit, so oids come first."""
    oids: list[str] = []
    stream: list[bytes] = []
    for number, node in enumerate(nodes):
        message = message_of(number, node, oids)
        head = [f"tree {EMPTY_TREE}", *(f"parent {oids[each]}" for each in node.parents)]
        head += [f"{role} A <a@b> {node.time} +0000" for role in ("author", "committer")]
        data = "\n".join(head).encode() + b"\n\n" + message
        oids.append(hashlib.sha1(b"commit %d\0" % len(data) + data).hexdigest())
        lines = [f"commit refs/made/{number}", f"mark :{number + 1}"]
        lines += [f"committer A <a@b> {node.time} +0000", f"data {len(message)}"]
        stream.append("\n".join(lines).encode() + b"\n" + message)
        for word, parent in zip(("from", "merge"), node.parents, strict=False):
            stream.append(f"{word} :{parent + 1}\n".encode())
    world.git("fast-import", "--quiet", stdin=b"".join(stream))
    return oids


def reaching(nodes: tuple[Node, ...], number: int) -> set[int]:
    found: set[int] = set()
    pending = [number]
    while pending:
        each = pending.pop()
        if each not in found:
            found.add(each)
            pending += nodes[each].parents
    return found


def right_answers(history: History, branches: frozenset[int], task: int) -> set[int]:
    alive: set[int] = set()
    for ref in branches | history.leases:
        alive |= reaching(history.nodes, ref)
    return {
        number
        for number, node in enumerate(history.nodes)
        if node.claim == task
        and number != task
        and number in alive
        and task in reaching(history.nodes, number)
    }


def set_refs(world: GitRepo, prefix: str, oids: list[str], wanted: Iterable[int]) -> None:
    present = world.git("for-each-ref", "--format=delete %(refname)", prefix)
    world.git("update-ref", "--stdin", stdin=present + "\n" if present else "")
    orders = [f"create {prefix}r{number} {oids[number]}\n" for number in wanted]
    world.git("update-ref", "--stdin", stdin="".join(orders))


@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(histories())
def test_the_index_agrees_with_a_search_of_everything(
    tmp_path_factory: pytest.TempPathFactory, history: History
) -> None:
    world = GitRepo.init(tmp_path_factory.mktemp("made") / "repo", bare=True, empty=True)
    oids = build(world, history.nodes)
    set_refs(world, LEASES, oids, history.leases)
    lab = Lab(world)
    for branches in history.stages:
        set_refs(world, HEADS, oids, branches)
        for task in history.asked:
            found = lab.index.answer_to(oids[task], history.nodes[task].time)
            right: list[str | None] = [None]
            if numbers := right_answers(history, branches, task):
                right = [oids[number] for number in numbers]
            assert found in right


# --- the last state -----------------------------------------------------------------------------


def state_of(world: GitRepo, oid: str) -> tuple[str, str] | None:
    found = last_state_commit(Repo.open(world.path), oid, dialects.read)
    return (found[0].oid, found[1].state) if found else None


def test_the_last_state_is_the_youngest_below(lab: Lab) -> None:
    lab.world.commit(TASK, branch="task")
    second = lab.world.commit("x\n\naynig: second\n", branch="task")
    tip = lab.world.commit("plain", branch="task")
    assert state_of(lab.world, tip) == (second, "second")
    assert state_of(lab.world, second) == (second, "second")


def test_a_history_without_states_has_no_last_one(lab: Lab) -> None:
    assert state_of(lab.world, lab.world.tip()) is None


def test_a_state_that_was_merged_in_is_not_the_last_of_the_branch(lab: Lab) -> None:
    side = lab.world.commit(TASK, branch="side", parent=lab.world.tip())
    first = lab.world.commit("x\n\naynig: first\n", branch="task", parent=lab.world.tip())
    merge = lab.world.git(
        "commit-tree", EMPTY_TREE, "-p", first, "-p", side, stdin=b"merge", env=lab.world.tick()
    )
    assert state_of(lab.world, merge) == (first, "first")


@pytest.mark.parametrize(("above", "found"), [(999, True), (1000, False)])
def test_no_more_than_a_thousand_commits_are_looked_at(
    bare: GitRepo, above: int, found: bool
) -> None:
    stream = [f"commit refs/heads/long\ncommitter A <a@b> {EPOCH} +0000\ndata {len(TASK)}\n{TASK}"]
    for time in itertools.islice(itertools.count(EPOCH), above):
        stream.append(f"commit refs/heads/long\ncommitter A <a@b> {time} +0000\ndata 1\nx\n")
    bare.git("fast-import", "--quiet", stdin="".join(stream))
    state = state_of(bare, bare.tip("long"))
    assert (state is not None) == found
