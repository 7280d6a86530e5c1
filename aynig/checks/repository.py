"""The repository: its format, who commits, its hooks, its refs and its disk."""

from __future__ import annotations

import math
import os
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from aynig import githooks
from aynig.checks import ERROR, OK, WARNING, Finding
from aynig.errors import AynigError
from aynig.git.locks import is_at_rest
from aynig.git.repo import Repo
from aynig.git.snapshot import RefReader
from aynig.model import HEADS, LEASES, RESCUES
from aynig.text import counted, shell_word

_MIB = 1024 * 1024
# A lock that git itself holds is seldom older than this; a leftover is never younger for long.
_OLD_LOCK = 600.0
# The same where no git is at work on this machine that could hold it.
_YOUNG_LOCK = 10.0


def check_format(repo: Repo) -> Iterator[Finding]:
    """What kind of repository it is, as far as it matters for running in it."""
    kind = "bare" if repo.bare else f"with the working tree {repo.work_tree}"
    yield Finding("repository", OK, f"{repo.common_dir}, {kind}")
    if (repo.common_dir / "shallow").exists():
        yield Finding(
            "repository", OK, "shallow: tasks run, but older answers in the history are not seen"
        )
    if repo.config_value("extensions.partialclone"):
        yield Finding(
            "repository",
            WARNING,
            "a partial clone: what is missing is not fetched, and a task that needs it fails",
            "git fetch --refetch --no-filter",
        )
    if repo.config_value("core.sparsecheckout") == "true":
        yield Finding("repository", OK, "sparse: scripts get all files nevertheless")


def check_identity(repo: Repo) -> Iterator[Finding]:
    """Is it configured who commits? Without, answers are by aynig itself."""
    identity = repo.identity()
    who = f"{identity.name} <{identity.email}>"
    named = os.environ.get("GIT_COMMITTER_NAME") or repo.config_value("user.name")
    address = os.environ.get("GIT_COMMITTER_EMAIL") or repo.config_value("user.email")
    if named and address:
        yield Finding("identity", OK, f"answers are by {who}")
    else:
        mend = 'git config user.name "Your Name" && git config user.email you@example.org'
        yield Finding("identity", WARNING, f"not configured: answers are by {who}", mend)


def check_hooks(repo: Repo) -> Iterator[Finding]:
    """Are the hooks that are installed as they should be? None at all is all right."""
    kinds = [(githooks.SERVER, " --server")] + [(githooks.LOCAL, "")] * (not repo.bare)
    installed = []
    for hooks, flag in kinds:
        for row in githooks.status(repo, hooks):
            ours = row.version or row.state == "changed"
            if row.state == "installed":
                installed.append(row.hook)
            elif ours or row.previous is not None:
                yield _poor_hook(row, flag)
    if installed:
        yield Finding("hooks", OK, f"installed: {', '.join(installed)}")
    else:
        yield Finding("hooks", OK, "none of aynig's is installed")


def _poor_hook(row: githooks.HookRow, flag: str) -> Finding:
    mend = f"aynig hooks install{flag}"
    detail = f"{row.path} is {row.state}"
    if row.detail:
        detail += f": {row.detail}"
    if row.state == "absent":
        detail = f"{row.path} is gone, and {row.previous} that it called is not called any more"
    elif row.state == "changed":
        mend = f"Look at it; to have aynig's own again: rm {_word(row.path)} && {mend}"
    elif row.state == "foreign":
        detail = f"{row.path} was replaced: it wakes nobody, and {row.previous} is not called"
        mend = f"Make one hook of the two, remove the other, then: {mend}"
    # One that starts a program that is gone is the only reason why pushes have no effect.
    level = ERROR if row.hook in githooks.SERVER and row.state != "changed" else WARNING
    return Finding("hooks", level, detail, mend)


def check_refs(repo: Repo, broken: Mapping[str, str]) -> Iterator[Finding]:
    """Refs that git can't read, and locks that keep git from writing some."""
    for ref, why in sorted(broken.items()):
        yield Finding("refs", ERROR, f"{ref} is broken: {why}", _mend_ref(repo, ref))
    if not broken:
        yield Finding("refs", OK, "all refs can be read")
    for lock in old_locks(repo, time.time()):
        detail = f"{lock} is there, and nobody seems to hold it: git refuses to write"
        yield Finding("locks", WARNING, detail, f"If no git is running: rm {_word(lock)}")


def broken_refs(repo: Repo) -> Mapping[str, str]:
    """All refs that can't be read, and why: one is enough for git to refuse pushes of others."""
    return RefReader(repo.common_dir, ("refs/",)).look().broken


def _mend_ref(repo: Repo, ref: str) -> str:
    """Its last value is in the reflog, where there is one (git-reflog(1))."""
    path = _word(repo.common_dir / ref)
    if ref.startswith(LEASES):
        return f"rm {path}: what was run under this lease is run again"
    git = f"git -C {_word(repo.work_tree or repo.common_dir)}"
    try:
        lines = (repo.common_dir / "logs" / ref).read_text(errors="replace").splitlines()
        oid = lines[-1].split()[1]
    except (OSError, IndexError):
        return f"rm {path}, and point it at the right commit: {git} update-ref {_word(ref)} OID"
    return f"rm {path} && {git} update-ref {_word(ref)} {oid}"


def old_locks(repo: Repo, now: float) -> list[Path]:
    """Lock files of refs, of packed-refs and of the index that nobody seems to hold any more."""
    places = [repo.common_dir / "packed-refs.lock", repo.common_dir / "HEAD.lock"]
    places.append(repo.git_dir / "index.lock")
    places += (repo.common_dir / "refs").rglob("*.lock")
    ages = {place: _age_of_lock(place, now) for place in places}
    # A git on another machine that shares the disk is not seen here: so old ones count anyway.
    enough = _OLD_LOCK if max(ages.values()) < _YOUNG_LOCK or not is_at_rest(repo) else _YOUNG_LOCK
    return [place for place, age in ages.items() if age > enough]


def _age_of_lock(path: Path, now: float) -> float:
    """In seconds; below all others where there is none."""
    try:
        found = path.lstat()
    except OSError:
        return -math.inf
    return now - found.st_mtime if stat.S_ISREG(found.st_mode) else -math.inf


def check_rescues(repo: Repo) -> Iterator[Finding]:
    """Work of failed runs is kept until somebody deletes it."""
    yield tell_rescues(
        len(repo.refs_below(RESCUES)),
        look=f"git log --oneline --no-walk --glob='{RESCUES}*'",
        delete=f"git update-ref -d {RESCUES}RUN",
    )


def tell_rescues(count: int, *, where: str = "", look: str, delete: str) -> Finding:
    """How much work of failed runs is kept, with the commands that show and delete it."""
    if not count:
        return Finding("rescues", OK, f"no work of failed runs is kept{where}")
    kept = f"the work of {counted(count, 'failed run')} is kept{where} below {RESCUES}"
    return Finding("rescues", OK, kept, f"{look}; to delete one: {delete}")


def check_space(repo: Repo) -> Iterator[Finding]:
    """Room on the disk that holds the repository."""
    try:
        free = shutil.disk_usage(repo.common_dir).free
        inodes = os.statvfs(repo.common_dir)
    except OSError as error:
        yield Finding("space", WARNING, f"can't be told: {error.strerror}")
        return
    detail = f"{free // _MIB} MiB free"
    mend = "Make room; old run folders go after `git config aynig.retention`."
    if inodes.f_files and inodes.f_favail < 1000:
        yield Finding("space", WARNING, f"{inodes.f_favail} files can still be made", mend)
    elif free < 64 * _MIB:
        yield Finding("space", ERROR, detail, mend)
    elif free < 1024 * _MIB:
        yield Finding("space", WARNING, detail, mend)
    else:
        yield Finding("space", OK, detail)


def ref_folders(repo: Repo) -> int:
    """How many folders a daemon has to watch."""
    heads = repo.common_dir / HEADS
    return 2 + sum(len(folders) for _, folders, _ in os.walk(heads))


def guarded(check: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """A check that can't be made is a finding as well."""
    try:
        yield from findings
    except (AynigError, OSError) as error:
        mend = error.hint if isinstance(error, AynigError) else ""
        yield Finding(check, ERROR, str(error), mend)


def _word(path: Path | str) -> str:
    return shell_word(str(path))
