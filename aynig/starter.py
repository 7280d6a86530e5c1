"""A first `.aynig/` for a repository: a sample state that works at once, and a config file.

Nothing that is there already is written over. In a repository without a working tree the files
are committed on its default branch, which is where its scripts come from (design section 3,
Trust).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from aynig.errors import RefMoved, UserError
from aynig.git.checkouts import find_checkout
from aynig.git.refs import RefEdit, RefStore
from aynig.git.repo import Repo
from aynig.git.trees import FILE, PROGRAM, add_files
from aynig.model import HEADS, branch_of
from aynig.processes import this_holder

HELLO = """\
#!/bin/sh
# The state "hello": aynig runs this file when the tip of a branch says
#
#     aynig: hello
#
# It starts in a worktree of its own, at that commit. Exit status 0 is success, 75 asks for a later
# retry, all else is failure. The whole of what it gets is in docs/states.md; the most useful:
#
#   AYNIG_BRANCH      the branch, which is the task
#   AYNIG_BODY_FILE   a file with the message of the commit, without its trailers
#   AYNIG_RESPONSE    the file for the answer, in the form of a commit message
set -eu

words=$(wc -w <"$AYNIG_BODY_FILE" | tr -d ' ')

# What it prints is kept: `aynig logs BRANCH` shows it.
echo "hello from the branch $AYNIG_BRANCH"

# Files that it changes here become part of the answer.
cp "$AYNIG_BODY_FILE" hello.txt

# Subject, body, and after an empty line the trailers. Without this file the state that follows is
# what config.yaml says, or "done".
cat >"$AYNIG_RESPONSE" <<END
counted $words words

The message is in hello.txt now.

aynig: done
aynig: meta-words: $words
END
"""

CONFIG = """\
# How the states of this repository follow each other. All of it is optional: a state needs no
# more than an executable file of its name in this folder. `aynig check` checks what is here.
states:
  # The name of a state: a-z, 0-9, - and _.
  hello:
    # The state after success, where the script does not say one itself. Default: done.
    next: done
    # The state after failure. Default: failed.
    on-failure: failed
    # How long the script may run: 90s, 30m, 2h, none. Default: git config aynig.timeout (1h).
    timeout: 5m
    # Look for the script in roles/<role>/ first, and only then here. Default: no role.
    # role: greeter
    # Variables for the script. Names that begin with AYNIG_ are aynig's own.
    env:
      GREETING: hello
"""

FILES: dict[str, tuple[int, bytes]] = {
    ".aynig/hello": (PROGRAM, HELLO.encode()),
    ".aynig/config.yaml": (FILE, CONFIG.encode()),
}


@dataclass(frozen=True, slots=True)
class Placed:
    """One file: was it made now, or was it there?"""

    path: str
    made: bool


@dataclass(frozen=True, slots=True)
class Start:
    """What was made. `commit` and `branch` are empty where it was files only."""

    files: tuple[Placed, ...]
    branch: str = ""
    commit: str = ""

    @property
    def made(self) -> bool:
        return any(file.made for file in self.files)


def start(repo: Repo) -> Start:
    """Make what is missing of `.aynig/`; raises UserError where something stands in the way."""
    return _commit_files(repo) if repo.work_tree is None else _write_files(repo.work_tree)


def _write_files(top: Path) -> Start:
    folder = top / ".aynig"
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UserError(f"{folder} is no folder", hint="Move it out of the way.")
    try:
        folder.mkdir(exist_ok=True)
        placed = [
            Placed(path, _write_new(top / path, mode, content))
            for path, (mode, content) in FILES.items()
        ]
    except OSError as error:
        raise UserError(f"{error.filename} can't be made: {error.strerror}") from error
    return Start(tuple(placed))


def _write_new(path: Path, mode: int, content: bytes) -> bool:
    """Write a file that is not there; False where anything is."""
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW
    try:
        fd = os.open(path, flags, 0o777 if mode == PROGRAM else 0o666)
    except FileExistsError:
        return False
    with os.fdopen(fd, "wb") as file:
        file.write(content)
    return True


def _commit_files(repo: Repo) -> Start:
    ref = repo.head_ref()
    if ref is None or not ref.startswith(HEADS):
        raise UserError(
            "HEAD names no branch, so there is no default branch",
            hint="Name one: git symbolic-ref HEAD refs/heads/main",
        )
    checkout = find_checkout(repo, ref)
    if checkout is not None:
        raise UserError(
            f"{branch_of(ref)} is checked out in {checkout.work_tree}",
            hint="Run `aynig init` there.",
        )
    old = repo.read_ref(ref)
    info = repo.commit(old) if old else None
    tree = info.tree if info else None
    missing = {path: file for path, file in FILES.items() if not (tree and repo.entry(tree, path))}
    placed = tuple(Placed(path, path in missing) for path in FILES)
    if not missing:
        return Start(placed, branch_of(ref))
    oid = repo.write_commit(
        tree=add_files(repo, tree, missing),
        parents=[old] if old else [],
        message="Add .aynig: a sample state and a config file",
        not_before=info.time if info else 0,
    )
    _move_branch(repo, ref, old, oid)
    return Start(placed, branch_of(ref), oid)


def _move_branch(repo: Repo, ref: str, old: str | None, oid: str) -> None:
    store = RefStore(repo, this_holder("aynig-init"))
    try:
        store.commit([RefEdit(ref, old, oid)])
    except RefMoved as error:
        raise UserError(
            f"{branch_of(ref)} has moved meanwhile", hint="Run `aynig init` again."
        ) from error
    finally:
        store.close()
