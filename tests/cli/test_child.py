"""`aynig child` asks for children of the task whose script calls it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from aynig.model import Field
from aynig.planfile import parse_plan
from tests.cli.conftest import Shell


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "children.yaml"
    monkeypatch.setenv("AYNIG_CHILDREN", str(place))
    return place


def test_children_are_read_back_as_they_were_asked_for(aynig: Shell, place: Path) -> None:
    body = 'Say "it": 100%\n\n- äöü 🎉 # no comment\n\ttab\\'
    said = aynig("child", "review", "--name", "one", "-m", body, "--to", "ann", "--priority", "5")
    assert (said.status, said.out, said.err) == (0, "", "")
    args = ("--after", "one", "--after", "main", "--field", "meta-x=1", "--field", "meta-x=a: b")
    assert aynig("child", "sum-up", "--name", "2", *args).status == 0
    one, two = parse_plan(place.read_bytes(), "plan").tasks
    assert (one.name, one.state, one.body, one.to, one.priority) == (
        "one",
        "review",
        body,
        "ann",
        5,
    )
    assert (two.name, two.needs, two.after) == ("2", ("one",), ("main",))
    assert two.fields == (Field("meta-x", "1"), Field("meta-x", "a: b"))


def test_a_long_body_comes_from_a_file(aynig: Shell, place: Path, tmp_path: Path) -> None:
    (tmp_path / "prompt").write_text("Do it.\n" * 1000)
    aynig("child", "go", "--name", "a", "-F", str(tmp_path / "prompt"))
    assert parse_plan(place.read_bytes(), "plan").tasks[0].body == "Do it.\n" * 1000


def test_several_may_ask_at_once(aynig: Shell, place: Path) -> None:
    names = [f"n{number}" for number in range(6)]
    calls = [
        threading.Thread(target=aynig.process, args=("child", "go", "--name", name))
        for name in names
    ]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    assert sorted(task.name for task in parse_plan(place.read_bytes(), "plan").tasks) == names


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        pytest.param(("Go!", "--name", "a"), "is no state", id="no state"),
        pytest.param(("go",), "--name", id="no name"),
        pytest.param(("go", "--name", "a", "--field", "x"), "has no '='", id="no field"),
        pytest.param(("go", "--name", "a", "-m", "x", "-F", "y"), "together", id="two bodies"),
        pytest.param(("go", "--name", "a", "-F", "/nowhere"), "can't be read", id="no file"),
        pytest.param(("go", "--name", "a", "-m", "\udcff"), "no UTF-8", id="bytes"),
        pytest.param(("go", "--name", "a", "-m", "\x85"), "control", id="control characters"),
    ],
)
def test_what_is_malformed_is_refused_and_asks_for_nothing(
    aynig: Shell, place: Path, args: tuple[str, ...], complaint: str
) -> None:
    said = aynig("child", *args)
    assert said.status == 2
    assert complaint in said.err
    assert not place.exists()


def test_outside_of_a_script_it_says_so(aynig: Shell) -> None:
    said = aynig("child", "go", "--name", "a")
    assert said.status == 2
    assert "this is no state script" in said.err
