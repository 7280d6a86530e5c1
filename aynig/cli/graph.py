"""`aynig graph`: the declared workflow as a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from aynig.cli.declaration import folder_argument, place_of, rev_option
from aynig.cli.output import json_option, print_json
from aynig.drawing import Drawing, as_dot, as_mermaid, as_text, drawing_of
from aynig.errors import UsageError
from aynig.flow import Edge
from aynig.text import escape

_FORMATS: dict[str, Callable[[Drawing], list[str]]] = {
    "text": as_text,
    "mermaid": as_mermaid,
    "dot": as_dot,
}


@click.command("graph")
@rev_option
@click.option(
    "--format",
    "form",
    type=click.Choice(list(_FORMATS)),
    help="How it is drawn; without it as text.",
)
@json_option
@folder_argument
def command(folder: str | None, rev: str | None, form: str | None, as_json: bool) -> int:
    """Draw the workflow that .aynig/config.yaml declares, with the scripts beside it.

    A script may itself answer any state: the picture has what the file says, and for states that
    it says nothing of the default. FOLDER is another folder with an .aynig/ in it.

    \b
    Example:
      aynig graph
      aynig graph --format dot | dot -Tsvg >workflow.svg
      aynig graph --format mermaid --rev main
    """
    if as_json and form is not None:
        raise UsageError("--json and --format don't go together", hint="Give one of them.")
    declared = place_of(folder, rev).read()
    flow = declared.flow
    drawing = drawing_of(declared.workflow, declared.offer, flow)
    if as_json:
        leaving = flow.leaving()
        print_json([_row(drawing, name, leaving[name]) for name in flow.states])
        return 0
    for line in _FORMATS[form or "text"](drawing):
        click.echo(escape(line))
    if not flow.states:
        click.echo("There is neither a state in the file nor a script.", err=True)
    return 0


def _row(drawing: Drawing, name: str, leaving: Sequence[Edge]) -> dict[str, Any]:
    return {
        "state": name,
        "begins": name in drawing.flow.begins,
        "notes": list(drawing.notes[name]),
        "leads_to": [{"state": edge.target, "why": edge.why or None} for edge in leaving],
    }
