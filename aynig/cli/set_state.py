"""`aynig set-state`: inside a script or a clone, commit the next state in dwp."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from aynig.doorbell import ring
from aynig.git.repo import Repo
from aynig.statecommit import StateRequest, read_prompt, set_state

Command = Callable[..., Any]

_OPTIONS = (
    click.option("--subject", metavar="TEXT", default="", help="The first line."),
    click.option("--prompt", metavar="TEXT", help="The body."),
    click.option("--prompt-file", metavar="FILE", help="Read the body from FILE."),
    click.option("--prompt-stdin", is_flag=True, help="Read the body from standard input."),
    click.option("--trailer", "extra", metavar="K:V", multiple=True, help="One more; repeatable."),
    click.option(
        "--dwp-remote",
        "--remote",
        "remote",
        metavar="NAME",
        help="Push the branch to this remote; else to the one that HEAD names, if any.",
    ),
)


def message_options(command: Command) -> Command:
    """What `set-state` and `set-working` have in common."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def request_of(
    subject: str,
    prompt: str | None,
    prompt_file: str | None,
    prompt_stdin: bool,
    extra: tuple[str, ...],
    remote: str | None,
) -> StateRequest:
    """The options as one value; UsageError for two bodies."""
    path = Path(prompt_file) if prompt_file is not None else None
    body = read_prompt(prompt, path, sys.stdin.buffer.read if prompt_stdin else None)
    return StateRequest(
        subject=subject, body=body, extra=extra, remote=remote, outside=dict(os.environ)
    )


def print_commit(repo: Repo, oid: str) -> None:
    """The oid; and the daemons of the repository hear of it."""
    ring(repo.home / "wake")
    click.echo(oid)


@click.command("set-state")
@click.option("--dwp-state", "state", metavar="STATE", required=True, help="The next state.")
@message_options
def command(state: str, **message: Any) -> int:
    """Commit what is staged, or nothing, with the next state in dwp; print the oid.

    \b
    Example:
      aynig set-state --dwp-state review --prompt "Ready" --trailer 'dwp-issue: 42'
    """
    request = request_of(**message)
    repo = Repo.open(".")
    print_commit(repo, set_state(repo, state, request))
    return 0
