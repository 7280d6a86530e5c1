"""The same work as plain git commands in a shell loop, as a person would script it.

A state is seven git processes: read the tip, read its trailers, claim it by a ref, bring the
worktree to it, (the script), look what it changed, write the answer, move the branch.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from bench.ground import Ground

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


def _shell(ground: Ground, script: str, *args: str, lines: Sequence[str] = ()) -> None:
    subprocess.run(
        ["sh", "-c", script, "sh", *args],
        cwd=ground.path,
        input="".join(f"{line}\n" for line in lines).encode(),
        check=True,
    )


def run_chain(ground: Ground, branch: str, worktree: Path, states: int) -> None:
    """Carry a chain on by so many states."""
    _shell(ground, _CHAIN, branch, str(worktree), str(states))


def run_many(ground: Ground, branches: Sequence[str], worktrees: Sequence[Path]) -> None:
    """One state of each branch, by a loop for each worktree side by side."""
    loops = []
    for number, worktree in enumerate(worktrees):
        loop = subprocess.Popen(
            ["sh", "-c", _MANY, "sh", str(worktree)], cwd=ground.path, stdin=subprocess.PIPE
        )
        assert loop.stdin is not None
        loop.stdin.write(
            "".join(f"{name}\n" for name in branches[number :: len(worktrees)]).encode()
        )
        loop.stdin.close()
        loops.append(loop)
    if any(loop.wait() for loop in loops):
        raise RuntimeError("the shell loop failed")


def list_trailers(ground: Ground) -> None:
    """All branches with their trailers."""
    subprocess.run(["git", *LIST_TRAILERS], cwd=ground.path, stdout=subprocess.DEVNULL, check=True)


_STATUS = ("git", "status", "--porcelain", "--untracked-files=all", "--ignored=matching")


def status_of_all(worktrees: Sequence[Path]) -> float:
    """Seconds for what has to be known of a worktree before it is lent again; all at a time."""
    begun = time.perf_counter()
    children = [
        subprocess.Popen(_STATUS, cwd=worktree, stdout=subprocess.DEVNULL) for worktree in worktrees
    ]
    if max(child.wait() for child in children):
        raise RuntimeError("git status failed")
    return time.perf_counter() - begun


class Poller:
    """The shell loop that waits for a branch to move."""

    def __init__(self, ground: Ground, branch: str, worktree: Path) -> None:
        self._process = subprocess.Popen(
            ["sh", "-c", _POLL, "sh", branch, str(worktree)],
            cwd=ground.path,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.read()

    def read(self) -> str:
        """Its next line: `ready`, then the oid of each answer."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def __enter__(self) -> Poller:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()


class Updater:
    """A `git update-ref --stdin` that is kept open, to know the moment when a ref has moved."""

    def __init__(self, ground: Ground) -> None:
        self._process = subprocess.Popen(
            ["git", "update-ref", "--stdin"],
            cwd=ground.path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )

    def move(self, ref: str, oid: str) -> float:
        """Point a ref at `oid`; the moment (perf_counter) at which git said that it does."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"start\nupdate {ref} {oid}\ncommit\n".encode())
        answer = b""
        while not answer.endswith(b"commit: ok\n"):
            chunk = self._process.stdout.read(4096)
            if not chunk:
                raise RuntimeError(f"git could not move {ref}")
            answer += chunk
        return time.perf_counter()

    def __enter__(self) -> Updater:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate()
