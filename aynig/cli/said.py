"""What `approve`, `reject` and `answer` have in common."""

from __future__ import annotations

import click

from aynig.cli.place import open_one
from aynig.cli.submit import print_written
from aynig.doorbell import ring
from aynig.replies import reply
from aynig.text import escape

sign_option = click.option(
    "-S", "--sign", is_flag=True, help="Sign it, also where git is not configured to."
)


def say(
    state: str, branch: str, words: str, *, sign: bool, as_json: bool, remote: str | None
) -> int:
    """Write a reply, and tell how it counts."""
    site = open_one(remote)
    try:
        said = reply(site, branch, state, words, sign=sign)
    finally:
        site.close()
    ring(site.repo.home / "wake")
    print_written(said.written, as_json=as_json)
    if said.verdict is not None and said.verdict.need > 1:
        names = ", ".join(map(escape, said.verdict.approved_by))
        click.echo(f"{said.verdict.score} approvals: {names}.", err=True)
    return 0
