"""`RefReader` against real git: it must see what `git for-each-ref` sees, while others write."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aynig.errors import RepositoryError
from aynig.git.reffiles import RECENT
from aynig.git.snapshot import Look, RefReader
from aynig.model import RefChange
from tests.world import GitRepo, wait_for

A = "a" * 40
B = "b" * 40
HEX = "0123456789abcdef"


def as_git_says(repo: GitRepo) -> dict[str, str]:
    """All branches that are no symbolic refs, as git lists them."""
    out = repo.git("for-each-ref", "--format=%(refname) %(objectname) %(symref)", "refs/heads/")
    found = {}
    for line in out.split("\n") if out else []:
        ref, oid, symref = line.split(" ", 2)
        if not symref:
            found[ref] = oid
    return found


def apply(changes: Iterable[RefChange], refs: dict[str, str]) -> None:
    """Take changes over, insisting that each starts from what is there."""
    for change in changes:
        assert refs.get(change.ref) == change.old, change
        if change.new is None:
            del refs[change.ref]
        else:
            refs[change.ref] = change.new


def settle(reader: RefReader, told: dict[str, str] | None = None) -> Look:
    """Look until no time stamp is too young to be trusted; the last look.

    What each of the looks tells is added to `told`.
    """

    def look() -> Look | None:
        found = reader.look()
        if told is not None:
            apply(found.changes, told)
        return found if found.settled else None

    found = wait_for(look, what="a settled look")
    assert found is not None
    return found


def write(repo: GitRepo, ref: str, content: str | bytes) -> Path:
    """Put a ref file in place as git does, by renaming its lock file."""
    path = repo.git_dir / ref
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f"{path.name}.lock")
    lock.write_bytes(content.encode() if isinstance(content, str) else content)
    return lock.replace(path)


def pack(repo: GitRepo, *lines: str, end: str = "\n") -> None:
    """Write packed-refs by hand, as git would."""
    fresh = repo.git_dir / "packed-refs.new"
    fresh.write_text("\n".join(("# pack-refs with: peeled fully-peeled sorted ", *lines)) + end)
    fresh.replace(repo.git_dir / "packed-refs")


@pytest.fixture
def blank(tmp_path: Path) -> GitRepo:
    """A bare repository without any branch."""
    return GitRepo.init(tmp_path / "blank.git", bare=True, empty=True)


# -- what is a ref ---------------------------------------------------------------------------


def test_a_repository_without_branches_has_none(blank: GitRepo) -> None:
    look = RefReader(blank.git_dir).look()
    assert (look.refs, look.changes, look.broken) == ({}, (), {})


def test_the_first_look_reports_every_branch_as_new(repo: GitRepo) -> None:
    tip = repo.tip()
    repo.git("branch", "a/b/c")
    look = RefReader(repo.git_dir).look()
    assert look.refs == {"refs/heads/main": tip, "refs/heads/a/b/c": tip}
    assert look.changes == (
        RefChange("refs/heads/a/b/c", None, tip),
        RefChange("refs/heads/main", None, tip),
    )
    assert look.broken == {}


def test_a_look_with_nothing_changed_hands_out_the_same_refs(repo: GitRepo) -> None:
    reader = RefReader(repo.git_dir)
    first = settle(reader)
    again = reader.look()
    assert again.refs is first.refs
    assert again.changes == ()


def test_refs_that_were_handed_out_stay_as_they_were(repo: GitRepo) -> None:
    reader = RefReader(repo.git_dir)
    first = reader.look()
    before = dict(first.refs)
    repo.git("branch", "other")
    assert len(reader.look().refs) == 2
    assert first.refs == before


def test_only_refs_below_the_prefixes_are_read(repo: GitRepo) -> None:
    repo.git("tag", "v1")
    repo.git("update-ref", "refs/aynig/lease/x", "HEAD")
    assert set(RefReader(repo.git_dir).look().refs) == {"refs/heads/main"}
    both = RefReader(repo.git_dir, ("refs/heads/", "refs/aynig/lease/"))
    assert set(both.look().refs) == {"refs/heads/main", "refs/aynig/lease/x"}
    repo.git("pack-refs", "--all")
    assert both.look().changes == ()


def test_a_prefix_that_is_no_folder_of_refs_is_refused(tmp_path: Path) -> None:
    for prefix in ("refs/heads", "heads/", "", "/refs/"):
        with pytest.raises(ValueError, match="folder of refs"):
            RefReader(tmp_path, (prefix,))


@pytest.mark.parametrize(
    "name",
    [
        "docs", "@", "-dash", "a.b", "x./y", "it's", 'q"uote', "ünï", "a{b", "@x/y@", "HEAD",
        "a,b;c&d|e", "\udcff\udcfe", "lock", "x.lockx", "refs/heads/main", "é/\udce9",
    ],
)  # fmt: skip
@pytest.mark.parametrize("packed", [False, True], ids=["loose", "packed"])
def test_every_legal_name_is_read(repo: GitRepo, name: str, packed: bool) -> None:
    repo.git("update-ref", f"refs/heads/{name}", "HEAD")
    if packed:
        repo.git("pack-refs", "--all")
    look = RefReader(repo.git_dir).look()
    assert look.refs[f"refs/heads/{name}"] == repo.tip()
    assert look.refs == as_git_says(repo)
    assert look.broken == {}


@pytest.mark.parametrize(
    "name",
    ["sp ace", "ti~lde", "ca^ret", "co:lon", "que?", "st*r", "br[", "back\\", "a..b", "@{x", "end.",
     "tab\t", "del\x7f", "x.lock/y", "a/.hidden"],
)  # fmt: skip
@pytest.mark.parametrize("packed", [False, True], ids=["loose", "packed"])
def test_a_name_that_git_refuses_is_never_a_ref(blank: GitRepo, name: str, packed: bool) -> None:
    ref = f"refs/heads/{name}"
    assert blank.git("check-ref-format", ref, check=False) == ""
    if packed:
        pack(blank, f"{A} refs/heads/good", f"{A} {ref}")
    else:
        write(blank, "refs/heads/good", f"{A}\n")
        write(blank, ref, f"{A}\n")
    look = RefReader(blank.git_dir).look()
    assert look.refs == {"refs/heads/good": A}
    # What git passes over without a word is passed over here too.
    silent = not packed and ("/." in name or ".lock/" in name)
    assert look.broken == ({} if silent else {ref: "not a legal ref name"})


@given(st.text(st.sampled_from("ab./@{~^:?*[\\ -\x7fé"), min_size=1, max_size=6))
@settings(max_examples=150, derandomize=True, deadline=None)
def test_names_are_judged_as_git_judges_them(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    folder = tmp_path_factory.mktemp("names")
    ref = f"refs/heads/{name}"
    (folder / "refs/heads").mkdir(parents=True)
    (folder / "packed-refs").write_text(f"{A} {ref}\n")
    done = subprocess.run(["git", "check-ref-format", ref], check=False)
    assert (ref in RefReader(folder).look().refs) == (done.returncode == 0)


@pytest.mark.parametrize(
    ("content", "oid"),
    [
        (f"{A}\n", A),
        (A, A),
        (f"{A}  \n\n", A),
        (f"{A.upper()}\n", A),
        ("c" * 64 + "\n", "c" * 64),
    ],
    ids=["plain", "no newline", "space", "upper case", "sha256"],
)
def test_a_loose_file_is_read_as_git_reads_it(blank: GitRepo, content: str, oid: str) -> None:
    write(blank, "refs/heads/x", content)
    assert RefReader(blank.git_dir).look().refs == {"refs/heads/x": oid}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "empty file"),
        ("\n", "empty file"),
        ("nonsense\n", "garbage"),
        (A[:39] + "\n", "garbage"),
        (A + "0\n", "garbage"),
        ("0" * 40 + "\n", "null oid"),
        (b"\0" * 41, "garbage"),
    ],
    ids=["empty", "newline", "words", "short", "long", "null", "zeroes on disk"],
)
def test_a_broken_file_is_told_and_hides_the_packed_value(
    blank: GitRepo, content: str | bytes, reason: str
) -> None:
    pack(blank, f"{B} refs/heads/x")
    reader = RefReader(blank.git_dir)
    assert reader.look().refs == {"refs/heads/x": B}
    path = write(blank, "refs/heads/x", content)
    look = reader.look()
    assert look.broken == {"refs/heads/x": reason}
    assert look.changes == (RefChange("refs/heads/x", B, None),)
    settle(reader)
    # Mended in place, which no directory shows.
    path.write_text(f"{A}\n")
    look = reader.look()
    assert look.broken == {}
    assert look.changes == (RefChange("refs/heads/x", None, A),)


def test_a_symbolic_ref_is_no_branch_and_hides_a_packed_one(repo: GitRepo) -> None:
    repo.git("branch", "alias")
    repo.git("pack-refs", "--all")
    reader = RefReader(repo.git_dir)
    reader.look()
    repo.git("symbolic-ref", "refs/heads/alias", "refs/heads/main")
    repo.git("symbolic-ref", "refs/heads/dangling", "refs/heads/nowhere")
    look = reader.look()
    assert set(look.refs) == {"refs/heads/main"}
    assert look.broken == {}
    (repo.git_dir / "refs/heads/old-style").symlink_to("refs/heads/main")
    assert reader.look().broken == {}
    repo.git("symbolic-ref", "--delete", "refs/heads/alias")
    assert reader.look().refs == as_git_says(repo)


def test_symbolic_links_are_read_but_never_entered(blank: GitRepo) -> None:
    heads = blank.git_dir / "refs/heads"
    target = write(blank, "refs/outside", f"{A}\n")
    (heads / "file").symlink_to(target)
    (heads / "loop").symlink_to(heads)
    (heads / "nowhere").symlink_to("/does/not/exist")
    look = RefReader(blank.git_dir).look()
    assert look.refs == {"refs/heads/file": A}
    assert "not followed" in look.broken["refs/heads/loop"]
    assert "can't be read" in look.broken["refs/heads/nowhere"]


def test_what_is_no_file_at_all_never_blocks_a_look(blank: GitRepo) -> None:
    os.mkfifo(blank.git_dir / "refs/heads/fifo")
    look = RefReader(blank.git_dir).look()
    assert look.refs == {}
    assert look.broken == {"refs/heads/fifo": "not a regular file"}


def test_lock_files_and_hidden_files_are_passed_over(blank: GitRepo) -> None:
    heads = blank.git_dir / "refs/heads"
    for name in ("x.lock", ".hidden", "x.lock.lock"):
        (heads / name).write_text(f"{A}\n")
    (heads / "empty/deeper").mkdir(parents=True)
    look = RefReader(blank.git_dir).look()
    assert (look.refs, look.broken) == ({}, {})


# -- packed-refs -----------------------------------------------------------------------------


def test_peeled_lines_and_the_header_are_no_refs(repo: GitRepo) -> None:
    repo.git("tag", "-a", "-m", "signed off", "v1")
    repo.git("branch", "other")
    repo.git("pack-refs", "--all")
    assert "^" in (repo.git_dir / "packed-refs").read_text()
    look = RefReader(repo.git_dir, ("refs/",)).look()
    assert set(look.refs) == {"refs/heads/main", "refs/heads/other", "refs/tags/v1"}
    assert look.broken == {}


@pytest.mark.parametrize("rest", [f"{B} refs/heads/b", B[:20]])
def test_a_packed_ref_without_newline_was_cut_short(blank: GitRepo, rest: str) -> None:
    pack(blank, f"{A} refs/heads/a", rest, end="")
    look = RefReader(blank.git_dir).look()
    assert look.broken == {"packed-refs": f"line 3 is cut short: '{rest}'"}
    assert look.refs == {}


@pytest.mark.parametrize("line", ["", "nonsense", f"{A[:20]} refs/heads/x", f"{A}", "# comment"])
def test_an_odd_line_of_packed_refs_makes_all_of_it_useless_as_git_has_it(
    blank: GitRepo, line: str
) -> None:
    pack(blank, f"{A} refs/heads/a", line, f"{B} refs/heads/b")
    reader = RefReader(blank.git_dir)
    for _ in range(2):
        look = reader.look()
        assert look.broken == {"packed-refs": f"line 3 is no ref: '{line}'"}
        assert look.refs == {}
    with pytest.raises(AssertionError, match="fatal: "):
        blank.git("for-each-ref")


def test_a_packed_name_with_blanks_concerns_that_ref_alone(blank: GitRepo) -> None:
    pack(blank, f"{A} refs/heads/a", f"{A}  x y", f"{B} refs/heads/b")
    look = RefReader(blank.git_dir).look()
    assert (look.refs, look.broken) == ({"refs/heads/a": A, "refs/heads/b": B}, {})


def test_garbage_in_packed_refs_ends_no_branch_and_is_forgotten_when_mended(
    blank: GitRepo,
) -> None:
    reader = RefReader(blank.git_dir)
    pack(blank, f"{A} refs/heads/a", f"{A} refs/heads/b")
    refs = settle(reader).refs
    pack(blank, f"{A} refs/heads/a", "garbage")
    look = settle(reader)
    assert (look.refs, look.changes) == (refs, ())
    assert look.broken.keys() == {"packed-refs"}
    pack(blank, f"{A} refs/heads/a", f"{B} refs/heads/b")
    look = reader.look()
    assert look.changes == (RefChange("refs/heads/b", A, B),)
    assert look.broken == {}


def test_an_empty_packed_refs_has_no_refs(blank: GitRepo) -> None:
    reader = RefReader(blank.git_dir)
    pack(blank, f"{A} refs/heads/a")
    assert reader.look().refs == {"refs/heads/a": A}
    reader.forget()
    (blank.git_dir / "packed-refs").write_bytes(b"")
    assert reader.look().changes == (RefChange("refs/heads/a", A, None),)
    (blank.git_dir / "packed-refs").unlink()
    look = settle(reader)
    assert (look.refs, look.broken) == ({}, {})


# -- one look after another ------------------------------------------------------------------


def test_packing_is_no_change(repo: GitRepo) -> None:
    for number in range(20):
        repo.git("branch", f"task/{number}")
    reader = RefReader(repo.git_dir)
    refs = reader.look().refs
    for command in (["pack-refs", "--all"], ["gc", "--quiet"]):
        repo.git(*command)
        look = reader.look()
        assert (look.changes, look.refs) == ((), refs)


def test_every_kind_of_change_is_told_once(repo: GitRepo) -> None:
    reader = RefReader(repo.git_dir)
    first = repo.tip()
    reader.look()
    repo.git("branch", "task")
    assert reader.look().changes == (RefChange("refs/heads/task", None, first),)
    second = repo.commit("second", branch="task")
    assert reader.look().changes == (RefChange("refs/heads/task", first, second),)
    repo.git("branch", "-D", "task")
    assert reader.look().changes == (RefChange("refs/heads/task", second, None),)
    assert settle(reader).changes == ()


def test_a_branch_deleted_and_made_again_is_one_change(repo: GitRepo) -> None:
    repo.git("branch", "task")
    reader = RefReader(repo.git_dir)
    first = repo.tip()
    reader.look()
    second = repo.commit("second")
    repo.git("branch", "-D", "task")
    repo.git("branch", "task", second)
    assert RefChange("refs/heads/task", first, second) in reader.look().changes


@pytest.mark.parametrize("packed", [False, True], ids=["loose", "packed"])
def test_a_branch_gives_way_to_a_folder_and_back(repo: GitRepo, packed: bool) -> None:
    tip = repo.tip()
    reader = RefReader(repo.git_dir)
    reader.look()
    old, new = "a", "a/b"
    repo.git("branch", old)
    reader.look()
    for _ in range(3):
        if packed:
            repo.git("pack-refs", "--all")
        repo.git("branch", "-D", old)
        repo.git("branch", new)
        look = reader.look()
        assert set(look.changes) == {
            RefChange(f"refs/heads/{old}", tip, None),
            RefChange(f"refs/heads/{new}", None, tip),
        }
        old, new = new, old
    assert reader.look().refs == as_git_says(repo)


def test_many_updates_in_one_instant_end_at_the_last(blank: GitRepo) -> None:
    """Kernels stamp files with a clock that ticks every few milliseconds."""
    reader = RefReader(blank.git_dir)
    for number in range(400):
        oid = f"{number + 1:040x}"
        # Several, because the second may get the inode that the first has just given up.
        for content in (*[A] * (number % 3), oid):
            write(blank, "refs/heads/x", f"{content}\n")
            write(blank, "refs/heads/d/y", f"{content}\n")
        assert reader.look().refs == {"refs/heads/x": oid, "refs/heads/d/y": oid}


def test_a_change_is_not_settled_before_it_was_known_for_a_while(blank: GitRepo) -> None:
    """Its time stamp may come from another machine's clock."""
    reader = RefReader(blank.git_dir)
    settle(reader)
    old = time.time_ns() - int(10 * RECENT * 1e9)
    path = write(blank, "refs/heads/x", f"{B}\n")
    for touched in (path, path.parent):
        os.utime(touched, ns=(old, old))
    look = reader.look()
    assert look.refs == {"refs/heads/x": B}
    assert not look.settled


def test_a_stamp_in_the_far_future_settles(blank: GitRepo) -> None:
    write(blank, "refs/heads/x", f"{A}\n")
    ahead = time.time_ns() + 3_600_000_000_001
    for path in ("refs/heads/x", "refs/heads"):
        os.utime(blank.git_dir / path, ns=(ahead, ahead))
    assert RefReader(blank.git_dir).look().settled


def test_a_young_time_stamp_is_not_settled(blank: GitRepo) -> None:
    """Young is two seconds where the file system keeps whole seconds only."""
    write(blank, "refs/heads/x", f"{A}\n")
    whole = (time.time_ns() // 1_000_000_000 + 1) * 1_000_000_000
    for path in ("refs/heads/x", "refs/heads"):
        os.utime(blank.git_dir / path, ns=(whole, whole))
    assert not RefReader(blank.git_dir).look().settled


def test_what_can_not_be_read_keeps_its_last_value(blank: GitRepo) -> None:
    """Too many open files, or no permission: that says nothing about the branch."""
    write(blank, "refs/heads/d/x", f"{A}\n")
    pack(blank, f"{B} refs/heads/p")
    reader = RefReader(blank.git_dir)
    refs = settle(reader).refs
    reader.forget()
    look = blind(reader)
    assert (look.refs, look.changes) == (refs, ())
    assert look.broken.keys() >= {"refs/heads", "packed-refs"}
    look = reader.look()
    assert (look.refs, look.changes, look.broken) == (refs, (), {})


def blind(reader: RefReader) -> Look:
    """One look with every descriptor of the process in use."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open("/dev/null", os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        return reader.look()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_forget_reads_again_what_was_overwritten_in_place(blank: GitRepo) -> None:
    path = write(blank, "refs/heads/x", f"{A}\n")
    reader = RefReader(blank.git_dir)
    settle(reader)
    path.write_text(f"{B}\n")
    assert reader.look().changes == ()
    reader.forget()
    assert reader.look().changes == (RefChange("refs/heads/x", A, B),)


def test_a_repository_that_is_gone_is_an_error_and_no_report(repo: GitRepo) -> None:
    reader = RefReader(repo.git_dir)
    reader.look()
    away = repo.git_dir.rename(repo.path / "away")
    with pytest.raises(RepositoryError, match="no git repository"):
        reader.look()
    away.rename(repo.path / ".git")
    look = reader.look()
    assert look.refs == as_git_says(repo)
    assert look.changes == ()


def test_another_ref_storage_is_told(blank: GitRepo) -> None:
    (blank.git_dir / "refs/heads").rmdir()
    (blank.git_dir / "refs/heads").write_text("this repository uses the reftable format\n")
    look = RefReader(blank.git_dir).look()
    assert look.refs == {}
    assert "another ref storage" in look.broken["refs/heads"]


# -- note ------------------------------------------------------------------------------------


def test_a_noted_change_is_not_told(repo: GitRepo) -> None:
    reader = RefReader(repo.git_dir)
    reader.look()
    oid = repo.commit("mine")
    reader.note("refs/heads/main", oid)
    look = reader.look()
    assert (look.changes, look.refs["refs/heads/main"]) == ((), oid)
    assert settle(reader).changes == ()


def test_a_ref_that_moved_on_is_told_from_the_noted_value(repo: GitRepo) -> None:
    reader = RefReader(repo.git_dir)
    reader.look()
    mine, theirs = repo.commit("mine"), repo.commit("theirs")
    reader.note("refs/heads/main", mine)
    assert reader.look().changes == (RefChange("refs/heads/main", mine, theirs),)


def test_a_noted_deletion_is_not_told(repo: GitRepo) -> None:
    repo.git("branch", "task")
    reader = RefReader(repo.git_dir)
    reader.look()
    repo.git("branch", "-D", "task")
    reader.note("refs/heads/task", None)
    assert reader.look().changes == ()


def test_a_note_survives_a_look_that_fails(repo: GitRepo) -> None:
    reader = RefReader(repo.git_dir)
    reader.look()
    oid = repo.commit("mine")
    reader.note("refs/heads/main", oid)
    away = repo.git_dir.rename(repo.path / "away")
    with pytest.raises(RepositoryError):
        reader.look()
    away.rename(repo.path / ".git")
    assert reader.look().changes == ()


def test_a_note_before_the_first_look_counts(repo: GitRepo) -> None:
    reader = RefReader(repo.git_dir)
    reader.note("refs/heads/main", repo.tip())
    reader.note("refs/tags/elsewhere", A)
    assert reader.look().changes == ()


# -- any history -----------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "a/b", "a/b/c", "b", "c/d", "c/e", "\udcff", "x.y/@"])
STEPS = st.one_of(
    st.tuples(st.sampled_from(["set", "set", "set", "delete", "alias"]), NAMES),
    st.tuples(st.sampled_from(["pack", "pack with libgit2", "sweep", "wait"]), st.just("")),
)


def step(repo: GitRepo, action: str, name: str, oid: str) -> None:
    ref = f"refs/heads/{name}"
    match action:
        case "set":
            repo.git("update-ref", "--no-deref", ref, oid, check=False)
        case "delete":
            repo.git("update-ref", "--no-deref", "-d", ref, check=False)
        case "alias":
            repo.git("symbolic-ref", ref, "refs/heads/main", check=False)
        case "pack":
            repo.git("pack-refs", "--all")
        case "pack with libgit2":
            import pygit2

            pygit2.Repository(str(repo.git_dir)).references.compress()
        case "sweep":
            for folder in sorted((repo.git_dir / "refs/heads").rglob("*/"), reverse=True):
                if not any(folder.iterdir()):
                    folder.rmdir()
        case _:
            # Long enough for time stamps to be trusted.
            time.sleep(RECENT + 0.01)


@given(st.lists(STEPS, min_size=4, max_size=16))
@settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
def test_after_every_step_the_refs_are_what_git_says(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str]]
) -> None:
    repo = GitRepo.init(tmp_path_factory.mktemp("any") / "r.git", bare=True)
    tree = repo.git("rev-parse", "main^{tree}")
    oids = [repo.git("commit-tree", tree, "-m", str(number)) for number in range(3)]
    reader, told = RefReader(repo.git_dir), dict[str, str]()
    for number, (action, name) in enumerate(steps):
        step(repo, action, name, oids[number % 3])
        look = reader.look()
        assert look.refs == as_git_says(repo), (action, name)
        assert look.broken == {}
        apply(look.changes, told)
        assert told == look.refs


# -- while others write ----------------------------------------------------------------------

# Shell loops; the arguments are an oid and a count.
WRITERS = {
    # The only writer of the steady branches, along one line of commits.
    "update": """
        for i in $(seq 1 $2); do for n in 0 1 2; do
            git update-ref refs/heads/steady/$n/tip $(sed -n ${i}p oids)
        done; done""",
    "flap": """
        for i in $(seq 1 $2); do
            git update-ref refs/heads/d $1; git update-ref -d refs/heads/d
            git update-ref refs/heads/d/e/f $1; git update-ref -d refs/heads/d/e/f
        done""",
    "batch": """
        for i in $(seq 1 $2); do
            (for n in $(seq 20); do echo create refs/heads/n$i/b$n $1; done) |
                git update-ref --stdin
            (for n in $(seq 18); do echo delete refs/heads/n$i/b$n; done) |
                git update-ref --stdin
        done""",
    "pack": "for i in $(seq 1 $2); do git pack-refs --all --prune; done",
}
# Without packing: libgit2 packing while git packs takes refs back on disk, as git sees too.
LIBGIT2 = """
import sys, pygit2
repo = pygit2.Repository(".")
for number in range(int(sys.argv[2])):
    name = "refs/heads/lib%d" % (number % 5)
    try:
        repo.references.create(name, sys.argv[1], force=True)
    except (OSError, pygit2.GitError):
        pass  # a lock was held
"""


def start_writers(repo: GitRepo, oid: str, rounds: int) -> list[subprocess.Popen[bytes]]:
    commands = [["sh", "-c", text, name] for name, text in WRITERS.items()]
    commands.append([sys.executable, "-c", LIBGIT2])
    return [
        subprocess.Popen([*command, oid, str(rounds)], cwd=repo.path, stderr=subprocess.DEVNULL)
        for command in commands
    ]


def watch_writers(
    reader: RefReader, writers: list[subprocess.Popen[bytes]], order: Mapping[str, int]
) -> tuple[dict[str, str], int]:
    """Look without pause until all writers are done; the refs as told, and the count of looks."""
    told: dict[str, str] = {}
    steady: dict[str, int] = {}
    looks = 0
    while any(writer.poll() is None for writer in writers):
        look = reader.look()
        looks += 1
        apply(look.changes, told)
        assert told == look.refs
        for number in range(3):
            ref = f"refs/heads/steady/{number}/tip"
            assert ref in look.refs, f"{ref} was reported gone, look {looks}"
            reached = order[look.refs[ref]]
            assert reached >= steady.get(ref, 0), f"{ref} went backwards, look {looks}"
            steady[ref] = reached
        assert "refs/heads/main" in look.refs
    return told, looks


@pytest.mark.parametrize(
    "rounds", [60, pytest.param(600, marks=pytest.mark.chaos)], ids=["short", "long"]
)
def test_no_ref_seems_gone_while_others_write_and_pack(repo: GitRepo, rounds: int) -> None:
    tree, oid = repo.git("rev-parse", "main^{tree}"), repo.tip()
    oids = [repo.git("commit-tree", tree, "-m", str(number)) for number in range(rounds)]
    (repo.path / "oids").write_text("\n".join(oids) + "\n")
    for number in range(3):
        repo.git("update-ref", f"refs/heads/steady/{number}/tip", oid)
    repo.git("branch", "untouched")
    reader = RefReader(repo.git_dir)
    writers = start_writers(repo, oid, rounds)
    try:
        order = {oid: number for number, oid in enumerate([oid, *oids])}
        told, looks = watch_writers(reader, writers, order)
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    assert looks > rounds
    last = settle(reader, told)
    assert told == last.refs == as_git_says(repo)
    assert last.broken == {}


@pytest.mark.parametrize("target", ["../../nowhere", "refs/heads/main", "../heads"])
def test_a_link_among_the_refs_does_not_keep_a_look_from_settling(
    repo: GitRepo, target: str
) -> None:
    (repo.git_dir / "refs/heads/link").symlink_to(target)
    reader = RefReader(repo.git_dir)
    wait_for(lambda: reader.look().settled, what="a look that is settled", patience=10)
    repo.commit("next")
    assert reader.look().refs["refs/heads/main"] == repo.tip()
