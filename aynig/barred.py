"""No task could be claimed on the remote: who tries again, and what tells it to people.

Nothing can be written on such a remote, so a note for whoever asks for the status lies in our copy
of it. Nothing is decided by that; the next task that is claimed takes it away.
"""

from __future__ import annotations

import contextlib
import json
import random
import time
from dataclasses import dataclass

from aynig.durations import format_duration
from aynig.git.disk import read_small, write_whole
from aynig.model import Hold
from aynig.plan import FIRST_RECHECK
from aynig.site import Site
from aynig.text import escape


@dataclass
class Bar:
    """The remote took no lease of ours at the last try: one task at a time tries again, ever less
    often, and not each of a thousand by itself."""

    delay: float = 0.0
    until: float = 0.0
    # The task that tries.
    trying: str = ""

    def put(self, ref: str, longest: float) -> None:
        if self.delay and ref != self.trying:
            return
        self.delay = min(self.delay * 2, longest) or 2 * FIRST_RECHECK
        self.until = time.monotonic() + self.delay * random.uniform(1.0, 1.5)
        self.trying = ""

    def lift(self) -> None:
        self.delay, self.trying = 0.0, ""

    @property
    def holds(self) -> bool:
        return bool(self.delay) and (bool(self.trying) or time.monotonic() < self.until)


def note(site: Site, hold: Hold) -> None:
    """Remember why no task could be claimed. Never fails: the disk may be full."""
    said = {"word": hold.word, "detail": hold.detail, "time": time.time()}
    with contextlib.suppress(OSError):
        site.repo.home.mkdir(exist_ok=True)
        write_whole(site.repo.home / "barred", json.dumps(said).encode())


def forget(site: Site) -> None:
    """A task was claimed."""
    with contextlib.suppress(OSError):
        (site.repo.home / "barred").unlink(missing_ok=True)


def read(site: Site) -> Hold | None:
    """The last note, with its age; None where there is none, or none that can be read."""
    text = read_small(site.repo.home / "barred") if site.mirror is not None else None
    if text is None:
        return None
    with contextlib.suppress(ValueError, TypeError, KeyError):
        said = json.loads(text)
        age = format_duration(float(round(max(time.time() - said["time"], 1.0))))
        word, detail = str(said["word"]), escape(str(said["detail"])).rstrip(".")
        return Hold(word, f"{detail} (when a runner of this clone last tried, {age} ago)")
    return None
