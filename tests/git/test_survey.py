"""A survey finds what git neither sees nor minds, and looks only into folders that changed."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aynig.git.survey import Expected, Survey, Surveyor
from tests.world import listening, wait_for

CLEAN = Survey(dangerous=False, strays=False)
STRAYS = Survey(dangerous=False, strays=True)
DANGEROUS = Survey(dangerous=True, strays=False)
BOTH = Survey(dangerous=True, strays=True)


def blob(text: str) -> str:
    head = f"blob {len(text)}\0"
    return hashlib.sha1((head + text).encode(), usedforsecurity=False).hexdigest()


EXPECTED = Expected(
    folders=frozenset({"a", "a/deep", "module"}),
    gitlinks=frozenset({"module"}),
    links={"a/link": blob("file")},
)


@pytest.fixture
def scanned() -> Iterator[list[str]]:
    """The folders that this process has listed."""
    with listening("os.scandir") as heard:
        yield heard


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "a" / "deep").mkdir(parents=True)
    (tree / "module").mkdir()
    (tree / ".git").write_text("gitdir: elsewhere\n")
    (tree / "a" / "file").write_text("x\n")
    (tree / "a" / "deep" / "file").write_text("x\n")
    (tree / "a" / "link").symlink_to("file")
    return tree


def relink(place: Path) -> None:
    (place / "a" / "link").unlink()
    (place / "a" / "link").symlink_to("/etc")


def over_the_link(place: Path) -> None:
    (place / "new").symlink_to("/etc")
    (place / "new").rename(place / "a" / "link")


CHANGES: dict[str, tuple[Callable[[Path], object], Survey]] = {
    "nothing": (lambda tree: None, CLEAN),
    "a-file": (lambda tree: (tree / "a" / "deep" / "more").write_text("y\n"), CLEAN),
    "other-content": (lambda tree: (tree / "a" / "file").write_text("y\n"), CLEAN),
    "an-empty-folder": (lambda tree: (tree / "a" / "deep" / "empty").mkdir(), STRAYS),
    "a-fifo": (lambda tree: os.mkfifo(tree / "a" / "deep" / "fifo"), BOTH),
    "a-link": (lambda tree: (tree / "a" / "deep" / "link").symlink_to("/etc"), DANGEROUS),
    "a-link-in-another's-place": (relink, DANGEROUS),
    "a-link-moved-over-another": (over_the_link, DANGEROUS),
    "in-a-submodule": (lambda tree: (tree / "module" / "file").write_text("x\n"), STRAYS),
    "a-folder-less": (lambda tree: shutil.rmtree(tree / "a" / "deep"), CLEAN),
    "all-gone": (shutil.rmtree, BOTH),
}


@pytest.mark.parametrize(("change", "found"), CHANGES.values(), ids=CHANGES)
def test_a_change_is_found_by_a_first_look_and_by_a_later_one(
    tree: Path, change: Callable[[Path], object], found: Survey, scanned: list[str]
) -> None:
    later = Surveyor(tree)
    remembered(later, scanned)
    change(tree)
    assert later.survey(EXPECTED) == found
    assert later.survey(EXPECTED) == found
    assert Surveyor(tree).survey(EXPECTED) == found


def test_only_the_folders_that_changed_are_listed_again(tree: Path, scanned: list[str]) -> None:
    surveyor = Surveyor(tree)
    remembered(surveyor, scanned)
    (tree / "a" / "deep" / "more").write_text("x\n")
    assert surveyor.survey(EXPECTED) == CLEAN
    assert scanned == [str(tree / "a" / "deep")]


def test_what_is_expected_of_another_tree_is_judged_anew(tree: Path, scanned: list[str]) -> None:
    surveyor = Surveyor(tree)
    remembered(surveyor, scanned)
    assert surveyor.survey(Expected()) == Survey(dangerous=True, strays=True)


def test_a_folder_that_was_only_just_changed_is_not_remembered(
    tree: Path, scanned: list[str]
) -> None:
    """Its time stamp would not tell of a further change within the same tick of the clock."""
    surveyor = Surveyor(tree)
    remembered(surveyor, scanned)
    (tree / "a" / "more").write_text("x\n")
    surveyor.survey(EXPECTED)
    os.mkfifo(tree / "a" / "fifo")
    assert surveyor.survey(EXPECTED) == BOTH


def remembered(surveyor: Surveyor, scanned: list[str]) -> None:
    """Survey until no folder has to be listed any more."""

    def is_quiet() -> bool:
        scanned.clear()
        assert surveyor.survey(EXPECTED) == CLEAN
        return scanned == []

    wait_for(is_quiet, what="all folders to be known")
