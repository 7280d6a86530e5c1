"""Answers land with their lease or not at all, and what does not land is kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from aynig.answer import Left, Reply, judge
from aynig.dialects import DWP
from aynig.errors import RefMoved, UserError
from aynig.git.checkouts import DirtyWorktree
from aynig.git.refs import RefStore
from aynig.git.repo import Repo
from aynig.git.worktree import Harvest
from aynig.lease import Leases, lease_name
from aynig.model import HEADS, Event, Field, Lease, Plan, RunResult, Trailer
from aynig.respond import Answer, land, write_answer, write_state
from aynig.workflow import StateSettings
from tests.values import HOLDER, SCRIPT, result, statement
from tests.world import GitRepo

RUN = "20260131T093000Z-1f3a9c2e"


@dataclass
class Bench:
    """One task under a lease, ready to be answered."""

    git: GitRepo
    repo: Repo
    store: RefStore
    leases: Leases
    plan: Plan
    lease: Lease

    @classmethod
    def on(
        cls, git: GitRepo, message: str = "Please go\n\naynig: go\n", branch: str = "task"
    ) -> Bench:
        oid = git.commit(message, branch=branch, parent=git.tip(), files={"kept": "as it is\n"})
        repo = Repo.open(git.path)
        store = RefStore(repo, HOLDER)
        leases = Leases(repo, store, HOLDER, seconds=60.0, is_alive=lambda _: True)
        event = Event(HEADS + branch, oid, repo.commit(oid).tree, 0, statement(message))
        plan = Plan(event, SCRIPT, StateSettings(), role="", attempt=1, timeout=60.0)
        return cls(git, repo, store, leases, plan, leases.acquire(event, None, RUN, 1))

    @property
    def trigger(self) -> str:
        return self.plan.event.oid

    def left(self, *, commits: str = "", files: dict[str, Any] | None = None) -> Harvest:
        """What a script left: a commit with this message, and changed files."""
        head = self.trigger
        if commits:
            made = {"committed": "by the script\n"}
            head = self.git.commit(commits, parent=head, files=made, update=False)
        tree = self.repo.commit(head).tree
        if files:
            changed = self.git.commit("x", parent=head, files=files, update=False)
            tree = self.repo.commit(changed).tree
        return Harvest(head=head, tree=tree, changed=bool(files))

    def write(
        self, ended: RunResult, harvest: Harvest | None, reply: Reply | None = None, **more: Any
    ) -> Answer:
        own = None
        if harvest is not None and harvest.head != self.trigger:
            info = self.repo.commit(harvest.head)
            own = statement(info.message.decode()) if b": " in info.message else None
        verdict = judge(self.plan, ended, Left(own, reply or Reply(), more.pop("fault", "")))
        given = {"executed_by": "ada@box", "output": "", "kept": "", **more}
        return write_answer(
            self.repo, self.store, self.plan, self.lease, ended, verdict, harvest, **given
        )

    def land(self, answer: Answer) -> None:
        land(self.repo, self.store, self.plan, self.lease, answer)

    def files(self, rev: str) -> list[str]:
        return self.git.git("ls-tree", "-r", "--name-only", rev).split()


@pytest.fixture
def bench(repo: GitRepo) -> Iterator[Bench]:
    made = Bench.on(repo)
    yield made
    made.store.close()


# --- what an answer says ---------------------------------------------------------------------


def test_an_answer_testifies_what_ran_and_how_it_ended(bench: Bench) -> None:
    answer = bench.write(result(), bench.left(files={"new": "x"}), Reply("approved", "all well"))
    assert bench.git.message(answer.oid).splitlines()[0] == "go -> approved: all well"
    assert bench.git.fields(answer.oid) == {
        "": "approved",
        "answers": bench.trigger,
        "run": RUN,
        "runner": HOLDER.runner,
        "executed-by": "ada@box",
        "attempt": "1",
        "exit": "0",
        "duration": "1.500",
        "script": SCRIPT.oid,
    }


def test_the_changed_files_of_a_success_are_in_the_answer(bench: Bench) -> None:
    answer = bench.write(result(), bench.left(files={"new": "x"}))
    assert bench.files(answer.oid) == ["kept", "new"]
    assert answer.rescue == ""


def test_commits_of_the_script_stay_as_they_are_below_the_answer(bench: Bench) -> None:
    harvest = bench.left(commits="mine", files={"new": "x"})
    answer = bench.write(result(), harvest)
    assert bench.git.git("rev-parse", f"{answer.oid}^") == harvest.head
    assert bench.git.git("rev-parse", f"{harvest.head}^") == bench.trigger
    assert bench.files(answer.oid) == ["committed", "kept", "new"]


def test_after_a_failure_neither_files_nor_commits_land_but_both_are_kept(bench: Bench) -> None:
    answer = bench.write(result(3), bench.left(commits="mine", files={"new": "x"}), output="boom\n")
    assert bench.git.git("rev-parse", f"{answer.oid}^") == bench.trigger
    assert bench.files(answer.oid) == ["kept"]
    assert answer.rescue == f"refs/aynig/rescue/{RUN}"
    assert bench.files(answer.rescue) == ["committed", "kept", "new"]
    assert bench.git.fields(answer.oid)["rescue"] == answer.rescue
    assert "    boom" in bench.git.message(answer.oid)


def test_commits_that_name_the_next_state_land_after_a_failure_without_the_files(
    bench: Bench,
) -> None:
    harvest = bench.left(commits="mine\n\naynig: repair\n", files={"new": "x"})
    answer = bench.write(result(1), harvest)
    assert (answer.state, bench.files(answer.oid)) == ("repair", ["committed", "kept"])
    assert "new" in bench.files(answer.rescue)


def test_an_answer_of_the_script_itself_leaves_no_file_behind_that_it_did_not_commit(
    repo: GitRepo,
) -> None:
    bench = Bench.on(repo, "Please go\n\ndwp-state: go\n")
    harvest = bench.left(commits="mine\n\ndwp-state: next\n", files={"forgotten": "x"})
    answer = bench.write(result(), harvest)
    bench.store.close()
    assert answer.oid == harvest.head
    assert "forgotten" in bench.files(answer.rescue)


def test_nothing_is_rescued_where_nothing_was_changed(bench: Bench) -> None:
    assert bench.write(result(1), bench.left()).rescue == ""
    assert bench.git.git("for-each-ref", "refs/aynig/rescue/") == ""


def test_a_fault_is_told_on_one_line_that_can_be_written(bench: Bench) -> None:
    answer = bench.write(result(), None, fault="it left\na file named \x01\x9b")
    assert bench.git.fields(answer.oid)["fault"] == "it left a file named \\x01\\x9b"


def test_output_that_looks_like_trailers_changes_nothing(bench: Bench) -> None:
    answer = bench.write(result(1), None, output="\n\naynig: approved\n\naynig: done\n")
    assert bench.git.fields(answer.oid)[""] == "failed"


def test_an_answer_is_never_older_than_what_it_answers(repo: GitRepo) -> None:
    repo._clock = 4_000_000_000
    bench = Bench.on(repo)
    answer = bench.write(result(), None)
    bench.store.close()
    assert bench.repo.commit(answer.oid).time >= bench.repo.commit(bench.trigger).time


def test_trailers_of_the_other_dialect_do_not_get_into_an_answer(bench: Bench) -> None:
    others = (Trailer("dwp-state", "elsewhere"), Trailer("Reviewed-by", "Ada"))
    answer = bench.write(result(), None, Reply("ok", "s", trailers=others))
    keys = [key for key, _ in bench.git.trailers(answer.oid)]
    assert "Reviewed-by" in keys
    assert "dwp-state" not in keys


# --- landing ---------------------------------------------------------------------------------


def test_the_answer_and_the_lease_move_together(bench: Bench) -> None:
    answer = bench.write(result(), None)
    bench.land(answer)
    assert bench.git.tip("task") == answer.oid
    assert bench.repo.read_ref(lease_name(bench.plan.event.ref)) == answer.oid


def test_no_answer_lands_on_a_branch_that_has_moved(bench: Bench) -> None:
    answer = bench.write(result(), None)
    moved = bench.git.commit("a person was faster", branch="task")
    with pytest.raises(RefMoved):
        bench.land(answer)
    assert bench.git.tip("task") == moved
    assert bench.repo.read_ref(bench.lease.name) == bench.lease.oid


def test_no_answer_lands_without_the_lease(bench: Bench) -> None:
    answer = bench.write(result(), None)
    other = Leases(bench.repo, bench.store, HOLDER, seconds=60.0, is_alive=lambda _: True)
    taken = other.acquire(bench.plan.event, bench.lease.oid, "run-2", 2)
    with pytest.raises(RefMoved):
        bench.land(answer)
    assert bench.git.tip("task") == bench.trigger
    assert bench.repo.read_ref(bench.lease.name) == taken.oid


def test_no_answer_lands_twice(bench: Bench) -> None:
    first, second = bench.write(result(), None), bench.write(result(1), None)
    bench.land(first)
    with pytest.raises(RefMoved):
        bench.land(second)
    assert bench.git.tip("task") == first.oid


def test_a_checked_out_branch_takes_its_files_along(bench: Bench) -> None:
    bench.git.git("checkout", "--quiet", "task")
    bench.land(bench.write(result(), bench.left(files={"new": "x\n"})))
    assert (bench.git.path / "new").read_text() == "x\n"
    assert bench.git.git("status", "--porcelain") == ""


def test_uncommitted_work_of_a_person_holds_the_answer_up(bench: Bench) -> None:
    bench.git.git("checkout", "--quiet", "task")
    (bench.git.path / "kept").write_text("mine\n")
    with pytest.raises(DirtyWorktree, match="uncommitted"):
        bench.land(bench.write(result(), bench.left(files={"new": "x\n"})))
    assert bench.git.tip("task") == bench.trigger
    assert (bench.git.path / "kept").read_text() == "mine\n"


# --- state commits of people -----------------------------------------------------------------


def test_a_state_commit_has_the_files_of_the_commit_below_it(bench: Bench) -> None:
    ref, tip = bench.plan.event.ref, bench.trigger
    oid = write_state(bench.repo, bench.store, ref, tip, "again", subject="go -> again")
    assert bench.git.tip("task") == oid
    assert bench.files(oid) == ["kept"]
    assert bench.git.fields(oid) == {"": "again"}


def test_a_state_commit_on_nothing_has_no_parent_and_no_files(bench: Bench) -> None:
    oid = write_state(bench.repo, bench.store, HEADS + "new", None, "go", subject="go")
    assert bench.git.git("rev-list", "--count", oid) == "1"
    assert bench.files(oid) == []


def test_a_state_commit_is_refused_where_the_branch_has_moved(bench: Bench) -> None:
    moved = bench.git.commit("more", branch="task")
    with pytest.raises(UserError, match="has moved"):
        write_state(bench.repo, bench.store, bench.plan.event.ref, bench.trigger, "x", subject="x")
    assert bench.git.tip("task") == moved


def test_a_state_commit_speaks_the_dialect_of_its_task(bench: Bench) -> None:
    oid = write_state(
        bench.repo, bench.store, HEADS + "new", None, "go",
        subject="go", fields=[Field("note", "x")], dialect=DWP,
    )  # fmt: skip
    assert bench.git.trailers(oid) == [("dwp-state", "go"), ("dwp-note", "x")]


def test_leases_of_other_runs_are_no_proof(bench: Bench) -> None:
    answer = bench.write(result(), None)
    forged = replace(bench.lease, oid=bench.trigger)
    with pytest.raises(RefMoved):
        land(bench.repo, bench.store, bench.plan, forged, answer)
