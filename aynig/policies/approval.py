"""Has a request enough approvals: of different people, none of whom did the work?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from aynig.text import escape, shorten
from aynig.workflow import Approval

# The end of the addresses that scripts commit with where they have no identity of their own
# (RFC 2606: a name below `invalid` is nobody's).
SCRIPTS_DOMAIN = ".aynig.invalid"
# The kind of the steps that are about approvals.
KIND = "approval"
_KEY = "SHA256:"
_NAME_WIDTH = 120


@dataclass(frozen=True, slots=True)
class Person:
    """Whom a commit names as its author or committer. A claim, as all of a commit is."""

    name: str
    address: str

    @property
    def marks(self) -> frozenset[str]:
        """What the person is known by: name and address, regardless of case."""
        return marks_of((self.name, self.address))

    @property
    def is_script(self) -> bool:
        """Is it an identity that aynig gives to scripts?"""
        return self.address.casefold().endswith(SCRIPTS_DOMAIN)

    def __str__(self) -> str:
        return f"{self.name} <{self.address}>" if self.name else self.address


@dataclass(frozen=True, slots=True)
class Voice:
    """A person's commit that says `approved`."""

    oid: str
    author: Person
    committer: Person
    tree: str
    # The oid that it says it approves; empty where it names none: it is the commit below then.
    names: str = ""
    # Whose signature it carries by the allowed-signers file, and the fingerprint of the key; empty
    # without a good signature, and why.
    signer: str = ""
    key: str = ""
    unsigned: str = "is not signed"


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be approved."""

    oid: str
    tree: str
    # Names and addresses of all who did the work, as `marks_of` gives them.
    done_by: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many of the approvals count, and why the last one does not."""

    need: int
    # Whose approvals count, each once, oldest first.
    approved_by: tuple[str, ...] = ()
    refused: str = ""

    @property
    def approved(self) -> bool:
        return len(self.approved_by) >= self.need

    @property
    def score(self) -> str:
        return f"{len(self.approved_by)}/{self.need}"


def marks_of(words: Iterable[str]) -> frozenset[str]:
    """Names and addresses in the form in which they are compared."""
    return frozenset(folded for word in words if (folded := " ".join(word.split()).casefold()))


def judge(approval: Approval, signed: bool, request: Request, voices: Iterable[Voice]) -> Verdict:
    """Count the approvals of a request, oldest first.

    What does not count takes nothing from those that do. A git identity is a claim; with `signed`
    only the name that the key is listed under counts.
    """
    counted: list[str] = []
    known: set[str] = set()
    refused = ""
    for voice in voices:
        marks = _marks(voice, signed)
        refused = _why_not(approval, signed, request, voice, marks)
        if not refused and not known.isdisjoint(marks):
            refused = f"{shown(voice, signed)} has approved it already"
        if not refused:
            known |= marks
            counted.append(shown(voice, signed))
    return Verdict(approval.need, tuple(counted), refused)


def shown(voice: Voice, signed: bool) -> str:
    """Who it is, for people: what is proven where signatures are required."""
    who = f"{voice.signer} ({voice.key})" if signed and voice.signer else str(voice.author)
    return shorten(escape(" ".join(who.split())), _NAME_WIDTH)


def _marks(voice: Voice, signed: bool) -> frozenset[str]:
    proven = marks_of((voice.signer, voice.key))
    return proven if signed else proven | voice.author.marks


def _why_not(
    approval: Approval, signed: bool, request: Request, voice: Voice, marks: frozenset[str]
) -> str:
    """Why an approval does not count, in a clause for people; empty where it does."""
    who = shown(voice, signed)
    if voice.tree != request.tree:
        return "it changes files, and what was asked about is no longer what would be approved"
    if voice.names and voice.names != request.oid:
        return f"it approves {escape(voice.names[:12])}, and asked is about {request.oid[:12]}"
    if signed and not voice.signer:
        return f"it has to be signed by an allowed key, and {voice.unsigned}"
    # Who only passed a commit on is not counted, but must not be who did the work either.
    workers = marks if signed else marks | voice.committer.marks
    if not request.done_by.isdisjoint(workers):
        return f"{who} did the work, and nobody approves their own"
    if not signed and (voice.author.is_script or voice.committer.is_script):
        return f"{who} is a script, and only people approve"
    if approval.by and not _is_named(approval.by, voice, marks):
        return f"{who} is none of those who may approve it"
    return ""


def _is_named(by: Iterable[str], voice: Voice, marks: frozenset[str]) -> bool:
    """Is it one of the names, addresses, `Name <address>` or fingerprints of the settings?"""
    for entry in by:
        if entry.startswith(_KEY):
            if entry == voice.key:
                return True
        elif not marks.isdisjoint(marks_of((_address(entry),))):
            return True
    return False


def _address(entry: str) -> str:
    """The address of `Name <address>`, which is the part that is meant to be one person's."""
    _, bracket, rest = entry.partition("<")
    return rest.partition(">")[0] if bracket else entry
