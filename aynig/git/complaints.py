"""What git says when a remote can't be reached or will not do something, sorted by what follows.

The messages are git's own in the C locale, those of ssh and of the usual servers. What is in no row
counts as refused: a person reads it as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aynig.git.command import reason


@dataclass(frozen=True, slots=True)
class Complaint:
    """`kind` is "moved" (a ref is not what was expected), "busy" (somebody holds its lock),
    "unreachable", "unwritable" or "refused".

    `text` is one line. It may hold a URL with credentials, as git or the server has printed it.
    """

    kind: str
    text: str
    hint: str = ""
    # The ref that it is about, where it names one.
    ref: str = ""
    # The ref of the server that it can't read, and takes no push of anything new for.
    broken: str = ""


@dataclass(frozen=True, slots=True)
class _Row:
    pattern: re.Pattern[str]
    kind: str
    hint: str


def _row(pattern: str, kind: str, hint: str) -> _Row:
    return _Row(re.compile(pattern, re.IGNORECASE), kind, hint)


_UNREACHABLE, _REFUSED, _UNWRITABLE, _BUSY = "unreachable", "refused", "unwritable", "busy"
_AGAIN = "See whether the server runs and the network is up."
_LET_WRITE = (
    "Let this runner write refs/aynig/* and the branches of its tasks there, or name other "
    "branches with --branch."
)
_MEND_THERE = "Run `aynig doctor` in the server's repository: it names what is broken."
# In this order: the first that fits counts.
_TABLE = (
    _row(
        r"host key for .* has changed",
        _REFUSED,
        "Ask who runs it whether its key is a new one; only then forget the old one with "
        "ssh-keygen -R HOST, and add the new one.",
    ),
    _row(
        r"no \S+ host key is known|host key verification failed",
        _REFUSED,
        "Compare the host's key and add it: ssh-keyscan [-p PORT] HOST >>~/.ssh/known_hosts.",
    ),
    _row(
        r"could not resolve host|name or service not known|unable to look up"
        r"|temporary failure in name resolution",
        _UNREACHABLE,
        "See whether the host is spelt right (git remote -v) and the network is up.",
    ),
    _row(
        r"does not support --atomic|atomic push not supported",
        _REFUSED,
        "The server has to know atomic pushes: git 2.4 or later, with receive.advertiseAtomic on.",
    ),
    _row(
        r"fatal: (R|W) any \S+ \S+ denied|you are not allowed|permission to .* denied|error: 403\b",
        _REFUSED,
        "Have the rights of this runner on the server looked at: it has to read all, and to write "
        "refs/aynig/* and the branches of its tasks (in a server of your own, http.receivepack).",
    ),
    _row(
        r"proxy authentication required|error: 407\b|from proxy after connect",
        _REFUSED,
        "The proxy wants credentials: see http.proxy in git config.",
    ),
    _row(
        r"permission denied \(|authentication failed|could not read (username|password)"
        r"|invalid credentials|error: 401\b|terminal prompts disabled",
        _REFUSED,
        "Give this runner credentials that git can use without asking: a credential helper, a "
        "key for ssh, or a token.",
    ),
    _row(
        r"error: 413\b|pack exceeds maximum allowed size",
        _REFUSED,
        "The server takes no push that large: raise its limit (receive.maxInputSize, or that of "
        "the web server for a request).",
    ),
    _row(
        r"no space left|disk quota exceeded|read-only file system|file too large"
        r"|died of signal 25|unable to create temporary|insufficient permission"
        r"|unable to write|failed to write|couldn't write '|write error",
        _UNWRITABLE,
        "The server can't write: make room there, mount it for writing, or give its user the "
        "rights to objects/ and refs/.",
    ),
    _row(
        r"fsck error|badly formed|inflate: data stream error|index-pack abnormal",
        _REFUSED,
        "The server checks what it is sent (receive.fsckObjects): see what it says of it.",
    ),
    _row(
        r"'remote-\S+' is not a git command",
        _REFUSED,
        "git has no transport for such a URL: see git remote -v.",
    ),
    _row(
        r"git-http-push failed|not valid: is this a git repository|dumb http",
        _REFUSED,
        "What answers there is no git server: see whether the URL is right (git remote -v).",
    ),
    _row(
        r"not our ref 0{40}|bad object refs/|missing necessary objects",
        _REFUSED,
        _MEND_THERE,
    ),
    _row(
        r"does not appear to be a git repository|repository not found|not found$"
        r"|repository '.*' not found|does not exist|access denied or repository not exported"
        r"|no such (repository|project)|could not be found|not a git repository",
        _REFUSED,
        "See whether the URL is right (git remote -v), and whether this runner may read and write "
        "there.",
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
        r"unrecognized command|unknown git/gitolite command|invalid command",
        _REFUSED,
        "The account there is for git alone.",
    ),
    _row(
        r"connection (refused|reset|timed out|closed)|timed out|network is unreachable"
        r"|no route to host|eof before pack header|early eof|hung up|unexpected disconnect"
        r"|failed to connect|could not connect|couldn't connect|empty reply|unable to connect"
        r"|rpc failed|error: (408|425|429|5\d\d)\b|broken pipe|server closed|bad gateway"
        r"|operation too slow|ssl_read|gnutls|http/2 stream|unexpected flush|protocol error"
        r"|invalid index-pack output|pack has bad|curl \d+|bytes of body are still expected"
        r"|the remote end|not our ref|could not read from remote repository",
        _UNREACHABLE,
        _AGAIN,
    ),
    _row(
        r"hidden ref",
        _REFUSED,
        "The server hides it (receive.hideRefs, transfer.hideRefs): take refs/aynig out of that.",
    ),
    _row(
        r"checked out|deletion of the current branch",
        _REFUSED,
        "It is the branch that the repository there is on: push to a bare repository.",
    ),
    _row(
        r"deletion prohibited",
        _REFUSED,
        "The server keeps its refs (receive.denyDeletes): those that nobody needs stay.",
    ),
    _row(
        r"non-fast-forward",
        _REFUSED,
        "The server takes no rewritten branches (receive.denyNonFastForwards).",
    ),
    _row(
        r"unable to create '.*\.lock': file exists|cannot lock ref|could not lock|failed to lock",
        _BUSY,
        "If it stays: where no git runs there any more, remove the lock (`aynig doctor` in that "
        "repository names it).",
    ),
)
# Of a hook's own words only what they say of rights matters: they may speak of anything.
_HOOKS = (
    _row(
        r"protected|gh0\d\d|denied by|not allowed|permission|forbidden|rule violations"
        r"|only be modified",
        _REFUSED,
        _LET_WRITE,
    ),
    _row("", _REFUSED, f"A hook of the server said no: see its log. {_LET_WRITE}"),
)
_HOOK = re.compile(r"hook declined|declined due to")
_STALE = re.compile(r"stale info|fetch first|already exists")
# The server's own transaction, for what moved after the question what there is.
_LOST = re.compile(
    r"cannot lock ref '([^\n]+?)': (?:reference already exists|reference is missing but expected"
    r"|is at [0-9a-f]+ but expected|unable to resolve reference '[^\n]+'\s*$)",
    re.MULTILINE,
)
_FAULTS = re.compile(r"^!\t[^\t]*:([^\t]+)\t\[(?:remote )?rejected\] \((.*)\)$", re.MULTILINE)
# What only says that another ref of the same push was refused.
_CONSEQUENCES = (
    "atomic push failed", "atomic push failure", "atomic transaction failed", "transaction failed",
)  # fmt: skip
# Reasons that say all: what the server adds is advice on its settings.
_PLAIN = re.compile(r"checked out|prohibited|non-fast-forward|hidden ref")
_SIGN = re.compile(r"^(?:fatal|error|ssh|git|remote|remote error|unpack failed): *", re.IGNORECASE)
# Lines that repeat or decorate.
_IDLE = re.compile(
    r"(error: )?hook declined to update |[\W_]*$|\(or you mis-spelled the reponame\)"
)
_BROKEN = re.compile(r"bad object (refs/\S+)")
_NULL = re.compile(r"not our ref 0{40}")
_LOCKED = re.compile(r"unable to create '[^\n]*\.lock': file exists", re.IGNORECASE)
_ADVICE = "Another git process seems to be running"


def complaint_of(output: bytes, errors: bytes) -> Complaint:
    """What is wrong, from what `git push --porcelain` (or another command) printed.

    `output` is empty for other commands than a push.
    """
    said = errors.decode("utf-8", "replace")
    faults = _faults(output.decode("utf-8", "surrogateescape"))
    for ref, why in faults:
        if _STALE.search(why):
            return Complaint("moved", f"{ref}: {why}", ref=ref)
    lost = _LOST.search(said)
    if lost:
        return Complaint("moved", _clean(lost[0]), ref=lost[1])
    return _of_push(*faults[0], said) if faults else _of_command(said)


def _faults(output: str) -> list[tuple[str, str]]:
    """The refs that were refused, and why; branches first, which is what people know."""
    found = [(ref, why) for ref, why in _FAULTS.findall(output) if why not in _CONSEQUENCES]
    return sorted(found, key=lambda fault: not fault[0].startswith("refs/heads/"))


def _of_push(ref: str, why: str, said: str) -> Complaint:
    spoken = _spoken(said)
    if _HOOK.search(why):
        row = _first_row(_HOOKS, " ".join([why, *spoken]))
        kind, hint = row.kind, row.hint
    else:
        kind, hint = _judged("\n".join([why, *spoken, said]))
    if _PLAIN.search(why):
        return Complaint(kind, f"{ref}: {why}", hint, ref)
    broken, locked = _BROKEN.search(said), _LOCKED.search(said)
    if broken:
        text = f"{broken[1]} is broken there: git takes no push before"
        return Complaint(kind, text, hint, ref, broken[1])
    if locked and kind == _BUSY:
        return Complaint(kind, f"{ref}: {locked[0]}", hint, ref)
    # Where the server said nothing to us, what our side of the push says comes from there.
    more = spoken or [line for line in _own_lines(said) if line.startswith("unpack failed")]
    return Complaint(kind, _joined([ref, why, "; ".join(map(_clean, more))]), hint, ref)


def _of_command(said: str) -> Complaint:
    lines = _own_lines(said)
    spoken = _spoken(said)
    kind, hint = _judged("\n".join([*lines, *spoken]))
    row = next((row for row in _TABLE if row.hint == hint), None)
    # The line that says it, which is seldom git's last: that one says that ssh has failed.
    telling = next((line for line in lines if row and row.pattern.search(line)), "")
    if telling.endswith(":"):
        telling = " ".join(lines[lines.index(telling) :][:2])
    if _NULL.search(telling):
        telling = f"a ref is broken there ({_clean(telling)})"
    locked = _LOCKED.search(said)
    if locked and kind == _BUSY:
        # An atomic push that failed in the server's own transaction: no ref is to blame by name.
        return Complaint(kind, locked[0], hint)
    words = [_clean(telling or _main(said)), "; ".join(map(_clean, spoken))]
    return Complaint(kind, _joined(words), hint)


def _judged(text: str) -> tuple[str, str]:
    for row in _TABLE:
        if any(row.pattern.search(line) for line in text.splitlines()):
            return row.kind, row.hint
    return _REFUSED, "See what git says there."


def _first_row(rows: Sequence[_Row], text: str) -> _Row:
    return next(row for row in rows if row.pattern.search(text))


def _spoken(said: str) -> list[str]:
    """What the server and its hooks have said."""
    lines = [
        line.removeprefix("remote:").strip()
        for line in said.splitlines()
        if line.startswith("remote:")
    ]
    for number, line in enumerate(lines):
        if line.startswith(_ADVICE):
            lines = lines[:number]
            break
    return [line for line in lines if not _IDLE.match(line)]


def _own_lines(said: str) -> list[str]:
    """What git and ssh on our side have said, without what says nothing."""
    lines = []
    for line in said.splitlines():
        text = line.strip()
        if text.startswith(("remote:", "warning:", "To ", "error: failed to push")):
            continue
        if text and not _IDLE.match(text):
            lines.append(text.replace("error: remote unpack failed:", "unpack failed:"))
    return lines


def _main(said: str) -> str:
    return reason("\n".join(_own_lines(said)).encode("utf-8", "replace"))


def _clean(line: str) -> str:
    text = line.strip()
    while match := _SIGN.match(text):
        text = text[match.end() :]
    return text.strip(" \t.:")


def _joined(parts: Iterable[str]) -> str:
    return " ".join(": ".join(part for part in parts if part).split())
