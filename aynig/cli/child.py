"""`aynig child`: inside a script, ask for a child."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from pathlib import Path

import click

from aynig.dialects import check_field, check_state
from aynig.errors import UsageError
from aynig.text import quote


@click.command("child")
@click.argument("state")
@click.option("--name", required=True, help="What it is called; its branch is BRANCH-NAME.")
@click.option("-m", "--message", metavar="BODY", help="What is to be done: the child's prompt.")
@click.option(
    "-F", "--file", "source", metavar="FILE", help="Read the body from FILE; - for stdin."
)
@click.option(
    "--after", metavar="NAME", multiple=True, help="Wait until that child is done; repeatable."
)
@click.option("--to", metavar="AGENT", help="Who it is assigned to.")
@click.option("--priority", type=click.IntRange(-100, 100), metavar="N", help="Higher goes first.")
@click.option("--field", "fields", metavar="K=V", multiple=True, help="A field; repeatable.")
def command(
    state: str,
    name: str,
    message: str | None,
    source: str | None,
    after: tuple[str, ...],
    to: str | None,
    priority: int | None,
    fields: tuple[str, ...],
) -> int:
    """Ask for a child of the task whose script calls it. It begins when the script has succeeded.

    \b
    Example:
      aynig child review --name security -m "Look at the login form"
      aynig child sum-up --name report --after security
    """
    place = os.environ.get("AYNIG_CHILDREN")
    if not place:
        raise UsageError(
            "AYNIG_CHILDREN is not set: this is no state script",
            hint="`aynig child` is called by scripts that aynig runs; others: `aynig submit`.",
        )
    if message is not None and source is not None:
        raise UsageError("-m and -F can't be given together", hint="Choose one of them.")
    body = message if message is not None else _read(source) if source is not None else ""
    given: dict[str, object] = {"name": name, "state": check_state(state), "body": body}
    asked: dict[str, list[str]] = {}
    for field in (check_field(text, "=") for text in fields):
        asked.setdefault(field.key, []).append(field.value)
    wanted = {"after": list(after), "to": to, "priority": priority, "fields": asked}
    given |= {key: value for key, value in wanted.items() if value not in (None, [], {})}
    _append(Path(place), _item(given))
    return 0


def _item(given: dict[str, object]) -> bytes:
    """One line of a plan: JSON is YAML as well, as far as it is text that YAML takes."""
    line = json.dumps(given, ensure_ascii=False)
    try:
        data = line.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{quote(line)} is no UTF-8", hint="A plan is text: convert it first."
        ) from error
    if any(ord(one) == 0x7F or 0x80 <= ord(one) <= 0x9F or ord(one) == 0xFEFF for one in line):
        raise UsageError(
            f"{quote(line)} has control characters in it", hint="A plan is text: leave them out."
        )
    return b"- " + data + b"\n"


def _append(place: Path, item: bytes) -> None:
    """Scripts may call this several times at once."""
    with place.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if file.seek(0, os.SEEK_END) == 0:
            file.write(b"tasks:\n")
        file.write(item)


def _read(source: str) -> str:
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UsageError(
            f"{quote(source)} can't be read: {reason}",
            hint="Name a file with the body, or - for standard input.",
        ) from error
    return data.decode("utf-8", "surrogateescape")
