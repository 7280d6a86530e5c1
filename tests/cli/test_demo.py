from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from aynig import showcase
from aynig.showcase import TASKS, Unexpected
from tests.world import GitRepo

HISTORY = {
    "(task/greeting) publish -> done",
    "review -> publish: no objections",
    "fix -> review: added what the review asked for",
    "review -> fix: an exclamation mark is missing",
    "write -> review: a first draft",
    "Write a greeting",
    "(task/weather) publish -> done",
    "fetch -> publish: sunny",
    "Fetch the weather",
    "(task/sums) check -> failed: exit 1",
    "Check the sums",
    "(main) Add the workflow",
}


def demo(
    place: Path, *options: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`aynig demo` with `place` as the folder of its temporary files."""
    place.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-m", "aynig", "demo", *options],
        cwd=Path(showcase.__file__).parents[1],
        env={**os.environ, "TMPDIR": str(place), **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_demonstration_shows_its_history_and_ends_with_the_counts(tmp_path: Path) -> None:
    done = demo(tmp_path / "tmp")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    graph = lines[lines.index("$ git log --graph --oneline --all") + 1 :]
    commits = [line.lstrip("*| ").partition(" ")[2] for line in graph if "*" in line]
    assert set(commits) == HISTORY
    assert lines[-1].startswith("3 tasks, 9 runs, 8 answers, 1 failed (on purpose), 1 retried")
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in done.stdout


def test_nothing_is_left_of_it(tmp_path: Path) -> None:
    demo(tmp_path / "tmp")
    assert list((tmp_path / "tmp").iterdir()) == []


def test_with_keep_the_repository_stays_and_is_named(tmp_path: Path) -> None:
    done = demo(tmp_path / "tmp", "--keep")
    [folder] = (tmp_path / "tmp").iterdir()
    assert f"The repository is {folder}" in done.stdout
    kept = GitRepo(folder)
    assert [kept.state(task.branch) for task in TASKS] == ["done", "done", "failed"]
    assert kept.git("status", "--porcelain") == ""


def test_json_has_the_counts_and_a_row_a_run(tmp_path: Path) -> None:
    [told] = json.loads(demo(tmp_path / "tmp", "--json").stdout)
    rows = told.pop("rows")
    assert told == {
        "repository": None,
        "tasks": 3,
        "runs": 9,
        "answers": 8,
        "failed": 1,
        "retried": 1,
    }
    assert len(rows) == 9
    assert [row["attempt"] for row in rows if row["from_state"] == "fetch"] == [1, 2]


def test_what_a_person_has_configured_plays_no_part(tmp_path: Path) -> None:
    home = tmp_path / "home"
    hooks = home / "hooks"
    hooks.mkdir(parents=True)
    for name in ("pre-commit", "post-commit", "reference-transaction", "post-checkout"):
        hook = hooks / name
        hook.write_text(f"#!/bin/sh\ntouch {home}/{name}-ran\nexit 1\n")
        hook.chmod(0o755)
    config = home / ".gitconfig"
    config.write_text(
        f"[core]\nhooksPath = {hooks}\nautocrlf = true\nexcludesFile = {home}/ignored\n"
        f"[init]\ntemplateDir = {home}\ndefaultBranch = trunk\n"
        "[commit]\ngpgSign = true\n[user]\nuseConfigOnly = true\n"
        "[aynig]\nbranch = nothing/*\njobs = many\n[log]\nshowSignature = true\n"
    )
    (home / "ignored").write_text("*\n")
    env = {
        "HOME": str(home),
        "GIT_CONFIG_GLOBAL": str(config),
        "GIT_DIR": str(tmp_path / "elsewhere"),
        "GIT_INDEX_FILE": str(tmp_path / "index"),
    }
    done = demo(tmp_path / "tmp", env=env)
    assert done.returncode == 0, done.stderr
    assert not list(home.glob("*-ran"))


def test_an_interrupted_demonstration_leaves_nothing(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "aynig", "demo"],
        cwd=Path(showcase.__file__).parents[1],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert any("write starts" in line for line in child.stdout)
        child.send_signal(signal.SIGINT)
        child.communicate()
    assert child.returncode == 130
    assert list(tmp_path.iterdir()) == []


def test_where_the_reader_goes_away_the_demonstration_ends_quietly_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "aynig", "demo"],
        cwd=Path(showcase.__file__).parents[1],
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        # Not in the middle of the introduction: the engine is at work.
        assert any("looks at the branches" in line for line in child.stdout)
        child.stdout.close()
        assert child.stderr.read() == ""
    assert child.returncode == 141
    assert list(tmp_path.iterdir()) == []


def test_an_outcome_that_is_not_the_expected_one_is_an_error(tmp_path: Path) -> None:
    with showcase.sealed():
        showcase.build(tmp_path)
        showcase.submit(tmp_path)
        with pytest.raises(Unexpected, match=r"task/greeting went write, not write -> review"):
            showcase.judge(tmp_path, [])


def test_the_environment_is_as_before_when_the_seal_is_broken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GIT_DIR", "/elsewhere")
    before = dict(os.environ)
    with showcase.sealed():
        assert "GIT_DIR" not in os.environ
    assert dict(os.environ) == before
