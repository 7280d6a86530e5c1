"""What a run prints goes to a file of bounded size, and never through memory but for one chunk.

The first half of the limit is kept as written. What comes after it goes in turns to two files
beside it, each a quarter of the limit, of which the older is overwritten: so the end is kept
too. `close` joins them with a line that says how much is missing. Until then, and after a crash
before it, the readers here put the three files together themselves.

A tail file begins with a line of fixed length: the position of its first byte in all that was
written, and the length of the head. The second makes a crash in the middle of joining harmless.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

SMALLEST_LIMIT = 4096
CHUNK = 65536

_HEADER = re.compile(rb"(\d{20}) (\d{20})\n")
_HEADER_LENGTH = 42
_MARKER = re.compile(rb"\n\[\.\.\. (\d+) bytes left out by aynig \(aynig\.outputLimit\) \.\.\.\]\n")
_MARKER_LENGTH = 100


def side_files(path: Path) -> tuple[Path, Path]:
    """The two files beside an output that may exist until it is closed."""
    return path.with_name(f"{path.name}.tail0"), path.with_name(f"{path.name}.tail1")


def _marker(missing: int) -> bytes:
    return b"\n[... %d bytes left out by aynig (aynig.outputLimit) ...]\n" % missing


class OutputFile:
    """The place for the output of one run. A file that is there already is replaced.

    `limit` is in bytes; less than 4 KiB counts as that. Nothing here raises for a disk that is
    full or gone: `problem` says so, and everything from then on is dropped.
    """

    def __init__(self, path: Path, limit: int) -> None:
        limit = max(limit, SMALLEST_LIMIT)
        self.path = path
        self.problem = ""
        self._head_room = limit // 2
        self._tail_room = (limit - self._head_room) // 2
        # All that was written so far; the position of the next byte.
        self._position = 0
        self._head: int | None = None
        self._tail: int | None = None
        self._tail_used = 0
        self._turn = 0
        try:
            for stale in side_files(path):
                stale.unlink(missing_ok=True)
            self._head = _create(path)
        except OSError as error:
            self._give_up(error)

    def write(self, chunk: bytes) -> None:
        """Keep a chunk, or as much of it as there is room for."""
        if self._head is None or self.problem:
            return
        view = memoryview(chunk)
        try:
            while view:
                view = view[self._write_some(self._head, view) :]
        except OSError as error:
            self._give_up(error)

    def _write_some(self, head: int, view: memoryview) -> int:
        room = self._head_room - self._position
        if room > 0:
            written = os.write(head, view[:room])
        else:
            if self._tail is None or self._tail_used == self._tail_room:
                self._turn_over()
            assert self._tail is not None
            written = os.write(self._tail, view[: self._tail_room - self._tail_used])
            self._tail_used += written
        self._position += written
        return written

    def _turn_over(self) -> None:
        """Begin a tail file, in place of the older one."""
        self._close_tail()
        side = side_files(self.path)[self._turn]
        side.unlink(missing_ok=True)
        self._tail = _create(side)
        os.write(self._tail, b"%020d %020d\n" % (self._position, self._head_room))
        self._turn = 1 - self._turn
        self._tail_used = 0

    def close(self) -> None:
        """Join the parts into one file. Calling it again does nothing."""
        self._close_tail()
        if self._head is None:
            return
        try:
            if self._position > self._head_room:
                self._join(self._head)
        except OSError as error:
            # The parts stay as they are, and the readers deal with them.
            self._give_up(error)
        finally:
            os.close(self._head)
            self._head = None

    def _join(self, head: int) -> None:
        with _open_parts(self.path) as parts:
            try:
                for part in parts[1:]:
                    for chunk in part.chunks():
                        _write_all(head, chunk)
            except OSError:
                os.ftruncate(head, self._head_room)
                raise
        for side in side_files(self.path):
            side.unlink(missing_ok=True)

    def _close_tail(self) -> None:
        if self._tail is not None:
            os.close(self._tail)
            self._tail = None

    def _give_up(self, error: OSError) -> None:
        if not self.problem:
            self.problem = f"output is not kept any more: {error.strerror or error}"


def _create(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(path, flags, 0o600)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


# --- reading


class _Part(NamedTuple):
    """A stretch of the output: bytes of an open file, or a text for what is missing (fd -1)."""

    # Position of its first byte in all that the script wrote.
    position: int
    length: int
    fd: int
    start: int = 0
    text: bytes = b""

    @property
    def end(self) -> int:
        return self.position + self.length

    @property
    def size(self) -> int:
        """How many bytes `chunks` has."""
        return self.length if self.fd >= 0 else len(self.text)

    def chunks(self, skip: int = 0) -> Iterator[bytes]:
        """Its bytes without the first `skip`, in order."""
        if self.fd < 0:
            yield self.text[skip:]
            return
        place, end = self.start + skip, self.start + self.length
        while place < end and (chunk := os.pread(self.fd, min(CHUNK, end - place), place)):
            yield chunk
            place += len(chunk)


def _gap(position: int, missing: int) -> _Part:
    return _Part(position, missing, -1, text=_marker(missing))


@contextmanager
def _open_parts(path: Path) -> Iterator[list[_Part]]:
    """The output as it lies on disk now: the head, what is missing, the tail. Empty if none.

    The tail files are opened before the head: if they are joined and removed in between, what
    was opened is still complete. For the same reason they are replaced, never written over.
    """
    with ExitStack() as stack:
        tails = sorted(tail for side in side_files(path) if (tail := _tail(side, stack)))
        head = _opened(path, stack)
        if head is None:
            yield []
            return
        length = os.fstat(head).st_size
        if tails:
            length = min(length, tails[0][1])
        parts = [_Part(0, length, head)]
        for position, _, size, fd in tails:
            if position > parts[-1].end:
                parts.append(_gap(parts[-1].end, position - parts[-1].end))
            parts.append(_Part(position, size, fd, _HEADER_LENGTH))
        yield parts


def _opened(path: Path, stack: ExitStack) -> int | None:
    try:
        # The script can reach the file: opening a pipe in its place would wait for a writer.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        return None
    stack.callback(os.close, fd)
    return fd if stat.S_ISREG(os.fstat(fd).st_mode) else None


def _tail(side: Path, stack: ExitStack) -> tuple[int, int, int, int] | None:
    """Position, length of the head, own length and descriptor of a tail file."""
    fd = _opened(side, stack)
    if fd is None:
        return None
    header = _HEADER.fullmatch(os.pread(fd, _HEADER_LENGTH, 0))
    # One that was only just begun says nothing yet.
    if header is None:
        return None
    return int(header[1]), int(header[2]), os.fstat(fd).st_size - _HEADER_LENGTH, fd


def read_output(path: Path) -> Iterator[bytes]:
    """An output in chunks, whether it was closed, is being written, or was left by a crash.

    Raises FileNotFoundError where there is none.
    """
    with _open_parts(path) as parts:
        if not parts:
            raise FileNotFoundError(path)
        for part in parts:
            yield from part.chunks()


def tail_of(path: Path, max_bytes: int = 4096, max_lines: int = 20) -> str:
    """The end of an output for people: whole lines where there are any, decoded as UTF-8.

    What is no UTF-8 becomes U+FFFD. Empty where there is no output.
    """
    end = b""
    cut = False
    with _open_parts(path) as parts:
        for part in reversed(parts):
            skip = max(0, part.size - (max_bytes - len(end)))
            end = b"".join(part.chunks(skip)) + end
            cut = cut or skip > 0
    lines = end.splitlines(keepends=True)
    if cut and len(lines) > 1:
        lines = lines[1:]
    elif cut:
        # One long line, cut somewhere: not in the middle of a character.
        lines = [end.lstrip(bytes(range(0x80, 0xC0)))]
    return b"".join(lines[max(0, len(lines) - max_lines) :]).decode(errors="replace")


class Follower:
    """Reads an output while it grows, each byte once; what was overwritten meanwhile is named."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # How far it has read, in all that the script wrote.
        self._position = 0
        # The length of the head, once there were tail files.
        self._head_length: int | None = None

    def read(self) -> Iterator[bytes]:
        """What is new since the last call; nothing while there is no output yet."""
        with _open_parts(self._path) as parts:
            if len(parts) > 1:
                self._head_length = parts[0].length
            elif parts and self._head_length is not None:
                parts = _split(parts[0], self._head_length)
            for part in parts:
                if part.end <= self._position:
                    continue
                yield from self._rest(part)

    def _rest(self, part: _Part) -> Iterator[bytes]:
        skip = max(0, self._position - part.position)
        if part.fd < 0:
            yield _marker(part.length - skip)
            self._position = part.end
            return
        for chunk in part.chunks(skip):
            yield chunk
            self._position += len(chunk)


def _split(whole: _Part, head_length: int) -> list[_Part]:
    """The parts that a closed file was joined from."""
    head = whole._replace(length=min(whole.length, head_length))
    found = _MARKER.match(os.pread(whole.fd, _MARKER_LENGTH, head.length))
    if found is None:
        return [whole]
    gap = _gap(head.length, int(found[1]))
    start = head.length + found.end()
    return [head, gap, _Part(gap.end, whole.length - start, whole.fd, start)]
