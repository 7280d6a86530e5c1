"""What a published hash proves of an answer, and what it does not."""

from __future__ import annotations

import string
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aynig.policies.commitment import Claim, Published, commitment_to, judge

TREE, OTHER_TREE = "a" * 40, "b" * 40
DIGEST = commitment_to(TREE, "salt")
STARTED = 1_700_000_000
CLAIM = Claim("14/17", (DIGEST,), STARTED)
BEFORE = Published(STARTED - 60)
REVEALED = replace(BEFORE, nonce="salt", tree=TREE)
LATE = replace(REVEALED, time=STARTED + 60)


@pytest.mark.parametrize(
    ("claim", "published", "word", "told"),
    [
        (CLAIM, REVEALED, "held", "as far as the clocks of both writers are right"),
        (CLAIM, replace(REVEALED, time=STARTED), "held", "as far as the clocks"),
        (CLAIM, BEFORE, "unrevealed", "not revealed yet"),
        (CLAIM, None, "broken", "no such hash was published"),
        (CLAIM, LATE, "broken", "published 60 seconds after the work began"),
        (replace(CLAIM, named=frozenset({DIGEST})), LATE, "held", "which names it"),
        (CLAIM, replace(REVEALED, nonce="pepper"), "broken", "not what was committed to"),
        (CLAIM, replace(REVEALED, tree=OTHER_TREE), "broken", "not what was committed to"),
        (replace(CLAIM, judged_by=()), REVEALED, "open", "only the runner's word"),
        (replace(CLAIM, score="18/17"), REVEALED, "broken", "its score can't be: 18/17"),
        (replace(CLAIM, score="all"), REVEALED, "broken", "its score can't be: all"),
    ],
)
def test_the_verdict_on_an_answer(
    claim: Claim, published: Published | None, word: str, told: str
) -> None:
    verdict = judge(claim, {DIGEST: published} if published else {})
    assert verdict.word == word
    assert told in " ".join(verdict.told)


def test_the_score_is_said_again() -> None:
    assert judge(CLAIM, {DIGEST: REVEALED}).told[0] == "14 of 17 checks passed"


def test_of_several_hashes_the_worst_counts() -> None:
    claim = replace(CLAIM, judged_by=(DIGEST, "f" * 64))
    assert judge(claim, {DIGEST: REVEALED}).word == "broken"
    assert judge(claim, {DIGEST: REVEALED, "f" * 64: BEFORE}).word == "unrevealed"


NONCES = st.text(string.hexdigits.lower(), min_size=1, max_size=64)
TREES = st.text("0123456789abcdef", min_size=40, max_size=40)


@settings(derandomize=True)
@given(TREES, NONCES, TREES, NONCES)
def test_another_folder_or_another_salt_has_another_hash(
    tree: str, nonce: str, other: str, salt: str
) -> None:
    same = (tree, nonce) == (other, salt)
    assert (commitment_to(tree, nonce) == commitment_to(other, salt)) == same


@settings(derandomize=True)
@given(TREES, NONCES, st.integers(0, 10**9), st.booleans())
def test_nothing_is_held_that_was_not_revealed_as_it_was_committed_to(
    tree: str, nonce: str, late: int, named: bool
) -> None:
    found = Published(STARTED - 1 + late, nonce, tree)
    claim = replace(CLAIM, named=frozenset({DIGEST} if named else ()))
    assert judge(claim, {DIGEST: found}).word == "broken"
