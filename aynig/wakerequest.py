"""One HTTP request from anybody: bounded in size and in time (RFC 9112, as much as it takes).

A connection carries one request and is closed. So what one client sends can't be taken for the
request of another behind the same proxy.
"""

from __future__ import annotations

import contextlib
import re
import socket
import time
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus

from aynig.errors import AynigError
from aynig.signatures import Headers

HEAD_LIMIT = 16 * 1024
BODY_LIMIT = 1024 * 1024
# How long, in seconds, a client may take that has been answered and goes on sending. Closing at
# once would reset the connection, and the answer could be lost on its way.
_LINGER = 1.0
_CHUNK = 1 << 16

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_REQUEST_LINE = re.compile(rb"(%b) ([!-~]+) HTTP/1\.[0-9]" % _TOKEN.pattern)
# RFC 9112, 2.2: a recipient may take a single LF for the end of a line.
_LINE_END = re.compile(rb"\r?\n")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_LENGTH = re.compile(rb"[0-9]{1,18}")


class Refused(AynigError):
    """A request that is answered with `status` and read no further."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class Gone(AynigError):
    """The client went away before it said anything: there is nobody to answer."""


@dataclass(frozen=True, slots=True)
class Head:
    """All of a request but its body."""

    method: str
    target: str
    headers: Headers


class Connection:
    """One client, who has `seconds` for all of its request."""

    def __init__(self, connected: socket.socket, seconds: float) -> None:
        self._socket = connected
        self._end = time.monotonic() + seconds
        self._received = bytearray()

    def read_head(self) -> Head:
        """Raises Refused, Gone, or OSError where the connection is lost."""
        seen = 0
        while True:
            self._skip_empty_lines()
            # Not from the start each time: it may come byte by byte.
            end = _HEAD_END.search(self._received, max(0, seen - len(b"\r\n\r")))
            seen = len(self._received)
            if (end.end() if end else len(self._received)) > HEAD_LIMIT:
                raise Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the head is too large")
            if end is not None:
                head = parse_head(bytes(self._received[: end.start()]))
                del self._received[: end.end()]
                return head
            if not self._receive():
                if self._received:
                    raise Refused(HTTPStatus.BAD_REQUEST, "the head has no end")
                raise Gone("nothing was sent")

    def read_body(self, head: Head) -> bytes:
        """Raises Refused, or OSError where the connection is lost."""
        length = body_length(head.headers)
        if length > len(self._received) and _expects_word(head.headers):
            self._socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        while len(self._received) < length:
            if not self._receive():
                raise Refused(HTTPStatus.BAD_REQUEST, "the body has no end")
        return bytes(self._received[:length])

    def answer(self, status: HTTPStatus, text: str, *, allow: str = "", bare: bool = False) -> None:
        """One line of text; `bare` leaves it out, as the answer to HEAD does."""
        body = f"{text}\n".encode()
        lines = [
            f"HTTP/1.1 {status.value} {status.phrase}",
            f"Date: {formatdate(usegmt=True)}",
            "Content-Type: text/plain; charset=utf-8",
            f"Content-Length: {len(body)}",
            "Connection: close",
            *([f"Allow: {allow}"] if allow else []),
            "\r\n",
        ]
        # A client that takes no answer is not waited for any longer than one that sends none.
        self._socket.settimeout(_LINGER)
        self._socket.sendall("\r\n".join(lines).encode() + (b"" if bare else body))
        self._socket.shutdown(socket.SHUT_WR)
        # Who was waited for in vain is not waited for again.
        if status != HTTPStatus.REQUEST_TIMEOUT:
            self._let_finish()

    def _let_finish(self) -> None:
        """Throw away what still comes, until the client has seen that we are done."""
        self._end = time.monotonic() + _LINGER
        with contextlib.suppress(Refused):
            while self._receive():
                self._received.clear()

    def _skip_empty_lines(self) -> None:
        # RFC 9112, 2.2: some clients send one behind the body of the request before.
        if self._received.startswith((b"\r", b"\n")):
            self._received = self._received.lstrip(b"\r\n")

    def _receive(self) -> bool:
        """Whether something came; Refused where the time is over."""
        left = self._end - time.monotonic()
        try:
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            data = self._socket.recv(_CHUNK)
        except TimeoutError as error:
            raise Refused(HTTPStatus.REQUEST_TIMEOUT, "the request took too long") from error
        self._received += data
        return bool(data)


def parse_head(data: bytes) -> Head:
    """The head of a request, without the empty line that ends it; raises Refused."""
    first, *others = _LINE_END.split(data)
    line = _REQUEST_LINE.fullmatch(first)
    if line is None:
        raise Refused(HTTPStatus.BAD_REQUEST, "this is no HTTP request")
    headers: dict[str, list[bytes]] = {}
    for other in others:
        name, colon, value = other.partition(b":")
        if not colon or not _TOKEN.fullmatch(name) or b"\r" in value or b"\0" in value:
            raise Refused(HTTPStatus.BAD_REQUEST, "a header line is malformed")
        headers.setdefault(name.decode().lower(), []).append(value.strip(b" \t"))
    return Head(line[1].decode(), line[2].decode(), headers)


def body_length(headers: Headers) -> int:
    """The bytes of the body, 0 where nothing is said of one; raises Refused."""
    if "transfer-encoding" in headers:
        raise Refused(HTTPStatus.LENGTH_REQUIRED, "a body needs a Content-Length")
    given = set(headers.get("content-length", ()))
    if not given:
        return 0
    length = given.pop()
    if given or not _LENGTH.fullmatch(length):
        raise Refused(HTTPStatus.BAD_REQUEST, "the Content-Length is no number")
    if int(length) > BODY_LIMIT:
        raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is too large")
    return int(length)


def _expects_word(headers: Headers) -> bool:
    return any(value.lower() == b"100-continue" for value in headers.get("expect", ()))
