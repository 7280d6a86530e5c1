"""A plan: tasks that are begun together, with what each waits for. YAML in, frozen tasks out.

    tasks:
      - name: extract
        state: fetch
        body: Get the numbers of this month.
      - name: load
        state: transform
        after: [extract, origin:release]
        to: coder
        priority: 5
        fields: {meta-month: "2024-05", reviewer: [ann, bob]}

A person submits one, and a script that starts children asks for them in the same words. What can be
said of the text alone is checked here; what refs and commits mean, whoever begins the tasks looks
up. The file is read as the workflow is (`yamlfile`): nothing of it is constructed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from aynig.answer import RESERVED_FIELDS
from aynig.configvalues import (
    NOT_PRINTABLE,
    agent_of,
    duration_of,
    line_of,
    resource_of,
    several,
    state_of,
    text_of,
    whole,
)
from aynig.cycles import find_cycle, in_order, shown
from aynig.errors import ConfigError
from aynig.git.names import is_ref
from aynig.model import HEADS, Field
from aynig.text import escape, quote
from aynig.yamlfile import Given, Spot, items, known_pairs, pairs, read_yaml

TASK_KEYS = (
    "name",
    "state",
    "body",
    "branch",
    "after",
    "to",
    "priority",
    "deadline",
    "resource",
    "fields",
    "from",
)
# Fields with a key of their own in a plan, or that whoever begins the tasks writes.
_OWN_KEYS: Mapping[str, str] = {
    "depends-on": "after",
    "assigned-to": "to",
    "priority": "priority",
    "deadline": "deadline",
    "resource": "resource",
}
_NOT_ASKED_FOR = frozenset({"parent", "begins", "retry-of", "reopens", "reopened-by"})
_FIELD_KEY = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class PlannedTask:
    """One task of a plan."""

    name: str
    state: str
    # Where the plan has the task, for errors: `plan.yaml, line 7: tasks[1]`.
    source: str
    body: str = ""
    # None: called as the task is.
    branch: str | None = None
    # The names of those tasks of the same plan that it waits for.
    needs: tuple[str, ...] = ()
    # What else it waits for: oids, branches, `REMOTE:BRANCH`, as they were written.
    after: tuple[str, ...] = ()
    to: str | None = None
    priority: int | None = None
    # As it was written; a duration.
    deadline: str | None = None
    resources: tuple[str, ...] = ()
    fields: tuple[Field, ...] = ()
    # The commit that the branch begins at; None: whoever begins it decides.
    start: str | None = None

    @property
    def target(self) -> str:
        """The branch that the plan names for it."""
        return self.branch if self.branch is not None else self.name


@dataclass(frozen=True, slots=True)
class PlanFile:
    """The tasks of a plan, each after those of the plan that it waits for."""

    tasks: tuple[PlannedTask, ...]


def parse_plan(text: bytes | str, where: str) -> PlanFile:
    """The plan that a text describes; `where` names it in errors, e.g. `plan.yaml`.

    Raises ConfigError for anything malformed: its one line says file, line, key path, expectation
    and finding.
    """
    root = read_yaml(text, where)
    given = known_pairs(root, ("tasks",)) if root is not None else {}
    spot = given.get("tasks")
    if spot is None:
        raise ConfigError(f"{where}: expected a list of tasks, found none", hint=_EXAMPLE)
    if not spot.is_list:
        raise spot.error("a list of tasks", hint=_EXAMPLE)
    spots = items(spot)
    if not spots:
        raise spot.complaint("expected a task, found none", hint=_EXAMPLE)
    found = [(entry, known_pairs(entry, TASK_KEYS)) for entry in spots]
    names = _names(found)
    tasks = [_task(entry, keys, names) for entry, keys in found]
    _refuse_conflicts(spots, tasks)
    return PlanFile(tuple(_ordered(spot, tasks)))


_EXAMPLE = "Write `tasks:` and below it a list: `- {name: build, state: make, after: [fetch]}`."


def _names(found: Iterable[tuple[Spot, Mapping[str, Spot]]]) -> frozenset[str]:
    names: dict[str, Spot] = {}
    for entry, keys in found:
        if "name" not in keys:
            raise entry.complaint("expected the key name", hint="Name the task, as its branch.")
        name = _branch(keys["name"])
        if name in names:
            raise keys["name"].complaint(
                f"expected each name once, found {quote(name)} again "
                f"(first on line {names[name].line})",
                hint="Rename one of the two.",
            )
        names[name] = keys["name"]
    return frozenset(names)


def _task(entry: Spot, keys: Given, names: frozenset[str]) -> PlannedTask:
    if "state" not in keys:
        raise entry.complaint("expected the key state", hint="Name the state that it begins in.")
    name = _branch(keys["name"])
    after = keys.read("after", several(_waited_for), ())
    if name in after:
        raise keys["after"].complaint(f"{quote(name)} waits for itself", hint="Leave it out.")
    return PlannedTask(
        name=name,
        state=state_of(keys["state"]),
        source=f"{entry.where}, line {entry.line}: {entry.path}",
        body=keys.read("body", _body, ""),
        branch=keys.read("branch", _branch, None),
        needs=tuple(each for each in after if each in names),
        after=tuple(each for each in after if each not in names),
        to=keys.read("to", agent_of, None),
        priority=keys.read("priority", whole(-100, 100), None),
        deadline=keys.read("deadline", _deadline, None),
        resources=keys.read("resource", several(resource_of), ()),
        fields=keys.read("fields", _fields, ()),
        start=keys.read("from", _revision, None),
    )


def _branch(spot: Spot) -> str:
    rule = "the name of a branch"
    hint = "See git-check-ref-format(1); a name such as build-docs will do."
    # `name: 1` is as good a name as any; YAML's idea of what it is counts for nothing.
    name = spot.scalar if spot.tag in ("str", "int", "float") else None
    if not name or NOT_PRINTABLE.search(name):
        raise spot.error(rule, hint=hint)
    if not is_ref(HEADS + name) or name.startswith("-") or name == "HEAD":
        raise spot.error(rule, hint=hint)
    return name


def _waited_for(spot: Spot) -> str:
    hint = "Name a task of this plan, a branch, an oid or REMOTE:BRANCH."
    # An oid may be all digits.
    if spot.scalar is not None and spot.tag == "int":
        return spot.scalar
    return line_of(spot, "a task or a revision to wait for", hint)


def _revision(spot: Spot) -> str:
    if spot.scalar is not None and spot.tag == "int":
        return spot.scalar
    return line_of(spot, "a revision to begin at", "Name a branch, a tag or an oid.")


def _body(spot: Spot) -> str:
    hint = "Write the prompt as a text; `body: |` and indented lines below for several."
    text = text_of(spot, "a text", hint)
    if "\0" in text or any("\ud800" <= one <= "\udfff" for one in text):
        raise spot.error("a text without NUL and surrogates", hint="Remove the escape.")
    return text


def _deadline(spot: Spot) -> str:
    duration_of(spot)
    return (spot.scalar or "").strip()


def _fields(spot: Spot) -> tuple[Field, ...]:
    found: list[Field] = []
    for key_spot, value in pairs(spot, "a mapping of fields to values"):
        key = _field_key(key_spot, value)
        found += [Field(key, _field_value(each)) for each in items(value)]
    return tuple(found)


def _field_key(spot: Spot, value: Spot) -> str:
    key = spot.scalar or ""
    if not _FIELD_KEY.fullmatch(key):
        hint = "Use a-z, 0-9, - and _, the first a letter or digit."
        raise spot.error("the key of a field", hint=hint)
    if key in _OWN_KEYS:
        raise value.complaint(
            f"the field {key} has a key of its own in a plan: {_OWN_KEYS[key]}",
            hint=f"Write `{_OWN_KEYS[key]}:` beside `fields:`.",
        )
    if key in RESERVED_FIELDS | _NOT_ASKED_FOR:
        raise value.complaint(
            f"{key} is a field that only aynig writes",
            hint=f"Choose another name, such as meta-{key}.",
        )
    return key


def _field_value(spot: Spot) -> str:
    """As it was written: `1.10` stays `1.10`."""
    rule = "a text, a number or a boolean on one line"
    hint = "Write one line; a longer text belongs into the body."
    text = spot.scalar
    if text is None or spot.tag not in ("str", "int", "float", "bool", "timestamp"):
        raise spot.error(rule, hint=hint)
    if NOT_PRINTABLE.search(text):
        raise spot.error(rule, hint=hint)
    return text.strip()


# --- all tasks together ------------------------------------------------------------------------


def _refuse_conflicts(spots: Iterable[Spot], tasks: Iterable[PlannedTask]) -> None:
    """Two tasks of one branch, and a branch where another one is a folder: refs are files."""
    taken: dict[str, str] = {}
    tasks = list(tasks)
    for spot, task in zip(spots, tasks, strict=True):
        if task.target in taken:
            raise spot.complaint(
                f"the branch {quote(task.target)} is that of {quote(taken[task.target])} as well",
                hint="Name another branch.",
            )
        taken[task.target] = task.name
    for spot, task in zip(spots, tasks, strict=True):
        parts = task.target.split("/")
        for number in range(1, len(parts)):
            above = "/".join(parts[:number])
            if above in taken:
                raise spot.complaint(
                    f"the branch {quote(task.target)} can't be made beside {quote(above)}",
                    hint="Choose another name.",
                )


def _ordered(spot: Spot, tasks: list[PlannedTask]) -> list[PlannedTask]:
    by_name = {task.name: task for task in tasks}
    needs = {task.name: task.needs for task in tasks}
    cycle = find_cycle(needs, lambda name: needs[name])
    if cycle:
        raise spot.complaint(
            f"{escape(cycle[0])} waits for itself: {shown(cycle)}",
            hint="Leave one of these out of `after`.",
        )
    return [by_name[name] for name in in_order(needs)]
