"""The operator's settings: from git config, overridden by flags, refused with a way out."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest

from aynig.errors import ConfigError
from aynig.settings import (
    TABLE,
    Setting,
    Settings,
    matches,
    override,
    read_settings,
    setting,
)
from aynig.text import escape
from tests.world import GitRepo

ROOT = Path(__file__).parent.parent
KIB = 1024
MIB = 1024 * KIB


def one(key: str, value: str | None) -> Settings:
    return read_settings([(key, value)])


def changed(**values: Any) -> Settings:
    """The defaults with some fields replaced."""
    return dataclasses.replace(Settings(), **values)


def test_without_configuration_the_defaults_hold() -> None:
    settings = read_settings([])
    assert settings == Settings()
    assert settings.jobs >= 2
    assert dataclasses.replace(settings, jobs=2) == Settings(
        jobs=2,
        poll=5.0,
        branches=(),
        lease_seconds=60.0,
        worktree_dir="",
        retention=14 * 86_400.0,
        output_limit=10 * MIB,
        timeout=3600.0,
        grace=10.0,
        scripts="",
        roles=(),
        agent="",
        remotes=(),
        message_limit=MIB,
        trailer_limit=256,
        wake_listen="",
        wake_secret_file="",
    )


@pytest.mark.parametrize(
    ("key", "value", "name", "expected"),
    [
        ("aynig.jobs", "1", "jobs", 1),
        ("aynig.jobs", "1024", "jobs", 1024),
        ("aynig.poll", "0.05", "poll", 0.05),
        ("aynig.poll", "250ms", "poll", 0.25),
        ("aynig.leaseseconds", "5", "lease_seconds", 5.0),
        ("aynig.leaseSeconds", "2m", "lease_seconds", 120.0),
        ("aynig.worktreedir", "/var/tmp/a b", "worktree_dir", "/var/tmp/a b"),
        ("aynig.retention", "1d", "retention", 86_400.0),
        ("aynig.retention", "0", "retention", 0.0),
        ("aynig.outputlimit", "4k", "output_limit", 4 * KIB),
        ("aynig.outputlimit", "4096", "output_limit", 4 * KIB),
        ("aynig.outputlimit", "2M", "output_limit", 2 * MIB),
        ("aynig.outputlimit", "1g", "output_limit", 1024 * MIB),
        ("aynig.timeout", "none", "timeout", math.inf),
        ("aynig.timeout", "1h30m", "timeout", 5400.0),
        ("aynig.grace", "0s", "grace", 0.0),
        ("aynig.scripts", "branch", "scripts", "branch"),
        ("aynig.scripts", "refs/heads/main", "scripts", "refs/heads/main"),
        ("aynig.role", "reviewer", "roles", ("reviewer",)),
        ("aynig.dialect", "dwp", "dialect", "dwp"),
        ("aynig.dwpLeaseSeconds", "30m", "dwp_lease_seconds", 1800.0),
        ("aynig.messagelimit", "64k", "message_limit", 64 * KIB),
        ("aynig.trailerlimit", "10", "trailer_limit", 10),
        ("aynig.wakelisten", "8737", "wake_listen", "127.0.0.1:8737"),
        ("aynig.wakelisten", "0", "wake_listen", "127.0.0.1:0"),
        ("aynig.wakelisten", "[::1]:8737", "wake_listen", "[::1]:8737"),
        ("aynig.wakelisten", "0.0.0.0:8737", "wake_listen", "0.0.0.0:8737"),
        ("aynig.wakesecretfile", "/etc/a b", "wake_secret_file", "/etc/a b"),
        ("aynig.notify", "notify-send 'a b'", "notify", "notify-send 'a b'"),
        ("aynig.branch", "task/*", "branches", ("task/*",)),
        ("aynig.branch", "refs/heads/task/*", "branches", ("task/*",)),
        ("aynig.branch", "größe ?", "branches", ("größe ?",)),
    ],
)
def test_git_config_sets(key: str, value: str, name: str, expected: object) -> None:
    assert changed(**{name: expected}) == read_settings([(key, value)])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("aynig.jobs", "many"),
        ("aynig.jobs", "0"),
        ("aynig.jobs", "1025"),
        ("aynig.jobs", "-1"),
        ("aynig.jobs", "4.0"),
        ("aynig.jobs", "٣"),
        ("aynig.jobs", "9" * 5000),
        ("aynig.poll", "0"),
        ("aynig.poll", "10ms"),
        ("aynig.poll", "2d"),
        ("aynig.poll", "none"),
        ("aynig.leaseSeconds", "4s"),
        ("aynig.leaseSeconds", "none"),
        ("aynig.outputLimit", "4095"),
        ("aynig.outputLimit", "10mb"),
        ("aynig.outputLimit", "1.5m"),
        ("aynig.outputLimit", "5000g"),
        ("aynig.timeout", "0"),
        ("aynig.timeout", "never"),
        ("aynig.grace", "-1"),
        ("aynig.retention", "long"),
        ("aynig.scripts", "a..b"),
        ("aynig.scripts", "--upload-pack=x"),
        ("aynig.scripts", "a b"),
        ("aynig.scripts", "main.lock"),
        ("aynig.scripts", "main^{tree}"),
        ("aynig.scripts", "main:.aynig"),
        ("aynig.role", "../x"),
        ("aynig.dialect", "other"),
        ("aynig.dwpLeaseSeconds", "4s"),
        ("aynig.role", "Reviewer"),
        ("aynig.worktreeDir", "a\0b"),
        ("aynig.wakeListen", "example.org:8737"),
        ("aynig.wakeListen", "65536"),
        ("aynig.wakeListen", "on"),
        ("aynig.wakeSecretFile", "secret"),
        ("aynig.wakeSecretFile", "/a\nb"),
        ("aynig.branch", "a\nb"),
        ("aynig.branch", "refs/heads/"),
        ("aynig.trailerLimit", "0"),
        ("aynig.messageLimit", "1"),
        ("aynig.notify", "'unclosed"),
        ("aynig.notify", " "),
        ("aynig.notify", "a\nb"),
    ],
)
def test_a_wrong_value_is_refused_with_the_command_that_mends_it(key: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_settings([(key.lower(), value)], where="git config of /repo")
    error = caught.value
    assert str(error).startswith(f"git config of /repo: {key}: expected ")
    assert ", found '" in str(error)
    assert len(str(error)) < 300
    assert escape(str(error)) == str(error)
    assert error.hint.startswith("Set it: git config ")
    assert key in error.hint


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.key)
def test_a_key_without_a_value_is_refused(row: Setting) -> None:
    with pytest.raises(ConfigError, match=f"^git config: {row.key}: expected .*, found no value$"):
        one(row.key.lower(), None)


def test_the_error_shows_the_whole_way_out() -> None:
    with pytest.raises(ConfigError) as caught:
        one("aynig.jobs", "many")
    assert str(caught.value) == (
        "git config: aynig.jobs: expected a whole number from 1 to 1024, found 'many'"
    )
    assert caught.value.hint == "Set it: git config aynig.jobs 4"


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("aynig.job", "aynig.job: unknown setting, did you mean aynig.jobs?"),
        ("aynig.leasesecond", "did you mean aynig.leaseSeconds?"),
        ("aynig.branches", "did you mean aynig.branch?"),
        ("aynig.xyzzy", "aynig.xyzzy: unknown setting"),
        ("aynig.foo", "aynig.foo: unknown setting"),
        ("aynig.a", "aynig.a: unknown setting"),
        ("aynig.foo.bar", "aynig.foo.bar: unknown setting"),
        ("aynig.Task.jobs", "aynig.Task.jobs: unknown setting, did you mean aynig.jobs?"),
        ("aynig.a\x1b[31m.jobs", r"'aynig.a\x1b[31m.jobs': unknown setting"),
    ],
)
def test_an_unknown_key_is_refused_with_what_was_meant(key: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        one(key, "4")
    assert message in str(caught.value)
    assert ("did you mean" in str(caught.value)) is ("did you mean" in message)
    assert (str(caught.value) + caught.value.hint).isprintable()
    assert caught.value.hint.startswith("Remove it (with --global ")


def test_keys_of_others_are_passed_over() -> None:
    pairs = [("user.name", "Ada"), ("core.bare", None), ("aynigma.jobs", "x"), ("aynig", "x")]
    assert read_settings(pairs) == Settings()


def test_the_last_of_several_values_wins_and_only_it_counts() -> None:
    assert read_settings([("aynig.jobs", "many"), ("aynig.jobs", "3")]).jobs == 3


def test_all_branches_count() -> None:
    pairs: list[tuple[str, str | None]] = [("aynig.branch", "task/*"), ("aynig.branch", "fix-?")]
    assert read_settings(pairs).branches == ("task/*", "fix-?")


def test_an_empty_value_takes_back_what_was_said_before() -> None:
    pairs: list[tuple[str, str | None]] = [
        ("aynig.branch", "task/*"),
        ("aynig.branch", ""),
        ("aynig.branch", "fix-*"),
        ("aynig.jobs", "3"),
        ("aynig.jobs", ""),
        ("aynig.role", "reviewer"),
        ("aynig.role", ""),
    ]
    settings = read_settings(pairs)
    assert settings == changed(branches=("fix-*",))


def test_what_git_itself_lists_is_read(repo: GitRepo) -> None:
    repo.git("config", "aynig.leaseSeconds", "90")
    repo.git("config", "--add", "aynig.branch", "task/*")
    repo.git("config", "--add", "aynig.branch", "a\tb = c")
    repo.git("config", "aynig.outputLimit", "1m")
    listed = repo.git("config", "--null", "--list").split("\0")
    pairs = [(key, value) for key, _, value in (item.partition("\n") for item in listed)]
    with pytest.raises(ConfigError, match=r"aynig\.branch"):
        read_settings(pairs)
    repo.git("config", "--replace-all", "aynig.branch", "x y", "^a")
    listed = repo.git("config", "--null", "--list").split("\0")
    pairs = [(key, value) for key, _, value in (item.partition("\n") for item in listed)]
    settings = read_settings(pairs)
    assert settings.lease_seconds == 90
    assert settings.branches == ("task/*", "x y")
    assert settings.output_limit == MIB


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.key)
def test_the_example_in_each_hint_is_right(repo: GitRepo, row: Setting) -> None:
    command = f"git config {row.key} {row.example}"
    subprocess.run(["sh", "-c", command], cwd=repo.path, check=True)
    value = repo.git("config", row.key)
    assert one(row.key, value) == override(Settings(), **{row.name: value})


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.key)
def test_the_default_in_the_table_is_the_default(row: Setting) -> None:
    if row.name != "jobs":
        assert one(row.key, row.default) == Settings()
    assert row.help.endswith(".")
    assert setting(row.name) is row


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.key)
def test_each_kind_gives_the_type_of_its_field(row: Setting) -> None:
    declared = typing.get_type_hints(Settings)[row.name]
    value = getattr(one(row.key, row.example.strip("'")), row.name)
    assert isinstance(value, typing.get_origin(declared) or declared)


@pytest.mark.parametrize("size", [4 * KIB, 5000, MIB, 3 * MIB, 1536 * MIB])
def test_a_size_is_written_as_git_config_reads_it(size: int) -> None:
    kind = setting("output_limit").kind
    assert kind.parse(kind.write(size)) == size


def test_flags_go_before_git_config() -> None:
    configured = read_settings([("aynig.jobs", "3"), ("aynig.branch", "task/*")])
    settings = override(
        configured, jobs=7, poll="1s", branches=["fix/*"], timeout=math.inf, grace=0.5, roles="r"
    )
    assert settings == dataclasses.replace(
        configured, jobs=7, poll=1.0, branches=("fix/*",), timeout=math.inf, grace=0.5, roles=("r",)
    )


def test_a_flag_that_was_not_given_changes_nothing() -> None:
    configured = read_settings([("aynig.jobs", "3"), ("aynig.branch", "task/*")])
    assert override(configured, jobs=None, branches=(), roles=None) == configured


def test_one_branch_may_be_given_as_text() -> None:
    assert override(Settings(), branches="task/*").branches == ("task/*",)


def test_a_path_may_be_given_as_a_path() -> None:
    assert override(Settings(), worktree_dir=Path("/tmp/x")).worktree_dir == "/tmp/x"


def test_a_flag_may_be_emptied() -> None:
    assert override(Settings(agent="a"), agent="").agent == ""


@pytest.mark.parametrize(
    ("name", "value", "flag"),
    [
        ("jobs", 0, "--jobs"),
        ("jobs", True, "--jobs"),
        ("jobs", "x", "--jobs"),
        ("poll", 0.001, "--poll"),
        ("lease_seconds", "1s", "--lease-seconds"),
        ("branches", ["task/*", ""], "--branch"),
        ("roles", "../x", "--role"),
    ],
)
def test_a_wrong_flag_is_refused_by_its_name(name: str, value: object, flag: str) -> None:
    with pytest.raises(ConfigError) as caught:
        override(Settings(), **{name: value})
    assert str(caught.value).startswith(f"{flag}: expected ")
    assert caught.value.hint.startswith(f"Say for example: {flag} ")


def test_a_flag_that_is_no_setting_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(TypeError, match="job"):
        override(Settings(), job=4)


@pytest.mark.parametrize(
    ("globs", "branch", "wanted"),
    [
        ((), "anything", True),
        (("task/*",), "task/a", True),
        (("task/*",), "task/a/b", True),
        (("task/*",), "task", False),
        (("task/*",), "Task/a", False),
        (("task/*",), "my/task/a", False),
        (("task/?",), "task//", True),
        (("a", "b*"), "bc", True),
        (("[ab]-x",), "b-x", True),
        (("[!ab]-x",), "b-x", False),
        (("-*",), "-x", True),
        (("f\udcff*",), "f\udcffx", True),
    ],
)
def test_a_branch_matches_by_its_short_name(
    globs: tuple[str, ...], branch: str, wanted: bool
) -> None:
    assert matches(Settings(branches=globs), branch) is wanted


def test_the_page_for_operators_names_each_setting() -> None:
    page = ROOT / "docs" / "operating.md"
    if not page.exists():
        pytest.skip("docs/operating.md is not there")
    text = page.read_text(encoding="utf-8")
    assert [row.key for row in TABLE if row.key not in text] == []


def test_reading_settings_needs_no_yaml() -> None:
    code = "import sys, aynig.settings, aynig.durations; sys.exit('yaml' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
