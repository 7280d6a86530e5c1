"""The ledger adds up what answers say, and nothing but what the refs lead to counts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aynig import dialects
from aynig.account import AGENT, STATE
from aynig.git.repo import EMPTY_TREE, Repo
from aynig.ledger import Entry, Ledger, open_ledger, read_any
from aynig.model import HEADS, LEASES
from aynig.usage import Usage
from aynig.workflow import Limits
from tests.world import EPOCH, GitRepo

DAY = 86_400
TASK = "task\n\naynig: build\n"


def answering(oid: str, state: str = "done", *lines: str) -> str:
    block = [state, *lines, f"answers: {oid}"]
    return "answer\n\n" + "".join(f"aynig: {line}\n" for line in block)


@dataclass
class Lab:
    """A repository and the ledger over it."""

    world: GitRepo
    spends: dict[tuple[str, str], Entry] = field(default_factory=dict)
    ledger: Ledger = field(init=False)
    # The messages that were read.
    messages: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.ledger = open_ledger(
            Repo.open(self.world.path), lambda *place: self.spends.get(place), self._read
        )

    def _read(self, message: bytes) -> dialects.Skim | None:
        self.messages.append(message)
        return read_any(message)

    def task(self, branch: str = "task", message: str = TASK) -> str:
        parent = None if self.world.tip(branch) else self.world.tip()
        return self.world.commit(message, branch=branch, parent=parent)

    def answer(self, *lines: str, branch: str = "task", state: str = "done") -> str:
        return self.world.commit(answering(self.world.tip(branch), state, *lines), branch=branch)

    def entries(self) -> list[Entry]:
        self.ledger.refresh()
        return self.ledger.entries()

    def costs(self) -> list[str]:
        return [str(entry.usage.cost) for entry in self.entries()]

    def cost_of_task(self, branch: str = "task") -> Decimal:
        self.ledger.refresh()
        return self.ledger.spent_on_task(self.world.tip(branch)).usage.cost

    def time(self, oid: str) -> int:
        return int(self.world.git("log", "-1", "--format=%ct", oid))

    def day(self, oid: str) -> date:
        return datetime.fromtimestamp(self.time(oid), UTC).date()

    def pass_time(self, seconds: float) -> None:
        self.world._clock += int(seconds)


@pytest.fixture
def lab(repo: GitRepo) -> Lab:
    return Lab(repo)


# --- what an entry says -------------------------------------------------------------------------


def test_an_answer_is_an_entry(lab: Lab) -> None:
    task = lab.task()
    answer = lab.answer("cost-usd: 0.42", "tokens-in: 7", "calls: 2", "agent: coder", state="ok")
    (entry,) = lab.entries()
    assert entry == Entry(
        oid=answer, answers=task, task=task, state="build", to_state="ok", agent="coder",
        time=lab.time(answer), usage=Usage(Decimal("0.42"), 7, calls=2), calls=2,
        thread=task,
    )  # fmt: skip
    assert entry.succeeded
    assert entry.day == lab.day(answer)


def test_a_commit_without_answers_is_no_entry(lab: Lab) -> None:
    lab.task(message=f"{TASK}aynig: cost-usd: 5\n")
    lab.world.commit("text\n\nsee answers: x\n\naynig: cost-usd: 5\n", branch="main")
    assert lab.entries() == []


@pytest.mark.parametrize(
    ("state", "lines", "failure"),
    [
        ("done", ("exit: 0",), ""),
        ("next", (), ""),
        ("failed", ("exit: 3",), "exit 3"),
        ("fallback", ("exit: 3",), "exit 3"),
        ("failed", ("exit: 143", "stopped: timeout"), "timeout"),
        ("failed", ("exit: 0", "fault: its answer is malformed"), "its answer is malformed"),
        ("failed", ("exit: 0",), "failed"),
        ("failed", ("step: deadline",), ""),
    ],
)
def test_how_a_run_ended_is_read_from_its_answer(
    lab: Lab, state: str, lines: tuple[str, ...], failure: str
) -> None:
    lab.task()
    lab.answer(*lines, state=state)
    (entry,) = lab.entries()
    assert (entry.failure, entry.succeeded) == (failure, not failure)


@pytest.mark.parametrize(
    ("lines", "calls"),
    [
        ((), 1), (("attempt: 3",), 3), (("attempt: 3", "calls: 2"), 2), (("calls: 0",), 0),
        (("step: join",), 0), (("attempt: -1",), 1), (("attempt: 99999999",), 1),
    ],
)  # fmt: skip
def test_an_answer_that_says_nothing_of_calls_counts_one_an_attempt(
    lab: Lab, lines: tuple[str, ...], calls: int
) -> None:
    lab.task()
    lab.answer(*lines)
    assert [entry.calls for entry in lab.entries()] == [calls]


def test_an_answer_counts_when_its_run_ended_however_its_parents_are_dated(lab: Lab) -> None:
    task = lab.task()
    begun = datetime.fromtimestamp(EPOCH, UTC).strftime("%Y%m%dT%H%M%SZ")
    lab.pass_time(3650 * DAY)
    lab.world.commit("dated far ahead", branch="task")
    lab.world.commit(
        answering(task, "done", f"run: {begun}-abc", "duration: 90.500"), branch="task"
    )
    assert [entry.time for entry in lab.entries()] == [EPOCH + 90]


@pytest.mark.parametrize("run", ["x", "20261399T000000Z-1", "99990101T000000Z-1", "2026T-"])
def test_a_run_that_says_no_time_or_a_later_one_leaves_the_committer_s(lab: Lab, run: str) -> None:
    lab.task()
    answer = lab.answer(f"run: {run}", "duration: 9")
    assert [entry.time for entry in lab.entries()] == [lab.time(answer)]


def test_an_answer_that_says_too_much_costs_no_less(lab: Lab) -> None:
    lab.task()
    lab.answer("cost-usd: 1", *(f"note: {number}" for number in range(1000)))
    assert dialects.skim(lab.world.message("task").encode()) != read_any(
        lab.world.message("task").encode()
    )
    assert lab.costs() == ["1"]


def test_answers_of_the_other_dialect_count_as_well(lab: Lab) -> None:
    task = lab.task(message="task\n\ndwp-state: build\n")
    lab.world.commit(
        f"answer\n\ndwp-state: done\ndwp-cost-usd: 1\ndwp-answers: {task}\n", branch="task"
    )
    (entry,) = lab.entries()
    assert (entry.state, entry.to_state) == ("build", "done")
    assert entry.usage.cost == 1


# --- what counts --------------------------------------------------------------------------------


def test_what_an_agent_commits_before_its_answer_is_not_read(lab: Lab) -> None:
    task = lab.task()
    lab.world.commit("forged\n\naynig: x\naynig: cost-usd: 9\n", branch="task")
    lab.world.commit("work\n\naynig: x\naynig: cost-usd: 9\n", branch="task")
    lab.world.commit(answering(task, "done", "cost-usd: 1"), branch="task")
    assert lab.costs() == ["1"]
    assert not any(b"forged" in message for message in lab.messages)


@pytest.mark.parametrize("beside", [False, True], ids=["on top", "with work between"])
def test_who_claims_to_answer_an_earlier_commit_hides_no_answer(lab: Lab, beside: bool) -> None:
    task = lab.task()
    lab.answer("cost-usd: 4", state="go")
    lab.answer("cost-usd: 5", state="go")
    if beside:
        lab.world.commit("work", branch="task")
    lab.world.commit(answering(task, "go", "cost-usd: 0"), branch="task")
    assert sorted(lab.costs()) == ["4", "5"]
    # On top of a commit without a state it begins another task, as a person's would.
    assert lab.cost_of_task() == (0 if beside else 9)
    lab.answer("cost-usd: 1")
    assert lab.cost_of_task() == (1 if beside else 10)


def test_what_another_branch_leads_to_is_read_all_the_same(lab: Lab) -> None:
    task = lab.task()
    between = lab.world.commit("work", branch="task")
    lab.world.commit(answering(task, "done", "cost-usd: 1"), branch="task")
    lab.world.git("branch", "between", between)
    lab.answer("cost-usd: 9", branch="between")
    assert sorted(lab.costs()) == ["1", "9"]
    lab.world.git("branch", "-D", "between")
    assert lab.costs() == ["1"]


def test_a_copied_answer_claims_what_it_does_not_descend_from(lab: Lab) -> None:
    task = lab.task()
    lab.answer("cost-usd: 1")
    lab.world.commit(answering(task, "done", "cost-usd: 1"), branch="main")
    lab.world.commit(answering("HEAD", "done", "cost-usd: 1"), branch="main")
    assert lab.costs() == ["1"]


def test_one_answer_that_two_branches_reach_counts_once(lab: Lab) -> None:
    lab.task()
    lab.answer("cost-usd: 1", state="again")
    lab.world.git("branch", "copy", "task")
    lab.answer("cost-usd: 2")
    lab.answer("cost-usd: 3", branch="copy")
    assert sorted(lab.costs()) == ["1", "2", "3"]
    lab.world.git("branch", "-D", "copy")
    assert lab.costs() == ["1", "2"]


@pytest.mark.parametrize("worked", [False, True])
def test_the_other_parents_of_an_answer_are_read(lab: Lab, worked: bool) -> None:
    """A join: the children's branches may be gone, their answers are not."""
    base = task = lab.task()
    if worked:
        base = lab.world.commit("forged\n\naynig: x\naynig: cost-usd: 9\n", branch="task")
    lab.task("child")
    child = lab.answer("cost-usd: 3", branch="child")
    tree = lab.world.git("rev-parse", "main^{tree}")
    message = answering(task, "done", "cost-usd: 1").encode()
    joined = lab.world.git(
        "commit-tree", tree, "-p", base, "-p", child, stdin=message, env=lab.world.tick()
    )
    lab.world.git("update-ref", "refs/heads/task", joined)
    lab.world.git("update-ref", "-d", "refs/heads/child")
    assert lab.costs() == ["3", "1"]
    assert lab.cost_of_task() == 1, "it came of no answer of this task, and names no parent"


@pytest.mark.parametrize("restarted", [False, True])
def test_an_answer_that_was_set_back_counts_for_as_long_as_a_ref_leads_to_it(
    lab: Lab, restarted: bool
) -> None:
    task = lab.task()
    answer = lab.answer("cost-usd: 1")
    lab.world.git("update-ref", f"{LEASES}1", answer)
    assert lab.costs() == ["1"]
    lab.world.git("update-ref", "refs/heads/task", task)
    if restarted:
        lab.restart()
    assert lab.costs() == ["1"]
    lab.world.git("update-ref", "-d", f"{LEASES}1")
    if restarted:
        lab.restart()
    assert lab.costs() == []
    lab.world.git("update-ref", "refs/heads/back", answer)
    assert lab.costs() == ["1"]


def test_a_tag_or_a_rescue_alone_keeps_nothing(lab: Lab) -> None:
    lab.task()
    answer = lab.answer("cost-usd: 1")
    lab.world.git("update-ref", "-d", "refs/heads/task")
    lab.world.git("tag", "kept", answer)
    lab.world.git("update-ref", "refs/aynig/rescue/1", answer)
    assert lab.costs() == []


def test_only_what_is_new_is_read(lab: Lab) -> None:
    lab.task()
    for _ in range(5):
        lab.answer("cost-usd: 1", state="build")
    assert len(lab.entries()) == 5
    lab.messages.clear()
    assert len(lab.entries()) == 5
    assert lab.messages == []
    lab.answer("cost-usd: 1")
    assert len(lab.entries()) == 6
    assert len(lab.messages) == 1


def test_in_a_shallow_clone_what_is_there_counts(lab: Lab) -> None:
    lab.task()
    lab.answer("cost-usd: 1", state="build")
    lab.answer("cost-usd: 2")
    path = lab.world.path.parent / "clone"
    lab.world.git(
        "clone", "--quiet", "--no-local", "--depth=2", "--branch=task",
        f"file://{lab.world.path}", str(path),
    )  # fmt: skip
    clone = Lab(GitRepo(path))
    assert clone.costs() == ["2"]
    assert clone.cost_of_task() == 2


def test_what_can_t_be_read_counts_when_it_is_there_again(lab: Lab) -> None:
    lab.task()
    first = lab.answer("cost-usd: 1", state="build")
    lab.answer("cost-usd: 2")
    place = lab.world.git_dir / "objects" / first[:2] / first[2:]
    away = place.rename(lab.world.path.parent / "away")
    assert lab.costs() == ["2"]
    assert lab.cost_of_task() == 2
    away.rename(place)
    other = lab.task("other")
    assert lab.costs() == ["1", "2"]
    assert lab.cost_of_task() == 3
    assert lab.entries()[0].task != other
    assert len({entry.task for entry in lab.entries()}) == 1


# --- tasks --------------------------------------------------------------------------------------


def test_a_task_goes_on_through_its_answers_and_what_people_ask_on_top(lab: Lab) -> None:
    task = lab.task()
    lab.answer("cost-usd: 1", state="failed")
    lab.task(message="retry\n\naynig: build\n")
    lab.answer("cost-usd: 2", state="review")
    lab.answer("cost-usd: 4", state="done")
    assert lab.cost_of_task() == 7
    assert {entry.task for entry in lab.entries()} == {task}
    assert [entry.usage.cost for entry in lab.ledger.entries_of_task(lab.world.tip("task"))] == [
        1, 2, 4,
    ]  # fmt: skip


@pytest.mark.parametrize("over", ["done", "canceled"])
def test_what_is_asked_on_top_of_a_task_that_is_over_is_a_new_one(lab: Lab, over: str) -> None:
    lab.task()
    lab.answer("cost-usd: 1", state=over)
    second = lab.task()
    lab.answer("cost-usd: 2")
    assert lab.cost_of_task() == 2
    assert lab.entries()[-1].task == second


def test_a_plain_commit_ends_a_task_too(lab: Lab) -> None:
    lab.task()
    lab.answer("cost-usd: 1", state="failed")
    lab.world.commit("by hand", branch="task")
    assert lab.cost_of_task() == 0
    lab.task()
    assert lab.cost_of_task() == 0


def test_a_task_is_added_up_by_state_and_agent_as_it_goes_on(lab: Lab) -> None:
    lab.task()
    for number in range(3):
        lab.answer("cost-usd: 1", "agent: coder", state="review")
        lab.answer("cost-usd: 0.5", state="build")
        lab.ledger.refresh()
        tip = lab.world.tip("task")
        coder = lab.ledger.spent_on_task(tip, AGENT, "coder")
        assert coder.usage.cost == number + 1
        assert lab.ledger.spent_on_task(tip, STATE, "review").usage.cost == (number + 1) * Decimal(
            "0.5"
        )


def test_a_task_older_than_what_is_covered_is_added_up_whole(lab: Lab) -> None:
    lab.task()
    lab.answer("cost-usd: 1", state="build")
    lab.pass_time(90 * DAY)
    answer = lab.answer("cost-usd: 2")
    lab.ledger.refresh()
    assert lab.ledger.spent_on_day(lab.day(answer)).usage.cost == 2
    assert lab.cost_of_task() == 3


# --- families -----------------------------------------------------------------------------------


def fan_out(lab: Lab, *children: str, parent: str = "task", state: str = "gather") -> None:
    """An answer that starts children, and their first commits on top of it."""
    lab.answer("cost-usd: 1", f"children: {len(children)}", branch=parent, state=state)
    for child in children:
        lab.world.commit(
            f"{child}\n\naynig: build\naynig: parent: {parent}\n",
            branch=child,
            parent=lab.world.tip(parent),
        )


def sums(lab: Lab, *branches: str) -> list[Decimal]:
    return [lab.cost_of_task(branch) for branch in branches]


@pytest.mark.parametrize("state", ["gather", "done"])
def test_a_task_and_all_that_came_of_it_count_together(lab: Lab, state: str) -> None:
    task = lab.task()
    fan_out(lab, "one", "two", state=state)
    assert sums(lab, "task", "one", "two") == [1, 1, 1]
    lab.answer("cost-usd: 2", branch="one")
    fan_out(lab, "deep", parent="two")
    lab.answer("cost-usd: 4", branch="deep")
    other = lab.task("other")
    lab.answer("cost-usd: 100", branch="other")
    assert sums(lab, "task", "one", "two", "deep") == [8, 8, 8, 8]
    assert lab.cost_of_task("other") == 100
    assert {entry.task for entry in lab.entries()} == {task, other}
    assert len({entry.thread for entry in lab.entries()}) == 5
    lab.restart()
    assert sums(lab, "task", "deep", "other") == [8, 8, 100]


def test_a_child_whose_branch_is_gone_counts_where_its_parent_has_joined_it(lab: Lab) -> None:
    lab.task()
    fan_out(lab, "one")
    child = lab.answer("cost-usd: 2", branch="one")
    triggering = lab.world.tip("task")
    tree = lab.world.git("rev-parse", "task^{tree}")
    message = answering(triggering, "done", "step: join").encode()
    joined = lab.world.git(
        "commit-tree", tree, "-p", triggering, "-p", child, stdin=message, env=lab.world.tick()
    )
    lab.world.git("update-ref", "refs/heads/task", joined)
    lab.world.git("update-ref", "-d", "refs/heads/one")
    assert lab.cost_of_task() == 3


def test_a_child_by_hand_counts_with_what_the_branch_that_it_names_is_at(lab: Lab) -> None:
    child = "by hand\n\naynig: build\naynig: parent: task\n"
    lab.task("child", child)
    lab.answer("cost-usd: 2", branch="child")
    assert lab.cost_of_task("child") == 2, "there is no such branch yet"
    lab.task()
    lab.answer("cost-usd: 1", state="done")
    lab.world.commit("files, by hand", branch="task")
    assert sums(lab, "child") == [3]
    (tip,) = lab.world.git("rev-parse", "task~1").split()
    assert lab.ledger.spent_on_task(tip).usage.cost == 3
    # The branch is at another task now.
    lab.task()
    assert sums(lab, "task", "child") == [2, 2]
    assert lab.ledger.spent_on_task(tip).usage.cost == 1
    lab.world.git("update-ref", "-d", "refs/heads/task")
    assert lab.cost_of_task("child") == 2


def test_tasks_that_are_each_other_s_parents_are_one_family(lab: Lab) -> None:
    for name, parent in (("a", "b"), ("b", "a"), ("c", "a")):
        lab.task(name, f"{name}\n\naynig: build\naynig: parent: {parent}\n")
        lab.answer("cost-usd: 1", branch=name)
    assert sums(lab, "a", "b", "c") == [3, 3, 3]
    lab.restart()
    assert sums(lab, "c", "b", "a") == [3, 3, 3]


def test_a_task_that_begins_on_another_is_no_part_of_it(lab: Lab) -> None:
    lab.task()
    lab.answer("cost-usd: 1", state="review")
    lab.world.commit(
        "x\n\naynig: build\naynig: begins: task\n", branch="new", parent=lab.world.tip("task")
    )
    lab.answer("cost-usd: 2", branch="new")
    assert sums(lab, "task", "new") == [1, 2]


def test_a_task_that_was_done_and_is_taken_up_again_is_the_same(lab: Lab) -> None:
    lab.task()
    lab.answer("cost-usd: 1")
    lab.world.commit(f"x\n\naynig: build\naynig: reopens: {lab.world.tip('task')}\n", branch="task")
    lab.answer("cost-usd: 2")
    assert lab.cost_of_task() == 3


def test_what_leases_of_a_family_say_counts_in_it_and_one_can_be_left_out(lab: Lab) -> None:
    lab.task()
    fan_out(lab, "one", "two")
    for number, branch in enumerate(("one", "two"), 1):
        lease = lab.world.git("commit-tree", EMPTY_TREE, "-m", branch, env=lab.world.tick())
        lab.spends[f"{LEASES}{number}", lease] = Entry(
            oid=lease, answers=lab.world.tip(branch), task="", state="build", to_state="",
            agent="", time=lab.time(lease), usage=Usage(Decimal(2 * number)), calls=1,
        )  # fmt: skip
        lab.world.git("update-ref", f"{LEASES}{number}", lease)
    assert sums(lab, "task", "one", "two") == [7, 7, 7]
    left = lab.ledger.spent_on_task(lab.world.tip("task"), but=f"{LEASES}1").usage.cost
    assert left == 5
    assert lab.ledger.spent_on_task(lab.world.tip("one"), STATE, "build").usage.cost == 7
    root = lab.ledger.task_of(lab.world.tip("task"))
    assert {entry.task for entry in lab.entries()} == {root}
    assert [entry.answered for entry in lab.ledger.entries_of_task(root)] == [True, False, False]
    lab.world.git("update-ref", "-d", f"{LEASES}2")
    assert sums(lab, "task", "two") == [3, 3]


def resume(lab: Lab, branch: str) -> str:
    tip = lab.world.tip(branch)
    return lab.world.commit(f"resume\n\naynig: build\naynig: resumes: {tip}\n", branch=branch)


@pytest.mark.parametrize("branch", ["task", "one"])
def test_who_lets_one_of_a_family_go_on_pardons_what_nobody_knows_of_all(
    lab: Lab, branch: str
) -> None:
    lab.task()
    fan_out(lab, "one", "two")
    unknown = lab.answer("cost-usd: unknown", branch="one", state="review")
    lab.ledger.refresh()
    for name in ("task", "one", "two"):
        assert lab.ledger.spent_on_task(lab.world.tip(name)).unknown == unknown
    word = resume(lab, branch)
    lab.ledger.refresh()
    for name in ("task", "one", "two"):
        assert lab.ledger.spent_on_task(lab.world.tip(name)).unknown == ""
    # What comes after that is not pardoned.
    later = lab.answer("cost-usd: unknown", branch="two", state="review")
    lab.ledger.refresh()
    assert lab.ledger.spent_on_task(lab.world.tip("task")).unknown == later
    lab.world.git("update-ref", f"refs/heads/{branch}", f"{word}^")
    lab.world.git("update-ref", "refs/heads/two", f"{later}^")
    lab.ledger.refresh()
    assert lab.ledger.spent_on_task(lab.world.tip("two")).unknown == unknown


def test_on_its_own_branch_a_word_pardons_what_is_below_it_whatever_clocks_say(lab: Lab) -> None:
    lab.task()
    unknown = lab.answer("cost-usd: unknown", state="review")
    lab.pass_time(-600)
    resume(lab, "task")
    lab.ledger.refresh()
    assert lab.ledger.spent_on_task(lab.world.tip("task")).unknown == ""
    lab.pass_time(-600)
    later = lab.answer("cost-usd: unknown", state="review")
    assert lab.time(later) < lab.time(unknown)
    lab.ledger.refresh()
    assert lab.ledger.spent_on_task(later).unknown == later


def test_of_a_family_only_what_is_new_is_read(lab: Lab) -> None:
    lab.task()
    fan_out(lab, "one", "two")
    lab.answer("cost-usd: 2", branch="one")
    assert lab.cost_of_task() == 3
    lab.messages.clear()
    assert sums(lab, "task", "one", "two") == [3, 3, 3]
    assert lab.messages == []
    lab.answer("cost-usd: 4", branch="two")
    assert sums(lab, "task", "one") == [7, 7]
    assert len(lab.messages) == 1


# --- days, hours, failures ----------------------------------------------------------------------


def test_a_day_is_added_up_by_state_and_agent(lab: Lab) -> None:
    lab.task()
    lab.answer("cost-usd: 1", "agent: coder", state="review")
    last = lab.answer("cost-usd: 2", "tokens-out: 5")
    lab.pass_time(2 * DAY)
    lab.task("later")
    later = lab.answer("cost-usd: 4", branch="later")
    lab.ledger.refresh()
    day = lab.day(last)
    assert lab.ledger.spent_on_day(day).usage == Usage(Decimal(3), 0, 5, 2)
    assert lab.ledger.spent_on_day(day, STATE, "review").usage.cost == 2
    assert lab.ledger.spent_on_day(day, STATE, "build").usage.cost == 1
    assert lab.ledger.spent_on_day(day, AGENT, "coder").usage.cost == 1
    assert lab.ledger.spent_on_day(day, AGENT, "nobody").usage.cost == 0
    assert lab.ledger.spent_on_day(lab.day(later)).usage.cost == 4
    assert lab.ledger.spent_on_day(day + timedelta(1)).usage.cost == 0


def test_an_answer_whose_cost_nobody_knows_is_named(lab: Lab) -> None:
    lab.task()
    lab.answer("cost-usd: unknown", state="build")
    answer = lab.answer("cost-usd: unknown", state="build")
    last = lab.answer("cost-usd: 1")
    lab.ledger.refresh()
    spent = lab.ledger.spent_on_day(lab.day(answer))
    assert (spent.unknown, spent.usage) == (answer, Usage(Decimal(1), 0, 0, 3, unknown=True))
    assert lab.ledger.spent_on_task(last).unknown == answer
    lab.world.git("update-ref", "refs/heads/task", f"{answer}^")
    lab.ledger.refresh()
    assert lab.ledger.spent_on_day(lab.day(answer)).unknown == lab.world.tip("task")


def test_the_calls_of_the_last_hour_and_the_oldest_of_them(lab: Lab) -> None:
    lab.task()
    old = lab.answer("calls: 5", state="build")
    lab.pass_time(1800)
    lab.answer("calls: 0", state="build")
    young = lab.answer("calls: 7", state="build")
    lab.ledger.refresh()
    now = lab.time(young)
    assert lab.ledger.calls_in_hour(now) == (12, lab.time(old))
    assert lab.ledger.calls_in_hour(lab.time(old) + 3599) == (12, lab.time(old))
    assert lab.ledger.calls_in_hour(lab.time(old) + 3600) == (7, now)
    assert lab.ledger.calls_in_hour(now + 3600) == (0, None)
    assert lab.ledger.calls_in_hour(now, STATE, "build") == (12, lab.time(old))
    assert lab.ledger.calls_in_hour(now, STATE, "nothing") == (0, None)


def test_calls_that_nothing_leads_to_any_more_are_taken_off(lab: Lab) -> None:
    for number in range(3):
        lab.task(f"task{number}")
        last = lab.answer(f"calls: {10**number}", branch=f"task{number}")
    lab.ledger.refresh()
    assert lab.ledger.calls_in_hour(lab.time(last))[0] == 111
    lab.world.git("update-ref", "-d", "refs/heads/task1")
    lab.ledger.refresh()
    assert lab.ledger.calls_in_hour(lab.time(last))[0] == 101
    lab.world.git("update-ref", "-d", "refs/heads/task0")
    lab.ledger.refresh()
    assert lab.ledger.calls_in_hour(lab.time(last)) == (100, lab.time(last))


def test_a_clock_that_is_ahead_counts_by_an_hour_at_the_most(lab: Lab) -> None:
    lab.task()
    answer = lab.answer("calls: 5")
    lab.ledger.refresh()
    assert lab.ledger.calls_in_hour(lab.time(answer) - 3600)[0] == 5
    assert lab.ledger.calls_in_hour(lab.time(answer) - 3601)[0] == 0


def test_the_failures_of_a_state_in_a_row(lab: Lab) -> None:
    times = []
    for number, (state, code) in enumerate(
        [("failed", 1), ("done", 0), ("failed", 2), ("failed", 3), ("failed", 4)]
    ):
        lab.task(f"task{number}")
        oid = lab.answer(f"exit: {code}", branch=f"task{number}", state=state)
        times.append(lab.time(oid))
        lab.task(f"other{number}", "x\n\naynig: other\n")
        lab.answer("exit: 0", branch=f"other{number}")
    lab.task("step")
    lab.answer("step: approval", branch="step")
    lab.ledger.refresh()
    all_of_them = ((times[4], "exit 4"), (times[3], "exit 3"), (times[2], "exit 2"))
    assert lab.ledger.last_failures("build", 0, 9) == all_of_them
    assert lab.ledger.last_failures("build", 0, 2) == all_of_them[:2]
    assert lab.ledger.last_failures("build", times[3], 9) == all_of_them[:2]
    assert lab.ledger.last_failures("build", times[4] + 1, 9) == ()
    assert lab.ledger.last_failures("nothing", 0, 9) == ()


@pytest.mark.parametrize("order", [("failed", "done", "failed"), ("failed", "failed", "done")])
def test_a_success_of_the_same_second_may_have_come_last(lab: Lab, order: tuple[str, ...]) -> None:
    for number in range(len(order)):
        lab.task(f"task{number}")
    then = lab.world._clock
    for number, state in enumerate(order):
        lab.world._clock = then
        lab.answer(f"exit: {int(state == 'failed')}", branch=f"task{number}", state=state)
    lab.ledger.refresh()
    assert lab.ledger.last_failures("build", 0, 9) == ()


def test_old_answers_are_read_when_they_are_asked_for(lab: Lab) -> None:
    lab.task("old")
    old = lab.answer("cost-usd: 1", branch="old", state="build")
    lab.answer("cost-usd: 4", branch="old")
    lab.pass_time(30 * DAY)
    lab.task("young")
    young = lab.answer("cost-usd: 2", branch="young")
    lab.world.commit("later", branch="old")
    lab.ledger.refresh()
    assert lab.ledger.spent_on_day(lab.day(young)).usage.cost == 2
    assert not any(b"cost-usd: 1" in message for message in lab.messages)
    assert lab.ledger.spent_on_day(lab.day(old)).usage.cost == 5
    assert lab.costs() == ["1", "4", "2"]


# --- what leases say ----------------------------------------------------------------------------


def test_what_a_lease_says_was_spent_counts_until_the_answer_does(lab: Lab) -> None:
    task = lab.task()
    lease = lab.world.git("commit-tree", EMPTY_TREE, "-m", "lease", env=lab.world.tick())
    ref = f"{LEASES}1"
    time = lab.time(task)
    lab.spends[ref, lease] = Entry(
        oid=lease, answers=task, task=task, state="build", to_state="", agent="coder", time=time,
        usage=Usage(Decimal("0.5")), calls=2, branch="task",
    )  # fmt: skip
    lab.world.git("update-ref", ref, lease)
    assert lab.costs() == ["0.5"]
    assert lab.entries()[0].branch == "task"
    assert lab.cost_of_task() == Decimal("0.5")
    assert lab.ledger.spent_on_day(lab.day(task), AGENT, "coder").usage.cost == Decimal("0.5")
    assert lab.ledger.calls_in_hour(time, STATE, "build") == (2, time)
    assert lab.ledger.last_failures("build", 0, 9) == ()
    answer = lab.answer("cost-usd: 2")
    lab.world.git("update-ref", ref, answer)
    assert lab.costs() == ["2"]
    assert lab.cost_of_task() == 2


def test_all_that_the_policy_judges_by_comes_in_one_value(lab: Lab) -> None:
    lab.task()
    answer = lab.answer("cost-usd: 2", "calls: 3", state="build")
    lab.ledger.refresh()
    limits = Limits(calls_per_hour=1)
    scope = lab.ledger.scope(STATE, "build", limits, answer, lab.time(answer) + 1.5)
    assert (scope.name, scope.limits) == ("the state build", limits)
    assert scope.task.usage.cost == scope.day.usage.cost == 2
    assert (scope.calls, scope.oldest) == (3, lab.time(answer))


# --- against brute force ------------------------------------------------------------------------


@dataclass(frozen=True)
class Node:
    """A commit of a made-up history; parents and claims are numbers of earlier ones."""

    parents: tuple[int, ...]
    claim: int | None
    time: int
    more: tuple[str, ...] = ()


@dataclass(frozen=True)
class History:
    nodes: tuple[Node, ...]
    # Which commits have a branch, and which a lease ref, one look after the other.
    stages: tuple[tuple[frozenset[int], frozenset[int]], ...]


@st.composite
def histories(draw: st.DrawFn) -> History:
    nodes: list[Node] = []
    for number in range(draw(st.integers(2, 12))):
        earlier = st.integers(0, max(number - 1, 0))
        parents = draw(st.lists(earlier, max_size=3, unique=True)) if number else []
        times = [nodes[each].time for each in parents]
        gap = draw(st.sampled_from([0, 60, DAY // 2, 2 * DAY]))
        claim = draw(st.none() | st.sampled_from(parents or [0]) | earlier) if number else None
        kin = f"parent: r{draw(st.integers(0, 11))}"
        words = st.sampled_from([kin, "children: 1", "resumes: x", "begins: task"])
        more = draw(st.lists(words, max_size=2, unique=True))
        nodes.append(Node(tuple(parents), claim, max(times, default=EPOCH) + gap, tuple(more)))
    some = st.frozensets(st.integers(0, len(nodes) - 1), max_size=4)
    stages = draw(st.lists(st.tuples(some, some), min_size=1, max_size=4))
    return History(tuple(nodes), tuple(stages))


def build(world: GitRepo, nodes: Iterable[Node], cost: str = "") -> list[str]:
    """Write a history in one process; a claim needs the oid of a commit, so oids come first."""
    oids: list[str] = []
    stream: list[bytes] = []
    for number, node in enumerate(nodes):
        text = f"commit {number}\n\naynig: build\naynig: cost-usd: {cost or 2**number}\n"
        text += "".join(f"aynig: {line}\n" for line in ("tokens-in: unknown", *node.more))
        if node.claim is not None:
            text += f"aynig: answers: {oids[node.claim]}\n"
        head = [f"tree {EMPTY_TREE}", *(f"parent {oids[each]}" for each in node.parents)]
        head += [f"{role} A <a@b> {node.time} +0000" for role in ("author", "committer")]
        data = ("\n".join(head) + "\n\n" + text).encode()
        oids.append(hashlib.sha1(b"commit %d\0" % len(data) + data).hexdigest())
        lines = [f"commit refs/made/{number}", f"mark :{number + 1}"]
        lines += [f"committer A <a@b> {node.time} +0000", f"data {len(text)}"]
        stream.append(("\n".join(lines) + "\n" + text).encode())
        for word, parent in zip(("from", "merge", "merge"), node.parents, strict=False):
            stream.append(f"{word} :{parent + 1}\n".encode())
    world.git("fast-import", "--quiet", stdin=b"".join(stream))
    return oids


def test_a_task_may_have_thousands_of_old_answers(tmp_path: Path) -> None:
    world = GitRepo.init(tmp_path / "repo", bare=True, empty=True)
    nodes = [Node((), None, EPOCH)]
    nodes += [Node((each,), each, EPOCH + each) for each in range(2000)]
    nodes.append(Node((2000,), 2000, EPOCH + 90 * DAY))
    oids = build(world, nodes, cost="1")
    world.git("update-ref", "refs/heads/task", oids[-1])
    lab = Lab(world)
    assert lab.cost_of_task() == 2001
    assert len(lab.ledger.entries_of_task(oids[-1])) == 2001
    assert lab.ledger.task_of(oids[-1]) == oids[0]
    assert len(lab.entries()) == 2001


def right_entries(nodes: tuple[Node, ...], tips: Iterable[int]) -> set[int]:
    """What has to be counted, by the rule as it is written down."""
    above: list[set[int]] = []
    for node in nodes:
        above.append(set(node.parents).union(*(above[parent] for parent in node.parents)))
    seen: set[int] = set()
    found: set[int] = set()
    pending = list(tips)
    while pending:
        number = pending.pop()
        if number in seen:
            continue
        seen.add(number)
        node = nodes[number]
        if node.claim in above[number]:
            found.add(number)
        if node.claim not in above[number] or node.claim in node.parents:
            pending += node.parents
        else:
            assert node.claim is not None
            pending += (node.claim, *node.parents[1:])
    return found


def set_refs(world: GitRepo, prefix: str, oids: list[str], wanted: Iterable[int]) -> None:
    present = world.git("for-each-ref", "--format=delete %(refname)", prefix)
    world.git("update-ref", "--stdin", stdin=present + "\n" if present else "")
    orders = [f"create {prefix}r{number} {oids[number]}\n" for number in wanted]
    world.git("update-ref", "--stdin", stdin="".join(orders))


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(histories())
def test_the_ledger_agrees_with_a_search_of_everything(
    tmp_path_factory: pytest.TempPathFactory, history: History
) -> None:
    world = GitRepo.init(tmp_path_factory.mktemp("made") / "repo", bare=True, empty=True)
    oids = build(world, history.nodes)
    lab = Lab(world)
    last = max(node.time for node in history.nodes)
    for branches, leases in history.stages:
        set_refs(world, HEADS, oids, branches)
        set_refs(world, LEASES, oids, leases)
        right = right_entries(history.nodes, branches | leases)
        lab.ledger.refresh()
        for asked in (last, EPOCH):
            day = datetime.fromtimestamp(asked, UTC).date()
            of_day = [each for each in right if history.nodes[each].time // DAY == asked // DAY]
            assert lab.ledger.spent_on_day(day).usage.cost == sum(2**each for each in of_day)
        assert {entry.oid for entry in lab.entries()} == {oids[each] for each in right}
        restarted = Lab(world)
        assert restarted.entries() == lab.entries()
        # What is counted bit by bit for a task and its family is what somebody finds who comes new.
        for oid in oids:
            lab.ledger.spent_on_task(oid)
        for number in branches:
            tip = oids[number]
            family = restarted.ledger.entries_of_task(tip)
            spent = restarted.ledger.spent_on_task(tip)
            assert lab.ledger.spent_on_task(tip) == spent
            assert lab.ledger.entries_of_task(tip) == family
            assert spent.usage.cost == sum(entry.usage.cost for entry in family)
            root = restarted.ledger.task_of(tip)
            assert family == [entry for entry in restarted.entries() if entry.task == root]
