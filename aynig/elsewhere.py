"""Branches of other repositories, as this clone has seen them last: `REMOTE:BRANCH`."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

from aynig.errors import AynigError
from aynig.git.mirror import mirrors_of
from aynig.git.names import is_ref
from aynig.git.repo import CommitInfo, Repo
from aynig.model import HEADS

REMOTE_REFS = "refs/remotes/"


@dataclass(frozen=True, slots=True)
class Sighting:
    """A branch of a remote: where it was seen, and what it pointed at."""

    repo: Repo
    commit: CommitInfo


class Elsewhere:
    """Finds branches of remotes in the mirrors of a clone and among what it has fetched.

    The name of a remote is a claim by whoever pushed: it is compared with those that there are, and
    never taken for an address. Safe to share between threads.
    """

    def __init__(self, clone: Repo, own: str = "") -> None:
        """`own` is the remote whose branches the tasks of this place are; empty for none."""
        self._clone = clone
        self._own = own
        self._repos: dict[Path, Repo] = {}

    def own_branch(self, name: str) -> str | None:
        """The branch of this place's own remote that `REMOTE:BRANCH` names."""
        remote, _, branch = name.partition(":")
        return branch if branch and self._own and remote == self._own else None

    def find(self, name: str) -> Sighting | None:
        """What `REMOTE:BRANCH` was when it was last seen; None where it never was.

        A mirror that nobody works on any more stays behind what is fetched, and the other way
        round: the younger of both counts.
        """
        remote, colon, branch = name.partition(":")
        if not colon or not is_ref(f"{REMOTE_REFS}{remote}/{branch}"):
            return None
        found = [self._in(repo, HEADS + branch) for repo in self._mirrors(remote)]
        found.append(self._in(self._clone, f"{REMOTE_REFS}{remote}/{branch}"))
        return max(filter(None, found), key=lambda each: each.commit.time, default=None)

    def oid(self, name: str) -> str | None:
        """The commit that it pointed at, to compare with another time."""
        found = self.find(name)
        return found.commit.oid if found is not None else None

    def _in(self, repo: Repo, ref: str) -> Sighting | None:
        with contextlib.suppress(AynigError, OSError):
            oid = repo.read_ref(ref)
            return Sighting(repo, repo.commit(oid)) if oid is not None else None
        return None

    def _mirrors(self, remote: str) -> list[Repo]:
        """Those of a remote of that name: more than one where its address was changed."""
        plain = re.sub(r"[^A-Za-z0-9_-]+", "-", remote)[:40]
        found = []
        for place in mirrors_of(self._clone):
            if place.name.startswith(f"{plain}-"):
                repo = self._opened(place)
                if repo is not None and repo.config_value(f"remote.{remote}.url") is not None:
                    found.append(repo)
        return found

    def _opened(self, place: Path) -> Repo | None:
        repo = self._repos.get(place)
        if repo is None:
            with contextlib.suppress(AynigError, OSError):
                repo = self._repos[place] = Repo.open(place)
        return repo
