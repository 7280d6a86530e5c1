"""Runs an example's own `run.sh`, as its README says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.world import GitRepo

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run_example(name: str, folder: Path) -> GitRepo:
    """The repository that the example made in `folder`, after all of it was run."""
    programs = folder.parent / "programs"
    programs.mkdir()
    aynig = programs / "aynig"
    aynig.write_text(f'#!/bin/sh\nexec {sys.executable} -m aynig "$@"\n')
    aynig.chmod(0o755)
    done = subprocess.run(
        [EXAMPLES / name / "run.sh", folder],
        env={
            **os.environ,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(EXAMPLES.parent),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    _output(folder).write_text(done.stdout)
    return GitRepo(folder)


def printed(repo: GitRepo) -> str:
    """What `run.sh` printed when it made this repository."""
    return _output(repo.path).read_text()


def _output(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}-output")


def pictures_of(text: str) -> list[str]:
    """The lines of `git log --graph` in a text; oids and keys, new in each run, are blanked."""
    lines = [line.rstrip() for line in text.split("\n") if re.match(r"[*|][*|/\\. _-]* ?", line)]
    lines = [re.sub(r"\b[0-9a-f]{7,40}\b", "0000000", line) for line in lines]
    return [re.sub(r"SHA256:[A-Za-z0-9+/]+", "SHA256:0", line) for line in lines]


def pictures(name: str) -> list[str]:
    """The same of the example's README, from its blocks of code."""
    blocks = (EXAMPLES / name / "README.md").read_text().split("```")[1::2]
    return [line for block in blocks for line in pictures_of(block)]


def values(repo: GitRepo, rev: str, key: str) -> list[str]:
    """The values of a field that may repeat, in their order."""
    told = [value for name, value in repo.trailers(rev) if name == "aynig"]
    return [value.partition(": ")[2] for value in told if value.startswith(f"{key}: ")]


def subjects(repo: GitRepo, branch: str) -> list[str]:
    """The first-parent line of a branch, oldest first."""
    return repo.git("log", "--first-parent", "--reverse", "--format=%s", branch).split("\n")


def picture(name: str) -> list[str]:
    """The subjects in the picture of the example's README, as git log prints them."""
    text = (EXAMPLES / name / "README.md").read_text()
    lines = text.split("```")[1].strip().split("\n")
    commits = [line for line in lines if "*" in line]
    return [line.lstrip("*|/\\-. ").partition(" ")[2] for line in commits]


def history(repo: GitRepo) -> list[str]:
    """What the picture has to show."""
    text = repo.git(
        "log",
        "--graph",
        "--oneline",
        "--all",
        "--decorate=short",
        "--decorate-refs=refs/heads/",
        "--color=never",
    )
    commits = [line for line in text.split("\n") if "*" in line]
    return [line.lstrip("*|/\\-. ").partition(" ")[2] for line in commits]
