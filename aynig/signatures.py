"""Whether a delivery of a forge was made by somebody who knows the secret; pure.

GitHub, Gitea and Forgejo send a MAC of the body (RFC 2104, SHA-256), GitLab the secret itself.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence

# Header names in lower case, the values as they came: bytes, because nothing says that they are
# text.
Headers = Mapping[str, Sequence[bytes]]


def _mac(secret: bytes, body: bytes) -> bytes:
    return hmac.new(secret, body, "sha256").hexdigest().encode()


def _labelled_mac(secret: bytes, body: bytes) -> bytes:
    return b"sha256=" + _mac(secret, body)


def _token(secret: bytes, _body: bytes) -> bytes:
    return secret


# What each header has to say. Gitea and Forgejo send the first one as well.
_EXPECTED: Mapping[str, Callable[[bytes, bytes], bytes]] = {
    "X-Hub-Signature-256": _labelled_mac,
    "X-Gitea-Signature": _mac,
    "X-Forgejo-Signature": _mac,
    "X-Gitlab-Token": _token,
}


def find_fault(headers: Headers, body: bytes, secrets: Sequence[bytes]) -> str:
    """Why a delivery is not to be trusted, in words of our own; empty where it is signed.

    Each header that is there has to be right, however often it is there: a wrong one is not made
    good by another. With several secrets (while one is exchanged for the next) any of them does,
    but the same for all headers. The comparisons take the same time whatever is wrong.
    """
    given = [(name, value) for name in _EXPECTED for value in headers.get(name.lower(), ())]
    if not given:
        return "no signature"
    wrong = [_wrong(given, body, secret) for secret in secrets]
    if wrong and all(wrong):
        return f"wrong {wrong[0][0]}"
    return "" if wrong else "no secret to compare with"


def _wrong(given: Sequence[tuple[str, bytes]], body: bytes, secret: bytes) -> list[str]:
    """The names of the headers that do not say what they have to."""
    # Once for each name: a header may be there a thousand times, and the body is large.
    expected = {name: _EXPECTED[name](secret, body) for name in dict(given)}
    return [name for name, value in given if not hmac.compare_digest(value, expected[name])]
