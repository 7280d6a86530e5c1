"""`aynig run`: one-shot, for cron, CI and the hook that finds no daemon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import click

from aynig.cli.output import json_option, print_json
from aynig.cli.place import remotes_of, remotes_option
from aynig.cli.rows import print_run_table, row_as_json
from aynig.cli.work import (
    Audience,
    agent_option,
    branch_option,
    dialect_option,
    jobs_option,
    print_progress,
    role_option,
    signals,
)
from aynig.daemon import Engine
from aynig.errors import AynigError
from aynig.git.address import redact
from aynig.notices import Notice
from aynig.settings import HERE
from aynig.site import Site, open_place
from aynig.story import RunRow
from aynig.text import shell_word

# Holds that somebody has to mend: the machine, the remote, the workflow, or an error of ours.
_FAULTS = frozenset(
    {"error", "unwritable", "unreachable", "refused", "broken", "unreadable", "bad-config"}
)


@click.command("run")
@branch_option
@jobs_option
@role_option
@agent_option
@remotes_option
@dialect_option
@click.option("--no-follow", is_flag=True, help="Run each task once, and leave its next state.")
@click.option(
    "--take-over",
    is_flag=True,
    help="Wait for leases of other machines until they are renewed, or run out and can be taken.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but the closing table.")
@json_option
def command(
    branches: tuple[str, ...],
    jobs: str | None,
    roles: tuple[str, ...],
    agent: str | None,
    remotes: tuple[str, ...],
    dialect: str | None,
    no_follow: bool,
    take_over: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Run all that is actionable now, follow chains until quiet, and end.

    Exit status 1 if a run failed or its answer was refused, or if a repository, a remote or the
    workflow is out of order; 130 on interrupt. Tasks that wait (a later retry, uncommitted work in
    the way, the lease of another runner) are left for the next time.

    \b
    Example:
      aynig run --branch 'task/*' --jobs 4
      aynig run --remote origin
    """
    flags = {"branches": branches, "jobs": jobs, "roles": roles, "agent": agent}
    flags["dialect"] = dialect
    names = remotes_of(".", remotes)
    sites = [_open(name, flags) for name in names]
    heard = _Heard(progress=not quiet and not as_json, named=len(sites) > 1)
    audience = Audience(heard.take)
    engine = Engine(
        sites,
        audience.hear,
        jobs=sites[0].settings.jobs,
        poll=sites[0].settings.poll,
        until_quiet=True,
        follow=not no_follow,
        take_over=take_over,
    )
    audience.stops(engine)
    failure: AynigError | None = None
    with signals(engine) as caught:
        try:
            engine.run()
        except AynigError as error:
            # What was done until then, and elsewhere, is told all the same.
            failure = error
    audience.check()
    if as_json:
        print_json([row_as_json(row) for row in heard.rows])
    elif heard.rows or failure is None:
        print_run_table(heard.rows, held=len(heard.held), where=_status_of(names))
    if not heard.progress:
        for fault in heard.faults:
            print_progress(fault, named=heard.named)
    if caught:
        return 130
    if failure is not None:
        raise failure
    return 1 if heard.faults or any(row.failed for row in heard.rows) else 0


@dataclass
class _Heard:
    """What was told of the work: the runs that ended, and what holds a task at the end."""

    # Is each notice shown when it comes, and with the name of its repository?
    progress: bool
    named: bool
    rows: list[RunRow] = field(default_factory=list)
    held: dict[tuple[str, str], Notice] = field(default_factory=dict)

    def take(self, notice: Notice) -> None:
        if notice.row is not None:
            self.rows.append(notice.row)
        if notice.branch and notice.kind != "event":
            # What it was held by before is over.
            self.held.pop((notice.repository, notice.branch), None)
        if notice.kind == "hold":
            self.held[notice.repository, notice.branch] = notice
        if self.progress:
            print_progress(notice, named=self.named)

    @property
    def faults(self) -> list[Notice]:
        return [notice for notice in self.held.values() if notice.hold in _FAULTS]


def _open(name: str, flags: Mapping[str, object]) -> Site:
    """The same name as a daemon gives it: the remote as it was named, a URL too."""
    site = open_place(".", name, **flags)
    if site.clone is None:
        return site
    return replace(site, name=f"{site.clone.name}:{redact(name)}")


def _status_of(names: Sequence[str]) -> str:
    """The command that says what holds tasks of these."""
    if len(names) > 1 or names == (HERE,):
        return "aynig status"
    return f"aynig status --remote {shell_word(redact(names[0]))}"
