"""What `aynig doctor` looks at: one module a field, each function yields findings.

A check never raises for what it finds wrong and never changes anything.
"""

from __future__ import annotations

from dataclasses import dataclass

OK, WARNING, ERROR = "ok", "warning", "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One row: what was checked, how it is (`ok`, `warning`, `error`), and what mends it.

    `mend` is a command where there is one, otherwise a sentence; empty where nothing is wrong.
    """

    check: str
    level: str
    detail: str
    mend: str = ""
