"""`aynig assign`: whose task it is."""

from __future__ import annotations

import click

from aynig.cli.output import json_option
from aynig.cli.place import open_one, remote_option
from aynig.cli.submit import print_written
from aynig.doorbell import ring
from aynig.errors import UsageError
from aynig.tasks import assign


@click.command("assign")
@click.argument("branch")
@click.argument("agent", required=False)
@click.option("--nobody", is_flag=True, help="Take it back from whoever it was assigned to.")
@click.option("--force", is_flag=True, help="Also where it is running: its script is ended.")
@remote_option
@json_option
def command(
    branch: str, agent: str | None, nobody: bool, force: bool, as_json: bool, remote: str | None
) -> int:
    """Give a task to an agent, or to all that have a role.

    \b
    Example:
      aynig assign task/login coder
      aynig assign task/login --nobody
    """
    if bool(agent) == nobody:
        raise UsageError(
            "--nobody and an agent can't be given together" if agent else "there is no AGENT",
            hint="Name the agent or role that the task is for, or --nobody.",
        )
    site = open_one(remote)
    try:
        written = assign(site, branch, agent or "", force=force)
    finally:
        site.close()
    ring(site.repo.home / "wake")
    print_written(written, as_json=as_json)
    return 0
