"""The one place that starts the git binary: argument lists only, a cleaned environment.

Design section 3, Trust: never through a shell, no hooks, no fsmonitor, no lazy fetch, no prompt.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from aynig.errors import GitFailed, file_too_large
from aynig.processes import OWN

# What `git rev-parse --local-env-vars` names, and what git sets for hooks: a repository that was
# meant by somebody else must not become ours (design section 5, inside hooks).
_KEPT_VARIABLES = (
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_EXEC_PATH",
    "GIT_AUTHOR_",
    "GIT_COMMITTER_",
    "GIT_SSH",
    "GIT_ASKPASS",
    "GIT_SSL_",
    "GIT_PROXY_",
)

# How long, in seconds, a git that was told to end may take for it.
_TERM_PATIENCE = 5.0
# How often, in seconds, it is asked whether a command whose time may change has had its time.
_GLANCE = 0.2

SAFE_SETTINGS = (
    "-c", "core.hooksPath=/dev/null",
    "-c", "core.fsmonitor=false",
    "-c", "submodule.recurse=false",
    "-c", "gc.auto=0",
    "-c", "maintenance.auto=false",
)  # fmt: skip


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for a git command of ours: nothing that names a repository."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name.startswith(_KEPT_VARIABLES)
    }
    kept |= {
        # Its messages are read here, and LANGUAGE goes before LC_ALL (gettext(3)).
        "LANGUAGE": "",
        "LC_ALL": "C.UTF-8",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_ADVICE": "0",
    }
    return kept | dict(extra or {})


def run_git(
    git_dir: Path | None,
    args: Sequence[str],
    *,
    work_tree: Path | None = None,
    settings: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    cwd: Path | None = None,
    until: Callable[[], float] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run one git command to its end; the caller looks at the exit status.

    `until` says by when, on the monotonic clock, it has to have ended; it is asked again and again.

    Raises GitFailed where it could not be started at all, Unwritable where a limit of file sizes
    ended it, subprocess.TimeoutExpired where it had not ended in time and was ended.
    """
    command = ["git", *SAFE_SETTINGS, *settings]
    extra = dict(env or {})
    if git_dir is not None:
        command.append(f"--git-dir={git_dir}")
    if work_tree is not None:
        command.append(f"--work-tree={work_tree}")
        cwd = cwd or work_tree
    with _held(stdin) if until is not None and stdin else contextlib.nullcontext() as held:
        try:
            child = start_git(
                [*command, *args],
                cwd=cwd,
                env=clean_environment(extra),
                stdin=subprocess.PIPE if held is None else held,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except (OSError, ValueError) as error:
            raise _not_started(error, cwd) from error
        try:
            output, complaints = _communicate(child, stdin, until)
        finally:
            if child.returncode is None:
                _end(child)
            OWN.ended(child.pid)
    if child.returncode == -signal.SIGXFSZ:
        # It could not say so itself: a limit of file sizes ends a program that does not expect it.
        # Without a repository it was to make one, which is named last.
        raise file_too_large(git_dir or cwd or args[-1])
    return subprocess.CompletedProcess(command, child.returncode, output, complaints)


def pipe_git(
    source: Path, give: Sequence[str], sink: Path, take: Sequence[str], *, stdin: bytes
) -> None:
    """Run two git commands, the output of the first being the input of the second.

    `source` and `sink` are git directories, `stdin` is what the first reads. However much there is,
    it never is in our memory. Raises GitFailed where one of them fails.
    """
    with contextlib.ExitStack() as stack:
        held = stack.enter_context(_held(stdin))
        complaints = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(2)]
        first = _start_in(stack, source, give, held, subprocess.PIPE, complaints[0])
        assert first.stdout is not None
        with first.stdout as between:
            second = _start_in(stack, sink, take, between, subprocess.DEVNULL, complaints[1])
        statuses = [child.wait() for child in (first, second)]
        # The first fails as well where the second does not take what it says.
        for args, status, said in reversed(
            list(zip((give, take), statuses, complaints, strict=True))
        ):
            if status:
                said.seek(0)
                raise GitFailed(f"git {args[0]} failed: {reason(said.read())}")


def _start_in(
    stack: contextlib.ExitStack,
    git_dir: Path,
    args: Sequence[str],
    stdin: IO[bytes],
    stdout: int,
    stderr: IO[bytes],
) -> subprocess.Popen[bytes]:
    """A git that is ended, if it has not ended by then, and waited for with the stack."""
    try:
        child = start_git(
            ["git", *SAFE_SETTINGS, f"--git-dir={git_dir}", *args],
            env=clean_environment(),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
        )
    except (OSError, ValueError) as error:
        raise _not_started(error, None) from error
    stack.callback(OWN.ended, child.pid)
    stack.callback(_end_if_running, child)
    return child


def _end_if_running(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        _end(child)


@contextlib.contextmanager
def _held(stdin: bytes) -> Iterator[IO[bytes]]:
    """A file to read the input from.

    Of a pipe, `Popen.communicate` forgets what it had not written yet when its time was over.
    """
    with tempfile.TemporaryFile() as file:
        file.write(stdin)
        file.seek(0)
        yield file


def _communicate(
    child: subprocess.Popen[bytes], stdin: bytes, until: Callable[[], float] | None
) -> tuple[bytes, bytes]:
    """Output and complaints of a child that may have been given its input already."""
    if until is None:
        return child.communicate(stdin)
    while True:
        left = max(until() - time.monotonic(), 0.0)
        try:
            return child.communicate(timeout=min(left, _GLANCE))
        except subprocess.TimeoutExpired:
            if until() <= time.monotonic():
                raise


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a git with all that it has started: the helper of a transport outlives it otherwise.

    First with SIGTERM, on which git takes its lock files back.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.communicate(timeout=_TERM_PATIENCE)
            return
    child.wait()


def _not_started(error: OSError | ValueError, cwd: Path | None) -> GitFailed:
    if cwd is not None and not cwd.is_dir():
        return GitFailed(f"the folder {cwd} is gone")
    if isinstance(error, FileNotFoundError):
        return GitFailed("git is not installed", hint="Install git 2.31 or later.")
    return GitFailed(f"git can't be started: {error}")


def start_git(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    stdout: int | IO[bytes],
    stderr: int | IO[bytes],
    stdin: int | IO[bytes] = subprocess.PIPE,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start git in a session of its own; `OWN.ended` when it is waited for.

    A session of its own keeps a signal to our process group from stopping git between two lock
    files (design section 5).
    """
    return OWN.start(
        lambda: subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            bufsize=0,
            start_new_session=True,
        )
    )


def git_text(git_dir: Path | None, args: Sequence[str], **options: object) -> str:
    """The standard output of a git command that has to succeed, without its last newline."""
    done = run_git(git_dir, args, **options)  # type: ignore[arg-type]
    if done.returncode:
        raise GitFailed(f"git {args[0]} failed: {reason(done.stderr)}")
    return done.stdout.decode("utf-8", "surrogateescape").removesuffix("\n")


def reason(complaints: bytes) -> str:
    """The line of git's complaints that says what is wrong, without its `fatal:`.

    That is the first one so marked: what follows is advice.
    """
    lines = complaints.decode("utf-8", "replace").strip().splitlines()
    for line in lines:
        sign, _, rest = line.partition(": ")
        if sign in ("fatal", "error") and rest:
            return rest
    return lines[-1] if lines else "no message"
