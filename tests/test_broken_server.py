"""What a crash or a full disk leaves, here and on the server: told clearly, and mended where it is
safe, while the other tasks go on."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aynig.lease import lease_name
from aynig.model import LEASES
from tests.cli.conftest import command
from tests.fleet import Fleet
from tests.servers import serving
from tests.stage import Daemon, daemon
from tests.world import GitRepo, aynig, wait_for

Row = dict[str, Any]
LONG_AGO = 60.0


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """A line for each start of the script: the branch."""
    return tmp_path / "ran"


@pytest.fixture
def fleet(tmp_path: Path, ran: Path) -> Fleet:
    script = f'echo "$AYNIG_BRANCH" >>{ran}; echo worked >file'
    return Fleet.make(tmp_path / "fleet", {"go": script})


@pytest.fixture
def served(
    tmp_path: Path, ran: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Fleet]]:
    """A fleet whose clones reach the server in a way that is named."""
    with contextlib.ExitStack() as stack:

        def make(transport: str) -> Fleet:
            root = tmp_path / "served"
            root.mkdir()
            server = stack.enter_context(serving(transport, root))
            for name, value in server.env.items():
                monkeypatch.setenv(name, value)
            script = f'echo "$AYNIG_BRANCH" >>{ran}; echo worked >file'
            fleet = Fleet.make(root, {"go": script}, url=server.url("server.git"))
            fleet.folder = tmp_path
            fleet.config = tuple(server.git_config)
            # git refuses to clone such a server.
            fleet.clone("bob")
            return fleet

        yield make


def left(path: Path, text: str = "") -> Path:
    """A file as a crash a while ago has left it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    then = time.time() - LONG_AGO
    os.utime(path, (then, then))
    return path


def doctor(repo: GitRepo, *args: str) -> list[Row]:
    done = aynig("doctor", "--json", *args, cwd=repo.path)
    found: list[Row] = json.loads(done.stdout)
    return [row for row in found if row["level"] != "ok" and row["check"] not in _OF_THE_MACHINE]


_OF_THE_MACHINE = ("git", "open-files", "inotify", "identity", "space")


# --- our own copy of the remote ------------------------------------------------------------------


def mirror(fleet: Fleet) -> Path:
    return next(fleet.clone("bob").git_dir.glob("aynig/remotes/*.git"))


def a_lease(fleet: Fleet) -> str:
    return next((mirror(fleet) / LEASES).iterdir()).name


Damage = Callable[[Fleet, Path], object]


@pytest.mark.parametrize(
    "damage",
    [
        lambda fleet, copy: left(copy / "refs/heads/task"),
        lambda fleet, copy: left(copy / LEASES / a_lease(fleet)),
        lambda fleet, copy: left(copy / "HEAD"),
    ],
    ids=["empty branch", "empty lease", "empty HEAD"],
)
def test_a_copy_of_the_remote_is_mended_by_the_next_look(fleet: Fleet, damage: Damage) -> None:
    fleet.tasks.task()
    fleet.run("bob")
    damage(fleet, mirror(fleet))
    fleet.tasks.task()
    fleet.tasks.task(branch="other")
    told = fleet.run("bob")
    assert fleet.server.state("task") == fleet.server.state("other") == "done"
    assert told.of("problem") == []
    fleet.fsck()


def test_the_doctor_names_what_is_left_in_the_copy(fleet: Fleet) -> None:
    fleet.tasks.task()
    fleet.run("bob")
    left(mirror(fleet) / "refs/heads/task")
    (row,) = doctor(fleet.clone("bob"), "--remote", "origin")
    assert row["detail"].startswith("refs/heads/task in our copy ")
    assert row["mend"] == "The next look at the remote mends it."


# --- the server's refs ---------------------------------------------------------------------------


def test_a_lock_on_the_server_holds_its_own_branch_alone(fleet: Fleet, ran: Path) -> None:
    lock = left(fleet.server.path / "refs/heads/bad.lock")
    with fleet.live("bob", jobs=1) as told:
        for branch in ("bad", "one", "two"):
            fleet.server.git("config", "core.filesRefLockTimeout", "0")
            lock.unlink()
            fleet.tasks.task(branch=branch)
            left(lock)
        for branch in ("one", "two"):
            fleet.tasks.wait_for_state("done", branch)
        held = wait_for(lambda: told.of("hold", "bad"), what="the answer to wait")[0]
        assert (held.hold, "bad.lock': File exists" in held.detail) == ("busy", True)
        assert "aynig doctor" in held.detail
        lock.unlink()
        fleet.tasks.wait_for_state("done", "bad")
    assert sorted(ran.read_text().split()) == ["bad", "one", "two"]
    fleet.fsck()


def held(fleet: Fleet, branch: str) -> str:
    """The hold that `status` gives a branch."""
    done = aynig("status", "--remote", "origin", "--json", cwd=fleet.clone("bob").path)
    return next(str(row["hold"]) for row in json.loads(done.stdout) if row["branch"] == branch)


@pytest.mark.parametrize("ref", ["refs/heads/broken", "refs/tags/broken", f"{LEASES}0123"])
@pytest.mark.parametrize("transport", ["file", "shell"])
def test_an_empty_ref_on_the_server_holds_no_other_branch(
    served: Callable[[str], Fleet], transport: str, ref: str
) -> None:
    fleet = served(transport)
    fleet.tasks.task()
    # An old one: git refuses every push of something new for it.
    left(fleet.server.path / ref)
    with fleet.live("bob", poll=0.5) as told:
        fleet.tasks.wait_for_state("done")
        # After looks that found it broken.
        fleet.tasks.task(branch="more")
        fleet.tasks.wait_for_state("done", "more")
    assert not told.of("problem")


def test_a_task_whose_ref_is_empty_on_the_server_is_held_until_it_is_mended(fleet: Fleet) -> None:
    fleet.tasks.task()
    oid = fleet.tasks.task(branch="lost")
    aynig("status", "--remote", "origin", cwd=fleet.clone("bob").path)
    broken = left(fleet.server.path / "refs/heads/lost")
    with fleet.live("bob", poll=0.2) as told:
        fleet.tasks.wait_for_state("done")
        hold = wait_for(lambda: told.of("hold", "lost"), what="the task to be held")[0]
        assert (hold.hold, "aynig doctor" in hold.detail) == ("broken", True)
        assert held(fleet, "lost") == "broken"
        broken.write_text(f"{oid}\n")
        fleet.tasks.wait_for_state("done", "lost")
    fleet.fsck()


@pytest.mark.parametrize("transport", ["http", "ssh"])
def test_where_a_server_cant_pass_over_an_empty_ref_it_is_named_until_it_is_mended(
    served: Callable[[str], Fleet], transport: str
) -> None:
    fleet = served(transport)
    fleet.tasks.task()
    broken = left(fleet.server.path / "refs/heads/broken")
    with fleet.live("bob", poll=0.5) as told:
        hold = wait_for(lambda: told.of("hold", "task"), what="the task to be held")[0]
        assert hold.hold == "refused"
        assert "origin: refs/heads/broken is broken there" in hold.detail
        assert "aynig doctor" in hold.detail
        assert held(fleet, "broken") == "broken"
        broken.unlink()
        fleet.tasks.wait_for_state("done")


@pytest.mark.parametrize("ref", ["refs/heads/broken", f"{LEASES}0123"])
def test_the_doctor_names_broken_refs_on_both_sides(fleet: Fleet, ref: str) -> None:
    bob = fleet.clone("bob")
    left(fleet.server.path / ref)
    (there,) = doctor(fleet.server)
    assert (there["check"], there["level"]) == ("refs", "error")
    assert there["detail"] == f"{ref} is broken: empty file"
    assert there["mend"].startswith(f"rm {fleet.server.path}/{ref}")
    assert ("is run again" in there["mend"]) == ref.startswith(LEASES)
    here = doctor(bob, "--remote", "origin")
    said = [row["detail"] for row in here]
    assert (
        f"'origin': {ref} is broken there, and git takes no push of anything new unless told to "
        "pass over it, as runners do" in said
    )
    assert f"'origin': {ref} is broken: empty file" in said


def test_the_doctor_names_locks_on_both_sides(fleet: Fleet) -> None:
    lock = left(fleet.server.path / "refs/heads/main.lock")
    detail = f"{lock} is there, and nobody seems to hold it: git refuses to write"
    (there,) = doctor(fleet.server)
    assert (there["check"], there["detail"]) == ("locks", detail)
    assert there["mend"] == f"If no git is running: rm {lock}"
    (here,) = doctor(fleet.clone("bob"), "--remote", "origin")
    assert (here["check"], here["detail"]) == ("locks", f"'origin': {detail}")


# --- what the doctor says of a remote ------------------------------------------------------------


def refs(repo: GitRepo) -> str:
    return repo.git("for-each-ref")


def test_the_doctor_tries_to_write_and_leaves_nothing(fleet: Fleet) -> None:
    bob = fleet.clone("bob")
    before = refs(fleet.server), refs(bob)
    assert doctor(bob, "--remote", "origin") == []
    assert (refs(fleet.server), refs(bob)) == before


def test_it_does_not_write_unasked(fleet: Fleet) -> None:
    bob = fleet.clone("bob")
    bob.git("config", "aynig.remote", "origin")
    hook = fleet.server.path / "hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    assert doctor(bob) == []
    (row,) = doctor(bob, "--remote", "origin")
    assert (row["check"], row["level"]) == ("remote", "error")
    assert "can't be written to: origin: refs/aynig/lease/doctor-" in row["detail"]
    assert "pre-receive hook declined" in row["detail"]
    assert "Let this runner write refs/aynig/*" in row["mend"]


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("receive.advertiseAtomic", "false", "--atomic"),
        ("receive.hideRefs", "refs/aynig", "hidden ref"),
    ],
)
def test_it_says_what_a_server_has_to_allow(fleet: Fleet, key: str, value: str, words: str) -> None:
    fleet.server.git("config", key, value)
    (row,) = doctor(fleet.clone("bob"), "--remote", "origin")
    assert (row["check"], row["level"]) == ("remote", "error")
    assert words in row["detail"]
    assert key in row["mend"]


def test_it_says_where_nothing_can_be_deleted(fleet: Fleet) -> None:
    hook = fleet.server.path / "hooks/update"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text('#!/bin/sh\ntest "${3#*[1-9a-f]}" != "$3"\n')
    hook.chmod(0o755)
    (row,) = doctor(fleet.clone("bob"), "--remote", "origin")
    assert (row["check"], row["level"]) == ("remote", "warning")
    assert "nothing can be deleted there, so old leases stay" in row["detail"]


def test_it_says_where_each_look_lists_all_refs(fleet: Fleet) -> None:
    old = fleet.folder / "upload-pack"
    old.write_text('#!/bin/sh\nunset GIT_PROTOCOL\nexec git-upload-pack "$@"\n')
    old.chmod(0o755)
    bob = fleet.clone("bob")
    bob.git("config", "remote.origin.uploadpack", str(old))
    (row,) = doctor(bob, "--remote", "origin")
    assert (row["check"], row["level"]) == ("remote", "warning")
    assert "does not speak protocol v2" in row["detail"]


def test_a_remote_that_is_not_there_is_one_finding(fleet: Fleet) -> None:
    bob = fleet.clone("bob")
    bob.git("remote", "set-url", "origin", "/nowhere/x.git")
    (row,) = doctor(bob, "--remote", "origin")
    assert "'/nowhere/x.git' does not appear to be a git repository" in row["detail"]
    (row,) = doctor(bob, "--remote", "upstream")
    assert (row["detail"], row["mend"]) == (
        "there is no remote 'upstream'",
        "There are: origin.",
    )


# --- disks -----------------------------------------------------------------------------------


@pytest.fixture
def disk(fleet: Fleet) -> Path:
    """A file that stands for a full disk of the server, as long as it is there.

    What takes pushes there may not write to any file then (setrlimit(2), RLIMIT_FSIZE).
    """
    full = fleet.folder / "full"
    receive = fleet.folder / "receive-pack"
    receive.write_text(f'#!/bin/sh\ntest -e {full} && ulimit -f 0\nexec git-receive-pack "$@"\n')
    receive.chmod(0o755)
    fleet.clone("bob").git("config", "remote.origin.receivepack", str(receive))
    return full


def test_a_server_without_room_is_waited_for(fleet: Fleet, disk: Path, ran: Path) -> None:
    disk.touch()
    fleet.tasks.task()
    with fleet.live("bob", poll=0.5) as told:
        held = wait_for(lambda: told.of("hold", "task"), what="the task to be held")[0]
        assert held.hold == "unwritable"
        assert "The server can't write: make room there" in held.detail
        assert not ran.exists()
        disk.unlink()
        fleet.tasks.wait_for_state("done")
    fleet.fsck()


def test_an_answer_waits_for_room_on_the_server(fleet: Fleet, disk: Path, tmp_path: Path) -> None:
    ran, go = tmp_path / "began", tmp_path / "goes"
    fleet.server.commit(
        "Wait",
        files={
            ".aynig/go": f"#!/bin/sh\necho x >>{ran}; until test -e {go}; do sleep 0.01; done\n"
        },
    )
    fleet.tasks.task()
    with fleet.live("bob", poll=0.5) as told:
        wait_for(ran.exists, what="the script to begin")
        disk.touch()
        go.touch()
        held = wait_for(lambda: told.of("hold", "task"), what="the answer to wait")[0]
        assert held.hold == "unwritable"
        disk.unlink()
        fleet.tasks.wait_for_state("done")
    assert ran.read_text() == "x\n"
    fleet.fsck()


def limit(running: Daemon, size: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (size, hard))


def test_a_runner_without_room_says_so_and_goes_on_when_there_is_some(fleet: Fleet) -> None:
    bob = fleet.clone("bob")
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    with daemon(bob.path, "--remote", "origin", "--poll", "0.1") as running:
        fleet.tasks.task(branch="before")
        running.wait_for("answer", "before")
        limit(running, 0)
        fleet.tasks.task()
        problem = running.wait_for("problem")
        assert f"{bob.git_dir}/aynig/remotes/" in problem["detail"]
        assert "can't be written" in problem["detail"]
        limit(running, hard)
        wait_for(lambda: fleet.server.state("task") == "done", what="the task to be done")
    fleet.fsck()


@pytest.mark.parametrize("known", [False, True], ids=["first time", "later"])
def test_a_run_without_room_says_where_there_is_none(fleet: Fleet, known: bool) -> None:
    bob = fleet.clone("bob")
    if known:
        fleet.run("bob")
    fleet.tasks.task()
    limited = ["sh", "-c", 'ulimit -S -f 0; exec "$@"', "sh", *command("run", "--remote", "origin")]
    done = subprocess.run(limited, cwd=bob.path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()[-1:]
    assert line.startswith("aynig: ")
    assert f"{bob.git_dir}/aynig/remotes/" in line
    assert "can't be written: File too large" in line
    fleet.run("bob")
    assert fleet.server.state("task") == "done"


def test_a_task_whose_lease_is_empty_on_the_server_is_held_and_its_run_ends(fleet: Fleet) -> None:
    fleet.tasks.task()
    fleet.run("bob")
    fleet.tasks.task()
    fleet.tasks.task(branch="other")
    name = lease_name("refs/heads/task")
    lease = left(fleet.server.path / name)
    told = fleet.run("bob")
    assert told.holds("task") == ["broken"]
    assert fleet.server.state("other") == "done"
    row = fleet.status("bob")
    assert (row.hold, name in row.detail) == ("broken", True)
    with fleet.live("bob", poll=0.2):
        lease.unlink()
        fleet.tasks.wait_for_state("done")


def test_a_task_that_is_damaged_in_the_copy_is_no_success_and_its_mend_is_told(
    fleet: Fleet,
) -> None:
    oid = fleet.tasks.task()
    bob = fleet.clone("bob")
    aynig("status", "--remote", "origin", cwd=bob.path)
    found = mirror(fleet) / "objects" / oid[:2] / oid[2:]
    # The clone may share the file with the server.
    found.unlink()
    found.write_bytes(b"")
    done = aynig("run", "--remote", "origin", cwd=bob.path)
    assert done.returncode == 1
    assert f"remove it: rm -r {mirror(fleet)}" in done.stderr
    shutil.rmtree(mirror(fleet))
    assert aynig("run", "--remote", "origin", cwd=bob.path).returncode == 0
    assert fleet.server.state("task") == "done"
