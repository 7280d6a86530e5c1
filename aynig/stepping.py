"""What aynig answers itself: a step takes the lease and lands like the answer of a script."""

from __future__ import annotations

import time

from aynig.ending import Ended, Pending, conclude
from aynig.fanout import keeping
from aynig.model import Lease, Plan, RunResult
from aynig.oversight import ruled_step
from aynig.reopening import with_approved
from aynig.respond import Answer, write_step
from aynig.site import Site


def take_step(site: Site, plan: Plan, lease: Lease) -> Ended:
    """Write the answer that a policy gives, or the request for it, and land that."""
    step = plan.step
    assert step is not None

    def write() -> Answer:
        taken = ruled_step(site, plan, step)
        return write_step(site.repo, plan, lease, taken, executed_by=site.executed_by)

    write_all = with_approved(site, plan, step, write)
    write_all = keeping(site, lease.run, plan.event.ref, write_all)
    result = RunResult(exit=0, signal=None, started=time.time(), duration=0.0)
    return conclude(site, Pending(plan, lease, result, write_all))
