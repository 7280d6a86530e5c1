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
@click.option("--from", "start", metavar="REV", help="Go on from this earlier commit of it.")
@remote_option
@json_option
def command(branch: str, start: str | None, as_json: bool, remote: str | None) -> int:
    """Write a new commit with the state that failed. The branch is never rewritten.

    With --from the new commit has the files of REV and asks for the state that REV, or the last
    commit below it, carries.

    \b
    Example:
      aynig retry task/login
      aynig retry task/login --from task/login~3
    """
    site = open_one(remote)
    try:
        written = retry(site, branch, start)
    finally:
        site.close()
    ring(site.repo.home / "wake")
    print_written(written, as_json=as_json)
    return 0
