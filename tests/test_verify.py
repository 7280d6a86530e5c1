"""`verify` judges a result with real checks: clean, one after the other, away from the worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from aynig.errors import ConfigError, LeaseLost, WaitUntil
from aynig.executors import Control
from aynig.git.repo import Repo
from aynig.judges import commit
from aynig.processes import is_running
from aynig.site import Site, open_site
from aynig.verify import Candidate, Verified, demand_commitments, sweep, verify
from aynig.workflow import Need, Scenarios, Verification
from tests.world import GitRepo, wait_for

RUN = "20260131T093000Z-1f3a9c2e07"
LINK = "120000"
ROOT = Path(__file__).resolve().parents[1]
Files = Mapping[str, str | bytes | None]


def sh(text: str) -> str:
    return f"#!/bin/sh\n{text}\n"


@dataclass
class Court:
    """A repository whose `main` is trusted, a result on `work`, and where the checks write to."""

    world: GitRepo
    site: Site
    # Outside of everything: what a check leaves here is what the test looks at.
    seen: Path
    # Where temporary files go.
    temporary: Path

    def result(self, files: Files | None = None) -> Candidate:
        """A commit of a worker's."""
        oid = self.world.commit("work", branch="work", parent=self.world.tip(), files=files or {})
        tree = self.world.git("rev-parse", f"{oid}^{{tree}}")
        return Candidate(RUN, "task", "build", oid, tree)

    def judged(
        self,
        settings: Verification,
        candidate: Candidate | None = None,
        control: Control | None = None,
    ) -> Verified:
        trusted = self.world.git("rev-parse", "main^{tree}")
        candidate = candidate or self.result()
        return verify(self.site, settings, candidate, trusted, control or Control())

    def scenarios(self, files: Files, **changes: object) -> Verified:
        """The verdict of scenarios in the trusted tree."""
        self.world.commit(
            "scenarios", files={f"checks/{name}": text for name, text in files.items()}
        )
        return self.judged(Verification(scenarios=(Scenarios("checks"),), **changes))  # type: ignore[arg-type]

    def told(self) -> list[str]:
        """What the checks wrote with `>> "$SEEN"/log`."""
        log = self.seen / "log"
        return log.read_text().splitlines() if log.exists() else []

    def left(self) -> list[str]:
        return sorted(path.name for path in self.temporary.iterdir())


@pytest.fixture
def court(repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Court]:
    for name in ("tmp", "seen"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    site = open_site(repo.path)
    yield Court(repo, site, tmp_path / "seen", tmp_path / "tmp")
    assert list((tmp_path / "tmp").iterdir()) == []
    site.close()


# --- what is counted -----------------------------------------------------------------------------


def test_commands_and_scenarios_count_alike_and_run_in_order_of_their_names(court: Court) -> None:
    note = 'echo "${0##*/}" >> "$SEEN/log"\n'
    court.world.commit(
        "scenarios",
        files={
            "checks/b-fails": sh(note + "exit 3"),
            "checks/a-passes": sh(note),
            "checks/README.md": "no scenario\n",
            "checks/_shared/data": "no scenario either\n",
            "checks/c/run": sh(note + 'test "$(cat "$AYNIG_SCENARIO/expected")" = yes'),
            "checks/c/expected": "yes\n",
            "checks/c/other": sh("exit 1"),
            "checks/d/only": sh(note + 'test -f "$AYNIG_SCENARIO/../_shared/data"'),
        },
    )
    settings = Verification(
        commands=("true", "test -f made", "exit 1"),
        scenarios=(Scenarios("checks"),),
        need=Need(count=5),
        show="names",
    )
    verified = court.judged(settings, court.result({"made": "by the worker\n"}))
    assert court.told() == ["a-passes", "b-fails", "run", "only"]
    assert verified.scored.failed == ("exit 1", "b-fails")
    assert verified.verdict.score == "5/7"
    assert verified.verdict.enough
    assert verified.verdict.told == ("failed: exit 1", "failed: b-fails")


def test_a_folder_without_scenarios_is_never_enough(court: Court) -> None:
    verified = court.scenarios({"README.md": "nothing yet\n"}, commands=("true",))
    assert verified.verdict.score == "1/1"
    assert not verified.verdict.enough


def put(court: Court, mode: str, path: str, content: str) -> None:
    """A commit on `main` with a file of this mode."""
    blob = court.world.git("hash-object", "-w", "--stdin", stdin=content)
    court.world.git("read-tree", "main")
    court.world.git("update-index", "--add", "--cacheinfo", f"{mode},{blob},{path}")
    court.world.git("commit", "--quiet", "-m", path)


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"check": "#!/bin/sh\nexit 0\n"}, "has no run bit"),
        ({"one/a": sh(""), "one/b": sh("")}, "holds several programs"),
        ({"one/data": "text\n"}, "holds no program with the run bit"),
    ],
)
def test_what_was_meant_as_a_scenario_is_never_passed_over_in_silence(
    court: Court, files: dict[str, str], why: str
) -> None:
    court.world.commit("scenarios", files={f"checks/{name}": text for name, text in files.items()})
    if "check" in files:
        put(court, "100644", "checks/check", files["check"])
    with pytest.raises(ConfigError, match=why):
        court.judged(Verification(scenarios=(Scenarios("checks"),)))


def test_a_link_that_stays_among_the_scenarios_is_followed(court: Court) -> None:
    court.world.commit("x", files={"checks/_lib/real": sh('echo run >> "$SEEN/log"')})
    put(court, LINK, "checks/again", "_lib/real")
    verified = court.judged(Verification(scenarios=(Scenarios("checks"),)))
    assert (verified.verdict.score, court.told()) == ("1/1", ["run"])


@pytest.mark.parametrize("target", ["/bin/true", "../../outside", "x/../../../outside"])
def test_a_link_that_leaves_the_scenarios_is_refused(court: Court, target: str) -> None:
    court.world.commit("x", files={"outside": sh("exit 0"), "checks/ok": sh("exit 0")})
    put(court, LINK, "checks/deep/away", target)
    with pytest.raises(ConfigError, match="leaves the folder of scenarios"):
        court.judged(Verification(scenarios=(Scenarios("checks"),)))


def test_a_scenario_that_can_not_be_started_is_no_fault_of_the_worker(court: Court) -> None:
    with pytest.raises(ConfigError, match="can't start 'odd': its interpreter"):
        court.scenarios({"odd": "#!/no/such/interpreter\n"})


# --- where they run ------------------------------------------------------------------------------


def test_the_worktree_is_clean_and_not_the_one_that_the_worker_had(court: Court) -> None:
    candidate = court.result({"made": "yes\n", ".gitignore": "ignored\n"})
    with court.site.pool.lend(candidate.head, candidate.tree, RUN) as worktree:
        before = worktree.path
        for name in ("ignored", "untracked"):
            (before / name).write_text("of the worker\n")
    show = 'pwd >> "$SEEN/log"; ls -A | tr "\\n" " " >> "$SEEN/log"'
    assert court.judged(Verification(commands=(show,)), candidate).verdict.enough
    place, names = court.told()
    assert Path(place) != before
    assert names.split() == [".git", ".gitignore", "made"]


def test_files_that_the_worker_did_not_commit_are_judged_with_the_rest(court: Court) -> None:
    candidate = court.result()
    with court.site.pool.lend(candidate.head, candidate.tree, RUN) as worktree:
        (worktree.path / "made").write_text("yes\n")
        harvest = worktree.harvest(candidate.head, candidate.tree)
    left = Candidate(RUN, "task", "build", harvest.head, harvest.tree)
    check = (
        'test -f made && test "$(git rev-parse HEAD)" = "$AYNIG_RESULT" && git diff --quiet HEAD'
    )
    assert court.judged(Verification(commands=(check,)), left).verdict.enough
    parent = "git cat-file -e HEAD^:made && exit 1; true"
    assert court.judged(Verification(commands=(parent,)), left).verdict.enough


def test_nothing_of_the_worker_is_in_the_environment(
    court: Court, monkeypatch: pytest.MonkeyPatch
) -> None:
    court.world.commit("home", files={".aynig/words": "trusted\n"})
    for name in ("AYNIG_RESPONSE", "AYNIG_CONTEXT", "AYNIG_TRAILER_X", "GIT_PREFIX"):
        monkeypatch.setenv(name, "of somebody else")
    candidate = court.result({".aynig/words": "changed by the worker\n"})
    wanted = 'env | grep -E "^(AYNIG|GIT_PREFIX)" | sort > "$SEEN/log"; '
    wanted += 'cat "$AYNIG_HOME/words" >> "$SEEN/log"'
    court.judged(Verification(commands=(wanted,)), candidate)
    *variables, words = court.told()
    told = dict(line.split("=", 1) for line in variables)
    assert words == "trusted"
    assert set(told) == {
        "AYNIG_BRANCH", "AYNIG_HOME", "AYNIG_RESULT", "AYNIG_RUN_ID", "AYNIG_STATE",
    }  # fmt: skip
    assert (told["AYNIG_BRANCH"], told["AYNIG_STATE"]) == ("task", "build")
    assert told["AYNIG_RESULT"] == candidate.head
    assert told["AYNIG_RUN_ID"] != RUN


def test_what_a_check_changes_the_next_one_does_not_see_and_nothing_lands(court: Court) -> None:
    candidate = court.result({"kept": "as it was\n"})
    spoil = "echo spoilt > kept; touch extra; git commit --quiet -am spoilt"
    clean = (
        "grep -q 'as it was' kept && ! test -e extra && test $(git rev-parse HEAD) = $AYNIG_RESULT"
    )
    refs = court.world.git("for-each-ref")
    verified = court.judged(Verification(commands=(spoil, clean, spoil, clean)), candidate)
    assert verified.verdict.score == "4/4"
    assert court.world.git("for-each-ref") == refs


def test_scenarios_that_the_program_under_test_edits_are_put_back(court: Court) -> None:
    court.world.commit("home", files={".aynig/limit": "5\n"})
    edits = 'chmod u+w "$AYNIG_SCENARIO/b" "$AYNIG_HOME/limit"\n'
    edits += 'printf "#!/bin/sh\\nexit 0\\n" > "$AYNIG_SCENARIO/b"; echo 9 > "$AYNIG_HOME/limit"'
    verified = court.scenarios(
        {"a": sh(edits), "b": sh("exit 1"), "c": sh('grep -q 5 "$AYNIG_HOME/limit"')}
    )
    assert verified.scored.failed == ("b",)


def test_a_check_that_changes_what_all_worktrees_share_has_failed(court: Court) -> None:
    verified = court.judged(Verification(commands=("git config core.editor evil", "true")))
    assert verified.scored.failed == ("git config core.editor evil",)
    assert "evil" not in court.world.git("config", "--list")


# --- time, strays and stopping --------------------------------------------------------------------


def test_a_check_that_hangs_is_ended_with_all_that_it_started(court: Court) -> None:
    hangs = 'setsid sleep 1000 & echo $! >> "$SEEN/log"; sleep 1000'
    verified = court.judged(Verification(commands=(hangs, "true"), timeout=0.5, show="output"))
    assert verified.scored.failed == (hangs,)
    assert verified.verdict.score == "1/2"
    assert "timed out" in verified.verdict.told[-1]
    (pid,) = court.told()
    assert not is_running(int(pid))


def test_output_is_told_only_where_the_workflow_allows_it(court: Court) -> None:
    files = {"a": sh("echo the reason; exit 1")}
    assert court.scenarios(files).verdict.told == ()
    assert court.scenarios(files, show="output").verdict.told == ("failed: a", "    the reason")


def test_a_wish_to_stop_ends_it_and_nothing_is_judged(court: Court) -> None:
    control = Control()

    def tick() -> None:
        if court.told():
            control.stop("canceled", 0)

    control.set_tick(tick, 0.05)
    checks = ('echo begun >> "$SEEN/log"; sleep 1000', 'echo next >> "$SEEN/log"')
    verified = court.judged(Verification(commands=checks), control=control)
    assert (verified.stopped, court.told()) == ("canceled", ["begun"])


def test_a_lost_lease_ends_it(court: Court) -> None:
    def tick() -> None:
        raise LeaseLost("somebody else has it")

    control = Control()
    control.set_tick(tick, 0.05)
    assert court.judged(Verification(commands=("sleep 1000",)), control=control).stopped


# --- where scenarios come from --------------------------------------------------------------------


@pytest.fixture
def hidden(court: Court, tmp_path: Path) -> GitRepo:
    """Another repository with scenarios; `main` there is the good one."""
    found = GitRepo.init(tmp_path / "hidden.git", bare=True)
    found.commit("scenarios", files={"set/secret": sh('echo "${0##*/}" >> "$SEEN/log"')})
    found.commit("old", branch="old", files={"set/secret": sh("exit 1")})
    found.git("tag", "-a", "-m", "first", "v1", "main")
    return found


def objects(world: GitRepo) -> set[str]:
    listed = world.git("cat-file", "--batch-all-objects", "--batch-check=%(objectname)")
    return set(listed.splitlines())


def test_a_ref_of_this_repository_holds_scenarios(court: Court) -> None:
    court.world.commit("hidden", branch="judge", files={"set/one": sh("exit 0")})
    source = Scenarios("set", ref="judge")
    assert court.judged(Verification(scenarios=(source,))).verdict.score == "1/1"


@pytest.mark.parametrize("ref", ["main", "refs/heads/main", "v1", "", "OID"])
def test_another_repository_holds_scenarios_and_this_one_never_has_them(
    court: Court, hidden: GitRepo, ref: str
) -> None:
    wanted = hidden.tip() if ref == "OID" else ref
    source = Scenarios("set", wanted, str(hidden.path))
    candidate = court.result()
    before = objects(court.world)
    assert court.judged(Verification(scenarios=(source,)), candidate).verdict.enough
    assert court.told() == ["secret"]
    assert objects(court.world) == before
    assert str(hidden.path) not in court.world.git("config", "--list")


def test_a_remote_by_its_name_holds_scenarios(court: Court, hidden: GitRepo) -> None:
    court.world.git("remote", "add", "judge", str(hidden.path))
    site = open_site(court.world.path)
    trusted = court.world.git("rev-parse", "main^{tree}")
    settings = Verification(scenarios=(Scenarios("set", "old", "judge"),))
    verified = verify(site, settings, court.result(), trusted, Control())
    site.close()
    assert verified.verdict.score == "0/1"


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (Scenarios("checks", ref="no-such"), "'no-such' of this repository, which does not exist"),
        (Scenarios("nowhere"), "'nowhere' in the trusted tree, which does not exist"),
        (Scenarios("file"), "'file' in the trusted tree, which is no folder"),
        (Scenarios("set", "no-such", "HIDDEN"), "'no-such' of .*, which does not exist there"),
        (Scenarios("nowhere", "main", "HIDDEN"), "'nowhere' in 'main' of .*does not exist"),
        (Scenarios("set", "main", "no-such"), "there is no remote 'no-such'"),
    ],
)
def test_a_source_that_is_not_there_is_a_fault_of_the_verification(
    court: Court, hidden: GitRepo, source: Scenarios, why: str
) -> None:
    court.world.commit("a file", files={"file": "text\n"})
    if source.repository == "HIDDEN":
        source = Scenarios(source.path, source.ref, str(hidden.path))
    with pytest.raises(ConfigError, match=why):
        court.judged(Verification(scenarios=(source,)))


def test_a_remote_that_can_not_be_reached_is_asked_again_later(court: Court) -> None:
    source = Scenarios("set", "main", "http://127.0.0.1:9/hidden.git")
    with pytest.raises(WaitUntil):
        court.judged(Verification(scenarios=(source,)))


# --- private folders ------------------------------------------------------------------------------


def test_scenarios_are_in_a_folder_of_ours_alone_and_outside_of_the_repository(
    court: Court,
) -> None:
    look = (
        'stat -c "%a %U" "$AYNIG_SCENARIO/.." >> "$SEEN/log"; echo "$AYNIG_SCENARIO" >> "$SEEN/log"'
    )
    court.scenarios({"a": sh(look)})
    rights, place = court.told()
    assert rights.split()[0] == "700"
    assert Path(place).is_relative_to(court.temporary)


def test_temporary_files_inside_of_the_repository_are_refused(
    court: Court, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = court.world.path / "tmp"
    inside.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(inside))
    with pytest.raises(ConfigError, match="inside of the repository"):
        court.judged(Verification(commands=("true",)))


KILLED = """
import sys, tempfile
from aynig.executors import Control
from aynig.site import open_site
from aynig.verify import Candidate, verify
from aynig.workflow import Scenarios, Verification
path, head, tree, trusted = sys.argv[1:]
candidate = Candidate("20260131T093000Z-1f3a9c2e07", "task", "build", head, tree)
settings = Verification(scenarios=(Scenarios("checks"),))
verify(open_site(path), settings, candidate, trusted, Control())
"""


def test_what_a_killed_runner_left_is_swept_with_its_processes(court: Court) -> None:
    court.world.commit("x", files={"checks/a": sh('echo $$ >> "$SEEN/log"; exec sleep 1000')})
    candidate = court.result()
    trusted = court.world.git("rev-parse", "main^{tree}")
    arguments = [str(court.world.path), candidate.head, candidate.tree, trusted]
    runner = subprocess.Popen(
        [sys.executable, "-c", KILLED, *arguments],
        env={**os.environ, "TMPDIR": str(court.temporary), "PYTHONPATH": str(ROOT)},
    )
    wait_for(court.told, what="the scenario to begin")
    repo = Repo.open(court.world.path)
    assert (sweep(repo), len(court.left())) == (0, 1)
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    assert court.left()
    assert sweep(repo) == 1
    assert court.left() == []
    (pid,) = court.told()
    assert not is_running(int(pid))


# --- commitments ----------------------------------------------------------------------------------


@pytest.fixture
def committed(court: Court, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The published hash of the scenarios of `judge`."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    court.world.commit("hidden", branch="judge", files={"set/one": sh("exit 0")})
    return commit(court.site, Scenarios("set", ref="judge"), "release").commitment.digest


HIDDEN = Verification(scenarios=(Scenarios("set", ref="judge"),), committed=True)


def test_what_judged_is_known_by_its_published_hash(court: Court, committed: str) -> None:
    assert court.judged(HIDDEN).judged_by == (committed,)
    trusted = court.world.git("rev-parse", "main^{tree}")
    assert demand_commitments(court.site, HIDDEN, trusted, RUN) == (committed,)


@pytest.mark.parametrize("case", ["other scenarios", "no secret", "nothing published"])
def test_a_hash_that_is_demanded_and_not_known_holds_the_verification(
    court: Court, committed: str, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if case == "other scenarios":
        court.world.commit("easier", branch="judge", files={"set/one": sh("true")})
    elif case == "no secret":
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "nowhere"))
    else:
        court.world.git("update-ref", "-d", "refs/aynig/judge/release")
    with pytest.raises(ConfigError, match="no published hash is known here"):
        court.judged(HIDDEN)
    trusted = court.world.git("rev-parse", "main^{tree}")
    with pytest.raises(ConfigError, match="no published hash is known here"):
        demand_commitments(court.site, HIDDEN, trusted, RUN)
    assert committed not in court.judged(replace(HIDDEN, committed=False)).judged_by
