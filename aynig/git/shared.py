"""What all worktrees of a repository share and git acts on: `config`, `hooks/` and `info/`."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aynig.git.disk import discard, mark_of

FOLDERS = ("hooks", "info")
# In a repository with `extensions.worktreeConfig` the main working tree has a second file.
CONFIGS = ("config", "config.worktree")
# `info/refs` is written by `git gc` for servers without git (git-update-server-info(1)), and
# `info/sparse-checkout` says what the main working tree shows (git-sparse-checkout(1)): neither
# reaches another worktree.
_OWN_BUSINESS = ("info/refs", "info/sparse-checkout")
# Larger files in hooks/ are only watched by their mark, not kept in memory.
_KEEP_BYTES = 1024 * 1024

Marks = tuple[tuple[str, int, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, folder or link as it was found."""

    mode: int
    # The content of a file, the target of a link, the mark of what can't be kept.
    data: bytes
    kept: bool = True


Entries = dict[str, Entry]


def read_marks(root: Path) -> Marks:
    """Tells whether anything changed: looked at before and after every run, so kept cheap."""
    found = []
    for path in _paths(root):
        with contextlib.suppress(OSError):
            status = os.lstat(path)
            # Putting something back in a folder changes its time, and nothing else of it.
            is_folder = stat.S_ISDIR(status.st_mode)
            stamp = 0 if is_folder else status.st_ctime_ns
            size = 0 if is_folder else status.st_size
            found.append((path, status.st_mode, status.st_ino, size, stamp))
    return tuple(found)


def read_entries(root: Path) -> Entries:
    """All that is shared below the git directory `root`, by its path there."""
    found = {}
    for name in _paths(root):
        path = Path(name)
        with contextlib.suppress(OSError):
            found[str(path.relative_to(root))] = _entry_of(path)
    return found


def write_entry(place: Path, entry: Entry | None, trash: Path) -> None:
    """Make `place` what it was; None: nothing was there."""
    discard(place, trash)
    if entry is None or not entry.kept:
        return
    if stat.S_ISDIR(entry.mode):
        place.mkdir()
        place.chmod(stat.S_IMODE(entry.mode))
    elif stat.S_ISLNK(entry.mode):
        place.symlink_to(os.fsdecode(entry.data))
    else:
        aside = place.with_name(f"{place.name}.aynig")
        aside.write_bytes(entry.data)
        aside.chmod(stat.S_IMODE(entry.mode))
        aside.replace(place)


def save_entries(place: Path, entries: dict[str, Entry | None]) -> None:
    """Write entries down for other processes; None stands for a name that is gone."""
    rows = {
        name: (entry.mode, entry.data.decode("latin-1"), entry.kept) if entry else None
        for name, entry in entries.items()
    }
    aside = place.with_name(f"{place.name}.{os.getpid()}")
    aside.write_text(json.dumps(rows))
    aside.replace(place)


def load_entries(place: Path) -> dict[str, Entry | None] | None:
    """What `save_entries` wrote; None where there is nothing that can be read."""
    try:
        rows = json.loads(place.read_text())
        return {
            name: Entry(row[0], row[1].encode("latin-1"), row[2]) if row else None
            for name, row in rows.items()
        }
    except (OSError, ValueError, TypeError, AttributeError, LookupError):
        return None


def _paths(root: Path) -> Iterator[str]:
    for name in (*CONFIGS, *FOLDERS):
        yield f"{root}/{name}"
    skipped = {f"{root}/{name}" for name in _OWN_BUSINESS}
    pending = [f"{root}/{name}" for name in FOLDERS]
    while pending:
        folder = pending.pop()
        if Path(folder).is_symlink():
            continue
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda each: each.name):
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                if entry.path not in skipped:
                    yield entry.path


def _entry_of(path: Path) -> Entry:
    status = path.lstat()
    if stat.S_ISDIR(status.st_mode):
        return Entry(status.st_mode, b"")
    if stat.S_ISLNK(status.st_mode):
        return Entry(status.st_mode, os.fsencode(path.readlink()))
    if stat.S_ISREG(status.st_mode) and status.st_size <= _KEEP_BYTES:
        return Entry(status.st_mode, path.read_bytes())
    return Entry(status.st_mode, repr(mark_of(path)).encode(), kept=False)
