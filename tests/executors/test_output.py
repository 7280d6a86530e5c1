"""The output file: bounded on disk, readable at any instant, harmless on a full disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aynig.executors.output import Follower, OutputFile, read_output, side_files, tail_of

LIMIT = 4096


def numbered(count: int, first: int = 0) -> list[bytes]:
    """Chunks of 10 bytes, each of which says where it belongs."""
    return [b"%09d\n" % number for number in range(first, first + count)]


def written(path: Path, chunks: list[bytes], *, close: bool = True) -> OutputFile:
    output = OutputFile(path, LIMIT)
    for chunk in chunks:
        output.write(chunk)
    if close:
        output.close()
    return output


def text_of(path: Path) -> bytes:
    return b"".join(read_output(path))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.log"


@pytest.mark.parametrize("count", [0, 1, 204, 205, 300, 307], ids=str)
def test_what_fits_is_kept_as_it_was_written(path: Path, count: int) -> None:
    chunks = numbered(count)
    written(path, chunks)
    assert path.read_bytes() == b"".join(chunks)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_too_much_output_keeps_its_beginning_and_its_end(path: Path) -> None:
    everything = b"".join(numbered(5000))
    written(path, numbered(5000))
    head, _, rest = path.read_bytes().partition(b"\n[... ")
    count, _, tail = rest.partition(b" bytes left out by aynig (aynig.outputLimit) ...]\n")
    assert everything.startswith(head)
    assert everything.endswith(tail)
    assert len(head) == LIMIT // 2
    assert LIMIT // 4 <= len(tail) <= LIMIT // 2
    assert len(head) + int(count) + len(tail) == len(everything)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 3000), max_size=25),
    closed=st.booleans(),
)
def test_nothing_is_lost_but_what_the_marker_counts(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], closed: bool
) -> None:
    path = tmp_path_factory.mktemp("output") / "log"
    everything = bytes(position % 251 for position in range(sum(sizes)))
    output = OutputFile(path, LIMIT)
    position = 0
    for size in sizes:
        output.write(everything[position : position + size])
        position += size
        on_disk = sum(entry.stat().st_size for entry in path.parent.iterdir())
        assert on_disk <= LIMIT + 100
    if closed:
        output.close()
    text = text_of(path)
    head, mark, rest = text.partition(b"\n[... ")
    if not mark:
        assert text == everything
        return
    count, _, tail = rest.partition(b" bytes left out by aynig (aynig.outputLimit) ...]\n")
    assert everything.startswith(head)
    assert everything.endswith(tail)
    assert len(head) + int(count) + len(tail) == len(everything)


def test_an_output_that_was_never_closed_reads_as_if_it_were(tmp_path: Path) -> None:
    written(tmp_path / "closed", numbered(5000))
    written(tmp_path / "left", numbered(5000), close=False)
    assert text_of(tmp_path / "left") == text_of(tmp_path / "closed")
    assert tail_of(tmp_path / "left") == tail_of(tmp_path / "closed")


def test_a_crash_in_the_middle_of_joining_shows_nothing_twice(path: Path) -> None:
    written(path, numbered(5000), close=False)
    before = text_of(path)
    with path.open("ab") as head:
        head.write(b"half of a tail that was being copied")
    assert text_of(path) == before


def test_a_tail_file_that_was_only_just_created_is_no_part_of_the_output(path: Path) -> None:
    written(path, numbered(100), close=False)
    side_files(path)[0].write_bytes(b"0000")
    assert text_of(path) == b"".join(numbered(100))


def test_a_new_output_replaces_the_old_one_with_its_side_files(path: Path) -> None:
    written(path, numbered(5000), close=False)
    written(path, [b"new\n"])
    assert text_of(path) == b"new\n"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_an_output_is_private(path: Path) -> None:
    written(path, [b"token"])
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_full_disk_is_noted_once_and_the_rest_is_dropped() -> None:
    # /dev/full refuses every write with ENOSPC.
    output = OutputFile(Path("/dev/full"), LIMIT)
    output.write(b"one")
    first = output.problem
    output.write(b"two")
    output.close()
    assert "No space left on device" in first
    assert output.problem == first


def test_a_missing_folder_is_a_problem_and_no_exception(tmp_path: Path) -> None:
    output = written(tmp_path / "gone" / "log", [b"text"])
    assert "No such file" in output.problem


def test_an_output_is_never_written_through_a_symlink(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("kept")
    (tmp_path / "log").symlink_to(victim)
    assert written(tmp_path / "log", [b"text"]).problem
    assert victim.read_text() == "kept"


def test_closing_twice_does_nothing(path: Path) -> None:
    output = written(path, numbered(5000))
    before = path.read_bytes()
    output.close()
    assert path.read_bytes() == before


def test_reading_an_output_that_is_not_there_says_so(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(read_output(path))
    assert tail_of(path) == ""


@pytest.mark.parametrize(
    ("text", "tail"),
    [
        (b"", ""),
        (b"a\nb\nc\n", "b\nc\n"),
        (b"a\nb", "a\nb"),
        (b"x" * 50 + b"\nlast\n", "last\n"),
        (b"x" * 50, "x" * 20),
        ("ä".encode() * 25 + b"!", "ä" * 9 + "!"),
        (b"\xff\xfe\n", "\ufffd\ufffd\n"),
    ],
    ids=["empty", "lines", "no-final-newline", "cut-line", "long-line", "cut-character", "no-utf8"],
)
def test_the_tail_is_the_last_whole_lines(path: Path, text: bytes, tail: str) -> None:
    path.write_bytes(text)
    assert tail_of(path, max_bytes=20, max_lines=2) == tail


def test_the_tail_reaches_over_the_gap_where_it_must(path: Path) -> None:
    written(path, numbered(5000), close=False)
    assert tail_of(path, max_lines=2) == "000004998\n000004999\n"
    assert "bytes left out by aynig" in tail_of(path, max_lines=10_000)


def test_following_shows_each_byte_once_and_names_what_it_missed(path: Path) -> None:
    output = OutputFile(path, LIMIT)
    follower = Follower(path)
    seen = b""
    # Chunks short enough for the follower to keep up with, then a burst that it can't.
    for first in range(0, 600, 50):
        for chunk in numbered(50, first):
            output.write(chunk)
        seen += b"".join(follower.read())
    assert seen == b"".join(numbered(600))
    for chunk in numbered(5000, 600):
        output.write(chunk)
    burst = b"".join(follower.read())
    assert burst.startswith(b"\n[... ")
    assert burst.endswith(numbered(1, 5599)[0])
    output.write(b"the end\n")
    output.close()
    assert b"".join(follower.read()) == b"the end\n"
    assert b"".join(follower.read()) == b""


def test_following_goes_on_over_the_close_of_an_output_that_fits(path: Path) -> None:
    follower = Follower(path)
    assert list(follower.read()) == []
    output = OutputFile(path, LIMIT)
    output.write(b"one\n")
    assert list(follower.read()) == [b"one\n"]
    output.write(b"two\n" * 700)
    output.close()
    assert b"".join(follower.read()) == b"two\n" * 700
