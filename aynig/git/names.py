"""Which names git takes for refs."""

from __future__ import annotations

import pygit2

# NAME_MAX of the file systems in use, less `.lock`.
_LONGEST_PART = 255 - len(".lock")


def is_ref(name: str) -> bool:
    """Is this a full ref name that git accepts (git-check-ref-format(1))?"""
    written = name.encode("utf-8", "surrogateescape")
    # Each part is the name of a file, and there has to be room for its lock beside it.
    if max(map(len, written.split(b"/"))) > _LONGEST_PART:
        return False
    # libgit2 takes a NUL for the end.
    return "\0" not in name and bool(
        pygit2.reference_is_valid_name(written)  # type: ignore[arg-type]
    )
