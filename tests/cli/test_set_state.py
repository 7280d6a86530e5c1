"""`aynig set-state` and `set-working` commit what is staged, with a state in dwp."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Shell
from tests.world import GitRepo


def keys(repo: GitRepo, rev: str = "HEAD") -> dict[str, str]:
    return dict(repo.trailers(rev))


def test_a_state_is_committed_on_the_branch_that_is_checked_out(aynig: Shell) -> None:
    before = aynig.repo.tip()
    said = aynig("set-state", "--dwp-state", "Review", "--subject", "Look", "--prompt", "Well?")
    assert (said.status, said.err) == (0, "")
    assert said.out == f"{aynig.repo.tip()}\n"
    assert aynig.repo.git("rev-parse", "HEAD^") == before
    assert aynig.repo.message("main") == "Look\n\nWell?\n\ndwp-state: review\n"


def test_what_is_staged_is_in_the_commit_and_nothing_else(aynig: Shell) -> None:
    for name in ("staged", "left"):
        (aynig.repo.path / name).write_text(name)
    aynig.repo.git("add", "staged")
    below = aynig.repo.path / "below"
    below.mkdir()
    assert aynig("-C", "below", "set-state", "--dwp-state", "go").status == 0
    assert aynig.repo.git("ls-tree", "--name-only", "HEAD") == "staged"
    assert aynig.repo.git("status", "--porcelain") == "?? left"


def test_a_detached_head_moves_alone(aynig: Shell) -> None:
    main = aynig.repo.tip()
    aynig.repo.git("checkout", "--quiet", "--detach")
    said = aynig("set-state", "--dwp-state", "go")
    assert aynig.repo.git("rev-parse", "HEAD") == said.out.strip()
    assert aynig.repo.tip() == main


def test_the_first_commit_of_a_repository_may_be_a_state(
    aynig: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = GitRepo.init(tmp_path / "empty", empty=True)
    monkeypatch.chdir(empty.path)
    assert aynig("set-state", "--dwp-state", "go").status == 0
    assert keys(empty) == {"dwp-state": "go"}


def test_trailers_are_added_and_those_of_head_are_not_copied(aynig: Shell) -> None:
    aynig.repo.commit("x\n\ndwp-state: go\ndwp-issue: 41\n")
    said = aynig(
        "set-state", "--dwp-state", "next", "--trailer", "dwp-issue: 42", "--trailer", "Ref:7"
    )
    assert said.status == 0
    assert aynig.repo.trailers("main") == [
        ("dwp-state", "next"), ("dwp-issue", "42"), ("Ref", "7"),
    ]  # fmt: skip


@pytest.mark.parametrize("source", ["--prompt-stdin", "--prompt-file=prompt"])
def test_the_body_comes_from_a_file_or_standard_input(aynig: Shell, source: str) -> None:
    body = b"One\n\n# two \xff\n"
    (aynig.repo.path / "prompt").write_bytes(body)
    said = aynig.process("set-state", "--dwp-state", "go", source, stdin=body)
    assert said.status == 0, said.err
    assert body.strip() in aynig.repo.message("main").encode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "--dwp-state"),
        (["--dwp-state", "working"], "set-working"),
        (["--dwp-state", "no state"], "is no state"),
        (["--dwp-state", "go", "--trailer", "dwp-state: x"], "is a state"),
        (["--dwp-state", "go", "--trailer", "aynig: x"], "is a state"),
        (["--dwp-state", "go", "--trailer", "x"], "KEY:VALUE"),
        (["--dwp-state", "go", "--trailer", "k: a\nb: c"], "line break"),
        (["--dwp-state", "go", "--prompt", "a", "--prompt-stdin"], "together"),
        (["--dwp-state", "go", "--prompt-file", "missing"], "No such file"),
    ],
)
def test_wrong_use_is_one_line_and_no_commit(aynig: Shell, args: list[str], words: str) -> None:
    before = aynig.repo.tip()
    said = aynig("set-state", *args)
    assert (said.status, said.out) == (2, "")
    assert words in said.err
    assert len(said.err.splitlines()) == 1
    assert aynig.repo.tip() == before


def test_a_merge_that_is_under_way_is_finished_first(aynig: Shell) -> None:
    (aynig.repo.git_dir / "MERGE_HEAD").write_text(aynig.repo.tip() + "\n")
    said = aynig("set-state", "--dwp-state", "go")
    assert (said.status, said.out) == (1, "")
    assert "a merge is under way" in said.err


# --- a lease -----------------------------------------------------------------------------------


def test_a_lease_names_state_run_runner_and_time(aynig: Shell) -> None:
    aynig.repo.commit("Go\n\nPrompt\n\ndwp-state: build\ndwp-issue: 7\ndwp-answers: " + "a" * 40)
    said = aynig("set-working", "--lease-seconds", "90")
    assert (said.status, said.out) == (0, f"{aynig.repo.tip()}\n")
    found = keys(aynig.repo)
    assert found.pop("dwp-run-id")
    assert found.pop("dwp-runner-id")
    assert found == {
        "dwp-state": "working", "dwp-origin-state": "build", "dwp-lease-seconds": "90",
        "dwp-issue": "7",
    }  # fmt: skip


def test_a_renewal_keeps_what_the_lease_says(aynig: Shell) -> None:
    aynig.repo.commit("Go\n\ndwp-state: build\n")
    aynig.repo.sync()
    aynig("set-working", "--lease-seconds", "90")
    first = aynig.repo.tip()
    aynig("set-working", "--trailer", "dwp-note: still here")
    assert aynig.repo.git("rev-parse", "HEAD^") == first
    assert keys(aynig.repo) == keys(aynig.repo, first) | {"dwp-note": "still here"}


def test_a_lease_takes_its_run_from_the_environment(aynig: Shell) -> None:
    aynig.repo.commit("Go\n\ndwp-state: build\n")
    aynig.process("set-working", AYNIG_RUN_ID="run-1")
    assert keys(aynig.repo)["dwp-run-id"] == "run-1"
    assert keys(aynig.repo)["dwp-lease-seconds"] == "300"


def test_there_is_no_lease_without_a_state(aynig: Shell) -> None:
    said = aynig("set-working")
    assert (said.status, said.out) == (1, "")
    assert "no dwp-state" in said.err


def test_what_a_lease_says_itself_is_no_trailer(aynig: Shell) -> None:
    aynig.repo.commit("Go\n\ndwp-state: build\n")
    assert aynig("set-working", "--trailer", "dwp-run-id: mine").status == 2


# --- a remote ----------------------------------------------------------------------------------


@pytest.fixture
def origin(aynig: Shell, tmp_path: Path) -> GitRepo:
    """A bare repository that is the remote `origin`, with `main` in it."""
    made = GitRepo.init(tmp_path / "origin.git", bare=True, empty=True)
    aynig.repo.git("remote", "add", "origin", str(made.path))
    aynig.repo.git("push", "--quiet", "origin", "main")
    return made


@pytest.mark.parametrize("option", ["--dwp-remote", "--remote"])
def test_a_state_is_pushed_where_a_remote_is_named(
    aynig: Shell, origin: GitRepo, option: str
) -> None:
    said = aynig("set-state", "--dwp-state", "go", option, "origin")
    assert said.status == 0, said.err
    assert origin.tip() == aynig.repo.tip() == said.out.strip()
    assert keys(aynig.repo)["dwp-source"] == "git:origin"


def test_the_remote_that_head_names_is_pushed_to(aynig: Shell, origin: GitRepo) -> None:
    aynig("set-state", "--dwp-state", "go", "--dwp-remote", "origin")
    aynig("set-working")
    said = aynig("set-state", "--dwp-state", "done")
    assert origin.tip() == said.out.strip()


@pytest.mark.parametrize("name", ["nowhere", "../origin.git", "--upload-pack=x"])
def test_only_a_configured_remote_is_pushed_to(aynig: Shell, origin: GitRepo, name: str) -> None:
    aynig.repo.commit(f"x\n\ndwp-state: go\ndwp-source: git:{name}\n")
    before = origin.tip()
    said = aynig("set-state", "--dwp-state", "done")
    assert (said.status, said.out) == (1, "")
    assert "no remote" in said.err
    assert origin.tip() == before


def test_a_remote_that_has_moved_on_refuses_and_nothing_moves(
    aynig: Shell, origin: GitRepo
) -> None:
    theirs = origin.commit("Theirs\n\ndwp-state: other\n")
    mine = aynig.repo.tip()
    said = aynig("set-state", "--dwp-state", "go", "--dwp-remote", "origin")
    assert (said.status, said.out) == (1, "")
    assert "did not take" in said.err
    assert (origin.tip(), aynig.repo.tip()) == (theirs, mine)


def test_a_detached_worktree_pushes_to_the_branch_of_its_run(aynig: Shell, origin: GitRepo) -> None:
    aynig.repo.git("checkout", "--quiet", "--detach")
    said = aynig("set-state", "--dwp-state", "go", "--dwp-remote", "origin")
    assert said.status == 1
    assert "AYNIG_BRANCH" in said.err
    args = ("set-state", "--dwp-state", "go", "--dwp-remote", "origin")
    said = aynig.process(*args, AYNIG_BRANCH="main")
    assert said.status == 0, said.err
    assert origin.tip() == said.out.strip()


LEASE = (
    "working\n\ndwp-state: working\ndwp-origin-state: go\ndwp-run-id: run-1\n"
    "dwp-lease-seconds: 300\n"
)


def test_a_renewal_by_the_runner_meanwhile_is_followed(aynig: Shell, origin: GitRepo) -> None:
    """The runner renews on the branch while the script works on a commit below."""
    aynig.repo.commit(LEASE, branch="task", parent=aynig.repo.tip())
    aynig.repo.git("push", "--quiet", "origin", "task")
    aynig.repo.git("checkout", "--quiet", "--detach", "task")
    work = aynig.repo.path / "work"
    work.write_text("done")
    aynig.repo.git("add", "work")
    aynig.repo.git("commit", "--quiet", "-m", "Work of the script's own")
    renewed = origin.commit(LEASE, branch="task")
    args = ("set-state", "--dwp-state", "done", "--dwp-remote", "origin")
    said = aynig.process(*args, AYNIG_BRANCH="task", AYNIG_RUN_ID="run-1")
    assert said.status == 0, said.err
    assert origin.git("log", "--format=%s", f"{renewed}..task") == (
        "done\nWork of the script's own"
    )
    assert origin.git("show", "task:work") == "done"
    assert aynig.repo.git("rev-parse", "HEAD") == origin.tip("task")
    assert aynig.repo.git("status", "--porcelain") == ""


def test_a_lease_of_another_run_is_not_followed(aynig: Shell, origin: GitRepo) -> None:
    aynig.repo.commit(LEASE, branch="task", parent=aynig.repo.tip())
    aynig.repo.git("push", "--quiet", "origin", "task")
    aynig.repo.git("checkout", "--quiet", "--detach", "task")
    theirs = origin.commit(LEASE.replace("run-1", "run-2"), branch="task")
    args = ("set-state", "--dwp-state", "done", "--dwp-remote", "origin")
    said = aynig.process(*args, AYNIG_BRANCH="task", AYNIG_RUN_ID="run-1")
    assert said.status == 1
    assert origin.tip("task") == theirs


def test_a_renewal_of_the_local_branch_is_followed_too(aynig: Shell) -> None:
    aynig.repo.commit(LEASE, branch="task", parent=aynig.repo.tip())
    aynig.repo.git("checkout", "--quiet", "--detach", "task")
    renewed = aynig.repo.commit(LEASE, branch="task")
    args = ("set-state", "--dwp-state", "done")
    said = aynig.process(*args, AYNIG_BRANCH="task", AYNIG_RUN_ID="run-1")
    assert aynig.repo.git("rev-parse", f"{said.out.strip()}^") == renewed
    assert aynig.repo.tip("task") == renewed
