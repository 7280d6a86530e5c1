"""`aynig check`: is the workflow right?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from aynig.cli.declaration import folder_argument, place_of, rev_option
from aynig.cli.output import json_option, paint, print_json
from aynig.errors import ConfigError
from aynig.flaws import ERROR, NOTE, WARNING
from aynig.text import counted, escape
from aynig.yamlfile import PlacedError

_COLOURS = {WARNING: "yellow", NOTE: "cyan"}


@click.command("check")
@rev_option
@click.option("--strict", is_flag=True, help="Let warnings count as errors do.")
@json_option
@folder_argument
def command(folder: str | None, rev: str | None, strict: bool, as_json: bool) -> int:
    """Check .aynig/config.yaml and the scripts that it needs; a line for each finding.

    Reads the files as they lie in the working tree, committed or not, so that it serves as a
    pre-commit hook and in CI. In a bare repository it reads the default branch. FOLDER is another
    folder with an .aynig/ in it.

    Exit status 1 if there is an error, with --strict also if there is a warning.

    \b
    Example:
      aynig check
      aynig check --rev origin/main
      aynig check --strict examples/ralph-loop
    """
    place = place_of(folder, rev)
    try:
        declared = place.read()
    except PlacedError as error:
        found = [_row(place.where, ERROR, "malformed", error.line, error.path, error)]
        summary = ""
    except ConfigError as error:
        found = [_row(place.where, ERROR, "malformed", None, "", error)]
        summary = ""
    else:
        found = [
            {
                "level": flaw.level,
                "word": flaw.word,
                "file": place.where,
                "line": declared.line_of(flaw.path),
                "path": flaw.path,
                "detail": flaw.detail,
                "mend": flaw.mend,
            }
            for flaw in declared.flaws
        ]
        summary = _summary(place.where, declared.given, len(declared.workflow.states))
    if as_json:
        print_json(found)
    else:
        _print(found, summary)
    counting = (ERROR, WARNING) if strict else (ERROR,)
    return 1 if any(row["level"] in counting for row in found) else 0


def _row(
    where: str, level: str, word: str, line: int | None, path: str, error: ConfigError
) -> dict[str, Any]:
    return {
        "level": level,
        "word": word,
        "file": where,
        "line": line,
        "path": path or None,
        "detail": error.text if isinstance(error, PlacedError) else str(error),
        "mend": error.hint,
    }


def _summary(where: str, given: bool, states: int) -> str:
    if not given:
        return f"There is no {where}: all states have the defaults."
    return f"{where} is right: {counted(states, 'state')}."


def _print(found: Sequence[Mapping[str, Any]], summary: str) -> None:
    for row in found:
        line = f", line {row['line']}" if row["line"] else ""
        path = f"{row['path']}: " if row["path"] else ""
        mend = f"; {row['mend'][:1].lower()}{row['mend'][1:].rstrip('.')}" if row["mend"] else ""
        level = paint(row["level"], _COLOURS.get(row["level"]))
        click.echo(f"{escape(row['file'] + line)}: {level}: {escape(path + row['detail'] + mend)}")
    errors = sum(row["level"] == ERROR for row in found)
    warnings = sum(row["level"] == WARNING for row in found)
    if errors or warnings:
        click.echo(f"{counted(errors, 'error')}, {counted(warnings, 'warning')}.")
    else:
        click.echo(escape(summary))
