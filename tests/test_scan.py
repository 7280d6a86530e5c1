"""What changed since the last look is told once, with what it says now."""

from __future__ import annotations

import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aynig import dialects
from aynig.errors import RepositoryError
from aynig.git.repo import Repo
from aynig.model import ENDED_STATES, HEADS, RefChange
from aynig.scan import Scan, Tip, actionable, read_event
from tests.world import GitRepo, wait_for

GO = "Please go\n\naynig: go\n"


def scan_of(repo: GitRepo, pattern: str = "") -> Scan:
    return Scan(Repo.open(repo.path), dialects.read, lambda ref: pattern in ref)


def settled_look(scan: Scan) -> None:
    wait_for(scan.look, what="a settled look")


def test_the_first_look_tells_of_every_branch(repo: GitRepo) -> None:
    go = repo.commit(GO, branch="a/b", parent=repo.tip())
    scan = scan_of(repo)
    scan.look()
    assert sorted(scan.take_changes(), key=lambda change: change.ref) == [
        RefChange(HEADS + "a/b", None, go),
        RefChange(HEADS + "main", None, repo.tip()),
    ]


def test_a_change_is_told_once(repo: GitRepo) -> None:
    scan = scan_of(repo)
    settled_look(scan)
    scan.take_changes()
    old, new = repo.tip(), repo.commit(GO)
    scan.look()
    assert scan.take_changes() == [RefChange(HEADS + "main", old, new)]
    settled_look(scan)
    assert scan.take_changes() == []


def test_looks_add_up_until_they_are_taken(repo: GitRepo) -> None:
    scan = scan_of(repo)
    settled_look(scan)
    scan.take_changes()
    tips = [repo.tip()]
    for _ in range(3):
        tips.append(repo.commit(GO))
        settled_look(scan)
    changes = scan.take_changes()
    assert [change.old for change in changes] == tips[:-1]
    assert [change.new for change in changes] == tips[1:]


def test_a_branch_that_is_gone_is_told_and_forgotten(repo: GitRepo) -> None:
    oid = repo.commit(GO, branch="task", parent=repo.tip())
    scan = scan_of(repo)
    settled_look(scan)
    scan.take_changes()
    repo.git("branch", "-D", "task")
    scan.look()
    assert scan.take_changes() == [RefChange(HEADS + "task", oid, None)]
    assert scan.tip(HEADS + "task") is None
    assert scan.sharing(oid) == frozenset()


def test_garbage_in_packed_refs_is_an_error_that_ends_no_branch(repo: GitRepo) -> None:
    oid = repo.commit(GO, branch="task", parent=repo.tip())
    repo.git("pack-refs", "--all")
    packed = repo.git_dir / "packed-refs"
    text = packed.read_text()
    scan = scan_of(repo)
    settled_look(scan)
    scan.take_changes()
    packed.write_text(text + "garbage\n")
    for _ in range(2):
        with pytest.raises(RepositoryError, match=rf"{packed}: line \d+ is no ref: 'garbage'"):
            scan.look()
    assert scan.tips()[HEADS + "task"].oid == oid
    packed.write_text(text)
    settled_look(scan)
    assert scan.take_changes() == []


def test_what_we_have_set_ourselves_is_not_told_again(repo: GitRepo) -> None:
    scan = scan_of(repo)
    settled_look(scan)
    scan.take_changes()
    oid = repo.commit(GO)
    scan.note(HEADS + "main", oid)
    assert scan.tip(HEADS + "main") == Tip(oid, scan.tips()[HEADS + "main"].time, "go")
    settled_look(scan)
    assert scan.take_changes() == []


def test_a_change_of_a_branch_that_is_not_wanted_is_known_but_not_told(repo: GitRepo) -> None:
    oid = repo.commit(GO, branch="task/a", parent=repo.tip())
    repo.git("branch", "another/copy", "task/a")
    scan = scan_of(repo, "task/")
    scan.look()
    assert [change.ref for change in scan.take_changes()] == [HEADS + "task/a"]
    assert scan.sharing(oid) == {HEADS + "task/a", HEADS + "another/copy"}


@pytest.mark.parametrize("how", ["pack-refs --all", "gc --quiet"])
def test_packing_changes_nothing(repo: GitRepo, how: str) -> None:
    repo.commit(GO, branch="a/b", parent=repo.tip())
    scan = scan_of(repo)
    settled_look(scan)
    before = scan.tips()
    scan.take_changes()
    repo.git(*how.split())
    settled_look(scan)
    assert (scan.take_changes(), scan.tips()) == ([], before)


def test_a_look_afresh_finds_nothing_new_where_nothing_is(repo: GitRepo) -> None:
    scan = scan_of(repo)
    settled_look(scan)
    scan.take_changes()
    oid = repo.commit(GO)
    scan.look_afresh()
    assert [change.new for change in scan.take_changes()] == [oid]


@pytest.mark.parametrize(
    ("message", "state", "fault", "acts"),
    [
        ("no state at all", "", False, False),
        (GO, "go", False, True),
        ("Held\n\naynig: stalled\n", "stalled", False, True),
        *((f"End\n\naynig: {state}\n", state, False, False) for state in sorted(ENDED_STATES)),
        ("Bad\n\naynig: ../x\n", "../x", True, False),
        ("Bad\n\naynig:\n", "", True, False),
    ],
)
def test_what_a_tip_says(repo: GitRepo, message: str, state: str, fault: bool, acts: bool) -> None:
    oid = repo.commit(message)
    scan = scan_of(repo)
    scan.look()
    tip = scan.tip(HEADS + "main")
    assert tip is not None
    assert (tip.oid, tip.state, tip.fault, tip.actionable) == (oid, state, fault, acts)
    assert actionable(scan, [HEADS + "main", HEADS + "gone"]) == ([HEADS + "main"] if acts else [])
    assert scan.sharing(oid) == (frozenset({HEADS + "main"}) if acts else frozenset())


def test_branches_at_one_commit_share_it_until_they_move(repo: GitRepo) -> None:
    oid = repo.commit(GO)
    for name in ("copy", "mirror"):
        repo.git("branch", name)
    scan = scan_of(repo)
    settled_look(scan)
    assert scan.sharing(oid) == {HEADS + name for name in ("main", "copy", "mirror")}
    repo.commit(GO, branch="copy")
    repo.git("branch", "-D", "mirror")
    settled_look(scan)
    assert scan.sharing(oid) == {HEADS + "main"}


def test_a_branch_at_a_commit_that_is_not_there_is_a_fault(repo: GitRepo) -> None:
    repo.commit(GO, branch="task", parent=repo.tip())
    oid = repo.tip("task")
    (repo.git_dir / "objects" / oid[:2] / oid[2:]).unlink()
    scan = scan_of(repo)
    scan.look()
    assert scan.tip(HEADS + "task") == Tip(oid, 0, "", fault=True)
    with pytest.raises(RepositoryError):
        read_event(Repo.open(repo.path), HEADS + "task", oid, dialects.read)


def test_an_event_is_what_the_tip_says(repo: GitRepo) -> None:
    oid = repo.commit(GO)
    event = read_event(Repo.open(repo.path), HEADS + "main", oid, dialects.read)
    assert event is not None
    assert (event.branch, event.state, event.oid) == ("main", "go", oid)
    assert event.tree == repo.git("rev-parse", f"{oid}^{{tree}}")
    idle = repo.commit("a person took it back")
    assert read_event(Repo.open(repo.path), HEADS + "main", idle, dialects.read) is None


@settings(
    derandomize=True,
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=6))
def test_the_changes_that_are_told_lead_from_one_look_to_the_next(
    repo: GitRepo, steps: list[tuple[str, bool]]
) -> None:
    scan = scan_of(repo)
    scan.look()
    known = {change.ref: change.new for change in scan.take_changes()}
    for name, there in steps:
        if there:
            repo.git("update-ref", HEADS + name, repo.commit(GO, update=False))
        else:
            repo.git("update-ref", "-d", HEADS + name)
        scan.look()
        for change in scan.take_changes():
            assert known.get(change.ref) == change.old
            known[change.ref] = change.new
        tips = {ref: tip.oid for ref, tip in scan.tips().items()}
        assert tips == {ref: oid for ref, oid in known.items() if oid is not None}
        shown = repo.git("for-each-ref", "--format=%(refname) %(objectname)", HEADS)
        assert tips == dict(line.split() for line in shown.splitlines())


def test_looks_from_several_threads_lose_no_change(repo: GitRepo) -> None:
    scan = scan_of(repo)
    settled_look(scan)
    scan.take_changes()
    over = threading.Event()

    def keep_looking() -> None:
        while not over.is_set():
            scan.look()

    threads = [threading.Thread(target=keep_looking) for _ in range(3)]
    for thread in threads:
        thread.start()
    tips = [repo.commit(GO, branch=f"task/{n}", parent=repo.tip()) for n in range(10)]
    over.set()
    for thread in threads:
        thread.join()
    settled_look(scan)
    assert sorted(change.new or "" for change in scan.take_changes()) == sorted(tips)
