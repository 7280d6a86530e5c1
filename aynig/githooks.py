"""Puts the git hooks in place that wake a daemon, and takes them out again.

What was there before stays and still runs: it is kept as `<name>.before-aynig`, is called first
by ours if it is executable, and comes back byte for byte when ours goes. Each of our files ends
in a line with a checksum of all above it, so a hook that somebody has changed since is told from
ours and left alone.

What lies in `hooks/` is put back when it changes while a script runs (`git.guard`), so what is
done here is announced.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from aynig import __version__
from aynig.errors import RepositoryError, UserError
from aynig.git.fence import configured_hooks
from aynig.git.guard import announcing
from aynig.git.repo import Repo
from aynig.resources import hooks_folder

# Hook -> the file of ours that becomes it.
LOCAL = dict.fromkeys(("post-commit", "post-merge", "post-checkout", "post-rewrite"), "local")
SERVER = {"post-receive": "post-receive"}
# What the server's hook starts. It is no hook: git knows no such name.
WAKE = "aynig-wake"
KEPT = ".before-aynig"

_PROGRAM_LINE = "# @program@\n"
_SUM_LINE = re.compile(rb"# aynig-hook ([^ \n]+) ([0-9a-f]{64})\n")
_PROGRAM = re.compile(r"^aynig\(\) \{ (.*) \"\$@\"; \}$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class HookRow:
    """One hook as it is.

    `state`: `absent`; `installed`; `outdated` (ours, of another version or for another program);
    `not-executable` (ours, but git passes over it); `changed` (ours, and edited since); `foreign`
    (somebody else's).
    """

    hook: str
    path: Path
    state: str
    # The version of aynig that installed it; empty for a hook that is not ours.
    version: str
    # The earlier hook, which ours calls first where it is executable.
    previous: Path | None
    # A sentence where there is more to say.
    detail: str = ""

    @property
    def calls(self) -> Path | None:
        """What ours calls first: an earlier hook without run bit is passed over, as by git."""
        return self.previous if self.previous and os.access(self.previous, os.X_OK) else None


@dataclass(frozen=True, slots=True)
class Change:
    """What was done about one hook: `installed`, `updated`, `unchanged`, `restored`, `removed`,
    `left`, and why."""

    hook: str
    path: Path
    action: str
    detail: str = ""


# --- where -----------------------------------------------------------------------------------


def hooks_path(repo: Repo) -> Path:
    """The folder in which git looks for hooks: `core.hooksPath`, else `hooks` of the repository.

    Reference: git-config(1), core.hooksPath: a relative one starts where hooks are run, which is
    the top of the working tree, or the git directory of a bare repository (githooks(5)).
    """
    said = configured_hooks(repo)
    if said:
        return (repo.work_tree or repo.common_dir) / said
    return own_folder(repo)


def own_folder(repo: Repo) -> Path:
    """The `hooks` folder inside the git directory."""
    return repo.common_dir / "hooks"


def is_shared(repo: Repo) -> bool:
    """Do the hooks lie where other repositories may use them too (core.hooksPath)?"""
    return hooks_path(repo) != own_folder(repo)


# --- looking ---------------------------------------------------------------------------------


def status(repo: Repo, hooks: dict[str, str]) -> list[HookRow]:
    """A row a hook, in the order given."""
    folder = hooks_path(repo)
    return [_look(repo, folder, name, source) for name, source in hooks.items()]


def _look(repo: Repo, folder: Path, name: str, source: str) -> HookRow:
    path, kept = folder / name, folder / (name + KEPT)
    previous = kept if kept.exists() or kept.is_symlink() else None
    state, version, detail = _judge(path, source)
    if source == "post-receive" and state in ("installed", "outdated"):
        state, detail = _judge_wake(repo, state)
    row = HookRow(name, path, state, version, previous, detail)
    if version and previous is not None and row.calls is None:
        row = replace(row, detail=f"{detail}; {_first(previous)}" if detail else _first(previous))
    return row


def _judge(path: Path, source: str) -> tuple[str, str, str]:
    """State, version and detail of one file."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        if path.is_symlink():
            return "foreign", "", "a symbolic link to nothing"
        return "absent", "", ""
    except OSError as error:
        return "foreign", "", f"can't be read: {error.strerror}"
    version = _version_of(data)
    if version is None:
        return "foreign", "", ""
    if not version:
        return "changed", "", "edited after it was installed"
    if not os.access(path, os.X_OK):
        return "not-executable", version, "git passes over it"
    if data != _sealed(_template(source)):
        return "outdated", version, "of another version of aynig"
    return "installed", version, ""


def _judge_wake(repo: Repo, state: str) -> tuple[str, str]:
    program = installed_program(repo)
    if program is None:
        return "outdated", f"{WAKE} is missing, so pushes start nothing here"
    if not _is_program(program[0]):
        return "outdated", f"starts {program[0]}, which is gone"
    return state, f"starts {shlex.join(program)}" if state == "installed" else ""


def _version_of(data: bytes) -> str | None:
    """The version that sealed a hook; empty where it was changed since, None if it is not ours."""
    head, _, last = data[:-1].rpartition(b"\n")
    match = _SUM_LINE.fullmatch(last + b"\n") if data.endswith(b"\n") else None
    if match is None:
        return "" if b"\n# aynig-hook " in data else None
    body = head + b"\n"
    return match[1].decode() if hashlib.sha256(body).hexdigest() == match[2].decode() else ""


def installed_program(repo: Repo) -> list[str] | None:
    """The command that the server's hook starts `aynig` with; None where it is not installed."""
    try:
        text = (own_folder(repo) / WAKE).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    match = _PROGRAM.search(text)
    try:
        words = shlex.split(match[1]) if match else []
    except ValueError:
        words = []
    # `PYTHONPATH=… program`: assignments come first.
    while words and re.match(r"[A-Z]+=", words[0]):
        del words[0]
    return words or None


# --- installing ------------------------------------------------------------------------------


def install(repo: Repo, hooks: dict[str, str]) -> list[Change]:
    """Put hooks in place; what is there already is kept and called first. Harmless to repeat.

    Raises UserError, before anything is changed, where the folder or a hook stands in the way.
    """
    with announcing(repo):
        folder = _checked_folder(hooks_path(repo))
        rows = [_look(repo, folder, name, source) for name, source in hooks.items()]
        for row in rows:
            _refuse_conflict(row)
        if hooks.keys() & SERVER.keys():
            wake = _checked_folder(own_folder(repo)) / WAKE
            _put(wake, _sealed(_with_program(_template(WAKE), program_words())))
        return [_install(row, hooks[row.hook]) for row in rows]


def _checked_folder(folder: Path) -> Path:
    if folder.is_symlink():
        raise UserError(
            f"{folder} is a symbolic link to {folder.readlink()}",
            hint="Name that folder with `git config core.hooksPath`, or make it a folder.",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} can't be made: {error.strerror}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(
            f"{folder} is not writable", hint="Install as its owner, or change its mode."
        )
    return folder


def _refuse_conflict(row: HookRow) -> None:
    kept = row.path.with_name(row.hook + KEPT)
    if row.state == "foreign" and row.previous is not None:
        raise UserError(
            f"{row.path} is not aynig's, and an earlier hook is kept as {kept.name}",
            hint="Make one hook of the two, remove the other, and install again.",
        )
    if row.state == "changed":
        raise UserError(
            f"{row.path} was changed after aynig installed it",
            hint=f"Move it to {kept.name} if it is to be called, or delete it; install again.",
        )


def _install(row: HookRow, source: str) -> Change:
    if row.state == "installed":
        return Change(row.hook, row.path, "unchanged")
    ours = row.state in ("outdated", "not-executable")
    if row.state == "foreign":
        _keep(row.path)
    _put(row.path, _sealed(_template(source)))
    kept = row.path.with_name(row.path.name + KEPT)
    detail = _first(kept) if row.state == "foreign" or row.previous else ""
    return Change(row.hook, row.path, "updated" if ours else "installed", detail)


def _first(kept: Path) -> str:
    """What becomes of an earlier hook."""
    if os.access(kept, os.X_OK):
        return f"{kept.name} is called first"
    return f"{kept.name} is kept and not called: it has no run bit, so git passed over it too"


def _keep(path: Path) -> None:
    """Give an earlier hook a second name: at no moment does git find none."""
    kept = path.with_name(path.name + KEPT)
    try:
        os.link(path, kept, follow_symlinks=False)
    except (OSError, NotImplementedError):
        # A file system without hard links, or a system that can't link a link itself (os.link).
        path.rename(kept)


def _put(path: Path, data: bytes) -> None:
    """Write a hook aside and rename it into place: git may start it at any moment."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_bytes(data)
        # Executable for whoever may read it, as the umask has it.
        aside.chmod(aside.stat().st_mode | (aside.stat().st_mode & 0o444) >> 2)
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise UserError(f"{path} can't be written: {error.strerror}") from error


def _template(source: str) -> bytes:
    path = hooks_folder() / source
    try:
        return path.read_bytes()
    except OSError as error:
        raise RepositoryError(
            f"{path} is missing: {error.strerror}", hint="Install aynig again."
        ) from error


def _sealed(text: bytes) -> bytes:
    return text + b"# aynig-hook %s %s\n" % (
        __version__.encode(),
        hashlib.sha256(text).hexdigest().encode(),
    )


def _with_program(text: bytes, words: list[str]) -> bytes:
    # shlex.quote, but for assignments, which a shell does not know in quotes.
    line = f'aynig() {{ {" ".join(map(_quoted, words))} "$@"; }}\n'
    return text.replace(_PROGRAM_LINE.encode(), os.fsencode(line), 1)


def _quoted(word: str) -> str:
    name, found, value = word.partition("=")
    if found and re.fullmatch(r"[A-Z]+", name):
        return f"{name}={shlex.quote(value)}"
    return shlex.quote(word)


def program_words() -> list[str]:
    """The command that starts this very aynig from anywhere.

    `-P` keeps Python from importing what lies in the folder that it is started in, which is a
    repository that others push to. Raises UserError where this Python can't be started again.
    """
    words = [sys.executable, "-P", "-m", "aynig"]
    if _answers(words):
        return words
    # From a checkout that is not installed.
    words = [f"PYTHONPATH={Path(__file__).resolve().parent.parent}", *words]
    if _answers(["env", *words]):
        return words
    raise UserError(
        f"{sys.executable} can't start aynig outside of this folder",
        hint="Install aynig, and run its own `aynig hooks install`.",
    )


def _answers(words: list[str]) -> bool:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    try:
        done = subprocess.run(
            [*words, "--version"], cwd="/", env=kept, capture_output=True, check=False
        )
    except OSError:
        return False
    return done.returncode == 0


# --- uninstalling ----------------------------------------------------------------------------


def uninstall(repo: Repo, hooks: dict[str, str]) -> list[Change]:
    """Take our hooks out and put the earlier ones back.

    A hook that was changed since, or that is not ours, is left alone, and so is what is kept
    beside it.
    """
    folder = hooks_path(repo)
    rows = [_look(repo, folder, name, source) for name, source in hooks.items()]
    with announcing(repo):
        changes = list(_uninstall(rows))
        if hooks.keys() & SERVER.keys():
            # Without it a post-receive that was left starts nothing here.
            wake = own_folder(repo) / WAKE
            with _told(wake):
                wake.unlink(missing_ok=True)
    return changes


def _uninstall(rows: list[HookRow]) -> Iterator[Change]:
    for row in rows:
        if row.state in ("changed", "foreign"):
            if row.state == "changed" or row.previous is not None:
                beside = f"; the earlier hook is {row.previous.name}" if row.previous else ""
                why = "it was changed since" if row.state == "changed" else "it is not aynig's"
                yield Change(row.hook, row.path, "left", why + beside)
            continue
        if row.previous is not None:
            with _told(row.path):
                row.previous.replace(row.path)
            yield Change(row.hook, row.path, "restored", "the earlier hook is back")
        elif row.state != "absent":
            with _told(row.path):
                row.path.unlink()
            yield Change(row.hook, row.path, "removed")


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} can't be taken out: {error.strerror}") from error


def _is_program(path: str) -> bool:
    return Path(path).is_file() and os.access(path, os.X_OK)
