"""Keeps work that does not land: `refs/aynig/rescue/<run>` points at it from then on."""

from __future__ import annotations

from aynig.git.refs import RefEdit, RefStore
from aynig.git.repo import Repo
from aynig.git.worktree import Harvest
from aynig.model import RESCUES


def rescue(store: RefStore, run: str, oid: str) -> str:
    """Keep a commit of a run; its rescue ref. RefMoved where the run has one already."""
    ref = RESCUES + run
    store.commit([RefEdit(ref, None, oid)])
    return ref


def rescue_work(repo: Repo, store: RefStore, run: str, branch: str, harvest: Harvest) -> str:
    """Keep what a script left in its worktree, committed or not; the rescue ref."""
    oid = harvest.head
    if harvest.changed:
        where = f" on {branch}" if branch else ""
        oid = repo.write_commit(
            tree=harvest.tree,
            parents=[harvest.head],
            message=f"work of run {run}{where} that did not land",
            not_before=repo.commit(harvest.head).time,
        )
    return rescue(store, run, oid)
