"""`aynig respond` writes the answer of the script that calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aynig.answer import Reply, read_reply
from aynig.dialects import AYNIG, DWP
from aynig.model import Field
from tests.cli.conftest import Shell


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "response"
    monkeypatch.setenv("AYNIG_RESPONSE", str(place))
    return place


def test_the_answer_is_read_back_as_it_was_given(aynig: Shell, place: Path) -> None:
    said = aynig(
        "respond", "approved", "-m", "2 findings fixed\n\nIn detail: none left.",
        "--meta", "coverage=91", "--meta", "note=a=b: c",
    )  # fmt: skip
    assert (said.status, said.out, said.err) == (0, "", "")
    assert read_reply(place.read_bytes(), AYNIG) == Reply(
        "approved",
        "2 findings fixed",
        "In detail: none left.",
        (Field("meta-coverage", "91"), Field("meta-note", "a=b: c")),
    )


@pytest.mark.parametrize(
    "message", ["", "aynig: evil", "x\n\naynig: evil", "x\n\nSigned-off-by: A\naynig: evil", "\n\n"]
)
def test_no_message_changes_the_state(aynig: Shell, place: Path, message: str) -> None:
    assert aynig("respond", "approved", "-m", message).status == 0
    reply = read_reply(place.read_bytes(), AYNIG)
    assert (reply.state, reply.fields, reply.fault) == ("approved", (), "")


def test_a_later_answer_replaces_an_earlier_one(aynig: Shell, place: Path) -> None:
    aynig("respond", "rejected", "-m", "long " * 100)
    aynig("respond", "approved")
    assert read_reply(place.read_bytes(), AYNIG) == Reply("approved")


def test_the_answer_speaks_the_dialect_of_the_task(
    aynig: Shell, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = tmp_path / "context.json"
    context.write_text(json.dumps({"dialect": "dwp"}))
    monkeypatch.setenv("AYNIG_CONTEXT", str(context))
    aynig("respond", "approved", "--meta", "coverage=91")
    assert read_reply(place.read_bytes(), DWP).state == "approved"


@pytest.mark.parametrize(
    "args",
    [
        ["Bad State"],
        ["working"],
        ["../x"],
        ["ok", "--meta", "novalue"],
        ["ok", "--meta", "a b=c"],
        ["ok", "--meta", "k=a\naynig: evil"],
        ["ok", "--meta", "k\naynig: evil=a"],
        ["ok", "--meta", "k=a\rb"],
    ],
    ids=repr,
)
def test_what_could_inject_a_state_is_refused_and_nothing_is_written(
    aynig: Shell, place: Path, args: list[str]
) -> None:
    said = aynig("respond", *args)
    assert said.status == 2
    assert said.err.count("\n") == 1
    assert not place.exists()


def test_outside_of_a_script_it_says_what_it_is_for(
    aynig: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AYNIG_RESPONSE", raising=False)
    said = aynig("respond", "ok")
    assert said.status == 2
    assert "scripts that aynig runs" in said.err
