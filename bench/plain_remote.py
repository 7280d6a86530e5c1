"""The same work on a remote as plain git commands in a shell loop, as a person would script it.

A state is three commands to the remote: fetch, push a claim that nobody else may have pushed,
push the answer and the claim together, each guarded by what it was.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.ground import Ground

_STATE = r"""
empty=$(git hash-object -t tree -w /dev/null)
# carry_out BRANCH WORKTREE: claims the task, runs its script, answers. 2: somebody was faster.
carry_out() {
    tip=$(git rev-parse --verify --quiet "refs/remotes/origin/$1") || exit 1
    state=$(git log -1 --format='%(trailers:key=aynig,valueonly,separator=%x2C)' "$tip")
    [ "$state" ] || exit 1
    claim=$(git commit-tree "$empty" -m "claim of $1 by $$")
    git push --quiet --force-with-lease="refs/plain/$1:" origin "$claim:refs/plain/$1" || return 2
    git -C "$2" checkout --quiet --detach "$tip"
    (cd "$2" && "./.aynig/$state") || exit 1
    changed=$(git -C "$2" status --porcelain --untracked-files=all)
    [ -z "$changed" ] || exit 1
    answer=$(git commit-tree "$tip^{tree}" -p "$tip" -m "$state -> done" -m "aynig: done")
    git push --quiet --atomic --force-with-lease="refs/heads/$1:$tip" \
        --force-with-lease="refs/plain/$1:$claim" \
        origin "$answer:refs/heads/$1" "$answer:refs/plain/$1" || exit 1
}
"""

_ONE = (
    _STATE + 'git fetch --quiet origin "+refs/heads/$1:refs/remotes/origin/$1" || exit 1\n'
    'carry_out "$1" "$2"\n'
)

# Looks what is still free, takes one of it at random, and looks again.
_MANY = (
    _STATE
    + r"""
while :; do
    git fetch --quiet origin '+refs/heads/*:refs/remotes/origin/*' '+refs/plain/*:refs/plain/*'
    git for-each-ref --format='%(refname:lstrip=2)' 'refs/plain/many/*' | sort >"$2.taken"
    task=$(git for-each-ref --format='%(refname:lstrip=3)' 'refs/remotes/origin/many/*' |
        sort | comm -23 - "$2.taken" | shuf -n 1)
    [ "$task" ] || exit 0
    carry_out "$task" "$2" 2>/dev/null && echo "$task"
done
"""
)

# From a fetch to the first instruction of the script, by somebody who knows what was pushed.
_BY_HAND = r"""
git fetch --quiet origin "+refs/heads/$1:refs/remotes/origin/$1" || exit 1
git worktree add --quiet --detach "$2" "refs/remotes/origin/$1" || exit 1
cd "$2" && exec ./.aynig/ring
"""

# The same by somebody who is not alone: claims it first, and looks who else is at that commit.
_CLAIMED = r"""
git fetch --quiet origin "+refs/heads/$1:refs/remotes/origin/$1" || exit 1
claim=$(git commit-tree "$(git hash-object -t tree -w /dev/null)" -m "claim of $1 by $$")
git push --quiet --force-with-lease="refs/plain/$1:" origin "$claim:refs/plain/$1" || exit 1
git ls-remote --heads origin | grep -c "^$(git rev-parse "refs/remotes/origin/$1")" >/dev/null
git worktree add --quiet --detach "$2" "refs/remotes/origin/$1" || exit 1
cd "$2" && exec ./.aynig/ring
"""


def make_worktree(clone: Ground) -> Path:
    """A worktree for the shell loop; made once, because making it is not what is measured."""
    path = clone.path.with_name(f"{clone.path.name}-worktree")
    clone.git("worktree", "add", "--quiet", "--detach", str(path), "refs/remotes/origin/main")
    return path


def run_one(clone: Ground, branch: str, worktree: Path) -> None:
    """One state of a branch of the remote, from the fetch to the answer."""
    subprocess.run(_shell(_ONE, branch, worktree), cwd=clone.path, check=True)


def start_loop(clone: Ground, worktree: Path) -> subprocess.Popen[bytes]:
    """A loop that takes tasks until none is free; it prints each that it has answered."""
    return subprocess.Popen(
        _shell(_MANY, clone.path, worktree),
        cwd=clone.path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )


def start_by_hand(
    clone: Ground, branch: str, worktree: Path, *, claims: bool = False
) -> subprocess.Popen[bytes]:
    """Fetch a branch, make a worktree of it and start its script `ring`; `claims` it before."""
    script = _CLAIMED if claims else _BY_HAND
    return subprocess.Popen(_shell(script, branch, worktree), cwd=clone.path)


def _shell(script: str, *args: object) -> Sequence[str]:
    return ["sh", "-c", script, "sh", *map(str, args)]
