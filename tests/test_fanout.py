"""Fan-out: children begin with the answer of their parent, all of them or none."""

from __future__ import annotations

import sys

import pytest

from aynig.model import HEADS, RESCUES
from tests.stage import Stage, aynig
from tests.test_family import child, config, fan_out, parent, parents_of, values
from tests.world import GitRepo, wait_for

AYNIG = f"{sys.executable} -m aynig"


def branches(repo: GitRepo) -> set[str]:
    found = repo.git("for-each-ref", "--format=%(refname:lstrip=2)", HEADS).split("\n")
    return set(found) - {"main"}


def test_children_do_their_work_and_come_together(stage: Stage) -> None:
    repo = stage.repo
    work = 'cat "$AYNIG_BODY_FILE" >"$AYNIG_BRANCH"; echo "aynig: meta-size: 1" >>"$AYNIG_RESPONSE"'
    split = f"""echo part >part
{AYNIG} child go --name one -m "Do one"
{AYNIG} child go --name two -m "Do two" --after one --priority 3
echo "aynig: gather" >"$AYNIG_RESPONSE"
"""
    collect = 'cp "$AYNIG_CONTEXT" context; cat big-* >all'
    parent(stage, config(), state="split", split=split, go=work, collect=collect)
    stage.run()
    assert repo.state("big") == "done"
    join = repo.git("rev-parse", "big^")
    answer, one, two = parents_of(repo, join)
    assert (one, two) == (repo.tip("big-one"), repo.tip("big-two"))
    assert values(repo, answer, "child") == ["big-one", "big-two"]
    assert repo.fields(answer)["children"] == "2"
    first = repo.git("rev-parse", "big-one~1")
    assert parents_of(repo, first) == [answer]
    assert repo.fields(first) == {"": "go", "parent": "big"}
    second = repo.fields("big-two~1")
    assert second == {"": "go", "parent": "big", "depends-on": "big-one", "priority": "3"}
    assert repo.git("show", "big:all") == "Do one\nDo two"
    assert repo.git("show", "big:part") == "part"
    context = repo.git("show", "big:context")
    assert f'"branch": "big-one", "is": "joined", "oid": "{one}"' in context
    assert '"meta-size": ["1"]' in context
    assert repo.git("for-each-ref", RESCUES) == ""
    stage.assert_unharmed()


def test_a_run_that_fails_starts_no_children_and_says_so(stage: Stage) -> None:
    repo = stage.repo
    parent(stage, config(), state="split", split=fan_out("one") + "exit 1")
    stage.run()
    assert branches(repo) == {"big"}
    assert "None of the children that it asked for was started." in repo.message("big")
    assert "child" not in repo.fields("big")


def test_a_run_that_asks_a_question_starts_its_children_when_it_has_the_answer(
    stage: Stage,
) -> None:
    repo = stage.repo
    ask = '[ -n "$AYNIG_TRAILER_ANSWER" ] || echo "aynig: question: How?" >"$AYNIG_RESPONSE"'
    parent(stage, config(), state="split", split=f"{fan_out('one')}{ask}", go="true")
    stage.run()
    assert (repo.state("big"), branches(repo)) == ("awaiting-answer", {"big"})
    assert "None of the children that it asked for was started." in repo.message("big")
    repo.commit("Like this\n\naynig: answered\n", branch="big")
    stage.run()
    assert (repo.state("big"), branches(repo)) == ("collect", {"big", "big-one"})


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        pytest.param("name: a", "expected the key state", id="malformed"),
        pytest.param("name: a, state: go, from: main", "begins at the answer", id="from"),
        pytest.param("name: a, state: go, after: big", "its parent", id="its parent"),
        pytest.param("name: a, state: go, after: nope", "no task 'nope'", id="unknown"),
        pytest.param("name: taken, state: go", "'big-taken' of a child exists", id="taken"),
        pytest.param("name: b/c, state: go", "beside those", id="below a branch"),
        pytest.param("name: x, branch: dir, state: go", "beside those", id="a folder"),
        pytest.param("name: a, state: go, fields: {parent: x}", "only aynig writes", id="forged"),
    ],
)
def test_a_plan_that_can_not_be_is_a_failure_that_starts_nothing(
    stage: Stage, plan: str, why: str
) -> None:
    repo = stage.repo
    for name in ("big-taken", "big-b", "dir/x"):
        repo.commit("a person's", branch=name)
    before = branches(repo)
    split = f"""echo 'tasks: [{{{plan}}}]' >"$AYNIG_CHILDREN"
echo "aynig: gather" >"$AYNIG_RESPONSE" """
    parent(stage, config(), state="split", split=split)
    stage.run()
    assert repo.state("big") == "failed"
    assert why in repo.fields("big")["fault"]
    assert branches(repo) == before | {"big"}


@pytest.mark.parametrize(
    ("limits", "names", "why"),
    [
        pytest.param("each: 2", "a b c", "asked for 3 children, the limit is 2", id="of one"),
        pytest.param("depth: 0", "a", "asked for 1 child at depth 1, the limit is 0", id="deep"),
        pytest.param("total: 2", "a b c", "the limit of all that come of one task is 2", id="all"),
    ],
)
def test_more_children_than_allowed_are_refused_whole(
    stage: Stage, limits: str, names: str, why: str
) -> None:
    settings = f"children: {{{limits}}}\n" + config()
    parent(stage, settings, state="split", split=fan_out(*names.split()))
    stage.run()
    assert stage.repo.state("big") == "failed"
    assert why in stage.repo.message("big").partition("\n")[0]
    assert branches(stage.repo) == {"big"}


def test_a_million_children_are_not_even_read(stage: Stage) -> None:
    split = """echo tasks: >"$AYNIG_CHILDREN"
yes -- '- {name: x, state: go}' | head -n 1000000 >>"$AYNIG_CHILDREN"
echo "aynig: gather" >"$AYNIG_RESPONSE"
"""
    parent(stage, config(), state="split", split=split)
    stage.run()
    assert stage.repo.fields("big")["fault"] == "asked for 1,000,000 children, the limit is 20"
    assert branches(stage.repo) == {"big"}


def test_a_plan_without_an_end_is_not_read(stage: Stage) -> None:
    split = 'truncate -s 1T "$AYNIG_CHILDREN"; echo "aynig: gather" >"$AYNIG_RESPONSE"'
    parent(stage, config(), state="split", split=split)
    stage.run()
    assert stage.repo.fields("big")["fault"] == (
        "its plan of children has more than 33,554,432 bytes, the limit is 1,048,576"
    )


def test_what_a_script_says_of_children_itself_is_not_believed(stage: Stage) -> None:
    """Nor whose child its task is: it would be joined with whatever it chose."""
    repo = stage.repo
    lies = ["joined: x@1", "left-out: one@1", "child: x", "step: join", "parent: other"]
    text = "".join(f'echo "aynig: {lie}" >>"$AYNIG_RESPONSE"\n' for lie in lies)
    parent(stage, config(), state="split", split=text)
    stage.run()
    assert repo.state("big") == "done"
    assert repo.fields("big").keys().isdisjoint({"joined", "left-out", "child", "step", "parent"})


def test_grandchildren_come_together_too(stage: Stage) -> None:
    repo = stage.repo
    go = f"""case $AYNIG_BRANCH in
*-*-*) echo "$AYNIG_BRANCH" >"$AYNIG_BRANCH" ;;
*) {AYNIG} child go --name x; {AYNIG} child go --name y; {AYNIG} respond gather ;;
esac"""
    split = fan_out("one", "two")
    parent(stage, config(), state="split", split=split, go=go, collect="exit 0")
    stage.run()
    assert repo.state("big") == "done"
    for name in ("one", "two"):
        for leaf in ("x", "y"):
            repo.git("merge-base", "--is-ancestor", f"big-{name}-{leaf}", "big")
            assert repo.git("show", f"big:big-{name}-{leaf}") == f"big-{name}-{leaf}"


def test_a_new_task_on_the_branch_has_nothing_to_do_with_the_children_of_the_old_one(
    stage: Stage,
) -> None:
    repo = stage.repo
    split = f'{AYNIG} child go --name "$AYNIG_BODY"; {AYNIG} respond gather'
    go = '[ "$AYNIG_BRANCH" != big-one ]'
    settings = config(on_failure="failed")
    parent(stage, settings, state="idle", split=split, go=go)
    for name, end in (("one", "failed"), ("two", "collect")):
        repo.commit(f"x\n\n{name}\n\naynig: split\n", branch="big")
        stage.run()
        assert repo.state("big") == end
    assert values(repo, "big", "joined") == [f"big-two@{repo.tip('big-two')}"]


# --- limits of what comes by hand ----------------------------------------------------------------


def test_children_by_hand_are_held_on_top_of_what_is_allowed(stage: Stage) -> None:
    repo = stage.repo
    parent(stage, "children: {each: 2}\n" + config(), go="exit 0")
    for name in ("one", "two", "three"):
        child(repo, name, "go")
    told = stage.run()
    assert [repo.state(name) for name in ("one", "two", "three")] == ["done", "done", "go"]
    [hold] = told.of("hold", "three")
    assert hold.hold == "blocked"
    assert hold.detail == "big has 2 children before it, the limit is 2"
    repo.git("branch", "-D", "one")
    stage.run()
    assert repo.state("three") == "done"


def test_a_task_that_is_its_own_ancestor_is_held_with_words(stage: Stage) -> None:
    repo = stage.repo
    stage.task("exit 0", branch="a", fields={"parent": "b"})
    stage.task("exit 0", branch="b", fields={"parent": "a"})
    told = stage.run()
    assert (repo.state("a"), repo.state("b")) == ("go", "go")
    [hold] = told.of("hold", "a")
    assert hold.detail == "it is its own ancestor: a -> b -> a"


# --- a parent that is canceled -------------------------------------------------------------------


def test_a_canceled_parent_cancels_its_children_and_theirs_and_stops_their_scripts(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = stage.repo
    monkeypatch.chdir(repo.path)
    parent(stage, config(), go="touch started; sleep 3600", gone="exit 0")
    child(repo, "one", "go")
    child(repo, "two", "done")
    child(repo, "three", "go", of="one")
    child(repo, "four", "stalled")
    ended = repo.tip("two")
    with stage.live(grace=60.0) as told:
        wait_for(lambda: len(told.of("run")) == 2, what="the scripts of one and three")
        assert aynig("cancel", "big", "-m", "no time for it") == 0
        for name in ("one", "three", "four"):
            stage.wait_for_state("canceled", name)
    assert repo.tip("two") == ended
    fields = repo.fields("three")
    assert fields["canceled-by"] == f"one@{repo.tip('one')}"
    assert fields["cancels"] == repo.git("rev-parse", "three^")
    assert "its parent one was canceled" in repo.message("three")
    assert "canceled: no time for it (by Ada Author)" in repo.message("one")
    stage.assert_unharmed()


def test_a_child_that_is_taken_up_again_goes_on_without_its_parent(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = stage.repo
    monkeypatch.chdir(repo.path)
    parent(stage, config(), go="exit 0")
    child(repo, "one", "go")
    aynig("cancel", "big")
    stage.run()
    assert repo.state("one") == "canceled"
    assert aynig("retry", "one") == 0
    stage.run()
    assert repo.state("one") == "done"


def test_children_go_on_without_a_parent_that_is_gone(stage: Stage) -> None:
    repo = stage.repo
    parent(stage, config(), go="exit 0")
    child(repo, "one", "go")
    repo.git("branch", "-D", "big")
    stage.run()
    assert repo.state("one") == "done"


@pytest.mark.parametrize(("word", "end"), [("approve", "done"), ("reject", "canceled")])
def test_children_of_an_answer_that_is_only_proposed_wait_for_its_approval(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, word: str, end: str
) -> None:
    repo = stage.repo
    monkeypatch.chdir(repo.path)
    settings = config() + "  split: {risk: medium}\n"
    parent(stage, settings, state="split", split=fan_out("one"), go="exit 0")
    with stage.live() as told:
        wait_for(lambda: told.holds("big-one") == ["proposed"], what="the child to be held")
        assert repo.state("big") == "awaiting-approval"
        monkeypatch.setenv("GIT_AUTHOR_NAME", "Paula Person")
        monkeypatch.setenv("GIT_AUTHOR_EMAIL", "paula@example.org")
        assert aynig(word, "big", "-m", "so be it") == 0
        stage.wait_for_state(end, "big-one")
    if word == "approve":
        assert stage.wait_for_state("collect", "big")


# --- a parent that decides after each child ------------------------------------------------------

SUPERVISED = """\
states:
  watch:
    on-child: decide
"""


def test_a_supervisor_decides_after_each_child_and_starts_more(stage: Stage) -> None:
    repo = stage.repo
    decide = f"""count=$(cat count 2>/dev/null || echo 0); count=$((count + 1)); echo $count >count
echo "$AYNIG_TRAILER_CHILD $AYNIG_TRAILER_CHILD_STATE" >>told
case $count in
1) {AYNIG} child go --name three; {AYNIG} respond watch ;;
3) {AYNIG} respond done ;;
*) {AYNIG} respond watch ;;
esac"""
    go = '[ "$AYNIG_BRANCH" != big-two ]'
    split = fan_out("one", "two").replace("gather", "watch")
    parent(stage, SUPERVISED, state="split", split=split, decide=decide, go=go)
    stage.run()
    assert repo.state("big") == "done"
    told = dict(line.split() for line in repo.git("show", "big:told").split("\n"))
    assert told == {
        f"big-one@{repo.tip('big-one')}": "done",
        f"big-two@{repo.tip('big-two')}": "failed",
        f"big-three@{repo.tip('big-three')}": "done",
    }
    assert '"children"' not in repo.message("big")


def test_a_supervisor_may_cancel_the_children_that_it_needs_no_more(stage: Stage) -> None:
    repo = stage.repo
    decide = f"{AYNIG} cancel two; {AYNIG} respond done"
    parent(stage, SUPERVISED, state="watch", decide=decide)
    child(repo, "one", "done")
    child(repo, "two", "stalled")
    stage.run()
    assert (repo.state("big"), repo.state("two")) == ("done", "canceled")
    assert repo.fields("two").keys().isdisjoint({"canceled-by"})
    stage.assert_unharmed()


def test_all_that_come_of_one_task_are_limited(stage: Stage) -> None:
    """Also those that each of its parents may have."""
    repo = stage.repo
    parent(stage, "children: {total: 2}\n" + config(), go="exit 0")
    child(repo, "one", "stalled")
    child(repo, "two", "go", of="one")
    child(repo, "three", "go", of="two")
    [hold] = stage.run().of("hold", "three")
    assert hold.detail == "2 tasks that come of big go before it, the limit is 2"
    assert repo.state("two") == "done"


def test_a_supervisor_that_waits_for_nothing_says_so(stage: Stage) -> None:
    repo = stage.repo
    parent(stage, SUPERVISED, state="watch", decide=f"{AYNIG} respond watch")
    child(repo, "one", "done")
    told = stage.run()
    assert repo.state("big") == "watch"
    assert "goes on waiting" in told.of("hold", "big")[-1].detail


def test_a_join_counts_when_all_were_told_of(stage: Stage) -> None:
    repo = stage.repo
    settings = config() + "    on-child: decide\n"
    parent(stage, settings, decide=f"{AYNIG} respond gather")
    child(repo, "one", "done")
    child(repo, "two", "done")
    stage.run()
    assert repo.state("big") == "collect"
    steps = repo.git("log", "--first-parent", "--format=%(trailers:key=aynig,valueonly)", "big")
    assert [line for line in steps.split("\n") if line.startswith("step: ")] == [
        "step: join",
        "step: on-child",
        "step: on-child",
    ]


def test_a_supervisor_replaces_a_child_that_failed_before_its_join_gives_up(stage: Stage) -> None:
    repo = stage.repo
    settings = config(need="2") + "    on-child: decide\n"
    decide = f"""case "$AYNIG_TRAILER_CHILD" in
big-one@*) {AYNIG} child go --name two ;;
big-two@*) {AYNIG} child go --name three ;;
esac
echo "aynig: gather" >"$AYNIG_RESPONSE" """
    go = '[ "$AYNIG_BRANCH" != big-one ]'
    parent(stage, settings, state="split", split=fan_out("one"), decide=decide, go=go)
    stage.run()
    assert repo.state("big") == "collect"
    assert values(repo, "big", "joined") == [
        f"{name}@{repo.tip(name)}" for name in ("big-three", "big-two")
    ]
