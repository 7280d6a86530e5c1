"""When a task is tried again that an error of ours, or of the machine, has stopped.

A script that was not started may be tried for ever, ever less often. One that has run is not run
many times over for that: it may cost money, and whatever is wrong is seldom over by itself.
"""

from __future__ import annotations

import math

FIRST_DELAY = 10.0
FACTOR = 2.0
LONGEST_DELAY = 120.0
# Of a script, all attempts counted.
MOST_ATTEMPTS = 3
# Between two tries to land an answer that a remote refuses: a person has to change something there.
REFUSED_DELAY = 300.0


def delay_before_start(last: float | None) -> float:
    """Seconds until the next try where no script was started; `last` is what it was before."""
    return min(last * FACTOR, LONGEST_DELAY) if last else FIRST_DELAY


def delay_after_run(attempt: int) -> float:
    """Seconds until the script is run again after attempt number `attempt` (1 is the first).

    Infinity: not before a person has looked at it.
    """
    return FIRST_DELAY * FACTOR ** (attempt - 1) if attempt < MOST_ATTEMPTS else math.inf
