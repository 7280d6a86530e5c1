"""A daemon beside a clone with a person at work in it, on the checked-out branch too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from aynig.model import RESCUES
from tests.stage import Stage, Told, aynig, daemon
from tests.world import GitRepo, wait_for

GO = {".aynig/go": "#!/bin/sh\necho more >>more\n"}
STATE = "Please go\n\naynig: go\n"


@pytest.fixture
def clone(stage: Stage) -> Stage:
    """A clone with a script for go on main, which is checked out and clean."""
    stage.repo.commit("scripts", files={**GO, "file": "one\n"})
    stage.repo.sync()
    return stage


def commit(repo: GitRepo, message: str = STATE) -> str:
    """What a person does: plain `git commit` in the working tree."""
    repo.git("commit", "--quiet", "--allow-empty", "-F", "-", stdin=message, env=repo.tick())
    return repo.git("rev-parse", "HEAD")


def gated(repo: GitRepo) -> tuple[Path, str]:
    """A state commit on main whose script waits at a FIFO, and its oid."""
    gate = repo.path.parent / "gate"
    os.mkfifo(gate)
    oid = repo.commit(STATE, files={".aynig/go": f"#!/bin/sh\nread x <{gate}\necho more >more\n"})
    repo.sync()
    return gate, oid


def in_worktree(stage: Stage, name: str) -> Path:
    """A file of the only script that runs, as it works."""
    return stage.repo.git_dir / "aynig" / "worktrees" / "0" / "tree" / name


# --- the checked-out branch ----------------------------------------------------------------------


def test_a_plain_commit_is_answered_in_branch_and_files(clone: Stage) -> None:
    with clone.live() as told:
        oid = commit(clone.repo)
        clone.wait_for_state("done", "main")
    assert (clone.repo.path / "more").read_text() == "more\n"
    assert clone.repo.git("status", "--porcelain") == ""
    assert clone.repo.git("rev-parse", "HEAD^") == oid
    assert [len(told.of(kind, "main")) for kind in ("event", "run", "answer")] == [1, 1, 1]
    clone.assert_unharmed()


def test_files_that_nobody_added_do_not_stand_in_the_way(clone: Stage) -> None:
    (clone.repo.path / "notes").write_text("mine\n")
    with clone.live():
        commit(clone.repo)
        clone.wait_for_state("done", "main")
    assert (clone.repo.path / "notes").read_text() == "mine\n"
    assert (clone.repo.path / "more").exists()


DIRT = {
    "edited": lambda path: (path / "file").write_text("mine\n"),
    "deleted": lambda path: (path / "file").unlink(),
}


@pytest.mark.parametrize(
    ("dirt", "staged", "way"),
    [
        pytest.param("edited", False, "put-back", id="edited"),
        pytest.param("edited", True, "stash", id="edited-and-staged"),
        pytest.param("deleted", False, "stash", id="deleted"),
        pytest.param("deleted", True, "put-back", id="deleted-and-staged"),
    ],
)
def test_a_dirty_tree_makes_the_task_wait_until_it_is_clean(
    clone: Stage, dirt: str, staged: bool, way: str
) -> None:
    repo = clone.repo
    oid = repo.commit(STATE)
    DIRT[dirt](repo.path)
    if staged:
        repo.git("add", "--all")
    before = repo.git("status", "--porcelain"), repo.git("diff", "HEAD")
    with clone.live() as told:
        wait_for(lambda: told.holds("main"), what="a hold")
        assert told.holds("main") == ["dirty-worktree"]
        assert (repo.git("status", "--porcelain"), repo.git("diff", "HEAD")) == before
        assert repo.tip() == oid
        row = clone.status("main")
        assert row.hold == "dirty-worktree"
        assert "stash them, or commit them with the state" in row.detail
        repo.git(*(["stash", "--quiet"] if way == "stash" else ["checkout", "HEAD", "--", "."]))
        clone.wait_for_state("done", "main")
    assert told.holds("main") == ["dirty-worktree"]
    assert (repo.path / "more").exists()
    if way == "stash":
        repo.git("stash", "pop", "--quiet", *(["--index"] if staged else []))
        assert repo.git("diff", "HEAD", "--stat") != ""


def test_a_commit_of_the_person_is_a_new_tip_that_counts(clone: Stage) -> None:
    repo = clone.repo
    repo.commit(STATE)
    (repo.path / "file").write_text("mine\n")
    with clone.live() as told:
        wait_for(lambda: told.holds("main"), what="a hold")
        repo.git("add", "file")
        oid = commit(repo)
        clone.wait_for_state("done", "main")
    assert repo.git("rev-parse", "main^") == oid
    assert repo.git("show", "main:file") == "mine"
    assert len(told.of("answer")) == 1


def test_what_is_staged_while_the_script_runs_is_not_swallowed(clone: Stage) -> None:
    repo = clone.repo
    gate, _ = gated(repo)
    with clone.live() as told:
        wait_for(lambda: told.of("run"), what="the run")
        (repo.path / "file").write_text("mine\n")
        repo.git("add", "file")
        gate.write_text("go on\n")
        wait_for(lambda: told.holds("main"), what="a hold")
        assert repo.git("diff", "--cached", "--name-only") == "file"
        row = clone.status("main")
        assert row.hold == "dirty-worktree"
        assert "the answer waits" in row.detail
        repo.git("stash", "--quiet")
        clone.wait_for_state("done", "main")
    assert repo.git("show", "main:file") == "one"
    assert (repo.path / "more").exists()
    assert len(told.of("run")) == 1
    repo.git("stash", "pop", "--quiet")
    assert (repo.path / "file").read_text() == "mine\n"


def test_a_commit_while_an_answer_waits_is_what_counts(clone: Stage) -> None:
    repo = clone.repo
    gate = repo.path.parent / "gate"
    os.mkfifo(gate)
    script = f'#!/bin/sh\n[ -z "$AYNIG_TRAILER_WAIT" ] || read x <{gate}\necho more >more\n'
    repo.commit(f"{STATE}aynig: wait: yes\n", files={".aynig/go": script})
    repo.sync()
    with clone.live() as told:
        wait_for(lambda: told.of("run"), what="the run")
        (repo.path / "file").write_text("mine\n")
        gate.write_text("go on\n")
        wait_for(lambda: told.holds("main"), what="a hold")
        oid = commit(repo)
        wait_for(lambda: told.of("refused"), what="the refusal")
        wait_for(lambda: len(told.holds("main")) == 2, what="the hold of the new tip")
        assert clone.status("main").run is None
        repo.git("stash", "--quiet")
        clone.wait_for_state("done", "main")
    assert repo.git("rev-parse", "main^") == oid
    kept = repo.git("for-each-ref", "--format=%(refname)", RESCUES)
    assert repo.git("show", f"{kept}:more") == "more"
    clone.assert_unharmed()


def test_an_answer_that_waits_when_the_daemon_ends_is_landed_by_the_next_one(
    clone: Stage,
) -> None:
    repo = clone.repo
    gate, oid = gated(repo)
    with clone.live() as told:
        wait_for(lambda: told.of("run"), what="the run")
        (repo.path / "file").write_text("mine\n")
        gate.write_text("go on\n")
        wait_for(lambda: told.holds("main"), what="a hold")
    assert told.of("deferred")
    kept = repo.git("for-each-ref", "--format=%(refname)", RESCUES)
    assert repo.git("show", f"{kept}:more") == "more"
    assert repo.tip() == oid
    assert (repo.path / "file").read_text() == "mine\n"
    assert clone.status("main").hold == "dirty-worktree"
    repo.git("stash", "--quiet")
    assert [notice.kind for notice in clone.run().notices if notice.row] == ["answer"]
    assert repo.git("rev-parse", "main~1") == oid
    assert repo.git("for-each-ref", RESCUES) == ""
    assert (repo.path / "more").read_text() == "more\n"
    clone.assert_unharmed()


def test_a_file_in_the_way_costs_one_run_however_often_landing_is_tried(clone: Stage) -> None:
    repo = clone.repo
    log = repo.path.parent / "log"
    oid = repo.commit(STATE, files={".aynig/go": f"#!/bin/sh\necho x >>{log}\necho more >more\n"})
    repo.sync()
    (repo.path / "more").write_text("mine\n")
    for _ in range(3):
        assert aynig("-C", str(repo.path), "run") == 0
        row = clone.status("main")
        assert row.hold == "dirty-worktree"
        assert "the answer waits: " in row.detail
        assert "more" in row.detail
        (notice,) = clone.run().of("deferred")
        kept = repo.git("for-each-ref", "--format=%(refname)", RESCUES)
        assert notice.detail.endswith(f"more is in the way: move it; its work is kept under {kept}")
    assert (repo.path / "more").read_text() == "mine\n"
    assert repo.tip() == oid
    (repo.path / "more").unlink()
    told = clone.run()
    assert [notice.kind for notice in told.notices if notice.row] == ["answer"]
    assert (repo.path / "more").read_text() == "more\n"
    assert log.read_text() == "x\n"
    assert repo.git("for-each-ref", RESCUES) == ""
    clone.assert_unharmed()


def test_an_answer_that_waits_survives_its_runner(clone: Stage) -> None:
    repo = clone.repo
    log = repo.path.parent / "log"
    repo.commit(STATE, files={".aynig/go": f"#!/bin/sh\necho x >>{log}\necho more >more\n"})
    repo.sync()
    (repo.path / "more").write_text("mine\n")
    with daemon(repo.path) as running:
        assert running.wait_for("hold", "main")["hold"] == "dirty-worktree"
        assert clone.status("main").hold == "dirty-worktree"
        running.process.kill()
        running.process.wait()
    (repo.path / "more").unlink()
    clone.run()
    assert repo.state() == "done"
    assert log.read_text() == "x\n"
    assert repo.git("for-each-ref", RESCUES) == ""
    clone.assert_unharmed()


def test_a_file_of_the_person_is_not_overwritten_by_one_of_the_answer(clone: Stage) -> None:
    repo = clone.repo
    (repo.path / "more").write_text("mine, and never added\n")
    with clone.live() as told:
        oid = commit(repo)
        wait_for(lambda: told.holds("main"), what="a hold")
        assert (repo.path / "more").read_text() == "mine, and never added\n"
        assert repo.tip() == oid
        (repo.path / "more").rename(repo.path / "kept")
        clone.wait_for_state("done", "main")
    assert (repo.path / "kept").read_text() == "mine, and never added\n"
    assert (repo.path / "more").read_text() == "more\n"


def test_an_ignored_file_of_the_person_is_not_overwritten_either(clone: Stage) -> None:
    repo = clone.repo
    repo.commit(
        "ignore",
        files={
            ".gitignore": "more\n",
            ".aynig/go": "#!/bin/sh\necho more >more\ngit add -f more\ngit commit -qm own\n",
        },
    )
    repo.sync()
    (repo.path / "more").write_text("mine\n")
    with clone.live() as told:
        commit(repo)
        wait_for(lambda: told.holds("main") or told.of("answer"), what="an end")
    assert (repo.path / "more").read_text() == "mine\n"


def test_an_answer_that_waits_lands_though_a_script_has_the_only_place(clone: Stage) -> None:
    repo = clone.repo
    gate, long = repo.path.parent / "gate", repo.path.parent / "long"
    os.mkfifo(gate)
    os.mkfifo(long)
    repo.commit(STATE, files={".aynig/go": f"#!/bin/sh\nread x <{gate}\necho more >more\n"})
    repo.sync()
    with clone.live(jobs="1") as told:
        wait_for(lambda: told.of("run"), what="the run")
        (repo.path / "file").write_text("mine\n")
        gate.write_text("go on\n")
        wait_for(lambda: told.holds("main"), what="a hold")
        clone.task(f"read x <{long}", branch="other")
        wait_for(lambda: told.of("run", "other"), what="the other run")
        repo.git("checkout", "--quiet", "file")
        clone.wait_for_state("done", "main")
        assert repo.state("other") == "go"
        long.write_text("go on\n")
        clone.wait_for_state("done", "other")
    assert (repo.path / "more").exists()


def test_what_a_person_sets_up_while_a_script_runs_stays(clone: Stage) -> None:
    repo = clone.repo
    gate, _ = gated(repo)
    with clone.live() as told:
        wait_for(lambda: told.of("run"), what="the run")
        repo.git("remote", "add", "fork", "https://example.org/fork.git")
        repo.git("config", "pull.rebase", "true")
        assert aynig("-C", str(repo.path), "hooks", "install") == 0
        gate.write_text("go on\n")
        clone.wait_for_state("done", "main")
    assert repo.git("config", "remote.fork.url") == "https://example.org/fork.git"
    assert repo.git("config", "pull.rebase") == "true"
    assert (repo.git_dir / "hooks" / "post-commit").exists()
    assert (repo.path / "more").exists()


def test_switching_to_another_branch_lets_the_answer_land(clone: Stage) -> None:
    repo = clone.repo
    repo.git("branch", "other")
    repo.commit(STATE)
    repo.sync()
    (repo.path / "file").write_text("mine\n")
    with clone.live() as told:
        wait_for(lambda: told.holds("main"), what="a hold")
        repo.git("checkout", "--quiet", "other")
        clone.wait_for_state("done", "main")
    assert (repo.path / "file").read_text() == "mine\n"
    assert not (repo.path / "more").exists()
    assert repo.git("status", "--porcelain") == " M file"


def test_work_on_another_branch_is_of_no_concern(clone: Stage) -> None:
    (clone.repo.path / "file").write_text("mine\n")
    clone.repo.git("add", "file")
    with clone.live():
        clone.task()
        clone.wait_for_state("done")
    assert clone.repo.git("status", "--porcelain") == "M  file"
    assert not (clone.repo.path / "more").exists()


def test_deleted_and_renamed_files_of_the_answer_land_too(clone: Stage) -> None:
    repo = clone.repo
    repo.commit(
        STATE, files={".aynig/go": "#!/bin/sh\ngit mv file renamed\nmkdir d\necho x >d/x\n"}
    )
    repo.sync()
    with clone.live():
        clone.wait_for_state("done", "main")
    assert not (repo.path / "file").exists()
    assert (repo.path / "renamed").read_text() == "one\n"
    assert (repo.path / "d" / "x").read_text() == "x\n"
    assert repo.git("status", "--porcelain") == ""


# --- a branch that moves -------------------------------------------------------------------------


def test_a_branch_that_moves_while_its_script_runs_is_run_anew_from_its_tip(clone: Stage) -> None:
    repo = clone.repo
    script = (
        '#!/bin/sh\necho "$AYNIG_COMMIT_HASH" >work\n'
        '[ "$AYNIG_TRAILER_WAIT" ] && while :; do sleep 1; done\nexit 0\n'
    )
    first = clone.task(files={".aynig/go": script}, fields={"wait": "yes"})
    with clone.live() as told:
        wait_for(lambda: told.of("run"), what="the run")
        wait_for(in_worktree(clone, "work").exists, what="the work")
        second = clone.task()
        clone.wait_for_state("done")
    row = told.of("refused")[0].row
    assert row is not None
    assert (row.stopped, row.subject.partition(";")[0]) == ("moved", "the branch has moved")
    assert repo.git("rev-parse", "task^") == second
    assert repo.git("show", "task:work") == second
    rescue = repo.git("for-each-ref", "--format=%(refname)", RESCUES)
    assert repo.git("show", f"{rescue}:work") == first
    clone.assert_unharmed()


def test_a_branch_that_is_deleted_while_its_script_runs_ends_the_run(clone: Stage) -> None:
    clone.task("while :; do sleep 1; done")
    with clone.live() as told:
        wait_for(lambda: told.of("run"), what="the run")
        clone.repo.git("branch", "-D", "task")
        wait_for(lambda: told.of("refused"), what="its end")
        assert told.of("refused")[0].detail.startswith("the branch has moved")
        clone.task("exit 0", branch="other")
        clone.wait_for_state("done", "other")
    assert clone.repo.tip("task") == ""
    clone.assert_unharmed()


def test_canceling_stops_the_script(clone: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    clone.task("while :; do sleep 1; done")
    monkeypatch.chdir(clone.repo.path)
    with clone.live() as told:
        wait_for(lambda: told.of("run"), what="the run")
        assert aynig("cancel", "task") == 0
        wait_for(lambda: told.of("refused"), what="its end")
    row = told.of("refused")[0].row
    assert row is not None
    assert (row.stopped, row.subject.partition(";")[0]) == ("canceled", "canceled")
    assert clone.repo.state("task") == "canceled"
    clone.assert_unharmed()


# --- what is mended goes on ----------------------------------------------------------------------


def test_each_thing_that_is_wrong_with_a_script_is_told_once_and_mended(clone: Stage) -> None:
    repo = clone.repo
    steps: dict[str, dict[str, str | bytes | None]] = {
        "missing-script": {".aynig/fix": None},
        "not-executable": {".aynig/fix": "no run bit\n"},
        "bad-script": {".aynig/fix": None, ".aynig/fix/x": "x"},
        "bad-config": {
            ".aynig/fix/x": None,
            ".aynig/fix": "#!/bin/sh\nexit 0\n",
            ".aynig/config.yaml": "states: 1\n",
        },
    }
    repo.commit("something", branch="task", files={".aynig/fix": "x"}, parent="main")
    with clone.live() as told:
        for word, files in steps.items():
            clone.task(state="fix", files=files)
            wait_for(partial(is_told, told, word), what=word)
            assert clone.status().hold == word
        clone.task(state="fix", files={".aynig/config.yaml": None})
        clone.wait_for_state("done")
    assert told.holds("task") == list(steps)


def is_told(told: Told, word: str) -> bool:
    return word in told.holds("task")


def test_an_interpreter_that_is_installed_later_lets_the_task_go_on(
    clone: Stage, tmp_path: Path
) -> None:
    interpreter = tmp_path / "interpreter"
    clone.task(f"#!{interpreter}\necho more >more\n")
    with clone.live() as told:
        wait_for(lambda: told.holds("task"), what="a hold")
        interpreter.symlink_to("/bin/sh")
        clone.wait_for_state("done")
    assert told.holds("task") == ["bad-interpreter"]


@pytest.mark.parametrize("wrong", ["missing-script", "not-executable", "bad-config"])
def test_a_change_of_the_default_branch_mends_tasks_in_a_bare_repository(
    bare_stage: Stage, wrong: str
) -> None:
    script = {"missing-script": None, "not-executable": "no run bit\n"}.get(wrong, GO[".aynig/go"])
    config = "]" if wrong == "bad-config" else "{}"
    broken = {".aynig/go": script, ".aynig/config.yaml": config}
    if script is None:
        del broken[".aynig/go"]
    bare_stage.repo.commit("broken", files=broken)
    bare_stage.task()
    with bare_stage.live() as told:
        wait_for(lambda: told.holds("task"), what="a hold")
        bare_stage.repo.commit("mended", files={**GO, ".aynig/config.yaml": "{}"})
        bare_stage.wait_for_state("done")
    assert told.holds("task") == [wrong]


def test_a_script_in_the_working_tree_that_was_not_committed_is_hinted_at(clone: Stage) -> None:
    place = clone.repo.path / ".aynig" / "new"
    place.write_text("#!/bin/sh\n")
    place.chmod(0o755)
    with clone.live() as told:
        commit(clone.repo, "New\n\naynig: new\n")
        wait_for(lambda: told.holds("main"), what="a hold")
        assert "commit it" in told.of("hold")[0].detail
        clone.repo.git("add", ".aynig/new")
        commit(clone.repo, "New again\n\naynig: new\n")
        clone.wait_for_state("done", "main")


# --- as a process --------------------------------------------------------------------------------


def test_a_daemon_tells_a_line_per_event_run_and_answer(clone: Stage) -> None:
    with daemon(clone.repo.path) as found:
        oid = commit(clone.repo)
        answer = found.wait_for("answer", "main")
        found.process.send_signal(signal.SIGTERM)
        assert found.process.wait() == 0
    assert [line["kind"] for line in found.lines if line.get("branch")] == [
        "event",
        "run",
        "answer",
    ]
    assert answer["answers"] == oid
    assert answer["oid"] == clone.repo.tip()
    assert (answer["from_state"], answer["state"], answer["exit"]) == ("go", "done", 0)


def test_sigterm_drains_and_the_task_is_run_again_later(clone: Stage) -> None:
    oid = clone.task(
        'echo "$AYNIG_ATTEMPT" >work; trap "exit 0" TERM; '
        '[ "$AYNIG_ATTEMPT" -gt 1 ] || while :; do sleep 0.05; done'
    )
    clone.repo.git("config", "aynig.grace", "0.2")
    with daemon(clone.repo.path) as found:
        found.wait_for("run", "task")
        wait_for(in_worktree(clone, "work").exists, what="the work")
        found.process.send_signal(signal.SIGTERM)
        clone.task("exit 0", branch="late")
        assert found.process.wait() == 0
    assert found.of("drained", "task")
    assert clone.repo.tip("task") == oid
    assert clone.repo.state("late") == "go"
    rescue = clone.repo.git("for-each-ref", "--format=%(refname)", RESCUES)
    assert clone.repo.git("show", f"{rescue}:work") == "1"
    clone.assert_unharmed()


@pytest.mark.parametrize(("scripts", "says"), [(0, "0 scripts"), (1, "1 script under way")])
def test_a_daemon_that_is_told_to_stop_says_so_and_how_much_is_under_way(
    clone: Stage, scripts: int, says: str
) -> None:
    clone.repo.git("config", "aynig.grace", "0.1")
    if scripts:
        clone.task("while :; do sleep 0.05; done")
    with daemon(clone.repo.path) as found:
        if scripts:
            found.wait_for("run", "task")
        found.process.send_signal(signal.SIGTERM)
        assert found.process.wait() == 0
    (draining,) = found.of("draining")
    assert says in draining["detail"]
    assert draining["repository"] is None
    assert found.lines[-1]["kind"] == "stopped"
    assert found.lines.index(draining) < len(found.lines) - 1 - scripts


def test_the_last_lines_for_people_say_that_it_stops(clone: Stage) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "aynig", "daemon"],
        cwd=clone.repo.path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert "watching" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    lines = process.communicate()[1].splitlines()
    assert process.returncode == 0
    first, last = (line.partition(" ")[2] for line in lines)
    assert first == "draining told to stop, nothing new starts: 0 scripts under way"
    assert last == "stopped  nothing is under way any more"


def test_a_run_that_comes_to_its_end_by_itself_says_nothing_of_stopping(clone: Stage) -> None:
    clone.task("exit 0")
    told = clone.run()
    assert not told.of("draining") + told.of("stopped")


def test_a_script_that_ends_within_its_grace_is_answered(clone: Stage) -> None:
    gate = clone.repo.path.parent / "gate"
    os.mkfifo(gate)
    clone.task(f"echo x >begun; read x <{gate}; echo more >more")
    with daemon(clone.repo.path) as found:
        wait_for(in_worktree(clone, "begun").exists, what="the script to begin")
        found.process.send_signal(signal.SIGTERM)
        gate.write_text("go on\n")
        assert found.process.wait() == 0
    assert clone.repo.state("task") == "done"


def test_a_second_signal_ends_a_script_that_ignores_the_first(clone: Stage) -> None:
    oid = clone.task("trap '' TERM INT; while :; do sleep 0.05; done")
    clone.repo.git("config", "aynig.grace", "1h")
    with daemon(clone.repo.path) as found:
        found.wait_for("run", "task")
        found.process.send_signal(signal.SIGTERM)
        found.process.send_signal(signal.SIGTERM)
        # Two signals that come together are one: say it until it is heard.
        wait_for(lambda: _signal_again(found.process.pid, found.process.poll), what="the end")
    assert clone.repo.tip("task") == oid
    clone.assert_unharmed()


def _signal_again(pid: int, poll: object) -> bool:
    assert callable(poll)
    if poll() is not None:
        return True
    os.kill(pid, signal.SIGTERM)
    return False
