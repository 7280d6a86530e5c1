"""`aynig retry`: the state that failed, as a new event."""

from __future__ import annotations

import click

from aynig.cli.output import json_option
from aynig.cli.place import open_one, remote_option
from aynig.cli.submit import print_written
from aynig.doorbell import ring
from aynig.tasks import retry


@click.command("retry")
@click.argument("branch")
@remote_option
@json_option
def command(branch: str, as_json: bool, remote: str | None) -> int:
    """Write a new commit with the state that failed. The branch is never rewritten.

    \b
    Example:
      aynig retry task/login
    """
    site = open_one(remote)
    try:
        written = retry(site, branch)
    finally:
        site.close()
    ring(site.repo.home / "wake")
    print_written(written, as_json=as_json)
    return 0
