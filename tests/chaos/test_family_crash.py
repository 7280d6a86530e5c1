"""Parents and children come to the same end wherever a runner is killed on the way."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.chaos.steps import EACH, EACH_FIFTH, Story, tell
from tests.stage import Stage
from tests.test_family import child, config, fan_out, parent, parents_of, values
from tests.world import GitRepo

_AYNIG = f"{sys.executable} -m aynig"


def _all_come_together(repo: GitRepo) -> None:
    assert repo.state("big") == "collect"
    join = repo.tip("big")
    answer, *tips = parents_of(repo, join)
    assert tips == [repo.tip("big-one"), repo.tip("big-two")]
    assert values(repo, answer, "child") == ["big-one", "big-two"]
    for name in ("big-one", "big-two"):
        assert parents_of(repo, f"{name}~1") == [answer]
    assert repo.git("ls-tree", "--name-only", "big", "big-one", "big-two") == "big-one\nbig-two"


def _each_was_told_once(repo: GitRepo) -> None:
    assert repo.state("big") == "done"
    told = repo.git("show", "big:told").split("\n")
    assert sorted(told) == sorted(f"{name}@{repo.tip(name)}" for name in ("one", "two"))


def _all_are_canceled(repo: GitRepo) -> None:
    for name in ("one", "two", "three"):
        assert repo.state(name) == "canceled"
        assert parents_of(repo, name) == [repo.fields(name)["cancels"]]


def _begin_fan_out(stage: Stage) -> None:
    split, go = fan_out("one", "two"), 'echo x >"$AYNIG_BRANCH"'
    parent(stage, config(), state="split", split=split, go=go)


def _begin_supervision(stage: Stage) -> None:
    settings = "states: {watch: {on-child: decide}}\n"
    decide = f"""echo "$AYNIG_TRAILER_CHILD" >>told
[ "$(wc -l <told)" = 2 ] && {_AYNIG} respond done || {_AYNIG} respond watch"""
    parent(stage, settings, state="watch", decide=decide)
    for name in ("one", "two"):
        child(stage.repo, name, "done")


def _begin_cancellation(stage: Stage) -> None:
    parent(stage, config(), go="exit 0")
    for name, of in (("one", "big"), ("two", "big"), ("three", "one")):
        child(stage.repo, name, "go", of=of)
    stage.repo.commit("enough\n\naynig: canceled\n", branch="big")


STORIES = {
    "fan-out and join": Story(_begin_fan_out, _all_come_together),
    "a supervisor": Story(_begin_supervision, _each_was_told_once),
    "a canceled parent": Story(_begin_cancellation, _all_are_canceled),
}


@pytest.mark.parametrize(
    "stride",
    [
        pytest.param(EACH_FIFTH, id="each fifth step"),
        pytest.param(EACH, id="each step", marks=pytest.mark.chaos),
    ],
)
@pytest.mark.parametrize("name", STORIES)
def test_a_runner_killed_at_any_step_changes_nothing_of_the_end(
    stage: Stage, tmp_path: Path, name: str, stride: int
) -> None:
    tell(stage, tmp_path, STORIES[name], stride)
