"""`aynig submit`: a new task, or the next state of one."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from aynig.cli.output import json_option, print_json
from aynig.cli.place import open_one, remote_option
from aynig.doorbell import ring
from aynig.errors import UsageError
from aynig.tasks import Request, Written, submit
from aynig.text import escape


@click.command("submit")
@click.argument("state")
@click.option("-b", "--branch", help="The task's branch, new or existing; else a new one is named.")
@click.option("-m", "--message", metavar="BODY", help="What is to be done: the script's prompt.")
@click.option(
    "-F", "--file", "source", metavar="FILE", help="Read the body from FILE; - for stdin."
)
@click.option("--to", metavar="AGENT", help="Who the task is assigned to.")
@click.option(
    "--after", metavar="REV", multiple=True, help="Wait until the task of REV is done; repeatable."
)
@click.option(
    "--trailer",
    "extra",
    metavar="K:V",
    multiple=True,
    help="Another trailer, or a field as 'aynig:KEY: VALUE'; repeatable.",
)
@click.option("--from", "start", metavar="REV", help="Where a new branch starts; else at HEAD.")
@remote_option
@json_option
def command(
    state: str,
    branch: str | None,
    message: str | None,
    source: str | None,
    to: str | None,
    after: tuple[str, ...],
    extra: tuple[str, ...],
    start: str | None,
    as_json: bool,
    remote: str | None,
) -> int:
    """Write a state commit on a new or existing branch. The working tree is not touched.

    \b
    Example:
      aynig submit review-needed -m "Check the login form" --to security-agent
      aynig submit implement -b task/login -F prompt.md --after 3f2c9d1
    """
    if message is not None and source is not None:
        raise UsageError("-m and -F can't be given together", hint="Choose one of them.")
    body = message if message is not None else _read(source) if source is not None else ""
    site = open_one(remote)
    try:
        written = submit(
            site,
            Request(
                state=state, branch=branch, body=body, to=to, after=after, extra=extra, start=start
            ),
        )
    finally:
        site.close()
    ring(site.repo.home / "wake")
    print_written(written, as_json=as_json)
    return 0


def print_written(written: Written, *, as_json: bool) -> None:
    """Branch and oid of a state commit."""
    if as_json:
        print_json([{"branch": written.branch, "oid": written.oid, "state": written.state}])
    else:
        click.echo(f"{escape(written.branch)} {written.oid}")


def _read(source: str) -> str:
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UsageError(
            f"{escape(source)} can't be read: {reason}",
            hint="Name a file with the body, or - for standard input.",
        ) from error
    return data.decode("utf-8", "surrogateescape")
