"""Fetch from a remote and push to it, by the git binary: the compare-and-swap over a network.

libgit2 can't say force-with-lease, and its push to a path runs none of the server's hooks (design
section 5). Each call is one git command. It runs in a git directory of its own (`line`).
"""

from __future__ import annotations

import math
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aynig.errors import (
    AynigError,
    GitFailed,
    RefBusy,
    RefMoved,
    Refused,
    Unreachable,
    Unwritable,
    as_unwritable,
)
from aynig.git.address import Address, redact
from aynig.git.command import run_git
from aynig.git.complaints import Complaint, complaint_of
from aynig.git.line import Line
from aynig.git.patience import Patience
from aynig.git.refs import RefEdit
from aynig.model import BESIDE, HEADS
from aynig.text import shorten

# How long, in seconds, a remote may take to say what its refs are, or to take a push: what hangs
# for longer is a connection that is gone.
TIMEOUT = 60.0
# A first fetch brings the whole history.
FETCH_TIMEOUT = 1800.0
# More tips than this say little more to the server about what we have.
_MOST_TIPS = 64
# So many new commits the line remembers by refs.
_FEW = 100
# A message stays one readable line.
_SEEN = 400
_KINDS = {
    "busy": RefBusy,
    "unreachable": Unreachable,
    "unwritable": Unwritable,
    "refused": Refused,
}
_SSH = "ssh -oBatchMode=yes -oConnectTimeout=20 -oServerAliveInterval=15 -oServerAliveCountMax=3"


@dataclass(frozen=True, slots=True)
class Heads:
    """What a remote said its branches are. `raw` tells whether it said anything new."""

    refs: Mapping[str, str]
    raw: bytes
    # Branches of which it knows no more than the name: their files there are empty, say.
    broken: tuple[str, ...] = ()


class Remote:
    """One remote. Safe to share between threads."""

    def __init__(
        self, line: Line, objects: Path, address: Address, *, timeout: float = TIMEOUT
    ) -> None:
        """`objects` is where the objects lie that are fetched and pushed."""
        self.address = address
        self.line = line
        self._objects = objects
        self._timeout = timeout
        self.patience = Patience()
        # Refs of the server that are broken and in the way of every push.
        self._in_the_way: tuple[str, ...] = ()
        # For tests and figures: called with the arguments of each git command.
        self.observe: Callable[[Sequence[str]], None] = lambda args: None

    @property
    def name(self) -> str:
        return self.address.name

    def heads(self, known: Heads | None = None) -> Heads:
        """The branches of the remote, by full name: one cheap question, by ref prefix.

        `known` is given back where nothing changed since. Raises Unreachable or Refused.
        """
        done = self._git(["ls-remote", "--heads", self.name])
        # What was broken may have been mended, and may be a task's.
        self._in_the_way = ()
        if known is not None and done.stdout == known.raw:
            return known
        return Heads(_listed(done.stdout), done.stdout, _broken(done.stdout))

    def broken(self) -> tuple[str, ...]:
        """The branches and the refs below refs/aynig/ that can't be read on the remote."""
        return _broken(self._git(["ls-remote", self.name, f"{HEADS}*", "refs/aynig/*"]).stdout)

    def speaks_v2(self) -> bool:
        """Is only what is asked for listed by the remote (gitprotocol-v2(5))?"""
        done = self._git(["ls-remote", self.name, HEADS], env={"GIT_TRACE_PACKET": "1"})
        return b"< version 2" in done.stderr

    def default_branch(self) -> str | None:
        """The branch that HEAD of the remote names; None where it names none."""
        done = self._git(["ls-remote", "--symref", self.name, "HEAD"])
        for line in done.stdout.decode("utf-8", "surrogateescape").splitlines():
            target, _, name = line.partition("\t")
            if name == "HEAD" and target.startswith("ref: "):
                return target.removeprefix("ref: ")
        return None

    def read(self, refs: Iterable[str]) -> dict[str, str]:
        """What these refs of the remote point at now; what is absent there is absent here."""
        wanted = list(refs)
        done = self._git(["ls-remote", self.name, *wanted])
        return {ref: oid for ref, oid in _listed(done.stdout).items() if ref in wanted}

    def below(self, prefix: str) -> dict[str, str]:
        """All refs of the remote whose names start with `prefix`."""
        done = self._git(["ls-remote", self.name, f"{prefix}*"])
        return {ref: oid for ref, oid in _listed(done.stdout).items() if ref.startswith(prefix)}

    def fetch(
        self, wanted: Mapping[str, str], tips: Iterable[str], *, leases: bool = False
    ) -> tuple[str, ...]:
        """Bring the commits `wanted` (by ref) with their history; with `leases` all lease refs too,
        and the slots and breakers beside them.

        Those are in the line's own refs then, by the same names, but for those that are broken
        there, which are returned. `tips` are commits that are here already, with their history.
        Raises Unreachable or Refused, also where a commit is not there any more because its branch
        has moved on.
        """
        options = [f"--negotiation-tip={oid}" for oid in list(dict.fromkeys(tips))[:_MOST_TIPS]]
        specs = sorted(set(wanted.values()))
        if leases:
            options.append("--prune")
            specs += [f"+{prefix}*:{prefix}*" for prefix in BESIDE]
        broken: tuple[str, ...] = ()
        if specs:
            try:
                self._fetch_specs(options, specs)
            except Refused:
                broken = self._broken_leases() if leases else ()
                if not broken:
                    raise
                self._fetch_specs(options, [*specs, *(f"^{ref}" for ref in broken)])
        if len(wanted) <= _FEW:
            self.line.know(wanted.values())
        return broken

    def fetch_alone(self, oid: str) -> None:
        """Bring one object of the remote, without the history of a commit where that can be done.

        Raises Unreachable, Refused or Unwritable.
        """
        try:
            self._fetch(["--depth=1"], oid)
        except Refused:
            # A server of plain files has no way to leave the history out.
            self._fetch([], oid)

    def _fetch_specs(self, options: Sequence[str], specs: Iterable[str]) -> None:
        request = "".join(f"{spec}\n" for spec in specs)
        self._fetch([*options, "--stdin"], stdin=request.encode("utf-8", "surrogateescape"))

    def _broken_leases(self) -> tuple[str, ...]:
        return tuple(ref for ref in self.broken() if ref.startswith(BESIDE))

    def fetch_below(self, prefix: str) -> None:
        """Bring all refs whose names start with `prefix` into the line's own, and no others.

        Raises Unreachable or Refused.
        """
        self._fetch(["--prune"], f"+{prefix}*:{prefix}*", timeout=self._timeout)

    def _fetch(
        self,
        options: Sequence[str],
        *specs: str,
        stdin: bytes = b"",
        timeout: float = FETCH_TIMEOUT,
    ) -> None:
        plain = ["--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance"]
        self._git(["fetch", *plain, *options, self.name, *specs], stdin=stdin, timeout=timeout)

    def push(self, edits: Sequence[RefEdit]) -> None:
        """Make all changes or none, each guarded by what its ref points at there.

        Raises RefMoved where one is not what its edit says, RefBusy where somebody holds its lock
        there, Refused where the server does not want it, Unwritable where it can't write,
        Unreachable where nothing is known of the outcome.
        """
        # Looks in other threads forget it.
        passed = {ref for ref in self._in_the_way if ref not in {edit.ref for edit in edits}}
        complaint = self._push(edits, passed)
        while complaint is not None and self._may_pass_over(complaint.broken, passed, edits):
            passed.add(complaint.broken)
            again = self._push(edits, passed)
            if again is not None and again.kind == "refused" and not again.broken:
                # This server does not let itself be told: what is wrong is the broken ref.
                passed.clear()
                break
            complaint = again
        self._in_the_way = tuple(sorted(passed))
        if complaint is None:
            return
        if complaint.kind == "moved":
            raise RefMoved(self._line_of(complaint), ref=complaint.ref or edits[0].ref)
        raise self._as_error(complaint)

    def _may_pass_over(self, broken: str, passed: set[str], edits: Sequence[RefEdit]) -> bool:
        """Can the server be told to look past a ref that it can't read (git 2.39 or later)?"""
        known = {*passed, *(edit.ref for edit in edits)}
        return bool(broken) and broken not in known and self.address.takes_commands

    def _push(self, edits: Sequence[RefEdit], passed: Collection[str]) -> Complaint | None:
        leases = [f"--force-with-lease={edit.ref}:{edit.old or ''}" for edit in edits]
        specs = [f"{edit.new or ''}:{edit.ref}" for edit in edits]
        options = ["--atomic"] if len(edits) > 1 else []
        if passed:
            # Its check that all is there walks all refs that it does not hide (git-config(1)).
            hide = [f"-c transfer.hideRefs={shlex.quote(ref)}" for ref in sorted(passed)]
            options.append(f"--receive-pack=git {' '.join(hide)} receive-pack")
        done = self._git(
            ["push", "--porcelain", "--no-verify", *options, *leases, self.name, *specs],
            may_fail=True,
        )
        return complaint_of(done.stdout, done.stderr) if done.returncode else None

    def _as_error(self, complaint: Complaint) -> AynigError:
        # Where nothing was pushed, to find a ref moved is to have asked too late.
        kind = _KINDS.get(complaint.kind, Unreachable)
        return kind(self._line_of(complaint), hint=complaint.hint)

    def _line_of(self, complaint: Complaint) -> str:
        # In this order: half a URL could not be told for one.
        return f"{self.address.shown}: {shorten(redact(complaint.text), _SEEN)}"

    def _git(
        self,
        args: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout: float | None = None,
        may_fail: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        self.observe(args)
        limit = max(timeout or 0.0, self._timeout)
        began, until = time.monotonic(), self.patience.until(limit)
        if until() == -math.inf:
            raise self._silent("does not answer")
        try:
            done = run_git(
                self.line.ready(),
                args,
                settings=("-c", "protocol.version=2", *self._stalling()),
                env={**self._environment(), **(env or {})},
                stdin=stdin,
                cwd=self.address.cwd,
                until=until,
            )
        except subprocess.TimeoutExpired as error:
            self.patience.exhausted()
            waited = time.monotonic() - began
            raise self._silent(f"has not answered for {waited:.0f} s") from error
        if done.returncode and not may_fail:
            complaint = complaint_of(b"", done.stderr)
            if complaint.kind == "unwritable" and args[0] == "fetch":
                # It is on this side that a fetch writes.
                raise _unwritable_here(complaint, self._objects)
            raise self._as_error(complaint)
        return done

    def _stalling(self) -> list[str]:
        """A fetch has long, because there may be much to bring: not where nothing comes at all.

        Over ssh the keep-alive messages tell (`_SSH`).
        """
        if any(key.startswith("http.lowspeed") for key, _ in self.address.settings):
            return []
        seconds = math.ceil(self._timeout)
        return ["-c", "http.lowSpeedLimit=1", "-c", f"http.lowSpeedTime={seconds}"]

    def _silent(self, what: str) -> Unreachable:
        name, url = self.address.shown, redact(self.address.url)
        where = f"{name} at {url}" if name != url else url
        return Unreachable(
            f"{where} {what}", hint="See whether the server runs and the network is up."
        )

    def _environment(self) -> dict[str, str]:
        found = self.address.variables() | {
            "GIT_OBJECT_DIRECTORY": str(self._objects),
            # Nobody is there to be asked.
            "SSH_ASKPASS_REQUIRE": "never",
            "SSH_ASKPASS": "",
        }
        if not self.address.has_ssh and not {"GIT_SSH", "GIT_SSH_COMMAND"} & os.environ.keys():
            found["GIT_SSH_COMMAND"] = _SSH
        return found


def _unwritable_here(complaint: Complaint, place: Path) -> Unwritable:
    found = as_unwritable(GitFailed(complaint.text), place)
    return found or Unwritable(f"{place} can't be written: {complaint.text}")


def _listed(output: bytes) -> dict[str, str]:
    """The refs that `git ls-remote` printed."""
    found = {}
    for line in output.decode("utf-8", "surrogateescape").splitlines():
        oid, _, ref = line.partition("\t")
        if ref.startswith("refs/") and not ref.endswith("^{}") and oid.strip("0"):
            found[ref] = oid
    return found


def _broken(output: bytes) -> tuple[str, ...]:
    """The refs that `git ls-remote` printed without a value."""
    lines = output.decode("utf-8", "surrogateescape").splitlines()
    pairs = [line.partition("\t") for line in lines]
    return tuple(ref for oid, _, ref in pairs if ref and not oid.strip("0"))
