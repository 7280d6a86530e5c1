"""Places that `.aynig/config.yaml` names: paths, programs, scenarios.

No path leaves the tree that it is meant in, and nothing is a word that git or a shell would read
as more than a name. All raise ConfigError, as in `configvalues`.
"""

from __future__ import annotations

import re
import shlex

from aynig.configvalues import MAX_WORD, NOT_PRINTABLE, line_of, several
from aynig.workflow import Scenarios
from aynig.yamlfile import Spot, items, known_pairs

_PATH_RULE = "a relative path without .."
_PATH_HINT = "Write a path from the top of the tree, without / in front and without .. in it."
# git-check-ref-format(1), and no leading dash, which git reads as an option.
_NO_REF = re.compile(
    r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^[/-]|/$|\.$|^@$|(?:^|/)\.|\.lock(?:/|$)"
)


def path_of(spot: Spot) -> str:
    """A path below the top of a tree, in its shortest form: no `./` and no slash at the end."""
    path = _shortest(line_of(spot, _PATH_RULE, _PATH_HINT))
    if path is None:
        raise spot.error(_PATH_RULE, hint=_PATH_HINT)
    return path


def _shortest(text: str) -> str | None:
    parts = [part for part in text.split("/") if part not in ("", ".")]
    unsafe = text.startswith("/") or ".." in parts or ".git" in map(str.lower, parts)
    return None if unsafe or not parts else "/".join(parts)


def program_of(spot: Spot) -> tuple[str, ...]:
    """A program below `.aynig/` (relative to it) and its arguments; a text is split as by a shell.

    Nothing of it goes through a shell.
    """
    rule = "a program below .aynig/ and its arguments"
    hint = "Write a path below .aynig/, such as agents/coder --fast."
    if spot.is_list:
        words = tuple(_argument(entry) for entry in items(spot))
    else:
        words = _split(spot, line_of(spot, rule, hint), rule)
    path = _shortest(words[0].removeprefix(".aynig/")) if words else None
    if path is None or words[0].startswith("-"):
        raise spot.error(rule, hint=hint)
    return (path, *words[1:])


def _split(spot: Spot, text: str, rule: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise spot.error(rule, hint="Close the quotes, or write a list of words.") from error


def _argument(spot: Spot) -> str:
    """One word of a command: a number is taken as it was written."""
    rule = "a word of a command"
    text = spot.scalar
    if text is None or spot.tag not in ("str", "int", "float"):
        raise spot.error(rule, hint="Quote it, if it is meant as a text.")
    if NOT_PRINTABLE.search(text) or len(text) > MAX_WORD:
        raise spot.error(rule, hint="Write a word without control characters.")
    return text


def scenarios_of(spot: Spot) -> tuple[Scenarios, ...]:
    """Where scenarios lie: one place, or a list of them."""
    return several(_scenarios)(spot)


def _scenarios(spot: Spot) -> Scenarios:
    rule = "scenarios as REF:PATH, PATH or a mapping"
    hint = "Write judge:scenarios for a folder in a ref, or a path of the trusted tree."
    if spot.is_mapping:
        given = known_pairs(spot, ("repository", "ref", "path"))
        if "path" not in given:
            raise spot.complaint("expected the key path", hint="Say where the scenarios lie.")
        repository = given.read("repository", _repository, "")
        if repository and "ref" not in given:
            raise spot.complaint(
                "expected the key ref beside repository", hint="Name a branch of that repository."
            )
        return Scenarios(path_of(given["path"]), given.read("ref", _ref, ""), repository)
    before, colon, after = line_of(spot, rule, hint).partition(":")
    path = _shortest(after if colon else before)
    if path is None:
        raise spot.error(rule, hint=hint)
    return Scenarios(path, _checked_ref(spot, before) if colon else "")


_REF_RULE = "the name of a ref"
_REF_HINT = "Name a branch, such as judge, or a full ref."


def _ref(spot: Spot) -> str:
    return _checked_ref(spot, line_of(spot, _REF_RULE, _REF_HINT))


def _checked_ref(spot: Spot, name: str) -> str:
    if not name or _NO_REF.search(name):
        raise spot.error(_REF_RULE, hint=_REF_HINT)
    return name


def _repository(spot: Spot) -> str:
    """A remote's name, a path or a URL; what git would take for an option or a program is none."""
    rule = "a repository: the name of a remote, a path or a URL"
    hint = "Write it as for git fetch."
    text = line_of(spot, rule, hint)
    if text.startswith("-") or re.match(r"[A-Za-z0-9+.-]+::", text):
        raise spot.error(rule, hint=hint)
    return text
