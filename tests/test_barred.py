"""Why nothing can be claimed on a remote is told by `status` until something was claimed."""

from __future__ import annotations

from pathlib import Path

import pytest

from aynig import barred
from aynig.model import Hold
from tests.fleet import Fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet.make(tmp_path, {"go": "true"})


def refuse(fleet: Fleet) -> Path:
    """The server takes nothing."""
    hook = fleet.server.path / "hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho closed for today\nexit 1\n")
    hook.chmod(0o755)
    return hook


def test_what_a_server_refused_is_told_of_all_tasks_until_one_was_claimed(fleet: Fleet) -> None:
    hook = refuse(fleet)
    fleet.tasks.task(branch="one")
    fleet.tasks.task(branch="two")
    assert fleet.status("bob", "one").hold is None
    fleet.run("bob", jobs=1)
    for branch in ("one", "two"):
        row = fleet.status("bob", branch)
        assert row.hold == "refused"
        assert "closed for today" in row.detail
        assert "when a runner of this clone last tried" in row.detail
    hook.unlink()
    fleet.run("bob")
    fleet.tasks.task(branch="three")
    assert fleet.status("bob", "three").hold is None


def test_another_clone_knows_nothing_of_it(fleet: Fleet) -> None:
    refuse(fleet)
    fleet.tasks.task()
    fleet.run("bob")
    assert fleet.status("ann").hold is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"word": "refused"}', '{"time": "x"}'])
def test_a_note_that_is_damaged_says_nothing(fleet: Fleet, text: str) -> None:
    site = fleet.open("bob")
    try:
        barred.note(site, Hold("refused", "a\x1bb"))
        found = barred.read(site)
        assert found is not None
        assert (found.word, found.detail.startswith("a\\x1bb (when")) == ("refused", True)
        (site.repo.home / "barred").write_text(text)
        assert barred.read(site) is None
        barred.forget(site)
        barred.forget(site)
    finally:
        site.close()
