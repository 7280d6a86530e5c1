"""Everything that `aynig doctor` checks, in order: the machine, the repository, its workflow.

Each check is made even where another one fails, as far as it can be.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from aynig.checks import ERROR, OK, Finding
from aynig.checks.leftovers import check_leftovers
from aynig.checks.machine import check_limits, check_programs
from aynig.checks.remote import check_remote
from aynig.checks.repository import (
    broken_refs,
    check_format,
    check_hooks,
    check_identity,
    check_refs,
    check_rescues,
    check_space,
    guarded,
    ref_folders,
)
from aynig.checks.workflow import check_workflow
from aynig.errors import ConfigError, NoRepository, RepositoryError
from aynig.git.repo import Repo
from aynig.recover import recover
from aynig.settings import HERE, Settings
from aynig.site import Site, load_settings, make_site, worktree_place


def examine(place: Path, remotes: Sequence[str] = ()) -> Iterator[Finding]:
    """All findings for the repository that `place` is in, or for the machine alone.

    With `remotes` also those, where it is tried whether they can be written to; the ones that the
    settings name are only looked at.
    """
    yield from check_programs()
    try:
        repo = Repo.open(place)
    except RepositoryError as error:
        yield from check_limits(Settings().jobs, 0)
        yield _no_repository(place, error)
        return
    settings, finding = _settings(repo)
    yield from check_limits(settings.jobs, ref_folders(repo))
    yield finding
    yield from _examine_repository(make_site(repo, settings))
    for name in dict.fromkeys(remotes or settings.remotes):
        if name != HERE:
            yield from guarded("remote", check_remote(repo, name, tries=bool(remotes)))


def _no_repository(place: Path, error: RepositoryError) -> Finding:
    """Being outside of any is all right; one that can't be read is not."""
    if isinstance(error, NoRepository):
        return Finding("repository", OK, f"{place} is in none: only the machine was checked")
    return Finding("repository", ERROR, str(error), error.hint)


def _settings(repo: Repo) -> tuple[Settings, Finding]:
    try:
        settings = load_settings(repo)
        worktree_place(repo, settings)
        return settings, Finding("settings", OK, "git config aynig.* is right")
    except ConfigError as error:
        # The rest is checked as if nothing were set.
        return Settings(), Finding("settings", ERROR, str(error), error.hint)


def _examine_repository(site: Site) -> Iterator[Finding]:
    repo = site.repo
    try:
        yield from guarded("repository", check_format(repo))
        yield from guarded("identity", check_identity(repo))
        yield from guarded("hooks", check_hooks(repo))
        yield from _examine_refs(site)
        yield from guarded("space", check_space(repo))
    finally:
        site.close()


def _examine_refs(site: Site) -> Iterator[Finding]:
    try:
        site.scan.look()
    except RepositoryError as error:
        # What is below could only say the same again.
        yield Finding("refs", ERROR, str(error), error.hint)
        return
    yield from guarded("refs", check_refs(site.repo, broken_refs(site.repo)))
    yield from guarded("scripts", check_workflow(site))
    yield from guarded("leftovers", check_leftovers(site))
    yield from guarded("rescues", check_rescues(site.repo))


def mend(place: Path) -> list[str]:
    """Clean up what crashed runs left, as every start of aynig does; what was done.

    Raises RepositoryError outside of a repository.
    """
    repo = Repo.open(place)
    site = make_site(repo, _settings(repo)[0])
    try:
        return [leftover.detail for leftover in recover(site)]
    finally:
        site.close()
