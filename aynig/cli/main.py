"""Parses and delegates: one file a command, imported only when it is called.

The only door out: errors become one line and an exit status (2 for wrong use, 1 for failure, 130
for an interrupt).
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from aynig import __version__
from aynig.errors import AynigError, ConfigError, UsageError

# Command -> the module that has it and its help line. Kept here as text, so that `aynig --help`
# and `aynig respond` need not import what all the others need.
COMMANDS = {
    "init": "Make .aynig/ with a sample state that works at once.",
    "submit": "Write a state commit on a branch: a new task, or the next state of one.",
    "run": "Run all that is actionable now, follow chains until quiet, and end.",
    "daemon": "Watch repositories and run their tasks until told to stop.",
    "status": "Show a row a branch: its state, and what holds it.",
    "runners": "Show a row a runner: what it is running, or that it is idle.",
    "log": "Show the story of a task: each state, who executed it, how long.",
    "costs": "Show what was spent: by task, state, agent or day.",
    "logs": "Show what a script printed, also while it runs.",
    "retry": "Write a new commit with the state that failed.",
    "resume": "Let a task go on that waits for its circuit breaker.",
    "assign": "Give a task to an agent or role, or to nobody.",
    "reopen": "Send a task that is done back to work.",
    "cancel": "Stop a task: end its script and write canceled.",
    "approve": "Say yes to what a task asks for.",
    "reject": "Say no to what a task asks for, and why.",
    "answer": "Answer a question of a task.",
    "judge": "Publish a hash of hidden scenarios, and reveal them later.",
    "audit": "Check what a task was verified by against what judges published.",
    "respond": "Inside a script: write the answer file.",
    "child": "Inside a script: ask for a child of its task.",
    "set-state": "Commit the next state in the dialect dwp.",
    "set-working": "Take or renew the on-branch lease of the dialect dwp.",
    "check": "Check config.yaml and the scripts it needs; for hooks and CI.",
    "graph": "Draw the declared workflow: as text, Mermaid or DOT.",
    "hooks": "Install, remove or show the git hooks that wake a daemon.",
    "doctor": "Check git, hooks, limits and leftovers, and say how to mend each.",
    "demo": "Run a small workflow in a repository of its own and show its history.",
}


# As a shell shows that a reader went away: 128 and the number of the signal.
_SIGPIPE = 141


class LazyGroup(click.Group):
    """A group whose commands are modules of this package, imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"aynig.cli.{cmd_name.replace('-', '_')}")
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from aynig.text import nearest

            near = nearest(args[0], COMMANDS)
            if near is None:
                raise
            text = f"{error.message.rstrip('.')}, did you mean {near}?"
            raise click.UsageError(text, ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "-V", "--version", message="aynig %(version)s")
@click.option(
    "-C",
    "folder",
    metavar="PATH",
    type=click.Path(exists=True, file_okay=False),
    help="Work as if started in PATH.",
)
def cli(folder: str | None) -> None:
    """All you need is git: commits with a state go in, the answers come back as commits.

    \b
    Try it:
      aynig demo
      aynig init && git add .aynig && git commit -m "Add aynig"
      aynig submit hello -m "A first task" && aynig run
    """
    if folder is not None:
        os.chdir(folder)


def main(args: list[str] | None = None) -> None:
    """Run the command line and exit."""
    try:
        status = run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        # What is left in a buffer would be tried again, and complained about, on the way out.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())
        status = _SIGPIPE
    sys.exit(status)


def run(args: list[str] | None = None) -> int:
    """Run the command line; the exit status."""
    try:
        status: Any = cli.main(args=args, prog_name="aynig", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("aynig: interrupted", err=True)
        return 130
    except click.exceptions.NoArgsIsHelpError as error:
        # Its message is the whole help.
        click.echo(error.format_message(), err=True)
        return 2
    except click.ClickException as error:
        return _complain(error.format_message(), _usage_hint(error), 2)
    except AynigError as error:
        status = 2 if isinstance(error, UsageError | ConfigError) else 1
        return _complain(str(error), error.hint, status)
    except SystemExit:
        # So click ends us where whoever read our output has seen enough: `aynig log | head`.
        return _SIGPIPE
    except OSError as error:
        return _complain(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "), "", 1)
    return status if isinstance(status, int) else 0


def _usage_hint(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f"See `{context.command_path} --help`." if context is not None else ""


def _complain(message: str, hint: str, status: int) -> int:
    from aynig.text import escape

    line = escape(message.strip()).rstrip(".")
    if hint:
        stop = "" if line.endswith("?") else "."
        line = f"{line}{stop} {escape(hint[:1].upper() + hint[1:])}"
    click.echo(f"aynig: {line}", err=True)
    return status
