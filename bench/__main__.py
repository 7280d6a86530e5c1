"""`python -m bench [NAME]...`: measures, and prints one table; see `--help`."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench import (
    chain,
    dependencies,
    hook,
    idle_remote,
    large,
    latency,
    ledger,
    look,
    many,
    memory,
    remote,
    renewals,
    runners,
    woken,
)
from bench.ground import seal
from bench.measure import Context, Row
from bench.table import describe_machine, format_table

ROWS: Mapping[str, Callable[[Context], list[Row]]] = {
    "look": look.rows,
    "latency": latency.rows,
    "chain": chain.rows,
    "many": many.rows,
    "large": large.rows,
    "memory": memory.rows,
    "ledger": ledger.rows,
    "hook": hook.rows,
    "remote": remote.rows,
    "runners": runners.rows,
    "remote-idle": idle_remote.rows,
    "renewals": renewals.rows,
    "woken": woken.rows,
    "plan-policies": dependencies.plan_rows,
    "release": dependencies.release_rows,
}

_BEGIN, _END = "<!-- the table: python -m bench --save -->", "<!-- end of the table -->"


def main(arguments: Sequence[str]) -> int:
    """Measure what was asked for; all of it by default. 1 where a target is missed."""
    options = _parse(arguments)
    place = Path(tempfile.mkdtemp(prefix="aynig-bench-", dir=options.folder))
    found: list[Row] = []
    try:
        seal(place / "home")
        machine = describe_machine(place)
        for name in options.names or ROWS:
            print(f"measuring: {name}", file=sys.stderr, flush=True)
            folder = place / name
            folder.mkdir()
            found += ROWS[name](Context(folder, options.quick))
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    text = f"{machine}\n\n{format_table(found)}"
    print(text)
    if options.save:
        _save(Path(options.save), text)
    return 1 if any(row.met is False for row in found) and not options.quick else 0


def _save(page: Path, text: str) -> None:
    """Put the table in the place of the last one."""
    before, begin, rest = page.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise SystemExit(f"{page} has no place for a table: {_BEGIN} and {_END}")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--quick", action="store_true", help="few repetitions: to see that it runs")
    parser.add_argument("--folder", help="where to make the repositories (default: TMPDIR)")
    parser.add_argument("--save", metavar="PAGE", help="put the table in this page too")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in ROWS]
    if unknown:
        parser.error(f"no such rows: {', '.join(unknown)}; there are {', '.join(ROWS)}")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
