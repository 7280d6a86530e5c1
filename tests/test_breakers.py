"""A state that fails task after task is left alone for a while, then one is let through to try."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest

from aynig.breakers import breaker_ref, closed_at
from aynig.git.repo import EMPTY_TREE
from aynig.recover import keep_house
from aynig.site import open_site
from tests.fleet import Fleet
from tests.killing import each_step, run_killed_at
from tests.stage import Stage, aynig
from tests.world import GitRepo, wait_for


def config(pause: str) -> str:
    return f"states:\n  go: {{breaker: {{failures: 2, within: 1d, pause: {pause}}}}}\n"


@pytest.fixture
def stage(repo: GitRepo) -> Stage:
    """Its commits are of now."""
    repo._clock = int(time.time()) - 3600
    return Stage(repo)


def let_this_second_pass() -> None:
    """A failure of the second in which a person closes a breaker may be younger than that."""
    now = int(time.time())
    wait_for(lambda: int(time.time()) > now)


def failing(stage: Stage, number: int, pause: str = "1h", script: str = "exit 3") -> None:
    for each in range(number):
        stage.task(script, branch=f"failing-{each}", config=config(pause))
    stage.run(jobs=1)


def test_after_so_many_failures_of_a_state_the_others_wait(stage: Stage) -> None:
    failing(stage, 2)
    stage.task("true", config=config("1h"))
    stage.task("true", branch="other", state="free", config=config("1h"))
    told = stage.run()
    assert told.holds("task") == ["breaker"]
    row = stage.status()
    assert row.detail.startswith("go failed 2 times in a row; tried again in ")
    assert "`aynig resume --state go`" in row.detail
    assert row.until is not None
    assert stage.repo.state("other") == "done"


def test_a_success_in_between_keeps_it_closed(stage: Stage) -> None:
    failing(stage, 1)
    stage.task("true", branch="good", config=config("1h"))
    stage.run()
    stage.task("exit 3", branch="again", config=config("1h"))
    stage.run()
    stage.task("true", config=config("1h"))
    stage.run()
    assert stage.repo.state("task") == "done"


@pytest.mark.parametrize("mended", [True, False])
def test_after_the_pause_one_is_let_through_and_its_end_counts_for_all(
    stage: Stage, tmp_path: Path, mended: bool
) -> None:
    failing(stage, 2, "1s")
    book, gate = tmp_path / "book", tmp_path / "gate"
    # The pause after the failure of the one that tries is much longer.
    settings = config("1s") if mended else config("1s").replace("1s", "3s")
    script = (
        f'echo "$AYNIG_BRANCH" >>{book}\nuntil [ -e {gate} ]; do sleep 0.02; done\n'
        f"exit {0 if mended else 3}"
    )
    for name in ("a", "b", "c"):
        stage.task(script, branch=name, config=settings)
    with stage.live(jobs=3) as told:
        wait_for(book.exists)
        wait_for(
            lambda: sum("breaker" in told.holds(name) for name in ("a", "b", "c")) >= 2,
            what="the others to wait",
        )
        (first,) = book.read_text().split()
        second = "b" if first == "a" else "a"
        wait_for(lambda: stage.status(second).detail.endswith(f"failures, which {first} has"))
        gate.touch()
        if mended:
            for name in ("a", "b", "c"):
                stage.wait_for_state("done", name)
        else:
            stage.wait_for_state("failed", first)
            wait_for(lambda: "go failed 2 times in a row" in stage.status(second).detail)
            assert book.read_text().split() == [first]


def test_a_person_closes_it_for_all_runners(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(stage, 2)
    stage.task("true", config=config("1h"))
    monkeypatch.chdir(stage.repo.path)
    with stage.live(poll=0.5) as told:
        wait_for(lambda: told.holds("task") == ["breaker"])
        let_this_second_pass()
        assert aynig("resume", "--state", "go") == 0
        assert capsys.readouterr().out == "The circuit breaker of go is closed.\n"
        stage.wait_for_state("done")
    trailers = dict(stage.repo.trailers(breaker_ref("go")))
    assert (trailers["state"], trailers["by"]) == ("go", "Carl Committer <carl@example.org>")


def test_resume_wants_a_branch_or_a_state(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(stage.repo.path)
    for args in ([], ["task", "--state", "go"]):
        assert aynig("resume", *args) == 2
        assert "resume needs a branch or a state" in capsys.readouterr().err


def test_closing_it_counts_on_a_remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet.make(tmp_path, {"go": '[ "$AYNIG_BRANCH" = task ]'}, workflow=config("1h"))
    fleet.server._clock = int(time.time()) - 3600
    for name in ("a", "b"):
        fleet.tasks.task(branch=name)
    fleet.run("bob", jobs=1)
    fleet.tasks.task()
    assert fleet.run("carol").holds("task") == ["breaker"]
    monkeypatch.chdir(fleet.clone("alice").path)
    let_this_second_pass()
    assert aynig("resume", "--state", "go", "--remote", "origin") == 0
    assert fleet.server.git("rev-parse", "--verify", breaker_ref("go"))
    assert fleet.run("carol").holds("task") == []
    assert fleet.server.state("task") == "done"


def test_whatever_step_a_run_is_killed_at_it_tries_with_one_at_a_time(tmp_path: Path) -> None:
    for number, (step, when) in enumerate(each_step()):
        stage = Stage(GitRepo.init(tmp_path / f"repo-{number}"))
        stage.repo._clock = int(time.time()) - 3600
        book = tmp_path / f"book-{number}"
        for name in ("a", "b", "c", "d"):
            stage.task(f'echo "$AYNIG_BRANCH" >>{book}; exit 3', branch=name, config=config("1h"))
        killed = run_killed_at(stage.repo.path, step, when, "--jobs", "1")
        told = stage.run(jobs=1)
        # Who was killed after its script, or while it ran, starts it a second time.
        assert len(book.read_text().split()) <= 2 + killed, (step, when)
        failed = [name for name in ("a", "b", "c", "d") if stage.repo.state(name) == "failed"]
        held = [name for name in ("a", "b", "c", "d") if "breaker" in told.holds(name)]
        assert len(failed) == len(held) == 2, (step, when)
        if not killed:
            break


def test_when_a_breaker_was_closed_is_forgotten_when_it_no_longer_matters(stage: Stage) -> None:
    repo, now = stage.repo, int(time.time())
    for state, days in (("old", 3), ("young", 1)):
        date = {"GIT_COMMITTER_DATE": f"{now - days * 86_400} +0000"}
        said = f"aynig breaker of {state}\n\nkind: breaker\nstate: {state}\n"
        record = repo.git("commit-tree", EMPTY_TREE, stdin=said.encode(), env=date)
        repo.git("update-ref", breaker_ref(state), record)
    repo.git("config", "aynig.retention", "2d")
    with contextlib.closing(open_site(repo.path)) as site:
        # Failures of a week count, so it still matters.
        week = "breaker: {failures: 2, within: 7d}\n"
        repo.commit("x", branch="main", files={".aynig/config.yaml": week})
        keep_house(site)
        assert closed_at(site.repo, "old")
        repo.commit("x", branch="main", files={".aynig/config.yaml": None})
        keep_house(site)
        assert (closed_at(site.repo, "old"), closed_at(site.repo, "young")) == (0, now - 86_400)
