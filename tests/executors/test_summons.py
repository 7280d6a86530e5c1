"""The operator's program is started beside everything else, and what goes wrong with it is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aynig.executors.summons import Summon, Summons
from tests.world import wait_for

CALL = Summon("task/a", "awaiting-approval", "a" * 40, "task/a waits for a person: asks")


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], str]:
    """The path of a program for sh, with a name that has to be quoted."""

    def make(text: str) -> str:
        path = tmp_path / "the program"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return f"'{path}'"

    return make


def summons(command: str, place: Path, problems: list[str], **more: float) -> Summons:
    return Summons(command, "web", place, problems.append, **more)


def test_the_program_is_told_who_waits_where(
    program: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", "/elsewhere")
    heard = tmp_path / "heard"
    command = program('{ echo "$1"; env; cat; } >heard.new; mv heard.new heard')
    summons(f"{command} 'two words'", tmp_path, []).call(CALL)
    wait_for(heard.exists, what="the program")
    lines = heard.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("two words", CALL.sentence)
    assert {
        "AYNIG_REPOSITORY=web",
        "AYNIG_BRANCH=task/a",
        "AYNIG_STATE=awaiting-approval",
        f"AYNIG_COMMIT_HASH={'a' * 40}",
    } <= set(lines)
    assert not [line for line in lines if line.startswith("GIT_DIR")]


def test_a_commit_is_told_of_once(program: Callable[[str], str], tmp_path: Path) -> None:
    calls = summons(program("echo $AYNIG_BRANCH >>heard"), tmp_path, [])
    for branch in ("first", "second"):
        calls.call(Summon(branch, "stalled", "b" * 40, ""))
    calls.call(Summon("last", "stalled", "c" * 40, ""))
    heard = tmp_path / "heard"
    wait_for(lambda: heard.exists() and "last" in heard.read_text(), what="the last")
    assert sorted(heard.read_text().split()) == ["first", "last"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("echo one >&2; echo 'no display' >&2; exit 3", "exit 3: no display"),
        ("exit 4", "exit 4"),
    ],
)
def test_what_goes_wrong_is_told(
    program: Callable[[str], str], tmp_path: Path, text: str, told: str
) -> None:
    problems: list[str] = []
    summons(program(text), tmp_path, problems).call(CALL)
    wait_for(lambda: problems, what="the problem")
    assert problems == [f"aynig.notify for task/a: {told}"]


def test_a_program_that_is_not_there_is_told_of(tmp_path: Path) -> None:
    problems: list[str] = []
    summons("/nowhere/program", tmp_path, problems).call(CALL)
    wait_for(lambda: problems, what="the problem")
    assert "it can't be started" in problems[0]


def test_one_that_hangs_is_ended(program: Callable[[str], str], tmp_path: Path) -> None:
    problems: list[str] = []
    command = program("echo $$ >pid; exec sleep 600")
    summons(command, tmp_path, problems, patience=0.2).call(CALL)
    wait_for(lambda: problems, what="its end")
    assert "was ended" in problems[0]
    pid = int((tmp_path / "pid").read_text())
    assert not Path(f"/proc/{pid}").exists()


def test_whoever_ends_waits_for_the_start_and_not_for_the_end(
    program: Callable[[str], str], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    calls = summons(program("while [ ! -e gate ]; do sleep 0.02; done; : >over"), tmp_path, [])
    calls.call(CALL)
    calls.close()
    assert not (tmp_path / "over").exists()
    gate.touch()
    wait_for((tmp_path / "over").exists, what="the program to go on")


def test_without_a_program_nothing_is_done(tmp_path: Path) -> None:
    problems: list[str] = []
    calls = summons("", tmp_path, problems)
    calls.call(CALL)
    calls.close()
    assert problems == []
