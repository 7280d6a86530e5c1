"""Which changes of `.git/config` are a person's own business, also while scripts run.

A script shares that file with the person whose clone it is, and nothing tells who wrote to it. So
what people and their tools write there every day stays, as long as it starts no program, redirects
nothing and loosens no limit. All else is put back: that list is open, and grows with each version
of git (git-config(1)).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

# None stands for a key without a value, which git takes for true.
Values = Mapping[str, tuple[str | None, ...]]

# Whole sections, by what is left of the first dot.
_SECTIONS = frozenset({"advice", "branch", "color", "column", "gui", "status"})
_KEYS = frozenset(
    {
        "aynig.branch",
        "aynig.jobs",
        "aynig.poll",
        "aynig.retention",
        "core.sparsecheckout",
        "core.sparsecheckoutcone",
        "extensions.worktreeconfig",
        "fetch.prune",
        "fetch.prunetags",
        "gc.auto",
        "index.sparse",
        "maintenance.auto",
        "maintenance.strategy",
        "merge.conflictstyle",
        "merge.ff",
        "pull.ff",
        "pull.rebase",
        "push.autosetupremote",
        "push.default",
        "push.followtags",
        "rebase.autosquash",
        "rebase.autostash",
        "rebase.updaterefs",
        "rerere.autoupdate",
        "rerere.enabled",
        "submodule.active",
    }
)
# What GitHub's own command writes to say which remote is meant.
_MARK_OF_REMOTE = re.compile(r"remote\..+\.gh-resolved", re.DOTALL)
# Of a remote or submodule that was not known before: what `git remote add` and `git submodule
# init` write. In one that is known they would redirect the next fetch or push.
_NEW_REMOTE = re.compile(
    r"(remote\..+)\.(?:url|pushurl|fetch|tagopt|prune|prunetags|skipfetchall)", re.DOTALL
)
_NEW_SUBMODULE = re.compile(r"(submodule\..+)\.(?:url|active|update)", re.DOTALL)
_IDENTITY = frozenset({"user.name", "user.email"})


def parse_settings(listed: str) -> Values:
    """The settings that `git config --null --list` has printed: key to values, in their order."""
    found: dict[str, tuple[str | None, ...]] = {}
    for item in listed.split("\0"):
        key, given, value = item.partition("\n")
        if key:
            found[key] = (*found.get(key, ()), value if given else None)
    return found


def offending(before: Values, after: Values, is_known: Callable[[str], bool]) -> list[str]:
    """The keys, in order, whose change is not a person's everyday business.

    `is_known` says of `user.name` and `user.email` whether a file other than this one sets it: to
    give a name where there is none harms nobody, to change the name that commits carry does.
    """
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    return sorted(key for key in changed if not _is_inert(key, before, after, is_known))


def _is_inert(key: str, before: Values, after: Values, is_known: Callable[[str], bool]) -> bool:
    if key in _KEYS or key.partition(".")[0] in _SECTIONS or _MARK_OF_REMOTE.fullmatch(key):
        return True
    if key in _IDENTITY:
        return key not in before and not is_known(key)
    new = _NEW_REMOTE.fullmatch(key) or _NEW_SUBMODULE.fullmatch(key)
    if new is None or any(known.startswith(f"{new[1]}.") for known in before):
        return False
    # `submodule.<name>.update = !command` is a program.
    return not any(value is not None and value.startswith("!") for value in after.get(key, ()))
