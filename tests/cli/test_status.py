"""`aynig status` is a row a branch, in one shape for people and one for programs."""

from __future__ import annotations

import re

import pytest

from tests.cli.conftest import Shell
from tests.world import SCRIPT_OK

KEYS = {"branch", "tip", "state", "hold", "detail", "since"}


def test_json_has_a_row_a_task_with_whole_oids_and_utc_times(aynig: Shell) -> None:
    oid = aynig.repo.commit("x\n\naynig: go\n", branch="task", parent=aynig.repo.tip())
    (row,) = aynig("status", "--json").rows
    assert set(row) >= KEYS
    assert (row["branch"], row["tip"], row["state"]) == ("task", oid, "go")
    assert row["hold"] == "missing-script"
    assert row["since"] == "2023-11-14T22:15:20Z"
    assert row["last_answer"] is None


def test_a_task_that_is_ready_has_no_hold(aynig: Shell) -> None:
    files: dict[str, str | bytes | None] = {".aynig/go": SCRIPT_OK}
    aynig.repo.commit("x\n\naynig: go\n", branch="task", parent=aynig.repo.tip(), files=files)
    (row,) = aynig("status", "--json").rows
    assert row["hold"] is None


def test_all_shows_branches_without_a_state(aynig: Shell) -> None:
    assert aynig("status", "--json").rows == []
    (row,) = aynig("status", "--all", "--json").rows
    assert (row["branch"], row["state"], row["hold"]) == ("main", None, None)


def test_where_there_is_no_task_it_says_how_to_make_one(aynig: Shell) -> None:
    said = aynig("status")
    assert said.status == 0
    assert "aynig submit" in said.out


def test_the_last_answer_is_shown(aynig: Shell) -> None:
    files: dict[str, str | bytes | None] = {
        ".aynig/go": "#!/bin/sh\nprintf 'well done\\naynig: review\\n' >$AYNIG_RESPONSE\n"
    }
    aynig.repo.commit("x\n\naynig: go\n", branch="task", parent=aynig.repo.tip(), files=files)
    aynig("run", "-q")
    said = aynig("status")
    assert said.lines[0].split() == ["branch", "state", "hold", "age", "detail", "last", "answer"]
    assert "review: well done" in said.lines[1]
    (row,) = aynig("status", "--json").rows
    assert row["last_answer"]["oid"] == row["tip"] == aynig.repo.tip("task")


def test_odd_names_and_times_are_shown_and_break_nothing(aynig: Shell) -> None:
    who = f"Ada <ada@example.org> {2**40} +0000"
    tree = aynig.repo.git("rev-parse", "main^{tree}")
    raw = f"tree {tree}\nauthor {who}\ncommitter {who}\n\nx\n\naynig: go\n"
    oid = aynig.repo.git("hash-object", "-t", "commit", "-w", "--stdin", stdin=raw)
    aynig.repo.git("update-ref", "refs/heads/odd\u202e'name", oid)
    said = aynig("status")
    assert said.status == 0
    assert "odd\\u202e'name" in said.out
    (row,) = aynig("status", "--json").rows
    assert row["branch"] == "odd\u202e'name"
    assert row["since"] == "9999-12-31T23:59:59Z"


def test_that_nothing_runs_is_said_once_below_the_table(aynig: Shell) -> None:
    files: dict[str, str | bytes | None] = {".aynig/go": SCRIPT_OK}
    for branch in ("a", "b"):
        oid = aynig.repo.commit(f"{branch}\n\naynig: go\n", parent=aynig.repo.tip(), files=files)
        aynig.repo.git("update-ref", f"refs/heads/{branch}", oid)
    said = aynig("status")
    assert said.out.count("nothing runs here") + said.out.count("Nothing runs here") == 1
    assert said.lines[-1].startswith("Nothing runs here: `aynig run`")


def test_at_80_columns_the_whole_detail_can_be_read(
    aynig: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    branch = "feature/a-rather-long-name"
    aynig.repo.commit("x\n\naynig: Bad State!\n", branch=branch, parent=aynig.repo.tip())
    (row,) = aynig("status", "--json").rows
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", aynig("status").out)
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert row["detail"] in " ".join(shown.split())
