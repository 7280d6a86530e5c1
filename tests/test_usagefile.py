"""A script reports what it spends in a file that is read while it writes."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aynig.usage import NOTHING, Usage
from aynig.usagefile import MOST_BYTES, Tally, read_on


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "usage"


def append(path: Path, text: str | bytes) -> None:
    with path.open("ab") as file:
        file.write(text.encode() if isinstance(text, str) else text)


def test_each_line_is_an_amount_that_is_added(path: Path) -> None:
    append(path, "cost-usd: 0.12\ntokens-in: 500\n")
    tally = read_on(path, Tally())
    assert tally.usage == Usage(Decimal("0.12"), 500)
    append(path, "\ncost-usd:0.08\r\n Calls : 1\ntokens-out: 7\n")
    tally = read_on(path, tally)
    assert tally.usage == Usage(Decimal("0.20"), 500, 7, 1)
    assert read_on(path, tally) == tally
    assert not tally.told()


def test_a_line_counts_when_it_is_whole_or_nothing_more_can_come(path: Path) -> None:
    append(path, "cost-usd: 0.1")
    tally = read_on(path, Tally())
    assert tally.usage == NOTHING
    assert tally.ended().usage == Usage(Decimal("0.1"))
    append(path, "2\n")
    tally = read_on(path, tally)
    assert tally.usage == tally.ended().usage == Usage(Decimal("0.12"))


def test_no_file_is_nothing_spent(path: Path) -> None:
    assert read_on(path, Tally()) == Tally()


def test_what_is_malformed_is_told_and_the_rest_counts(path: Path) -> None:
    append(path, b"cost-usd: -5\ncost: 3\nhello\n\xff\xfe\ncost-usd: unknown\ncalls: 2\n")
    tally = read_on(path, Tally())
    assert tally.usage == Usage(calls=2, unknown=True)
    malformed, unheard_of, *others = tally.told()
    assert malformed.startswith("cost-usd: expected dollars")
    assert unheard_of.startswith("'cost' is nothing that can be spent")
    assert all(fault.startswith("expected a line such as") for fault in others)
    assert len(others) == 2


def test_of_many_faults_the_first_are_told_and_the_number(path: Path) -> None:
    append(path, "nonsense\n" * 1000)
    told = read_on(path, Tally()).told()
    assert len(told) == 9
    assert told[-1] == "and 992 lines more"


def test_what_is_beyond_the_limit_is_not_read(path: Path) -> None:
    line = "calls: 1\n"
    append(path, line * (MOST_BYTES // len(line) + 10))
    tally = read_on(path, Tally())
    assert tally.read == MOST_BYTES
    assert tally.usage.calls == MOST_BYTES // len(line)
    assert "larger than 1048576 bytes" in tally.told()[0]
    append(path, line)
    again = read_on(path, tally)
    assert again.usage == tally.usage
    assert again.ended().usage == tally.usage


def test_a_line_without_an_end_takes_no_more_than_the_limit(path: Path) -> None:
    append(path, b"calls: 1" * MOST_BYTES)
    tally = read_on(path, Tally())
    assert tally.ended().usage == NOTHING


def test_what_was_reported_stays_reported_when_the_file_is_cut_short(path: Path) -> None:
    append(path, "calls: 5\ncalls: 5\n")
    tally = read_on(path, Tally())
    path.write_text("calls: 1\n")
    tally = read_on(path, tally)
    assert tally.usage.calls == 11
    assert tally.told() == ("it was cut short",)


def test_a_pipe_a_folder_or_a_link_is_no_usage_file(path: Path, tmp_path: Path) -> None:
    os.mkfifo(path)
    tally = read_on(path, read_on(path, Tally()))
    assert tally.told() == ("it can't be read: it is no file",)
    path.unlink()
    path.mkdir()
    assert read_on(path, Tally()).told() == ("it can't be read: it is no file",)
    path.rmdir()
    secret = tmp_path / "secret"
    secret.write_text("calls: 1\n")
    path.symlink_to(secret)
    assert read_on(path, Tally()).usage == NOTHING


@settings(derandomize=True)
@given(
    st.binary(max_size=200) | st.text("cals: 12\n").map(str.encode), st.lists(st.integers(0, 200))
)
def test_it_does_not_matter_how_the_file_is_cut_into_reads(data: bytes, cuts: list[int]) -> None:
    tally, last = Tally(), 0
    for cut in [*sorted(cuts), len(data)]:
        tally, last = tally.fed(data[last:cut]), max(cut, last)
    assert tally.ended() == Tally().fed(data).ended()
