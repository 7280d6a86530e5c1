"""Odd, broken and hostile input: nothing crashes, nothing is lost, nothing wrong is run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from aynig.model import HEADS
from tests.stage import Stage, aynig
from tests.world import GitRepo, wait_for

OK = "exit 0"


# --- states --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "state",
    [
        pytest.param("../go", id="up"),
        pytest.param("../../../../bin/sh", id="up-to-a-program"),
        pytest.param("roles/go", id="slash"),
        pytest.param("/bin/sh", id="absolute"),
        pytest.param("go now", id="space"),
        pytest.param("GO", id="capitals"),
        pytest.param("-go", id="leading-dash"),
        pytest.param(".go", id="leading-dot"),
        pytest.param("go\x1f", id="control"),
        pytest.param("g\x1b[31mo", id="escape-sequence"),
        pytest.param("gö", id="not-ascii"),
        pytest.param("g" * 300, id="300-characters"),
        pytest.param("g" * 65, id="65-characters"),
        pytest.param("go;touch x", id="shell"),
        pytest.param("$(touch x)", id="substitution"),
        pytest.param("", id="empty"),
    ],
)
def test_a_malformed_state_is_never_dispatched(stage: Stage, state: str) -> None:
    files = {".aynig/go": "#!/bin/sh\nexit 0\n", "go": "#!/bin/sh\nexit 0\n"}
    oid = stage.task(message=f"Odd\n\nbody\n\naynig: {state}\n", files=files)
    stage.task(OK, branch="other")
    told = stage.run()
    assert stage.repo.tip("task") == oid
    assert not told.of("run", "task")
    assert stage.status().hold == "malformed"
    assert stage.repo.state("other") == "done"
    stage.assert_unharmed()


def test_a_malformed_state_is_told_of_once_when_it_comes(stage: Stage) -> None:
    with stage.live() as told:
        stage.task(message="Odd\n\naynig: ../x\n")
        stage.task(OK, branch="other")
        stage.wait_for_state("done", "other")
        stage.task(OK, branch="third")
        stage.wait_for_state("done", "third")
    assert told.holds("task") == ["malformed"]


def test_a_message_with_nul_is_read_as_far_as_git_reads_it(stage: Stage) -> None:
    odd = write_raw(stage, stage.task(OK), b"Please\0go\n\naynig: go\n")
    stage.task(OK, branch="other")
    stage.run()
    assert stage.repo.tip("task") == odd
    assert stage.repo.state("other") == "done"


@pytest.mark.parametrize(
    "message",
    [
        pytest.param("Long\n\n" + "x" * (1 << 20) + "\n\naynig: go\n", id="1-MiB"),
        pytest.param(
            "Many\n\naynig: go\n" + "".join(f"aynig: k{n}: v\n" for n in range(300)),
            id="300-trailers",
        ),
    ],
)
def test_a_message_over_the_limits_is_malformed(stage: Stage, message: str) -> None:
    oid = stage.task(OK, message=message)
    told = stage.run()
    assert not told.of("run")
    assert stage.repo.tip("task") == oid
    row = stage.status()
    assert row.hold == "malformed"
    assert "limit" in row.detail


def test_working_is_reserved_in_both_dialects(stage: Stage) -> None:
    script = {".aynig/working": "#!/bin/sh\n", ".dwp/command/working": "#!/bin/sh\n"}
    stage.task(branch="ours", state="working", files=script)
    stage.task(branch="theirs", message="x\n\ndwp-state: working\n", files=script)
    assert not stage.run().of("run")
    assert stage.status("ours").hold == stage.status("theirs").hold == "reserved"


@pytest.mark.parametrize("state", ["blocked", "waiting", "awaiting-approval", "stalled"])
def test_a_held_state_runs_only_where_the_workflow_has_a_script_for_it(
    stage: Stage, state: str
) -> None:
    stage.task(branch="held", state=state)
    stage.task(OK, branch="scripted", state=state)
    stage.run()
    assert stage.status("held").hold == state
    assert stage.repo.state("scripted") == "done"


@pytest.mark.parametrize("state", ["done", "failed", "canceled"])
def test_an_ended_state_is_never_dispatched_though_there_is_a_script(
    stage: Stage, state: str
) -> None:
    stage.task(OK, state=state)
    assert not stage.run().of("run")
    assert stage.status().hold == "ended"


# --- messages ------------------------------------------------------------------------------------

READABLE = {
    "no-body": "Subject\n\naynig: go\n",
    "no-final-newline": "Subject\n\naynig: go",
    "dashes-in-body": "Subject\n\nfirst\n---\nsecond\n\naynig: go\n",
    "dashes-alone": "Subject\n\n---\n\naynig: go\n",
    "unit-separator": "Subject\n\nfirst\x1fsecond\n\naynig: go\n",
    "odd-line": "Subject\n\nbody\n\naynig: go\nthis is odd\nSigned-off-by: A <a@b>\n",
    "crlf": "Subject\r\n\r\nbody\r\n\r\naynig: go\r\n",
    "escape": "Sub\x1b[31mject\n\nb\x07ody\n\naynig: go\n",
    "several-states": "Subject\n\naynig: other\naynig: go\n",
    "key-in-capitals": "Subject\n\nAynig: go\n",
    "comment-lines": "Subject\n\n# a comment\n\naynig: go\n# another\n",
}


@pytest.mark.parametrize("message", READABLE.values(), ids=READABLE)
def test_what_git_reads_as_a_trailer_is_dispatched(stage: Stage, message: str) -> None:
    stage.task(
        'cat "$AYNIG_BODY_FILE" >got; printf "${AYNIG_BODY:+%s\\n}" "$AYNIG_BODY" | cmp - got',
        message=message,
    )
    stage.run()
    assert stage.repo.state("task") == "done"


@pytest.mark.parametrize(
    "message",
    [
        pytest.param("Subject\n\naynig: go\nthis is odd\nthis too\n", id="prose-around"),
        pytest.param("Subject\n\naynig: go\n\nA last paragraph.\n", id="not-at-the-end"),
        pytest.param("aynig: go\n", id="in-the-subject"),
        pytest.param("Subject\n\n aynig: go\n", id="indented"),
    ],
)
def test_what_git_does_not_read_as_a_trailer_is_no_state(stage: Stage, message: str) -> None:
    oid = stage.task(OK, message=message)
    assert ("aynig", "go") not in stage.repo.trailers(oid)
    assert not stage.run().of("run")
    assert stage.repo.tip("task") == oid


def test_a_body_with_dashes_reaches_the_script_whole(stage: Stage) -> None:
    stage.task(
        'printf %s "$AYNIG_BODY" >body',
        message="Subject\n\nfirst\n---\nsecond\x1fthird\n\naynig: go\n",
    )
    stage.run()
    assert stage.repo.git("show", "task:body") == "first\n---\nsecond\x1fthird"


def test_a_loop_over_the_lines_of_the_body_reads_the_last_one_too(stage: Stage) -> None:
    stage.task(
        'while read -r line; do echo "$line" >>read; done <"$AYNIG_BODY_FILE"',
        message="Subject\n\nfirst\nlast\n\naynig: go\n",
    )
    stage.run()
    assert stage.repo.git("show", "task:read") == "first\nlast"


@pytest.mark.parametrize("size", [100_000, 131_059, 131_060, 200_000])
def test_a_body_too_long_for_a_variable_is_in_its_file(stage: Stage, size: int) -> None:
    stage.task(
        'wc -c <"$AYNIG_BODY_FILE" >size; printf %s "${AYNIG_BODY+set}" >set; '
        'head -c 3 "$AYNIG_BODY_FILE"',
        message=f"Subject\n\n{'é' * (size // 2)}{'e' * (size % 2)}\n\naynig: go\n",
    )
    stage.run()
    assert stage.repo.state("task") == "done"
    assert int(stage.repo.git("show", "task:size")) == size + len("\n")
    fits = size + len("AYNIG_BODY=") + 1 <= 131_072
    assert stage.repo.git("show", "task:set") == ("set" if fits else "")


def test_bytes_that_are_no_text_reach_the_script_as_they_are(stage: Stage) -> None:
    oid = stage.task('cat "$AYNIG_BODY_FILE" >body; printf %s "$AYNIG_TRAILER_NOTE" >note')
    message = b"Subject \xff\n\nbody \xfe\xfd\n\naynig: go\nNote: \xc3\x28\n"
    write_raw(stage, oid, message)
    stage.run()
    assert stage.repo.state("task") == "done"
    shown = stage.repo.git("show", "task:body", "task:note")
    assert shown.encode("utf-8", "surrogateescape") == b"body \xfe\xfd\n\xc3\x28"


def write_raw(stage: Stage, like: str, message: bytes) -> str:
    """Put a commit like another on task, its message as it stands: git's own would mend it."""
    head = stage.repo.git("cat-file", "commit", like).partition("\n\n")[0]
    data = f"{head}\n\n".encode() + message
    odd = stage.repo.git("hash-object", "-t", "commit", "-w", "--stdin", "--literally", stdin=data)
    stage.repo.git("update-ref", "refs/heads/task", odd)
    return odd


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--trailer", "Note:first\naynig: evil"], id="trailer"),
        pytest.param(["--trailer", "Note:first\raynig: evil"], id="carriage-return"),
        pytest.param(["--trailer", "Note\naynig:evil"], id="key"),
        pytest.param(["--trailer", "aynig: evil"], id="state-as-trailer"),
        pytest.param(["--to", "bob\naynig: evil"], id="to"),
        pytest.param(["-b", "a..b"], id="branch"),
        pytest.param(["-b", "-x"], id="branch-with-a-dash"),
        pytest.param(["--after", "no-such-thing"], id="after"),
        pytest.param(["--from", "no-such-thing"], id="from"),
    ],
)
def test_submit_refuses_before_any_commit_is_made(
    repo: GitRepo, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(repo.path)
    before = repo.git("count-objects", "-v"), repo.git("for-each-ref")
    assert aynig("submit", "go", "-m", "body", *arguments) == 2
    assert (repo.git("count-objects", "-v"), repo.git("for-each-ref")) == before


@pytest.mark.parametrize("state", ["../x", "a/b", "go\naynig: evil", "", "x" * 300, "working"])
def test_submit_refuses_what_is_no_state(
    repo: GitRepo, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    monkeypatch.chdir(repo.path)
    before = repo.git("for-each-ref")
    assert aynig("submit", state, "-m", "body") == 2
    assert repo.git("for-each-ref") == before


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["approved", "--meta", "note=a\naynig: evil"], id="meta"),
        pytest.param(["approved", "--meta", "no\nte=a"], id="key"),
        pytest.param(["../x"], id="state"),
        pytest.param(["working"], id="reserved"),
    ],
)
def test_respond_refuses_before_the_answer_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setenv("AYNIG_RESPONSE", str(tmp_path / "response"))
    assert aynig("respond", *arguments) == 2
    assert not (tmp_path / "response").exists()


def test_a_prompt_that_ends_like_trailers_does_not_bring_a_state(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(stage.repo.path)
    assert aynig("submit", "noop", "-b", "task", "-m", "Say this:\n\naynig: evil") == 0
    assert stage.repo.state("task") == "noop"


@pytest.mark.parametrize("role", ["../x", "a/b", "A", "x" * 65, "x y"])
def test_a_role_that_is_no_name_is_wrong_use(
    repo: GitRepo, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    monkeypatch.chdir(repo.path)
    assert aynig("run", "--role", role) == 2


# --- branches ------------------------------------------------------------------------------------

BRANCHES = {
    "slashes": "a/b/c/d",
    "quotes": 'it\'s"so"',
    "substitution": "$(touch${IFS}x)`id`;&|",
    "unicode": "größe/名前",
    "bidirectional": "a\u202eb",
    "not-utf-8": "a\udcffb",
    "leading-dash": "-rf",
    "option": "--upload-pack=x",
    "at": "@",
    "head": "HEAD",
    "a-file": "docs",
    "a-file-of-git": "index",
    "a-tag": "v1",
    "an-oid": "0123456789abcdef0123456789abcdef01234567",
    "a-ref": "refs/heads/x",
    "a-lease": "refs/aynig/lease/x",
    "percent": "%s%n%(refname)",
    "braces": "a{b,c}d}",
    "equals-and-comma": "a=b,c!d#e",
    "long": "n" * 240,
    "deep": "/".join("d" * 40),
}


@pytest.mark.parametrize("with_files", [True, False], ids=["tree", "bare"])
def test_any_branch_name_that_git_allows_is_a_task(
    repo: GitRepo, bare: GitRepo, with_files: bool
) -> None:
    stage = Stage(repo if with_files else bare)
    script = '#!/bin/sh\nprintf %s "$AYNIG_BRANCH" >name\n'
    repo = stage.repo
    repo.commit("files", files={"docs": "a file\n", "v1": "another\n", ".aynig/go": script})
    repo.git("tag", "v1", "main")
    for branch in BRANCHES.values():
        stage.task(branch=branch)
    told = stage.run()
    told_to_script = {
        branch: repo.git("cat-file", "blob", f"{repo.tip(branch)}:name", check=False)
        for branch in BRANCHES.values()
    }
    assert told_to_script == {branch: branch for branch in BRANCHES.values()}
    assert {notice.branch for notice in told.of("answer")} == set(BRANCHES.values())
    assert {stage.status(branch).hold for branch in BRANCHES.values()} == {"ended"}
    stage.assert_unharmed()


def test_nothing_that_is_printed_can_command_a_terminal(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    stage.task(
        'printf "out \\033[31m\\n"; printf "said \\033[31m\\n" >"$AYNIG_RESPONSE"; exit 3',
        branch="a\u202eb",
        message="Red \x1b[31m\n\nbody \x1b[32m\n\naynig: go\naynig: note: \x1b[33m\n",
    )
    stage.task(branch="odd\u2066", message="x\n\naynig: g\x1b[31mo\n")
    stage.repo.commit(
        "x\n\naynig: go\n", branch="bad\u2067", files={".aynig/config.yaml": "\x1b: ["}
    )
    monkeypatch.chdir(stage.repo.path)
    for command in (["run"], ["status"], ["log", "a\u202eb"], ["status", "--json"]):
        aynig(*command)
    aynig("log", "a\u202eb", "--json")
    aynig("submit", "\x1b[31m")
    aynig("retry", "\x1b[31m\u202e")
    printed = "".join(capfd.readouterr())
    assert "a\\u202eb" in printed
    assert not set(printed) & set("\x1b\x07\u202e\u2066\u2067")


# --- scripts that can't be run -------------------------------------------------------------------

UNRUNNABLE: dict[str, tuple[str, dict[str, str | bytes | None]]] = {
    "missing": ("missing-script", {}),
    "folder": ("bad-script", {".aynig/go/inside": "#!/bin/sh\n"}),
    "no-run-bit": ("not-executable", {".aynig/go": "echo no run bit\n"}),
    "no-interpreter": ("bad-interpreter", {".aynig/go": "#!/no/such/interpreter\n"}),
    "no-program-of-env": ("bad-interpreter", {".aynig/go": "#!/usr/bin/env no-such-program\n"}),
    "env-of-nothing": ("bad-interpreter", {".aynig/go": "#!/usr/bin/env\n"}),
    "env-of-settings-alone": ("bad-interpreter", {".aynig/go": "#!/usr/bin/env -S A=b\n"}),
    "crlf": ("bad-interpreter", {".aynig/go": "#!/bin/sh\r\nexit 0\r\n"}),
    "nothing-after-it": ("bad-interpreter", {".aynig/go": "#!\n"}),
    "relative-interpreter": ("bad-interpreter", {".aynig/go": "#!sh\n"}),
    "interpreter-is-a-folder": ("bad-interpreter", {".aynig/go": "#!/usr\n"}),
    "config-is-no-yaml": ("bad-config", {".aynig/go": "#!/bin/sh\n", ".aynig/config.yaml": "a: ["}),
    "config-unknown-key": (
        "bad-config",
        {".aynig/go": "#!/bin/sh\n", ".aynig/config.yaml": "states:\n  go:\n    nxet: done\n"},
    ),
    "config-wrong-type": (
        "bad-config",
        {".aynig/go": "#!/bin/sh\n", ".aynig/config.yaml": "states:\n  go:\n    timeout: [1]\n"},
    ),
    "config-is-a-folder": ("bad-config", {".aynig/go": "#!/bin/sh\n", ".aynig/config.yaml/x": "x"}),
}


@pytest.mark.parametrize(("word", "files"), UNRUNNABLE.values(), ids=UNRUNNABLE)
def test_what_can_not_be_run_is_found_out_before_a_lease_is_taken(
    stage: Stage, word: str, files: dict[str, str | bytes | None]
) -> None:
    oid = stage.task(files=files)
    told = stage.run()
    assert told.holds("task") == [word]
    assert not told.of("run")
    row = stage.status()
    assert (row.hold, row.tip) == (word, oid)
    assert row.detail == told.of("hold")[0].detail
    assert stage.repo.git("for-each-ref", "refs/aynig/") == ""
    assert not (stage.repo.git_dir / "aynig" / "runs").exists()


@pytest.mark.parametrize(
    "target",
    [
        pytest.param("/bin/true", id="absolute"),
        pytest.param("../../../../../../bin/true", id="up"),
        pytest.param("../escape", id="beside"),
        pytest.param("go", id="itself"),
        pytest.param("nothing", id="nothing"),
        pytest.param("roles", id="a-folder"),
    ],
)
def test_a_symbolic_link_that_leads_to_no_script_of_the_tree_is_refused(
    stage: Stage, target: str
) -> None:
    _link(stage, target, {"escape": "#!/bin/sh\n", ".aynig/roles/r/x": "#!/bin/sh\n"})
    told = stage.run()
    assert told.holds("task") == ["bad-script"]
    assert not told.of("run")


@pytest.mark.parametrize("target", ["other", "./other", "roles/../other", "roles/r/x"])
def test_a_symbolic_link_inside_the_tree_is_followed(stage: Stage, target: str) -> None:
    script = "#!/bin/sh\necho linked >said\n"
    _link(stage, target, {".aynig/other": script, ".aynig/roles/r/x": script})
    stage.run()
    assert stage.repo.state("task") == "done"
    assert stage.repo.git("show", "task:said") == "linked"


def _link(stage: Stage, target: str, files: dict[str, str | bytes | None]) -> None:
    """A task whose script is a symbolic link."""
    stage.task(files=files, message="no state yet")
    blob = stage.repo.git("hash-object", "-w", "--stdin", stdin=target)
    index = {"GIT_INDEX_FILE": str(stage.repo.git_dir / "link-index")}
    stage.repo.git("read-tree", "task", env=index)
    stage.repo.git("update-index", "--add", "--cacheinfo", f"120000,{blob},.aynig/go", env=index)
    tree = stage.repo.git("write-tree", env=index)
    commit = ["commit-tree", tree, "-p", "task", "-m", "Link\n\naynig: go"]
    stage.repo.git("update-ref", "refs/heads/task", stage.repo.git(*commit))


def test_a_submodule_is_no_script(stage: Stage) -> None:
    index = {"GIT_INDEX_FILE": str(stage.repo.git_dir / "link-index")}
    oid = stage.repo.tip("main")
    stage.repo.git("update-index", "--add", "--cacheinfo", f"160000,{oid},.aynig/go", env=index)
    tree = stage.repo.git("write-tree", env=index)
    commit = ["commit-tree", tree, "-p", "main", "-m", "Link\n\naynig: go"]
    stage.repo.git("update-ref", "refs/heads/task", stage.repo.git(*commit))
    assert stage.run().holds("task") == ["bad-script"]


def test_a_script_that_was_never_committed_gets_a_hint(stage: Stage) -> None:
    stage.task()
    place = stage.repo.path / ".aynig" / "go"
    place.parent.mkdir()
    place.write_text("#!/bin/sh\n")
    stage.run()
    assert "commit it" in stage.status().detail


def test_a_script_of_the_repository_that_is_broken_is_not_replaced_by_a_shipped_one(
    stage: Stage,
) -> None:
    stage.task(state="noop", files={".aynig/noop": "no run bit\n"})
    assert stage.run().holds("task") == ["not-executable"]


# --- repositories --------------------------------------------------------------------------------


@pytest.mark.parametrize("is_bare", [True, False], ids=["bare", "tree"])
def test_an_unborn_head_has_no_tasks_and_may_get_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_bare: bool
) -> None:
    stage = Stage(GitRepo.init(tmp_path / "new", bare=is_bare, empty=True))
    assert not stage.run().notices[1:]
    monkeypatch.chdir(stage.repo.path)
    assert aynig("status") == 0
    assert aynig("submit", "noop", "-b", "task", "-m", "first of all") == 0
    # In a working tree its scripts are those that lie there.
    assert aynig("run") == int(is_bare)
    if not is_bare:
        assert stage.repo.state("task") == "done"
    assert stage.repo.git("symbolic-ref", "HEAD") == "refs/heads/main"
    assert stage.repo.tip("main") == ""


def test_a_detached_head_stays_where_it_is(stage: Stage) -> None:
    oid = stage.task("echo more >more")
    stage.repo.git("checkout", "--detach", "--quiet", "task")
    stage.run()
    assert stage.repo.git("rev-parse", "HEAD") == oid
    assert stage.repo.git("status", "--porcelain") == ""
    assert stage.repo.state("task") == "done"


@pytest.mark.parametrize("kind", ["merge", "rebase", "cherry-pick", "revert", "bisect", "am"])
def test_a_branch_in_the_middle_of_something_is_left_alone(stage: Stage, kind: str) -> None:
    repo = stage.repo
    repo.commit("base", files={"file": "base\n", ".aynig/go": "#!/bin/sh\necho more >more\n"})
    repo.git("branch", "other")
    repo.commit("theirs", branch="other", files={"file": "theirs\n"})
    repo.commit("mine", files={"file": "mine\n"})
    oid = repo.commit("Go\n\naynig: go\n")
    repo.sync()
    start, end = _several_steps(repo)[kind]
    repo.git(*start, check=False, stdin=b"")
    before = repo.git("status"), repo.git("diff")
    told = stage.run()
    assert told.holds("main") == ["dirty-worktree"]
    assert repo.tip("main") == oid
    assert (repo.git("status"), repo.git("diff")) == before
    repo.git(*end)
    stage.run()
    assert repo.state("main") == "done"
    assert (repo.path / "more").read_text() == "more\n"
    stage.assert_unharmed()


def _several_steps(repo: GitRepo) -> dict[str, tuple[list[str], list[str]]]:
    """Commands that stop in the middle, and what ends each."""
    patch = repo.path.parent / "patch"
    patch.write_text(repo.git("format-patch", "--stdout", "-1", "other") + "\n")
    return {
        "merge": (["merge", "other"], ["merge", "--abort"]),
        "rebase": (["rebase", "other"], ["rebase", "--abort"]),
        "cherry-pick": (["cherry-pick", "other"], ["cherry-pick", "--abort"]),
        "revert": (["revert", "other"], ["revert", "--abort"]),
        "bisect": (["bisect", "start", "main", "main~2"], ["bisect", "reset"]),
        "am": (["am", str(patch)], ["am", "--abort"]),
    }


def test_a_locked_ref_makes_its_task_wait_and_no_other(stage: Stage) -> None:
    oid = stage.task(OK)
    lock = stage.repo.git_dir / "refs" / "heads" / "task.lock"
    lock.touch()
    with stage.live() as told:
        wait_for(lambda: told.holds("task"), what="a hold")
        assert told.holds("task") == ["busy"]
        stage.task(OK, branch="other")
        stage.wait_for_state("done", "other")
        assert stage.repo.tip("task") == oid
        assert lock.exists()
        lock.unlink()
        stage.wait_for_state("done")
    stage.assert_unharmed()


def test_a_locked_index_makes_the_task_wait_before_its_script_runs(stage: Stage) -> None:
    oid = stage.task("echo more >more", branch="main")
    stage.repo.sync()
    lock = stage.repo.git_dir / "index.lock"
    lock.touch()
    told = stage.run()
    assert told.holds("main") == ["dirty-worktree"]
    assert not told.of("run")
    assert stage.repo.tip("main") == oid
    assert lock.exists()
    lock.unlink()
    stage.run()
    assert stage.repo.state("main") == "done"


def test_a_broken_ref_is_shown_and_stops_nothing(stage: Stage) -> None:
    stage.task(OK)
    (stage.repo.git_dir / "refs" / "heads" / "broken").write_text("")
    (stage.repo.git_dir / "refs" / "heads" / "gone").write_text("1" * 40 + "\n")
    stage.run()
    assert stage.repo.state("task") == "done"


@pytest.mark.parametrize(
    "name", ["GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR"]
)
def test_a_git_of_the_environment_is_not_ours(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    other = GitRepo.init(tmp_path / "other")
    (other.path / "mine").write_text("mine\n")
    other.git("add", "mine")
    stage.task("env | grep ^GIT_ >variables; git status >git && echo more >more", branch="main")
    stage.repo.sync()
    before = other.git("for-each-ref"), other.git("status")
    values = {"GIT_INDEX_FILE": other.git_dir / "index", "GIT_WORK_TREE": other.path}
    with monkeypatch.context() as patch:
        patch.setenv(name, str(values.get(name, other.git_dir)))
        patch.chdir(stage.repo.path)
        assert aynig("run") == 0
    assert stage.repo.state("main") == "done"
    assert (other.git("for-each-ref"), other.git("status")) == before
    assert stage.repo.git("status", "--porcelain") == ""
    seen = stage.repo.git("show", "main:variables").splitlines()
    # Its own settings are one of ours, and two for the hooks around it.
    settings = {f"GIT_CONFIG_{part}_{n}" for part in ("KEY", "VALUE") for n in range(3)}
    assert {line.partition("=")[0] for line in seen} <= settings | {
        "GIT_CEILING_DIRECTORIES",
        "GIT_CONFIG_COUNT",
        "GIT_AUTHOR_NAME",
        "GIT_AUTHOR_EMAIL",
        "GIT_COMMITTER_NAME",
        "GIT_COMMITTER_EMAIL",
    }


def test_it_may_be_started_from_a_subdirectory(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.task(OK)
    below = stage.repo.path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert aynig("run") == 0
    assert stage.repo.state("task") == "done"


def test_it_may_be_started_in_a_linked_worktree(stage: Stage, tmp_path: Path) -> None:
    stage.repo.git("worktree", "add", "--quiet", "-b", "task", str(tmp_path / "linked"))
    stage.task("echo more >more")
    linked = GitRepo(tmp_path / "linked")
    linked.sync()
    Stage(linked).run()
    assert stage.repo.state("task") == "done"
    assert (linked.path / "more").read_text() == "more\n"
    assert linked.git("status", "--porcelain") == stage.repo.git("status", "--porcelain") == ""
    assert stage.repo.git("worktree", "list").count("\n") == 1


def test_a_branch_checked_out_elsewhere_gets_its_files_there(stage: Stage, tmp_path: Path) -> None:
    stage.repo.git("worktree", "add", "--quiet", "-b", "task", str(tmp_path / "linked"))
    stage.task("echo more >more")
    linked = GitRepo(tmp_path / "linked")
    linked.sync()
    stage.run()
    assert (linked.path / "more").read_text() == "more\n"
    assert linked.git("status", "--porcelain") == ""


@pytest.mark.parametrize("depth", [1, 2])
def test_a_shallow_clone_is_enough(stage: Stage, tmp_path: Path, depth: int) -> None:
    for number in range(3):
        stage.repo.commit(f"number {number}", files={"file": f"{number}\n"})
    stage.task("echo more >more", branch="main")
    clone = tmp_path / "clone"
    stage.repo.git("clone", "-q", f"--depth={depth}", f"file://{stage.repo.path}", str(clone))
    shallow = Stage(GitRepo(clone))
    shallow.run()
    assert shallow.repo.state() == "done"
    assert (clone / "more").read_text() == "more\n"
    assert shallow.status("main").last_answer is not None


def test_a_sparse_clone_stays_sparse(stage: Stage, tmp_path: Path) -> None:
    stage.task(
        "cat far/file >near/copy; echo more >>far/file; echo more >far/more",
        branch="main",
        files={"near/file": "near\n", "far/file": "far\n"},
    )
    clone = tmp_path / "clone"
    stage.repo.git("clone", "--quiet", "--sparse", f"file://{stage.repo.path}", str(clone))
    sparse = Stage(GitRepo(clone))
    sparse.repo.git("sparse-checkout", "set", "near")
    sparse.run()
    assert sparse.repo.state() == "done"
    assert sparse.repo.git("show", "main:far/file") == "far\nmore"
    assert (clone / "near" / "copy").read_text() == "far\n"
    assert not (clone / "far").exists()
    assert sparse.repo.git("status", "--porcelain") == ""


def test_a_partial_clone_works_with_what_it_has(stage: Stage, tmp_path: Path) -> None:
    stage.repo.git("config", "uploadpack.allowFilter", "true")
    stage.task("echo more >more", branch="main", files={"file": "file\n"})
    clone = tmp_path / "clone"
    url = f"file://{stage.repo.path}"
    stage.repo.git("clone", "--quiet", "--filter=blob:none", url, str(clone))
    partial = Stage(GitRepo(clone))
    partial.run()
    assert partial.repo.state() == "done"


def test_a_worktree_of_the_pool_that_was_removed_is_made_again(stage: Stage) -> None:
    stage.task("echo more >more")
    stage.run()
    shutil.rmtree(stage.repo.git_dir / "aynig" / "worktrees")
    stage.task("echo more >again")
    stage.run()
    assert stage.repo.state("task") == "done"
    assert stage.repo.git("show", "task:again") == "more"


@pytest.mark.parametrize("part", ["tree", "tree/.git", "admin", "admin/gitdir", "admin/index"])
def test_a_worktree_of_the_pool_that_lost_a_part_is_mended(stage: Stage, part: str) -> None:
    stage.task("echo more >more")
    with stage.live():
        stage.wait_for_state("done")
        place = stage.repo.git_dir / "aynig" / "worktrees" / "0" / part
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink()
        stage.task("cat more >again")
        stage.wait_for_state("done")
    assert stage.repo.git("show", "task:again") == "more"


def test_all_of_its_folder_may_be_removed_between_runs(stage: Stage) -> None:
    stage.task(OK)
    stage.run()
    shutil.rmtree(stage.repo.git_dir / "aynig")
    stage.task(OK)
    stage.run()
    assert stage.repo.state("task") == "done"


# --- the user's own settings ---------------------------------------------------------------------

HOOKS = [
    "pre-commit",
    "prepare-commit-msg",
    "commit-msg",
    "post-commit",
    "post-checkout",
    "post-merge",
    "post-index-change",
    "reference-transaction",
    "post-rewrite",
]


@pytest.mark.parametrize("place", ["hooks", "hooks-path"])
def test_hooks_of_the_user_neither_run_for_answers_nor_break_them(
    stage: Stage, tmp_path: Path, place: str
) -> None:
    stage.task("echo more >more", branch="main")
    stage.repo.sync()
    folder = stage.repo.git_dir / "hooks" if place == "hooks" else tmp_path / "hooks"
    folder.mkdir(exist_ok=True)
    for name in HOOKS:
        hook = folder / name
        hook.write_text(f"#!/bin/sh\necho {name} >>{tmp_path}/ran\nexit 1\n")
        hook.chmod(0o755)
    if place == "hooks-path":
        stage.repo.git("config", "core.hooksPath", str(folder))
    stage.run()
    assert stage.repo.state() == "done"
    assert (stage.repo.path / "more").exists()
    assert not (tmp_path / "ran").exists()


def test_settings_that_name_programs_are_not_obeyed(stage: Stage, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho ran >>{tmp_path}/ran\nexit 1\n")
    program.chmod(0o755)
    stage.task("echo more >more", branch="main")
    stage.repo.sync()
    for key, value in [
        ("core.fsmonitor", str(program)),
        ("core.editor", str(program)),
        ("core.pager", str(program)),
        ("commit.gpgSign", "true"),
        ("gpg.program", str(program)),
        ("gpg.format", "openpgp"),
        ("user.signingKey", "none"),
        ("diff.external", str(program)),
        ("gc.auto", "1"),
    ]:
        stage.repo.git("config", key, value)
    stage.run()
    assert not (tmp_path / "ran").exists()
    stage.repo.git("config", "--unset", "core.fsmonitor")
    assert stage.repo.state() == "done"
    assert stage.repo.git("status", "--porcelain") == ""


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param([], id="none"),
        pytest.param([("user.useConfigOnly", "true")], id="config-only"),
        pytest.param([("user.name", "Only A Name")], id="name-only"),
        pytest.param([("user.name", "<A\n"), ("user.email", "a\nb>")], id="odd"),
    ],
)
def test_no_identity_is_needed(stage: Stage, settings: list[tuple[str, str]]) -> None:
    for name in ("AUTHOR", "COMMITTER"):
        del os.environ[f"GIT_{name}_NAME"], os.environ[f"GIT_{name}_EMAIL"]
    for key, value in settings:
        stage.repo.git("config", key, value)
    with_identity = ["-c", "user.name=T", "-c", "user.email=t@example.org"]
    tree = stage.repo.git("mktree", stdin=_script_tree(stage, "git commit -q --allow-empty -m own"))
    message = ["-p", "main", "-m", "Go\n\naynig: go"]
    oid = stage.repo.git(*with_identity, "commit-tree", tree, *message)
    stage.repo.git("update-ref", "refs/heads/task", oid)
    stage.run()
    assert stage.repo.state("task") == "done"
    assert stage.repo.git("log", "-1", "--format=%s", "task~1") == "own"
    stage.assert_unharmed()


def _script_tree(stage: Stage, script: str) -> str:
    """A line for `git mktree` that makes a tree with the script of go."""
    blob = stage.repo.git("hash-object", "-w", "--stdin", stdin=f"#!/bin/sh\n{script}\n")
    tree = stage.repo.git("mktree", stdin=f"100755 blob {blob}\tgo\n")
    return f"040000 tree {tree}\t.aynig\n"


# --- one commit is dispatched once ---------------------------------------------------------------


def test_a_copied_tip_runs_once_also_after_a_restart(stage: Stage) -> None:
    oid = stage.task(f"echo x >>{stage.repo.path.parent}/count")
    for name in ("copy", "zcopy"):
        stage.repo.git("branch", name, oid)
    told = stage.run()
    assert len(told.of("answer")) == 1
    for _ in range(2):
        assert not stage.run().of("run")
    assert (stage.repo.path.parent / "count").read_text() == "x\n"
    answered = told.of("answer")[0].branch
    for name in {"task", "copy", "zcopy"} - {answered}:
        assert stage.repo.tip(name) == oid
        assert stage.status(name).hold == "answered"


def test_a_tip_copied_after_its_answer_is_not_run_again(stage: Stage) -> None:
    oid = stage.task(OK)
    stage.run()
    with stage.live() as told:
        stage.repo.git("branch", "late", oid)
        stage.task(OK, branch="other")
        stage.wait_for_state("done", "other")
    assert not told.of("run", "late")
    assert stage.repo.tip("late") == oid


def test_a_branch_put_back_to_an_answered_commit_is_held(stage: Stage) -> None:
    oid = stage.task(OK)
    stage.run()
    stage.repo.git("update-ref", "refs/heads/task", oid)
    told = stage.run()
    assert not told.of("run")
    assert stage.status().hold == "answered"


def test_the_same_state_in_a_new_commit_is_a_new_event(stage: Stage) -> None:
    stage.task(OK)
    stage.run()
    stage.task()
    told = stage.run()
    assert len(told.of("run")) == 1


def test_a_branch_without_a_state_is_idle_whatever_lies_below(stage: Stage) -> None:
    stage.task(OK)
    oid = stage.repo.commit("a person takes it back", branch="task")
    assert not stage.run().of("run")
    assert stage.repo.tip("task") == oid


@pytest.mark.parametrize("tag", ["task", "main"])
def test_a_tag_of_the_same_name_is_not_mistaken_for_the_task(stage: Stage, tag: str) -> None:
    oid = stage.task(OK)
    stage.repo.git("tag", tag, "main")
    stage.run()
    assert stage.repo.state("task") == "done"
    assert stage.repo.git("rev-parse", f"refs/tags/{tag}") != stage.repo.tip("task")
    assert stage.repo.git("rev-parse", f"{HEADS}task^") == oid
