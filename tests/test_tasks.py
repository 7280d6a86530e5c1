"""What people ask of a task: one state commit each, and nothing else is touched."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import pytest

from aynig.errors import UsageError, UserError
from aynig.lease import lease_name
from aynig.model import HEADS, Field, Lease
from aynig.respond import write_state
from aynig.scan import read_event
from aynig.site import Site, open_site
from aynig.submitting import Request, submit
from aynig.tasks import Written, cancel, retry
from tests.world import SCRIPT_OK, GitRepo


@contextlib.contextmanager
def opened(repo: GitRepo) -> Iterator[Site]:
    site = open_site(repo.path)
    try:
        yield site
    finally:
        site.close()


def asked(repo: GitRepo, state: str = "go", **more: Any) -> Written:
    with opened(repo) as site:
        return submit(site, Request(state=state, **more))


def again(repo: GitRepo, branch: str = "task") -> Written:
    with opened(repo) as site:
        return retry(site, branch)


def refs(repo: GitRepo) -> str:
    return repo.git("for-each-ref")


# --- submit ----------------------------------------------------------------------------------


def test_a_new_task_starts_at_head_with_its_files(repo: GitRepo) -> None:
    repo.commit("files", files={"a": "x"})
    written = asked(repo, body="Fix the login form\n\nIt is broken.")
    assert written.branch == "task/fix-the-login-form"
    assert repo.tip(written.branch) == written.oid
    assert repo.git("rev-parse", f"{written.oid}^") == repo.tip()
    assert repo.git("ls-tree", "--name-only", written.oid) == "a"
    assert repo.message(written.oid).splitlines()[0] == "go: Fix the login form"
    assert "It is broken." in repo.message(written.oid)


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ("Fix the login form", "fix-the-login-form"),
        ("  \n\nFix it\nmore", "fix-it"),
        ("Größe ändern — jetzt!", "groe-andern-jetzt"),
        ("../../etc/passwd", "etc-passwd"),
        ("名前", "go"),
        ("", "go"),
        ("word " * 50, "word-word-word-word-word-word-word-word"),
    ],
)
def test_a_new_branch_has_a_readable_name(repo: GitRepo, body: str, name: str) -> None:
    assert asked(repo, body=body).branch == f"task/{name}"


def test_names_of_new_branches_are_unique(repo: GitRepo) -> None:
    repo.git("branch", "task/fix-4/deep")
    names = [asked(repo, body="Fix").branch for _ in range(4)]
    assert names == ["task/fix", "task/fix-2", "task/fix-3", "task/fix-5"]


@pytest.mark.parametrize("taken", ["task", "task/fix/deep"])
def test_a_name_that_another_branch_stands_in_the_way_of_is_not_chosen(
    repo: GitRepo, taken: str
) -> None:
    repo.git("branch", taken)
    written = asked(repo, body="Fix")
    assert repo.tip(written.branch) == written.oid


@pytest.mark.parametrize(
    "branch", ["@", "docs", "v1", "a/b/c", "ünïcode", "with'quote", "a\u2028b", "x" * 200]
)
def test_a_branch_is_made_under_any_name_that_git_takes(repo: GitRepo, branch: str) -> None:
    repo.commit("files", files={"docs": "a file of that name"})
    repo.git("tag", "v1")
    written = asked(repo, branch=branch)
    assert repo.git("rev-parse", f"refs/heads/{branch}") == written.oid


@pytest.mark.parametrize(
    "branch",
    ["-x", "a b", "a..b", "a~1", "", "/a", "a/", "a.lock", "HEAD", "a\nb", "a\0b", "@{", "\udcff:"],
)
def test_a_branch_name_that_git_does_not_take_is_refused(repo: GitRepo, branch: str) -> None:
    before = refs(repo)
    with pytest.raises(UsageError, match="no branch name"):
        asked(repo, branch=branch)
    assert refs(repo) == before


@pytest.mark.parametrize("branch", ["main/below", "deep"])
def test_a_branch_that_another_one_stands_in_the_way_of_is_refused(
    repo: GitRepo, branch: str
) -> None:
    repo.git("branch", "deep/er")
    with pytest.raises(UsageError, match=r"'main'|'deep/er'"):
        asked(repo, branch=branch)


def test_an_existing_branch_goes_on(repo: GitRepo) -> None:
    before = repo.tip()
    written = asked(repo, branch="main")
    assert repo.git("rev-parse", "main^") == before
    assert repo.tip() == written.oid


def test_index_and_working_tree_are_never_touched(repo: GitRepo) -> None:
    repo.commit("files", files={"a": "x", "b": "y"})
    repo.sync()
    (repo.path / "a").write_text("staged")
    repo.git("add", "a")
    (repo.path / "b").write_text("changed")
    (repo.path / "new").write_text("untracked")
    before = repo.git("status", "--porcelain")
    index = (repo.git_dir / "index").read_bytes()
    written = asked(repo, branch="main")
    assert (repo.git_dir / "index").read_bytes() == index
    assert repo.git("status", "--porcelain") == before
    assert repo.git("diff", "--name-only", f"{written.oid}^", written.oid) == ""


def test_on_an_unborn_head_a_task_starts_with_no_files(repo: GitRepo) -> None:
    unborn = GitRepo.init(repo.path.parent / "unborn", empty=True)
    written = asked(unborn)
    assert unborn.git("rev-list", "--count", written.oid) == "1"
    assert unborn.git("ls-tree", written.oid) == ""


def test_in_a_bare_repository(bare: GitRepo) -> None:
    assert bare.state(asked(bare).branch) == "go"


def test_from_names_where_a_new_branch_starts(repo: GitRepo) -> None:
    base = repo.tip()
    repo.commit("later")
    written = asked(repo, start=base)
    assert repo.git("rev-parse", f"{written.oid}^") == base


def dependencies(repo: GitRepo, oid: str) -> list[str]:
    found = [value for _, value in repo.trailers(oid) if value.startswith("depends-on: ")]
    return [value.removeprefix("depends-on: ") for value in found]


def test_a_commit_that_is_waited_for_is_pinned_and_a_branch_stays_a_branch(repo: GitRepo) -> None:
    first, second = asked(repo, branch="first"), asked(repo, branch="second")
    repo.git("tag", "-m", "x", "annotated", "second")
    written = asked(repo, after=["first", "refs/heads/first", first.oid[:10], "annotated"])
    assert dependencies(repo, written.oid) == ["first", first.oid, second.oid]
    last = asked(repo, extra=[f"aynig: depends-on: {first.oid[:7]}"], after=["second"])
    assert dependencies(repo, last.oid) == ["second", first.oid]


def test_a_branch_of_a_remote_that_is_waited_for_has_to_be_known(
    repo: GitRepo, bare: GitRepo
) -> None:
    asked(bare, branch="job")
    repo.git("remote", "add", "origin", str(bare.path))
    with pytest.raises(UsageError, match="no branch 'job' of the remote 'origin'"):
        asked(repo, after=["origin:job"])
    repo.git("fetch", "--quiet", "origin")
    assert dependencies(repo, asked(repo, after=["origin:job"]).oid) == ["origin:job"]


def test_a_task_that_would_wait_for_itself_is_refused(repo: GitRepo) -> None:
    first = asked(repo, branch="first")
    asked(repo, branch="second", after=["first"])
    before = repo.git("for-each-ref")
    wrongs: list[tuple[dict[str, Any], str]] = [
        ({"branch": "first", "after": ["first"]}, "waits for itself: first -> first"),
        ({"branch": "first", "after": [first.oid]}, "would wait for itself"),
        ({"branch": "first", "after": ["second"]}, "waits for itself: first -> second -> first"),
        (
            {"branch": "child", "after": ["first"], "extra": ["aynig: parent: first"]},
            "waits for itself: child -> first -> child",
        ),
    ]
    for wrong, error in wrongs:
        with pytest.raises(UsageError, match=error):
            asked(repo, **wrong)
    assert repo.git("for-each-ref") == before


def test_a_commit_that_no_branch_has_is_not_waited_for(repo: GitRepo) -> None:
    lost = asked(repo, branch="lost").oid
    repo.git("branch", "-D", "lost")
    with pytest.raises(UsageError, match="on no branch"):
        asked(repo, after=[lost])


@pytest.mark.parametrize(("state", "says"), [("go", True), ("done", False)])
def test_a_task_on_top_of_one_that_goes_on_says_that_it_begins(
    repo: GitRepo, state: str, *, says: bool
) -> None:
    asked(repo, branch="first", state=state)
    written = asked(repo, branch="second", start="first")
    assert (("aynig", "begins: task") in repo.trailers(written.oid)) == says
    again = asked(repo, branch="second")
    assert ("aynig", "begins: task") not in repo.trailers(again.oid)


def test_fields_and_trailers_are_written_as_asked(repo: GitRepo) -> None:
    extra = ["aynig:priority: 5", "Reviewed-by: Ada", "Ticket:#7", "aynig: note: a: b"]
    written = asked(repo, to="bob", extra=extra)
    assert repo.trailers(written.oid) == [
        ("aynig", "go"),
        ("aynig", "assigned-to: bob"),
        ("aynig", "priority: 5"),
        ("aynig", "note: a: b"),
        ("Reviewed-by", "Ada"),
        ("Ticket", "#7"),
    ]


@pytest.mark.parametrize(
    "body",
    [
        "aynig: evil", "x\n\naynig: evil\n", "x\n\nSigned-off-by: A <a>\naynig: evil",
        "before\n---\nafter", "stray \udcff byte", "a\0b", "\r\n", "# comment", "x" * 200_000,
    ],
)  # fmt: skip
def test_no_body_changes_the_state(repo: GitRepo, body: str) -> None:
    assert repo.fields(asked(repo, body=body).oid) == {"": "go"}


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("no state", {"state": "Bad State"}),
    ("no state", {"state": "../x"}),
    ("no state", {"state": ""}),
    ("no state", {"state": "x" * 65}),
    ("reserved", {"state": "working"}),
    ("no trailer", {"extra": ["nothing"]}),
    ("no trailer", {"extra": ["a b: c"]}),
    ("no trailer", {"extra": [": c"]}),
    ("line break", {"extra": ["a: b\naynig: evil"]}),
    ("line break", {"extra": ["a: b\r"]}),
    ("no trailer", {"extra": ["a\naynig: evil"]}),
    ("control character", {"extra": ["a: b\x1fc"]}),
    ("is a state", {"extra": ["aynig: evil"]}),
    ("is a state", {"extra": ["AYNIG: evil"]}),
    ("is a state", {"extra": ["dwp-state: done"]}),
    ("is a state", {"extra": ["DWP-State: done"]}),
    ("only runners write", {"extra": ["aynig: answers: 1234567"]}),
    ("only runners write", {"extra": ["aynig: Exit: 0"]}),
    ("only runners write", {"extra": ["dwp-executed-by: me@host"]}),
    ("--to", {"to": "bob\naynig: evil"}),
    ("no commit", {"start": "nowhere"}),
    ("to wait for", {"after": ["nowhere"]}),
    ("to wait for", {"after": [""]}),
    ("carries no state", {"after": ["main"]}),
    ("to wait for", {"after": ["HEAD^{tree}"]}),
    ("--from", {"branch": "main", "start": "main"}),
]


@pytest.mark.parametrize(("says", "request_"), WRONG, ids=[str(each[1]) for each in WRONG])
def test_what_is_malformed_is_refused_before_any_commit_is_made(
    repo: GitRepo, says: str, request_: dict[str, Any]
) -> None:
    before = (refs(repo), repo.git("count-objects"))
    with pytest.raises(UsageError, match=re.escape(says)) as caught:
        asked(repo, **request_)
    assert "\n" not in str(caught.value) + caught.value.hint
    assert (refs(repo), repo.git("count-objects")) == before


@pytest.mark.parametrize(
    ("much", "told"),
    [
        ({"body": "x" * (1 << 20)}, r"has 10\d{5} bytes, the limit is 1048576"),
        (
            {"extra": [f"X: {number}" for number in range(300)]},
            "has 301 trailers, the limit is 256",
        ),
    ],
)
def test_what_would_be_malformed_by_its_size_is_refused_before_anything_is_written(
    repo: GitRepo, much: dict[str, Any], told: str
) -> None:
    before = repo.git("count-objects", "-v")
    with pytest.raises(UsageError, match=told) as caught:
        asked(repo, branch="task", **much)
    assert "git config aynig." in caught.value.hint
    assert repo.tip("task") == ""
    assert repo.git("count-objects", "-v") == before


def test_the_limits_of_a_message_are_the_operators(repo: GitRepo) -> None:
    repo.git("config", "aynig.trailerLimit", "2")
    with pytest.raises(UsageError, match="has 3 trailers, the limit is 2"):
        asked(repo, branch="task", extra=["A: 1", "B: 2"])
    asked(repo, branch="task", extra=["A: 1"])
    repo.git("config", "aynig.messageLimit", "1k")
    with pytest.raises(UsageError, match="the limit is 1024"):
        asked(repo, branch="task", body="ö" * 512)


def test_a_retry_or_a_cancel_over_the_limits_is_refused_as_well(repo: GitRepo) -> None:
    first = asked(repo, branch="task", body="x" * 1000)
    size = len(repo.git("cat-file", "commit", first.oid).partition("\n\n")[2].encode()) + 1
    repo.git("config", "aynig.messageLimit", str(size))
    with pytest.raises(UsageError, match=f"the limit is {size}"):
        again(repo)
    with opened(repo) as site, pytest.raises(UsageError, match=f"the limit is {size}"):
        cancel(site, "task", "y" * size)
    assert repo.tip("task") == first.oid


# --- retry -----------------------------------------------------------------------------------


def failed(repo: GitRepo, message: str = "Please go\n\nThe prompt.\n\naynig: go\n") -> str:
    oid = repo.commit(message, branch="task", parent=repo.tip(), files={".aynig/go": SCRIPT_OK})
    repo.commit(
        f"go -> failed: exit 1\n\naynig: failed\naynig: answers: {oid}\naynig: exit: 1\n",
        branch="task",
    )
    return oid


def test_retry_asks_again_for_the_state_that_failed(repo: GitRepo) -> None:
    failed(repo, "Please go\n\nThe prompt.\n\naynig: go\naynig: to: bob\nTicket: #7\n")
    before = repo.tip("task")
    written = again(repo)
    assert (written.branch, written.state, written.oid) == ("task", "go", repo.tip("task"))
    assert repo.git("rev-parse", "task^") == before
    assert "The prompt." in repo.message("task")
    assert repo.trailers("task") == [
        ("aynig", "go"), ("aynig", "to: bob"), ("aynig", f"retry-of: {before}"), ("Ticket", "#7"),
    ]  # fmt: skip


def answered(repo: GitRepo, oid: str) -> str:
    """The commit at `oid` has failed again."""
    message = f"x\n\naynig: failed\naynig: answers: {oid}\naynig: exit: 1\n"
    return repo.commit(message, branch="task")


def test_a_second_retry_says_retry_once(repo: GitRepo) -> None:
    failed(repo)
    last = answered(repo, again(repo).oid)
    again(repo)
    assert repo.git("log", "-1", "--format=%s", "task") == "retry Please go"
    assert repo.trailers("task") == [("aynig", "go"), ("aynig", f"retry-of: {last}")]


@pytest.mark.parametrize("never_run", [True, False])
def test_what_was_retried_is_not_retried_again_before_it_has_run(
    repo: GitRepo, never_run: bool
) -> None:
    if never_run:
        asked(repo, branch="task")
    else:
        failed(repo)
    written = again(repo)
    with pytest.raises(UserError, match="task was retried already and has not run since") as caught:
        again(repo)
    assert "aynig status" in caught.value.hint
    assert repo.tip("task") == written.oid


def ran(site: Site, repo: GitRepo, oid: str) -> Lease:
    event = read_event(site.repo, HEADS + "task", oid, site.read)
    assert event is not None
    return site.leases.acquire(event, site.repo.read_ref(lease_name(event.ref)), "run-1", 1)


def test_a_retry_that_asked_for_later_can_be_retried(repo: GitRepo) -> None:
    failed(repo)
    oid = again(repo).oid
    with opened(repo) as site:
        site.leases.defer(ran(site, repo, oid), 3600.0, "no network")
    assert again(repo).oid != oid


def test_a_retry_whose_runner_died_can_be_retried(repo: GitRepo) -> None:
    failed(repo)
    oid = again(repo).oid
    with opened(repo) as site:
        site.leases.forget(ran(site, repo, oid))
        assert retry(site, "task").oid != oid


def test_a_retry_that_was_answered_on_another_branch_can_be_retried(repo: GitRepo) -> None:
    failed(repo)
    oid = again(repo).oid
    repo.git("branch", "copy", "task")
    answer = [Field("answers", oid)]
    with opened(repo) as site:
        write_state(
            site.repo, site.store, f"{HEADS}copy", oid, "failed", subject="x", fields=answer
        )
    assert again(repo).oid != oid


def test_a_retry_that_was_picked_onto_another_branch_is_a_task_of_its_own(repo: GitRepo) -> None:
    failed(repo)
    again(repo)
    repo.commit(repo.message("task"), branch="other", parent=repo.tip())
    with opened(repo) as site:
        assert retry(site, "other").state == "go"


def test_what_a_runner_testified_is_not_written_again(repo: GitRepo) -> None:
    first = failed(repo, "x\n\naynig: go\naynig: run: r-1\naynig: note: y\n")
    again(repo)
    assert first
    fields = repo.fields("task")
    assert fields.pop("retry-of") == repo.git("rev-parse", "task^")
    assert fields == {"": "go", "note": "y"}


@pytest.mark.parametrize(
    "message",
    [
        pytest.param("x\n\naynig: go\naynig: note: a\x1fb\n", id="a field with a control"),
        pytest.param("x\n\naynig: go\nTicket: a\x1fb\n", id="a trailer with a control"),
        pytest.param("x\n\nbody \x1f\n\naynig: go\n", id="a body with a control"),
        pytest.param(b"x\n\naynig: go\nTicket: \xff\n", id="a stray byte"),
        pytest.param("x\n\ndwp-state: go\ndwp--odd: key\naynig-x: y\n", id="an odd key"),
        pytest.param("x\n\naynig: go\ndwp-state: elsewhere\n", id="two dialects"),
    ],
)
def test_whatever_a_person_committed_can_be_retried(repo: GitRepo, message: Any) -> None:
    oid = repo.commit(message, branch="task", parent=repo.tip())
    key = "dwp-state" if "dwp--odd" in str(message) else "aynig"
    prefix = "dwp-" if key == "dwp-state" else "aynig: "
    repo.commit(f"y\n\n{key}: failed\n{prefix}answers: {oid}\n", branch="task")
    assert again(repo).state == "go"


def test_a_task_that_was_never_answered_is_asked_anew(repo: GitRepo) -> None:
    asked(repo, branch="task")
    assert again(repo).state == "go"


def test_a_state_that_a_failure_led_to_is_retried_from_the_one_that_failed(repo: GitRepo) -> None:
    oid = repo.commit("Please go\n\naynig: go\n", branch="task", parent=repo.tip())
    answer = f"go -> repair\n\naynig: repair\naynig: answers: {oid}\naynig: exit: 1\n"
    repo.commit(answer, branch="task")
    assert again(repo).state == "go"


def test_what_was_canceled_is_retried(repo: GitRepo) -> None:
    asked(repo, branch="task")
    with opened(repo) as site:
        cancel(site, "task")
    assert again(repo).state == "go"


@pytest.mark.parametrize(
    ("tip", "says"),
    [
        pytest.param("x\n\naynig: done\n", "nothing failed", id="done"),
        pytest.param("x\n\naynig: failed\n", "nothing failed", id="failed by hand"),
        pytest.param(f"x\n\naynig: failed\naynig: answers: {'e' * 40}\n", "nothing failed",
                     id="an answer to what is not there"),
        pytest.param("x\n\naynig: A B\n", "malformed", id="malformed"),
        pytest.param("a person's own", "no task", id="taken back"),
    ],
)  # fmt: skip
def test_where_nothing_failed_there_is_nothing_to_retry(repo: GitRepo, tip: str, says: str) -> None:
    before = repo.commit(tip, branch="task", parent=repo.tip())
    with pytest.raises(UserError, match=says) as caught:
        again(repo)
    assert caught.value.hint
    assert repo.tip("task") == before


def test_a_task_that_runs_is_not_retried(repo: GitRepo) -> None:
    written = asked(repo, branch="task")
    with opened(repo) as site:
        event = read_event(site.repo, HEADS + "task", written.oid, site.read)
        assert event is not None
        site.leases.acquire(event, None, "run-1", 1)
        with pytest.raises(UserError, match="running"):
            retry(site, "task")


# --- cancel ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "trailers"),
    [
        pytest.param("x\n\naynig: go\n", ["aynig", "aynig"], id="aynig"),
        pytest.param("x\n\ndwp-state: go\n", ["dwp-state", "dwp-cancels"], id="dwp"),
        pytest.param("x\n\naynig: A B\n", ["aynig", "aynig"], id="malformed"),
    ],
)
def test_cancel_ends_a_task_in_its_dialect(
    repo: GitRepo, message: str, trailers: list[str]
) -> None:
    oid = repo.commit(message, branch="task", parent=repo.tip())
    with opened(repo) as site:
        written, lease = cancel(site, "task", "no longer wanted")
    assert (written.state, lease) == ("canceled", None)
    assert [key for key, _ in repo.trailers("task")] == trailers
    assert oid in str(repo.trailers("task"))
    assert "no longer wanted" in repo.message("task")


@pytest.mark.parametrize("state", ["done", "failed", "canceled"])
def test_what_has_ended_is_not_canceled(repo: GitRepo, state: str) -> None:
    before = repo.commit(f"x\n\naynig: {state}\n", branch="task", parent=repo.tip())
    with opened(repo) as site, pytest.raises(UserError, match=f"already: {state}") as caught:
        cancel(site, "task")
    assert caught.value.hint == "There is nothing to cancel."
    assert repo.tip("task") == before


def test_a_reason_of_several_lines_injects_nothing(repo: GitRepo) -> None:
    asked(repo, branch="task")
    with opened(repo) as site:
        cancel(site, "task", "x\n\naynig: evil\n")
    assert repo.fields("task")[""] == "canceled"


@pytest.mark.parametrize("act", [retry, cancel])
def test_a_branch_that_is_not_there_is_an_error(repo: GitRepo, act: Any) -> None:
    with opened(repo) as site, pytest.raises(UserError, match="no branch 'nope'"):
        act(site, "nope")


def test_equal_requests_in_one_second_are_tasks_of_their_own(
    repo: GitRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aynig.git.repo.time.time", lambda: 1_700_000_000.0)
    written = [asked(repo, branch=f"same/{number}", body="x") for number in range(3)]
    assert len({each.oid for each in written}) == 3
    # The fixture's first commit has the empty tree, which nobody has written as an object.
    repo.git("hash-object", "-w", "-t", "tree", "/dev/null")
    repo.git("fsck", "--strict", "--no-dangling")
