"""Where the files lie that ship beside the code: git hooks and the states everyone has."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def hooks_folder() -> Path:
    """The hooks that `aynig hooks install` puts in place."""
    return _folder("hooks")


def states_folder() -> Path:
    """The states for which a repository needs no script of its own."""
    return _folder("states")


def _folder(name: str) -> Path:
    # A wheel carries them inside the package; in a checkout they lie at the top level.
    packed = _PACKAGE / f"_{name}"
    return packed if packed.is_dir() else _PACKAGE.parent / name
