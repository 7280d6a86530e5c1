"""Real git servers from Debian's packages, on loopback, below a folder of the test.

    with serving("ssh", root) as server:
        git clone `server.url("repo.git")`, with `server.env` in the environment

`root` holds the bare repositories. Everything else that a server needs (settings, keys, log, the
HOME of its gits) is in a folder beside it. Nothing of the machine's own configuration is read or
written, with one exception: run by root, `sshd` wants `/run/sshd` to exist.

A missing package skips the test, and fails it where the variable CI is set.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shlex
import shutil
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn, Protocol, TypeVar

import pytest

from tests.world import sealed_environment, wait_for

LOOPBACK = "127.0.0.1"
TRANSPORTS = ("file", "daemon", "http", "ssh")

_KEEPER = Path(__file__).with_name("keeper.py")
# Where Debian has the servers; the PATH of an ordinary user has no sbin.
_SBIN = ("/usr/sbin", "/sbin")
# One word of the client's `known_hosts` for all ports, so that a proxy may stand in between.
_HOST_ALIAS = "git-server"
# Looked at before a test is sealed off from the variables outside.
_IN_CI = "CI" in os.environ


class Server(Protocol):
    """A place with bare repositories that git can be pointed at."""

    root: Path
    """The folder of the bare repositories."""

    @property
    def env(self) -> Mapping[str, str]:
        """The variables that a client needs."""

    @property
    def git_config(self) -> tuple[tuple[str, str], ...]:
        """The settings that a client needs in its repository."""

    def url(self, name: str, *, port: int | None = None) -> str:
        """The URL of the repository `name` below `root`; through a proxy with its `port`."""

    def start(self) -> None:
        """Start, and return when it answers; the same port as before."""

    def stop(self) -> None:
        """End it with SIGTERM, and its connections after it."""

    def kill(self) -> None:
        """End it and all that it started, at once, with SIGKILL."""

    def tail(self) -> str:
        """The end of its log."""


S = TypeVar("S", bound="Listening")


class FilePaths:
    """No server at all: the repositories by their paths."""

    env: Mapping[str, str] = {}
    git_config: tuple[tuple[str, str], ...] = ()

    def __init__(self, root: Path) -> None:
        self.root = root

    def url(self, name: str, *, port: int | None = None) -> str:
        return str(self.root / name)

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def kill(self) -> None: ...

    def tail(self) -> str:
        return ""


class Listening(ABC):
    """What all servers with a port have in common.

    The port stays reserved from the first to the last line: a socket is bound to it that never
    listens. Nobody else gets the port, also while the server is down, and the server, which asks
    for SO_REUSEADDR as we do, gets it nevertheless (socket(7)).
    """

    def __init__(self, root: Path, folder: Path, host: str = LOOPBACK) -> None:
        self.root = root
        self.folder = folder
        self.host = host
        folder.mkdir(parents=True)
        self.home = folder / "home"
        self.home.mkdir()
        self._log = folder / "log"
        self._reserved = socket.socket()
        self._reserved.bind((host, 0))
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.port: int = self._reserved.getsockname()[1]
        self._keeper: subprocess.Popen[bytes] | None = None

    @property
    def env(self) -> Mapping[str, str]:
        return {}

    @property
    def git_config(self) -> tuple[tuple[str, str], ...]:
        return ()

    @abstractmethod
    def url(self, name: str, *, port: int | None = None) -> str: ...

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """The server in the foreground, its log on standard error."""

    @property
    def serving_env(self) -> dict[str, str]:
        """The environment of the server's own gits and hooks."""
        return sealed_environment(os.environ, self.home)

    @property
    def running(self) -> bool:
        return self._keeper is not None and self._keeper.poll() is None

    def start(self) -> None:
        assert not self.running, "it runs already"
        with self._log.open("ab") as log:
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_KEEPER), *self._command()],
                cwd=self.folder,
                env=self.serving_env,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                # A Ctrl-C in the terminal is for the tests, which end the server themselves.
                start_new_session=True,
            )
        try:
            wait_for(self._answers, what=f"port {self.port} of {type(self).__name__}")
        except BaseException:
            self.kill()
            raise

    def _answers(self) -> bool:
        assert self.running, f"{type(self).__name__} has ended:\n{self.tail()}"
        with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), 5):
            return True
        return False

    def stop(self) -> None:
        self._end(b"term\n")

    def kill(self) -> None:
        self._end(b"kill\n")

    def _end(self, how: bytes) -> None:
        if self._keeper is None:
            return
        assert self._keeper.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._keeper.stdin.write(how)
            self._keeper.stdin.flush()
        self._keeper.wait()
        with contextlib.suppress(BrokenPipeError):
            self._keeper.stdin.close()
        self._keeper = None

    def close(self) -> None:
        """End it for good, and give the port back."""
        self.kill()
        self._reserved.close()

    def tail(self) -> str:
        if not self._log.exists():
            return ""
        return self._log.read_bytes()[-4000:].decode(errors="replace")

    def _write(self, name: str, text: str, mode: int = 0o600) -> Path:
        path = self.folder / name
        path.write_text(text)
        path.chmod(mode)
        return path

    def _exports(self) -> str:
        """Shell lines that bring `serving_env` back where a server has cleared it."""
        return "".join(
            f"export {name}={shlex.quote(value)}\n" for name, value in self.serving_env.items()
        )


class GitDaemon(Listening):
    """`git daemon`, which takes pushes from everybody."""

    def url(self, name: str, *, port: int | None = None) -> str:
        return f"git://{self.host}:{port or self.port}/{name}"

    def _command(self) -> Sequence[str]:
        return [
            # Itself: `git daemon` would only be its parent.
            f"{_exec_path()}/git-daemon", "--reuseaddr", "--export-all", "--enable=receive-pack",
            f"--listen={self.host}", f"--port={self.port}", f"--base-path={self.root}",
            # More than a crowd of pushers needs; 32 is what it has by itself.
            "--max-connections=500", "--log-destination=stderr", "--verbose", str(self.root),
        ]  # fmt: skip


class SmartHttp(Listening):
    """`git http-backend` behind lighttpd; with `users`, only for who knows a password."""

    def __init__(
        self,
        root: Path,
        folder: Path,
        host: str = LOOPBACK,
        *,
        users: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(root, folder, host)
        self.users = dict(users or {})

    @property
    def env(self) -> Mapping[str, str]:
        return {"GIT_TERMINAL_PROMPT": "0"}

    @property
    def git_config(self) -> tuple[tuple[str, str], ...]:
        return self.credentials(*next(iter(self.users.items()))) if self.users else ()

    def credentials(self, user: str, password: str) -> tuple[tuple[str, str], ...]:
        """The settings of a client that says it is `user`; no secret is in them."""
        answer = self._write(f"credentials-{user}", f"username={user}\npassword={password}\n")
        # git adds what it wants (get, store, erase) as one more word.
        return (("credential.helper", f"!cat {shlex.quote(str(answer))} #"),)

    def url(self, name: str, *, port: int | None = None) -> str:
        return f"http://{self.host}:{port or self.port}/git/{name}"

    def _command(self) -> Sequence[str]:
        return [_program("lighttpd"), "-D", "-f", str(self._settings())]

    def _settings(self) -> Path:
        uploads = self.folder / "uploads"
        uploads.mkdir(exist_ok=True)
        # Pushes of people without a name are a setting (git-http-backend(1)).
        (self.home / ".gitconfig").write_text("[http]\n\treceivepack = true\n")
        backend = self._write(
            "http-backend",
            "#!/bin/sh\n"
            + self._exports()
            # git before 2.34 does not look at the header itself.
            + 'export GIT_PROTOCOL="${HTTP_GIT_PROTOCOL-}"\n'
            + f"export GIT_PROJECT_ROOT={shlex.quote(str(self.root))} GIT_HTTP_EXPORT_ALL=1\n"
            + f"exec {shlex.quote(_exec_path())}/git-http-backend\n",
            0o700,
        )
        text = f"""\
server.modules = ( "mod_alias", "mod_auth", "mod_authn_file", "mod_cgi" )
server.bind = "{self.host}"
server.port = {self.port}
server.document-root = "{self.home}"
server.upload-dirs = ( "{uploads}" )
alias.url = ( "/git" => "{backend}" )
cgi.assign = ( "" => "" )
"""
        if self.users:
            lines = "".join(f"{user}:{secret}\n" for user, secret in self.users.items())
            passwords = self._write("passwords", lines)
            text += f"""\
auth.backend = "plain"
auth.backend.plain.userfile = "{passwords}"
auth.require = ( "/git" => (
    "method" => "basic", "realm" => "git", "require" => "valid-user"
) )
"""
        return self._write("lighttpd.conf", text)


class Sshd(Listening):
    """A real sshd with a host key and users of its own: a user is a key.

    All log in as the person who runs the tests, and each key is tied to what it may do
    (sshd(8), `command=`).
    """

    def __init__(self, root: Path, folder: Path, host: str = LOOPBACK) -> None:
        super().__init__(root, folder, host)
        self._keys = folder / "keys"
        self._keys.mkdir()
        self._account = pwd.getpwuid(os.getuid()).pw_name
        host_key = self._new_key("host").with_suffix(".pub").read_text()
        self._write("known_hosts", f"{_HOST_ALIAS} {host_key}")
        self._write("authorized_keys", "")
        self.authorize("git")

    @property
    def env(self) -> Mapping[str, str]:
        return self.login("git")

    def login(self, user: str, *, known: bool = True) -> Mapping[str, str]:
        """The variables of a client with the key of `user`, which is made where there is none.

        A key without `authorize` is one that the server does not know. Not `known`: the client
        has never seen the server's own key.
        """
        hosts = self.folder / "known_hosts" if known else self.folder / "no_hosts"
        options = (
            "BatchMode=yes", "IdentitiesOnly=yes", "IdentityAgent=none", "LogLevel=ERROR",
            "StrictHostKeyChecking=yes", f"HostKeyAlias={_HOST_ALIAS}",
            f"UserKnownHostsFile={hosts}", "GlobalKnownHostsFile=/dev/null",
        )  # fmt: skip
        words = ["ssh", "-F", "/dev/null", "-i", str(self._key(user))]
        for option in options:
            words += ["-o", option]
        return {"GIT_SSH_COMMAND": shlex.join(words)}

    def authorize(self, user: str) -> None:
        """Let in who has the key of `user`."""
        serve = self._write(f"serve-{user}", self._serve(user), 0o700)
        public = self._key(user).with_suffix(".pub").read_text()
        with (self.folder / "authorized_keys").open("a") as file:
            file.write(f'restrict,command="{serve}" {public}')

    def _serve(self, user: str) -> str:
        """The program that runs for the key of `user`; what was asked for is in a variable."""
        return f'#!/bin/sh\n{self._exports()}exec git shell -c "$SSH_ORIGINAL_COMMAND"\n'

    def url(self, name: str, *, port: int | None = None) -> str:
        return f"ssh://{self._account}@{self.host}:{port or self.port}{self.root / name}"

    def _key(self, user: str) -> Path:
        path = self._keys / user
        return path if path.exists() else self._new_key(user)

    def _new_key(self, name: str) -> Path:
        path = self._keys / name
        subprocess.run(
            [_program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)],
            check=True,
        )
        return path

    def _command(self) -> Sequence[str]:
        if os.getuid() == 0:
            # The one place that is compiled in; the package makes it when it starts its service.
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        # By its full path: it starts itself again for each connection.
        return [_program("sshd"), "-D", "-e", "-f", str(self._settings())]

    def _settings(self) -> Path:
        # The login shell comes first: bash reads the .bashrc of its HOME when sshd has started it.
        path = self._write(
            "sshd_config",
            f"""\
ListenAddress {self.host}:{self.port}
HostKey {self._keys / "host"}
AuthorizedKeysFile {self.folder / "authorized_keys"}
AuthenticationMethods publickey
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
PidFile none
UseDNS no
PrintMotd no
PrintLastLog no
AcceptEnv GIT_PROTOCOL
SetEnv HOME="{self.home}"
LogLevel VERBOSE
MaxStartups 500
""",
        )
        # From OpenSSH 9.8 on: a client that was refused a few times is not listened to for a while.
        with_penalties = path.read_text() + "PerSourcePenalties no\n"
        asked = self._write("sshd_config.asked", with_penalties)
        checked = subprocess.run(
            [_program("sshd"), "-t", "-f", str(asked)], capture_output=True, check=False
        )
        return path if checked.returncode else asked


class ShellAccount(Sshd):
    """An sshd whose account runs any command, not git's alone."""

    def _serve(self, user: str) -> str:
        return f'#!/bin/sh\n{self._exports()}exec sh -c "$SSH_ORIGINAL_COMMAND"\n'


class Gitolite(Sshd):
    """gitolite over the sshd: who may do what is said by rules, for each user.

    Nothing is installed for an account of its own: gitolite finds all that it has by HOME, which
    is the server's own folder. Its users are the keys of the sshd, and its rules a file: there is
    no repository for either.
    """

    # None of what gitolite does after new rules for gitweb, keys and the like.
    _SETTINGS = "%RC = (UMASK => 0077, ROLES => {}, LOG_EXTRA => 1, ENABLE => []);\n1;\n"
    # Also repositories that come later. The pattern must not look like a plain name.
    _EVERYTHING = "repo [a-zA-Z0-9].*\n    RW+ = git\n"

    def __init__(self, root: Path, folder: Path, host: str = LOOPBACK) -> None:
        super().__init__(root, folder, host)
        (self.home / "repositories").symlink_to(root)
        (self.home / ".gitconfig").write_text("[init]\n\tdefaultBranch = main\n")
        (self.home / ".gitolite.rc").write_text(self._SETTINGS)
        for name in ("conf", "logs"):
            (self.home / ".gitolite" / name).mkdir(parents=True)
        self.allow(self._EVERYTHING)

    def allow(self, rules: str, users: Sequence[str] = ()) -> None:
        """Put rules in place of the ones before, and let in `users`, who may be new.

        The rules are in the words of gitolite.conf, for instance::

            repo repo
                RW+ refs/heads/task/ = runner
                R                    = runner

        :param users: names from the rules that `login` is called with.
        """
        for user in users:
            self.authorize(user)
        (self.home / ".gitolite/conf/gitolite.conf").write_text(rules)
        self._gitolite("compile")
        # Its hook also goes into repositories that it has not made.
        self._gitolite("setup", "--hooks-only")

    @property
    def serving_env(self) -> dict[str, str]:
        return super().serving_env | {"USER": self._account}

    def url(self, name: str, *, port: int | None = None) -> str:
        return f"ssh://{self._account}@{self.host}:{port or self.port}/{name}"

    def _serve(self, user: str) -> str:
        shell = f"{self._gitolite('query-rc', 'GL_BINDIR')}/gitolite-shell"
        return f"#!/bin/sh\n{self._exports()}exec {shlex.join([shell, user])}\n"

    def _gitolite(self, *args: str) -> str:
        done = subprocess.run(
            [_program("gitolite"), *args],
            cwd=self.home,
            env=self.serving_env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"gitolite {args}: {done.stdout}{done.stderr}"
        return done.stdout.strip()


def _exec_path() -> str:
    done = subprocess.run(["git", "--exec-path"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _search_path() -> str:
    return os.pathsep.join([os.environ.get("PATH", os.defpath), *_SBIN])


def _program(name: str) -> str:
    path = shutil.which(name, path=_search_path())
    assert path, name
    return path


_KINDS: Mapping[str, type[Listening]] = {
    "daemon": GitDaemon,
    "http": SmartHttp,
    "ssh": Sshd,
    "shell": ShellAccount,
    "gitolite": Gitolite,
}
_SSH = (("sshd", "openssh-server"), ("ssh", "openssh-client"))
# Programs that a server needs, with the package that brings them.
_NEEDS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "http": (("lighttpd", "lighttpd"),),
    "ssh": _SSH,
    "shell": _SSH,
    "gitolite": (*_SSH, ("gitolite", "gitolite3")),
}


def require(program: str, package: str) -> None:
    """Skip the test where a program is missing; fail it in CI, which has to bring all of them."""
    if not shutil.which(program, path=_search_path()):
        _do_without(f"no {program} here: apt-get install {package}")


def _require_login() -> None:
    """An sshd starts what it runs with the login shell of the account (sshd(8))."""
    try:
        account = pwd.getpwuid(os.getuid())
    except KeyError:
        _do_without(f"user id {os.getuid()} has no name here: sshd lets in only users with one")
    if Path(account.pw_shell).name in ("nologin", "false"):
        _do_without(f"{account.pw_name} has no login shell here: run the tests as another user")


def _do_without(reason: str) -> NoReturn:
    if _IN_CI:
        pytest.fail(reason)
    pytest.skip(reason)


@contextlib.contextmanager
def serving(kind: str, root: Path) -> Iterator[Server]:
    """A started server for the repositories in `root`, gone at the end in any case.

    :param kind: one of TRANSPORTS, `shell`, or `gitolite`.
    """
    if kind == "file":
        yield FilePaths(root)
        return
    for program, package in _NEEDS.get(kind, ()):
        require(program, package)
    if issubclass(_KINDS[kind], Sshd):
        _require_login()
    with running(_KINDS[kind](root, beside(root, kind))) as server:
        yield server


@contextlib.contextmanager
def running(server: S) -> Iterator[S]:
    """Start a server, and end it in any case."""
    try:
        server.start()
        yield server
    finally:
        server.close()


def beside(root: Path, kind: str) -> Path:
    """A new folder for a server's own things, beside the repositories."""
    for number in range(1000):
        folder = root.parent / f"{root.name}-{kind}{number or ''}"
        if not folder.exists():
            return folder
    raise AssertionError(f"too many servers beside {root}")
