"""What a task waits for is found whatever it is called by, and no git process is started for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from aynig.facts import gather
from aynig.model import HEADS, Hold, Step
from aynig.plan import make_plan
from aynig.rulings import Ruling
from aynig.scan import read_event
from aynig.site import Site, open_site
from aynig.upstream import Upstream
from tests.world import SCRIPT_OK, GitRepo, listening

GO = "Please go\n\naynig: go\n"
TASK = HEADS + "task"
FILES: dict[str, str | bytes | None] = {".aynig/go": SCRIPT_OK, ".aynig/build": SCRIPT_OK}


@contextlib.contextmanager
def opened(repo: GitRepo) -> Iterator[Site]:
    site = open_site(repo.path)
    try:
        site.scan.look()
        yield site
    finally:
        site.close()


def look_up(repo: GitRepo, name: str, ref: str = TASK) -> Upstream:
    with opened(repo) as site:
        return site.upstream.look_up(ref, name)


def is_done(repo: GitRepo, name: str, ref: str = TASK) -> bool:
    return not look_up(repo, name, ref).is_open


def task(repo: GitRepo, branch: str, *after: str, state: str = "go", extra: str = "") -> str:
    lines = "".join(f"aynig: depends-on: {name}\n" for name in after)
    message = f"Please {state}\n\naynig: {state}\n{lines}{extra}"
    parent = repo.tip(branch) or repo.tip()
    return repo.commit(message, branch=branch, parent=parent, files=FILES)


def answer(repo: GitRepo, branch: str, state: str = "done", extra: str = "") -> str:
    tip = repo.tip(branch)
    message = f"An answer\n\nThe body.\n\naynig: {state}\naynig: answers: {tip}\n{extra}"
    return repo.commit(message, branch=branch)


def held(repo: GitRepo, branch: str = "task") -> str:
    """What holds a task, as `word: detail`; empty for nothing."""
    with opened(repo) as site:
        event = read_event(site.repo, HEADS + branch, repo.tip(branch), site.read)
        assert event is not None
        planned = make_plan(event, gather(site, event).facts)
        return f"{planned.word}: {planned.detail}" if isinstance(planned, Hold) else ""


# --- branches ----------------------------------------------------------------------------------


def test_a_branch_is_done_where_its_tip_is_and_only_its_change_matters(repo: GitRepo) -> None:
    task(repo, "a")
    found = look_up(repo, "a")
    assert found.states == ("go",)
    assert found.on == found.refs == frozenset({HEADS + "a"})
    answer(repo, "a")
    assert is_done(repo, "a")
    repo.commit("Taken back by hand", branch="a")
    assert look_up(repo, "a").states == ("",)


def test_a_branch_that_is_called_like_an_oid_is_a_branch(repo: GitRepo) -> None:
    oid = task(repo, "a")
    answer(repo, "a")
    task(repo, oid[:8])
    assert not is_done(repo, oid[:8])
    task(repo, oid)
    assert not is_done(repo, oid)


# --- oids --------------------------------------------------------------------------------------


def test_an_oid_is_done_where_a_branch_that_contains_it_ended_so(repo: GitRepo) -> None:
    oid = task(repo, "a")
    assert look_up(repo, oid).states == ("go",)
    later = answer(repo, "a", "build")
    assert look_up(repo, oid).states == ("build",)
    done = answer(repo, "a")
    for name in (oid, later, done, oid[:9]):
        assert is_done(repo, name)
        assert look_up(repo, name).oid == done


def test_a_tag_that_somebody_wrote_by_hand_is_the_commit_that_it_names(repo: GitRepo) -> None:
    oid = task(repo, "a")
    repo.git("tag", "v1", oid)
    assert not is_done(repo, "v1")
    answer(repo, "a")
    assert is_done(repo, "v1")


def test_commits_of_the_script_between_task_and_answer_count_as_well(repo: GitRepo) -> None:
    oid = task(repo, "a")
    own = repo.commit("Work of the script", branch="a")
    repo.commit(f"An answer\n\naynig: done\naynig: answers: {oid}\n", branch="a")
    assert is_done(repo, oid)
    assert is_done(repo, own)


def test_a_branch_that_is_deleted_after_its_work_was_merged_stays_done(repo: GitRepo) -> None:
    oid = task(repo, "a")
    done = answer(repo, "a")
    tree = repo.git("rev-parse", f"{done}^{{tree}}")
    merge = repo.git("commit-tree", tree, "-p", repo.tip(), "-p", done, "-m", "Merge a")
    repo.git("update-ref", "refs/heads/main", merge)
    repo.git("branch", "-D", "a")
    assert is_done(repo, oid)
    assert is_done(repo, done)


def test_a_branch_that_is_deleted_and_nowhere_contained_is_waited_for(repo: GitRepo) -> None:
    oid = task(repo, "a")
    with opened(repo) as site:
        answer(repo, "a")
        site.scan.look()
        assert not site.upstream.look_up(TASK, oid).is_open
        repo.git("branch", "-D", "a")
        site.scan.look()
        assert site.upstream.look_up(TASK, oid).is_open


def test_merged_but_not_done_is_not_done(repo: GitRepo) -> None:
    oid = task(repo, "a")
    tree = repo.git("rev-parse", f"{oid}^{{tree}}")
    merge = repo.git("commit-tree", tree, "-p", repo.tip(), "-p", oid, "-m", "Merge a")
    repo.git("update-ref", "refs/heads/main", merge)
    assert look_up(repo, oid).states == ("go",)
    answer(repo, "a", "failed")
    assert look_up(repo, oid).states == ("failed",)


def test_another_task_that_was_begun_on_top_of_it_proves_nothing(repo: GitRepo) -> None:
    oid = task(repo, "a")
    repo.git("branch", "b", oid)
    task(repo, "b", extra="aynig: begins: task\n")
    answer(repo, "b")
    repo.git("branch", "child", oid)
    task(repo, "child", extra="aynig: parent: a\n")
    answer(repo, "child")
    assert look_up(repo, oid).states == ("go",)


@pytest.mark.parametrize("field", ["reopens", "retry-of"])
def test_one_that_was_sent_back_to_work_is_not_done_until_it_is_again(
    repo: GitRepo, field: str
) -> None:
    oid = task(repo, "a")
    done = answer(repo, "a")
    assert is_done(repo, oid)
    task(repo, "a", state="build", extra=f"aynig: {field}: {done}\n")
    for name in ("a", oid, done):
        assert look_up(repo, name).states == ("build",)
    answer(repo, "a")
    assert is_done(repo, oid)
    assert is_done(repo, done)


def test_a_new_task_on_top_of_one_that_is_done_takes_nothing_back(repo: GitRepo) -> None:
    oid = task(repo, "a")
    answer(repo, "a")
    task(repo, "a", state="build")
    assert is_done(repo, oid)
    assert not is_done(repo, "a")


def test_one_that_failed_and_was_corrected_by_hand_is_done(repo: GitRepo) -> None:
    oid = task(repo, "a")
    answer(repo, "a", "failed")
    task(repo, "a")
    answer(repo, "a")
    assert is_done(repo, oid)


def test_looking_up_starts_no_process(repo: GitRepo) -> None:
    oid = task(repo, "a")
    answer(repo, "a")
    with opened(repo) as site, listening("subprocess.Popen") as started:
        assert not site.upstream.look_up(TASK, oid).is_open
        assert not site.upstream.look_up(TASK, "a").is_open
    assert started == []


# --- elsewhere ---------------------------------------------------------------------------------


def test_a_branch_of_a_remote_is_what_was_fetched_of_it(repo: GitRepo, tmp_path: Path) -> None:
    other = GitRepo.init(tmp_path / "other")
    task(other, "a")
    repo.git("remote", "add", "origin", str(other.path))
    found = look_up(repo, "origin:a")
    assert found.states == ()
    assert found.on == frozenset({"origin:a"})
    repo.git("fetch", "--quiet", "origin")
    assert look_up(repo, "origin:a").states == ("go",)
    done = answer(other, "a")
    repo.git("fetch", "--quiet", "origin")
    assert look_up(repo, "origin:a").oid == done
    assert is_done(repo, "origin:a")


@pytest.mark.parametrize("name", ["origin:", ":a", "nobody:a", "../x:a", "ext::sh:a", "a:b:c"])
def test_a_remote_that_is_none_is_waited_for(repo: GitRepo, name: str) -> None:
    assert look_up(repo, name).states == ()


# --- who waits for whom ------------------------------------------------------------------------


def test_dependencies_hold_for_all_of_a_tasks_life(repo: GitRepo) -> None:
    task(repo, "a")
    answer(repo, "a")
    task(repo, "task", "a")
    assert held(repo) == ""
    answer(repo, "task", "build")
    assert held(repo) == ""
    done = repo.tip("a")
    task(repo, "a", extra=f"aynig: reopens: {done}\n")
    assert held(repo) == "waiting: for a to be done"


def test_a_circle_that_was_pushed_is_drawn(repo: GitRepo) -> None:
    task(repo, "a", "b")
    task(repo, "b", repo.tip("a"))
    task(repo, "late", "a")
    assert held(repo, "a") == "blocked: waits for itself: a -> b -> a"
    assert held(repo, "b") == "blocked: waits for itself: b -> a -> b"
    assert held(repo, "late") == "blocked: a waits for itself: a -> b -> a"


def test_a_task_that_depends_on_itself_is_told_so(repo: GitRepo) -> None:
    task(repo, "task", "task")
    assert held(repo) == "blocked: waits for itself: task -> task"


def test_a_child_that_waits_for_the_end_of_its_parent_waits_for_itself(repo: GitRepo) -> None:
    task(repo, "p")
    task(repo, "c", "p", extra="aynig: parent: p\n")
    assert held(repo, "c") == "blocked: waits for itself: c -> p -> c"
    answer(repo, "p")
    assert held(repo, "c") == ""


@pytest.mark.parametrize("how", ["fail", "run", "wait"])
def test_what_a_failed_dependency_does_is_said_by_the_state(repo: GitRepo, how: str) -> None:
    config = f"states:\n  go:\n    on-dependency-failure: {how}\n"
    task(repo, "a")
    answer(repo, "a", "failed")
    message = f"{GO}aynig: depends-on: a\n"
    files: dict[str, str | bytes | None] = {**FILES, ".aynig/config.yaml": config}
    repo.commit(message, branch="task", parent=repo.tip(), files=files)
    with opened(repo) as site:
        event = read_event(site.repo, TASK, repo.tip("task"), site.read)
        assert event is not None
        ruling: Ruling | None = gather(site, event).facts.last
    if how == "run":
        assert ruling is None
    elif how == "fail":
        assert isinstance(ruling, Step)
        assert (ruling.state, ruling.subject) == ("failed", "a ended as failed")
    else:
        assert isinstance(ruling, Hold)
        assert (ruling.word, ruling.detail) == ("blocked", "a ended as failed")


# --- what is handed over -----------------------------------------------------------------------


def test_the_answer_and_the_metadata_of_each_dependency_are_handed_over(repo: GitRepo) -> None:
    oid = task(repo, "a")
    extra = "aynig: meta-coverage: 91\naynig: meta-file: x\naynig: meta-file: y\n"
    done = answer(repo, "a", extra=extra)
    with opened(repo) as site:
        (by_oid, by_branch) = site.upstream.handed_over(TASK, [oid, "nowhere", "a"])
    assert (by_oid["name"], by_branch["name"]) == (oid, "a")
    for found in (by_oid, by_branch):
        assert (found["oid"], found["state"], found["body"]) == (done, "done", "The body.")
        assert found["subject"] == "An answer"
        assert found["meta"] == {"coverage": "91", "file": ["x", "y"]}
