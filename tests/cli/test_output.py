"""Tables for people, JSON for programs, and colour only where it is wanted."""

from __future__ import annotations

import io
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aynig.cli import output
from aynig.cli.output import age, paint, print_json, print_json_line, print_table, timestamp

RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, None),
        (0, "1970-01-01T00:00:00Z"),
        (1769851800, "2026-01-31T09:30:00Z"),
        (1769851800.25, "2026-01-31T09:30:00.250Z"),
        (10**15, "9999-12-31T23:59:59Z"),
        (-(10**15), "0001-01-01T00:00:00Z"),
    ],
)
def test_a_time_as_programs_read_it(seconds: float | None, text: str | None) -> None:
    assert timestamp(seconds) == text


@settings(derandomize=True)
@given(st.integers(-(2**63), 2**63 - 1) | st.floats(-1e12, 1e12))
def test_any_time_that_a_commit_can_claim_is_rfc_3339(seconds: float) -> None:
    assert RFC_3339.fullmatch(timestamp(seconds) or "")


@pytest.mark.parametrize(
    ("seconds", "text"), [(-5, "now"), (0.9, "now"), (1.9, "1s"), (185.5, "3m"), (1e9, "11574d")]
)
def test_an_age_is_one_number_and_never_negative(seconds: float, text: str) -> None:
    assert age(seconds) == text


def test_a_table_is_aligned_and_has_no_blanks_at_the_ends(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_table(("a", "bb"), [("long cell", "x"), ("s", "")], stretch="bb")
    assert capsys.readouterr().out == "a          bb\nlong cell  x\ns\n"


def test_into_a_pipe_nothing_is_cut_or_coloured(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("a", "b"), [("failed", "x" * 5000)], stretch="b")
    out = capsys.readouterr().out
    assert "x" * 5000 in out
    assert "\x1b" not in out


@settings(derandomize=True, max_examples=50)
@given(st.lists(st.text(), min_size=1, max_size=4))
def test_whatever_is_in_a_cell_a_row_is_one_line_that_can_be_printed(cells: list[str]) -> None:
    sink = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", sink)
        print_table(("name", "text"), [("row", cell) for cell in cells])
    lines = sink.getvalue().split("\n")
    assert len(lines) == len(cells) + 2
    assert not any("\x1b" in line or "\u202e" in line for line in lines)


@pytest.mark.parametrize("markup", ["[red]x[/red]", ":smile:", "[/]", "{x}", "http://x"])
def test_a_cell_is_shown_as_it_is(markup: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("a",), [(markup,)])
    assert capsys.readouterr().out == f"a\n{markup}\n"


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"TERM": "dumb"}, False),
    ],
    ids=str,
)
def test_colour_is_for_terminals_that_want_it(
    variables: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert ("\x1b" in paint("failed", stream=terminal)) is coloured
    assert "\x1b" not in paint("failed", stream=io.StringIO())
    monkeypatch.setattr("sys.stdout", terminal)
    print_table(("state",), [("failed",)])
    assert (
        "\x1b[" in terminal.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", "")
    ) is coloured


WORDS = [f"word{number}" for number in range(30)]
HEADINGS = ("branch", "state", "detail", "last")


def on_a_terminal(width: int, row: tuple[str, ...]) -> list[str]:
    """The lines of a table with one row, on a terminal of that width."""
    terminal = Terminal()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"COLUMNS": str(width), "NO_COLOR": "1", "TERM": "xterm"}.items():
            patch.setenv(name, value)
        patch.setattr("sys.stdout", terminal)
        print_table(HEADINGS, [row], stretch="detail", below=("last",))
    return re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue()).splitlines()


def test_where_it_fits_a_row_is_a_line() -> None:
    assert on_a_terminal(80, ("task/a", "failed", "a few words", "x")) == [
        "branch  state   detail       last",
        "task/a  failed  a few words  x",
    ]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
@pytest.mark.parametrize("branch", ["task/a", "task/a-rather-long-name-of-a-branch"])
def test_on_a_terminal_nothing_of_a_long_detail_is_cut(branch: str, width: int) -> None:
    lines = on_a_terminal(width, (branch, "failed", " ".join(WORDS), "the last answer"))
    assert max(map(len, lines)) <= width
    assert "".join(lines).count("…") == (width == 40 and len(branch) > 20)
    assert re.findall(r"word\d+", "\n".join(lines)) == WORDS
    assert sum("the last answer" in line for line in lines) == 1


def test_where_a_column_is_too_narrow_to_be_read_its_text_stands_below_the_row() -> None:
    row = ("task/a-rather-long-name-of-a-branch", "dirty-worktree", "word " * 8, "done: it")
    assert on_a_terminal(60, row) == [
        "branch                               state",
        "task/a-rather-long-name-of-a-branch  dirty-worktree",
        "    word word word word word word word word",
        "    last: done: it",
    ]


def test_where_it_can_be_read_in_its_column_it_is_broken_there() -> None:
    assert on_a_terminal(80, ("task/a", "failed", " ".join(["word"] * 15), "x")) == [
        "branch  state   detail                                                      last",
        "task/a  failed  word word word word word word word word word word word      x",
        "                word word word word",
    ]


def test_a_row_without_a_detail_has_no_line_below() -> None:
    assert len(on_a_terminal(40, ("a" * 30, "failed", "-", ""))) == 2


def test_json_is_one_list_with_what_is_no_text_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    print_json([{"a": "stray \udcff", "b": [{"c": "é"}], "d": None}])
    assert json.loads(capsys.readouterr().out) == [
        {"a": "stray \\xff", "b": [{"c": "é"}], "d": None}
    ]


def test_json_lines_are_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_json_line({"a": "x\ny"})
    print_json_line({"a": 1})
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"a": "x\ny"},
        {"a": 1},
    ]


def test_each_word_that_has_a_colour_has_one_that_terminals_know() -> None:
    assert set(output.COLOURS.values()) <= {"green", "red", "yellow", "cyan"}
