"""The secret of wake-ups: from a file or the environment, and never shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aynig.errors import ConfigError
from aynig.wakesecret import read_secret_file, read_secret_variable


def write(path: Path, data: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"secret", b"secret"),
        (b"secret\n", b"secret"),
        (b" two words \r\n", b"two words"),
        ("größe\n".encode(), "größe".encode()),
        (b"\xff\xfe\n", b"\xff\xfe"),
    ],
)
def test_a_file_holds_one_line(tmp_path: Path, data: bytes, value: bytes) -> None:
    found = read_secret_file(str(write(tmp_path / "it", data)))
    assert (found.value, found.problem) == (value, "")


def test_the_home_is_that_of_whoever_runs_the_daemon() -> None:
    write(Path.home() / "it", b"secret\n")
    assert read_secret_file("~/it").value == b"secret"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_file_that_is_open_to_others_is_told_of_with_what_mends_it(
    tmp_path: Path, mode: int
) -> None:
    path = write(tmp_path / "it", b"secret\n", mode)
    found = read_secret_file(str(path))
    assert found.value == b"secret"
    assert found.problem == f"{path} is open to others: chmod 600 {path}"


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"one\ntwo\n", "is not one line of at most 4096 bytes"),
        (b"a\0b", "is not one line of at most 4096 bytes"),
        (b"x" * 4097, "is not one line of at most 4096 bytes"),
    ],
)
def test_a_file_that_holds_none_is_an_error(tmp_path: Path, data: bytes, complaint: str) -> None:
    path = write(tmp_path / "it", data)
    with pytest.raises(ConfigError) as caught:
        read_secret_file(str(path))
    assert str(caught.value).startswith(f"aynig.wakeSecretFile: {path} ")
    assert str(caught.value).endswith(complaint)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("none", "can't be read: No such file or directory"),
        ("folder", "is no file"),
        ("fifo", "is no file"),
    ],
)
def test_a_file_that_is_none_is_an_error(tmp_path: Path, name: str, complaint: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError, match=complaint):
        read_secret_file(str(tmp_path / name))


def test_a_home_of_nobody_is_an_error() -> None:
    with pytest.raises(ConfigError, match="nobody's home"):
        read_secret_file("~no-such-user/secret")


def test_the_environment_holds_it_too() -> None:
    assert read_secret_variable("größe\n").value == "größe".encode()
    assert read_secret_variable("\udcff").value == b"\xff"
    with pytest.raises(ConfigError, match=r"^AYNIG_WAKE_SECRET is empty$"):
        read_secret_variable("")


def test_neither_the_value_nor_an_error_shows_it(tmp_path: Path) -> None:
    assert "hush" not in repr(read_secret_variable("hush"))
    with pytest.raises(ConfigError) as caught:
        read_secret_file(str(write(tmp_path / "it", b"hush\nhush\n")))
    assert "hush" not in str(caught.value) + caught.value.hint
