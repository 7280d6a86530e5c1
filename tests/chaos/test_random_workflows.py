"""Random workflows with real git and real processes: two daemons of one remote, killed at random.

The short version is in memory (`tests/workflows/test_random_workflows.py`), and sees much more.
"""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.chaos.world import ENDED, History, Runner, Runners, leftovers, sow
from tests.world import GitRepo, wait_for

_TASKS = 12
_KILLS = 8
_RETRIES, _ITERATIONS = 2, 3
_CONFIG = f"""\
retries: {{max: {_RETRIES}, backoff: 100ms, on: [failure, tempfail]}}
states:
  make: {{on-failure: test, next: test}}
  test: {{resource: database, on-dependency-failure: fail}}
  turn: {{loop: {{promise: DONE, max-iterations: {_ITERATIONS}, on-limit: failed}}}}
  ship: {{approval: {{when: before, show: none}}, on-dependency-failure: run}}
"""
# States that wait for ever where what they depend on has failed.
_WAITING = ("make", "turn")
# What a script does: it says what it found, and ends as its task has it this time.
_SCRIPT = """\
#!/bin/sh
place=$STORY/$AYNIG_BRANCH
echo >>$place.turns
word=$(sed -n "$(wc -l <$place.turns)p" $place.words)
for name in $(cat $place.after); do
    state=$(git --git-dir=$STORY/../server.git log -1 \
--format='%(trailers:key=aynig,valueonly,separator=%x20)' refs/heads/$name)
    echo "$AYNIG_BRANCH $AYNIG_STATE $name ${state%% *}" >>$STORY/seen
done
if [ $AYNIG_STATE = test ]; then
    exec 9>$STORY/database
    flock -n 9 || echo "$AYNIG_BRANCH $AYNIG_RUN_ID" >>$STORY/crowded
    sleep 0.3
fi
case $word in
fail) exit 1 ;;
again) exit 75 ;;
'') echo "aynig: promise: DONE" >"$AYNIG_RESPONSE" ;;
esac
echo "$AYNIG_STATE" >>trace
"""


@dataclass(frozen=True)
class _Plan:
    """What each task begins with, and whom it waits for."""

    states: dict[str, str]
    after: dict[str, list[str]]

    @classmethod
    def draw(cls, dice: random.Random, folder: Path) -> _Plan:
        names = [f"t{number}" for number in range(_TASKS)]
        plan = cls({name: dice.choice(["make", "test", "turn", "ship"]) for name in names}, {})
        for number, name in enumerate(names):
            plan.after[name] = dice.sample(names[:number], min(number, dice.choice([0, 0, 1, 2])))
            words = [dice.choice(["ok", "ok", "fail", "again"]) for _ in range(dice.randint(0, 4))]
            (folder / f"{name}.words").write_text("".join(f"{word}\n" for word in words))
            (folder / f"{name}.after").write_text("\n".join(plan.after[name]))
        return plan

    def messages(self) -> dict[str, str]:
        found = {}
        for name, state in self.states.items():
            lines = "".join(f"aynig: depends-on: {other}\n" for other in self.after[name])
            found[name] = f"{name}\n\naynig: {state}\n{lines}"
        return found

    def is_over(self, server: GitRepo, name: str) -> bool:
        """Has a task ended, or can it never start?"""
        if server.state(name) in ENDED:
            return True
        return any(
            self.is_over(server, other)
            and (server.state(other) not in ENDED or server.state(name) in _WAITING)
            for other in self.after[name]
            if server.state(other) != "done"
        )


@pytest.mark.chaos
@pytest.mark.parametrize("number", range(4))
def test_a_random_workflow_ends_though_its_runners_are_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    dice = random.Random(number)
    folder = tmp_path / "story"
    folder.mkdir()
    monkeypatch.setenv("STORY", str(folder))
    server = GitRepo.init(tmp_path / "server.git", bare=True)
    files = {f".aynig/{state}": _SCRIPT for state in ("make", "test", "turn", "ship")}
    server.commit("The workflow", files={**files, ".aynig/config.yaml": _CONFIG})
    plan = _Plan.draw(dice, folder)
    sow(server, plan.messages())
    posts = [_post(server, tmp_path / name) for name in ("one", "two")]
    try:
        under_way = [_start(post) for post in posts]
        for _ in range(_KILLS):
            # When it strikes is left to chance.
            time.sleep(dice.uniform(0.2, 1.5))
            which = dice.randrange(2)
            os.killpg(under_way[which].pid, signal.SIGKILL)
            assert under_way[which].wait() == -signal.SIGKILL, under_way[which].text()
            under_way[which] = _start(posts[which])
        wait_for(lambda: _is_over(server, plan), what="all tasks to end", patience=180)
        for runner in under_way:
            assert runner.stop() == 0, runner.text()
    finally:
        for post in posts:
            post.end()
    _assert_limits_were_kept(server, plan, folder)
    assert not [line for line in leftovers(server) if "deferral" not in line]


def _post(server: GitRepo, place: Path) -> Runners:
    server.git("clone", "--quiet", str(server.path), str(place))
    logs = place.with_suffix(".logs")
    logs.mkdir()
    clone = GitRepo(place)
    for key, value in (("leaseSeconds", "5s"), ("poll", "1s"), ("grace", "1s")):
        clone.git("config", f"aynig.{key}", value)
    return Runners(clone, logs)


def _start(post: Runners) -> Runner:
    return post.daemon("--remote", "origin")


def _is_over(server: GitRepo, plan: _Plan) -> bool:
    for name in plan.states:
        if server.state(name) == "awaiting-approval":
            server.commit("Yes\n\naynig: approved\n", branch=name)
    return all(plan.is_over(server, name) for name in plan.states)


def _assert_limits_were_kept(server: GitRepo, plan: _Plan, folder: Path) -> None:
    history = History.of(server)
    assert not [oid for oid, count in history.answers().items() if count > 1]
    assert not (folder / "crowded").exists(), (folder / "crowded").read_text()
    seen = folder / "seen"
    for line in seen.read_text().splitlines() if seen.exists() else []:
        name, state, other, found = line.split(" ")
        enough = {"done", "failed", "canceled"} if state == "ship" else {"done"}
        assert found in enough, f"{name} ({state}) was run before {other}, which was {found}"
    for oid in history.commits:
        values = [value for key, value in server.trailers(oid) if key == "aynig"]
        attempts = [value for value in values if value.startswith("failed-attempt: ")]
        assert len(attempts) <= _RETRIES, values
        rounds = [value.split(" ")[1] for value in values if value.startswith("iteration: ")]
        assert all(int(each.partition("/")[0]) <= _ITERATIONS for each in rounds), values
    for name, state in plan.states.items():
        ran = history.chain(name).count("turn") if state == "turn" else 0
        assert ran <= _ITERATIONS, history.chain(name)
        if "ship" in history.chain(name)[1:]:
            assert "approved" in history.chain(name), history.chain(name)
