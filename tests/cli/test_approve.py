"""`aynig approve`, `reject` and `answer` write what people say to a request."""

from __future__ import annotations

from pathlib import Path

import pytest

from aynig.site import open_site
from tests.cli.conftest import Shell
from tests.keys import Key, allowed_signers
from tests.stage import Stage, run_until_quiet, sh

HIGH = "states:\n  go: {risk: high}\n"
MEDIUM = "states:\n  go: {approval: {when: after, on-reject: rework}}\n"


def ask(aynig: Shell, config: str = HIGH, script: str = "touch ran", **files: str) -> str:
    """A task that waits for people; the oid of its tip."""
    Stage(aynig.repo).task(script, config=config, files=files)
    work(aynig)
    return aynig.repo.tip("task")


def work(aynig: Shell) -> None:
    run_until_quiet(open_site(aynig.repo.path))


def test_an_approval_names_what_it_approves_and_the_task_goes_on(aynig: Shell) -> None:
    ask(aynig)
    said = aynig("approve", "task", "-m", "Looks good\n\nto me")
    assert (said.status, said.out) == (0, f"task {aynig.repo.tip('task')}\n")
    assert aynig.repo.fields("task") == {
        "": "approved",
        "approves": aynig.repo.git("rev-parse", "task~2"),
    }
    assert aynig.repo.message("task").startswith("awaiting-approval -> approved: Looks good\n")
    work(aynig)
    assert aynig.repo.state("task") == "done"


def test_a_plain_commit_counts_as_much(aynig: Shell) -> None:
    ask(aynig)
    aynig.repo.git("switch", "--quiet", "task")
    aynig.repo.git("commit", "--quiet", "--allow-empty", "-m", "Yes", "-m", "aynig: approved")
    work(aynig)
    assert aynig.repo.state("task") == "done"


def test_the_proposal_of_a_run_is_approved_by_its_own_oid(aynig: Shell) -> None:
    proposal = ask(aynig, MEDIUM)
    (row,) = aynig("approve", "task", "--json").rows
    assert row == {"branch": "task", "oid": aynig.repo.tip("task"), "state": "approved"}
    assert aynig.repo.fields("task")["approves"] == proposal


def test_a_rejection_hands_its_words_on(aynig: Shell) -> None:
    heard = {".aynig/rework": sh('echo "$AYNIG_TRAILER_VALIDATION_ERRORS" >heard')}
    ask(aynig, MEDIUM, **heard)
    assert aynig("reject", "task", "-m", "Too short").status == 0
    work(aynig)
    assert aynig.repo.git("show", "task:heard") == "Too short"


def test_a_question_is_answered(aynig: Shell) -> None:
    script = 'if [ "$AYNIG_TRAILER_ANSWER" ]; then cp "$AYNIG_BODY_FILE" heard; exit; fi\n'
    ask(aynig, "", script + 'echo "aynig: question: Which port?" >"$AYNIG_RESPONSE"')
    assert "Which port?" in aynig("status").out
    said = aynig("approve", "task")
    assert (said.status, "aynig answer task" in said.err) == (1, True)
    assert aynig("answer", "task", "-m", "8080").status == 0
    work(aynig)
    assert aynig.repo.git("show", "task:heard") == "8080"


@pytest.mark.parametrize("command", ["reject", "answer"])
def test_a_no_and_an_answer_need_words(aynig: Shell, command: str) -> None:
    tip = ask(aynig)
    assert aynig(command, "task").status == 2
    assert (
        aynig(command, "task", "-m", " ").err
        == "aynig: there are no words. Say them with -m TEXT.\n"
    )
    assert aynig.repo.tip("task") == tip


@pytest.mark.parametrize(
    ("state", "hint"),
    [
        ("go", "`aynig status`"),
        ("done", "`aynig status`"),
        ("awaiting-approval", "`aynig submit STATE -b task`"),
    ],
)
def test_there_has_to_be_something_to_reply_to(aynig: Shell, state: str, hint: str) -> None:
    tip = aynig.repo.commit(f"x\n\naynig: {state}\n", branch="task", parent=aynig.repo.tip())
    for command in ("approve", "reject", "answer"):
        said = aynig(command, "task", "-m", "x")
        assert said.status == 1
        assert hint in said.err
    assert aynig.repo.tip("task") == tip


def test_a_second_reply_waits_until_the_first_was_looked_at(aynig: Shell) -> None:
    ask(aynig)
    aynig("approve", "task")
    said = aynig("approve", "task")
    assert said.status == 1
    assert "was replied to already (approved)" in said.err


def test_one_s_own_work_is_refused_before_anything_is_written(aynig: Shell) -> None:
    script = "git commit --quiet --allow-empty -m x --author='Ada Author <x@example.org>'"
    tip = ask(aynig, MEDIUM, script)
    said = aynig("approve", "task")
    assert said.status == 1
    assert "would not count: Ada Author <ada@example.org> did the work" in said.err
    assert aynig.repo.tip("task") == tip
    assert aynig("reject", "task", "-m", "No").status == 0


def test_of_two_approvals_the_first_says_that_it_is_one(aynig: Shell) -> None:
    ask(aynig, "states:\n  go: {approval: {when: before, need: 2}}\n")
    assert aynig("approve", "task").err == "1/2 approvals: Ada Author <ada@example.org>.\n"


@pytest.mark.parametrize("command", ["retry", "resume"])
def test_a_request_is_not_retried_away(aynig: Shell, command: str) -> None:
    ask(aynig)
    said = aynig(command, "task")
    assert (said.status, "aynig answer task" in said.err) == (1, True)


# --- signatures ------------------------------------------------------------------------------

SIGNED = "signed: required\nstates:\n  go: {risk: high}\n"


@pytest.fixture
def key(aynig: Shell, tmp_path: Path) -> Key:
    """A key that git is configured to sign with here."""
    found = Key.made(tmp_path, "emily")
    aynig.repo.git("config", "gpg.format", "ssh")
    aynig.repo.git("config", "user.signingKey", str(found.path))
    return found


def signers(*pairs: tuple[str, Key]) -> dict[str, str]:
    return {".aynig/allowed_signers": allowed_signers(pairs)}


def test_where_signatures_are_required_an_approval_is_signed_and_the_key_counts(
    aynig: Shell, key: Key
) -> None:
    ask(aynig, SIGNED, **signers(("emily@example.org", key)))
    said = aynig("approve", "task")
    assert said.status == 0, said.err
    assert "gpgsig" in aynig.repo.git("cat-file", "commit", "task")
    work(aynig)
    assert aynig.repo.state("task") == "done"
    approved = aynig.repo.fields("task~1")["approved-by"]
    assert approved == f"emily@example.org ({key.fingerprint})"


def test_a_plain_signed_commit_counts_as_much(aynig: Shell, key: Key) -> None:
    ask(aynig, SIGNED, **signers(("emily@example.org", key)))
    aynig.repo.git("switch", "--quiet", "task")
    message = ["-m", "Yes", "-m", "aynig: approved"]
    aynig.repo.git("commit", "--quiet", "--allow-empty", "-S", *message)
    work(aynig)
    assert aynig.repo.state("task") == "done"


def test_an_approval_without_a_signature_does_not_count_where_one_is_required(
    aynig: Shell, key: Key
) -> None:
    ask(aynig, SIGNED, **signers(("emily@example.org", key)))
    aynig.repo.commit("Yes\n\naynig: approved\n", branch="task")
    work(aynig)
    assert aynig.repo.state("task") == "awaiting-approval"
    refused = aynig.repo.fields("task")["refused"]
    assert refused == "it has to be signed by an allowed key, and is not signed"
    assert refused in aynig("status").out.replace("\n", "")


def test_a_key_that_is_not_allowed_is_refused_before_anything_is_written(
    aynig: Shell, key: Key, tmp_path: Path
) -> None:
    tip = ask(aynig, SIGNED, **signers(("grace@example.org", Key.made(tmp_path, "grace"))))
    said = aynig("approve", "task")
    assert said.status == 1
    assert "its key is no allowed signer's" in said.err
    assert aynig.repo.tip("task") == tip


def test_the_signers_are_those_of_the_trusted_tree_not_of_this_repository_s_settings(
    aynig: Shell, key: Key, tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text(allowed_signers([("emily@example.org", key)]))
    aynig.repo.git("config", "gpg.ssh.allowedSignersFile", str(theirs))
    ask(aynig, SIGNED)
    said = aynig("approve", "task")
    assert "there is no allowed-signers file" in said.err


def test_a_fingerprint_may_be_named_and_counts_without_a_rule_for_all(
    aynig: Shell, key: Key
) -> None:
    config = f"states:\n  go: {{approval: {{when: before, by: ['{key.fingerprint}']}}}}\n"
    ask(aynig, config, **signers(("emily@example.org", key)))
    assert "none of those who may" in aynig("approve", "task").err
    assert aynig("approve", "task", "-S").status == 0
    work(aynig)
    assert aynig.repo.state("task") == "done"


def test_git_is_asked_to_sign_where_it_always_does(aynig: Shell, key: Key) -> None:
    ask(aynig)
    aynig.repo.git("config", "commit.gpgSign", "true")
    aynig("reject", "task", "-m", "No")
    assert "gpgsig" in aynig.repo.git("cat-file", "commit", "task")
