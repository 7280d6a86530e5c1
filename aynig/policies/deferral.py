"""When a script that asked for a later retry (exit status 75) is started again.

Reference: EX_TEMPFAIL of sysexits(3), "the user is invited to retry"; design section 1.4.
"""

from __future__ import annotations

from dataclasses import dataclass

FIRST_DELAY = 10.0
FACTOR = 2.0
LONGEST_DELAY = 600.0
# A script that never stops asking is a failure: about an hour and a half of trying.
MOST_ATTEMPTS = 12


@dataclass(frozen=True, slots=True)
class RetryVerdict:
    """Start again after `delay` seconds; None: it has asked often enough and has failed."""

    delay: float | None


def judge(attempt: int, asked: float | None) -> RetryVerdict:
    """The verdict after attempt number `attempt` (1 is the first) ended with exit status 75.

    `asked` is the script's own `retry-after` in seconds, which counts as it is; else the delay
    doubles from attempt to attempt.
    """
    if attempt >= MOST_ATTEMPTS:
        return RetryVerdict(None)
    if asked is not None:
        return RetryVerdict(asked)
    return RetryVerdict(min(FIRST_DELAY * FACTOR ** (attempt - 1), LONGEST_DELAY))
