"""What a plan depends on is looked up where the design says, and nowhere else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from aynig.errors import ConfigError
from aynig.facts import gather
from aynig.model import HEADS, Deferral, Event, Hold, Lease, Script, ScriptProblem
from aynig.plan import Facts
from aynig.scan import read_event
from aynig.site import Site, open_site
from tests.world import SCRIPT_OK, GitRepo

GO = "Please go\n\naynig: go\n"
OURS, THEIRS = "#!/bin/sh\necho ours\n", "#!/bin/sh\necho theirs\n"


@contextlib.contextmanager
def opened(repo: GitRepo, branch: str = "task", **flags: Any) -> Iterator[tuple[Site, Event]]:
    site = open_site(repo.path, **flags)
    try:
        site.scan.look()
        ref = HEADS + branch
        event = read_event(site.repo, ref, repo.tip(branch), site.read)
        assert event is not None
        yield site, event
    finally:
        site.close()


def facts(repo: GitRepo, branch: str = "task", **flags: Any) -> Facts:
    with opened(repo, branch, **flags) as (site, event):
        return gather(site, event).facts


def script_source(repo: GitRepo, **flags: Any) -> str:
    """What would run for the task; or the word that says why nothing does."""
    script = facts(repo, **flags).script
    if isinstance(script, ScriptProblem):
        return script.word
    return repo.git("cat-file", "blob", script.oid) + "\n"


def task(repo: GitRepo, script: str = THEIRS, message: str = GO, branch: str = "task") -> str:
    return repo.commit(message, branch=branch, parent=repo.tip(), files={".aynig/go": script})


# --- trust -----------------------------------------------------------------------------------


def test_in_a_clone_the_script_is_that_of_the_commit_itself(repo: GitRepo) -> None:
    repo.commit("ours", files={".aynig/go": OURS})
    task(repo)
    assert script_source(repo) == THEIRS


def test_in_a_bare_repository_a_pushed_script_does_not_count(bare: GitRepo) -> None:
    bare.commit("ours", files={".aynig/go": OURS})
    task(bare)
    assert script_source(bare) == OURS


def test_in_a_bare_repository_a_script_that_only_the_task_brings_is_missing(bare: GitRepo) -> None:
    task(bare)
    assert script_source(bare) == "missing-script"


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("", "no script .aynig/go on main (scripts come from there)"),
        ("refs/heads/trusted", "no script .aynig/go on trusted (scripts come from there)"),
        ("v1", "no script .aynig/go on v1 (scripts come from there)"),
        ("branch", "no script .aynig/go"),
    ],
)
def test_a_missing_script_is_told_with_where_it_was_looked_for(
    bare: GitRepo, wanted: str, said: str
) -> None:
    bare.git("branch", "trusted")
    bare.git("tag", "v1")
    bare.git("config", "aynig.scripts", wanted)
    bare.commit(GO, branch="task", parent=bare.tip())
    assert facts(bare).script == ScriptProblem("missing-script", said)


def test_in_a_clone_a_missing_script_is_that_of_the_commit_unless_they_come_from_elsewhere(
    repo: GitRepo,
) -> None:
    repo.commit(GO, branch="task", parent=repo.tip())
    assert facts(repo).script == ScriptProblem("missing-script", "no script .aynig/go")
    (repo.path / ".aynig").mkdir()
    (repo.path / ".aynig/go").write_text(OURS)
    hint = "; .aynig/go is in the working tree, but not {}: commit it on {}"
    script = facts(repo).script
    assert isinstance(script, ScriptProblem)
    assert script.detail == "no script .aynig/go" + hint.format(
        "in this commit", "this branch, with the state"
    )
    script = facts(repo, scripts="main").script
    assert isinstance(script, ScriptProblem)
    where = " on main (scripts come from there)"
    assert script.detail == "no script .aynig/go" + where + hint.format("on main", "main")


def test_in_a_bare_repository_pushed_settings_do_not_count(bare: GitRepo) -> None:
    files = {".aynig/go": OURS, ".aynig/config.yaml": "states: {go: {next: ours}}\n"}
    bare.commit("ours", files=files)
    theirs = {".aynig/config.yaml": "states: {go: {next: theirs}}\n"}
    bare.commit(GO, branch="task", parent=bare.tip(), files=theirs)
    assert facts(bare).settings.next == "ours"


@pytest.mark.parametrize(
    ("wanted", "source"),
    [
        pytest.param("branch", THEIRS, id="the commit's own, knowingly"),
        pytest.param("trusted", OURS, id="a branch"),
        pytest.param("refs/heads/trusted", OURS, id="a full ref"),
        pytest.param("v1", OURS, id="a tag"),
    ],
)
@pytest.mark.parametrize("kind", ["clone", "bare"])
def test_aynig_scripts_names_where_they_come_from(
    repo: GitRepo, bare: GitRepo, kind: str, wanted: str, source: str
) -> None:
    git = repo if kind == "clone" else bare
    trusted = git.commit("ours", branch="trusted", parent=git.tip(), files={".aynig/go": OURS})
    git.git("tag", "v1", trusted)
    git.git("config", "aynig.scripts", wanted)
    task(git)
    assert script_source(git) == source


@pytest.mark.parametrize("wanted", ["nowhere", "refs/heads/nowhere"])
def test_scripts_from_what_does_not_exist_are_an_error_that_says_what_to_do(
    repo: GitRepo, wanted: str
) -> None:
    repo.git("config", "aynig.scripts", wanted)
    task(repo)
    with pytest.raises(ConfigError, match="nowhere") as caught:
        facts(repo)
    assert "aynig.scripts" in caught.value.hint


# --- scripts ---------------------------------------------------------------------------------


def test_a_script_that_was_never_committed_gets_a_hint(repo: GitRepo) -> None:
    repo.commit(GO, branch="task", parent=repo.tip())
    (repo.path / ".aynig").mkdir()
    (repo.path / ".aynig/go").write_text(SCRIPT_OK)
    script = facts(repo).script
    assert isinstance(script, ScriptProblem)
    assert script.word == "missing-script"
    assert "commit it" in script.detail


@pytest.mark.parametrize(
    ("role", "found"),
    [
        pytest.param(None, "go", id="no role"),
        pytest.param("reviewer", "roles/reviewer/go", id="the role's own goes first"),
        pytest.param("tester", "go", id="a role without a script of this name"),
    ],
)
def test_a_role_has_scripts_of_its_own(repo: GitRepo, role: str | None, found: str) -> None:
    files = {".aynig/go": OURS, ".aynig/roles/reviewer/go": THEIRS}
    repo.commit(GO, branch="task", parent=repo.tip(), files=files)
    script = facts(repo, roles=role).script
    assert isinstance(script, Script)
    assert script.path == found


def test_a_role_in_the_workflow_goes_before_the_operators(repo: GitRepo) -> None:
    files = {
        ".aynig/go": OURS,
        ".aynig/roles/reviewer/go": THEIRS,
        ".aynig/config.yaml": "states: {go: {role: reviewer}}\n",
    }
    repo.commit(GO, branch="task", parent=repo.tip(), files=files)
    assert facts(repo, roles="tester").role == "reviewer"


def test_a_wrong_workflow_file_is_an_error_that_names_it(repo: GitRepo) -> None:
    files = {".aynig/go": OURS, ".aynig/config.yaml": "states: {go: {timeout: soon}}\n"}
    repo.commit(GO, branch="task", parent=repo.tip(), files=files)
    with pytest.raises(ConfigError, match=r"\.aynig/config\.yaml"):
        facts(repo)


# --- lease and attempts ----------------------------------------------------------------------


def test_attempts_go_on_from_a_lease_that_was_left_and_from_a_deferral(repo: GitRepo) -> None:
    task(repo)
    with opened(repo) as (site, event), opened(repo) as (other, _):
        lease = site.leases.acquire(event, None, "run-1", 2)
        seen = gather(other, event)
        assert seen.facts.lease is not None
        site.leases.forget(lease)
        left = gather(site, event)
        assert left.facts.lease is None
        assert (left.taken_over, left.lease_seen) == (site.leases.read(event.ref), lease.oid)
        assert left.facts.attempts == 2
        site.leases.defer(lease, 60.0, "later")
        deferred = gather(other, event)
        assert isinstance(deferred.facts.deferral, Deferral)
        assert deferred.facts.attempts == 2


def test_a_new_commit_begins_at_the_first_attempt(repo: GitRepo) -> None:
    task(repo)
    with opened(repo) as (site, event):
        site.leases.defer(site.leases.acquire(event, None, "run-1", 5), 60.0, "later")
    repo.commit(GO, branch="task")
    found = facts(repo)
    assert (found.deferral, found.attempts) == (None, 0)


# --- one commit is dispatched once -----------------------------------------------------------


def test_of_branches_at_one_commit_the_first_by_name_has_it(repo: GitRepo) -> None:
    task(repo, branch="b")
    repo.git("branch", "a", "b")
    assert facts(repo, "b").owner == HEADS + "a"
    assert facts(repo, "a").owner == HEADS + "a"


def test_of_branches_at_one_commit_the_one_that_runs_has_it(repo: GitRepo) -> None:
    task(repo, branch="b")
    repo.git("branch", "a", "b")
    with opened(repo, "b") as (site, event):
        site.leases.acquire(event, None, "run-1", 1)
        assert gather(site, event).facts.owner == HEADS + "b"
        assert isinstance(site.leases.read(event.ref), Lease)


def test_a_branch_alone_at_its_commit_has_no_owner_to_ask(repo: GitRepo) -> None:
    task(repo)
    assert facts(repo).owner is None


def test_a_commit_that_was_answered_stays_answered_on_every_branch(repo: GitRepo) -> None:
    asked = task(repo)
    repo.git("branch", "copy", "task")
    answer = repo.commit(f"go -> done\n\naynig: done\naynig: answers: {asked}\n", branch="task")
    assert facts(repo, "copy").answered_by == answer


# --- dependencies ----------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["branch", "oid"])
@pytest.mark.parametrize(
    ("state", "word"), [("done", ""), ("failed", "blocked"), ("review", "waiting")]
)
def test_a_task_waits_for_what_it_depends_on(repo: GitRepo, by: str, state: str, word: str) -> None:
    oid = task(repo, branch="first")
    repo.commit(f"An answer\n\naynig: {state}\n", branch="first")
    name = "first" if by == "branch" else oid
    task(repo, message=f"{GO}aynig: depends-on: {name}\n")
    found = facts(repo).last
    assert (found.word if isinstance(found, Hold) else "") == word


def test_a_task_that_was_started_from_what_it_depends_on_proves_nothing(repo: GitRepo) -> None:
    oid = task(repo, branch="first")
    repo.commit(f"{GO}aynig: depends-on: {oid}\n", branch="task", parent=oid)
    found = facts(repo).last
    assert isinstance(found, Hold)
    assert found.word == "waiting"


@pytest.mark.parametrize("name", ["nowhere", "e" * 40, "--all", "HEAD~99", "main^{tree}", "a b"])
def test_a_dependency_that_is_nowhere_is_waited_for(repo: GitRepo, name: str) -> None:
    task(repo, message=f"{GO}aynig: depends-on: {name}\n")
    found = facts(repo).last
    assert isinstance(found, Hold)
    assert found.word == "waiting"


# --- working trees ---------------------------------------------------------------------------


def test_uncommitted_work_in_the_way_is_an_obstacle(repo: GitRepo) -> None:
    repo.commit(GO, files={".aynig/go": OURS, "file": "x\n"})
    repo.sync()
    assert facts(repo, "main").obstacle == ""
    (repo.path / "file").write_text("mine\n")
    assert "uncommitted" in facts(repo, "main").obstacle
