"""Several refs change together or not at all, and of many who want the same one gets it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from aynig.errors import GitFailed, RefBusy, RefMoved
from aynig.git.locks import find_stale_locks
from aynig.git.refs import RefEdit, RefStore, pack_many_refs
from aynig.git.repo import EMPTY_TREE, Repo
from aynig.model import HEADS
from aynig.processes import is_alive, is_running, this_holder
from tests.world import GitRepo, wait_for

TASK = HEADS + "task"
OTHER = HEADS + "other"
NOWHERE = "1" * 40

RACER = """
import sys
from aynig.errors import RefBusy, RefMoved
from aynig.git.refs import RefEdit, RefStore
from aynig.git.repo import Repo
from aynig.processes import this_holder

store = RefStore(Repo.open(sys.argv[1]), this_holder("racer"))
for line in sys.stdin:
    ref, old, new = line.split()
    word = "busy"
    while word == "busy":
        try:
            store.commit([RefEdit(ref, old, new)])
            word = "won"
        except RefMoved:
            word = "lost"
        except RefBusy:
            pass
    print(word, flush=True)
store.close()
"""


@pytest.fixture
def store(repo: GitRepo) -> Iterator[RefStore]:
    made = RefStore(Repo.open(repo.path), this_holder("test"))
    yield made
    made.close()


def commits(repo: GitRepo, count: int) -> list[str]:
    """Commits that no ref names."""
    repo.git("hash-object", "-t", "tree", "-w", "--stdin", stdin=b"")
    return [
        repo.git("commit-tree", EMPTY_TREE, "-m", str(number), env=repo.tick())
        for number in range(count)
    ]


def value(repo: GitRepo, ref: str) -> str:
    return repo.git("rev-parse", "--verify", "--quiet", ref, check=False)


def locks(repo: GitRepo) -> list[Path]:
    return sorted(repo.git_dir.rglob("*.lock"))


# --- one transaction


def test_a_ref_is_created_only_where_there_is_none(repo: GitRepo, store: RefStore) -> None:
    first, second = commits(repo, 2)
    store.commit([RefEdit(TASK, None, first)])
    with pytest.raises(RefMoved) as caught:
        store.commit([RefEdit(TASK, None, second)])
    assert caught.value.ref == TASK
    assert value(repo, TASK) == first


def test_a_ref_is_updated_only_where_it_is_unchanged(repo: GitRepo, store: RefStore) -> None:
    first, second, third = commits(repo, 3)
    store.commit([RefEdit(TASK, None, first)])
    store.commit([RefEdit(TASK, first, second)])
    with pytest.raises(RefMoved):
        store.commit([RefEdit(TASK, first, third)])
    assert value(repo, TASK) == second


def test_an_update_of_a_ref_that_is_gone_has_lost(repo: GitRepo, store: RefStore) -> None:
    first, second = commits(repo, 2)
    with pytest.raises(RefMoved):
        store.commit([RefEdit(TASK, first, second)])
    assert value(repo, TASK) == ""


@pytest.mark.parametrize("packed", [False, True], ids=["loose", "packed"])
def test_a_ref_is_deleted_only_where_it_is_unchanged(
    repo: GitRepo, store: RefStore, packed: bool
) -> None:
    first, second = commits(repo, 2)
    store.commit([RefEdit(TASK, None, first)])
    if packed:
        repo.git("pack-refs", "--all")
    with pytest.raises(RefMoved):
        store.delete([RefEdit(TASK, second, None)])
    assert value(repo, TASK) == first
    store.delete([RefEdit(TASK, first, None)])
    assert value(repo, TASK) == ""


def test_garbage_in_packed_refs_is_told_by_file_and_line_and_is_no_lost_race(
    repo: GitRepo, store: RefStore
) -> None:
    (first,) = commits(repo, 1)
    (repo.git_dir / "packed-refs").write_text("garbage\n")
    with pytest.raises(GitFailed, match="packed-refs: line 1 is no ref: 'garbage'") as caught:
        store.commit([RefEdit(TASK, None, first)])
    assert "delete that line" in caught.value.hint
    (repo.git_dir / "packed-refs").unlink()
    store.commit([RefEdit(TASK, None, first)])
    assert value(repo, TASK) == first


def test_two_refs_change_both_or_neither(repo: GitRepo, store: RefStore) -> None:
    first, second, third = commits(repo, 3)
    store.commit([RefEdit(TASK, None, first), RefEdit(OTHER, None, first)])
    with pytest.raises(RefMoved) as caught:
        store.commit([RefEdit(TASK, first, second), RefEdit(OTHER, third, second)])
    assert caught.value.ref == OTHER
    assert (value(repo, TASK), value(repo, OTHER)) == (first, first)
    store.commit([RefEdit(TASK, first, second), RefEdit(OTHER, first, None)])
    assert (value(repo, TASK), value(repo, OTHER)) == (second, "")
    assert locks(repo) == []


def test_an_edit_from_a_value_to_itself_only_checks(repo: GitRepo, store: RefStore) -> None:
    first, second = commits(repo, 2)
    store.commit([RefEdit(OTHER, None, first)])
    store.commit([RefEdit(OTHER, first, first), RefEdit(TASK, None, first)])
    with pytest.raises(RefMoved) as caught:
        store.commit([RefEdit(OTHER, second, second), RefEdit(TASK, first, second)])
    assert caught.value.ref == OTHER
    assert (value(repo, OTHER), value(repo, TASK)) == (first, first)


def test_an_edit_from_nothing_to_nothing_checks_that_there_is_nothing(
    repo: GitRepo, store: RefStore
) -> None:
    first, second = commits(repo, 2)
    store.commit([RefEdit(OTHER, None, None), RefEdit(TASK, None, first)])
    store.commit([RefEdit(OTHER, None, first)])
    with pytest.raises(RefMoved):
        store.commit([RefEdit(OTHER, None, None), RefEdit(TASK, first, second)])
    assert value(repo, TASK) == first


def test_a_symbolic_ref_does_not_lead_a_change_to_the_branch_behind_it(
    repo: GitRepo, store: RefStore
) -> None:
    (new,) = commits(repo, 1)
    main = repo.tip()
    repo.git("symbolic-ref", TASK, HEADS + "main")
    store.commit([RefEdit(TASK, main, new)])
    assert repo.tip() == main
    assert value(repo, TASK) == new


@pytest.mark.parametrize(
    "name",
    [
        "wörk",
        "-dash",
        "HEAD",
        'it\'s-"quoted"',
        "$(touch)".replace(" ", "$IFS"),
        "deep/er/and/deeper",
        "x" * 200,
        os.fsdecode(b"not-\xff-text"),
        "@at",
    ],
    ids=["accent", "dash", "head", "quotes", "shell", "deep", "long", "bytes", "at"],
)
def test_a_branch_may_have_any_name_that_git_takes(
    repo: GitRepo, store: RefStore, name: str
) -> None:
    first, second = commits(repo, 2)
    store.commit([RefEdit(HEADS + name, None, first)])
    store.commit([RefEdit(HEADS + name, first, second)])
    assert repo.git("for-each-ref", "--format=%(objectname)", HEADS + name) == second


def test_a_value_that_packing_has_replaced_within_the_same_second_is_past(
    repo: GitRepo, store: RefStore
) -> None:
    first, second, third = commits(repo, 3)
    store.commit([RefEdit(TASK, None, first)])
    repo.git("pack-refs", "--all")
    store.commit([RefEdit(TASK, first, first), RefEdit(OTHER, None, first)])
    # As two packings do it: the same size, the inode reused, the same second.
    packed = repo.git_dir / "packed-refs"
    found = packed.stat()
    packed.write_text(packed.read_text().replace(f"{first} {TASK}", f"{second} {TASK}"))
    os.utime(packed, ns=(found.st_atime_ns, found.st_mtime_ns ^ 1))
    with pytest.raises(RefMoved):
        store.commit([RefEdit(TASK, first, third)])
    assert value(repo, TASK) == second


# --- what git refuses


def test_an_oid_that_does_not_exist_is_refused(repo: GitRepo, store: RefStore) -> None:
    (first,) = commits(repo, 1)
    with pytest.raises(GitFailed):
        store.commit([RefEdit(TASK, None, NOWHERE)])
    store.commit([RefEdit(TASK, None, first)])
    assert value(repo, TASK) == first


def test_a_branch_below_another_fails_and_the_store_goes_on(repo: GitRepo, store: RefStore) -> None:
    first, second = commits(repo, 2)
    store.commit([RefEdit(TASK, None, first)])
    with pytest.raises(GitFailed):
        store.commit([RefEdit(TASK + "/below", None, first)])
    store.commit([RefEdit(TASK, first, second)])
    assert value(repo, TASK) == second
    assert locks(repo) == []


def test_a_ref_that_somebody_has_locked_is_busy_until_the_lock_is_gone(
    repo: GitRepo, store: RefStore
) -> None:
    (first,) = commits(repo, 1)
    lock = repo.git_dir / f"{TASK}.lock"
    lock.touch()
    with pytest.raises(RefBusy):
        store.commit([RefEdit(TASK, None, first)])
    assert lock.exists()
    lock.unlink()
    store.commit([RefEdit(TASK, None, first)])
    assert value(repo, TASK) == first


def test_two_hundred_failures_leave_no_open_file(repo: GitRepo, store: RefStore) -> None:
    first, second = commits(repo, 2)
    store.commit([RefEdit(TASK, None, first)])
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(200):
        with pytest.raises(RefMoved):
            store.commit([RefEdit(TASK, second, first)])
    store.commit([RefEdit(TASK, first, second)])
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_a_closed_store_leaves_no_process_and_no_journal(repo: GitRepo) -> None:
    (first,) = commits(repo, 1)
    made = Repo.open(repo.path)
    store = RefStore(made, this_holder("test"))
    before = set(_children(os.getpid()))
    store.commit([RefEdit(TASK, None, first)])
    (git,) = set(_children(os.getpid())) - before
    store.close()
    assert not is_running(git)
    assert list((made.home / "locks").iterdir()) == []
    store.commit([RefEdit(TASK, first, None)])
    store.close()
    assert value(repo, TASK) == ""


def test_refs_are_packed_once_there_are_many(repo: GitRepo) -> None:
    made = Repo.open(repo.path)
    assert not pack_many_refs(made)
    tip = repo.tip()
    names = [f"refs/aynig/test/{number}" for number in range(1000)]
    repo.git("update-ref", "--stdin", stdin="".join(f"create {name} {tip}\n" for name in names))
    assert pack_many_refs(made)
    assert not pack_many_refs(made)
    assert not (repo.git_dir / names[0]).exists()
    assert made.refs_below("refs/aynig/test/") == dict.fromkeys(names, tip)


# --- many at once


@contextlib.contextmanager
def packing(repo: GitRepo) -> Iterator[None]:
    """Pack all refs over and over."""
    over = threading.Event()

    def pack() -> None:
        while not over.is_set():
            repo.git("pack-refs", "--all", check=False)

    thread = threading.Thread(target=pack)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_of_six_processes_exactly_one_wins_each_round_while_refs_are_packed(
    repo: GitRepo,
) -> None:
    rounds, count = 20, 6
    now, *rest = commits(repo, 1 + 2 * count)
    repo.git("update-ref", TASK, now)
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(repo.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]
    try:
        with packing(repo):
            for turn in range(rounds):
                wanted = rest[turn % 2 :: 2]
                for racer, new in zip(racers, wanted, strict=True):
                    assert racer.stdin is not None
                    racer.stdin.write(f"{TASK} {now} {new}\n")
                    racer.stdin.flush()
                said = [racer.stdout.readline().strip() for racer in racers if racer.stdout]
                assert sorted(said) == ["lost"] * (count - 1) + ["won"]
                now = wanted[said.index("won")]
                assert Repo.open(repo.path).read_ref(TASK) == now
    finally:
        for racer in racers:
            racer.communicate()
    assert locks(repo) == []


WRITER = """
import sys
from aynig.git.refs import RefEdit, RefStore
from aynig.git.repo import Repo
from aynig.processes import this_holder

path, old, new, *refs = sys.argv[1:]
store = RefStore(Repo.open(path), this_holder("writer"))
while True:
    store.commit([RefEdit(ref, old, new) for ref in refs])
    print("committed", flush=True)
    old, new = new, old
"""


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(word) for word in text.split()]


def test_a_runner_killed_in_the_middle_of_transactions_leaves_no_lock(repo: GitRepo) -> None:
    refs = [f"{HEADS}task-{number}" for number in range(20)]
    first, second = commits(repo, 2)
    for turn in range(10):
        for ref in refs:
            (repo.git_dir / ref).write_text(first + "\n")
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(repo.path), first, second, *refs],
            stdout=subprocess.PIPE,
        )
        assert writer.stdout is not None
        for _ in range(turn + 1):
            assert writer.stdout.readline() == b"committed\n"
        gits = _children(writer.pid)
        assert gits
        writer.kill()
        writer.communicate()
        wait_for(lambda gits=gits: not any(map(is_running, gits)), what="the end of git")  # type: ignore[misc]
        assert locks(repo) == []
        assert len({value(repo, ref) for ref in refs[:2]}) == 1
    made = Repo.open(repo.path)
    assert find_stale_locks(made, is_alive, is_running) == []
