"""Addresses to listen at, as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aynig.addresses import Address, parse_address


@pytest.mark.parametrize(
    ("text", "host", "port", "is_loopback"),
    [
        ("8737", "127.0.0.1", 8737, True),
        ("0", "127.0.0.1", 0, True),
        ("65535", "127.0.0.1", 65535, True),
        ("127.0.0.1:8737", "127.0.0.1", 8737, True),
        ("127.8.0.9:1", "127.8.0.9", 1, True),
        ("localhost:8737", "127.0.0.1", 8737, True),
        ("[::1]:8737", "::1", 8737, True),
        ("[0:0:0:0:0:0:0:1]:8737", "::1", 8737, True),
        ("0.0.0.0:8737", "0.0.0.0", 8737, False),
        ("[::]:8737", "::", 8737, False),
        ("192.0.2.7:80", "192.0.2.7", 80, False),
        ("[fe80::1%eth0]:80", "fe80::1%eth0", 80, False),
    ],
)
def test_an_address_is_read(text: str, host: str, port: int, is_loopback: bool) -> None:
    address = parse_address(text)
    assert address == Address(host, port)
    assert address.is_loopback is is_loopback
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "on", ":8737", "8737:", "-1", "65536", "1e3", "٣", "127.0.0.1", "127.1:80",
        "::1:8737", "[127.0.0.1]:80", "[::1]", "[]:80", "example.org:80", "127.0.0.1:80:90",
        "127.0.0.1:80\n", "http://127.0.0.1:80", "9" * 5000, "[" + ":" * 5000 + "]:1",
    ],
)  # fmt: skip
def test_what_is_none_is_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(ValueError, match=r"^expected a port such as 8737, .*, found '") as caught:
        parse_address(text)
    assert len(str(caught.value)) < 300


@settings(derandomize=True)
@given(st.text() | st.from_regex(r"\[?[0-9a-f:.]+\]?:[0-9]+"))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        address = parse_address(text)
    except ValueError:
        return
    assert parse_address(str(address)) == address
