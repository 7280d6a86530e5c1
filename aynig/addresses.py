"""Network addresses to listen at, as people write them: `8737`, `127.0.0.1:8737`, `[::1]:8737`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from aynig.text import quote

EXPECTS = "a port such as 8737, or an address with one, such as 127.0.0.1:8737 or [::1]:8737"
LOOPBACK = "127.0.0.1"

_FORM = re.compile(r"(?:(?P<four>[^:\[\]]+):|\[(?P<six>[^\[\]]+)\]:)?(?P<port>[0-9]{1,5})")
_LONGEST = 128


@dataclass(frozen=True, slots=True)
class Address:
    """A numeric IP address and a TCP port; port 0 is any that is free."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether nobody outside of this machine can reach it."""
        from ipaddress import ip_address

        return ip_address(self.host).is_loopback

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_address(text: str) -> Address:
    """The address that a text names: a port alone is one of the loopback, as is `localhost`.

    Other names are not looked up: they may stand for several addresses, and for another one at
    the next start. Raises ValueError with a sentence that says what was expected and found.
    """
    # Commands that only look at their settings do without the import.
    from ipaddress import IPv4Address, IPv6Address

    parts = _FORM.fullmatch(text) if len(text) <= _LONGEST else None
    if parts is not None and int(parts["port"]) <= 65_535:
        four, port = parts["four"] or LOOPBACK, int(parts["port"])
        try:
            if parts["six"]:
                return Address(str(IPv6Address(parts["six"])), port)
            return Address(str(IPv4Address(LOOPBACK if four == "localhost" else four)), port)
        except ValueError:
            pass
    raise ValueError(f"expected {EXPECTS}, found {quote(text)}")
