"""What is ready, under way and held in one repository, step by step without threads."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aynig.desk import Desk
from aynig.errors import RepositoryError
from aynig.model import LEASES, RESCUES
from aynig.notices import Notice
from aynig.site import open_site
from tests.stage import Work
from tests.world import SCRIPT_OK, GitRepo, wait_for

GO = "Please go\n\naynig: go\n"
CHAIN = {
    ".aynig/go": '#!/bin/sh\necho "aynig: next" >"$AYNIG_RESPONSE"\n',
    ".aynig/next": SCRIPT_OK,
}


Open = Callable[..., Work]


@pytest.fixture
def opened(repo: GitRepo) -> Iterator[Open]:
    desks: list[Desk] = []

    def make(*, follow: bool = True) -> Work:
        told: list[Notice] = []
        work = Work(Desk(open_site(repo.path), told.append, follow=follow), told)
        desks.append(work.desk)
        return work

    yield make
    for desk in desks:
        desk.site.close()


def task(repo: GitRepo, branch: str = "task", message: str = GO, **files: str) -> str:
    found: dict[str, str | bytes | None] = {**(files or CHAIN)}
    return repo.commit(message, branch=branch, parent=repo.tip(), files=found)


def test_a_chain_is_followed_without_another_look(repo: GitRepo, opened: Open) -> None:
    task(repo)
    work = opened()
    work.look(first=True)
    assert work.steps()[:2] == ["task", "task"]
    assert repo.state("task") == "done"
    assert work.kinds("run", "answer") == ["run", "answer", "run", "answer"]


def test_without_following_each_task_runs_once(repo: GitRepo, opened: Open) -> None:
    task(repo)
    work = opened(follow=False)
    work.look(first=True)
    work.steps()
    work.look()
    assert work.steps() == []
    assert repo.state("task") == "next"


def test_what_has_ended_is_no_work(repo: GitRepo, opened: Open) -> None:
    task(repo, message="x\n\naynig: done\n")
    work = opened()
    work.look(first=True)
    assert not work.desk.ready
    assert work.steps() == []


def test_a_branch_is_worked_on_once_at_a_time(repo: GitRepo, opened: Open) -> None:
    task(repo)
    work = opened()
    work.look(first=True)
    first = work.desk.next_work()
    assert first is not None
    repo.commit(GO, branch="task")
    work.look()
    assert work.desk.next_work() is None
    assert not work.desk.ready
    work.desk.collect(first[0], first[1]())
    assert work.desk.ready


def test_a_hold_is_told_once_for_a_commit(repo: GitRepo, opened: Open) -> None:
    task(repo, nothing="x")
    work = opened()
    work.look(first=True)
    work.steps()
    assert work.kinds("hold") == ["missing-script"]
    repo.commit("unrelated", branch="another", parent=repo.tip())
    work.look()
    work.steps()
    assert work.kinds("hold") == ["missing-script"]


def test_a_new_commit_with_the_same_fault_is_told_again(repo: GitRepo, opened: Open) -> None:
    task(repo, nothing="x")
    work = opened()
    work.look(first=True)
    work.steps()
    repo.commit(GO, branch="task")
    work.look()
    work.steps()
    assert work.kinds("hold") == ["missing-script"] * 2


def test_a_task_goes_on_as_soon_as_its_script_is_mended(repo: GitRepo, opened: Open) -> None:
    repo.git("config", "aynig.scripts", "main")
    task(repo)
    work = opened()
    work.look(first=True)
    work.steps()
    assert work.kinds("hold") == ["missing-script"]
    repo.commit("scripts", files={".aynig/go": SCRIPT_OK})
    work.look()
    work.steps()
    assert repo.state("task") == "done"


def test_a_task_goes_on_as_soon_as_the_branch_of_the_scripts_is_there(
    repo: GitRepo, opened: Open
) -> None:
    repo.git("config", "aynig.scripts", "trusted")
    task(repo)
    work = opened()
    work.look(first=True)
    work.steps()
    assert work.kinds("hold") == ["bad-config"]
    repo.commit("scripts", branch="trusted", parent=repo.tip(), files={".aynig/go": SCRIPT_OK})
    work.look()
    work.steps()
    assert repo.state("task") == "done"


def test_a_task_goes_on_as_soon_as_what_it_depends_on_is_done(repo: GitRepo, opened: Open) -> None:
    first = task(repo, "z-first", "x\n\naynig: stalled\n")
    task(repo, "task", f"{GO}aynig: depends-on: {first}\n", **{".aynig/go": SCRIPT_OK})
    work = opened()
    work.look(first=True)
    work.steps()
    assert work.kinds("hold") == ["stalled", "waiting"]
    repo.commit("x\n\naynig: done\n", branch="z-first")
    work.look()
    work.steps()
    assert repo.state("task") == "done"


def test_of_many_tasks_that_wait_only_those_are_looked_at_that_a_change_concerns(
    repo: GitRepo, opened: Open
) -> None:
    for name in ("a", "b"):
        task(repo, name, "x\n\naynig: stalled\n")
        for number in range(5):
            message = f"{GO}aynig: depends-on: {name}\n"
            task(repo, f"{name}-{number}", message, **{".aynig/go": SCRIPT_OK})
    work = opened()
    work.look(first=True)
    assert len(work.steps()) == 12
    repo.commit("x\n\naynig: review\n", branch="a")
    work.look()
    assert work.steps() == ["a"]
    repo.commit("x\n\naynig: done\n", branch="a")
    work.look()
    assert sorted(set(work.steps())) == [f"a-{number}" for number in range(5)]
    assert {repo.state(f"b-{number}") for number in range(5)} == {"go"}


def test_a_branch_that_is_put_on_top_of_what_is_waited_for_may_end_the_wait(
    repo: GitRepo, opened: Open
) -> None:
    oid = task(repo, "a", "x\n\naynig: stalled\n")
    task(repo, "task", f"{GO}aynig: depends-on: {oid}\n", **{".aynig/go": SCRIPT_OK})
    work = opened()
    work.look(first=True)
    work.steps()
    middle = repo.commit("by hand", branch="other", parent=oid, update=False)
    repo.commit("x\n\naynig: done\n", branch="other", parent=middle)
    work.look()
    assert work.steps()[0] == "task"
    assert repo.state("task") == "done"


def test_what_ends_a_wait_while_the_task_is_looked_at_is_not_missed(
    repo: GitRepo, opened: Open
) -> None:
    task(repo, "a", "x\n\naynig: stalled\n")
    task(repo, "task", f"{GO}aynig: depends-on: a\n", **{".aynig/go": SCRIPT_OK})
    work = opened()
    work.look(first=True)
    for _ in range(2):
        ref, carry_out = work.desk.next_work() or ("", None)
        assert carry_out is not None
        outcome = carry_out()
        if ref.endswith("/task"):
            # Between the look at the task and the moment at which it is known to be held.
            repo.commit("x\n\naynig: done\n", branch="a")
            work.look()
        work.desk.collect(ref, outcome)
    work.steps()
    assert repo.state("task") == "done"


def test_a_task_that_waits_for_a_branch_of_a_remote_goes_on_when_that_is_fetched(
    repo: GitRepo, opened: Open, tmp_path: Path
) -> None:
    other = GitRepo.init(tmp_path / "other")
    other.commit(GO, branch="a")
    repo.git("remote", "add", "origin", str(other.path))
    task(repo, "task", f"{GO}aynig: depends-on: origin:a\n", **{".aynig/go": SCRIPT_OK})
    work = opened()
    work.look(first=True)
    work.steps()
    for _ in range(2):
        work.look()
        work.steps()
    work.look()
    assert work.steps() == []
    other.commit("x\n\naynig: done\n", branch="a")
    repo.git("fetch", "--quiet", "origin")
    work.look()
    work.steps()
    assert repo.state("task") == "done"
    assert work.kinds("hold") == ["waiting"]


def test_a_task_that_asked_for_later_is_due_then_and_not_before(
    repo: GitRepo, opened: Open
) -> None:
    later = (
        '#!/bin/sh\nprintf "no\\001 network\\n\\naynig: retry-after: 1h\\n" >"$AYNIG_RESPONSE"\n'
        "exit 75\n"
    )
    task(repo, **{".aynig/go": later})
    work = opened()
    work.look(first=True)
    assert work.steps() == ["task"]
    assert work.kinds("deferred", "hold", "problem") == ["deferred"]
    due = work.desk.next_due()
    assert due is not None
    work.desk.recheck(due - 1)
    assert work.steps() == []
    work.desk.recheck(due)
    assert work.steps() == ["task"]
    assert due - time.monotonic() > 3000


def test_what_went_wrong_unforeseen_is_a_hold_that_is_looked_at_again(
    repo: GitRepo, opened: Open
) -> None:
    task(repo)
    work = opened()
    work.look(first=True)
    got = work.desk.next_work()
    assert got is not None
    work.desk.collect(got[0], RepositoryError("the disk is gone", hint="Mount it."))
    (hold,) = [notice for notice in work.told if notice.kind == "hold"]
    assert (hold.hold, hold.detail) == ("error", "the disk is gone: Mount it.")
    assert work.desk.next_due() is not None


def test_a_branch_that_is_gone_is_forgotten(repo: GitRepo, opened: Open) -> None:
    task(repo)
    work = opened()
    work.look(first=True)
    repo.git("branch", "-D", "task")
    work.look()
    assert work.steps() == []


def test_a_repository_that_is_gone_is_told_once(repo: GitRepo, opened: Open) -> None:
    work = opened()
    work.look(first=True)
    repo.path.rename(repo.path.with_name("away"))
    work.desk.look()
    work.desk.look()
    assert work.kinds("problem") == ["problem"]
    repo.path.with_name("away").rename(repo.path)
    task(repo)
    work.look()
    assert work.desk.ready


def test_an_answer_with_more_trailers_than_a_message_may_have_is_a_failure(
    repo: GitRepo, opened: Open
) -> None:
    many = (
        "#!/bin/sh\nfor n in $(seq 300); do echo aynig: meta-k: $n; done >$AYNIG_RESPONSE\n"
        "echo aynig: next >>$AYNIG_RESPONSE\n"
    )
    task(repo, **{".aynig/go": many})
    work = opened()
    work.look(first=True)
    work.steps()
    assert repo.state("task") == "failed"
    assert "300 trailers" in repo.fields("task")["fault"]


def test_an_answer_as_long_as_a_message_may_be_is_a_failure(repo: GitRepo, opened: Open) -> None:
    long = "#!/bin/sh\n{ echo s; echo; head -c 1048000 /dev/zero | tr '\\0' x; } >$AYNIG_RESPONSE\n"
    task(repo, **{".aynig/go": long})
    work = opened()
    work.look(first=True)
    work.steps()
    assert repo.state("task") == "failed"
    assert "longer than" in repo.fields("task")["fault"]


# --- an error after the script has run -------------------------------------------------------


UNLANDABLE = """#!/bin/sh
echo x >>$LOG
echo more >more
rm -rf $HOME_OF_AYNIG/landing
echo "no folder" >$HOME_OF_AYNIG/landing
"""


def unlandable(repo: GitRepo) -> Callable[[], int]:
    """A task on main whose answer can't be written into the working tree; how often it has run."""
    log = repo.path.parent / "log"
    text = UNLANDABLE.replace("$LOG", str(log))
    text = text.replace("$HOME_OF_AYNIG", str(repo.git_dir / "aynig"))
    repo.commit(GO, files={".aynig/go": text})
    repo.sync()
    return lambda: len(log.read_text().splitlines())


def test_a_script_is_not_run_over_and_over_for_an_error_that_comes_after_it(
    repo: GitRepo, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aynig.policies.setback.FIRST_DELAY", 0.05)
    runs = unlandable(repo)
    work = opened()

    def given_up() -> bool:
        work.look()
        work.desk.recheck(math.inf)
        work.steps()
        return "given up after attempt 3" in work.told[-1].detail

    work.look(first=True)
    wait_for(given_up, what="the end of trying")
    given_up()
    assert runs() == 3
    assert work.desk.next_due() is None
    assert work.kinds("run", "hold") == ["run", "error"] * 3
    assert len(rescued(repo)) == 3
    repo.commit(GO)
    repo.sync()
    work.look()
    work.steps()
    assert runs() == 4


def test_another_runner_knows_of_the_error_and_does_not_run_the_script_again_at_once(
    repo: GitRepo, opened: Open
) -> None:
    runs = unlandable(repo)
    for _ in range(2):
        work = opened()
        work.look(first=True)
        work.steps()
        assert work.kinds("hold") == ["error"]
    (kept,) = rescued(repo)
    assert repo.git("show", f"{kept}:more") == "more"
    assert kept in work.told[-1].detail
    assert runs() == 1
    assert free_leases(repo)


# --- an answer that waits --------------------------------------------------------------------


def answer_waits(repo: GitRepo, opened: Open, script: str = "echo more >more") -> Work:
    """The answer to the tip of main, which is checked out and has uncommitted work by now."""
    dirt = repo.path / "file"
    text = f"#!/bin/sh\n{script}\necho mine >{dirt}\n"
    repo.commit(GO, files={"file": "one\n", ".aynig/go": text})
    repo.sync()
    work = opened()
    work.look(first=True)
    assert work.steps() == ["main"]
    assert work.kinds("hold", "refused") == ["dirty-worktree"]
    return work


def rescued(repo: GitRepo) -> list[str]:
    return repo.git("for-each-ref", "--format=%(refname)", RESCUES).split()


def lands(work: Work) -> None:
    due = work.desk.next_due()
    assert due is not None
    work.desk.recheck(due)
    work.steps()


def free_leases(repo: GitRepo) -> bool:
    return not any(
        repo.git("log", "-1", "--format=%s", ref).startswith("aynig lease")
        for ref in repo.git("for-each-ref", "--format=%(refname)", LEASES).split()
    )


NEW_TIPS = {
    "committed": ["commit", "--quiet", "--allow-empty", "-m", "mine"],
    "a new state": ["commit", "--quiet", "--allow-empty", "-m", "x", "-m", "aynig: echo"],
    "reset": ["reset", "--quiet", "--soft", "HEAD^"],
    "deleted": ["update-ref", "-d", "refs/heads/main"],
}


@pytest.mark.parametrize("way", NEW_TIPS)
def test_an_answer_that_waits_is_refused_as_soon_as_its_branch_moves(
    repo: GitRepo, opened: Open, way: str
) -> None:
    work = answer_waits(repo, opened)
    repo.git(*NEW_TIPS[way], env=repo.tick())
    moved = repo.tip()
    work.look()
    work.steps()
    (refused,) = [notice for notice in work.told if notice.kind == "refused"]
    (kept,) = rescued(repo)
    assert kept in refused.detail
    assert repo.git("show", f"{kept}:more") == "more"
    assert free_leases(repo)
    assert repo.tip() == moved
    assert (repo.path / "file").read_text() == "mine\n"
    # What came instead is a tip like any other.
    assert work.kinds("hold") == ["dirty-worktree"] * (2 if way == "a new state" else 1)
    if way == "a new state":
        repo.git("checkout", "--quiet", "HEAD", "--", "file")
        lands(work)
        assert repo.state() == "done"
        assert repo.git("rev-parse", "main^") == moved


def test_an_answer_that_waits_is_refused_where_its_lease_is_lost(
    repo: GitRepo, opened: Open
) -> None:
    work = answer_waits(repo, opened)
    (lease,) = repo.git("for-each-ref", "--format=%(refname)", LEASES).split()
    repo.git("update-ref", lease, repo.tip())
    lands(work)
    assert "refused" in work.kinds()
    assert len(rescued(repo)) == 1


def test_an_answer_that_waits_outlives_a_prune_and_leaves_no_rescue_once_it_has_landed(
    repo: GitRepo, opened: Open
) -> None:
    work = answer_waits(repo, opened)
    repo.git("gc", "--quiet", "--prune=now")
    repo.git("checkout", "--quiet", "HEAD", "--", "file")
    lands(work)
    assert repo.state() == "done"
    assert (repo.path / "more").read_text() == "more\n"
    assert rescued(repo) == []
    # The fixture's first commit has the empty tree, which nobody has written as an object.
    repo.git("hash-object", "-w", "-t", "tree", "/dev/null")
    repo.git("fsck", "--strict", "--no-dangling")


OWN_ANSWER = (
    "trap 'exit 1' EXIT; echo z >committed; git add committed; "
    "git commit -q -m more -m 'aynig: review'; echo y >left"
)


def test_an_answer_that_waited_and_then_can_not_be_written_is_not_run_for_again_at_once(
    repo: GitRepo, opened: Open
) -> None:
    work = answer_waits(repo, opened)
    (repo.git_dir / "aynig" / "landing").write_text("no folder")
    repo.git("checkout", "--quiet", "HEAD", "--", "file")
    lands(work)
    assert work.kinds("run", "hold") == ["run", "dirty-worktree", "error"]
    assert rescued(repo)[0] in work.told[-1].detail
    assert free_leases(repo)
    lands(work)
    assert len(work.kinds("run")) == 1


def test_what_is_kept_beside_an_answer_that_waits_is_kept_as_well(
    repo: GitRepo, opened: Open
) -> None:
    work = answer_waits(repo, opened, OWN_ANSWER)
    work_kept, answer_kept = rescued(repo)
    assert answer_kept == f"{work_kept}-2"
    assert repo.git("show", f"{work_kept}:left") == "y"
    assert repo.fields(answer_kept)["rescue"] == work_kept
    work.desk.abandon_pending()
    assert work.kinds("problem", "deferred", "refused") == ["deferred"]
    assert rescued(repo) == [work_kept, answer_kept]
    assert free_leases(repo)


def test_an_answer_that_a_person_merges_by_hand_has_landed(repo: GitRepo, opened: Open) -> None:
    work = answer_waits(repo, opened)
    repo.git("merge", "--quiet", "--ff-only", *rescued(repo))
    work.look()
    work.steps()
    assert work.kinds("answer", "refused") == ["answer"]
    assert (repo.state(), rescued(repo)) == ("done", [])
    assert (repo.path / "file").read_text() == "mine\n"
    assert free_leases(repo)


FAMILY = "states: {gather: {join: {wait-for: children, need: any, then: collect}}}\n"


def child(repo: GitRepo, name: str, state: str, of: str = "big") -> str:
    message = f"Please {name}\n\naynig: {state}\naynig: parent: {of}\n"
    return repo.commit(message, branch=name, parent=repo.tip(name) or repo.tip(of))


def test_only_the_parent_is_looked_at_again_when_a_child_has_ended(
    repo: GitRepo, opened: Open
) -> None:
    config = {".aynig/config.yaml": FAMILY}
    for parent in ("big", "other"):
        task(repo, parent, "x\n\naynig: gather\n", **config)
        child(repo, f"{parent}-one", "stalled", of=parent)
    work = opened()
    work.look(first=True)
    work.steps()
    assert work.kinds("hold") == ["waiting", "stalled", "waiting", "stalled"]
    child(repo, "big-one", "done")
    work.look()
    assert work.steps()[0] == "big"
    assert repo.state("big") == "collect"
    assert repo.state("other") == "gather"


def test_a_child_that_ends_while_its_parent_is_looked_at_is_not_overlooked(
    repo: GitRepo, opened: Open
) -> None:
    task(repo, "big", "x\n\naynig: gather\n", **{".aynig/config.yaml": FAMILY})
    child(repo, "one", "stalled")
    work = opened()
    work.look(first=True)
    first = work.desk.next_work()
    assert first is not None
    outcome = first[1]()
    child(repo, "two", "done")
    work.look()
    work.desk.collect(first[0], outcome)
    work.steps()
    assert repo.state("big") == "collect"


def test_a_chain_does_not_keep_others_waiting(repo: GitRepo, opened: Open) -> None:
    task(repo, "a")
    task(repo, "b")
    task(repo, "c")
    work = opened()
    work.look(first=True)
    assert [work.step() for _ in range(6)] == ["a", "b", "c", "a", "b", "c"]


def test_a_higher_priority_goes_first_and_the_longest_wait_among_equals(
    repo: GitRepo, opened: Open
) -> None:
    config = "states:\n  rush: {priority: 50}\n"
    files = {".aynig/go": SCRIPT_OK, ".aynig/rush": SCRIPT_OK, ".aynig/config.yaml": config}
    task(repo, "z", **files)
    task(repo, "a", **files)
    task(repo, "rush", "x\n\naynig: rush\n", **files)
    task(repo, "most", f"{GO}aynig: priority: 90\n", **files)
    work = opened()
    work.look(first=True)
    assert [work.step() for _ in range(4)] == ["most", "rush", "z", "a"]
