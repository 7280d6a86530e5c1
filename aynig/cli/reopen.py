"""`aynig reopen`: send a task that is done back to work."""

from __future__ import annotations

import click

from aynig.cli.output import json_option
from aynig.cli.place import open_one, remote_option
from aynig.cli.submit import print_written
from aynig.doorbell import ring
from aynig.tasks import reopen


@click.command("reopen")
@click.argument("branch")
@click.option(
    "-m", "--message", "why", metavar="WHY", multiple=True, help="What is wrong; repeatable."
)
@remote_option
@json_option
def command(branch: str, why: tuple[str, ...], as_json: bool, remote: str | None) -> int:
    """Run the last state of a task again that is done. What depends on it waits meanwhile.

    \b
    Example:
      aynig reopen task/report -m "The figures of May are missing"
    """
    site = open_one(remote)
    try:
        written = reopen(site, branch, why)
    finally:
        site.close()
    ring(site.repo.home / "wake")
    print_written(written, as_json=as_json)
    return 0
