"""What aynig answers itself waits for a person, where the workflow stops for one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.killing import each_step, run_killed_at
from tests.stage import Stage, aynig, sh
from tests.world import GitRepo

JOIN = """\
autonomy: {level}
states:
  gather: {{join: {{then: {then}, merge: {merge}}}, on-failure: broken}}
"""


def config(level: str = "end", then: str = "done", merge: str = "sequential") -> str:
    return JOIN.format(level=level, then=then, merge=merge)


def waits(stage: Stage, settings: str, state: str = "gather", **scripts: str) -> str:
    """A task that waits for children."""
    files: dict[str, str | bytes | None] = {"base": "base\n"}
    files |= {f".aynig/{name}": sh(text) for name, text in scripts.items()}
    return stage.task(branch="big", state=state, config=settings, files=files)


def child(
    stage: Stage, name: str, state: str = "done", files: Mapping[str, str | None] | None = None
) -> str:
    repo = stage.repo
    message = f"Please {name}\n\naynig: {state}\naynig: parent: big\n"
    given = {name: f"{name}\n"} if files is None else files
    return repo.commit(message, branch=name, parent=repo.tip(name) or repo.tip("big"), files=given)


def parents_of(repo: GitRepo, rev: str) -> list[str]:
    return repo.git("rev-list", "--parents", "-1", rev).split()[1:]


def names_in(repo: GitRepo, rev: str) -> set[str]:
    return set(repo.git("ls-tree", "--name-only", rev).split())


def values(repo: GitRepo, rev: str, key: str) -> list[str]:
    head = f"{key}: "
    said = [value for name, value in repo.trailers(rev) if name == "aynig"]
    return [value.removeprefix(head) for value in said if value.startswith(head)]


def states(repo: GitRepo, branch: str = "big") -> list[str]:
    """The states of a task, oldest first."""
    oids = repo.git("rev-list", "--first-parent", "--reverse", f"main..{branch}").split()
    return [repo.fields(oid).get("", "-") for oid in oids]


def says(stage: Stage, *words: str) -> None:
    """What a person says to a request: somebody who has made no commit before."""
    env = {"GIT_AUTHOR_NAME": "Emily", "GIT_AUTHOR_EMAIL": "emily@example.org"}
    env |= {"GIT_COMMITTER_NAME": "Emily", "GIT_COMMITTER_EMAIL": "emily@example.org"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(stage.repo.path)
        for name, value in env.items():
            patch.setenv(name, value)
        assert aynig(*words) == 0


@pytest.mark.parametrize("merge", ["sequential", "octopus", "none", "ours"])
def test_a_join_that_would_end_the_task_waits_and_merges_when_it_is_approved(
    stage: Stage, merge: str
) -> None:
    repo = stage.repo
    start = waits(stage, config(merge=merge))
    tips = [child(stage, "one"), child(stage, "two")]
    stage.run()
    request = repo.tip("big")
    assert states(repo) == ["gather", "awaiting-approval"]
    assert parents_of(repo, request) == [start]
    assert names_in(repo, request) == names_in(repo, start)
    assert repo.fields(request)["proposes"] == "done"
    takes_files = merge in ("sequential", "octopus")
    assert ("+one" in repo.message(request)) == takes_files
    assert "aynig approve big" in stage.status("big").detail
    stage.run()
    assert repo.tip("big") == request
    says(stage, "approve", "big", "-m", "Looks good")
    stage.run()
    assert states(repo) == ["gather", "awaiting-approval", "approved", "done"]
    assert parents_of(repo, "big") == [repo.git("rev-parse", "big^"), *tips]
    assert values(repo, "big", "joined") == [f"one@{tips[0]}", f"two@{tips[1]}"]
    assert values(repo, "big", "approved-by") == ["Emily <emily@example.org>"]
    brought = {"one", "two"} if takes_files else set()
    assert names_in(repo, "big") == names_in(repo, start) | brought
    stage.assert_unharmed()


def test_exactly_the_tips_that_were_asked_about_are_joined(stage: Stage) -> None:
    repo = stage.repo
    waits(stage, config().replace("{then", "{need: 2, then"))
    tips = [child(stage, "one"), child(stage, "two")]
    late = child(stage, "three", "blocked")
    stage.run()
    child(stage, "one", "done", {"one": "other\n"})
    child(stage, "three")
    says(stage, "approve", "big")
    stage.run()
    assert parents_of(repo, "big")[1:] == tips
    assert repo.git("show", "big:one") == "one"
    assert values(repo, "big", "left-out") == [f"three@{late}"]


def test_after_a_refusal_nothing_was_merged_and_the_join_may_be_tried_again(stage: Stage) -> None:
    repo = stage.repo
    start = waits(stage, config())
    tips = [child(stage, "one"), child(stage, "two")]
    stage.run()
    says(stage, "reject", "big", "-m", "Not yet")
    stage.run()
    assert repo.state("big") == "failed"
    assert names_in(repo, "big") == names_in(repo, start)
    says(stage, "retry", "big", "--from", start)
    stage.run()
    says(stage, "approve", "big")
    stage.run()
    assert repo.state("big") == "done"
    assert parents_of(repo, "big")[1:] == tips
    assert {"one", "two"} <= names_in(repo, "big")


def test_who_neither_agrees_nor_refuses_is_asked_again(stage: Stage) -> None:
    repo = stage.repo
    waits(stage, config())
    child(stage, "one")
    stage.run()
    two = child(stage, "two")
    says(stage, "answer", "big", "-m", "With the second one, please")
    stage.run()
    assert states(repo)[-3:] == ["answered", "gather", "awaiting-approval"]
    assert f"two@{two}" in values(repo, "big", "joined")


def test_the_script_after_an_approved_join_is_told_of_the_children(stage: Stage) -> None:
    """Also where that state asks for itself, before it runs."""
    repo = stage.repo
    settings = config("step", "collect") + "  collect: {risk: high}\n"
    script = 'grep -o \'"is": "[a-z-]*"\' "$AYNIG_CONTEXT" >told'
    waits(stage, settings, collect=script)
    child(stage, "one")
    for _ in range(3):
        stage.run()
        says(stage, "approve", "big")
    stage.run()
    assert states(repo) == [
        *["gather", "awaiting-approval", "approved"],
        *["collect", "awaiting-approval", "approved"],
        *["collect", "awaiting-approval", "approved", "done"],
    ]
    assert repo.git("show", "big:told") == '"is": "joined"'


def test_whoever_made_the_commits_of_a_child_may_not_approve_the_join(stage: Stage) -> None:
    repo = stage.repo
    waits(stage, config())
    env = {"GIT_AUTHOR_NAME": "Emily", "GIT_AUTHOR_EMAIL": "emily@example.org"}
    work = repo.git("commit-tree", "big^{tree}", "-p", "big", env={**repo.tick(), **env})
    repo.git("update-ref", "refs/heads/one", work)
    child(stage, "one")
    stage.run()
    with pytest.raises(AssertionError):
        says(stage, "approve", "big")
    assert repo.state("big") == "awaiting-approval"


def test_a_child_that_is_gone_when_its_join_is_approved_is_not_joined_in_part(
    stage: Stage,
) -> None:
    repo = stage.repo
    waits(stage, config())
    child(stage, "one")
    child(stage, "two")
    stage.run()
    repo.git("branch", "-D", "two")
    repo.git("reflog", "expire", "--expire=now", "--all")
    repo.git("prune", "--expire=now")
    says(stage, "approve", "big")
    stage.run()
    assert states(repo)[-3:] == ["approved", "gather", "awaiting-approval"]
    assert [value.partition("@")[0] for value in values(repo, "big", "joined")] == ["one"]


def test_files_that_do_not_fit_are_no_matter_for_approval(stage: Stage) -> None:
    repo = stage.repo
    waits(stage, config("end"))
    child(stage, "one", files={"base": "1\n"})
    child(stage, "two", files={"base": "2\n"})
    stage.run()
    assert states(repo) == ["gather", "stalled"]
    assert values(repo, "big", "conflict") == ["base"]


def test_a_join_in_vain_is_asked_about_step_by_step(stage: Stage) -> None:
    repo = stage.repo
    waits(stage, config("step", "collect"))
    child(stage, "one", "failed")
    stage.run()
    assert states(repo) == ["gather", "awaiting-approval"]
    assert repo.fields("big")["proposes"] == "broken"
    says(stage, "approve", "big")
    stage.run()
    assert states(repo)[-1] == "broken"


@pytest.mark.parametrize("level", ["step", "checkpoint"])
def test_each_child_is_told_of_when_that_is_approved(stage: Stage, level: str) -> None:
    repo = stage.repo
    settings = f"autonomy: {level}\nstates:\n  watch: {{on-child: decide, checkpoint: true}}\n"
    decide = 'grep -o \'"branch": "o[a-z]*"\' "$AYNIG_CONTEXT" >told; echo "aynig: watch" '
    waits(stage, settings, state="watch", decide=decide + '>"$AYNIG_RESPONSE"')
    one = child(stage, "one")
    stage.run()
    assert (states(repo), repo.fields("big")["proposes"]) == (
        ["watch", "awaiting-approval"],
        "decide",
    )
    says(stage, "reject", "big", "-m", "Wait")
    stage.run()
    says(stage, "retry", "big", "--from", "big~3")
    stage.run()
    # It was not told of yet.
    assert values(repo, "big", "child") == [f"one@{one}"]
    says(stage, "approve", "big")
    stage.run()
    if level == "step":
        says(stage, "approve", "big")
        stage.run()
    assert repo.state("big") == "watch"
    assert repo.git("show", "big:told") == '"branch": "one"'
    assert stage.status("big").hold == "blocked"


def test_no_task_is_done_by_itself_at_the_end_of_a_failure(stage: Stage) -> None:
    settings = "autonomy: end\nstates:\n  go: {on-failure: done}\n"
    stage.task("exit 1", branch="big", config=settings)
    stage.run()
    assert stage.repo.fields("big")["proposes"] == "done"
    says(stage, "approve", "big")
    stage.run()
    assert stage.repo.state("big") == "done"


def test_killed_at_any_step_an_approved_join_is_made_once(tmp_path: Path) -> None:
    for number, (step, when) in enumerate(each_step()):
        stage = Stage(GitRepo.init(tmp_path / f"repo-{number}"))
        waits(stage, config())
        tips = [child(stage, "one"), child(stage, "two")]
        stage.run()
        says(stage, "approve", "big")
        killed = run_killed_at(stage.repo.path, step, when)
        stage.run()
        assert states(stage.repo)[-1] == "done", (step, when)
        assert parents_of(stage.repo, "big")[1:] == tips, (step, when)
        if not killed:
            break


COMPENSATES = """\
autonomy: step
states:
  go: {compensate: undo, on-failure: broken}
  gather: {join: {then: collect}, compensate: undo, on-failure: broken}
"""
ONCE = '[ -n "$AYNIG_TRAILER_ANSWER" ] && exit 0; exit 1'


def test_a_compensation_that_nobody_approved_leads_nowhere(stage: Stage) -> None:
    """What was to follow it does not follow the run that is asked for in its place."""
    stage.task(ONCE, branch="big", config=COMPENSATES)
    stage.run()
    assert stage.repo.fields("big")["proposes"] == "undo"
    says(stage, "answer", "big", "-m", "Once more")
    stage.run()
    assert stage.repo.fields("big")["proposes"] == "done"


def test_a_join_in_vain_that_nobody_approved_leads_nowhere(stage: Stage) -> None:
    repo = stage.repo
    waits(stage, COMPENSATES, collect="true")
    child(stage, "one", "failed")
    stage.run()
    assert repo.fields("big")["proposes"] == "undo"
    child(stage, "one")
    for reply in (["answer", "big", "-m", "It is mended"], ["approve", "big"]):
        says(stage, *reply)
        stage.run()
    assert (states(repo)[-2:], repo.fields("big")["proposes"]) == (
        ["collect", "awaiting-approval"],
        "done",
    )


@pytest.mark.parametrize("corrected", [False, True])
def test_after_an_approved_compensation_the_task_goes_where_it_would_have_gone(
    stage: Stage, corrected: bool
) -> None:
    files: dict[str, str | bytes | None] = {".aynig/undo": sh("true")}
    stage.task("exit 1", branch="big", config=COMPENSATES, files=files)
    stage.run()
    says(stage, "approve", "big")
    stage.run()
    if corrected:
        says(stage, "answer", "big", "-m", "All of it")
        stage.run()
    assert states(stage.repo)[-2:] == ["undo", "awaiting-approval"]
    assert stage.repo.fields("big")["proposes"] == "broken"
