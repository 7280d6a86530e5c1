"""`aynig cancel`: end a task, and its script with it."""

from __future__ import annotations

import click

from aynig.cli.output import json_option
from aynig.cli.place import open_one, remote_option
from aynig.cli.submit import print_written
from aynig.doorbell import ring
from aynig.tasks import cancel


@click.command("cancel")
@click.argument("branch")
@click.option("-m", "--message", "reason", default="", metavar="WHY", help="Why, for the history.")
@remote_option
@json_option
def command(branch: str, reason: str, as_json: bool, remote: str | None) -> int:
    """Write canceled on a task. Whoever runs its script ends it and keeps its work.

    \b
    Example:
      aynig cancel task/login -m "superseded by task/sso"
    """
    site = open_one(remote)
    try:
        written, lease = cancel(site, branch, reason)
    finally:
        site.close()
    ring(site.repo.home / "wake")
    print_written(written, as_json=as_json)
    if lease is not None:
        holder = lease.holder
        click.echo(f"Run {lease.run} is stopped by {holder.runner} (pid {holder.pid}).", err=True)
    return 0
