"""`aynig approve`: say yes to what a task asks for."""

from __future__ import annotations

import click

from aynig.cli.output import json_option
from aynig.cli.place import remote_option
from aynig.cli.said import say, sign_option


@click.command("approve")
@click.argument("branch")
@click.option("-m", "--message", "words", default="", metavar="TEXT", help="Words for the history.")
@sign_option
@remote_option
@json_option
def command(branch: str, words: str, sign: bool, as_json: bool, remote: str | None) -> int:
    """Say yes to what a task asks for: that a state may run, or that its answer is accepted.

    \b
    Example:
      aynig approve task/deploy -m "Looks good"
    """
    return say("approved", branch, words, sign=sign, as_json=as_json, remote=remote)
