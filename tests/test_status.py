"""A row a branch: what holds it in one word, and in a sentence what to do about it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import pytest

from aynig.model import HEADS
from aynig.scan import read_event
from aynig.site import Site, open_site
from aynig.status import StatusRow, runners, status_row, status_rows
from tests.world import EPOCH, SCRIPT_OK, GitRepo

GO = "Please go\n\naynig: go\n"


@contextlib.contextmanager
def opened(repo: GitRepo) -> Iterator[Site]:
    site = open_site(repo.path)
    try:
        yield site
    finally:
        site.close()


def row(repo: GitRepo, branch: str = "task") -> StatusRow:
    with opened(repo) as site:
        found = status_row(site, HEADS + branch)
    assert found is not None
    return found


Files = Mapping[str, str | bytes | None]
HELD: list[tuple[str, str, Files, str | None, str]] = [
    ("a script", GO, {".aynig/go": SCRIPT_OK}, None, "ready"),
    ("no script", GO, {}, "missing-script", ".aynig/go"),
    ("no run bit", GO, {".aynig/go": "echo\n"}, "not-executable", "chmod"),
    ("no interpreter", GO, {".aynig/go": "#!/no/such\n"}, "bad-interpreter", "/no/such"),
    ("a folder", GO, {".aynig/go/x": SCRIPT_OK}, "bad-script", ".aynig/go"),
    ("bad settings", GO, {".aynig/config.yaml": "states: [x]\n"}, "bad-config", "states"),
    ("malformed", "x\n\naynig: A B\n", {}, "malformed", "'A B' is no state"),
    ("reserved", "x\n\naynig: working\n", {}, "reserved", "reserved"),
    ("done", "x\n\naynig: done\n", {}, "ended", "done"),
    ("stalled", "x\n\naynig: stalled\n", {}, "stalled", "person"),
    ("waiting", f"{GO}aynig: depends-on: main\n", {".aynig/go": SCRIPT_OK}, "waiting", "main"),
]


@pytest.mark.parametrize(
    ("message", "files", "hold", "says"), [each[1:] for each in HELD], ids=[h[0] for h in HELD]
)
def test_what_holds_a_task(
    repo: GitRepo, message: str, files: Files, hold: str | None, says: str
) -> None:
    oid = repo.commit(message, branch="task", parent=repo.tip(), files=files)
    found = row(repo)
    assert (found.branch, found.tip, found.hold) == ("task", oid, hold)
    assert says in found.detail
    assert "\n" not in found.detail
    assert found.since == EPOCH + 120
    assert found.run is None


def test_a_run_that_is_under_way_is_told_with_where_and_since_when(repo: GitRepo) -> None:
    oid = repo.commit(GO, branch="task", parent=repo.tip(), files={".aynig/go": SCRIPT_OK})
    with opened(repo) as site:
        event = read_event(site.repo, HEADS + "task", oid, site.read)
        assert event is not None
        lease = site.leases.acquire(event, None, "20260131T093000Z-1f3a9c2e", 1)
        found = row(repo)
        site.leases.release(lease, oid)
    assert (found.hold, found.run, found.runner) == ("running", lease.run, lease.holder.runner)
    assert str(lease.holder.pid) in found.detail
    assert found.since == 1769851800.0


def test_a_deferred_task_says_until_when(repo: GitRepo) -> None:
    oid = repo.commit(GO, branch="task", parent=repo.tip(), files={".aynig/go": SCRIPT_OK})
    with opened(repo) as site:
        event = read_event(site.repo, HEADS + "task", oid, site.read)
        assert event is not None
        site.leases.defer(site.leases.acquire(event, None, "r-1", 1), 3600.0, "no network")
    found = row(repo)
    assert found.hold == "waiting"
    assert "no network" in found.detail
    assert found.until is not None


def test_a_task_whose_later_retry_is_due_says_what_it_was_put_off_for(repo: GitRepo) -> None:
    oid = repo.commit(GO, branch="task", parent=repo.tip(), files={".aynig/go": SCRIPT_OK})
    with opened(repo) as site:
        event = read_event(site.repo, HEADS + "task", oid, site.read)
        assert event is not None
        site.leases.defer(site.leases.acquire(event, None, "r-1", 1), 0.0, "no network")
    found = row(repo)
    assert found.hold is None
    assert "ready for attempt 2 (no network)" in found.detail


def test_scripts_from_a_branch_that_does_not_exist_are_told_with_what_to_do(
    bare: GitRepo,
) -> None:
    bare.commit(GO, branch="task", parent=bare.tip())
    bare.git("update-ref", "-d", "refs/heads/main")
    found = row(bare)
    assert found.hold is not None
    assert "aynig.scripts" in found.detail


def test_an_answer_that_waits_for_a_working_tree_is_told_so(repo: GitRepo) -> None:
    repo.commit(GO, files={".aynig/go": SCRIPT_OK, "file": "x\n"})
    repo.sync()
    (repo.path / "file").write_text("mine\n")
    found = row(repo, "main")
    assert found.hold == "dirty-worktree"
    assert str(repo.path) in found.detail


def test_the_last_answer_is_found_below_a_persons_own_commits(repo: GitRepo) -> None:
    asked = repo.commit(GO, branch="task", parent=repo.tip())
    answer = repo.commit(f"x\n\naynig: review\naynig: answers: {asked}\n", branch="task")
    repo.commit("mine", branch="task")
    repo.commit("again\n\naynig: go\n", branch="task")
    found = row(repo)
    assert found.last_answer is not None
    assert found.last_answer.oid == answer


def test_the_answer_to_another_branch_far_below_a_new_task_is_not_its_own(repo: GitRepo) -> None:
    asked = repo.commit(GO)
    repo.commit(f"x\n\naynig: done\naynig: answers: {asked}\n")
    for _ in range(50):
        repo.commit("more")
    repo.commit(GO, branch="task", parent=repo.tip())
    assert row(repo).last_answer is None


def answered(repo: GitRepo, branch: str) -> str:
    """A task on a branch and its answer."""
    asked = repo.commit(GO, branch=branch, parent=repo.tip(branch) or repo.tip())
    return repo.commit(f"x\n\naynig: review\naynig: answers: {asked}\n", branch=branch)


def test_an_answer_of_the_branch_that_a_task_was_forked_off_is_not_its_own(repo: GitRepo) -> None:
    parent = answered(repo, "other")
    repo.commit(GO, branch="task", parent=parent)
    repo.commit(GO, branch="task")
    assert row(repo).last_answer is None


@pytest.mark.parametrize("more", [0, 3], ids=["at the tip", "below the tip"])
def test_an_answer_that_the_default_branch_contains_is_not_that_of_a_task(
    repo: GitRepo, more: int
) -> None:
    base = answered(repo, "main")
    for _ in range(more):
        repo.commit("more")
    repo.commit(GO, branch="task", parent=base)
    assert row(repo).last_answer is None
    own = answered(repo, "task")
    repo.commit(GO, branch="task")
    found = row(repo).last_answer
    assert found is not None
    assert found.oid == own


def test_the_answer_at_the_tip_is_shown_also_where_it_was_merged_or_copied(repo: GitRepo) -> None:
    answer = answered(repo, "task")
    repo.git("branch", "copy", answer)
    repo.git("update-ref", "refs/heads/main", answer)
    with opened(repo) as site:
        rows = {each.branch: each.last_answer for each in status_rows(site)}
    assert {branch: last and last.oid for branch, last in rows.items()} == dict.fromkeys(
        ("main", "task", "copy"), answer
    )


def test_the_default_branch_shows_its_own_last_answer(repo: GitRepo) -> None:
    answer = answered(repo, "main")
    repo.commit(GO)
    found = row(repo, "main").last_answer
    assert found is not None
    assert found.oid == answer


def test_branches_without_a_state_are_shown_only_where_all_are_asked_for(repo: GitRepo) -> None:
    repo.commit(GO, branch="b", parent=repo.tip())
    repo.commit(GO, branch="a", parent=repo.tip())
    with opened(repo) as site:
        assert [each.branch for each in status_rows(site)] == ["a", "b"]
        rows = {each.branch: each for each in status_rows(site, idle=True)}
    assert list(rows) == ["a", "b", "main"]
    assert (rows["main"].state, rows["main"].hold) == (None, None)


def test_a_broken_ref_is_a_row_and_no_crash(repo: GitRepo) -> None:
    (repo.git_dir / "refs/heads/empty").write_bytes(b"")
    with opened(repo) as site:
        found = {each.branch: each for each in status_rows(site, idle=True)}
    assert found["empty"].hold == "broken"
    assert found["main"].hold is None


def test_no_runner_is_there_before_one_is_started(repo: GitRepo) -> None:
    repo.commit(GO, branch="task", parent=repo.tip(), files={".aynig/go": SCRIPT_OK})
    with opened(repo) as site:
        assert runners(site) == []
    assert "aynig run" in row(repo).detail


def test_a_branch_that_is_not_there_has_no_row(repo: GitRepo) -> None:
    with opened(repo) as site:
        assert status_row(site, HEADS + "gone") is None


def test_a_task_on_a_branch_that_the_settings_leave_out_is_told_so(repo: GitRepo) -> None:
    repo.git("config", "aynig.branch", "other/*")
    repo.commit(GO, branch="task", parent=repo.tip(), files={".aynig/go": SCRIPT_OK})
    found = row(repo)
    assert found.hold == "excluded"
    assert "aynig.branch" in found.detail


def test_the_last_answer_of_a_child_is_its_own_and_not_its_parent_s(repo: GitRepo) -> None:
    first = repo.commit("x\n\naynig: split\n", branch="task", parent=repo.tip())
    repo.commit(
        f"split -> gather\n\naynig: gather\naynig: children: 1\naynig: answers: {first}\n",
        branch="task",
    )
    child = repo.commit(
        "go: one\n\naynig: go\naynig: parent: task\n", branch="one", parent=repo.tip("task")
    )
    # The parent has gone on, so the commit below the child is no tip any more.
    repo.commit("y\n\naynig: collect\n", branch="task")
    assert row(repo, "one").last_answer is None
    answer = repo.commit(
        f"go -> more\n\naynig: more\naynig: parent: task\naynig: answers: {child}\n",
        branch="one",
    )
    found = row(repo, "one").last_answer
    assert found is not None
    assert found.oid == answer
