"""Text from repositories made fit for terminals, error messages and variable names.

Design section 3, Trust: what comes out of repositories is printed with control and
bidirectional characters escaped.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterable

ELLIPSIS = "…"
# Long enough to recognise a value, short enough that a message stays one readable line.
SHOWN_LENGTH = 60
VARIABLE_PREFIX = "AYNIG_TRAILER_"

# Controls (C0, DEL, C1), what orders text anew (bidirectional marks), what has no width, what
# other programs take for the end of a line, and the surrogates that stand for stray bytes.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e007f\ud800-\udfff]"
)
_NOT_IN_VARIABLES = re.compile(r"[^A-Za-z0-9]")


def escape(text: str, *, keep: str = "") -> str:
    r"""`text` as it may be printed: unsafe characters become `\xNN`, `\uNNNN` or `\UNNNNNNNN`.

    Newline and tab are unsafe as well, unless named in `keep`. A byte that was not UTF-8 (a
    surrogate escape) is shown as that byte. Everything else stays as it is.
    """

    def shown(match: re.Match[str]) -> str:
        character = match[0]
        return character if character in keep else _escaped(ord(character))

    return _UNSAFE.sub(shown, text)


def _escaped(code: int) -> str:
    if _is_byte(chr(code)):
        code -= 0xDC00
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def escape_json(text: str) -> str:
    r"""JSON text that says the same with every unsafe character in JSON's own form (`\u202e`).

    Line ends between the values stay: inside of strings JSON has escaped them already.
    """
    return _UNSAFE.sub(lambda match: match[0] if match[0] == "\n" else _in_json(match[0]), text)


def _in_json(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def counted(number: int, thing: str, things: str = "") -> str:
    """`1 run`, `2 runs`; `things` is the plural where it is not `thing` with an s."""
    return f"{number} {thing if number == 1 else things or thing + 's'}"


def shorten(text: str, width: int) -> str:
    """At most `width` characters (at least 1) of `text`; a cut is marked with an ellipsis."""
    if len(text) <= width:
        return text
    return text[: max(width - 1, 0)] + ELLIPSIS


def quote(text: str, *, width: int = SHOWN_LENGTH) -> str:
    """`text` in single quotes for an error message: escaped, and cut to `width` characters."""
    # Cut before escaping as well: a megabyte need not be escaped to show sixty characters.
    return f"'{shorten(escape(text[: width + 1]), width)}'"


def shell_word(text: str) -> str:
    r"""`text` as one word of a command that is shown for copying into a shell.

    Quoted where a shell would read more than a plain word in it. Text that `escape` would change
    becomes `$'…'` (POSIX.1-2024, 2.2.4), its unsafe characters as the octal numbers of their
    bytes: the word can be printed as it is, and still means the same.
    """
    if not _UNSAFE.search(text):
        return shlex.quote(text)
    body = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{_UNSAFE.sub(_in_octal, body)}'"


def _in_octal(match: re.Match[str]) -> str:
    data = match[0].encode("utf-8", "surrogateescape" if _is_byte(match[0]) else "surrogatepass")
    return "".join(f"\\{byte:03o}" for byte in data)


def _is_byte(character: str) -> bool:
    """Does it stand for a byte that was not UTF-8?"""
    return 0xDC80 <= ord(character) <= 0xDCFF


def operand(text: str) -> str:
    """`shell_word` for a place where a leading dash would be read as an option."""
    return f"-- {shell_word(text)}" if text.startswith("-") else shell_word(text)


def variable_name(key: str) -> str:
    """The whole name of the variable for a field or trailer (design section 1.3).

    `depends-on` becomes `AYNIG_TRAILER_DEPENDS_ON`: upper case, and every character outside
    A-Z0-9 becomes `_`. Two keys may share a name (`a-b`, `a_b`).
    """
    return VARIABLE_PREFIX + _NOT_IN_VARIABLES.sub("_", key).upper()


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` is a likely misspelling of, or None."""
    # The comparison is quadratic in the length of its words, and `word` may be anything.
    found = difflib.get_close_matches(word[:SHOWN_LENGTH], list(known), n=1, cutoff=0.6)
    return found[0] if found else None
