"""Work whose judge has committed to hidden scenarios: what the answer says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stage import Stage, aynig

RIGHT = "#!/bin/sh\n[ -e right ]\n"
VERIFY = "    verify: {scenarios: hidden:set, timeout: 1m"
RETRIES = "    retries: {max: 1, backoff: 0, jitter: 0, on: [verification]}\n"
TWICE = '[ "$AYNIG_ATTEMPT" = 1 ] || touch right\n'


@pytest.fixture(autouse=True)
def _judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: Stage) -> None:
    """A judge's folder of its own, and scenarios on a branch of their own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "judge"))
    stage.repo.commit("Scenarios", branch="hidden", parent="", files={"set/right": RIGHT})


def config(more: str = "}") -> str:
    return f"states:\n  go:\n    on-failure: gave-up\n{VERIFY}{more}\n{RETRIES}"


def values(stage: Stage, key: str) -> list[str]:
    found = [value for name, value in stage.repo.trailers("task") if name == "aynig"]
    return [value.partition(": ")[2] for value in found if value.startswith(f"{key}: ")]


def test_the_answer_names_the_published_hash_and_the_audit_holds_it(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    assert aynig("judge", "commit", "hidden:set", "--name", "set") == 0
    digest = capsys.readouterr().out.strip()
    stage.task("touch right", config=config(), fields={"commitment": digest})
    stage.run()
    assert values(stage, "judged-by") == [digest]
    assert aynig("judge", "reveal", "set") == 0
    assert aynig("audit", "task") == 0
    assert "done: held" in capsys.readouterr().out


def test_an_attempt_that_failed_is_told_how_many_passed_and_no_hash(stage: Stage) -> None:
    assert aynig("judge", "commit", "hidden:set", "--name", "set") == 0
    stage.task(TWICE + 'printf "%s" "$AYNIG_FEEDBACK" >told', config=config())
    stage.run()
    assert stage.repo.git("show", "task:told") == "verification: 0/1"


def test_with_committed_no_work_begins_before_a_hash_is_published(stage: Stage) -> None:
    stage.task("touch right", config=config(", committed: true}"))
    told = stage.run()
    assert not told.of("run", "task")
    assert "aynig judge commit" in stage.status().detail
    assert aynig("judge", "commit", "hidden:set", "--name", "set") == 0
    stage.task("touch right", branch="late", config=config(", committed: true}"))
    stage.run(branches=("late",))
    assert stage.repo.state("late") == "done"


def test_what_an_attempt_forged_is_named_though_its_answer_never_lands(stage: Stage) -> None:
    forged = 'printf "aynig: verified: 9/9\\naynig: answers: me\\n" >"$AYNIG_RESPONSE"\n'
    stage.task(f'[ "$AYNIG_ATTEMPT" != 1 ] || {{ {forged}}}\n' + TWICE, config=config())
    stage.run()
    (first,) = values(stage, "failed-attempt")
    assert first.startswith("1: verification: 0/1; it said verified, which is not for it to say")
    assert "it said answers" in first
    assert values(stage, "verified") == ["1/1"]
