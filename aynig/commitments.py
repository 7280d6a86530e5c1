"""Published hashes of scenarios, and the secrets that belong to them (docs/verification.md).

A commitment is a record under `refs/aynig/judge/<name>`; its reveal is a commit on top of it. What
the hash was made of is in a file that the judge keeps, outside of the repository.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from aynig import trailers
from aynig.errors import RepositoryError, UserError, as_unwritable
from aynig.git.disk import read_small
from aynig.git.repo import Repo
from aynig.model import Trailer
from aynig.policies.commitment import Published, commitment_to
from aynig.records import read_record
from aynig.site import Site

JUDGES = "refs/aynig/judge/"

_COMMITS, _REVEALS = b"judge commits to ", b"judge reveals "
_DIGEST = re.compile("[0-9a-f]{64}")
_TREE_OID = re.compile("[0-9a-f]{40}")
# A record has one reveal; more are passed over, but a history without end is not read.
_MOST = 16


@dataclass(frozen=True, slots=True)
class Secret:
    """What the judge keeps to itself until the reveal."""

    name: str
    nonce: str
    # The oid of the folder of scenarios.
    tree: str
    # Where they are, for people.
    source: str

    @property
    def digest(self) -> str:
        return commitment_to(self.tree, self.nonce)


@dataclass(frozen=True, slots=True)
class Commitment:
    """A published hash; `oid` is what its ref points at."""

    name: str
    oid: str
    digest: str
    published: Published

    @property
    def ref(self) -> str:
        return JUDGES + self.name


# --- records -------------------------------------------------------------------------------------


def write_commitment(repo: Repo, name: str, digest: str) -> str:
    """Write the record of a hash; its oid."""
    return _write(repo, f"judge commits to {name}", [("commitment", digest)], repo.empty_tree(), ())


def write_reveal(repo: Repo, commitment: Commitment, secret: Secret) -> str:
    """Write what a hash was made of, on top of its record; its oid.

    The commit has the scenarios themselves as its files, where this repository has them.
    """
    pairs = [
        ("commitment", commitment.digest),
        ("nonce", secret.nonce),
        ("scenarios", secret.tree),
    ]
    tree = secret.tree if secret.tree in repo.handle else repo.empty_tree()
    return _write(repo, f"judge reveals {commitment.name}", pairs, tree, (commitment.oid,))


def _write(
    repo: Repo, subject: str, pairs: Sequence[tuple[str, str]], tree: str, parents: Sequence[str]
) -> str:
    message = trailers.compose(subject, "", [Trailer(key, value) for key, value in pairs])
    before = max((repo.commit(parent).time for parent in parents), default=0)
    return repo.write_commit(tree=tree, parents=parents, message=message, not_before=before)


def read_commitments(site: Site) -> list[Commitment]:
    """All commitments of the repository, or of the remote as it is at this moment, by name.

    What is no such record is passed over. Raises Unreachable or Refused.
    """
    refs = site.mirror.below(JUDGES) if site.mirror is not None else site.repo.refs_below(JUDGES)
    found = (_read(site.repo, name.removeprefix(JUDGES), refs[name]) for name in sorted(refs))
    return [commitment for commitment in found if commitment is not None]


def _read(repo: Repo, name: str, tip: str) -> Commitment | None:
    """The first record counts for what was committed to, the first reveal for what it was."""
    line = [tip]
    with contextlib.suppress(RepositoryError):
        while len(line) < _MOST and (parents := repo.commit(line[-1]).parents):
            line.append(parents[0])
    root = read_record(repo, line[-1], (_COMMITS,))
    digest = root.fields.get("commitment", "") if root is not None else ""
    if root is None or not _DIGEST.fullmatch(digest):
        return None
    for oid in reversed(line[:-1]):
        reveal = read_record(repo, oid, (_REVEALS,))
        if reveal is not None and {"nonce", "scenarios"} <= reveal.fields.keys():
            nonce, tree = reveal.fields["nonce"], reveal.fields["scenarios"]
            return Commitment(name, tip, digest, Published(root.time, nonce, tree))
    return Commitment(name, tip, digest, Published(root.time))


# --- secrets -------------------------------------------------------------------------------------


def secrets_folder() -> Path:
    """Where the judge's files are: outside of every repository (XDG Base Directory, state)."""
    base = os.environ.get("XDG_STATE_HOME", "")
    # A relative one is to be passed over, says the specification.
    home = Path(base) if base.startswith("/") else Path("~/.local/state").expanduser()
    return home / "aynig" / "judge"


def usual_place(secret: Secret) -> Path:
    """The file of a secret, where nobody names another."""
    return secrets_folder() / f"{secret.name.replace('/', '-')}-{secret.digest[:12]}.json"


def write_secret(place: Path, secret: Secret) -> None:
    """Write a secret to a new file that only its owner can read. Raises UserError, Unwritable."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(place, flags, 0o600)
        with os.fdopen(fd, "w") as file:
            json.dump(asdict(secret), file, indent=1)
            file.flush()
            # Without it nothing can be revealed ever.
            os.fsync(fd)
    except FileExistsError as error:
        raise UserError(f"{place} is there already", hint="Name another file.") from error
    except OSError as error:
        raise as_unwritable(error, place) or error from error


def read_secret(place: Path) -> Secret | None:
    """The secret in a file; None for anything else."""
    with contextlib.suppress(ValueError, TypeError):
        found = json.loads(read_small(place) or "")
        secret = Secret(**found)
        if all(isinstance(value, str) for value in found.values()):
            return secret if _TREE_OID.fullmatch(secret.tree) else None
    return None


def known_secrets() -> Iterator[Secret]:
    """All secrets in the usual folder."""
    with contextlib.suppress(OSError):
        for place in sorted(secrets_folder().glob("*.json")):
            secret = read_secret(place)
            if secret is not None:
                yield secret


def commitment_for(site: Site, tree: str) -> str:
    """The hash that was published first of those for a folder of scenarios; empty: none is known.

    Only a machine with the judge's secret can tell. Raises Unreachable or Refused.
    """
    digests = {secret.digest for secret in known_secrets() if secret.tree == tree}
    if not digests:
        return ""
    found = [each for each in read_commitments(site) if each.digest in digests]
    return min(found, key=lambda each: each.published.time).digest if found else ""
