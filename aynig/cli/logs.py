"""`aynig logs`: what a script printed, also while it runs."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator

import click

from aynig.cli.output import json_option, print_json, print_json_line, timestamp
from aynig.cli.place import open_one, remote_option, remotes_of
from aynig.errors import AynigError, UserError, WaitUntil
from aynig.executors.output import Follower, read_output
from aynig.git.address import find_address
from aynig.git.history import Read
from aynig.git.mirror import mirror_place
from aynig.git.repo import Repo
from aynig.lease import lease_name, read_lease
from aynig.model import HEADS, Lease
from aynig.outputs import Elsewhere, Found, find_run, last_run, mirrors
from aynig.processes import is_alive
from aynig.runs import RunFolder
from aynig.settings import HERE
from aynig.site import load_settings, reader
from aynig.text import escape, quote

# How often a growing file is looked at, in seconds.
_LOOK = 0.2


@click.command("logs")
@click.argument("name", metavar="BRANCH|RUN")
@click.option("-f", "--follow", is_flag=True, help="Go on until the script ends.")
@remote_option
@json_option
def command(name: str, follow: bool, as_json: bool, remote: str | None) -> int:
    """Show what a script printed: that of a run, or of the last run of a branch.

    Outputs are kept on the machine that ran the script. Without --remote they are looked for in
    this repository, and then among the runs that took place here for any remote of it.

    \b
    Example:
      aynig logs task/login -f
      aynig logs 20260131T093000Z-1f3a9c2e07
    """
    found = _find(name, remote)
    chunks = _follow(found) if follow else _read(found.folder)
    if not as_json:
        _print_all(found, chunks)
    elif follow:
        for chunk in chunks:
            print_json_line(_as_json(found.folder, chunk))
    else:
        print_json([_as_json(found.folder, b"".join(chunks))])
    return 0


def _find(name: str, remote: str | None) -> Found:
    clone = Repo.open(".")
    names = remotes_of(".", (remote,) if remote else ())
    for repos in _places(clone, names, only=remote is not None):
        found = find_run(repos, name)
        if found is not None:
            _tell_of_younger(found, name, reader(load_settings(clone)))
            return found
    raise _not_here(clone, name, names, only=remote is not None)


def _places(clone: Repo, names: Iterable[str], *, only: bool) -> Iterator[list[Repo]]:
    """Where to look, one after the other: what is named, then whatever there is."""
    yield [repo for name in names if (repo := _place(clone, name)) is not None]
    if not only:
        yield [clone]
        yield mirrors(clone)


def _place(clone: Repo, name: str) -> Repo | None:
    if name == HERE:
        return clone
    place = mirror_place(clone, find_address(clone, name))
    return Repo.open(place) if (place / "HEAD").exists() else None


def _tell_of_younger(found: Found, name: str, read: Read) -> None:
    """The last run of this machine need not be the last of the branch."""
    if found.folder.facts().get("ref") != HEADS + name:
        return
    last = last_run([found.repo], name, read)
    if last is not None and not last.is_here and last.run > found.folder.run:
        click.echo(
            f"aynig: a later run, {escape(last.run)}, took place on {escape(last.host)}; "
            f"this is the last of this machine, {found.folder.run}",
            err=True,
        )


def _not_here(clone: Repo, name: str, names: Iterable[str], *, only: bool) -> AynigError:
    """Why there is nothing to show; a remote is asked who had the run."""
    asked: list[Repo] = []
    errors: list[AynigError] = []
    for each in names:
        if each == HERE:
            continue
        try:
            with contextlib.closing(open_one(each)) as site:
                asked.append(site.repo)
        except WaitUntil as error:
            errors.append(error)
    places = asked if only else [*asked, clone, *mirrors(clone)]
    last = last_run(places, name, reader(load_settings(clone)))
    if last is not None:
        return _took_place(last)
    return errors[0] if errors else _unknown(name)


def _took_place(last: Elsewhere) -> UserError:
    run = escape(last.run)
    kept = "outputs are kept for aynig.retention, in the clone that the runner works in."
    if last.is_here:
        return UserError(
            f"run {run} took place on this machine, but its output is not in this clone",
            hint=f"Look for it in another: {kept}",
        )
    return UserError(
        f"run {run} took place on {escape(last.host)}, by {escape(last.runner)}",
        hint=f"Call `aynig logs` there: {kept}",
    )


def _unknown(name: str) -> UserError:
    return UserError(
        f"no run is kept of a branch or run {quote(name)}",
        hint="`aynig status` names branches; outputs are kept for aynig.retention.",
    )


def _read(folder: RunFolder) -> Iterator[bytes]:
    """All of it; nothing where the script was ended before it could print, or the disk is full."""
    with contextlib.suppress(FileNotFoundError):
        yield from read_output(folder.output)


def _follow(found: Found) -> Iterator[bytes]:
    follower = Follower(found.folder.output)
    while True:
        # Asked before reading: what comes in between is still read.
        over = _is_over(found)
        yield from follower.read()
        if over:
            return
        # As `tail -f`: the output may be on a file system that tells of no changes.
        time.sleep(_LOOK)


def _is_over(found: Found) -> bool:
    """Has the run ended, or has its runner died with it?"""
    facts = found.folder.facts()
    if "ended" in facts:
        return True
    if "ref" not in facts:
        # Its inputs are being written: it is about to start.
        return False
    name = lease_name(facts["ref"])
    oid = found.repo.read_ref(name)
    lease = read_lease(found.repo, name, oid) if oid else None
    if not isinstance(lease, Lease) or lease.run != found.folder.run:
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


def _print_all(found: Found, chunks: Iterable[bytes]) -> None:
    """Nothing at all looks like a command that failed: that is said, beside the output."""
    silent = True
    for chunk in chunks:
        silent = silent and not chunk
        _print(chunk)
    if silent:
        what = "printed nothing" if _is_over(found) else "has printed nothing yet"
        click.echo(f"aynig: run {found.folder.run} {what}", err=True)


def _print(chunk: bytes) -> None:
    """As it is into a pipe; on a terminal with what could rule the terminal escaped."""
    if sys.stdout.isatty():
        text = chunk.decode("utf-8", "surrogateescape")
        sys.stdout.write(escape(text.replace("\r\n", "\n"), keep="\n\t"))
        sys.stdout.flush()
    else:
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
