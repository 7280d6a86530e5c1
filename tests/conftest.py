"""A sealed world for every test: no HOME, no configuration and no clock but its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.world import GitRepo, sealed_environment

if TYPE_CHECKING:
    from tests.stage import Stage


@pytest.fixture(autouse=True)
def _sealed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Every test runs with an empty HOME and without the variables of a surrounding git."""
    home = tmp_path_factory.mktemp("home")
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(sealed_environment(before, home))
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def repo(tmp_path: Path) -> GitRepo:
    """A repository with one commit on `main`, with a working tree."""
    return GitRepo.init(tmp_path / "repo")


@pytest.fixture
def bare(tmp_path: Path) -> GitRepo:
    """A bare repository with one commit on `main`."""
    return GitRepo.init(tmp_path / "repo.git", bare=True)


@pytest.fixture
def stage(repo: GitRepo) -> Stage:
    """Tasks and engines in a repository with a working tree."""
    from tests.stage import Stage

    return Stage(repo)


@pytest.fixture
def bare_stage(bare: GitRepo) -> Stage:
    """Tasks and engines in a bare repository."""
    from tests.stage import Stage

    return Stage(bare)
