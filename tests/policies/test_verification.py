"""Whether a run's result is good enough, and how much of the failures may be told."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aynig.policies.verification import Scored, judge, needs_seclusion
from aynig.workflow import ALL, ANY, Need, Scenarios, Verification

NAMES = tuple(f"s{number}" for number in range(40))


def scored(passed: int, total: int, **changes: tuple[str, ...]) -> Scored:
    failed = NAMES[: total - passed]
    outputs = tuple(f"output of {name}" for name in failed)
    return Scored(passed, total, failed, outputs, **changes)


@pytest.mark.parametrize(
    ("need", "passed", "total", "enough", "sentence"),
    [
        (ALL, 17, 17, True, "17/17 checks passed, 17 had to (all)"),
        (ALL, 16, 17, False, "only 16 of 17 checks passed, 17 had to (all)"),
        (ANY, 1, 17, True, "1/17 checks passed, 1 had to"),
        (ANY, 0, 1, False, "only 0 of 1 check passed, 1 had to"),
        (Need(count=14), 14, 17, True, "14/17 checks passed, 14 had to"),
        (Need(count=14), 13, 17, False, "only 13 of 17 checks passed, 14 had to"),
        (Need(count=20), 17, 17, False, "20 checks have to pass, and there are only 17 checks"),
        (Need(count=2), 1, 1, False, "2 checks have to pass, and there is only 1 check"),
        # 90 % of 17 is 15.3: a part of a check can't pass.
        (Need(percent=Decimal(90)), 16, 17, True, "16/17 checks passed, 16 had to (90%)"),
        (Need(percent=Decimal(90)), 15, 17, False, "only 15 of 17 checks passed, 16 had to (90%)"),
        (Need(percent=Decimal(0)), 0, 3, False, "only 0 of 3 checks passed, 1 had to (0%)"),
    ],
)
def test_what_is_enough(need: Need, passed: int, total: int, enough: bool, sentence: str) -> None:
    verdict = judge(Verification(need=need), scored(passed, total))
    assert (verdict.enough, verdict.sentence) == (enough, sentence)
    assert verdict.score == f"{passed}/{total}"


@pytest.mark.parametrize("need", [ALL, ANY, Need(count=0), Need(percent=Decimal(0))])
def test_nothing_that_was_checked_is_never_enough(need: Need) -> None:
    verdict = judge(Verification(need=need), Scored(0, 0))
    assert not verdict.enough
    assert "nothing to verify with" in verdict.unfit


def test_what_the_worker_could_have_done_better_says_nothing_of_the_checks_themselves() -> None:
    verdict = judge(Verification(), scored(1, 2))
    assert (verdict.enough, verdict.unfit) == (False, "")


def test_an_empty_folder_of_scenarios_is_never_made_good_by_other_checks() -> None:
    verdict = judge(Verification(need=ANY), scored(3, 3, empty=("'set' in judge",)))
    assert not verdict.enough
    assert verdict.sentence == verdict.unfit
    assert verdict.unfit.startswith("there is no scenario in 'set' in judge, and an empty folder")


@pytest.mark.parametrize(
    ("show", "told"),
    [
        ("score", ()),
        ("names", ("failed: s0", "failed: s1")),
        (
            "output",
            ("failed: s0", "    output of s0", "failed: s1", "    output of s1"),
        ),
    ],
)
def test_of_failures_no_more_is_told_than_the_workflow_allows(
    show: str, told: tuple[str, ...]
) -> None:
    assert judge(Verification(show=show), scored(1, 3)).told == told


def test_names_and_output_are_shown_escaped() -> None:
    seen = Scored(0, 1, ("bad\u202ename",), ("first\x1b[2J\nsecond\tline\n",))
    assert judge(Verification(show="output"), seen).told == (
        "failed: bad\\u202ename",
        "    first\\x1b[2J",
        "    second\tline",
    )


@pytest.mark.parametrize(
    ("sources", "hidden"),
    [
        ((), False),
        ((Scenarios("set"),), False),
        ((Scenarios("set", ref="judge"),), True),
        ((Scenarios("set", repository="origin"),), True),
        ((Scenarios("set"), Scenarios("set", ref="judge")), True),
    ],
)
def test_a_worker_is_secluded_where_scenarios_are_hidden_from_it(
    sources: tuple[Scenarios, ...], hidden: bool
) -> None:
    assert needs_seclusion(Verification(scenarios=sources)) == hidden
    assert not needs_seclusion(None)


NEEDS = st.one_of(
    st.just(ALL),
    st.builds(Need, count=st.integers(0, 60)),
    st.builds(Need, percent=st.decimals(0, 100, places=1)),
)
SCORES = st.integers(0, 40).flatmap(
    lambda total: st.builds(scored, st.integers(0, total), st.just(total))
)


@settings(derandomize=True)
@given(NEEDS, SCORES)
def test_one_more_check_that_passes_never_makes_it_worse(need: Need, seen: Scored) -> None:
    policy = Verification(need=need)
    if judge(policy, seen).enough:
        assert seen.passed >= 1
        for passed in range(seen.passed, seen.total + 1):
            assert judge(policy, scored(passed, seen.total)).enough


@settings(derandomize=True)
@given(NEEDS, SCORES, st.sampled_from(["score", "names"]))
def test_hidden_names_and_output_are_nowhere_in_the_verdict(
    need: Need, seen: Scored, show: str
) -> None:
    verdict = judge(Verification(need=need, show=show), seen)
    text = "\n".join([verdict.sentence, verdict.score, *verdict.told])
    assert "output of" not in text
    assert show == "names" or not any(name in text.split() for name in seen.failed)
