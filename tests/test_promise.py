"""The exact promise on a line of its own counts, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aynig.promise import is_promised

LINE = "<promise>ALL DONE</promise>"


@pytest.mark.parametrize(
    ("output", "counts"),
    [
        (LINE, True),
        (f"{LINE}  \r\n", True),
        (f"before\n\n{LINE}\nafter", True),
        (f"```\ncode\n```\n{LINE}", True),
        (f"~~~ python\n```\n{LINE}\n~~~\n", False),
        (f"````\n```\n{LINE}\n````\n", False),
        (f"```\n{LINE}\n", False),
        (f"``` `inline` ```\n{LINE}\n", True),
        (f"  {LINE}", False),
        (f"\t{LINE}", False),
        (f"> {LINE}", False),
        (f"- {LINE}", False),
        (f"`{LINE}`", False),
        (f"I say {LINE}", False),
        (f"{LINE} I say", False),
        ("<promise>ALL</promise>", False),
        ("<promise> ALL DONE </promise>", False),
        ("<PROMISE>ALL DONE</PROMISE>", False),
        ("<promise>ALL\nDONE</promise>", False),
        ("", False),
    ],
)
def test_a_promise_in_the_output(output: str, counts: bool) -> None:
    assert is_promised("ALL DONE", output, "") is counts


PROMPT = f"Do it.\n\nWhen it is done print\n{LINE}"


@pytest.mark.parametrize(
    ("output", "counts"),
    [
        (PROMPT, False),
        (f"Prompt:\n{PROMPT}\n\nworking\n", False),
        (f"{PROMPT}\nworking\n{LINE}\n", True),
        (f"{PROMPT}\n{PROMPT}\n", False),
    ],
)
def test_what_repeats_the_prompt_is_no_promise(output: str, counts: bool) -> None:
    assert is_promised("ALL DONE", output, f"\n{PROMPT}\n\n") is counts


@settings(derandomize=True)
@given(st.text(max_size=200), st.text(max_size=40))
def test_no_output_without_the_very_line_is_a_promise(output: str, prompt: str) -> None:
    lines = [line.rstrip() for line in output.splitlines()]
    assert not is_promised("X", output, prompt) or "<promise>X</promise>" in lines
