"""`POST /wake` as clients meet it, over real connections: forges, scanners, and slow ones."""

from __future__ import annotations

import contextlib
import hmac
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aynig import wakeserver
from aynig.addresses import Address, parse_address
from aynig.errors import ConfigError, UserError
from aynig.wakerequest import BODY_LIMIT
from aynig.wakeserver import Refusals, WakeServer
from aynig.watch import Waker
from tests.world import wait_for

SECRET = b"hush, it is a secret"
PATIENCE = 60.0


@dataclass
class Bell:
    """A server, how often it has rung, and what it has told."""

    rings: list[None] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    server: WakeServer = field(init=False)

    def post(self, body: bytes = b"{}", **headers: str) -> int:
        """A delivery; the status of its answer."""
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        return status(self.exchange(request("POST", "/wake", body, *lines)))

    def post_signed(self, body: bytes = b"{}") -> int:
        mac = hmac.new(SECRET, body, "sha256").hexdigest()
        return self.post(body, X_Hub_Signature_256=f"sha256={mac}")

    def connect(self) -> socket.socket:
        return socket.create_connection((self.server.address.host, self.server.address.port), 60)

    def exchange(self, data: bytes) -> bytes:
        """Send this and no more; everything that is answered."""
        with self.connect() as client:
            with contextlib.suppress(OSError):
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
            return read_all(client)


def request(method: str, target: str, body: bytes = b"", *lines: str) -> bytes:
    head = [f"{method} {target} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *lines]
    return "\r\n".join([*head, "\r\n"]).encode() + body


def read_all(client: socket.socket) -> bytes:
    found = b""
    while data := client.recv(1 << 16):
        found += data
    return found


def status(answer: bytes) -> int:
    assert answer.startswith(b"HTTP/1.1 "), answer
    return int(answer.split()[1])


@contextlib.contextmanager
def bell(
    *secrets: bytes, address: str = "0", ring: Callable[[], None] | None = None, **limits: Any
) -> Iterator[Bell]:
    found = Bell()

    def wake() -> None:
        found.rings.append(None)
        if ring is not None:
            ring()

    found.server = WakeServer(parse_address(address), secrets, wake, found.told.append, **limits)
    with found.server:
        yield found


@pytest.fixture
def signed() -> Iterator[Bell]:
    with bell(SECRET) as found:
        yield found


@pytest.fixture(scope="module")
def shared() -> Iterator[Bell]:
    """One for all examples of a property."""
    with bell(SECRET) as found:
        yield found


# --- answers -------------------------------------------------------------------------------------


def test_a_signed_delivery_wakes_and_so_does_its_replay(signed: Bell) -> None:
    for _ in range(3):
        before = len(signed.rings)
        assert signed.post_signed() == 202
        wait_for(lambda before=before: len(signed.rings) > before)  # type: ignore[misc]
    assert signed.told == []


def test_the_answer_is_one_line_of_text_and_the_end(signed: Bell) -> None:
    answer = signed.exchange(request("POST", "/wake", b"", f"X-Gitlab-Token: {SECRET.decode()}"))
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 202 Accepted"
    assert {"Content-Type: text/plain; charset=utf-8", "Connection: close"} <= set(lines)
    assert f"Content-Length: {len(body)}" in lines
    assert body == b"looking again\n"


def test_on_the_loopback_no_secret_is_needed() -> None:
    with bell() as found:
        assert found.post(b"") == 202
        # As `curl -X POST` does it.
        assert status(found.exchange(b"POST /wake HTTP/1.1\r\nHost: x\r\n\r\n")) == 202
        wait_for(lambda: found.rings)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (request("GET", "/wake"), 405),
        (request("PUT", "/wake"), 405),
        (request("OPTIONS", "/wake"), 405),
        (request("POST", "/"), 404),
        (request("GET", "/"), 404),
        (request("POST", "/WAKE"), 404),
        (request("POST", "/wake/"), 404),
        (request("POST", "/awake"), 404),
        (request("POST", "/wake?hook=1"), 202),
        (request("POST", "http://example.org/wake"), 202),
        (request("POST", "/wake", b"x" * BODY_LIMIT), 202),
        (request("POST", "/wake", b"x" * (BODY_LIMIT + 1)), 413),
        (b"POST /wake HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"POST /wake HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"POST /wake HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 431),
        (b"x" * 5_000_000, 431),
        (b"POST /wake\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\0\x01\0\n\n", 400),
    ],
)
def test_each_request_has_its_answer(data: bytes, expected: int) -> None:
    with bell() as found:
        answer = found.exchange(data)
        assert status(answer) == expected
        assert (b"\r\nAllow: POST\r\n" in answer) is (expected == 405)
        if expected == 202:
            wait_for(lambda: found.rings)
        else:
            # After it a delivery is answered, and it is the first that wakes.
            assert found.rings == []
            assert found.post() == 202


def test_head_is_answered_without_a_text(signed: Bell) -> None:
    answer = signed.exchange(request("HEAD", "/wake"))
    assert status(answer) == 405
    assert answer.endswith(b"\r\n\r\n")


# --- who may wake --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "X: y",
        "X-Hub-Signature-256: sha256=00",
        "X-Gitea-Signature: größe",
        "X-Gitlab-Token: \udcff\udcfe",
        f"X-Gitlab-Token: {SECRET.decode()}\r\nX-Gitea-Signature: 00",
    ],
)
def test_without_the_right_signature_nobody_wakes(signed: Bell, line: str) -> None:
    head = f"POST /wake HTTP/1.1\r\n{line}\r\n\r\n".encode("utf-8", "surrogateescape")
    assert status(signed.exchange(head)) == 403
    assert len(signed.told) == 1
    assert signed.post_signed() == 202
    wait_for(lambda: signed.rings)
    assert len(signed.rings) == 1


def test_neither_the_log_nor_the_answer_holds_what_was_sent(signed: Bell) -> None:
    marker = "abadcafe"
    lines = [f"X-Gitlab-Token: {marker}", f"X-Hub-Signature-256: {marker}", f"{marker}: 1"]
    answer = signed.exchange(request("POST", f"/wake?{marker}", marker.encode(), *lines))
    answer += signed.exchange(request(marker, f"/{marker}"))
    answer += signed.exchange(f"{marker}\r\n\r\n".encode())
    assert answer.count(b"HTTP/1.1 ") == 3
    assert marker not in answer.decode()
    assert signed.told == ["refused a wake-up from 127.0.0.1: wrong X-Hub-Signature-256"]
    assert SECRET.decode() not in answer.decode() + signed.told[0]


def test_a_scanner_fills_no_log(signed: Bell) -> None:
    assert [signed.post() for _ in range(50)] == [403] * 50
    assert signed.told == ["refused a wake-up from 127.0.0.1: no signature"]


def test_refusals_that_were_not_told_are_counted() -> None:
    now, told = [100.0], list[str]()
    refusals = Refusals(told.append, lambda: now[0])
    for _ in range(4):
        refusals.add("192.0.2.1", "no signature")
    assert told == ["refused a wake-up from 192.0.2.1: no signature"]
    now[0] += 3600
    refusals.add("192.0.2.1", "no signature")
    now[0] += 3600
    refusals.add("192.0.2.1", "no signature")
    assert told[1:] == [
        "refused a wake-up from 192.0.2.1: no signature"
        " (3 more were refused since the last such line)",
        "refused a wake-up from 192.0.2.1: no signature",
    ]


def test_an_address_that_others_can_reach_needs_a_secret() -> None:
    for text in ("0.0.0.0:0", "[::]:0"):
        with pytest.raises(ConfigError, match="without a secret, ") as caught:
            WakeServer(parse_address(text), (), lambda: None, print)
        assert "aynig.wakeSecretFile" in caught.value.hint
    with bell(SECRET, address="0.0.0.0:0") as found:
        assert found.post() == 403
        assert found.post_signed() == 202


# --- one look ------------------------------------------------------------------------------------


def test_a_burst_of_deliveries_is_one_look() -> None:
    waker = Waker()
    with bell(ring=lambda: waker.wake("repo")) as found:
        # The daemon is busy with something else meanwhile.
        assert {found.post() for _ in range(30)} == {202}
        wait_for(lambda: found.rings)
    assert waker.wait(PATIENCE) == {"repo"}
    assert waker.wait(0) == set()
    waker.close()


def test_deliveries_without_end_are_no_looks_without_end() -> None:
    with bell() as found:
        begin = time.monotonic()
        for _ in range(200):
            found.post()
        passed = time.monotonic() - begin
        assert len(found.rings) <= 2 + passed / wakeserver._BETWEEN


def test_no_delivery_waits_for_the_daemon() -> None:
    gate = threading.Event()

    def wait() -> None:
        gate.wait()

    with bell(ring=wait) as found:
        assert found.post() == 202
        wait_for(lambda: found.rings)
        assert found.post() == 202
        gate.set()
        # What came while it was busy is not forgotten.
        wait_for(lambda: len(found.rings) == 2)


# --- bad clients ---------------------------------------------------------------------------------


def test_a_slow_client_is_told_so() -> None:
    with bell(request_seconds=0.1) as found, found.connect() as client:
        client.sendall(b"POST /wake HTTP/1.1\r\n")
        assert status(read_all(client)) == 408
        assert found.post() == 202


def test_a_client_that_sends_too_much_can_end_and_read_why(signed: Bell) -> None:
    """Were it cut off while it sends, the answer could be lost on its way."""
    with signed.connect() as client:
        client.sendall(request("POST", "/wake", b"x" * 8 * BODY_LIMIT))
        client.shutdown(socket.SHUT_WR)
        assert status(read_all(client)) == 413


def test_silent_clients_in_all_places_keep_nobody_out_for_long() -> None:
    with contextlib.ExitStack() as stack:
        found = stack.enter_context(bell(request_seconds=0.2, places=2))
        before = threading.active_count()
        for _ in range(12):
            stack.enter_context(found.connect())
        assert found.post() == 202
        assert threading.active_count() <= before + 2


def test_clients_that_go_away_cost_nothing() -> None:
    with bell(places=2) as found:
        for number in range(40):
            client = found.connect()
            if number % 2:
                # With a reset.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sendall(b"POST /wake HTTP/1.1\r\nContent-Length: 9\r\n\r\n"[: number * 2])
            client.close()
        assert found.post() == 202
        wait_for(lambda: "wake-client" not in {thread.name for thread in threading.enumerate()})
        assert found.told == []


def test_a_client_that_takes_no_answer_is_left() -> None:
    with bell(places=1) as found, found.connect() as client:
        client.sendall(request("POST", "/wake"))
        # Neither reads nor closes.
        assert found.post() == 202
        assert status(read_all(client)) == 202


PIECES = st.sampled_from(
    [
        b"POST", b"GET", b" ", b"/wake", b" HTTP/1.1", b"\r\n", b"\n", b"\r", b"\0", b":",
        b"Content-Length: ", b"5", b"-1", b"Transfer-Encoding: chunked", b"Expect: 100-continue",
        b"X-Hub-Signature-256: sha256=", b"X-Gitlab-Token: ", b"\xff", b"\r\n\r\n", b"{}",
        b"POST /wake HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"x" * 20_000,
    ]
)  # fmt: skip


@settings(derandomize=True, max_examples=150, deadline=None)
@given(st.binary() | st.lists(PIECES | st.binary(max_size=8), max_size=20).map(b"".join))
def test_any_bytes_are_refused_and_the_next_delivery_is_answered(shared: Bell, data: bytes) -> None:
    answer = shared.exchange(data).removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert answer == b"" or status(answer) in {400, 403, 404, 405, 411, 413, 431}
    assert answer.count(b"HTTP/1.1") <= 1
    assert shared.post_signed() == 202
    assert all(line.startswith("refused a wake-up from 127.0.0.1: ") for line in shared.told)


# --- the address ---------------------------------------------------------------------------------


def test_an_address_in_use_is_a_clear_error() -> None:
    with bell() as found, pytest.raises(UserError) as caught:
        WakeServer(found.server.address, (), lambda: None, print)
    assert str(caught.value) == (f"can't listen at {found.server.address}: Address already in use")
    assert "--wake-listen" in caught.value.hint


def test_an_address_of_another_machine_is_a_clear_error() -> None:
    with pytest.raises(UserError, match=r"^can't listen at 192\.0\.2\.1:0: "):
        WakeServer(Address("192.0.2.1", 0), (SECRET,), lambda: None, print)


def test_the_loopback_of_ipv6_is_one_too() -> None:
    try:
        with bell(address="[::1]:0") as found:
            assert found.server.url == f"http://[::1]:{found.server.address.port}/wake"
            assert found.post() == 202
    except UserError as error:
        pytest.skip(f"no IPv6 here: {error}")


def test_closing_cuts_clients_off_and_gives_the_address_back() -> None:
    before = set(threading.enumerate())
    with bell(request_seconds=3600) as found, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(found.connect()) for _ in range(3)]
        clients[0].sendall(b"POST /wake HTTP/1.1\r\n")
        assert found.post() == 202
        found.server.close()
        for client in clients:
            with contextlib.suppress(ConnectionResetError):
                read_all(client)
        with pytest.raises(ConnectionRefusedError):
            found.connect()
        with WakeServer(found.server.address, (), lambda: None, print) as again:
            assert again.address == found.server.address
        wait_for(lambda: set(threading.enumerate()) <= before)
