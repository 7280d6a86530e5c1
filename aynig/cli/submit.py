"""`aynig submit`: a new task, the next state of one, or a whole plan of tasks."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from aynig.cli.output import json_option, print_json
from aynig.cli.place import open_one, remote_option
from aynig.doorbell import ring
from aynig.errors import ConfigError, UsageError
from aynig.planfile import parse_plan
from aynig.submitting import Request, submit, submit_plan
from aynig.tasks import Written
from aynig.text import escape


@click.command("submit")
@click.argument("state", required=False)
@click.option("-b", "--branch", help="The task's branch, new or existing; else a new one is named.")
@click.option("-m", "--message", metavar="BODY", help="What is to be done: the script's prompt.")
@click.option(
    "-F",
    "--file",
    "source",
    metavar="FILE",
    help="Read the body from FILE; - for stdin. Without STATE: a plan of tasks.",
)
@click.option("--to", metavar="AGENT", help="Who the task is assigned to.")
@click.option(
    "--after",
    metavar="REV",
    multiple=True,
    help="Wait until REV is done: a branch, REMOTE:BRANCH or an oid; repeatable.",
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
    state: str | None,
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

    Without STATE, the file is a plan: tasks with names, states and what each waits for, which are
    all begun at once, or none of them.

    \b
    Example:
      aynig submit review-needed -m "Check the login form" --to security-agent
      aynig submit implement -b task/login -F prompt.md --after 3f2c9d1
      aynig submit --file plan.yaml
    """
    if state is None:
        given = {"-b": branch, "-m": message, "--to": to, "--after": after, "--trailer": extra}
        return _submit_plan(source, start, remote, given, as_json=as_json)
    if message is not None and source is not None:
        raise UsageError("-m and -F can't be given together", hint="Choose one of them.")
    body = message if message is not None else _text(source) if source is not None else ""
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


def _submit_plan(
    source: str | None,
    start: str | None,
    remote: str | None,
    given: Mapping[str, object],
    *,
    as_json: bool,
) -> int:
    if source is None:
        raise UsageError(
            "there is no STATE",
            hint="Name the state that the task begins in, or a plan of tasks with --file.",
        )
    for option, value in given.items():
        if value:
            raise UsageError(
                f"{option} has no meaning for a plan", hint="Say it in the file, task by task."
            )
    try:
        plan = parse_plan(_bytes(source), "standard input" if source == "-" else escape(source))
    except ConfigError as error:
        hint = f"{error.hint} With a STATE before it, the file is the body of one task."
        raise UsageError(str(error), hint=hint.strip()) from error
    site = open_one(remote)
    try:
        begun = submit_plan(site, plan, start)
    finally:
        site.close()
    ring(site.repo.home / "wake")
    if as_json:
        print_json([dataclasses.asdict(each) for each in begun])
    else:
        for each in begun:
            click.echo(f"{escape(each.branch)} {each.oid}")
    return 0


def _text(source: str) -> str:
    return _bytes(source).decode("utf-8", "surrogateescape")


def _bytes(source: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UsageError(
            f"{escape(source)} can't be read: {reason}",
            hint="Name a file with the body, or - for standard input.",
        ) from error
