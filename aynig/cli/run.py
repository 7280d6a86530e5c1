"""`aynig run`: one-shot, for cron, CI and the hook that finds no daemon."""

from __future__ import annotations

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
from aynig.notices import Notice
from aynig.site import open_place
from aynig.story import RunRow


@click.command("run")
@branch_option
@jobs_option
@role_option
@agent_option
@remotes_option
@dialect_option
@click.option("--no-follow", is_flag=True, help="Run each task once, and leave its next state.")
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
    quiet: bool,
    as_json: bool,
) -> int:
    """Run all that is actionable now, follow chains until quiet, and end.

    Exit status 1 if a run failed or its answer was refused, or a remote would not take it; 130 on
    interrupt. Tasks that wait (a later retry, uncommitted work in the way) are left for the next
    time.

    \b
    Example:
      aynig run --branch 'task/*' --jobs 4
    """
    flags = {"branches": branches, "jobs": jobs, "roles": roles, "agent": agent}
    flags["dialect"] = dialect
    sites = [open_place(".", name, **flags) for name in remotes_of(".", remotes)]
    rows: list[RunRow] = []
    faults: list[Notice] = []

    def observe(notice: Notice) -> None:
        if notice.row is not None:
            rows.append(notice.row)
        if notice.hold in ("error", "unwritable", "unreachable", "refused"):
            faults.append(notice)
        if not quiet and not as_json:
            print_progress(notice)

    audience = Audience(observe)
    engine = Engine(
        sites,
        audience.hear,
        jobs=sites[0].settings.jobs,
        poll=sites[0].settings.poll,
        until_quiet=True,
        follow=not no_follow,
    )
    audience.stops(engine)
    with signals(engine) as caught:
        engine.run()
    audience.check()
    if as_json:
        print_json([row_as_json(row) for row in rows])
    else:
        print_run_table(rows)
    if caught:
        return 130
    return 1 if faults or any(row.failed for row in rows) else 0
