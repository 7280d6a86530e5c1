"""What the attempts at one commit came to: kept in its lease ref from attempt to attempt.

An attempt that failed and is to be repeated makes no commit (design section 2: history holds work
and decisions). So the record that holds the task until its next attempt tells of the earlier ones,
and the answer does in the end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from aynig.model import CRASHED, Attempt, Field
from aynig.text import escape, shorten
from aynig.usage import KEYS

# Of a clause that says why one failed; the end of its output goes with the rescue.
_WIDTH = 200
# So many are told of one by one, the youngest; of the others only the number.
MOST_TOLD = 20
_KEY = "past-"


def attempt_pairs(past: Sequence[Attempt]) -> list[tuple[str, str]]:
    """The attempts as the fields of a record."""
    told = past[-MOST_TOLD:]
    pairs = [("past", str(len(past)))] if past else []
    for number, attempt in enumerate(told, 1):
        value = json.dumps(
            [attempt.ending, attempt.changed, attempt.rescue, round(attempt.time), attempt.text]
        )
        pairs.append((f"{_KEY}{number}", value))
    return pairs


def attempts_of(fields: Mapping[str, str]) -> tuple[Attempt, ...]:
    """The attempts that `attempt_pairs` wrote; ValueError for what it did not write."""
    if "past" not in fields:
        return ()
    found = []
    for number in range(1, MOST_TOLD + 1):
        value = fields.get(f"{_KEY}{number}")
        if value is None:
            break
        match json.loads(value):
            case [str(ending), bool(changed), str(rescue), int(time), str(text)]:
                found.append(Attempt(ending, changed, rescue, float(time), text))
            case _:
                raise ValueError("no attempt")
    forgotten = min(int(fields["past"]), 10_000) - len(found)
    return (*[FORGOTTEN] * forgotten, *found)


def spent_pairs(spent: Sequence[Field]) -> list[tuple[str, str]]:
    """What they have cost as the fields of a record, each key once: `0.3 unknown`."""
    found: dict[str, list[str]] = {}
    for key, value in spent:
        found.setdefault(key, []).append(value)
    return [(key, " ".join(values)) for key, values in found.items()]


def spent_of(fields: Mapping[str, str]) -> tuple[Field, ...]:
    """What a record says that they have cost."""
    return tuple(
        Field(key, value) for key in KEYS if key in fields for value in fields[key].split()
    )


# One that only the number is left of.
FORGOTTEN = Attempt("failure", True, "", 0.0, "")


def after_crash(past: Sequence[Attempt], ended: float) -> tuple[Attempt, ...]:
    """The attempts when the runner of the last one is dead, or was cut off for a whole lease time.

    Whether it has changed anything nobody knows: what it left may be found later.
    """
    return (*past, Attempt(CRASHED, True, "", ended, "its runner died while it ran"))


def attempt_fields(past: Sequence[Attempt]) -> list[Field]:
    """Why the attempts before the last one failed, for the answer."""
    skipped = len(past) - len(past[-MOST_TOLD:])
    found = []
    for number, attempt in enumerate(past[-MOST_TOLD:], skipped + 1):
        kept = f"; kept under {attempt.rescue}" if attempt.rescue else ""
        # What is told of it is a line each; the first may say by itself how it ended.
        lines = [" ".join(line.split()) for line in attempt.text.split("\n")]
        text = "; ".join(line for line in lines if line).removeprefix(f"{attempt.ending}: ")
        text = shorten(escape(text), _WIDTH)
        found.append(Field("failed-attempt", f"{number}: {attempt.ending}: {text}{kept}"))
    return found
