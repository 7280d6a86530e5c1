"""Who made a commit: the names that it carries, and what its signature proves."""

from __future__ import annotations

import functools
import hashlib
import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pygit2

from aynig.errors import GitFailed, RepositoryError
from aynig.git.command import git_text, reason, run_git
from aynig.git.repo import CommitInfo, Repo

_SSH = b"-----BEGIN SSH SIGNATURE-----"
# What `git verify-commit` says of a good one, in C.UTF-8 (git's gpg-interface.c).
_GOOD = re.compile(r'Good "git" signature for (.+) with \S+ key (SHA256:\S+)')


@dataclass(frozen=True, slots=True)
class Signed:
    """What a signature proves: whose it is by the allowed-signers file, and of which key.

    Both are empty where it proves nothing; `problem` says why, as the end of "it …".
    """

    principal: str = ""
    key: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Made:
    """A commit by its author and its committer, each a name and an address; and its message."""

    author: tuple[str, str]
    committer: tuple[str, str]
    message: bytes = b""


def made_by(repo: Repo, oid: str) -> Made:
    """Whom a commit names; RepositoryError where it can't be read."""
    commit = _commit(repo, oid)
    return Made(_signature(commit.author), _signature(commit.committer), commit.raw_message)


def _signature(signature: pygit2.Signature) -> tuple[str, str]:
    name, address = signature.raw_name, signature.raw_email
    return name.decode("utf-8", "surrogateescape"), address.decode("utf-8", "surrogateescape")


def made_between(repo: Repo, newest: str, oldest: str) -> list[Made]:
    """The same of all commits that `newest` has and `oldest` has not, without `newest`."""
    args = ["rev-list", "--end-of-options", newest, f"^{oldest}"]
    return [made_by(repo, oid) for oid in git_text(repo.common_dir, args).split() if oid != newest]


def verify(repo: Repo, oid: str, signers: bytes) -> Signed:
    """What the SSH signature of a commit proves; `signers` is an allowed-signers file.

    Its format is that of ssh-keygen(1), ALLOWED SIGNERS. No setting of the repository's takes
    part, because scripts can reach those.
    """
    try:
        raw = _commit(repo, oid).gpg_signature[0]
    except RepositoryError:
        return Signed(problem="can't be read")
    if not raw:
        return Signed(problem="is not signed")
    if not raw.lstrip().startswith(_SSH):
        return Signed(problem="is signed by something other than an SSH key")
    return _verified(str(repo.common_dir), oid, signers, hashlib.sha256(signers).hexdigest())


@functools.lru_cache(maxsize=4096)
def _verified(git_dir: str, oid: str, signers: bytes, _digest: str) -> Signed:
    """Asked once: neither a commit nor the answer of git changes."""
    with tempfile.NamedTemporaryFile(prefix="aynig-signers-") as file:
        file.write(signers)
        file.flush()
        settings = (
            "-c", "gpg.format=ssh",
            "-c", "gpg.ssh.program=ssh-keygen",
            "-c", f"gpg.ssh.allowedSignersFile={file.name}",
            "-c", "gpg.ssh.revocationFile=",
            "-c", "gpg.minTrustLevel=undefined",
        )  # fmt: skip
        args = ["verify-commit", "--raw", "--end-of-options", oid]
        done = run_git(Path(git_dir), args, settings=settings)
    said = done.stderr.decode("utf-8", "replace")
    found = next((m for line in said.splitlines() if (m := _GOOD.fullmatch(line.strip()))), None)
    if done.returncode or found is None:
        return Signed(problem=f"its signature is not good: {_complaint(said)}")
    return Signed(found[1], found[2])


def _complaint(said: str) -> str:
    """The line that says most: of a key that is listed nowhere, ssh-keygen says two."""
    lines = [line.strip().rstrip(".") for line in said.splitlines() if line.strip()]
    if any("No principal matched" in line for line in lines):
        return "its key is no allowed signer's"
    return lines[0] if lines else "git does not say why"


def write_signed(
    repo: Repo, parent: CommitInfo, message: bytes, settings: Sequence[str] = ()
) -> str:
    """A commit with the files of its parent that git signs as it is configured to; its oid.

    `settings` are further ones for git, each `key=value`. The key has to be usable without a
    question at the terminal: by an agent, or without a passphrase. Raises GitFailed.
    """
    env = {}
    for role in ("AUTHOR", "COMMITTER"):
        identity = repo.identity(role)
        env[f"GIT_{role}_NAME"], env[f"GIT_{role}_EMAIL"] = identity.name, identity.email
        # Never older than its parent where clocks disagree: see `Repo.write_commit`.
        env[f"GIT_{role}_DATE"] = f"{max(int(time.time()), parent.time)} +0000"
    done = run_git(
        repo.common_dir,
        ["commit-tree", "-S", "-p", parent.oid, "-F", "-", parent.tree],
        settings=tuple(word for setting in settings for word in ("-c", setting)),
        env=env,
        stdin=message,
    )
    if done.returncode:
        raise GitFailed(
            f"git could not sign: {reason(done.stderr)}",
            hint="See `git config user.signingKey` and `gpg.format`; the key has to be usable "
            "without a question at the terminal, as by ssh-agent",
        )
    return done.stdout.decode().strip()


def _commit(repo: Repo, oid: str) -> pygit2.Commit:
    try:
        found: object = repo.handle[oid]
    except (KeyError, ValueError, pygit2.GitError) as error:
        raise RepositoryError(f"commit {oid} can't be read: {error}") from error
    if not isinstance(found, pygit2.Commit):
        raise RepositoryError(f"{oid} is no commit")
    return found
