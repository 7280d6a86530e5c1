"""`aynig check`: with no daemon, on files as they lie there, or on a commit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Shell
from tests.world import SCRIPT_OK, GitRepo
from tests.world import aynig as started

WHERE = ".aynig/config.yaml"


def write(repo: GitRepo, config: str, *scripts: str) -> None:
    folder = repo.path / ".aynig"
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(config)
    for name in scripts:
        (folder / name).write_text(SCRIPT_OK)
        (folder / name).chmod(0o755)


def test_a_good_workflow_is_said_to_be_right(aynig: Shell) -> None:
    write(aynig.repo, "states: {a: {next: b}, b: {}}\n", "a", "b")
    said = aynig("check")
    assert (said.status, said.out) == (0, f"{WHERE} is right: 2 states.\n")


def test_without_a_config_file_all_is_well(aynig: Shell) -> None:
    said = aynig("check")
    assert (said.status, said.out) == (0, f"There is no {WHERE}: all states have the defaults.\n")


def test_each_finding_is_one_line_with_place_and_mend(aynig: Shell) -> None:
    config = "states:\n  a:\n    next: zeta\n    loop: {promise: X}\n  b: {}\nsigned: required\n"
    write(aynig.repo, config, "a", "b")
    said = aynig("check")
    assert said.status == 1
    assert said.lines == [
        f"{WHERE}, line 3: error: states.a.next: the state zeta has no script;"
        " write .aynig/zeta and commit it, or correct the name",
        f"{WHERE}, line 4: warning: states.a.loop: a loop without max-iterations ends after 50;"
        " say how many you mean: max-iterations: 50",
        f"{WHERE}, line 6: error: signed: .aynig/allowed_signers does not exist, so that no"
        " signature counts; commit it: a line for each person, as in ssh-keygen(1)",
        "2 errors, 1 warning.",
    ]


@pytest.mark.parametrize(
    ("config", "status", "strict"),
    [
        ("states: {a: {next: done}}\n", 0, 0),
        ("states: {a: {loop: {promise: X}}}\n", 0, 1),
        ("states: {a: {next: nowhere}}\n", 1, 1),
        ("states: {a: {nxt: done}}\n", 1, 1),
        # A note is no reason to fail.
        ("start: [a]\n", 0, 0),
    ],
)
def test_the_exit_status_is_about_errors_and_with_strict_about_warnings(
    aynig: Shell, config: str, status: int, strict: int
) -> None:
    write(aynig.repo, config, "a", "spare")
    assert aynig("check").status == status
    assert aynig("check", "--strict").status == strict


def test_a_malformed_file_is_one_finding_with_its_place(aynig: Shell) -> None:
    write(aynig.repo, "states:\n  a: {nxt: b}\n")
    said = aynig("check")
    assert (said.status, said.err) == (1, "")
    assert said.lines[0].startswith(
        f"{WHERE}, line 2: error: states.a.nxt: unknown key, did you mean next?; keys that exist"
    )
    (row,) = aynig("check", "--json").rows
    assert row == {
        "level": "error",
        "word": "malformed",
        "file": WHERE,
        "line": 2,
        "path": "states.a.nxt",
        "detail": "unknown key, did you mean next?",
        "mend": row["mend"],
    }


def test_programs_get_all_parts_of_a_finding(aynig: Shell) -> None:
    write(aynig.repo, "states:\n  a: {next: nowhere}\n", "a")
    assert aynig("check", "--json").rows == [
        {
            "level": "error",
            "word": "missing-script",
            "file": WHERE,
            "line": 2,
            "path": "states.a.next",
            "detail": "the state nowhere has no script",
            "mend": "Write .aynig/nowhere and commit it, or correct the name.",
        }
    ]
    assert aynig("check", "--json").status == 1


def test_a_commit_is_checked_as_it_is_and_not_what_lies_in_the_folder(aynig: Shell) -> None:
    aynig.repo.commit("bad", files={WHERE: "states: {a: {next: nowhere}}\n", ".aynig/a": SCRIPT_OK})
    aynig.repo.sync()
    write(aynig.repo, "states: {a: {next: done}}\n")
    assert aynig("check").status == 0
    said = aynig("check", "--rev", "main")
    assert said.status == 1
    assert said.lines[0].startswith(f"{WHERE} at main, line 1: error: states.a.next: ")
    assert aynig("check", "--rev", "gone").status == 2
    assert "there is no commit 'gone'" in aynig("check", "--rev", "gone").err


def test_in_a_bare_repository_the_default_branch_is_checked(bare: GitRepo) -> None:
    bare.commit("bad", files={WHERE: "states: {a: {next: nowhere}}\n", ".aynig/a": SCRIPT_OK})
    bare.commit("good", branch="side", parent=bare.tip(), files={WHERE: "states: {a: {}}\n"})
    for args in ((), ("--rev", "main")):
        done = started("check", *args, cwd=bare.path)
        assert done.returncode == 1
        assert done.stdout.startswith(f"{WHERE} at main, line 1: error: states.a.next: ")
    assert started("check", "--rev", "side", cwd=bare.path).returncode == 0


def test_another_folder_needs_no_repository(aynig: Shell, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / ".aynig").mkdir(parents=True)
    (other / WHERE).write_text("states: {a: {next: nowhere}}\n")
    done = started("check", "other", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.startswith(f"other/{WHERE}, line 1: error: states.a: ")
    assert aynig("check", str(other), "--rev", "main").status == 2
    assert aynig("check", str(tmp_path / "gone")).status == 2


def test_from_below_the_top_the_whole_is_checked(aynig: Shell) -> None:
    write(aynig.repo, "states: {a: {next: nowhere}}\n", "a")
    below = aynig.repo.path / "deep"
    below.mkdir()
    assert started("check", cwd=below).returncode == 1


def test_as_a_pre_commit_hook_it_stops_a_bad_workflow(aynig: Shell) -> None:
    repo = aynig.repo
    hook = repo.path / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\nexec {sys.executable} -m aynig check\n")
    hook.chmod(0o755)
    write(repo, "states: {a: {next: nowhere}}\n", "a")
    repo.git("add", ".aynig")
    root = Path(__file__).resolve().parents[2]
    command = ["git", "commit", "--quiet", "-m", "x"]
    env = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=repo.path, env=env, capture_output=True, check=False)
    assert done.returncode == 1
    assert b"the state nowhere has no script" in done.stdout + done.stderr
    write(repo, "states: {a: {next: done}}\n")
    assert subprocess.run(command, cwd=repo.path, env=env, check=False).returncode == 0


@pytest.mark.parametrize("bare", [False, True])
def test_scenarios_on_a_ref_that_is_not_there_are_a_warning(aynig: Shell, bare: bool) -> None:
    repo = aynig.repo
    text = "states: {go: {verify: {scenarios: 'judge:set'}}}\n"
    files = {".aynig/config.yaml": text, ".aynig/go": "#!/bin/sh\n"}
    repo.commit("x", branch="main", files=files)
    args = ("check", "--rev", "main") if bare else ("check",)
    if not bare:
        repo.git("reset", "--hard", "--quiet", "main")
    (row,) = aynig(*args, "--json").rows
    assert (row["level"], row["detail"]) == ("warning", "there is no judge in this repository yet")
    repo.commit("x", branch="judge", files={"else": ""})
    (row,) = aynig(*args, "--json").rows
    assert row["detail"] == "there is no set in judge yet"
    repo.commit("x", branch="judge", files={"set/one": "#!/bin/sh\n"})
    assert aynig(*args, "--json").rows == []
    assert aynig(*args).status == 0
