"""`aynig answer`: answer a question, or say what to do otherwise."""

from __future__ import annotations

import click

from aynig.cli.output import json_option
from aynig.cli.place import remote_option
from aynig.cli.said import say, sign_option


@click.command("answer")
@click.argument("branch")
@click.option("-m", "--message", "words", required=True, metavar="TEXT", help="The answer.")
@sign_option
@remote_option
@json_option
def command(branch: str, words: str, sign: bool, as_json: bool, remote: str | None) -> int:
    """Answer a question of a script's; or have what it proposes done again with these words.

    \b
    Example:
      aynig answer task/login -m "Port 8080"
    """
    return say("answered", branch, words, sign=sign, as_json=as_json, remote=remote)
