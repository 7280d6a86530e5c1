"""The git servers that other tests are run against do what real ones do."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests import servers
from tests.proxy import FAIR, Proxy, Weather
from tests.servers import (
    LOOPBACK,
    TRANSPORTS,
    GitDaemon,
    Gitolite,
    Listening,
    Server,
    SmartHttp,
    Sshd,
    require,
    running,
    serving,
)
from tests.world import GitRepo, wait_for

KINDS = (*TRANSPORTS, "gitolite")
CHECKOUT = Path(__file__).resolve().parents[1]
# As many as race for one ref elsewhere.
CROWD = 20
HIDDEN = "refs/aynig/lease/0123"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "srv"
    root.mkdir()
    return root


@pytest.fixture
def origin(root: Path) -> GitRepo:
    """The repository on the server."""
    return GitRepo.init(root / "repo.git", bare=True)


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, root: Path) -> Iterator[Server]:
    with serving(request.param, root) as server:
        yield server


@pytest.fixture
def clone(origin: GitRepo, server: Server, tmp_path: Path) -> GitRepo:
    return cloned(server, tmp_path / "clone")


def cloned(server: Server, path: Path, env: Mapping[str, str] | None = None) -> GitRepo:
    done = git("clone", "--quiet", server.url("repo.git"), str(path), server=server, env=env)
    assert done.returncode == 0, done.stderr
    return GitRepo(path)


def git(
    *args: str, server: Server, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Git as a client of a server."""
    settings = [word for key, value in server.git_config for word in ("-c", f"{key}={value}")]
    return subprocess.run(
        ["git", *settings, *args],
        cwd=cwd,
        env={**os.environ, **server.env, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )


def swap(
    clone: GitRepo, server: Server, new: Mapping[str, str], seen: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Move all refs from what was seen of them, or none."""
    leases = [f"--force-with-lease={ref}:{oid}" for ref, oid in seen.items()]
    specs = [f"{oid}:{ref}" for ref, oid in new.items()]
    return git(
        "push", "--porcelain", "--atomic", *leases, "origin", *specs, server=server, cwd=clone.path
    )


# --- what each transport can do


def test_a_commit_is_fetched_by_its_oid(origin: GitRepo, server: Server, clone: GitRepo) -> None:
    oid = origin.commit("by oid", update=False)
    origin.git("update-ref", HIDDEN, oid)
    trace = clone.path.parent / "trace"
    done = git("fetch", "--quiet", "origin", oid, server=server, cwd=clone.path,
               env={"GIT_TRACE_PACKET": str(trace)})  # fmt: skip
    assert done.returncode == 0, done.stderr + server.tail()
    assert clone.message(oid) == "by oid"
    assert "version 2" in trace.read_text()


def test_two_refs_are_swapped_at_once(origin: GitRepo, server: Server, clone: GitRepo) -> None:
    before = origin.tip()
    after = clone.commit("after")
    refs = ("refs/heads/main", HIDDEN)
    done = swap(clone, server, dict.fromkeys(refs, after), {refs[0]: before, refs[1]: ""})
    assert done.returncode == 0, done.stderr + server.tail()
    assert [origin.git("rev-parse", ref) for ref in refs] == [after, after]


def test_a_stale_lease_moves_neither_ref(origin: GitRepo, server: Server, clone: GitRepo) -> None:
    before = origin.tip()
    held = origin.commit("held by somebody else", update=False)
    origin.git("update-ref", HIDDEN, held)
    after = clone.commit("after")
    refs = ("refs/heads/main", HIDDEN)
    done = swap(clone, server, dict.fromkeys(refs, after), {refs[0]: before, refs[1]: before})
    assert done.returncode == 1
    assert "stale info" in done.stdout
    assert [origin.git("rev-parse", ref) for ref in refs] == [before, held]


def test_a_push_runs_the_hooks_of_the_server(
    origin: GitRepo, server: Server, clone: GitRepo, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    hook = origin.path / "hooks/post-receive"
    hook.write_text(f'#!/bin/sh\ncat >>"{told}"\necho "HOME=$HOME" >>"{told}"\n')
    hook.chmod(0o755)
    before = origin.tip()
    after = clone.commit("after")
    done = swap(clone, server, {"refs/heads/main": after}, {"refs/heads/main": before})
    assert done.returncode == 0, done.stderr + server.tail()
    line, home = told.read_text().splitlines()
    assert line == f"{before} {after} refs/heads/main"
    # In the sealed world on the server too.
    assert home.removeprefix("HOME=") in (
        str(getattr(server, "home", "")), os.environ["HOME"]
    )  # fmt: skip


def test_a_large_push_arrives_whole(origin: GitRepo, server: Server, clone: GitRepo) -> None:
    """Over HTTP it is sent in chunks of unknown number (`http.postBuffer`)."""
    after = clone.commit("large", files={"noise": os.urandom(3_000_000)})
    done = swap(clone, server, {"refs/heads/main": after}, {})
    assert done.returncode == 0, done.stderr + server.tail()
    assert origin.tip() == after
    assert origin.git("cat-file", "-s", f"{after}:noise") == "3000000"


def test_many_connections_are_served_at_once(
    origin: GitRepo, server: Server, clone: GitRepo, tmp_path: Path
) -> None:
    """A hook that waits for all of them would wait for ever where they came one after another."""
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    hook = origin.path / "hooks/pre-receive"
    hook.write_text(
        "#!/bin/sh\n"
        f'cd "{meeting}" && touch $$\n'
        "tries=0\n"
        f'while [ "$(ls | wc -l)" -lt {CROWD} ]; do\n'
        '  tries=$((tries + 1)); [ "$tries" -lt 600 ] || exit 1\n'
        "  sleep 0.1\n"
        "done\n"
    )
    hook.chmod(0o755)
    oid = clone.commit("pushed twice")
    pushes = [
        subprocess.Popen(
            ["git", "push", "--quiet", "origin", f"{oid}:refs/heads/{name}"],
            cwd=clone.path,
            env={**os.environ, **server.env},
            stderr=subprocess.PIPE,
        )
        for name in range(CROWD)
    ]
    assert [push.wait() for push in pushes] == [0] * CROWD, server.tail()


# --- the server itself


@pytest.fixture(params=[kind for kind in TRANSPORTS if kind != "file"])
def listening(request: pytest.FixtureRequest, root: Path) -> Iterator[Listening]:
    with serving(request.param, root) as server:
        assert isinstance(server, Listening)
        yield server


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_server_that_was_ended_comes_back_with_its_url(
    origin: GitRepo, listening: Listening, tmp_path: Path, end: str
) -> None:
    url = listening.url("repo.git")
    getattr(listening, end)()
    assert git("ls-remote", url, server=listening).returncode == 128
    listening.start()
    assert listening.url("repo.git") == url
    done = git("ls-remote", url, "refs/heads/main", server=listening)
    assert done.stdout.split()[:1] == [origin.tip()], done.stderr + listening.tail()


def test_what_a_killed_server_was_doing_is_dead_too(
    origin: GitRepo, listening: Listening, tmp_path: Path
) -> None:
    """Also where each connection has a session of its own, as with sshd."""
    clone = cloned(listening, tmp_path / "clone")
    pid = tmp_path / "pid"
    hook = origin.path / "hooks/pre-receive"
    hook.write_text(f'#!/bin/sh\necho $$ >"{pid}.new" && mv "{pid}.new" "{pid}"\nexec sleep 1000\n')
    hook.chmod(0o755)
    oid = clone.commit("never lands")
    push = subprocess.Popen(
        ["git", "push", "--quiet", "origin", f"{oid}:refs/heads/main"],
        cwd=clone.path,
        env={**os.environ, **listening.env},
        stderr=subprocess.DEVNULL,
    )
    wait_for(pid.exists, what="the hook")
    listening.kill()
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()
    assert push.wait() != 0
    assert origin.tip() != oid


def test_a_server_that_can_not_start_says_why(tmp_path: Path) -> None:
    server = GitDaemon(tmp_path / "missing", tmp_path / "daemon")
    with pytest.raises(AssertionError, match=r"has ended:\n.*missing.* does not exist"):
        server.start()


def test_a_server_does_not_outlive_tests_that_were_killed(root: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from tests.servers import serving
with serving("daemon", Path(sys.argv[1])) as server:
    print(server.port, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(root)],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL

    def is_free() -> bool:
        with contextlib.suppress(OSError), socket.create_server((LOOPBACK, int(done.stdout))):
            return True
        return False

    wait_for(is_free, what="the end of the server")


def test_a_missing_package_is_named_and_no_excuse_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "_IN_CI", False)
    with pytest.raises(pytest.skip.Exception, match="apt-get install no-package"):
        require("no-such-program", "no-package")
    monkeypatch.setattr(servers, "_IN_CI", True)
    with pytest.raises(pytest.fail.Exception, match="apt-get install no-package"):
        require("no-such-program", "no-package")


# --- who may come in


def test_http_lets_in_only_who_knows_the_password(
    origin: GitRepo, root: Path, tmp_path: Path
) -> None:
    require("lighttpd", "lighttpd")
    with running(SmartHttp(root, tmp_path / "web", users={"ada": "s3cret"})) as server:
        clone = cloned(server, tmp_path / "clone")
        after = clone.commit("after")
        assert swap(clone, server, {"refs/heads/main": after}, {}).returncode == 0
        (wrong,) = server.credentials("ada", "guessed")
        for config in ((), (wrong,)):
            words = [word for key, value in config for word in ("-c", f"{key}={value}")]
            done = subprocess.run(
                ["git", *words, "ls-remote", server.url("repo.git")],
                env={**os.environ, **server.env},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 128
            assert "could not read Username" in done.stderr or "Authentication" in done.stderr
        assert after in git("ls-remote", "origin", server=server, cwd=clone.path).stdout


def test_ssh_lets_in_only_known_keys_and_goes_only_to_known_hosts(
    origin: GitRepo, root: Path
) -> None:
    with serving("ssh", root) as server:
        assert isinstance(server, Sshd)
        url = server.url("repo.git")
        done = git("ls-remote", url, server=server, env=server.login("stranger"))
        assert (done.returncode, "Permission denied (publickey)" in done.stderr) == (128, True)
        done = git("ls-remote", url, server=server, env=server.login("git", known=False))
        assert (done.returncode, "Host key verification failed" in done.stderr) == (128, True)
        server.authorize("stranger")
        done = git("ls-remote", url, server=server, env=server.login("stranger"))
        assert done.returncode == 0, done.stderr + server.tail()


RULES = """
repo repo
    RW+                  = owner
    RW+ refs/aynig/      = runner
    RW+ refs/heads/task/ = runner
    R                    = runner reader
"""


@pytest.fixture
def gitolite(origin: GitRepo, root: Path) -> Iterator[Gitolite]:
    with serving("gitolite", root) as server:
        assert isinstance(server, Gitolite)
        server.allow(RULES, ["owner", "runner", "reader"])
        yield server


def test_gitolite_grants_what_its_rules_say(
    origin: GitRepo, gitolite: Gitolite, tmp_path: Path
) -> None:
    clone = cloned(gitolite, tmp_path / "clone", gitolite.login("runner"))
    oid = clone.commit("work")
    specs = (f"{oid}:{HIDDEN}", f"{oid}:refs/heads/task/one")
    done = git("push", "--atomic", "origin", *specs,
               server=gitolite, cwd=clone.path, env=gitolite.login("runner"))  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert origin.git("rev-parse", HIDDEN) == origin.tip("task/one") == oid


def test_gitolite_refuses_with_a_message_what_its_rules_do_not_grant(
    origin: GitRepo, gitolite: Gitolite, tmp_path: Path
) -> None:
    clone = cloned(gitolite, tmp_path / "clone", gitolite.login("runner"))
    before = origin.tip()
    oid = clone.commit("work")
    main = f"{oid}:refs/heads/main"

    def push(user: str, *specs: str) -> tuple[int, str]:
        done = git("push", "--atomic", "origin", *specs,
                   server=gitolite, cwd=clone.path, env=gitolite.login(user))  # fmt: skip
        return done.returncode, done.stderr

    status, said = push("runner", f"{oid}:{HIDDEN}", main)
    assert status == 1
    assert "W refs/heads/main repo runner DENIED by fallthru" in said
    assert origin.git("for-each-ref", "--format=%(refname)") == "refs/heads/main"
    assert origin.tip() == before
    status, said = push("reader", f"{oid}:{HIDDEN}")
    assert (status, "W any repo reader DENIED by fallthru" in said) == (128, True)
    status, said = push("stranger", f"{oid}:{HIDDEN}")
    assert (status, "Permission denied (publickey)" in said) == (128, True)
    assert push("owner", main)[0] == 0
    assert origin.tip() == oid


def test_gitolite_takes_new_rules_while_it_runs(
    origin: GitRepo, gitolite: Gitolite, tmp_path: Path
) -> None:
    gitolite.allow("repo repo\n    R = reader\n")
    done = git("ls-remote", gitolite.url("repo.git"),
               server=gitolite, env=gitolite.login("runner"))  # fmt: skip
    assert (done.returncode, "R any repo runner DENIED" in done.stderr) == (128, True)


# --- bad networks


@pytest.fixture
def proxy(listening: Listening) -> Iterator[Proxy]:
    with Proxy(listening.port) as proxy:
        yield proxy


@pytest.fixture
def far(origin: GitRepo, listening: Listening, proxy: Proxy, tmp_path: Path) -> tuple[GitRepo, str]:
    """A clone whose remote is behind the proxy, and a commit in it that is large to push."""
    path = tmp_path / "far"
    url = listening.url("repo.git", port=proxy.port)
    done = git("clone", "--quiet", url, str(path), server=listening)
    assert done.returncode == 0, done.stderr + listening.tail()
    clone = GitRepo(path)
    return clone, clone.commit("large", files={"noise": os.urandom(500_000)})


def push(far: tuple[GitRepo, str], server: Server) -> subprocess.CompletedProcess[str]:
    clone, oid = far
    return git("push", "origin", f"{oid}:refs/heads/main", server=server, cwd=clone.path)


def test_a_push_goes_through_fair_weather(
    origin: GitRepo, listening: Listening, proxy: Proxy, far: tuple[GitRepo, str]
) -> None:
    before = proxy.connections
    assert push(far, listening).returncode == 0
    assert origin.tip() == far[1]
    assert proxy.connections > before > 0
    assert max(traffic.up for traffic in proxy.traffic) > 500_000


def test_a_push_that_is_cut_half_way_up_moves_nothing(
    origin: GitRepo, listening: Listening, proxy: Proxy, far: tuple[GitRepo, str]
) -> None:
    before = origin.tip()
    proxy.weather = Weather(cut_up=100_000)
    assert push(far, listening).returncode != 0
    assert proxy.traffic[-1].cut
    assert max(traffic.up for traffic in proxy.traffic) == 100_000
    assert origin.tip() == before
    proxy.weather = FAIR
    assert push(far, listening).returncode == 0
    assert origin.tip() == far[1]


def test_a_push_whose_answer_is_lost_has_landed(
    origin: GitRepo, listening: Listening, proxy: Proxy, far: tuple[GitRepo, str]
) -> None:
    proxy.weather = Weather(mute_after=100_000, cut_when=lambda: origin.tip() == far[1])
    assert push(far, listening).returncode != 0
    assert origin.tip() == far[1]


@pytest.mark.parametrize("listening", ["daemon"], indirect=True)
def test_an_answer_is_cut_after_so_many_bytes(
    listening: Listening, proxy: Proxy, far: tuple[GitRepo, str]
) -> None:
    proxy.weather = Weather(cut_down=10)
    before = proxy.connections
    done = git("ls-remote", "origin", server=listening, cwd=far[0].path)
    assert done.returncode == 128
    assert {traffic.down for traffic in proxy.traffic[before:]} == {10}


@pytest.mark.parametrize("listening", ["daemon"], indirect=True)
@pytest.mark.parametrize("weather", [Weather(refuse=True), Weather(hang_up=True)])
def test_a_server_out_of_reach_is_an_error_until_it_is_back(
    origin: GitRepo,
    listening: Listening,
    proxy: Proxy,
    far: tuple[GitRepo, str],
    weather: Weather,
) -> None:
    proxy.weather = weather
    done = git("ls-remote", "origin", server=listening, cwd=far[0].path)
    assert done.returncode == 128
    if weather.refuse:
        assert "refused" in done.stderr or "Couldn't connect" in done.stderr
    proxy.weather = FAIR
    done = git("ls-remote", "origin", server=listening, cwd=far[0].path)
    assert done.stdout.split()[0] == origin.tip()


@pytest.mark.parametrize("listening", ["daemon"], indirect=True)
def test_silence_loses_nothing(
    origin: GitRepo, listening: Listening, proxy: Proxy, far: tuple[GitRepo, str]
) -> None:
    proxy.weather = Weather(silent=True)
    before = proxy.connections
    clone, oid = far
    waiting = subprocess.Popen(
        ["git", "push", "--quiet", "origin", f"{oid}:refs/heads/main"],
        cwd=clone.path,
        env={**os.environ, **listening.env},
    )
    wait_for(lambda: proxy.connections > before, what="a connection")
    assert proxy.traffic[-1].up == 0
    assert waiting.poll() is None
    proxy.weather = FAIR
    assert waiting.wait() == 0
    assert origin.tip() == oid


@pytest.mark.parametrize("listening", ["daemon"], indirect=True)
def test_open_connections_are_reset_on_demand(
    origin: GitRepo, listening: Listening, proxy: Proxy, far: tuple[GitRepo, str]
) -> None:
    proxy.weather = Weather(silent=True)
    before = proxy.connections
    waiting = subprocess.Popen(
        ["git", "ls-remote", "origin"],
        cwd=far[0].path,
        env={**os.environ, **listening.env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: proxy.connections > before, what="a connection")
    proxy.sever()
    assert waiting.wait() == 128


def test_a_slow_network_keeps_the_order(
    origin: GitRepo, listening: Listening, proxy: Proxy, far: tuple[GitRepo, str]
) -> None:
    proxy.weather = Weather(delay_up=0.05, delay_down=0.05)
    assert push(far, listening).returncode == 0
    assert origin.tip() == far[1]
    assert origin.git("cat-file", "-s", f"{far[1]}:noise") == "500000"
