"""The same prompt again in a fresh process, until a promise is kept that the checks bear out."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.stage import Stage, aynig
from tests.world import wait_for

COUNTING = 'n=$(cat "$COUNT" 2>/dev/null || echo 0); n=$((n + 1)); echo $n >"$COUNT"\n'
PROMISE = 'echo "<promise>TASK_COMPLETE</promise>"\n'


def config(loop: str, more: str = "") -> str:
    return f"states:\n  go:\n    loop: {{{loop}}}\n{more}"


def iterations(stage: Stage) -> list[tuple[str, str]]:
    """Number and word of each iteration, the oldest first."""
    oids = stage.repo.git("rev-list", "--reverse", "--first-parent", "task", "^main").split("\n")
    found = [stage.repo.fields(oid) for oid in oids]
    return [(each["iteration"], each["loop"]) for each in found if "iteration" in each]


@pytest.mark.usefixtures("counted")
def test_a_loop_ends_with_the_promise_and_has_one_commit_an_iteration(stage: Stage) -> None:
    task = stage.task(
        COUNTING + 'echo "$AYNIG_ITERATION of $AYNIG_ITERATIONS" >>log\n[ $n != 3 ] || ' + PROMISE,
        config=config("promise: TASK_COMPLETE, max-iterations: 5", "    next: shipped\n"),
    )
    stage.run()
    assert stage.repo.state("task") == "shipped"
    assert iterations(stage) == [("1/5", "again"), ("2/5", "again"), ("3/5", "kept")]
    assert stage.repo.git("rev-list", "--count", f"{task}..task") == "3"
    assert stage.repo.git("show", "task:log") == "1 of 5\n2 of 5\n3 of 5"


def test_the_field_is_a_promise_as_well(stage: Stage) -> None:
    stage.task(
        'echo "aynig: promise: TASK_COMPLETE" >"$AYNIG_RESPONSE"',
        config=config("promise: TASK_COMPLETE, max-iterations: 5"),
    )
    stage.run()
    assert iterations(stage) == [("1/5", "kept")]


@pytest.mark.parametrize(
    "output",
    [
        "I will print <promise>TASK_COMPLETE</promise> when I am done.",
        "```\n<promise>TASK_COMPLETE</promise>\n```",
        "    <promise>TASK_COMPLETE</promise>",
        "> <promise>TASK_COMPLETE</promise>",
        "<promise>TASK_COMPLETED</promise>",
        "<promise>task_complete</promise>",
        "TASK_COMPLETE",
    ],
)
def test_a_mention_in_passing_is_no_promise(stage: Stage, output: str) -> None:
    stage.task(
        f"cat <<'END'\n{output}\nEND",
        config=config("promise: TASK_COMPLETE, max-iterations: 2, on-limit: gave-up"),
    )
    stage.run()
    assert iterations(stage) == [("1/2", "again"), ("2/2", "limit")]
    assert stage.repo.state("task") == "gave-up"


def test_a_prompt_that_is_repeated_in_the_output_is_no_promise(stage: Stage) -> None:
    message = (
        "Loop\n\nDo it. When all is done print\n\n<promise>TASK_COMPLETE</promise>\n\naynig: go\n"
    )
    stage.task(
        'echo "Prompt:"; cat "$AYNIG_BODY_FILE"; echo "working"',
        message=message,
        config=config("promise: TASK_COMPLETE, max-iterations: 1, on-limit: gave-up"),
    )
    stage.run()
    assert stage.repo.state("task") == "gave-up"


@pytest.mark.usefixtures("counted")
def test_a_promise_on_the_last_allowed_iteration_counts(stage: Stage) -> None:
    stage.task(
        COUNTING + "[ $n != 2 ] || " + PROMISE,
        config=config("promise: TASK_COMPLETE, max-iterations: 2, on-limit: gave-up"),
    )
    stage.run()
    assert stage.repo.state("task") == "done"


@pytest.mark.usefixtures("counted")
def test_a_promise_counts_only_where_the_checks_pass_and_the_iteration_is_reset(
    stage: Stage,
) -> None:
    stage.task(
        COUNTING + 'echo "$n" >>work\n[ $n = 1 ] || echo good >good\n' + PROMISE,
        config=config("promise: TASK_COMPLETE, max-iterations: 5", "    verify: [test -e good]\n"),
    )
    stage.run()
    assert iterations(stage) == [("1/5", "again"), ("2/5", "kept")]
    assert stage.repo.state("task") == "done"
    # The first iteration did not land, and is kept.
    assert stage.repo.git("show", "task:work") == "2"
    first = stage.repo.fields("task~")
    assert (first["verified"], first["failure"]) == ("0/1", "verification: 0/1")
    assert stage.repo.git("show", f"{first['rescue']}:work") == "1"


@pytest.mark.usefixtures("counted")
def test_a_failed_iteration_is_reset_and_the_next_is_told_why(stage: Stage) -> None:
    stage.task(
        COUNTING + "[ $n = 1 ] && { echo x >x; echo no space; exit 1; }\n"
        'echo "[$AYNIG_FEEDBACK]" >told\n' + PROMISE,
        config=config("promise: TASK_COMPLETE, max-iterations: 5"),
    )
    stage.run()
    assert iterations(stage) == [("1/5", "again"), ("2/5", "kept")]
    assert stage.repo.git("show", "task:told") == "[exit 1: no space]"
    assert stage.repo.git("ls-tree", "--name-only", "task", "x") == ""


PLAN = "# Plan\n\n- [ ] first\n- [ ] second\n"
CHECK = 'sed -i "0,/\\[ \\]/s/\\[ \\]/[x]/" plan.md\necho "$AYNIG_PLAN_ITEM" >>items\n'


def test_a_loop_with_a_plan_tells_the_next_item_and_ends_when_all_are_checked(
    stage: Stage,
) -> None:
    stage.task(CHECK, files={"plan.md": PLAN}, config=config("plan: plan.md, max-iterations: 9"))
    stage.run()
    assert iterations(stage) == [("1/9", "again"), ("2/9", "kept")]
    assert stage.repo.git("show", "task:items") == "first\nsecond"


def test_an_agent_that_takes_items_off_the_plan_does_not_come_to_its_end(stage: Stage) -> None:
    stage.task(
        "printf -- '- [x] first\\n' >plan.md",
        files={"plan.md": PLAN},
        config=config("plan: plan.md, max-iterations: 3, on-limit: gave-up"),
    )
    stage.run()
    assert stage.repo.state("task") == "gave-up"
    first, last = (stage.repo.message(rev).partition("\n")[0] for rev in ("task~2", "task"))
    assert first == "go -> go: iteration 1 of 3; its plan has lost 1 of 2 items"
    assert last == "go -> gave-up: 3 of 3 iterations; its plan has lost 1 of 2 items"


def test_people_edit_the_plan_in_between_and_are_obeyed(stage: Stage) -> None:
    stage.task(CHECK, files={"plan.md": PLAN}, config=config("plan: plan.md, max-iterations: 9"))
    stage.run(branches=("none",))
    assert aynig("run", "--no-follow", "--quiet") == 0
    assert iterations(stage) == [("1/9", "again")]
    stage.repo.commit(
        "Plan: one thing more\n\naynig: go\n",
        branch="task",
        files={"plan.md": "- [x] first\n- [ ] third\n"},
        parent=stage.repo.tip("task"),
    )
    stage.run()
    assert stage.repo.git("show", "task:items") == "first\nthird"
    assert iterations(stage) == [("1/9", "again"), ("2/9", "kept")]


def test_a_limit_without_a_state_of_its_own_ends_at_a_person(stage: Stage) -> None:
    stage.task("true", config=config("promise: X, max-iterations: 2, on-limit: escalate"))
    stage.run()
    assert stage.repo.state("task") == "stalled"
    assert "2 of 2 iterations" in stage.repo.message("task").split("\n")[0]
    assert aynig("retry", "task") == 0
    stage.run()
    assert len(iterations(stage)) == 4


def test_a_state_that_the_script_names_does_not_lead_out_of_a_loop(stage: Stage) -> None:
    stage.task(
        "aynig respond done", config=config("promise: X, max-iterations: 2, on-limit: gave-up")
    )
    stage.run()
    assert iterations(stage) == [("1/2", "again"), ("2/2", "limit")]
    assert stage.repo.fields("task")["overruled"] == "done"


def test_a_script_that_is_stuck_says_so_and_leaves_the_loop(stage: Stage) -> None:
    stage.task(
        'aynig respond stalled -m "Which database?"', config=config("promise: X, max-iterations: 9")
    )
    stage.run()
    assert stage.repo.state("task") == "stalled"
    assert iterations(stage) == []


def test_a_loop_goes_on_where_it_was_after_its_daemon_was_killed(
    stage: Stage, counted: Path
) -> None:
    """Iterations are counted in the history, those that were reset included."""
    import os
    import signal

    from tests.stage import daemon

    stage.task(
        COUNTING + '[ $n = 3 ] && { echo $$ >"$COUNT.pid"; exec sleep 60; }\n[ $n = 2 ] && exit 1\n'
        "[ $n != 5 ] || " + PROMISE,
        config=config("promise: TASK_COMPLETE, max-iterations: 4, on-limit: gave-up"),
    )
    with daemon(stage.repo.path) as first:
        wait_for(
            lambda: counted.with_suffix(".pid").exists() or Path(f"{counted}.pid").exists(),
            what="the third iteration",
        )
        os.kill(first.process.pid, signal.SIGKILL)
    assert iterations(stage) == [("1/4", "again"), ("2/4", "again")]
    stage.run()
    # The third was begun twice and counts once.
    assert iterations(stage)[2:] == [("3/4", "again"), ("4/4", "kept")]


HEARS = """
cat "$AYNIG_BODY_FILE" >>heard
printf 'said\n\nwords of iteration %s\n' "$AYNIG_ITERATION" >"$AYNIG_RESPONSE"
"""
PROMPT = "Loop\n\nDo it.\n\naynig: go\n"
THREE = "promise: X, max-iterations: 3"


def heard(stage: Stage) -> list[str]:
    return stage.repo.git("show", "task:heard").split("\n")


def test_each_iteration_is_given_the_same_prompt(stage: Stage) -> None:
    stage.task(HEARS, message=PROMPT, config=config(THREE))
    stage.run()
    assert heard(stage) == ["Do it."] * 3
    assert "words of iteration 3" in stage.repo.message("task")


def test_an_iteration_finds_what_the_last_one_said(stage: Stage) -> None:
    reads = "import json, os; print(json.load(open(os.environ['AYNIG_CONTEXT']))['loop']['said'])"
    script = f'{sys.executable} -c "{reads}" >>last\n{HEARS}'
    stage.task(script, message=PROMPT, config=config(THREE))
    stage.run()
    last = [line for line in stage.repo.git("show", "task:last").split("\n") if line]
    assert last == ["words of iteration 1", "words of iteration 2"]


def test_the_prompt_of_another_state_is_that_of_its_answer(stage: Stage) -> None:
    ask = "#!/bin/sh\nprintf 'x\\n\\nDo this.\\n\\naynig: go\\n' >\"$AYNIG_RESPONSE\"\n"
    message = "Ask\n\nAsk for it.\n\naynig: ask\n"
    files = {".aynig/ask": ask}
    stage.task(HEARS, message=message, files=files, config=config(THREE))
    stage.run()
    assert heard(stage) == ["Do this."] * 3


@pytest.mark.parametrize(
    ("words", "told"), [("", "Do it."), ("Do something else.\n\n", "Do something else.")]
)
def test_a_person_in_between_gives_it_another_prompt_or_keeps_it(
    stage: Stage, words: str, told: str
) -> None:
    stage.task(HEARS, message=PROMPT, config=config(THREE))
    assert aynig("run", "--no-follow", "--quiet") == 0
    stage.repo.commit(f"I say\n\n{words}aynig: go\n", branch="task")
    stage.run()
    assert heard(stage)[:3] == ["Do it.", told, told]


def test_a_retry_after_the_last_iteration_begins_with_the_same_prompt(stage: Stage) -> None:
    stage.task(HEARS, message=PROMPT, config=config("promise: X, max-iterations: 2"))
    stage.run()
    assert aynig("retry", "task") == 0
    stage.run()
    assert heard(stage) == ["Do it."] * 4


def test_a_prompt_that_is_repeated_is_no_promise_in_a_later_iteration_either(stage: Stage) -> None:
    message = "Loop\n\nWhen done print\n\n<promise>X</promise>\n\naynig: go\n"
    stage.task('cat "$AYNIG_BODY_FILE"', message=message, config=config(THREE + ", on-limit: over"))
    stage.run()
    assert stage.repo.state("task") == "over"


def test_the_answer_to_a_question_is_heard_once_and_the_prompt_stays(stage: Stage) -> None:
    script = """cat "$AYNIG_BODY_FILE" >>asked
[ -e port ] || echo "aynig: question: Which port?" >"$AYNIG_RESPONSE"
: >port"""
    stage.task(
        script,
        message="Please go\n\nPaint it.\n\naynig: go\n",
        config=config("promise: X, max-iterations: 4, on-limit: gave-up"),
    )
    stage.run()
    assert stage.repo.state("task") == "awaiting-answer"
    assert aynig("answer", "task", "-m", "8080") == 0
    stage.run()
    assert stage.repo.state("task") == "gave-up"
    asked = stage.repo.git("show", "task:asked").split("\n")
    assert asked == ["Paint it.", "8080", "Paint it.", "Paint it."]


def test_who_resumes_a_loop_does_not_begin_it_again(stage: Stage) -> None:
    stage.task(
        "true",
        config=config(
            "promise: X, max-iterations: 2, on-limit: over",
            "    breaker: {no-change: 1, pause: 1h}\n",
        ),
    )
    stage.run()
    assert stage.status().hold == "breaker"
    assert aynig("resume", "task") == 0
    stage.run()
    assert stage.repo.state("task") == "over"
    assert iterations(stage) == [("1/2", "again"), ("2/2", "limit")]
