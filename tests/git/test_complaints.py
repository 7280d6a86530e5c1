"""What git says of a remote becomes one line, its kind, and what to do.

The texts are those of git 2.39, OpenSSH 9.2, gitolite 3.6 and the usual forges.
"""

from __future__ import annotations

import pytest

from aynig.git.complaints import Complaint, complaint_of

LEASE = "refs/aynig/lease/0123"
ACCESS = """\
fatal: Could not read from remote repository.

Please make sure you have the correct access rights
and the repository exists.
"""


def of(said: str) -> Complaint:
    return complaint_of(b"", said.encode())


def of_push(why: str, said: str = "", *, ref: str = "refs/heads/main") -> Complaint:
    """A push of a branch and its lease, of which one is refused for this reason."""
    output = (
        f"To /srv/repo.git\n!\t{'a' * 40}:{LEASE}\t[remote rejected] (atomic push failure)\n"
        f"!\t{'b' * 40}:{ref}\t[remote rejected] ({why})\nDone\n"
    )
    error = f"{said}error: failed to push some refs to '/srv/repo.git'\n"
    return complaint_of(output.encode(), error.encode())


@pytest.mark.parametrize(
    ("said", "kind", "text", "hint"),
    [
        (
            "No ED25519 host key is known for git and you have requested strict checking.\n"
            "Host key verification failed.\n" + ACCESS,
            "refused",
            "No ED25519 host key is known for git and you have requested strict checking",
            "ssh-keyscan",
        ),
        (
            "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n"
            "Host key for git has changed and you have requested strict checking.\n"
            "Host key verification failed.\n" + ACCESS,
            "refused",
            "Host key for git has changed and you have requested strict checking",
            "Ask who runs it",
        ),
        (
            "ada@git: Permission denied (publickey).\n" + ACCESS,
            "refused",
            "ada@git: Permission denied (publickey)",
            "credentials",
        ),
        (
            "ssh: Could not resolve hostname git: Name or service not known\n" + ACCESS,
            "unreachable",
            "Could not resolve hostname git: Name or service not known",
            "spelt right",
        ),
        (
            "ssh: connect to host git port 22: Connection refused\n" + ACCESS,
            "unreachable",
            "connect to host git port 22: Connection refused",
            "server runs",
        ),
        (ACCESS, "unreachable", "Could not read from remote repository", "server runs"),
        (
            "fatal: unable to connect to git:\ngit[0: 10.0.0.1]: errno=Connection refused\n",
            "unreachable",
            "unable to connect to git: git[0: 10.0.0.1]: errno=Connection refused",
            "server runs",
        ),
        (
            "fatal: could not read Username for 'http://git': terminal prompts disabled\n",
            "refused",
            "could not read Username for 'http://git': terminal prompts disabled",
            "credentials",
        ),
        (
            "remote: Invalid username or token.\n"
            "fatal: Authentication failed for 'https://git/x.git/'\n",
            "refused",
            "Authentication failed for 'https://git/x.git/': Invalid username or token",
            "credentials",
        ),
        (
            "remote: Permission to a/b.git denied to carol.\nfatal: unable to access "
            "'https://git/x.git/': The requested URL returned error: 403\n",
            "refused",
            "unable to access 'https://git/x.git/': The requested URL returned error: 403: "
            "Permission to a/b.git denied to carol",
            "rights of this runner",
        ),
        (
            "fatal: unable to access 'https://git/x.git/': The requested URL returned error: 502\n",
            "unreachable",
            "unable to access 'https://git/x.git/': The requested URL returned error: 502",
            "server runs",
        ),
        (
            "fatal: unable to access 'https://git/x.git/': The requested URL returned error: 429\n",
            "unreachable",
            "unable to access 'https://git/x.git/': The requested URL returned error: 429",
            "server runs",
        ),
        (
            "fatal: repository 'https://git/x.git/' not found\n",
            "refused",
            "repository 'https://git/x.git/' not found",
            "git remote -v",
        ),
        (
            "fatal: remote error: access denied or repository not exported: /x.git\n",
            "refused",
            "access denied or repository not exported: /x.git",
            "git remote -v",
        ),
        (
            "ERROR: Repository not found.\n" + ACCESS,
            "refused",
            "Repository not found",
            "git remote -v",
        ),
        (
            "FATAL: W any repo reader DENIED by fallthru\n(or you mis-spelled the reponame)\n"
            + ACCESS,
            "refused",
            "W any repo reader DENIED by fallthru",
            "rights of this runner",
        ),
        (
            "fatal: detected dubious ownership in repository at '/srv/x.git'\n"
            "To add an exception for this directory, call:\n\n"
            "\tgit config --global --add safe.directory /srv/x.git\n" + ACCESS,
            "refused",
            "detected dubious ownership in repository at '/srv/x.git'",
            "safe.directory",
        ),
        (
            "fatal: the receiving end does not support --atomic push\n"
            "fatal: the remote end hung up unexpectedly\n",
            "refused",
            "the receiving end does not support --atomic push",
            "receive.advertiseAtomic",
        ),
        (
            f"fatal: remote error: upload-pack: not our ref {'0' * 40}\n",
            "refused",
            f"a ref is broken there (upload-pack: not our ref {'0' * 40})",
            "aynig doctor",
        ),
        (
            f"fatal: remote error: upload-pack: not our ref {'1' * 40}\n",
            "unreachable",
            f"upload-pack: not our ref {'1' * 40}",
            "server runs",
        ),
        (
            "git: 'remote-foo' is not a git command. See 'git --help'.\n\n"
            "The most similar command is\n\tremote-ftp\n",
            "refused",
            "'remote-foo' is not a git command. See 'git --help'",
            "no transport",
        ),
        ("fatal: what nobody has foreseen\n", "refused", "what nobody has foreseen", "git says"),
        ("", "refused", "no message", "git says"),
    ],
)
def test_a_remote_that_is_not_reached_or_not_read(
    said: str, kind: str, text: str, hint: str
) -> None:
    found = of(said)
    assert (found.kind, found.text) == (kind, text)
    assert hint in found.hint


@pytest.mark.parametrize(
    ("why", "said", "kind", "text", "hint"),
    [
        (
            "hook declined",
            "remote: main is protected: ask ada        \n"
            "remote: error: hook declined to update refs/heads/main        \n",
            "refused",
            "refs/heads/main: hook declined: main is protected: ask ada",
            "Let this runner write",
        ),
        (
            "hook declined",
            "remote: FATAL: W refs/heads/main repo runner DENIED by fallthru        \n"
            "remote: error: hook declined to update refs/heads/main        \n",
            "refused",
            "refs/heads/main: hook declined: W refs/heads/main repo runner DENIED by fallthru",
            "Let this runner write",
        ),
        (
            "protected branch hook declined",
            "remote: error: GH006: Protected branch update failed for refs/heads/main.        \n"
            'remote: error: Required status check "ci" is expected.        \n',
            "refused",
            "refs/heads/main: protected branch hook declined: GH006: Protected branch update "
            'failed for refs/heads/main; Required status check "ci" is expected',
            "Let this runner write",
        ),
        (
            "pre-receive hook declined",
            "remote: GitLab: You are not allowed to push code to protected branches.        \n"
            "remote: ====================        \n",
            "refused",
            "refs/heads/main: pre-receive hook declined: GitLab: You are not allowed to push code "
            "to protected branches",
            "Let this runner write",
        ),
        # What a hook says of its own troubles is no word of the connection to the server.
        (
            "pre-receive hook declined",
            "remote: ticket system: connection timed out        \n",
            "refused",
            "refs/heads/main: pre-receive hook declined: ticket system: connection timed out",
            "A hook of the server",
        ),
        (
            "pre-receive hook declined",
            "",
            "refused",
            "refs/heads/main: pre-receive hook declined",
            "A hook of the server",
        ),
        (
            "non-fast-forward",
            "remote: error: denying non-fast-forward refs/heads/main (you should pull first)\n",
            "refused",
            "refs/heads/main: non-fast-forward",
            "receive.denyNonFastForwards",
        ),
        (
            "deletion prohibited",
            "remote: error: denying ref deletion for refs/heads/main        \n",
            "refused",
            "refs/heads/main: deletion prohibited",
            "receive.denyDeletes",
        ),
        (
            "branch is currently checked out",
            "remote: error: refusing to update checked out branch: refs/heads/main        \n"
            "remote: error: By default, updating the current branch in a non-bare repository\n",
            "refused",
            "refs/heads/main: branch is currently checked out",
            "bare repository",
        ),
        (
            "deny updating a hidden ref",
            "",
            "refused",
            "refs/heads/main: deny updating a hidden ref",
            "receive.hideRefs",
        ),
        (
            "unpacker error",
            "remote: fatal: unable to write loose object file: No space left on device        \n"
            "error: remote unpack failed: unpack-objects abnormal exit\n",
            "unwritable",
            "refs/heads/main: unpacker error: unable to write loose object file: No space left on "
            "device",
            "make room",
        ),
        (
            "unpacker error",
            "error: remote unpack failed: unable to create temporary object directory\n",
            "unwritable",
            "refs/heads/main: unpacker error: unable to create temporary object directory",
            "mount it for writing",
        ),
        (
            "unpacker error",
            "error: unpack-objects died of signal 25\n"
            "error: remote unpack failed: unpack-objects abnormal exit\n",
            "unwritable",
            "refs/heads/main: unpacker error: unpack-objects abnormal exit",
            "make room",
        ),
        (
            "unpacker error",
            "error: remote unpack failed: eof before pack header was fully read\n",
            "unreachable",
            "refs/heads/main: unpacker error: eof before pack header was fully read",
            "network",
        ),
        (
            "unpacker error",
            "remote: fatal: pack exceeds maximum allowed size        \n"
            "error: remote unpack failed: unpack-objects abnormal exit\n",
            "refused",
            "refs/heads/main: unpacker error: pack exceeds maximum allowed size",
            "receive.maxInputSize",
        ),
        (
            "missing necessary objects",
            "remote: fatal: bad object refs/heads/other        \n",
            "refused",
            "refs/heads/other is broken there: git takes no push before",
            "aynig doctor",
        ),
        (
            "failed to update ref",
            "remote: error: cannot lock ref 'refs/heads/main': Unable to create "
            "'/srv/repo.git/./refs/heads/main.lock': File exists.        \nremote: \n"
            "remote: Another git process seems to be running in this repository, e.g.        \n"
            "remote: remove the file manually to continue.        \n",
            "busy",
            "refs/heads/main: Unable to create '/srv/repo.git/./refs/heads/main.lock': File exists",
            "aynig doctor",
        ),
        # It moved between the question what there is and the server's own transaction.
        (
            "failed to update ref",
            f"remote: error: cannot lock ref 'refs/heads/main': is at {'1' * 40} but expected "
            f"{'2' * 40}        \n",
            "moved",
            f"cannot lock ref 'refs/heads/main': is at {'1' * 40} but expected",
            "",
        ),
        ("stale info", "", "moved", "refs/heads/main: stale info", ""),
    ],
)
def test_a_push_that_is_refused(why: str, said: str, kind: str, text: str, hint: str) -> None:
    found = of_push(why, said)
    assert (found.kind, found.text) == (kind, text)
    assert hint in found.hint


def test_a_server_that_fails_in_its_own_transaction_blames_no_ref() -> None:
    lock = "Unable to create '/srv/repo.git/./refs/heads/main.lock': File exists"
    output = f"!\t{'a' * 40}:refs/heads/main\t[remote rejected] (atomic transaction failed)\n"
    said = f"remote: error: cannot lock ref 'refs/heads/main': {lock}.\n"
    found = complaint_of(output.encode(), said.encode())
    assert (found.kind, found.text) == ("busy", lock)


def test_a_branch_is_named_before_a_lease() -> None:
    output = "".join(
        f"!\t{'a' * 40}:{ref}\t[remote rejected] (pre-receive hook declined)\n"
        for ref in (LEASE, "refs/heads/main")
    )
    found = complaint_of(output.encode(), b"")
    assert found.ref == "refs/heads/main"


def test_every_complaint_is_one_line_without_a_stop() -> None:
    found = of("fatal: unable to access 'https://git/':\tThe requested URL failed.:\n")
    assert found.text == "unable to access 'https://git/': The requested URL failed"
