"""`aynig graph`."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.cli.conftest import Shell
from tests.world import SCRIPT_OK, GitRepo
from tests.world import aynig as started

WHERE = ".aynig/config.yaml"
CONFIG = "states: {a: {next: b, on-failure: stalled}}\n"


@pytest.fixture
def workflow(aynig: Shell) -> Shell:
    files = {WHERE: CONFIG, ".aynig/a": SCRIPT_OK, ".aynig/b": SCRIPT_OK}
    aynig.repo.commit("files", files=files)
    aynig.repo.sync()
    return aynig


def test_a_workflow_is_drawn_as_text(workflow: Shell) -> None:
    said = workflow("graph")
    assert said.status == 0
    assert said.lines == [
        "a · begins",
        "├─ next       → b",
        "└─ on-failure → stalled",
        "b",
        "└─ by default → done",
        "stalled · held for a person",
        "done · ends",
    ]
    assert workflow("graph", "--format", "text").out == said.out


def test_the_other_formats(workflow: Shell) -> None:
    assert workflow("graph", "--format", "mermaid").lines[0] == "flowchart TD"
    assert workflow("graph", "--format", "dot").lines[0] == "digraph workflow {"
    assert workflow("graph", "--format", "png").status == 2
    assert workflow("graph", "--format", "dot", "--json").status == 2


def test_programs_get_the_edges(workflow: Shell) -> None:
    first, second, *_ = workflow("graph", "--json").rows
    assert first == {
        "state": "a",
        "begins": True,
        "notes": ["begins"],
        "leads_to": [
            {"state": "b", "why": "next"},
            {"state": "stalled", "why": "on-failure"},
        ],
    }
    assert second["leads_to"] == [{"state": "done", "why": None}]


def test_the_working_tree_is_drawn_or_a_commit(workflow: Shell, bare: GitRepo) -> None:
    (workflow.repo.path / WHERE).write_text("states: {a: {next: done}}\n")
    assert "└─ next → done" in workflow("graph").lines
    assert "├─ next       → b" in workflow("graph", "--rev", "main").lines
    bare.commit("files", files={WHERE: CONFIG})
    assert "├─ next       → b" in started("graph", cwd=bare.path).stdout


def test_a_malformed_workflow_is_one_line_on_standard_error(workflow: Shell) -> None:
    (workflow.repo.path / WHERE).write_text("states: {a: {nxt: done}}\n")
    said = workflow("graph")
    assert (said.status, said.out) == (2, "")
    assert "line 1: states.a.nxt: unknown key, did you mean next?" in said.err


def test_where_there_is_nothing_that_is_said(aynig: Shell) -> None:
    said = aynig("graph")
    assert (said.status, said.out) == (0, "")
    assert "neither a state in the file nor a script" in said.err


@pytest.mark.skipif(shutil.which("dot") is None, reason="dot is not installed")
def test_dot_takes_it(workflow: Shell) -> None:
    text = workflow("graph", "--format", "dot").out
    done = subprocess.run(["dot", "-Tsvg"], input=text.encode(), capture_output=True, check=True)
    assert b"<svg" in done.stdout
