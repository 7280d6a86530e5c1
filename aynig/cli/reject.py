"""`aynig reject`: say no to what a task asks for."""

from __future__ import annotations

import click

from aynig.cli.output import json_option
from aynig.cli.place import remote_option
from aynig.cli.said import say, sign_option


@click.command("reject")
@click.argument("branch")
@click.option(
    "-m",
    "--message",
    "words",
    required=True,
    metavar="WHY",
    help="Why: it is handed on with the task.",
)
@sign_option
@remote_option
@json_option
def command(branch: str, words: str, sign: bool, as_json: bool, remote: str | None) -> int:
    """Say no to what a task asks for. What was proposed stays in the history, and off the branch.

    \b
    Example:
      aynig reject task/deploy -m "Not on a Friday"
    """
    return say("rejected", branch, words, sign=sign, as_json=as_json, remote=remote)
