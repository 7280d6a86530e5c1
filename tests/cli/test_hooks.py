from __future__ import annotations

import json
import os
import shlex
import shutil
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aynig.githooks import LOCAL, SERVER, WAKE
from aynig.resources import hooks_folder
from tests.world import GitRepo, aynig, wait_for

OWN = """#!/bin/sh
# somebody's own hook
{ echo "$0 $*"; cat; } >>"$HOME/own.log"
exit 3
"""


def own_log() -> Path:
    return Path(os.environ["HOME"]) / "own.log"


def rows(repo: GitRepo, *args: str) -> dict[str, dict[str, object]]:
    done = aynig("hooks", "status", "--json", *args, cwd=repo.path)
    assert done.returncode == 0, done.stderr
    return {row["hook"]: row for row in json.loads(done.stdout)}


def states(repo: GitRepo) -> set[object]:
    return {row["state"] for row in rows(repo).values()}


def put(path: Path, text: str, mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        path.name: (stat.S_IMODE(path.lstat().st_mode), path.read_bytes())
        for path in folder.iterdir()
        if not path.name.endswith(".sample")
    }


@contextmanager
def bell(repo: GitRepo, name: str = "12345") -> Iterator[list[bytes]]:
    """A doorbell as a daemon has one; the list holds what was written to it."""
    path = repo.git_dir / "aynig" / "wake" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)
    fd = os.open(path, os.O_RDWR)
    rung: list[bytes] = []

    def listen() -> None:
        while True:
            data = os.read(fd, 100)
            # A hook may have written just before.
            if data.endswith(b"end"):
                return
            rung.append(data)

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield rung
    finally:
        path.unlink()
        os.write(fd, b"end")
        thread.join()
        os.close(fd)


# -- installing and taking out ---------------------------------------------------------------


def test_a_clone_gets_the_local_hooks_and_loses_them_again(repo: GitRepo) -> None:
    before = snapshot(repo.git_dir / "hooks")
    done = aynig("hooks", "install", cwd=repo.path)
    assert done.returncode == 0, done.stderr
    found = rows(repo)
    assert {name for name, row in found.items() if row["state"] == "installed"} == set(LOCAL)
    assert found["post-receive"]["state"] == "absent"
    assert all(os.access(str(found[name]["path"]), os.X_OK) for name in LOCAL)
    aynig("hooks", "uninstall", cwd=repo.path)
    assert snapshot(repo.git_dir / "hooks") == before
    assert states(repo) == {"absent"}


def test_a_server_gets_its_hook_and_loses_it_again(bare: GitRepo) -> None:
    before = snapshot(bare.path / "hooks")
    assert aynig("hooks", "install", "--server", cwd=bare.path).returncode == 0
    assert rows(bare)["post-receive"]["state"] == "installed"
    assert rows(bare).keys() == SERVER.keys()
    aynig("hooks", "uninstall", "--server", cwd=bare.path)
    assert snapshot(bare.path / "hooks") == before


@pytest.mark.parametrize("flags", [[], ["--server"]], ids=["local", "server"])
def test_installing_twice_is_harmless(repo: GitRepo, flags: list[str]) -> None:
    put(repo.git_dir / "hooks" / "post-commit", OWN)
    put(repo.git_dir / "hooks" / "post-receive", OWN)
    aynig("hooks", "install", *flags, cwd=repo.path)
    before = snapshot(repo.git_dir / "hooks")
    again = aynig("hooks", "install", "--json", *flags, cwd=repo.path)
    assert {row["action"] for row in json.loads(again.stdout)} == {"unchanged"}
    assert snapshot(repo.git_dir / "hooks") == before


def test_earlier_hooks_come_back_byte_for_byte_with_their_modes(repo: GitRepo) -> None:
    folder = repo.git_dir / "hooks"
    put(folder / "post-commit", OWN, 0o750)
    put(folder / "post-merge", "not even executable", 0o640)
    before = snapshot(folder)
    aynig("hooks", "install", cwd=repo.path)
    assert rows(repo)["post-commit"]["previous"] == str(folder / "post-commit.before-aynig")
    aynig("hooks", "uninstall", cwd=repo.path)
    assert snapshot(folder) == before


@pytest.mark.parametrize("flags", [[], ["--server"]], ids=["local", "server"])
def test_an_earlier_hook_that_git_passes_over_is_not_said_to_be_called(
    repo: GitRepo, flags: list[str]
) -> None:
    name = "post-receive" if flags else "post-commit"
    put(repo.git_dir / "hooks" / name, OWN, 0o644)
    done = aynig("hooks", "install", *flags, cwd=repo.path)
    assert f"{name}.before-aynig is kept and not called: it has no run bit" in done.stdout
    table = aynig("hooks", "status", cwd=repo.path).stdout
    assert "is kept and not called" in table
    assert table.count(".before-aynig") == 1
    assert "is kept and not called" in str(rows(repo)[name]["detail"])


def test_an_earlier_hook_that_is_a_symbolic_link_comes_back_as_one(repo: GitRepo) -> None:
    folder = repo.git_dir / "hooks"
    put(folder / "shared" / "hook", OWN)
    (folder / "post-commit").symlink_to("shared/hook")
    aynig("hooks", "install", cwd=repo.path)
    assert not (folder / "post-commit").is_symlink()
    aynig("hooks", "uninstall", cwd=repo.path)
    assert (folder / "post-commit").readlink() == Path("shared/hook")


def test_a_hook_that_was_changed_since_is_left_alone(repo: GitRepo) -> None:
    folder = repo.git_dir / "hooks"
    put(folder / "post-commit", OWN)
    aynig("hooks", "install", cwd=repo.path)
    with (folder / "post-commit").open("a") as file:
        file.write("echo more\n")
    changed = snapshot(folder)["post-commit"]
    assert rows(repo)["post-commit"]["state"] == "changed"
    done = aynig("hooks", "uninstall", cwd=repo.path)
    assert "it was changed since; the earlier hook is post-commit.before-aynig" in done.stdout
    assert snapshot(folder) == {
        "post-commit": changed,
        "post-commit.before-aynig": (0o755, OWN.encode()),
    }
    refused = aynig("hooks", "install", cwd=repo.path)
    assert refused.returncode == 1
    assert "was changed after aynig installed it" in refused.stderr


def test_a_hook_that_replaced_ours_is_left_alone(repo: GitRepo) -> None:
    folder = repo.git_dir / "hooks"
    put(folder / "post-commit", OWN)
    aynig("hooks", "install", cwd=repo.path)
    put(folder / "post-commit", "#!/bin/sh\n")
    assert rows(repo)["post-commit"]["state"] == "foreign"
    before = snapshot(folder)
    refused = aynig("hooks", "install", cwd=repo.path)
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1
    assert snapshot(folder) == before
    aynig("hooks", "uninstall", cwd=repo.path)
    assert snapshot(folder).keys() == {"post-commit", "post-commit.before-aynig"}


def test_a_hook_of_another_version_is_told_and_replaced(repo: GitRepo) -> None:
    import hashlib

    aynig("hooks", "install", cwd=repo.path)
    old = b"#!/bin/sh\n# as it once was\n"
    seal = b"# aynig-hook 0.0.1 %s\n" % hashlib.sha256(old).hexdigest().encode()
    (repo.git_dir / "hooks" / "post-commit").write_bytes(old + seal)
    assert rows(repo)["post-commit"]["state"] == "outdated"
    assert rows(repo)["post-commit"]["by"] == "0.0.1"
    aynig("hooks", "install", cwd=repo.path)
    assert rows(repo)["post-commit"]["state"] == "installed"
    assert not (repo.git_dir / "hooks" / "post-commit.before-aynig").exists()


def test_a_hook_without_run_bit_is_told_and_mended(repo: GitRepo) -> None:
    aynig("hooks", "install", cwd=repo.path)
    (repo.git_dir / "hooks" / "post-commit").chmod(0o644)
    if os.geteuid():
        assert rows(repo)["post-commit"]["state"] == "not-executable"
    aynig("hooks", "install", cwd=repo.path)
    assert rows(repo)["post-commit"]["state"] == "installed"
    assert os.access(repo.git_dir / "hooks" / "post-commit", os.X_OK)


@pytest.mark.parametrize("action", ["install", "uninstall"])
def test_a_state_script_changes_no_hooks(repo: GitRepo, action: str) -> None:
    before = sorted((repo.git_dir / "hooks").iterdir())
    done = aynig("hooks", action, cwd=repo.path, env={"AYNIG_RUN_ID": "0123456789"})
    assert done.returncode == 1
    assert "a state script can't change the hooks" in done.stderr
    assert sorted((repo.git_dir / "hooks").iterdir()) == before


@pytest.mark.parametrize("said", ["../own hooks", "absolute"])
def test_hooks_go_where_git_looks_for_them(repo: GitRepo, tmp_path: Path, said: str) -> None:
    path = str(tmp_path / "own hooks") if said == "absolute" else said
    repo.git("config", "core.hooksPath", path)
    done = aynig("hooks", "install", cwd=repo.path)
    assert "other repositories may use it too" in done.stdout
    assert snapshot(tmp_path / "own hooks").keys() == LOCAL.keys()
    with bell(repo) as rung:
        repo.git("commit", "--quiet", "--allow-empty", "-m", "x")
        wait_for(lambda: rung)


def test_a_linked_worktree_has_the_hooks_of_its_repository(repo: GitRepo, tmp_path: Path) -> None:
    repo.git("worktree", "add", "--quiet", str(tmp_path / "linked"), "-b", "side")
    linked = GitRepo(tmp_path / "linked")
    assert aynig("hooks", "install", cwd=linked.path).returncode == 0
    assert (repo.git_dir / "hooks" / "post-commit").is_file()
    with bell(repo) as rung:
        linked.git("commit", "--quiet", "--allow-empty", "-m", "x")
        wait_for(lambda: rung)


def test_a_hooks_folder_that_is_a_link_is_one_clear_error(bare: GitRepo, tmp_path: Path) -> None:
    shutil.move(bare.path / "hooks", tmp_path / "elsewhere")
    (bare.path / "hooks").symlink_to(tmp_path / "elsewhere")
    done = aynig("hooks", "install", "--server", cwd=bare.path)
    assert done.returncode == 1
    assert "is a symbolic link to" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "elsewhere" / "post-receive").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_hooks_folder_that_is_read_only_is_one_clear_error(bare: GitRepo) -> None:
    (bare.path / "hooks").chmod(0o555)
    done = aynig("hooks", "install", "--server", cwd=bare.path)
    (bare.path / "hooks").chmod(0o755)
    assert done.returncode == 1
    assert "is not writable" in done.stderr


def test_a_folder_that_cannot_be_made_is_one_clear_error(bare: GitRepo, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    bare.git("config", "core.hooksPath", str(tmp_path / "file"))
    done = aynig("hooks", "install", "--server", cwd=bare.path)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


def test_a_bare_repository_has_no_local_hooks(bare: GitRepo) -> None:
    done = aynig("hooks", "install", cwd=bare.path)
    assert done.returncode == 2
    assert "aynig hooks install --server" in done.stderr


# -- what the hooks do -----------------------------------------------------------------------


NAMES = sorted(path.name for path in hooks_folder().iterdir())
SHELLS = [shell for shell in ("sh", "dash", "bash", "busybox") if shutil.which(shell)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_files_are_plain_posix(shell: str, name: str) -> None:
    command = {"busybox": ["busybox", "sh"], "bash": ["bash", "--posix"]}.get(shell, [shell])
    subprocess.run([*command, "-n", str(hooks_folder() / name)], check=True)


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
@pytest.mark.parametrize("name", NAMES)
def test_shellcheck_has_no_complaint(name: str) -> None:
    done = subprocess.run(
        ["shellcheck", "--shell=sh", str(hooks_folder() / name)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == ""


@pytest.mark.parametrize(
    "command",
    [
        ["commit", "--allow-empty", "-m", "x"],
        ["commit", "--allow-empty", "--amend", "-m", "x"],
        ["merge", "--no-ff", "-m", "x", "side"],
        ["merge", "side"],
        ["switch", "side"],
        ["rebase", "--force-rebase", "HEAD~1"],
    ],
    ids=["commit", "amend", "merge", "fast-forward", "switch", "rebase"],
)
def test_what_people_do_wakes_a_daemon(repo: GitRepo, command: list[str]) -> None:
    repo.commit("second")
    repo.commit("on the side", branch="side", parent=repo.tip())
    repo.sync()
    aynig("hooks", "install", cwd=repo.path)
    with bell(repo) as rung:
        repo.git(*command)
        wait_for(lambda: rung)


def test_the_local_hooks_start_nothing(repo: GitRepo) -> None:
    aynig("hooks", "install", cwd=repo.path)
    repo.git("commit", "--allow-empty", "-m", "x")
    assert not (repo.git_dir / "aynig").exists()


def test_a_doorbell_that_nobody_answers_holds_up_no_commit(repo: GitRepo) -> None:
    aynig("hooks", "install", cwd=repo.path)
    path = repo.git_dir / "aynig" / "wake" / "12345"
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    # With a pipe for its output git would wait for whoever holds the other end.
    repo.git("commit", "--allow-empty", "-m", "x")
    assert repo.git("log", "-1", "--format=%s") == "x"


def test_an_earlier_hook_still_runs_with_its_arguments_input_and_exit_status(
    repo: GitRepo,
) -> None:
    for name in ("post-checkout", "post-rewrite"):
        put(repo.git_dir / "hooks" / name, OWN)
    aynig("hooks", "install", cwd=repo.path)
    with bell(repo) as rung:
        done = subprocess.run(
            ["git", "switch", "--quiet", "-c", "new"], cwd=repo.path, capture_output=True
        )
        # git's own exit status is that of post-checkout (githooks(5)).
        assert done.returncode == 1
        wait_for(lambda: rung)
    repo.git("commit", "--allow-empty", "--amend", "-m", "again")
    log = own_log().read_text().splitlines()
    assert log[0].endswith(f"{repo.tip('main')} {repo.tip('main')} 1")
    assert log[1].endswith("amend")
    assert log[2] == f"{repo.tip('main')} {repo.tip('new')}"


def test_the_program_is_found_again_whatever_its_path_holds(bare: GitRepo, tmp_path: Path) -> None:
    """The path of the program is written into a shell file."""
    from aynig.git.repo import Repo
    from aynig.githooks import _sealed, _template, _with_program, installed_program

    odd = tmp_path / 'it\'s "odd" $HOME `id` \\ path'
    put(odd / "python", '#!/bin/sh\nprintf "%s|" "$@" >"$HOME/told"\n')
    text = _with_program(_template(WAKE), [str(odd / "python"), "-P", "-m", "aynig"])
    put(bare.path / "hooks" / WAKE, "").write_bytes(_sealed(text))
    assert installed_program(Repo.open(bare.path)) == [str(odd / "python"), "-P", "-m", "aynig"]
    subprocess.run([bare.path / "hooks" / WAKE, bare.path], check=True)
    told = (Path(os.environ["HOME"]) / "told").read_text()
    assert told == f"-P|-m|aynig|-C|{bare.path}|run|"


def wake_with(bare: GitRepo, body: str) -> list[str]:
    """aynig-wake installed with a shell script in place of aynig; how to start it."""
    from aynig.githooks import _sealed, _template, _with_program

    stub = put(bare.path / "stub", f"#!/bin/sh\n{body}\n")
    text = _with_program(_template(WAKE), [str(stub)])
    put(bare.path / "hooks" / WAKE, "").write_bytes(_sealed(text))
    return [str(bare.path / "hooks" / WAKE), str(bare.path)]


def test_many_pushes_at_once_start_one_run_and_one_more_for_what_came_meanwhile(
    bare: GitRepo,
) -> None:
    wake = wake_with(bare, 'echo run >>"$2/runs"; until [ -e "$2/go" ]; do sleep 0.01; done')
    first = subprocess.Popen(wake)
    runs = bare.path / "runs"
    wait_for(lambda: runs.exists())
    for other in [subprocess.Popen(wake) for _ in range(20)]:
        assert other.wait() == 0
    assert runs.read_text() == "run\n"
    (bare.path / "go").touch()
    first.wait()
    assert runs.read_text() == "run\nrun\n"
    assert not (bare.path / "aynig" / "hook.lock").exists()
    assert not (bare.path / "aynig" / "hook.wanted").exists()


def test_a_lock_that_a_killed_hook_left_does_not_stop_the_next(bare: GitRepo) -> None:
    wake = wake_with(bare, 'echo run >>"$2/runs"')
    gone = subprocess.Popen(["true"])
    gone.wait()
    put(bare.path / "aynig" / "hook.lock", f"{gone.pid} 1\n")
    subprocess.run(wake, check=True)
    assert (bare.path / "runs").read_text() == "run\n"


def test_a_lock_with_a_pid_that_is_used_again_does_not_stop_the_next(bare: GitRepo) -> None:
    wake = wake_with(bare, 'echo run >>"$2/runs"')
    put(bare.path / "aynig" / "hook.lock", f"{os.getpid()} 1\n")
    subprocess.run(wake, check=True)
    assert (bare.path / "runs").read_text() == "run\n"


def test_a_daemon_that_answers_spares_the_run(bare: GitRepo) -> None:
    wake = wake_with(bare, 'echo run >>"$2/runs"')
    with bell(bare) as rung:
        subprocess.run(wake, check=True)
        wait_for(lambda: rung)
    assert not (bare.path / "runs").exists()


def test_one_that_works_on_a_part_is_woken_and_spares_no_run(bare: GitRepo) -> None:
    wake = wake_with(bare, 'echo run >>"$2/runs"')
    with bell(bare, "12345.part") as rung:
        subprocess.run(wake, check=True)
        wait_for(lambda: rung)
    assert (bare.path / "runs").read_text() == "run\n"


def test_a_daemon_that_was_killed_is_not_waited_for_in_vain(bare: GitRepo) -> None:
    wake = wake_with(bare, 'echo run >>"$2/runs"')
    path = bare.path / "aynig" / "wake" / "12345"
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    subprocess.run(wake, check=True)
    assert (bare.path / "runs").read_text() == "run\n"


def test_the_log_of_started_runs_stays_small(bare: GitRepo) -> None:
    wake = wake_with(bare, "echo told")
    log = put(bare.path / "aynig" / "hook.log", "x" * (1024 * 1024 + 1), 0o644)
    subprocess.run(wake, check=True)
    text = log.read_text()
    assert len(text) < 200
    assert text.endswith("told\n")


def test_a_run_that_is_started_has_no_variables_of_the_push(bare: GitRepo) -> None:
    wake = wake_with(bare, 'env >"$2/environment"')
    local = subprocess.run(
        ["git", "rev-parse", "--local-env-vars"], capture_output=True, text=True, check=True
    ).stdout.split()
    given = {**os.environ, "GIT_DIR": str(bare.path), "GIT_QUARANTINE_PATH": "/q"}
    subprocess.run(wake, check=True, env=given)
    names = {
        line.partition("=")[0] for line in (bare.path / "environment").read_text().splitlines()
    }
    assert not names & {*local, "GIT_QUARANTINE_PATH"}


def test_a_shared_hook_starts_nothing_where_nobody_asked_for_it(
    bare: GitRepo, tmp_path: Path
) -> None:
    """core.hooksPath may be set for all repositories of a server."""
    shared = tmp_path / "hooks"
    Path(os.environ["GIT_CONFIG_GLOBAL"]).write_text(f"[core]\nhooksPath = {shared}\n")
    aynig("hooks", "install", "--server", cwd=bare.path)
    assert (shared / "post-receive").is_file()
    other = GitRepo.init(tmp_path / "other.git", bare=True)
    clone = tmp_path / "clone"
    other.git("clone", "--quiet", str(other.path), str(clone))
    GitRepo(clone).git("commit", "--quiet", "--allow-empty", "-m", "x\n\naynig: noop")
    GitRepo(clone).git("push", "--quiet", "origin", "main")
    assert not (other.path / "aynig").exists()


def test_hooks_status_shows_a_table(repo: GitRepo) -> None:
    put(repo.git_dir / "hooks" / "post-commit", OWN)
    aynig("hooks", "install", cwd=repo.path)
    lines = aynig("hooks", "status", cwd=repo.path).stdout.splitlines()
    assert lines[0].split() == ["hook", "state", "by", "calls", "first", "detail"]
    row = next(line for line in lines if line.startswith("post-commit"))
    assert "installed" in row
    assert "post-commit.before-aynig" in row
    assert shlex.split(row)[2] == "aynig"
