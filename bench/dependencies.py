"""Tasks that wait for each other: planning one among ten thousand, and releasing a thousand."""

from __future__ import annotations

import random
import subprocess
import time

from aynig.facts import gather
from aynig.git.repo import Repo
from aynig.model import Hold, Plan
from aynig.plan import make_plan
from aynig.scan import read_event
from aynig.site import Site, open_site
from bench.ground import EMPTY, Daemon, Ground, branch_ref, make_ground
from bench.measure import MILLI, Context, Row, median, timed

_TASKS = 10_000
_EACH = 2
_DEPENDENTS = 1_000
_SAMPLE = 500
_JOBS = 2
_PLAN_TARGET = 1.0
_FIRST_TARGET, _ALL_TARGET = 50.0, 2000.0
# Each policy that is asked before a run has something to look up.
_ALL_POLICIES = f"""
autonomy: stuck
people-only: [released]
children: {{depth: 3, each: 20, total: 100}}
retries: {{max: 3, backoff: 10s}}
breaker: {{no-change: 3, same-failure: 3, failures: 5, within: 1d, pause: 30m}}
limits: {{calls-per-hour: 1000000, concurrent: 4, cost-usd-per-task: 5, cost-usd-per-day: 1000000,
  tokens-per-task: 1000000}}
agents:
  coder: {{limits: {{concurrent: 8, cost-usd-per-day: 1000000}}}}
states:
  {EMPTY}:
    agent: coder
    next: done
    escalate: look
    expect: none
    verify: {{commands: [make test], scenarios: .aynig, need: all}}
    approval: {{when: after, need: 2}}
    resource: bench
    deadline: 1000d
    priority: 5
    on-dependency-failure: fail
"""
_SPENT = "aynig: cost-usd: 0.01\naynig: tokens-in: 1000\naynig: tokens-out: 100\naynig: calls: 3\n"


def plan_rows(context: Context) -> list[Row]:
    """Planning one event, where few tasks are finished and where most are."""
    count = context.times(_TASKS, 500)
    return [_plan_row(context, count, share) for share in (0.1, 0.9)]


def release_rows(context: Context) -> list[Row]:
    """What happens when the task ends that a thousand wait for."""
    count = context.times(_DEPENDENTS, 50)
    ground = make_ground(context.folder / "release")
    first = [_released(ground, count, number) for number in range(context.times(3, 1))]
    start, whole = (median(values) * MILLI for values in zip(*first, strict=True))
    plan = median([_planned(ground, count) for _ in range(context.times(3, 1))]) * MILLI
    plain = timed(lambda: _list_tips(ground)) * MILLI
    what = f"{count:,} dependents of one task"
    return [
        Row(
            "release",
            f"{what}: it ends, to the first start",
            start,
            plain,
            "ms",
            start / plain,
            f"under {_FIRST_TARGET:.0f} ms",
            start < _FIRST_TARGET,
            f"plain: one for-each-ref with trailers; all run after {whole / MILLI:.1f} s",
        ),
        Row(
            "release",
            f"{what}: all are planned",
            plan,
            None,
            "ms",
            None,
            f"under {_ALL_TARGET / MILLI:.0f} s",
            plan < _ALL_TARGET,
        ),
    ]


# --- planning ----------------------------------------------------------------------------------


def _plan_row(context: Context, count: int, share: float) -> Row:
    ground = make_ground(context.folder / f"plan-{share}", config=_ALL_POLICIES)
    finished = int(count * share)
    _make_web(ground, count, finished)
    site = open_site(ground.path)
    try:
        site.scan.look()
        refs = [branch_ref(number) for number in range(finished, count)]
        first = timed(lambda: [_plan(site, ref) for ref in refs]) / len(refs)
        # Of one that waits for others, most policies are not asked.
        ready = [ref for ref in refs if isinstance(_plan(site, ref), Plan)]
        sample = random.Random(1).sample(ready, min(_SAMPLE, len(ready)))
        held = random.Random(1).sample(refs, min(_SAMPLE, len(refs)))
        ours, waiting = (
            median([timed(lambda ref=ref: _plan(site, ref)) for ref in some])  # type: ignore[misc]
            for some in (sample, held)
        )
        plain = median([timed(lambda ref=ref: _read(ground, ref)) for ref in sample[:50]])  # type: ignore[misc]
    finally:
        site.close()
    return Row(
        "plan-policies",
        f"planning one of {count:,} tasks, {count * _EACH:,} dependencies, all policies, "
        f"{share:.0%} finished",
        ours * MILLI,
        plain * MILLI,
        "ms",
        ours / plain,
        f"under {_PLAN_TARGET:.0f} ms",
        ours * MILLI < _PLAN_TARGET,
        f"{len(ready):,} may start; any of them {waiting * MILLI:.2f} ms, at the first time "
        f"{first * MILLI:.2f} ms; plain: git log of it and what it waits for",
    )


def _make_web(ground: Ground, count: int, finished: int) -> None:
    """Tasks that wait for two earlier ones each, by branch and by oid; so many have ended."""
    repo, chance = Repo.open(ground.path), random.Random(count)
    base = repo.resolve("main")
    assert base is not None
    tree = repo.commit(base).tree
    oids: list[str] = []
    tips: dict[str, str] = {}
    for number in range(count):
        below = [chance.randrange(number) for _ in range(_EACH)] if number else []
        names = [branch_ref(one).removeprefix("refs/heads/") for one in below[:1]]
        names += [oids[one] for one in below[1:]]
        lines = "".join(f"aynig: depends-on: {name}\n" for name in names)
        message = f"task {number}\n\naynig: {EMPTY}\n{lines}"
        oid = repo.write_commit(tree=tree, parents=[base], message=message)
        oids.append(oid)
        if number < finished:
            answer = f"empty -> done\n\naynig: done\naynig: answers: {oid}\n{_SPENT}"
            oid = repo.write_commit(tree=tree, parents=[oid], message=answer)
        tips[branch_ref(number)] = oid
    ground.set_refs(tips)
    ground.git("pack-refs", "--all")


def _plan(site: Site, ref: str) -> object:
    tip = site.scan.tip(ref)
    assert tip is not None
    event = read_event(site.repo, ref, tip.oid, site.read)
    assert event is not None
    return make_plan(event, gather(site, event).facts)


def _read(ground: Ground, ref: str) -> None:
    """What a script would look at: the task, and the tips of what it waits for."""
    names = [f"{ref}^{{commit}}", branch_ref(0), branch_ref(1)]
    command = ["git", "log", "--no-walk", "--format=%(trailers:key=aynig,valueonly)", *names]
    subprocess.run(command, cwd=ground.path, stdout=subprocess.DEVNULL, check=True)


# --- releasing ---------------------------------------------------------------------------------


def _dependents(ground: Ground, count: int, name: str) -> None:
    """Tasks that all wait for the branch `name`, which is held for a person."""
    repo = Repo.open(ground.path)
    base = repo.resolve("main")
    assert base is not None
    tree = repo.commit(base).tree
    first = repo.write_commit(tree=tree, parents=[base], message=f"{name}\n\naynig: stalled\n")
    tips = {f"refs/heads/{name}": first}
    for number in range(count):
        message = f"task {number} of {name}\n\naynig: {EMPTY}\naynig: depends-on: {name}\n"
        oid = repo.write_commit(tree=tree, parents=[base], message=message)
        tips[f"refs/heads/{name}-waits/{number}"] = oid
    ground.set_refs(tips)


def _end(ground: Ground, name: str) -> None:
    ground.set_refs({f"refs/heads/{name}": ground.state_commit("done", f"refs/heads/{name}")})


def _released(ground: Ground, count: int, number: int) -> tuple[float, float]:
    """Seconds from the end of the task to the first start, and to the last answer."""
    name = f"first{number}"
    with Daemon(ground, jobs=_JOBS) as daemon:
        _dependents(ground, count, name)
        daemon.await_notices("hold", count + 1)
        done = ground.state_commit("done", f"refs/heads/{name}")
        begun = time.perf_counter()
        ground.set_refs({f"refs/heads/{name}": done})
        first = daemon.await_notices("run")[0] - begun
        last = daemon.await_notices("answer", count)[-1] - begun
    ground.drop_refs([f"refs/heads/{name}", *_waiting(ground, name)])
    return first, last


def _planned(ground: Ground, count: int) -> float:
    """Seconds until all are planned, once the look has told that the task has ended."""
    _dependents(ground, count, "planned")
    site = open_site(ground.path)
    try:
        site.scan.look()
        refs = _waiting(ground, "planned")
        assert all(isinstance(_plan(site, ref), Hold) for ref in refs)
        _end(ground, "planned")
        begun = time.perf_counter()
        site.scan.look()
        assert not any(isinstance(_plan(site, ref), Hold) for ref in refs)
        return time.perf_counter() - begun
    finally:
        site.close()
        ground.drop_refs(["refs/heads/planned", *_waiting(ground, "planned")])


def _waiting(ground: Ground, name: str) -> list[str]:
    return ground.git("for-each-ref", "--format=%(refname)", f"refs/heads/{name}-waits/").split()


def _list_tips(ground: Ground) -> None:
    form = "--format=%(refname) %(trailers:key=aynig,valueonly)"
    subprocess.run(
        ["git", "for-each-ref", form, "refs/heads/"],
        cwd=ground.path,
        stdout=subprocess.DEVNULL,
        check=True,
    )
