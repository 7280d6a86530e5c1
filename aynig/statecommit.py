"""State commits in dwp from within a working tree: what `set-state` and `set-working` do.

Scripts call these in their worktree, people in any clone. The commit holds what is staged, as
`git commit --allow-empty` would, and HEAD follows; the branch does where one is checked out. Where
a remote is named, it is pushed first, so HEAD never moves to what the remote has refused.
"""

from __future__ import annotations

import re
import socket
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aynig import dialects, trailers
from aynig.dialects import DIALECTS, DWP, Claims, check_state
from aynig.errors import GitFailed, UsageError, UserError
from aynig.git.address import redact
from aynig.git.command import reason, run_git
from aynig.git.names import is_ref
from aynig.git.replay import merge_base, replay
from aynig.git.repo import Repo
from aynig.model import HEADS, Field, Trailer
from aynig.onbranch import WORKING, handed_on, lease_seconds, working_fields
from aynig.site import limits_of, load_settings
from aynig.text import escape, quote

# How often a remote branch that our own runner renews meanwhile is followed.
_TRIES = 5
_NOTHING = "0" * 40
_SOURCE = "git:"
_TRAILER_KEY = re.compile(r"[A-Za-z0-9-]+")
# What a URL may say of who asks: none of it belongs into an error.
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")
_UNDER_WAY = ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD")


@dataclass(frozen=True, slots=True, kw_only=True)
class StateRequest:
    """What a state commit is to say. `outside` is the environment that it is asked for in."""

    subject: str = ""
    body: str = ""
    # `KEY:VALUE` as they were typed.
    extra: Sequence[str] = ()
    remote: str | None = None
    outside: Mapping[str, str] = field(default_factory=dict)


def set_state(repo: Repo, state: str, request: StateRequest) -> str:
    """Commit the next state; the oid of the commit.

    Raises UsageError for what is malformed and UserError for what stands in the way, before HEAD
    or any branch has moved.
    """
    state = check_state(state.strip().lower())
    if state == WORKING:
        raise UsageError(
            f"{WORKING} is no state to go to: it is a lease",
            hint="Renew the lease with `aynig set-working`.",
        )
    fields, others = _extra(request.extra, frozenset())

    def message(_said: Claims, source: list[Field]) -> str:
        return dialects.write(
            DWP, state, [*source, *fields], others, request.subject or state, request.body
        )

    return _Tree(repo, request).commit(message)


def set_working(repo: Repo, request: StateRequest, seconds: int | None = None) -> str:
    """Commit a lease, or its renewal; the oid of the commit.

    Run, runner and lease time are those of HEAD where HEAD is such a commit already. Raises as
    `set_state` does, and UserError where HEAD carries no state that could be worked on.
    """
    managed = frozenset({"origin-state", "run-id", "runner-id", "lease-seconds"})
    fields, others = _extra(request.extra, managed)

    def message(said: Claims, source: list[Field]) -> str:
        before = dict(said.fields)
        origin = before.get("origin-state") or said.state
        if not origin or origin == WORKING:
            raise UserError(
                "HEAD carries no dwp-state, so there is nothing to take a lease of",
                hint="Write a state first: `aynig set-state --dwp-state STATE`.",
            )
        run = before.get("run-id") or request.outside.get("AYNIG_RUN_ID") or str(uuid.uuid4())
        own = said.state == WORKING and before.get("runner-id")
        lease = working_fields(
            origin,
            run,
            own or socket.gethostname(),
            seconds or lease_seconds(before.get("lease-seconds")),
            [*source, *handed_on(said.fields), *fields],
        )
        subject = request.subject or f"{WORKING}: {origin}"
        return dialects.write(DWP, WORKING, lease, others, subject, request.body)

    return _Tree(repo, request).commit(message)


# Makes the message for a commit on top of one that says this, and with the field for its remote.
_Message = Callable[[Claims, list[Field]], str]


class _Tree:
    """The working tree that a state commit is made in."""

    def __init__(self, repo: Repo, request: StateRequest) -> None:
        if repo.work_tree is None:
            raise UserError(
                "a bare repository has no working tree to commit from",
                hint="Write the state with `aynig submit STATE -b BRANCH`.",
            )
        self._repo = repo
        self._place = repo.work_tree
        self._request = request
        self._head = repo.read_ref("HEAD")
        for name in _UNDER_WAY:
            if (repo.git_dir / name).exists():
                what = name.removesuffix("_HEAD").lower().replace("_", "-")
                raise UserError(f"a {what} is under way here", hint="Finish or abort it first.")

    def commit(self, message: _Message) -> str:
        tree = self._staged()
        remote = self._remote()
        branch = self._branch(remote) if remote else ""
        source = [Field("source", f"{_SOURCE}{remote}")] if remote else []
        base = self._caught_up(self._local_tip())
        for _ in range(_TRIES):
            oid = self._write(tree, base, message, source)
            refusal = self._push(remote, oid, branch) if remote else ""
            if not refusal:
                self._move_head(oid)
                return oid
            following = self._caught_up(self._fetched(remote, branch))
            if following == base:
                break
            base = following
        raise UserError(
            f"{escape(remote)} did not take {quote(branch)}: {escape(refusal)}",
            hint="Fetch it and look what has come to it meanwhile.",
        )

    # --- what it is made of ------------------------------------------------------------------

    def _staged(self) -> str:
        done = run_git(None, ["write-tree"], cwd=self._place)
        if done.returncode:
            raise UserError(
                f"what is staged is no tree: {reason(done.stderr)}",
                hint="Resolve the conflicts that `git status` shows.",
            )
        return done.stdout.decode().strip()

    def _write(self, tree: str, base: str | None, message: _Message, source: list[Field]) -> str:
        info = self._repo.commit(base) if base else None
        text = message(_claims(info.message if info else b""), source)
        dialects.check_limits(trailers.encode(text), limits_of(load_settings(self._repo)))
        return self._repo.write_commit(
            tree=tree,
            parents=[base] if base else [],
            message=text,
            not_before=info.time if info else 0,
        )

    def _local_tip(self) -> str | None:
        """What the branch of the run points at, where HEAD is detached as in a script."""
        branch = self._request.outside.get("AYNIG_BRANCH", "")
        if self._repo.current_ref() is not None or not is_ref(HEADS + branch):
            return None
        return self._repo.read_ref(HEADS + branch)

    def _caught_up(self, tip: str | None) -> str | None:
        """HEAD, or, where our runner has renewed its lease meanwhile, the same on top of that.

        A renewal changes no files. Without this the commit would not descend from the branch.
        """
        head = self._head
        if tip is None or head is None or not self._is_renewal(tip):
            return head
        fork = merge_base(self._repo, head, tip)
        if fork in (None, tip) or self._tree(fork) != self._tree(tip):
            return head
        assert fork is not None
        return replay(self._repo, head, fork, tip)

    def _is_renewal(self, tip: str) -> bool:
        """Is this a lease of the run that HEAD, or whoever has called us, belongs to?"""
        said = _claims(self._repo.commit(tip).message)
        run = dict(said.fields).get("run-id")
        wanted = self._request.outside.get("AYNIG_RUN_ID")
        if not wanted and self._head is not None:
            wanted = dict(_claims(self._repo.commit(self._head).message).fields).get("run-id")
        return said.state == WORKING and bool(run) and run == wanted

    def _tree(self, oid: str | None) -> str:
        return self._repo.commit(oid).tree if oid else ""

    # --- where it goes -----------------------------------------------------------------------

    def _remote(self) -> str:
        """The remote that is asked for, else the one that HEAD names; empty for none.

        What a commit names is a claim of whoever pushed it: it chooses among the remotes that are
        configured here, and is never taken for a URL or a path.
        """
        name = (self._request.remote or "").strip()
        if not name and self._head is not None:
            said = dict(_claims(self._repo.commit(self._head).message).fields).get("source", "")
            name = said.strip().removeprefix(_SOURCE) if said.strip().startswith(_SOURCE) else ""
        if not name:
            return ""
        done = run_git(None, ["remote"], cwd=self._place)
        if name not in done.stdout.decode("utf-8", "surrogateescape").split("\n"):
            raise UserError(
                f"there is no remote {quote(redact(name))} here", hint="See `git remote -v`."
            )
        return name

    def _branch(self, remote: str) -> str:
        ref = self._repo.current_ref()
        if ref is not None:
            return ref.removeprefix(HEADS)
        branch = self._request.outside.get("AYNIG_BRANCH", "")
        if not branch or not is_ref(HEADS + branch):
            raise UserError(
                f"HEAD is detached, and no branch to push to {escape(remote)} is known",
                hint="Check a branch out, or name one in AYNIG_BRANCH.",
            )
        return branch

    def _push(self, remote: str, oid: str, branch: str) -> str:
        """Why the remote did not take it; empty where it did."""
        spec = f"{oid}:{HEADS}{branch}"
        done = run_git(None, ["push", "--quiet", "--end-of-options", remote, spec], cwd=self._place)
        return _CREDENTIALS.sub("", _refusal(done.stderr)) if done.returncode else ""

    def _fetched(self, remote: str, branch: str) -> str | None:
        """What the remote's branch points at, with its commits; None where that can't be told."""
        ref = HEADS + branch
        listed = run_git(None, ["ls-remote", "--end-of-options", remote, ref], cwd=self._place)
        oid = listed.stdout.decode("utf-8", "replace").partition("\t")[0]
        if listed.returncode or not oid:
            return None
        fetch = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--end-of-options"]
        run_git(None, [*fetch, remote, ref], cwd=self._place)
        return oid if self._repo.has_commit(oid) else None

    def _move_head(self, oid: str) -> None:
        words = _claims(self._repo.commit(oid).message).state or ""
        args = ["update-ref", "-m", f"aynig: {words}", "HEAD", oid, self._head or _NOTHING]
        done = run_git(None, args, cwd=self._place)
        if done.returncode:
            raise GitFailed(f"HEAD could not be moved: {reason(done.stderr)}")


def _claims(message: bytes) -> Claims:
    return DWP.claims(trailers.parse(message))


def _refusal(complaints: bytes) -> str:
    """The line of a failed push that says why: git marks refused refs with `!`."""
    lines = complaints.decode("utf-8", "replace").splitlines()
    refused = [line.strip() for line in lines if line.strip().startswith("!")]
    return refused[0].removeprefix("! ").strip() if refused else reason(complaints)


def _extra(texts: Sequence[str], managed: frozenset[str]) -> tuple[list[Field], list[Trailer]]:
    """`--trailer K:V`; those of the dialect are its fields, as in `dwp-issue: 42`."""
    fields, others = [], []
    for text in texts:
        key, found, value = text.partition(":")
        if not found or not _TRAILER_KEY.fullmatch(key.strip(" \t")):
            raise UsageError(f"{quote(text)} is no trailer", hint="Write it as KEY:VALUE.")
        trailer = Trailer(key.strip(" \t"), trailers.check_value(value, f"the value of {key}"))
        for dialect in DIALECTS:
            claim = dialect.claim(trailer)
            if claim is not None and not claim.key:
                raise UsageError(f"{quote(text)} is a state", hint="Say it with --dwp-state.")
        claim = DWP.claim(trailer)
        if claim is not None and claim.key in managed:
            raise UsageError(f"{quote(text)} is what the lease itself says", hint="Leave it out.")
        if claim is None:
            others.append(trailer)
        else:
            fields.append(claim)
    return fields, others


def read_prompt(prompt: str | None, path: Path | None, stdin: Callable[[], bytes] | None) -> str:
    """The body from the one place that it was given in; UsageError for several."""
    if sum(given is not None for given in (prompt, path, stdin)) > 1:
        raise UsageError(
            "--prompt, --prompt-file and --prompt-stdin can't be given together",
            hint="Choose one of them.",
        )
    if path is not None:
        try:
            return path.read_bytes().decode("utf-8", "surrogateescape")
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise UsageError(
                f"{escape(str(path))} can't be read: {why}", hint="Name a file with the body."
            ) from error
    if stdin is not None:
        return stdin().decode("utf-8", "surrogateescape")
    return prompt or ""
