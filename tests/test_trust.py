"""The rules under Trust in design section 3: each with somebody who tries to break it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.stage import Stage
from tests.world import GitRepo, wait_for

EVIL = "#!/bin/sh\necho evil >evil\n"
GOOD = "#!/bin/sh\necho good >good\n"


def files_of(stage: Stage, branch: str = "task") -> list[str]:
    return stage.repo.git("ls-tree", "--name-only", branch).split()


def push(stage: Stage, tmp_path: Path, files: dict[str, str], state: str = "go") -> None:
    """A push of `task` from a clone, as anybody with the right to push may do."""
    clone = tmp_path / "clone"
    stage.repo.git("clone", "--quiet", str(stage.repo.path), str(clone))
    pusher = Stage(GitRepo(clone))
    pusher.task(branch="task", state=state, files=files)
    pusher.repo.git("push", "--quiet", "origin", "task")


# --- which tree ----------------------------------------------------------------------------------


def test_a_pusher_can_not_bring_the_program_along(bare_stage: Stage, tmp_path: Path) -> None:
    push(bare_stage, tmp_path, {".aynig/go": EVIL, ".aynig/config.yaml": "states: {}\n"})
    told = bare_stage.run()
    assert told.holds("task") == ["missing-script"]
    assert not told.of("run")
    assert bare_stage.repo.state("task") == "go"


def test_a_pusher_can_not_replace_a_program_or_its_settings(
    bare_stage: Stage, tmp_path: Path
) -> None:
    config = "states:\n  go:\n    next: checked\n    env:\n      WHO: operator\n"
    script = '#!/bin/sh\necho "$WHO" >good\ncat "$AYNIG_HOME/beside" >beside\n'
    trusted = {".aynig/go": script, ".aynig/config.yaml": config, ".aynig/beside": "ours\n"}
    bare_stage.repo.commit("trusted", files=trusted)
    push(
        bare_stage,
        tmp_path,
        {
            ".aynig/go": EVIL,
            ".aynig/beside": "theirs\n",
            ".aynig/config.yaml": config.replace("operator", "pusher").replace("checked", "evil"),
        },
    )
    bare_stage.run()
    assert bare_stage.repo.state("task") == "checked"
    assert bare_stage.repo.git("show", "task:good") == "operator"
    assert bare_stage.repo.git("show", "task:beside") == "ours"
    assert "evil" not in files_of(bare_stage)


def test_a_broken_config_of_a_pusher_breaks_nothing(bare_stage: Stage, tmp_path: Path) -> None:
    bare_stage.repo.commit("trusted", files={".aynig/go": GOOD})
    push(bare_stage, tmp_path, {".aynig/config.yaml": "]["})
    bare_stage.run()
    assert bare_stage.repo.state("task") == "done"


def test_the_default_branch_is_the_one_that_head_names(bare_stage: Stage) -> None:
    bare_stage.repo.commit("other", branch="trunk", files={".aynig/go": GOOD}, parent="main")
    bare_stage.repo.commit("main", files={".aynig/go": EVIL})
    bare_stage.repo.git("symbolic-ref", "HEAD", "refs/heads/trunk")
    bare_stage.task()
    bare_stage.run()
    assert "good" in files_of(bare_stage)


def test_a_task_on_the_default_branch_runs_what_it_says_now(bare_stage: Stage) -> None:
    bare_stage.task("echo now >now", branch="main")
    bare_stage.run()
    assert "now" in files_of(bare_stage, "main")


@pytest.mark.parametrize("setting", ["branch", "refs/heads/scripts", "scripts", "scripts-tag"])
def test_aynig_scripts_names_where_they_come_from(bare_stage: Stage, setting: str) -> None:
    repo = bare_stage.repo
    repo.commit("main", files={".aynig/go": EVIL})
    repo.commit("scripts", branch="scripts", files={".aynig/go": GOOD}, parent="main")
    repo.git("tag", "scripts-tag", "scripts")
    own = GOOD if setting == "branch" else EVIL
    bare_stage.task(files={".aynig/go": own})
    repo.git("config", "aynig.scripts", setting)
    bare_stage.run()
    assert "good" in files_of(bare_stage)
    assert "evil" not in files_of(bare_stage)


def test_in_a_clone_scripts_may_come_from_another_ref_as_well(stage: Stage) -> None:
    stage.repo.commit("scripts", branch="scripts", files={".aynig/go": GOOD})
    stage.repo.git("config", "aynig.scripts", "refs/heads/scripts")
    stage.task(files={".aynig/go": EVIL})
    stage.run()
    assert "good" in files_of(stage)


def test_in_a_clone_each_branch_brings_its_own(stage: Stage) -> None:
    stage.repo.commit("main", files={".aynig/go": EVIL})
    stage.task(files={".aynig/go": GOOD})
    stage.run()
    assert "good" in files_of(stage)


def test_a_trusted_ref_that_is_missing_holds_all_until_it_is_there(bare_stage: Stage) -> None:
    bare_stage.repo.git("config", "aynig.scripts", "refs/heads/scripts")
    bare_stage.task(files={".aynig/go": EVIL})
    with bare_stage.live() as told:
        wait_for(lambda: told.holds("task"), what="a hold")
        assert "refs/heads/scripts" in bare_stage.status().detail
        bare_stage.repo.commit("scripts", branch="scripts", files={".aynig/go": GOOD})
        bare_stage.wait_for_state("done")
    assert len(told.holds("task")) == 1
    assert "good" in files_of(bare_stage)


# --- what is in the tree -------------------------------------------------------------------------


def test_only_blobs_with_the_run_bit_are_runnable(bare_stage: Stage) -> None:
    bare_stage.repo.commit("x", files={".aynig/go": "echo no first line\n"})
    bare_stage.task()
    assert bare_stage.run().holds("task") == ["not-executable"]


def test_scripts_run_from_a_private_copy(bare_stage: Stage) -> None:
    script = '#!/bin/sh\nprintf %s "$AYNIG_HOME" >home\nprintf %s "$0" >program\n'
    bare_stage.repo.commit("x", files={".aynig/go": script})
    bare_stage.task()
    bare_stage.run()
    home = Path(bare_stage.repo.git("show", "task:home"))
    assert home.is_relative_to(bare_stage.repo.git_dir / "aynig")
    assert bare_stage.repo.git("show", "task:program") == str(home / "go")
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_a_task_that_changes_the_scripts_in_its_worktree_changes_not_what_runs(
    bare_stage: Stage,
) -> None:
    script = '#!/bin/sh\nmkdir -p .aynig\nprintf "#!/bin/sh\\necho evil >evil\\n" >.aynig/second\n'
    config = "states:\n  go:\n    next: second\n    may-change: [.aynig]\n"
    trusted = {".aynig/go": script, ".aynig/second": GOOD, ".aynig/config.yaml": config}
    bare_stage.repo.commit("x", files=trusted)
    bare_stage.task()
    bare_stage.run()
    assert "good" in files_of(bare_stage)
    assert "evil" not in files_of(bare_stage)


# --- trailers are claims -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key", ["PATH", "LD-PRELOAD", "AYNIG-HOME", "AYNIG-RESPONSE", "BASH-ENV", "ENV", "GIT-DIR"]
)
def test_a_trailer_sets_no_variable_of_another_name(stage: Stage, key: str) -> None:
    stage.task(
        "env >variables",
        message=f"x\n\naynig: go\naynig: {key.lower()}: /evil/field\n{key}: /evil/trailer\n",
    )
    stage.run()
    lines = stage.repo.git("show", "task:variables").splitlines()
    name = f"AYNIG_TRAILER_{key.replace('-', '_')}"
    assert f"{name}=/evil/field" in lines
    assert [line for line in lines if line.startswith(f"{name}=")] == [f"{name}=/evil/field"]
    # The second value is on a line of its own.
    assert [line for line in lines if "/evil" in line and "=" in line] == [f"{name}=/evil/field"]


@pytest.mark.parametrize(
    "field", ["role: evil", "script: .aynig/evil", "next: evil", "timeout: 0", "env: X=1"]
)
def test_a_trailer_names_no_program_and_no_setting(stage: Stage, field: str) -> None:
    stage.task(
        message=f"x\n\naynig: go\naynig: {field}\n",
        files={".aynig/go": GOOD, ".aynig/evil": EVIL, ".aynig/roles/evil/go": EVIL},
    )
    stage.run()
    assert "good" in files_of(stage)
    assert stage.repo.state("task") == "done"


@pytest.mark.parametrize("state", ["roles", "config-yaml", "lib"])
def test_a_state_that_names_something_else_in_the_tree_runs_nothing(
    stage: Stage, state: str
) -> None:
    files = {".aynig/roles/r/go": EVIL, ".aynig/config.yaml": "{}", ".aynig/lib/x": EVIL}
    stage.task(state=state, files=files)
    told = stage.run()
    assert told.of("hold", "task")
    assert not told.of("run")


def test_values_reach_no_shell(stage: Stage, tmp_path: Path) -> None:
    value = f"$(touch {tmp_path}/ran);`touch {tmp_path}/ran`|touch {tmp_path}/ran\\"
    stage.task(
        'printf %s "$AYNIG_TRAILER_NOTE" >note; exit 1',
        branch=f"a;touch$IFS{tmp_path}/ran".replace("..", ""),
        message=f"{value}\n\n{value}\n\naynig: go\naynig: note: {value}\naynig: depends-on: main\n",
    )
    stage.repo.commit("done\n\naynig: done\n")
    stage.run()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name", ["--help", "-x", "main --output=x", "HEAD@{0}", "x..y", "^main", ":/x", "../../x", ""]
)
def test_a_dependency_that_reads_like_an_option_is_only_one_that_is_missing(
    stage: Stage, name: str
) -> None:
    oid = stage.task("echo x >x", fields={"depends-on": name})
    stage.task("exit 0", branch="z")
    told = stage.run()
    assert not told.of("run", "task")
    assert stage.repo.tip("task") == oid
    assert stage.repo.state("z") == "done"


# --- git is called with nothing of the content's -------------------------------------------------


def test_filters_that_the_content_asks_for_run_only_where_the_user_configured_them(
    stage: Stage,
) -> None:
    files = {".gitattributes": "*.x filter=case\n", "a.x": "text\n"}
    stage.task("cat a.x >seen", files=files)
    stage.run()
    assert stage.repo.git("show", "task:seen") == "text"


def test_filters_of_the_user_are_applied(stage: Stage) -> None:
    stage.repo.git("config", "filter.case.smudge", "tr a-z A-Z")
    stage.repo.git("config", "filter.case.clean", "tr A-Z a-z")
    files = {".gitattributes": "*.x filter=case\n", "a.x": "text\n"}
    stage.task("cat a.x >seen; echo MORE >>a.x", files=files)
    stage.run()
    assert stage.repo.git("show", "task:seen") == "TEXT"
    assert stage.repo.git("show", "task:a.x") == "text\nmore"


def test_submodules_are_not_fetched(stage: Stage, tmp_path: Path) -> None:
    other = GitRepo.init(tmp_path / "other")
    index = {"GIT_INDEX_FILE": str(stage.repo.git_dir / "link-index")}
    oid = stage.task(
        files={".gitmodules": f'[submodule "s"]\npath=s\nurl={other.path}\n'},
        script="ls s >list; echo x >x",
        message="no state",
    )
    stage.repo.git("read-tree", oid, env=index)
    tip = other.tip()
    stage.repo.git("update-index", "--add", "--cacheinfo", f"160000,{tip},s", env=index)
    tree = stage.repo.git("write-tree", env=index)
    commit = ["commit-tree", tree, "-p", oid, "-m", "Go\n\naynig: go"]
    stage.repo.git("update-ref", "refs/heads/task", stage.repo.git(*commit))
    stage.run()
    assert stage.repo.state("task") == "done"
    assert stage.repo.git("show", "task:list") == ""
    assert stage.repo.git("ls-tree", "task", "s").split()[:3] == ["160000", "commit", tip]


@pytest.mark.parametrize(
    "path",
    [".git/config", ".GIT/config", "git~1/config", "../up", ".git\u200c/x", "a/.git/hooks/x"],
)
def test_a_tree_with_paths_that_git_refuses_spoils_nothing(
    stage: Stage, tmp_path: Path, path: str
) -> None:
    """Such a tree can't be made with git's own commands, but pushed where nothing checks it."""
    parts = path.split("/")
    blob = stage.repo.git("hash-object", "-w", "--stdin", stdin="[core]\n\tfsmonitor = evil\n")
    line = f"100644 blob {blob}\t{parts[-1]}\0"
    for part in reversed(parts[:-1]):
        line = f"40000 tree {stage.repo.git('mktree', '-z', stdin=line)}\t{part}\0"
    script = stage.repo.git("hash-object", "-w", "--stdin", stdin=GOOD)
    scripts = stage.repo.git("mktree", "-z", stdin=f"100755 blob {script}\tgo\0")
    tree = stage.repo.git("mktree", "-z", stdin=f"{line}40000 tree {scripts}\t.aynig\0")
    commit = ["commit-tree", tree, "-p", "main", "-m", "Go\n\naynig: go"]
    oid = stage.repo.git(*commit)
    stage.repo.git("update-ref", "refs/heads/task", oid)
    stage.task("exit 0", branch="z")
    before = (stage.repo.git_dir / "config").read_bytes()
    stage.run()
    assert stage.repo.state("z") == "done"
    assert (stage.repo.git_dir / "config").read_bytes() == before
    assert stage.repo.git("merge-base", "task", oid) == oid
    assert not list(tmp_path.rglob("up"))
