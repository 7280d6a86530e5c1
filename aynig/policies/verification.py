"""Is what a run left good enough? The worker is never the judge: aynig counts, and this decides.

Commands and scenarios count alike. Nothing that was checked is nothing that was verified: where
there is no check at all, or a source that should hold scenarios is empty, it is never enough.
"""

from __future__ import annotations

from dataclasses import dataclass

from aynig.text import counted, escape
from aynig.workflow import Verification

NAMES = "names"
OUTPUT = "output"


@dataclass(frozen=True, slots=True)
class Scored:
    """How the checks of one verification went.

    `failed` are the names of those that did not pass, `outputs` what each of them printed at its
    end (none, or as many as `failed`). `empty` are the folders without a single scenario, in words.
    """

    passed: int
    total: int
    failed: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VerdictOfVerification:
    """`told` are lines that the answer and the worker may see; `sentence` names no check.

    `unfit` says why no result could have passed; empty where it is the worker's doing.
    """

    enough: bool
    # As in `verified: 14/17`.
    score: str
    told: tuple[str, ...]
    sentence: str
    unfit: str = ""


def needs_seclusion(settings: Verification | None) -> bool:
    """Are there scenarios that the worker must not come across in its worktree?

    Those of another repository as well: its branches may have been fetched into this one, and a
    worktree shows how its remotes are reached.
    """
    return settings is not None and any(
        source.ref or source.repository for source in settings.scenarios
    )


def judge(settings: Verification, scored: Scored) -> VerdictOfVerification:
    """The verdict on a score, by `need` and `show` of the settings."""
    # A need of nothing would make a verification that can't fail.
    needed = max(settings.need.of(scored.total), 1)
    score = f"{scored.passed}/{scored.total}"
    unfit = _unfit(scored, needed)
    problem = unfit or _problem(settings, scored, needed)
    sentence = problem or f"{score} checks passed, {_need(settings, needed)}"
    return VerdictOfVerification(not problem, score, _told(settings.show, scored), sentence, unfit)


def _unfit(scored: Scored, needed: int) -> str:
    """What is wrong with the verification itself."""
    if scored.empty:
        where = ", ".join(escape(folder) for folder in scored.empty)
        return f"there is no scenario in {where}, and an empty folder is never a success"
    if not scored.total:
        return "there was nothing to verify with: no command, and no scenario in any source"
    if needed > scored.total:
        total = counted(scored.total, "check")
        return f"{needed} checks have to pass, and there {_is(scored.total)} only {total}"
    return ""


def _problem(settings: Verification, scored: Scored, needed: int) -> str:
    if scored.passed < needed:
        return (
            f"only {scored.passed} of {counted(scored.total, 'check')} passed, "
            f"{_need(settings, needed)}"
        )
    return ""


def _need(settings: Verification, needed: int) -> str:
    said, plain = str(settings.need), str(needed)
    return f"{plain} had to" if said in (plain, "any") else f"{plain} had to ({said})"


def _is(number: int) -> str:
    return "is" if number == 1 else "are"


def _told(show: str, scored: Scored) -> tuple[str, ...]:
    """What may be known of the failures: a worker must not learn hidden scenarios from them."""
    if show not in (NAMES, OUTPUT):
        return ()
    names = [f"failed: {escape(name)}" for name in scored.failed]
    if show == NAMES or not scored.outputs:
        return tuple(names)
    found: list[str] = []
    for name, output in zip(names, scored.outputs, strict=True):
        found.append(name)
        found += [f"    {escape(line, keep=chr(9))}" for line in output.rstrip().splitlines()]
    return tuple(found)
