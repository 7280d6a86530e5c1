from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from aynig.checks.machine import judge_descriptors, judge_git, judge_inotify
from aynig.checks.workflow import nearest_state
from aynig.git.refs import RefStore
from aynig.git.repo import Repo
from aynig.lease import Leases
from aynig.model import Event, Holder, Statement
from aynig.processes import boot_id, is_alive, this_holder
from tests.world import SCRIPT_OK, GitRepo, aynig, wait_for

Row = dict[str, Any]


def doctor(repo: GitRepo, *args: str) -> list[Row]:
    done = aynig("doctor", "--json", *args, cwd=repo.path)
    found: list[Row] = json.loads(done.stdout)
    # The exit status says whether there is an error, and nothing else.
    assert done.returncode == any(row["level"] == "error" for row in found), done.stderr
    return found


def of(found: list[Row], check: str) -> list[Row]:
    return [row for row in found if row["check"] == check]


def poor(found: list[Row], check: str) -> list[Row]:
    return [row for row in of(found, check) if row["level"] != "ok"]


@pytest.fixture
def healthy(repo: GitRepo) -> GitRepo:
    """A repository in which all is well."""
    repo.git("config", "user.name", "Ada")
    repo.git("config", "user.email", "ada@example.org")
    repo.commit("Add a state", files={".aynig/hello": SCRIPT_OK})
    repo.sync()
    return repo


def test_all_is_well_in_a_good_repository(healthy: GitRepo) -> None:
    found = doctor(healthy)
    checks = ["scripts", "config", "leftovers", "refs", "hooks", "identity", "repository"]
    assert [row for check in [*checks, "settings", "git"] for row in poor(found, check)] == []
    assert {row["check"] for row in found} >= {*checks, "settings", "rescues", "space", "python"}
    assert all(row.keys() == {"check", "level", "detail", "mend"} for row in found)


def test_outside_of_a_repository_the_machine_is_checked(tmp_path: Path) -> None:
    found = json.loads(aynig("doctor", "--json", cwd=tmp_path).stdout)
    assert {row["check"] for row in found} >= {"git", "python", "libraries", "repository"}
    assert of(found, "repository")[0]["level"] == "ok"


def test_people_get_a_table_and_what_mends_each(healthy: GitRepo) -> None:
    healthy.git("config", "aynig.jobs", "many")
    done = aynig("doctor", cwd=healthy.path)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["check", "level", "detail"]
    assert any(line.startswith("  to mend: Set it: git config aynig.jobs") for line in lines)
    assert lines[-1].startswith("1 error, ")


# -- machine ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("git version 2.25.1", "error"),
        ("git version 2.30.9", "error"),
        ("git version 2.34.1", "warning"),
        ("git version 2.39.5 (Apple Git-154)", "ok"),
        ("git version 3.0.0", "ok"),
        ("nonsense", "warning"),
    ],
)
def test_old_versions_of_git_are_told(text: str, level: str) -> None:
    finding = judge_git(text, "/usr/bin/git")
    assert finding.level == level
    assert bool(finding.mend) == (level != "ok")


@pytest.mark.parametrize(
    ("limits", "folders", "instances", "levels"),
    [
        ({"max_user_watches": 9000, "max_user_instances": 9}, 100, 1, ["ok"]),
        ({"max_user_watches": 90, "max_user_instances": 9}, 100, 1, ["warning"]),
        ({"max_user_watches": 90, "max_user_instances": 9}, 100, 9, ["warning"] * 2),
        ({"max_user_watches": 9000, "max_queued_events": 16}, 100, 1, ["warning"]),
        ({}, 1, 0, ["warning"]),
    ],
    ids=["enough", "watches", "watches-and-instances", "queue", "no-inotify"],
)
def test_limits_of_inotify_are_compared_with_what_is_watched(
    limits: dict[str, int], folders: int, instances: int, levels: list[str]
) -> None:
    assert [row.level for row in judge_inotify(limits, folders, instances)] == levels


@pytest.mark.parametrize(("soft", "level"), [(-1, "ok"), (1024, "ok"), (64, "warning")])
def test_open_files_are_compared_with_the_jobs(soft: int, level: str) -> None:
    assert judge_descriptors(soft, 4).level == level


# -- repository ------------------------------------------------------------------------------


def test_a_format_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "sha256"
    subprocess.run(["git", "init", "--quiet", "--object-format=sha256", str(path)], check=True)
    rows = poor(doctor(GitRepo(path)), "repository")
    assert "sha256" in rows[0]["mend"]


@pytest.mark.parametrize(
    ("setting", "word"),
    [(("core.sparseCheckout", "true"), "sparse"), (("shallow", ""), "shallow")],
    ids=["sparse", "shallow"],
)
def test_special_clones_are_named(healthy: GitRepo, setting: tuple[str, str], word: str) -> None:
    if word == "shallow":
        (healthy.git_dir / "shallow").write_text(healthy.tip() + "\n")
    else:
        healthy.git("config", *setting)
    assert any(row["detail"].startswith(word) for row in of(doctor(healthy), "repository"))


def test_a_missing_identity_is_told(healthy: GitRepo) -> None:
    healthy.git("config", "--unset", "user.name")
    kept = dict.fromkeys(("GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"), "")
    done = aynig("doctor", "--json", cwd=healthy.path, env=kept)
    (row,) = of(json.loads(done.stdout), "identity")
    assert row["level"] == "warning"
    assert row["mend"].startswith("git config user.name")


def test_wrong_settings_are_an_error_and_the_rest_is_checked(healthy: GitRepo) -> None:
    healthy.git("config", "aynig.jbos", "3")
    found = doctor(healthy)
    (row,) = poor(found, "settings")
    assert "did you mean aynig.jobs" in row["detail"]
    assert of(found, "scripts")


def test_an_empty_ref_file_is_named_and_the_mend_works(healthy: GitRepo) -> None:
    healthy.git("branch", "task")
    path = healthy.git_dir / "refs" / "heads" / "task"
    path.write_text("")
    (row,) = poor(doctor(healthy), "refs")
    assert "refs/heads/task" in row["detail"]
    subprocess.run(["sh", "-c", row["mend"]], cwd=healthy.path, check=True)
    assert healthy.tip("task") == healthy.tip("main")
    assert poor(doctor(healthy), "refs") == []


def test_garbage_in_packed_refs_is_a_finding_with_file_and_line(healthy: GitRepo) -> None:
    healthy.git("pack-refs", "--all")
    packed = healthy.git_dir / "packed-refs"
    text = packed.read_text()
    packed.write_text(text + "garbage\n")
    found = doctor(healthy)
    (row,) = poor(found, "refs")
    assert row["detail"] == f"{packed}: line {text.count(chr(10)) + 1} is no ref: 'garbage'"
    assert "delete that line" in row["mend"]
    assert of(found, "space")
    packed.write_text(text)
    assert poor(doctor(healthy), "refs") == []


def test_a_git_file_that_points_nowhere_is_an_error(tmp_path: Path) -> None:
    (tmp_path / ".git").write_text("gitdir: /gone\n")
    (row,) = of(doctor(GitRepo(tmp_path)), "repository")
    assert (row["level"], row["detail"]) == (
        "error",
        f"{tmp_path}/.git points at /gone, which is not there",
    )


def test_an_old_lock_is_named(healthy: GitRepo) -> None:
    lock = healthy.git_dir / "refs" / "heads" / "main.lock"
    lock.touch()
    assert poor(doctor(healthy), "locks") == []
    os.utime(lock, (time.time() - 3600,) * 2)
    (row,) = poor(doctor(healthy), "locks")
    assert str(lock) in row["mend"]


def test_rescued_work_is_counted(healthy: GitRepo) -> None:
    healthy.git("update-ref", "refs/aynig/rescue/run-1", "HEAD")
    (row,) = of(doctor(healthy), "rescues")
    assert row["level"] == "ok"
    assert row["detail"].startswith("the work of 1 failed run is kept")
    look = row["mend"].partition(";")[0]
    shown = subprocess.run(
        ["sh", "-c", look], cwd=healthy.path, capture_output=True, text=True, check=True
    )
    assert "Add a state" in shown.stdout


# -- hooks -----------------------------------------------------------------------------------


def test_installed_hooks_are_named(healthy: GitRepo) -> None:
    aynig("hooks", "install", cwd=healthy.path)
    (row,) = of(doctor(healthy), "hooks")
    assert (row["level"], "post-commit" in row["detail"]) == ("ok", True)


def test_a_server_hook_whose_program_is_gone_is_an_error(bare: GitRepo) -> None:
    aynig("hooks", "install", "--server", cwd=bare.path)
    wake = bare.path / "hooks" / "aynig-wake"
    wake.write_text(wake.read_text().replace(sys.executable, "/gone/python"))
    (row,) = poor(doctor(bare), "hooks")
    assert (row["level"], row["mend"]) == ("error", "aynig hooks install --server")
    assert "/gone/python, which is gone" in row["detail"]
    aynig("hooks", "install", "--server", cwd=bare.path)
    assert poor(doctor(bare), "hooks") == []


def test_an_earlier_hook_that_is_not_called_any_more_is_told(healthy: GitRepo) -> None:
    folder = healthy.git_dir / "hooks"
    (folder / "post-commit").write_text("#!/bin/sh\n")
    aynig("hooks", "install", cwd=healthy.path)
    (folder / "post-commit").unlink()
    (row,) = poor(doctor(healthy), "hooks")
    assert "is not called any more" in row["detail"]
    aynig("hooks", "install", cwd=healthy.path)
    assert poor(doctor(healthy), "hooks") == []


# -- scripts and config ----------------------------------------------------------------------


def link(repo: GitRepo, path: str, target: str) -> None:
    place = repo.path / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)
    repo.git("add", path)
    repo.git("commit", "--quiet", "-m", "link")


@pytest.mark.parametrize(
    ("files", "level", "words"),
    [
        ({".aynig/x": " #!/bin/sh\n"}, "", ""),
        ({".aynig/lib.sh": "echo\n", ".aynig/README.md": "text"}, "", ""),
        ({".aynig/tools/Do It.py": "#!/bin/sh\n"}, "", ""),
        ({".aynig/x": "#!/bin/sh\r\n"}, "error", "CRLF"),
        ({".aynig/x": "#!/no/such/shell\n"}, "error", "/no/such/shell, which is not installed"),
        ({".aynig/x": "#!/usr/bin/env no-such\n"}, "error", "no-such, which is not installed"),
        ({".aynig/x/y": "text"}, "", ""),
        ({".aynig/Review.sh": "#!/bin/sh\n"}, "warning", "its name is no state"),
        ({".aynig/roles/r/Not One": "#!/bin/sh\n"}, "warning", "its name is no state"),
        ({".dwp/command/x": "#!/no/such/shell\n"}, "error", "not installed"),
    ],
    ids=[
        "data", "others", "beside", "crlf", "interpreter", "env", "folder", "name", "role-name",
        "dwp",
    ],
)  # fmt: skip
def test_scripts_that_cannot_run_are_named(
    healthy: GitRepo, files: dict[str, str], level: str, words: str
) -> None:
    healthy.commit("more", files=files)
    healthy.sync()
    found = poor(doctor(healthy), "scripts")
    assert [row["level"] for row in found] == ([level] if level else [])
    assert all(words in row["detail"] and row["mend"] for row in found)


def test_a_missing_run_bit_is_named_and_the_mend_works(healthy: GitRepo) -> None:
    (healthy.path / ".aynig" / "x").write_text(SCRIPT_OK)
    healthy.git("add", ".aynig")
    healthy.git("commit", "--quiet", "-m", "x")
    (row,) = poor(doctor(healthy), "scripts")
    assert "has no run bit" in row["detail"]
    subprocess.run(["sh", "-c", row["mend"]], cwd=healthy.path, check=True, capture_output=True)
    assert poor(doctor(healthy), "scripts") == []


def test_a_link_that_leaves_the_tree_is_named(healthy: GitRepo) -> None:
    link(healthy, ".aynig/x", "../../outside")
    (row,) = poor(doctor(healthy), "scripts")
    assert "leaves the tree" in row["detail"]


def test_a_script_that_was_never_committed_is_named_and_the_mend_works(healthy: GitRepo) -> None:
    (healthy.path / ".aynig" / "new").write_text(SCRIPT_OK)
    (row,) = poor(doctor(healthy), "scripts")
    assert "is in the working tree, but not in HEAD" in row["detail"]
    subprocess.run(["sh", "-c", row["mend"]], cwd=healthy.path, check=True, capture_output=True)
    assert poor(doctor(healthy), "scripts") == []


@pytest.mark.parametrize(
    ("text", "level", "words"),
    [
        ("states: {hello: {next: done}}\n", "", ""),
        ("states: {hello: {next: blocked, on-failure: echo}}\n", "", ""),
        ("states: {hello: {next: nowhere}}\n", "error", "states.hello.next: the state nowhere has"),
        ("states: {gone: {timeout: 1m}}\n", "error", "line 1: states.gone: the state gone has no"),
        ("states: {lib: {timeout: 1m}}\n", "error", "states.lib: the state lib has no script"),
        ("states: {hello: {next: hello}}\n", "warning", "no way from here to an end"),
        ("start: [hello, echo, x]\nstates: {x: {escalate: y}}\n", "error", "state x has no"),
        ("states: {hello: {nxt: done}}\n", "error", "did you mean next"),
    ],
    ids=["good", "held-and-shipped", "next", "key", "folder", "endless", "start", "malformed"],
)
def test_the_config_file_is_checked(healthy: GitRepo, text: str, level: str, words: str) -> None:
    healthy.commit("config", files={".aynig/config.yaml": text, ".aynig/lib/x": "text"})
    healthy.sync()
    found = poor(doctor(healthy), "config")
    assert [row["level"] for row in found] == ([level] if level else [])
    assert all(words in row["detail"] for row in found)


def test_in_a_bare_repository_the_default_branch_counts(bare: GitRepo) -> None:
    bare.commit("x", branch="side", parent=bare.tip(), files={".aynig/x": "#!/no/such\n"})
    assert poor(doctor(bare), "scripts") == []
    bare.commit("x", files={".aynig/x": "#!/no/such\n"})
    assert len(poor(doctor(bare), "scripts")) == 1


def test_a_ref_for_scripts_that_is_missing_is_an_error(bare: GitRepo) -> None:
    bare.git("config", "aynig.scripts", "refs/heads/gone")
    (row,) = poor(doctor(bare), "scripts")
    assert "refs/heads/gone" in row["detail"]


def test_an_unborn_branch_is_no_error(tmp_path: Path) -> None:
    repo = GitRepo.init(tmp_path / "new", empty=True)
    assert poor(doctor(repo), "scripts") == []


@pytest.mark.parametrize(
    ("name", "state"),
    [("Review.sh", "review"), ("do it.py", "do-it"), ("_x", "x"), ("ÄÖ", "state")],
)
def test_a_name_that_is_no_state_gets_a_better_one(name: str, state: str) -> None:
    assert nearest_state(name) == state


# -- leftovers -------------------------------------------------------------------------------


def dead_holder() -> Holder:
    child = subprocess.Popen(["true"])
    child.wait()
    return Holder("gone", this_holder("x").host, child.pid, boot_id(), "1")


def leave_lease(repo: GitRepo) -> None:
    oid = repo.commit("x\n\naynig: hello\n", branch="task", parent=repo.tip())
    opened, holder = Repo.open(repo.path), dead_holder()
    store = RefStore(opened, holder)
    event = Event("refs/heads/task", oid, opened.commit(oid).tree, 0, Statement("", "x", "", ""))
    leases = Leases(opened, store, holder, seconds=60, is_alive=is_alive)
    leases.acquire(event, None, "20200101T000000Z-dead", 1)
    store.close()


def leave_bell(repo: GitRepo) -> None:
    path = repo.git_dir / "aynig" / "wake" / str(dead_holder().pid)
    path.parent.mkdir(parents=True)
    os.mkfifo(path)


def leave_worktree(repo: GitRepo) -> None:
    folder = repo.git_dir / "aynig" / "worktrees" / "0"
    admin = repo.git_dir / "worktrees" / "aynig-0"
    (folder / "tree").mkdir(parents=True)
    (folder / "lock").touch()
    admin.mkdir(parents=True)
    (admin / "gitdir").write_text(f"{folder}/tree/.git\n")
    (admin / "commondir").write_text("../..\n")
    (admin / "HEAD").write_text(repo.tip() + "\n")


def leave_landing(repo: GitRepo) -> None:
    folder = repo.git_dir / "aynig" / "landing"
    folder.mkdir(parents=True)
    tip = repo.tip()
    record = {
        "holder": asdict(dead_holder()), "git_dir": str(repo.git_dir),
        "work_tree": str(repo.path), "ref": "refs/heads/main", "old": tip, "new": tip,
        "nonce": "0123",
    }  # fmt: skip
    (folder / "main.json").write_text(json.dumps(record))


def leave_setting(repo: GitRepo) -> None:
    dies = """
import os, signal, sys
from pathlib import Path
from aynig.git.guard import SharedGuard
from aynig.git.repo import Repo

with SharedGuard(Repo.open(Path(sys.argv[1])), Path(sys.argv[1])).watching("dead"):
    os.system("git config core.fsmonitor /evil")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", dies, str(repo.path)], cwd=repo.path, check=False)


@pytest.mark.parametrize(
    ("leave", "words"),
    [
        (leave_lease, "the lease of refs/heads/task"),
        (leave_bell, "nobody answers the doorbell"),
        (leave_worktree, "the worktree aynig-0 is registered"),
        (leave_landing, "was landing in"),
        (leave_setting, "config (core.fsmonitor) of the repository changed"),
    ],
    ids=["lease", "doorbell", "worktree", "landing", "setting"],
)
def test_leftovers_of_a_crash_are_named_and_mended(
    healthy: GitRepo, leave: Callable[[GitRepo], None], words: str
) -> None:
    leave(healthy)
    (row,) = poor(doctor(healthy), "leftovers")
    assert words in row["detail"]
    assert row["mend"] == "aynig doctor --mend"
    assert poor(doctor(healthy, "--mend"), "leftovers") == []


def test_looking_changes_nothing(healthy: GitRepo) -> None:
    leave_lease(healthy)
    refs = healthy.git("for-each-ref")
    doctor(healthy)
    assert healthy.git("for-each-ref") == refs


def test_a_process_of_a_run_that_has_ended_is_named(healthy: GitRepo) -> None:
    run = "20200101T000000Z-dead"
    (healthy.git_dir / "aynig" / "runs" / run).mkdir(parents=True)
    left = subprocess.Popen(["sleep", "1000"], env={**os.environ, "AYNIG_RUN_ID": run})
    try:
        wait_for(lambda: poor(doctor(healthy), "leftovers"))
        (row,) = poor(doctor(healthy), "leftovers")
        assert row["mend"] == f"kill {left.pid}"
    finally:
        left.kill()
        left.wait()


def test_a_daemon_at_work_has_left_nothing(healthy: GitRepo) -> None:
    from tests.stage import daemon

    waits = '#!/bin/sh\ntouch "$HOME/began"; until [ -e "$HOME/go" ]; do sleep 0.01; done\n'
    healthy.commit("slow", files={".aynig/slow": waits})
    healthy.sync()
    healthy.commit("x\n\naynig: slow\n", branch="task", parent=healthy.tip())
    with daemon(healthy.path):
        wait_for((Path(os.environ["HOME"]) / "began").exists)
        assert poor(doctor(healthy), "leftovers") == []
        (Path(os.environ["HOME"]) / "go").touch()
