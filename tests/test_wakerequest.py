"""One HTTP request from anybody: what is read of it, and what is refused."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from http import HTTPStatus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aynig.wakerequest import (
    BODY_LIMIT,
    HEAD_LIMIT,
    Connection,
    Gone,
    Refused,
    body_length,
    parse_head,
)

PATIENCE = 60.0


@contextlib.contextmanager
def connected(*pieces: bytes, seconds: float = PATIENCE) -> Iterator[Connection]:
    """A connection whose client has sent all of this and nothing else will come."""
    ours, theirs = socket.socketpair()

    def send() -> None:
        with contextlib.suppress(OSError):
            for piece in pieces:
                theirs.sendall(piece)
            theirs.shutdown(socket.SHUT_WR)

    client = threading.Thread(target=send)
    client.start()
    try:
        yield Connection(ours, seconds)
    finally:
        ours.close()
        client.join()
        theirs.close()


def refusal(*pieces: bytes) -> HTTPStatus:
    """How a request is refused."""
    with connected(*pieces) as connection, pytest.raises(Refused) as caught:
        connection.read_body(connection.read_head())
    return caught.value.status


def test_a_request_is_read_in_whatever_pieces_it_comes() -> None:
    data = b"POST /wake HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nHello"
    for pieces in ([data], [data[at : at + 1] for at in range(len(data))], [b"\r\n", data, b"PO"]):
        with connected(*pieces) as connection:
            head = connection.read_head()
            assert (head.method, head.target) == ("POST", "/wake")
            assert head.headers == {"host": [b"x"], "content-length": [b"5"]}
            assert connection.read_body(head) == b"Hello"


def test_values_are_bytes_and_names_have_no_case() -> None:
    head = parse_head(b"GET / HTTP/1.0\r\nA:\r\nX-b: \t\xff\xfe c \r\nx-B:d\ne:f")
    assert head.headers == {"a": [b""], "x-b": [b"\xff\xfe c", b"d"], "e": [b"f"]}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"GET /",
        b"GET / HTTP/2.0",
        b"GET  / HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b"G(T / HTTP/1.1",
        b"GET /\xff HTTP/1.1",
        b"GET / HTTP/1.1\r\nno colon",
        b"GET / HTTP/1.1\r\nname : x",
        b"GET / HTTP/1.1\r\n folded: x",
        b"GET / HTTP/1.1\r\n: x",
        b"GET / HTTP/1.1\r\na\xff: x",
        b"GET / HTTP/1.1\r\na: x\rb: y",
        b"GET / HTTP/1.1\r\na: \0",
    ],
)
def test_what_is_no_request_is_refused(data: bytes) -> None:
    with pytest.raises(Refused) as caught:
        parse_head(data)
    assert caught.value.status == HTTPStatus.BAD_REQUEST


@pytest.mark.parametrize(
    ("lines", "length"),
    [
        ([], 0),
        ([b"0"], 0),
        ([b"17"], 17),
        ([b"17", b"17"], 17),
        ([str(BODY_LIMIT).encode()], BODY_LIMIT),
        ([str(BODY_LIMIT + 1).encode()], HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
        ([b"9" * 18], HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
        ([b"9" * 5000], HTTPStatus.BAD_REQUEST),
        ([b"17", b"18"], HTTPStatus.BAD_REQUEST),
        ([b""], HTTPStatus.BAD_REQUEST),
        ([b"-1"], HTTPStatus.BAD_REQUEST),
        ([b"1_0"], HTTPStatus.BAD_REQUEST),
        (["٣".encode()], HTTPStatus.BAD_REQUEST),
    ],
)
def test_the_length_of_a_body(lines: list[bytes], length: int) -> None:
    if isinstance(length, HTTPStatus):
        with pytest.raises(Refused) as caught:
            body_length({"content-length": lines})
        assert caught.value.status == length
    else:
        assert body_length({"content-length": lines} if lines else {}) == length


def test_a_body_in_chunks_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        body_length({"transfer-encoding": [b"chunked"], "content-length": [b"3"]})
    assert caught.value.status == HTTPStatus.LENGTH_REQUIRED


@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"])
@pytest.mark.parametrize(
    "line", [b"GET /" + b"x" * HEAD_LIMIT, b"GET / HTTP/1.1\r\n" + b"a:b\r\n" * 4000]
)
def test_a_head_that_is_too_large_is_refused(line: bytes, end: bytes) -> None:
    assert refusal(line + end) == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE


@pytest.mark.parametrize(
    "data", [b"P", b"GET / HTTP/1.1\r\na: b\r\n", b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n1"]
)
def test_a_request_that_is_cut_off_is_refused(data: bytes) -> None:
    assert refusal(data) == HTTPStatus.BAD_REQUEST


@pytest.mark.parametrize("data", [b"", b"\r\n\r\n\n"])
def test_nobody_is_answered_who_says_nothing(data: bytes) -> None:
    with connected(data) as connection, pytest.raises(Gone):
        connection.read_head()


@pytest.mark.parametrize(
    "data", [b"", b"POST /wake HT", b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n1"]
)
def test_the_time_of_a_client_is_that_of_all_its_request(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        connection = Connection(ours, 0.05)
        with pytest.raises(Refused) as caught:
            connection.read_body(connection.read_head())
    assert caught.value.status == HTTPStatus.REQUEST_TIMEOUT


def test_a_client_that_never_stops_sending_is_not_waited_for() -> None:
    """Each byte comes in time, and the whole does not."""
    ours, theirs = socket.socketpair()
    ended = threading.Event()

    def dribble() -> None:
        with contextlib.suppress(OSError):
            while not ended.wait(0.001):
                theirs.sendall(b"\n")

    client = threading.Thread(target=dribble)
    client.start()
    with pytest.raises(Refused) as caught:
        Connection(ours, 0.3).read_head()
    ours.close()
    ended.set()
    client.join()
    theirs.close()
    assert caught.value.status == HTTPStatus.REQUEST_TIMEOUT


def test_a_client_that_waits_for_a_word_is_told_to_go_on() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"POST / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n")
        connection = Connection(ours, PATIENCE)
        head = connection.read_head()
        reader = threading.Thread(target=connection.read_body, args=(head,))
        reader.start()
        assert theirs.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        theirs.sendall(b"ab")
        reader.join()


@settings(derandomize=True, max_examples=300)
@given(st.binary() | st.binary().map(lambda data: b"POST / HTTP/1.1\r\n" + data))
def test_any_bytes_are_a_head_or_a_refusal(data: bytes) -> None:
    with contextlib.suppress(Refused):
        parse_head(data)
