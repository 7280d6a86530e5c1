"""What a state script gets (design section 1.3): its environment and the files it names."""

from __future__ import annotations

import functools
import json
import math
import os
import shutil
import sysconfig
from collections.abc import Iterable, Mapping
from typing import Any

from aynig.dialects import DWP
from aynig.git.repo import Identity
from aynig.model import Attempt, LoopFacts, Plan, Statement
from aynig.runs import RunFolder
from aynig.text import variable_name

# MAX_ARG_STRLEN of execve(2) is 32 pages for `NAME=value` and the NUL behind it.
_LONGEST_VARIABLE = 131_072 - 1
# What `dwp-log-level` may ask for.
_LOG_LEVELS = ("debug", "info", "warn", "error")


def script_environment(
    plan: Plan,
    run: RunFolder,
    *,
    outside: Mapping[str, str],
    ceiling: str,
    log_level: str,
    identity: Identity | None,
    told: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The whole environment of a script; the arguments are those of `plain_environment`."""
    found = plain_environment(outside, ceiling, identity)
    found.update(plan.settings.env)
    found.update(_trailer_variables(plan.event.statement))
    event = plan.event
    body = event.statement.body
    found |= {
        "AYNIG_STATE": event.state,
        "AYNIG_BRANCH": event.branch,
        "AYNIG_COMMIT_HASH": event.origin,
        "AYNIG_RUN_ID": run.run,
        "AYNIG_ATTEMPT": str(plan.attempt),
        "AYNIG_ROLE": plan.role,
        "AYNIG_LOG_LEVEL": _log_level(event.statement, log_level),
        "AYNIG_HOME": plan.script.home,
        "AYNIG_BODY_FILE": str(run.body),
        "AYNIG_CONTEXT": str(run.context),
        "AYNIG_RESPONSE": str(run.response),
        "AYNIG_CHILDREN": str(run.children),
        "AYNIG_USAGE": str(run.usage),
    }
    found |= {name: text for name, text in (told or {}).items() if _fits(name, text)}
    if _fits("AYNIG_BODY", body):
        found["AYNIG_BODY"] = body
    elif event.statement.dialect == DWP.name:
        # Scripts of that dialect count on it: what fits, and the whole of it in the file.
        found["AYNIG_BODY"] = _beginning(body, _LONGEST_VARIABLE - len("AYNIG_BODY="))
    return found


def plain_environment(
    outside: Mapping[str, str], ceiling: str, identity: Identity | None
) -> dict[str, str]:
    """What every program gets that aynig starts in a worktree.

    `outside` is our own, of which all `GIT_*` and `AYNIG_*` variables are left out: a hook's
    `GIT_DIR` would send the script's git commands to another repository. `ceiling` keeps a
    script that loses its `.git` file from finding a repository above its worktree. `identity`
    is given where git has none configured, so that the script can commit. `told` are variables
    that depend on what went before: see `circumstances`.
    """
    found = {
        name: value for name, value in outside.items() if not name.startswith(("GIT_", "AYNIG_"))
    }
    found["PATH"] = _path_with_aynig(found.get("PATH", os.defpath))
    found["GIT_CEILING_DIRECTORIES"] = ceiling
    # `git commit` would start it in the background, where it is a stray that ends with the script
    # and leaves `objects/maintenance.lock`, which keeps the user's git from it for ever.
    found |= {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "maintenance.auto",
        "GIT_CONFIG_VALUE_0": "false",
    }
    if identity is not None:
        for role in ("AUTHOR", "COMMITTER"):
            found[f"GIT_{role}_NAME"] = identity.name
            found[f"GIT_{role}_EMAIL"] = identity.email
    return found


def circumstances(feedback: str, loop: LoopFacts | None) -> dict[str, str]:
    """The variables that tell a script what went before: the last failure, its place in a loop."""
    found = {"AYNIG_FEEDBACK": feedback}
    if loop is not None:
        found |= {
            "AYNIG_ITERATION": str(loop.number),
            "AYNIG_ITERATIONS": str(loop.limit),
            "AYNIG_PLAN_ITEM": loop.item or "",
        }
    return found


def _beginning(text: str, size: int) -> str:
    """As much of a text as fits into so many bytes, in whole characters."""
    data = os.fsencode(text)
    # The first byte that is left out begins a character, as three of any four in UTF-8 don't.
    end = next((at for at in range(size, size - 4, -1) if data[at] & 0xC0 != 0x80), size)
    return os.fsdecode(data[:end])


def _log_level(statement: Statement, given: str) -> str:
    """Ours, unless a message in dwp asks for one of those that the dialect knows."""
    asked = statement.value("log-level") if statement.dialect == DWP.name else None
    return asked if asked in _LOG_LEVELS else given


@functools.cache
def _path_with_aynig(path: str) -> str:
    """PATH, at its end the folder of our own program where it is not found: scripts call it.

    Looked up once: it costs a tenth of a millisecond, and every script has the same.
    """
    if shutil.which("aynig", path=path):
        return path
    return f"{path}{os.pathsep}{sysconfig.get_path('scripts')}"


def _trailer_variables(statement: Statement) -> dict[str, str]:
    joined: dict[str, list[str]] = {}
    for key, value in [*statement.fields, *statement.trailers]:
        joined.setdefault(variable_name(key), []).append(value)
    separator = "\n"
    if statement.dialect == DWP.name:
        # Its scripts know the keys as they stand in the message, and commas between values.
        separator = ","
        joined[variable_name(DWP.state_key)] = [statement.state]
        for key, value in statement.fields:
            joined.setdefault(variable_name(DWP.field_prefix + key), []).append(value)
    texts = {name: separator.join(values) for name, values in joined.items()}
    return {name: text for name, text in texts.items() if _fits(name, text)}


def _fits(name: str, value: str) -> bool:
    return len(os.fsencode(name)) + len(os.fsencode(value)) + 1 <= _LONGEST_VARIABLE


def script_context(
    plan: Plan,
    run: RunFolder,
    *,
    repository: str,
    parents: Iterable[str],
    previous: Mapping[str, Any] | None,
    dependencies: Iterable[Mapping[str, Any]],
    loop: LoopFacts | None = None,
    children: Iterable[Mapping[str, Any]] = (),
    conversation: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What the file `$AYNIG_CONTEXT` holds: everything, unabridged."""
    event, statement = plan.event, plan.event.statement
    return {
        "version": 1,
        "repository": repository,
        "branch": event.branch,
        "ref": event.ref,
        "state": event.state,
        "dialect": statement.dialect,
        "commit": {
            "oid": event.origin,
            "tree": event.tree,
            "parents": list(parents),
            "time": event.time,
        },
        "subject": statement.subject,
        "body": statement.body,
        "fields": fields_with_repeats(statement),
        "trailers": [{"key": key, "value": value} for key, value in statement.trailers],
        "run": run.run,
        "attempt": plan.attempt,
        "role": plan.role,
        "script": {"path": plan.script.path, "oid": plan.script.oid},
        "workflow": {
            "next": plan.settings.next,
            "on-failure": plan.settings.on_failure,
            "timeout": None if math.isinf(plan.timeout) else plan.timeout,
            "env": dict(plan.settings.env),
        },
        "loop": _told_of_loop(loop) if loop is not None else None,
        "attempts": [_told_of_attempt(attempt) for attempt in plan.past],
        "previous": previous,
        "dependencies": list(dependencies),
        "children": list(children),
        # What the state has asked people, and what they answered; None where it has not.
        "conversation": conversation,
    }


def _told_of_loop(loop: LoopFacts) -> dict[str, Any]:
    return {
        "iteration": loop.number,
        "limit": loop.limit,
        "item": loop.item,
        "said": loop.said,
    }


def _told_of_attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "ending": attempt.ending,
        "text": attempt.text,
        "rescue": attempt.rescue,
        "time": attempt.time,
    }


def fields_with_repeats(statement: Statement) -> dict[str, list[str]]:
    """The fields of a message, each with all its values in order."""
    found: dict[str, list[str]] = {}
    for key, value in statement.fields:
        found.setdefault(key, []).append(value)
    return found


def write_inputs(plan: Plan, run: RunFolder, context: Mapping[str, Any]) -> None:
    """Write the files that the environment names; the answer file is the script's to make."""
    run.write("body", _as_lines(os.fsencode(plan.event.statement.body)))
    # A byte that was not UTF-8 has no place in JSON: it is shown as an escape.
    run.write("context.json", json.dumps(_printable(context), ensure_ascii=False).encode())


def _as_lines(body: bytes) -> bytes:
    """A text file ends in a newline: `while read -r line` passes over what no newline ends."""
    return body if not body or body.endswith(b"\n") else body + b"\n"


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return os.fsencode(value).decode("utf-8", "backslashreplace")
    if isinstance(value, Mapping):
        return {key: _printable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_printable(item) for item in value]
    return value
