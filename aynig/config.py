"""`.aynig/config.yaml`: YAML in, a frozen workflow out.

    states:
      review-needed:
        next: approved
        on-failure: changes-requested
        timeout: 30m
        role: reviewer
        env:
          DEPTH: full

The file may come from whoever pushed, so nothing of it is constructed: the YAML is read as a
tree of nodes, without anchors and to a small depth, and each node is checked where it is used.
That also keeps values as they were written: `1.10` is not 1.1, and `no` in `env` stays `no`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import yaml
from yaml.error import Mark, MarkedYAMLError, YAMLError
from yaml.nodes import MappingNode, Node, ScalarNode
from yaml.reader import ReaderError

from aynig.durations import EXAMPLES, parse_limit
from aynig.errors import ConfigError
from aynig.model import (
    ENDED_STATES,
    RESERVED_STATES,
    ROLE_PATTERN,
    STATE_PATTERN,
)
from aynig.text import nearest, quote
from aynig.workflow import StateSettings, Workflow

MAX_BYTES = 256 * 1024
# What a file of that size may cost: reading 20,000 nodes takes about half a second.
MAX_NODES = 20_000
# The deepest right value is at 5; some more, so that a list in its place is called a list.
MAX_DEPTH = 12
# Below the kernel's limit of 128 KiB for one variable, with room for its name.
MAX_VALUE_BYTES = 120 * 1024

STATE_KEYS = ("next", "on-failure", "timeout", "role", "env")

# What git keeps for one repository only: `git rev-parse --local-env-vars`, and the
# quarantine of a push (git-receive-pack(1)), which that list leaves out. A script that had one
# of them would work on another repository than its own.
LOCAL_GIT_VARIABLES = frozenset(
    {
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_COMMON_DIR",
        "GIT_CONFIG",
        "GIT_CONFIG_COUNT",
        "GIT_CONFIG_PARAMETERS",
        "GIT_DIR",
        "GIT_GRAFT_FILE",
        "GIT_IMPLICIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_INTERNAL_SUPER_PREFIX",
        "GIT_NO_REPLACE_OBJECTS",
        "GIT_OBJECT_DIRECTORY",
        "GIT_PREFIX",
        "GIT_QUARANTINE_PATH",
        "GIT_REPLACE_REF_BASE",
        "GIT_SHALLOW_FILE",
        "GIT_WORK_TREE",
    }
)

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NAME_RULE = "a-z, 0-9, - and _, at most 64 characters"
_TAGS = "tag:yaml.org,2002:"
_QUOTE = 'Quote it: "{}"'


def parse_workflow(text: bytes | str, *, where: str) -> Workflow:
    """The workflow that a config file describes; an empty file describes an empty one.

    `where` names the file in errors, e.g. `.aynig/config.yaml at 3f2c9d1`. A setting without
    a value (YAML's null) is not given; a timeout of `none` is `math.inf`, no limit.

    Raises ConfigError: its one line says file, line, key path, expectation and finding.
    """
    root = _document(_decoded(text, where), where)
    if root is None:
        return Workflow()
    top = _Spot(where, root, "")
    states: list[tuple[str, StateSettings]] = []
    for _, value in _known_pairs(top, ("states",)):
        for name_spot, spot in _pairs(value, "a mapping of states to settings"):
            name = _state(name_spot)
            states.append((name, _state_settings(name, spot)))
    return Workflow(tuple(states))


@dataclass(frozen=True, slots=True)
class _Spot:
    """A node and how people find it: file, and key path (empty for the whole file)."""

    where: str
    node: Node
    path: str

    @property
    def tag(self) -> str:
        """The node's type in YAML's own words: `str`, `int`, `bool`, `null`, `map`…"""
        return self.node.tag.removeprefix(_TAGS)

    def error(self, expected: str, *, hint: str) -> ConfigError:
        return self.complaint(f"expected {expected}, found {_finding(self)}", hint=hint)

    def complaint(self, text: str, *, hint: str) -> ConfigError:
        subject = f"{self.path}: " if self.path else ""
        place = _place(self.where, self.node.start_mark)
        return ConfigError(f"{place}: {subject}{text}", hint=hint)


def _place(where: str, mark: Mark | None) -> str:
    return where if mark is None else f"{where}, line {mark.line + 1}"


def _finding(spot: _Spot) -> str:
    if not isinstance(spot.node, ScalarNode):
        return "a mapping" if isinstance(spot.node, MappingNode) else "a list"
    text = quote(str(spot.node.value))
    if spot.tag == "null":
        return "nothing"
    if spot.tag == "str":
        return text
    words = {"bool": "boolean", "int": "number", "float": "number", "timestamp": "date"}
    if spot.tag in words:
        return f"the {words[spot.tag]} {text[1:-1]}"
    return f"{text} with the tag {quote(spot.node.tag)}"


# From text to nodes.


class _Loader(yaml.SafeLoader):
    """Only composes nodes, and refuses what makes a small file large or a stack deep."""

    depth = 0
    nodes = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "anchor", None) is not None:
            raise _Refused(
                "anchors and aliases (& and *) are not allowed",
                event.start_mark,
                "Write the value out where it is needed, or quote a text that begins with & or *.",
            )
        if self.depth >= MAX_DEPTH:
            raise _Refused(
                f"nested more than {MAX_DEPTH} levels deep", event.start_mark, "Nest less deeply."
            )
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise _Refused(f"more than {MAX_NODES} values", event.start_mark, "Shorten the file.")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Refused(MarkedYAMLError):
    def __init__(self, problem: str, mark: Mark, hint: str) -> None:
        super().__init__(problem=problem, problem_mark=mark)
        self.hint = hint


def _decoded(text: bytes | str, where: str) -> str:
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if len(data) > MAX_BYTES:
        raise ConfigError(
            f"{where}: expected at most {MAX_BYTES // 1024} KiB, found {len(data)} bytes",
            hint="Shorten the file; long texts belong into files beside the scripts.",
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{where}, line {line}: expected UTF-8, found the byte 0x{data[error.start]:02x}",
            hint="Save the file as UTF-8.",
        ) from error


def _document(text: str, where: str) -> Node | None:
    """The root node of the one document in `text`, None where there is none."""
    loader = None
    try:
        loader = _Loader(text)
        return loader.get_single_node()
    except _Refused as error:
        raise ConfigError(
            f"{_place(where, error.problem_mark)}: {error.problem}", hint=error.hint
        ) from error
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(
            f"{where}, line {line}: the character {quote(text[error.position])} is not allowed",
            hint='Write it as an escape in double quotes, such as "\\x1b".',
        ) from error
    except MarkedYAMLError as error:
        raise _malformed(where, error) from error
    except (YAMLError, ValueError, OverflowError) as error:
        # The scanner lets a few slip through: the escape "\UFFFFFFFF" is no character.
        place = _place(where, loader.get_mark() if loader else None)
        raise ConfigError(
            f"{place}: expected YAML, found an escape that is no character", hint=_MEND
        ) from error
    finally:
        if loader:
            loader.dispose()


_MEND = "Mend the YAML; indent with spaces, and quote texts with special characters."


def _malformed(where: str, error: MarkedYAMLError) -> ConfigError:
    place = _place(where, error.problem_mark or error.context_mark)
    problem = error.problem or "a syntax error"
    if "'\\t'" in problem:
        return ConfigError(
            f"{place}: expected spaces for indentation, found a tab",
            hint="Replace the tabs by spaces.",
        )
    if problem == "but found another document":
        return ConfigError(
            f"{place}: expected one document, found another", hint="Remove the line `---`."
        )
    context = f"{error.context}: " if error.context else ""
    return ConfigError(f"{place}: expected YAML, {context}{problem}", hint=_MEND)


# From nodes to settings.


def _pairs(spot: _Spot, expected: str) -> Iterator[tuple[_Spot, _Spot]]:
    """Key and value of each entry of a mapping, in order; nothing for null."""
    if spot.tag == "null":
        return
    if not isinstance(spot.node, MappingNode) or spot.tag != "map":
        hint = "Write `key: value` lines, indented by spaces below the key."
        raise spot.error(expected, hint=hint)
    seen: dict[str, Node] = {}
    for key, value in spot.node.value:
        key_spot = _Spot(spot.where, key, spot.path)
        text = _key_text(key_spot)
        below = f"{spot.path}.{text}" if spot.path else text
        if key.value in seen:
            first = seen[key.value].start_mark.line + 1
            raise _Spot(spot.where, key, below).complaint(
                f"expected each key once, found it again (first on line {first})",
                hint="Remove one of the two.",
            )
        seen[key.value] = key
        yield key_spot, _Spot(spot.where, value, below)


def _key_text(spot: _Spot) -> str:
    """A key as it stands in a key path."""
    if not isinstance(spot.node, ScalarNode):
        raise spot.error("a text as key", hint="Write `key: value`; quote braces and brackets.")
    text = str(spot.node.value)
    return text if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text) else quote(text)


def _known_pairs(spot: _Spot, known: tuple[str, ...]) -> Iterator[tuple[str, _Spot]]:
    for key_spot, value in _pairs(spot, "a mapping"):
        key = str(key_spot.node.value)
        if key not in known:
            near = nearest(key, known)
            meant = f", did you mean {near}?" if near else ""
            raise _Spot(spot.where, key_spot.node, value.path).complaint(
                f"unknown key{meant}", hint=f"Keys that exist here: {', '.join(known)}."
            )
        yield key, value


def _state_settings(name: str, spot: _Spot) -> StateSettings:
    given = {key: value for key, value in _known_pairs(spot, STATE_KEYS) if value.tag != "null"}
    if given and name in ENDED_STATES:
        raise spot.error(
            f"no settings, because {name} ends a task and is never run",
            hint="Name a state of your own in its place, such as `next: publish`.",
        )
    next_state, on_failure = given.get("next"), given.get("on-failure")
    timeout, role, env = given.get("timeout"), given.get("role"), given.get("env")
    return StateSettings(
        next=_state(next_state) if next_state else None,
        on_failure=_state(on_failure) if on_failure else None,
        timeout=_timeout(timeout) if timeout else None,
        role=_role(role) if role else None,
        env=_env(env) if env else (),
    )


def _text(spot: _Spot, expected: str, hint: str) -> str:
    """The text of a node that YAML takes for text, and not for a boolean or a number."""
    if not isinstance(spot.node, ScalarNode):
        raise spot.error(expected, hint=hint)
    text = str(spot.node.value)
    if spot.tag != "str":
        raise spot.error(expected, hint=_QUOTE.format(text) if len(text) < 40 and text else hint)
    return text


def _state(spot: _Spot) -> str:
    rule = f"a state ({_NAME_RULE})"
    name = _text(spot, rule, "Name a state, such as review-needed.")
    if not STATE_PATTERN.fullmatch(name):
        raise spot.error(rule, hint="Rename the state: it is the name of its script's file.")
    if name in RESERVED_STATES:
        raise spot.complaint(f"the state {name} is reserved", hint="Choose another name.")
    return name


def _role(spot: _Spot) -> str:
    rule = f"a role ({_NAME_RULE})"
    name = _text(spot, rule, "Name a role, such as reviewer.")
    if not ROLE_PATTERN.fullmatch(name):
        raise spot.error(rule, hint="Rename the role: it is the name of a folder.")
    return name


def _timeout(spot: _Spot) -> float:
    rule = f"a duration such as {EXAMPLES}, or none"
    if not isinstance(spot.node, ScalarNode) or spot.tag not in ("str", "int", "float"):
        raise spot.error(rule, hint="Write a duration above 0; a bare number is seconds.")
    try:
        return parse_limit(str(spot.node.value))
    except ValueError as error:
        raise spot.error(
            rule, hint="Write a duration above 0; a bare number is seconds."
        ) from error


def _env(spot: _Spot) -> tuple[tuple[str, str], ...]:
    return tuple(
        (_variable(name), _value(value))
        for name, value in _pairs(spot, "a mapping of variables to values")
    )


def _variable(spot: _Spot) -> str:
    rule = "the name of a variable (letters, digits and _, no digit in front)"
    name = _text(spot, rule, "Name a variable, such as REVIEW_DEPTH.")
    if not _VARIABLE.fullmatch(name):
        raise spot.error(rule, hint="Rename the variable.")
    if name.startswith("AYNIG_"):
        raise spot.complaint(
            f"expected no variable of aynig's own, found {quote(name)}",
            hint="Choose a name that does not begin with AYNIG_.",
        )
    if name in LOCAL_GIT_VARIABLES:
        raise spot.complaint(
            f"expected no variable that points git at a repository, found {quote(name)}",
            hint="Remove it: a script always works on its own worktree.",
        )
    return name


def _value(spot: _Spot) -> str:
    """The value of a variable, as it was written: `1.10` stays `1.10`."""
    rule = "a text, a number or a boolean"
    hint = 'Write one value; an empty one is "".'
    if spot.tag not in ("str", "int", "float", "bool", "timestamp"):
        raise spot.error(rule, hint=hint)
    if not isinstance(spot.node, ScalarNode):
        raise spot.error(rule, hint=hint)
    value = str(spot.node.value)
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise spot.error("a value without NUL and surrogates", hint="Remove the escape.")
    if len(value.encode()) > MAX_VALUE_BYTES:
        raise spot.complaint(
            f"expected at most {MAX_VALUE_BYTES // 1024} KiB, found {len(value.encode())} bytes",
            hint="Put the text into a file beside the script.",
        )
    return value
