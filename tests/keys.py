"""Keys of people who sign, and the files that say whose they are."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Key:
    """An SSH key pair without a passphrase."""

    path: Path

    @classmethod
    def made(cls, folder: Path, name: str) -> Key:
        path = folder / name
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        return cls(path)

    @property
    def public(self) -> str:
        return self.path.with_suffix(".pub").read_text().rpartition(" ")[0]

    @property
    def fingerprint(self) -> str:
        told = subprocess.run(
            ["ssh-keygen", "-l", "-f", str(self.path)], check=True, capture_output=True, text=True
        )
        return told.stdout.split()[1]

    @property
    def settings(self) -> list[str]:
        """Options of git that have it sign with this key."""
        return ["-c", "gpg.format=ssh", "-c", f"user.signingKey={self.path}"]


def allowed_signers(keys: Iterable[tuple[str, Key]]) -> str:
    """The file of ssh-keygen(1), ALLOWED SIGNERS."""
    return "".join(f'{who} namespaces="git" {key.public}\n' for who, key in keys)
