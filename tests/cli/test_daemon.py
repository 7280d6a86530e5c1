"""A daemon over several repositories: each line says of which, and a bad one stops no other."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
from collections.abc import Iterator
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
def daemon(cwd: Path, *args: str) -> Iterator[Log]:
    """`aynig daemon` with its log for people, until the block ends."""
    process = subprocess.Popen(
        command("daemon", *args),
        cwd=cwd,
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
