"""`WorktreePool` lends clean worktrees, whatever the last script did, and loses nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aynig.errors import GitFailed, RunFault
from aynig.git import worktree as one_worktree
from aynig.git.disk import delete_folder
from aynig.git.repo import Repo
from aynig.git.worktree import Harvest, Worktree
from aynig.git.worktrees import WorktreePool, registered
from tests.world import GitRepo

ODD = os.fsdecode(b"odd\xff\nname")


@dataclass
class Lab:
    """A repository with a commit of many kinds of files, and a pool of its worktrees."""

    world: GitRepo
    pool: WorktreePool
    tip: str = ""
    tree: str = ""
    # A folder beside the repository that no worktree may touch.
    outside: Path = field(default_factory=Path)

    def commit(self, *paths: str) -> None:
        self.world.git("add", *(paths or ["--all"]))
        self.world.git("commit", "--quiet", "--message=next", env=self.world.tick())
        self.tip = self.world.tip()
        self.tree = self.world.git("rev-parse", "HEAD^{tree}")

    @contextlib.contextmanager
    def lend(self) -> Iterator[Worktree]:
        with self.pool.lend(self.tip, self.tree) as worktree:
            yield worktree

    def run(self, change: Callable[[Path], None]) -> Harvest:
        """One run whose script is `change`."""
        with self.lend() as worktree:
            change(worktree.path)
            return worktree.harvest(self.tip, self.tree)

    def assert_clean(self, worktree: Worktree) -> None:
        assert on_disk(worktree.path) == in_git(self.world, self.tip)
        status = git(worktree.path, "status", "--porcelain", "--ignored", "--untracked-files=all")
        assert status == ""
        assert git(worktree.path, "rev-parse", "HEAD") == self.tip
        assert git(worktree.path, "rev-parse", "--abbrev-ref", "HEAD") == "HEAD"
        assert git(worktree.path, "ls-files", "-v", "-z").upper().split("\0")[0][:1] == "H"


def git(path: Path, *args: str) -> str:
    return GitRepo(path).git(*args)


def in_turn(*steps: Callable[[], object]) -> None:
    """Several steps in one expression."""
    for step in steps:
        step()


def on_disk(root: Path) -> dict[str, tuple[str, bytes]]:
    """Every entry below a folder but `.git`: folders too, which git does not know."""
    found = {}
    for folder, names, files in os.walk(root):
        for name in [*names, *files]:
            path = Path(folder) / name
            shown = str(path.relative_to(root))
            if shown == ".git" or shown.startswith(".git/"):
                continue
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                found[shown] = ("120000", os.fsencode(path.readlink()))
            elif stat.S_ISDIR(mode):
                found[shown] = ("folder", b"")
            elif stat.S_ISREG(mode):
                found[shown] = ("100755" if mode & 0o100 else "100644", path.read_bytes())
            else:
                found[shown] = ("special", b"")
    return found


def in_git(world: GitRepo, commit: str) -> dict[str, tuple[str, bytes]]:
    """What `on_disk` has to show for a commit without filters."""
    found = {}
    for line in world.git("ls-tree", "-r", "-z", commit).split("\0"):
        if not line:
            continue
        head, _, path = line.partition("\t")
        mode, _, oid = head.split(" ")
        for folder in list(Path(path).parents)[:-1]:
            found[str(folder)] = ("folder", b"")
        if mode == "160000":
            found[path] = ("folder", b"")
            continue
        done = subprocess.run(
            ["git", "cat-file", "blob", oid], cwd=world.path, capture_output=True, check=True
        )
        found[path] = (mode, done.stdout)
    return found


def furnish(root: Path) -> None:
    """Files of every kind that a tree can have."""
    (root / "a").write_text("one\n")
    (root / "run").write_text("#!/bin/sh\n")
    (root / "run").chmod(0o755)
    (root / "deep/er").mkdir(parents=True)
    (root / "deep/er/b").write_text("two\n")
    (root / "deep/c").write_text("three\n")
    (root / "link").symlink_to("deep/c")
    (root / "nowhere").symlink_to("/nonexistent/target")
    (root / ODD).write_text("odd\n")
    (root / "sp ace").write_text("")
    (root / ".gitignore").write_text("*.o\nbuild/\n")
    (root / "kept.o").write_text("tracked and ignored\n")


@pytest.fixture(params=["libgit2", "git"])
def lab(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Lab]:
    """Both ways of filling a worktree: trees above the limit go through git."""
    if request.param == "git":
        monkeypatch.setattr(one_worktree, "_LARGE", -1)
    yield from make_lab(tmp_path)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Lab]:
    yield from make_lab(tmp_path)


def make_lab(tmp_path: Path) -> Iterator[Lab]:
    world = GitRepo.init(tmp_path / "repo", empty=True)
    furnish(world.path)
    world.git("add", "--force", "kept.o")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine\n")
    made = Lab(world, WorktreePool(Repo.open(world.path)), outside=outside)
    made.commit()
    yield made
    assert on_disk(outside) == {"precious": ("100644", b"mine\n")}
    made.pool.close()


# --- never handed over dirty -------------------------------------------------------------------


def admin_of(path: Path) -> Path:
    return Path((path / ".git").read_text().removeprefix("gitdir: ").strip())


def nested_repository(path: Path, *, commit: bool) -> None:
    GitRepo.init(path, empty=not commit)
    (path / "file").write_text("x")


def replace_git_file_by_repository(path: Path) -> None:
    (path / ".git").unlink()
    git(path, "init", "--quiet")


def hide_edit(path: Path, option: str) -> None:
    git(path, "update-index", option, "a")
    (path / "a").write_text("hidden\n")


def leave_socket(path: Path) -> None:
    here = Path.cwd()
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(path)
        server.bind("socket")
        os.chdir(here)


def sparse_giant(path: Path) -> None:
    with (path / "giant.o").open("wb") as file:
        file.truncate(2 * 1024**3)


def in_admin(path: Path, name: str, content: bytes = b"") -> None:
    place = admin_of(path) / name
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(content)


def replace_by_link(path: Path, target: Path) -> None:
    shutil.rmtree(path)
    path.symlink_to(target)


def replace_file_by_link(path: Path, target: Path) -> None:
    path.unlink()
    path.symlink_to(target)


def replace_by_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def forge_time(path: Path) -> None:
    """An edit of the same length that pretends to be as old as the file was."""
    before = (path / "a").stat()
    (path / "a").write_text("ONE\n")
    os.utime(path / "a", ns=(before.st_atime_ns, before.st_mtime_ns))


def move_admin(path: Path) -> None:
    admin = admin_of(path)
    (admin / "gitdir").write_text("/nonexistent/.git\n")
    (admin / "commondir").write_text("/nonexistent\n")


VANDALS: dict[str, Callable[[Path, Path], object]] = {
    "nothing": lambda path, out: None,
    "edited": lambda path, out: (path / "a").write_text("changed\n"),
    "edited, same length, at once": lambda path, out: (path / "a").write_text("ONE\n"),
    "edited, with the time of before": lambda path, out: forge_time(path),
    "untracked": lambda path, out: (path / "new").write_text("x"),
    "untracked in a new folder": lambda path, out: (path / "n/e/w").mkdir(parents=True),
    "ignored": lambda path, out: (path / "x.o").write_text("x"),
    "ignored folder": lambda path, out: in_turn(
        lambda: (path / "build").mkdir(),
        lambda: (path / "build/x").write_text("x"),
    ),
    "deleted": lambda path, out: in_turn(*[(path / name).unlink for name in ("a", "link", ODD)]),
    "deleted folder": lambda path, out: shutil.rmtree(path / "deep"),
    "empty folder": lambda path, out: (path / "deep/empty").mkdir(),
    "run bit set": lambda path, out: (path / "a").chmod(0o755),
    "run bit taken": lambda path, out: (path / "run").chmod(0o644),
    "file without any bit": lambda path, out: (path / "a").chmod(0),
    "folder without any bit": lambda path, out: (path / "deep").chmod(0),
    "root without any bit": lambda path, out: path.chmod(0),
    "file replaced by folder": lambda path, out: in_turn(
        lambda: (path / "a").unlink(), lambda: (path / "a").mkdir()
    ),
    "folder replaced by file": lambda path, out: in_turn(
        lambda: shutil.rmtree(path / "deep"),
        lambda: (path / "deep").write_text("x"),
    ),
    "folder replaced by link": lambda path, out: replace_by_link(path / "deep", out),
    "file replaced by link": lambda path, out: replace_file_by_link(path / "a", out / "precious"),
    "circular links": lambda path, out: in_turn(
        lambda: (path / "x").symlink_to("y"),
        lambda: (path / "y").symlink_to("x"),
    ),
    "FIFO": lambda path, out: os.mkfifo(path / "fifo"),
    "FIFO for a file": lambda path, out: replace_by_fifo(path / "a"),
    "socket": lambda path, out: leave_socket(path),
    "odd names": lambda path, out: (path / os.fsdecode(b"\xfe\n\t\\")).write_text("x"),
    "giant": lambda path, out: sparse_giant(path),
    "repository inside": lambda path, out: nested_repository(path / "sub", commit=True),
    "empty repository inside": lambda path, out: nested_repository(path / "sub", commit=False),
    "ignored repository inside": lambda path, out: nested_repository(path / "build", commit=True),
    ".git replaced by a folder": lambda path, out: replace_git_file_by_repository(path),
    ".git deleted": lambda path, out: (path / ".git").unlink(),
    ".git elsewhere": lambda path, out: (path / ".git").write_text(f"gitdir: {out}\n"),
    ".git a link": lambda path, out: replace_file_by_link(path / ".git", out / "precious"),
    ".git a FIFO": lambda path, out: replace_by_fifo(path / ".git"),
    "assume unchanged": lambda path, out: hide_edit(path, "--assume-unchanged"),
    "skip worktree": lambda path, out: hide_edit(path, "--skip-worktree"),
    "index locked": lambda path, out: in_admin(path, "index.lock"),
    "index deleted": lambda path, out: (admin_of(path) / "index").unlink(),
    "index garbage": lambda path, out: in_admin(path, "index", b"garbage"),
    "index a link": lambda path, out: replace_file_by_link(
        admin_of(path) / "index", out / "precious"
    ),
    "index split": lambda path, out: git(path, "update-index", "--split-index"),
    "index version 4": lambda path, out: git(path, "update-index", "--index-version", "4"),
    "staged": lambda path, out: in_turn(
        lambda: (path / "n").write_text("x"), lambda: git(path, "add", "n")
    ),
    "our index garbage": lambda path, out: in_admin(path, "pristine", b"DIRC garbage"),
    "our index emptied": lambda path, out: in_turn(
        lambda: git(path, "read-tree", "--empty"),
        lambda: shutil.copy(admin_of(path) / "index", admin_of(path) / "pristine"),
    ),
    "merge begun": lambda path, out: in_admin(path, "MERGE_HEAD", b"0" * 40),
    "rebase begun": lambda path, out: in_admin(path, "rebase-merge/done"),
    "cherry-pick begun": lambda path, out: in_admin(path, "CHERRY_PICK_HEAD", b"0" * 40),
    "settings of its own": lambda path, out: in_admin(
        path, "config.worktree", b"[core]\n\tbare = true\n"
    ),
    "on a branch": lambda path, out: git(path, "checkout", "--quiet", "-b", "own"),
    "on an unborn branch": lambda path, out: git(path, "symbolic-ref", "HEAD", "refs/heads/none"),
    "HEAD garbage": lambda path, out: in_admin(path, "HEAD", b"\xff\0garbage"),
    "HEAD a link": lambda path, out: replace_file_by_link(
        admin_of(path) / "HEAD", out / "precious"
    ),
    "HEAD a FIFO": lambda path, out: replace_by_fifo(admin_of(path) / "HEAD"),
    "tree removed": lambda path, out: shutil.rmtree(path),
    "tree a link elsewhere": lambda path, out: replace_by_link(path, out),
    "tree a file": lambda path, out: in_turn(
        lambda: shutil.rmtree(path), lambda: path.write_text("x")
    ),
    "admin removed": lambda path, out: shutil.rmtree(admin_of(path)),
    "admin a link elsewhere": lambda path, out: replace_by_link(admin_of(path), out),
    "admin points elsewhere": lambda path, out: move_admin(path),
    "parked copy in the way": lambda path, out: in_turn(
        lambda: (path.parent / "admin").mkdir(),
        lambda: (path.parent / "admin/x").write_text(""),
    ),
    "committed": lambda path, out: in_turn(
        lambda: (path / "n").write_text("x"),
        lambda: git(path, "add", "n"),
        lambda: git(path, "commit", "--quiet", "--message=own"),
    ),
    "fsmonitor valid": lambda path, out: git(path, "update-index", "--fsmonitor"),
    "unregistered": lambda path, out: git(
        path, "worktree", "remove", "--force", "--force", str(path)
    ),
}


@pytest.mark.parametrize("asked", [True, False], ids=["harvested", "not harvested"])
@pytest.mark.parametrize("vandal", VANDALS.values(), ids=VANDALS.keys())
def test_a_worktree_is_never_handed_over_dirty(
    lab: Lab, vandal: Callable[[Path, Path], object], asked: bool
) -> None:
    with lab.lend() as worktree:
        lab.assert_clean(worktree)
        vandal(worktree.path, lab.outside)
        if asked:
            with contextlib.suppress(RunFault, GitFailed):
                worktree.harvest(lab.tip, lab.tree)
    assert registered(Repo.open(lab.world.path)) == []
    with lab.lend() as worktree:
        lab.assert_clean(worktree)


def test_the_next_commit_gets_its_own_files(lab: Lab) -> None:
    first = lab.tip, lab.tree
    (lab.world.path / "a").unlink()
    shutil.rmtree(lab.world.path / "deep")
    (lab.world.path / "a").mkdir()
    (lab.world.path / "a/b").write_text("deeper\n")
    (lab.world.path / "deep").write_text("a file now\n")
    lab.commit()
    second = lab.tip, lab.tree
    for lab.tip, lab.tree in (first, second, first, second, second):
        with lab.lend() as worktree:
            lab.assert_clean(worktree)
            worktree.harvest(lab.tip, lab.tree)


@pytest.mark.parametrize("turned", [True, False])
def test_a_link_is_not_written_through(lab: Lab, turned: bool) -> None:
    if not turned:
        for name, target in (("link", lab.outside / "precious"), ("nowhere", lab.outside)):
            replace_file_by_link(lab.world.path / name, target)
        lab.commit()
    first = lab.tip, lab.tree
    (lab.world.path / "link").unlink()
    (lab.world.path / "link").write_text("a file now\n")
    (lab.world.path / "nowhere").unlink()
    (lab.world.path / "nowhere").mkdir()
    (lab.world.path / "nowhere/precious").write_text("new\n")
    lab.commit()
    for asked in (True, False):
        with lab.pool.lend(*first) as worktree:
            for name, target in (("link", lab.outside / "precious"), ("nowhere", lab.outside)):
                replace_file_by_link(worktree.path / name, target)
            if asked:
                assert worktree.harvest(*first).changed == turned
        with lab.lend() as worktree:
            lab.assert_clean(worktree)


def test_an_edit_within_the_same_tick_as_the_filling_is_not_missed(lab: Lab) -> None:
    for number in range(30):
        with lab.lend() as worktree:
            assert (worktree.path / "a").read_text() == "one\n", number
            with (worktree.path / "a").open("r+") as file:
                file.write("ONE\n")
            assert worktree.harvest(lab.tip, lab.tree).changed
        with lab.lend() as worktree:
            assert (worktree.path / "a").read_text() == "one\n", number


def test_an_edit_right_after_a_clean_harvest_is_not_missed(lab: Lab) -> None:
    for number in range(30):
        for _ in range(2):
            with lab.lend() as worktree:
                assert not worktree.harvest(lab.tip, lab.tree).changed
        with lab.lend() as worktree:
            with (worktree.path / "a").open("r+") as file:
                file.write("ONE\n")
            assert worktree.harvest(lab.tip, lab.tree).changed, number


@pytest.mark.parametrize(
    "setting",
    [
        "core.sparseCheckout=true",
        "core.splitIndex=true",
        "core.untrackedCache=true",
        "index.version=4",
        "feature.manyFiles=true",
        "core.autocrlf=input",
        "core.fsmonitor=/nonexistent/program",
        "core.preloadIndex=false",
        "core.bigFileThreshold=1",
        "core.attributesFile=/nonexistent",
        "core.excludesFile=/nonexistent",
        "core.logAllRefUpdates=always",
        "core.trustctime=false",
        "core.hooksPath=/nonexistent",
        "checkout.workers=4",
    ],
)
def test_settings_of_the_user_do_not_show_in_the_files(lab: Lab, setting: str) -> None:
    key, _, value = setting.partition("=")
    lab.world.git("config", key, value)
    if key == "core.sparseCheckout":
        info = lab.world.git_dir / "info"
        info.mkdir(exist_ok=True)
        (info / "sparse-checkout").write_text("/a\n")
    pool = WorktreePool(Repo.open(lab.world.path))
    for _ in range(2):
        with pool.lend(lab.tip, lab.tree) as worktree:
            assert on_disk(worktree.path) == in_git(lab.world, lab.tip)
            (worktree.path / "deep/c").write_text("changed\n")
            assert worktree.harvest(lab.tip, lab.tree).changed
    pool.close()


# --- attributes --------------------------------------------------------------------------------

LOUD = {"filter.loud.smudge": "tr a-z A-Z", "filter.loud.clean": "tr A-Z a-z"}


@pytest.mark.parametrize(
    ("attributes", "wanted"),
    [
        ("* -text\n", b"words\n"),
        ("a text eol=crlf\n", b"words\r\n"),
        ("a filter=loud\n", b"WORDS\n"),
        ("[attr]noise filter=loud\na noise\n", b"WORDS\n"),
        ("a text working-tree-encoding=UTF-16LE\n", "words\n".encode("utf-16-le")),
    ],
    ids=["none", "crlf", "filter", "macro", "encoding"],
)
def test_attributes_decide_about_the_files_of_each_commit_alone(
    lab: Lab, attributes: str, wanted: bytes
) -> None:
    for key, value in LOUD.items():
        lab.world.git("config", key, value)
    (lab.world.path / "a").write_text("words\n")
    lab.commit()
    plain = lab.tip, lab.tree
    # The file itself is the same in both commits.
    (lab.world.path / ".gitattributes").write_text(attributes)
    lab.commit(".gitattributes")
    other = lab.tip, lab.tree
    for lab.tip, lab.tree in (plain, other, plain, other, other):
        with lab.lend() as worktree:
            expected = wanted if lab.tip == other[0] else b"words\n"
            assert (worktree.path / "a").read_bytes() == expected
            assert worktree.harvest(lab.tip, lab.tree) == Harvest(lab.tip, lab.tree, changed=False)
            (worktree.path / "a").write_bytes(expected * 2)
            tree = worktree.harvest(lab.tip, lab.tree).tree
            assert lab.world.git("cat-file", "blob", f"{tree}:a") == "words\nwords"


def test_attributes_beside_the_tree_are_obeyed(small: Lab, tmp_path: Path) -> None:
    for key, value in LOUD.items():
        small.world.git("config", key, value)
    place = Path(os.environ["XDG_CONFIG_HOME"]) / "git" / "attributes"
    place.parent.mkdir(parents=True)
    place.write_text("a filter=loud\n")
    for _ in range(2):
        with small.lend() as worktree:
            assert (worktree.path / "a").read_text() == "ONE\n"
            (worktree.path / "a").write_text("x")


def test_line_ends_of_the_system_are_obeyed(small: Lab) -> None:
    small.world.git("config", "core.autocrlf", "true")
    pool = WorktreePool(Repo.open(small.world.path))
    for _ in range(3):
        with pool.lend(small.tip, small.tree) as worktree:
            assert (worktree.path / "a").read_bytes() == b"one\r\n"
            assert not worktree.harvest(small.tip, small.tree).changed
            (worktree.path / "a").write_bytes(b"two\r\n")
            tree = worktree.harvest(small.tip, small.tree).tree
            assert small.world.git("cat-file", "blob", f"{tree}:a") == "two"
    pool.close()


# --- harvest -----------------------------------------------------------------------------------


def ordinary(lab: Lab, change: Callable[[Path], object], tmp_path: Path) -> str:
    """The tree that `git add --all` makes of a change in a plain clone."""
    clone = tmp_path / "clone"
    lab.world.git("clone", "--quiet", "--shared", str(lab.world.path), str(clone))
    change(clone)
    git(clone, "add", "--all")
    tree = git(clone, "write-tree")
    delete_folder(clone)
    return tree


def all_deleted(path: Path) -> None:
    for entry in path.iterdir():
        if entry.name == ".git":
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def link_for_file(path: Path) -> None:
    (path / "a").unlink()
    (path / "a").symlink_to("run")


def folder_for_file(path: Path) -> None:
    (path / "a").unlink()
    (path / "a").mkdir()
    (path / "a/b").write_text("x")


def file_for_folder(path: Path) -> None:
    shutil.rmtree(path / "deep")
    (path / "deep").write_text("x")


def file_for_link(path: Path) -> None:
    (path / "link").unlink()
    (path / "link").write_text("x")


def new_ignores(path: Path) -> None:
    (path / ".gitignore").write_text("*.p\n!keep.p\n/deep/er/**\n")
    for name in ("x.p", "keep.p", "y.o", "deep/er/new"):
        (path / name).write_text(name)


def staged_and_edited(path: Path) -> None:
    (path / "a").write_text("staged\n")
    git(path, "add", "a")
    (path / "a").write_text("edited\n")


def forced(path: Path) -> None:
    (path / "forced.o").write_text("x")
    git(path, "add", "--force", "forced.o")


CHANGES: dict[str, Callable[[Path], object]] = {
    "nothing": lambda path: None,
    "edited": lambda path: (path / "a").write_text("changed\n"),
    "edited, same length": lambda path: (path / "a").write_text("ONE\n"),
    "new": lambda path: (path / "new").write_text("x"),
    "new, empty": lambda path: (path / "new").touch(),
    "new in folders": lambda path: in_turn(
        lambda: (path / "n/e").mkdir(parents=True), lambda: (path / "n/e/w").touch()
    ),
    "deleted": lambda path: (path / "a").unlink(),
    "deleted folder": lambda path: shutil.rmtree(path / "deep"),
    "all deleted": lambda path: all_deleted(path),
    "run bit": lambda path: in_turn(
        lambda: (path / "a").chmod(0o755), lambda: (path / "run").chmod(0o600)
    ),
    "link": lambda path: (path / "l2").symlink_to(os.fsdecode(b"a\xff")),
    "link for file": link_for_file,
    "file for link": file_for_link,
    "folder for file": folder_for_file,
    "file for folder": file_for_folder,
    "odd names": lambda path: [
        (path / os.fsdecode(name)).write_text("x")
        for name in (b"\xff", b"new\nline", b"-dash", b":colon", b"*", b"[a]", b"tab\t", b'"')
    ],
    "ignored": lambda path: (path / "x.o").write_text("x"),
    "ignored, tracked, edited": lambda path: (path / "kept.o").write_text("changed"),
    "other ignores": new_ignores,
    "ignored by force": forced,
    "staged": staged_and_edited,
    "looked at": lambda path: in_turn(lambda: (path / "a").touch(), lambda: git(path, "status")),
    "index deleted": lambda path: in_turn(
        lambda: Path(git(path, "rev-parse", "--absolute-git-dir"), "index").unlink(),
        lambda: (path / "a").write_text("changed\n"),
        # Without an index git does not know that this one is tracked.
        lambda: git(path, "add", "--force", "kept.o"),
    ),
    "moved": lambda path: (path / "a").rename(path / "deep/a"),
    "FIFO": lambda path: in_turn(
        lambda: os.mkfifo(path / "fifo"), lambda: (path / "new").write_text("x")
    ),
    "binary": lambda path: (path / "bin").write_bytes(bytes(range(256)) * 100),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_harvest_is_what_git_add_all_would_make(
    lab: Lab, change: Callable[[Path], object], tmp_path: Path
) -> None:
    expected = ordinary(lab, change, tmp_path)
    for _ in range(2):
        with lab.lend() as worktree:
            change(worktree.path)
            harvest = worktree.harvest(lab.tip, lab.tree)
        assert harvest == Harvest(lab.tip, expected, changed=expected != lab.tree)
    assert lab.world.git("fsck", "--strict", "--no-dangling") == ""


NAMES = st.sampled_from(["a", "b.o", "deep/c", "deep/new", "build/x", "x.log", "n/o/p", ".hidden"])
PATTERNS = st.sampled_from(
    [
        "*.log",
        "!x.log",
        "/deep/",
        "deep/*",
        "!deep/c",
        "n/**/p",
        "**/new",
        "build",
        "*.o",
        "\\#",
        " ",
    ]
)


@st.composite
def scripts(draw: st.DrawFn) -> list[tuple[str, str, str]]:
    kinds = st.sampled_from(["write", "write", "write", "delete", "run", "ignore", "folder"])
    step = st.tuples(kinds, NAMES, st.lists(PATTERNS, max_size=3).map("\n".join))
    return draw(st.lists(step, max_size=6))


def perform(path: Path, steps: list[tuple[str, str, str]]) -> None:
    for kind, name, text in steps:
        place = path / name
        with contextlib.suppress(OSError):
            if kind == "delete":
                place.unlink()
            elif kind == "run":
                place.chmod(0o755)
            elif kind == "folder":
                place.mkdir(parents=True)
            else:
                place = path / ".gitignore" if kind == "ignore" else place
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(text)


@given(steps=scripts())
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_whatever_a_script_does_git_would_harvest_the_same(
    small: Lab, tmp_path: Path, steps: list[tuple[str, str, str]]
) -> None:
    expected = ordinary(small, lambda path: perform(path, steps), tmp_path)
    assert small.run(lambda path: perform(path, steps)).tree == expected
    with small.lend() as worktree:
        assert on_disk(worktree.path) == in_git(small.world, small.tip)


@pytest.mark.parametrize("option", ["--assume-unchanged", "--skip-worktree"])
def test_a_file_that_git_was_told_not_to_look_at_is_harvested(lab: Lab, option: str) -> None:
    harvest = lab.run(lambda path: hide_edit(path, option))
    assert lab.world.git("cat-file", "blob", f"{harvest.tree}:a") == "hidden"


def test_commits_of_the_script_are_its_head(lab: Lab) -> None:
    made = []

    def commit(path: Path) -> None:
        (path / "n").write_text("x")
        git(path, "add", "n")
        git(path, "commit", "--quiet", "--message=own")
        made.append(git(path, "rev-parse", "HEAD"))
        (path / "later").write_text("x")

    harvest = lab.run(commit)
    assert harvest.head == made[0]
    assert harvest.changed
    names = lab.world.git("ls-tree", "--name-only", harvest.tree, "n", "later").split()
    assert names == ["later", "n"]


@pytest.mark.parametrize(
    ("vandal", "says"),
    [
        ("tree removed", "removed its worktree"),
        ("tree a link elsewhere", "removed its worktree"),
        ("admin removed", "removed its worktree"),
        ("admin a link elsewhere", "removed its worktree"),
        ("HEAD garbage", "names no commit"),
        ("HEAD a FIFO", "names no commit"),
        ("on an unborn branch", "refs/heads/none, which has no commit"),
        ("repository inside", "repository inside its worktree: sub"),
        ("empty repository inside", "can't be added"),
    ],
)
def test_a_worktree_that_can_not_be_used_is_a_fault(lab: Lab, vandal: str, says: str) -> None:
    with lab.lend() as worktree:
        VANDALS[vandal](worktree.path, lab.outside)
        with pytest.raises(RunFault, match=says):
            worktree.harvest(lab.tip, lab.tree)


def test_settings_that_a_script_leaves_do_not_decide_about_its_harvest(lab: Lab) -> None:
    lab.world.git("config", "extensions.worktreeConfig", "true")

    def script(path: Path) -> None:
        (path / "b").write_text("x")
        (path / ".gitattributes").write_text("* filter=own\n")
        git(path, "config", "--worktree", "filter.own.clean", f"touch {lab.outside}/ran; cat")
        git(path, "config", "--worktree", "core.excludesFile", str(lab.outside / "precious"))

    harvest = lab.run(script)
    assert lab.world.git("cat-file", "blob", f"{harvest.tree}:b") == "x"
    assert not (lab.outside / "ran").exists()


@pytest.mark.parametrize("other_disk", [False, True])
def test_files_that_git_can_not_keep_are_moved_aside(
    lab: Lab, tmp_path: Path, other_disk: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "kept" / "here"
    with lab.lend() as worktree:
        nested_repository(worktree.path / "sub", commit=True)
        if other_disk:
            shm = Path("/dev/shm")
            if not shm.is_dir() or shm.stat().st_dev == tmp_path.stat().st_dev:
                pytest.skip("there is no second file system")
            place = shm / f"aynig-test-{os.getpid()}"
        worktree.keep(place)
    try:
        assert (place / "sub/file").read_text() == "x"
        assert (place / "a").read_text() == "one\n"
        # It would lead to the worktree of the next script.
        assert not (place / ".git").exists()
    finally:
        shutil.rmtree(place)
    with lab.lend() as worktree:
        lab.assert_clean(worktree)


def test_the_content_of_a_submodule_does_not_stay(lab: Lab, tmp_path: Path) -> None:
    sub = GitRepo.init(tmp_path / "sub")
    lab.world.git("update-index", "--add", "--cacheinfo", f"160000,{sub.tip()},module")
    (lab.world.path / "module").mkdir()
    lab.commit()

    def script(path: Path) -> None:
        git(path, "clone", "--quiet", str(sub.path), "module")
        (path / "module/new").write_text("x")

    for _ in range(2):
        with lab.lend() as worktree:
            assert on_disk(worktree.path) == in_git(lab.world, lab.tip)
            script(worktree.path)
            assert worktree.harvest(lab.tip, lab.tree).tree == lab.tree


# --- who has which -----------------------------------------------------------------------------


def test_it_is_registered_with_git_only_while_it_is_lent(lab: Lab) -> None:
    repo = Repo.open(lab.world.path)
    with lab.lend() as worktree:
        assert registered(repo) == [worktree.name]
        lab.world.git("worktree", "prune", "--expire=now")
        assert str(worktree.path) in lab.world.git("worktree", "list", "--porcelain")
    assert registered(repo) == []
    assert lab.world.git("worktree", "list").count("\n") == 0


def test_lent_at_once_each_is_another(lab: Lab) -> None:
    with lab.lend() as one, lab.lend() as two:
        assert one.path != two.path
        lab.assert_clean(one)
        lab.assert_clean(two)


def test_one_that_is_clean_already_is_preferred(small: Lab) -> None:
    first = small.tip, small.tree
    (small.world.path / "a").write_text("two\n")
    small.commit()
    with small.pool.lend(*first) as one, small.lend() as two:
        one.harvest(*first)
        two.harvest(small.tip, small.tree)
        paths = one.path, two.path
    for _ in range(2):
        with small.pool.lend(*first) as one, small.lend() as two:
            assert (one.path, two.path) == paths
            one.harvest(*first)
            two.harvest(small.tip, small.tree)


BORROWER = """
import sys
from pathlib import Path
from aynig.git.repo import Repo
from aynig.git.worktrees import WorktreePool
pool = WorktreePool(Repo.open(sys.argv[1]), Path(sys.argv[4]) if sys.argv[4] else None)
with pool.lend(sys.argv[2], sys.argv[3]) as worktree:
    (worktree.path / "mine").write_text("x")
    print(worktree.path, flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def borrower(lab: Lab, folder: str = "") -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another process with a worktree, until its input is closed."""
    with subprocess.Popen(
        [sys.executable, "-c", BORROWER, str(lab.world.path), lab.tip, lab.tree, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        try:
            yield child, Path(child.stdout.readline().strip())
        finally:
            child.kill()


def test_two_processes_never_share_one(small: Lab) -> None:
    with borrower(small) as (_, one), borrower(small) as (_, two), small.lend() as mine:
        assert len({one, two, mine.path}) == 3
        small.assert_clean(mine)
        assert len(registered(Repo.open(small.world.path))) == 3
        assert small.pool.sweep(0) == 0
        assert (one / "mine").exists()
        assert (two / "mine").exists()


def test_pools_in_two_folders_are_not_taken_for_each_other(small: Lab, tmp_path: Path) -> None:
    with borrower(small, str(tmp_path / "other")) as (_, one), small.lend() as mine:
        assert one == tmp_path / "other" / "0" / "tree"
        small.assert_clean(mine)
        small.pool.sweep(0)
        assert git(one, "status", "--porcelain") == "?? mine"
        assert len(registered(Repo.open(small.world.path))) == 2
    assert small.pool.sweep(0) == 0


def test_what_a_killed_process_had_is_taken_back(small: Lab) -> None:
    repo = Repo.open(small.world.path)
    with borrower(small) as (child, path):
        child.kill()
        child.wait()
    assert registered(repo) == ["aynig-0"]
    assert small.pool.sweep(3600) == 1
    assert registered(repo) == []
    with small.lend() as worktree:
        assert worktree.path == path
        small.assert_clean(worktree)


def test_a_later_process_lends_what_a_killed_one_had_without_a_sweep(small: Lab) -> None:
    with borrower(small) as (child, path):
        child.kill()
        child.wait()
    with small.lend() as worktree:
        assert worktree.path == path
        small.assert_clean(worktree)


@pytest.mark.parametrize("idle_elsewhere", [True, False])
def test_one_that_nobody_used_for_long_is_deleted(small: Lab, idle_elsewhere: bool) -> None:
    with small.lend() as worktree:
        folder = worktree.path.parent
    if idle_elsewhere:
        small.pool.close()
    small.pool.sweep(3600)
    assert folder.is_dir()
    if idle_elsewhere:
        old = (folder / "lock").stat().st_mtime - 7200
        os.utime(folder / "lock", (old, old))
        # Looking after it is no use of it.
        small.pool.sweep(10**9)
    small.pool.sweep(3600 if idle_elsewhere else -1)
    assert not folder.exists()
    with small.lend() as worktree:
        small.assert_clean(worktree)


def test_the_trash_of_a_crash_is_emptied(small: Lab) -> None:
    with small.lend() as worktree:
        trash = worktree.path.parent / "trash-1"
        trash.mkdir()
    small.pool.close()
    small.pool.sweep(3600)
    assert not trash.exists()


def test_idle_ones_may_be_removed_by_a_person(small: Lab) -> None:
    with small.lend() as worktree:
        folder = worktree.path.parent.parent
    shutil.rmtree(folder)
    with small.lend() as mine, borrower(small) as (_, other):
        assert other != mine.path
        small.assert_clean(mine)


def test_one_that_was_removed_while_it_was_lent_is_not_the_next_ones(small: Lab) -> None:
    with small.lend() as mine:
        shutil.rmtree(mine.path.parent.parent)
        with borrower(small) as (child, other):
            assert other == mine.path
            with pytest.raises(RunFault, match="removed its worktree"):
                mine.harvest(small.tip, small.tree)
            mine.keep(small.world.path.parent / "kept")
            mine.park()
            assert (other / "mine").exists()
            assert registered(Repo.open(small.world.path)) == [mine.name]
            assert child.poll() is None


def test_registrations_of_removed_worktrees_are_dropped(small: Lab) -> None:
    with borrower(small) as (child, path):
        child.kill()
        child.wait()
    shutil.rmtree(path.parent)
    small.pool.sweep(3600)
    assert registered(Repo.open(small.world.path)) == []
    with small.lend() as worktree:
        small.assert_clean(worktree)


def test_the_worktrees_of_a_person_are_left_alone(small: Lab, tmp_path: Path) -> None:
    small.world.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "own"))
    shutil.rmtree(tmp_path / "own")
    small.pool.sweep(0)
    assert (small.world.git_dir / "worktrees" / "own").is_dir()


def test_a_bare_repository_lends_as_well(tmp_path: Path) -> None:
    bare = GitRepo.init(tmp_path / "repo.git", bare=True)
    tip = bare.commit("files", files={"a": "one\n", "run": "#!/bin/sh\n"})
    tree = bare.git("rev-parse", f"{tip}^{{tree}}")
    with WorktreePool(Repo.open(bare.path)).lend(tip, tree) as worktree:
        assert on_disk(worktree.path) == in_git(bare, tip)
        (worktree.path / "b").write_text("x")
        assert worktree.harvest(tip, tree).changed


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become another user")
def test_an_ordinary_user_gets_rid_of_folders_without_bits(small: Lab) -> None:
    # The folders of pytest are for its own user only.
    above = Path(tempfile.mkdtemp(dir="/tmp"))
    above.chmod(0o755)
    folder = above / "locked"
    (folder / "in/ner").mkdir(parents=True)
    (folder / "in/ner/file").write_text("x")
    (folder / "link").symlink_to(small.outside)
    for path in (folder / "in/ner", folder / "in", folder):
        os.chown(path, 65534, 65534)
        path.chmod(0)
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            os.setuid(65534)
            delete_folder(folder)
        os._exit(0)
    os.waitpid(pid, 0)
    # The folder above belongs to somebody else.
    assert list(folder.iterdir()) == []
    above.joinpath("locked").rmdir()
    above.rmdir()
