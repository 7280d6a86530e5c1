"""Commits on another base that has the same files: nothing but their parents change."""

from __future__ import annotations

from pathlib import Path

from aynig.git.replay import merge_base, replay
from aynig.git.repo import Repo
from tests.world import GitRepo


def test_commits_keep_all_but_their_parents(repo: GitRepo) -> None:
    base = repo.tip()
    onto = repo.commit("renewed", branch="task", parent=base)
    first = repo.commit("one\n\nwith a body \udcff", parent=base, files={"a": "1"}, update=False)
    last = repo.commit("two", parent=first, files={"b": "2"}, update=False)
    moved = replay(Repo.open(repo.path), last, base, onto)
    assert repo.git("rev-parse", f"{moved}~2") == onto
    form = "--format=%an %ae %ad %cn %cd %T %B"
    assert repo.git("log", form, f"{onto}..{moved}") == repo.git("log", form, f"{base}..{last}")
    # The tree without files is known to git without being there, and fsck misses it.
    repo.git("hash-object", "-t", "tree", "-w", "--stdin", stdin=b"")
    repo.git("fsck", "--strict")


def test_a_merge_that_a_script_made_stays_one(repo: GitRepo) -> None:
    base = repo.tip()
    onto = repo.commit("renewed", branch="task", parent=base)
    other = repo.commit("another line", branch="other", parent=base, files={"o": "1"})
    own = repo.commit("own", parent=base, files={"a": "1"}, update=False)
    tree = repo.git("rev-parse", f"{own}^{{tree}}")
    merge = repo.git("commit-tree", tree, "-p", own, "-p", other, "-m", "merge")
    moved = replay(Repo.open(repo.path), merge, base, onto)
    assert repo.git("rev-parse", f"{moved}^^") == onto
    assert len(repo.git("rev-parse", f"{moved}^@").split()) == 2
    assert repo.git("rev-parse", f"{moved}^2^") == onto


def test_a_signature_of_other_parents_goes(repo: GitRepo) -> None:
    base = repo.tip()
    onto = repo.commit("renewed", branch="task", parent=base)
    plain = repo.commit("signed", parent=base, update=False)
    head, body = repo.git("cat-file", "commit", plain).split("\n\n", 1)
    signed = f"{head}\ngpgsig -----BEGIN SSH SIGNATURE-----\n abc\n def\n\n{body}\n"
    oid = repo.git("hash-object", "-t", "commit", "-w", "--stdin", stdin=signed)
    text = repo.git("cat-file", "commit", replay(Repo.open(repo.path), oid, base, onto))
    assert "gpgsig" not in text
    assert "abc" not in text


def test_nothing_to_replay_is_the_new_base_itself(repo: GitRepo) -> None:
    onto = repo.commit("renewed", branch="task", parent=repo.tip())
    assert replay(Repo.open(repo.path), repo.tip(), repo.tip(), onto) == onto


def test_lines_without_a_common_commit_have_no_fork(repo: GitRepo, tmp_path: Path) -> None:
    git = Repo.open(repo.path)
    alone = repo.git("commit-tree", repo.git("write-tree"), "-m", "alone")
    assert merge_base(git, repo.tip(), alone) is None
    assert merge_base(git, repo.tip(), repo.tip()) == repo.tip()
