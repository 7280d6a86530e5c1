"""Parses and writes one trailer block; knows no meaning.

The rules are those of `git interpret-trailers --parse --no-divider` with git's default settings
(separator `:`, comment character `#`); see git-interpret-trailers(1) and design section 1.1. Of
what the manual page leaves open, in short:

- Everything from a NUL on is invisible to git, and so is what follows a scissors line.
- Comment lines, empty lines and old `Conflicts:` lists at the end are skipped.
- The first paragraph is the title and holds no trailers. A message that begins with a blank line
  has an empty title, so its first paragraph may be a trailer block.
- The last paragraph is the block if it holds nothing but trailers, or one line that git writes
  itself (`Signed-off-by: `, `(cherry picked from commit `) and at least one trailer for three
  other lines.
- White space is space, tab, CR and LF; no other character ends a line or can be stripped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto

from aynig.errors import UsageError
from aynig.model import Trailer
from aynig.text import quote

NO_SUBJECT = "(no subject)"

_SPACE = " \t\r\n"
_SCISSORS = "# ------------------------ >8 ------------------------\n"
_CONFLICTS = "Conflicts:\n"
# Lines by which git knows a block that it has written to.
_RECOGNISED = ("Signed-off-by: ", "(cherry picked from commit ")

# Possessive quantifiers throughout: none of these can go back and try again, so each is linear.
_KEY = re.compile(r"[A-Za-z0-9-]++")
_START = re.compile(r"([A-Za-z0-9-]++)[ \t]*+:")
_BLANK = re.compile(r"[ \t\r]*+(?:\n|\Z)")
# A trailer with its continuation lines; in a multi-line text it begins at a line's start.
# No group here is possessive: Python 3.11.2 takes one for matched that failed half-way.
_ENTRY = re.compile(r"^([A-Za-z0-9-]++)[ \t]*+:([^\n]*+(?:\n[ \t\r][^\n]*+)*)", re.MULTILINE)
_PLAIN_BLOCK = re.compile(r"(?:[A-Za-z0-9-]++[ \t]*+:[^\n]*+\n)+")
_LINE = re.compile(r"^[^\n]+", re.MULTILINE)
_FOLD = re.compile(r"\n[ \t\r\n]*+")
_PARAGRAPH_END = re.compile(r"\n[ \t\r]*+(?:\n|\Z)")
_LINE_BREAKS = re.compile(r"[\r\n]++")
# What no value may hold: controls (but the tab), and what other programs take for a line's end.
_FORBIDDEN = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udc7f\udd00-\udfff]")
# Surrogates that stand for no byte: they can't be written.
_UNWRITABLE = re.compile("[\x00\ud800-\udc7f\udd00-\udfff]")


class _Line(Enum):
    """What a line of the last paragraph counts as."""

    TRAILER = auto()
    OTHER = auto()
    INDENTED = auto()
    COMMENT = auto()
    BLANK = auto()


@dataclass(frozen=True, slots=True)
class Message:
    """A commit message in its three parts.

    `subject` is one line, as git's `%s` has it; `body` is the rest without the trailer block and
    without blank lines around it.
    """

    subject: str
    body: str
    trailers: tuple[Trailer, ...]


def decode(raw: bytes) -> str:
    """Bytes of a repository as text; bytes that are not UTF-8 become surrogate escapes."""
    return raw.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    """The bytes of a text; the reverse of `decode`.

    Raises UnicodeEncodeError for surrogates that stand for no byte.
    """
    return text.encode("utf-8", "surrogateescape")


def parse(message: str | bytes) -> tuple[Trailer, ...]:
    """The trailers of a message as git reads them, in their order, with repeats, unfolded."""
    text = _visible(message)
    return _entries(text, *_block(text))


def plain_block(message: str | bytes) -> str | None:
    """The trailer block where it is a paragraph of trailers of one line each; None otherwise.

    Nearly all messages that have trailers have them so, and it is settled in one match.
    """
    text = _visible(message)
    end = _end(text)
    start = _plain_start(text, end)
    return text[start:end] if start else None


def split(message: str | bytes) -> Message:
    """A message in subject, body and trailers.

    Nothing that git shows of the message is lost: lines within or after the trailer block that
    are no trailers (comments, `(cherry picked from ...)`, what follows scissors) are added to the
    body as paragraphs of their own. A trailer block is never also the subject.
    """
    text = _visible(message)
    return _message(text, *_block(text))


def mentions(raw: bytes, keys: tuple[bytes, ...]) -> bool:
    """Whether a trailer with one of these keys (in lower case) might be in a message.

    False is certain, True is not: a look at the bytes, for thousands of commits at a time. It
    rests on the fact that a trailer never stands on the very first line.
    """
    for key in keys:
        if b"\n" + key in raw:
            return True
    folded = raw.lower()
    return any(b"\n" + key in folded for key in keys)


def parse_response(text: str | bytes, keys: tuple[str, ...] = ("aynig",)) -> Message:
    """A response file in subject, body and trailers: more lenient than a commit's message.

    Where git's rule finds a block with one of `keys` in it, that is the answer. Otherwise the
    run of trailer lines at the end of the file is the block if one of `keys` is in it, whatever
    precedes it: a file of one line `aynig: approved`, and trailers right below a subject, are
    fine (design section 1.4). As in git, the very first line of the file is its title rather
    than a trailer, but for one with such a key. CRLF is read as LF, and a NUL as U+FFFD, because
    it would hide what follows it.
    """
    message = decode(text) if isinstance(text, bytes) else text
    message = _visible(message.replace("\r\n", "\n").replace("\0", "\ufffd"))
    wanted = frozenset(key.lower() for key in keys)
    start, end = _block(message)
    if not _holds(_entries(message, start, end), wanted):
        run = _trailing_run(message, wanted)
        if _holds(_entries(message, *run), wanted):
            start, end = run
    return _message(message, start, end)


def compose(subject: str, body: str, trailers: Iterable[Trailer]) -> str:
    """A commit message that git, and `split`, read as these three parts.

    Cleaned: NULs and unwritable surrogates in subject and body become U+FFFD; a subject of
    several lines becomes one; values and the ends of the body are stripped; a scissors line gets
    a space at its end. Without a subject the first line of the body takes its place, without a
    body too it is `(no subject)`. Without trailers, a last paragraph of the body that would be
    read as such is indented by a space.

    Raises UsageError for a key that is not of [A-Za-z0-9-]+ and for a value with a newline or
    another control character in it: either could write trailers of its own.
    """
    lines = [_line(key, value) for key, value in trailers]
    title, text = _titled(_clean(subject), _clean(body))
    parts = [_unscissored(part) for part in (title, text) if part]
    if lines:
        return "\n\n".join([*parts, "\n".join(lines)]) + "\n"
    message = "\n\n".join(parts) + "\n"
    start, end = _block(message)
    if not _entries(message, start, end):
        return message
    return message[:start] + _LINE.sub(r" \g<0>", message[start:end]) + message[end:]


def check_value(value: str, what: str) -> str:
    """A trailer's value, stripped; UsageError, naming `what`, if it can't be one.

    A newline would inject a trailer, and with it a state.
    """
    stripped = value.strip(_SPACE)
    found = _FORBIDDEN.search(stripped)
    if found:
        raise UsageError(
            f"{what} has a control character ({quote(found[0])}) in it",
            hint="write it on one line: a line break there would inject a state",
        )
    return stripped


# -- reading ---------------------------------------------------------------------------------


def _visible(message: str | bytes) -> str:
    """The text that git looks at: up to a NUL."""
    text = decode(message) if isinstance(message, bytes) else message
    nul = text.find("\0")
    return text if nul < 0 else text[:nul]


def _block(text: str) -> tuple[int, int]:
    """Where the trailer block begins and ends; an empty range where there is none."""
    end = _end(text)
    return _plain_start(text, end) or _start(text, end), end


def _plain_start(text: str, end: int) -> int:
    """Where a paragraph of one-line trailers begins that ends at `end`; 0 where none does."""
    start = text.rfind("\n\n", 0, max(end - 1, 0)) + 2
    return start if start > 1 and _PLAIN_BLOCK.fullmatch(text, start, end) else 0


def _end(text: str) -> int:
    """The end of what may be trailers: before scissors, comments and lists of conflicts."""
    cut = len(text)
    if _SCISSORS in text:
        cut = 0 if text.startswith(_SCISSORS) else text.find("\n" + _SCISSORS) + 1 or cut
    if not cut:
        return 0
    last = text.rfind("\n", 0, cut - 1) + 1
    if text[last] in "#\n\t" or text.startswith(_CONFLICTS, last):
        return _skipped(text, cut)
    return cut


def _skipped(text: str, cut: int) -> int:
    """The start of the comments, empty lines and old conflict lists that end at `cut`.

    Reads forwards, because an indented line is skipped only in a list of conflicts. A run on the
    very first line does not count as one: so it is in git, and a list that begins there is still
    open at the next run.
    """
    run = 0
    in_conflicts = False
    line = 0
    while line < cut:
        first = text[line]
        if first in "#\n":
            run = run or line
        elif first == "C" and text.startswith(_CONFLICTS, line):
            in_conflicts = True
            run = run or line
        elif run and not (in_conflicts and first == "\t"):
            run = 0
            in_conflicts = False
        line = text.find("\n", line) + 1 or cut
    return run or cut


def _title_end(text: str) -> int:
    """The start of the first blank line, or the length of the text."""
    if _BLANK.match(text):
        return 0
    found = _PARAGRAPH_END.search(text)
    return found.start() + 1 if found else len(text)


def _start(text: str, end: int) -> int:
    """Where the trailer block that ends at `end` begins; `end` if there is none.

    Reads the last paragraph from its end and weighs its lines as git does: an indented line
    counts with the line above it, which is known only later.
    """
    title_end = _title_end(text)
    ours = others = indented = 0
    recognised = False
    only_blank = True
    line = end
    while line > title_end:
        line = text.rfind("\n", 0, line - 1) + 1
        kind = _kind(text, line)
        if kind is _Line.BLANK:
            if only_blank:
                continue
            others += indented
            block = ours * 3 >= others if recognised else ours and not others
            return text.index("\n", line) + 1 if block else end
        if kind is _Line.INDENTED:
            indented += 1
        elif kind is _Line.TRAILER:
            ours += 1
            indented = 0
            recognised = recognised or text.startswith(_RECOGNISED, line)
        else:
            others += indented + (kind is _Line.OTHER)
            indented = 0
        only_blank = only_blank and kind is _Line.COMMENT
    return end


def _kind(text: str, line: int) -> _Line:
    """What the line that begins at `line` counts as."""
    first = text[line]
    if first == "#":
        return _Line.COMMENT
    if first in _SPACE:
        return _Line.BLANK if _BLANK.match(text, line) else _Line.INDENTED
    if _START.match(text, line) or text.startswith(_RECOGNISED, line):
        return _Line.TRAILER
    return _Line.OTHER


def _entries(text: str, start: int, end: int) -> tuple[Trailer, ...]:
    """The trailers in a block, unfolded."""
    if start >= end:
        return ()
    found = _ENTRY.findall(text[start:end])
    return tuple(
        [
            Trailer(
                key, _FOLD.sub(" ", value.strip(_SPACE)) if "\n" in value else value.strip(_SPACE)
            )
            for key, value in found
        ]
    )


def _message(text: str, start: int, end: int) -> Message:
    """The parts of a text whose trailer block has been found."""
    trailers = _entries(text, start, end)
    if not trailers:
        return Message(*_head(text), ())
    subject, body = _head(text[:start])
    extra = [_without_blank_ends(text[end:])] if end < len(text) else []
    # Fewer line ends within the block than trailers: then there is nothing else in it.
    if text.count("\n", start, end - 1) >= len(trailers):
        extra.insert(0, _without_blank_ends(_ENTRY.sub("", text[start:end])))
    if any(extra):
        body = "\n\n".join(part for part in (body, *extra) if part)
    return Message(subject, body, trailers)


def _head(text: str) -> tuple[str, str]:
    """Subject and body of a text without trailers."""
    text = _without_blank_ends(text)
    found = _PARAGRAPH_END.search(text)
    title, body = (text[: found.start()], text[found.end() :]) if found else (text, "")
    if "\n" in title:
        title = " ".join(line.rstrip(_SPACE) for line in title.split("\n"))
    return title.rstrip(_SPACE), _without_blank_ends(body)


def _without_blank_ends(text: str) -> str:
    """The text without blank lines around it; the first line keeps its indentation."""
    stripped = text.lstrip(_SPACE)
    indent = text.rfind("\n", 0, len(text) - len(stripped)) + 1
    return text[indent:].rstrip(_SPACE)


def _holds(trailers: tuple[Trailer, ...], keys: frozenset[str]) -> bool:
    return any(trailer.key.lower() in keys for trailer in trailers)


def _trailing_run(text: str, keys: frozenset[str]) -> tuple[int, int]:
    """The range of the unbroken run of trailer lines, with continuations, at the end."""
    end = _end(text)
    start = line = end
    only_blank = True
    while line > 0:
        line = text.rfind("\n", 0, line - 1) + 1
        kind = _kind(text, line)
        if kind is _Line.BLANK and only_blank:
            continue
        only_blank = False
        found = _START.match(text, line)
        if found and (line or found[1].lower() in keys):
            start = line
        elif kind is not _Line.INDENTED:
            break
    return start, end


# -- writing ---------------------------------------------------------------------------------


def _line(key: str, value: str) -> str:
    """One trailer as a line."""
    if not _KEY.fullmatch(key):
        raise UsageError(
            f"{quote(key)} is no key of a trailer", hint="use letters, digits and '-' only"
        )
    text = check_value(value, f"the value of {quote(key)}")
    # `Conflicts:` with nothing behind it is the head of a list that git skips.
    return f"{key}: {text}" if text or key == "Conflicts" else f"{key}:"


def _clean(text: str) -> str:
    return _without_blank_ends(_UNWRITABLE.sub("\ufffd", text))


def _titled(subject: str, body: str) -> tuple[str, str]:
    """A title of one line, and the body: the first is never empty."""
    title = " ".join(line.strip(_SPACE) for line in _LINE_BREAKS.split(subject)).strip(_SPACE)
    if title:
        return title, body
    first, _, rest = body.partition("\n")
    return first.replace("\r", " ").strip(_SPACE) or NO_SUBJECT, _without_blank_ends(rest)


def _unscissored(text: str) -> str:
    """The text without scissors: git takes for gone what follows them."""
    line = _SCISSORS[:-1]
    if line not in text:
        return text
    return "\n".join(part + " " if part == line else part for part in text.split("\n"))
