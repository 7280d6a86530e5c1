"""`aynig judge` publishes a hash and reveals it; `aynig audit` holds answers against it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aynig.policies.commitment import commitment_to
from tests.cli.conftest import Shell
from tests.world import GitRepo

SCENARIO = "#!/bin/sh\nexit 0\n"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the judge's files go."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "aynig" / "judge"


@pytest.fixture(autouse=True)
def _scenarios(repo: GitRepo) -> None:
    repo.commit("hidden", branch="hidden", files={"set/one": SCENARIO, "set/two": SCENARIO})


def committed(aynig: Shell, *args: str) -> str:
    """The hash of a new commitment."""
    said = aynig("judge", "commit", "hidden:set", *args)
    assert (said.status, said.lines[1:]) == (0, [])
    return said.lines[0]


def answer(repo: GitRepo, *fields: str, verified: str = "2/2", branch: str = "task") -> str:
    """A task and its verified answer, as a daemon writes them, far in the future."""
    repo._clock = 4_000_000_000
    trigger = repo.commit("please\n\naynig: build\n", branch=branch, parent=repo.tip())
    return answered(repo, trigger, *fields, verified=verified, branch=branch)


def answered(
    repo: GitRepo, trigger: str, *fields: str, verified: str = "2/2", branch: str = "task"
) -> str:
    lines = [
        f"aynig: {field}" for field in (f"answers: {trigger}", f"verified: {verified}", *fields)
    ]
    return repo.commit("\n".join(["built\n", "aynig: done", *lines, ""]), branch=branch)


# --- judge ---------------------------------------------------------------------------------------


def test_what_is_published_is_a_hash_and_nothing_of_what_it_is_made_of(
    aynig: Shell, state: Path
) -> None:
    digest = committed(aynig, "--name", "release")
    message = aynig.repo.message("refs/aynig/judge/release")
    tree = aynig.repo.git("rev-parse", "hidden:set")
    (place,) = state.iterdir()
    secret = json.loads(place.read_text())
    assert f"commitment: {digest}" in message
    assert digest == commitment_to(tree, secret["nonce"])
    assert not any(part in message for part in (tree, secret["nonce"], "set"))
    assert place.stat().st_mode & 0o777 == 0o600
    assert place.parent.stat().st_mode & 0o777 == 0o700


def test_the_same_scenarios_have_another_hash_each_time(aynig: Shell, state: Path) -> None:
    assert committed(aynig) != committed(aynig)
    assert len(list(state.iterdir())) == 2


@pytest.mark.usefixtures("state")
def test_a_reveal_is_a_child_of_the_record_and_shows_the_scenarios(aynig: Shell) -> None:
    digest = committed(aynig, "--name", "release")
    record = aynig.repo.git("rev-parse", "refs/aynig/judge/release")
    said = aynig("judge", "reveal", "release")
    tree = aynig.repo.git("rev-parse", "hidden:set")
    assert said.out == f"release {digest} is made of tree {tree}\n"
    assert aynig.repo.git("rev-parse", "refs/aynig/judge/release^") == record
    assert aynig.repo.git("ls-tree", "--name-only", "refs/aynig/judge/release") == "one\ntwo"
    again = aynig("judge", "reveal", "release")
    assert (again.status, "revealed already" in again.err) == (1, True)


def test_the_secret_may_be_kept_in_another_place(aynig: Shell, state: Path, tmp_path: Path) -> None:
    place = tmp_path / "secret.json"
    committed(aynig, "--name", "release", "--secret", str(place))
    assert not state.exists()
    said = aynig("judge", "reveal", "release")
    assert (said.status, "--secret FILE" in said.err) == (1, True)
    (tmp_path / "other.json").write_text("{}")
    assert aynig("judge", "reveal", "release", "--secret", str(tmp_path / "other.json")).status == 1
    assert aynig("judge", "reveal", "release", "--secret", str(place)).status == 0


@pytest.mark.parametrize(
    ("args", "status", "complaint"),
    [
        (("commit", "hidden:nowhere"), 2, "does not exist"),
        (("commit", "hidden:set", "--name", "a..b"), 2, "can't be a name"),
        (("commit", ":set"), 2, "names no scenarios"),
        (("commit", "hidden:set", "--name", "taken"), 1, "is committed to already"),
        (("commit", "hidden:set", "--name", "taken/below"), 1, "taken"),
        (("reveal", "nobody"), 1, "nothing is committed to under 'nobody'. There are: 'taken'"),
    ],
)
def test_what_can_not_be_done_is_told_and_leaves_no_secret(
    aynig: Shell, state: Path, args: tuple[str, ...], status: int, complaint: str
) -> None:
    committed(aynig, "--name", "taken")
    before = list(state.iterdir())
    said = aynig("judge", *args)
    assert (said.status, complaint in said.err) == (status, True), said
    assert list(state.iterdir()) == before


@pytest.mark.usefixtures("state")
def test_scenarios_of_another_repository_are_committed_to(aynig: Shell, tmp_path: Path) -> None:
    other = GitRepo.init(tmp_path / "other.git", bare=True)
    other.commit("x", files={"set/secret": SCENARIO})
    args = ("main:set", "--repository", str(other.path), "--name", "far", "--json")
    (row,) = aynig("judge", "commit", *args).rows
    assert row["scenarios"] == 1
    said = aynig("judge", "reveal", "far", "--json")
    assert said.rows[0]["tree"] == other.git("rev-parse", "main:set")
    # It has only what it was given: the scenarios are in the other repository.
    assert aynig.repo.git("ls-tree", "refs/aynig/judge/far") == ""


@pytest.mark.usefixtures("state")
def test_a_commitment_is_published_on_a_remote_and_found_there(
    aynig: Shell, tmp_path: Path
) -> None:
    server = GitRepo.init(tmp_path / "server.git", bare=True, empty=True)
    aynig.repo.git("mktree", stdin="")
    aynig.repo.git("remote", "add", "origin", str(server.path))
    aynig.repo.git("push", "--quiet", "origin", "main", "hidden")
    digest = committed(aynig, "--name", "release", "--remote", "origin")
    assert f"commitment: {digest}" in server.message("refs/aynig/judge/release")
    answer(aynig.repo, f"judged-by: {digest}")
    aynig.repo.git("push", "--quiet", "origin", "task")
    assert aynig("audit", "task", "--remote", "origin").status == 1
    assert aynig("judge", "reveal", "release", "--remote", "origin").status == 0
    assert aynig("audit", "task", "--remote", "origin").status == 0


# --- audit ---------------------------------------------------------------------------------------


def audited(aynig: Shell, branch: str = "task") -> list[tuple[str, str]]:
    return [(row["verified"], row["verdict"]) for row in aynig("audit", branch, "--json").rows]


@pytest.mark.usefixtures("state")
def test_an_answer_holds_once_the_scenarios_are_revealed(aynig: Shell) -> None:
    digest = committed(aynig, "--name", "release")
    oid = answer(aynig.repo, f"judged-by: {digest}", verified="14/17")
    assert (aynig("audit", "task").status, audited(aynig)) == (1, [("14/17", "unrevealed")])
    aynig("judge", "reveal", "release")
    said = aynig("audit", "task")
    assert said.status == 0
    assert said.lines[:2] == [f"{oid[:12]} done: held", "  14 of 17 checks passed"]
    assert "as far as the clocks of both writers are right" in said.out


@pytest.mark.usefixtures("state")
def test_a_hash_that_came_after_the_work_is_found_out(aynig: Shell) -> None:
    digest = committed(aynig, "--name", "release")
    # The commits of this repository are of long ago.
    late = aynig.repo.commit("please\n\naynig: build\n", branch="task", parent=aynig.repo.tip())
    answered(aynig.repo, late, f"judged-by: {digest}")
    aynig("judge", "reveal", "release")
    said = aynig("audit", "task")
    assert (said.status, "after the work began" in said.out) == (1, True)


@pytest.mark.usefixtures("state")
def test_a_hash_that_the_work_began_with_was_there_whatever_the_clocks_say(aynig: Shell) -> None:
    digest = committed(aynig, "--name", "release")
    message = f"please\n\naynig: build\naynig: commitment: {digest}\n"
    trigger = aynig.repo.commit(message, branch="task", parent=aynig.repo.tip())
    answered(aynig.repo, trigger, f"judged-by: {digest}")
    aynig("judge", "reveal", "release")
    said = aynig("audit", "task")
    assert (said.status, "which names it" in said.out) == (0, True)


@pytest.mark.usefixtures("state")
def test_what_a_worker_commits_itself_is_not_audited(aynig: Shell) -> None:
    repo = aynig.repo
    trigger = repo.commit("please\n\naynig: build\n", branch="task", parent=repo.tip())
    forged = f"mine\n\naynig: done\naynig: answers: {trigger}\naynig: verified: 99/99\n"
    repo.commit(forged, branch="task")
    answered(repo, trigger, verified="1/2")
    assert audited(aynig) == [("1/2", "open")]


@pytest.mark.usefixtures("state")
def test_every_answer_of_a_task_has_its_row(aynig: Shell) -> None:
    digest = committed(aynig, "--name", "release")
    aynig("judge", "reveal", "release")
    first = answer(aynig.repo, f"judged-by: {'f' * 64}")
    answered(aynig.repo, first, f"judged-by: {digest}")
    answered(aynig.repo, aynig.repo.tip("task"), verified="3/2")
    assert audited(aynig) == [("2/2", "broken"), ("2/2", "held"), ("3/2", "broken")]


def test_a_task_without_verification_has_nothing_to_audit(aynig: Shell) -> None:
    aynig.repo.commit("please\n\naynig: build\n", branch="task")
    said = aynig("audit", "task")
    assert (said.status, said.out) == (0, "No answer of this task was verified.\n")
    assert aynig("audit", "nobody").status == 1


def test_no_state_folder_is_made_by_looking(aynig: Shell, state: Path) -> None:
    aynig("audit", "task")
    assert not state.exists()
