"""At most one runner executes a branch while its lease is live (design section 2)."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aynig.errors import LeaseLost, RefMoved
from aynig.git.refs import RefStore
from aynig.git.repo import Repo
from aynig.lease import Leases, lease_name, read_lease
from aynig.model import HEADS, Deferral, Event, Holder, Lease
from tests.values import HOLDER, event, said
from tests.world import GitRepo

SECONDS = 60.0


@dataclass
class World:
    """What runners can't choose: the time, and which of them live."""

    now: float = 1000.0
    # None: nobody can tell, as for a process of another host.
    alive: bool | None = None
    stack: ExitStack = field(default_factory=ExitStack)

    def runner(self, repo: GitRepo, name: str) -> Leases:
        opened = Repo.open(repo.path)
        holder = replace(HOLDER, runner=name, pid=4711)
        store = RefStore(opened, holder)
        self.stack.callback(store.close)
        return Leases(
            opened,
            store,
            holder,
            seconds=SECONDS,
            is_alive=lambda _: self.alive,
            clock=lambda: self.now,
        )


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    with made.stack:
        yield made


@pytest.fixture
def asked(repo: GitRepo) -> Event:
    return ask(repo, "task")


def ask(repo: GitRepo, branch: str) -> Event:
    oid = repo.commit("Please go\n\naynig: go\n", branch=branch, parent=repo.tip())
    return Event(HEADS + branch, oid, "d" * 40, 0, said("go"))


def standing(leases: Leases, asked: Event) -> Lease:
    found = leases.read(asked.ref)
    assert isinstance(found, Lease)
    return found


# --- the record ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "branch",
    [
        "task", "a/b/c", "@", "ünïcode/名前", "with'quote\"s", "100%", "%41", "a\u2028b",
        "a\u0085b", "stray-\udcff-byte", "x=y,z;(w)", "refs/heads/x", "a" * 200,
    ],
)  # fmt: skip
def test_a_lease_is_read_back_as_it_was_taken(repo: GitRepo, world: World, branch: str) -> None:
    asked = ask(repo, branch)
    leases = world.runner(repo, "one")
    taken = leases.acquire(asked, None, "run-1", 3)
    found = standing(leases, asked)
    assert replace(found, time=taken.time) == taken
    assert (found.ref, found.trigger, found.attempt) == (asked.ref, asked.oid, 3)


@settings(derandomize=True, max_examples=200)
@given(st.text(min_size=1), st.text(min_size=1))
def test_each_branch_has_a_lease_of_its_own(one: str, other: str) -> None:
    assert (lease_name(HEADS + one) == lease_name(HEADS + other)) == (one == other)


def test_the_lease_of_a_branch_below_another_branchs_name_lies_beside_it() -> None:
    assert "/" not in lease_name("refs/heads/a/b").removeprefix("refs/aynig/lease/")


@pytest.mark.parametrize(
    "message",
    [
        pytest.param("An answer\n\naynig: done\n", id="an answer"),
        pytest.param("aynig lease of x\n\nkind: lease\n", id="a lease with nothing in it"),
        pytest.param("aynig lease of x\n\nkind: lease\npid: many\n", id="a lease of nonsense"),
        pytest.param("aynig deferral of x\n\nkind: deferral\n", id="an empty deferral"),
        pytest.param(
            f"aynig deferral of x\n\nkind: deferral\nbranch: x\ntrigger: {'e' * 40}\nrun: r\n"
            "attempt: 1\nnot-before: nan\nseconds: 5\nreason: x\n",
            id="a deferral to no time",
        ),
    ],
)
def test_what_is_no_lease_is_free(repo: GitRepo, message: str) -> None:
    oid = repo.commit(message, update=False)
    assert read_lease(Repo.open(repo.path), "refs/aynig/lease/x", oid) == oid


def test_a_lease_ref_that_points_at_nothing_readable_is_free(repo: GitRepo) -> None:
    assert read_lease(Repo.open(repo.path), "refs/aynig/lease/x", "e" * 40) == "e" * 40


def test_two_equal_claims_in_one_second_are_two_objects(repo: GitRepo, world: World) -> None:
    leases, asked = world.runner(repo, "one"), ask(repo, "task")
    first = leases.acquire(asked, None, "run", 1)
    leases.release(first, asked.oid)
    assert leases.acquire(asked, asked.oid, "run", 1).oid != first.oid


# --- live, void, expired ---------------------------------------------------------------------


def test_a_lease_is_live_until_it_was_seen_for_the_whole_lease_time(
    repo: GitRepo, world: World, asked: Event
) -> None:
    world.runner(repo, "one").acquire(asked, None, "run-1", 1)
    other = world.runner(repo, "two")
    seen = standing(other, asked)
    assert other.is_live(seen, asked.oid)
    world.now += SECONDS - 0.001
    assert other.is_live(seen, asked.oid)
    world.now += 0.001
    assert not other.is_live(seen, asked.oid)


def test_a_renewal_begins_the_lease_time_anew(repo: GitRepo, world: World, asked: Event) -> None:
    one, other = world.runner(repo, "one"), world.runner(repo, "two")
    taken = one.acquire(asked, None, "run-1", 1)
    for _ in range(3):
        assert other.is_live(standing(other, asked), asked.oid)
        world.now += SECONDS - 1
        assert other.is_live(standing(other, asked), asked.oid)
        taken = one.renew(taken)


def test_a_holder_elsewhere_is_in_doubt_until_its_lease_is_seen_to_change(
    repo: GitRepo, world: World, asked: Event
) -> None:
    one, two = world.runner(repo, "one"), world.runner(repo, "two")
    taken = one.acquire(asked, None, "run-1", 1)
    assert two.is_live(standing(two, asked), asked.oid)
    assert two.in_doubt(asked.ref)
    one.renew(taken)
    assert two.is_live(standing(two, asked), asked.oid)
    assert not two.in_doubt(asked.ref)


@pytest.mark.parametrize("alive", [True, False])
def test_there_is_no_doubt_about_a_process_of_this_host(
    repo: GitRepo, world: World, asked: Event, alive: bool
) -> None:
    world.alive = alive
    world.runner(repo, "one").acquire(asked, None, "run-1", 1)
    assert not world.runner(repo, "two").in_doubt(asked.ref)


def test_a_runner_that_comes_later_counts_from_when_it_came(
    repo: GitRepo, world: World, asked: Event
) -> None:
    world.runner(repo, "one").acquire(asked, None, "run-1", 1)
    world.now += 100 * SECONDS
    late = world.runner(repo, "late")
    assert late.is_live(standing(late, asked), asked.oid)


@pytest.mark.parametrize(
    ("alive", "live"),
    [(True, True), (None, True), (False, False)],
    ids=["a living process", "a process of another host", "a dead process of this host"],
)
def test_the_lease_of_a_dead_process_keeps_nobody_out(
    repo: GitRepo, world: World, asked: Event, alive: bool | None, live: bool
) -> None:
    world.runner(repo, "one").acquire(asked, None, "run-1", 1)
    world.alive = alive
    other = world.runner(repo, "two")
    assert other.is_live(standing(other, asked), asked.oid) is live


@pytest.mark.parametrize("moved", ["to another commit", "away"])
def test_a_lease_is_void_when_its_branch_has_moved(
    repo: GitRepo, world: World, asked: Event, moved: str
) -> None:
    world.runner(repo, "one").acquire(asked, None, "run-1", 1)
    other = world.runner(repo, "two")
    tip = repo.commit("more", branch="task") if moved == "to another commit" else None
    assert not other.is_live(standing(other, asked), tip)


def test_our_own_lease_is_live_for_as_long_as_the_run_is_under_way(
    repo: GitRepo, world: World, asked: Event
) -> None:
    one = world.runner(repo, "one")
    taken = one.acquire(asked, None, "run-1", 1)
    world.now += 100 * SECONDS
    assert one.is_live(standing(one, asked), asked.oid)
    one.forget(taken)
    assert not one.is_live(standing(one, asked), asked.oid)


# --- one winner ------------------------------------------------------------------------------


def test_a_lease_that_changed_since_it_was_seen_is_not_taken(
    repo: GitRepo, world: World, asked: Event
) -> None:
    world.runner(repo, "one").acquire(asked, None, "run-1", 1)
    late = world.runner(repo, "late")
    with pytest.raises(RefMoved):
        late.acquire(asked, None, "run-2", 1)
    assert standing(late, asked).run == "run-1"


def test_a_lease_is_not_taken_for_a_commit_that_is_no_longer_the_tip(
    repo: GitRepo, world: World, asked: Event
) -> None:
    repo.commit("more", branch="task")
    leases = world.runner(repo, "one")
    with pytest.raises(RefMoved):
        leases.acquire(asked, None, "run-1", 1)
    assert not isinstance(leases.read(asked.ref), Lease)


def test_of_many_threads_that_reach_for_a_lease_one_has_it(repo: GitRepo, world: World) -> None:
    rounds, runners = 10, 6
    questions = [ask(repo, f"task/{n}") for n in range(rounds)]
    gate = threading.Barrier(runners)
    won: list[str] = []

    def reach(leases: Leases, name: str) -> None:
        for question in questions:
            gate.wait()
            try:
                won.append(leases.acquire(question, None, name, 1).ref)
            except RefMoved:
                continue

    threads = [
        threading.Thread(target=reach, args=(world.runner(repo, f"runner-{n}"), f"run-{n}"))
        for n in range(runners)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == sorted(question.ref for question in questions)


_RUNNER = """
import sys
from tests.test_lease import World, Event, HEADS, RefMoved, Path, GitRepo, said
path, name = sys.argv[1:]
leases = World().runner(GitRepo(Path(path)), name)
print("ready", flush=True)
for line in sys.stdin:
    ref, oid = line.split()
    try:
        leases.acquire(Event(ref, oid, "d" * 40, 0, said("go")), None, name, 1)
        print(ref, flush=True)
    except RefMoved:
        pass
"""


def test_of_several_processes_that_reach_for_a_lease_one_has_it(
    repo: GitRepo, tmp_path: Path
) -> None:
    rounds, runners = 25, 4
    base = repo.tip()
    for n in range(rounds):
        repo.git("update-ref", f"refs/heads/task/{n}", base)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _RUNNER, str(repo.path), f"runner-{n}"],
            cwd=Path(__file__).resolve().parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(runners)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("".join(f"refs/heads/task/{n} {base}\n" for n in range(rounds)))
        process.stdin.close()
    won: list[str] = []
    for process in processes:
        assert process.stdout is not None
        won += process.stdout.read().split()
        process.stdout.close()
        assert process.wait() == 0
    assert sorted(won) == sorted(f"refs/heads/task/{n}" for n in range(rounds))


# --- renew, release, defer, take over --------------------------------------------------------


def _release(leases: Leases, held: Lease) -> None:
    leases.release(held, held.trigger)


def _defer(leases: Leases, held: Lease) -> None:
    leases.defer(held, 5.0, "later")


def _renew(leases: Leases, held: Lease) -> None:
    leases.renew(held)


@pytest.mark.parametrize("act", [_renew, _defer])
def test_who_has_lost_a_lease_can_neither_renew_nor_defer_it(
    repo: GitRepo, world: World, asked: Event, act: Callable[[Leases, Lease], None]
) -> None:
    one, other = world.runner(repo, "one"), world.runner(repo, "two")
    lost = one.acquire(asked, None, "run-1", 1)
    taken = other.acquire(asked, lost.oid, "run-2", 2)
    with pytest.raises(LeaseLost):
        act(one, lost)
    assert standing(other, asked).oid == taken.oid


def test_who_has_lost_a_lease_releases_nothing(repo: GitRepo, world: World, asked: Event) -> None:
    one, other = world.runner(repo, "one"), world.runner(repo, "two")
    lost = one.acquire(asked, None, "run-1", 1)
    taken = other.acquire(asked, lost.oid, "run-2", 2)
    _release(one, lost)
    assert standing(other, asked).oid == taken.oid


def test_only_one_of_two_takes_over_an_expired_lease(
    repo: GitRepo, world: World, asked: Event
) -> None:
    dead = world.runner(repo, "dead").acquire(asked, None, "run-1", 1)
    world.runner(repo, "two").acquire(asked, dead.oid, "run-2", 2)
    with pytest.raises(RefMoved):
        world.runner(repo, "three").acquire(asked, dead.oid, "run-3", 2)


def test_a_lease_that_can_not_be_given_back_now_is_given_back_when_it_can(
    repo: GitRepo, world: World, asked: Event
) -> None:
    one = world.runner(repo, "one")
    held = one.acquire(asked, None, "run-1", 1)
    packed = repo.git_dir / "packed-refs"
    packed.write_text("garbage\n")
    _release(one, held)
    assert not one.settle()
    assert repo.git_dir.joinpath(held.name).read_text().strip() == held.oid
    packed.unlink()
    assert one.settle()
    assert one.read(asked.ref) == held.trigger


def test_a_released_lease_is_free(repo: GitRepo, world: World, asked: Event) -> None:
    one, other = world.runner(repo, "one"), world.runner(repo, "two")
    _release(one, one.acquire(asked, None, "run-1", 1))
    seen = other.read(asked.ref)
    assert seen == asked.oid
    assert other.acquire(asked, asked.oid, "run-2", 1).run == "run-2"


@pytest.mark.parametrize(
    ("reason", "kept"),
    [
        pytest.param("the service is down", "the service is down", id="plain"),
        pytest.param(" two\nlines\t", "two lines", id="several lines"),
        pytest.param("a\x01b\x9bc", "a\\x01b\\x9bc", id="control characters"),
        pytest.param("aynig: approved", "aynig: approved", id="what looks like a state"),
        pytest.param("x" * 10_000, "x" * 499 + "…", id="very long"),
        pytest.param("", "", id="none"),
    ],
)
def test_a_deferral_is_read_back_with_its_reason_on_one_line(
    repo: GitRepo, world: World, asked: Event, reason: str, kept: str
) -> None:
    one, other = world.runner(repo, "one"), world.runner(repo, "two")
    made = one.defer(one.acquire(asked, None, "run-1", 4), 90.0, reason)
    found = other.read(asked.ref)
    assert isinstance(found, Deferral)
    assert (found.reason, found.attempt, found.seconds) == (kept, 4, 90.0)
    assert found.not_before == pytest.approx(made.not_before, abs=0.001)
    assert other.acquire(asked, found.oid, "run-2", 5).attempt == 5


def test_a_deferral_after_an_error_may_be_for_ever(
    repo: GitRepo, world: World, asked: Event
) -> None:
    one, other = world.runner(repo, "one"), world.runner(repo, "two")
    made = one.defer(one.acquire(asked, None, "run-1", 3), math.inf, "disk full", hold="error")
    found = other.read(asked.ref)
    assert isinstance(found, Deferral)
    assert found == made
    assert (found.hold, found.not_before, found.seconds) == ("error", math.inf, math.inf)


def test_a_lease_that_was_not_won_is_not_held(repo: GitRepo, world: World, asked: Event) -> None:
    one = world.runner(repo, "one")
    first = one.acquire(asked, None, "run-1", 1)
    with pytest.raises(RefMoved):
        one.acquire(asked, None, "run-2", 1)
    claim = replace(first, run="run-2")
    assert not one.is_live(claim, asked.oid)
    assert one.is_live(first, asked.oid)


def test_an_event_of_no_branch_gets_no_lease(repo: GitRepo, world: World) -> None:
    with pytest.raises(RefMoved):
        world.runner(repo, "one").acquire(event(branch="gone", oid=repo.tip()), None, "run", 1)


def test_a_holder_is_told_apart_by_its_runner_id_not_its_process_id(
    repo: GitRepo, world: World, asked: Event
) -> None:
    world.runner(repo, "before-the-restart").acquire(asked, None, "run-1", 1)
    after = world.runner(repo, "after-the-restart")
    world.alive = True
    assert after.is_live(standing(after, asked), asked.oid)
    assert isinstance(standing(after, asked).holder, Holder)
