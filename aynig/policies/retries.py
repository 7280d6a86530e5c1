"""When a run that was no success is started again. (`retries` of a state, exit status 75)

Without `retries` a script that asks for it is started again, EX_TEMPFAIL of sysexits(3), "the user
is invited to retry" (design section 1.4), and once more one whose result was not good enough.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

from aynig.workflow import TEMPFAIL, VERIFICATION, Retries

# What counts where a workflow says nothing: about an hour and a half of trying. A script that
# never stops asking is a failure.
ASKED = Retries(max=11, backoff=10.0, factor=2.0, jitter=0.0, on=(TEMPFAIL,))
LONGEST_ASKED = 600.0
# Whoever was judged and found wanting is told what it may know, and tries once more.
JUDGED = Retries(max=1, backoff=0.0, on=(VERIFICATION,))
# No pause that nobody has asked for is longer, whatever the factor makes of it.
LONGEST = 86_400.0


@dataclass(frozen=True, slots=True)
class RetryVerdict:
    """Start again after `delay` seconds; None: this was the last attempt."""

    delay: float | None


def judge(
    retries: Retries | None, ending: str, failed: int, asked: float | None, chance: float
) -> RetryVerdict:
    """The verdict on a run that ended as `ending` after `failed` attempts had failed before it.

    `asked` is the script's own `retry-after` in seconds, which counts as it is. `chance` is from 0
    to 1: it spreads tasks that failed together.
    """
    settings = retries or (JUDGED if ending == VERIFICATION else ASKED)
    if ending not in settings.on or failed >= settings.max:
        return RetryVerdict(None)
    if asked is not None and ending == TEMPFAIL:
        return RetryVerdict(asked)
    longest = LONGEST if retries is not None else LONGEST_ASKED
    # Powers of a factor overflow long before anybody would wait for them.
    exponent = min(failed, 64)
    pause = min(settings.backoff * math.pow(min(settings.factor, 1e4), exponent), longest)
    return RetryVerdict(pause * (1 + settings.jitter * (2 * chance - 1)))


def chance_of(trigger: str, attempt: int) -> float:
    """A number from 0 to 1 that all runners draw alike for an attempt at a commit."""
    digest = hashlib.sha256(f"{trigger} {attempt}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
