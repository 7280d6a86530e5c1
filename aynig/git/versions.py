"""Which libraries this is."""

from __future__ import annotations

from importlib import metadata

import pygit2


def library_versions() -> dict[str, str]:
    """The versions of pygit2 and of the libgit2 that it stands on."""
    return {"pygit2": metadata.version("pygit2"), "libgit2": pygit2.LIBGIT2_VERSION}
