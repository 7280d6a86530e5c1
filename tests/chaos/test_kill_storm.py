"""Runners of one remote are killed again and again, and each step is answered exactly once."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from tests.chaos.storm import (
    STATES,
    Post,
    Register,
    Start,
    Storm,
    end_all,
    fsck,
    make_posts,
    make_writable,
    processes_in,
    serving_bound,
)
from tests.chaos.world import History, leftovers, plant, tasks, wait_until_all
from tests.proxy import Proxy
from tests.world import GitRepo, wait_for

_RUNNERS = 6
_BRANCHES = 50
# Looked at before a test is sealed off from the variables outside.
_SEED = os.environ.get("AYNIG_STORM_SEED", "")


def _seed() -> int:
    seed = int(_SEED) if _SEED else random.SystemRandom().randrange(1_000_000)
    print(f"\nagain with AYNIG_STORM_SEED={seed}")
    return seed


@pytest.mark.parametrize(
    ("kind", "kills", "seconds"),
    [
        pytest.param("daemon", 120, 60, id="120 kills"),
        pytest.param("daemon", 1000, 500, id="1000 kills", marks=pytest.mark.chaos),
        pytest.param("http", 1000, 800, id="1000 kills, http", marks=pytest.mark.chaos),
    ],
)
def test_each_step_is_answered_once_whatever_is_killed_stopped_or_cut_off(
    tmp_path: Path, kind: str, kills: int, seconds: float
) -> None:
    root, places = tmp_path / "root", tmp_path / "places"
    places.mkdir()
    server = GitRepo.init(root / "server.git", bare=True, empty=True)
    register = Register(tmp_path / "starts")
    plant(server, {}, register.scripts())
    sown = tasks(_BRANCHES, STATES[0])
    posts: list[Post] = []
    begun = time.monotonic()
    with serving_bound(kind, root) as listening, Proxy(listening.port) as proxy:
        try:
            url = listening.url("server.git", port=proxy.port)
            posts = make_posts(server, url, places, _RUNNERS)
            storm = Storm(
                server,
                listening,
                proxy,
                posts,
                list(sown.items()),
                random.Random(_seed()),
            )
            storm.rage(kills, seconds)
            calm = time.monotonic()
            wait_until_all(server, {"done"}, patience=600)
            for post in posts:
                assert post.runner.stop() == 0, post.runner.text()
            over = time.monotonic()
            _await_end_of_processes(places)
            listening.stop()
            _await_end_of_processes(root)
        finally:
            make_writable(server)
            end_all(posts, [places])
    _tell(storm, register, calm - begun, over - calm)
    _assert_answered_once(server, list(sown), register.starts())
    _assert_nothing_left(server, posts)


def _await_end_of_processes(folder: Path) -> None:
    wait_for(lambda: not processes_in([folder]), what=f"the end of {processes_in([folder])}")


def _tell(storm: Storm, register: Register, storming: float, calm: float) -> None:
    starts = register.starts()
    again = len(starts) - len({start.commit for start in starts})
    print(", ".join(f"{count} {what}" for what, count in sorted(storm.told.items())))
    print(f"{len(starts)} executions, {again} of them again")
    print(f"{storming:.0f} s of storm, {calm:.0f} s until all was done and stopped")


def _assert_answered_once(server: GitRepo, branches: list[str], starts: list[Start]) -> None:
    history = History.of(server)
    history.assert_each_answered_once()
    known = {(start.branch, start.state, start.commit, start.run) for start in starts}
    for branch in branches:
        assert history.chain(branch) == [*STATES, "done"]
        # What each step did is there, once.
        assert server.git("show", f"{branch}:trace").split() == list(STATES)
        for back, state in enumerate(reversed(STATES)):
            fields = server.fields(f"{branch}~{back}")
            assert (branch, state, fields["answers"], fields["run"]) in known, "nobody ran it"
    asked = {oid for oid, commit in history.commits.items() if commit.state in STATES}
    assert {start.commit for start in starts} == asked, "a script ran for what is not there"
    assert len(asked) == len(branches) * len(STATES)


def _assert_nothing_left(server: GitRepo, posts: list[Post]) -> None:
    found = leftovers(server) + fsck(server.path)
    for post in posts:
        # Of a mirror the lease refs are what its runner last saw, and no leases.
        mirror = post.mirror
        others = [path for path in mirror.path.parent.iterdir() if path != mirror.path]
        found += [f"half made: {path}" for path in others]
        found += leftovers(post.clone) + leftovers(mirror, leases=False)
        found += [f"line: {path}" for path in (mirror.path / "aynig" / "lines").iterdir()]
        found += fsck(post.clone.path) + fsck(mirror.path)
    assert not found, "\n".join(found)
