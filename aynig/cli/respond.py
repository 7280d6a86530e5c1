"""`aynig respond`: inside a script, write the answer file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from aynig import dialects
from aynig.errors import UsageError
from aynig.model import RESERVED_STATES, Field


@click.command("respond")
@click.argument("state")
@click.option("-m", "--message", metavar="MSG", default="", help="First line: the subject.")
@click.option("--meta", metavar="K=V", multiple=True, help="Handed on as meta-K; repeatable.")
def command(state: str, message: str, meta: tuple[str, ...]) -> int:
    """Write the answer of the script that calls it: the next state, a message, metadata.

    \b
    Example:
      aynig respond approved -m "2 findings fixed" --meta coverage=91
    """
    place = os.environ.get("AYNIG_RESPONSE")
    if not place:
        raise UsageError(
            "AYNIG_RESPONSE is not set: this is no state script",
            hint="`aynig respond` is called by scripts that aynig runs.",
        )
    dialects.check_state(state)
    if state in RESERVED_STATES:
        raise UsageError(f"{state} is a reserved state", hint="Choose another name.")
    fields = [_meta(text) for text in meta]
    subject, _, body = message.strip("\n").partition("\n")
    text = dialects.write(_dialect(), state, fields, (), subject, body)
    Path(place).write_bytes(os.fsencode(text))
    return 0


def _meta(text: str) -> Field:
    field = dialects.check_field(text, "=")
    return Field(f"meta-{field.key}", field.value)


def _dialect() -> dialects.Dialect:
    """That of the task; the context file says which."""
    try:
        context = json.loads(Path(os.environ["AYNIG_CONTEXT"]).read_text(encoding="utf-8"))
        return dialects.by_name(context["dialect"])
    except (KeyError, OSError, ValueError):
        return dialects.AYNIG
