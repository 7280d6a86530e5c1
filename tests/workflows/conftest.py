"""Commands are given in the repository, and scripts may count beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stage import Stage


@pytest.fixture(autouse=True)
def _inside(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(stage.repo.path)


@pytest.fixture
def counted(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that `COUNTING` counts in: nothing resets it from run to run."""
    place = tmp_path_factory.mktemp("count") / "n"
    monkeypatch.setenv("COUNT", str(place))
    return place
