"""An idle runner announces itself on the remote, rarely, and nothing waits for that."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from aynig.git.mirror import Mirror
from aynig.git.repo import Repo
from aynig.model import RUNNERS, Holder
from aynig.presence import (
    RENEWALS,
    SECONDS,
    Announcement,
    Card,
    Presence,
    presences,
    read_presence,
    write_presence,
)
from aynig.processes import is_alive, this_holder
from tests.fleet import Fleet
from tests.stage import NEVER
from tests.values import HOLDER
from tests.world import EPOCH, GitRepo, aynig, wait_for

BOB = Card(HOLDER, "bob", ("reviewer", "tester"), 4)
REFUSE = '#!/bin/sh\ncase $1 in refs/aynig/runner/*) echo "no runners here" >&2; exit 1;; esac\n'


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet.make(tmp_path, {"go": "exit 0"})


@dataclass
class Runner:
    """The announcement of one runner; its clock is the test's, its pushes are counted."""

    mirror: Mirror
    card: Card
    now: float = 1000.0
    pushes: int = 0
    announcement: Announcement = field(init=False)

    def __post_init__(self) -> None:
        self.mirror.remote.observe = self._see
        self.announcement = Announcement(
            self.mirror, self.card, is_alive=self._is_alive, clock=lambda: self.now
        )

    def _see(self, args: object) -> None:
        self.pushes += "push" in str(args)

    def _is_alive(self, holder: Holder) -> bool | None:
        return is_alive(holder)

    def idle(self) -> None:
        self.announcement.mind(busy=False, idle=True)

    def busy(self) -> None:
        self.announcement.mind(busy=True, idle=False)

    def run(self) -> str:
        """Do what is due, when it is due."""
        assert self.announcement.due < math.inf
        self.now = max(self.now, self.announcement.due)
        self.announcement.begin()
        return self.announcement.run()

    def seen(self) -> list[Presence]:
        return presences(self.mirror)


@contextmanager
def runner(fleet: Fleet, name: str = "bob", host: str = "") -> Iterator[Runner]:
    site = fleet.open(name)
    assert site.mirror is not None
    holder = this_holder(f"{name}-1")
    holder = replace(holder, host=host or holder.host)
    try:
        yield Runner(site.mirror, Card(holder, name, (), 2))
    finally:
        site.close()


def announced(fleet: Fleet) -> list[str]:
    return fleet.server.git("for-each-ref", "--format=%(subject)", RUNNERS).split("\n")


# --- the record ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "card",
    [BOB, Card(HOLDER, "", (), 1), Card(HOLDER, "50% of\tb\u2028b", ("r",), 2)],
    ids=["all of it", "nobody in particular", "an odd name"],
)
def test_a_record_says_who_is_there(repo: GitRepo, card: Card) -> None:
    opened = Repo.open(repo.path)
    oid = write_presence(opened, card, EPOCH + 0.25, 60.0)
    found = read_presence(opened, "refs/aynig/runner/x", oid)
    assert found is not None
    assert (found.card, found.since, found.seconds) == (card, EPOCH + 0.25, 60.0)
    assert repo.git("show", "--format=", oid) == ""


def test_what_is_no_such_record_is_nobody(repo: GitRepo) -> None:
    opened = Repo.open(repo.path)
    for message in ("x", "aynig runner x\n\nkind: runner\n", "aynig runner x\n\nseconds: nan\n"):
        assert read_presence(opened, "x", repo.commit(message, update=False)) is None
    assert read_presence(opened, "x", "0" * 40) is None


# --- when it is written --------------------------------------------------------------------------


def test_an_idle_runner_says_so_a_moment_later(fleet: Fleet) -> None:
    with runner(fleet) as bob:
        assert bob.announcement.due == math.inf
        bob.idle()
        assert bob.now < bob.announcement.due < bob.now + 10
        assert bob.run() == ""
        assert [each.card for each in bob.seen()] == [bob.card]
        assert bob.seen()[0].seconds == SECONDS


def test_it_is_renewed_rarely_and_well_before_its_time(fleet: Fleet) -> None:
    with runner(fleet) as bob:
        bob.idle()
        bob.run()
        first = bob.seen()
        wait = bob.announcement.due - bob.now
        assert 0.7 * SECONDS * RENEWALS < wait < 1.3 * SECONDS * RENEWALS
        bob.run()
        assert bob.pushes == 2
        assert bob.seen()[0].since == first[0].since
        assert bob.seen()[0].oid != first[0].oid


def test_a_runner_that_works_pushes_nothing_of_the_kind(fleet: Fleet) -> None:
    with runner(fleet) as bob:
        bob.idle()
        bob.run()
        bob.busy()
        assert bob.announcement.due == math.inf


def test_a_look_at_what_waits_is_no_end_of_being_idle(fleet: Fleet) -> None:
    with runner(fleet) as bob:
        bob.idle()
        before = bob.announcement.due
        bob.announcement.mind(busy=False, idle=False)
        bob.idle()
        assert bob.announcement.due == before


def test_however_often_it_falls_idle_it_says_so_once_a_minute_at_the_most(fleet: Fleet) -> None:
    with runner(fleet) as bob:
        bob.idle()
        bob.run()
        since = bob.seen()[0].since
        bob.busy()
        bob.idle()
        assert round(bob.announcement.due - bob.now, 3) >= 60
        bob.run()
        assert bob.seen()[0].since > since


def test_a_record_that_was_swept_meanwhile_is_written_again(fleet: Fleet) -> None:
    with runner(fleet) as bob:
        bob.idle()
        bob.run()
        fleet.server.git("update-ref", "-d", bob.seen()[0].name)
        assert bob.run() == ""
        assert len(bob.seen()) == 1


def test_who_stops_takes_its_record_back(fleet: Fleet) -> None:
    with runner(fleet) as bob:
        bob.announcement.withdraw()
        assert bob.pushes == 0
        bob.idle()
        bob.run()
        bob.announcement.withdraw()
        assert bob.seen() == []


# --- the dead ------------------------------------------------------------------------------------


def test_a_record_is_swept_when_it_was_seen_unchanged_for_its_whole_time(fleet: Fleet) -> None:
    with runner(fleet, "bob", "elsewhere") as bob, runner(fleet, "carol") as carol:
        bob.idle()
        bob.run()
        carol.announcement.sweep()
        carol.now += SECONDS - 1
        carol.announcement.sweep()
        assert len(carol.seen()) == 1
        carol.now += 1
        carol.announcement.sweep()
        assert carol.seen() == []


def test_a_record_that_was_renewed_stays(fleet: Fleet) -> None:
    with runner(fleet, "bob", "elsewhere") as bob, runner(fleet, "carol") as carol:
        bob.idle()
        bob.run()
        carol.announcement.sweep()
        bob.run()
        carol.now += SECONDS
        carol.announcement.sweep()
        assert len(carol.seen()) == 1


def test_the_record_of_a_dead_process_of_this_host_is_swept_at_once(fleet: Fleet) -> None:
    with runner(fleet, "bob") as bob, runner(fleet, "carol") as carol:
        bob.card = replace(bob.card, holder=replace(bob.card.holder, started="1"))
        bob.__post_init__()
        bob.idle()
        bob.run()
        carol.idle()
        carol.run()
        assert [each.card.agent for each in carol.seen()] == ["carol"]


# --- a remote that will not ----------------------------------------------------------------------


def forbid(fleet: Fleet) -> None:
    hook = fleet.server.path / "hooks" / "update"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(REFUSE)
    hook.chmod(0o755)


def test_that_it_is_refused_is_told_once_and_not_tried_again_soon(fleet: Fleet) -> None:
    forbid(fleet)
    with runner(fleet) as bob:
        bob.idle()
        assert "no runners here" in bob.run()
        assert bob.announcement.due - bob.now > SECONDS / 2
        assert bob.run() == ""


def test_a_remote_that_is_away_is_no_matter_here(fleet: Fleet) -> None:
    with runner(fleet) as bob:
        bob.idle()
        fleet.server.path.rename(fleet.folder / "away")
        bob.run()
        assert bob.announcement.due > bob.now + 10
        bob.announcement.withdraw()
        (fleet.folder / "away").rename(fleet.server.path)
        bob.run()
        assert len(bob.seen()) == 1


def test_work_goes_on_where_nothing_can_be_announced(fleet: Fleet) -> None:
    forbid(fleet)
    with fleet.live("bob", poll=1.0) as told:
        wait_for(lambda: told.of("problem"), what="the problem to be told")
        fleet.tasks.task()
        fleet.tasks.wait_for_state("done")
    assert len(told.of("problem")) == 1


# --- a daemon ------------------------------------------------------------------------------------


def test_a_daemon_announces_itself_and_takes_that_back(fleet: Fleet) -> None:
    with fleet.live("bob", agent="bob", poll=NEVER) as told:
        wait_for(lambda: announced(fleet) != [""], what="the runner to announce itself")
        fleet.tasks.task()
        fleet.tasks.wait_for_state("done")
    assert announced(fleet) == [""]
    assert not told.of("problem")
    fleet.fsck()


def test_who_takes_part_once_announces_nothing(fleet: Fleet) -> None:
    fleet.tasks.task(branch="task")
    assert aynig("run", "--remote", "origin", cwd=fleet.clone("bob").path).returncode == 0
    assert announced(fleet) == [""]
