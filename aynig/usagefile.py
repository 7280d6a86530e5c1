"""The file `$AYNIG_USAGE`, to which a script appends what it spends while it runs.

Each line is an amount that is added: `cost-usd: 0.12`, `tokens-in: 500`. Several processes may
append at once, and it is read while they do: a line counts as soon as it has its newline. The
script may put anything else in its place, so nothing here waits for it or believes a size.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path

from aynig.text import counted, quote
from aynig.trailers import decode
from aynig.usage import NOTHING, Usage, read_amount

# What is behind that is not read.
MOST_BYTES = 1 << 20
# Longer lines are none of ours, and are not kept in memory until they end.
_MOST_LINE = 256
# Of a file with nothing but nonsense, so many lines are told of.
_MOST_FAULTS = 8


@dataclass(frozen=True, slots=True)
class Tally:
    """What was read of a usage file so far."""

    usage: Usage = NOTHING
    # What of it is not believed, a sentence each; the first few.
    faults: tuple[str, ...] = ()
    # How many there were in all.
    fault_count: int = 0
    # How many bytes were read.
    read: int = 0
    # The beginning of a line that has no end yet.
    rest: bytes = b""

    def fed(self, data: bytes) -> Tally:
        """With what comes next in the file."""
        room = MOST_BYTES - self.read
        tally = replace(self, read=self.read + len(data[:room]), rest=b"")
        *lines, rest = (self.rest + data[:room]).split(b"\n")
        for line in lines:
            tally = tally._with_line(line)
        if len(data) > room and room > 0:
            return tally._with_fault(f"it is larger than {MOST_BYTES} bytes: the rest is not read")
        return replace(tally, rest=rest)

    def ended(self) -> Tally:
        """Nothing more will be written: a last line without a newline counts as well."""
        return replace(self, rest=b"")._with_line(self.rest)

    def told(self) -> tuple[str, ...]:
        """The faults for people: the first few, and how many there are beside them."""
        more = self.fault_count - len(self.faults)
        return (*self.faults, *([f"and {counted(more, 'line')} more"] if more else []))

    def _with_line(self, line: bytes) -> Tally:
        text = decode(line[: _MOST_LINE + 1]).strip(" \t\r")
        if not text:
            return self
        key, colon, value = text.partition(":")
        if not colon or len(line) > _MOST_LINE:
            return self._with_fault(
                f"expected a line such as `cost-usd: 0.12`, found {quote(text)}"
            )
        amount = read_amount(key.rstrip(" \t").lower(), value.lstrip(" \t"))
        if isinstance(amount, str):
            return self._with_fault(amount)
        return replace(self, usage=self.usage + amount)

    def _with_fault(self, fault: str) -> Tally:
        faults = self.faults if len(self.faults) >= _MOST_FAULTS else (*self.faults, fault)
        return replace(self, faults=faults, fault_count=self.fault_count + 1)


def read_on(path: Path, tally: Tally) -> Tally:
    """What was appended since `tally` was read; the same where there is nothing to read.

    A file that was cut short meanwhile is read from its start: what was reported stays reported.
    """
    try:
        size, data = _read_from(path, tally.read)
    except FileNotFoundError:
        return tally
    except OSError as error:
        fault = f"it can't be read: {error.strerror or error}"
        return tally if fault in tally.faults else tally._with_fault(fault)
    if size < tally.read:
        tally = replace(tally._with_fault("it was cut short"), read=0, rest=b"")
        with contextlib.suppress(OSError):
            _, data = _read_from(path, 0)
    return tally.fed(data) if data else tally


def _read_from(path: Path, start: int) -> tuple[int, bytes]:
    """The size of a file and its bytes from `start` on; OSError for what is no file."""
    # A pipe would wait for a writer, and a link may lead to what the script can't read itself.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(path, flags)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is no file")
        # One byte more than is wanted shows that there is more.
        return status.st_size, os.pread(fd, max(MOST_BYTES + 1 - start, 0), start)
    finally:
        os.close(fd)
