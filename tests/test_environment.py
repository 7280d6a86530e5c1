"""What a script gets is what design section 1.3 promises, and nothing of our own."""

from __future__ import annotations

import json
import math
import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aynig.environment import script_context, script_environment, write_inputs
from aynig.git.repo import Identity
from aynig.model import Plan, Statement, Trailer
from aynig.runs import RunFolder
from aynig.workflow import StateSettings
from tests.values import OID, event, fields, plan

LONGEST = 131_072


def environment(
    asked: Plan | None = None,
    *,
    outside: Mapping[str, str] | None = None,
    identity: Identity | None = None,
) -> dict[str, str]:
    return script_environment(
        asked or plan(),
        RunFolder(Path("/runs/run-1")),
        outside=outside or {"PATH": "/bin"},
        ceiling="/worktrees",
        log_level="info",
        identity=identity,
    )


def plan_of(statement: Statement, **changes: Any) -> Plan:
    return plan(event=replace(event(), statement=statement), **changes)


def said(body: str = "", **changes: Any) -> Statement:
    return Statement("aynig", "go", "Please go", body, **changes)


def test_the_variables_of_the_table() -> None:
    found = environment(plan_of(said("The prompt.\n\nMore."), role="reviewer", attempt=3))
    assert {name: value for name, value in found.items() if name.startswith("AYNIG_")} == {
        "AYNIG_STATE": "go",
        "AYNIG_BRANCH": "task",
        "AYNIG_COMMIT_HASH": OID,
        "AYNIG_RUN_ID": "run-1",
        "AYNIG_ATTEMPT": "3",
        "AYNIG_ROLE": "reviewer",
        "AYNIG_LOG_LEVEL": "info",
        "AYNIG_HOME": "/home/of/scripts",
        "AYNIG_BODY": "The prompt.\n\nMore.",
        "AYNIG_BODY_FILE": "/runs/run-1/body",
        "AYNIG_CONTEXT": "/runs/run-1/context.json",
        "AYNIG_RESPONSE": "/runs/run-1/response",
        "AYNIG_CHILDREN": "/runs/run-1/children.yaml",
        "AYNIG_USAGE": "/runs/run-1/usage",
    }


def test_nothing_of_a_surrounding_git_or_run_gets_in() -> None:
    outside = {
        "PATH": "/bin",
        "HOME": "/home/ada",
        "GIT_DIR": ".",
        "GIT_INDEX_FILE": "x",
        "GIT_QUARANTINE_PATH": "q",
        "GIT_CONFIG_COUNT": "1",
        "AYNIG_RESPONSE": "/of/another/run",
        "AYNIG_TRAILER_SECRET": "x",
    }
    found = environment(outside=outside)
    assert found["HOME"] == "/home/ada"
    assert {name for name in found if name.startswith("GIT_")} == {
        "GIT_CEILING_DIRECTORIES",
        "GIT_CONFIG_COUNT",
        "GIT_CONFIG_KEY_0",
        "GIT_CONFIG_VALUE_0",
    }
    # Ours, not what was around: no background maintenance that a script would leave behind.
    assert (found["GIT_CONFIG_KEY_0"], found["GIT_CONFIG_VALUE_0"]) == ("maintenance.auto", "false")
    assert found["AYNIG_RESPONSE"] == "/runs/run-1/response"
    assert "AYNIG_TRAILER_SECRET" not in found


def test_an_identity_is_lent_only_where_there_is_none() -> None:
    lent = environment(identity=Identity("aynig", "aynig@box"))
    assert lent["GIT_AUTHOR_NAME"] == lent["GIT_COMMITTER_NAME"] == "aynig"
    assert lent["GIT_AUTHOR_EMAIL"] == lent["GIT_COMMITTER_EMAIL"] == "aynig@box"
    assert "GIT_AUTHOR_NAME" not in environment()


@pytest.mark.parametrize(
    ("given_", "name", "value"),
    [
        pytest.param(
            said(fields=fields(("assigned-to", "bob"))), "ASSIGNED_TO", "bob", id="a field"
        ),
        pytest.param(
            said(fields=fields(("depends-on", "a"), ("depends-on", "b"))), "DEPENDS_ON", "a\nb",
            id="repeats are joined by a newline",
        ),
        pytest.param(
            said(trailers=(Trailer("Signed-off-by", "Ada <a@b>"),)), "SIGNED_OFF_BY", "Ada <a@b>",
            id="another trailer",
        ),
        pytest.param(
            said(fields=fields(("k", "field")), trailers=(Trailer("K", "trailer"),)), "K",
            "field\ntrailer", id="a field goes before a trailer of its name",
        ),
        pytest.param(said(fields=fields(("path", "/evil"))), "PATH", "/evil", id="path"),
    ],
)  # fmt: skip
def test_a_trailer_is_a_variable(given_: Statement, name: str, value: str) -> None:
    found = environment(plan_of(given_))
    assert found[f"AYNIG_TRAILER_{name}"] == value
    assert found["PATH"].startswith("/bin")


@settings(derandomize=True)
@given(st.text(min_size=1), st.text())
def test_no_trailer_reaches_a_variable_outside_its_own_kind(key: str, value: str) -> None:
    plain = environment()
    more = environment(plan_of(said(trailers=(Trailer(key, value),))))
    added = {name for name in more if more[name] != plain.get(name)}
    assert all(name.startswith("AYNIG_TRAILER_") for name in added - {"AYNIG_BODY"})


def test_the_workflow_sets_variables_but_none_of_the_runners() -> None:
    own = StateSettings(env=(("MODEL", "small"), ("AYNIG_STATE", "forged")))
    found = environment(plan(settings=own))
    assert (found["MODEL"], found["AYNIG_STATE"]) == ("small", "go")


@pytest.mark.parametrize("character", ["x", "é", "\udcff"])
@pytest.mark.parametrize(("over", "there"), [(0, True), (1, False)])
def test_a_body_is_a_variable_as_long_as_the_kernel_takes_it(
    character: str, over: int, there: bool
) -> None:
    width = len(os.fsencode(character))
    room = LONGEST - len("AYNIG_BODY=") - 1
    body = character * (room // width) + "x" * (room % width + over)
    found = environment(plan_of(said(body)), outside=os.environ)
    assert ("AYNIG_BODY" in found) is there
    assert "AYNIG_BODY_FILE" in found
    # The kernel has the last word on what fits.
    done = subprocess.run(["/bin/sh", "-c", "exit 0"], env=found, check=False)
    assert done.returncode == 0


def test_a_trailer_too_long_for_a_variable_is_left_to_the_context_file() -> None:
    found = environment(plan_of(said(fields=fields(("long", "x" * LONGEST), ("short", "x")))))
    assert "AYNIG_TRAILER_LONG" not in found
    assert "AYNIG_TRAILER_SHORT" in found


# --- dwp -----------------------------------------------------------------------------------------


def in_dwp(body: str = "", **changes: Any) -> Statement:
    return Statement("dwp", "go", "Please go", body, **changes)


def test_in_dwp_keys_are_whole_and_values_joined_by_a_comma() -> None:
    found = environment(
        plan_of(
            in_dwp(
                fields=fields(("issue", "7"), ("issue", "8")),
                trailers=(Trailer("Ref", "a"), Trailer("Ref", "b")),
            )
        )
    )
    assert {name: value for name, value in found.items() if "TRAILER" in name} == {
        "AYNIG_TRAILER_DWP_STATE": "go",
        "AYNIG_TRAILER_DWP_ISSUE": "7,8",
        "AYNIG_TRAILER_ISSUE": "7,8",
        "AYNIG_TRAILER_REF": "a,b",
    }


def test_in_dwp_the_commit_is_the_trigger_though_the_lease_is_on_top() -> None:
    asked = plan(event=replace(event(), statement=in_dwp(), oid="e" * 40, trigger=OID))
    assert environment(asked)["AYNIG_COMMIT_HASH"] == OID
    assert context(asked)["commit"]["oid"] == OID


@pytest.mark.parametrize("character", ["x", "é", "€", "\U0001f600", "\udcff"])
def test_in_dwp_there_is_always_a_body(character: str) -> None:
    body = character * LONGEST
    found = environment(plan_of(in_dwp(body)))["AYNIG_BODY"]
    assert body.startswith(found)
    size = len(os.fsencode("AYNIG_BODY=" + found)) + 1
    assert LONGEST - 4 < size <= LONGEST
    assert environment(plan_of(in_dwp("")))["AYNIG_BODY"] == ""


@pytest.mark.parametrize(
    ("asked", "level"), [("debug", "debug"), ("warn", "warn"), ("loud", "info"), ("", "info")]
)
def test_in_dwp_a_message_may_ask_for_a_log_level(asked: str, level: str) -> None:
    found = environment(plan_of(in_dwp(fields=fields(("log-level", asked)))))
    assert found["AYNIG_LOG_LEVEL"] == level


def test_the_programs_folder_is_at_the_end_of_a_path_that_lacks_it() -> None:
    assert environment(outside={"PATH": "/nowhere"})["PATH"].startswith("/nowhere:")
    assert environment(outside={})["PATH"]


# --- the files -------------------------------------------------------------------------------


def context(asked: Plan) -> dict[str, Any]:
    return script_context(
        asked,
        RunFolder(Path("/runs/run-1")),
        repository="/repo",
        parents=["p" * 40],
        previous=None,
        dependencies=[],
    )


def test_the_context_holds_fields_with_all_their_repeats() -> None:
    found = context(plan_of(said(fields=fields(("a", "1"), ("b", "x"), ("a", "2")))))
    assert found["fields"] == {"a": ["1", "2"], "b": ["x"]}
    assert found["commit"]["oid"] == OID
    assert found["run"] == "run-1"


@pytest.mark.parametrize(("timeout", "shown"), [(math.inf, None), (90.0, 90.0)])
def test_no_timeout_is_null(timeout: float, shown: float | None) -> None:
    assert context(plan(timeout=timeout))["workflow"]["timeout"] == shown


@settings(derandomize=True)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])) | st.just("stray \udcff byte"))
def test_the_files_are_what_the_message_says(text: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(Path(place))
        asked = plan_of(said(text, fields=fields(("note", text))))
        write_inputs(asked, folder, context(asked))
        body = folder.body.read_bytes()
        assert body.removesuffix(b"\n") == os.fsencode(text).removesuffix(b"\n")
        # Every line is ended, so that `while read` reads the last one too.
        assert body.endswith(b"\n") is bool(text)
        found = json.loads(folder.context.read_bytes().decode("utf-8"))
        shown = os.fsencode(text).decode("utf-8", "backslashreplace")
        assert (found["body"], found["fields"]["note"]) == (shown, [shown])
        assert not folder.response.exists()
