"""A daemon over several repositories: each line says of which, and a bad one stops no other."""

from __future__ import annotations

import contextlib
import hmac
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests import stage as machine
from tests.cli.conftest import Shell, command
from tests.stage import Stage
from tests.world import GitRepo, wait_for

SOON = ("--poll", "0.1")


@dataclass
class Log:
    """The lines of a daemon so far, without their time stamps."""

    process: subprocess.Popen[bytes]
    lines: list[str] = field(default_factory=list)

    def of(self, kind: str) -> list[str]:
        found = [line.split(maxsplit=1) for line in list(self.lines)]
        return [words[1] for words in found if words[0] == kind]

    def read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.decode().rstrip("\n").partition(" ")[2])


@contextlib.contextmanager
def daemon(
    cwd: Path, *args: str, within: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> Iterator[Log]:
    """`aynig daemon` with its log for people, until the block ends; `within` is what starts it."""
    process = subprocess.Popen(
        [*within, *command("daemon", *args)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    log = Log(process)
    reader = threading.Thread(target=log.read)
    reader.start()
    try:
        wait_for(lambda: log.of("watching"), what=f"the daemon to watch: {log.lines}")
        yield log
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
        reader.join()
        assert process.stderr is not None
        process.stderr.close()


def stage_at(path: Path) -> Stage:
    """A repository with a task, all its refs packed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stage = Stage(GitRepo.init(path))
    stage.task("exit 0")
    stage.repo.git("pack-refs", "--all")
    return stage


@contextlib.contextmanager
def garbage(repo: GitRepo) -> Iterator[None]:
    """A line in packed-refs that is no ref, until the block ends."""
    packed = repo.git_dir / "packed-refs"
    text = packed.read_text()
    packed.write_text(text + "garbage\n")
    yield
    packed.write_text(text)


# --- names ---------------------------------------------------------------------------------------


def test_with_several_repositories_each_line_names_its_own_also_of_two_folders_of_one_name(
    tmp_path: Path,
) -> None:
    stages = [stage_at(tmp_path / owner / "web") for owner in ("alice", "bob")]
    stages[0].task(branch="odd", state="no-such")
    with daemon(tmp_path, "alice/web", "bob/web") as log:
        for stage in stages:
            stage.wait_for_state("done")
        wait_for(lambda: len(log.of("answer")) == 2 and log.of("hold"), what=f"all: {log.lines}")
    for kind in ("watching", "event", "run", "answer"):
        names = {line.partition(": ")[0] for line in log.of(kind)}
        assert names == {"alice/web", "bob/web"}, kind
    assert log.of("hold")[0].startswith("alice/web: odd: ")


def test_each_line_of_a_run_names_its_script_by_blob_and_path(tmp_path: Path) -> None:
    stage = stage_at(tmp_path / "api")
    with machine.daemon(stage.repo.path) as found:
        lines = [found.wait_for(kind, "task") for kind in ("run", "answer")]
    blob = stage.repo.git("rev-parse", f"{lines[0]['oid']}:.aynig/go")
    assert [(line["script"], line["path"]) for line in lines] == [(blob, "go")] * 2


def test_with_one_repository_the_lines_name_none(tmp_path: Path) -> None:
    stage = stage_at(tmp_path / "web")
    with daemon(tmp_path, "web") as log:
        stage.wait_for_state("done")
        wait_for(lambda: log.of("answer"), what="the answer to be told")
    assert log.of("run")[0].startswith("task: go (run ")
    assert log.of("answer")[0].startswith("task: go -> done at ")


# --- bad repositories ----------------------------------------------------------------------------


def test_a_bad_repository_is_told_of_once_and_taken_up_when_it_is_mended(tmp_path: Path) -> None:
    good, bad = stage_at(tmp_path / "good"), stage_at(tmp_path / "bad")
    with garbage(bad.repo), daemon(tmp_path, "bad", "good", "none", *SOON) as log:
        good.wait_for_state("done")
        before = good.repo.tip("task")
        for _ in range(3):
            # Each answer takes a look at least, and each look tries the bad ones again.
            good.task("exit 0")
            wait_for(lambda: good.repo.state("task") == "done", what="another answer")
        assert good.repo.tip("task") != before
        problems = log.of("problem")
        assert [line.partition(": ")[0] for line in problems] == ["bad", "none"]
        assert f"{bad.repo.git_dir}/packed-refs: line " in problems[0]
        assert f"there is no folder {tmp_path}/none" in problems[1]
        packed = bad.repo.git_dir / "packed-refs"
        packed.write_text(packed.read_text().replace("garbage\n", ""))
        bad.wait_for_state("done")
        late = stage_at(tmp_path / "none")
        late.wait_for_state("done")


@pytest.mark.parametrize("places", [["bad"], ["bad", "none"]])
def test_with_no_good_repository_it_ends_with_a_clear_line(
    aynig: Shell, tmp_path: Path, places: list[str]
) -> None:
    bad = stage_at(tmp_path / "bad")
    with garbage(bad.repo):
        said = aynig("daemon", *[str(tmp_path / place) for place in places])
    assert (said.status, said.err.count("\n")) == (1, 1)
    assert f"{bad.repo.git_dir}/packed-refs: line " in said.err
    assert all(str(tmp_path / place) in said.err for place in places)


def test_a_wrong_flag_is_wrong_use_whatever_the_repositories_are(aynig: Shell) -> None:
    said = aynig("daemon", "none", "--jobs", "many")
    assert (said.status, said.err.count("\n")) == (2, 1)
    assert said.err.startswith("aynig: --jobs: ")


@pytest.mark.parametrize("several", [False, True])
def test_a_repository_that_turns_bad_ends_neither_the_daemon_nor_what_runs(
    tmp_path: Path, several: bool
) -> None:
    stage, other = stage_at(tmp_path / "web"), stage_at(tmp_path / "api")
    stage.task(f"until test -e {tmp_path}/go; do sleep 0.01; done; echo more >more")
    places = ["web", "api"] if several else ["web"]
    with daemon(tmp_path, *places, *SOON) as log:
        wait_for(lambda: log.of("run"), what="the script to run")
        with garbage(stage.repo):
            wait_for(lambda: log.of("problem"), what="the fault to be told")
            (tmp_path / "go").touch()
            if several:
                other.task("exit 0")
                other.wait_for_state("done")
        stage.wait_for_state("done")
        stage.task("exit 0")
        stage.wait_for_state("done")
    assert stage.repo.git("show", "task:more") == "more"
    told = [line for line in log.of("problem") if "tried again" in line]
    assert len(told) == 1
    assert f"{stage.repo.git_dir}/packed-refs: line " in told[0]


# --- wake-ups by HTTP ----------------------------------------------------------------------------

SECRET = "hush, it is a secret"
BODY = b'{"ref": "refs/heads/whatever"}'
SIGNED = {"X-Hub-Signature-256": f"sha256={hmac.new(SECRET.encode(), BODY, 'sha256').hexdigest()}"}
NEVER = ("--poll", "1d")


@pytest.fixture
def deaf() -> list[str]:
    """Starts a program that can't watch files: inotify's limit is 0 in a user namespace."""
    shell = 'echo 0 > /proc/sys/user/max_inotify_instances && exec "$@"'
    within = ["unshare", "--user", "--map-root-user", "sh", "-c", shell, "sh"]
    if not shutil.which("unshare") or subprocess.run([*within, "true"], check=False).returncode:
        pytest.skip("no user namespace to be had")
    return within


def post(log: Log, headers: Mapping[str, str]) -> int:
    """A delivery to the address that a daemon has told; the status of its answer."""
    url = re.search(r"http://\S+", log.of("listening")[0])
    assert url is not None
    try:
        with urllib.request.urlopen(urllib.request.Request(url[0], BODY, headers)) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def still(pid: int) -> Callable[[], bool]:
    """Asked again and again: has the main thread slept on for the last 30 times?"""
    seen: list[str] = []

    def look() -> bool:
        text = Path(f"/proc/{pid}/status").read_text()
        seen.append(text.partition("voluntary_ctxt_switches:")[2].partition("\n")[0])
        return len(seen) > 30 and len(set(seen[-30:])) == 1

    return look


def test_a_delivery_lets_a_daemon_look_that_sees_no_files_and_its_replay_is_harmless(
    tmp_path: Path, deaf: list[str]
) -> None:
    stage = stage_at(tmp_path / "web")
    env = {"AYNIG_WAKE_SECRET": SECRET}
    args = ("web", "--wake-listen", "0", *NEVER)
    with daemon(tmp_path, *args, within=deaf, env=env) as log:
        stage.wait_for_state("done")
        wait_for(still(log.process.pid), what="the daemon to sleep")
        assert "can't watch for changes: inotify instance limit" in log.of("problem")[0]
        oid = stage.task("exit 0")
        assert post(log, {}) == 403
        assert post(log, {**SIGNED, "X-Gitlab-Token": "guessed"}) == 403
        assert stage.repo.tip("task") == oid
        assert post(log, SIGNED) == 202
        answer = stage.wait_for_state("done")
        assert [post(log, SIGNED) for _ in range(20)] == [202] * 20
        stage.task("exit 0", branch="other")
        assert post(log, SIGNED) == 202
        stage.wait_for_state("done", "other")
        wait_for(lambda: len(log.of("answer")) == 3, what=f"all answers: {log.lines}")
    assert stage.repo.tip("task") == answer
    assert len(log.of("event")) == len(log.of("run")) == 3
    refused = [line for line in log.of("problem") if "refused" in line]
    assert refused == ["refused a wake-up from 127.0.0.1: no signature"]
    assert SECRET not in "\n".join(log.lines)


def test_deliveries_are_taken_while_the_daemon_drains(tmp_path: Path) -> None:
    stage = stage_at(tmp_path / "web")
    stage.task(f"touch {tmp_path}/begun; until test -e {tmp_path}/go; do sleep 0.01; done")
    with daemon(tmp_path, "web", "--wake-listen", "0", *NEVER) as log:
        wait_for((tmp_path / "begun").exists, what="the script to run")
        log.process.send_signal(signal.SIGTERM)
        wait_for(lambda: log.of("draining"), what="the drain")
        assert post(log, {}) == 202
        (tmp_path / "go").touch()
        assert log.process.wait() == 0
        with pytest.raises(urllib.error.URLError):
            post(log, {})
    assert stage.repo.state("task") == "done"


def test_the_address_and_the_file_of_the_secret_are_settings(tmp_path: Path) -> None:
    stage = stage_at(tmp_path / "web")
    secret = tmp_path / "secret"
    secret.write_text(f"{SECRET}\n")
    secret.chmod(0o644)
    stage.repo.git("config", "aynig.wakeListen", "localhost:0")
    stage.repo.git("config", "aynig.wakeSecretFile", str(secret))
    with daemon(tmp_path, "web") as log:
        assert post(log, {"X-Gitlab-Token": SECRET}) == 202
    assert re.fullmatch(r"http://127.0.0.1:\d+/wake for signed wake-ups", log.of("listening")[0])
    assert log.of("problem") == [f"{secret} is open to others: chmod 600 {secret}"]
    with machine.daemon(stage.repo.path, env={"AYNIG_WAKE_SECRET": "another"}) as found:
        line = found.of("listening")[0]
    assert line["repository"] is None
    assert line["detail"].endswith("/wake for signed wake-ups")


def test_by_default_and_with_an_empty_flag_nothing_listens(tmp_path: Path) -> None:
    stage = stage_at(tmp_path / "web")
    with daemon(tmp_path, "web") as log:
        assert log.of("listening") == []
    stage.repo.git("config", "aynig.wakeListen", "0.0.0.0:0")
    with daemon(tmp_path, "web", "--wake-listen", "") as log:
        assert log.of("listening") == []


def test_no_script_and_no_program_gets_the_secret(aynig: Shell, tmp_path: Path) -> None:
    os.environ["AYNIG_WAKE_SECRET"] = SECRET
    aynig("daemon", str(tmp_path / "none"))
    assert "AYNIG_WAKE_SECRET" not in os.environ


@pytest.mark.parametrize(
    ("address", "env", "status", "line"),
    [
        ("on", {}, 2, "--wake-listen: expected a port such as 8737, "),
        ("0.0.0.0:0", {}, 2, "without a secret, 0.0.0.0:0 can't be listened at for wake-ups: "),
        ("0", {"AYNIG_WAKE_SECRET": " "}, 2, "AYNIG_WAKE_SECRET is empty. "),
        ("192.0.2.1:1", {"AYNIG_WAKE_SECRET": "x"}, 1, "can't listen at 192.0.2.1:1: "),
    ],
)
def test_where_nothing_can_be_listened_at_the_daemon_ends_with_a_clear_line(
    aynig: Shell, address: str, env: dict[str, str], status: int, line: str
) -> None:
    os.environ.update(env)
    said = aynig("daemon", "--wake-listen", address)
    assert (said.status, said.err.count("\n")) == (status, 1)
    assert said.err.startswith(f"aynig: {line}")


def test_a_port_in_use_is_told(aynig: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = aynig("daemon", "--wake-listen", str(port))
    assert (said.status, said.err.count("\n")) == (1, 1)
    assert said.err.startswith(f"aynig: can't listen at 127.0.0.1:{port}: Address already in use")


def test_a_secret_that_is_not_there_is_told(aynig: Shell, tmp_path: Path) -> None:
    aynig.repo.git("config", "aynig.wakeSecretFile", f"{tmp_path}/none")
    said = aynig("daemon", "--wake-listen", "0")
    assert (said.status, said.err.count("\n")) == (2, 1)
    assert said.err.startswith(f"aynig: aynig.wakeSecretFile: {tmp_path}/none can't be read: ")


def test_two_repositories_name_one_address_or_the_flag_does(aynig: Shell, tmp_path: Path) -> None:
    for name, port in (("web", "8737"), ("api", "8738")):
        stage_at(tmp_path / name).repo.git("config", "aynig.wakeListen", port)
    said = aynig("daemon", str(tmp_path / "web"), str(tmp_path / "api"))
    assert (said.status, said.err.count("\n")) == (2, 1)
    assert "127.0.0.1:8737 (web), 127.0.0.1:8738 (api)" in said.err
    assert "--wake-listen 127.0.0.1:8737" in said.err
    with daemon(tmp_path, "web", "api", "--wake-listen", "0") as log:
        assert len(log.of("listening")) == 1
