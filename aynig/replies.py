"""What people say to a request: approve, reject, answer. Each is one commit on its branch."""

from __future__ import annotations

from dataclasses import dataclass, replace

from aynig import dialects
from aynig.answer import SUBJECT_WIDTH
from aynig.approvals import Trusted, approval_of, verdict_on
from aynig.dialects import by_name, check_limits
from aynig.errors import UsageError, UserError
from aynig.facts import trusted_at
from aynig.git.authorship import write_signed
from aynig.git.repo import CommitInfo
from aynig.model import AWAITING_ANSWER, AWAITING_APPROVAL, Event, Field, Statement
from aynig.policies.approval import Verdict
from aynig.requests import Asked, read_request
from aynig.respond import move_branch
from aynig.site import Site, limits_of
from aynig.tasks import Written, tip_of
from aynig.text import escape, operand, quote, shorten
from aynig.thread import REPLIES, carried
from aynig.trailers import encode

# The field by which each reply names what it is about.
_ABOUT = {"approved": "approves", "rejected": "rejects", "answered": "replies-to"}
_COMMANDS = {"approved": "approve", "rejected": "reject", "answered": "answer"}
# Settings of the clone that say how git signs: a copy of a remote does not have them.
_SIGNING = ("gpg.", "user.signingkey")


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply that was written; `verdict` is there for an approval, and counts it."""

    written: Written
    verdict: Verdict | None = None


def reply(site: Site, branch: str, state: str, words: str, *, sign: bool = False) -> Reply:
    """Write `approved`, `rejected` or `answered` on top of a request or a question.

    Signed where it is asked for, where git is configured to sign, and where the workflow wants it.
    Raises UserError where there is nothing to reply to, or where the approval would not count;
    nothing has changed then.
    """
    if state != "approved" and not words.strip():
        raise UsageError("there are no words", hint="Say them with -m TEXT.")
    ref, info, tip = tip_of(site, branch)
    event = Event(ref, info.oid, info.tree, info.time, tip)
    trusted = trusted_at(site, event)
    asked = _asked(site, event, trusted)
    about = asked.request.oid if asked is not None else info.oid
    if asked is None and not (tip.state == AWAITING_ANSWER and state == "answered"):
        raise _nothing_to_say(site, branch, tip, state)
    message = _message(site, tip, state, words, Field(_ABOUT[state], about))
    verdict: Verdict | None = None
    if state == "approved" and asked is not None:
        sign = sign or trusted(asked.trigger.tree)[1].signed
    oid = _write(site, info, message, sign=sign)
    if state == "approved" and asked is not None:
        verdict = _judged(site, oid, branch, asked, trusted)
    move_branch(site.store, ref, info.oid, oid)
    return Reply(Written(branch, oid, state), verdict)


def _asked(site: Site, event: Event, trusted: Trusted) -> Asked | None:
    if event.state != AWAITING_APPROVAL:
        return None
    return read_request(site, event.oid, lambda tree: trusted(tree)[1])


def _nothing_to_say(site: Site, branch: str, tip: Statement, state: str) -> UserError:
    if tip.state == AWAITING_ANSWER:
        return UserError(
            f"{escape(branch)} asks a question",
            hint=site.naming_remote(f"Answer it: `aynig answer {operand(branch)} -m TEXT`."),
        )
    if tip.state == AWAITING_APPROVAL:
        return UserError(
            f"{escape(branch)} was put on hold, and asks for nothing",
            hint=f"A new state is written with `aynig submit STATE -b {operand(branch)}`.",
        )
    if tip.state in REPLIES:
        return UserError(
            f"{escape(branch)} was replied to already ({tip.state}), and nobody has looked at it "
            "since",
            hint="`aynig run` or `aynig daemon` does.",
        )
    return UserError(
        f"there is nothing to {_COMMANDS[state]}: the state of {escape(branch)} is "
        f"{quote(tip.state)}",
        hint="`aynig status` says which tasks wait for a person.",
    )


def _message(site: Site, tip: Statement, state: str, words: str, about: Field) -> str:
    first = next((line.strip() for line in words.splitlines() if line.strip()), "")
    subject = f"{tip.state} -> {state}"
    dialect = by_name(tip.dialect)
    message = dialects.write(
        dialect,
        state,
        [about, *carried(tip, state)],
        (),
        shorten(f"{subject}: {escape(first)}" if first else subject, SUBJECT_WIDTH),
        words,
    )
    check_limits(encode(message), limits_of(site.settings))
    return message


def _write(site: Site, info: CommitInfo, message: str, *, sign: bool) -> str:
    settings = (site.clone or site.repo).config
    if sign or _last(settings, "commit.gpgsign") in ("true", "yes", "on", "1"):
        ours = tuple(
            f"{key}={value}"
            for key, value in (settings if site.clone is not None else ())
            if value is not None and key.startswith(_SIGNING)
        )
        return write_signed(site.repo, info, encode(message), ours)
    return site.repo.write_commit(
        tree=info.tree, parents=[info.oid], message=message, not_before=info.time, unique=True
    )


def _last(settings: tuple[tuple[str, str | None], ...], key: str) -> str:
    # A key without a value is true (git-config(1)).
    found = [value if value is not None else "true" for name, value in settings if name == key]
    return found[-1].lower() if found else ""


def _judged(site: Site, oid: str, branch: str, asked: Asked, trusted: Trusted) -> Verdict:
    """How the approval will be counted; UserError where it would not be."""
    told = site.threads.told(oid)
    assert told is not None
    verdict = verdict_on(site, replace(asked, replies=(*asked.replies, told)), trusted)
    if not verdict.refused:
        return verdict
    approval = approval_of(trusted(asked.trigger.tree)[1], asked.trigger.statement.state)
    wanted = ", ".join(escape(each) for each in approval.by) or "anybody who did not do the work"
    raise UserError(
        f"this would not count: {verdict.refused}",
        hint=site.naming_remote(
            f"It may be approved by {wanted}; `git config user.email` says who you are here. "
            f"Everybody may say no: `aynig reject {operand(branch)} -m WHY`."
        ),
    )
