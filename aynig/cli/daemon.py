"""`aynig daemon`: beside one or many repositories, until told to stop."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import click

from aynig import notices
from aynig.addresses import Address, parse_address
from aynig.cli.output import print_json_line, timestamp
from aynig.cli.place import remotes_of, remotes_option
from aynig.cli.work import (
    Audience,
    agent_option,
    branch_option,
    dialect_option,
    jobs_option,
    notice_as_json,
    notice_as_text,
    role_option,
    signals,
)
from aynig.daemon import Engine, Place
from aynig.errors import AynigError, ConfigError, UsageError
from aynig.git.address import redact
from aynig.notices import Notice, Observer
from aynig.settings import HERE, Settings, override
from aynig.site import Site, open_place, tell_apart
from aynig.wakesecret import VARIABLE as SECRET_VARIABLE
from aynig.wakesecret import WakeSecret, read_secret_file, read_secret_variable


@click.command("daemon")
@click.argument("repositories", metavar="[REPO]...", nargs=-1)
@branch_option
@jobs_option
@role_option
@agent_option
@remotes_option
@dialect_option
@click.option(
    "--poll",
    metavar="SECONDS",
    help="Look this often even if nothing wakes the daemon; at a quiet remote ever less often.",
)
@click.option(
    "--wake-listen",
    metavar="ADDRESS",
    help="Let a forge wake the daemon: POST /wake at this port, or address and port.",
)
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
    roles: tuple[str, ...],
    agent: str | None,
    remotes: tuple[str, ...],
    dialect: str | None,
    poll: str | None,
    wake_listen: str | None,
    log_format: str,
) -> int:
    """Watch repositories and run their tasks until told to stop.

    A repository that can't be opened is told of, and tried again at each look; where all are
    so, the daemon ends with status 1.

    With --wake-listen (or aynig.wakeListen) a web hook of a forge may wake it: 8737 is that port of
    this machine alone. For any other address a secret is needed, in a file that
    aynig.wakeSecretFile names or in AYNIG_WAKE_SECRET.

    A first SIGTERM or SIGINT drains: nothing new starts, and running scripts get their grace. A
    second one stops at once.

    \b
    Example:
      aynig daemon
      aynig daemon ~/work/api ~/work/web --jobs 4 --log-format json
      aynig daemon --wake-listen 8737
    """
    # Taken out of the environment: nothing that is started from here needs it.
    secret = os.environ.pop(SECRET_VARIABLE, None)
    flags = {"branches": branches, "jobs": jobs, "roles": roles, "agent": agent, "poll": poll}
    flags |= {"wake_listen": wake_listen, "dialect": dialect}
    # A wrong flag is one for every repository, also for one that can't be opened.
    defaults = override(Settings(), **flags)
    sites, absent = _open_all(repositories or (".",), remotes, flags)
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
    with signals(engine) as caught, _wakeable(engine, sites, defaults, secret, audience.hear):
        engine.run()
    audience.check()
    return 130 if signal.SIGINT in caught else 0


@contextlib.contextmanager
def _wakeable(
    engine: Engine,
    sites: Sequence[Site],
    defaults: Settings,
    variable: str | None,
    observe: Observer,
) -> Iterator[None]:
    """Listen for wake-ups where that is wanted, until the block ends."""
    address = _wake_address(sites, defaults)
    if address is None:
        yield
        return
    # Only who listens pays for the imports.
    from aynig.wakeserver import WakeServer

    secrets = _wake_secrets(sites, variable)

    def tell(problem: str) -> None:
        observe(notices.of_problem("", problem))

    known = list(dict.fromkeys(secret.value for secret in secrets))
    with WakeServer(address, known, engine.look_again, tell) as server:
        observe(notices.of_listening(server.url, signed=bool(known)))
        for secret in secrets:
            if secret.problem:
                tell(secret.problem)
        yield


def _wake_address(sites: Sequence[Site], defaults: Settings) -> Address | None:
    """The one address that the repositories name, or none; a flag is in all their settings."""
    wanted = {site.settings.wake_listen: site.name for site in sites}
    if not sites:
        wanted[defaults.wake_listen] = ""
    wanted.pop("", None)
    if len(wanted) > 1:
        named = ", ".join(f"{address} ({name})" for address, name in wanted.items())
        raise ConfigError(
            f"aynig.wakeListen: a daemon listens at one address, its repositories name {named}",
            hint=f"Say which: --wake-listen {next(iter(wanted))}",
        )
    return parse_address(next(iter(wanted))) if wanted else None


def _wake_secrets(sites: Sequence[Site], variable: str | None) -> list[WakeSecret]:
    """All that are named: a delivery wakes all repositories, so any of them will do."""
    files = dict.fromkeys(site.settings.wake_secret_file for site in sites)
    found = [read_secret_file(file) for file in files if file]
    return found + ([] if variable is None else [read_secret_variable(variable)])


def _open_all(
    repositories: Sequence[str], remotes: Sequence[str], flags: Mapping[str, object]
) -> tuple[list[Site], list[Place]]:
    """Those that can be worked in and those that can't be opened now, each by its own name."""
    wanted: list[tuple[str, str]] = []
    opened: list[Site | AynigError | OSError] = []
    for repository in repositories:
        for remote in _remotes(repository, remotes):
            wanted.append((repository, remote))
            try:
                opened.append(open_place(repository, remote, **flags))
            except (AynigError, OSError) as error:
                opened.append(error)
    _refuse_twice(wanted, opened)
    places = [
        (found.clone or found.repo).place if isinstance(found, Site) else _whole(repository)
        for (repository, _), found in zip(wanted, opened, strict=True)
    ]
    distinct = list(dict.fromkeys(places))
    names = dict(zip(distinct, tell_apart(distinct), strict=True))
    sites, absent = [], []
    for (repository, remote), found, place in zip(wanted, opened, places, strict=True):
        name = names[place] if remote == HERE else f"{names[place]}:{redact(remote)}"
        if isinstance(found, Site):
            sites.append(replace(found, name=name))
        else:
            later = functools.partial(_open_later, _whole(repository), remote, name, flags)
            absent.append(Place(name, later, error=found))
    return sites, absent


def _remotes(repository: str, given: Sequence[str]) -> tuple[str, ...]:
    """As `remotes_of`; a repository that can't be read says so when it is opened."""
    try:
        return remotes_of(repository, given)
    except (AynigError, OSError):
        return (HERE,)


def _whole(place: str) -> Path:
    return Path(os.path.abspath(place))  # noqa: PTH100 (`..` is to be resolved as text)


def _open_later(place: Path, remote: str, name: str, flags: Mapping[str, object]) -> Site:
    return replace(open_place(place, remote, **flags), name=name)


def _refuse_twice(places: Sequence[tuple[str, str]], opened: Sequence[object]) -> None:
    known = set()
    for (place, _), found in zip(places, opened, strict=True):
        if isinstance(found, Site):
            if found.repo.common_dir in known:
                raise UsageError(f"{place} is the same repository as another argument")
            known.add(found.repo.common_dir)


def _print_text(notice: Notice, *, named: bool) -> None:
    text = notice_as_text(notice, named=named)
    click.echo(f"{timestamp(int(notice.time))} {text}", file=sys.stderr)


def _print_json(notice: Notice) -> None:
    print_json_line(notice_as_json(notice))
