"""A run's folder is found by its id or by its branch, and goes when its time is over."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest

from aynig.runs import RunArchive, new_run_id, run_time

FIRST, SECOND = "20260131T093000Z-0001111111", "20260131T093000Z-0022222222"


@pytest.fixture
def archive(tmp_path: Path) -> RunArchive:
    return RunArchive(tmp_path / "aynig")


def add(archive: RunArchive, run: str, ref: str = "refs/heads/task") -> None:
    archive.create(run).write("context.json", f'{{"ref": "{ref}"}}'.encode())


def test_a_run_id_is_a_time_and_a_part_of_a_ref() -> None:
    assert re.fullmatch(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{10}", new_run_id())


def test_run_ids_sort_by_time_within_a_second_and_are_unique() -> None:
    ids = [new_run_id() for _ in range(5000)]
    # Only those of one millisecond may be out of order: behind the stamp there is chance.
    stamps = [each[: len("20260131T093000Z-000")] for each in ids]
    assert stamps == sorted(stamps)
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("run", "time"),
    [
        (FIRST, 1_769_851_800.0),
        ("20260131T093000Z", 1_769_851_800.0),
        ("20240229T235959Z-0", 1_709_251_199.0),
        ("20230229T000000Z-0", None),
        ("20260131T240000Z-0", None),
        ("20260131T093000Zx", None),
        ("00000101T000000Z-0", None),
        ("x", None),
        ("", None),
        (None, None),
    ],
)
def test_a_run_id_says_when_it_began(run: str | None, time: float | None) -> None:
    assert run_time(run) == time


def test_a_folder_is_its_owners_alone(archive: RunArchive) -> None:
    folder = archive.create(FIRST)
    folder.write("body", b"secret")
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.body.stat().st_mode) == 0o600


def test_a_run_id_is_used_once(archive: RunArchive) -> None:
    archive.create(FIRST)
    with pytest.raises(FileExistsError):
        archive.create(FIRST)


def test_writing_again_replaces_the_whole_file(archive: RunArchive) -> None:
    folder = archive.create(FIRST)
    folder.write("body", b"long text")
    folder.write("body", b"short")
    assert folder.body.read_bytes() == b"short"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        pytest.param(FIRST, FIRST, id="whole"),
        pytest.param("20260131T093000Z-000", FIRST, id="a unique beginning"),
        pytest.param("20260131", None, id="a beginning of two"),
        pytest.param("2027", None, id="of none"),
        pytest.param("", None, id="empty"),
        pytest.param("../runs", None, id="a path"),
        pytest.param(".", None, id="a dot"),
    ],
)
def test_a_run_is_found_by_its_id(archive: RunArchive, name: str, found: str | None) -> None:
    add(archive, FIRST)
    add(archive, SECOND)
    folder = archive.find(name)
    assert (folder.run if folder else None) == found


def test_the_last_run_of_a_branch_is_the_youngest_that_names_it(archive: RunArchive) -> None:
    add(archive, FIRST)
    add(archive, SECOND)
    add(archive, "20260131T093001Z-0000000000", "refs/heads/another")
    archive.create("20260131T093002Z-0000000000")
    folder = archive.latest("refs/heads/task")
    assert folder is not None
    assert folder.run == SECOND
    assert archive.latest("refs/heads/none") is None


def test_there_is_nothing_to_find_before_the_first_run(archive: RunArchive) -> None:
    assert list(archive) == []
    assert archive.find(FIRST) is None
    assert archive.sweep(0.0, 1e12) == 0


@pytest.mark.parametrize("broken", [b"", b"{", b"[]", b"\xff", b"null"])
def test_half_a_description_counts_as_none(archive: RunArchive, broken: bytes) -> None:
    folder = archive.create(FIRST)
    folder.write("context.json", broken)
    assert folder.facts() == {}


def test_how_a_run_ended_is_told_with_what_it_was_given(archive: RunArchive) -> None:
    add(archive, FIRST)
    folder = archive.find(FIRST)
    assert folder is not None
    assert "ended" not in folder.facts()
    folder.conclude(ended=2.0, exit=0)
    assert folder.facts() == {"ref": "refs/heads/task", "ended": 2.0, "exit": 0}


def test_only_what_is_older_than_the_retention_is_swept(archive: RunArchive) -> None:
    for run, age in ((FIRST, 100.0), (SECOND, 10.0)):
        folder = archive.create(run)
        (folder.path / "output").write_text("x")
        os.utime(folder.path, (1000.0 - age, 1000.0 - age))
    assert archive.sweep(50.0, 1000.0) == 1
    assert [folder.run for folder in archive] == [SECOND]
