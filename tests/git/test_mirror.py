"""A mirror is as its remote last was, whatever it was before, and never goes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from aynig.errors import Unreachable
from aynig.git.address import find_address
from aynig.git.mirror import Mirror, open_mirror
from aynig.git.refs import RefEdit, RefStore
from aynig.git.remote import Heads
from aynig.git.repo import Repo
from aynig.lease import lease_name
from aynig.model import HEADS, LEASES
from aynig.processes import this_holder
from tests.world import GitRepo

TASK = HEADS + "task"
LEASE = LEASES + "1" * 40


class Pair:
    """A server and a mirror of it."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.server = GitRepo.init(folder / "server.git", bare=True, empty=True)
        self.server.commit("root", files={"file": "1"})
        self.clone = folder / "clone"
        url = f"file://{self.server.path}"
        self.server.git("clone", "--quiet", *options, url, str(self.clone))
        self.commands: list[Sequence[str]] = []
        self.open()

    def open(self) -> None:
        clone = Repo.open(self.clone)
        repo, remote = open_mirror(clone, find_address(clone, "origin"))
        remote.observe = self.commands.append
        self.store = RefStore(repo, this_holder("test"))
        self.mirror = Mirror(repo, remote, self.store)

    @property
    def refs(self) -> dict[str, str]:
        repo = self.mirror.repo
        return repo.refs_below(HEADS) | repo.refs_below(LEASES)

    @property
    def there(self) -> dict[str, str]:
        repo = Repo.open(self.server.path)
        return repo.refs_below(HEADS) | repo.refs_below(LEASES)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    made.store.close()


def test_after_a_sync_branches_and_leases_are_those_of_the_remote(pair: Pair) -> None:
    oid = pair.server.commit("task", branch="task")
    pair.server.git("update-ref", LEASE, oid)
    assert pair.mirror.sync(leases=True)
    assert pair.refs == pair.there


CHANGES: dict[str, Callable[[GitRepo], object]] = {
    "new": lambda server: server.commit("new", branch="new"),
    "more": lambda server: server.commit("more", branch="task"),
    "rewritten": lambda server: server.git("update-ref", TASK, server.tip()),
    "gone": lambda server: server.git("update-ref", "-d", TASK),
    "a folder in its place": lambda server: (
        server.git("update-ref", "-d", TASK),
        server.git("update-ref", TASK + "/deep", server.tip()),
    ),
    "lease": lambda server: server.git("update-ref", LEASE, server.tip()),
    "lease gone": lambda server: server.git("update-ref", "-d", lease_name(TASK)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_each_change_of_the_remote_is_followed(
    pair: Pair, change: Callable[[GitRepo], object]
) -> None:
    pair.server.commit("task", branch="task")
    pair.server.git("update-ref", lease_name(TASK), pair.server.tip())
    pair.mirror.sync(leases=True)
    change(pair.server)
    assert pair.mirror.sync(leases=True)
    assert pair.refs == pair.there


def test_a_look_at_an_unchanged_remote_is_one_question_and_no_fetch(pair: Pair) -> None:
    pair.mirror.sync(leases=True)
    pair.commands.clear()
    assert not pair.mirror.sync(leases=False)
    assert [command[0] for command in pair.commands] == ["ls-remote"]


def test_what_changed_is_fetched_with_one_command_and_no_more(pair: Pair) -> None:
    pair.mirror.sync(leases=True)
    pair.commands.clear()
    for number in range(5):
        pair.server.commit("task", branch=f"task/{number}")
    pair.mirror.sync(leases=False)
    assert [command[0] for command in pair.commands] == ["ls-remote", "fetch"]


def test_a_look_that_is_older_than_a_push_of_ours_takes_nothing_back(pair: Pair) -> None:
    old = pair.server.commit("task", branch="task")
    pair.mirror.sync(leases=True)
    new = pair.server.commit("answer", branch="task", update=False)
    pair.server.commit("else", branch="else")
    ask = pair.mirror.remote.heads

    def push_meanwhile(known: Heads | None = None) -> Heads:
        said = ask(known)
        pair.server.git("update-ref", TASK, new)
        pair.mirror.remote.fetch({TASK: new}, [])
        pair.mirror.landed([RefEdit(TASK, old, new)])
        return said

    pair.mirror.remote.heads = push_meanwhile  # type: ignore[method-assign]
    pair.mirror.sync(leases=False)
    pair.mirror.remote.heads = ask  # type: ignore[method-assign]
    assert pair.refs[TASK] == new
    pair.mirror.sync(leases=False)
    assert pair.refs == pair.there


def test_a_ref_of_the_mirror_that_is_broken_is_made_anew(pair: Pair) -> None:
    pair.server.commit("task", branch="task")
    pair.mirror.sync(leases=True)
    (pair.mirror.repo.common_dir / TASK).write_bytes(b"")
    pair.server.commit("more", branch="task")
    pair.mirror.sync(leases=True)
    assert pair.refs == pair.there


def test_a_mirror_that_was_deleted_is_made_anew(pair: Pair) -> None:
    pair.mirror.sync(leases=True)
    place = pair.mirror.repo.common_dir
    pair.store.close()
    place.rename(place.with_name("gone"))
    pair.open()
    pair.mirror.sync(leases=True)
    assert pair.refs == pair.there


def test_head_is_that_of_the_remote(pair: Pair) -> None:
    pair.server.commit("trunk", branch="trunk")
    pair.server.git("symbolic-ref", "HEAD", HEADS + "trunk")
    pair.mirror.sync(leases=False)
    assert pair.mirror.repo.head_ref() == HEADS + "trunk"


def test_a_default_branch_that_is_renamed_is_followed(pair: Pair) -> None:
    pair.mirror.sync(leases=False)
    pair.server.git("branch", "--move", "main", "trunk")
    pair.mirror.sync(leases=False)
    assert pair.mirror.repo.head_ref() == HEADS + "trunk"


def test_local_branches_of_the_clone_are_not_taken_for_the_remotes(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    clone = GitRepo(pair.clone)
    clone.commit("mine alone", branch="main")
    clone.commit("mine alone", branch="private")
    pair.open()
    pair.mirror.sync(leases=True)
    assert pair.refs == pair.there
    pair.store.close()


def test_the_mirror_of_a_shallow_clone_has_the_whole_history(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.server.commit("more")
    GitRepo(tmp_path).git("clone", "-q", "--depth=1", f"file://{pair.server.path}", "shallow")
    pair.clone = tmp_path / "shallow"
    pair.open()
    pair.mirror.sync(leases=True)
    story = GitRepo(pair.mirror.repo.common_dir).git("log", "--format=%s", "main")
    assert story == "more\nroot"
    pair.store.close()


def test_a_person_is_known_in_the_mirror_by_the_clones_own_settings(pair: Pair) -> None:
    GitRepo(pair.clone).git("config", "user.name", "Ada")
    GitRepo(pair.clone).git("config", "http.extraHeader", "Authorization: secret")
    pair.open()
    shown = (pair.mirror.repo.common_dir / "config").read_text()
    assert "Ada" in shown
    assert "secret" not in shown


def test_settings_that_are_the_same_are_not_written_again(pair: Pair) -> None:
    before = (pair.mirror.repo.common_dir / "config").stat().st_ino
    pair.open()
    assert (pair.mirror.repo.common_dir / "config").stat().st_ino == before


def test_a_commit_of_the_clone_is_taken_over_with_its_history(pair: Pair) -> None:
    first = GitRepo(pair.clone).commit("one", branch="mine")
    second = GitRepo(pair.clone).commit("two", branch="mine")
    pair.mirror.take(Repo.open(pair.clone), second)
    assert pair.mirror.repo.descends(second, first)


def test_where_the_remote_does_not_answer_all_stays_as_it_was(pair: Pair) -> None:
    pair.mirror.sync(leases=True)
    before = pair.refs

    def fail() -> None:
        raise Unreachable("gone")

    pair.mirror.remote.observe = lambda args: fail()
    with pytest.raises(Unreachable):
        pair.mirror.sync(leases=True)
    assert pair.refs == before


def test_packing_a_mirror_loses_nothing(pair: Pair) -> None:
    for number in range(5):
        pair.server.commit(str(number), branch="task")
        pair.mirror.sync(leases=True)
    pair.mirror.keep_house()
    pair.server.commit("after", branch="task")
    pair.mirror.sync(leases=True)
    assert pair.refs == pair.there
    GitRepo(pair.mirror.repo.common_dir).git("fsck", "--strict", "--no-dangling")


def test_a_push_may_be_under_way_while_a_mirror_is_packed(pair: Pair) -> None:
    pair.mirror.sync(leases=True)
    line = pair.mirror.remote.line.path
    pair.mirror.keep_house()
    assert (line / "HEAD").exists()


def _names(pair: Pair) -> list[str]:
    return [command[0] for command in pair.commands]


def test_what_is_being_pushed_from_here_is_not_fetched(pair: Pair) -> None:
    pair.mirror.sync(leases=True)
    tip = pair.server.tip()
    pair.commands.clear()
    with pair.mirror.pushing([RefEdit(TASK, None, tip)]):
        pair.server.git("update-ref", TASK, tip)
        pair.mirror.sync(leases=False)
        assert _names(pair) == ["ls-remote"]
        assert TASK not in pair.refs
    # It was not followed: nobody knew that it had gone through.
    pair.mirror.sync(leases=False)
    assert pair.refs == pair.there


def test_what_others_push_meanwhile_is_fetched(pair: Pair) -> None:
    pair.mirror.sync(leases=True)
    theirs = pair.server.commit("theirs", branch="task")
    with pair.mirror.pushing([RefEdit(TASK, None, pair.server.tip("main"))]):
        pair.mirror.sync(leases=False)
        assert pair.refs[TASK] == theirs


def test_what_was_pushed_while_the_remote_is_asked_is_not_fetched(pair: Pair) -> None:
    pair.mirror.sync(leases=True)
    edit = RefEdit(TASK, None, pair.server.tip())

    def observe(command: Sequence[str]) -> None:
        pair.commands.append(command)
        if command[0] == "ls-remote" and TASK not in pair.refs:
            pair.server.git("update-ref", TASK, pair.server.tip())
            pair.mirror.landed([edit])

    pair.commands.clear()
    pair.mirror.remote.observe = observe
    pair.mirror.sync(leases=False)
    assert _names(pair) == ["ls-remote"]


@pytest.mark.parametrize("lock", [f"{LEASE}.lock", "packed-refs.lock"])
def test_a_fetch_that_was_killed_is_no_obstacle_to_the_next_one(pair: Pair, lock: str) -> None:
    pair.server.git("update-ref", LEASE, pair.server.commit("task", branch="task"))
    pair.mirror.sync(leases=True)
    (pair.mirror.remote.line.path / lock).touch()
    pair.server.git("update-ref", "-d", LEASE)
    pair.server.git("update-ref", LEASE[:-1] + "2", pair.server.commit("more", branch="task"))
    assert pair.mirror.sync(leases=True)
    assert pair.refs == pair.there
