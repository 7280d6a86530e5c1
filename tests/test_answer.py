"""The answer is looked for in the order of design section 1.4, with its exceptions."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aynig.answer import (
    RESERVED_FIELDS,
    Left,
    Reply,
    Verdict,
    ending_of,
    exit_status,
    judge,
    outcome,
    read_reply,
)
from aynig.dialects import AYNIG, DIALECTS, DWP
from aynig.model import Field, Plan, RunResult, Trailer
from aynig.workflow import AFTER, TEMPFAIL, Approval, StateSettings, Verification
from tests.values import plan, result, said

CONFIGURED = StateSettings(next="merge", on_failure="repair")


def left(own: str | None = None, reply: str | None = None, fault: str = "") -> Left:
    """What a script left: the state of its own last commit, that of its answer file."""
    return Left(
        own=None if own is None else said(own),
        reply=Reply(state=reply),
        fault=fault,
    )


def verdict(ended: RunResult, found: Left, of: Plan | None = None) -> Verdict:
    return judge(of or plan("review"), ended, found)


# --- the order -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "reply", "settings", "status", "state"),
    [
        pytest.param("mine", "file", CONFIGURED, 0, "mine", id="its own commit goes first"),
        pytest.param("mine", "file", CONFIGURED, 1, "mine", id="its own commit, though it failed"),
        pytest.param(None, "file", CONFIGURED, 0, "file", id="then the answer file"),
        pytest.param(None, "file", CONFIGURED, 1, "file", id="the answer file, though it failed"),
        pytest.param(None, None, CONFIGURED, 0, "merge", id="then the workflow's next"),
        pytest.param(None, None, CONFIGURED, 1, "repair", id="then the workflow's on-failure"),
        pytest.param(None, None, StateSettings(), 0, "done", id="then done"),
        pytest.param(None, None, StateSettings(), 1, "failed", id="then failed"),
        pytest.param(
            None, None, StateSettings(next="merge"), 1, "failed", id="next is no on-failure"
        ),
        pytest.param(
            None, None, StateSettings(on_failure="repair"), 0, "done", id="on-failure is no next"
        ),
        pytest.param("canceled", None, CONFIGURED, 0, "canceled", id="an end is an answer too"),
        pytest.param(None, None, CONFIGURED, 127, "repair", id="any status but 0 is a failure"),
    ],
)
def test_where_the_next_state_comes_from(
    own: str | None, reply: str | None, settings: StateSettings, status: int, state: str
) -> None:
    found = verdict(result(status), left(own, reply), plan("review", settings=settings))
    assert found.response.state == state
    assert found.succeeded is (status == 0)


ENDINGS = {
    "timeout": result(None, signal=15, stopped="timeout"),
    "timeout that it caught": result(0, stopped="timeout"),
    "a signal": result(None, signal=9),
    "could not be started": result(None, fault="no such interpreter"),
}


GUARDED = (
    StateSettings(verify=Verification(commands=("true",)), on_failure="repair"),
    StateSettings(expect="changes", on_failure="repair"),
    StateSettings(expect="answer", on_failure="repair"),
    StateSettings(approval=Approval(when=AFTER), on_failure="repair"),
)


@pytest.mark.parametrize("settings", GUARDED)
@pytest.mark.parametrize("found", [left(own="mine"), left(reply="mine"), left(own="done")])
def test_a_failed_run_that_nobody_has_judged_cannot_say_how_to_go_on(
    settings: StateSettings, found: Left
) -> None:
    made = verdict(result(1), found, plan("review", settings=settings))
    assert (made.response.state, made.succeeded, made.lands_commits) == ("repair", False, False)
    said = found.own.state if found.own is not None else found.reply.state
    assert Field("overruled", str(said)) in made.told


@pytest.mark.parametrize("settings", GUARDED)
@pytest.mark.parametrize("state", ["stalled", "blocked", "failed", "canceled"])
def test_but_it_may_give_up(settings: StateSettings, state: str) -> None:
    made = verdict(result(1), left(own=state), plan("review", settings=settings))
    assert (made.response.state, made.lands_commits) == (state, False)


def test_after_a_compensation_a_task_has_failed_whatever_its_script_said() -> None:
    settings = StateSettings(compensate="refund")
    made = verdict(result(1), left(reply="done"), plan("pay", settings=settings))
    assert made.response.state == "refund"
    assert {Field("then", "failed"), Field("overruled", "done")} <= set(made.told)


@pytest.mark.parametrize("ended", ENDINGS.values(), ids=ENDINGS.keys())
@pytest.mark.parametrize("own", [None, "mine"])
def test_a_run_that_was_ended_from_outside_has_failed_whatever_it_wrote_before(
    ended: RunResult, own: str | None
) -> None:
    found = verdict(ended, left(own, "approved"), plan("review", settings=CONFIGURED))
    assert found.response.state == "repair"
    assert not found.succeeded
    assert not found.lands_commits
    assert not found.is_own_commit


MALFORMED = {
    "its result is unusable": Left(said("mine"), Reply(state="file"), "it rewrote its branch"),
    "its own commit": Left(said("X Y", fault="'X Y' is no state"), Reply(), ""),
    "its own commit is reserved": Left(said("working"), Reply(), ""),
    "its answer": Left(None, read_reply(b"aynig: X Y\n", AYNIG), ""),
    "its answer is reserved": Left(None, read_reply(b"aynig: working\n", AYNIG), ""),
    "a field of its answer": Left(
        None, read_reply(b"s\n\naynig: ok\naynig: note: a\x1fb\n", AYNIG), ""
    ),
    "a trailer of its answer": Left(
        None, read_reply(b"s\n\naynig: ok\nReviewed-by: a\x1fb\n", AYNIG), ""
    ),
}


@pytest.mark.parametrize("found", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_malformed_is_a_failure_that_says_so(found: Left) -> None:
    given_ = verdict(result(), found, plan("review", settings=CONFIGURED))
    assert given_.response.state == "repair"
    assert not given_.succeeded
    assert given_.fault
    assert given_.fault in given_.response.subject
    assert "\x1f" not in str(given_.response)


@settings(derandomize=True, max_examples=300)
@given(
    own=st.none() | st.sampled_from(["mine", "done", "working"]),
    reply=st.none() | st.sampled_from(["file", "failed"]),
    status=st.sampled_from([0, 1, 75, None]),
    stopped=st.sampled_from(["", "timeout"]),
    fault=st.sampled_from(["", "it rewrote its branch"]),
    settings_=st.sampled_from([StateSettings(), CONFIGURED]),
)
def test_files_land_only_after_success_and_commits_besides_where_they_name_the_state(
    own: str | None,
    reply: str | None,
    status: int | None,
    stopped: str,
    fault: str,
    settings_: StateSettings,
) -> None:
    ended = result(status, stopped=stopped, signal=9 if status is None else None)
    found = verdict(ended, left(own, reply, fault), plan("review", settings=settings_))
    usable = not stopped and not fault and status is not None and own != "working"
    assert found.succeeded == (usable and status == 0)
    assert found.lands_commits == (found.succeeded or (usable and own is not None))
    assert found.response.state != "working"
    if not usable:
        assert found.response.state == (settings_.on_failure or "failed")


# --- dialects --------------------------------------------------------------------------------


@pytest.mark.parametrize(("dialect", "alone"), [(AYNIG, False), (DWP, True)])
def test_a_scripts_own_state_commit_stands_alone_only_in_the_dialect_that_adds_nothing(
    dialect: Any, alone: bool
) -> None:
    asked = plan("review")
    statement = said("review")
    statement = type(statement)(dialect.name, "review", "Please review", "")
    event = type(asked.event)(asked.event.ref, asked.event.oid, "d" * 40, 0, statement)
    found = verdict(result(), left("mine"), plan(event=event))
    assert found.is_own_commit is alone


@pytest.mark.parametrize("dialect", DIALECTS, ids=[dialect.name for dialect in DIALECTS])
def test_an_answer_file_is_read_in_the_dialect_of_the_task(dialect: Any) -> None:
    reply = read_reply(f"{dialect.state_key}: approved\n".encode(), dialect)
    assert (reply.state, reply.fault) == ("approved", "")


# --- the answer file -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(b"", Reply(), id="nothing"),
        pytest.param(b"aynig: approved\n", Reply("approved"), id="one line"),
        pytest.param(b"aynig: approved", Reply("approved"), id="no newline"),
        pytest.param(b"aynig: approved\r\n", Reply("approved"), id="CRLF"),
        pytest.param(b"All is well\n", Reply(subject="All is well"), id="a subject only"),
        pytest.param(
            b"All is well\naynig: approved\n",
            Reply("approved", "All is well"),
            id="right below the subject",
        ),
        pytest.param(
            b"All is well\n\nIn short: yes.\n\naynig: approved\naynig: meta-coverage: 91\n",
            Reply("approved", "All is well", "In short: yes.", (Field("meta-coverage", "91"),)),
            id="the whole form",
        ),
        pytest.param(b"s\n\naynig: one\naynig: two\n", Reply("two", "s"), id="of several the last"),
        pytest.param(
            b"s\n\naynig: ok\nReviewed-by: Ada\n",
            Reply("ok", "s", trailers=(Trailer("Reviewed-by", "Ada"),)),
            id="another trailer",
        ),
        pytest.param(b"\xff\n\naynig: ok\n", Reply("ok", "\udcff"), id="bytes that are not UTF-8"),
    ],
)
def test_the_answer_file(raw: bytes, expected: Reply) -> None:
    assert read_reply(raw, AYNIG) == expected


@pytest.mark.parametrize("name", sorted(RESERVED_FIELDS))
def test_a_scripts_word_on_what_the_runner_testifies_is_not_taken(name: str) -> None:
    raw = f"s\n\naynig: ok\naynig: {name}: forged\naynig: {name.upper()}: forged\n".encode()
    assert read_reply(raw, AYNIG).fields == ()


@settings(derandomize=True, max_examples=300)
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode()))
def test_no_answer_file_breaks_the_reader(raw: bytes) -> None:
    for dialect in DIALECTS:
        found = judge(plan("review"), result(), Left(None, read_reply(raw, dialect), ""))
        assert "\n" not in found.response.subject
        assert found.succeeded == (not found.fault)


# --- later -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ended", "fault", "asks"),
    [
        pytest.param(result(75), "", True, id="EX_TEMPFAIL"),
        pytest.param(result(0), "", False, id="success"),
        pytest.param(result(1), "", False, id="failure"),
        pytest.param(result(75, stopped="timeout"), "", False, id="timed out"),
        pytest.param(result(75), "it rewrote its branch", False, id="unusable"),
        pytest.param(result(75, fault="output lost"), "", False, id="fault"),
    ],
)
def test_only_a_clean_exit_75_asks_for_a_later_retry(
    ended: RunResult, fault: str, asks: bool
) -> None:
    assert (ending_of(ended, left(fault=fault)) == TEMPFAIL) is asks


# --- words -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ended", "reply", "subject"),
    [
        (result(), Reply("approved"), "review -> approved"),
        (result(), Reply("approved", "2 findings fixed"), "review -> approved: 2 findings fixed"),
        (result(3), Reply(), "review -> failed: exit 3"),
        (result(3), Reply(subject="no network"), "review -> failed: exit 3; no network"),
        (result(None, signal=11), Reply(), "review -> failed: killed by SIGSEGV"),
        (result(None, stopped="timeout"), Reply(), "review -> failed: timed out after 1.5s"),
        (result(), Reply("ok", "a\x1b[2Jb\u202e"), "review -> ok: a\\x1b[2Jb\\u202e"),
    ],
)  # fmt: skip
def test_the_subject_reads_as_a_line_of_a_dashboard(
    ended: RunResult, reply: Reply, subject: str
) -> None:
    assert verdict(ended, Left(None, reply, "")).response.subject == subject


def test_a_long_subject_is_cut() -> None:
    said_much = Left(None, Reply("ok", "word " * 1000), "")
    assert len(verdict(result(), said_much).response.subject) <= 120


@pytest.mark.parametrize(
    ("ended", "status", "words"),
    [
        (result(0), 0, "ok"),
        (result(42), 42, "exit 42"),
        (result(None, signal=signal.SIGKILL), 137, "killed by SIGKILL"),
        (result(None, signal=63), 191, "killed by signal 63"),
        (result(None, fault="no room"), 126, "no room"),
        (result(None, signal=15, stopped="canceled"), 143, "canceled"),
        (result(None, signal=15, stopped="moved"), 143, "the branch has moved"),
    ],
)
def test_an_ending_as_a_shell_tells_it(ended: RunResult, status: int, words: str) -> None:
    assert (exit_status(ended), outcome(ended)) == (status, words)
