"""The same work as plain git commands in a shell loop, as a person would script it.

A state is seven git processes: read the tip, read its trailers, claim it by a ref, bring the
worktree to it, (the script), look what it changed, write the answer, move the branch.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from bench.ground import Child, Ground

LIST_TRAILERS = ("for-each-ref", "--format=%(refname) %(contents:trailers)", "refs/heads/")

_STATE = """
# one_state BRANCH WORKTREE NEXT: runs the script of the state that is at the tip, answers NEXT.
one_state() {
    tip=$(git rev-parse --verify --quiet "refs/heads/$1") || return 1
    state=$(git log -1 --format='%(trailers:key=aynig,valueonly,separator=%x2C)' "$tip")
    [ "$state" ] || return 1
    git update-ref "refs/plain/$1" "$tip"
    git -C "$2" checkout --quiet --detach "$tip"
    (cd "$2" && "./.aynig/$state") || exit 1
    changed=$(git -C "$2" status --porcelain --untracked-files=all)
    [ -z "$changed" ] || exit 1
    answer=$(git commit-tree "$tip^{tree}" -p "$tip" -m "$state -> $3" -m "aynig: $3")
    git update-ref "refs/heads/$1" "$answer" "$tip"
}
"""

_CHAIN = _STATE + 'n=0; while [ $n -lt "$3" ]; do one_state "$1" "$2" endless; n=$((n+1)); done\n'

_MANY = _STATE + 'while read -r branch; do one_state "$branch" "$1" done; done\n'

# Without a pause between two looks, so that it is as quick as polling can be.
_POLL = (
    _STATE
    + """
last=$(git rev-parse "refs/heads/$1")
echo ready
while :; do
    tip=$(git rev-parse "refs/heads/$1")
    [ "$tip" != "$last" ] || continue
    one_state "$1" "$2" done
    last=$answer
    echo "$answer"
done
"""
)


def make_worktree(ground: Ground, number: int = 0) -> Path:
    """A worktree for the shell loop; made once, because making it is not what is measured."""
    path = ground.path.parent / f"worktree{number}"
    if not path.exists():
        ground.git("worktree", "add", "--quiet", "--detach", str(path), "refs/heads/main")
    return path


def run_chain(ground: Ground, branch: str, worktree: Path, states: int) -> None:
    """Carry a chain on by so many states."""
    _await([_start(_shell(_CHAIN, branch, worktree, states), ground.path)])


def run_many(ground: Ground, branches: Sequence[str], worktrees: Sequence[Path]) -> None:
    """One state of each branch, by a loop for each worktree side by side."""
    loops = []
    for number, worktree in enumerate(worktrees):
        loop = _start(_shell(_MANY, worktree), ground.path, stdin=subprocess.PIPE)
        assert loop.stdin is not None
        share = branches[number :: len(worktrees)]
        loop.stdin.write("".join(f"{name}\n" for name in share).encode())
        loop.stdin.close()
        loops.append(loop)
    _await(loops)


def list_trailers(ground: Ground) -> None:
    """All branches with their trailers."""
    _await([_start(["git", *LIST_TRAILERS], ground.path)])


_STATUS = ("git", "status", "--porcelain", "--untracked-files=all", "--ignored=matching")


def status_of_all(worktrees: Sequence[Path]) -> float:
    """Seconds for what has to be known of a worktree before it is lent again; all at a time."""
    begun = time.perf_counter()
    _await([_start(_STATUS, worktree) for worktree in worktrees])
    return time.perf_counter() - begun


def _shell(script: str, *args: object) -> list[str]:
    return ["sh", "-c", script, "sh", *map(str, args)]


def _start(
    command: Sequence[str], folder: Path, stdin: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, cwd=folder, stdin=stdin, stdout=subprocess.DEVNULL)


def _await(children: Sequence[subprocess.Popen[bytes]]) -> None:
    failed = [child.args for child in children if child.wait()]
    if failed:
        raise RuntimeError(f"failed: {failed}")


class Poller(Child):
    """The shell loop that waits for a branch to move."""

    def __init__(self, ground: Ground, branch: str, worktree: Path) -> None:
        super().__init__(_shell(_POLL, branch, worktree), ground.path)
        # It says that it is ready; then come the oids of its answers.
        self.read_line()

    def end(self) -> None:
        """It has no end of its own."""
        self._process.kill()
        super().end()


class Updater(Child):
    """A `git update-ref --stdin` that is kept open, to know the moment when a ref has moved."""

    def __init__(self, ground: Ground) -> None:
        super().__init__(["git", "update-ref", "--stdin"], ground.path)

    def move(self, ref: str, oid: str) -> float:
        """Point a ref at `oid`; the moment (perf_counter) at which git said that it does."""
        self.tell(f"start\nupdate {ref} {oid}\ncommit\n")
        while self.read_line() != b"commit: ok\n":
            pass
        return time.perf_counter()
