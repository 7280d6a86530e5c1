"""Where a remote is, as git config says it, with its credentials kept out of sight."""

from __future__ import annotations

from pathlib import Path

import pytest

from aynig.errors import ConfigError
from aynig.git.address import Address, find_address, redact, split_credentials
from aynig.git.repo import Repo
from tests.world import GitRepo


def address(repo: GitRepo, name: str = "origin") -> Address:
    return find_address(Repo.open(repo.path), name)


def settings(found: Address) -> dict[str, str]:
    return dict(found.settings)


@pytest.mark.parametrize(
    ("url", "shown", "user", "password"),
    [
        ("https://git/x.git", "https://git/x.git", "", None),
        ("https://ada:s3cret@git/x.git", "https://git/x.git", "ada", "s3cret"),
        ("https://ada:s%40c@git:8443/x.git", "https://git:8443/x.git", "ada", "s@c"),
        # git cuts at the first of them and curl at the last: nothing of it may be left.
        ("https://ada:s@c@git/x.git", "https://git/x.git", "ada", "s@c"),
        # A token is often given as the user.
        ("https://t0ken@git/x.git", "https://git/x.git", "t0ken", None),
        ("https://t0ken:@git/x.git", "https://git/x.git", "t0ken", ""),
        ("HTTPS://ada:s3cret@git/x.git", "HTTPS://git/x.git", "ada", "s3cret"),
        ("ssh://git@git/x.git", "ssh://git@git/x.git", "git", None),
        ("ssh://git:s3cret@git/x.git", "ssh://git@git/x.git", "git", None),
        ("git@git:x.git", "git@git:x.git", "", None),
        ("/srv/a@b/x.git", "/srv/a@b/x.git", "", None),
        ("https://git/a@b/x.git", "https://git/a@b/x.git", "", None),
    ],
)
def test_a_url_is_shown_without_credentials(
    url: str, shown: str, user: str, password: str | None
) -> None:
    assert split_credentials(url) == (shown, user, password)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no access to 'https://ada:s3cret@git/x'", "no access to 'https://git/x'"),
        ("https://ada:s'c@git/x", "https://git/x"),
        ("https://t0ken@git and ssh://git:s3cret@git", "https://git and ssh://git"),
        ("https://git/x, ask ada@example.org", "https://git/x, ask ada@example.org"),
    ],
)
def test_texts_are_shown_without_credentials(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_a_password_is_told_to_git_for_its_own_url_alone(repo: GitRepo) -> None:
    repo.git("remote", "add", "origin", "https://ada:s3cret@git/x.git")
    found = address(repo)
    assert found.url == "https://git/x.git"
    assert "s3cret" not in repr(found)
    assert not any("s3cret" in word for pair in found.settings for word in pair)
    assert not any(key == "credential.helper" for key, _ in found.settings)
    asked = {**found.variables(), "GIT_TERMINAL_PROMPT": "0"}
    wanted = "protocol=https\nhost=git\npath=x.git\n\n"
    told = repo.git("credential", "fill", stdin=wanted, env=asked)
    assert told.splitlines()[-2:] == ["username=ada", "password=s3cret"]
    elsewhere = wanted.replace("host=git", "host=evil")
    assert "s3cret" not in repo.git("credential", "fill", stdin=elsewhere, env=asked, check=False)


def test_the_helpers_of_a_person_are_not_told_a_password_from_a_url(
    repo: GitRepo, tmp_path: Path
) -> None:
    repo.git("remote", "add", "origin", "https://ada:s3cret@git/x.git")
    repo.git("config", "--global", "credential.helper", f"store --file={tmp_path}/told")
    approved = "protocol=https\nhost=git\npath=x.git\nusername=ada\npassword=s3cret\n\n"
    repo.git("credential", "approve", stdin=approved, env=address(repo).variables())
    assert not (tmp_path / "told").exists()


def test_a_user_in_a_url_is_whom_a_helper_is_asked_for(repo: GitRepo, tmp_path: Path) -> None:
    repo.git("remote", "add", "origin", "https://ada@git/x.git")
    repo.git("config", "credential.helper", f"store --file={tmp_path}/known")
    (tmp_path / "known").write_text("https://bob:b@git\nhttps://ada:s3cret@git\n")
    asked = address(repo).variables()
    told = repo.git("credential", "fill", stdin="protocol=https\nhost=git\n\n", env=asked)
    assert "username=ada" not in told
    told = repo.git(
        "credential", "fill", stdin="protocol=https\nhost=git\npath=x.git\n\n", env=asked
    )
    assert told.splitlines()[-2:] == ["username=ada", "password=s3cret"]


def test_a_token_in_a_rewritten_url_is_hidden_as_well(repo: GitRepo) -> None:
    repo.git("remote", "add", "origin", "https://git/x.git")
    repo.git("config", "--global", "url.https://ada:s3cret@git/.insteadOf", "https://git/")
    found = address(repo)
    assert found.url == "https://git/x.git"
    # Nor is it put back in when git rewrites the URL once more.
    args = ["ls-remote", "--get-url", "origin"]
    assert repo.git(*args, env=found.variables()).splitlines()[-1] == "https://git/x.git"


def test_a_url_may_stand_for_a_remote(repo: GitRepo) -> None:
    found = address(repo, "https://ada:s3cret@git/x.git")
    assert (found.name, found.url) == ("aynig", "https://git/x.git")


def test_what_a_clone_says_of_http_and_ssh_counts(repo: GitRepo) -> None:
    repo.git("remote", "add", "origin", "https://git/x.git")
    repo.git("config", "http.extraHeader", "Authorization: Basic xyz")
    repo.git("config", "core.sshCommand", "ssh -i key")
    repo.git("config", "remote.origin.mirror", "true")
    found = address(repo)
    assert settings(found)["http.extraheader"] == "Authorization: Basic xyz"
    assert settings(found)["core.sshcommand"] == "ssh -i key"
    assert found.has_ssh
    assert not any("mirror" in key for key, _ in found.settings)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/srv/x.git", "/srv/x.git"),
        ("file:///srv/x.git", "/srv/x.git"),
        ("../x.git", "{here}/../x.git"),
        ("https://git/x.git", None),
        ("git:x.git", None),
    ],
)
def test_a_remote_on_this_machine_has_a_path(repo: GitRepo, url: str, path: str | None) -> None:
    repo.git("remote", "add", "origin", url)
    found = address(repo).path
    wanted = Path(path.format(here=repo.path)) if path else None
    assert found == (wanted.resolve() if wanted else None)


def test_a_pushurl_of_its_own_is_refused(repo: GitRepo) -> None:
    repo.git("remote", "add", "origin", "/srv/x.git")
    repo.git("config", "remote.origin.pushurl", "/srv/y.git")
    with pytest.raises(ConfigError, match="pushurl of its own") as caught:
        address(repo)
    assert caught.value.hint == "Remove it: git config --unset-all remote.origin.pushurl"


def test_a_remote_with_an_empty_url_is_told_from_one_that_is_not_there(repo: GitRepo) -> None:
    repo.git("remote", "add", "origin", "/srv/x.git")
    repo.git("remote", "set-url", "origin", "")
    with pytest.raises(ConfigError, match="has no URL") as caught:
        address(repo)
    assert caught.value.hint == "Give it one: git remote set-url origin URL"


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("http://u:s3c/ret@localhost:1/x.git", "slash in its password"),
        ("https://host/x.git?private_token=s3cret", "secret behind its question mark"),
    ],
)
def test_a_url_that_git_would_show_with_its_secret_is_refused(
    repo: GitRepo, url: str, wrong: str
) -> None:
    repo.git("remote", "add", "origin", url)
    for name in ("origin", url):
        with pytest.raises(ConfigError, match=wrong) as caught:
            find_address(Repo.open(repo.path), name)
        assert "s3c" not in f"{caught.value}{caught.value.hint}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at http://u:s3c/ret@host/x", "at http://host/x"),
        ("at http:/u:s3cret@host/x", "at http:/host/x"),
        ("'u:s3cret@host:x.git'", "'host:x.git'"),
        ("http://host:8080/a@b", "http://host:8080/a@b"),
        ("git@host:x.git", "git@host:x.git"),
        ("at 10:20 by a@b.example", "at 10:20 by a@b.example"),
    ],
)
def test_what_may_be_a_password_is_not_shown(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_a_remote_that_is_a_program_is_refused(repo: GitRepo) -> None:
    repo.git("remote", "add", "origin", "ext::git %s /srv/x.git")
    with pytest.raises(ConfigError, match="is a program"):
        address(repo)
