"""Who may wake: what each forge sends, held against the secret."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aynig.signatures import find_fault

# The example that GitHub's documentation gives for those who check signatures.
SECRET = b"It's a Secret to Everybody"
BODY = b"Hello, World!"
MAC = b"757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"

HUB = ("x-hub-signature-256", b"sha256=" + MAC)
GITEA = ("x-gitea-signature", MAC)
FORGEJO = ("x-forgejo-signature", MAC)
GITLAB = ("x-gitlab-token", SECRET)
NAMES = [name for name, _ in (HUB, GITEA, FORGEJO, GITLAB)]

Sent = tuple[str, bytes]


def fault(
    *sent: Sent, body: bytes = BODY, secrets: tuple[bytes, ...] = (b"another", SECRET)
) -> str:
    headers: dict[str, list[bytes]] = {}
    for name, value in sent:
        headers.setdefault(name, []).append(value)
    return find_fault(headers, body, secrets)


@pytest.mark.parametrize("secrets", [(SECRET,), (SECRET, b"next"), (b"former", SECRET)])
@pytest.mark.parametrize(
    "sent",
    [
        (HUB,),
        (GITEA,),
        (FORGEJO,),
        (GITLAB,),
        # Gitea and Forgejo send all of theirs, and some that nobody should rely on any more.
        (HUB, GITEA, FORGEJO, ("x-hub-signature", b"sha1=0"), ("x-gogs-signature", b"0")),
        (HUB, HUB),
    ],
)
def test_what_a_forge_sends_that_knows_the_secret_is_right(
    sent: tuple[Sent, ...], secrets: tuple[bytes, ...]
) -> None:
    assert fault(*sent, secrets=secrets) == ""


@pytest.mark.parametrize(
    ("sent", "named"),
    [
        ((), "no signature"),
        ((("x-hub-signature", b"sha1=0"),), "no signature"),
        ((("authorization", SECRET),), "no signature"),
        ((("x-hub-signature-256", MAC),), "wrong X-Hub-Signature-256"),
        ((("x-hub-signature-256", b"sha256="),), "wrong X-Hub-Signature-256"),
        ((("x-hub-signature-256", b""),), "wrong X-Hub-Signature-256"),
        ((("x-hub-signature-256", b"sha1=" + MAC),), "wrong X-Hub-Signature-256"),
        ((("x-hub-signature-256", b"sha256=" + MAC[:-1]),), "wrong X-Hub-Signature-256"),
        ((("x-hub-signature-256", b"sha256=" + MAC + b"0"),), "wrong X-Hub-Signature-256"),
        ((("x-gitea-signature", b"sha256=" + MAC),), "wrong X-Gitea-Signature"),
        # What Gitea sends where no secret was entered.
        ((("x-gitea-signature", b""),), "wrong X-Gitea-Signature"),
        ((("x-forgejo-signature", MAC[::-1]),), "wrong X-Forgejo-Signature"),
        ((("x-gitlab-token", b""),), "wrong X-Gitlab-Token"),
        ((("x-gitlab-token", MAC),), "wrong X-Gitlab-Token"),
        ((("x-gitlab-token", SECRET + b" "),), "wrong X-Gitlab-Token"),
    ],
)
def test_anything_else_is_wrong(sent: tuple[Sent, ...], named: str) -> None:
    assert fault(*sent) == named


@pytest.mark.parametrize("right", [HUB, GITEA, FORGEJO, GITLAB])
@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_header_is_not_made_good_by_a_right_one(name: str, right: Sent) -> None:
    for sent in (((name, b"x"), right), (right, (name, b"x"))):
        assert fault(*sent).startswith("wrong ")


@pytest.mark.parametrize("sent", [HUB, GITEA, FORGEJO])
def test_a_signature_is_that_of_its_body_alone(sent: Sent) -> None:
    assert fault(sent, body=BODY + b"\n")


def test_each_header_is_right_by_the_same_secret() -> None:
    assert fault(HUB, ("x-gitlab-token", b"another")).startswith("wrong ")


def test_without_a_secret_nothing_is_right() -> None:
    assert fault(HUB, secrets=())


@settings(derandomize=True)
@given(st.lists(st.tuples(st.sampled_from(NAMES), st.binary()), min_size=1), st.binary())
def test_any_bytes_are_wrong_without_an_error_and_are_not_told(
    sent: list[Sent], body: bytes
) -> None:
    assert fault(*sent, body=body) in {
        "wrong X-Hub-Signature-256",
        "wrong X-Gitea-Signature",
        "wrong X-Forgejo-Signature",
        "wrong X-Gitlab-Token",
    }
