"""`aynig daemon`: beside one or many repositories, until told to stop."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping

import click

from aynig.cli.output import print_json_line, timestamp
from aynig.cli.work import (
    branch_option,
    jobs_option,
    notice_as_json,
    notice_as_text,
    role_option,
    signals,
)
from aynig.daemon import Engine
from aynig.errors import UsageError
from aynig.notices import Notice
from aynig.site import Site, open_site


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

    A first SIGTERM or SIGINT drains: nothing new starts, and running scripts get their grace. A
    second one stops at once.

    \b
    Example:
      aynig daemon
      aynig daemon ~/work/api ~/work/web --jobs 4 --log-format json
    """
    flags = {"branches": branches, "jobs": jobs, "role": role, "poll": poll}
    sites = _open_all(repositories or (".",), flags)
    engine = Engine(
        sites,
        _print_json if log_format == "json" else _print_text,
        jobs=max(site.settings.jobs for site in sites),
        poll=min(site.settings.poll for site in sites),
    )
    with signals(engine) as caught:
        engine.run()
    return 130 if signal.SIGINT in caught else 0


def _open_all(repositories: tuple[str, ...], flags: Mapping[str, object]) -> list[Site]:
    sites: dict[str, Site] = {}
    for place in repositories:
        site = open_site(place, log_level="info", **flags)
        key = str(site.repo.common_dir)
        if key in sites:
            raise UsageError(f"{place} is the same repository as another argument")
        sites[key] = site
    return list(sites.values())


def _print_text(notice: Notice) -> None:
    click.echo(f"{timestamp(int(notice.time))} {notice_as_text(notice)}", file=sys.stderr)


def _print_json(notice: Notice) -> None:
    print_json_line(notice_as_json(notice))
