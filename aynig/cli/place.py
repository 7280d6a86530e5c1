"""Which repository a command speaks of: this one, or a remote (`--remote`, `aynig.remote`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import click

from aynig.errors import UsageError
from aynig.git.address import redact
from aynig.git.repo import Repo
from aynig.settings import HERE
from aynig.site import Site, load_settings, open_place
from aynig.text import quote, shell_word

_Given = TypeVar("_Given", str | None, tuple[str, ...])


def refuse_empty(_context: click.Context, _option: click.Parameter, value: _Given) -> _Given:
    """The callback of an option for remotes: an empty name is not taken for no option at all."""
    if value == "" or (isinstance(value, tuple) and "" in value):
        raise click.BadParameter("it is empty: name a remote, or . for the repository itself.")
    return value


remote_option = click.option(
    "--remote",
    callback=refuse_empty,
    metavar="NAME",
    help="Speak of the tasks of this remote; . is the repository itself.",
)
remotes_option = click.option(
    "--remote",
    "remotes",
    callback=refuse_empty,
    metavar="NAME",
    multiple=True,
    help="Work on the tasks of this remote instead of the repository's own; repeatable.",
)


def remotes_of(repository: str, given: Sequence[str] = ()) -> tuple[str, ...]:
    """The remotes to work on, `.` for the repository itself: as given, or as it says itself."""
    found = tuple(given) or load_settings(Repo.open(repository)).remotes or (HERE,)
    return tuple(dict.fromkeys(found))


def open_one(remote: str | None = None, **flags: object | None) -> Site:
    """What a command of a person's speaks of, as it is at this moment.

    Raises UsageError where there are several to choose from, Unreachable and Refused where it is a
    remote that can't be asked.
    """
    names = remotes_of(".", (remote,) if remote else ())
    if len(names) > 1:
        raise UsageError(
            f"aynig.remote names several: {', '.join(quote(redact(name)) for name in names)}",
            hint=f"Name one of them: --remote {shell_word(redact(names[0]))}",
        )
    site = open_place(".", names[0], **flags)
    if site.mirror is not None:
        try:
            site.mirror.sync(leases=True)
        except BaseException:
            site.close()
            raise
    return site
