"""`aynig resume`: a person's word that what waits may go on."""

from __future__ import annotations

import click

from aynig.cli.output import json_option, print_json
from aynig.cli.place import open_one, remote_option
from aynig.cli.submit import print_written
from aynig.doorbell import ring
from aynig.errors import UsageError
from aynig.tasks import resume, resume_state
from aynig.text import escape


@click.command("resume")
@click.argument("branch", required=False)
@click.option("--state", help="Close the circuit breaker of this state, for all tasks.")
@remote_option
@json_option
def command(branch: str | None, state: str | None, as_json: bool, remote: str | None) -> int:
    """Let a task go on that a circuit breaker or an unknown cost holds, or all of a state.

    \b
    Example:
      aynig resume task/login
      aynig resume --state build
    """
    if (branch is None) == (state is None):
        raise UsageError(
            "resume needs a branch or a state", hint="`aynig resume BRANCH`, or `--state STATE`."
        )
    site = open_one(remote)
    try:
        written = resume(site, branch) if branch is not None else resume_state(site, state or "")
    finally:
        site.close()
    ring(site.repo.home / "wake")
    if branch is not None:
        print_written(written, as_json=as_json)
    elif as_json:
        print_json([{"state": written.state, "oid": written.oid}])
    else:
        click.echo(f"The circuit breaker of {escape(written.state)} is closed.")
    return 0
