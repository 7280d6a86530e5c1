"""`aynig resume`: a person's word that a task which waits may go on."""

from __future__ import annotations

import click

from aynig.cli.output import json_option
from aynig.cli.place import open_one, remote_option
from aynig.cli.submit import print_written
from aynig.doorbell import ring
from aynig.tasks import resume


@click.command("resume")
@click.argument("branch")
@remote_option
@json_option
def command(branch: str, as_json: bool, remote: str | None) -> int:
    """Close the circuit breaker of a task: its state is run again at once.

    \b
    Example:
      aynig resume task/login
    """
    site = open_one(remote)
    try:
        written = resume(site, branch)
    finally:
        site.close()
    ring(site.repo.home / "wake")
    print_written(written, as_json=as_json)
    return 0
