"""A file of settings with some of its keys put back, and all else in it as it is."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from aynig.errors import GitFailed
from aynig.git.command import git_text
from aynig.git.inert import Values, offending, parse_settings

_COMMENT = re.compile(rb"^\s*[#;]", re.MULTILINE)


def list_settings(data: bytes) -> Values:
    """What a file itself sets, without what it includes. Raises GitFailed where git can't read."""
    command = ["config", "--no-includes", "--file", "-", "--null", "--list"]
    listed = git_text(None, command, stdin=data)
    return parse_settings(listed)


def put_settings_back(
    before: bytes, after: bytes, is_known: Callable[[str], bool], scratch: Path
) -> bytes | None:
    """`after` without its offending changes; None where all of `before` is to come back.

    That is so where no other change is to be kept, and wherever in doubt. `is_known` is that of
    `offending`; `scratch` is a folder for a private copy.
    """
    with contextlib.suppress(GitFailed, ValueError, OSError):
        old, new = list_settings(before), list_settings(after)
        keys = offending(old, new, is_known)
        kept = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)} - {*keys}
        if not kept or _is_rewritten(before, after) or any(_has_a_place(key, old) for key in keys):
            return None
        with tempfile.TemporaryDirectory(prefix="config-", dir=scratch) as folder:
            mended = Path(folder) / "config"
            mended.write_bytes(after)
            for key in keys:
                _put_key_back(mended, key, old, new)
            data = mended.read_bytes()
        found = list_settings(data)
        # Of what git wrote, only what was read again is believed.
        if all(found.get(key) == (new if key in kept else old).get(key) for key in {*old, *new}):
            return data
    return None


def _put_key_back(file: Path, key: str, old: Values, new: Values) -> None:
    if key.startswith("-"):
        raise ValueError("git would take it for an option")
    command = ["config", "--file", str(file)]
    if key in new:
        git_text(None, [*command, "--unset-all", key])
    for value in old.get(key, ()):
        if value is None:
            _append_bare(file, key)
        else:
            git_text(None, [*command, "--add", key, value])


def _append_bare(file: Path, key: str) -> None:
    """git has no command for a key without a value."""
    section, _, rest = key.partition(".")
    middle, dot, name = rest.rpartition(".")
    escaped = middle.replace("\\", "\\\\").replace('"', '\\"')
    head = f'{section} "{escaped}"' if dot else section
    data = file.read_bytes()
    end = b"" if data.endswith(b"\n") or not data else b"\n"
    added = f"[{head}]\n\t{name}\n".encode("utf-8", "surrogateescape")
    file.write_bytes(data + end + added)


def _has_a_place(key: str, old: Values) -> bool:
    """Does it matter where in the file it stood? What is included yields to what follows."""
    return key in old and key.partition(".")[0] in ("include", "includeif")


def _is_rewritten(before: bytes, after: bytes) -> bool:
    """Are all comments gone, as where another file took its place?"""
    return bool(_COMMENT.search(before)) and not _COMMENT.search(after)
