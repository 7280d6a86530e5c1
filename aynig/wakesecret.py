"""The secret that deliveries of a forge are signed with: from a file, or from the environment.

Never from a flag or from git config, where `ps` and `git config -l` show it.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from aynig.errors import ConfigError
from aynig.text import shell_word

VARIABLE = "AYNIG_WAKE_SECRET"
_KEY = "aynig.wakeSecretFile"
_MAKE = "Write one line into it, such as `openssl rand -hex 32` gives."
# Of a longer file it is likely that the wrong one was named.
_LONGEST = 4096


@dataclass(frozen=True, slots=True)
class WakeSecret:
    """A secret without blanks and line ends around it, and what is wrong with where it was.

    Never shown: not even in the text of the value itself.
    """

    value: bytes = field(repr=False)
    problem: str = ""


def read_secret_file(name: str) -> WakeSecret:
    """The one line of a file; `~/` is the home of whoever runs the daemon.

    Raises ConfigError where there is none. That others may read or change it is a `problem`.
    """
    path = Path(name)
    try:
        path = path.expanduser()
        mode = path.stat().st_mode
        # Opening a FIFO would wait for somebody to write.
        if not stat.S_ISREG(mode):
            raise ConfigError(f"{_KEY}: {name} is no file", hint=_MAKE)
        with path.open("rb") as file:
            data = file.read(_LONGEST + 1)
    except RuntimeError as error:
        raise ConfigError(
            f"{_KEY}: nobody's home is {name}", hint="Name an absolute path."
        ) from error
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        raise ConfigError(
            f"{_KEY}: {name} can't be read: {error.strerror}",
            hint=_MAKE if missing else "Let the user who runs the daemon read it.",
        ) from error
    secret = _checked(data, f"{_KEY}: {name}")
    loose = mode & (stat.S_IRWXG | stat.S_IRWXO)
    problem = f"{path} is open to others: chmod 600 {shell_word(str(path))}" if loose else ""
    return WakeSecret(secret, problem)


def read_secret_variable(value: str) -> WakeSecret:
    """The secret that the environment holds; ConfigError where it is empty."""
    return WakeSecret(_checked(os.fsencode(value), VARIABLE))


def _checked(data: bytes, subject: str) -> bytes:
    secret = data.strip()
    if not secret:
        raise ConfigError(f"{subject} is empty", hint="Without a secret, do not name one.")
    if len(data) > _LONGEST or any(byte < 0x20 or byte == 0x7F for byte in secret):
        raise ConfigError(f"{subject} is not one line of at most {_LONGEST} bytes", hint=_MAKE)
    return secret
