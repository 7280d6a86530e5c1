"""`aynig logs` shows what a script printed, byte by byte, also while it runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Shell
from tests.fleet import Fleet
from tests.world import wait_for

SAYS = b"#!/bin/sh\nprintf 'out\\n\\377\\033[31m'\nprintf 'err\\n' >&2\n"
WAITS = """#!/bin/sh
echo first
while [ ! -e "$GATE" ]; do sleep 0.02; done
echo last
"""


def task(aynig: Shell, script: str | bytes, branch: str = "task") -> None:
    aynig.repo.commit(
        "x\n\naynig: go\n", branch=branch, parent=aynig.repo.tip(), files={".aynig/go": script}
    )


def test_into_a_pipe_it_is_what_the_script_printed(aynig: Shell) -> None:
    task(aynig, SAYS)
    run = aynig("run", "--json").rows[0]["run"]
    process = aynig.start("logs", "task")
    out, err = process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert out == b"out\n\xff\x1b[31merr\n"
    assert aynig.start("logs", run).communicate()[0] == out
    assert aynig.start("logs", run[:-2]).communicate()[0] == out


@pytest.mark.parametrize("more", [[], ["-f"]])
def test_that_a_script_printed_nothing_is_said_beside_the_output(
    aynig: Shell, more: list[str]
) -> None:
    task(aynig, "#!/bin/sh\nexit 0\n")
    run = aynig("run", "--json").rows[0]["run"]
    said = aynig("logs", "task", *more)
    assert (said.status, said.out, said.err) == (0, "", f"aynig: run {run} printed nothing\n")
    assert aynig("logs", "task", "--json", *more).err == ""


def test_json_is_a_list_with_the_text(aynig: Shell) -> None:
    task(aynig, SAYS)
    aynig("run", "-q")
    (row,) = aynig("logs", "task", "--json").rows
    assert row["text"] == "out\n\\xff\x1b[31merr\n"
    assert row["branch"] == "task"


def test_of_several_runs_of_a_branch_it_is_the_last(aynig: Shell) -> None:
    task(aynig, '#!/bin/sh\necho "$AYNIG_STATE $AYNIG_RUN_ID"\n')
    for _ in range(3):
        last = aynig("run", "--json").rows[-1]["run"]
        assert aynig("logs", "task", "--json").rows[0]["text"] == f"go {last}\n"
        aynig("submit", "go", "-b", "task")


def test_a_branch_that_never_ran_is_an_error_that_says_where_to_look(aynig: Shell) -> None:
    task(aynig, SAYS)
    said = aynig("logs", "task")
    assert (said.status, said.out) == (1, "")
    assert "`aynig status`" in said.err


def test_following_goes_on_until_the_script_ends(aynig: Shell) -> None:
    gate = aynig.repo.path.parent / "gate"
    task(aynig, WAITS)
    runner = aynig.start("run", "-q", GATE=str(gate))
    archive = aynig.repo.git_dir / "aynig" / "runs"
    wait_for(lambda: archive.is_dir() and any(archive.glob("*/output")), what="a run")
    follower = aynig.start("logs", "-f", "task")
    assert follower.stdout is not None
    assert follower.stdout.readline() == b"first\n"
    assert follower.poll() is None
    gate.touch()
    assert follower.communicate()[0] == b"last\n"
    assert follower.returncode == 0
    runner.communicate()
    assert runner.returncode == 0


def test_following_as_json_is_an_object_a_line(aynig: Shell) -> None:
    task(aynig, SAYS)
    aynig("run", "-q")
    rows = [json.loads(line) for line in aynig("logs", "-f", "--json", "task").lines]
    assert "".join(row["text"] for row in rows) == "out\n\\xff\x1b[31merr\n"


def test_a_run_without_an_output_file_has_printed_nothing(aynig: Shell) -> None:
    task(aynig, SAYS)
    run = aynig("run", "--json").rows[0]["run"]
    (aynig.repo.git_dir / "aynig" / "runs" / run / "output").unlink()
    said = aynig("logs", "task")
    assert (said.status, said.out, said.err) == (0, "", f"aynig: run {run} printed nothing\n")
    assert aynig("logs", "task", "--json").rows[0]["text"] == ""


# --- of a remote --------------------------------------------------------------------------------


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """A server with a task, and a clone of it that is the working directory."""
    fleet = Fleet.make(tmp_path, {"go": 'echo "said by $AYNIG_BRANCH"'})
    fleet.tasks.task("go")
    monkeypatch.chdir(fleet.clone("here").path)
    return fleet


ANSWER = """go -> done

aynig: done
aynig: answers: {answers}
aynig: run: 20260131T093000Z-1f3a9c2e07
aynig: runner: build-7-4711-6dcd0649
aynig: executed-by: ada@build-7
"""


def answer_elsewhere(fleet: Fleet) -> None:
    answers = fleet.server.tip("task")
    fleet.server.commit(ANSWER.format(answers=answers), branch="task")


@pytest.mark.parametrize("more", [[], ["--remote", "origin"], ["-f"]])
def test_the_output_of_a_run_for_a_remote_is_found_in_its_mirror(
    aynig: Shell, fleet: Fleet, more: list[str]
) -> None:
    run = fleet.run("here").row("task").run
    assert run is not None
    for name in ("task", run, run[:-2]):
        said = aynig("logs", name, *more)
        assert (said.status, said.out, said.err) == (0, "said by task\n", "")


def test_the_repository_s_own_run_comes_first_without_a_remote(aynig: Shell, fleet: Fleet) -> None:
    fleet.run("here")
    here = fleet.clone("here")
    here.commit("x\n\naynig: go\n", branch="task", files={".aynig/go": "#!/bin/sh\necho own\n"})
    aynig("run", "-q", "--remote", ".")
    assert aynig("logs", "task").out == "own\n"
    assert aynig("logs", "task", "--remote", "origin").out == "said by task\n"
    here.git("config", "aynig.remote", "origin")
    assert aynig("logs", "task").out == "said by task\n"
    assert aynig("logs", "task", "--remote", ".").out == "own\n"


def test_where_another_machine_has_the_run_one_line_says_which(aynig: Shell, fleet: Fleet) -> None:
    answer_elsewhere(fleet)
    for name in ("task", "20260131T093000Z-1f3a9c2e07", "20260131T09"):
        said = aynig("logs", name, "--remote", "origin")
        assert (said.status, said.out) == (1, "")
        assert said.err.startswith(
            "aynig: run 20260131T093000Z-1f3a9c2e07 took place on build-7, "
            "by build-7-4711-6dcd0649. "
        )
        assert said.err.count("\n") == 1


def test_a_branch_that_was_fetched_says_it_without_naming_the_remote(
    aynig: Shell, fleet: Fleet
) -> None:
    answer_elsewhere(fleet)
    fleet.clone("here").git("fetch", "--quiet", "origin", "task:task")
    assert "took place on build-7" in aynig("logs", "task").err


def test_an_older_run_of_this_machine_is_shown_as_such(aynig: Shell, fleet: Fleet) -> None:
    ran = fleet.run("here").row("task").run
    answers = fleet.server.tip("task")
    later = ANSWER.replace("20260131T093000Z", "29990131T093000Z").format(answers=answers)
    fleet.server.commit(later, branch="task")
    assert aynig("status", "--remote", "origin").status == 0
    said = aynig("logs", "task")
    assert said.out == "said by task\n"
    assert "29990131T093000Z-1f3a9c2e07, took place on build-7" in said.err
    assert str(ran) in said.err


def test_a_remote_that_can_t_be_asked_says_so(aynig: Shell, fleet: Fleet) -> None:
    fleet.server.path.rename(fleet.folder / "gone.git")
    said = aynig("logs", "task", "--remote", "origin")
    assert said.status == 1
    assert said.err.startswith("aynig: origin: ")
