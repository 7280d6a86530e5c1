"""Text made fit for terminals, error messages and variable names."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aynig.text import (
    counted,
    escape,
    escape_json,
    nearest,
    operand,
    quote,
    shell_word,
    shorten,
    variable_name,
)

ANY_TEXT = st.text(st.characters(exclude_categories=()))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain - 'text' \\x", "plain - 'text' \\x"),
        ("Grüße ключ 日本 \U0001f600 ✓", "Grüße ключ 日本 \U0001f600 ✓"),
        ("a\x1b[31m\r\n\t\x00\x7f", "a\\x1b[31m\\x0d\\x0a\\x09\\x00\\x7f"),
        ("\x85\x9b", "\\x85\\x9b"),
        ("a\u202eb\u2066c\u200f", "a\\u202eb\\u2066c\\u200f"),
        ("a\u200bb\ufeff\u200d", "a\\u200bb\\ufeff\\u200d"),
        ("a\u2028b\u2029", "a\\u2028b\\u2029"),
        ("\udcff\udc80", "\\xff\\x80"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
    ],
    ids=["plain", "unicode", "c0", "c1", "bidi", "width", "lines", "bytes", "surrogate", "tag"],
)
def test_text_is_escaped(text: str, expected: str) -> None:
    assert escape(text) == expected


def test_what_is_kept_is_not_escaped() -> None:
    assert escape("a\n\tb\x1b", keep="\n\t") == "a\n\tb\\x1b"


@settings(max_examples=300, derandomize=True, database=None)
@given(ANY_TEXT)
def test_nothing_unsafe_comes_through(text: str) -> None:
    shown = escape(text)
    shown.encode()
    assert escape(shown) == shown
    for character in shown:
        assert unicodedata.category(character) not in {"Cc", "Cs", "Zl", "Zp"}
        assert unicodedata.bidirectional(character) not in {
            "LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI",
        }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("abc", 1, "…"), ("", 5, "")],
)
def test_a_long_text_is_cut_with_an_ellipsis(text: str, width: int, expected: str) -> None:
    assert shorten(text, width) == expected


def test_things_are_counted_in_their_plural_but_for_one() -> None:
    assert [counted(number, "run") for number in (0, 1, 2)] == ["0 runs", "1 run", "2 runs"]
    assert counted(2, "branch", "branches") == "2 branches"


@settings(max_examples=200, derandomize=True, database=None)
@given(ANY_TEXT)
def test_a_quoted_text_is_short_and_safe(text: str) -> None:
    quoted = quote(text, width=20)
    assert len(quoted) <= 22
    assert escape(quoted) == quoted


def read_by_a_shell(text: str) -> list[bytes]:
    """The words that bash makes of `text`; it knows `$'…'`, which not every sh does yet."""
    command = f"printf '%s\\0' {text}"
    done = subprocess.run(
        ["bash", "-c", command.encode("utf-8", "surrogateescape")],
        capture_output=True,
        check=True,
        env={"LC_ALL": "C.UTF-8", "IFS": " "},
    )
    return done.stdout.split(b"\0")[:-1]


# What git lets a branch or a file be called, and what a shell makes more of than a word.
ODD_NAMES = [
    "plain", "task/a", "a b", "-x", "--force", "${IFS}x", "$(id)", "`id`", "a;b", "a&b", "'", '"',
    "a\\", "it's", "!x", "#x", "a'$(id)'b", "größe", "a\u202eb", "stray\udcffbyte", "a'\x1b\\[2J",
    "tail\n", "{a,b}", "a>b", "", "\u2028\\",
]  # fmt: skip


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@settings(max_examples=60, derandomize=True, database=None, deadline=None)
@given(
    st.lists(
        st.sampled_from(ODD_NAMES) | st.text(st.characters(codec="utf-8", exclude_characters="\0")),
        min_size=1,
        max_size=5,
    )
)
def test_a_shell_reads_what_is_shown_for_copying_as_the_words_it_is_of(names: list[str]) -> None:
    shown = " ".join(map(shell_word, names))
    assert escape(shown) == shown
    assert read_by_a_shell(shown) == [name.encode("utf-8", "surrogateescape") for name in names]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_an_operand_is_never_read_as_an_option(name: str) -> None:
    words = read_by_a_shell(operand(name)) if name.isprintable() else []
    assert name.startswith("-") == (words[:1] == [b"--"])


def test_a_plain_word_is_shown_as_it_is() -> None:
    assert [shell_word(word) for word in ("task/a-1", "größe")] == [
        "task/a-1",
        shlex.quote("größe"),
    ]


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("depends-on", "AYNIG_TRAILER_DEPENDS_ON"),
        ("Signed-off-by", "AYNIG_TRAILER_SIGNED_OFF_BY"),
        ("a=b\nc\0", "AYNIG_TRAILER_A_B_C_"),
        ("ßı9", "AYNIG_TRAILER___9"),
    ],
)
def test_a_key_names_a_variable(key: str, name: str) -> None:
    assert variable_name(key) == name


@settings(max_examples=200, derandomize=True, database=None)
@given(ANY_TEXT)
def test_no_key_names_a_variable_outside_the_prefix(key: str) -> None:
    assert re.fullmatch(r"AYNIG_TRAILER_[A-Z0-9_]*", variable_name(key))


@pytest.mark.parametrize(
    ("word", "meant"),
    [("nxt", "next"), ("on_failure", "on-failure"), ("colour", None), ("", None)],
)
def test_the_nearest_word_is_named_only_where_it_is_near(word: str, meant: str | None) -> None:
    assert nearest(word, ("next", "on-failure", "timeout")) == meant


@pytest.mark.parametrize(
    "text", ["plain", "a\u202eb\nc", "\x1b[31m\x7f", "\u2028\U000e0041", "größe"], ids=ascii
)
def test_escaped_json_is_printable_and_says_the_same(text: str) -> None:
    found = escape_json(json.dumps({"key": [text]}, ensure_ascii=False, indent=1))
    assert json.loads(found) == {"key": [text]}
    assert escape(found, keep="\n") == found
