"""What git says when a remote can't be reached or will not do something, sorted by what follows.

The messages are git's own in the C locale, those of ssh and of the usual servers. What is in no row
counts as refused: a person reads it as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from aynig.git.command import reason

_SEEN = 400


@dataclass(frozen=True, slots=True)
class Complaint:
    """`kind` is "moved" (a ref is not what was expected), "unreachable" or "refused"."""

    kind: str
    text: str
    hint: str = ""
    # The ref that it is about, where it names one.
    ref: str = ""


@dataclass(frozen=True, slots=True)
class _Row:
    pattern: re.Pattern[str]
    kind: str
    hint: str


def _row(pattern: str, kind: str, hint: str) -> _Row:
    return _Row(re.compile(pattern, re.IGNORECASE), kind, hint)


_UNREACHABLE, _REFUSED = "unreachable", "refused"
_AGAIN = "It is tried again; see whether the server runs and the network is up."
# In this order: the first that fits counts.
_TABLE = (
    _row(
        r"host key verification failed|no \S+ host key is known",
        _REFUSED,
        "Compare the host's key and add it: ssh-keyscan HOST >>~/.ssh/known_hosts.",
    ),
    _row(
        r"could not resolve host|name or service not known|unable to look up",
        _UNREACHABLE,
        "See whether the host is spelt right (git remote -v) and the network is up.",
    ),
    _row(
        r"permission denied \(|authentication failed|could not read (username|password)"
        r"|invalid credentials|access denied or|error: 40[13]\b|terminal prompts disabled",
        _REFUSED,
        "Give this runner credentials that git can use without asking: a credential helper, a "
        "key for ssh, or a token.",
    ),
    _row(
        r"connection (refused|reset|timed out|closed)|timed out|network is unreachable"
        r"|no route to host|early eof|hung up|unexpected disconnect|failed to connect"
        r"|could not connect|couldn't connect|empty reply|unable to connect|rpc failed"
        r"|error: 5\d\d\b|broken pipe|server closed|bad gateway|operation too slow|ssl_read"
        r"|gnutls|http/2 stream|unexpected flush|protocol error|invalid index-pack output"
        r"|pack has bad|curl \d+|bytes of body are still expected|the remote end",
        _UNREACHABLE,
        _AGAIN,
    ),
    _row(
        r"no space left|disk quota exceeded|read-only file system"
        r"|unable to create temporary|insufficient permission|unpack(er)? (failed|error)"
        r"|unpack-objects|index-pack abnormal|failed to write",
        _REFUSED,
        "The server can't write: make room there, or give its user the rights to objects/ and "
        "refs/.",
    ),
    _row(
        r"does not appear to be a git repository|repository not found|not found$"
        r"|repository '.*' not found|does not exist|access denied or repository not exported"
        r"|no such (repository|project)",
        _REFUSED,
        "See whether the URL is right (git remote -v) and this runner may read it.",
    ),
    _row(
        r"dubious ownership|safe\.directory|unsafe repository",
        _REFUSED,
        "It belongs to somebody else: git config --global --add safe.directory PATH.",
    ),
    _row(
        r"service not enabled|receive-pack.*not (enabled|allowed)",
        _REFUSED,
        "It may be read only: enable receive-pack on the server.",
    ),
    _row(
        r"does not support --atomic|atomic push not supported",
        _REFUSED,
        "The server has to know atomic pushes: git 2.4 or later, with receive.advertiseAtomic on.",
    ),
    _row(
        r"protected|gh006|denied by fallthru|denied by refex|denied by",
        _REFUSED,
        "Let this runner write refs/aynig/* and the branches of its tasks, or name other "
        "branches with --branch.",
    ),
    _row(
        r"checked out",
        _REFUSED,
        "The branch is checked out there: push to a bare repository.",
    ),
    _row(
        r"non-fast-forward|denynonfastforwards|denying non-fast-forward",
        _REFUSED,
        "Somebody has rewritten the branch there.",
    ),
    _row(
        r"hook declined|pre-receive|hook",
        _REFUSED,
        "A hook of the server said no: see what it prints above, and its log.",
    ),
    _row(
        r"unable to create '.*\.lock': file exists|cannot lock ref|could not lock|failed to lock",
        _REFUSED,
        "A lock stands in the way on the server: where no git runs there, remove the .lock file "
        "(`aynig doctor` in that repository names it).",
    ),
)
_STALE = re.compile(r"stale info|fetch first|is at [0-9a-f]+ but expected|reference already exists")
_FAULTS = re.compile(r"^!\t[^\t]*:([^\t]+)\t\[(remote )?rejected\] \((.*)\)$", re.MULTILINE)
# What only says that another ref of the same push was refused.
_CONSEQUENCES = ("atomic push failed", "atomic transaction failed", "transaction failed")
# In git's answer these are what the server knows of; it says so of a ref that has moved, too.
_NOISE = re.compile(
    r"^(remote: )?(error|fatal): (failed to push|atomic push failed).*$", re.MULTILINE
)


def complaint_of(output: bytes, errors: bytes) -> Complaint:
    """What is wrong, from what `git push --porcelain` (or another command) printed.

    `output` is empty for other commands than a push.
    """
    said = errors.decode("utf-8", "replace")
    faults = [
        (ref, words)
        for ref, _, words in _FAULTS.findall(output.decode("utf-8", "surrogateescape"))
        if words not in _CONSEQUENCES
    ]
    for ref, words in faults:
        if _STALE.search(words) or (_STALE.search(said) and "lock" in words):
            return Complaint("moved", f"{ref}: {words}", ref=ref)
    remote = " ".join(
        line.removeprefix("remote:").strip()
        for line in said.splitlines()
        if line.startswith("remote:")
    )
    words = f"{faults[0][0]}: {faults[0][1]}" if faults else reason(_without_noise(said).encode())
    text = " ".join(f"{words} ({remote.strip()})".split()) if remote.strip() else words
    whole = f"{words}\n{said}"
    for row in _TABLE:
        if row.pattern.search(whole):
            return Complaint(row.kind, text[:_SEEN], row.hint, faults[0][0] if faults else "")
    return Complaint("refused", text[:_SEEN], "See what git says there.")


def _without_noise(said: str) -> str:
    lines = [
        line for line in said.splitlines() if not line.startswith(("remote:", "warning:", "To "))
    ]
    return _NOISE.sub("", "\n".join(lines)).strip() or said
