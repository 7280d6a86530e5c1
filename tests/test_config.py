"""`.aynig/config.yaml`: what it may say, and how it is refused."""

from __future__ import annotations

import dataclasses
import math
import textwrap
from dataclasses import fields
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aynig.config import LOCAL_GIT_VARIABLES, parse_workflow
from aynig.configvalues import MAX_VALUE_BYTES
from aynig.errors import ConfigError
from aynig.policyconfig import (
    DEPENDENCY_FAILURE,
    DIFFS,
    EXPECTATIONS,
    MERGES,
    SCORES,
    WAITING_KEYS,
)
from aynig.workflow import (
    AFTER,
    ALL,
    AUTONOMY,
    BEFORE,
    ENDINGS,
    Agent,
    Approval,
    Breaker,
    ChildLimits,
    Join,
    Limits,
    Loop,
    Need,
    Retries,
    Scenarios,
    StateSettings,
    Verification,
    Workflow,
)
from aynig.yamlfile import MAX_BYTES, MAX_NODES
from tests.world import GitRepo

WHERE = ".aynig/config.yaml at 3f2c9d1"


def parsed(text: str | bytes) -> Workflow:
    return parse_workflow(textwrap.dedent(text) if isinstance(text, str) else text, where=WHERE)


def refused(text: str | bytes) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parsed(text)
    assert str(caught.value).startswith(WHERE)
    assert (str(caught.value) + caught.value.hint).isprintable()
    assert caught.value.hint.endswith((".", "?", '"'))
    return caught.value


def state(settings: str) -> str:
    """A file with one state `review` and the given settings, each on its line from line 3 on."""
    return "states:\n  review:\n" + textwrap.indent(textwrap.dedent(settings), "    ")


def test_a_full_file_is_read_in_its_order() -> None:
    workflow = parsed(
        """\
        # Review until it is right.
        states:
          review-needed:
            next: approved
            on-failure: changes-requested
            timeout: 1h30m
            role: reviewer
            env:
              DEPTH: full
              _x1: ""
          changes-requested:
            next: review-needed
        """
    )
    assert workflow == Workflow(
        (
            (
                "review-needed",
                StateSettings(
                    next="approved",
                    on_failure="changes-requested",
                    timeout=5400.0,
                    role="reviewer",
                    env=(("DEPTH", "full"), ("_x1", "")),
                ),
            ),
            ("changes-requested", StateSettings(next="review-needed")),
        )
    )
    assert workflow.of("changes-requested").next == "review-needed"
    assert workflow.of("elsewhere") == StateSettings()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "# only a comment\n",
        "---\n",
        "~",
        "{}",
        "states:",
        "states: {}",
        b"\xef\xbb\xbf",
    ],
)
def test_an_empty_file_says_nothing(text: str | bytes) -> None:
    assert parsed(text) == Workflow()


@pytest.mark.parametrize(
    "settings", ["", "{}", "~", "next:", "{next: , on-failure: , timeout: , role: , env: }"]
)
def test_an_empty_setting_is_not_given(settings: str) -> None:
    text = f"states:\n  review: {settings}\n" if ":" not in settings else state(settings)
    assert parsed(text) == Workflow((("review", StateSettings()),))


@pytest.mark.parametrize(
    "text",
    [
        "states: {a: {next: b}}",
        "\ufeffstates:\n  a:\n    next: b\n",
        "states:\r\n  a:\r\n    next: b\r\n",
        'states:\n  \'a\':\n    "next": "b"\n',
        "--- # one document\nstates:\n  a:\n    next: b\n...\n",
        b"states:\n  a:\n    next: b",
    ],
    ids=["flow", "bom", "crlf", "quoted", "marked", "bytes"],
)
def test_the_same_may_be_written_in_several_ways(text: str | bytes) -> None:
    assert parsed(text) == Workflow((("a", StateSettings(next="b")),))


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("90", 90),
        ("'90'", 90),
        ("0.5", 0.5),
        ("5m", 300),
        ("1h 30m", 5400),
        # YAML 1.1 would read an octal number: nobody who writes it means 8.
        ("010", 10),
        ("none", math.inf),
    ],
)
def test_a_timeout_is_a_duration_or_none(written: str, seconds: float) -> None:
    assert parsed(state(f"timeout: {written}")).of("review").timeout == seconds


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("plain text", "plain text"),
        ("1.10", "1.10"),
        ("0x10", "0x10"),
        ("1e3", "1e3"),
        ("no", "no"),
        ("True", "True"),
        ("2024-01-02", "2024-01-02"),
        ("''", ""),
        ('"a\\tb\\u00e9"', "a\tbé"),
        ("$(rm -rf /)", "$(rm -rf /)"),
        ("|\n    two\n    lines\n", "two\nlines\n"),
    ],
)
def test_a_variable_is_what_was_written(written: str, value: str) -> None:
    assert parsed(f"states: \n review:\n  env:\n   X: {written}").of("review").env == (
        ("X", value),
    )


def test_an_ended_state_may_be_named_for_completeness() -> None:
    assert parsed("states: {done: , failed: {}}").of("done") == StateSettings()


def test_an_error_names_file_line_key_path_and_expectation() -> None:
    error = refused(
        """\
        states:
          review-needed:
            timeout: soon
        """
    )
    assert str(error) == (
        ".aynig/config.yaml at 3f2c9d1, line 3: states.review-needed.timeout: expected a duration"
        " such as 90s, 5m, 1h30m or 2d, or none, found 'soon'"
    )
    assert error.hint == "Write a duration above 0; a bare number is seconds."


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[]", "line 1: expected a mapping, found a list"),
        ("hello", "line 1: expected a mapping, found 'hello'"),
        ("states: [a]", "line 1: states: expected a mapping of states to settings, found a list"),
        ("states: review", "states: expected a mapping of states to settings, found 'review'"),
        ("states:\n  a: 5", "line 2: states.a: expected a mapping, found the number 5"),
        ("states:\n  a: [x]", "line 2: states.a: expected a mapping, found a list"),
        ("states:\n  [a]: {}", "line 2: states: expected a text as key, found a list"),
        ("states:\n  {a: b}: {}", "line 2: states: expected a text as key, found a mapping"),
        (state("next: [a]"), "line 3: states.review.next: expected a state"),
        (state("next: {a: b}"), "states.review.next: expected a state"),
        (state("next: A"), "states.review.next: expected a state"),
        (state("next: ''"), "states.review.next: expected a state"),
        (state("next: ../x"), "found '../x'"),
        (state("next: 'a\\0'"), "states.review.next: expected a state"),
        (state('next: "a\\n"'), r"found 'a\x0a'"),
        (state("on-failure: a/b"), "states.review.on-failure: expected a state"),
        (state("on-failure: working"), "states.review.on-failure: the state working is reserved"),
        (state("role: ../x"), "states.review.role: expected a role"),
        (state("role: [x]"), "states.review.role: expected a role"),
        (state("timeout: 0"), "states.review.timeout: expected a duration"),
        (state("timeout: -5s"), "states.review.timeout: expected a duration"),
        (state("timeout: 1:30"), "found the number 1:30"),
        (state("timeout: .inf"), "found the number .inf"),
        (state("timeout: yes"), "found the boolean yes"),
        (state("timeout: [5]"), "found a list"),
        (state("timeout: !!str [5]"), "found a list"),
        (state("env: [A=b]"), "line 3: states.review.env: expected a mapping of variables"),
        (state("env:\n  A: [1]"), "line 4: states.review.env.A: expected a text"),
        (state("env:\n  A:"), "line 4: states.review.env.A: expected a text, a number"),
        (state("env:\n  A: !!binary aGk="), "states.review.env.A: expected a text"),
        (state("env:\n  A: !x y"), "'y' with the tag '!x'"),
        (state("env:\n  1A: x"), "line 4: states.review.env: expected the name of a variable"),
        (state("env:\n  A-B: x"), "expected the name of a variable"),
        (state("env:\n  A=B: x"), "expected the name of a variable"),
        (state("env:\n  É: x"), "expected the name of a variable"),
        (state('env:\n  "": x'), "expected the name of a variable"),
        (state("env:\n  AYNIG_BODY: x"), "expected no variable of aynig's own"),
        (state("env:\n  GIT_DIR: x"), "expected no variable that points git at a repository"),
        (state('env:\n  A: "a\\0b"'), "states.review.env.A: expected a value without NUL"),
        (state('env:\n  A: "\\ud800"'), "states.review.env.A: expected a value without NUL"),
        ("states: {../x: {}}", "states: expected a state"),
        (f"states: {{{'a' * 65}: {{}}}}", "states: expected a state"),
        ("states: {working: {}}", "states: the state working is reserved"),
        ("states: {done: {next: a}}", "states.done: expected no settings, because done ends"),
        ("states: {a: !!python/object/apply:os.system [id]}", "states.a: expected a mapping"),
        ("!!python/object:x {}", "line 1: expected a mapping"),
    ],
)
def test_a_wrong_type_or_value_is_refused_where_it_stands(text: str, place: str) -> None:
    assert place in str(refused(text))


@pytest.mark.parametrize(
    ("text", "path", "meant"),
    [
        ("state: {}", "state", "states"),
        ("version: 1", "version", None),
        (state("nxt: a"), "states.review.nxt", "next"),
        (state("on_failure: a"), "states.review.on_failure", "on-failure"),
        (state("on-fail: a"), "states.review.on-fail", "on-failure"),
        (state("time-out: 5"), "states.review.time-out", "timeout"),
        (state("zone: a"), "states.review.zone", None),
        (state("script: a"), "states.review.script", None),
        (state("<<: {next: a}"), "states.review.'<<'", None),
        (state('"a\\u202eb": x'), r"states.review.'a\u202eb'", None),
    ],
)
def test_an_unknown_key_is_refused_with_what_was_meant(
    text: str, path: str, meant: str | None
) -> None:
    error = refused(text)
    suffix = f", did you mean {meant}?" if meant else ""
    assert str(error).endswith(f": {path}: unknown key{suffix}")
    assert "Keys that exist here: " in error.hint


@pytest.mark.parametrize(
    ("text", "path", "found", "word"),
    [
        ("states: {no: {}}", "states", "the boolean no", "no"),
        ("states: {on: {}}", "states", "the boolean on", "on"),
        ("states: {123: {}}", "states", "the number 123", "123"),
        ("states: {1_000: {}}", "states", "the number 1_000", "1_000"),
        ("states: {2024-01-02: {}}", "states", "the date 2024-01-02", "2024-01-02"),
        ("states: {null: {}}", "states", "nothing", "null"),
        (state("next: yes"), "states.review.next", "the boolean yes", "yes"),
        (state("on-failure: 1"), "states.review.on-failure", "the number 1", "1"),
        (state("role: off"), "states.review.role", "the boolean off", "off"),
        (state("env: {NO: x}"), "states.review.env", "the boolean NO", "NO"),
    ],
)
def test_what_yaml_takes_for_something_else_is_to_be_quoted(
    text: str, path: str, found: str, word: str
) -> None:
    error = refused(text)
    assert f": {path}: expected " in str(error)
    assert str(error).endswith(f", found {found}")
    assert error.hint == f'Quote it: "{word}"'


def test_quoted_they_are_names_like_others() -> None:
    workflow = parsed('states: {"no": {next: "123"}}')
    assert workflow == Workflow((("no", StateSettings(next="123")),))


@pytest.mark.parametrize(
    ("text", "path", "line", "first"),
    [
        ("states:\nstates:\n", "states", 2, 1),
        ("states:\n  a: {}\n  b: {}\n  a: {}\n", "states.a", 4, 2),
        ("states:\n  a: {}\n  'a': {}\n", "states.a", 3, 2),
        (state("next: a\nnext: a\n"), "states.review.next", 4, 3),
        (state("env:\n  A: x\n  A: y\n"), "states.review.env.A", 5, 4),
    ],
)
def test_a_key_that_stands_twice_is_refused(text: str, path: str, line: int, first: int) -> None:
    assert str(refused(text)) == (
        f"{WHERE}, line {line}: {path}: expected each key once, found it again"
        f" (first on line {first})"
    )


def billion_laughs() -> str:
    lines = ["a0: &a0 [lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (billion_laughs(), 1),
        ("states:\n  a: &a {next: b}\n  b: *a\n", 2),
        ("states:\n  a: *missing\n", 2),
        ("states: &s\n  a: *s\n", 1),
    ],
    ids=["billion-laughs", "shared", "undefined", "recursive"],
)
def test_anchors_and_aliases_are_refused(text: str, line: int) -> None:
    assert str(refused(text)) == (
        f"{WHERE}, line {line}: anchors and aliases (& and *) are not allowed"
    )


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "- " * 100_000, "? " * 100_000, "{a: " * 50_000],
    ids=["lists", "items", "keys", "mappings"],
)
def test_deep_nesting_is_refused_before_it_fills_the_stack(text: str) -> None:
    assert "levels deep" in str(refused(text))


def test_very_many_values_are_refused() -> None:
    assert f"more than {MAX_NODES} values" in str(refused("states: [" + "a," * MAX_NODES + "]"))


def test_a_large_file_is_refused_and_the_largest_is_read() -> None:
    text = "states: {a: {next: b}}\n"
    largest = text + "#" * (MAX_BYTES - len(text))
    assert parsed(largest).of("a").next == "b"
    assert "expected at most 256 KiB, found 262145 bytes" in str(refused(largest + "#"))
    assert "expected at most 256 KiB" in str(refused("é" * (MAX_BYTES // 2 + 1)))


def test_a_value_that_no_process_could_be_given_is_refused() -> None:
    assert len(parsed(state(f"env: {{A: {'x' * MAX_VALUE_BYTES}}}")).of("review").env[0][1])
    error = refused(state(f"env: {{A: {'x' * (MAX_VALUE_BYTES + 1)}}}"))
    assert "states.review.env.A: expected at most 120 KiB" in str(error)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"states:\n  a: {next: \xff}", "line 2: expected UTF-8, found the byte 0xff"),
        ("states:".encode("utf-16"), "line 1: expected UTF-8, found the byte 0xff"),
        ("a: 1\nb: \x1b[31m", r"line 2: the character '\x1b' is not allowed"),
        ("a: \0", r"line 1: the character '\x00' is not allowed"),
        ("a: \udcff", "expected UTF-8, found the byte 0xed"),
        ("states:\n\ta: {}", "line 2: expected spaces for indentation, found a tab"),
        ("states:\n  a:\n\tnext: b", "line 3: expected spaces for indentation, found a tab"),
        ("states:\n  a:\n  \tnext: b", "line 3: expected spaces for indentation, found a tab"),
        ("---\nstates:\n---\nstates:\n", "line 3: expected one document, found another"),
        ("states: {}\n---\n", "line 2: expected one document, found another"),
        ("states: {", "expected YAML, while parsing a flow"),
        ("a: b: c", "line 1: expected YAML, mapping values are not allowed here"),
        ("states:\n  a: {}\n b: {}\n", "line 3: expected YAML, while parsing a block mapping"),
        ("states: {a: {next: @x}}", "line 1: expected YAML, while scanning"),
        ('a: "\\UFFFFFFFF"', "line 1: expected YAML, found an escape that is no character"),
        ("%YAML 9.9\n---\n", "line 1: expected YAML, found incompatible YAML document"),
        ("%YAML 1." + "1" * 5000 + "\n---\n", "expected YAML"),
        ("!<tag:%ff> a", "line 1: expected YAML, while scanning a tag"),
    ],
)
def test_what_is_no_yaml_is_refused_with_its_line(text: str | bytes, message: str) -> None:
    assert message in str(refused(text))


def test_the_installed_git_has_no_local_variable_that_a_workflow_may_set(repo: GitRepo) -> None:
    local = repo.git("rev-parse", "--local-env-vars").split()
    assert set(local) <= LOCAL_GIT_VARIABLES
    assert "GIT_QUARANTINE_PATH" in LOCAL_GIT_VARIABLES


@pytest.mark.parametrize("name", sorted(LOCAL_GIT_VARIABLES))
def test_no_variable_that_points_git_elsewhere_may_be_set(name: str) -> None:
    assert name in str(refused(state(f"env: {{{name}: x}}")))


def test_variables_that_only_name_the_author_may_be_set() -> None:
    env = parsed(state("env: {GIT_AUTHOR_NAME: Bot, PATH: /bin}")).of("review").env
    assert env == (("GIT_AUTHOR_NAME", "Bot"), ("PATH", "/bin"))


# Pieces of which near misses are made: mostly YAML, mostly of our shape.
PIECES = [
    *("states", "review", "next", "timeout", "env", "on-failure", "role", "no", "5m", "1"),
    *(":", ": ", "\n", "\n  ", "\n    ", "\n      ", "- ", "? ", "{", "}", "[", "]", ", ", "\t"),
    *("&a ", "*a", "!!str ", "!x", "!<", '"', "'", "\\U", "F", "|\n", ">-\n", "#", "---\n", "..."),
    *("retries", "max", "limits", "verify", "join", "agents", "command", "start", "90%", "0.5"),
    *("<<", "%YAML ", "%TAG ", "@", "`", "~", "\x85", "\u2028", "\0", "é", "\ud800"),
]


@settings(derandomize=True, max_examples=1000, deadline=None)
@given(st.one_of(st.lists(st.sampled_from(PIECES), max_size=25).map("".join), st.binary()))
def test_anything_is_a_workflow_or_a_config_error_on_one_line(text: str | bytes) -> None:
    try:
        workflow = parsed(text)
    except ConfigError:
        refused(text)
    else:
        assert isinstance(workflow, Workflow)


NAMES = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,12}", fullmatch=True).filter(
    lambda name: name not in {"working", "done", "failed", "canceled"}
)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
WORDS = st.from_regex(r"[A-Za-z][A-Za-z0-9 .-]{0,8}[a-z]", fullmatch=True)
PATHS = st.from_regex(r"[a-z]{1,4}(/[a-z]{1,4}){0,2}", fullmatch=True)
COUNTS = st.none() | st.integers(1, 10**6)
SECONDS = st.integers(1, 10**6).map(float)
MONEY = st.none() | st.decimals(0, 10**6, places=2)
NEEDS = st.one_of(
    st.just(ALL),
    st.builds(Need, st.integers(1, 99)),
    st.builds(Need, st.none(), st.decimals(1, 99, places=1)),
)


def some(entries: st.SearchStrategy[str], least: int = 0) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(entries, min_size=least, max_size=3, unique=True).map(tuple)


RETRIES = st.builds(
    Retries,
    max=st.integers(0, 1000),
    backoff=st.integers(0, 10**6).map(float),
    factor=st.integers(4, 400).map(lambda quarters: quarters / 4),
    jitter=st.integers(0, 4).map(lambda quarters: quarters / 4),
    on=some(st.sampled_from(ENDINGS), 1),
)
BREAKERS = st.builds(
    Breaker,
    no_change=COUNTS,
    same_failure=COUNTS,
    failures=COUNTS,
    within=SECONDS,
    pause=SECONDS,
)
LIMITS = st.builds(
    Limits,
    calls_per_hour=COUNTS,
    concurrent=COUNTS,
    cost_usd_per_task=MONEY,
    cost_usd_per_day=MONEY,
    tokens_per_task=COUNTS,
    tokens_per_day=COUNTS,
)
JOINS = st.builds(
    Join,
    then=NAMES,
    need=NEEDS,
    merge=st.sampled_from(MERGES),
    on_conflict=st.none() | NAMES,
)
LOOPS = st.builds(
    Loop,
    promise=st.none() | WORDS,
    max_iterations=st.none() | st.integers(1, 10_000),
    plan=st.none() | PATHS,
    on_limit=st.none() | NAMES.filter(lambda name: name != "escalate"),
)
SCENARIOS = st.one_of(
    st.builds(Scenarios, PATHS),
    st.builds(Scenarios, PATHS, NAMES),
    st.builds(Scenarios, PATHS, NAMES, PATHS),
)
VERIFICATIONS = st.builds(
    Verification,
    commands=some(TEXTS.filter(str.strip)),
    scenarios=st.lists(SCENARIOS, min_size=1, max_size=2, unique=True).map(tuple),
    need=NEEDS,
    show=st.sampled_from(SCORES),
    timeout=SECONDS | st.just(math.inf),
    committed=st.booleans(),
)
APPROVALS = st.builds(
    Approval,
    when=st.sampled_from((BEFORE, AFTER)),
    by=some(WORDS),
    need=st.just(1),
    show=st.sampled_from(DIFFS),
    on_reject=st.none() | NAMES,
)
AGENTS = st.builds(
    Agent,
    name=NAMES,
    role=st.none() | NAMES,
    command=st.just(()) | st.tuples(PATHS, WORDS),
    limits=st.none() | LIMITS,
    identity=st.none() | WORDS.map("{} <a@b.example>".format),
)


def of_a_waiting_room(settings: StateSettings) -> StateSettings:
    """What of it a state may say that waits for children."""
    keys = [key.replace("-", "_") for key in WAITING_KEYS]
    return StateSettings(**{key: getattr(settings, key) for key in keys})


SETTINGS = st.builds(
    StateSettings,
    next=st.none() | NAMES,
    on_failure=st.none() | NAMES,
    timeout=st.none() | st.just(math.inf) | SECONDS,
    role=st.none() | NAMES,
    env=st.dictionaries(
        st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True).filter(
            lambda name: not name.startswith(("AYNIG_", "GIT_"))
        ),
        TEXTS,
        max_size=3,
    ).map(lambda env: tuple(env.items())),
    agent=st.none() | NAMES,
    retries=st.none() | RETRIES,
    compensate=st.none() | NAMES,
    escalate=st.none() | NAMES,
    on_dependency_failure=st.sampled_from(DEPENDENCY_FAILURE),
    join=st.none() | JOINS,
    on_child=st.none() | NAMES,
    loop=st.none() | LOOPS,
    breaker=st.none() | BREAKERS,
    limits=st.none() | LIMITS,
    verify=st.none() | VERIFICATIONS,
    expect=st.none() | st.sampled_from(EXPECTATIONS),
    approval=st.none() | APPROVALS,
    checkpoint=st.booleans(),
    resources=some(PATHS),
    deadline=st.none() | SECONDS,
    priority=st.none() | st.integers(-100, 100),
    may_change=some(PATHS),
).map(lambda one: of_a_waiting_room(one) if one.waits else one)
WORKFLOWS = st.builds(
    Workflow,
    states=st.dictionaries(NAMES, SETTINGS, max_size=3).map(lambda found: tuple(found.items())),
    agents=st.lists(AGENTS, max_size=2, unique_by=lambda agent: agent.name).map(tuple),
    limits=st.none() | LIMITS,
    children=st.builds(
        ChildLimits, st.integers(0, 100), st.integers(0, 10**6), st.integers(0, 10**6)
    ),
    people_only=some(NAMES),
    signed=st.booleans(),
    allowed_signers=PATHS,
    autonomy=st.none() | st.sampled_from(AUTONOMY),
    start=some(NAMES),
)


def quoted(text: str) -> str:
    return '"' + "".join(f"\\U{ord(character):08x}" for character in text) + '"'


def flow(value: object) -> str:
    """A value as YAML writes it on one line; a frozen value as a mapping of what it says."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, Need | int | Decimal):
        return str(value)
    if isinstance(value, float):
        return "none" if math.isinf(value) else f"{value:g}" if value < 1000 else f"{value:.0f}"
    if isinstance(value, tuple):
        return f"[{', '.join(map(flow, value))}]"
    assert dataclasses.is_dataclass(value)
    given = {one.name.replace("_", "-"): getattr(value, one.name) for one in fields(value)}
    given = {"resource" if key == "resources" else key: said for key, said in given.items()}
    return mapping({key: said for key, said in given.items() if said not in (None, (), "")})


def mapping(given: dict[str, object]) -> str:
    return f"{{{', '.join(f'{key}: {flow(said)}' for key, said in given.items())}}}"


def of_state(settings: StateSettings) -> str:
    env = f", env: {mapping({quoted(key): value for key, value in settings.env})}"
    text = flow(dataclasses.replace(settings, env=()))
    return text[:-1] + (env if settings.env else "") + "}"


def of_agent(agent: Agent) -> str:
    return flow(agent).replace(f"name: {quoted(agent.name)}", "").replace("{, ", "{")


def written(workflow: Workflow) -> str:
    lines = ["states:", *(f'  "{name}": {of_state(one)}' for name, one in workflow.states)]
    lines += ["agents:", *(f'  "{agent.name}": {of_agent(agent)}' for agent in workflow.agents)]
    lines.append(f"signed: {'required' if workflow.signed else 'no'}")
    for name in ("limits", "children", "people_only", "allowed_signers", "autonomy", "start"):
        said = getattr(workflow, name)
        if said not in (None, ()):
            lines.append(f"{name.replace('_', '-')}: {flow(said)}")
    return "\n".join(lines)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(WORKFLOWS)
def test_a_workflow_that_is_written_down_is_read_back(workflow: Workflow) -> None:
    assert parsed(written(workflow)) == workflow
