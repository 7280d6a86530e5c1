"""Agents that the workflow declares: their programs, their identity, and whose a task is."""

from __future__ import annotations

import pytest

from tests.stage import Stage, sh
from tests.world import GitRepo

CONFIG = """
agents:
  coder:
    role: developer
    command: [agents/coder, --fast, "two words"]
    identity: "Coder <coder@agents.example>"
  writer: {}
states:
  build:
    agent: coder
  stalled:
    agent: coder
"""
PROGRAM = """
printf '%s\\n' "$AYNIG_STATE" "$AYNIG_ROLE" "$@" >ran
git add ran && git commit --quiet -m "by the agent"
"""


def fields(repo: GitRepo, rev: str) -> dict[str, str]:
    pairs = [value.partition(": ") for key, value in repo.trailers(rev) if key == "aynig"]
    return {key: value for key, _, value in pairs}


def task(stage: Stage, script: str | None, **more: object) -> None:
    files = {".aynig/agents/coder": sh(PROGRAM)}
    stage.task(script, config=CONFIG, files=files, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(("state", "owner"), [("build", None), ("go", "coder"), ("stalled", None)])
def test_the_program_of_its_agent_runs_in_the_place_of_a_states_script(
    stage: Stage, state: str, owner: str | None
) -> None:
    assigned = {"assigned-to": owner} if owner else {}
    task(stage, "exit 1", state=state, fields=assigned)
    stage.run()
    repo = stage.repo
    assert repo.state("task") == "done"
    assert repo.git("show", "task:ran").split("\n") == [state, "developer", "--fast", "two words"]
    assert fields(repo, "task")["agent"] == "coder"
    assert repo.git("log", "-1", "--format=%an <%ae> %cn", "task^") == (
        "Coder <coder@agents.example> Coder"
    )
    blob = repo.git("rev-parse", "task:.aynig/agents/coder")
    assert fields(repo, "task")["script"] == blob


def test_another_owner_takes_a_task_from_the_agent_of_its_state(stage: Stage) -> None:
    task(stage, "exit 0", state="build", fields={"assigned-to": "writer"})
    stage.run()
    assert stage.repo.state("task") == "done"
    assert fields(stage.repo, "task")["agent"] == "writer"
    assert stage.repo.git("log", "--format=%s", "task").count("by the agent") == 0


def test_whoever_assigns_a_task_that_waits_for_a_person_starts_nothing(stage: Stage) -> None:
    task(stage, None, state="blocked", fields={"assigned-to": "coder"})
    stage.run()
    assert stage.repo.state("task") == "blocked"


def test_a_program_that_is_missing_or_can_not_run_is_named(stage: Stage) -> None:
    stage.task(None, state="build", config=CONFIG)
    row = stage.status()
    assert (row.hold, row.detail) == ("missing-script", "no script .aynig/agents/coder")
    stage.task(None, state="build", files={".aynig/agents/coder": "text"})
    assert stage.status().hold == "not-executable"


def test_a_task_stays_whose_it_is_as_long_as_its_state_is_the_same(stage: Stage) -> None:
    script = """
n=$(git log --format=%s | grep -c 'go -> go')
[ "$n" = 2 ] && echo 'aynig: assigned-to: bob' >>"$AYNIG_RESPONSE"
[ "$n" -lt 3 ] && echo 'aynig: go' >>"$AYNIG_RESPONSE"
exit 0
"""
    stage.task(script, fields={"assigned-to": "writer"})
    stage.run()
    owners = [fields(stage.repo, f"task~{back}").get("assigned-to") for back in (3, 2, 1, 0)]
    assert owners == ["writer", "writer", "bob", None]


@pytest.mark.parametrize(
    ("flags", "takes"),
    [
        ({"agent": "coder"}, True),
        ({"agent": "bob", "roles": ("developer",)}, True),
        ({"agent": "bob", "roles": ("coder",)}, True),
        ({"agent": "bob", "roles": ("tester",)}, False),
        ({"agent": "bob"}, False),
    ],
)
def test_a_runner_takes_the_tasks_of_the_agent_that_it_is_or_whose_role_it_has(
    stage: Stage, flags: dict[str, object], *, takes: bool
) -> None:
    task(stage, "exit 0", state="build")
    told = stage.run(**flags)
    assert (stage.repo.state("task") == "done") == takes
    assert told.holds("task") == ([] if takes else ["assigned"])
