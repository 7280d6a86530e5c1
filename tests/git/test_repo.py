"""`Repo` opens what git would open, says what it can't, and writes commits that git accepts."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aynig.errors import NoRepository, RepositoryError
from aynig.git.repo import EMPTY_TREE, Identity, Repo
from tests.world import EPOCH, GitRepo

NAMES = (
    "GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "EMAIL",
)  # fmt: skip


@pytest.fixture
def nameless(repo: GitRepo) -> None:
    """No name in the environment: what is configured counts."""
    for name in NAMES:
        os.environ.pop(name, None)


# --- opening ------------------------------------------------------------------------------------


def test_a_folder_without_a_repository_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="is not in a git repository") as told:
        Repo.open(tmp_path)
    assert "git init" in told.value.hint


def test_a_folder_that_is_missing_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match=r"there is no folder .*gone"):
        Repo.open(tmp_path / "gone")


def test_a_git_file_that_points_nowhere_is_told_of_and_is_not_the_same_as_none(
    tmp_path: Path,
) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / ".git").write_text("gitdir: /gone/with/the.git\n")
    for place in (tmp_path, tmp_path / "below"):
        with pytest.raises(RepositoryError, match=r"\.git points at /gone/with/the\.git") as told:
            Repo.open(place)
        assert not isinstance(told.value, NoRepository)
        assert "git worktree repair" in told.value.hint


def test_a_git_folder_that_is_none_is_told_of(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    with pytest.raises(RepositoryError, match=r"\.git is no git repository"):
        Repo.open(tmp_path)


@pytest.mark.parametrize(("text", "reason"), [("", "is empty"), ("junk\n", "is neither a ref")])
def test_a_head_that_says_nothing_is_refused_as_git_does(
    repo: GitRepo, text: str, reason: str
) -> None:
    (repo.git_dir / "HEAD").write_text(text)
    with pytest.raises(RepositoryError, match=f"HEAD {reason}") as told:
        Repo.open(repo.path)
    assert repo.git("status", check=False) == ""
    subprocess.run(told.value.hint.partition(": ")[2], shell=True, check=True)
    Repo.open(repo.path)
    repo.git("status")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("closed", ["", ".git", ".git/HEAD", ".git/objects", ".git/refs/heads"])
def test_a_folder_that_may_not_be_read_is_told_of(repo: GitRepo, closed: str) -> None:
    (repo.path / closed).chmod(0)
    try:
        with pytest.raises(RepositoryError, match="Permission denied") as told:
            Repo.open(repo.path)
    finally:
        (repo.path / closed).chmod(0o700)
    assert "chmod" in told.value.hint


@pytest.mark.parametrize("header", [" sorted", ""])
def test_garbage_in_packed_refs_is_an_error_with_file_and_line_and_no_branch_is_absent_by_it(
    repo: GitRepo, header: str
) -> None:
    repo.git("pack-refs", "--all")
    packed = repo.git_dir / "packed-refs"
    text = packed.read_text().replace(" sorted", header)
    lines = text.count("\n")
    packed.write_text(text + "garbage\n")
    found = Repo.open(repo.path)
    asked: list[Callable[[], object]] = [
        lambda: found.read_ref("refs/heads/absent"),
        lambda: found.resolve("absent"),
        lambda: found.refs_below("refs/"),
    ]
    for ask in asked:
        with pytest.raises(RepositoryError, match=rf"packed-refs: line {lines + 1} is no ref") as e:
            ask()
        assert "delete that line" in e.value.hint
    packed.write_text(text)
    assert found.read_ref("refs/heads/main") == repo.tip()
    assert found.read_ref("refs/heads/absent") is None


def test_a_repository_of_sha256_is_refused_by_name(tmp_path: Path) -> None:
    GitRepo(tmp_path).git("init", "--quiet", "--object-format=sha256", "new")
    with pytest.raises(RepositoryError) as told:
        Repo.open(tmp_path / "new")
    assert "sha256" in told.value.hint


def test_a_repository_of_reftable_is_refused_with_how_to_convert_it(repo: GitRepo) -> None:
    with (repo.git_dir / "config").open("a") as file:
        file.write("[core]\n\trepositoryformatversion = 1\n[extensions]\n\trefstorage = reftable\n")
    with pytest.raises(RepositoryError) as told:
        Repo.open(repo.path)
    assert "git refs migrate" in told.value.hint


def test_an_unknown_extension_is_refused(repo: GitRepo) -> None:
    with (repo.git_dir / "config").open("a") as file:
        file.write("[core]\n\trepositoryformatversion = 1\n[extensions]\n\tfromTheFuture = 1\n")
    with pytest.raises(RepositoryError, match="can't be opened"):
        Repo.open(repo.path)


def test_a_repository_is_found_from_a_folder_inside_it(repo: GitRepo) -> None:
    inside = repo.path / "a" / "b"
    inside.mkdir(parents=True)
    opened = Repo.open(inside)
    assert (opened.work_tree, opened.git_dir) == (repo.path, repo.git_dir)
    assert opened.common_dir == repo.git_dir
    assert opened.name == "repo"
    assert not opened.bare


def test_a_bare_repository_has_no_working_tree(bare: GitRepo) -> None:
    opened = Repo.open(bare.path)
    assert (opened.bare, opened.work_tree, opened.main_work_tree) == (True, None, None)
    assert opened.name == "repo"
    assert opened.home == bare.path / "aynig"


def test_a_linked_worktree_shares_what_lies_in_the_repository(
    repo: GitRepo, tmp_path: Path
) -> None:
    repo.git("worktree", "add", "--quiet", "-b", "task", str(tmp_path / "linked"))
    opened = Repo.open(tmp_path / "linked")
    assert opened.common_dir == repo.git_dir
    assert opened.git_dir == repo.git_dir / "worktrees" / "linked"
    assert opened.work_tree == tmp_path / "linked"
    assert opened.main_work_tree == repo.path
    assert (opened.current_ref(), opened.head_ref()) == ("refs/heads/task", "refs/heads/main")
    assert opened.read_ref("refs/heads/task") == repo.tip()


def test_a_worktree_of_a_bare_repository_has_no_main_one(bare: GitRepo, tmp_path: Path) -> None:
    bare.git("worktree", "add", "--quiet", "-b", "task", str(tmp_path / "linked"))
    opened = Repo.open(tmp_path / "linked")
    assert (opened.bare, opened.main_work_tree) == (False, None)
    assert opened.common_dir == bare.path


@pytest.mark.parametrize("name", ["GIT_DIR", "GIT_COMMON_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"])
def test_a_repository_named_in_the_environment_is_not_meant(
    repo: GitRepo, tmp_path: Path, name: str
) -> None:
    other = GitRepo.init(tmp_path / "other")
    other.git("config", "user.name", "Other")
    os.environ[name] = str(other.git_dir)
    opened = Repo.open(repo.path)
    assert (opened.git_dir, opened.work_tree) == (repo.git_dir, repo.path)
    assert opened.config_value("user.name") is None


def test_the_branch_of_head_is_known_while_it_is_unborn(tmp_path: Path) -> None:
    opened = Repo.open(GitRepo.init(tmp_path / "new", empty=True).path)
    assert opened.head_ref() == opened.current_ref() == "refs/heads/main"
    assert opened.read_ref("refs/heads/main") is None


def test_a_detached_head_names_no_branch(repo: GitRepo) -> None:
    repo.git("checkout", "--quiet", "--detach")
    assert Repo.open(repo.path).current_ref() is None


def test_threads_share_a_repository(repo: GitRepo) -> None:
    opened = Repo.open(repo.path)
    tip, found = repo.tip(), []
    threads = [
        threading.Thread(target=lambda: found.append((opened.handle, opened.commit(tip))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(handle) for handle, _ in found}) == 4
    assert {info.oid for _, info in found} == {tip}


# --- settings and names -------------------------------------------------------------------------


def test_settings_are_read_as_git_reads_them(repo: GitRepo) -> None:
    with (repo.git_dir / "config").open("a") as file:
        file.write('[x]\n\tbare\n\tempty =\n\tlines = "a\\nb"\n\ttwice = 1\n\ttwice = 2\n')
    opened = Repo.open(repo.path)
    found = [(key, value) for key, value in opened.config if key.startswith("x.")]
    assert found == [
        ("x.bare", None), ("x.empty", ""), ("x.lines", "a\nb"), ("x.twice", "1"), ("x.twice", "2"),
    ]  # fmt: skip
    assert opened.config_value("x.twice") == "2"
    assert opened.config_value("x.absent") is None


def test_the_environment_names_who_commits_before_any_setting(repo: GitRepo) -> None:
    repo.git("config", "user.name", "Configured")
    opened = Repo.open(repo.path)
    assert opened.identity() == Identity("Carl Committer", "carl@example.org")
    assert opened.identity("AUTHOR") == Identity("Ada Author", "ada@example.org")


@pytest.mark.usefixtures("nameless")
def test_a_setting_of_the_role_goes_before_that_of_the_user(repo: GitRepo) -> None:
    repo.git("config", "user.name", "User")
    repo.git("config", "user.email", "user@example.org")
    repo.git("config", "author.name", "Author")
    opened = Repo.open(repo.path)
    assert opened.identity("AUTHOR") == Identity("Author", "user@example.org")
    assert opened.identity() == Identity("User", "user@example.org")


@pytest.mark.usefixtures("nameless")
def test_where_no_name_is_set_commits_are_by_aynig(repo: GitRepo) -> None:
    found = Repo.open(repo.path).identity()
    assert found.name == "aynig"
    assert found.email.startswith("aynig@")


@pytest.mark.usefixtures("nameless")
def test_the_address_of_the_environment_completes_a_name(repo: GitRepo) -> None:
    repo.git("config", "user.name", "User")
    os.environ["EMAIL"] = "mail@example.org"
    assert Repo.open(repo.path).identity() == Identity("User", "mail@example.org")


@pytest.mark.usefixtures("nameless")
def test_half_a_name_is_none(repo: GitRepo) -> None:
    repo.git("config", "user.name", "User")
    assert Repo.open(repo.path).identity().name == "aynig"


@pytest.mark.parametrize(
    ("name", "email", "cleaned"),
    [
        pytest.param("A\nB", "a@b", ("A B", "a@b"), id="newline"),
        pytest.param("A <x>", "<a@b>", ("A  x", "a@b"), id="brackets"),
        pytest.param("A\0B", "a\0@b", ("A B", "a@b"), id="nul"),
        pytest.param("  A  ", " a@b ", ("A", "a@b"), id="blanks"),
        pytest.param("<>", "a@b", ("aynig", "a@b"), id="nothing-left"),
        pytest.param("Zoë Ω", "zoë@b", ("Zoë Ω", "zoë@b"), id="unicode"),
    ],
)
def test_a_name_is_cleaned_of_what_breaks_a_commit(
    name: str, email: str, cleaned: tuple[str, str]
) -> None:
    assert Identity.cleaned(name, email) == Identity(*cleaned)


# --- writing ------------------------------------------------------------------------------------


def test_a_commit_is_written_as_told(repo: GitRepo) -> None:
    opened = Repo.open(repo.path)
    oid = opened.write_commit(
        tree=opened.empty_tree(), parents=[repo.tip()], message="a\n\nb", not_before=4_000_000_000
    )
    shown = repo.git("log", "-1", "--format=%T %P %at %ct %an <%ae> %cn <%ce>%n%B", oid)
    assert shown == (
        f"{EMPTY_TREE} {repo.tip()} 4000000000 4000000000 "
        "Ada Author <ada@example.org> Carl Committer <carl@example.org>\na\n\nb\n"
    )
    info = opened.commit(oid)
    assert (info.tree, info.parents) == (EMPTY_TREE, (repo.tip(),))
    assert (info.time, info.message) == (4_000_000_000, b"a\n\nb\n")
    assert opened.message(oid) == (info.time, info.message)


def test_odd_bytes_of_a_message_are_written_as_they_are_and_git_is_content(repo: GitRepo) -> None:
    opened = Repo.open(repo.path)
    raw = b"caf\xe9 \xff\n\n\ttab \x01\x7f\r\nend \xf0\x9f\x8c\x8d\n"
    oid = opened.write_commit(
        tree=opened.empty_tree(),
        parents=[repo.tip()],
        message=raw.decode("utf-8", "surrogateescape"),
        author=Identity.cleaned("A\n<B>", "a@b\n>"),
    )
    repo.git("update-ref", "refs/heads/odd", oid)
    repo.git("fsck", "--strict")
    assert opened.commit(oid).message == raw


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(name=st.text(max_size=12), email=st.text(max_size=12))
def test_any_name_makes_a_commit_that_git_accepts(repo: GitRepo, name: str, email: str) -> None:
    opened = Repo.open(repo.path)
    try:
        author = Identity.cleaned(name, email)
        oid = opened.write_commit(tree=opened.empty_tree(), parents=[], message="x", author=author)
    except UnicodeEncodeError:
        return
    assert opened.has_commit(oid)
    repo.git("fsck", "--strict", "--no-dangling")


@pytest.mark.parametrize("setting", ["loose-object", "all", "committed", "index, objects"])
def test_objects_are_synced_where_git_would(repo: GitRepo, setting: str) -> None:
    assert not Repo.open(repo.path).sync_objects()
    repo.git("config", "core.fsync", setting)
    assert Repo.open(repo.path).sync_objects()


@pytest.mark.parametrize("setting", ["none", "reference", "all,-loose-object"])
def test_objects_are_not_synced_where_git_would_not(repo: GitRepo, setting: str) -> None:
    repo.git("config", "core.fsync", setting)
    assert not Repo.open(repo.path).sync_objects()


# --- reading ------------------------------------------------------------------------------------


def test_a_branch_is_meant_before_a_tag_of_its_name(repo: GitRepo) -> None:
    old = repo.tip()
    new = repo.commit("new", branch="task")
    repo.git("tag", "task", old)
    assert Repo.open(repo.path).resolve("task") == new


def test_all_spellings_of_git_name_a_commit(repo: GitRepo) -> None:
    root = repo.tip()
    tip = repo.commit("next", branch="some/task", parent=root)
    repo.git("tag", "--annotate", "--message=x", "v1", tip)
    opened = Repo.open(repo.path)
    spellings = ["some/task", "refs/heads/some/task", "v1", tip, tip[:10], "heads/some/task"]
    assert {spelling: opened.resolve(spelling) for spelling in spellings} == dict.fromkeys(
        spellings, tip
    )
    assert opened.resolve("some/task~1") == opened.resolve("HEAD") == root


@pytest.mark.parametrize("rev", ["", "nothing", "0" * 40, "HEAD:file", "HEAD^{tree}", "..", "a b"])
def test_what_names_no_commit_is_none(repo: GitRepo, rev: str) -> None:
    repo.commit("x", files={"file": "text"})
    assert Repo.open(repo.path).resolve(rev) is None


@pytest.mark.parametrize("kind", ["missing", "blob", "tree", "malformed"])
def test_what_is_no_commit_is_told_of(repo: GitRepo, kind: str) -> None:
    repo.commit("x", files={"file": "text"})
    oid = {
        "missing": "1" * 40,
        "blob": repo.git("rev-parse", "main:file"),
        "tree": repo.git("rev-parse", "main^{tree}"),
        "malformed": "main",
    }[kind]
    opened = Repo.open(repo.path)
    with pytest.raises(RepositoryError, match=oid) as told:
        opened.commit(oid)
    assert told.value.hint
    assert not opened.has_commit(oid)


def test_entries_of_a_tree_are_found_by_path(repo: GitRepo) -> None:
    tip = repo.commit("x", files={"a/b": "#!/bin/sh\n", "c": "text"})
    opened = Repo.open(repo.path)
    tree = opened.commit(tip).tree
    blob = repo.git("rev-parse", "main:a/b")
    assert opened.entry(tree, "a/b") == (0o100755, blob)
    assert opened.entry(tree, "a") == (0o040000, repo.git("rev-parse", "main:a"))
    assert opened.blob(blob) == b"#!/bin/sh\n"


@pytest.mark.parametrize("path", ["gone", "a/gone", "c/d", "", "/a"])
def test_a_path_where_nothing_lies_has_no_entry(repo: GitRepo, path: str) -> None:
    tip = repo.commit("x", files={"a/b": "x", "c": "text"})
    opened = Repo.open(repo.path)
    assert opened.entry(opened.commit(tip).tree, path) is None


@pytest.mark.parametrize("tree", ["1" * 40, "no oid"])
def test_a_tree_that_is_missing_has_no_entries(repo: GitRepo, tree: str) -> None:
    assert Repo.open(repo.path).entry(tree, "a") is None


def test_a_blob_that_is_missing_or_none_is_told_of(repo: GitRepo) -> None:
    opened = Repo.open(repo.path)
    with pytest.raises(RepositoryError, match="can't be read"):
        opened.blob("1" * 40)
    with pytest.raises(RepositoryError, match="is no blob"):
        opened.blob(repo.tip())


def test_refs_are_followed_and_listed(repo: GitRepo) -> None:
    repo.git("symbolic-ref", "refs/heads/alias", "refs/heads/main")
    repo.git("pack-refs", "--all")
    repo.git("update-ref", "refs/aynig/lease/x", "main")
    opened = Repo.open(repo.path)
    assert opened.read_ref("refs/heads/alias") == repo.tip()
    assert opened.refs_below("refs/aynig/lease/") == {"refs/aynig/lease/x": repo.tip()}
    assert opened.refs_below("refs/heads/") == {"refs/heads/main": repo.tip()}


def test_a_commit_descends_from_itself_and_from_what_lies_below_it(repo: GitRepo) -> None:
    root = repo.tip()
    one, two = repo.commit("one"), repo.commit("two", branch="b", parent=root)
    opened = Repo.open(repo.path)
    assert opened.descends(one, root)
    assert opened.descends(one, one)
    assert not opened.descends(root, one)
    assert not opened.descends(one, two)
    assert not opened.descends(one, "1" * 40)
    assert opened.commit(one).time > EPOCH
