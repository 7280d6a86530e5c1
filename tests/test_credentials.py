"""Credentials work, and stand nowhere but where a person has put them."""

from __future__ import annotations

import base64
import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.fleet import Fleet
from tests.servers import SmartHttp, beside, require, running
from tests.stage import daemon
from tests.world import GitRepo, aynig, wait_for

USER, PASSWORD = "ada-lovelace", "hunter2-hunter2"
BASIC = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
SECRETS = (PASSWORD, BASIC)
# All that a script can see: its environment, and git's settings in its worktree.
SCRIPT = """\
env >environment
git config --list --show-origin >settings
cat "$(git rev-parse --git-common-dir)/config" >>settings
git remote --verbose >>settings
"""


@dataclass
class Watch:
    """The command lines of all processes of the machine, looked at all the time."""

    seen: list[str] = field(default_factory=list)
    gits: int = 0

    def look(self) -> None:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    line = (entry / "cmdline").read_bytes().decode(errors="replace")
                    self.gits += "remote-http" in line
                    self.seen += [line for secret in SECRETS if secret in line]


@contextlib.contextmanager
def watching() -> Iterator[Watch]:
    watch, over = Watch(), threading.Event()

    def work() -> None:
        while not over.wait(0.005):
            watch.look()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    require("lighttpd", "lighttpd")
    return Fleet.make(tmp_path, {"go": SCRIPT})


@pytest.fixture
def server(fleet: Fleet) -> Iterator[SmartHttp]:
    with running(
        SmartHttp(fleet.folder, beside(fleet.folder, "http"), users={USER: PASSWORD})
    ) as found:
        yield found


def in_url(server: SmartHttp) -> Sequence[tuple[str, str]]:
    url = server.url("server.git").replace("://", f"://{USER}:{PASSWORD}@")
    return (("remote.origin.url", url),)


def in_a_rewritten_url(server: SmartHttp) -> Sequence[tuple[str, str]]:
    base = server.url("").replace("://", f"://{USER}:{PASSWORD}@")
    return (("remote.origin.url", "work:server.git"), (f"url.{base}.insteadOf", "work:"))


def in_a_header(server: SmartHttp) -> Sequence[tuple[str, str]]:
    url = server.url("server.git")
    return (("remote.origin.url", url), ("http.extraHeader", f"Authorization: Basic {BASIC}"))


def in_a_header_for_the_host(server: SmartHttp) -> Sequence[tuple[str, str]]:
    # As `actions/checkout` leaves it.
    url = server.url("server.git")
    key = f"http.{server.url('').removesuffix('git/')}.extraheader"
    return (("remote.origin.url", url), (key, f"Authorization: Basic {BASIC}"))


def of_a_helper(server: SmartHttp) -> Sequence[tuple[str, str]]:
    return (("remote.origin.url", server.url("server.git")), *server.git_config)


def of_a_helper_for_a_user(server: SmartHttp) -> Sequence[tuple[str, str]]:
    url = server.url("server.git").replace("://", f"://{USER}@")
    return (("remote.origin.url", url), *server.git_config)


Way = Callable[[SmartHttp], Sequence[tuple[str, str]]]
WAYS: tuple[Way, ...] = (
    in_url, in_a_rewritten_url, in_a_header, in_a_header_for_the_host, of_a_helper,
    of_a_helper_for_a_user,
)  # fmt: skip


def holds_secret(data: bytes) -> bool:
    return any(secret.encode() in data for secret in SECRETS)


def files_with_secrets(folder: Path) -> list[Path]:
    return [
        path for path in folder.rglob("*") if path.is_file() and holds_secret(path.read_bytes())
    ]


def objects(repo: GitRepo) -> bytes:
    return repo.git("cat-file", "--batch-all-objects", "--batch").encode("utf-8", "surrogateescape")


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_they_work_and_are_seen_nowhere(fleet: Fleet, server: SmartHttp, way: Way) -> None:
    clone = fleet.clone("bob")
    for key, value in way(server):
        clone.git("config", key, value)
    fleet.tasks.task()
    with watching() as watch, daemon(clone.path, "--remote", "origin", "--poll", "0.2") as running:
        wait_for(lambda: fleet.server.state("task") == "done", what="the task to be done")
        running.wait_for("answer", "task")
    said = aynig("status", "--remote", "origin", cwd=clone.path)
    assert said.returncode == 0, said.stderr
    assert watch.seen == []
    assert watch.gits, "nothing of git was seen at work"
    assert not holds_secret(f"{running.lines}{said.stdout}{said.stderr}".encode())
    assert b"AYNIG_RUN_ID" in objects(fleet.server)
    assert not holds_secret(objects(fleet.server))
    assert "AYNIG_REMOTE" not in fleet.server.git("show", "task:environment")
    # The clone's own settings are where a person has put them; all of ours lies in here.
    assert files_with_secrets(clone.git_dir / "aynig") == []


def test_a_url_with_them_may_be_given_by_hand(fleet: Fleet, server: SmartHttp) -> None:
    clone = fleet.clone("bob")
    clone.git("config", "aynig.remote", dict(in_url(server))["remote.origin.url"])
    fleet.tasks.task()
    with watching() as watch:
        done = aynig("run", cwd=clone.path)
    assert (done.returncode, fleet.server.state("task")) == (0, "done"), done.stderr
    assert watch.seen == []
    assert not holds_secret(f"{done.stdout}{done.stderr}".encode())
    assert files_with_secrets(clone.git_dir / "aynig") == []


def test_no_error_shows_them(fleet: Fleet, server: SmartHttp) -> None:
    clone = fleet.clone("bob")
    wrong = dict(in_url(server))["remote.origin.url"].replace("hunter2", "hunter3", 1)
    clone.git("config", "remote.origin.url", wrong)
    with daemon(clone.path, "--remote", "origin", "--poll", "0.2") as running:
        problem = running.wait_for("problem")
    said = aynig("run", "--remote", "origin", cwd=clone.path)
    assert said.returncode == 1
    shown = server.url("server.git")
    assert f"Authentication failed for '{shown}/'" in problem["detail"]
    assert f"Authentication failed for '{shown}/'" in said.stderr
    assert "hunter" not in f"{running.lines}{said.stdout}{said.stderr}"
    assert USER not in f"{running.lines}{said.stdout}{said.stderr}"
