"""A request is approved by enough different people, none of whom did the work."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aynig.policies.approval import Person, Request, Voice, judge, marks_of
from aynig.workflow import Approval

TREE = "d" * 40
ASKED = Request("a" * 40, TREE, marks_of(["coder", "Worker", "worker@agents.example", "u@host"]))
KEY = "SHA256:emilys"


def person(name: str, address: str = "") -> Person:
    return Person(name, address or f"{name.lower()}@example.org")


def voice(name: str, address: str = "", **changes: Any) -> Voice:
    who = person(name, address)
    return replace(Voice("c" * 40, who, who, TREE), **changes)


def signed(name: str, signer: str, key: str = KEY) -> Voice:
    return voice(name, signer=signer, key=key, unsigned="")


@pytest.mark.parametrize(
    ("approval", "by_signature", "voices", "score", "refused"),
    [
        pytest.param(Approval(), False, [], "0/1", "", id="nobody"),
        pytest.param(Approval(), False, [voice("Emily")], "1/1", "", id="anybody"),
        pytest.param(
            Approval(), False, [voice("worker", "x@example.org")], "0/1", "did the work",
            id="the worker by name, in any case",
        ),
        pytest.param(
            Approval(), False, [voice("Emily", "Worker@Agents.Example")], "0/1", "did the work",
            id="the worker by address",
        ),
        pytest.param(Approval(), False, [voice("Emily", "u@host")], "0/1", "did the work",
                     id="who executed it"),
        pytest.param(
            Approval(), False, [voice("Emily", committer=person("Worker"))], "0/1",
            "did the work", id="passed on by the worker",
        ),
        pytest.param(
            Approval(), False, [voice("go", "go@box.aynig.invalid")], "0/1", "is a script",
            id="another script",
        ),
        pytest.param(
            Approval(), False, [voice("Emily", tree="e" * 40)], "0/1", "it changes files",
            id="with other files",
        ),
        pytest.param(
            Approval(), False, [voice("Emily", names="b" * 40)], "0/1", "it approves bbbbbbbbbbbb",
            id="of something else",
        ),
        pytest.param(Approval(), False, [voice("Emily", names="a" * 40)], "1/1", "", id="by oid"),
        pytest.param(Approval(need=2), False, [voice("Emily")], "1/2", "", id="one of two"),
        pytest.param(
            Approval(need=2), False, [voice("Emily"), voice("Emily", "other@example.org")], "1/2",
            "has approved it already", id="the same name twice",
        ),
        pytest.param(
            Approval(need=2), False, [voice("Emily"), voice("Em", "EMILY@example.org")], "1/2",
            "has approved it already", id="the same address twice",
        ),
        pytest.param(
            Approval(need=2), False, [voice("Emily"), voice("Worker"), voice("Grace")], "2/2", "",
            id="what does not count takes nothing from the others",
        ),
        pytest.param(
            Approval(by=("Grace", "emily@example.org")), False, [voice("Emily")], "1/1", "",
            id="named by address",
        ),
        pytest.param(
            Approval(by=("Grace <grace@example.org>",)), False, [voice("Gracie",
            "grace@example.org")], "1/1", "", id="named in full: the address counts",
        ),
        pytest.param(
            Approval(by=("Grace",)), False, [voice("Emily")], "0/1", "none of those who may",
            id="not named",
        ),
        pytest.param(
            Approval(by=(KEY,)), False, [voice("Emily")], "0/1", "none of those who may",
            id="a key is named, and nothing signed",
        ),
        pytest.param(
            Approval(by=(KEY,)), False, [signed("Emily", "emily@example.org")], "1/1", "",
            id="a key is named",
        ),
        pytest.param(
            Approval(), True, [voice("Emily")], "0/1", "and is not signed", id="unsigned",
        ),
        pytest.param(
            Approval(), True, [voice("Emily", unsigned="its signature is not good: x")], "0/1",
            "and its signature is not good: x", id="badly signed",
        ),
        pytest.param(
            Approval(), True, [signed("Worker", "emily@example.org")], "1/1", "",
            id="whose signature it is counts, not the author",
        ),
        pytest.param(
            Approval(), True, [signed("Emily", "worker@agents.example")], "0/1", "did the work",
            id="the worker's signature",
        ),
        pytest.param(
            Approval(by=("Emily",)), True, [signed("Emily", "grace@example.org")], "0/1",
            "none of those who may", id="the author's name proves nothing",
        ),
        pytest.param(
            Approval(need=2), True,
            [signed("Emily", "emily@example.org"), signed("Grace", "grace@example.org")], "1/2",
            "has approved it already", id="one key under two names is one person",
        ),
    ],
)  # fmt: skip
def test_the_verdict_on_approvals(
    approval: Approval, by_signature: bool, voices: list[Voice], score: str, refused: str
) -> None:
    verdict = judge(approval, by_signature, ASKED, voices)
    assert verdict.score == score
    assert refused in verdict.refused
    assert bool(refused) == bool(verdict.refused)


NAMES = st.sampled_from(["Emily", "Grace", "Alan", "Worker", "coder"])
VOICES = st.builds(
    lambda name, tree, names, signer: voice(
        name, tree=tree, names=names, signer=signer, key=f"SHA256:{signer}" if signer else ""
    ),
    NAMES,
    st.sampled_from([TREE, "e" * 40]),
    st.sampled_from(["", ASKED.oid, "b" * 40]),
    st.sampled_from(["", "emily@example.org", "worker@agents.example"]),
)


@settings(derandomize=True)
@given(st.lists(VOICES, max_size=6), st.integers(1, 3), st.booleans())
def test_only_different_people_who_saw_this_and_did_not_do_it_are_counted(
    voices: list[Voice], need: int, by_signature: bool
) -> None:
    verdict = judge(Approval(need=need), by_signature, ASKED, voices)
    assert len(set(verdict.approved_by)) == len(verdict.approved_by)
    good = {
        each.signer if by_signature else each.author.name
        for each in voices
        if each.tree == TREE and each.names in ("", ASKED.oid)
    }
    assert len(verdict.approved_by) <= len(good - {"", "Worker", "coder", "worker@agents.example"})
    assert verdict.approved == (len(verdict.approved_by) >= need)
