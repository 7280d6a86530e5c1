"""`aynig logs` shows what a script printed, byte by byte, also while it runs."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Shell
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
