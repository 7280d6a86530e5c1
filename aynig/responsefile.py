"""What a script has written to its answer file, within the limits of a message."""

from __future__ import annotations

import contextlib

from aynig.answer import Left, Reply, read_reply, reserved
from aynig.dialects import by_name
from aynig.durations import parse_duration
from aynig.model import Statement
from aynig.runs import RunFolder
from aynig.settings import Settings
from aynig.thread import unique

# What the answer says beside the script's own words: a subject, the end of the output, testimony.
# It has to be within the limits of a message as well, or nobody could read it.
_OWN_BYTES = 32 * 1024
_OWN_TRAILERS = 64


def reply_of(settings: Settings, folder: RunFolder, asked: Statement) -> tuple[Reply, str]:
    """What the answer file says to what was asked, and why it can't be an answer; empty: it can."""
    most = max(settings.message_limit - _OWN_BYTES, settings.message_limit // 2)
    try:
        raw = folder.read_response(most + 1)
    except OSError as error:
        return Reply(), f"its answer can't be read: {error.strerror or error}"
    if raw is None:
        return Reply(), ""
    if len(raw) > most:
        return Reply(), f"its answer is longer than {most} bytes"
    reply = read_reply(raw, by_name(asked.dialect))
    count, room = len(reply.fields) + len(reply.trailers), settings.trailer_limit
    if count > max(room - _OWN_TRAILERS, room // 2):
        return Reply(), f"its answer has {count} trailers: too many for one message"
    return reply, ""


def said_in_vain(left: Left) -> tuple[str, ...]:
    """The fields that the script wrote, and that only aynig writes: an attempt has no answer of its
    own that could name them."""
    own = reserved(left.own.fields) if left.own is not None else ()
    return unique([*left.reply.overruled, *own])


def asked_delay(left: Left) -> float | None:
    """When the script wants to be tried again, in seconds; None where it does not say."""
    for key, value in left.reply.fields:
        if key == "retry-after":
            with contextlib.suppress(ValueError):
                return parse_duration(value)
    return None
