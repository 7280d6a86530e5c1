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
# The longest between two tries at what a remote refuses: a person has to change something there.
REFUSED_DELAY = 300.0


def delay_before_start(last: float | None) -> float:
    """Seconds until the next try where no script was started; `last` is what it was before."""
    return min(last * FACTOR, LONGEST_DELAY) if last else FIRST_DELAY


def delay_after_refusal(last: float | None) -> float:
    """Seconds until an answer that a remote refused is offered again; `last` as above.

    A disk that was full for a moment is refused with the same words as a rule of the server's.
    """
    return min(last * FACTOR, REFUSED_DELAY) if last else FIRST_DELAY


def delay_after_run(attempt: int) -> float:
    """Seconds until the script is run again after attempt number `attempt` (1 is the first).

    Infinity: not before a person has looked at it.
    """
    return FIRST_DELAY * FACTOR ** (attempt - 1) if attempt < MOST_ATTEMPTS else math.inf
