"""`aynig daemon`: beside one or many repositories, until told to stop."""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import click

from aynig.cli.output import print_json_line, timestamp
from aynig.cli.work import (
    Audience,
    branch_option,
    jobs_option,
    notice_as_json,
    notice_as_text,
    role_option,
    signals,
)
from aynig.daemon import Engine, Place
from aynig.errors import AynigError, UsageError
from aynig.notices import Notice
from aynig.settings import Settings, override
from aynig.site import Site, open_site, tell_apart


@click.command("daemon")
@click.argument("repositories", metavar="[REPO]...", nargs=-1)
@branch_option
@jobs_option
@role_option
@click.option("--poll", metavar="SECONDS", help="Look this often even if nothing wakes the daemon.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    help="Lines for people, or one JSON object a line.",
)
def command(
    repositories: tuple[str, ...],
    branches: tuple[str, ...],
    jobs: str | None,
    role: str | None,
    poll: str | None,
    log_format: str,
) -> int:
    """Watch repositories and run their tasks until told to stop.

    A repository that can't be worked in is told of, and tried again at each look; where all are
    so, the daemon ends with status 1.

    A first SIGTERM or SIGINT drains: nothing new starts, and running scripts get their grace. A
    second one stops at once.

    \b
    Example:
      aynig daemon
      aynig daemon ~/work/api ~/work/web --jobs 4 --log-format json
    """
    flags = {"branches": branches, "jobs": jobs, "role": role, "poll": poll}
    # A wrong flag is one for every repository, also for one that can't be opened.
    defaults = override(Settings(), **flags)
    sites, absent = _open_all(repositories or (".",), flags)
    several = len(sites) + len(absent) > 1
    audience = Audience(
        _print_json if log_format == "json" else functools.partial(_print_text, named=several)
    )
    engine = Engine(
        sites,
        audience.hear,
        jobs=max((site.settings.jobs for site in sites), default=defaults.jobs),
        poll=min((site.settings.poll for site in sites), default=defaults.poll),
        absent=absent,
    )
    audience.stops(engine)
    with signals(engine) as caught:
        engine.run()
    audience.check()
    return 130 if signal.SIGINT in caught else 0


def _open_all(
    repositories: Sequence[str], flags: Mapping[str, object]
) -> tuple[list[Site], list[Place]]:
    """Those that can be worked in and those that can't be opened now, each by its own name."""
    opened: list[Site | AynigError | OSError] = []
    for place in repositories:
        try:
            opened.append(open_site(place, log_level="info", **flags))
        except (AynigError, OSError) as error:
            opened.append(error)
    _refuse_twice(repositories, opened)
    places = [
        found.repo.place if isinstance(found, Site) else _whole(place)
        for place, found in zip(repositories, opened, strict=True)
    ]
    names = tell_apart(places)
    sites, absent = [], []
    for place, found, name in zip(repositories, opened, names, strict=True):
        if isinstance(found, Site):
            sites.append(replace(found, name=name))
        else:
            later = functools.partial(_open_later, _whole(place), name, flags)
            absent.append(Place(name, later, error=found))
    return sites, absent


def _whole(place: str) -> Path:
    return Path(os.path.abspath(place))  # noqa: PTH100 (`..` is to be resolved as text)


def _open_later(place: Path, name: str, flags: Mapping[str, object]) -> Site:
    return replace(open_site(place, log_level="info", **flags), name=name)


def _refuse_twice(places: Sequence[str], opened: Sequence[object]) -> None:
    known = set()
    for place, found in zip(places, opened, strict=True):
        if isinstance(found, Site):
            if found.repo.common_dir in known:
                raise UsageError(f"{place} is the same repository as another argument")
            known.add(found.repo.common_dir)


def _print_text(notice: Notice, *, named: bool) -> None:
    text = notice_as_text(notice, named=named)
    click.echo(f"{timestamp(int(notice.time))} {text}", file=sys.stderr)


def _print_json(notice: Notice) -> None:
    print_json_line(notice_as_json(notice))
