"""The door: exit statuses, one line for an error, help with an example, and a light start."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import signal
import subprocess
import sys

import click
import pytest

from aynig.cli import main
from aynig.cli.main import COMMANDS
from tests.cli.conftest import ROOT, Shell
from tests.cli.conftest import command as cli
from tests.world import GitRepo, wait_for

SCREEN = re.compile(r"^ +aynig .*$", re.MULTILINE)


def command(name: str) -> click.Command:
    module = importlib.import_module(f"aynig.cli.{name.replace('-', '_')}")
    found = module.command
    assert isinstance(found, click.Command)
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_a_help_with_an_example(aynig: Shell, name: str) -> None:
    said = aynig(name, "--help")
    assert (said.status, said.err) == (0, "")
    assert "Example:" in said.out
    assert SCREEN.search(said.out.partition("Example:")[2])
    assert all(len(line) <= 100 for line in said.lines)


def examples(name: str) -> list[list[str]]:
    text = (command(name).help or "").partition("Example:")[2]
    found = []
    for line in SCREEN.findall(text):
        words = shlex.split(line)
        end = next((place for place, word in enumerate(words) if word in ("|", "&&")), None)
        words = words[1:end]
        found.append(words[2:] if words[0] == "-C" else words)
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_each_example_uses_options_that_exist(name: str) -> None:
    called = examples(name)
    assert called
    for words in called:
        assert words[0] in COMMANDS
        found = command(words[0])
        if isinstance(found, click.Group):
            found = found.commands[words[1]]
            words = words[1:]
        known = {flag for option in found.params for flag in option.opts} | {"--help"}
        used = {word.partition("=")[0] for word in words if re.match(r"-[a-zA-Z-]", word)}
        assert used <= known, f"{words} of {sorted(known)}"


def test_the_help_names_each_command_with_its_line(aynig: Shell) -> None:
    said = aynig("--help")
    assert said.status == 0
    for name in COMMANDS:
        assert re.search(rf"^  {name} +\S", said.out, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_commands_of_the_list_are_all_there(name: str) -> None:
    assert command(name).name == name


def test_without_a_command_the_help_is_shown_and_the_status_is_that_of_wrong_use(
    aynig: Shell,
) -> None:
    said = aynig()
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith("Usage: aynig")
    assert "Commands:" in said.err


WRONG_USE = [
    ["nothing"],
    ["submit"],
    ["submit", "Bad State"],
    ["submit", "go", "--nothing"],
    ["submit", "go", "-m", "a", "-F", "b"],
    ["submit", "go", "--trailer", "x"],
    ["submit", "go", "-F", "/no/such/file"],
    ["run", "--jobs", "many"],
    ["daemon", "--poll", "soon"],
    ["log", "a", "b"],
    ["respond", "go"],
    ["-C", "/no/such/folder", "status"],
]


@pytest.mark.parametrize("args", WRONG_USE, ids=" ".join)
def test_wrong_use_is_one_line_and_exit_status_2(aynig: Shell, args: list[str]) -> None:
    said = aynig(*args)
    assert (said.status, said.out) == (2, "")
    assert re.fullmatch(r"aynig: [^\n]+\n", said.err)


FAILURES = [
    ["log", "nowhere"],
    ["logs", "nowhere"],
    ["retry", "nowhere"],
    ["cancel", "nowhere"],
]


@pytest.mark.parametrize("args", FAILURES, ids=" ".join)
def test_a_failure_is_one_line_and_exit_status_1(aynig: Shell, args: list[str]) -> None:
    said = aynig(*args)
    assert (said.status, said.out) == (1, "")
    assert re.fullmatch(r"aynig: [^\n]+\n", said.err)


@pytest.mark.parametrize("name", ["status", "run", "log", "daemon"])
def test_outside_of_a_repository_the_error_says_what_to_do(
    aynig: Shell, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    said = aynig("-C", str(tmp_path_factory.mktemp("empty")), name)
    assert (said.status, said.out) == (1, "")
    assert "not in a git repository. Change into one" in said.err
    assert said.err.count("\n") == 1


def test_a_hint_begins_with_a_capital_letter(aynig: Shell) -> None:
    assert ". Use a-z, 0-9" in aynig("submit", "Bad State").err


def test_what_an_error_quotes_is_escaped(aynig: Shell) -> None:
    said = aynig("log", "a\x1b[2J\u202e\nb")
    assert said.err.isprintable() or said.err[:-1].isprintable()


def test_the_folder_option_works_as_if_started_there(
    aynig: Shell, bare: GitRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare.commit("x\n\naynig: done\n", branch="there", parent=bare.tip())
    assert [row["branch"] for row in aynig("-C", str(bare.path), "status", "--json").rows] == [
        "there"
    ]


def test_an_interrupt_is_exit_status_130(aynig: Shell) -> None:
    aynig.repo.commit(
        "x\n\naynig: go\n",
        branch="task",
        parent=aynig.repo.tip(),
        files={".aynig/go": "#!/bin/sh\ntouch started\nexec sleep 600\n"},
    )
    process = aynig.start("run")
    assert process.stderr is not None
    line = process.stderr.readline()
    assert b"go" in line
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate()
    assert process.returncode == 130
    assert b"Traceback" not in out
    wait_for(lambda: aynig.repo.state("task") == "go")


def test_a_reader_that_goes_away_is_no_crash(aynig: Shell) -> None:
    aynig.repo.commit(f"{'word ' * 100_000}\n\naynig: go\n")
    process = aynig.start("log", "--json")
    assert process.stdout is not None
    process.stdout.read(1)
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 141


# What prints, be it much or little, on either stream: (arguments, stream that is closed).
PRINTING = [
    (["status"], "stdout"),
    (["status", "--json"], "stdout"),
    (["log", "task"], "stdout"),
    (["logs", "task"], "stdout"),
    (["logs", "-f", "task", "--json"], "stdout"),
    (["run"], "stdout"),
    (["run", "--branch", "nothing"], "stdout"),
    (["run"], "stderr"),
    (["daemon", "--log-format", "json"], "stdout"),
    (["daemon"], "stderr"),
    (["doctor"], "stdout"),
    (["hooks", "status"], "stdout"),
    (["submit", "go", "-b", "another"], "stdout"),
    (["--help"], "stdout"),
    (["no-such-command"], "stderr"),
]


@pytest.mark.parametrize(
    ("args", "stream"), PRINTING, ids=[f"{' '.join(args)} {name}" for args, name in PRINTING]
)
def test_where_nobody_reads_the_output_a_command_ends_quietly(
    aynig: Shell, args: list[str], stream: str
) -> None:
    files: dict[str, str | bytes | None] = {".aynig/go": "#!/bin/sh\necho printed\n"}
    aynig.repo.commit("x\n\naynig: go\n", branch="task", parent=aynig.repo.tip(), files=files)
    aynig("run", "-q")
    aynig.repo.commit("x\n\naynig: go\n", branch="task")
    reading, writing = os.pipe()
    os.close(reading)
    pipes: dict[str, int] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: writing}
    process = subprocess.Popen(
        cli(*args),
        cwd=aynig.repo.path,
        stdin=subprocess.DEVNULL,
        # With a buffer as everywhere else, whatever the environment of the tests says.
        env={name: text for name, text in os.environ.items() if name != "PYTHONUNBUFFERED"},
        **pipes,  # type: ignore[call-overload]
    )
    os.close(writing)
    out, err = process.communicate()
    assert process.returncode == 141
    assert b"Traceback" not in (err or b"") + (out or b"")
    assert b"Exception ignored" not in (err or b"")


HEAVY = ("pygit2", "watchdog", "yaml", "rich")


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["respond", "go"]], ids=" ".join)
def test_what_scripts_and_people_call_often_imports_nothing_heavy(
    aynig: Shell, args: list[str]
) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        f"from aynig.cli.main import run\nstatus = run({args!r})\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert not heavy, heavy\nsys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": "/bin", "AYNIG_RESPONSE": str(aynig.repo.path / "response")},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_module_runs_as_a_program(aynig: Shell) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "aynig", "--version"], cwd=ROOT, capture_output=True, check=True
    )
    assert done.stdout.startswith(b"aynig ")
    assert main.run(["--version"]) == 0


@pytest.mark.parametrize(("given", "meant"), [("statu", "status"), ("submitt", "submit")])
def test_a_command_that_is_nearly_one_is_told_from_one_that_is_none(
    given: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run([given]) == 2
    assert f"'{given}', did you mean {meant}? See `aynig --help`." in capsys.readouterr().err
    assert main.run(["quux"]) == 2
    assert "did you mean" not in capsys.readouterr().err
