"""Where a remote is, and what git has to be told to reach it; credentials kept out of sight.

What a URL says of user and password would stand in the arguments of git's own transport programs,
where `ps` shows it to everybody; a token is often given in the place of the user. So both are taken
out here and handed to git as a credential helper whose values are in the environment, which only
the same user may read (gitcredentials(7), proc(5)).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote

from aynig.errors import ConfigError
from aynig.git.command import git_text
from aynig.git.repo import Repo
from aynig.text import quote, shell_word

# What of a clone's own settings says how its remotes are reached. Not what says which refs are
# fetched or pushed by default (`remote.<name>.mirror` would push away everything).
_SECTIONS = ("http.", "credential.", "ssh.", "protocol.")
_KEYS = frozenset({"core.sshcommand", "core.askpass", "core.gitproxy"})
_OF_REMOTE = ("proxy", "proxyauthmethod", "receivepack", "uploadpack", "vcs", "serveroption")
# Up to the last @ before the path: of a password with one in it nothing may be left.
_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://(?:([^/]*)@)?(.*)", re.DOTALL)
_BY_SSH = ("ssh", "git+ssh", "ssh+git")
_CREDENTIALS = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*:/{1,2})[^/\s]+@")
# Where a password holds a slash, git and we read the URL differently from whoever wrote it.
_SLASHED = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*:/{1,2})[^\s/:@]*:(?![0-9]*/)[^\s@]*/[^\s@]*@")
# As in USER:PASSWORD@HOST:PATH, which no transport takes.
_BARE = re.compile(r"(?<![^\s'\"])[^\s/:@'\"]+:[^\s/:@'\"]+@(?=[^\s/:@]+[:/])")
_IN_QUERY = re.compile(r"[?&][^=&]*(?:token|password|secret)[^=&]*=", re.IGNORECASE)
_SCP = re.compile(r"(?:[^/:@]+@)?(\[[^]]+\]|[^/:]+):(?!//)(.+)", re.DOTALL)
# What a remote is called that is given by its URL, while git is asked for its address.
_NAMELESS = "aynig-address"
# What git calls a remote that is given by its URL.
BY_URL = "aynig"
_USER, _PASSWORD = "AYNIG_REMOTE_USER", "AYNIG_REMOTE_PASSWORD"
# git adds what it wants (get, store, erase) as one more word: a comment.
_HELPER = f'!printf \'username=%s\\npassword=%s\\n\' "${_USER}" "${_PASSWORD}" #'


@dataclass(frozen=True, slots=True)
class Address:
    """A remote by its name, with all that git needs for it. `repr` shows no credentials."""

    name: str
    # Without credentials: it may be shown.
    url: str
    # Where a relative path is meant from.
    cwd: Path
    settings: tuple[tuple[str, str], ...] = field(repr=False)
    environment: Mapping[str, str] = field(repr=False, default_factory=dict)
    # Has somebody said which ssh is to be used?
    has_ssh: bool = False

    @property
    def shown(self) -> str:
        """What people call it: its name, or its URL where it has none."""
        return self.name if self.name != BY_URL else redact(self.url)

    @property
    def path(self) -> Path | None:
        """Where the repository lies, for one in this machine's own file system."""
        text = self.url.removeprefix("file://")
        if (_URL.match(text) or _SCP.fullmatch(text)) and not (self.cwd / text).exists():
            return None
        return Path(os.path.normpath(self.cwd / text))

    @property
    def takes_commands(self) -> bool:
        """Is the server's side of git started by a command line of ours: here, or by ssh?"""
        if any(key == f"remote.{self.name}.receivepack" for key, _ in self.settings):
            return False
        scheme = _URL.match(self.url)
        by_ssh = scheme[1].lower() in _BY_SSH if scheme else _SCP.fullmatch(self.url) is not None
        return by_ssh or self.path is not None

    def variables(self) -> dict[str, str]:
        """Environment variables that give git the settings, unseen by `ps` (git-config(1))."""
        return _as_variables(self.settings) | dict(self.environment)


def find_address(repo: Repo, name: str) -> Address:
    """The remote that `name` means in a clone: one that is configured there, or a URL or path.

    Raises ConfigError, with the names that there are, where it means nothing.
    """
    pairs = repo.own_config()
    urls = _values(repo.config, f"remote.{name}.url")
    url = urls[0] if urls else name
    if not url or (not urls and any(key == f"remote.{name}.url" for key, _ in repo.config)):
        raise ConfigError(
            f"remote {quote(name)} has no URL",
            hint=f"Give it one: git remote set-url {shell_word(name)} URL",
        )
    if not urls and not _may_be_url(repo.place, name):
        known = sorted({_remote_of(key) for key, _ in repo.config} - {""})
        raise ConfigError(
            f"there is no remote {quote(redact(name))}",
            hint=f"There are: {', '.join(known)}."
            if known
            else f"Add it with `git remote add {shell_word(name)} URL`, or name a URL.",
        )
    push_urls = _values(pairs, f"remote.{name}.pushurl")
    if push_urls and push_urls[0] != url:
        raise ConfigError(
            f"remote {quote(name)} has a pushurl of its own: what is read there would not be what "
            "is written",
            hint=f"Remove it: git config --unset-all {shell_word(f'remote.{name}.pushurl')}",
        )
    # As `url.<base>.insteadOf` has it, which is where many keep their tokens.
    asked = git_text(
        repo.git_dir,
        ["ls-remote", "--get-url", "--", name if urls else _NAMELESS],
        cwd=repo.place,
        # Not as an argument: a URL may have credentials in it.
        env={} if urls else _as_variables([(f"remote.{_NAMELESS}.url", name)]),
    )
    if asked.startswith("ext::"):
        # git gives such a program our own environment, and with it our objects: the server would
        # then have refs to objects that are only here.
        raise ConfigError(
            f"remote {quote(name)} is a program (ext::), which can't be worked with",
            hint="Name a path, or a URL with ssh, https, http or git.",
        )
    _refuse_what_would_show(asked, quote(name) if urls else "given")
    found = _address(name if urls else BY_URL, asked, repo.place, pairs, name)
    return replace(found, has_ssh=repo.config_value("core.sshcommand") is not None)


def _refuse_what_would_show(url: str, whose: str) -> None:
    """Where git would not see credentials for what they are, it would show them."""
    if _SLASHED.match(url):
        raise ConfigError(
            f"the URL of the remote {whose} has a slash in its password",
            hint="Write it as %2F, or leave the password to a credential helper.",
        )
    if _URL.match(url) and _IN_QUERY.search(url):
        raise ConfigError(
            f"the URL of the remote {whose} has a secret behind its question mark, which everybody "
            "could see",
            hint="Write it before the host, https://USER:TOKEN@HOST/PATH, or leave it to a "
            "credential helper.",
        )


def _address(
    name: str, url: str, cwd: Path, pairs: Sequence[tuple[str, str | None]], configured: str
) -> Address:
    shown, user, password = split_credentials(url)
    # The longest match counts: no other rewriting is to be done to it any more.
    settings = [
        (f"remote.{name}.url", shown),
        (f"url.{shown}.insteadOf", shown),
        (f"url.{shown}.pushInsteadOf", shown),
    ]
    wanted = {f"remote.{configured}.{key}": f"remote.{name}.{key}" for key in _OF_REMOTE}
    for key, value in pairs:
        if value is None:
            continue
        if key in wanted:
            settings.append((wanted[key], value))
        elif key.startswith(_SECTIONS) or key in _KEYS:
            settings.append((key, value))
    environment = {}
    if password is not None:
        # For this URL only: a server that redirects elsewhere must not tell others. An empty value
        # takes back the helpers from before: they would be told the password.
        key = f"credential.{shown}.helper"
        settings += [(key, ""), (key, _HELPER)]
        environment = {_USER: user, _PASSWORD: password}
    elif user and shown != url:
        settings.append((f"credential.{shown}.username", user))
    return Address(name, shown, cwd, tuple(settings), environment)


def split_credentials(url: str) -> tuple[str, str, str | None]:
    """A URL without its credentials, the user (empty where there is none) and the password.

    The user stays in what no password can be for (`ssh://git@host`): it is part of the address.
    """
    found = _URL.fullmatch(url)
    if found is None or found[2] is None:
        return url, "", None
    user, colon, password = found[2].partition(":")
    if found[1].lower().startswith("http"):
        return (
            f"{found[1]}://{found[3]}",
            unquote(user),
            unquote(password) if colon else None,
        )
    # No other transport takes a password from a URL: it is of no use, but it must not be seen.
    return f"{found[1]}://{user}@{found[3]}", unquote(user), None


def _as_variables(settings: Sequence[tuple[str, str]]) -> dict[str, str]:
    found = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (key, value) in enumerate(settings):
        found[f"GIT_CONFIG_KEY_{number}"] = key
        found[f"GIT_CONFIG_VALUE_{number}"] = value
    return found


def redact(text: str) -> str:
    """`text` without the credentials of the URLs in it."""
    return _BARE.sub("", _CREDENTIALS.sub(r"\1", _SLASHED.sub(r"\1", text)))


def _values(pairs: Iterable[tuple[str, str | None]], key: str) -> list[str]:
    return [value for name, value in pairs if name == key and value]


def _may_be_url(place: Path, name: str) -> bool:
    return bool(_URL.fullmatch(name) or _SCP.fullmatch(name)) or (
        "/" in name and (place / name).exists()
    )


def _remote_of(key: str) -> str:
    found = re.fullmatch(r"remote\.(.+)\.url", key)
    return found[1] if found else ""
