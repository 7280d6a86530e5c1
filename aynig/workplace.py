"""Where the script of a run works: a lent worktree, or a secluded one where scenarios are hidden.

A worker that hidden scenarios are kept from has an object store of its own, and nothing that it is
given names the repository: its inputs and the scripts lie in a private folder too (`git.seclusion`,
docs/verification.md).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from aynig.errors import RunFault
from aynig.git.fence import Fence
from aynig.git.seclusion import Secluded
from aynig.git.worktree import Harvest, Worktree
from aynig.model import Plan, Script
from aynig.policies.verification import needs_seclusion
from aynig.runs import RunFolder
from aynig.site import Site

# Of a file that a secluded script leaves for us; what is longer is refused where it is read.
_MOST_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Workplace:
    """What the run has for as long as its script works."""

    _place: Worktree | Secluded
    # The run's files as the script finds them, and as people do afterwards.
    folder: RunFolder
    archive: RunFolder
    # What the context calls the repository.
    repository: str
    # Keeps the script from its branch, where it could reach that and is not to move it.
    fence: Fence | None = None

    @property
    def path(self) -> Path:
        """The folder that the script works in."""
        return self._place.path

    @property
    def folders(self) -> tuple[RunFolder, ...]:
        """Where the inputs have to be."""
        return (self.folder,) if self.folder == self.archive else (self.folder, self.archive)

    def script(self, script: Script) -> Script:
        """The script as it is started: from a copy of its folder, in seclusion."""
        if isinstance(self._place, Secluded):
            return replace(script, home=self._place.copy_home(script.home))
        return script

    def environment(self, found: Mapping[str, str]) -> dict[str, str]:
        """The environment without what is not to be told, and with the hooks of the fence."""
        if isinstance(self._place, Secluded):
            return self._place.conceal(found)
        return self.fence.around(found) if self.fence is not None else dict(found)

    def tried(self) -> tuple[str, ...]:
        """What the script tried to do to its branch, as words that follow "it tried to"."""
        return self.fence.tried() if self.fence is not None else ()

    def harvest(self, commit: str, tree: str) -> Harvest:
        """What the script left; raises as `Worktree.harvest`. Its processes have to be gone."""
        self._bring_answers()
        return self._place.harvest(commit, tree)

    def keep(self, place: Path) -> None:
        """Move the files aside, where git can't keep them."""
        self._place.keep(place)

    def _bring_answers(self) -> None:
        """What the script wrote for us, to where the rest of the run looks for it."""
        if self.folder == self.archive:
            return
        for name in (self.folder.response.name, self.folder.children.name, self.folder.usage.name):
            try:
                data = self.folder.read(name, _MOST_BYTES)
            except OSError as error:
                raise RunFault(f"its {name} can't be read: {error.strerror or error}") from error
            if data is not None:
                self.archive.write(name, data)


@contextlib.contextmanager
def workplace(
    site: Site, plan: Plan, run: str, archive: RunFolder, *, fenced: bool
) -> Iterator[Workplace]:
    """A place for a run to work in, for as long as the block runs; `fenced`: it is not to move its
    branch."""
    event = plan.event
    if needs_seclusion(plan.settings.verify):
        with site.seclusion.lend(event.oid, event.tree, run) as room:
            yield Workplace(room, room.folder, archive, str(room.path))
        return
    repository = str(site.repo.work_tree or site.repo.common_dir)
    address = site.mirror.remote.address if site.mirror is not None else None
    fence = site.guard.fence(archive.hooks, event.ref, address) if fenced else None
    with site.pool.lend(event.oid, event.tree, run) as worktree:
        yield Workplace(worktree, archive, archive, repository, fence)
