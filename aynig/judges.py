"""What a judge asks for: publish a hash of hidden scenarios, and later say what it was made of."""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import dataclass
from pathlib import Path

from aynig.commitments import (
    JUDGES,
    Commitment,
    Secret,
    known_secrets,
    read_commitments,
    read_secret,
    secrets_folder,
    usual_place,
    write_commitment,
    write_reveal,
    write_secret,
)
from aynig.errors import ConfigError, RefMoved, UsageError, UserError
from aynig.facts import trusted_commit
from aynig.git.names import is_ref
from aynig.git.private import JUDGE, private_folder
from aynig.git.refs import RefEdit
from aynig.git.scenarios import Origin, find_scenarios, scenarios_in
from aynig.site import Site
from aynig.text import operand, quote
from aynig.workflow import Scenarios


@dataclass(frozen=True, slots=True)
class Committed:
    """A commitment that was published just now, and where its secret is."""

    commitment: Commitment
    place: Path
    # How many scenarios there are.
    count: int


def parse_source(text: str, repository: str = "") -> Scenarios:
    """`REF:PATH`, or a `PATH` in the trusted tree (of a repository: in its default branch)."""
    ref, colon, path = text.partition(":")
    found = Scenarios(path, ref, repository) if colon else Scenarios(text, "", repository)
    if not text or (colon and not ref):
        raise UsageError(f"{quote(text)} names no scenarios", hint="Write REF:PATH, or PATH.")
    return found


def commit(site: Site, source: Scenarios, name: str = "", place: Path | None = None) -> Committed:
    """Publish the hash of a folder of scenarios; the secret goes to a file, not to the repository.

    Raises ConfigError where there is nothing to commit to, UserError for a name that is taken,
    Unreachable or Refused where a remote is away.
    """
    tree, count = _tree_of(site, source)
    nonce = secrets.token_hex(32)
    shown = f"{source.ref}:{source.path}" if source.ref else source.path
    secret = Secret(name, nonce, tree, shown)
    if not name:
        secret = Secret(secret.digest[:12], nonce, tree, shown)
    ref = JUDGES + secret.name
    if not is_ref(ref):
        raise UsageError(f"{quote(secret.name)} can't be a name", hint="Use letters and digits.")
    if any(known.name == secret.name for known in read_commitments(site)):
        raise _taken(secret.name)
    place = place or usual_place(secret)
    # First: a hash whose secret is lost can never be revealed.
    write_secret(place, secret)
    try:
        oid = write_commitment(site.repo, secret.name, secret.digest)
        _publish(site, RefEdit(ref, None, oid))
    except BaseException as error:
        with contextlib.suppress(OSError):
            place.unlink()
        if isinstance(error, RefMoved):
            raise _taken(secret.name) from error
        raise
    found = next(each for each in read_commitments(site) if each.name == secret.name)
    return Committed(found, place, count)


def _tree_of(site: Site, source: Scenarios) -> tuple[str, int]:
    """The oid of a folder of scenarios, found as a verification finds it, and how many it holds."""
    clone = site.clone or site.repo
    trusted = trusted_commit(site.repo, site.settings) or clone.resolve("HEAD")
    if trusted is None:
        raise ConfigError("there is no commit yet", hint="Commit the scenarios first.")
    tree = (site.repo if site.repo.has_commit(trusted) else clone).commit(trusted).tree
    origin = Origin(site.repo, clone, tree, site.settings.remote_timeout)
    with private_folder(site.repo, JUDGE, "") as private:
        found = find_scenarios(origin, source, private.path / "store")
        count = len(scenarios_in(found))
        if not count:
            raise ConfigError(
                f"there is no scenario in {found.shown}",
                hint="Give the programs there the run bit.",
            )
        return found.tree, count


def _taken(name: str) -> UserError:
    return UserError(
        f"{quote(name)} is committed to already",
        hint="Name another with --name: what is published can't be taken back.",
    )


def reveal(site: Site, name: str, place: Path | None = None) -> Commitment:
    """Publish what a hash was made of. Raises UserError, Unreachable, Refused."""
    found = next((each for each in read_commitments(site) if each.name == name), None)
    if found is None:
        known = ", ".join(quote(each.name) for each in read_commitments(site))
        raise UserError(
            f"nothing is committed to under {quote(name)}",
            hint=f"There are: {known}." if known else "Publish one with `aynig judge commit`.",
        )
    if found.published.nonce:
        raise UserError(f"{quote(name)} is revealed already", hint="See `aynig audit BRANCH`.")
    secret = _secret_of(found, place)
    oid = write_reveal(site.repo, found, secret)
    try:
        _publish(site, RefEdit(found.ref, found.oid, oid))
    except RefMoved as error:
        raise UserError(f"{quote(name)} has changed meanwhile", hint="Try again.") from error
    return next(each for each in read_commitments(site) if each.name == name)


def _secret_of(commitment: Commitment, place: Path | None) -> Secret:
    if place is not None:
        secret = read_secret(place)
        if secret is None or secret.digest != commitment.digest:
            raise UserError(
                f"{place} is not the secret of {quote(commitment.name)}",
                hint="Name the file that `aynig judge commit` has told.",
            )
        return secret
    for secret in known_secrets():
        if secret.digest == commitment.digest:
            return secret
    raise UserError(
        f"the secret of {quote(commitment.name)} is not in {secrets_folder()}",
        hint=f"Name its file: aynig judge reveal --secret FILE {operand(commitment.name)}",
    )


def _publish(site: Site, edit: RefEdit) -> None:
    if site.mirror is not None:
        site.mirror.remote.push([edit])
    else:
        site.store.commit([edit])
