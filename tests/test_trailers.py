"""The trailer parser against git itself, and what is written against both."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aynig import trailers
from aynig.errors import UsageError
from aynig.model import Trailer
from aynig.trailers import Message, compose, decode, encode, mentions, parse_response, split
from tests.world import GitRepo

SCISSORS = "# ------------------------ >8 ------------------------"
PICKED = "(cherry picked from commit 3f2c9d1)"
# Closes the answer to one message; git sees it as a message of its own.
MARK = "End-Of-Message-7f3a"


def git_reads(messages: Sequence[bytes]) -> list[list[tuple[str, str]]]:
    """What git reads from each message: one process for all, a mark after each."""
    with tempfile.TemporaryDirectory() as folder:
        names = []
        (Path(folder) / "mark").write_text(f"mark\n\n{MARK}: x\n")
        for number, message in enumerate(messages):
            (Path(folder) / str(number)).write_bytes(message)
            names += [str(number), "mark"]
        done = subprocess.run(
            ["git", "interpret-trailers", "--parse", "--no-divider", *names],
            cwd=folder,
            capture_output=True,
            check=True,
        )
    found: list[list[tuple[str, str]]] = [[]]
    for line in decode(done.stdout).split("\n")[:-1]:
        key, _, value = line.partition(": ")
        if key == MARK:
            found.append([])
        else:
            found[-1].append((key, value))
    assert len(found) == len(messages) + 1
    return found[:-1]


def we_read(message: bytes) -> list[tuple[str, str]]:
    return [(key, value) for key, value in trailers.parse(message)]


# -- agreement with git ----------------------------------------------------------------------

LINES = (
    "aynig: review-needed",
    "aynig: assigned-to: bob",
    "AYNIG: Done",
    "dwp-state: build",
    "Signed-off-by: Ada <ada@example.org>",
    "Signed-off-by:no-space",
    "signed-off-by: lower",
    "(cherry picked from commit 3f2c9d1)",
    "(cherry picked from commit ",
    "(cherry-picked from commit 3f2c9d1)",
    "key : space before",
    "key \t : more space before",
    "two words: no key",
    "under_score: no key",
    "ключ: not ascii",
    "Ünder: not ascii",
    "key: ключ ✓ \u2028 \x85 é",
    "key:",
    "key:   ",
    "key:value: with: colons",
    "-: dash",
    "--: dashes",
    ": no key",
    " : no key",
    " leading: space",
    "\tleading: tab",
    "  continued",
    "\tcontinued",
    "\rcontinued",
    "\x0bvertical: tab",
    "\x0cform: feed",
    "key: \x0b kept \x0c",
    "key: unit\x1fseparator\x1e",
    "key: trailing space  ",
    "key=value",
    "# comment",
    "#",
    "#: comment",
    " # indented",
    SCISSORS,
    SCISSORS + " ",
    SCISSORS + "\r",
    "---",
    "--- a/file",
    "diff --git a/x b/x",
    "Conflicts:",
    "Conflicts: file",
    "Conflicts:\r",
    "\tpath/of/conflict",
    "a plain line",
    "another plain line, longer than the first",
    "https://example.org/path: hm",
    "",
    "",
    "",
    "",
    " ",
    "\t",
    "\r",
    " \r",
    "\x0b",
    "\x00",
    "zero\x00byte: x",
    "key: val\x00ue",
    "\udcff: stray byte",
    "key: stray \udcff byte",
)

CORE = tuple(line for line in LINES if ":" in line or not line or line.startswith(("(", "#", " ")))


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A commit message pieced together of lines that have misled one parser or another."""
    table = draw(st.sampled_from((LINES, LINES, CORE, (*CORE[:8], "", " more", "plain", "#"))))
    lines = draw(st.lists(st.sampled_from(table), max_size=12))
    if draw(st.booleans()):
        lines = ["subject", "", *lines]
    newline = draw(st.sampled_from(("\n", "\n", "\n", "\r\n")))
    end = draw(st.sampled_from((newline, newline, "", "\n\n", " \n")))
    message = newline.join(lines) + end
    # Versions of git differ on whether an unfinished last line is this heading.
    return encode(message + "\n" if message.endswith("\nConflicts:") else message)


@settings(
    max_examples=240,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(messages(), min_size=25, max_size=25))
def test_generated_messages_are_read_as_git_reads_them(batch: list[bytes]) -> None:
    for message, theirs in zip(batch, git_reads(batch), strict=True):
        assert we_read(message) == theirs, message


def test_one_process_for_many_messages_is_the_same_as_one_for_each() -> None:
    for name, message in NASTY.items():
        if len(message) > 10_000:
            continue
        done = subprocess.run(
            ["git", "interpret-trailers", "--parse", "--no-divider"],
            input=message,
            capture_output=True,
            check=True,
        )
        lines = [line.partition(": ") for line in decode(done.stdout).split("\n")[:-1]]
        assert [[(key, value) for key, _, value in lines]] == git_reads([message]), name


NASTY: dict[str, bytes] = {
    "empty message": b"",
    "only a newline": b"\n",
    "only a title": b"aynig: review-needed\n",
    "only trailers": b"aynig: review-needed\naynig: run: 1\n",
    # Two that some versions of Python match half-way.
    "an unfinished last line": b"s\n\naynig: x\nzero",
    "a line that is cut by a NUL": b"s\n\naynig: x\nzero\0byte: x\n",
    "only trailers after a blank line": b"\naynig: review-needed\n",
    "a subject and trailers": b"s\n\naynig: x\nSigned-off-by: A <a@b>\n",
    "trailers right below the subject": b"s\naynig: x\n",
    "no final newline": b"s\n\nbody\n\naynig: x",
    "crlf": b"s\r\n\r\nbody\r\n\r\naynig: x\r\n  more\r\naynig: k: v\r\n",
    "crlf with blank lines at the end": b"s\r\n\r\naynig: x\r\n\r\n\r\n",
    "continuation lines": b"s\n\naynig: x\n  a\n\tb\n c\nk: v\n",
    "continuation under nothing": b"s\n\n  a\nk: v\n",
    "continuation of an odd line": b"s\n\nSigned-off-by: x\nodd\n  a\nk: v\n",
    "value on the next line": b"s\n\nk:\n  v\n",
    "body like trailers": b"s\n\na: 1\nb: 2\n\naynig: x\n",
    "body like trailers and no other": b"s\n\na: 1\nb: 2\n",
    "divider in the body": b"s\n\nbody\n\n---\n\nmore\n\naynig: x\n",
    "divider above the block": b"s\n\n---\naynig: x\n",
    "divider below the block": b"s\n\naynig: x\n---\n a | 1 +\n",
    "patch below the block": b"s\n\naynig: x\n\ndiff --git a/x b/x\n",
    "comments in the block": b"s\n\naynig: x\n# c\nk: v\n",
    "comments at the end": b"s\n\naynig: x\n\n# c\n#\n\n",
    "comment as title": b"# c\n\naynig: x\n",
    "comment above the title": b"# c\ns\n\naynig: x\n",
    "indented comment at the end": b"s\n\naynig: x\n # c\n",
    "one odd line": b"s\n\naynig: x\nodd line\nk: v\n",
    "one odd line, signed": b"s\n\naynig: x\nodd line\nSigned-off-by: A\n",
    "a quarter trailers": b"s\n\n1\n2\n3\nSigned-off-by: A\n",
    "less than a quarter": b"s\n\n1\n2\n3\n4\nSigned-off-by: A\n",
    "a quarter, not git's own": b"s\n\n1\naynig: x\nk: v\n",
    "cherry-picked": b"s\n\naynig: x\n(cherry picked from commit 3f2c9d1)\n",
    "cherry-picked only": b"s\n\n(cherry picked from commit 3f2c9d1)\n",
    "cherry-picked with odd lines": b"s\n\n1\n2\n3\n(cherry picked from commit 3f)\n",
    "space before the separator": b"s\n\naynig : x\naynig\t \t: y\n",
    "no space after the separator": b"s\n\naynig:x\n",
    "other separators": b"s\n\naynig= x\naynig# y\n",
    "no value": b"s\n\naynig:\nk: \n",
    "no key": b"s\n\n: x\naynig: x\n",
    "space in the key": b"s\n\nay nig: x\n",
    "underscore in the key": b"s\n\nay_nig: x\n",
    "unicode": "s ✓\n\nkey: \u00e9 \u2028 \u0085 \U0001f600\n".encode(),
    "unicode key": "s\n\nключ: x\n".encode(),
    "not utf-8": b"s\n\nk: \xff\xfe\x80\n",
    "nul in the body": b"s\n\nbo\0dy\n\naynig: x\n",
    "nul in a value": b"s\n\naynig: x\0y\nk: v\n",
    "nul behind the block": b"s\n\naynig: x\n\0\n\nk: v\n",
    "unit separator": b"s\n\nbo\x1fdy\n\naynig: \x1fx\x1f\n",
    "form feed": b"s\n\nbody\n\x0c\naynig: x\n",
    "tab only line between": b"s\n\nbody\n\t\naynig: x\n",
    "whitespace only lines": b"s\n \n\t\naynig: x\n  \n \t \n",
    "whitespace only line in the block": b"s\n\naynig: x\n  \nk: v\n",
    "tab in a value": b"s\n\naynig:\tx\ty\t\n",
    "conflicts below": b"s\n\naynig: x\n\nConflicts:\n\ta\n\tb\n",
    "conflicts with comments": b"s\n\naynig: x\n\nConflicts:\n\ta\n\n# c\n\tb\n",
    "conflicts above": b"s\n\nConflicts:\n\ta\n\naynig: x\n",
    "conflicts as title": b"Conflicts:\nfoo\n \nk: v\n# c\n\tpath\n",
    "conflicts as a trailer": b"s\n\nConflicts: x\n",
    "tabs that are no conflicts": b"s\n\naynig: x\n\n\ta\n",
    "scissors": f"s\n\naynig: x\n{SCISSORS}\nk: v\n".encode(),
    "scissors above": f"s\n\nbody\n{SCISSORS}\n\naynig: x\n".encode(),
    "scissors first": f"{SCISSORS}\n\naynig: x\n".encode(),
    "scissors in crlf": f"s\r\n\r\n{SCISSORS}\r\n\r\naynig: x\r\n".encode(),
    "a megabyte of text": b"s\n\n" + b"word " * 10 * 20_000 + b"\n\naynig: x\n",
    "a megabyte of lines": b"s\n\n" + b"key: value\n" * 100_000 + b"odd\n\naynig: x\n",
    "a megabyte in a value": b"s\n\naynig: " + b"x" * 1_000_000 + b"\n",
    "a megabyte of spaces": b"s\n\naynig: x" + b" " * 1_000_000 + b"y\n",
    "twenty thousand blank lines": b"s\n\naynig: x\n" + b" \n" * 20_000,
    "a megabyte of comments": b"s\n\naynig: x\n" + b"#\n" * 500_000,
    "ten thousand trailers": b"s\n\n" + b"aynig: depends-on: 3f2c9d1\n" * 10_000,
    "ten thousand continuations": b"s\n\naynig: x\n" + b"  y\n" * 10_000,
}


@pytest.mark.parametrize("message", NASTY.values(), ids=NASTY.keys())
def test_a_nasty_message_is_read_as_git_reads_it(message: bytes) -> None:
    assert [we_read(message)] == git_reads([message])
    assert trailers.parse(decode(message)) == trailers.parse(message) == split(message).trailers


def test_the_table_holds_messages_with_and_without_trailers() -> None:
    found = [bool(theirs) for theirs in git_reads(list(NASTY.values()))]
    assert found.count(True) > 20
    assert found.count(False) > 15


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"s\n\naynig: x\n  y\n\tz\n", [("aynig", "x y z")]),
        (b"s\n\nAynig : x \nAYNIG:y\n", [("Aynig", "x"), ("AYNIG", "y")]),
        (b"s\n\nb\n\n---\n\naynig: x\n", [("aynig", "x")]),
        (b"aynig: x\n", []),
        (b"s\n\naynig: x\nodd\n", []),
    ],
    ids=["continuation", "case and repeats", "divider", "title", "odd line"],
)
def test_trailers_are_these(message: bytes, expected: list[tuple[str, str]]) -> None:
    assert we_read(message) == expected


# -- subject and body ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "subject", "body"),
    [
        ("", "", ""),
        ("s", "s", ""),
        ("\n \n s \n  t \n\n\n  b\n c \n\n", " s   t", "  b\n c"),
        ("s\r\nt\r\n\r\nb\r\nc\r\n", "s t", "b\r\nc"),
        ("s\n\na\n\n---\n\nb\n\naynig: x\n", "s", "a\n\n---\n\nb"),
        ("s\n\na\x1fb\x0c\n\naynig: x\n", "s", "a\x1fb\x0c"),
        ("s\n\naynig: x\n", "s", ""),
        ("\naynig: x\n", "", ""),
        (f"s\n\nb\n\naynig: x\n{PICKED}\n", "s", f"b\n\n{PICKED}"),
        ("s\n\nb\n\nSigned-off-by: x\nodd\n  line\naynig: x\n", "s", "b\n\nodd\n  line"),
        ("s\n\nb\n\nSigned-off-by: x\nodd", "s", "b\n\nodd"),
        ("s\n\nb\n\naynig: x\n  y\n\n# c\n", "s", "b\n\n# c"),
        (f"s\n\nb\n\naynig: x\n{SCISSORS}\nrest\n", "s", f"b\n\n{SCISSORS}\nrest"),
        (f"s\n\n{PICKED}\n", "s", PICKED),
        ("s\n\nshown\0hidden\n", "s", "shown"),
    ],
)  # fmt: skip
def test_a_message_falls_into_these_parts(message: str, subject: str, body: str) -> None:
    parts = split(message)
    assert (parts.subject, parts.body) == (subject, body)


def test_the_subject_is_what_git_shows(repo: GitRepo) -> None:
    for name, message in NASTY.items():
        # Larger ones are too much for a command line of `git log`, and say no more.
        if len(message) > 10_000 or name in {"only trailers after a blank line", "not utf-8"}:
            continue
        oid = repo.git(
            "hash-object",
            "-t",
            "commit",
            "-w",
            "--stdin",
            "--literally",
            stdin=_commit(repo, message),
        )
        assert split(message).subject == repo.git("log", "-1", "--format=%s", oid), name


def _commit(repo: GitRepo, message: bytes) -> bytes:
    """A raw commit, because `commit-tree` finishes the last line and refuses a NUL."""
    tree = repo.git("rev-parse", "main^{tree}")
    who = "A <a@example.org> 1700000000 +0000"
    return f"tree {tree}\nauthor {who}\ncommitter {who}\n\n".encode() + message


@settings(max_examples=400, derandomize=True, deadline=None, database=None)
@given(messages())
def test_no_line_of_a_message_is_lost(message: bytes) -> None:
    text = decode(message).partition("\0")[0]
    parts = split(message)
    whole = [parts.subject, parts.body, *(f"{key}{value}" for key, value in parts.trailers)]
    kept = "".join("".join(whole).replace(":", "").split())
    assert sorted(kept) == sorted("".join(text.replace(":", "").split()))


# -- the look before reading -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"s\n\naynig: x\n", True),
        (b"s\r\n\r\nAyNiG : x\r\n", True),
        (b"s\n\nb\n\nDWP-State: x\n", True),
        (b"s\n\nthe aynig: word\n", False),
        (b"aynig: x\n", False),
        (b"s\n\ndwp-run: x\n", False),
        (b"", False),
    ],
)
def test_a_mention_is_a_line_that_begins_with_the_key(message: bytes, expected: bool) -> None:
    assert mentions(message, (b"aynig", b"dwp-state")) is expected


@settings(max_examples=400, derandomize=True, deadline=None, database=None)
@given(messages())
def test_every_trailer_that_is_read_is_mentioned(message: bytes) -> None:
    for key, _ in trailers.parse(message):
        assert mentions(message, (key.lower().encode(),))


# -- writing ---------------------------------------------------------------------------------

VALUES = ("", "x", "a: b", "# c", "ключ ✓", "\udcff", "(cherry picked from commit 3f)", "  x\t")
TRAILERS = st.builds(
    Trailer,
    st.sampled_from(("aynig", "Signed-off-by", "Conflicts", "k", "-", "9")),
    st.sampled_from(VALUES),
)


@settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    st.lists(
        st.tuples(messages(), messages(), st.lists(TRAILERS, max_size=6)), min_size=15, max_size=15
    )
)
def test_what_is_written_is_what_git_and_we_read(
    batch: list[tuple[bytes, bytes, list[Trailer]]],
) -> None:
    written = [compose(decode(s), decode(b), block) for s, b, block in batch]
    for (_, _, block), text, theirs in zip(
        batch, written, git_reads([encode(text) for text in written]), strict=True
    ):
        expected = [(key, value.strip()) for key, value in block]
        assert theirs == expected, text
        parts = split(text)
        assert list(parts.trailers) == expected, text
        # Once cleaned, nothing changes any more.
        assert compose(parts.subject, parts.body, parts.trailers) == text


@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(messages(), st.lists(TRAILERS, min_size=1, max_size=3))
def test_a_body_above_a_block_comes_back_as_it_was(message: bytes, block: list[Trailer]) -> None:
    body = decode(message).replace("\0", "?").replace(SCISSORS, "8<")
    body = split(f"s\n\n.\n{body}\n.\n").body
    parts = split(compose("subject", body, block))
    assert (parts.subject, parts.body) == ("subject", body)


@pytest.mark.parametrize(
    ("subject", "body", "expected"),
    [
        ("s\r\n t \n\nu", "b", Message("s t u", "b", ())),
        ("s", "\n\n  b\n\n", Message("s", "  b", ())),
        ("s", "a\n\nk: v\n  w", Message("s", "a\n\n k: v\n   w", ())),
        ("s", "k: v\n\n# c", Message("s", " k: v\n\n# c", ())),
        ("s\0t", "a\0b\ud800", Message("s\ufffdt", "a\ufffdb\ufffd", ())),
        ("", "first\nsecond\n", Message("first", "second", ())),
        (" \n", "\n", Message("(no subject)", "", ())),
        ("s", f"a\n{SCISSORS}\nb", Message("s", f"a\n{SCISSORS} \nb", ())),
    ],
    ids=["lines", "ends", "block", "comment", "nul", "no subject", "nothing", "scissors"],
)  # fmt: skip
def test_subject_and_body_are_cleaned(subject: str, body: str, expected: Message) -> None:
    assert split(compose(subject, body, ())) == expected


@pytest.mark.parametrize("key", ["", "a b", "a_b", "a:", "ключ", "a\n", "a\nb", "\u212a", "a\0"])
def test_a_key_of_other_characters_is_refused(key: str) -> None:
    with pytest.raises(UsageError, match="key"):
        compose("s", "", [Trailer(key, "x")])


@pytest.mark.parametrize(
    "value", ["a\naynig: done", "a\rb", "a\0b", "a\x1fb", "a\x7fb", "a\x85b", "a\u2028b", "\ud800"]
)
def test_a_value_that_could_inject_a_trailer_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match="control character") as refused:
        compose("s", "", [Trailer("aynig", value)])
    assert str(refused.value).isprintable()


# -- response files --------------------------------------------------------------------------

STATE = Trailer("aynig", "approved")
META = Trailer("aynig", "meta-a: 1")
KEPT = Trailer("k", "v w")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Message("", "", ())),
        ("aynig: approved\n", Message("", "", (STATE,))),
        ("Aynig : approved", Message("", "", (Trailer("Aynig", "approved"),))),
        ("aynig: approved\naynig: meta-a: 1\n", Message("", "", (STATE, META))),
        ("s\naynig: approved\n", Message("s", "", (STATE,))),
        ("fix: s\naynig: approved\n", Message("fix: s", "", (STATE,))),
        ("s\n\nb\naynig: approved\n", Message("s", "b", (STATE,))),
        ("s\n\nb\n\nk: v\n  w\naynig: approved\n\n", Message("s", "b", (KEPT, STATE))),
        ("s\nnote\nk: v\naynig: approved\n", Message("s note", "", (Trailer("k", "v"), STATE))),
        ("s\r\naynig: approved\r\n", Message("s", "", (STATE,))),
        ("s\n\nb\r\nc\r\n\r\naynig: approved\r\n", Message("s", "b\nc", (STATE,))),
        ("s\0\naynig: approved\n", Message("s\ufffd", "", (STATE,))),
        ("s\naynig: approved\n# c\n", Message("s", "# c", (STATE,))),
        ("s\n\nk: v\n", Message("s", "", (Trailer("k", "v"),))),
        ("s\nk: v\n", Message("s k: v", "", ())),
        ("s\n\nb\naynig: approved\n\nmore\n", Message("s", "b\naynig: approved\n\nmore", ())),
        ("aynig: approved\nodd\n", Message("aynig: approved odd", "", ())),
        ("s\n\n  a\n  aynig: approved\n", Message("s", "  a\n  aynig: approved", ())),
    ],
)  # fmt: skip
def test_a_response_is_read_leniently(text: str, expected: Message) -> None:
    assert parse_response(text) == parse_response(encode(text)) == expected


def test_other_keys_can_be_asked_for_in_a_response() -> None:
    text = "s\ndwp-state: approved\n"
    assert parse_response(text).trailers == ()
    assert parse_response(text, ("aynig", "dwp-state")).trailers == (
        Trailer("dwp-state", "approved"),
    )


@settings(max_examples=500, derandomize=True, deadline=None, database=None)
@given(messages())
def test_a_response_in_which_git_finds_a_state_is_read_as_git_reads_it(message: bytes) -> None:
    text = decode(message).replace("\r\n", "\n").replace("\0", "\ufffd")
    parts = split(text)
    if any(key.lower() == "aynig" for key, _ in parts.trailers):
        assert parse_response(message) == parts
