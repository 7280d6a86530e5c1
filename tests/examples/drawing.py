"""The picture of a history as `git log --graph` draws it, on a clock that tells nothing.

Where branches are side by side, git draws that first which was made last: a race. So the commits
are made once more in another repository, with the subjects, parents and branches that they have,
one minute after the last of their parents. That picture is the same each time, oids included.
"""

from __future__ import annotations

from pathlib import Path

from tests.examples.example import EXAMPLES
from tests.world import EPOCH, TICK, GitRepo

_EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
_ONLY = "--decorate-refs=refs/heads/"
_LOG = ("log", "--graph", "--oneline", "--color=never", "--decorate=short", _ONLY)


def drawn(repo: GitRepo, folder: Path, *branches: str) -> str:
    """What `git log --graph` prints of these branches, or of all; `folder` is for the copy."""
    names = branches or tuple(repo.git("branch", "--format=%(refname:short)").split("\n"))
    tips = sorted(f"refs/heads/{name}" for name in names)
    copy = GitRepo.init(folder, bare=True, empty=True)
    copy.git("hash-object", "-w", "-t", "tree", "--stdin", stdin="")
    made: dict[str, tuple[str, int]] = {}
    listed = repo.git("log", "--reverse", "--topo-order", "--format=%H%x09%P%x09%s", *tips)
    for line in listed.split("\n"):
        oid, parents, subject = line.split("\t", 2)
        below = [made[parent] for parent in parents.split()]
        when = max((depth for _, depth in below), default=0) + 1
        made[oid] = (_made(copy, subject, [parent for parent, _ in below], when), when)
    for ref in tips:
        copy.git("update-ref", ref, made[repo.git("rev-parse", ref)][0])
    log = copy.git(*_LOG, *tips)
    return "\n".join(line.rstrip() for line in log.split("\n"))


def _made(copy: GitRepo, subject: str, parents: list[str], when: int) -> str:
    stamp = f"{EPOCH + when * TICK} +0000"
    clock = {"GIT_AUTHOR_DATE": stamp, "GIT_COMMITTER_DATE": stamp}
    above = [word for parent in parents for word in ("-p", parent)]
    return copy.git("commit-tree", _EMPTY_TREE, *above, "-m", subject, env=clock)


def pictures(name: str) -> list[str]:
    """The pictures in the README of an example, in order."""
    text = (EXAMPLES / name / "README.md").read_text()
    return [block.strip("\n") for block in text.split("```")[1::2] if block.startswith("\n* ")]


def values(repo: GitRepo, rev: str, key: str) -> list[str]:
    """The values of a field that repeats, in order."""
    begin = f"{key}: "
    said = [value for name, value in repo.trailers(rev) if name == "aynig"]
    return [value.removeprefix(begin) for value in said if value.startswith(begin)]
