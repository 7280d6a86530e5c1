"""Waking, with real git, inotify and FIFOs. A wake carries no facts: the refs are looked at."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aynig.doorbell import Doorbell
from aynig.git.snapshot import RefReader
from aynig.watch import EVERYTHING, Waker, Watcher
from tests.world import GitRepo, wait_for

PATIENCE = 60.0
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="inotify")


@pytest.fixture
def waker() -> Iterator[Waker]:
    waker = Waker()
    yield waker
    waker.close()


@pytest.fixture
def watcher(waker: Waker) -> Iterator[Watcher]:
    watcher = Watcher(waker)
    watcher.start()
    yield watcher
    watcher.stop()


def quiet(waker: Waker) -> None:
    """Take every wake that is still on its way."""
    while waker.wait(0.12):
        pass


def is_whole(watcher: Watcher) -> bool:
    """Whether all is watched and nothing is reported."""
    assert watcher.healthy <= (not watcher.problems)
    return watcher.healthy


def until(waker: Waker, fact: Callable[[], bool]) -> None:
    """Check `fact` after each wake and at no other time: without a wake this fails."""
    while not fact():
        assert waker.wait(PATIENCE), "nothing woke"


# -- Waker -----------------------------------------------------------------------------------


def test_waiting_in_vain_ends_empty(waker: Waker) -> None:
    assert waker.wait(0) == set()
    assert waker.wait(0.01) == set()


def test_a_wait_returns_all_that_woke_since_the_last(waker: Waker) -> None:
    for source in ("a", "b", "a", ""):
        waker.wake(source)
    assert waker.wait(PATIENCE) == {"a", "b", ""}
    assert waker.wait(0) == set()


def test_a_wait_without_timeout_ends_with_a_wake_from_another_thread(waker: Waker) -> None:
    thread = threading.Thread(target=waker.wake, args=("a",))
    thread.start()
    assert waker.wait(None) == {"a"}
    thread.join()


def test_a_delayed_wake_comes_by_itself_and_once(waker: Waker) -> None:
    waker.wake("late", after=0.02)
    waker.wake("late", after=0.04)
    waker.wake("now")
    assert waker.wait(PATIENCE) == {"now"}
    assert waker.wait(PATIENCE) == {"late"}
    assert waker.wait(0.1) == set()


def test_a_delayed_wake_reaches_a_wait_that_has_begun(waker: Waker) -> None:
    thread = threading.Timer(0.05, waker.wake, ("late",), {"after": 0.01})
    thread.start()
    assert waker.wait(None) == {"late"}
    thread.join()


def test_no_wake_is_lost_between_threads(waker: Waker) -> None:
    """Each source is woken again only after it was taken, so one lost wake would hang."""
    rounds = 500
    taken = {str(number): threading.Semaphore(0) for number in range(4)}

    def ring(source: str) -> None:
        for _ in range(rounds):
            waker.wake(source)
            taken[source].acquire()

    for source in taken:
        threading.Thread(target=ring, args=(source,), daemon=True).start()
    counts = dict.fromkeys(taken, 0)
    while min(counts.values()) < rounds:
        woken = waker.wait(PATIENCE)
        assert woken, f"lost after {counts}"
        for source in woken:
            counts[source] += 1
            taken[source].release()


def test_a_signal_handler_may_wake_the_thread_it_interrupts(waker: Waker) -> None:
    before = signal.signal(signal.SIGUSR1, lambda *_: waker.wake("signal"))
    try:
        timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        assert waker.wait(PATIENCE) == {"signal"}
        timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_million_wakes_that_nobody_takes_cost_one(waker: Waker) -> None:
    for _ in range(1_000_000):
        waker.wake("a")
    assert waker.wait(0) == {"a"}


def test_a_closed_waker_is_deaf_and_silent() -> None:
    waker = Waker()
    waker.close()
    waker.wake("a")


# -- Watcher ---------------------------------------------------------------------------------

ACTIONS: dict[str, Callable[[GitRepo], object]] = {
    "a commit": lambda repo: repo.commit("more"),
    "a new branch": lambda repo: repo.git("branch", "new"),
    "a new nested branch": lambda repo: repo.git("branch", "a/b/c/d/e"),
    "a branch in a folder": lambda repo: repo.git("update-ref", "refs/heads/d/y", "main~1"),
    "a deleted branch": lambda repo: repo.git("branch", "-D", "d/x"),
    "a renamed branch": lambda repo: repo.git("branch", "-m", "d/x", "d/z"),
    "a packed branch moved": lambda repo: repo.git("update-ref", "refs/heads/packed", "main~1"),
    "a packed branch deleted": lambda repo: repo.git("branch", "-D", "packed"),
}


def prepared(repo: GitRepo) -> GitRepo:
    repo.commit("second")
    repo.git("branch", "packed")
    repo.git("pack-refs", "--all")
    repo.git("branch", "d/x")
    return repo


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS)
def test_a_change_of_a_branch_wakes(
    repo: GitRepo, waker: Waker, watcher: Watcher, action: Callable[[GitRepo], object]
) -> None:
    prepared(repo)
    watcher.add("repo", repo.git_dir)
    quiet(waker)
    reader = RefReader(repo.git_dir)
    reader.look()
    action(repo)
    assert waker.wait(PATIENCE) == {"repo"}
    until(waker, lambda: bool(reader.look().changes))
    assert is_whole(watcher)


@pytest.mark.parametrize("command", [["pack-refs", "--all"], ["gc", "--quiet"]], ids=" ".join)
def test_packing_wakes_and_what_comes_after_it_too(
    repo: GitRepo, waker: Waker, watcher: Watcher, command: list[str]
) -> None:
    prepared(repo)
    watcher.add("repo", repo.git_dir)
    quiet(waker)
    reader = RefReader(repo.git_dir)
    reader.look()
    repo.git(*command)
    assert waker.wait(PATIENCE) == {"repo"}
    assert reader.look().changes == ()
    quiet(waker)
    # The folder of d/x was removed by the packing, and is made anew now.
    repo.git("update-ref", "refs/heads/d/x", "main~1")
    until(waker, lambda: bool(reader.look().changes))


def test_each_event_is_followed_by_a_second_wake(
    repo: GitRepo, waker: Waker, watcher: Watcher
) -> None:
    watcher.add("repo", repo.git_dir)
    quiet(waker)
    repo.git("update-ref", "refs/heads/x", "HEAD")
    assert waker.wait(PATIENCE) == {"repo"}
    assert waker.wait(PATIENCE) == {"repo"}


def test_reading_wakes_nobody(repo: GitRepo, waker: Waker, watcher: Watcher) -> None:
    prepared(repo)
    watcher.add("repo", repo.git_dir)
    quiet(waker)
    reader = RefReader(repo.git_dir)
    for number in range(1000):
        if number % 10 == 0:
            reader.forget()
        assert reader.look().refs
    repo.git("for-each-ref")
    repo.git("log", "--all")
    assert waker.wait(0.3) == set()


def test_what_is_no_branch_wakes_nobody(repo: GitRepo, waker: Waker, watcher: Watcher) -> None:
    watcher.add("repo", repo.git_dir)
    quiet(waker)
    repo.git("update-ref", "refs/aynig/lease/x", "HEAD")
    repo.git("tag", "v1")
    repo.git("config", "a.b", "c")
    (repo.path / "file").write_text("text\n")
    repo.git("add", "file")
    with Doorbell(repo.git_dir / "aynig/wake/1", lambda: None):
        pass
    assert waker.wait(0.3) == set()


@pytest.mark.filterwarnings("error")
def test_nested_branches_made_in_a_race_are_all_found(
    repo: GitRepo, waker: Waker, watcher: Watcher
) -> None:
    """A new folder can't be watched before it exists, and its first ref comes right behind."""
    watcher.add("repo", repo.git_dir)
    quiet(waker)
    oid = repo.tip()
    names = [f"refs/heads/n{i % 40}/m{i % 7}/{i}/tip" for i in range(400)]
    text = "".join(f"create {name} {oid}\n" for name in names)
    newer = repo.commit("newer", update=False)
    reader = RefReader(repo.git_dir)
    reader.look()
    repo.git("update-ref", "--stdin", stdin=text)
    until(waker, lambda: reader.look().refs.keys() >= set(names))
    # Each of the new folders is watched by now.
    for done, name in enumerate(names[::100], 1):
        quiet(waker)
        repo.git("update-ref", name, newer)
        until(waker, lambda done=done: list(reader.look().refs.values()).count(newer) == done)  # type: ignore[misc]


def test_adding_wakes_because_something_may_have_happened_before(
    repo: GitRepo, waker: Waker, watcher: Watcher
) -> None:
    watcher.add("repo", repo.git_dir)
    assert waker.wait(PATIENCE) == {"repo"}


def test_what_is_added_before_the_start_is_watched_from_the_start(
    repo: GitRepo, waker: Waker
) -> None:
    watcher = Watcher(waker)
    watcher.add("repo", repo.git_dir)
    assert not is_whole(watcher)
    for _ in range(2):
        watcher.start()
        assert is_whole(watcher)
        quiet(waker)
        repo.commit("more")
        assert waker.wait(PATIENCE) == {"repo"}
        watcher.stop()
        assert not is_whole(watcher)


def test_a_removed_repository_wakes_no_more(
    repo: GitRepo, bare: GitRepo, waker: Waker, watcher: Watcher
) -> None:
    watcher.add("one", repo.git_dir)
    watcher.add("two", bare.git_dir)
    watcher.remove("one")
    watcher.remove("never added")
    quiet(waker)
    repo.commit("more")
    assert waker.wait(0.3) == set()
    bare.commit("more")
    assert waker.wait(PATIENCE) == {"two"}


def test_one_observer_is_enough_for_many_repositories(
    tmp_path: Path, waker: Waker, watcher: Watcher
) -> None:
    """More than the 128 inotify instances that one user may have by default."""
    first = GitRepo.init(tmp_path / "0.git", bare=True)
    repos = {"0": first}
    for number in range(1, 140):
        path = tmp_path / f"{number}.git"
        shutil.copytree(first.path, path)
        repos[str(number)] = GitRepo(path, bare=True)
    for key, one in repos.items():
        watcher.add(key, one.git_dir)
    assert is_whole(watcher)
    quiet(waker)
    for key in ("0", "70", "139"):
        repos[key].git("branch", "a/b")
        assert waker.wait(PATIENCE) == {key}
        quiet(waker)


def test_a_repository_that_is_not_there_is_a_problem_and_no_error(
    repo: GitRepo, waker: Waker, watcher: Watcher
) -> None:
    away = repo.git_dir.rename(repo.path / "away")
    watcher.add("repo", repo.git_dir)
    assert "No such file" in watcher.problems["repo"]
    assert not is_whole(watcher)
    away.rename(repo.git_dir)
    watcher.mend()
    assert is_whole(watcher)
    quiet(waker)
    repo.commit("more")
    assert waker.wait(PATIENCE) == {"repo"}


def test_a_repository_made_anew_in_its_place_is_watched_again(
    repo: GitRepo, waker: Waker, watcher: Watcher
) -> None:
    watcher.add("repo", repo.git_dir)
    quiet(waker)
    watcher.mend()
    assert waker.wait(0) == set()
    shutil.rmtree(repo.git_dir)
    assert waker.wait(PATIENCE) == {"repo"}
    fresh = GitRepo.init(repo.path / "fresh")
    fresh.git_dir.rename(repo.git_dir)
    watcher.mend()
    assert is_whole(watcher)
    quiet(waker)
    repo.commit("more")
    assert waker.wait(PATIENCE) == {"repo"}


@contextlib.contextmanager
def descriptors(spare: int) -> Iterator[None]:
    """Only so many descriptors more than are open now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + spare, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@linux_only
def test_without_inotify_polling_goes_on_and_the_reason_is_told(
    repo: GitRepo, waker: Waker
) -> None:
    watcher = Watcher(waker)
    watcher.add("repo", repo.git_dir)
    with descriptors(0):
        watcher.start()
    assert "can't watch" in watcher.problems[EVERYTHING]
    assert not is_whole(watcher)
    assert waker.wait(PATIENCE) == {"repo"}
    watcher.mend()
    assert is_whole(watcher)
    watcher.stop()


LIMITED = """
import sys
from pathlib import Path
from aynig.watch import Waker, Watcher

git_dir = Path(sys.argv[1])
waker = Waker()
watcher = Watcher(waker)
watcher.start()
watcher.add("repo", git_dir)
if sys.argv[2:]:
    assert watcher.healthy
    git_dir.joinpath("refs/heads", sys.argv[2]).mkdir()
    while watcher.healthy:
        assert waker.wait(60)
print(watcher.healthy, *watcher.problems.values())
watcher.stop()
"""


@linux_only
@pytest.mark.parametrize(
    ("kind", "allowed", "reason"),
    [
        ("instances", 0, "inotify instance limit"),
        ("watches", 0, "inotify watch limit"),
        ("watches", 1, "inotify watch limit"),
        ("watches", 3, "inotify watch limit"),
        ("watches", 5, ""),
    ],
    ids=["no instance", "no watch", "one watch", "not for all folders", "just enough"],
)
def test_running_into_a_limit_is_told(repo: GitRepo, kind: str, allowed: int, reason: str) -> None:
    for name in ("a/x", "b/x", "c/x"):
        repo.git("branch", name)
    healthy, _, problems = limited(kind, allowed, str(repo.git_dir)).partition(" ")
    assert (healthy == "True", reason in problems) == (not reason, True)
    assert ("can't watch" in problems) == bool(reason)


@linux_only
def test_a_later_folder_that_can_not_be_watched_is_told(repo: GitRepo) -> None:
    out = limited("watches", 2, str(repo.git_dir), "late")
    assert out == f"False can't watch {repo.git_dir}/refs/heads/late: inotify watch limit reached"


def limited(kind: str, allowed: int, *args: str) -> str:
    """What LIMITED prints with a limit of its own, in a user namespace, not the machine's."""
    shell = f'echo {allowed} > /proc/sys/user/max_inotify_{kind} && exec "$@"'
    namespace = ["unshare", "--user", "--map-root-user", "sh", "-c", shell, "sh"]
    if not shutil.which("unshare") or subprocess.run([*namespace, "true"], check=False).returncode:
        pytest.skip("no user namespace to be had")
    command = [*namespace, sys.executable, "-c", LIMITED, *args]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


OVERFLOWN = """
import sys
from pathlib import Path
from aynig.doorbell import Doorbell
from aynig.git.snapshot import RefReader
from aynig.watch import Waker, Watcher

waker = Waker()
watcher = Watcher(waker)
watcher.start()
readers = {}
for key in sys.argv[1:]:
    watcher.add(key, Path(key))
    readers[key] = RefReader(Path(key))
while True:
    woken = waker.wait(None)
    for key in woken:
        look = readers[key].look()
        print(key, len(look.refs), look.refs.get("refs/heads/deep/new/tip"), flush=True)
"""


@linux_only
def test_an_overflow_of_the_queue_wakes_every_repository(repo: GitRepo, bare: GitRepo) -> None:
    """The reading process is stopped until the kernel drops events, then goes on."""
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 200_000:
        pytest.skip("the queue is too long to be filled in a test")
    keys = [str(repo.git_dir), str(bare.git_dir)]
    child = subprocess.Popen(
        [sys.executable, "-c", OVERFLOWN, *keys], stdout=subprocess.PIPE, text=True
    )
    lines: deque[str] = deque()
    assert child.stdout is not None
    # Line by line: what is read is asked for while more is to come.
    reading = threading.Thread(target=deque.extend, args=(lines, child.stdout))
    reading.start()
    try:
        wait_for(
            lambda: len({line.split()[0] for line in tuple(lines)}) == 2, what="the first looks"
        )
        child.send_signal(signal.SIGSTOP)
        # What it read before it stands still would be missing in the queue.
        os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
        tip = fill_queue(repo, limit)
        lines.clear()
        child.send_signal(signal.SIGCONT)
        # All that was written is seen, and the other repository is looked at though nothing
        # happened there: no event of its own can have caused that.
        wait_for(lambda: f"{keys[0]} 52 {tip}\n" in tuple(lines), what="a look that has it all")
        wait_for(
            lambda: any(line.startswith(keys[1]) for line in tuple(lines)), what="the other one"
        )
        # A folder that was made while events were dropped is watched.
        newer = repo.commit("newer", branch="deep/new/tip")
        wait_for(
            lambda: f"{keys[0]} 52 {newer}\n" in tuple(lines), what="a change in the new folder"
        )
    finally:
        child.kill()
        child.wait()
        reading.join()


def fill_queue(repo: GitRepo, limit: int) -> str:
    """More events than the queue holds, then 51 branches; the tip of one of them."""
    heads = repo.git_dir / "refs/heads"
    for number in range(limit // 2 + 10):
        path = heads / f"x{number % 100}.lock"
        path.touch()
        path.unlink()
    tip = repo.tip()
    names = [f"refs/heads/many/{number}" for number in range(50)] + ["refs/heads/deep/new/tip"]
    repo.git("update-ref", "--stdin", stdin="".join(f"create {name} {tip}\n" for name in names))
    return tip


@linux_only
def test_the_death_of_a_thread_wakes_and_is_mended(
    repo: GitRepo, waker: Waker, watcher: Watcher
) -> None:
    watcher.add("repo", repo.git_dir)
    quiet(waker)
    inotify = next(thread for thread in threading.enumerate() if "_Inotify" in repr(thread))
    inotify.stop()  # type: ignore[attr-defined]
    assert waker.wait(PATIENCE) == {"repo"}
    inotify.join()
    assert not is_whole(watcher)
    watcher.mend()
    assert is_whole(watcher)
    quiet(waker)
    repo.commit("more")
    assert waker.wait(PATIENCE) == {"repo"}
