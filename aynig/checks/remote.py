"""A remote: can it be reached and read, can it be written to, is it in order."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from aynig.checks import ERROR, OK, WARNING, Finding
from aynig.checks.repository import (
    broken_refs,
    check_refs,
    check_space,
    guarded,
    old_locks,
    tell_rescues,
)
from aynig.errors import AynigError, ConfigError
from aynig.git.address import BY_URL, find_address, redact
from aynig.git.mirror import mirror_place, mirrors_of, open_mirror
from aynig.git.refs import RefEdit
from aynig.git.remote import Remote
from aynig.git.repo import Repo
from aynig.model import LEASES, RESCUES
from aynig.text import counted, quote, shell_word

_CHECK = "remote"


def check_remote(clone: Repo, name: str, *, tries: bool) -> Iterator[Finding]:
    """All about one remote; `tries`: make two refs there, and delete them again."""
    address = find_address(clone, name)
    made = (mirror_place(clone, address) / "HEAD").exists()
    repo, remote = open_mirror(clone, address)
    shown = quote(redact(name))
    try:
        findings = list(_reading(remote, shown))
        yield from findings
        if made:
            yield from _copy(repo)
        if findings[0].level != ERROR and tries:
            yield from _writing(repo, remote, shown)
    finally:
        remote.line.close()
    if address.path is not None and address.path.is_dir():
        for finding in guarded(_CHECK, _on_disk(address.path)):
            yield replace(finding, detail=f"{shown}: {finding.detail}")


def _reading(remote: Remote, shown: str) -> Iterator[Finding]:
    try:
        count = len(remote.heads().refs)
        version = remote.speaks_v2()
        broken = remote.broken()
    except AynigError as error:
        yield Finding(_CHECK, ERROR, str(error), error.hint)
        return
    yield Finding(
        _CHECK,
        OK,
        f"{shown}: {remote.address.url} can be read, {counted(count, 'branch', 'branches')}",
    )
    if not version:
        yield Finding(
            _CHECK,
            WARNING,
            f"{shown}: it does not speak protocol v2, so each look lists all refs that it has",
            "On the server: git 2.18 or later; for ssh `AcceptEnv GIT_PROTOCOL` in sshd_config.",
        )
    but = " unless told to pass over it, as runners do" if remote.address.takes_commands else ""
    for ref in broken:
        yield Finding(
            _CHECK,
            ERROR,
            f"{shown}: {ref} is broken there, and git takes no push of anything new{but}",
            "Run `aynig doctor` in the server's repository.",
        )


def _writing(repo: Repo, remote: Remote, shown: str) -> Iterator[Finding]:
    """As a runner does it: a lease ref and a rescue ref, both or none."""
    mark = f"doctor-{uuid.uuid4().hex}"
    oid = repo.write_commit(tree=repo.empty_tree(), parents=(), message=f"aynig {mark}\n")
    edits = [RefEdit(f"{prefix}{mark}", None, oid) for prefix in (LEASES, RESCUES)]
    try:
        remote.push(edits)
    except AynigError as error:
        yield Finding(_CHECK, ERROR, f"can't be written to: {error}", error.hint)
        return
    yield Finding(_CHECK, OK, f"{shown}: refs/aynig/ can be written to, all refs of a push or none")
    try:
        remote.push([RefEdit(edit.ref, oid, None) for edit in edits])
    except AynigError as error:
        detail = f"nothing can be deleted there, so old leases stay, and {edits[0].ref}: {error}"
        yield Finding(_CHECK, WARNING, detail, error.hint)


def check_remote_rescues(remote: Remote) -> Iterator[Finding]:
    """Work of failed runs is kept there until somebody deletes it. Raises Unreachable, Refused."""
    yield tell_rescues(
        len(remote.below(RESCUES)),
        where=" there",
        look=f"git ls-remote {shell_word(remote.name)} '{RESCUES}*'",
        delete=f"git push {shell_word(remote.name)} :{RESCUES}RUN",
    )


def check_copies(clone: Repo) -> Iterator[Finding]:
    """Our copies of remotes that the clone knows no more, or by another URL."""
    for place in mirrors_of(clone):
        copy = Repo.open(place)
        name, url = _copied(copy)
        # One that is named by its URL alone is in no configuration.
        if not name or name == BY_URL or _is_used(clone, name, place):
            continue
        unsent = copy.refs_below(RESCUES)
        keeps = f"; it keeps the work of {counted(len(unsent), 'failed run')}" if unsent else ""
        git = f"git -C {shell_word(str(place))}"
        first = f"{git} push {shell_word(url)} '{RESCUES}*:{RESCUES}*' && " if unsent else ""
        yield Finding(
            "copies",
            WARNING,
            f"{place} is our copy of {quote(name)} at {redact(url)}, a remote that this clone has "
            f"no more{keeps}",
            f"If no runner uses it: {first}rm -r {shell_word(str(place))}",
        )


def _copied(copy: Repo) -> tuple[str, str]:
    """Name and URL of the remote that a copy is of; empty where it does not say."""
    for key, value in copy.config:
        if key.startswith("remote.") and key.endswith(".url"):
            return key.removeprefix("remote.").removesuffix(".url"), value or ""
    return "", ""


def _is_used(clone: Repo, name: str, place: Path) -> bool:
    try:
        return mirror_place(clone, find_address(clone, name)) == place
    except ConfigError:
        return False


def _copy(repo: Repo) -> Iterator[Finding]:
    """Our own copy of its refs: mended by itself, but it may say why something was slow."""
    for what in [*old_locks(repo, time.time()), *broken_refs(repo)]:
        yield Finding(
            _CHECK,
            WARNING,
            f"{what} in our copy {repo.common_dir} is left from a crash",
            "The next look at the remote mends it.",
        )


def _on_disk(path: Path) -> Iterator[Finding]:
    server = Repo.open(path)
    yield from check_refs(server, broken_refs(server))
    yield from check_space(server)
