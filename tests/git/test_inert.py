"""Which changes of the shared settings are a person's own business."""

from __future__ import annotations

import pytest

from aynig.git.inert import Values, offending, parse_settings

BEFORE: Values = {
    "core.bare": ("false",),
    "remote.origin.url": ("https://example.org/a.git",),
    "remote.origin.fetch": ("+refs/heads/*:refs/remotes/origin/*",),
    "submodule.known.url": ("https://example.org/known.git",),
    "user.name": ("Me",),
}


def changed(**settings: str) -> Values:
    return {**BEFORE, **{key.replace("__", "."): (value,) for key, value in settings.items()}}


def judged(after: Values, *known: str) -> list[str]:
    return offending(BEFORE, after, lambda key: key in known)


STAYS: dict[str, Values] = {
    "nothing": BEFORE,
    "a-branch": changed(branch__main__remote="origin"),
    "a-remote": changed(remote__fork__url="u", remote__fork__fetch="+refs/*:refs/*"),
    "a-remote-with-dots": changed(**{"remote.a.b.url": "u"}),
    "a-submodule": changed(submodule__new__url="u", submodule__new__active="true"),
    "a-submodule-with-a-mode": changed(submodule__new__url="u", submodule__new__update="rebase"),
    "the-mark-of-a-remote": changed(**{"remote.origin.gh-resolved": "base"}),
    "a-first-address": changed(user__email="me@example.org"),
    "sparse": changed(core__sparsecheckout="true", extensions__worktreeconfig="true"),
    "a-colour": changed(color__ui="always"),
    "jobs": changed(aynig__jobs="8"),
}
OFFENDS: dict[str, tuple[Values, list[str]]] = {
    "a-program": (changed(core__hookspath="/x"), ["core.hookspath"]),
    "two-programs": (
        changed(core__pager="x", alias__st="!x", branch__main__remote="origin"),
        ["alias.st", "core.pager"],
    ),
    "where-a-remote-is": (changed(remote__origin__url="u"), ["remote.origin.url"]),
    "what-a-remote-fetches": (changed(remote__origin__fetch="x"), ["remote.origin.fetch"]),
    "where-a-remote-is-pushed": (changed(remote__origin__pushurl="u"), ["remote.origin.pushurl"]),
    "a-program-of-a-new-remote": (
        changed(remote__fork__url="u", remote__fork__uploadpack="x"),
        ["remote.fork.uploadpack"],
    ),
    "a-known-submodule": (changed(submodule__known__url="u"), ["submodule.known.url"]),
    "a-program-of-a-new-submodule": (
        changed(submodule__new__url="u", submodule__new__update="!x"),
        ["submodule.new.update"],
    ),
    "another-name": (changed(user__name="You"), ["user.name"]),
    "what-is-trusted": (changed(aynig__scripts="branch"), ["aynig.scripts"]),
    "a-limit": (changed(aynig__timeout="none"), ["aynig.timeout"]),
    "a-file-of-settings": (changed(include__path="x"), ["include.path"]),
    "another-address-for-all": (changed(**{"url.x.insteadof": "y"}), ["url.x.insteadof"]),
    "a-setting-taken-away": ({**BEFORE, "core.bare": ()}, ["core.bare"]),
    "all-taken-away": ({}, sorted(BEFORE)),
}


@pytest.mark.parametrize("after", STAYS.values(), ids=STAYS)
def test_what_people_write_every_day_stays(after: Values) -> None:
    assert judged(after) == []


@pytest.mark.parametrize(("after", "keys"), OFFENDS.values(), ids=OFFENDS)
def test_what_runs_a_program_redirects_or_loosens_a_limit_does_not(
    after: Values, keys: list[str]
) -> None:
    assert judged(after) == keys


def test_an_address_is_no_first_one_where_another_file_sets_one() -> None:
    after = changed(user__email="other@example.org")
    assert judged(after, "user.email") == ["user.email"]


def test_listed_settings_are_read_with_their_repeats_and_without_values() -> None:
    listed = "a.b\none\0a.b\ntwo\nlines\0c.d\0e.f\n\0"
    assert parse_settings(listed) == {"a.b": ("one", "two\nlines"), "c.d": (None,), "e.f": ("",)}
