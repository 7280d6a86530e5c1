"""`.aynig/config.yaml`: YAML in, a frozen workflow out (docs/workflow.md has all keys).

states:
  review-needed:
    next: approved
    on-failure: changes-requested
    timeout: 30m
    role: reviewer
    env:
      DEPTH: full
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from aynig.configplaces import path_of
from aynig.configvalues import MAX_VALUE_BYTES, limit_of, role_of, several, state_of, text_of, word
from aynig.model import ENDED_STATES
from aynig.policyconfig import (
    POLICY_KEYS,
    agents_of,
    breaker_of,
    children_of,
    limits_of,
    policies_of,
    refuse_unrun,
    retries_of,
    signed_of,
)
from aynig.text import quote
from aynig.workflow import AUTONOMY, StateSettings, Workflow
from aynig.yamlfile import Given, Spot, known_pairs, lines_of, pairs, read_yaml

TOP_KEYS = (
    "states",
    "start",
    "agents",
    "retries",
    "breaker",
    "limits",
    "children",
    "people-only",
    "signed",
    "allowed-signers",
    "autonomy",
)
# What a state says of its own runs; the rest are policies.
RUN_KEYS = ("next", "on-failure", "timeout", "role", "env")
STATE_KEYS = RUN_KEYS + POLICY_KEYS

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


def parse_workflow(text: bytes | str, *, where: str) -> Workflow:
    """The workflow that a config file describes; an empty file describes an empty one.

    `where` names the file in errors, e.g. `.aynig/config.yaml at 3f2c9d1`. A setting without
    a value (YAML's null) is not given; a timeout of `none` is `math.inf`, no limit.

    Raises ConfigError: its one line says file, line, key path, expectation and finding.
    """
    root = read_yaml(text, where)
    return Workflow() if root is None else _workflow(known_pairs(root, TOP_KEYS))


def config_lines(text: bytes | str) -> Mapping[str, int]:
    """The line of each key path (`states.review.next`) of a file that can be parsed, from 1."""
    root = read_yaml(text, "config.yaml")
    return {} if root is None else dict(lines_of(root))


def _workflow(given: Given) -> Workflow:
    defaults = StateSettings(
        retries=given.read("retries", retries_of, None),
        breaker=given.read("breaker", breaker_of, None),
    )
    normal = Workflow()
    return Workflow(
        states=given.read("states", lambda spot: _states(spot, defaults), ()),
        defaults=defaults,
        agents=given.read("agents", agents_of, ()),
        limits=given.read("limits", limits_of, None),
        children=given.read("children", children_of, normal.children),
        people_only=given.read("people-only", several(state_of), ()),
        signed=given.read("signed", signed_of, False),
        allowed_signers=given.read("allowed-signers", path_of, normal.allowed_signers),
        autonomy=given.read("autonomy", word(AUTONOMY), None),
        start=given.read("start", several(state_of), ()),
    )


def _states(spot: Spot, defaults: StateSettings) -> tuple[tuple[str, StateSettings], ...]:
    found: list[tuple[str, StateSettings]] = []
    for name_spot, value in pairs(spot, "a mapping of states to settings"):
        name = state_of(name_spot)
        found.append((name, _over(defaults, _state_settings(name, value))))
    return tuple(found)


def _over(defaults: StateSettings, settings: StateSettings) -> StateSettings:
    """What a state says itself counts as a whole: nothing of the default is mixed into it."""
    return replace(
        settings,
        retries=settings.retries or defaults.retries,
        breaker=settings.breaker or defaults.breaker,
    )


def _state_settings(name: str, spot: Spot) -> StateSettings:
    given = known_pairs(spot, STATE_KEYS)
    if given and name in ENDED_STATES:
        raise spot.error(
            f"no settings, because {name} ends a task and is never run",
            hint="Name a state of your own in its place, such as `next: publish`.",
        )
    settings = StateSettings(
        next=given.read("next", state_of, None),
        on_failure=given.read("on-failure", state_of, None),
        timeout=given.read("timeout", limit_of, None),
        role=given.read("role", role_of, None),
        env=given.read("env", _env, ()),
    )
    settings = policies_of(given, settings)
    refuse_unrun(given, settings)
    return settings


def _env(spot: Spot) -> tuple[tuple[str, str], ...]:
    return tuple(
        (_variable(name), _value(value))
        for name, value in pairs(spot, "a mapping of variables to values")
    )


def _variable(spot: Spot) -> str:
    rule = "the name of a variable (letters, digits and _, no digit in front)"
    name = text_of(spot, rule, "Name a variable, such as REVIEW_DEPTH.")
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


def _value(spot: Spot) -> str:
    """The value of a variable, as it was written: `1.10` stays `1.10`."""
    rule = "a text, a number or a boolean"
    hint = 'Write one value; an empty one is "".'
    value = spot.scalar
    if value is None or spot.tag not in ("str", "int", "float", "bool", "timestamp"):
        raise spot.error(rule, hint=hint)
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise spot.error("a value without NUL and surrogates", hint="Remove the escape.")
    if len(value.encode()) > MAX_VALUE_BYTES:
        raise spot.complaint(
            f"expected at most {MAX_VALUE_BYTES // 1024} KiB, found {len(value.encode())} bytes",
            hint="Put the text into a file beside the script.",
        )
    return value
