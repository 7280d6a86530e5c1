"""Small files in folders that a script could reach are written to nothing but themselves."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from aynig.git.disk import ensure_small, read_small, write_small

KINDS: dict[str, Callable[[Path], object]] = {
    "nothing": lambda place: None,
    "a-shorter-file": lambda place: place.write_text("x"),
    "a-longer-file": lambda place: place.write_text("x" * 20_000),
    "a-link": lambda place: place.symlink_to("precious"),
    "a-dangling-link": lambda place: place.symlink_to("nowhere"),
    "a-second-name": lambda place: place.hardlink_to(place.parent / "precious"),
    "a-fifo": os.mkfifo,
    "a-folder": lambda place: (place / "deep").mkdir(parents=True),
    "a-read-only-file": lambda place: os.close(os.open(place, os.O_CREAT, 0o444)),
}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("write", [write_small, ensure_small])
def test_a_small_file_takes_the_place_of_whatever_lies_there(
    tmp_path: Path, write: Callable[[Path, str, Path], None], make: Callable[[Path], object]
) -> None:
    (tmp_path / "precious").write_text("precious\n")
    place = tmp_path / "small"
    make(place)
    write(place, "what it says\n", tmp_path)
    assert place.read_text() == "what it says\n"
    assert not place.is_symlink()
    assert place.stat().st_nlink == 1
    assert (tmp_path / "precious").read_text() == "precious\n"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["precious", "small"]


@pytest.mark.parametrize("name", [name for name in KINDS if name != "a-shorter-file"])
def test_only_a_small_regular_file_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "precious").write_text("precious\n")
    place = tmp_path / "small"
    KINDS[name](place)
    found = read_small(place)
    assert found == {"a-second-name": "precious\n", "a-read-only-file": ""}.get(name)
