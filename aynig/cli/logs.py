"""`aynig logs`: what a script printed, also while it runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator

import click

from aynig.cli.output import json_option, print_json, print_json_line, timestamp
from aynig.errors import UserError
from aynig.executors.output import Follower, read_output
from aynig.lease import lease_name, read_lease
from aynig.model import HEADS, Lease
from aynig.processes import is_alive
from aynig.runs import RunFolder
from aynig.site import Site, open_site
from aynig.text import escape, quote

# How often a growing file is looked at, in seconds.
_LOOK = 0.2


@click.command("logs")
@click.argument("name", metavar="BRANCH|RUN")
@click.option("-f", "--follow", is_flag=True, help="Go on until the script ends.")
@json_option
def command(name: str, follow: bool, as_json: bool) -> int:
    """Show what a script printed: that of a run, or of the last run of a branch.

    \b
    Example:
      aynig logs task/login -f
      aynig logs 20260131T093000Z-1f3a9c2e07
    """
    site = open_site(".")
    try:
        folder = _folder(site, name)
        chunks = _follow(site, folder) if follow else read_output(folder.output)
        if not as_json:
            _print_all(site, folder, chunks)
        elif follow:
            for chunk in chunks:
                print_json_line(_as_json(folder, chunk))
        else:
            print_json([_as_json(folder, b"".join(chunks))])
    finally:
        site.close()
    return 0


def _folder(site: Site, name: str) -> RunFolder:
    folder = site.archive.latest(HEADS + name) or site.archive.find(name)
    if folder is None:
        raise UserError(
            f"no run is kept of a branch or run {quote(name)}",
            hint="`aynig status` names branches; outputs are kept for aynig.retention.",
        )
    return folder


def _follow(site: Site, folder: RunFolder) -> Iterator[bytes]:
    follower = Follower(folder.output)
    while True:
        # Asked before reading: what comes in between is still read.
        over = _is_over(site, folder)
        yield from follower.read()
        if over:
            return
        time.sleep(_LOOK)


def _is_over(site: Site, folder: RunFolder) -> bool:
    """Has the run ended, or has its runner died with it?"""
    facts = folder.facts()
    if "ended" in facts:
        return True
    if "ref" not in facts:
        # Its inputs are being written: it is about to start.
        return False
    name = lease_name(facts["ref"])
    oid = site.repo.read_ref(name)
    lease = read_lease(site.repo, name, oid) if oid else None
    if not isinstance(lease, Lease) or lease.run != folder.run:
        return True
    return is_alive(lease.holder) is False


def _as_json(folder: RunFolder, chunk: bytes) -> dict[str, object]:
    facts = folder.facts()
    return {
        "time": timestamp(time.time()),
        "run": folder.run,
        "branch": facts.get("branch"),
        "text": chunk.decode("utf-8", "backslashreplace"),
    }


def _print_all(site: Site, folder: RunFolder, chunks: Iterable[bytes]) -> None:
    """Nothing at all looks like a command that failed: that is said, beside the output."""
    silent = True
    for chunk in chunks:
        silent = silent and not chunk
        _print(chunk)
    if silent:
        what = "printed nothing" if _is_over(site, folder) else "has printed nothing yet"
        click.echo(f"aynig: run {folder.run} {what}", err=True)


def _print(chunk: bytes) -> None:
    """As it is into a pipe; on a terminal with what could rule the terminal escaped."""
    if sys.stdout.isatty():
        text = chunk.decode("utf-8", "surrogateescape")
        sys.stdout.write(escape(text.replace("\r\n", "\n"), keep="\n\t"))
        sys.stdout.flush()
    else:
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
