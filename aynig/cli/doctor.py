"""`aynig doctor`: what is wrong, and how to mend it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from aynig.checks import ERROR, WARNING, Finding
from aynig.cli.output import json_option, paint, print_json, print_table
from aynig.cli.place import refuse_empty
from aynig.diagnosis import examine, mend
from aynig.text import counted, escape


@click.command("doctor")
@click.option("--mend", "mends", is_flag=True, help="First clean up what crashed runs left.")
@click.option(
    "--remote",
    "remotes",
    callback=refuse_empty,
    metavar="NAME",
    multiple=True,
    help="Check this remote too, and try to write refs/aynig/ there; repeatable.",
)
@json_option
def command(mends: bool, remotes: tuple[str, ...], as_json: bool) -> int:
    """Check git, hooks, limits, scripts and leftovers, and say how to mend each.

    Works outside of a repository too, and then checks the machine only. Exit status 1 if there
    is an error; warnings leave it at 0.

    \b
    Example:
      aynig doctor
      aynig doctor --mend
      aynig doctor --remote origin
    """
    done = mend(Path.cwd(), remotes) if mends else []
    findings = [Finding("mended", "ok", text) for text in done]
    findings += examine(Path.cwd(), remotes)
    if as_json:
        print_json(
            [
                {
                    "check": finding.check,
                    "level": finding.level,
                    "detail": finding.detail,
                    "mend": finding.mend or None,
                }
                for finding in findings
            ]
        )
    else:
        _print(findings)
    return 1 if any(finding.level == ERROR for finding in findings) else 0


def _print(findings: Sequence[Finding]) -> None:
    print_table(
        ("check", "level", "detail"),
        [(finding.check, finding.level, finding.detail) for finding in findings],
        stretch="detail",
    )
    poor = [finding for finding in findings if finding.level in (WARNING, ERROR)]
    for finding in poor:
        click.echo(f"\n{paint(finding.level)} {finding.check}: {escape(finding.detail)}")
        if finding.mend:
            click.echo(f"  to mend: {escape(finding.mend)}")
    errors = sum(finding.level == ERROR for finding in findings)
    click.echo(f"\n{counted(errors, 'error')}, {counted(len(poor) - errors, 'warning')}.")
