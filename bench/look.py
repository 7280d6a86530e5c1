"""Reading the branches: all of them for the first time, and again with nothing changed."""

from __future__ import annotations

import subprocess

from aynig.git.repo import Repo
from aynig.scan import Scan
from aynig.site import load_settings, make_scan
from bench import plain_git
from bench.ground import Ground, make_ground
from bench.measure import MILLI, Context, Row, alternate, median, timed

_BRANCHES = 10_000
_LOOKS = 50


def rows(context: Context) -> list[Row]:
    """The first look and the look after it."""
    ground = make_ground(context.folder, branches=_BRANCHES)
    rounds = context.times(15, 3)
    first, listed = alternate(
        lambda: timed(lambda: _first_look(ground)),
        lambda: timed(lambda: plain_git.list_trailers(ground)),
        rounds,
    )
    scan = _first_look(ground)
    while not scan.look():
        pass
    again, compared = alternate(
        lambda: timed(lambda: [scan.look() for _ in range(_LOOKS)]) / _LOOKS,
        lambda: timed(lambda: _compare_refs(ground)),
        rounds,
    )
    return [_first_row(first, listed), _again_row(again, compared, first)]


def _first_look(ground: Ground) -> Scan:
    """What a daemon does at its start: a repository opened afresh, each tip read."""
    repo = Repo.open(ground.path)
    scan = make_scan(repo, load_settings(repo))
    scan.look()
    assert len(scan.tips()) == _BRANCHES + 1
    return scan


def _compare_refs(ground: Ground) -> None:
    """`git for-each-ref` into a file and `cmp` with the last one."""
    script = "git for-each-ref refs/heads/ >../new; cmp -s ../new ../old || mv ../new ../old"
    subprocess.run(["sh", "-c", script], cwd=ground.path, check=True)


def _first_row(ours: list[float], plain: list[float]) -> Row:
    ratio = median(ours) / median(plain)
    return Row(
        name="first-look",
        what=f"first look at {_BRANCHES:,} packed branches, trailers read",
        ours=median(ours) * MILLI,
        plain=median(plain) * MILLI,
        unit="ms",
        ratio=ratio,
        target="2x of for-each-ref",
        met=ratio <= 2,
    )


def _again_row(ours: list[float], plain: list[float], first: list[float]) -> Row:
    share = median(ours) / median(first)
    return Row(
        name="idle-look",
        what=f"a look with nothing changed, {_BRANCHES:,} branches",
        ours=median(ours) * MILLI,
        plain=median(plain) * MILLI,
        unit="ms",
        ratio=median(ours) / median(plain),
        target="1/100 of the first",
        met=share < 0.01,
        note=f"1/{1 / share:,.0f} of the first look",
    )
