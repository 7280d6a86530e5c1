"""What runs share is never had by two at a time, by however many runners, also after a kill."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from aynig.lease import Leases, lease_name, read_lease
from aynig.model import HEADS, SLOTS, Hold, Lease
from aynig.places import find_seats
from aynig.policies.resources import place_of, slot_of
from aynig.processes import is_alive, this_holder
from aynig.recover import keep_house
from aynig.scan import read_event
from aynig.site import open_site
from tests.fleet import Fleet
from tests.killing import each_step, run_killed_at
from tests.stage import Stage, at_work
from tests.world import GitRepo, wait_for

PROD = place_of("resource", "prod", 1)
ONE_PLACE = "states:\n  go: {resource: prod}\n"
TWO_PLACES = "limits: {concurrent: 2}\n"


@dataclass
class Book:
    """In which each script writes when it begins and when it ends, after looking who is there."""

    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir()

    def script(self, work: str = "sleep 0.05") -> str:
        mine = f'"{self.folder}/in-$AYNIG_RUN_ID"'
        return (
            f"touch {mine}\nls {self.folder} | grep -c '^in-' >>{self.folder}/seen\n"
            f'echo "$AYNIG_BRANCH" >>{self.folder}/order\n{work}\nrm {mine}'
        )

    @property
    def most(self) -> int:
        """The most scripts that any of them has seen at work."""
        return max(map(int, (self.folder / "seen").read_text().split()))

    @property
    def order(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / "order").read_text().split()
        return []


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(tmp_path / "book")


def slots(repo: GitRepo) -> dict[str, str]:
    lines = repo.git("for-each-ref", "--format=%(refname) %(objectname)", SLOTS).splitlines()
    return dict(line.split(" ") for line in lines)


@pytest.mark.parametrize(("config", "most"), [(ONE_PLACE, 1), (TWO_PLACES, 2)])
def test_no_more_run_at_a_time_than_there_are_places(
    stage: Stage, book: Book, config: str, most: int
) -> None:
    for number in range(6):
        stage.task(book.script(), branch=f"task-{number}", config=config)
    stage.run(jobs=6)
    assert [stage.repo.state(f"task-{number}") for number in range(6)] == ["done"] * 6
    assert book.most <= most
    assert len(slots(stage.repo)) <= most
    stage.assert_unharmed()


def test_several_daemons_beside_each_other_share_the_places(stage: Stage, book: Book) -> None:
    for number in range(6):
        stage.task(book.script(), branch=f"task-{number}", config=ONE_PLACE)
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(stage.live(jobs=2, poll=0.5))
        for number in range(6):
            stage.wait_for_state("done", f"task-{number}")
    assert book.most == 1


def test_runners_of_a_remote_share_the_places(tmp_path: Path, book: Book) -> None:
    fleet = Fleet.make(tmp_path, {"go": book.script()}, workflow=ONE_PLACE)
    for number in range(4):
        fleet.tasks.task(branch=f"task-{number}")
    with fleet.live("bob", jobs=2, poll=0.3), fleet.live("carol", jobs=2, poll=0.3):
        for number in range(4):
            fleet.tasks.wait_for_state("done", f"task-{number}")
    assert book.most == 1
    fleet.fsck()


def test_a_task_itself_may_name_what_it_needs(stage: Stage, book: Book) -> None:
    for number in range(3):
        stage.task(book.script(), branch=f"task-{number}", fields={"resource": "prod"})
    stage.run(jobs=3)
    assert book.most == 1


def test_who_waits_says_for_what_and_keeps_nobody_else_waiting(
    stage: Stage, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    wait = f"until [ -e {gate} ]; do sleep 0.05; done"
    stage.task(wait, branch="first", config=ONE_PLACE)
    with stage.live(jobs=3) as told:
        wait_for(lambda: told.of("run", "first"))
        stage.task("true", branch="second", config=ONE_PLACE)
        stage.task("true", branch="other", state="free")
        stage.wait_for_state("done", "other")
        wait_for(lambda: told.holds("second") == ["waiting"])
        row = stage.status("second")
        assert (row.hold, row.detail) == ("waiting", "for the resource prod, which first has")
        gate.touch()
        # Not by polling: it is called as soon as the place is free.
        stage.wait_for_state("done", "second")


def test_who_has_waited_longest_goes_first_unless_its_priority_says_otherwise(
    stage: Stage, book: Book
) -> None:
    config = "states:\n  go: {resource: prod}\n  rush: {resource: prod, priority: 90}\n"
    gate = book.folder / "gate"
    stage.task(
        book.script(f"until [ -e {gate} ]; do sleep 0.05; done"), branch="first", config=config
    )
    with stage.live(jobs=2) as told:
        wait_for(lambda: book.order == ["first"])
        for name, state in (("z", "go"), ("a", "go"), ("hot", "rush")):
            stage.task(book.script(), branch=name, state=state, config=config)
        wait_for(lambda: all(told.holds(name) for name in ("z", "a", "hot")))
        gate.touch()
        for name in ("z", "a", "hot"):
            stage.wait_for_state("done", name)
    assert book.order == ["first", "hot", "z", "a"]


def test_a_branch_that_moves_on_keeps_its_place_until_its_script_has_ended(
    stage: Stage, book: Book
) -> None:
    stubborn = "trap 'sleep 1; rm -f %s/in-*; exit 1' TERM\n" % book.folder  # noqa: UP031
    stage.task(
        stubborn + book.script("while :; do sleep 0.05; done"), branch="first", config=ONE_PLACE
    )
    with stage.live(jobs=3):
        wait_for(lambda: book.order == ["first"])
        stage.task(book.script(), branch="second", config=ONE_PLACE)
        stage.repo.commit("Now without it\n\naynig: done\n", branch="first")
        stage.wait_for_state("done", "second")
    assert book.most == 1


def test_a_place_is_taken_over_from_the_dead(stage: Stage) -> None:
    stage.task("true", branch="dead", config=ONE_PLACE)
    stage.task("true", config=ONE_PLACE)
    site = open_site(stage.repo.path)
    event = read_event(site.repo, f"{HEADS}dead", stage.repo.tip("dead"), site.read)
    assert event is not None
    gone = replace(this_holder("gone"), pid=2**22 + 1)
    theirs = Leases(site.repo, site.store, gone, seconds=60, is_alive=is_alive)
    lease = theirs.acquire(event, None, "run-1", 1, seats=(theirs.seat(slot_of(PROD, 0)),))
    seat = site.leases.seat(slot_of(PROD, 0))
    assert (seat.branch, seat.left) == ("", lease)
    # On its own: no start of a daemon has buried the dead.
    found = find_seats(site, "task", [PROD])
    assert not isinstance(found, Hold)
    mine = read_event(site.repo, f"{HEADS}task", stage.repo.tip("task"), site.read)
    assert mine is not None
    site.leases.acquire(mine, None, "run-2", 1, seats=found)
    left = site.repo.read_ref(lease_name(f"{HEADS}dead"))
    assert left is not None
    # The other has lost its lease: its next renewal tells it so.
    assert not isinstance(read_lease(site.repo, "", left), Lease)
    site.close()


def test_a_place_that_nobody_has_taken_for_long_is_swept(stage: Stage) -> None:
    stage.task("true", config=ONE_PLACE)
    stage.run()
    assert len(slots(stage.repo)) == 1
    site = open_site(stage.repo.path)
    keep_house(site)
    assert len(slots(stage.repo)) == 1
    site = replace(site, settings=replace(site.settings, retention=-3600.0))
    keep_house(site)
    site.close()
    assert slots(stage.repo) == {}


@pytest.mark.parametrize("sharing", [ONE_PLACE, TWO_PLACES])
def test_whatever_step_a_run_is_killed_at_no_place_is_lost_or_had_twice(
    tmp_path: Path, sharing: str
) -> None:
    for number, (step, when) in enumerate(each_step()):
        repo = GitRepo.init(tmp_path / f"repo-{number}")
        stage, book = Stage(repo), Book(tmp_path / f"book-{number}")
        for name in ("a", "b", "c"):
            stage.task(book.script("sleep 0.02"), branch=name, config=sharing)
        killed = run_killed_at(repo.path, step, when, "--jobs", "3")
        for left in book.folder.glob("in-*"):
            # A script of the dead may be at its end still.
            wait_for(functools.partial(_is_gone, left), what=f"{left}")
        stage.run(jobs=3)
        assert [repo.state(name) for name in ("a", "b", "c")] == ["done"] * 3, (step, when)
        assert book.most <= (1 if sharing == ONE_PLACE else 2), (step, when)
        if not killed:
            break


def test_a_daemon_in_a_repository_with_slots_of_nonsense_works(stage: Stage) -> None:
    stage.task("true", config=ONE_PLACE)
    stage.repo.git("update-ref", slot_of(PROD, 0), stage.repo.tip("main"))
    with at_work(open_site(stage.repo.path)):
        stage.wait_for_state("done")


def _is_gone(path: Path) -> bool:
    return not path.exists()
