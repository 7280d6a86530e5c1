"""The table, and the machine that it is from."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

import pygit2

from bench.measure import Row

_HEAD = ("row", "ours", "plain git", "ours / plain", "target", "met", "")


def format_table(rows: Iterable[Row]) -> str:
    """As Markdown, padded so that it can be read as it is too."""
    lines = [_HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(_HEAD))]
    ruler = tuple("-" * width for width in widths)
    return "\n".join(_line(line, widths) for line in [lines[0], ruler, *lines[1:]])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
    return f"| {' | '.join(padded)} |"


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.what,
        f"{_number(row.ours)} {row.unit}",
        f"{_number(row.plain)} {row.unit}" if row.plain is not None else "",
        f"{row.ratio:.3g}" if row.ratio is not None else "",
        row.target,
        "" if row.met is None else ("yes" if row.met else "no"),
        row.note,
    )


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.3f}"


def describe_machine(folder: Path) -> str:
    """What the figures depend on, in a few lines."""
    git = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True).stdout
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return "\n".join(
        [
            f"{platform.system()} {platform.release()}, {_processor()}, {os.cpu_count()} cores, "
            f"load average {load} (busy when well above 0 at the start)",
            f"Python {platform.python_version()}, {git.strip()}, pygit2 {version('pygit2')} "
            f"(libgit2 {pygit2.LIBGIT2_VERSION})",
            f"repositories on {_file_system(folder)}",
        ]
    )


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or "unknown processor"
    names = [line for line in text.splitlines() if line.startswith("model name")]
    return names[0].partition(":")[2].strip() if names else platform.machine()


def _file_system(folder: Path) -> str:
    """The kind of file system, as df(1) says it."""
    if shutil.which("df") is None:
        return "an unknown file system"
    done = subprocess.run(
        ["df", "--output=fstype", str(folder)], capture_output=True, text=True, check=False
    )
    lines = done.stdout.split()
    return lines[-1] if done.returncode == 0 and lines else "an unknown file system"
