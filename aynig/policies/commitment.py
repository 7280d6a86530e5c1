"""Commit and reveal: were hidden scenarios fixed before the work that they judge began?

The judge publishes a hash of the scenarios first and says later what it was made of. The hash is
salted: without that, whoever can guess the scenarios could try out whether they guessed right.

What a time proves is little, because whoever writes a commit chooses it. That a hash was published
first is beyond doubt only where a commit at or before the beginning of the work names it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from aynig.text import counted, escape

# The words of an audit: all holds; not revealed yet; something is wrong; nothing was committed to.
HELD, UNREVEALED, BROKEN, OPEN = "held", "unrevealed", "broken", "open"

_SCORE = re.compile(r"(\d{1,9})/(\d{1,9})")
_SHOWN = 12


def commitment_to(tree: str, nonce: str) -> str:
    """The hash of a folder of scenarios: 64 hexadecimal digits.

    `tree` is the oid of the folder, which git makes of all names, modes and contents in it.
    """
    text = "\n".join(("aynig scenarios", nonce, tree, ""))
    return hashlib.sha256(text.encode("ascii", "backslashreplace")).hexdigest()


@dataclass(frozen=True, slots=True)
class Published:
    """What the record of a commitment says; nonce and tree are empty until it is revealed."""

    # Committer time of the first record, by its writer's clock.
    time: int
    nonce: str = ""
    tree: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """What an answer says of its verification, and what is known of its beginning."""

    # As in `verified: 14/17`.
    score: str
    # The hashes of the scenarios that judged.
    judged_by: tuple[str, ...]
    # Committer time of the commit that the work began with.
    started: int
    # The hashes that this commit, or one before it in the task, names.
    named: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class AuditVerdict:
    """A word for programs, and a sentence for each thing that was found."""

    word: str
    told: tuple[str, ...]


def judge(claim: Claim, published: Mapping[str, Published]) -> AuditVerdict:
    """The verdict on one answer; `published` are all commitments that were found, by hash."""
    score = _SCORE.fullmatch(claim.score)
    if score is None or int(score[1]) > int(score[2]):
        return AuditVerdict(BROKEN, (f"its score can't be: {escape(claim.score)}",))
    told = [f"{score[1]} of {counted(int(score[2]), 'check')} passed"]
    if not claim.judged_by:
        told.append(
            "nothing was committed to before the work: only the runner's word stands for it"
        )
        return AuditVerdict(OPEN, tuple(told))
    words = set()
    for digest in claim.judged_by:
        word, why = _of_one(digest, claim, published.get(digest))
        words.add(word)
        told.append(f"scenarios {escape(digest[:_SHOWN])}: {why}")
    return AuditVerdict(
        next(word for word in (BROKEN, UNREVEALED, HELD) if word in words), tuple(told)
    )


def _of_one(digest: str, claim: Claim, found: Published | None) -> tuple[str, str]:
    if found is None:
        return BROKEN, "no such hash was published"
    if digest in claim.named:
        when = "published before the work began, which names it"
    elif found.time <= claim.started:
        when = "published before the work began, as far as the clocks of both writers are right"
    else:
        late = found.time - claim.started
        return BROKEN, f"published {counted(late, 'second')} after the work began"
    if not found.nonce:
        return UNREVEALED, f"{when}; not revealed yet"
    if commitment_to(found.tree, found.nonce) != digest:
        return BROKEN, f"{when}; what was revealed is not what was committed to"
    return HELD, f"{when}; what was revealed, tree {escape(found.tree[:_SHOWN])}, is what it says"
