"""YAML as a tree of nodes, each with its place: nothing of a file is constructed.

The file may come from whoever pushed, so it is read without anchors, to a small depth and to a
bounded number of values, and each node is checked where it is used. That also keeps values as they
were written: `1.10` is not 1.1, and `no` in a text stays `no`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import yaml
from yaml.error import Mark, MarkedYAMLError, YAMLError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.reader import ReaderError

from aynig.errors import ConfigError
from aynig.text import nearest, quote

_T = TypeVar("_T")
_Default = TypeVar("_Default")

MAX_BYTES = 256 * 1024
# What a file of that size may cost: reading 20,000 nodes takes about half a second.
MAX_NODES = 20_000
# The deepest right value is at 7; some more, so that a list in its place is called a list.
MAX_DEPTH = 12

_MEND = "Mend the YAML; indent with spaces, and quote texts with special characters."
_TAGS = "tag:yaml.org,2002:"
_BELOW = "Write `key: value` lines, indented by spaces below the key."


class PlacedError(ConfigError):
    """A ConfigError that can tell its place apart: a line from 1, a key path; both may be none."""

    def __init__(self, where: str, line: int | None, path: str, text: str, *, hint: str) -> None:
        place = where if line is None else f"{where}, line {line}"
        super().__init__(f"{place}: {f'{path}: ' if path else ''}{text}", hint=hint)
        self.line = line
        self.path = path
        self.text = text


@dataclass(frozen=True, slots=True)
class Spot:
    """A node and how people find it: file, and key path (empty for the whole file)."""

    where: str
    node: Node
    path: str

    @property
    def tag(self) -> str:
        """The node's type in YAML's own words: `str`, `int`, `bool`, `null`, `map`…"""
        return self.node.tag.removeprefix(_TAGS)

    @property
    def line(self) -> int:
        """From 1."""
        return _line(self.node.start_mark) or 1

    @property
    def scalar(self) -> str | None:
        """What was written, for a single value; None for a mapping or a list."""
        return str(self.node.value) if isinstance(self.node, ScalarNode) else None

    @property
    def is_list(self) -> bool:
        """Is it a list, and not tagged as something else?"""
        return isinstance(self.node, SequenceNode) and self.tag == "seq"

    @property
    def is_mapping(self) -> bool:
        """Is it a mapping, and not tagged as something else?"""
        return isinstance(self.node, MappingNode) and self.tag == "map"

    def error(self, expected: str, *, hint: str) -> ConfigError:
        """What was expected here, and what stands here."""
        return self.complaint(f"expected {expected}, found {_finding(self)}", hint=hint)

    def complaint(self, text: str, *, hint: str) -> ConfigError:
        """Any other sentence on this place."""
        return PlacedError(self.where, self.line, self.path, text, hint=hint)


def read_yaml(text: bytes | str, where: str) -> Spot | None:
    """The root of the one document in a file, None for a file that says nothing.

    Raises ConfigError with file and line for what is no YAML, or more than a workflow needs.
    """
    root = _document(_decoded(text, where), where)
    return None if root is None else Spot(where, root, "")


def pairs(spot: Spot, expected: str) -> Iterator[tuple[Spot, Spot]]:
    """Key and value of each entry of a mapping, in order; nothing for null.

    Raises ConfigError for what is no mapping, and for a key that stands there twice.
    """
    if spot.tag == "null":
        return
    if not isinstance(spot.node, MappingNode) or spot.tag != "map":
        raise spot.error(expected, hint=_BELOW)
    seen: dict[str, Node] = {}
    for key, value in spot.node.value:
        text = _key_text(Spot(spot.where, key, spot.path))
        below = f"{spot.path}.{text}" if spot.path else text
        if key.value in seen:
            first = seen[key.value].start_mark.line + 1
            raise Spot(spot.where, key, below).complaint(
                f"expected each key once, found it again (first on line {first})",
                hint="Remove one of the two.",
            )
        seen[key.value] = key
        yield Spot(spot.where, key, spot.path), Spot(spot.where, value, below)


class Given(dict[str, Spot]):
    """What a mapping says of the keys that it may have; null says nothing."""

    def read(self, key: str, how: Callable[[Spot], _T], otherwise: _Default) -> _T | _Default:
        """The value of a key, read by `how`; `otherwise` where it is not given."""
        spot = self.get(key)
        return how(spot) if spot is not None else otherwise


def known_pairs(spot: Spot, known: tuple[str, ...]) -> Given:
    """What a mapping says of its keys.

    Raises ConfigError for a key that it may not have, with the one that was meant.
    """
    given = Given()
    for key_spot, value in pairs(spot, "a mapping"):
        key = str(key_spot.node.value)
        if key not in known:
            near = nearest(key, known)
            meant = f", did you mean {near}?" if near else ""
            raise Spot(spot.where, key_spot.node, value.path).complaint(
                f"unknown key{meant}", hint=f"Keys that exist here: {', '.join(known)}."
            )
        if value.tag != "null":
            given[key] = value
    return given


def items(spot: Spot) -> tuple[Spot, ...]:
    """The entries of a list, `path[0]` and on; what is no list is the only entry of one."""
    if not isinstance(spot.node, SequenceNode) or not spot.is_list:
        return (spot,)
    return tuple(
        Spot(spot.where, node, f"{spot.path}[{number}]")
        for number, node in enumerate(spot.node.value)
    )


def lines_of(spot: Spot) -> Iterator[tuple[str, int]]:
    """Every key path of a tree with the line that it stands on, from 1."""
    if isinstance(spot.node, MappingNode):
        for key, value in pairs(spot, "a mapping"):
            yield value.path, key.line
            yield from lines_of(value)
    elif spot.is_list:
        for entry in items(spot):
            yield entry.path, entry.line
            yield from lines_of(entry)


def _key_text(spot: Spot) -> str:
    """A key as it stands in a key path."""
    if spot.scalar is None:
        raise spot.error("a text as key", hint="Write `key: value`; quote braces and brackets.")
    text = spot.scalar
    return text if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text) else quote(text)


def _line(mark: Mark | None) -> int | None:
    return None if mark is None else mark.line + 1


def _finding(spot: Spot) -> str:
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
        raise PlacedError(
            where,
            None,
            "",
            f"expected at most {MAX_BYTES // 1024} KiB, found {len(data)} bytes",
            hint="Shorten the file; long texts belong into files beside the scripts.",
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found = f"expected UTF-8, found the byte 0x{data[error.start]:02x}"
        raise PlacedError(where, line, "", found, hint="Save the file as UTF-8.") from error


def _document(text: str, where: str) -> Node | None:
    """The root node of the one document in `text`, None where there is none."""
    loader = None
    try:
        loader = _Loader(text)
        return loader.get_single_node()
    except _Refused as error:
        line, problem = _line(error.problem_mark), str(error.problem)
        raise PlacedError(where, line, "", problem, hint=error.hint) from error
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        found = f"the character {quote(text[error.position])} is not allowed"
        hint = 'Write it as an escape in double quotes, such as "\\x1b".'
        raise PlacedError(where, line, "", found, hint=hint) from error
    except MarkedYAMLError as error:
        raise _malformed(where, error) from error
    except (YAMLError, ValueError, OverflowError) as error:
        # The scanner lets a few slip through: the escape "\UFFFFFFFF" is no character.
        line = _line(loader.get_mark() if loader else None)
        found = "expected YAML, found an escape that is no character"
        raise PlacedError(where, line, "", found, hint=_MEND) from error
    finally:
        if loader:
            loader.dispose()


def _malformed(where: str, error: MarkedYAMLError) -> ConfigError:
    line = _line(error.problem_mark or error.context_mark)
    problem = error.problem or "a syntax error"
    context = f"{error.context}: " if error.context else ""
    text, hint = f"expected YAML, {context}{problem}", _MEND
    if "'\\t'" in problem:
        text = "expected spaces for indentation, found a tab"
        hint = "Replace the tabs by spaces."
    elif problem == "but found another document":
        text, hint = "expected one document, found another", "Remove the line `---`."
    return PlacedError(where, line, "", text, hint=hint)
