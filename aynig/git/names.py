"""Which names git takes for refs."""

from __future__ import annotations

import pygit2


def is_ref(name: str) -> bool:
    """Is this a full ref name that git accepts (git-check-ref-format(1))?"""
    # libgit2 takes a NUL for the end.
    return "\0" not in name and bool(
        pygit2.reference_is_valid_name(name.encode("utf-8", "surrogateescape"))  # type: ignore[arg-type]
    )
