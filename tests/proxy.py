"""A TCP proxy on loopback, between a client and a server, that does what bad networks do.

    with Proxy(server.port) as proxy:
        git push server.url("repo.git", port=proxy.port)
        proxy.weather = Weather(cut_up=1000)

The weather may change at any time: it holds for the next bytes of the connections that are open,
and for new ones. `up` is from client to server, `down` from server to client.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

LOOPBACK = "127.0.0.1"
_CHUNK = 65536
# How long one look at the sockets lasts, in seconds: the weather may have changed since.
_GLANCE = 0.02


@dataclass(frozen=True)
class Weather:
    """What the network does now; nothing bad by itself."""

    delay_up: float = 0.0
    """Seconds that bytes are under way to the server. The order is kept."""
    delay_down: float = 0.0
    cut_up: int | None = None
    """Connections are reset when the client has sent so many bytes; the server gets no more."""
    cut_down: int | None = None
    """Connections are reset when the server has sent so many bytes; the client gets no more."""
    mute_after: int | None = None
    """From so many bytes of the client on, it gets no answer, and the server gets all.

    With more bytes than the questions before a push have, fewer than the push itself, the push
    is taken and nobody learns of it.
    """
    cut_when: Callable[[], bool] | None = None
    """A fact with which all connections are reset. It is looked at many times a second."""
    silent: bool = False
    """Connections are taken, and no byte goes through in either direction: nothing is lost, it
    goes on in better weather. A cable that is out."""
    hang_up: bool = False
    """Connections are taken, and closed at once; open ones too."""
    refuse: bool = False
    """New connections are refused, as by a machine without a server. Open ones go on."""


FAIR = Weather()


@dataclass
class Traffic:
    """What has gone through one connection, in bytes."""

    up: int = 0
    down: int = 0
    cut: bool = False
    """It did not end by itself: we, or one of the two, have reset it."""


@dataclass
class _Lane:
    """One direction of a connection: what is under way, and to whom."""

    source: socket.socket
    target: socket.socket
    taken: int = 0
    """Bytes that the source has sent."""
    given: int = 0
    """Bytes that the target has got."""
    waiting: deque[tuple[float, bytes]] = field(default_factory=deque)
    """What is under way, with the time of its arrival."""
    ended: bool = False
    """The source has closed its half; what is under way still arrives."""
    closed: bool = False

    def take(self, limits: Iterable[int | None], *, delay: float, lost: bool) -> None:
        """What has come now; never over a limit, so that a limit is met exactly."""
        room = [limit - self.taken for limit in limits if limit is not None and limit > self.taken]
        data = self.source.recv(min([_CHUNK, *room]))
        self.taken += len(data)
        if not data:
            self.ended = True
        elif not lost:
            last = self.waiting[-1][0] if self.waiting else 0.0
            # A shorter delay is no overtaking.
            self.waiting.append((max(last, time.monotonic() + delay), data))

    @property
    def due(self) -> float | None:
        """Seconds until something arrives; None where nothing is under way."""
        return max(0.0, self.waiting[0][0] - time.monotonic()) if self.waiting else None

    def give(self) -> None:
        """What arrives now, as far as the target takes it without waiting."""
        with contextlib.suppress(BlockingIOError):
            while self.due == 0.0:
                when, data = self.waiting[0]
                sent = self.target.send(data)
                self.given += sent
                if sent < len(data):
                    self.waiting[0] = (when, data[sent:])
                else:
                    self.waiting.popleft()
        if self.ended and not self.waiting and not self.closed:
            self.closed = True
            with contextlib.suppress(OSError):
                self.target.shutdown(socket.SHUT_WR)


class Proxy:
    """Listens on a port of its own and passes all on to `target`, through the weather."""

    def __init__(
        self, target: int, *, host: str = LOOPBACK, listen: str = LOOPBACK, weather: Weather = FAIR
    ) -> None:
        """
        :param target: the server's port.
        :param host: the server's address.
        :param listen: the address that clients know.
        """
        self._target = (host, target)
        # Bound and never listening: the port stays ours while connections are refused.
        self._reserved = socket.socket()
        self._reserved.bind((listen, 0))
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.port: int = self._reserved.getsockname()[1]
        self._address = (listen, self.port)
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._listener: socket.socket | None = None
        self._severed = 0
        self._threads: list[threading.Thread] = []
        self.traffic: list[Traffic] = []
        self._weather = FAIR
        self.weather = weather
        self._start(self._accept)

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def weather(self) -> Weather:
        return self._weather

    @weather.setter
    def weather(self, weather: Weather) -> None:
        with self._lock:
            self._weather = weather
            if weather.refuse and self._listener is not None:
                # Closed alone, it would listen for as long as the other thread waits for it.
                self._listener.shutdown(socket.SHUT_RDWR)
                self._listener.close()
                self._listener = None
            elif not weather.refuse and self._listener is None and not self._closing.is_set():
                self._listener = self._listen()

    @property
    def connections(self) -> int:
        """How many were taken so far."""
        return len(self.traffic)

    def sever(self) -> None:
        """Reset all connections that are open."""
        self._severed = self.connections

    def close(self) -> None:
        """Reset what is open, and end. Twice is harmless."""
        self._closing.set()
        for thread in list(self._threads):
            thread.join()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self._reserved.close()

    def _listen(self) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(self._address)
        listener.listen(512)
        listener.setblocking(False)
        return listener

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            with self._lock:
                listener = self._listener
            if listener is None:
                self._closing.wait(_GLANCE)
                continue
            # It may be closed meanwhile: then its number is -1, or the connection is gone.
            with contextlib.suppress(OSError, ValueError):
                if not select.select([listener], [], [], _GLANCE)[0]:
                    continue
                client, _ = listener.accept()
                if self.weather.hang_up:
                    self.traffic.append(Traffic(cut=True))
                    _reset(client)
                    continue
                self.traffic.append(Traffic())
                number = len(self.traffic)
                self._start(lambda client=client, number=number: self._carry(client, number))  # type: ignore[misc]

    def _carry(self, client: socket.socket, number: int) -> None:
        traffic = self.traffic[number - 1]
        try:
            server = socket.create_connection(self._target)
        except OSError:
            _reset(client)
            return
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.setblocking(False)
        up, down = _Lane(client, server), _Lane(server, client)
        try:
            while not (up.closed and down.closed) and not self._is_over(number, up, down):
                self._step(up, down)
                traffic.up, traffic.down = up.given, down.given
        except OSError:
            pass  # One of the two has reset it.
        finally:
            traffic.cut = not (up.closed and down.closed)
            for end in (client, server):
                if traffic.cut:
                    _reset(end)
                end.close()

    def _is_over(self, number: int, up: _Lane, down: _Lane) -> bool:
        weather = self._weather
        return (
            self._closing.is_set()
            or number <= self._severed
            or weather.hang_up
            or (weather.cut_up is not None and up.given >= weather.cut_up)
            or (weather.cut_down is not None and down.given >= weather.cut_down)
            or (weather.cut_when is not None and weather.cut_when())
        )

    def _step(self, up: _Lane, down: _Lane) -> None:
        """Look at both ends once: take what has come, give what has arrived."""
        weather = self._weather
        if weather.silent:
            self._closing.wait(_GLANCE)
            return
        # One chunk at a time is under way unless it is delayed: a slow reader slows the writer.
        takes = [
            lane.source
            for lane, delay in ((up, weather.delay_up), (down, weather.delay_down))
            if not lane.ended and (delay or not lane.waiting)
        ]
        gives = [lane.target for lane in (up, down) if lane.due == 0.0]
        later = [lane.due for lane in (up, down) if lane.due]
        ready = select.select(takes, gives, [], min([_GLANCE, *later]))[0]
        if up.source in ready:
            up.take((weather.cut_up, weather.mute_after), delay=weather.delay_up, lost=False)
        if down.source in ready:
            mute = weather.mute_after is not None and up.taken >= weather.mute_after
            down.take((weather.cut_down,), delay=weather.delay_down, lost=mute)
        up.give()
        down.give()


def _reset(end: socket.socket) -> None:
    """Close with RST, as a machine that knows nothing of the connection."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()
