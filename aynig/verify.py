"""Judges what a run left: commands and scenarios, run after the worker and away from it.

They run one after the other, each in a clean worktree of the result that the worker never had,
with nothing of the worker's in its environment. What one of them changes, the next does not see,
and nothing of it lands. The scenarios are on the disk only from when the worker's processes are
gone to the end of the verification (docs/verification.md).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from aynig.commitments import commitment_for, secrets_folder
from aynig.durations import format_duration
from aynig.environment import plain_environment
from aynig.errors import ConfigError
from aynig.executors import Control, Job
from aynig.executors.output import tail_of
from aynig.git.disk import discard
from aynig.git.fence import Fence
from aynig.git.private import JUDGE, PrivateFolder, private_folder, sweep_private
from aynig.git.repo import Repo
from aynig.git.scenarios import Origin, ScenarioTree, find_scenarios, lay_out, scenarios_in
from aynig.git.scripts import mark_below
from aynig.model import HEADS, RunResult
from aynig.policies.verification import OUTPUT, Scored, VerdictOfVerification, judge
from aynig.site import Site
from aynig.text import quote
from aynig.workflow import Verification

_T = TypeVar("_T")
_HOME = ".aynig"
_TREE = 0o040000
# How often a fetch that is under way is left alone to see whether a renewal is due, in seconds.
_GLANCE = 0.2
# Of the output of all failures together, in bytes, and the least of each.
_MOST_TOLD, _LEAST_TOLD = 16_384, 256


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is to be judged: the result of a run, before it is answered.

    `head` is the commit that the worker was at when it ended, `tree` the files as it left them.
    """

    run: str
    branch: str
    state: str
    head: str
    tree: str


@dataclass(frozen=True, slots=True)
class Verified:
    """How the verification of one result went."""

    verdict: VerdictOfVerification
    scored: Scored
    # Empty, or why it was ended from outside, as in `RunResult.stopped`: nothing is judged then.
    stopped: str = ""
    # The published hashes of the scenarios, for `judged-by`; none where nobody committed to them,
    # or where this machine does not have the judge's secret.
    judged_by: tuple[str, ...] = ()
    # In seconds, with the time that it took to get the scenarios.
    duration: float = 0.0
    # What the programs under test tried to do to the branch, and were refused.
    tried: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Check:
    """A command or a scenario, ready to start."""

    name: str
    program: str
    argv: tuple[str, ...] = ()
    # The scenario's own folder.
    folder: str = ""


@dataclass(frozen=True, slots=True)
class _Outcome:
    passed: bool
    stopped: str = ""
    output: str = ""


def verify(
    site: Site,
    settings: Verification,
    candidate: Candidate,
    trusted: str,
    control: Control,
) -> Verified:
    """Run all checks on a result; `trusted` is the oid of the trusted tree.

    The worker's processes have to be gone. Ticks of `control` go on meanwhile, and a wish to stop
    ends it. Raises ConfigError where the verification itself can't be done (a missing ref, a path
    that is no folder, a scenario that can't be started), and the family of WaitUntil where it can't
    be done now: neither says anything of the worker.
    """
    started = time.monotonic()
    with private_folder(site.repo, JUDGE, f"{candidate.run}-verify") as private:
        bench = _Bench(site, settings, candidate, trusted, control, private)
        scored, stopped = bench.run_all()
    verdict, judged_by = judge(settings, scored), tuple(dict.fromkeys(bench.judged_by))
    tried = tuple(dict.fromkeys(bench.tried))
    return Verified(verdict, scored, stopped, judged_by, time.monotonic() - started, tried)


def demand_commitments(
    site: Site, settings: Verification, trusted: str, run: str
) -> tuple[str, ...]:
    """The published hashes of all scenarios, asked for before the worker starts.

    They are looked at in a private folder that is gone again then. Raises ConfigError where one was
    not committed to, else as `verify`.
    """
    with private_folder(site.repo, JUDGE, f"{run}-verify") as private:
        found = _find_all(site, settings, trusted, private.path)
        return tuple(dict.fromkeys(_hash_of(site, place, demanded=True) for place in found))


def sweep(repo: Repo) -> int:
    """Remove what verifications of dead runners left, with their processes; how many there were."""
    return sweep_private(repo, JUDGE)


class _Bench:
    """One verification."""

    def __init__(
        self,
        site: Site,
        settings: Verification,
        candidate: Candidate,
        trusted: str,
        control: Control,
        private: PrivateFolder,
    ) -> None:
        self._site = site
        self._settings = settings
        self._candidate = candidate
        self._trusted = trusted
        self._control = control
        self._private = private
        # What was written out, by the folder it went to, and what it looked like then.
        self._laid: dict[Path, tuple[ScenarioTree, object]] = {}
        self._empty: list[str] = []
        self.judged_by: list[str] = []
        # What the programs under test tried to do to the branch, and were refused.
        self.tried: list[str] = []
        self._fences = 0

    def run_all(self) -> tuple[Scored, str]:
        """The score, and why it was ended before its time, where it was."""
        checks = [*self._commands(), *self._scenarios()]
        result = self._result()
        passed, failed, outputs = 0, [], []
        stopped = ""
        for check in checks:
            outcome = self._run(check, result, _MOST_TOLD // len(checks))
            if outcome.stopped:
                stopped = outcome.stopped
                break
            if outcome.passed:
                passed += 1
            else:
                failed.append(check.name)
                outputs.append(outcome.output)
        return Scored(
            passed, len(checks), tuple(failed), tuple(outputs), tuple(self._empty)
        ), stopped

    # --- what there is to check ------------------------------------------------------------------

    def _commands(self) -> Iterator[_Check]:
        entry = self._site.repo.entry(self._trusted, _HOME)
        if entry is not None and entry[0] == _TREE:
            self._lay(ScenarioTree(self._site.repo, entry[1], _HOME), self._home)
        for command in self._settings.commands:
            yield _Check(command, "/bin/sh", ("-c", command))

    def _scenarios(self) -> Iterator[_Check]:
        private = self._private.path
        found = self._while_ticking(
            lambda: list(_find_all(self._site, self._settings, self._trusted, private))
        )
        for number, place in enumerate(found):
            digest = _hash_of(self._site, place, demanded=self._settings.committed)
            self.judged_by += [digest] if digest else []
            folder = private / f"scenarios-{number}"
            scenarios = scenarios_in(place)
            self._empty += [] if scenarios else [place.shown]
            self._lay(place, folder)
            for scenario in scenarios:
                yield _Check(
                    scenario.name,
                    str(folder / scenario.program),
                    folder=os.path.normpath(folder / scenario.folder),
                )

    @property
    def _home(self) -> Path:
        return self._private.path / "home"

    def _lay(self, place: ScenarioTree, folder: Path) -> None:
        discard(folder, self._private.path)
        lay_out(place.repo, place.tree, folder)
        self._laid[folder] = (place, mark_below(folder))

    def _lay_anew(self) -> None:
        """What the program under test has changed in the scenarios, the next one does not meet."""
        for folder, (place, mark) in list(self._laid.items()):
            if mark_below(folder) != mark:
                self._lay(place, folder)

    def _while_ticking(self, step: Callable[[], _T]) -> _T:
        """Do what may take long without giving the lease up meanwhile."""
        with ThreadPoolExecutor(1, thread_name_prefix="aynig-scenarios") as aside:
            under_way = aside.submit(step)
            while True:
                with contextlib.suppress(NotYet):
                    return under_way.result(timeout=_GLANCE)
                if time.monotonic() >= self._control.next_tick:
                    self._control.tick()

    # --- running ---------------------------------------------------------------------------------

    def _result(self) -> str:
        """A commit of the files as they were left: the worker's own last one if it has them all."""
        repo, candidate = self._site.repo, self._candidate
        info = repo.commit(candidate.head)
        if info.tree == candidate.tree:
            return candidate.head
        return repo.write_commit(
            tree=candidate.tree,
            parents=[candidate.head],
            message=f"the result of run {candidate.run}, to be verified",
            not_before=info.time,
        )

    def _run(self, check: _Check, result: str, most: int) -> _Outcome:
        if self._control.stopped:
            return _Outcome(False, self._control.stopped)
        self._lay_anew()
        site, candidate, private = self._site, self._candidate, self._private
        output = private.path / "output"
        fence = self._fence()
        # A worktree that nothing is rescued from: what a check changes there is nobody's work.
        with site.pool.lend(result, candidate.tree, apart_from=candidate.run) as worktree:
            environment = self._environment(check, result, worktree.path)
            job = Job(
                program=check.program,
                argv=check.argv,
                cwd=str(worktree.path),
                env=environment if fence is None else fence.around(environment),
                output=output,
                output_limit=site.settings.output_limit,
                timeout=self._settings.timeout,
                grace=site.settings.grace,
                run=private.run,
            )
            with site.guard.watching(private.run) as blame:
                ended = site.executor.execute(job, self._control)
        if ended.fault:
            raise ConfigError(f"the verification can't start {quote(check.name)}: {ended.fault}")
        if ended.stopped and ended.stopped != "timeout":
            return _Outcome(False, ended.stopped)
        tried = fence.tried() if fence is not None else ()
        self.tried += tried
        blame += [f"it tried to {words}, which was refused" for words in tried]
        passed = ended.succeeded and not blame
        told = "" if passed or self._settings.show != OUTPUT else _last_words(ended, output, most)
        return _Outcome(passed, output="\n".join([*([told] if told else []), *blame]))

    def _fence(self) -> Fence | None:
        """What is under test is the worker's work, and its branch is as little for that to move."""
        site, self._fences = self._site, self._fences + 1
        address = site.mirror.remote.address if site.mirror is not None else None
        folder = self._private.path / f"hooks-{self._fences}"
        return site.guard.fence(folder, HEADS + self._candidate.branch, address)

    def _environment(self, check: _Check, result: str, worktree: Path) -> dict[str, str]:
        site, candidate = self._site, self._candidate
        configured = site.repo.config_value("user.name") and site.repo.config_value("user.email")
        found = plain_environment(
            os.environ, str(worktree.parent), None if configured else site.repo.identity()
        )
        found |= {
            "AYNIG_RESULT": result,
            "AYNIG_STATE": candidate.state,
            "AYNIG_BRANCH": candidate.branch,
            "AYNIG_RUN_ID": self._private.run,
        }
        if self._home in self._laid:
            found["AYNIG_HOME"] = str(self._home)
        if check.folder:
            found["AYNIG_SCENARIO"] = check.folder
        return found


def _find_all(
    site: Site, settings: Verification, trusted: str, private: Path
) -> Iterator[ScenarioTree]:
    """The folders that the sources name; those of other repositories come to a private one."""
    origin = Origin(site.repo, site.clone or site.repo, trusted, site.settings.remote_timeout)
    for number, source in enumerate(settings.scenarios):
        yield find_scenarios(origin, source, private / f"store-{number}")


def _hash_of(site: Site, place: ScenarioTree, *, demanded: bool) -> str:
    """The published hash of a folder of scenarios; ConfigError where it is demanded and missing."""
    digest = commitment_for(site, place.tree)
    if demanded and not digest:
        raise ConfigError(
            f"no published hash is known here for the scenarios of {place.shown}",
            hint="Publish one with `aynig judge commit`, and have the judge's file in "
            f"{secrets_folder()} on this machine.",
        )
    return digest


def _last_words(ended: RunResult, output: Path, most: int) -> str:
    words = ""
    # The program under test could reach the file.
    with contextlib.suppress(OSError):
        words = tail_of(output, max(most, _LEAST_TOLD)).rstrip()
    if ended.stopped == "timeout":
        words += f"\n(timed out after {format_duration(ended.duration)})"
    return words
