"""The workflow file that is shipped is run, step by step, as a job of GitHub's would run it.

A step with `uses:` is done in its place: `actions/checkout` leaves a clone of one commit, with its
credentials as a header in the clone's own settings.
"""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.examples.example import EXAMPLES, history, picture, run_example, subjects
from tests.servers import SmartHttp, beside, require, running
from tests.world import GitRepo

EXAMPLE = EXAMPLES / "github-actions"
WORKFLOW: dict[Any, Any] = yaml.safe_load((EXAMPLE / ".github/workflows/aynig.yml").read_text())
USER, PASSWORD = "x-access-token", "ghs_notforlogs"
SECRET = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
# The expressions of the file (`${{ ... }}`), and what they come to in a repository that sets
# nothing.
EXPRESSIONS = {"vars.AYNIG_INSTALL || 'pip install aynig'": "pip install aynig"}
_IDENTITY = re.compile("GIT_(AUTHOR|COMMITTER)_")
TASK = "Add two words\n\nref: a name for a commit\nbranch: a ref\n\naynig: add\n"


def on() -> dict[str, Any]:
    """What starts the workflow. The key is a word for yes in YAML 1.1."""
    found = WORKFLOW.get("on") or WORKFLOW[True]
    assert isinstance(found, dict)
    return found


def evaluated(variables: dict[str, str]) -> dict[str, str]:
    """Variables of the file, with their expressions replaced by what they come to."""
    return {
        name: re.sub(r"\$\{\{ *(.*?) *\}\}", lambda found: EXPRESSIONS[found[1]], value)
        for name, value in variables.items()
    }


@dataclass
class Forge:
    """A server that wants a password, and the jobs that run on its pushes."""

    folder: Path
    http: SmartHttp
    repo: GitRepo
    jobs: int = 0

    def push_task(self, branch: str, message: str = TASK) -> str:
        return self.repo.commit(message, branch=branch, parent=self.repo.tip())

    def checkout(self, ref: str) -> GitRepo:
        """What `actions/checkout` leaves: one commit, no branch but that one, a header."""
        self.jobs += 1
        job = GitRepo.init(self.folder / f"job-{self.jobs}", empty=True)
        url = self.http.url("repo.git")
        origin = url.removesuffix("git/repo.git")
        job.git("remote", "add", "origin", url)
        job.git("config", "--local", f"http.{origin}.extraheader", f"AUTHORIZATION: basic {SECRET}")
        branch = f"refs/remotes/origin/{ref}"
        spec = f"+refs/heads/{ref}:{branch}"
        job.git("fetch", "--quiet", "--no-tags", "--depth=1", "origin", spec)
        job.git("checkout", "--quiet", "--force", "-B", ref, branch)
        return job

    def run_job(self, clone: GitRepo) -> subprocess.CompletedProcess[str]:
        """The steps of the job; status 1 where one failed, and all that they printed."""
        (job,) = WORKFLOW["jobs"].values()
        summary = self.folder / "summary.md"
        # Nobody has said who commits there, but for what the steps say.
        outside = {name: value for name, value in os.environ.items() if not _IDENTITY.match(name)}
        variables = {**outside, **evaluated(job["env"]), "GITHUB_STEP_SUMMARY": str(summary)}
        variables |= {"PATH": f"{self._programs()}{os.pathsep}{os.environ['PATH']}"}
        # No network: it is installed already.
        variables["AYNIG_INSTALL"] = "aynig --version"
        output, failed = "", False
        for step in job["steps"]:
            if "run" not in step or (failed and step.get("if") != "always()"):
                continue
            # As GitHub starts them where no shell is named.
            done = subprocess.run(
                ["bash", "-e", "-c", step["run"]],
                cwd=clone.path,
                env=variables | evaluated(step.get("env", {})),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            output += done.stdout
            failed = failed or done.returncode != 0
        return subprocess.CompletedProcess([], int(failed), output)

    def _programs(self) -> Path:
        """A folder for the PATH, with an `aynig` in place of one that was installed."""
        programs = self.folder / "programs"
        programs.mkdir(exist_ok=True)
        aynig = programs / "aynig"
        root = EXAMPLES.parent
        aynig.write_text(f'#!/bin/sh\nPYTHONPATH={root} exec {sys.executable} -m aynig "$@"\n')
        aynig.chmod(0o755)
        return programs


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[Forge]:
    require("lighttpd", "lighttpd")
    root = tmp_path / "srv"
    root.mkdir()
    server = GitRepo.init(root / "repo.git", bare=True, empty=True)
    files: dict[str, str | bytes | None] = {
        str(path.relative_to(EXAMPLE)): path.read_text()
        for path in EXAMPLE.rglob("*")
        if path.is_file() and path.name not in ("README.md", "run.sh")
    }
    server.commit("The workflow", files=files)
    with running(SmartHttp(root, beside(root, "http"), users={USER: PASSWORD})) as http:
        yield Forge(tmp_path, http, server)


def test_a_push_of_a_task_is_carried_through_its_chain_by_one_job(forge: Forge) -> None:
    forge.push_task("task/words")
    done = forge.run_job(forge.checkout("task/words"))
    assert done.returncode == 0, done.stdout
    assert subjects(forge.repo, "task/words") == [
        "The workflow",
        "Add two words",
        "add -> tidy: 2 more lines",
        "tidy -> done: 4 lines in order",
    ]
    assert "github-actions[bot]" in forge.repo.git("log", "-1", "--format=%an", "task/words")
    summary = (forge.folder / "summary.md").read_text()
    assert summary.startswith("```\nbranch")
    assert "task/words" in summary


def test_the_job_of_another_push_takes_all_tasks_that_there_are(forge: Forge) -> None:
    for name in ("one", "two"):
        forge.push_task(f"task/{name}", TASK.replace("Add two", f"Add {name}"))
    done = forge.run_job(forge.checkout("task/one"))
    assert done.returncode == 0, done.stdout
    assert forge.repo.state("task/one") == forge.repo.state("task/two") == "done"


def test_the_job_of_the_schedule_has_the_default_branch_and_takes_what_is_left(
    forge: Forge,
) -> None:
    forge.push_task("task/words")
    assert forge.run_job(forge.checkout("main")).returncode == 0
    assert forge.repo.state("task/words") == "done"


def test_only_branches_of_tasks_are_worked_on(forge: Forge) -> None:
    asked = forge.push_task("feature/words")
    assert forge.run_job(forge.checkout("main")).returncode == 0
    assert forge.repo.tip("feature/words") == asked


def test_a_job_is_red_when_a_run_failed_and_still_says_how_things_stand(forge: Forge) -> None:
    forge.push_task("task/empty", "Add nothing\n\naynig: add\n")
    done = forge.run_job(forge.checkout("task/empty"))
    assert done.returncode == 1
    assert forge.repo.state("task/empty") == "failed"
    assert "task/empty" in (forge.folder / "summary.md").read_text()


def test_where_the_credentials_are_refused_one_line_says_so_and_does_not_show_them(
    forge: Forge,
) -> None:
    asked = forge.push_task("task/words")
    clone = forge.checkout("task/words")
    (forge.http.folder / "passwords").write_text(f"{USER}:another\n")
    done = forge.run_job(clone)
    assert done.returncode == 1
    assert "aynig: " in done.stdout
    assert "Give this runner credentials" in done.stdout
    assert PASSWORD not in done.stdout
    assert SECRET not in done.stdout
    assert forge.repo.tip("task/words") == asked


def test_every_expression_of_the_file_is_known_here() -> None:
    text = (EXAMPLE / ".github/workflows/aynig.yml").read_text()
    assert set(re.findall(r"\$\{\{ *(.*?) *\}\}", text)) == set(EXPRESSIONS)


def test_it_is_started_by_pushes_of_tasks_and_by_a_schedule() -> None:
    assert on()["push"] == {"branches": ["task/**"]}
    assert on()["schedule"]
    assert WORKFLOW["permissions"] == {"contents": "write"}
    assert WORKFLOW["concurrency"]["cancel-in-progress"] is False


def test_what_is_tried_without_a_forge_comes_out_as_the_readme_shows(tmp_path: Path) -> None:
    run_example("github-actions", tmp_path / "repo")
    assert picture("github-actions") == history(GitRepo(tmp_path / "repo" / "server.git"))
