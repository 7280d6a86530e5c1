"""The workflows of all examples are right, and `aynig check` says so."""

from __future__ import annotations

import pytest

from tests.test_docs import ROOT
from tests.world import aynig

FOLDERS = sorted(place.parent for place in ROOT.glob("examples/*/.aynig"))


def test_there_are_examples() -> None:
    assert len(FOLDERS) > 2


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_workflow_of_an_example_is_right(folder: object) -> None:
    done = aynig("check", "--strict", str(folder), cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
