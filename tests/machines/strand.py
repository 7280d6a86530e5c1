"""Threads of which one runs at a time, and only from one stopping point to the next.

So a machine that draws who goes on decides every interleaving, and can play it again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cue:
    """What happens at the stopping point that a strand goes on from.

    `push` is the fate of a push, `script` what the script does.
    """

    push: str = "up"
    script: str = "ok"


class Killed(BaseException):
    """The process is gone: nothing that it would still do has any effect."""


_current = threading.local()


class Strand:
    """One piece of work in a thread of its own; it begins at the first `advance`."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.outcome: object = None
        self.error: BaseException | None = None
        self.over = False
        # The stopping point that it is at: "push", "pushed", "script", or "begin".
        self.at = "begin"
        self._work = work
        self._cue = Cue()
        # So many stopping points are passed without a halt.
        self._left = 0
        self._killed = False
        self._go = threading.Lock()
        self._halt = threading.Lock()
        self._go.acquire()
        self._halt.acquire()
        threading.Thread(target=self._run, daemon=True).start()

    def advance(self, cue: Cue, stops: int = 1) -> None:
        """Let it run to its next stopping point but so many, to its script, or to its end.

        The cue is for the one that it goes on from; the others are passed with luck.
        """
        self._cue = cue
        self._left = stops - 1
        self._go.release()
        self._halt.acquire()

    def kill(self) -> None:
        """End it where it stands."""
        while not self.over:
            self._killed = True
            self.advance(Cue())

    def stop(self, at: str) -> Cue:
        """Called within: wait here for what comes next."""
        if at == "script" or not self._left:
            self.at = at
            self._halt.release()
            self._go.acquire()
            if self._killed:
                raise Killed
        else:
            self._left -= 1
        cue, self._cue = self._cue, Cue()
        return cue

    def _run(self) -> None:
        _current.strand = self
        self._go.acquire()
        try:
            if not self._killed:
                self.outcome = self._work()
        except BaseException as error:
            self.error = error
        self.over = True
        self._halt.release()


def stop_here(at: str) -> Cue:
    """A stopping point; who runs outside of a strand passes it with good luck."""
    strand = getattr(_current, "strand", None)
    return strand.stop(at) if isinstance(strand, Strand) else Cue()
