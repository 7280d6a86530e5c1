"""The machine: programs, libraries and limits. Needs no repository."""

from __future__ import annotations

import contextlib
import platform
import re
import resource
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from aynig import __version__
from aynig.checks import ERROR, OK, WARNING, Finding
from aynig.errors import AynigError
from aynig.git.command import git_text
from aynig.git.versions import library_versions

# Transactions of several refs (`start`, `prepare`, `commit` of git-update-ref(1)) came with 2.27
# and GIT_CONFIG_GLOBAL with 2.32; nothing is known to be missing from 2.31 on.
OLDEST_GIT = (2, 31)
# From here on git syncs refs to disk where core.fsync asks for it (git-config(1)).
SYNCING_GIT = (2, 36)

_INOTIFY = Path("/proc/sys/fs/inotify")
# An overflow only costs a full look, but a short queue overflows all the time.
_SHORT_QUEUE = 4096
# Descriptors of a daemon at rest, and of each script that runs.
_DESCRIPTORS, _DESCRIPTORS_A_JOB = 64, 8


def check_programs() -> Iterator[Finding]:
    """git, Python, and the libraries that aynig stands on."""
    yield _git()
    yield Finding("python", OK, f"{platform.python_version()} at {sys.executable}")
    yield Finding("aynig", OK, __version__)
    versions = library_versions()
    versions |= {name: _version(name) for name in ("watchdog", "click", "PyYAML")}
    yield Finding("libraries", OK, ", ".join(f"{name} {text}" for name, text in versions.items()))


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "of unknown version"


def _git() -> Finding:
    try:
        text = git_text(None, ["--version"])
    except AynigError as error:
        return Finding("git", ERROR, str(error), "Install git 2.31 or later.")
    return judge_git(text, shutil.which("git") or "git")


def judge_git(text: str, place: str) -> Finding:
    """What `git --version` says, judged."""
    match = re.search(r"(\d+)\.(\d+)(?:\.\d+)*", text)
    if match is None:
        return Finding("git", WARNING, f"{text!r} names no version", "Check `git --version`.")
    version = (int(match[1]), int(match[2]))
    detail = f"{match[0]} at {place}"
    if version < OLDEST_GIT:
        return Finding("git", ERROR, f"{detail} is too old", "Install git 2.31 or later.")
    if version < SYNCING_GIT:
        return Finding(
            "git",
            WARNING,
            f"{detail} does not sync refs to disk, whatever core.fsync says",
            "Install git 2.36 or later if answers have to survive a power cut.",
        )
    return Finding("git", OK, detail)


def check_limits(jobs: int, folders: int) -> Iterator[Finding]:
    """Descriptors for `jobs` scripts, and inotify(7) for `folders` folders of refs."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield judge_descriptors(soft, jobs)
    if sys.platform == "linux":
        yield from judge_inotify(_limits(), folders, _instances_in_use())


def judge_descriptors(soft: int, jobs: int) -> Finding:
    """Is `ulimit -n` enough for so many scripts at the same time?"""
    needed = _DESCRIPTORS + _DESCRIPTORS_A_JOB * jobs
    if soft != resource.RLIM_INFINITY and soft < needed:
        detail = f"ulimit -n is {soft}, {jobs} jobs need about {needed}"
        return Finding("open-files", WARNING, detail, f"ulimit -n {max(1024, needed)}")
    shown = "unlimited" if soft == resource.RLIM_INFINITY else soft
    return Finding("open-files", OK, f"ulimit -n is {shown}, enough for {jobs} jobs")


def judge_inotify(limits: dict[str, int], folders: int, instances: int) -> Iterator[Finding]:
    """Can all folders of refs be watched? Polling goes on where they can't."""
    watches = limits.get("max_user_watches")
    if watches is None:
        yield Finding(
            "inotify", WARNING, "there is no inotify here: changes are found by polling only"
        )
        return
    if watches < folders:
        yield Finding(
            "inotify",
            WARNING,
            f"{folders} folders to watch, and max_user_watches is {watches}: polling fills in",
            f"sudo sysctl fs.inotify.max_user_watches={max(65536, 2 * folders)}",
        )
    allowed = limits.get("max_user_instances", instances + 1)
    if instances >= allowed:
        yield Finding(
            "inotify",
            WARNING,
            f"all {allowed} inotify instances of this user are taken: polling fills in",
            f"sudo sysctl fs.inotify.max_user_instances={max(512, 2 * allowed)}",
        )
    queue = limits.get("max_queued_events", _SHORT_QUEUE)
    if queue < _SHORT_QUEUE:
        yield Finding(
            "inotify",
            WARNING,
            f"max_queued_events is {queue}: bursts overflow it, and each costs a full look",
            "sudo sysctl fs.inotify.max_queued_events=16384",
        )
    if watches >= folders and instances < allowed and queue >= _SHORT_QUEUE:
        detail = f"{folders} folders to watch, {watches} watches allowed"
        yield Finding("inotify", OK, f"{detail}, {instances} of {allowed} instances in use")


def _limits() -> dict[str, int]:
    found = {}
    for name in ("max_user_watches", "max_user_instances", "max_queued_events"):
        with contextlib.suppress(OSError, ValueError):
            found[name] = int((_INOTIFY / name).read_text())
    return found


def _instances_in_use() -> int:
    """The inotify instances of this user, as far as /proc shows them."""
    count = 0
    for folder in Path("/proc").glob("[0-9]*/fd"):
        with contextlib.suppress(OSError):
            for entry in folder.iterdir():
                with contextlib.suppress(OSError):
                    count += str(entry.readlink()) == "anon_inode:inotify"
    return count
