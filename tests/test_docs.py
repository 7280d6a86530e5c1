"""What the documents say, held against the code."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import aynig
from aynig.answer import RESERVED_FIELDS
from aynig.cli.main import COMMANDS, cli
from aynig.config import RUN_KEYS, STATE_KEYS, TOP_KEYS
from aynig.durations import format_duration
from aynig.model import HELD_STATES
from aynig.policyconfig import (
    AGENT_KEYS,
    APPROVAL_KEYS,
    BREAKER_KEYS,
    CHILDREN_KEYS,
    JOIN_KEYS,
    LIMITS_KEYS,
    LOOP_KEYS,
    RETRIES_KEYS,
    VERIFY_KEYS,
)
from aynig.runs import new_run_id
from aynig.settings import TABLE
from aynig.workflow import (
    Approval,
    Breaker,
    ChildLimits,
    Join,
    Limits,
    Loop,
    Retries,
    StateSettings,
    Verification,
    Workflow,
)
from tests.cli.test_demo import HISTORY
from tests.test_imports import MODULES, SHELLS

ROOT = Path(aynig.__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *DOCS.glob("*.md"),
        *ROOT.glob("examples/*/README.md"),
    ]
)
IDS = [str(page.relative_to(ROOT)) for page in PAGES]

_LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
# Where a command may stand; elsewhere the word is a name (`journalctl -u aynig`).
_CALL = re.compile(r"(?:^|[|&;(]|run:|uvx) *aynig +(?=[a-z-])")


def page(name: str) -> str:
    return (ROOT / name).read_text()


def anchors(path: Path) -> set[str]:
    """The names that headings can be linked to by, as GitHub makes them."""
    found = set()
    for title in _HEADING.findall(path.read_text()):
        kept = re.sub(r"[^\w\- ]", "", title.lower())
        found.add(kept.replace(" ", "-"))
    return found


@pytest.mark.parametrize("path", PAGES, ids=IDS)
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    for link in _LINK.findall(path.read_text()):
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        place = (path.parent / target) if target else path
        assert place.exists(), f"{path.name} links to {link}"
        if anchor:
            assert anchor in anchors(place), f"{path.name} links to {link}"


# --- commands ---------------------------------------------------------------------------------


def code(text: str) -> Iterator[str]:
    """Code of a page: lines of blocks, and spans within the text."""
    fenced = False
    for line in text.split("\n"):
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line
        else:
            yield from re.findall(r"`([^`]+)`", line)


def command_lines(text: str) -> Iterator[list[str]]:
    """The arguments of each call of aynig in a page."""
    for piece in code(text):
        for call in _CALL.finditer(piece):
            rest = piece[call.end() :]
            # A comment, a pipe or a redirection ends it, but for one within quotes.
            lexer = shlex.shlex(rest, posix=True, punctuation_chars="|&;<>()")
            lexer.commenters = "#"
            lexer.whitespace_split = True
            words: list[str] = []
            for word in lexer:
                if set(word) <= set("|&;<>()"):
                    break
                words.append(word.strip("[]`,."))
            # Records of leases have subjects of their own; the trailer's key is no program.
            if words and words[:2] not in _RECORDS:
                yield words


# How records of runners begin (docs/protocol.md).
_RECORDS = (["lease", "of"], ["deferral", "of"], ["runner"])


def complaint(words: list[str]) -> str:
    """What is wrong with a call, or nothing."""
    command: click.Command = cli
    context = click.Context(cli, info_name="aynig")
    for word in words:
        if isinstance(command, click.Group) and not word.startswith("-"):
            found = command.get_command(context, word)
            if found is None:
                return f"no command {word}"
            command = found
        elif word.startswith("-") and word != "-":
            option = word.partition("=")[0]
            known = {name for parameter in command.params for name in parameter.opts}
            if option not in known | {"-h", "--help"}:
                return f"{command.name} has no option {option}"
    return ""


@pytest.mark.parametrize("path", PAGES, ids=IDS)
def test_every_command_line_names_what_exists(path: Path) -> None:
    for words in command_lines(path.read_text()):
        assert not complaint(words), f"{path.name}: aynig {' '.join(words)}: {complaint(words)}"


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ("`aynig run --jobs 4 | head`", [["run", "--jobs", "4"]]),
        ("    cd x && aynig run --quiet >>log 2>&1", [["run", "--quiet"]]),
        ("    aynig submit a -m 'x | y'   # why", [["submit", "a", "-m", "x | y"]]),
        ("    journalctl -u aynig -f", []),
        ("a trailer `aynig: done`, and aynig in a sentence", []),
        ("`.venv/bin/aynig-wake`", []),
    ],
)
def test_command_lines_are_found_in_pages(text: str, calls: list[list[str]]) -> None:
    assert list(command_lines(text)) == calls


@pytest.mark.parametrize("words", [["fly"], ["run", "--fast"], ["hooks", "bend"]])
def test_a_wrong_command_line_is_found_out(words: list[str]) -> None:
    assert complaint(words)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_a_document_and_its_help_has_an_example(name: str) -> None:
    assert any(f"aynig {name}" in path.read_text() for path in PAGES)
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert "Example:" in (command.help or "")


def test_each_run_that_is_shown_has_an_id_as_runs_have() -> None:
    shape = re.sub("[0-9a-f]", "0", new_run_id())
    helps = [cli.get_command(click.Context(cli), name) for name in COMMANDS]
    texts = [path.read_text() for path in PAGES] + [one.help or "" for one in helps if one]
    shown = [run for text in texts for run in re.findall(r"\b\d{8}T\d{6}Z-[0-9a-f]+", text)]
    assert len(shown) > 2
    assert {re.sub("[0-9a-f]", "0", run) for run in shown} == {shape}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_page_that_should_show_json_can(name: str) -> None:
    silent = {"daemon", "respond", "child", "hooks", "judge", "set-state", "set-working"}
    reporting = set(COMMANDS) - silent
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    options = {option for parameter in command.params for option in parameter.opts}
    assert ("--json" in options) == (name in reporting)


# --- words ------------------------------------------------------------------------------------


def hold_words() -> set[str]:
    """Every word that a Hold can get, as the sources have them."""
    words = set(HELD_STATES)
    places = {"Hold": 0, "ScriptProblem": 0, "DependencyVerdict": 0, "StatusRow": 3}
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            place = places.get(node.func.id)
            if place is None or len(node.args) <= place:
                continue
            word = node.args[place]
            if isinstance(word, ast.Constant) and isinstance(word.value, str):
                words.add(word.value)
    return words


def test_hold_words_are_found_in_the_sources() -> None:
    assert {"running", "missing-script", "dirty-worktree", "blocked", "broken"} <= hold_words()


@pytest.mark.parametrize("word", sorted(hold_words()))
def test_every_hold_word_is_explained(word: str) -> None:
    assert f"\n| `{word}` | " in page("docs/operating.md")


def test_every_check_of_the_doctor_is_explained() -> None:
    names = set()
    for name, path in MODULES.items():
        if name.startswith(("checks.", "diagnosis", "cli.doctor")):
            names |= set(re.findall(r"(?:Finding|guarded)\(\s*\"([a-z-]+)\"", path.read_text()))
    assert {"git", "leftovers"} <= names
    table = page("docs/operating.md").partition("## What the doctor finds")[2]
    explained = {
        name
        for line in table.split("\n")
        if line.startswith("| `")
        for name in re.findall(r"`([a-z-]+)`", line.split("|")[1])
    }
    assert names - explained == set()


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.key)
def test_every_setting_is_in_the_table(row: object) -> None:
    setting = next(one for one in TABLE if one is row)
    line = next(
        line
        for line in page("docs/operating.md").split("\n")
        if line.startswith(f"| `{setting.key}` |")
    )
    assert line.endswith(f"| {setting.help} |")
    # The default of jobs is that of the machine.
    assert setting.name == "jobs" or f"| `{setting.default}` |" in line or not setting.default


# What stands before the keys of a mapping in the tables of docs/workflow.md, and whose defaults.
KEYS: dict[str, tuple[tuple[str, ...], object]] = {
    "": (TOP_KEYS, Workflow()),
    "states.<state>.": (STATE_KEYS, None),
    "agents.<agent>.": (AGENT_KEYS, None),
    "retries.": (RETRIES_KEYS, Retries()),
    "breaker.": (BREAKER_KEYS, Breaker()),
    "limits.": (LIMITS_KEYS, Limits()),
    "children.": (CHILDREN_KEYS, ChildLimits()),
    "join.": (JOIN_KEYS, Join("x")),
    "loop.": (LOOP_KEYS, Loop()),
    "verify.": (VERIFY_KEYS, Verification()),
    "approval.": (APPROVAL_KEYS, Approval()),
}
DURATIONS = {"backoff", "within", "pause", "timeout"}


def rows_of_keys() -> dict[str, list[str]]:
    """The cells of each row of a table of keys."""
    rows = {}
    for line in page("docs/workflow.md").split("\n"):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and len(cells) == 4:
            rows[cells[0].strip("`")] = cells[1:]
    return rows


def test_all_keys_of_the_workflow_are_in_the_tables_and_no_others() -> None:
    named = {f"{before}{key}" for before, (keys, _) in KEYS.items() for key in keys}
    assert set(rows_of_keys()) == named


@pytest.mark.parametrize("before", [before for before, (_, one) in KEYS.items() if one])
def test_the_tables_show_the_defaults_of_the_code(before: str) -> None:
    keys, defaults = KEYS[before]
    for key in keys:
        value = getattr(defaults, key.replace("-", "_"), None)
        shown = rows_of_keys()[before + key][1]
        if isinstance(value, (bool, tuple, type(None), StateSettings, Limits, ChildLimits)):
            continue
        if key in DURATIONS:
            value = format_duration(value)
        wanted = f"{value:g}" if isinstance(value, float) else str(value)
        assert shown == (f"`{wanted}`" if key != "then" else "required"), before + key


@pytest.mark.parametrize("key", RUN_KEYS)
def test_every_key_of_the_workflow_is_explained(key: str) -> None:
    assert f"| `states.<state>.{key}` |" in page("docs/operating.md")
    assert f"{key}:" in page("docs/protocol.md")


def test_every_finding_of_the_check_is_explained() -> None:
    words = set(re.findall(r'(?:ERROR|WARNING|NOTE),\s*"([a-z-]+)"', MODULES["flaws"].read_text()))
    assert {"missing-script", "endless"} <= words
    table = page("docs/workflow.md")
    assert {word for word in {*words, "malformed"} if f"\n| `{word}` | " not in table} == set()


def test_every_variable_of_a_script_is_in_the_protocol() -> None:
    names = set(re.findall(r"\"(AYNIG_[A-Z_]+)\"", MODULES["environment"].read_text()))
    assert len(names) > 10
    protocol = page("docs/protocol.md")
    assert {name for name in names if f"| `{name}` |" not in protocol} == set()
    of_git = set(re.findall(r"\"(GIT_[A-Z_0-9]+[A-Z0-9])\"", MODULES["environment"].read_text()))
    assert len(of_git) > 3
    assert {name for name in of_git if f"`{name}`" not in protocol} == set()


def test_every_field_of_the_testimony_is_in_the_protocol() -> None:
    protocol = page("docs/protocol.md")
    assert {field for field in RESERVED_FIELDS if f"`{field}`" not in protocol} == set()


@pytest.mark.parametrize("name", sorted(set(MODULES) - SHELLS))
def test_every_module_is_in_the_table_of_the_house(name: str) -> None:
    if name.startswith("cli."):
        name = "cli"
    assert f"`{name.replace('.', '/')}`" in page("docs/architecture.md")


def test_the_table_of_the_house_names_no_module_that_is_gone() -> None:
    table = (
        page("docs/architecture.md").partition("## Modules")[2].partition("\nBeside the package")[0]
    )
    cells = [line.split("|")[1] for line in table.split("\n") if line.startswith("| `")]
    named = {name.replace("/", ".") for cell in cells for name in re.findall(r"`([^`]+)`", cell)}
    assert named - set(MODULES) == set()


def test_the_picture_in_the_readme_is_what_the_demonstration_shows() -> None:
    picture = page("README.md").partition("$ git log --graph --oneline --all\n")[2]
    commits = [line for line in picture.partition("```")[0].split("\n") if "*" in line]
    assert {line.lstrip("*| ").partition(" ")[2] for line in commits} == HISTORY
