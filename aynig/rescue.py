"""Keeps work that does not land: `refs/aynig/rescue/<run>` points at it from then on."""

from __future__ import annotations

import contextlib
import itertools

from aynig.errors import AynigError, RefMoved
from aynig.git.refs import RefEdit, Refs
from aynig.git.repo import Repo
from aynig.git.worktree import Harvest
from aynig.model import RESCUES


def rescue(repo: Repo, store: Refs, run: str, oid: str) -> str:
    """Keep a commit of a run; its rescue ref.

    It may be asked for again, by a successor of a runner that crashed too. A run of which something
    else is kept gets a second ref, `<run>-2`: nothing that is kept is ever given up for it.
    """
    for number in itertools.count(1):
        ref = RESCUES + run + (f"-{number}" if number > 1 else "")
        try:
            store.commit([RefEdit(ref, None, oid)])
        except RefMoved:
            if repo.read_ref(ref) != oid:
                continue
        return ref
    raise AssertionError("numbers do not end")


def drop_rescue(store: Refs, ref: str, oid: str) -> None:
    """The commit is on its branch by now. Where the ref can't be deleted, it stays."""
    with contextlib.suppress(AynigError):
        store.delete([RefEdit(ref, oid, None)])


def rescue_work(repo: Repo, store: Refs, run: str, branch: str, harvest: Harvest) -> str:
    """Keep what a script left in its worktree, committed or not; the rescue ref.

    What the run has kept already stays: an answer that could not be written is written again.
    """
    if repo.read_ref(RESCUES + run) is not None:
        return RESCUES + run
    oid = harvest.head
    if harvest.changed:
        where = f" on {branch}" if branch else ""
        oid = repo.write_commit(
            tree=harvest.tree,
            parents=[harvest.head],
            message=f"work of run {run}{where} that did not land",
            not_before=repo.commit(harvest.head).time,
        )
    return rescue(repo, store, run, oid)
