"""`aynig retry` makes a failed task run again."""

from __future__ import annotations

import re

import pytest

from aynig.text import operand
from tests.cli.conftest import Shell

ONCE = '#!/bin/sh\n[ -e "$GATE" ]\n'


def test_a_failed_task_runs_again_once_what_was_wrong_is_mended(aynig: Shell) -> None:
    gate = aynig.repo.path.parent / "gate"
    aynig.repo.commit(
        "Please go\n\nThe prompt.\n\naynig: go\n",
        branch="task",
        parent=aynig.repo.tip(),
        files={".aynig/go": ONCE.replace("$GATE", str(gate))},
    )
    assert aynig("run", "-q").status == 1
    gate.touch()
    (row,) = aynig("retry", "task", "--json").rows
    assert row == {"branch": "task", "oid": aynig.repo.tip("task"), "state": "go"}
    assert aynig("run", "-q").status == 0
    states = [each["state"] for each in aynig("log", "task", "--json").rows]
    assert states == ["go", "failed", "go", "done"]


def test_of_several_retries_at_once_one_counts_and_the_others_say_so(aynig: Shell) -> None:
    before = aynig.repo.commit("x\n\naynig: go\n", branch="task", parent=aynig.repo.tip())
    processes = [aynig.start("retry", "task") for _ in range(6)]
    said = [process.communicate()[1].decode() for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 1, 1, 1, 1, 1]
    assert aynig.repo.git("rev-parse", "task^") == before
    for process, text in zip(processes, said, strict=True):
        known = "retried already" in text or "has moved" in text
        assert known is bool(process.returncode), text


def test_what_did_not_fail_is_refused_with_what_to_do_instead(aynig: Shell) -> None:
    aynig.repo.commit("x\n\naynig: done\n", branch="task", parent=aynig.repo.tip())
    said = aynig("retry", "task")
    assert said.status == 1
    assert said.err == (
        "aynig: nothing failed: the state is done. "
        "A new state is written with `aynig submit STATE -b BRANCH`.\n"
    )


@pytest.mark.parametrize("name", ["-x", "${IFS}x", "$(id)"])
def test_the_hint_to_retry_works_when_it_is_copied(aynig: Shell, name: str) -> None:
    oid = aynig.repo.commit("x\n\naynig: noop\n", branch="one", parent=aynig.repo.tip())
    aynig("run", "-q")
    aynig.repo.git("update-ref", f"refs/heads/{name}", oid)
    (row,) = [row for row in aynig("status", "--json").rows if row["branch"] == name]
    assert row["hold"] == "answered"
    words = re.findall(r"`aynig (.*)`", row["detail"])
    assert words == [f"retry {operand(name)}"]
    asked = aynig("retry", *(["--", name] if name.startswith("-") else [name]))
    assert asked.status == 0
    assert aynig.repo.state(name) == "noop"
