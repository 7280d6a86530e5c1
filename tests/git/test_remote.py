"""One git command a call: what a remote has, what it gives, and what it takes only where it is
what we saw."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from aynig.errors import RefMoved, Refused, Unreachable
from aynig.git.address import find_address
from aynig.git.line import KNOWN, Line, sweep
from aynig.git.mirror import open_mirror
from aynig.git.refs import RefEdit
from aynig.git.repo import EMPTY_TREE, Repo
from aynig.model import HEADS, LEASES
from tests.world import GitRepo

MAIN = HEADS + "main"
TASK = HEADS + "task"
LEASE = LEASES + "1" * 40


class Wire:
    """A server, and the way to it from a clone."""

    def __init__(self, folder: Path) -> None:
        self.server = GitRepo.init(folder / "server.git", bare=True, empty=True)
        self.server.commit("root", files={"file": "1"})
        self.server.git("clone", "--quiet", str(self.server.path), str(folder / "clone"))
        clone = Repo.open(folder / "clone")
        self.mirror, self.remote = open_mirror(clone, find_address(clone, "origin"))
        self.commands: list[Sequence[str]] = []
        self.remote.observe = self.commands.append

    def commit(self, message: str) -> str:
        """A commit that only the mirror has."""
        self.mirror.empty_tree()
        return self.mirror.write_commit(tree=EMPTY_TREE, parents=(), message=message)

    def has(self, oid: str) -> bool:
        return self.mirror.has_commit(oid)


@pytest.fixture
def line(tmp_path: Path) -> Wire:
    return Wire(tmp_path)


def test_heads_are_asked_for_with_one_command(line: Wire) -> None:
    line.server.git("tag", "v1", "main")
    assert line.remote.heads().refs == {MAIN: line.server.tip()}
    assert len(line.commands) == 1


def test_what_has_not_changed_is_the_same_value(line: Wire) -> None:
    known = line.remote.heads()
    assert line.remote.heads(known) is known
    line.server.commit("more")
    assert line.remote.heads(known) is not known


def test_an_empty_remote_has_no_heads(tmp_path: Path) -> None:
    line = Wire(tmp_path)
    line.server.git("update-ref", "-d", MAIN)
    assert line.remote.heads().refs == {}
    assert line.remote.default_branch() is None


def test_the_default_branch_is_the_one_that_head_names(line: Wire) -> None:
    line.server.commit("other", branch="trunk")
    line.server.git("symbolic-ref", "HEAD", HEADS + "trunk")
    assert line.remote.default_branch() == HEADS + "trunk"


def test_a_commit_is_fetched_by_its_oid_with_its_history(line: Wire) -> None:
    first = line.server.commit("one", branch="task")
    second = line.server.commit("two", branch="task")
    line.remote.fetch({TASK: second}, [])
    assert line.has(first)
    assert line.has(second)


def test_all_lease_refs_come_along_with_one_command(line: Wire) -> None:
    oid = line.server.commit("a lease", update=False)
    line.server.git("update-ref", LEASE, oid)
    line.remote.fetch({}, [], leases=True)
    assert line.has(oid)
    assert len(line.commands) == 1


def test_a_fetch_of_nothing_asks_nobody(line: Wire) -> None:
    line.remote.fetch({}, [])
    assert line.commands == []


def test_the_line_names_what_it_fetched_and_forgets_it_when_it_is_much(line: Wire) -> None:
    folder = line.remote.line.path / KNOWN
    for number in range(3):
        line.remote.fetch({TASK: line.server.commit(str(number), branch="task")}, [])
    assert len(list(folder.iterdir())) == 3
    for number in range(500):
        (folder / f"{number:016x}").write_text(line.server.tip("task") + "\n")
    line.remote.fetch({TASK: line.server.commit("more", branch="task")}, [])
    assert len(list(folder.iterdir())) == 1


def test_a_commit_that_is_gone_is_a_reason_to_look_again(line: Wire) -> None:
    with pytest.raises((Unreachable, Refused)):
        line.remote.fetch({TASK: "1" * 40}, [])


def test_a_push_sets_all_refs_from_what_they_were(line: Wire) -> None:
    old, new = line.commit("old"), line.commit("new")
    line.remote.push([RefEdit(TASK, None, old), RefEdit(LEASE, None, old)])
    line.remote.push([RefEdit(TASK, old, new), RefEdit(LEASE, old, new)])
    assert line.remote.read([TASK, LEASE]) == {TASK: new, LEASE: new}
    line.remote.push([RefEdit(TASK, new, None), RefEdit(LEASE, new, None)])
    assert line.remote.read([TASK, LEASE]) == {}


@pytest.mark.parametrize("seen", [None, "1" * 40], ids=["absent", "another"])
@pytest.mark.parametrize("first", [True, False])
def test_where_one_ref_is_not_what_was_seen_none_is_set(
    line: Wire, seen: str | None, first: bool
) -> None:
    old, new = line.commit("old"), line.commit("new")
    line.remote.push([RefEdit(TASK, None, old), RefEdit(LEASE, None, old)])
    right, wrong = (TASK, LEASE) if first else (LEASE, TASK)
    with pytest.raises(RefMoved):
        line.remote.push([RefEdit(right, old, new), RefEdit(wrong, seen, new)])
    assert line.remote.read([TASK, LEASE]) == {TASK: old, LEASE: old}


def test_a_ref_that_is_only_checked_is_compared(line: Wire) -> None:
    old, new, lease = line.commit("old"), line.commit("new"), line.commit("lease")
    line.remote.push([RefEdit(TASK, None, old)])
    line.remote.push([RefEdit(LEASE, None, lease), RefEdit(TASK, old, old)])
    line.remote.push([RefEdit(TASK, old, new)])
    with pytest.raises(RefMoved):
        line.remote.push([RefEdit(LEASE, lease, new), RefEdit(TASK, old, old)])
    assert line.remote.read([LEASE]) == {LEASE: lease}


def test_the_hooks_of_a_server_on_this_machine_are_run(line: Wire) -> None:
    hook = line.server.path / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho not today >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(Refused, match="not today"):
        line.remote.push([RefEdit(TASK, None, line.commit("task"))])


def test_a_remote_that_is_gone_says_so(line: Wire) -> None:
    line.server.path.rename(line.server.path.with_name("elsewhere.git"))
    with pytest.raises((Unreachable, Refused), match="does not appear to be a git repository"):
        line.remote.heads()


def test_each_process_has_a_line_of_its_own_and_takes_it_along(line: Wire) -> None:
    line.remote.heads()
    lines = line.mirror.home / "lines"
    assert len(list(lines.iterdir())) == 1
    line.remote.line.close()
    assert list(lines.iterdir()) == []
    assert line.remote.heads().refs


def test_lines_of_dead_processes_are_swept_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    names = [f"{ended.pid}-1-aaaa", f"{os.getpid()}-1-used-again", Line(tmp_path).ready().name]
    for name in names:
        (tmp_path / name).mkdir(exist_ok=True)
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == names[2:]
