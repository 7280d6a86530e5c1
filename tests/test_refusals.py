"""A server that will not: one clear line, no storm of tries, and the other branches go on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aynig.errors import AynigError, RefBusy, Refused, Unreachable
from aynig.git.refs import RefEdit
from aynig.model import LEASES, RESCUES
from aynig.policies import setback
from aynig.site import Site
from tests.fleet import Fleet
from tests.proxy import Proxy, Weather
from tests.servers import Gitolite, Listening, Server, Sshd, serving
from tests.world import GitRepo, aynig, wait_for

LEASE = f"{LEASES}{'a' * 40}"


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """A line for each start of the script: the branch."""
    return tmp_path / "ran"


@pytest.fixture
def fleet(tmp_path: Path, ran: Path) -> Fleet:
    script = f'echo "$AYNIG_BRANCH" >>{ran}; echo worked >file'
    return Fleet.make(tmp_path / "fleet", {"go": script})


def hook(fleet: Fleet, name: str, script: str) -> Path:
    path = fleet.server.path / "hooks" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def protect(fleet: Fleet, pattern: str) -> Path:
    """Refuse what matches; the file with a line for each ref that was to be set."""
    log = fleet.folder / "asked"
    refuse = f'{pattern}) echo "$1 is protected: ask ada" >&2; exit 1;;'
    hook(fleet, "update", f'echo "$1" >>{log}; case $1 in {refuse} esac')
    return log


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


# --- a rule for one branch ---------------------------------------------------------------------


def test_an_answer_to_a_protected_branch_is_kept_and_lands_when_the_rule_is_lifted(
    fleet: Fleet, ran: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setback, "REFUSED_DELAY", 0.5)
    trigger = fleet.tasks.task()
    protect(fleet, "refs/heads/task")
    told = fleet.run("bob")
    assert len(told.of("deferred", "task")) == 1
    assert fleet.server.tip("task") == trigger
    kept = fleet.server.git("for-each-ref", "--format=%(refname)", RESCUES)
    assert fleet.server.fields(kept)["answers"] == trigger
    row = fleet.status("carol")
    assert row.hold == "refused"
    assert "refs/heads/task: hook declined: refs/heads/task is protected: ask ada" in row.detail
    (fleet.server.path / "hooks/update").unlink()

    def lands() -> bool:
        fleet.run("carol")
        return fleet.server.state("task") == "done"

    wait_for(lands, what="another runner to land the answer")
    assert lines(ran) == ["task"]
    assert fleet.server.git("show", "task:file") == "worked"
    wait_for(lambda: not fleet.server.git("for-each-ref", RESCUES), what="the rescue ref to go")
    fleet.fsck()


def test_other_branches_go_on_and_the_refused_one_is_not_tried_over_and_over(
    fleet: Fleet, ran: Path
) -> None:
    log = protect(fleet, "refs/heads/bad")
    with fleet.live("bob", jobs=2) as told:
        for number in range(4):
            fleet.tasks.task(branch=f"task/{number}")
            if not number:
                fleet.tasks.task(branch="bad")
            fleet.tasks.wait_for_state("done", f"task/{number}")
        wait_for(lambda: told.of("deferred", "bad"), what="the refused answer to be put off")
        fleet.tasks.task(branch="task/last")
        fleet.tasks.wait_for_state("done", "task/last")
    assert lines(log).count("refs/heads/bad") == 1
    assert lines(ran).count("bad") == 1
    assert len(told.of("deferred", "bad")) == 1
    fleet.fsck()


# --- a rule for all ----------------------------------------------------------------------------


def test_a_server_that_takes_no_leases_is_asked_once_for_all_tasks(fleet: Fleet) -> None:
    log = protect(fleet, "refs/aynig/lease/*")
    for number in range(8):
        fleet.tasks.task(branch=f"task/{number}")
    done = aynig("run", "--remote", "origin", "--jobs", "1", cwd=fleet.clone("bob").path)
    assert done.returncode == 1
    assert len(lines(log)) == 1
    said = [line for line in done.stderr.splitlines() if "protected" in line]
    assert len(said) == 1, done.stderr
    assert "hook declined: refs/aynig/lease/" in said[0]
    assert "Let this runner write refs/aynig/* and the branches of its tasks there" in said[0]


def test_all_tasks_go_on_when_it_takes_leases_again(fleet: Fleet, ran: Path) -> None:
    protect(fleet, "refs/aynig/lease/*")
    branches = [f"task/{number}" for number in range(4)]
    for branch in branches:
        fleet.tasks.task(branch=branch)
    with fleet.live("bob", jobs=1) as told:
        wait_for(lambda: told.of("hold"), what="a lease to be refused")
        assert told.of("hold")[0].hold == "refused"
        (fleet.server.path / "hooks/update").unlink()
        for branch in branches:
            fleet.tasks.wait_for_state("done", branch)
    assert sorted(lines(ran)) == branches


# --- gitolite ----------------------------------------------------------------------------------

RULES = """\
repo server
    RW+                     = owner
    RW+ refs/heads/task/    = runner
    RW+ refs/aynig/         = runner
    R                       = runner
"""


def test_gitolite_lets_a_runner_work_below_task_and_says_no_elsewhere(
    fleet: Fleet, ran: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving("gitolite", fleet.folder) as server:
        assert isinstance(server, Gitolite)
        server.allow(RULES, ["owner", "runner"])
        bob = fleet.clone("bob")
        bob.git("remote", "set-url", "origin", server.url("server.git"))
        for name, value in server.login("runner").items():
            monkeypatch.setenv(name, value)
        for branch in ("task/one", "task/two", "elsewhere"):
            fleet.tasks.task(branch=branch)
        done = aynig("run", "--remote", "origin", cwd=bob.path)
        said = aynig("status", "--remote", "origin", "--json", cwd=bob.path)
    assert [fleet.server.state(f"task/{name}") for name in ("one", "two")] == ["done", "done"]
    assert fleet.server.state("elsewhere") == "go"
    assert lines(ran).count("elsewhere") == 1
    row = next(row for row in json.loads(said.stdout) if row["branch"] == "elsewhere")
    assert row["hold"] == "refused"
    refused = "origin: refs/heads/elsewhere: hook declined: W refs/heads/elsewhere server runner"
    assert f"{refused} DENIED by fallthru: Let this runner write refs/aynig/*" in row["detail"]
    # Also from the runner's own side: the answer is on the server, for who may land it.
    assert fleet.server.git("for-each-ref", RESCUES)
    assert "elsewhere" in done.stdout
    fleet.fsck()


# --- what real servers say ---------------------------------------------------------------------


@pytest.fixture
def server(request: pytest.FixtureRequest, fleet: Fleet) -> Iterator[Server]:
    with serving(request.param, fleet.folder) as found:
        yield found


def at(fleet: Fleet, server: Server, monkeypatch: pytest.MonkeyPatch, url: str = "") -> Site:
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)
    bob = fleet.clone("bob")
    bob.git("remote", "set-url", "origin", url or server.url("server.git"))
    return fleet.open("bob")


def ask(site: Site) -> AynigError:
    assert site.mirror is not None
    with pytest.raises(AynigError) as caught:
        site.mirror.remote.heads()
    return caught.value


def push(site: Site, *, branch: bool = False) -> AynigError:
    """Push a lease, with `branch` an answer as well; what comes of it."""
    assert site.mirror is not None
    site.mirror.sync(leases=True)
    tip = site.repo.read_ref("refs/heads/main")
    assert tip is not None
    new = site.repo.write_commit(tree=site.repo.commit(tip).tree, parents=(tip,), message="x")
    edits = [RefEdit(LEASE, None, new)] + [RefEdit("refs/heads/main", tip, new)] * branch
    with pytest.raises(AynigError) as caught:
        site.mirror.remote.push(edits)
    return caught.value


def assert_clear(error: AynigError, kind: type[AynigError], text: str, hint: str) -> None:
    assert type(error) is kind, error
    assert str(error).startswith("origin: " if "answered" not in text else "origin at ")
    assert text in str(error)
    assert "\n" not in error.advice
    assert hint in error.hint


@pytest.mark.parametrize("server", ["file", "http", "daemon", "ssh"], indirect=True)
def test_a_repository_that_is_not_there(
    fleet: Fleet, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = at(fleet, server, monkeypatch, server.url("nowhere.git"))
    words = "access denied" if server.url("").startswith("git:") else "not"
    assert_clear(ask(site), Refused, words, "See whether the URL is right (git remote -v)")


@pytest.mark.parametrize("server", ["http", "daemon", "ssh"], indirect=True)
def test_a_server_that_does_not_run(
    fleet: Fleet, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = at(fleet, server, monkeypatch)
    server.stop()
    assert_clear(ask(site), Unreachable, "onnect", "See whether the server runs")


@pytest.mark.parametrize("server", ["http", "daemon", "ssh"], indirect=True)
@pytest.mark.parametrize("weather", [Weather(hang_up=True), Weather(cut_down=30)], ids=repr)
def test_a_connection_that_is_cut(
    fleet: Fleet, server: Listening, monkeypatch: pytest.MonkeyPatch, weather: Weather
) -> None:
    with Proxy(server.port, weather=weather) as proxy:
        site = at(fleet, server, monkeypatch, server.url("server.git", port=proxy.port))
        assert_clear(ask(site), Unreachable, "", "See whether the server runs")


@pytest.mark.parametrize("server", ["daemon"], indirect=True)
def test_a_server_that_says_nothing(
    fleet: Fleet, server: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy(server.port, weather=Weather(silent=True)) as proxy:
        site = at(fleet, server, monkeypatch, server.url("server.git", port=proxy.port))
        assert site.mirror is not None
        site.mirror.remote._timeout = 1.0
        error = ask(site)
    assert_clear(error, Unreachable, "has not answered for 1 s", "See whether the server runs")


def test_a_host_that_nobody_knows(fleet: Fleet) -> None:
    fleet.clone("bob").git("remote", "set-url", "origin", "http://nowhere.invalid/x.git")
    assert_clear(ask(fleet.open("bob")), Unreachable, "nowhere.invalid", "spelt right")


@pytest.mark.parametrize("server", ["ssh"], indirect=True)
@pytest.mark.parametrize(
    ("user", "known", "text", "hint"),
    [
        ("git", False, "No ED25519 host key is known for", "Compare the host's key and add it"),
        ("mallory", True, "Permission denied (publickey)", "Give this runner credentials"),
    ],
)
def test_keys_that_are_not_known(
    fleet: Fleet, server: Sshd, monkeypatch: pytest.MonkeyPatch,
    user: str, known: bool, text: str, hint: str,
) -> None:  # fmt: skip
    site = at(fleet, server, monkeypatch)
    for name, value in server.login(user, known=known).items():
        monkeypatch.setenv(name, value)
    assert_clear(ask(site), Refused, text, hint)


Setting = Callable[[GitRepo], object]


def set_to(key: str, value: str) -> Setting:
    return lambda server: server.git("config", key, value)


def lock(server: GitRepo) -> None:
    (server.path / "refs/heads/main.lock").touch()


@pytest.mark.parametrize("server", ["file", "http"], indirect=True)
@pytest.mark.parametrize(
    ("setting", "kind", "text", "hint"),
    [
        (set_to("receive.advertiseAtomic", "false"), Refused, "--atomic", "advertiseAtomic"),
        (set_to("receive.hideRefs", "refs/aynig"), Refused, "hidden ref", "receive.hideRefs"),
        (set_to("receive.maxInputSize", "10"), Refused, "maximum allowed size", "maxInputSize"),
        (lock, RefBusy, "main.lock': File exists", "aynig doctor"),
    ],
    ids=["no atomic pushes", "hidden refs", "too large", "a lock"],
)
def test_settings_of_a_server(
    fleet: Fleet, server: Server, monkeypatch: pytest.MonkeyPatch,
    setting: Setting, kind: type[AynigError], text: str, hint: str,
) -> None:  # fmt: skip
    site = at(fleet, server, monkeypatch)
    setting(fleet.server)
    assert_clear(push(site, branch=True), kind, text, hint)


@pytest.mark.parametrize("server", ["http"], indirect=True)
def test_a_server_to_read_from_only(
    fleet: Fleet, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = at(fleet, server, monkeypatch)
    fleet.server.git("config", "http.receivepack", "false")
    assert_clear(push(site), Refused, "error: 403", "http.receivepack")


def test_a_branch_that_is_checked_out_there(fleet: Fleet, tmp_path: Path) -> None:
    other = GitRepo.init(tmp_path / "other")
    fleet.clone("bob").git("remote", "set-url", "origin", str(other.path))
    error = push(fleet.open("bob"), branch=True)
    text = "origin: refs/heads/main: branch is currently checked out"
    assert_clear(error, Refused, text, "push to a bare repository")
