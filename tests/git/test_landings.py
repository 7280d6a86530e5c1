"""An answer lands in a person's working tree wholly or not at all, whatever happens on the way."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from aynig.git import landings
from aynig.git.checkouts import Checkout, DirtyWorktree, find_checkout
from aynig.git.landings import landing, recover_landings
from aynig.git.repo import Repo
from aynig.model import HEADS
from aynig.processes import is_alive
from tests.world import GitRepo, wait_for

MAIN = HEADS + "main"


@dataclass
class Lab:
    """`main` is checked out at `old`; `new` is an answer with changes of every kind."""

    world: GitRepo
    path: Path
    repo: Repo
    old: str = ""
    new: str = ""

    @property
    def checkout(self) -> Checkout:
        found = find_checkout(self.repo, MAIN)
        assert found is not None
        return found

    @property
    def git_dir(self) -> Path:
        return Path(self.git("rev-parse", "--absolute-git-dir"))

    def git(self, *args: str) -> str:
        return GitRepo(self.path).git(*args)

    def move_ref(self) -> None:
        self.world.git("update-ref", MAIN, self.new, self.old)

    def land(self) -> None:
        with landing(self.repo, self.checkout, self.old, self.new):
            self.move_ref()

    def assert_at(self, commit: str) -> None:
        """Branch, index and files are those of a commit, and nothing of a landing is left."""
        assert self.world.tip() == commit
        assert self.git("status", "--porcelain") == ""
        assert self.git("diff", "--name-only", commit) == ""
        assert self.git("diff", "--cached", "--name-only", commit) == ""
        self.assert_no_traces()

    def assert_no_traces(self) -> None:
        left = [path.name for path in self.git_dir.iterdir() if path.name.startswith("aynig-")]
        assert left == []
        assert not (self.git_dir / "index.lock").exists()
        journals = self.repo.home / "landing"
        assert not journals.exists() or list(journals.iterdir()) == []


def first(path: Path) -> None:
    """The files of `old`."""
    (path / "edited").write_text("one\n" * 1000)
    (path / "deleted").write_text("two\n")
    (path / "same").write_text("three\n")
    (path / "run").write_text("#!/bin/sh\n")
    (path / "to-folder").write_text("a file\n")
    (path / "to-file/in").mkdir(parents=True)
    (path / "to-file/in/a").write_text("a\n")
    (path / "link").symlink_to("same")
    (path / ".gitignore").write_text("*.o\n")


def second(path: Path) -> None:
    """The files of `new`."""
    (path / "edited").write_text("ONE\n" * 1000)
    (path / "deleted").unlink()
    (path / "run").chmod(0o755)
    (path / "to-folder").unlink()
    (path / "to-folder").mkdir()
    (path / "to-folder/file").write_text("in a folder\n" * 100)
    shutil.rmtree(path / "to-file")
    (path / "to-file").write_text("a file\n")
    (path / "link").unlink()
    (path / "link").symlink_to("run")
    (path / "added/deep").mkdir(parents=True)
    (path / "added/deep/file").write_text("new\n" * 1000)
    (path / os.fsdecode(b"odd\xff\n")).write_text("odd\n")


KINDS = ["main", "linked", "sparse", "split index", "untracked cache", "crlf"]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return make_lab(tmp_path, "main")


@pytest.fixture(params=KINDS)
def any_lab(request: pytest.FixtureRequest, tmp_path: Path) -> Lab:
    return make_lab(tmp_path, request.param)


def make_lab(tmp_path: Path, kind: str) -> Lab:
    world = GitRepo.init(tmp_path / "repo", empty=True)
    git = world.git
    if kind == "crlf":
        git("config", "core.autocrlf", "true")
    for fill in (first, second):
        fill(world.path)
        git("add", "--all")
        git("commit", "--quiet", "--message=state", env=world.tick())
    new, old = world.tip(), git("rev-parse", "HEAD^")
    git("reset", "--quiet", "--hard", old)
    path = world.path
    if kind == "linked":
        git("checkout", "--quiet", "--detach")
        path = tmp_path / "main"
        git("worktree", "add", "--quiet", str(path), "main")
    elif kind == "sparse":
        git("sparse-checkout", "set", "--no-cone", "/edited", "/added", "/same", "/to-file")
    elif kind == "split index":
        git("config", "core.splitIndex", "true")
        git("update-index", "--split-index")
    elif kind == "untracked cache":
        git("config", "core.untrackedCache", "true")
        git("update-index", "--untracked-cache")
    lab = Lab(world, path, Repo.open(world.path), old, new)
    lab.assert_at(old)
    return lab


def snapshot(root: Path) -> dict[str, tuple[int, bytes]]:
    """All of a folder byte for byte, but for what git writes when it is only asked."""
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder) / name
            mode = path.lstat().st_mode
            data = os.fsencode(path.readlink()) if stat.S_ISLNK(mode) else path.read_bytes()
            found[str(path.relative_to(root))] = (mode, data)
    return {name: entry for name, entry in found.items() if not name.startswith(".git/aynig/")}


# --- landing -----------------------------------------------------------------------------------


def test_files_branch_and_index_go_forward_together(any_lab: Lab) -> None:
    any_lab.land()
    any_lab.assert_at(any_lab.new)


def test_in_the_block_the_files_are_new_and_the_index_is_locked(lab: Lab) -> None:
    with landing(lab.repo, lab.checkout, lab.old, lab.new):
        assert (lab.path / "to-folder/file").exists()
        with pytest.raises(AssertionError, match=r"index\.lock"):
            lab.git("add", "same")
        with pytest.raises(DirtyWorktree, match=r"uncommitted changes|index\.lock"):
            lab.land()
        lab.move_ref()
    lab.assert_at(lab.new)


def test_a_sparse_checkout_stays_sparse(tmp_path: Path) -> None:
    lab = make_lab(tmp_path, "sparse")
    lab.land()
    names = {path.name for path in lab.path.iterdir()}
    assert names == {".git", "added", "edited", "same", "to-file"}


def test_a_branch_in_two_working_trees_goes_forward_in_both(lab: Lab, tmp_path: Path) -> None:
    other = tmp_path / "other"
    lab.git("worktree", "add", "--quiet", "--force", str(other), "main")
    lab.land()
    for path in (lab.path, other):
        Lab(lab.world, path, lab.repo, lab.old, lab.new).assert_at(lab.new)


def test_where_one_of_two_working_trees_is_dirty_neither_changes(lab: Lab, tmp_path: Path) -> None:
    other = tmp_path / "other"
    lab.git("worktree", "add", "--quiet", "--force", str(other), "main")
    (other / "added").write_text("in the way")
    with pytest.raises(DirtyWorktree, match=f"in {other}, where .*added"):
        lab.land()
    lab.assert_at(lab.old)
    assert (other / "added").read_text() == "in the way"


def test_a_clone_without_files_gets_none(tmp_path: Path, lab: Lab) -> None:
    clone = GitRepo(tmp_path / "clone")
    lab.git("clone", "--quiet", "--no-checkout", str(lab.path), str(clone.path))
    clone.git("fetch", "--quiet", "origin", lab.new)
    other = Lab(clone, clone.path, Repo.open(clone.path), lab.old, lab.new)
    other.land()
    assert clone.tip() == lab.new
    assert [path.name for path in clone.path.iterdir()] == [".git"]


# --- what is a person's is left byte for byte ---------------------------------------------------


def write(name: str, text: str = "mine\n") -> Callable[[Lab], None]:
    def change(lab: Lab) -> None:
        (lab.path / name).parent.mkdir(parents=True, exist_ok=True)
        (lab.path / name).write_text(text)

    return change


def staged(name: str) -> Callable[[Lab], None]:
    def change(lab: Lab) -> None:
        write(name)(lab)
        lab.git("add", name)

    return change


def hidden(option: str) -> Callable[[Lab], None]:
    def change(lab: Lab) -> None:
        lab.git("update-index", option, "edited")
        (lab.path / "edited").write_text("mine\n")

    return change


def marker(name: str) -> Callable[[Lab], None]:
    def change(lab: Lab) -> None:
        (lab.git_dir / name).parent.mkdir(exist_ok=True)
        (lab.git_dir / name).write_text(lab.old + "\n")

    return change


def untracked_copy(lab: Lab) -> None:
    """Exactly what the answer brings is still the person's own."""
    (lab.path / "added/deep").mkdir(parents=True)
    (lab.path / "added/deep/file").write_text("new\n" * 1000)


def link_in_the_way(lab: Lab) -> None:
    (lab.path / "added").symlink_to(lab.path.parent)


def staged_then_taken_back(lab: Lab) -> None:
    staged("edited")(lab)
    lab.git("show", f"{lab.old}:edited")
    (lab.path / "edited").write_text("one\n" * 1000)


OBSTACLES: dict[str, Callable[[Lab], None]] = {
    "edited": write("edited"),
    "edited where nothing changes": write("same"),
    "staged": staged("edited"),
    "staged new file": staged("mine"),
    "staged and taken back": staged_then_taken_back,
    "deleted": lambda lab: (lab.path / "same").unlink(),
    "hidden by assume unchanged": hidden("--assume-unchanged"),
    "hidden by skip worktree": hidden("--skip-worktree"),
    "file in the way": write("added/deep/file"),
    "empty file in the way": write("added/deep/file", ""),
    "same file in the way": untracked_copy,
    "file for a folder in the way": write("added"),
    "link in the way": link_in_the_way,
    "ignored file in a folder that becomes a file": write("to-file/x.o"),
    "untracked file in a folder that becomes a file": write("to-file/mine"),
    "folder that becomes a file has a repository": write("to-file/sub/.git/HEAD"),
    "index locked": marker("index.lock"),
    "merge": marker("MERGE_HEAD"),
    "cherry-pick": marker("CHERRY_PICK_HEAD"),
    "revert": marker("REVERT_HEAD"),
    "rebase": marker("rebase-merge/head-name"),
    "am": marker("rebase-apply/applying"),
    "bisect": marker("BISECT_START"),
    "sequencer": marker("sequencer/todo"),
    "index garbage": marker("index"),
}


@pytest.mark.parametrize("change", OBSTACLES.values(), ids=OBSTACLES.keys())
def test_uncommitted_work_is_never_touched(lab: Lab, change: Callable[[Lab], None]) -> None:
    change(lab)
    before = snapshot(lab.path)
    with (
        pytest.raises(DirtyWorktree, match="main is checked out in"),
        landing(lab.repo, lab.checkout, lab.old, lab.new),
    ):
        pytest.fail("the block must not run")
    assert snapshot(lab.path) == before
    assert lab.world.tip() == lab.old


def test_ignored_files_of_a_person_are_not_overwritten(lab: Lab) -> None:
    (lab.world.git_dir / "info").mkdir(exist_ok=True)
    (lab.world.git_dir / "info/exclude").write_text("added\n")
    write("added/deep/file", "secret\n")(lab)
    with pytest.raises(DirtyWorktree, match="added/deep/file is in the way"):
        lab.land()
    assert (lab.path / "added/deep/file").read_text() == "secret\n"
    lab.world.git("update-ref", MAIN, lab.old)


def test_untracked_and_ignored_files_beside_it_stay(lab: Lab) -> None:
    write("mine")(lab)
    write("x.o")(lab)
    lab.land()
    assert (lab.path / "mine").read_text() == (lab.path / "x.o").read_text() == "mine\n"
    assert lab.git("status", "--porcelain") == "?? mine"


# --- a block that fails ------------------------------------------------------------------------


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_when_the_block_fails_all_goes_back(any_lab: Lab, error: type[BaseException]) -> None:
    with pytest.raises(error), landing(any_lab.repo, any_lab.checkout, any_lab.old, any_lab.new):
        raise error
    any_lab.assert_at(any_lab.old)
    any_lab.land()
    any_lab.assert_at(any_lab.new)


def test_an_edit_that_is_made_meanwhile_is_not_lost_when_the_block_fails(lab: Lab) -> None:
    def edit_and_fail() -> None:
        (lab.path / "edited").write_text("mine\n")
        (lab.path / "added/mine").write_text("mine\n")
        raise RuntimeError

    with pytest.raises(RuntimeError), landing(lab.repo, lab.checkout, lab.old, lab.new):
        edit_and_fail()
    assert (lab.path / "edited").read_text() == "mine\n"
    assert (lab.path / "added/mine").read_text() == "mine\n"
    assert lab.git("status", "--porcelain") == " M edited\n?? added/"
    lab.assert_no_traces()


def test_an_index_lock_that_is_somebody_elses_by_now_is_left_alone(lab: Lab) -> None:
    lock = lab.git_dir / "index.lock"
    with landing(lab.repo, lab.checkout, lab.old, lab.new):
        lock.unlink()
        lock.write_text("another git")
        lab.move_ref()
    assert lock.read_text() == "another git"


# --- a crash -----------------------------------------------------------------------------------


def die() -> None:
    os._exit(9)


def dying_after(name: str) -> Callable[[pytest.MonkeyPatch], None]:
    """The process ends right after it has called a function of `landings`."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        real = getattr(landings, name)

        def then_die(*args: object, **options: object) -> None:
            real(*args, **options)
            die()

        monkeypatch.setattr(landings, name, then_die)

    return patch


def dying_in_move(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both we and git are killed while git writes files."""

    def half(checkout: Checkout, index: Path, old: str, new: str) -> None:
        path = checkout.work_tree
        for name in ("edited", "deleted", "to-folder", "run", "link"):
            with contextlib.suppress(OSError):
                (path / name).unlink()
        (path / "edited").write_text("ONE\n" * 10)
        (path / "added/deep").mkdir(parents=True)
        (path / "added/deep/file").write_text("")
        (path / "to-folder").mkdir()
        (path / "to-folder/file").write_text("in a folder\n" * 100)
        index.with_name(f"{index.name}.lock").write_text("half")
        die()

    monkeypatch.setattr(landings, "_move_files", half)


def dying_with_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    real = landings._Files.take_lock

    def take(self: landings._Files) -> None:
        real(self)
        die()

    monkeypatch.setattr(landings._Files, "take_lock", take)


def dying_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The index is in place already, its lock is still there."""
    monkeypatch.setattr(landings._Files, "clear", lambda self: die())


CRASHES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "announced": dying_after("_write_journal"),
    "locked": dying_with_lock,
    "index copied": dying_after("copy_file"),
    "files half written": dying_in_move,
    "files written": dying_after("_move_files"),
    "index in place": dying_at_the_end,
}


@contextlib.contextmanager
def crashed(lab: Lab, patch: Callable[[pytest.MonkeyPatch], None] | None = None) -> Iterator[None]:
    """A landing in a process that dies on the way; without `patch`, after the ref has moved."""
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            if patch is not None:
                patch(pytest.MonkeyPatch())
            with landing(lab.repo, lab.checkout, lab.old, lab.new):
                lab.move_ref()
                if patch is None:
                    die()
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    yield


@pytest.mark.parametrize("crash", CRASHES.values(), ids=CRASHES.keys())
def test_what_a_crash_leaves_half_done_is_finished_or_undone(
    lab: Lab, crash: Callable[[pytest.MonkeyPatch], None]
) -> None:
    with crashed(lab, crash):
        told = recover_landings(lab.repo, is_alive)
    assert len(told) <= 1
    lab.assert_at(lab.world.tip())
    assert recover_landings(lab.repo, is_alive) == []
    if lab.world.tip() == lab.old:
        lab.land()
        lab.assert_at(lab.new)


@pytest.mark.parametrize("kind", KINDS)
def test_before_the_branch_has_moved_the_files_go_back(tmp_path: Path, kind: str) -> None:
    lab = make_lab(tmp_path, kind)
    with crashed(lab, dying_after("_move_files")):
        assert recover_landings(lab.repo, is_alive) == [
            f"a landing in {lab.path} was cut short and is undone"
        ]
    lab.assert_at(lab.old)


@pytest.mark.parametrize("kind", KINDS)
def test_when_the_branch_has_moved_the_index_follows(tmp_path: Path, kind: str) -> None:
    lab = make_lab(tmp_path, kind)
    with crashed(lab):
        assert recover_landings(lab.repo, is_alive) == [
            f"a landing in {lab.path} was cut short and is finished"
        ]
    lab.assert_at(lab.new)


def test_a_branch_that_has_gone_on_since_counts_as_moved(lab: Lab) -> None:
    with crashed(lab):
        later = lab.world.git("commit-tree", f"{lab.new}^{{tree}}", "-p", lab.new, stdin="later")
        lab.world.git("update-ref", MAIN, later)
        recover_landings(lab.repo, is_alive)
    lab.assert_at(later)


def test_an_edit_after_the_crash_is_a_persons(lab: Lab) -> None:
    with crashed(lab, dying_after("_move_files")):
        (lab.path / "edited").write_text("mine\n")
        recover_landings(lab.repo, is_alive)
    assert (lab.path / "edited").read_text() == "mine\n"
    assert lab.git("status", "--porcelain") == " M edited"
    lab.assert_no_traces()


def test_a_lock_that_a_person_took_away_is_taken_anew(lab: Lab) -> None:
    with crashed(lab, dying_after("_move_files")):
        (lab.git_dir / "index.lock").unlink()
        recover_landings(lab.repo, is_alive)
    lab.assert_at(lab.old)


def test_while_another_git_holds_the_lock_it_is_told_and_tried_again(lab: Lab) -> None:
    with crashed(lab, dying_after("_move_files")):
        lock = lab.git_dir / "index.lock"
        lock.write_text("another git")
        told = recover_landings(lab.repo, is_alive)
        assert "index.lock" in told[0]
        assert lock.read_text() == "another git"
        lock.unlink()
        recover_landings(lab.repo, is_alive)
    lab.assert_at(lab.old)


def test_the_landing_of_a_living_process_is_left_alone(lab: Lab) -> None:
    with landing(lab.repo, lab.checkout, lab.old, lab.new):
        assert recover_landings(lab.repo, is_alive) == []
        lab.move_ref()
    lab.assert_at(lab.new)


def test_a_git_that_outlives_its_runner_is_ended_before_the_files_go_back(
    lab: Lab, tmp_path: Path
) -> None:
    """A slow filter keeps the git of the dead runner at its work."""
    started = tmp_path / "started"
    lab.world.git("config", "filter.slow.smudge", f"touch {started}; exec sleep 60")
    (lab.world.git_dir / "info").mkdir(exist_ok=True)
    (lab.world.git_dir / "info/attributes").write_text("added/deep/file filter=slow\n")
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            lab.land()
        os._exit(1)
    wait_for(started.exists, what="the filter")
    os.kill(child, 9)
    os.waitpid(child, 0)
    lab.world.git("config", "filter.slow.smudge", "cat")
    recover_landings(lab.repo, is_alive)
    lab.assert_at(lab.old)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"holder": {}}', b"\xff"])
def test_a_journal_that_says_nothing_is_kept_for_a_while(lab: Lab, content: bytes) -> None:
    folder = lab.repo.home / "landing"
    folder.mkdir(parents=True)
    journal = folder / f"{os.getpid()}-x.json"
    journal.write_bytes(content)
    assert recover_landings(lab.repo, is_alive) == []
    assert journal.exists()
    os.utime(journal, (1, 1))
    assert recover_landings(lab.repo, is_alive) == []
    assert not journal.exists()
