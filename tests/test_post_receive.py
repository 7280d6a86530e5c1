"""A push over a real transport triggers the state, and the pusher fetches the answer."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stage import daemon
from tests.world import GitRepo, aynig, wait_for

SHOUT = """#!/bin/sh
tr a-z A-Z <"$AYNIG_BODY_FILE" >shout.txt
echo "aynig: done" >>"$AYNIG_RESPONSE"
"""
TASK = "Shout\n\nhello there\n\naynig: shout\n"


@pytest.fixture
def server(bare: GitRepo) -> GitRepo:
    """A bare repository with the hook, and a state on its default branch."""
    bare.commit("Add a state", files={".aynig/shout": SHOUT})
    done = aynig("hooks", "install", "--server", cwd=bare.path)
    assert done.returncode == 0, done.stderr
    return bare


@contextlib.contextmanager
def served(server: GitRepo) -> Iterator[str]:
    """The URL of a repository behind `git daemon`, which takes pushes."""
    folder = subprocess.run(["git", "--exec-path"], capture_output=True, text=True, check=True)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    # Started directly: `git daemon` is only a parent of it, and killed alone it leaves it behind.
    process = subprocess.Popen(
        [
            f"{folder.stdout.strip()}/git-daemon", "--listen=127.0.0.1", f"--port={port}",
            "--reuseaddr", "--export-all", "--enable=receive-pack",
            f"--base-path={server.path.parent}", str(server.path.parent),
        ],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def listens() -> bool:
        assert process.poll() is None
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return True
        return False

    try:
        wait_for(listens, what="git daemon")
        yield f"git://127.0.0.1:{port}/{server.path.name}"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def url(server: GitRepo) -> Iterator[str]:
    with served(server) as url:
        yield url
        wait_for(lambda: is_quiet(server), what="the end of what the hook started")


@pytest.fixture
def clone(url: str, tmp_path: Path) -> GitRepo:
    subprocess.run(["git", "clone", "--quiet", url, str(tmp_path / "clone")], check=True)
    return GitRepo(tmp_path / "clone")


def is_quiet(server: GitRepo) -> bool:
    home = server.path / "aynig"
    busy = [home / "hook.lock", home / "hook.wanted", *(home / "wake").glob("[0-9]*")]
    return not any(path.exists() for path in busy)


def hook_log(server: GitRepo) -> str:
    path = server.path / "aynig" / "hook.log"
    return path.read_text() if path.exists() else ""


def push_task(clone: GitRepo, branch: str, message: str = TASK) -> str:
    oid = clone.commit(message, branch=branch, parent=clone.tip("main"))
    clone.git("push", "--quiet", "origin", branch)
    return oid


def answered(clone: GitRepo, branch: str) -> bool:
    clone.git("fetch", "--quiet", "origin")
    return clone.fields(f"refs/remotes/origin/{branch}").get("", "") in ("done", "failed")


def test_without_a_daemon_the_push_starts_a_run(server: GitRepo, clone: GitRepo) -> None:
    oid = push_task(clone, "task")
    wait_for(lambda: answered(clone, "task"), what=f"an answer; {hook_log(server)}")
    fields = clone.fields("origin/task")
    assert (fields[""], fields["answers"], fields["exit"]) == ("done", oid, "0")
    assert clone.git("show", "origin/task:shout.txt").strip() == "HELLO THERE"
    assert clone.git("rev-parse", "origin/task^") == oid
    assert "aynig run" in hook_log(server)


def test_with_a_daemon_the_push_wakes_it_and_starts_nothing(
    server: GitRepo, clone: GitRepo
) -> None:
    # It would look by itself in an hour only.
    with daemon(server.path, "--poll", "1h") as running:
        push_task(clone, "task")
        running.wait_for("answer", "task")
        wait_for(lambda: answered(clone, "task"))
    assert clone.fields("origin/task")[""] == "done"
    assert hook_log(server) == ""


def test_a_push_of_many_branches_is_answered_branch_by_branch(
    server: GitRepo, clone: GitRepo
) -> None:
    names = [f"many/{number}" for number in range(8)]
    for name in names:
        clone.commit(TASK, branch=name, parent=clone.tip("main"))
    clone.git("push", "--quiet", "origin", *names)
    for name in names:
        wait_for(lambda name=name: answered(clone, name), what=name)  # type: ignore[misc]


def test_pushes_one_after_the_other_are_all_answered_whatever_runs_just_then(
    server: GitRepo, clone: GitRepo
) -> None:
    """Also one that comes while an earlier `aynig run` starts, or is about to end."""
    names = [f"task-{number}" for number in range(12)]
    for name in names:
        push_task(clone, name)
    for name in names:
        wait_for(lambda name=name: answered(clone, name), what=name)  # type: ignore[misc]
    oids = clone.git("log", "--all", "--format=%(trailers:key=aynig)").splitlines()
    answers = [line for line in oids if line.startswith("aynig: answers:")]
    assert len(answers) == len(set(answers)) == len(names)


@pytest.mark.parametrize("running", [False, True], ids=["no-daemon", "daemon"])
def test_a_branch_that_brings_its_own_scripts_does_not_get_them_run(
    server: GitRepo, clone: GitRepo, running: bool
) -> None:
    evil = '#!/bin/sh\ntouch "$HOME/broken-in"\n'
    files = {".aynig/shout": evil, ".aynig/own": evil, ".aynig/config.yaml": "states: {}\n"}
    clone.commit("x\n\nhi\n\naynig: shout\n", branch="one", parent=clone.tip(), files=files)
    clone.commit("x\n\nhi\n\naynig: own\n", branch="two", parent=clone.tip(), files=files)
    with daemon(server.path) if running else contextlib.nullcontext():
        clone.git("push", "--quiet", "origin", "one", "two")
        wait_for(lambda: answered(clone, "one"), what=hook_log(server))
        clone.git("fetch", "--quiet", "origin")
    assert clone.git("show", "origin/one:shout.txt").strip() == "HI"
    assert clone.fields("origin/one")["script"] == server.git("rev-parse", "main:.aynig/shout")
    assert clone.fields("origin/two")[""] == "own"
    assert not (Path(os.environ["HOME"]) / "broken-in").exists()


def test_an_earlier_hook_still_runs_and_sees_the_same_input(
    server: GitRepo, clone: GitRepo
) -> None:
    aynig("hooks", "uninstall", "--server", cwd=server.path)
    own = server.path / "hooks" / "post-receive"
    own.write_text('#!/bin/sh\ncat >>"$HOME/seen"\necho "told by the earlier hook"\n')
    own.chmod(0o755)
    aynig("hooks", "install", "--server", cwd=server.path)
    oid = clone.commit(TASK, branch="task", parent=clone.tip())
    pushed = subprocess.run(
        ["git", "push", "origin", "task"], cwd=clone.path, capture_output=True, text=True
    )
    assert pushed.returncode == 0
    assert "remote: told by the earlier hook" in pushed.stderr
    seen = (Path(os.environ["HOME"]) / "seen").read_text()
    assert seen == f"{'0' * 40} {oid} refs/heads/task\n"
    wait_for(lambda: answered(clone, "task"))


def test_the_push_is_over_before_the_script_is(server: GitRepo, clone: GitRepo) -> None:
    """A child that kept one of the push's descriptors would hold it up."""
    slow = '#!/bin/sh\nuntil [ -e "$HOME/go" ]; do sleep 0.01; done\n'
    server.commit("slow", files={".aynig/slow": slow})
    push_task(clone, "task", "x\n\naynig: slow\n")
    # Here the push has returned, and the script waits for what only now is made.
    (Path(os.environ["HOME"]) / "go").touch()
    wait_for(lambda: answered(clone, "task"))


def test_a_daemon_that_was_killed_leaves_pushes_to_a_run(server: GitRepo, clone: GitRepo) -> None:
    with daemon(server.path) as running:
        running.process.send_signal(signal.SIGKILL)
        running.process.wait()
    assert list((server.path / "aynig" / "wake").glob("[0-9]*"))
    push_task(clone, "task")
    wait_for(lambda: answered(clone, "task"), what=hook_log(server))


def test_a_daemon_that_drains_is_not_counted_on(server: GitRepo, clone: GitRepo) -> None:
    slow = '#!/bin/sh\ntouch "$HOME/began"; until [ -e "$HOME/go" ]; do sleep 0.01; done\n'
    server.commit("slow", files={".aynig/slow": slow})
    with daemon(server.path) as running:
        push_task(clone, "first", "x\n\naynig: slow\n")
        wait_for((Path(os.environ["HOME"]) / "began").exists)
        running.process.send_signal(signal.SIGTERM)
        wait_for(lambda: not list((server.path / "aynig" / "wake").glob("[0-9]*")))
        push_task(clone, "second")
        wait_for(lambda: answered(clone, "second"), what=hook_log(server))
        (Path(os.environ["HOME"]) / "go").touch()
        wait_for(lambda: answered(clone, "first"))


def test_a_daemon_for_other_branches_is_not_counted_on(server: GitRepo, clone: GitRepo) -> None:
    with daemon(server.path, "--branch", "other/*"):
        push_task(clone, "task")
        wait_for(lambda: answered(clone, "task"), what=hook_log(server))
    assert "aynig run" in hook_log(server)


def test_a_push_works_where_the_program_is_gone(server: GitRepo, clone: GitRepo) -> None:
    wake = server.path / "hooks" / "aynig-wake"
    lines = wake.read_text().splitlines(keepends=True)
    wake.write_text("".join(
        "aynig() { /gone/python -P -m aynig \"$@\"; }\n" if line.startswith("aynig()") else line
        for line in lines
    ))  # fmt: skip
    push_task(clone, "task")
    wait_for(lambda: "ended with status" in hook_log(server))
    assert clone.tip("task") == server.tip("task")


def test_the_end_of_the_connection_does_not_end_the_run(server: GitRepo, clone: GitRepo) -> None:
    """What the hook starts is a session of its own."""
    server.commit("who", files={".aynig/who": '#!/bin/sh\nps -o sess= -p "$PPID" >session.txt\n'})
    push_task(clone, "task", "x\n\naynig: who\n")
    wait_for(lambda: answered(clone, "task"), what=hook_log(server))
    session = int(clone.git("show", "origin/task:session.txt"))
    assert session != os.getsid(0)
