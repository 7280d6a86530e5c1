"""A plan in Markdown: a list of items with boxes, as people write and read it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

# GitHub Flavored Markdown 5.3, task list items.
_ITEM = re.compile(r"[ \t]*(?:[-*+]|[0-9]{1,9}[.)])[ \t]+\[([ xX])\][ \t]+(\S.*?)[ \t]*")
_FENCE = re.compile(r"[ \t]*(?:`{3,}|~{3,})")


@dataclass(frozen=True, slots=True)
class Item:
    """One item: its text, and whether its box is checked."""

    text: str
    checked: bool


def items(text: str) -> tuple[Item, ...]:
    """The items of a plan in their order; examples in code blocks are none."""
    found = []
    fenced = False
    for line in text.splitlines():
        if _FENCE.match(line):
            fenced = not fenced
        match = None if fenced else _ITEM.fullmatch(line)
        if match is not None:
            found.append(Item(match[2], match[1] != " "))
    return tuple(found)


def next_item(plan: tuple[Item, ...]) -> str | None:
    """The text of the first item that is not checked; None where all are, and where none is."""
    return next((item.text for item in plan if not item.checked), None)


def all_checked(plan: tuple[Item, ...], given: tuple[Item, ...]) -> bool:
    """Is all done that a person has put on the plan?

    `given` is the plan as a person last left it: whoever works by it may add items and reword them,
    but not come to the end by taking some away.
    """
    checked = sum(item.checked for item in plan)
    return checked > 0 and checked == len(plan) and checked >= len(given)
