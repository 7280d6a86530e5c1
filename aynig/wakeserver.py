"""`POST /wake`: how a forge that runs elsewhere tells a daemon to look again.

A delivery carries no facts (design section 3). Its body is looked at for its signature only, so
one that is sent again, late, or by somebody who has recorded it costs a look and nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import re
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus

from aynig.addresses import Address
from aynig.errors import ConfigError, UserError
from aynig.signatures import find_fault
from aynig.wakerequest import Connection, Gone, Refused

PATH = "/wake"
# As many clients are listened to at once; the next ones wait in the kernel's queue, so a slow one
# delays others by no more than its own time.
_PLACES = 16
_QUEUE = 128
_REQUEST_SECONDS = 10.0
# The shortest time from one look to the next, in seconds, however many deliveries there are.
_BETWEEN = 0.2
# How often, in seconds, it is told that deliveries were refused.
_QUIET = 60.0
_OUT_OF_BREATH = 1.0

# RFC 9112, 3.2: a server has to take both forms.
_TARGET = re.compile(rf"(?:(?i:https?)://[^/?#]*)?{PATH}(?:\?.*)?")

_HINTS = {
    errno.EADDRINUSE: "Another daemon may be at work; or name another port: "
    "aynig daemon --wake-listen 127.0.0.1:8738",
    errno.EADDRNOTAVAIL: "Name an address of this machine; 0.0.0.0 stands for all of them.",
    errno.EACCES: "Name a port above 1023, and let a web server pass requests on.",
}


class WakeServer:
    """Listens at `address` from when it is made until `close`, and calls `wake` for deliveries.

    With `secrets` a delivery has to be signed with one of them; without, the address has to be of
    the loopback. `wake` and `tell` (a sentence on what is wrong) are called from threads of this
    object, must not raise, and are never waited for by whoever delivers.

    Raises ConfigError for an address that needs a secret, UserError for one that can't be had.
    """

    def __init__(
        self,
        address: Address,
        secrets: Sequence[bytes],
        wake: Callable[[], None],
        tell: Callable[[str], None],
        *,
        request_seconds: float = _REQUEST_SECONDS,
        places: int = _PLACES,
    ) -> None:
        if not secrets and not address.is_loopback:
            raise ConfigError(
                f"without a secret, {address} can't be listened at for wake-ups: "
                "others than this machine would reach it",
                hint="Name a file that holds one: "
                "git config aynig.wakeSecretFile ~/.config/aynig/wake-secret",
            )
        self._secrets = tuple(secrets)
        self._wake = wake
        self._refusals = Refusals(tell)
        self._request_seconds = request_seconds
        self._places = threading.BoundedSemaphore(places)
        self._rung = threading.Event()
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._connected: set[socket.socket] = set()
        self._listener = _listen(address)
        self._waiting_end, self._closing_end = socket.socketpair()
        self.address = Address(address.host, self._listener.getsockname()[1])
        self._threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for name, target in (("wake-listener", self._admit_all), ("wake-bell", self._ring))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def url(self) -> str:
        return f"http://{self.address}{PATH}"

    def close(self) -> None:
        """Give the address back; who is being listened to is cut off."""
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
            for connected in self._connected:
                with contextlib.suppress(OSError):
                    connected.shutdown(socket.SHUT_RDWR)
        self._rung.set()
        self._closing_end.send(b"\0")
        for thread in self._threads:
            thread.join()
        for each in (self._listener, self._waiting_end, self._closing_end):
            each.close()

    def __enter__(self) -> WakeServer:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    # --- clients -----------------------------------------------------------------------------

    def _admit_all(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._waiting_end, selectors.EVENT_READ)
            while not self._closed.is_set():
                selector.select()
                self._places.acquire()
                if not self._admit():
                    self._places.release()

    def _admit(self) -> bool:
        """Give the next client a thread of its own; False where there is none."""
        try:
            connected, peer = self._listener.accept()
        except BlockingIOError:
            # It went away again, or it is `close` that woke us.
            return False
        except OSError:
            # No descriptor is left: it would be tried again without end.
            self._closed.wait(_OUT_OF_BREATH)
            return False
        with self._lock:
            self._connected.add(connected)
        try:
            if self._closed.is_set():
                raise RuntimeError
            threading.Thread(
                target=self._attend, args=(connected, peer[0]), name="wake-client", daemon=True
            ).start()
        except RuntimeError:
            # No thread is left.
            self._forget(connected)
            return False
        return True

    def _attend(self, connected: socket.socket, peer: str) -> None:
        try:
            # Most often it has gone away, which is its own business.
            with contextlib.suppress(OSError, Gone):
                self._answer(Connection(connected, self._request_seconds), peer)
        except Exception as error:
            # Whatever is wrong with one request, it must not keep the next one waiting. Its type
            # alone is told, because the text may hold what was sent.
            self._refusals.add(peer, type(error).__name__)
        finally:
            self._forget(connected)
            self._places.release()

    def _forget(self, connected: socket.socket) -> None:
        with self._lock:
            self._connected.discard(connected)
            connected.close()

    def _answer(self, connection: Connection, peer: str) -> None:
        bare, allow = False, ""
        try:
            head = connection.read_head()
            bare = head.method == "HEAD"
            if not _TARGET.fullmatch(head.target):
                raise Refused(HTTPStatus.NOT_FOUND, f"there is {PATH} only")
            if head.method != "POST":
                allow = "POST"
                raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "wake-ups are POSTed")
            body = connection.read_body(head)
            fault = find_fault(head.headers, body, self._secrets) if self._secrets else ""
            if fault:
                self._refusals.add(peer, fault)
                raise Refused(HTTPStatus.FORBIDDEN, "the signature is missing or wrong")
        except Refused as refused:
            connection.answer(refused.status, str(refused), allow=allow, bare=bare)
            return
        self._rung.set()
        connection.answer(HTTPStatus.ACCEPTED, "looking again")

    # --- the daemon --------------------------------------------------------------------------

    def _ring(self) -> None:
        """Wake for the first of many deliveries at once, and for the others together."""
        while True:
            self._rung.wait()
            self._rung.clear()
            if self._closed.is_set():
                return
            self._wake()
            self._closed.wait(_BETWEEN)


class Refusals:
    """Tells of refused deliveries, seldom enough that whoever scans ports can't fill a log."""

    def __init__(
        self, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tell = tell
        self._clock = clock
        self._lock = threading.Lock()
        self._next = clock()
        self._untold = 0

    def add(self, peer: str, reason: str) -> None:
        """Tell it, or count it for the next time; `reason` holds nothing that was sent."""
        with self._lock:
            now = self._clock()
            if now < self._next:
                self._untold += 1
                return
            untold, self._untold = self._untold, 0
            self._next = now + _QUIET
        more = f" ({untold} more were refused since the last such line)" if untold else ""
        self._tell(f"refused a wake-up from {peer}: {reason}{more}")


def _listen(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        # Scoped addresses (fe80::1%eth0) have more than two parts.
        place = socket.getaddrinfo(
            address.host, address.port, family, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )[0][4]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            # A port whose last connections are still remembered by the kernel is free (tcp(7)).
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setblocking(False)
            listener.bind(place)
            listener.listen(_QUEUE)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise UserError(
            f"can't listen at {address}: {error.strerror or error}",
            hint=_HINTS.get(error.errno or 0, ""),
        ) from error
    return listener
