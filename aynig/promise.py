"""Finds the completion promise in what a script printed. Pure.

`<promise>TASK_COMPLETE</promise>` counts as a line of its own: not within a sentence, not in a code
block, not indented or quoted, and not where the program repeats the prompt that asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)", re.DOTALL)


def is_promised(promise: str, output: str, prompt: str) -> bool:
    """Is the exact promise given in the output, outside of what it merely shows?"""
    wanted = f"<promise>{promise}</promise>"
    if wanted not in output:
        return False
    lines = without_prompt([line.rstrip() for line in output.splitlines()], prompt)
    return wanted in _plain_lines(lines)


def without_prompt(lines: Sequence[str], prompt: str) -> list[str]:
    """The lines without those that repeat the prompt, as many programs do before they begin."""
    asked = [line.rstrip() for line in prompt.splitlines()]
    while asked and not asked[0]:
        del asked[0]
    while asked and not asked[-1]:
        del asked[-1]
    found: list[str] = []
    at = 0
    while at < len(lines):
        if asked and lines[at] == asked[0] and list(lines[at : at + len(asked)]) == asked:
            at += len(asked)
        else:
            found.append(lines[at])
            at += 1
    return found


def _plain_lines(lines: Sequence[str]) -> set[str]:
    """The lines outside of fenced code blocks (CommonMark 4.5).

    A fence that is never closed reaches to the end, so that what is doubtful does not count.
    """
    found: set[str] = set()
    fence = ""
    for line in lines:
        match = _FENCE.fullmatch(line)
        if match is None:
            if not fence:
                found.add(line)
        elif not fence:
            # A backtick after the opening ones makes it inline code, not a fence.
            if match[1][0] == "~" or "`" not in match[2]:
                fence = match[1]
            else:
                found.add(line)
        elif match[1][0] == fence[0] and len(match[1]) >= len(fence) and not match[2].strip():
            fence = ""
    return found
