"""`aynig init`: a first `.aynig/` in a repository."""

from __future__ import annotations

import click

from aynig.cli.output import json_option, print_json
from aynig.git.repo import Repo
from aynig.starter import Start, start


@click.command("init")
@json_option
def command(as_json: bool) -> None:
    """Make .aynig/ with a sample state that works at once and a commented config.yaml.

    Safe to run again: what is there already is left as it is. In a bare repository the files are
    committed on the default branch.

    \b
    Example:
      aynig init && git add .aynig && git commit -m "Add aynig"
      aynig submit hello -m "A first task" && aynig run
    """
    repo = Repo.open(".")
    done = start(repo)
    if as_json:
        print_json(
            [
                {
                    "path": file.path,
                    "made": file.made,
                    "branch": done.branch or None,
                    "commit": done.commit or None,
                }
                for file in done.files
            ]
        )
        return
    for file in done.files:
        click.echo(f"{'made' if file.made else 'there already:'} {file.path}")
    for line in _what_next(repo, done):
        click.echo(line)


def _what_next(repo: Repo, done: Start) -> list[str]:
    trial = '  aynig submit hello -m "A first task" && aynig run'
    if done.commit:
        return [f"Committed on {done.branch} as {done.commit[:10]}. Try it:", trial]
    if done.branch:
        return [f"All of it is on {done.branch} already. Try it:", trial]
    # Where the file system keeps no run bit, git has to be told.
    bit = ""
    if repo.config_value("core.filemode") == "false":
        bit = " && git update-index --chmod=+x .aynig/hello"
    return [
        "Next:",
        f'  git add .aynig{bit} && git commit -m "Add aynig"',
        trial,
    ]
