"""Hostile and clumsy scripts: whatever they do, the run ends, nothing is lost, others go on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aynig.model import RESCUES
from tests.chaos.world import children_of, resident_mb
from tests.stage import UNFENCED, Stage, Told, aynig, daemon
from tests.world import wait_for

OK = "exit 0"


def run_beside_another(stage: Stage, script: str, **more: object) -> Told:
    """Run a task with this script, and a harmless one before and after it in the same engine."""
    stage.task(script, **more)  # type: ignore[arg-type]
    stage.task("echo before >before", branch="a")
    stage.task("echo after >after", branch="z")
    told = stage.run(jobs="1")
    assert stage.repo.state("a") == stage.repo.state("z") == "done"
    assert stage.repo.git("show", "z", "--name-only", "--format=") == "after"
    stage.assert_unharmed()
    return told


def fault(stage: Stage) -> str:
    """The fault that the answer names."""
    return stage.repo.fields("task").get("fault", "")


def rescued(stage: Stage) -> str:
    """The oid of what was kept of the run that the tip of the task answers."""
    fields = stage.repo.fields("task")
    assert fields["rescue"] == RESCUES + fields["run"]
    return stage.repo.git("rev-parse", fields["rescue"])


# --- what it does to its worktree ----------------------------------------------------------------

DESTRUCTIVE = {
    "its worktree": 'rm -rf "$PWD"',
    "all in it": "rm -rf ./* ./.[!.]*",
    "its own git directory": 'rm -rf "$(git rev-parse --git-dir)"',
    "its HEAD": 'rm "$(git rev-parse --git-dir)/HEAD"',
    "the text of its HEAD": 'echo nonsense >"$(git rev-parse --git-dir)/HEAD"',
    "an oid that is none": 'printf "%040d\\n" 7 >"$(git rev-parse --git-dir)/HEAD"',
    "its index": 'echo nonsense >"$(git rev-parse --git-dir)/index"; echo x >x',
    "a worktree that is a file": "cd .. && rm -rf tree && echo x >tree",
    "a worktree that is a link": "cd .. && rm -rf tree && ln -s /usr tree",
    "a repository inside": "git init -q inside && cd inside && git commit -q --allow-empty -m x",
}


@pytest.mark.parametrize("script", DESTRUCTIVE.values(), ids=DESTRUCTIVE)
def test_a_script_that_destroys_what_it_was_lent_fails_and_spoils_nothing(
    stage: Stage, script: str
) -> None:
    oid = stage.task(script, branch="task", files={"file": "file\n"})
    run_beside_another(stage, script)
    assert stage.repo.state("task") in ("failed", "done")
    assert stage.repo.git("merge-base", "task", oid) == oid
    assert stage.repo.git("status", "--porcelain") == ""
    assert Path("/usr/bin").is_dir()


@pytest.mark.parametrize(
    "script",
    [
        pytest.param('rm -rf "$PWD"', id="worktree"),
        pytest.param('rm "$(git rev-parse --git-dir)/HEAD"', id="HEAD"),
        pytest.param("git init -q x && cd x && git commit -q --allow-empty -m x", id="nested"),
    ],
)
def test_success_that_can_not_be_read_off_the_worktree_is_a_failure(
    stage: Stage, script: str
) -> None:
    run_beside_another(stage, script)
    assert stage.repo.state("task") == "failed"
    assert fault(stage)


def test_the_link_file_of_the_worktree_is_no_part_of_the_work(stage: Stage) -> None:
    run_beside_another(stage, "rm .git; echo more >more")
    assert stage.repo.state("task") == "done"
    assert stage.repo.git("show", "task", "--name-only", "--format=") == "more"


def test_git_without_the_link_file_finds_no_repository_above(stage: Stage) -> None:
    run_beside_another(stage, "rm .git; git rev-parse --git-dir >found 2>/dev/null; exit 0")
    assert stage.repo.git("show", "task:found") == ""


def test_files_that_can_not_be_kept_by_git_are_kept_beside_the_output(stage: Stage) -> None:
    stage.task("echo precious >precious; git init -q x && cd x && git commit -q --allow-empty -m x")
    stage.run()
    assert stage.repo.state("task") == "failed"
    kept = stage.repo.git_dir / "aynig" / "runs" / stage.repo.fields("task")["run"] / "worktree"
    assert (kept / "precious").read_text() == "precious\n"
    assert str(kept.relative_to(stage.repo.git_dir)) in stage.repo.message("task")


def test_a_special_file_in_the_worktree_hangs_nothing(stage: Stage) -> None:
    run_beside_another(stage, "mkfifo pipe; ln -s /dev/zero zero; ln -s pipe link; echo x >file")
    assert stage.repo.state("task") == "done"
    assert stage.repo.git("show", "task", "--name-only", "--format=").split() == [
        "file",
        "link",
        "zero",
    ]


def test_folders_without_rights_are_cleared_away(stage: Stage) -> None:
    run_beside_another(stage, "mkdir -p a/b; echo x >a/b/c; chmod -R a-rwx a; exit 0")


def test_ignored_files_of_one_script_are_not_there_for_the_next(stage: Stage) -> None:
    stage.task("ls >list; echo x >x.tmp", files={".gitignore": "*.tmp\n"})
    stage.run()
    stage.task()
    stage.run()
    assert "x.tmp" not in stage.repo.git("show", "task:list")


def test_marks_in_the_index_do_not_hide_changes_nor_last(stage: Stage) -> None:
    stage.task("git update-index --assume-unchanged file; echo 2 >file", files={"file": "1\n"})
    stage.run()
    stage.task("cat file >seen")
    stage.run()
    assert stage.repo.git("show", "task:seen") == stage.repo.git("show", "task~1:file")


# --- what it does to branches --------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("git commit -q --amend -m rewritten", id="amend"),
        pytest.param("git reset -q --hard HEAD^; git commit -q --allow-empty -m x", id="reset"),
        pytest.param("git checkout -q --orphan x; git commit -q --allow-empty -m x", id="orphan"),
        pytest.param("git checkout -q main~0", id="another-commit"),
    ],
)
def test_commits_that_do_not_descend_from_the_task_are_a_failure(stage: Stage, script: str) -> None:
    oid = stage.task(script)
    stage.run()
    assert stage.repo.state("task") == "failed"
    assert "descend" in fault(stage)
    assert stage.repo.git("rev-parse", "task^") == oid
    stage.assert_unharmed()


def test_rewritten_work_is_kept_under_a_rescue_ref(stage: Stage) -> None:
    stage.task("echo a >a; git add a; git commit -q --amend -m rewritten; echo b >b")
    stage.run()
    kept = rescued(stage)
    assert stage.repo.git("show", f"{kept}:b") == "b"
    assert stage.repo.git("show", f"{kept}^:a") == "a"
    assert stage.repo.git("log", "-1", "--format=%s", f"{kept}^") == "rewritten"
    assert stage.repo.git("ls-tree", "--name-only", "task") == ".aynig"


@pytest.mark.parametrize("exit_status", [0, 1])
def test_a_branch_that_the_script_moved_is_left_where_it_is(stage: Stage, exit_status: int) -> None:
    other = stage.repo.commit("elsewhere", branch="else")
    move = f"{UNFENCED}git update-ref refs/heads/task {other}\n"
    oid = stage.task(f"echo work >work\n{move}exit {exit_status}")
    told = stage.run()
    assert stage.repo.tip("task") == other
    refused = told.of("refused", "task")[0]
    kept = stage.repo.git("for-each-ref", "--format=%(refname)", RESCUES)
    assert kept in refused.detail
    assert stage.repo.git("show", f"{kept}:work") == "work"
    assert stage.repo.git("merge-base", kept, oid) == oid
    stage.assert_unharmed()


def test_a_script_that_deletes_its_own_branch_has_its_work_rescued(stage: Stage) -> None:
    run_beside_another(stage, f"{UNFENCED}echo work >work; git update-ref -d refs/heads/task")
    assert stage.repo.tip("task") == ""
    kept = stage.repo.git("for-each-ref", "--format=%(refname)", RESCUES)
    assert stage.repo.git("show", f"{kept}:work") == "work"


def test_a_state_that_the_script_put_on_its_branch_itself_is_what_counts(stage: Stage) -> None:
    """The branch moved while the script ran: the new tip is a new event."""
    told = run_beside_another(
        stage,
        f"{UNFENCED}"
        'next=$(git commit-tree HEAD^{tree} -p HEAD -m "Next\n\naynig: noop"); '
        "git update-ref refs/heads/task $next",
    )
    assert told.of("refused", "task")
    assert stage.repo.state("task") == "done"
    assert stage.repo.git("log", "-1", "--format=%s", "task").startswith("noop -> done")


def test_a_script_may_submit_other_tasks(stage: Stage) -> None:
    run_beside_another(
        stage,
        'git update-ref refs/heads/child $(git commit-tree HEAD^{tree} -m "Child\n\naynig: noop")',
    )
    assert stage.repo.state("task") == stage.repo.state("child") == "done"


def test_a_branch_of_its_own_that_the_script_is_on_at_its_end_is_where_its_commits_are(
    stage: Stage,
) -> None:
    run_beside_another(
        stage, "git checkout -q -b side; echo a >a; git add a; git commit -q -m own; echo b >b"
    )
    assert stage.repo.state("task") == "done"
    assert stage.repo.git("log", "-1", "--format=%s", "task^") == "own"
    assert stage.repo.git("show", "task:b") == "b"


def test_a_merge_that_the_script_made_is_kept(stage: Stage) -> None:
    base = stage.repo.tip()
    stage.repo.commit("side", branch="side", files={"side": "side\n"}, parent=base)
    run_beside_another(stage, "git merge -q --no-edit side")
    assert stage.repo.state("task") == "done"
    assert stage.repo.git("show", "task:side") == "side"
    assert len(stage.repo.git("rev-list", "--parents", "-1", "task^").split()) == 3


def test_a_merge_left_half_done_does_not_reach_the_next_script(stage: Stage) -> None:
    base = stage.repo.tip()
    stage.repo.commit("side", branch="side", files={"file": "side\n"}, parent=base)
    stage.task("git merge side", files={"file": "task\n"})
    stage.run()
    assert stage.repo.state("task") == "failed"
    assert "<<<<<<<" in stage.repo.git("show", f"{rescued(stage)}:file")
    stage.task("git status >status; git stash list >stashes")
    stage.run()
    assert "merg" not in stage.repo.git("show", "task:status")


def test_a_thousand_commits_are_kept(stage: Stage) -> None:
    stream = (
        'for n in $(seq 1000); do printf "commit refs/heads/stream\\ncommitter A <a@b> %d +0000\\n'
        'data 1\\nx\\n" $((1700000000 + n)); [ $n = 1 ] && printf "from %s\\n" '
        '"$AYNIG_COMMIT_HASH"; printf "\\n"; done'
    )
    stage.task(
        f"{{ {stream}; }} | git fast-import --quiet && git checkout -q --detach stream",
    )
    stage.run()
    assert stage.repo.state("task") == "done"
    assert stage.repo.git("rev-list", "--count", "main..task") == "1002"
    assert stage.status().last_answer is not None


def test_another_identity_of_the_script_stays_on_its_commits(stage: Stage) -> None:
    run_beside_another(
        stage,
        "git -c user.name=Eve -c user.email=eve@example.org "
        "commit -q --allow-empty --author='Mallory <m@example.org>' -m own",
    )
    assert stage.repo.git("log", "-1", "--format=%an", "task^") == "Mallory"
    assert stage.repo.git("log", "-1", "--format=%an", "task") != "Mallory"


# --- processes and output ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "start",
    [
        pytest.param("sleep 1000 &", id="background"),
        pytest.param("nohup sleep 1000 >/dev/null 2>&1 &", id="nohup"),
        pytest.param("setsid sleep 1000 &", id="session"),
        pytest.param("setsid setsid sh -c 'sleep 1000 & sleep 1000' &", id="sessions"),
        pytest.param("(setsid sleep 1000 >&- 2>&- <&- &) ; sleep 0", id="daemon"),
        pytest.param("sh -c 'trap \"\" TERM HUP INT; while :; do sleep 1; done' &", id="stubborn"),
    ],
)
def test_what_a_script_leaves_running_is_ended_with_it(stage: Stage, start: str) -> None:
    run_beside_another(stage, f"{start}\necho more >more")
    assert stage.repo.state("task") == "done"
    assert stage.repo.git("show", "task:more") == "more"


def test_a_script_that_forks_and_exits_is_over_when_it_exits(stage: Stage) -> None:
    run_beside_another(stage, "(sleep 1000; echo late >late) & exit 0")
    assert stage.repo.state("task") == "done"
    assert "late" not in stage.repo.git("ls-tree", "--name-only", "task")


def test_a_script_may_close_its_output(stage: Stage) -> None:
    run_beside_another(stage, "exec >&- 2>&-; echo more >more")
    assert stage.repo.state("task") == "done"


def test_a_script_finds_its_input_empty(stage: Stage) -> None:
    run_beside_another(stage, "cat >input; wc -c <input")
    assert stage.repo.git("show", "task:input") == ""


def test_a_hundred_megabytes_of_output_are_not_kept_in_memory(stage: Stage) -> None:
    stage.repo.git("config", "aynig.outputLimit", "1m")
    stage.task("head -c 100000000 /dev/zero | tr '\\0' x; echo; echo the end; exit 1")
    with daemon(stage.repo.path) as found:
        row = found.wait_for("answer", "task")
        assert resident_mb(found.process.pid) < 100
    folder = stage.repo.git_dir / "aynig" / "runs" / row["run"]
    assert sum(file.stat().st_size for file in folder.iterdir()) < 2_000_000
    assert "the end" in stage.repo.message("task")
    assert len(stage.repo.message("task")) < 100_000


def test_output_that_is_no_text_does_not_break_the_answer(stage: Stage) -> None:
    run_beside_another(stage, "head -c 100000 /dev/urandom; printf '\\naynig: evil\\n'; exit 1")
    assert stage.repo.state("task") == "failed"


def test_output_that_looks_like_trailers_is_no_answer(stage: Stage) -> None:
    run_beside_another(stage, "printf '\\n\\naynig: evil\\n\\naynig: evil\\n'; exit 1")
    assert stage.repo.state("task") == "failed"


def test_the_end_of_the_output_is_in_the_answer_to_a_failure(stage: Stage) -> None:
    run_beside_another(stage, "echo on its output; echo on its error >&2; exit 3")
    message = stage.repo.message("task")
    assert "on its output" in message
    assert "on its error" in message
    assert stage.repo.fields("task")["exit"] == "3"


@pytest.mark.parametrize("trap", ["", "trap '' TERM; "], ids=["plain", "ignores-term"])
def test_a_timeout_ends_the_whole_group(stage: Stage, trap: str) -> None:
    stage.repo.git("config", "aynig.grace", "0.2")
    run_beside_another(
        stage,
        f"{trap}echo work >work; sleep 1000 & while :; do sleep 1; done",
        config="states:\n  go:\n    timeout: 0.2s\n    on-failure: slow\n",
    )
    fields = stage.repo.fields("task")
    assert (fields[""], fields["stopped"]) == ("slow", "timeout")
    assert stage.repo.git("show", f"{rescued(stage)}:work") == "work"


@pytest.mark.parametrize("number", ["KILL", "SEGV", "TERM"])
def test_a_script_killed_by_a_signal_has_failed_whatever_it_wrote(
    stage: Stage, number: str
) -> None:
    run_beside_another(stage, f'echo "aynig: approved" >"$AYNIG_RESPONSE"; kill -{number} $$')
    assert stage.repo.state("task") == "failed"
    assert f"SIG{number}" in stage.repo.git("log", "-1", "--format=%s", "task")
    assert int(stage.repo.fields("task")["exit"]) > 128


def test_a_script_that_stops_itself_is_ended_in_time(stage: Stage) -> None:
    stage.repo.git("config", "aynig.grace", "0.2")
    run_beside_another(stage, "kill -STOP $$", config="states:\n  go:\n    timeout: 0.2s\n")
    assert stage.repo.fields("task")["stopped"] == "timeout"


def test_a_script_that_kills_its_parent_group_reaches_only_itself(stage: Stage) -> None:
    run_beside_another(stage, "kill 0")
    assert stage.repo.state("task") == "failed"


# --- the answer file -----------------------------------------------------------------------------

RESPONSES = {
    "one-line": ('echo "aynig: approved" >>"$AYNIG_RESPONSE"', "approved"),
    "no-final-newline": ('printf "aynig: approved" >"$AYNIG_RESPONSE"', "approved"),
    "last-of-two": ('printf "aynig: a\\naynig: b\\n" >"$AYNIG_RESPONSE"', "b"),
    "crlf": ('printf "aynig: approved\\r\\n" >"$AYNIG_RESPONSE"', "approved"),
    "whole": (
        'printf "Two found\\n\\nIn a.py.\\n\\naynig: approved\\n" >"$AYNIG_RESPONSE"',
        "approved",
    ),
    "text-and-line": ('printf "I looked.\\naynig: approved\\n" >"$AYNIG_RESPONSE"', "approved"),
    "subject-only": ('echo "All is well" >"$AYNIG_RESPONSE"', "next-state"),
    "empty": (': >"$AYNIG_RESPONSE"', "next-state"),
    "deleted": ('echo "aynig: a" >"$AYNIG_RESPONSE"; rm "$AYNIG_RESPONSE"', "next-state"),
    "none": (":", "next-state"),
    "replaced": (
        'echo "aynig: approved" >"$AYNIG_RESPONSE.x"; mv "$AYNIG_RESPONSE.x" "$AYNIG_RESPONSE"',
        "approved",
    ),
    "a-link-to-a-file": (
        'echo "aynig: approved" >"$HOME/answer"; ln -s "$HOME/answer" "$AYNIG_RESPONSE"',
        "approved",
    ),
}
UNREADABLE = {
    "capitals": 'echo "aynig: APPROVED" >"$AYNIG_RESPONSE"',
    "path": 'echo "aynig: ../../x" >"$AYNIG_RESPONSE"',
    "long": 'printf "aynig: %0300d\\n" 1 >"$AYNIG_RESPONSE"',
    "reserved": 'echo "aynig: working" >"$AYNIG_RESPONSE"',
    "over-1-MiB": '{ head -c 1100000 /dev/zero | tr "\\0" x; echo; } >"$AYNIG_RESPONSE"',
    "folder": 'mkdir "$AYNIG_RESPONSE"',
    "fifo": 'mkfifo "$AYNIG_RESPONSE"',
    "endless": 'ln -s /dev/zero "$AYNIG_RESPONSE"',
    "terminal": 'ln -s /dev/tty "$AYNIG_RESPONSE"',
    "circle": 'ln -s "$AYNIG_RESPONSE" "$AYNIG_RESPONSE"',
}
NEXT = "states:\n  go:\n    next: next-state\n    on-failure: fail-state\n"


@pytest.mark.parametrize(("script", "state"), RESPONSES.values(), ids=RESPONSES)
def test_the_answer_file_names_the_next_state(stage: Stage, script: str, state: str) -> None:
    stage.task(script, config=NEXT)
    stage.run()
    assert stage.repo.state("task") == state


@pytest.mark.parametrize("script", UNREADABLE.values(), ids=UNREADABLE)
def test_an_answer_file_that_can_not_be_used_is_a_failure(stage: Stage, script: str) -> None:
    run_beside_another(stage, f"{script}\necho work >work", config=NEXT)
    assert stage.repo.state("task") == "fail-state"
    assert "answer" in fault(stage)
    assert stage.repo.git("show", f"{rescued(stage)}:work") == "work"


def test_a_whole_message_in_the_answer_file_becomes_that_of_the_answer(stage: Stage) -> None:
    stage.task(
        'printf "Two found\\n\\nIn a.py.\\n\\n---\\n\\nIn b.py.\\n\\naynig: approved\\n'
        'aynig: meta-coverage: 91\\nReviewed-by: R <r@example.org>\\n" >"$AYNIG_RESPONSE"'
    )
    stage.run()
    assert stage.repo.git("log", "-1", "--format=%s", "task") == "go -> approved: Two found"
    assert "In a.py.\n\n---\n\nIn b.py." in stage.repo.message("task")
    assert stage.repo.fields("task")["meta-coverage"] == "91"
    assert ("Reviewed-by", "R <r@example.org>") in stage.repo.trailers("task")


def test_what_the_daemon_testifies_can_not_be_forged(stage: Stage) -> None:
    oid = stage.task(
        "printf 'Done\\n\\naynig: approved\\naynig: answers: 0123\\naynig: run: forged\\n"
        "aynig: exit: 0\\naynig: runner: me\\naynig: script: x\\naynig: rescue: refs/heads/main\\n"
        'dwp-state: evil\\nAynig: attempt: 9\\n\' >"$AYNIG_RESPONSE"'
    )
    told = stage.run()
    fields = stage.repo.fields("task")
    assert fields[""] == "approved"
    assert fields["answers"] == oid
    assert fields["run"] == told.row("task").run
    assert fields["attempt"] == "1"
    assert "rescue" not in fields
    assert "forged" not in stage.repo.message("task")
    assert "evil" not in stage.repo.message("task")


def test_a_failing_script_may_answer_and_its_files_do_not_land(stage: Stage) -> None:
    stage.task('echo "aynig: needs-help" >"$AYNIG_RESPONSE"; echo work >work; exit 3', config=NEXT)
    stage.run()
    assert stage.repo.state("task") == "needs-help"
    assert stage.repo.fields("task")["exit"] == "3"
    assert stage.repo.git("show", f"{rescued(stage)}:work") == "work"
    assert stage.repo.git("ls-tree", "--name-only", "task") == ".aynig"


def test_a_script_that_removes_the_folder_of_its_run_is_answered(stage: Stage) -> None:
    run_beside_another(stage, 'rm -rf "$(dirname "$AYNIG_RESPONSE")"; echo work >work')
    assert stage.repo.state("task") == "done"
    assert stage.repo.git("show", "task:work") == "work"


@pytest.mark.parametrize("name", ["output", "context.json", "run.json", "body"])
@pytest.mark.parametrize("kind", ["mkfifo", "mkdir", "ln -s /dev/zero", "ln -s output", "true"])
def test_what_a_script_makes_of_the_files_of_its_run_hangs_nothing(
    stage: Stage, name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_beside_another(
        stage, f'cd "$(dirname "$AYNIG_RESPONSE")"; rm -f {name}; {kind} {name}; exit 1'
    )
    assert stage.repo.state("task") == "failed"
    monkeypatch.chdir(stage.repo.path)
    assert aynig("logs", "task") in (0, 1)
    assert aynig("status", "--all") == 0


# --- in which order answers are looked for (design section 1.4) ----------------------------------

OWN = 'git commit -q --allow-empty -m "Own\n\naynig: own-state"'
FILE = 'echo "aynig: file-state" >"$AYNIG_RESPONSE"'
PLAIN = "git commit -q --allow-empty -m plain"

PRECEDENCE = {
    "own-before-file": (f"{OWN}; {FILE}", NEXT, "own-state"),
    "own-before-workflow": (OWN, NEXT, "own-state"),
    "own-also-on-failure": (f"{OWN}; exit 1", NEXT, "own-state"),
    "last-own-without-state": (f"{OWN}; {PLAIN}", NEXT, "next-state"),
    "plain-commit-and-file": (f"{PLAIN}; {FILE}", NEXT, "file-state"),
    "file-before-workflow": (FILE, NEXT, "file-state"),
    "file-also-on-failure": (f"{FILE}; exit 1", NEXT, "file-state"),
    "workflow-on-success": ("exit 0", NEXT, "next-state"),
    "workflow-on-failure": ("exit 1", NEXT, "fail-state"),
    "done": ("exit 0", None, "done"),
    "failed": ("exit 1", None, "failed"),
}


@pytest.mark.parametrize(("script", "config", "state"), PRECEDENCE.values(), ids=PRECEDENCE)
def test_the_answer_is_looked_for_in_the_order_of_the_protocol(
    stage: Stage, script: str, config: str | None, state: str
) -> None:
    oid = stage.task(script, config=config)
    stage.run()
    assert stage.repo.state("task") == state
    assert stage.repo.fields("task")["answers"] == oid


def test_commits_of_the_script_are_kept_as_they_are_below_the_answer(stage: Stage) -> None:
    oid = stage.task(f"echo a >a; git add a; {OWN}; echo b >b; git rev-parse HEAD >head")
    stage.run()
    own = stage.repo.git("rev-parse", "task^")
    assert stage.repo.git("show", "task:head") == own
    assert stage.repo.git("rev-parse", "task~2") == oid
    assert stage.repo.git("show", "task:b") == "b"
    assert stage.repo.git("ls-tree", "--name-only", own).split() == [".aynig", "a"]


def test_commits_of_a_failing_script_are_rescued_with_its_files(stage: Stage) -> None:
    oid = stage.task("echo a >a; git add a; git commit -q -m own; echo b >b; exit 1")
    stage.run()
    assert stage.repo.git("rev-parse", "task^") == oid
    kept = rescued(stage)
    assert stage.repo.git("show", f"{kept}^:a") == "a"
    assert stage.repo.git("show", f"{kept}:b") == "b"


@pytest.mark.parametrize("state", ["working", "BAD", "../x"])
def test_a_commit_of_the_script_with_an_unusable_state_is_a_failure(
    stage: Stage, state: str
) -> None:
    stage.task(f'git commit -q --allow-empty -m "Own\n\naynig: {state}"', config=NEXT)
    stage.run()
    assert stage.repo.state("task") == "fail-state"
    assert fault(stage)


# --- later retries -------------------------------------------------------------------------------


def test_exit_75_asks_for_a_later_retry(stage: Stage) -> None:
    counter = stage.repo.path.parent / "attempts"
    oid = stage.task(
        f'echo "$AYNIG_ATTEMPT" >>{counter}; [ "$AYNIG_ATTEMPT" = 3 ] && exit 0; '
        'printf "Not yet\\naynig: retry-after: 0.05s\\n" >"$AYNIG_RESPONSE"; exit 75'
    )
    with stage.live() as told:
        stage.wait_for_state("done")
    assert counter.read_text().split() == ["1", "2", "3"]
    assert len(told.of("deferred")) == 2
    assert stage.repo.git("rev-parse", "task^") == oid
    assert stage.repo.fields("task")["attempt"] == "3"


def test_a_task_that_waits_for_its_retry_says_so_and_leaves_no_lease(stage: Stage) -> None:
    oid = stage.task('printf "Not yet\\naynig: retry-after: 1h\\n" >"$AYNIG_RESPONSE"; exit 75')
    told = stage.run()
    assert told.of("deferred")[0].detail == "Not yet"
    assert stage.repo.tip("task") == oid
    row = stage.status()
    assert row.hold == "waiting"
    assert row.until is not None
    assert not stage.run().of("run")


@pytest.mark.parametrize("value", ["soon", "-1", "1e400", "nan", "inf", "99999999999h"])
def test_a_retry_time_that_can_not_be_used_is_not_believed(stage: Stage, value: str) -> None:
    stage.task(f'echo "aynig: retry-after: {value}" >"$AYNIG_RESPONSE"; exit 75')
    stage.task(OK, branch="z")
    stage.run()
    assert stage.repo.state("z") == "done"
    row = stage.status()
    assert row.hold == "waiting"


def test_work_done_before_a_retry_was_asked_for_is_rescued(stage: Stage) -> None:
    stage.task("echo work >work; exit 75")
    told = stage.run()
    kept = stage.repo.git("for-each-ref", "--format=%(refname)", RESCUES)
    assert kept == RESCUES + told.of("deferred")[0].run
    assert stage.repo.git("show", f"{kept}:work") == "work"


# --- what the workflow says ----------------------------------------------------------------------


def test_settings_of_the_workflow_are_obeyed(stage: Stage) -> None:
    stage.task(
        "exit 9",
        files={
            ".aynig/roles/reviewer/go": '#!/bin/sh\necho "$AYNIG_ROLE $GREETING" >said\n',
        },
        config="states:\n  go:\n    role: reviewer\n    next: noop\n    env:\n"
        "      GREETING: hello\n",
        fields={"role": "other"},
    )
    stage.run()
    assert stage.repo.git("show", "task:said") == "reviewer hello"
    assert stage.repo.state("task") == "done"
    assert stage.repo.git("log", "--format=%s", "-2", "task").splitlines()[1] == "go -> noop"


def test_a_role_of_the_operator_is_looked_in_first_and_the_plain_script_after(stage: Stage) -> None:
    role = {".aynig/roles/tester/go": '#!/bin/sh\necho "role $AYNIG_ROLE" >said\n'}
    stage.task('echo "plain $AYNIG_ROLE" >said', files=role)
    stage.task('echo "plain $AYNIG_ROLE" >said', branch="plain")
    stage.run(roles="tester")
    assert stage.repo.git("show", "task:said") == "role tester"
    assert stage.repo.git("show", "plain:said") == "plain tester"


# --- the other dialect ---------------------------------------------------------------------------


def test_a_task_in_dwp_is_answered_in_dwp(stage: Stage) -> None:
    script = '#!/bin/sh\necho "$AYNIG_TRAILER_NOTE" >said\n'
    oid = stage.task(
        message="Go\n\nbody\n\ndwp-state: go\ndwp-note: hello\n",
        files={".dwp/command/go": script, ".aynig/go": "#!/bin/sh\nexit 9\n"},
    )
    stage.run()
    found = dict(stage.repo.trailers("task"))
    assert found["dwp-state"] == "done"
    assert found["dwp-answers"] == oid
    assert "aynig" not in found
    assert stage.repo.git("show", "task:said") == "hello"


def test_roles_of_dwp_are_found(stage: Stage) -> None:
    stage.task(
        message="Go\n\ndwp-state: go\n",
        files={".dwp/roles/tester/command/go": "#!/bin/sh\necho role >said\n"},
    )
    stage.run(roles="tester")
    assert stage.repo.git("show", "task:said") == "role"


def test_a_state_commit_of_a_dwp_script_is_the_answer_as_it_is(stage: Stage) -> None:
    oid = stage.task(
        message="Go\n\ndwp-state: go\n",
        files={
            ".dwp/command/go": "#!/bin/sh\necho a >a; git add a\n"
            'git commit -q -m "Own\n\ndwp-state: finished"\n'
        },
    )
    told = stage.run()
    assert stage.repo.git("log", "-1", "--format=%s", "task") == "Own"
    # Between them is the lease, which in dwp lies on the branch.
    assert stage.repo.git("rev-parse", "task^^") == oid
    assert told.row("task").oid == stage.repo.tip("task")
    stage.assert_unharmed()


def test_files_beside_a_state_commit_of_a_dwp_script_are_not_lost(stage: Stage) -> None:
    stage.task(
        message="Go\n\ndwp-state: go\n",
        files={
            ".dwp/command/go": '#!/bin/sh\ngit commit -q --allow-empty -m "Own\n\n'
            'dwp-state: finished"\necho b >b\n'
        },
    )
    stage.run()
    assert dict(stage.repo.trailers("task"))["dwp-state"] == "finished"
    kept = stage.repo.git("for-each-ref", "--format=%(refname)", RESCUES)
    assert stage.repo.git("show", f"{kept or 'task'}:b") == "b"


# --- what all share ------------------------------------------------------------------------------

SHARED = {
    "a-filter": (
        "git config filter.x.clean 'sh -c \"touch $HOME/ran; cat\"'; "
        'echo "* filter=x" >.gitattributes',
        "config",
    ),
    "core.hooksPath": ("git config core.hooksPath /tmp/evil", "config"),
    "core.fsmonitor": ("git config core.fsmonitor /tmp/evil", "config"),
    "an-alias": ("git config alias.st '!evil'", "config"),
    "a-hook": (
        'echo evil >"$(git rev-parse --git-common-dir)/hooks/pre-commit"',
        "hooks/pre-commit",
    ),
    "no-hooks": ('rm -rf "$(git rev-parse --git-common-dir)/hooks"', "hooks/"),
    "exclude": ('echo x >"$(git rev-parse --git-common-dir)/info/exclude"', "info/exclude"),
    "attributes": (
        'echo "* filter=x" >"$(git rev-parse --git-common-dir)/info/attributes"',
        "info/",
    ),
    "no-config": ('rm "$(git rev-parse --git-common-dir)/config"', "config"),
    "config-is-a-folder": (
        'cd "$(git rev-parse --git-common-dir)" && rm config && mkdir config',
        "config",
    ),
    "broken-config": ('echo "[" >"$(git rev-parse --git-common-dir)/config"', "config"),
}


@pytest.mark.parametrize(("script", "name"), SHARED.values(), ids=SHARED)
def test_what_all_worktrees_share_is_put_back_and_the_run_fails(
    stage: Stage, script: str, name: str
) -> None:
    stage.repo.git("config", "branch.main.description", "kept")
    before = _shared(stage)
    run_beside_another(stage, f"echo work >work\n{script}", config=NEXT)
    assert _shared(stage) == before
    assert stage.repo.state("task") == "fail-state"
    assert name in fault(stage)
    assert stage.repo.git("show", f"{rescued(stage)}:work") == "work"
    assert not (Path(os.environ["HOME"]) / "ran").exists()


def _shared(stage: Stage) -> dict[str, tuple[bytes, int]]:
    places = [stage.repo.git_dir / "config", *(stage.repo.git_dir / "hooks").rglob("*")]
    places += (stage.repo.git_dir / "info").rglob("*")
    return {str(file): (file.read_bytes(), file.stat().st_mode) for file in places}


NO_LEASES = (
    f"{UNFENCED}git for-each-ref --format='delete %(refname)' refs/aynig/lease "
    "| git update-ref --stdin"
)


def test_a_script_that_deletes_its_lease_is_not_run_over_and_over(
    stage: Stage, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    oid = stage.task(f"echo x >>{log}; echo y >made; {NO_LEASES}")
    for _ in range(2):
        stage.run()
        assert log.read_text() == "x\n"
    row = stage.status()
    assert (row.hold, row.tip) == ("error", oid)
    assert "attempt 2 in " in row.detail
    kept = stage.repo.git("for-each-ref", "--format=%(refname)", RESCUES)
    assert stage.repo.git("show", f"{kept}:made") == "y"


def test_a_script_that_deletes_our_folder_leaves_no_worktree_registered(stage: Stage) -> None:
    stage.task('rm -rf "$(git rev-parse --git-common-dir)/aynig"')
    stage.run()
    assert stage.repo.git("worktree", "list").count("\n") == 0


def test_settings_of_its_branch_are_the_scripts_own_affair(stage: Stage) -> None:
    run_beside_another(stage, "git checkout -q -b side; git config branch.side.description x")
    assert stage.repo.state("task") == "done"


def test_scripts_that_were_written_out_are_true_again_for_the_next_run(stage: Stage) -> None:
    stage.task(
        'chmod -R u+w "$AYNIG_HOME"; echo "exit 9" >"$AYNIG_HOME/go"; rm "$AYNIG_HOME/beside"',
        files={".aynig/beside": "here\n"},
    )
    stage.run()
    stage.task()
    stage.task('cat "$AYNIG_HOME/beside" >seen', branch="other", files={".aynig/beside": "here\n"})
    stage.run()
    assert stage.repo.state("task") == "done"
    assert stage.repo.git("show", "other:seen") == "here"


def test_no_descriptor_of_ours_reaches_a_script(stage: Stage) -> None:
    run_beside_another(stage, "ls /proc/self/fd >fds")
    # Standard input, output and error, and that of ls itself on the folder.
    assert len(stage.repo.git("show", "task:fds").split()) <= 4


def test_runs_leave_no_descriptor_and_no_child_behind(stage: Stage) -> None:
    stage.task("setsid sleep 1000 & exit 1")
    with stage.live() as told:
        wait_for(lambda: told.of("answer"), what="the first answer")
        descriptors, children = _open_files(), len(children_of(os.getpid()))
        for _ in range(5):
            stage.task("setsid sleep 1000 & exit 1")
            stage.wait_for_state("failed")
        wait_for(lambda: _open_files() <= descriptors, what="the descriptors to be closed")
        wait_for(lambda: len(children_of(os.getpid())) <= children, what="the children to be gone")


def _open_files() -> int:
    return len([*Path("/proc/self/fd").iterdir()])
