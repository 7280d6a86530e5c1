"""What commits say in the two dialects, and that nothing can say more than it was given."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aynig import trailers
from aynig.dialects import (
    AYNIG,
    DIALECTS,
    DWP,
    Dialect,
    Limits,
    by_name,
    check_field,
    check_role,
    check_state,
    glance,
    read,
    skim,
    write,
)
from aynig.errors import UsageError
from aynig.model import STATE_PATTERN, Field, Statement, Trailer
from tests.world import GitRepo

BOTH = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)


def stated(message: str, limits: Limits | None = None) -> Statement:
    """What a message says, where it has to say something."""
    found = read(trailers.encode(message), limits or Limits())
    assert found is not None
    return found


# -- reading ---------------------------------------------------------------------------------


def test_the_native_dialect_is_read() -> None:
    assert stated(
        "Implement user authentication\n\nThe prompt.\n\nMore of it.\n\n"
        "aynig: review-needed\n"
        "aynig: assigned-to: security-agent\n"
        "Signed-off-by: Ada <ada@example.org>\n"
        "aynig: depends-on: 3f2c9d1\n"
        "aynig: depends-on: 81c0f2e\n"
    ) == Statement(
        dialect="aynig",
        state="review-needed",
        subject="Implement user authentication",
        body="The prompt.\n\nMore of it.",
        fields=(
            Field("assigned-to", "security-agent"),
            Field("depends-on", "3f2c9d1"),
            Field("depends-on", "81c0f2e"),
        ),
        trailers=(Trailer("Signed-off-by", "Ada <ada@example.org>"),),
    )


def test_dwp_is_read() -> None:
    assert stated(
        "s\n\nb\n\nDWP-State: build\ndwp-Run-Id: 7\nCo-authored-by: B\ndwp-role: a: b\ndwp-: x\n"
    ) == Statement(
        dialect="dwp",
        state="build",
        subject="s",
        body="b",
        fields=(Field("run-id", "7"), Field("role", "a: b")),
        trailers=(Trailer("Co-authored-by", "B"), Trailer("dwp-", "x")),
    )


@pytest.mark.parametrize(
    "message",
    [
        "",
        "s\n",
        "aynig: review-needed\n",
        "s\naynig: review-needed\n",
        "s\n\nb\naynig: review-needed\nodd\n",
        "s\n\naynig: review-needed\n\nthe end\n",
        "s\n\naynig: assigned-to: bob\n",
        "s\n\ndwp-run-id: 7\n",
        "s\n\nSigned-off-by: A\n",
    ],
)
def test_a_message_without_a_state_says_nothing(message: str) -> None:
    assert read(message.encode()) is None


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ("k: v", Field("k", "v")),
        ("K_9-: v: w", Field("k_9-", "v: w")),
        ("k:", Field("k", "")),
        ("k:v", Field("k", "v")),
        ("k \t:  v", Field("k", "v")),
        ("https://example.org", Field("https", "//example.org")),
    ],
)
def test_a_value_with_a_key_is_a_field(value: str, field: Field) -> None:
    statement = stated(f"s\n\naynig: go\naynig: {value}\n")
    assert (statement.state, statement.fields, statement.fault) == ("go", (field,), "")


def test_the_last_of_several_states_wins() -> None:
    assert stated("s\n\naynig: a\naynig: k: v\naynig: b\n").state == "b"
    assert stated("s\n\ndwp-state: a\ndwp-state: b\n").state == "b"
    assert stated("s\n\naynig: a\naynig: NO\n").fault


@pytest.mark.parametrize(
    ("block", "dialect", "fields", "others"),
    [
        ("dwp-state: a\naynig: b", "aynig", (), (Trailer("dwp-state", "a"),)),
        ("aynig: k: v\ndwp-state: a", "dwp", (), (Trailer("aynig", "k: v"),)),
        ("aynig: a\ndwp-k: v", "aynig", (), (Trailer("dwp-k", "v"),)),
        ("aynig: !\ndwp-state: a", "aynig", (), (Trailer("dwp-state", "a"),)),
    ],
)
def test_the_native_dialect_counts_where_both_name_a_state(
    block: str, dialect: str, fields: tuple[Field, ...], others: tuple[Trailer, ...]
) -> None:
    statement = stated(f"s\n\n{block}\n")
    assert (statement.dialect, statement.fields, statement.trailers) == (dialect, fields, others)


def test_a_reserved_state_is_no_fault() -> None:
    assert stated("s\n\naynig: working\n").fault == ""


MALFORMED = {
    "path": "../x",
    "slash": "a/b",
    "space": "a b",
    "upper case": "Done",
    "leading dash": "-x",
    "leading underscore": "_x",
    "dot": "a.sh",
    "too long": "a" * 65,
    "300 characters": "a" * 300,
    "empty": "",
    "escape": "a\x1b[31m",
    "bidirectional": "a\u202eb",
    "stray byte": "a\udcff",
    "other digits": "a٣",
    "separator": "a\x1fb",
    "key with a space": "a b: c",
    "folded": "a\n  b",
}


@BOTH
@pytest.mark.parametrize("state", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_state_is_a_fault(dialect: Dialect, state: str) -> None:
    statement = stated(f"s\n\nb\n\n{dialect.state_key}: {state}\n")
    assert statement.dialect == dialect.name
    assert statement.fault
    assert statement.fault.isprintable()
    assert len(statement.fault) < 200
    assert statement.state.isprintable()
    assert len(statement.state) < 80
    assert not STATE_PATTERN.fullmatch(statement.state)
    assert (statement.subject, statement.body) == ("s", "b")


def test_a_fault_names_the_state_with_escapes() -> None:
    assert "'a\\x1bb' is no state" in stated("s\n\naynig: a\x1bb\n").fault
    assert "empty" in stated("s\n\naynig:\n").fault


@BOTH
def test_a_message_over_the_limit_of_bytes_is_a_fault(dialect: Dialect) -> None:
    message = f"s\n\n{'x' * 2_000}\n\n{dialect.state_key}: go\n"
    statement = stated(message, Limits(message_bytes=1_000))
    assert statement == Statement(
        dialect.name, "", "", "", fault=f"the message has {len(message)} bytes, the limit is 1000"
    )
    assert stated(message, Limits(message_bytes=len(message))).state == "go"


def test_a_large_message_without_a_state_says_nothing() -> None:
    assert read(b"s\n\nthe " + b"aynig " * 1_000, Limits(message_bytes=1_000)) is None


@BOTH
def test_a_message_over_the_limit_of_trailers_is_a_fault(dialect: Dialect) -> None:
    message = f"s\n\n{dialect.state_key}: go\n" + "k: v\n" * 9
    statement = stated(message, Limits(trailers=9))
    assert statement.state == ""
    assert statement.fault == "the message has 10 trailers, the limit is 9"
    assert stated(message, Limits(trailers=10)).fault == ""
    assert read(message.replace(": go", "x: go").encode(), Limits(trailers=9)) is None


def test_the_limits_are_those_of_the_design() -> None:
    assert Limits() == Limits(message_bytes=1024 * 1024, trailers=256)


# -- writing ---------------------------------------------------------------------------------

STATES = st.from_regex(STATE_PATTERN, fullmatch=True)
VALUES = st.one_of(
    st.sampled_from(["", "v", "k: v", ":", "# c", "aynig: x", "ключ", "\udcff"]),
    st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp"))),
).map(lambda value: value.strip(" "))
FIELDS = st.builds(Field, st.from_regex(r"[a-rt-z0-9][a-z0-9-]{0,9}", fullmatch=True), VALUES)
OTHERS = st.builds(Trailer, st.sampled_from(["Signed-off-by", "k", "Conflicts"]), VALUES)
BODIES = st.lists(
    st.sampled_from(["a", "aynig: injected", "dwp-state: injected", "---", "# c", "", " x"]),
    max_size=8,
).map("\n".join)


@settings(max_examples=400, derandomize=True, deadline=None, database=None)
@given(
    st.sampled_from(DIALECTS),
    STATES,
    st.lists(FIELDS, max_size=4),
    st.lists(OTHERS, max_size=3),
    st.one_of(BODIES, st.text()),
    BODIES,
)
def test_what_is_written_is_read_back(
    dialect: Dialect,
    state: str,
    fields: list[Field],
    others: list[Trailer],
    subject: str,
    body: str,
) -> None:
    statement = stated(write(dialect, state, fields, others, subject, body))
    assert statement.dialect == dialect.name
    assert statement.state == state
    assert statement.fields == tuple(fields)
    assert statement.trailers == tuple(others)
    assert statement.fault == ""


def test_a_message_looks_as_people_write_it() -> None:
    fields = [Field("assigned-to", "bob"), Field("note", "")]
    others = [Trailer("Signed-off-by", "Ada")]
    assert write(AYNIG, "go", fields, others, "s", "b") == (
        "s\n\nb\n\naynig: go\naynig: assigned-to: bob\naynig: note:\nSigned-off-by: Ada\n"
    )
    assert write(DWP, "go", fields, others, "s", "b") == (
        "s\n\nb\n\ndwp-state: go\ndwp-assigned-to: bob\ndwp-note:\nSigned-off-by: Ada\n"
    )


def test_plain_git_reads_what_was_written(repo: GitRepo) -> None:
    oid = repo.commit(write(AYNIG, "go", [Field("k", "v: w")], [Trailer("A", "b")], "s", "x: y"))
    assert repo.trailers(oid) == [("aynig", "go"), ("aynig", "k: v: w"), ("A", "b")]


def test_an_underscore_becomes_a_dash_where_the_key_is_a_trailer() -> None:
    message = write(DWP, "go", [Field("run_id", "1")], [], "s", "")
    assert stated(message).fields == (Field("run-id", "1"),)
    assert stated(write(AYNIG, "go", [Field("run_id", "1")], [], "s", "")).value("run_id") == "1"


@BOTH
@pytest.mark.parametrize("state", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_state_is_not_written(dialect: Dialect, state: str) -> None:
    with pytest.raises(UsageError):
        write(dialect, state, [], [], "s", "b")


@BOTH
@pytest.mark.parametrize(
    "field",
    [
        Field("", "v"),
        Field("K", "v"),
        Field("a b", "v"),
        Field("a:", "v"),
        Field("-a", "v"),
        Field("a\n", "v"),
        Field("ключ", "v"),
        Field("k", "v\naynig: injected"),
        Field("k", "v\rdwp-state: injected"),
        Field("k", "v\0w"),
        Field("k", "v\x1fw"),
        Field("k", "v\u2028w"),
    ],
)
def test_a_field_that_would_say_something_else_is_refused(dialect: Dialect, field: Field) -> None:
    with pytest.raises(UsageError) as refused:
        write(dialect, "go", [field], [], "s", "b")
    assert (str(refused.value) + refused.value.hint).isprintable()


def test_a_field_that_would_be_the_state_is_refused() -> None:
    with pytest.raises(UsageError, match="dwp"):
        write(DWP, "go", [Field("state", "injected")], [], "s", "b")
    native = stated(write(AYNIG, "go", [Field("state", "x")], [], "s", "b"))
    assert (native.state, native.fields) == ("go", (Field("state", "x"),))


@pytest.mark.parametrize(
    ("dialect", "other"),
    [
        (AYNIG, Trailer("aynig", "injected")),
        (AYNIG, Trailer("Aynig", "k: v")),
        (DWP, Trailer("dwp-state", "injected")),
        (DWP, Trailer("DWP-run-id", "1")),
        (DWP, Trailer("aynig", "injected")),
        (AYNIG, Trailer("k", "v\naynig: injected")),
        (AYNIG, Trailer("k\naynig", "injected")),
    ],
)
def test_a_trailer_that_would_inject_a_state_is_refused(dialect: Dialect, other: Trailer) -> None:
    with pytest.raises(UsageError):
        write(dialect, "go", [], [other], "s", "b")


@pytest.mark.parametrize(
    ("dialect", "other"),
    [(AYNIG, Trailer("dwp-state", "x")), (DWP, Trailer("aynig", "k: v"))],
    ids=["native", "dwp"],
)
def test_trailers_of_the_other_dialect_are_passed_on(dialect: Dialect, other: Trailer) -> None:
    statement = stated(write(dialect, "go", [], [other], "s", "b"))
    assert (statement.dialect, statement.state) == (dialect.name, "go")
    assert statement.trailers == (other,)


# -- the table -------------------------------------------------------------------------------


def test_scripts_lie_where_the_dialect_says() -> None:
    assert AYNIG.scripts("go") == (".aynig/go",)
    assert AYNIG.scripts("go", "r") == (".aynig/roles/r/go", ".aynig/go")
    assert DWP.scripts("go") == (".dwp/command/go",)
    assert DWP.scripts("go", "r") == (".dwp/roles/r/command/go", ".dwp/command/go")


@BOTH
@pytest.mark.parametrize(("state", "role"), [("../x", ""), ("go", "../x"), ("go", "a/b")])
def test_no_path_is_made_of_a_malformed_name(dialect: Dialect, state: str, role: str) -> None:
    with pytest.raises(UsageError):
        dialect.scripts(state, role)


def test_dialects_are_found_by_name_and_frozen() -> None:
    assert [by_name(dialect.name) for dialect in DIALECTS] == [AYNIG, DWP]
    assert (AYNIG.adds_response, DWP.adds_response) == (True, False)
    with pytest.raises(UsageError, match="'git'"):
        by_name("git")
    with pytest.raises(FrozenInstanceError):
        AYNIG.name = "x"  # type: ignore[misc]


# -- what people write -----------------------------------------------------------------------


@pytest.mark.parametrize("check", [check_state, check_role])
def test_a_state_or_role_is_checked_with_a_hint(check: type) -> None:
    assert check("review-needed_2") == "review-needed_2"
    for text in MALFORMED.values():
        with pytest.raises(UsageError) as refused:
            check(text)
        assert "a-z" in refused.value.hint
        assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    ("text", "separator", "field"),
    [
        ("k:v", ":", Field("k", "v")),
        (" Key : a: b ", ":", Field("key", "a: b")),
        ("k=", "=", Field("k", "")),
        ("k=a=b:c", "=", Field("k", "a=b:c")),
        ("k:\ta\tb", ":", Field("k", "a\tb")),
    ],
)
def test_a_field_is_taken_from_the_command_line(text: str, separator: str, field: Field) -> None:
    assert check_field(text, separator) == field


@pytest.mark.parametrize(
    "text",
    [
        *("", "k", ":v", "a b:v", "k=v", "-k:v", "k:v\n", "k:a\naynig: injected", "k:a\rb"),
        *("k\n:v", "k:a\0b", "k:a\x1bb", "k:a\x85b", "ключ:v", "\u212a:v"),
    ],
)
def test_a_field_that_would_inject_a_state_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        check_field(text)
    assert refused.value.hint
    assert (str(refused.value) + refused.value.hint).isprintable()


PIECES = st.sampled_from(
    [
        "aynig: go", "AYNIG : Go", "aynig:", "aynig: a: b", "aynig: A_b : c", "aynig: x y: z",
        "aynig: go\t", "aynig:go\r", "dwp-state: stop", "Dwp-State:", "dwp-x: y", " folded", "\ty",
        "\rz", "Signed-off-by: A <a@example.org>", "(cherry picked from commit 1)", "# comment",
        "Conflicts:", "---", "text", "", "", "a\u0131nig: no", "\u0130: no", "ayn\u0131g: go",
        "aynig: \x00", "x: aynig: go", "\udcff: y",
    ]
)  # fmt: skip


@settings(max_examples=3000, derandomize=True, deadline=None, database=None)
@given(st.lists(PIECES, max_size=12), st.sampled_from(["\n", "\r\n"]), st.sampled_from(["", "\n"]))
def test_a_glance_and_a_skim_say_what_reading_says(
    lines: list[str], ending: str, last: str
) -> None:
    raw = ("title\n\n" * (len(lines) % 2) + ending.join(lines) + last).encode(
        "utf-8", "surrogateescape"
    )
    limits = Limits(message_bytes=120, trailers=3)
    said, glanced = read(raw, limits), glance(raw, limits)
    assert (said and (said.state, said.fault)) == (glanced and (glanced.state, glanced.fault))
    skimmed = skim(raw, limits)
    assert (said and (said.state, said.fields, said.fault)) == skimmed
