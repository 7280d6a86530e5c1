"""Everything that `aynig doctor` checks, in order: the machine, the repository, its workflow.

Each check is made even where another one fails, as far as it can be.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from aynig.checks import ERROR, OK, Finding
from aynig.checks.leftovers import MEND, check_leftovers
from aynig.checks.machine import check_limits, check_programs
from aynig.checks.remote import check_copies, check_remote, check_remote_rescues
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
from aynig.facts import trusted_commit, trusted_name
from aynig.git.address import redact
from aynig.git.repo import Repo
from aynig.recover import bury_dead, recover
from aynig.settings import HERE, Settings
from aynig.site import Site, load_settings, make_site, open_place, worktree_place
from aynig.text import quote, shell_word


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
    yield from guarded("copies", check_copies(repo))
    for name in dict.fromkeys(remotes or settings.remotes):
        if name != HERE:
            findings = list(guarded("remote", check_remote(repo, name, tries=bool(remotes))))
            yield from findings
            if not any(finding.level == ERROR for finding in findings):
                yield from guarded("remote", _examine_tasks_of(place, name))


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


def _examine_tasks_of(place: Path, name: str) -> Iterator[Finding]:
    """What runners of a remote find there, and what crashed ones of this clone have left."""
    site = open_place(place, name)
    shown = quote(redact(name))
    try:
        assert site.mirror is not None
        site.mirror.sync(leases=True)
        site.scan.look()
        findings = [
            *_default_branch(site),
            *guarded("scripts", check_workflow(site)),
            *guarded("leftovers", check_leftovers(site)),
            *check_remote_rescues(site.mirror.remote),
        ]
    finally:
        site.close()
    again = f"{MEND} --remote {shell_word(name)}"
    for finding in findings:
        mends = again if finding.mend == MEND else finding.mend
        yield replace(finding, detail=f"{shown}: {finding.detail}", mend=mends)


def _default_branch(site: Site) -> Iterator[Finding]:
    """Scripts come from there, so without it no task can run."""
    wanted = trusted_name(site.repo, site.settings)
    if wanted and site.scan.tips() and trusted_commit(site.repo, site.settings) is None:
        yield Finding(
            "scripts",
            ERROR,
            f"scripts come from {wanted}, which does not exist there, so no task can run",
            "Push that branch, name another with `git config aynig.scripts`, or let HEAD of the "
            "server name one that exists: git symbolic-ref HEAD refs/heads/BRANCH",
        )


def mend(place: Path, remotes: Sequence[str] = ()) -> list[str]:
    """Clean up what crashed runs left, as every start of aynig does; what was done.

    With `remotes` what runners of this machine left there. Raises RepositoryError outside of a
    repository, Unreachable and Refused where a remote can't be asked.
    """
    repo = Repo.open(place)
    site = make_site(repo, _settings(repo)[0])
    try:
        done = [leftover.detail for leftover in recover(site)]
    finally:
        site.close()
    for name in dict.fromkeys(remotes):
        if name != HERE:
            done += _mend_tasks_of(place, name)
    return done


def _mend_tasks_of(place: Path, name: str) -> list[str]:
    site = open_place(place, name)
    try:
        assert site.mirror is not None
        left = recover(site)
        site.mirror.sync(leases=True)
        left += bury_dead(site)
    finally:
        site.close()
    return [f"{quote(redact(name))}: {leftover.detail}" for leftover in left]
