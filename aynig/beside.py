"""What lands beside an answer, in the same transaction: kept until all of it is there.

A git that is killed in the middle of a transaction may have moved the branch alone. So the other
refs are written down first, under a ref that is deleted when all has landed. Whoever finds it, and
finds the answer on its branch, finishes what is left.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aynig.errors import AynigError, RepositoryError
from aynig.git.refs import RefEdit
from aynig.git.repo import Repo
from aynig.lease import lease_name, read_lease
from aynig.model import HEADS, RESCUES, Lease
from aynig.site import Site

_KEPT = "-beside"


@dataclass(frozen=True, slots=True)
class Beside:
    """What belongs to an answer: new branches, and others that go on from where they were."""

    # The branch of the answer.
    ref: str
    answer: str
    along: tuple[RefEdit, ...]


def kept_ref(run: str) -> str:
    """Where it is kept what lands beside the answer of a run."""
    return f"{RESCUES}{run}{_KEPT}"


def keep(site: Site, run: str, ref: str, answer: str, along: Sequence[RefEdit]) -> None:
    """Keep what is to land beside an answer on the branch `ref`. Raises what a transaction does.

    One commit: its parents are the answer and what goes along, its message says what goes where.
    """
    lines = [f"beside the answer of run {run}", "", ref]
    lines += [f"{edit.ref} {edit.old}" if edit.old else edit.ref for edit in along]
    oid = site.repo.write_commit(
        tree=site.repo.empty_tree(),
        parents=[answer, *(edit.new for edit in along if edit.new is not None)],
        message="\n".join(lines),
    )
    name = kept_ref(run)
    site.store.commit([RefEdit(name, site.repo.read_ref(name), oid)])


def kept_for(site: Site, run: str, answer: str) -> tuple[RefEdit, ...]:
    """What belongs to an answer that an earlier runner has left to be landed."""
    name = kept_ref(run)
    oid = site.repo.read_ref(name)
    if oid is None and site.mirror is not None:
        # Left by a runner elsewhere.
        with contextlib.suppress(AynigError, OSError):
            oid = site.mirror.remote.read([name]).get(name)
            if oid is not None:
                site.mirror.bring(name, oid)
    found = _read(site.repo, oid) if oid is not None else None
    return found.along if found is not None and found.answer == answer else ()


def complete(site: Site, run: str, along: Iterable[RefEdit]) -> None:
    """The answer has landed: what belongs to it is there, and is kept no longer."""
    along = tuple(along)
    if along and _create_missing(site, along):
        _drop(site, kept_ref(run))


def mend(site: Site) -> list[str]:
    """Finish what dead runners have landed in part, and forget what will never land.

    The branches that had been missing.
    """
    begun: list[str] = []
    for name, oid in site.repo.refs_below(RESCUES).items():
        found = _read(site.repo, oid) if name.endswith(_KEPT) else None
        if found is None:
            continue
        tip = site.repo.read_ref(found.ref)
        if tip is not None and site.repo.descends(tip, found.answer):
            missing = [edit for edit in found.along if _is_missing(site, edit)]
            if not _create_missing(site, missing):
                continue
            begun += [edit.ref.removeprefix(HEADS) for edit in missing]
        elif _may_land(site, found.ref, name.removeprefix(RESCUES).removesuffix(_KEPT)):
            continue
        _drop(site, name)
    return begun


def is_coming(site: Site, ref: str) -> bool:
    """Does a branch that is missing belong to an answer that has landed in part?"""
    kept = (
        _read(site.repo, oid)
        for name, oid in site.repo.refs_below(RESCUES).items()
        if name.endswith(_KEPT)
    )
    return any(ref == edit.ref for found in kept if found is not None for edit in found.along)


def _read(repo: Repo, oid: str) -> Beside | None:
    """What a commit keeps; None where it says something else."""
    try:
        info = repo.commit(oid)
    except RepositoryError:
        return None
    refs = info.message.decode("utf-8", "surrogateescape").rstrip("\n").split("\n")[2:]
    if len(refs) != len(info.parents) or not all(ref.startswith(HEADS) for ref in refs):
        return None
    news = zip(refs[1:], info.parents[1:], strict=True)
    return Beside(refs[0], info.parents[0], tuple(_edit(line, new) for line, new in news))


def _edit(line: str, new: str) -> RefEdit:
    ref, _, old = line.partition(" ")
    return RefEdit(ref, old or None, new)


def _is_missing(site: Site, edit: RefEdit) -> bool:
    """Is a branch still where it was? Once it has gone on, whoever moved it knows better."""
    return site.repo.read_ref(edit.ref) == edit.old


def _may_land(site: Site, ref: str, run: str) -> bool:
    """Is its run still about to land the answer, or is that left for somebody to land?"""
    if site.repo.read_ref(RESCUES + run) is not None:
        return True
    name = lease_name(ref)
    oid = site.repo.read_ref(name)
    lease = read_lease(site.repo, name, oid) if oid is not None else None
    if not isinstance(lease, Lease) or lease.run != run:
        return False
    return site.leases.is_live(lease, site.repo.read_ref(ref))


def _create_missing(site: Site, along: Iterable[RefEdit]) -> bool:
    """Is all of it there now?"""
    for edit in along:
        if _is_missing(site, edit):
            with contextlib.suppress(AynigError):
                site.store.commit([edit])
    return not any(_is_missing(site, edit) for edit in along)


def _drop(site: Site, name: str) -> None:
    oid = site.repo.read_ref(name)
    if oid is not None:
        with contextlib.suppress(AynigError):
            site.store.delete([RefEdit(name, oid, None)])
