"""`ScriptShelf` finds a script in a tree as git has it, and runs it from a copy nobody changed."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from aynig.git.repo import Repo
from aynig.git.scripts import ScriptShelf, interpreter_problem
from aynig.model import Script, ScriptProblem
from tests.world import SCRIPT_OK, GitRepo

FILE, PROGRAM, LINK, GITLINK = "100644", "100755", "120000", "160000"
FOLDER = ".aynig/states"
NAMES = ("roles/reviewer/review", "review")
SAYS_HOME = '#!/bin/sh\n. "$(dirname "$0")/lib/words"\necho "$WORD"\n'


@dataclass
class Lab:
    """A repository, a folder of scripts that ship, and a shelf that knows both."""

    world: GitRepo
    shipped: Path
    shelf: ScriptShelf

    def tree(self, *entries: tuple[str, str, str | bytes], folder: str = FOLDER) -> str:
        """A tree with these (mode, path below the folder, content), in one git process."""
        stream = [b"commit refs/made/x\ncommitter A <a@b> 1700000000 +0000\ndata 0\n"]
        for mode, path, content in entries:
            data = content.encode() if isinstance(content, str) else content
            place = f"{folder}/{path}" if folder else path
            if mode == GITLINK:
                stream.append(f"M {mode} {data.decode()} {place}\n".encode())
                continue
            stream.append(f"M {mode} inline {place}\ndata {len(data)}\n".encode() + data + b"\n")
        self.world.git("fast-import", "--quiet", "--force", stdin=b"".join(stream))
        tree = self.world.git("rev-parse", "refs/made/x^{tree}")
        self.world.git("update-ref", "-d", "refs/made/x")
        return tree

    def find(
        self, tree: str, *names: str, shelf: ScriptShelf | None = None
    ) -> Script | ScriptProblem:
        return (shelf or self.shelf).find(tree, FOLDER, names or ("review",), "review")

    def script(self, tree: str, *names: str, shelf: ScriptShelf | None = None) -> Script:
        found = self.find(tree, *names, shelf=shelf)
        assert isinstance(found, Script), found
        return found

    def problem(self, tree: str, *names: str) -> ScriptProblem:
        found = self.find(tree, *names)
        assert isinstance(found, ScriptProblem), found
        return found

    def another(self) -> ScriptShelf:
        """A shelf that knows nothing yet, as after a restart."""
        return ScriptShelf(Repo.open(self.world.path), self.shipped)


@pytest.fixture
def lab(repo: GitRepo, tmp_path: Path) -> Lab:
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    return Lab(repo, shipped, ScriptShelf(Repo.open(repo.path), shipped))


def output(script: Script) -> str:
    return subprocess.run([script.program], capture_output=True, text=True, check=True).stdout


def inode(script: Script) -> int:
    return Path(script.program).stat().st_ino


def says(word: str) -> str:
    return f"#!/bin/sh\necho {word}\n"


def on_disk(home: str) -> dict[str, tuple[int, bytes]]:
    """All that lies below a folder; the mode of links means nothing."""
    found: dict[str, tuple[int, bytes]] = {}
    for path in sorted(Path(home).rglob("*")):
        mode = path.lstat().st_mode
        data = b""
        if path.is_symlink():
            data = os.fsencode(path.readlink())
        elif path.is_file():
            data = path.read_bytes()
        found[str(path.relative_to(home))] = (mode, data)
    return found


# --- finding -----------------------------------------------------------------------------------


def test_the_script_of_a_role_goes_before_that_of_the_state(lab: Lab) -> None:
    tree = lab.tree((PROGRAM, NAMES[0], says("role")), (PROGRAM, NAMES[1], says("plain")))
    assert output(lab.script(tree, *NAMES)) == "role\n"


def test_the_script_of_the_state_serves_a_role_that_has_none(lab: Lab) -> None:
    tree = lab.tree((PROGRAM, "review", says("plain")))
    assert output(lab.script(tree, *NAMES)) == "plain\n"


def test_a_broken_script_of_a_role_is_not_replaced_by_that_of_the_state(lab: Lab) -> None:
    tree = lab.tree((FILE, NAMES[0], SCRIPT_OK), (PROGRAM, NAMES[1], SCRIPT_OK))
    assert lab.problem(tree, *NAMES).word == "not-executable"


def test_what_is_not_there_is_named_with_all_places_looked_at(lab: Lab) -> None:
    found = lab.problem(lab.tree((PROGRAM, "other", SCRIPT_OK)), *NAMES)
    assert found.word == "missing-script"
    assert all(f"{FOLDER}/{name}" in found.detail for name in NAMES)


@pytest.mark.parametrize("entry", [(FILE, "", "text"), (LINK, "", "elsewhere")])
def test_a_folder_of_scripts_that_is_no_folder_has_no_scripts(
    lab: Lab, entry: tuple[str, str, str]
) -> None:
    tree = lab.tree((entry[0], FOLDER, entry[2]), folder="")
    assert lab.problem(tree).word == "missing-script"


def test_the_blob_and_the_path_of_a_script_are_on_record(lab: Lab) -> None:
    tree = lab.tree((PROGRAM, "review", SCRIPT_OK))
    found = lab.script(tree)
    assert found.path == "review"
    assert found.oid == lab.world.git("rev-parse", f"{tree}:{FOLDER}/review")


SOME_OID = "1" * 40


@pytest.mark.parametrize(
    ("entries", "word", "says_what"),
    [
        pytest.param([(FILE, "review", SCRIPT_OK)], "not-executable", "chmod=+x", id="no-run-bit"),
        pytest.param([(FILE, "review/x", "")], "bad-script", "folder", id="folder"),
        pytest.param([(GITLINK, "review", SOME_OID)], "bad-script", "submodule", id="submodule"),
        pytest.param([(PROGRAM, "review", "")], "bad-interpreter", "no first line", id="empty"),
        pytest.param([(LINK, "review", "gone")], "bad-script", "nothing", id="link-to-nothing"),
        pytest.param([(LINK, "review", "/bin/true")], "bad-script", "leaves", id="absolute-link"),
        pytest.param([(LINK, "review", "../x")], "bad-script", "leaves", id="link-outside"),
        pytest.param([(LINK, "review", "a/../../x")], "bad-script", "leaves", id="detour-outside"),
        pytest.param([(LINK, "review", "review")], "bad-script", "circles", id="link-to-itself"),
        pytest.param(
            [(LINK, "review", "b"), (LINK, "b", "review")], "bad-script", "circles", id="circle"
        ),
        pytest.param(
            [(LINK, "review", "d"), (FILE, "d/x", "")], "bad-script", "folder", id="link-to-folder"
        ),
        pytest.param(
            [(LINK, "review", "b"), (FILE, "b", SCRIPT_OK)],
            "not-executable",
            "chmod",
            id="link-to-no-run-bit",
        ),
    ],
)
def test_what_can_not_run_is_told_by_word_and_sentence(
    lab: Lab, entries: list[tuple[str, str, str]], word: str, says_what: str
) -> None:
    found = lab.problem(lab.tree(*entries))
    assert (found.word, says_what in found.detail) == (word, True), found


@pytest.mark.parametrize(
    ("target", "place"),
    [("real", "real"), ("./lib/../real", "real"), ("lib//real", "lib/real")],
    ids=["plain", "dots", "below"],
)
def test_a_link_that_stays_inside_runs_what_it_leads_to(lab: Lab, target: str, place: str) -> None:
    tree = lab.tree(
        (LINK, "review", target), (PROGRAM, place, says("real")), (FILE, "lib/other", "")
    )
    found = lab.script(tree)
    assert (found.path, output(found)) == (place, "real\n")


def test_a_link_of_a_role_leads_up_to_the_shared_script(lab: Lab) -> None:
    tree = lab.tree((LINK, NAMES[0], "../../shared"), (PROGRAM, "shared", says("shared")))
    assert output(lab.script(tree, *NAMES)) == "shared\n"


# --- what ships ---------------------------------------------------------------------------------


def ship(lab: Lab, mode: int = 0o755) -> Path:
    place = lab.shipped / "review"
    place.write_text(says("shipped"))
    place.chmod(mode)
    return place


def test_a_state_that_ships_is_used_where_the_repository_has_none(lab: Lab) -> None:
    place = ship(lab)
    found = lab.script(lab.tree((PROGRAM, "other", SCRIPT_OK)))
    assert found.program == str(place)
    assert found.oid == lab.world.git("hash-object", str(place))


@pytest.mark.parametrize("mode", [PROGRAM, FILE], ids=["good", "broken"])
def test_a_script_of_the_repository_goes_before_one_that_ships(lab: Lab, mode: str) -> None:
    ship(lab)
    found = lab.find(lab.tree((mode, "review", SCRIPT_OK)))
    assert getattr(found, "home", "") != str(lab.shipped)
    assert isinstance(found, Script) == (mode == PROGRAM)


def test_a_file_without_run_bit_beside_the_states_that_ship_is_none(lab: Lab) -> None:
    ship(lab, 0o644)
    assert lab.problem(lab.tree((PROGRAM, "other", SCRIPT_OK))).word == "missing-script"


# --- interpreters -------------------------------------------------------------------------------

HEADS = [
    ("#!/bin/sh\n", True),
    ("#! /bin/sh\n", True),
    ("#!/bin/sh -e\n", True),
    ("#!/usr/bin/env sh\n", True),
    ("#!/usr/bin/env -S sh -e\n", True),
    ("#!/usr/bin/env -Ssh -e\n", True),
    ("#!/usr/bin/env -S A=b sh -e\n", True),
    ("#!/usr/bin/env -S -i sh -e\n", True),
    ("#!/usr/bin/env -S -u HOME sh\n", True),
    ("#!/usr/bin/env --split-string=sh -e\n", True),
    ("#!/usr/bin/env -vS sh -e\n", True),
    ("#!/no/such/interpreter\n", False),
    ("#!/usr/bin\n", False),
    ("#!/usr/bin/env no-such-program\n", False),
    ("#!/usr/bin/env -S no-such-program -e\n", False),
    ("#!/usr/bin/env -S A=b no-such-program\n", False),
    ("#!/usr/bin/env sh -e\n", False),
    ("#!/bin/sh\r\n", False),
    ("#!/usr/bin/env sh\r\n", False),
    ("#!\n", False),
    ("echo no first line\n", False),
    ("", False),
]


@pytest.mark.skipif(sys.platform != "linux", reason="the rule of Linux's execve(2)")
@pytest.mark.parametrize(("head", "starts"), HEADS, ids=[repr(head) for head, _ in HEADS])
def test_what_is_said_of_an_interpreter_is_what_the_kernel_does(
    tmp_path: Path, head: str, starts: bool
) -> None:
    place = tmp_path / "script"
    place.write_bytes(f"{head}exit 0\n".encode() if head else b"")
    place.chmod(0o755)
    try:
        done = subprocess.run([place], capture_output=True, check=False).returncode == 0
    except OSError:
        done = False
    problem = interpreter_problem(place.read_bytes()[:256], "review")
    assert (done, problem is None) == (starts, starts)
    assert problem is None or problem.word == "bad-interpreter"


def test_windows_line_ends_are_named_as_what_is_wrong() -> None:
    problem = interpreter_problem(b"#!/bin/sh\r\necho\r\n", "review")
    assert problem is not None
    assert problem.detail.endswith(r"(CRLF): the first line names '/bin/sh\x0d'")


def test_a_compiled_program_needs_no_interpreter(lab: Lab) -> None:
    true = shutil.which("true")
    assert true
    found = lab.script(lab.tree((PROGRAM, "review", Path(true).read_bytes())))
    assert output(found) == ""


# --- the copy it runs from ----------------------------------------------------------------------


def whole(lab: Lab) -> str:
    return lab.tree(
        (PROGRAM, "review", SAYS_HOME),
        (FILE, "lib/words", "WORD=true\n"),
        (LINK, "inside", "lib/words"),
        (LINK, "outside", "../../secret"),
        (GITLINK, "module", SOME_OID),
    )


def test_a_script_finds_what_lies_beside_it_in_the_tree(lab: Lab) -> None:
    found = lab.script(whole(lab))
    assert output(found) == "true\n"


def test_the_copy_has_all_of_the_folder_but_what_leads_out_of_it(lab: Lab) -> None:
    found = lab.script(whole(lab))
    assert set(on_disk(found.home)) == {"review", "lib", "lib/words", "inside"}
    assert stat.S_IMODE(Path(found.home).stat().st_mode) == 0o700


def edit(home: Path) -> None:
    (home / "lib/words").chmod(0o600)
    (home / "lib/words").write_text("WORD=evil\n")
    (home / "lib/words").chmod(0o400)


def replace_in_place(home: Path) -> None:
    (home / "review").unlink()
    (home / "review").write_text(says("evil"))
    (home / "review").chmod(0o500)


def relink(home: Path) -> None:
    (home / "inside").unlink()
    (home / "inside").symlink_to("/etc/passwd")


def folder_for_file(home: Path) -> None:
    (home / "review").unlink()
    (home / "review").mkdir()


def swap_home(home: Path) -> None:
    other = home.with_name("other")
    shutil.copytree(home, other, symlinks=True)
    edit(other)
    home.rename(home.with_name("old"))
    home.symlink_to(other)


TAMPERINGS: list[Callable[[Path], object]] = [
    edit,
    replace_in_place,
    relink,
    folder_for_file,
    swap_home,
    lambda home: (home / "review").unlink(),
    lambda home: (home / "lib/evil").write_text("WORD=evil\n"),
    lambda home: (home / "empty").mkdir(),
    lambda home: (home / "review").chmod(0o600),
    lambda home: (home / "lib").chmod(0o777),
    lambda home: shutil.rmtree(home),
    lambda home: home.rename(home.with_name("away")),
]
TAMPERING_IDS = [
    "edit", "replace", "relink", "folder-for-file", "swap-home", "delete", "add", "add-folder",
    "chmod", "chmod-folder", "delete-all", "move",
]  # fmt: skip


@pytest.mark.parametrize("restarted", [False, True], ids=["same-shelf", "restarted"])
@pytest.mark.parametrize("tamper", TAMPERINGS, ids=TAMPERING_IDS)
def test_a_copy_that_was_tampered_with_is_made_anew(
    lab: Lab, tamper: Callable[[Path], object], restarted: bool
) -> None:
    tree = whole(lab)
    home = lab.script(tree).home
    before = on_disk(home)
    tamper(Path(home))
    again = lab.script(tree, shelf=lab.another() if restarted else None)
    assert again.home == home
    assert on_disk(home) == before
    assert not Path(home).is_symlink()
    assert output(again) == "true\n"


def test_a_copy_that_nobody_changed_is_left_as_it_is(lab: Lab) -> None:
    tree = whole(lab)
    first = inode(lab.script(tree))
    assert inode(lab.script(tree)) == first


def test_a_good_copy_of_an_earlier_process_stays_under_the_feet_of_its_scripts(lab: Lab) -> None:
    tree = whole(lab)
    first = inode(lab.script(tree))
    assert inode(lab.script(tree, shelf=lab.another())) == first


def test_nothing_but_the_copies_is_left_on_the_shelf(lab: Lab) -> None:
    tree = whole(lab)
    home = Path(lab.script(tree).home)
    edit(home)
    lab.script(tree)
    lab.script(tree, shelf=lab.another())
    assert [each.name for each in home.parent.iterdir()] == [home.name]


FINDER = """
import sys
from pathlib import Path
from aynig.git.repo import Repo
from aynig.git.scripts import ScriptShelf
shelf = ScriptShelf(Repo.open(sys.argv[1]), Path(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
for _ in range(20):
    found = shelf.find(sys.argv[3], sys.argv[4], ("review",), "review")
    assert Path(found.program).read_bytes().startswith(b"#!"), found
print(found.program)
"""


def test_shelves_of_two_processes_agree_on_one_copy(lab: Lab) -> None:
    files = [(FILE, f"lib/{n}", "x" * 2000) for n in range(100)]
    tree = lab.tree((PROGRAM, "review", says("one")), *files)
    args = [sys.executable, "-c", FINDER, str(lab.world.path), str(lab.shipped), tree, FOLDER]
    finders = [
        subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for finder in finders:
        assert finder.stdout is not None
        assert finder.stdout.readline() == "ready\n"
    for finder in finders:
        assert finder.stdin is not None
        finder.stdin.write("go\n")
        finder.stdin.flush()
    programs = {finder.communicate()[0].strip() for finder in finders}
    assert [finder.returncode for finder in finders] == [0, 0]
    found = lab.script(tree)
    assert programs == {found.program}
    assert output(found) == "one\n"
    assert len(on_disk(found.home)) == 102


def raw_tree(lab: Lab, mode: str, name: str, oid: str) -> str:
    data = f"{mode} {name}\0".encode() + bytes.fromhex(oid)
    return lab.world.git("hash-object", "-w", "-t", "tree", "--literally", "--stdin", stdin=data)


@pytest.mark.parametrize("name", ["..", ".", "../../evil", "a/b"])
def test_a_tree_with_a_name_that_leads_out_of_it_is_not_written_out(lab: Lab, name: str) -> None:
    blob = lab.world.git("hash-object", "-w", "--stdin", stdin=SCRIPT_OK)
    bad = raw_tree(lab, "100644", name, blob)
    data = b"".join(
        f"{mode} {entry}\0".encode() + bytes.fromhex(oid)
        for mode, entry, oid in [("100755", "review", blob), ("40000", "sub", bad)]
    )
    states = lab.world.git("hash-object", "-w", "-t", "tree", "--literally", "--stdin", stdin=data)
    tree = raw_tree(lab, "40000", ".aynig", raw_tree(lab, "40000", "states", states))
    assert lab.problem(tree).word == "bad-script"
    assert list((lab.world.git_dir / "aynig" / "scripts").iterdir()) == []


def test_a_blob_that_is_missing_is_told_of(lab: Lab) -> None:
    tree = whole(lab)
    oid = lab.world.git("rev-parse", f"{tree}:{FOLDER}/lib/words")
    # Below fastimport.unpackLimit objects are written as files of their own.
    (lab.world.git_dir / "objects" / oid[:2] / oid[2:]).unlink()
    assert lab.problem(tree).word == "bad-script"


def test_copies_that_nobody_used_for_long_are_swept(lab: Lab) -> None:
    old, new = lab.script(lab.tree((PROGRAM, "review", says("old")))), lab.script(whole(lab))
    now = Path(new.home).stat().st_mtime
    os.utime(old.home, (now - 100, now - 100))
    lab.shelf.sweep(50, now)
    assert not Path(old.home).exists()
    assert Path(new.home).exists()


def test_to_find_a_script_again_keeps_its_copy_from_being_swept(lab: Lab) -> None:
    tree = whole(lab)
    found = lab.script(tree)
    os.utime(found.home, (1, 1))
    lab.script(tree)
    lab.shelf.sweep(3600, Path(found.home).stat().st_mtime)
    assert output(found) == "true\n"


def test_a_swept_copy_is_made_again(lab: Lab) -> None:
    tree = whole(lab)
    found = lab.script(tree)
    lab.shelf.sweep(-1, Path(found.home).stat().st_mtime + 10)
    assert not Path(found.home).exists()
    assert output(lab.script(tree)) == "true\n"
