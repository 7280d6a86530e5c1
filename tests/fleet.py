"""A server, clones of it, and runners that take part, in this process."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aynig.lease import lease_name
from aynig.model import HEADS
from aynig.site import Site, open_place
from aynig.status import StatusRow, status_row
from tests.stage import NEVER, Stage, Told, at_work, run_until_quiet, sh
from tests.world import GitRepo

ORIGIN = "origin"


@dataclass
class Fleet:
    """A bare repository that is the server, at `url` for its clones."""

    folder: Path
    server: GitRepo
    url: str
    config: tuple[tuple[str, str], ...] = ()
    clones: dict[str, GitRepo] = field(default_factory=dict)

    @classmethod
    def make(
        cls,
        folder: Path,
        scripts: Mapping[str, str],
        *,
        workflow: str | None = None,
        url: str = "",
        config: tuple[tuple[str, str], ...] = (),
    ) -> Fleet:
        """A server whose default branch holds these scripts (for sh, by state)."""
        server = GitRepo.init(folder / "server.git", bare=True, empty=True)
        files: dict[str, str | bytes | None] = {
            f".aynig/{state}": sh(script) for state, script in scripts.items()
        }
        # The tree without files is known to git without being there, and fsck misses it.
        files["README"] = "A project.\n"
        if workflow is not None:
            files[".aynig/config.yaml"] = workflow
        server.commit("The workflow", files=files)
        return cls(folder, server, url or str(server.path), config)

    @property
    def tasks(self) -> Stage:
        """Tasks are put on the server's branches."""
        return Stage(self.server)

    def clone(self, name: str, *options: str) -> GitRepo:
        """A clone of the server, made once."""
        if name not in self.clones:
            settings = [f"-c{key}={value}" for key, value in self.config]
            path = self.folder / name
            self.server.git("clone", "--quiet", *settings, *options, self.url, str(path))
            self.clones[name] = GitRepo(path)
        return self.clones[name]

    def open(self, name: str, **flags: Any) -> Site:
        """The server's tasks, as a clone's runner works on them."""
        return open_place(self.clone(name).path, ORIGIN, **flags)

    def run(self, name: str, **flags: Any) -> Told:
        """Take part once, as `aynig run --remote origin` does."""
        return run_until_quiet(self.open(name, **flags))

    def live(self, name: str, **flags: Any) -> contextlib.AbstractContextManager[Told]:
        """A daemon at work for a clone, in this process, for as long as the block runs."""
        return at_work(self.open(name, **{"poll": NEVER, **flags}))

    def status(self, name: str, branch: str = "task") -> StatusRow:
        """The row of a branch, as somebody in a clone sees it."""
        site = self.open(name)
        try:
            assert site.mirror is not None
            site.mirror.sync(leases=True)
            row = status_row(site, HEADS + branch)
        finally:
            site.close()
        assert row is not None
        return row

    def lease(self, branch: str = "task") -> str:
        """What the lease ref of a branch points at on the server; empty for nothing."""
        ref = lease_name(HEADS + branch)
        return self.server.git("rev-parse", "--verify", "--quiet", ref, check=False)

    def fsck(self) -> None:
        """git finds nothing wrong on the server, nor in what its runners keep."""
        for repo in [self.server, *self.clones.values()]:
            for place in [repo.path, *sorted(repo.git_dir.glob("aynig/remotes/*.git"))]:
                GitRepo(place).git("fsck", "--strict", "--no-progress", "--no-dangling")
