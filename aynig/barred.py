"""What the remote said when no task could be claimed there, kept for whoever asks for the status.

Nothing can be written on such a remote, so the note lies in our copy of it. Nothing is decided by
it; the next task that is claimed takes it away.
"""

from __future__ import annotations

import contextlib
import json
import time

from aynig.durations import format_duration
from aynig.git.disk import read_small, write_whole
from aynig.model import Hold
from aynig.site import Site
from aynig.text import escape


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
