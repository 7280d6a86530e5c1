"""`aynig set-working`: inside a script or a clone, take or renew the on-branch lease of dwp."""

from __future__ import annotations

from typing import Any

import click

from aynig.cli.set_state import message_options, print_commit, request_of
from aynig.git.repo import Repo
from aynig.statecommit import set_working


@click.command("set-working")
@click.option(
    "--lease-seconds",
    "seconds",
    metavar="N",
    type=click.IntRange(1, 999_999_999),
    help="How long the lease holds; else as before, or 300.",
)
@message_options
def command(seconds: int | None, **message: Any) -> int:
    """Commit a lease in dwp, with what is staged: `working`, by whom, for how long; print the oid.

    HEAD has to carry the state that is worked on, or such a lease already, which is renewed then.

    \b
    Example:
      aynig set-working --lease-seconds 900
    """
    request = request_of(**message)
    repo = Repo.open(".")
    print_commit(repo, set_working(repo, request, seconds))
    return 0
