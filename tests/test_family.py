"""Fan-in: a parent goes on with its children, and its answer proves which of them went in."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import pytest

from tests.stage import Stage, aynig, sh
from tests.world import GitRepo, wait_for

CONFIG = """\
states:
  gather:
    join: {{wait-for: children, need: {need}, then: collect, merge: {merge}{more}}}
    on-failure: {on_failure}
"""


def config(
    need: str = "all", merge: str = "sequential", more: str = "", on_failure: str = "broken"
) -> str:
    return CONFIG.format(need=need, merge=merge, more=more, on_failure=on_failure)


def parent(stage: Stage, settings: str, *, state: str = "gather", **scripts: str) -> str:
    files: dict[str, str | bytes | None] = {"base": "base\n"}
    files |= {f".aynig/{name}": sh(text) for name, text in scripts.items()}
    return stage.task(branch="big", state=state, config=settings, files=files)


def fan_out(*names: str, state: str = "go") -> str:
    """A script that starts children and waits for them."""
    plan = "\n".join(["tasks:", *(f"- {{name: {name}, state: {state}}}" for name in names)])
    return f"""cat >"$AYNIG_CHILDREN" <<'END'
{plan}
END
echo "aynig: gather" >"$AYNIG_RESPONSE"
"""


def child(
    repo: GitRepo,
    name: str,
    state: str,
    files: Mapping[str, str | bytes | None] | None = None,
    *,
    of: str = "big",
) -> str:
    """A child that somebody has committed by hand."""
    message = f"Please {name}\n\naynig: {state}\naynig: parent: {of}\n"
    return repo.commit(message, branch=name, parent=repo.tip(name) or repo.tip(of), files=files)


def parents_of(repo: GitRepo, rev: str) -> list[str]:
    return repo.git("rev-list", "--parents", "-1", rev).split()[1:]


def values(repo: GitRepo, rev: str, key: str) -> list[str]:
    """All values of a field of a commit, in order."""
    head = f"{key}: "
    return [
        value.removeprefix(head)
        for name, value in repo.trailers(rev)
        if name == "aynig" and value.startswith(head)
    ]


def test_a_parent_is_joined_with_exactly_the_children_that_are_done(stage: Stage) -> None:
    repo = stage.repo
    start = parent(stage, config())
    one = child(repo, "one", "done", {"one": "1\n"})
    two = child(repo, "two", "done", {"two": "2\n"})
    stage.run()
    assert repo.state("big") == "collect"
    assert parents_of(repo, "big") == [start, one, two]
    assert values(repo, "big", "joined") == [f"one@{one}", f"two@{two}"]
    assert repo.fields("big")["step"] == "join"
    for tip in (one, two):
        repo.git("merge-base", "--is-ancestor", tip, "big")
    names = repo.git("ls-tree", "-r", "--name-only", "big").split("\n")
    assert names == [".aynig/config.yaml", "base", "one", "two"]
    stage.assert_unharmed()


def test_a_parent_waits_for_its_children_and_says_for_which(stage: Stage) -> None:
    parent(stage, config())
    child(stage.repo, "one", "done")
    child(stage.repo, "two", "blocked")
    told = stage.run()
    [notice] = [n for n in told.of("hold", "big") if n.hold == "waiting"]
    assert "for 1 of 2 children: two" in notice.detail
    assert stage.status("big").hold == "waiting"


def test_a_parent_goes_on_when_its_last_child_is_done_without_being_asked(stage: Stage) -> None:
    repo = stage.repo
    parent(stage, config())
    child(repo, "one", "done", {"one": "1\n"})
    child(repo, "two", "blocked")
    with stage.live() as told:
        stage_hold = lambda: "waiting" in told.holds("big")  # noqa: E731
        wait_for(stage_hold, what="the parent to wait")
        child(repo, "two", "done", {"two": "2\n"})
        stage.wait_for_state("collect", "big")
    assert len(parents_of(repo, "big")) == 3


def test_a_child_that_comes_when_the_parent_waits_already_is_joined_too(stage: Stage) -> None:
    parent(stage, config())
    with stage.live() as told:
        wait_for(lambda: "blocked" in told.holds("big"), what="the parent to wait")
        child(stage.repo, "late", "done", {"late": "1\n"})
        stage.wait_for_state("collect", "big")
    assert values(stage.repo, "big", "joined") == [f"late@{stage.repo.tip('late')}"]


def test_children_that_are_not_done_are_left_out_and_named(stage: Stage) -> None:
    repo = stage.repo
    start = parent(stage, config(need="any"))
    one = child(repo, "one", "done", {"one": "1\n"})
    two = child(repo, "two", "failed", {"two": "2\n"})
    three = child(repo, "three", "blocked", {"three": "3\n"})
    stage.run()
    assert repo.state("big") == "collect"
    assert parents_of(repo, "big") == [start, one]
    assert values(repo, "big", "left-out") == [f"three@{three}", f"two@{two}"]
    assert "two" not in repo.git("ls-tree", "--name-only", "big").split("\n")


def test_too_many_failures_are_the_failure_of_the_parent(stage: Stage) -> None:
    repo = stage.repo
    start = parent(stage, config(need="2"))
    child(repo, "one", "failed")
    child(repo, "two", "canceled")
    child(repo, "three", "blocked")
    stage.run()
    assert repo.state("big") == "broken"
    assert parents_of(repo, "big") == [start]
    assert "one failed, two canceled" in repo.message("big").partition("\n")[0]


def test_a_policy_that_would_be_passed_over_holds_the_task(stage: Stage) -> None:
    repo = stage.repo
    start = parent(stage, config() + "    verify: [./check]\n")
    child(repo, "one", "done")
    stage.run()
    assert repo.tip("big") == start
    row = stage.status("big")
    assert row.hold == "bad-config"
    assert "states.gather.verify: expected no verify beside join" in row.detail


def test_what_a_parent_depends_on_has_to_be_done_before_its_join(stage: Stage) -> None:
    repo = stage.repo
    start = stage.task(branch="big", state="gather", config=config(), fields={"depends-on": "base"})
    child(repo, "one", "done")
    repo.commit("x\n\naynig: blocked\n", branch="base")
    with stage.live() as told:
        wait_for(lambda: "waiting" in told.holds("big"), what="the parent to wait")
        assert (repo.tip("big"), stage.status("big").detail) == (start, "for base to be done")
        repo.commit("x\n\naynig: done\n", branch="base")
        stage.wait_for_state("collect", "big")


def test_a_child_that_was_deleted_is_missed(stage: Stage) -> None:
    repo = stage.repo
    parent(stage, config(), state="split", split=fan_out("one", "two"))
    stage.run()
    repo.git("branch", "-D", "big-one")
    repo.commit("x\n\naynig: done\naynig: parent: big\n", branch="big-two")
    stage.run()
    assert repo.state("big") == "broken"
    assert "big-one gone" in repo.message("big").partition("\n")[0]


def test_a_failed_join_that_is_tried_again_looks_at_the_same_children(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = stage.repo
    monkeypatch.chdir(repo.path)
    parent(stage, config(on_failure="failed"))
    child(repo, "one", "done", {"one": "1\n"})
    child(repo, "two", "failed")
    stage.run()
    assert repo.state("big") == "failed"
    child(repo, "two", "done", {"two": "2\n"})
    assert aynig("retry", "big") == 0
    stage.run()
    assert repo.state("big") == "collect"
    assert len(values(repo, "big", "joined")) == 2


def test_children_of_an_earlier_round_are_not_joined_again(stage: Stage) -> None:
    repo = stage.repo
    again = 'echo "aynig: gather" >"$AYNIG_RESPONSE"'
    parent(stage, config(need="any"), collect=again)
    child(repo, "one", "done", {"one": "1\n"})
    child(repo, "two", "failed")
    told = stage.run()
    assert repo.state("big") == "gather"
    assert "no children were started" in told.of("hold", "big")[-1].detail
    # What becomes of one that was left out changes nothing.
    goes_on = f"x\n\naynig: done\naynig: parent: big\naynig: retry-of: {repo.tip('two')}\n"
    repo.commit(goes_on, branch="two")
    assert "no children were started" in stage.run().of("hold", "big")[-1].detail
    three = child(repo, "three", "done", {"three": "3\n"})
    stage.run()
    joined = [place for rev in rounds(repo) for place in values(repo, rev, "joined")]
    assert joined[0] == f"three@{three}"
    assert len(joined) == 2


def rounds(repo: GitRepo) -> list[str]:
    """The joins of the parent, youngest first."""
    return repo.git("log", "--first-parent", "--format=%H", "--grep=step: join", "big").split("\n")


def test_files_that_can_not_be_merged_are_a_state_of_their_own(stage: Stage) -> None:
    repo = stage.repo
    start = parent(stage, config(more=", on-conflict: untangle"))
    one = child(repo, "one", "done", {"base": "one\n", "other": "1\n"})
    two = child(repo, "two", "done", {"base": "two\n"})
    stage.run()
    assert repo.state("big") == "untangle"
    assert values(repo, "big", "conflict") == ["base"]
    assert repo.fields("big")["conflict-with"] == f"two@{two}"
    assert values(repo, "big", "unmerged") == [f"one@{one}", f"two@{two}"]
    # Nothing is half merged.
    assert parents_of(repo, "big") == [start]
    assert repo.git("rev-parse", "big^{tree}") == repo.git("rev-parse", f"{start}^{{tree}}")


def test_a_conflict_waits_for_a_person_unless_told_otherwise(stage: Stage) -> None:
    parent(stage, config())
    child(stage.repo, "one", "done", {"base": "one\n"})
    child(stage.repo, "two", "done", {"base": "two\n"})
    stage.run()
    assert stage.repo.state("big") == "stalled"
    row = stage.status("big")
    assert (row.hold, row.detail) == (
        "stalled",
        "two does not fit in: base; mend that child, then `aynig retry big` joins again",
    )


def test_a_join_with_a_conflict_is_tried_again_by_a_retry(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent(stage, config())
    child(stage.repo, "one", "done", {"base": "one\n"})
    child(stage.repo, "two", "done", {"base": "two\n", "other": "two\n"})
    stage.run()
    assert stage.repo.state("big") == "stalled"
    child(stage.repo, "two", "done", {"base": "base\n"})
    monkeypatch.chdir(stage.repo.path)
    assert aynig("retry", "big") == 0
    assert stage.repo.state("big") == "gather"
    stage.run()
    assert stage.repo.state("big") == "collect"
    assert stage.repo.git("show", "big:base", "big:other") == "one\ntwo"


def test_children_that_a_person_has_merged_need_no_merge(stage: Stage) -> None:
    """After a conflict, for instance: the same children, some of them merged by hand."""
    repo = stage.repo
    parent(stage, config(), state="split", split=fan_out("one", "two"))
    stage.run()
    one, two = (
        repo.commit(
            "x\n\naynig: done\naynig: parent: big\n", branch=f"big-{name}", files={"base": name}
        )
        for name in ("one", "two")
    )
    stage.run()
    assert repo.state("big") == "stalled"
    tree = repo.git("rev-parse", f"{one}^{{tree}}")
    merge = repo.git(
        "commit-tree", tree, "-p", "big", "-p", one, "-p", two, stdin="by hand\n\naynig: gather\n"
    )
    repo.git("update-ref", "refs/heads/big", merge)
    stage.run()
    assert repo.state("big") == "collect"
    assert parents_of(repo, "big") == [merge]
    assert len(values(repo, "big", "joined")) == 2


@pytest.mark.parametrize("way", ["none", "ours"])
def test_the_files_of_children_may_stay_out_of_what_their_commits_go_into(
    stage: Stage, way: str
) -> None:
    start = parent(stage, config(merge=way))
    one = child(stage.repo, "one", "done", {"base": "one\n"})
    two = child(stage.repo, "two", "done", {"base": "two\n"})
    stage.run()
    assert stage.repo.state("big") == "collect"
    assert parents_of(stage.repo, "big") == [start, one, two]
    assert stage.repo.git("show", "big:base") == "base"


@pytest.mark.parametrize("state", ["done", "failed", "released", "approved", "awaiting-approval"])
def test_a_child_begins_in_no_state_that_has_ended_or_is_for_people(
    stage: Stage, state: str
) -> None:
    split = f"{sys.executable} -m aynig child {state} --name one -m x"
    parent(stage, f"people-only: [released]\n{config()}", state="split", split=split)
    stage.run()
    assert stage.repo.state("big") == "failed"
    assert not stage.repo.tip("big-one")
