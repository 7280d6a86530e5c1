"""Who made a commit, and what its signature proves."""

from __future__ import annotations

from pathlib import Path

import pytest

from aynig.errors import GitFailed
from aynig.git.authorship import made_between, made_by, verify, write_signed
from aynig.git.repo import Repo
from tests.keys import Key, allowed_signers
from tests.world import GitRepo


@pytest.fixture
def key(tmp_path: Path) -> Key:
    return Key.made(tmp_path, "emily")


def signed(repo: GitRepo, key: Key, *more: str) -> str:
    repo.git(*key.settings, *more, "commit", "--quiet", "--allow-empty", "-S", "-m", "signed")
    return repo.tip()


def signers(key: Key) -> bytes:
    return allowed_signers([("emily@example.org", key)]).encode()


def test_a_signature_proves_whose_it_is_by_the_file_and_with_which_key(
    repo: GitRepo, key: Key
) -> None:
    found = verify(Repo.open(repo.path), signed(repo, key), signers(key))
    assert (found.principal, found.key) == ("emily@example.org", key.fingerprint)
    assert not found.problem


def test_what_is_not_signed_proves_nothing(repo: GitRepo, key: Key) -> None:
    found = verify(Repo.open(repo.path), repo.commit("plain"), signers(key))
    assert (found.principal, found.problem) == ("", "is not signed")


def test_the_key_of_somebody_else_proves_nothing(repo: GitRepo, key: Key, tmp_path: Path) -> None:
    oid = signed(repo, Key.made(tmp_path, "mallory"))
    found = verify(Repo.open(repo.path), oid, signers(key))
    assert found.principal == ""
    assert "its key is no allowed signer's" in found.problem


def test_a_message_that_was_changed_after_it_was_signed_proves_nothing(
    repo: GitRepo, key: Key
) -> None:
    raw = repo.git("cat-file", "commit", signed(repo, key)).replace("\n\nsigned", "\n\nforged")
    oid = repo.git("hash-object", "-t", "commit", "-w", "--stdin", stdin=raw + "\n")
    found = verify(Repo.open(repo.path), oid, signers(key))
    assert (found.principal, found.key) == ("", "")
    assert "not good" in found.problem


def test_settings_that_scripts_can_reach_prove_nothing(
    repo: GitRepo, key: Key, tmp_path: Path
) -> None:
    mallory = Key.made(tmp_path, "mallory")
    oid = signed(repo, mallory)
    liar = tmp_path / "liar"
    said = f'Good "git" signature for emily@example.org with ED25519 key {key.fingerprint}'
    liar.write_text(f"#!/bin/sh\necho '{said}'\n")
    liar.chmod(0o755)
    theirs = tmp_path / "theirs"
    theirs.write_bytes(signers(mallory))
    repo.git("config", "gpg.ssh.program", str(liar))
    repo.git("config", "gpg.program", str(liar))
    repo.git("config", "gpg.ssh.allowedSignersFile", str(theirs))
    assert verify(Repo.open(repo.path), oid, signers(key)).principal == ""


def test_a_signature_of_another_kind_proves_nothing(repo: GitRepo, key: Key) -> None:
    raw = repo.git("cat-file", "commit", repo.tip())
    header = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n -----END PGP SIGNATURE-----"
    raw = raw.replace("\n\n", f"\n{header}\n\n", 1)
    oid = repo.git("hash-object", "-t", "commit", "-w", "--stdin", stdin=raw + "\n")
    found = verify(Repo.open(repo.path), oid, signers(key))
    assert found.problem == "is signed by something other than an SSH key"


def test_a_commit_is_signed_by_git_itself_and_is_not_older_than_its_parent(
    repo: GitRepo, key: Key
) -> None:
    opened = Repo.open(repo.path)
    late = {"GIT_AUTHOR_DATE": "4000000000 +0000", "GIT_COMMITTER_DATE": "4000000000 +0000"}
    tree = repo.git("rev-parse", "main^{tree}")
    parent = repo.git("commit-tree", tree, "-p", "main", "-m", "late", env=late)
    settings = ["gpg.format=ssh", f"user.signingKey={key.path}"]
    oid = write_signed(opened, opened.commit(parent), b"yes\n\naynig: approved\n", settings)
    assert repo.fields(oid) == {"": "approved"}
    assert opened.commit(oid).time == 4_000_000_000
    assert verify(opened, oid, signers(key)).principal == "emily@example.org"


def test_a_key_that_is_not_there_is_told_with_what_to_do(repo: GitRepo) -> None:
    opened = Repo.open(repo.path)
    settings = ["gpg.format=ssh", "user.signingKey=/nowhere/key"]
    with pytest.raises(GitFailed, match="could not sign") as caught:
        write_signed(opened, opened.commit(repo.tip()), b"yes\n", settings)
    assert "user.signingKey" in caught.value.hint


def test_all_who_made_the_commits_in_between_are_found(repo: GitRepo) -> None:
    oldest = repo.tip()
    repo.git("commit", "--quiet", "--allow-empty", "-m", "x", "--author=Wörker <w@example.org>")
    repo.git("config", "log.showSignature", "true")
    newest = repo.commit("newest")
    opened = Repo.open(repo.path)
    (made,) = made_between(opened, newest, oldest)
    assert made.author == ("Wörker", "w@example.org")
    assert made.committer == ("Carl Committer", "carl@example.org")
    assert made_by(opened, newest).message == b"newest"
