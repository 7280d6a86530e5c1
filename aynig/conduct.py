"""What a run did that it may not do, or did not do that it should have.

Both are found by looking at what it left, never by asking it.
"""

from __future__ import annotations

from aynig.answer import Left
from aynig.git.history import Read, hidden_answer
from aynig.git.repo import Repo
from aynig.git.trees import list_files
from aynig.git.worktree import Harvest
from aynig.model import Plan
from aynig.text import counted, quote

# Where the workflow and its scripts lie. Who changes them decides what is checked the next time.
PROTECTED = (".aynig", ".dwp")
_SHOWN = 3


def misconduct(repo: Repo, read: Read, plan: Plan, harvest: Harvest | None, left: Left) -> str:
    """Why what a run left can't be accepted; empty where it can."""
    tree = harvest.tree if harvest is not None else plan.event.tree
    return (
        _answers_itself(repo, read, plan, harvest)
        or _forbidden(repo, plan, _trees(repo, tree, harvest))
        or _nothing_done(plan, tree, left)
    )


def _answers_itself(repo: Repo, read: Read, plan: Plan, harvest: Harvest | None) -> str:
    def answered(message: bytes) -> str | None:
        statement = read(message)
        return statement.value("answers") if statement is not None else None

    if harvest is None or harvest.head == plan.event.oid:
        return ""
    oid = hidden_answer(repo, harvest.head, plan.event.oid, answered)
    return f"its commit {oid[:12]} has the field `answers`, which only aynig writes" if oid else ""


def _trees(repo: Repo, tree: str, harvest: Harvest | None) -> list[str]:
    """What may land: the files as they lie there, and those of the last commit without them."""
    return [tree] if harvest is None else sorted({tree, repo.commit(harvest.head).tree})


def _forbidden(repo: Repo, plan: Plan, trees: list[str]) -> str:
    found = {
        path for tree in trees for path in changed_files(repo, plan.event.tree, tree, PROTECTED)
    }
    changed = [
        path
        for path in sorted(found)
        if not any(_is_below(path, allowed) for allowed in plan.settings.may_change)
    ]
    if not changed:
        return ""
    shown = ", ".join(quote(path) for path in changed[:_SHOWN])
    more = f" and {counted(len(changed) - _SHOWN, 'more file')}" if len(changed) > _SHOWN else ""
    return f"it changed {shown}{more}: only people change the workflow (`may-change` allows it)"


def changed_files(repo: Repo, before: str, after: str, folders: tuple[str, ...]) -> list[str]:
    """The paths below `folders` in which two trees differ.

    In whatever case a folder is written: there are file systems on which that is the same one.
    """
    found: list[str] = []
    wanted = {folder.casefold() for folder in folders}
    names = {*repo.names(before), *repo.names(after)}
    for folder in sorted(name for name in names if name.casefold() in wanted):
        old, new = repo.entry(before, folder), repo.entry(after, folder)
        if old == new:
            continue
        files = [_blobs(repo, tree, folder) for tree in (before, after)]
        paths = sorted({*files[0], *files[1]})
        found += [path for path in paths if files[0].get(path) != files[1].get(path)]
    return found


def _blobs(repo: Repo, tree: str, folder: str) -> dict[str, tuple[int, str] | None]:
    return {path: repo.entry(tree, path) for path in list_files(repo, tree, [folder])}


def _is_below(path: str, allowed: str) -> bool:
    """Is a path the allowed one, or below it where that is a folder?"""
    folder = allowed.rstrip("/")
    return path == folder or path.startswith(f"{folder}/")


def _nothing_done(plan: Plan, tree: str, left: Left) -> str:
    expected = plan.settings.expect
    if expected == "changes" and tree == plan.event.tree:
        return "it changed no file, and changes are expected"
    if expected == "answer" and not _has_answer(left):
        return "it gave no answer, and one is expected"
    return ""


def _has_answer(left: Left) -> bool:
    reply = left.reply
    said = reply.state or reply.subject or reply.body.strip() or reply.fields or reply.trailers
    return bool(said) or (left.own is not None)
