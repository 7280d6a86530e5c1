"""What aynig answers itself: a step takes the lease and lands like the answer of a script."""

from __future__ import annotations

import functools
import time

from aynig.ending import Ended, Pending, conclude
from aynig.model import Lease, Plan, RunResult
from aynig.respond import write_step
from aynig.site import Site


def take_step(site: Site, plan: Plan, lease: Lease) -> Ended:
    """Write the answer that a policy gives, and land it."""
    assert plan.step is not None
    write = functools.partial(
        write_step, site.repo, plan, lease, plan.step, executed_by=site.executed_by
    )
    result = RunResult(exit=0, signal=None, started=time.time(), duration=0.0)
    return conclude(site, Pending(plan, lease, result, write))
