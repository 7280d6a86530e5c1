"""`SharedGuard` puts back what a run changed in `config`, `hooks/` and `info/`, and says so."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from aynig.git.guard import SharedGuard, announcing
from aynig.git.repo import Repo
from tests.world import GitRepo, listening

EVIL = "#!/bin/sh\necho evil\n"


@dataclass
class Lab:
    """A repository with a hook and an ignore list, and the guard over them."""

    world: GitRepo
    keep: Path
    guard: SharedGuard

    @property
    def root(self) -> Path:
        return self.world.git_dir

    def another(self) -> SharedGuard:
        """A guard as another process has it: their locks know nothing of each other."""
        return SharedGuard(Repo.open(self.world.path), self.keep)

    def shared(self) -> dict[str, tuple[int, bytes]]:
        places = [self.root / name for name in ("config", "config.worktree", "hooks", "info")]
        for folder in places[2:]:
            places += sorted(folder.rglob("*")) if not folder.is_symlink() else []
        return {
            str(place.relative_to(self.root)): (place.lstat().st_mode, content(place))
            for place in places
            if os.path.lexists(place)
        }

    def kept(self, run: str, name: str) -> Path:
        return self.keep / run / "changed" / name


def content(place: Path) -> bytes:
    if place.is_symlink():
        return os.fsencode(place.readlink())
    return place.read_bytes() if place.is_file() else b""


def names(blame: list[str]) -> list[str]:
    """What a run is blamed for, in short."""
    found = [line.partition(" of the repository changed while it ran")[0] for line in blame]
    return [name for line in found for name in line.split(", ")]


HOOKS_PATH = "config (core.hookspath)"


@pytest.fixture
def lab(repo: GitRepo, tmp_path: Path) -> Lab:
    hooks, info = repo.git_dir / "hooks", repo.git_dir / "info"
    for folder in (hooks, info):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    (hooks / "pre-commit").write_text("#!/bin/sh\nexit 0\n")
    (hooks / "pre-commit").chmod(0o755)
    (hooks / "lib").mkdir()
    (hooks / "lib" / "part").write_text("part\n")
    (info / "exclude").write_text("*.tmp\n")
    return Lab(repo, tmp_path / "keep", SharedGuard(Repo.open(repo.path), tmp_path / "keep"))


def write(name: str, text: str = EVIL) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)

    return change


def replaced(name: str, made: Callable[[Path], object]) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        place = root / name
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink()
        made(place)

    return change


def nothing(place: Path) -> None:
    assert not place.exists()


def evil_folder(place: Path) -> None:
    elsewhere = place.parent.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "pre-commit").write_text(EVIL)
    (elsewhere / "part").write_text("precious\n")
    place.symlink_to(elsewhere)


def hooks_path(root: Path) -> None:
    with (root / "config").open("a") as file:
        file.write("[core]\n\thooksPath = /evil\n")


def other_config(place: Path) -> None:
    place.write_text("[core]\n\tfsmonitor = /evil\n")


@pytest.mark.parametrize(
    ("change", "name"),
    [
        pytest.param(hooks_path, "config", id="setting-added"),
        pytest.param(replaced("config", nothing), "config", id="config-deleted"),
        pytest.param(replaced("config", other_config), "config", id="config-replaced"),
        pytest.param(
            replaced("config", lambda place: place.symlink_to("/dev/null")), "config",
            id="config-link",
        ),
        pytest.param(replaced("config", lambda place: place.mkdir()), "config", id="config-folder"),
        pytest.param(replaced("config", os.mkfifo), "config", id="config-fifo"),
        pytest.param(write("config", "[broken"), "config", id="config-malformed"),
        pytest.param(
            write("config.worktree", "[core]\n\thooksPath = /evil\n"), "config.worktree",
            id="config.worktree",
        ),
        pytest.param(write("hooks/post-checkout"), "hooks/post-checkout", id="hook-added"),
        pytest.param(write("hooks/pre-commit"), "hooks/pre-commit", id="hook-edited"),
        pytest.param(
            replaced("hooks/pre-commit", nothing), "hooks/pre-commit", id="hook-deleted"
        ),
        pytest.param(
            lambda root: (root / "hooks/pre-commit").chmod(0o644), "hooks/pre-commit",
            id="hook-run-bit",
        ),
        pytest.param(write("hooks/lib/part"), "hooks/lib/part", id="hook-part-edited"),
        pytest.param(write("hooks/new/deep/x"), "hooks/new", id="hook-folder-added"),
        pytest.param(replaced("hooks/lib", nothing), "hooks/lib", id="hook-folder-deleted"),
        pytest.param(replaced("hooks/lib", evil_folder), "hooks/lib", id="hook-folder-link"),
        pytest.param(replaced("hooks", nothing), "hooks", id="hooks-deleted"),
        pytest.param(replaced("hooks", lambda p: p.write_text("x")), "hooks", id="hooks-file"),
        pytest.param(replaced("hooks", evil_folder), "hooks", id="hooks-link"),
        pytest.param(lambda root: (root / "hooks").chmod(0o777), "hooks", id="hooks-mode"),
        pytest.param(write("info/exclude", "*\n"), "info/exclude", id="exclude-edited"),
        pytest.param(write("info/attributes", "* filter=x\n"), "info/attributes", id="attrs"),
        pytest.param(replaced("info", nothing), "info", id="info-deleted"),
    ],
)  # fmt: skip
def test_what_a_run_changed_is_put_back_and_told(
    lab: Lab, change: Callable[[Path], None], name: str
) -> None:
    before = lab.shared()
    with lab.guard.watching("run") as blame:
        change(lab.root)
        assert lab.shared() != before
        assert blame == []
    assert lab.shared() == before
    assert len(blame) == 1
    assert names(blame)[0].split(" ")[0] == name


def test_the_changed_version_is_kept_beside_the_outputs_of_the_run(lab: Lab) -> None:
    with lab.guard.watching("run") as blame:
        write("hooks/pre-commit")(lab.root)
        hooks_path(lab.root)
    assert names(blame) == [HOOKS_PATH, "hooks/pre-commit"]
    assert blame[0].endswith("is put back; what was found there is kept in changed")
    assert lab.kept("run", "hooks/pre-commit").read_text() == EVIL
    assert "/evil" in lab.kept("run", "config").read_text()


def test_what_lies_behind_a_link_in_the_place_of_hooks_is_left_alone(lab: Lab) -> None:
    with lab.guard.watching("run"):
        replaced("hooks", evil_folder)(lab.root)
    elsewhere = lab.root.parent / "elsewhere"
    assert (elsewhere / "part").read_text() == "precious\n"
    assert (elsewhere / "pre-commit").read_text() == EVIL


def test_hooks_that_were_a_link_before_are_put_back_as_a_link(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    shutil.rmtree(lab.root / "hooks")
    (lab.root / "hooks").symlink_to(tmp_path / "theirs")
    before = lab.shared()
    with lab.guard.watching("run") as blame:
        (lab.root / "hooks").unlink()
        write("hooks/pre-commit")(lab.root)
    assert lab.shared() == before
    assert names(blame)[0] == "hooks"
    assert list((tmp_path / "theirs").iterdir()) == []


@pytest.mark.parametrize("new", ["x", "y.z"])
def test_what_git_writes_of_branches_is_left_alone(lab: Lab, new: str) -> None:
    with lab.guard.watching("run") as blame:
        lab.world.git("config", f"branch.{new}.remote", "origin")
        lab.world.git("config", f"branch.{new}.merge", f"refs/heads/{new}")
    assert blame == []
    assert lab.world.git("config", f"branch.{new}.remote") == "origin"


def test_what_git_wrote_of_branches_stays_when_a_later_run_is_put_back(lab: Lab) -> None:
    with lab.guard.watching("first"), lab.guard.watching("second") as blame:
        with lab.guard.watching("third") as harmless:
            lab.world.git("config", "branch.x.remote", "origin")
        hooks_path(lab.root)
    assert harmless == []
    assert names(blame) == [HOOKS_PATH]
    assert lab.world.git("config", "branch.x.remote") == "origin"
    assert lab.world.git("config", "core.hooksPath", check=False) == ""


def test_what_is_derived_for_servers_without_git_is_left_alone(lab: Lab) -> None:
    with lab.guard.watching("run") as blame:
        lab.world.git("update-server-info")
        assert (lab.root / "info" / "refs").exists()
    assert blame == []
    assert (lab.root / "info" / "refs").exists()


def test_a_user_may_change_what_is_shared_between_runs(lab: Lab) -> None:
    with lab.guard.watching("first"):
        pass
    hooks_path(lab.root)
    write("hooks/post-checkout")(lab.root)
    before = lab.shared()
    with lab.guard.watching("second") as blame:
        pass
    assert blame == []
    assert lab.shared() == before


def test_what_is_put_back_is_put_back_when_the_run_fails_too(lab: Lab) -> None:
    before = lab.shared()
    told: list[str] = []

    def run() -> None:
        nonlocal told
        with lab.guard.watching("run") as told:
            hooks_path(lab.root)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        run()
    assert lab.shared() == before
    assert names(told) == [HOOKS_PATH]


def test_a_file_too_large_to_keep_is_told_of_once(lab: Lab) -> None:
    (lab.root / "hooks" / "large").write_bytes(b"x" * (1024 * 1024 + 1))
    guard = lab.another()
    with guard.watching("first") as other:
        with guard.watching("run") as blame:
            write("hooks/large")(lab.root)
        assert names(blame) == ["hooks/large (too large to be put back)"]
    assert other == blame
    assert (lab.root / "hooks" / "large").read_text() == EVIL


# --- what people do meanwhile ---------------------------------------------------------------------

EVERYDAY = {
    "a-remote": ["remote", "add", "fork", "https://example.org/fork.git"],
    "a-sparse-tree": ["sparse-checkout", "set", "docs"],
    "a-first-name": ["config", "user.email", "me@example.org"],
    "how-to-pull": ["config", "pull.rebase", "true"],
    "more-jobs": ["config", "aynig.jobs", "8"],
    "a-branch": ["branch", "--track", "more", "main"],
}


@pytest.mark.parametrize("command", EVERYDAY.values(), ids=EVERYDAY)
def test_what_people_set_every_day_stays_also_beside_something_put_back(
    lab: Lab, command: list[str]
) -> None:
    lab.world.commit("one", files={"docs/a": "a\n"})
    lab.world.sync()
    with lab.guard.watching("run") as blame:
        lab.world.git(*command)
        with lab.guard.watching("other"):
            pass
        after = lab.shared()
        write("hooks/post-checkout")(lab.root)
    assert names(blame) == ["hooks/post-checkout"]
    assert lab.shared() == after


def test_a_name_for_commits_is_not_changed_where_one_is_set(lab: Lab) -> None:
    lab.world.git("config", "--global", "user.email", "me@example.org")
    before = lab.shared()
    with lab.guard.watching("run") as blame:
        lab.world.git("config", "user.email", "other@example.org")
    assert names(blame) == ["config (user.email)"]
    assert lab.shared() == before


def test_what_a_command_announces_stays_and_nothing_beside_it(lab: Lab) -> None:
    repo = Repo.open(lab.world.path)
    with lab.guard.watching("first") as first:
        with announcing(repo):
            write("hooks/post-commit", "announced\n")(lab.root)
            (lab.root / "hooks/pre-commit").unlink()
        with announcing(repo):
            write("hooks/post-merge", "announced too\n")(lab.root)
        after = lab.shared()
        with lab.another().watching("second") as second:
            write("hooks/post-checkout")(lab.root)
    assert lab.shared() == after
    assert first == second
    assert names(second) == ["hooks/post-checkout"]


def test_what_was_announced_is_protected_from_then_on(lab: Lab) -> None:
    with lab.guard.watching("run") as blame, lab.guard.watching("beside"):
        with announcing(Repo.open(lab.world.path)):
            write("hooks/post-commit", "announced\n")(lab.root)
        with lab.guard.watching("third"):
            pass
        write("hooks/post-commit")(lab.root)
    assert names(blame) == ["hooks/post-commit"]
    assert (lab.root / "hooks/post-commit").read_text() == "announced\n"


def test_an_announcement_of_long_ago_counts_no_more(lab: Lab) -> None:
    (lab.root / "aynig").mkdir()
    with announcing(Repo.open(lab.world.path)):
        write("hooks/post-commit", "announced\n")(lab.root)
    told = lab.root / "aynig" / "guard" / "announced.json"
    os.utime(told, (0, 0))
    (lab.root / "hooks/post-commit").unlink()
    before = lab.shared()
    with lab.guard.watching("run") as blame:
        write("hooks/post-commit", "announced\n")(lab.root)
    assert names(blame) == ["hooks/post-commit"]
    assert lab.shared() == before


# --- one key put back, another kept --------------------------------------------------------------

OLD = """\
# Ours.
[core]
\trepositoryformatversion = 0
\tbare = false
[push]
\tfollowTags = false
[credential]
\thelper =
\thelper = store
\thelper = "two\\nlines "
[filter "a.\\"b\\\\"]
\trequired
\tclean = ours
"""
REMOTE = '[remote "fork"]\n\turl = u\n\tfetch = f\n'


def edited(*swaps: tuple[str, str], text: str = OLD) -> str:
    for old, new in swaps:
        assert old in text
        text = text.replace(old, new)
    return text + REMOTE


def settings(lab: Lab) -> list[str]:
    listed = lab.world.git("config", "--local", "--null", "--list")
    return sorted(listed.split("\0"))


@pytest.mark.parametrize(
    ("after", "keys"),
    [
        pytest.param(edited() + "[alias]\n\tst = !x\n", ["alias.st"], id="added"),
        pytest.param(edited() + "[include]\n\tpath = x\n", ["include.path"], id="include"),
        pytest.param(edited(("\tbare = false\n", "")), ["core.bare"], id="deleted"),
        pytest.param(
            edited(("\thelper = store\n", "\thelper = !x\n")), ["credential.helper"], id="repeated"
        ),
        pytest.param(
            edited(("\trequired\n", "\trequired =\n"), ("ours\n", "theirs\n")),
            ['filter.a."b\\.clean', 'filter.a."b\\.required'],
            id="bare-and-quoted",
        ),
    ],
)
def test_what_is_harmless_stays_beside_a_setting_put_back(
    lab: Lab, after: str, keys: list[str]
) -> None:
    file = lab.root / "config"
    file.write_text(OLD + REMOTE)
    file.chmod(0o640)
    wanted = settings(lab)
    file.write_text(OLD)
    with lab.guard.watching("run") as blame, lab.another().watching("beside"):
        file.write_text(after)
        with lab.guard.watching("third"):
            pass
        assert settings(lab) == wanted
    assert len(blame) == 1
    assert blame[0].startswith(f"config ({', '.join(keys)}) of the repository changed")
    assert settings(lab) == wanted
    assert file.read_text().startswith("# Ours.\n")
    assert file.stat().st_mode & 0o777 == 0o640
    assert lab.kept("run", "config").read_text() == after
    assert sorted(path.name for path in (lab.root / "aynig" / "guard").glob("config-*")) == []


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(edited() + "[broken", id="malformed"),
        pytest.param(edited(("# Ours.\n", ""), ("= store", "= !x")), id="no-comments"),
        pytest.param(edited(("= store", "= !x")).replace(REMOTE, ""), id="nothing-harmless"),
        pytest.param("#\n" + REMOTE + "[-x]\n\ty = 1\n", id="like-an-option"),
    ],
)
def test_the_whole_file_comes_back_where_its_keys_can_not(lab: Lab, after: str) -> None:
    (lab.root / "config").write_text(OLD)
    before = lab.shared()
    with lab.guard.watching("run") as blame:
        (lab.root / "config").write_text(after)
    assert lab.shared() == before
    assert len(blame) == 1


def test_the_place_of_an_include_counts_so_the_whole_file_comes_back(lab: Lab) -> None:
    (lab.root / "config").write_text("[include]\n\tpath = mine\n" + OLD)
    before = lab.shared()
    with lab.guard.watching("run"):
        (lab.root / "config").write_text("[include]\n\tpath = theirs\n" + edited())
    assert lab.shared() == before


# --- runners that die ----------------------------------------------------------------------------

DIES = """
import os, signal, sys
from pathlib import Path
from aynig.git.guard import SharedGuard
from aynig.git.repo import Repo

repo = Repo.open(Path(sys.argv[1]))
with SharedGuard(repo, Path(sys.argv[2])).watching("dead"):
    with (repo.common_dir / "config").open("a") as file:
        file.write("[core]\\n\\thooksPath = /evil\\n" + sys.argv[3])
    (repo.common_dir / "hooks" / "pre-commit").write_text("evil")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def leave_dead(lab: Lab, more: str = "") -> None:
    command = [sys.executable, "-c", DIES, str(lab.world.path), str(lab.keep), more]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL


def test_what_a_script_changed_whose_runner_died_is_put_back(lab: Lab) -> None:
    before = lab.shared()
    leave_dead(lab)
    assert lab.shared() != before
    found = lab.another().left_behind()
    assert found == ["config (core.hookspath)", "hooks/pre-commit"]
    (told,) = lab.guard.recover()
    assert told.startswith("config (core.hookspath), hooks/pre-commit of the repository changed")
    assert lab.shared() == before
    kept = lab.root / told.rpartition(" ")[2]
    assert (kept / "hooks" / "pre-commit").read_text() == "evil"
    assert (lab.another().left_behind(), lab.another().recover()) == ([], [])


def test_what_was_found_earlier_is_not_overwritten(lab: Lab) -> None:
    for _ in range(3):
        leave_dead(lab)
        assert lab.guard.recover()
    assert len(list((lab.root / "aynig" / "guard").glob("changed-*"))) == 3


def test_what_is_harmless_or_announced_stays_after_a_death_too(lab: Lab) -> None:
    leave_dead(lab, REMOTE)
    with announcing(Repo.open(lab.world.path)):
        write("hooks/post-commit", "announced\n")(lab.root)
    assert lab.guard.recover()
    assert lab.world.git("config", "remote.fork.url") == "u"
    assert lab.world.git("config", "core.hooksPath", check=False) == ""
    assert (lab.root / "hooks/post-commit").read_text() == "announced\n"


def test_a_run_that_begins_after_a_death_is_not_blamed_for_it(lab: Lab) -> None:
    before = lab.shared()
    leave_dead(lab)
    with lab.guard.watching("next") as blame:
        assert lab.shared() == before
    assert blame == []
    assert len(lab.guard.recover()) == 1
    assert lab.guard.recover() == []


def test_what_runs_of_the_living_change_is_not_for_the_next_start(lab: Lab) -> None:
    other = lab.another()
    with lab.guard.watching("one"):
        leave_dead(lab)
        changed = lab.shared()
        assert (other.left_behind(), other.recover()) == ([], [])
        assert lab.shared() == changed
        with other.watching("two"):
            pass
    hooks_path(lab.root)
    assert (other.left_behind(), other.recover()) == ([], [])


def test_a_script_that_empties_the_file_of_the_lock_stops_nobody(lab: Lab) -> None:
    before = lab.shared()
    with lab.guard.watching("one") as blame:
        (lab.root / "aynig" / "guard" / "lock").write_text("")
        hooks_path(lab.root)
        with lab.another().watching("two"):
            pass
        assert lab.shared() == before
    assert names(blame) == [HOOKS_PATH]


# --- runs that overlap --------------------------------------------------------------------------


def test_all_runs_that_were_under_way_are_blamed(lab: Lab) -> None:
    before = lab.shared()
    with lab.guard.watching("first") as first:
        with lab.guard.watching("second") as second:
            hooks_path(lab.root)
        assert lab.shared() == before
        with lab.guard.watching("third") as third:
            pass
    assert first == second
    assert names(first) == [HOOKS_PATH]
    assert third == []


def test_a_run_that_begins_after_a_change_does_not_take_it_for_the_state_before(lab: Lab) -> None:
    before = lab.shared()
    with lab.guard.watching("first") as first:
        hooks_path(lab.root)
        with lab.guard.watching("second") as second:
            assert lab.shared() == before
    assert names(first) == [HOOKS_PATH]
    assert second == []


@pytest.mark.parametrize("later_ends_first", [True, False])
def test_a_process_that_begins_after_a_change_does_not_keep_it(
    lab: Lab, later_ends_first: bool
) -> None:
    before = lab.shared()
    one, two = lab.guard.watching("one"), lab.another().watching("two")
    blame = one.__enter__()
    hooks_path(lab.root)
    write("hooks/post-checkout")(lab.root)
    blame += two.__enter__()
    for each in (two, one) if later_ends_first else (one, two):
        each.__exit__(None, None, None)
        assert lab.shared() == before
    hooks_path(lab.root)
    changed = lab.shared()
    with lab.guard.watching("next") as fresh:
        pass
    assert fresh == []
    assert lab.shared() == changed


def test_what_one_process_let_pass_is_not_undone_by_another(lab: Lab) -> None:
    one, two = lab.guard.watching("one"), lab.another().watching("two")
    blame = (one.__enter__(), two.__enter__())
    lab.world.git("remote", "add", "fork", "https://example.org/fork.git")
    with lab.guard.watching("beside"):
        pass
    after = lab.shared()
    hooks_path(lab.root)
    for each in (two, one):
        each.__exit__(None, None, None)
    assert lab.shared() == after
    assert names(blame[1]) == [HOOKS_PATH]


def test_runs_of_another_process_are_blamed_by_it_too(lab: Lab) -> None:
    other = lab.another()
    with lab.guard.watching("one") as one:
        with other.watching("two") as two:
            hooks_path(lab.root)
        with other.watching("later") as later:
            pass
    assert one == two
    assert names(one) == [HOOKS_PATH]
    assert later == []
    with lab.guard.watching("next") as next_one:
        write("hooks/post-commit")(lab.root)
    assert names(next_one) == ["hooks/post-commit"]


# --- cost ---------------------------------------------------------------------------------------


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """The files that this process has opened."""
    with listening("open") as heard:
        yield heard


def test_where_nothing_changed_nothing_is_read_again(lab: Lab, opened: list[str]) -> None:
    shared = tuple(str(lab.root / name) for name in ("config", "hooks", "info"))
    with lab.guard.watching("first"):
        pass
    assert [path for path in opened if path.startswith(shared)]
    opened.clear()
    for run in ("second", "third"):
        with lab.guard.watching(run), lab.guard.watching(f"{run} too"):
            pass
    assert [path for path in opened if path.startswith(shared)] == []
