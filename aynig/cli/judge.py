"""`aynig judge`: publish a hash of hidden scenarios, and reveal them later."""

from __future__ import annotations

from pathlib import Path

import click

from aynig.cli.output import json_option, print_json, timestamp
from aynig.cli.place import open_one, remote_option
from aynig.judges import commit, parse_source, reveal
from aynig.text import counted, escape, operand

secret_option = click.option(
    "--secret",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The judge's file; else one below $XDG_STATE_HOME/aynig/judge.",
)


@click.group("judge")
def command() -> None:
    """Publish a hash of hidden scenarios before work starts, and reveal them afterwards.

    \b
    Example:
      aynig judge commit hidden:scenarios --name release-2
      aynig submit build -m "..." --trailer 'aynig:commitment: HASH'
      aynig judge reveal release-2
      aynig audit task/build
    """


@command.command("commit")
@click.argument("scenarios")
@click.option("--name", default="", metavar="N", help="What to call it; else by its hash.")
@click.option("--repository", default="", metavar="URL", help="The repository they are in.")
@secret_option
@remote_option
@json_option
def commit_command(
    scenarios: str,
    name: str,
    repository: str,
    secret: Path | None,
    as_json: bool,
    remote: str | None,
) -> int:
    """Publish the hash of a folder of scenarios (REF:PATH, or PATH in the trusted tree).

    What the hash is made of is kept in a file that only you can read: without it nothing can be
    revealed. The machine that verifies needs a copy, to say in its answers which hash it was.

    \b
    Example:
      aynig judge commit hidden:scenarios --name release-2
      aynig judge commit main:set --repository git@example.org:judges.git
    """
    site = open_one(remote)
    try:
        done = commit(site, parse_source(scenarios, repository), name, secret)
    finally:
        site.close()
    found = done.commitment
    if as_json:
        print_json(
            [
                {
                    "name": found.name,
                    "ref": found.ref,
                    "hash": found.digest,
                    "published": timestamp(found.published.time),
                    "scenarios": done.count,
                    "secret": str(done.place),
                }
            ]
        )
        return 0
    click.echo(found.digest)
    click.echo(
        f"{counted(done.count, 'scenario')}, published as {escape(found.ref)}. "
        f"Keep {escape(str(done.place))}: `aynig judge reveal {operand(found.name)}` needs it.",
        err=True,
    )
    return 0


@command.command("reveal")
@click.argument("name")
@secret_option
@remote_option
@json_option
def reveal_command(name: str, secret: Path | None, as_json: bool, remote: str | None) -> int:
    """Publish what the hash was made of, so that everybody can check it. It can't be taken back.

    \b
    Example:
      aynig judge reveal release-2
    """
    site = open_one(remote)
    try:
        found = reveal(site, name, secret)
    finally:
        site.close()
    tree = found.published.tree
    if as_json:
        print_json(
            [
                {
                    "name": found.name,
                    "ref": found.ref,
                    "hash": found.digest,
                    "nonce": found.published.nonce,
                    "tree": tree,
                }
            ]
        )
        return 0
    click.echo(f"{escape(found.name)} {found.digest} is made of tree {tree}")
    return 0
