"""How long the post-receive hook holds up a push while a daemon runs."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from bench.ground import Daemon, Ground, make_ground
from bench.measure import MILLI, Context, Row, alternate, median, timed

_LIMIT = 5.0


def rows(context: Context) -> list[Row]:
    """Pushes to a bare repository with the hook and a daemon, and to one without either."""
    hooked = make_ground(context.folder / "hooked", bare=True)
    bare = make_ground(context.folder / "bare", bare=True)
    sender = make_ground(context.folder / "sender")
    subprocess.run(
        [sys.executable, "-m", "aynig", "hooks", "install", "--server"],
        cwd=hooked.path,
        check=True,
        capture_output=True,
    )
    with Daemon(hooked):
        with_hook, without = alternate(
            lambda: _push(sender, hooked.path),
            lambda: _push(sender, bare.path),
            context.times(150, 10),
        )
    # Of each pair: the pushes themselves differ by more than the hook costs.
    delays = [ours - plain for ours, plain in zip(with_hook, without, strict=True)]
    delay = median(delays) * MILLI
    return [
        Row(
            name="hook",
            what="what the post-receive hook adds to a push",
            ours=delay,
            plain=None,
            unit="ms",
            ratio=None,
            target=f"under {_LIMIT:.0f} ms",
            met=delay < _LIMIT,
            note=f"push {median(without) * MILLI:.1f} ms without, "
            f"{median(with_hook) * MILLI:.1f} ms with it",
        )
    ]


def _push(sender: Ground, target: Path) -> float:
    """Seconds of one push of a new commit."""
    # Without a state, because what a run costs is not the hook's; and each is another commit.
    message = f"pushed {time.monotonic_ns()}"
    main = "refs/heads/main"
    oid = sender.git("commit-tree", f"{main}^{{tree}}", "-p", main, "-m", message)
    refspec = f"{oid}:refs/heads/pushed"
    return timed(lambda: sender.git("push", "--quiet", "--force", str(target), refspec))
