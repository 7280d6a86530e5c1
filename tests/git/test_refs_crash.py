"""`RefStore` when git is killed, and against names and repositories that are against it."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aynig.errors import GitFailed, RefBusy, RefMoved
from aynig.git import refs
from aynig.git.locks import LockJournal, clear_stale_locks, find_stale_locks
from aynig.git.refs import RefEdit, RefStore
from aynig.git.repo import Repo
from aynig.model import Holder
from aynig.processes import is_alive, is_running, this_holder
from tests.world import GitRepo, wait_for

ONE, TWO = "refs/heads/one", "refs/heads/two"


@pytest.fixture
def store(bare: GitRepo, monkeypatch: pytest.MonkeyPatch) -> Iterator[RefStore]:
    # Nobody here holds a lock for only a moment.
    monkeypatch.setattr(refs, "LOCK_WAIT", 20)
    made = RefStore(Repo.open(bare.path), this_holder("runner"))
    yield made
    made.close()


@pytest.fixture
def oids(bare: GitRepo) -> list[str]:
    return [bare.commit(f"number {number}", update=False) for number in range(4)]


def all_refs(repo: GitRepo) -> dict[str, str]:
    lines = repo.git("for-each-ref", "--format=%(objectname) %(refname)").split("\n")
    return {ref: oid for oid, ref in (line.split(" ", 1) for line in lines)}


def lock_files(repo: GitRepo) -> set[str]:
    return {str(path.relative_to(repo.git_dir)) for path in repo.git_dir.rglob("*.lock")}


# --- what is no race ---------------------------------------------------------------------------


@pytest.mark.parametrize("bad", range(3))
def test_of_several_edits_all_are_made_or_none(
    bare: GitRepo, store: RefStore, oids: list[str], bad: int
) -> None:
    names = [f"refs/heads/{name}" for name in "abc"]
    for name in names:
        bare.git("update-ref", name, oids[0])
    before = all_refs(bare)
    edits = [RefEdit(name, oids[0], oids[1]) for name in names]
    edits[bad] = RefEdit(names[bad], oids[2], oids[1])
    with pytest.raises(RefMoved) as caught:
        store.commit(edits)
    assert caught.value.ref == names[bad]
    assert all_refs(bare) == before


def test_a_thousand_edits_are_one_transaction(
    bare: GitRepo, store: RefStore, oids: list[str]
) -> None:
    names = [f"refs/heads/many/{number}" for number in range(1000)]
    store.commit([RefEdit(name, None, oids[0]) for name in names])
    assert len(all_refs(bare)) == 1001


@pytest.mark.parametrize("kind", ["tree", "blob", "null"])
def test_what_is_no_commit_is_refused(
    bare: GitRepo, store: RefStore, oids: list[str], kind: str
) -> None:
    oid = {
        "tree": bare.git("mktree", stdin=""),
        "blob": bare.git("hash-object", "-w", "--stdin", stdin="x"),
        "null": "0" * 40,
    }[kind]
    with pytest.raises(GitFailed):
        store.commit([RefEdit(ONE, None, oid)])
    store.commit([RefEdit(ONE, None, oids[0])])


@pytest.mark.parametrize(
    ("there", "wanted"), [("a", "a/b"), ("a/b", "a"), ("a/b/c", "a/b"), ("a", "a/b/c")]
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_branch_can_not_be_a_folder_as_well(
    bare: GitRepo, store: RefStore, oids: list[str], there: str, wanted: str, packed: bool
) -> None:
    bare.git("update-ref", f"refs/heads/{there}", oids[0])
    if packed:
        bare.git("pack-refs", "--all")
    with pytest.raises(GitFailed, match="refs/heads/a"):
        store.commit([RefEdit(f"refs/heads/{wanted}", None, oids[1])])
    store.commit([RefEdit(f"refs/heads/{there}", oids[0], oids[1])])
    assert bare.tip(there) == oids[1]


@pytest.mark.parametrize(
    "name", ["sp ace", "new\nline", "a..b", "a.lock", "/a", "a//b", "", "a\0b", "tab\t", "~", "a:b"]
)
def test_a_name_that_git_does_not_take_is_refused(
    bare: GitRepo, store: RefStore, oids: list[str], name: str
) -> None:
    before = all_refs(bare)
    with pytest.raises(GitFailed):
        store.commit([RefEdit(f"refs/heads/{name}", None, oids[0])])
    assert all_refs(bare) == before


def test_a_name_can_not_bring_along_a_command_of_its_own(
    bare: GitRepo, store: RefStore, oids: list[str]
) -> None:
    name = f"refs/heads/x\0{oids[0]}\0create refs/heads/injected"
    with pytest.raises(GitFailed):
        store.commit([RefEdit(name, None, oids[0])])
    assert not bare.tip("injected")


def test_a_lock_of_packed_refs_keeps_only_deletions_off(
    bare: GitRepo, store: RefStore, oids: list[str]
) -> None:
    store.commit([RefEdit(ONE, None, oids[0])])
    (bare.git_dir / "packed-refs.lock").touch()
    store.commit([RefEdit(ONE, oids[0], oids[1])])
    with pytest.raises(RefBusy):
        store.delete([RefEdit(ONE, oids[1], None)])


def test_a_ref_that_is_back_where_it_was_has_moved_all_the_same(
    store: RefStore, oids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store.commit([RefEdit(ONE, None, oids[0])])
    # By the time that we look, it is again what the loser had seen.
    monkeypatch.setattr(Repo, "read_ref", lambda self, ref: oids[1])
    with pytest.raises(RefMoved) as caught:
        store.commit([RefEdit(ONE, oids[1], oids[2])])
    assert caught.value.ref == ONE


# --- a git that is killed while its runner lives ------------------------------------------------


def git_of(store: RefStore) -> int:
    assert store._child is not None
    return store._child.pid


def test_a_git_that_was_killed_is_replaced(bare: GitRepo, store: RefStore, oids: list[str]) -> None:
    store.commit([RefEdit(ONE, None, oids[0])])
    for old, new in itertools.pairwise(oids):
        os.kill(git_of(store), signal.SIGKILL)
        store.commit([RefEdit(ONE, old, new)])
    assert bare.tip("one") == oids[-1]


def test_a_transaction_is_whole_although_its_git_is_killed(bare: GitRepo, store: RefStore) -> None:
    chance = random.Random(1)
    names = [ONE, TWO, *(f"refs/heads/r/{number}" for number in range(40))]
    current: str | None = None
    for number in range(25):
        new = bare.commit(f"round {number}", update=False)
        delay = chance.uniform(0, 0.004)
        command = f"sleep {delay:.4f}; kill -9 {pid_or_self(store)}"
        with subprocess.Popen(["sh", "-c", command]), contextlib.suppress(RefBusy):
            store.commit([RefEdit(name, current, new) for name in names])
        tips = {bare.tip(name.removeprefix("refs/heads/")) for name in names}
        assert len(tips) == 1
        current = tips.pop() or None
        assert lock_files(bare) == set()


def pid_or_self(store: RefStore) -> str:
    """The git of the store; before there is one, the process that asks."""
    return str(store._child.pid) if store._child is not None else "$$"


def test_a_new_git_takes_over_now_and_then(
    store: RefStore, oids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refs, "_MOST_TRANSACTIONS", 2)
    pids = set()
    for number in range(6):
        store.commit([RefEdit(f"refs/heads/n{number}", None, oids[0])])
        pids.add(git_of(store))
    assert len(pids) == 3


def test_an_interruption_does_not_leave_an_answer_for_the_next(
    store: RefStore, oids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store.commit([RefEdit(ONE, None, oids[0])])
    real = refs._write_all

    def interrupted(fd: int, data: bytes) -> None:
        real(fd, data)
        raise KeyboardInterrupt

    monkeypatch.setattr(refs, "_write_all", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.commit([RefEdit(ONE, oids[0], oids[1])])
    monkeypatch.setattr(refs, "_write_all", real)
    with pytest.raises(RefMoved):
        store.commit([RefEdit(ONE, oids[2], oids[3])])


# --- a runner that is killed together with its git ----------------------------------------------

WORKER = """
import sys
from aynig.git.refs import RefEdit, RefStore
from aynig.git.repo import Repo
from aynig.processes import this_holder
repo = Repo.open(sys.argv[1])
store = RefStore(repo, this_holder("worker"))
names = [f"refs/heads/w{number}" for number in range(40)]
known = {name: repo.read_ref(name) for name in names}
while True:
    old = known[names[0]]
    new = repo.write_commit(tree=repo.empty_tree(), parents=[old] if old else [], message="next")
    store.commit([RefEdit(name, known[name], new) for name in names])
    known = dict.fromkeys(names, new)
    print(store._child.pid, flush=True)
"""


@contextlib.contextmanager
def worker(repo: GitRepo) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, str(repo.path)], stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def told_by(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def kill_somewhere(child: subprocess.Popen[str], chance: random.Random) -> None:
    git = 0
    for _ in range(chance.randint(1, 4)):
        git = int(told_by(child))
    # Somewhere in the next transaction.
    for _ in range(chance.randint(0, 300_000)):
        pass
    # Stopped first, so that neither has the time to clean up after the other.
    os.kill(git, signal.SIGSTOP)
    child.kill()
    child.wait()
    os.kill(git, signal.SIGKILL)
    wait_for(lambda: not is_running(git), what="the end of its git")


def test_what_a_runner_and_its_git_leave_is_found_and_nothing_else(bare: GitRepo) -> None:
    chance = random.Random(3)
    repo = Repo.open(bare.path)
    left = 0
    for _ in range(12):
        with worker(bare) as child:
            kill_somewhere(child, chance)
        found = find_stale_locks(repo, is_alive, is_running)
        assert {str(lock.path.relative_to(bare.git_dir)) for lock in found} == lock_files(bare)
        left += len(found)
        clear_stale_locks(found)
        assert lock_files(bare) == set()
        assert len({bare.tip(f"w{number}") for number in range(40)}) == 1
        assert find_stale_locks(repo, is_alive, is_running) == []
    assert left > 0


def dead_holder() -> Holder:
    child = subprocess.Popen(["true"])
    holder = this_holder("dead")
    child.wait()
    return Holder(holder.runner, holder.host, child.pid, holder.boot, "1")


@contextlib.contextmanager
def living_lock(repo: GitRepo, command: str) -> Iterator[None]:
    """A git that has prepared a transaction and waits."""
    with subprocess.Popen(
        ["git", "update-ref", "--stdin"],
        cwd=repo.path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdin is not None
        child.stdin.write(f"start\n{command}\nprepare\n")
        child.stdin.flush()
        assert told_by(child) == "start: ok"
        assert told_by(child) == "prepare: ok"
        yield
        child.stdin.close()


@pytest.mark.parametrize("command", ["verify {ref} {old}", "update {ref} {new} {old}"])
@pytest.mark.parametrize("ours", [False, True], ids=["we checked", "we wrote"])
def test_a_lock_that_a_living_git_holds_is_never_stale(
    bare: GitRepo, oids: list[str], command: str, ours: bool
) -> None:
    repo = Repo.open(bare.path)
    bare.git("update-ref", ONE, oids[0])
    dead = dead_holder()
    # A transaction that was announced and never finished.
    journal = LockJournal(repo.home / "locks", dead)
    journal.announcing([(ONE, oids[1] if ours else "")], dead.pid).__enter__()
    with living_lock(bare, command.format(ref=ONE, old=oids[0], new=oids[2])):
        assert lock_files(bare) == {f"{ONE}.lock"}
        assert find_stale_locks(repo, is_alive, is_running) == []
        assert lock_files(bare) == {f"{ONE}.lock"}


def test_a_closed_store_goes_on_with_another_git(
    bare: GitRepo, store: RefStore, oids: list[str]
) -> None:
    store.commit([RefEdit(ONE, None, oids[0])])
    store.close()
    store.commit([RefEdit(ONE, oids[0], oids[1])])
    assert bare.tip("one") == oids[1]


def test_failures_leave_no_file_and_no_process(store: RefStore, oids: list[str]) -> None:
    def lose() -> None:
        with pytest.raises(RefMoved):
            store.commit([RefEdit(ONE, oids[0], oids[1])])

    lose()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(500):
        lose()
    assert abs(len(list(Path("/proc/self/fd").iterdir())) - before) <= 3
