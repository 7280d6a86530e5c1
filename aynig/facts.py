"""Looks up all that a plan depends on; the deciding itself is `plan`'s."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

from aynig.approvals import Trusted
from aynig.config import parse_workflow
from aynig.dialects import by_name
from aynig.errors import AynigError, ConfigError, RepositoryError
from aynig.git.checkouts import BEFORE_A_RUN, find_checkout, obstacle
from aynig.git.mirror import BROKEN_THERE
from aynig.git.repo import Repo
from aynig.lease import lease_name
from aynig.model import (
    HELD_STATES,
    RESCUES,
    Event,
    Hold,
    Lease,
    Script,
    ScriptProblem,
    branch_of,
)
from aynig.plan import Facts
from aynig.policies import assignment, deadline, priority
from aynig.policies.assignment import AssignmentVerdict, Worker
from aynig.rulings import Case, course_of, first_ruling, last_ruling
from aynig.scan import read_event
from aynig.settings import SCRIPTS_OF_BRANCH, Settings
from aynig.site import Site
from aynig.standing import read_standing
from aynig.text import shell_word
from aynig.thread import Thread
from aynig.workflow import Agent, StateSettings, Workflow

# Where the programs of agents lie, in any dialect: beside the file that names them.
COMMANDS_FOLDER = ".aynig"
CONFIG_FILE = ".aynig/config.yaml"


@dataclass(frozen=True, slots=True)
class Grounds:
    """The facts of an event, and what the lease ref pointed at when they were looked up."""

    facts: Facts
    lease_seen: str | None
    # The dead or expired lease that is about to be taken over.
    taken_over: Lease | None


def broken_hold(site: Site, ref: str) -> Hold | None:
    """Why a branch is left alone that the remote can't read, or whose lease it can't."""
    broken = site.mirror.broken if site.mirror is not None else ()
    if not broken:
        return None
    if ref in broken:
        return Hold("broken", BROKEN_THERE)
    if lease_name(ref) in broken:
        return Hold("broken", f"its lease, {lease_name(ref)}: {BROKEN_THERE}")
    return None


def unreadable_hold(site: Site, error: RepositoryError) -> Hold:
    """Objects are missing or broken; those of a remote only in our copy, which can be made anew."""
    if site.mirror is None:
        return Hold("unreadable", error.advice)
    place = str(site.repo.common_dir)
    return Hold(
        "unreadable",
        f"{error}, in our copy of the remote: where no runner of this clone is at work, look for "
        f"work that is nowhere else (git -C {shell_word(place)} for-each-ref {RESCUES}) and remove "
        f"it: rm -r {shell_word(place)}",
    )


def gather(site: Site, event: Event) -> Grounds:
    """Look up everything; ConfigError where the workflow file is wrong."""
    trusted = trusted_tree(site.repo, site.settings, event)
    workflow = read_workflow(site, trusted)
    settings = workflow.of(event.state)
    whose = _ownership(site, event, settings, workflow)
    script = find_script(site, event, whose.role)
    if whose.agent is not None and whose.agent.command and _may_command(event, settings):
        script = find_command(site, trusted, whose.agent)
    record = read_standing(site, event)
    # One that can't be read whole, as in a shallow clone, is known from its tip on.
    thread = site.threads.of(event.origin) or Thread(start=event.origin, began=event.time)
    runnable = isinstance(script, Script)
    case = Case(
        event,
        settings,
        workflow,
        thread,
        record.past,
        site.leases.now(),
        trusted_at(site, event),
        standing=record.lease,
        runnable=runnable,
        tree=trusted,
    )
    facts = Facts(
        script=script,
        settings=settings,
        role=whose.role,
        lease=record.live,
        deferral=record.deferral,
        attempts=record.tried,
        answered_by=answered_by(site, event),
        owner=owner(site, event),
        assignment=whose.verdict,
        agent=whose.agent,
        obstacle=_obstacle(site, event, script),
        default_timeout=site.settings.timeout,
        now=case.now,
        past=record.past,
        spent=record.spent,
        workflow=workflow,
        trusted=trusted,
        thread=thread,
        deadline=deadline.end_of(course_of(site, settings, thread)) if case.goes_on else None,
        first=first_ruling(site, case) if record.live is None else None,
        last=last_ruling(site, case) if record.live is None and runnable else None,
    )
    return Grounds(facts, record.seen, record.lease if record.live is None else None)


@dataclass(frozen=True, slots=True)
class _Ownership:
    """Whose a task is, and whether this runner takes it."""

    agent: Agent | None
    role: str
    verdict: AssignmentVerdict


def _ownership(site: Site, event: Event, settings: StateSettings, workflow: Workflow) -> _Ownership:
    name = assignment.owner_of(event.statement.values("assigned-to"), settings.agent or "")
    agent = workflow.agent(name)
    wanted = settings.role or (agent.role if agent is not None else None) or ""
    role = _role(site, event, wanted)
    return _Ownership(agent, role, _assignment(site, event, wanted, role, name, agent))


# --- trust -----------------------------------------------------------------------------------


def trusted_tree(repo: Repo, settings: Settings, event: Event) -> str:
    """The tree that scripts and workflow settings of an event come from (design 3, Trust).

    In a clone with a working tree that is the triggering commit's own: the branches are the
    user's. In a bare repository it is that of the default branch. `aynig.scripts` names another
    ref, or `branch` for the triggering commit's own. Raises ConfigError where the ref is missing.
    """
    wanted = trusted_name(repo, settings)
    if not wanted:
        return event.tree
    oid = trusted_commit(repo, settings)
    if oid is None:
        raise ConfigError(
            f"scripts come from {wanted}, which does not exist",
            hint="Push that branch, or name another with `git config aynig.scripts`.",
        )
    return repo.commit(oid).tree


def trusted_at(site: Site, event: Event) -> Trusted:
    """What counted for an earlier commit of a task."""
    return functools.partial(_trusted, site, event)


def _trusted(site: Site, event: Event, tree: str) -> tuple[str, Workflow]:
    """The same for an earlier commit of the task, which has this tree; and the workflow in it."""
    found = trusted_tree(site.repo, site.settings, replace(event, tree=tree))
    return found, read_workflow(site, found)


def trusted_commit(repo: Repo, settings: Settings) -> str | None:
    """Where the ref that scripts come from points now; None without one, or where it is missing."""
    wanted = trusted_name(repo, settings)
    if not wanted:
        return None
    return repo.read_ref(wanted) if wanted.startswith("refs/") else repo.resolve(wanted)


def trusted_name(repo: Repo, settings: Settings) -> str:
    """What names the commit that scripts come from; empty where each task brings its own."""
    wanted = settings.scripts
    if wanted == SCRIPTS_OF_BRANCH or (not wanted and not repo.bare):
        return ""
    return wanted or repo.head_ref() or "HEAD"


def read_workflow(site: Site, tree: str) -> Workflow:
    """The workflow of a tree; the empty one where it has no config file. Raises ConfigError."""
    entry = site.repo.entry(tree, CONFIG_FILE)
    if entry is None:
        return Workflow()
    mode, oid = entry
    if mode not in (0o100644, 0o100755):
        raise ConfigError(f"{CONFIG_FILE} is no file", hint="Make it one, and commit it.")
    return _workflows.parsed(site.repo, oid)


def level_of(site: Site, ref: str, oid: str) -> int:
    """The priority of a task at a commit; the normal one where nothing can be read of it."""
    try:
        event = read_event(site.repo, ref, oid, site.read)
        if event is None or event.statement.fault:
            return priority.NORMAL
        thread = site.threads.of(event.oid)
        workflow = read_workflow(site, trusted_tree(site.repo, site.settings, event))
    except AynigError:
        return priority.NORMAL
    own = thread.priority if thread is not None else None
    return priority.level_of(own, workflow.of(event.state).priority)


def deadline_of(site: Site, event: Event) -> float | None:
    """When the time of a whole task is up; None: never, or it can't be read."""
    try:
        thread = site.threads.of(event.origin)
        workflow = read_workflow(site, trusted_tree(site.repo, site.settings, event))
    except AynigError:
        return None
    if thread is None:
        return None
    return deadline.end_of(course_of(site, workflow.of(event.state), thread))


class _Workflows:
    """Parsed once per blob: the file seldom changes, and parsing costs a millisecond or two."""

    def __init__(self) -> None:
        self._known: dict[str, Workflow] = {}

    def parsed(self, repo: Repo, oid: str) -> Workflow:
        workflow = self._known.get(oid)
        if workflow is None:
            workflow = parse_workflow(repo.blob(oid), where=CONFIG_FILE)
            self._known[oid] = workflow
        return workflow


_workflows = _Workflows()


def _role(site: Site, event: Event, wanted: str) -> str:
    """The role in whose folder the script is looked for first: the workflow's, or the runner's.

    Of several that a runner has, the first with a script of its own for the state.
    """
    roles = site.settings.roles
    if wanted or len(roles) < 2:
        return wanted or "".join(roles)
    return next((role for role in roles if _has_script_of_role(site, event, role)), roles[0])


def _has_script_of_role(site: Site, event: Event, role: str) -> bool:
    found = find_script(site, event, role)
    return isinstance(found, Script) and f"/{role}/" in f"/{found.path}"


def _assignment(
    site: Site, event: Event, wanted: str, role: str, whose: str, agent: Agent | None
) -> AssignmentVerdict:
    worker = Worker(site.settings.agent, site.settings.roles, picky=site.mirror is not None)
    own = role if worker.roles and _has_script_of_role(site, event, role) else ""
    agent_role = agent.role if agent is not None else None
    return assignment.judge(worker, whose, wanted, own, agent_role or "")


def _may_command(event: Event, settings: StateSettings) -> bool:
    """May the program of its owner run for a state? Not where that waits for a person, unless the
    workflow says so: whoever assigns a task does not decide that."""
    return event.state not in HELD_STATES or settings.agent is not None


def find_command(site: Site, tree: str, agent: Agent) -> Script | ScriptProblem:
    """The program that an agent has in the place of scripts of states, with its arguments."""
    path, *rest = agent.command
    # No state is called so: nothing that ships is taken for it.
    found = site.shelf.find(tree, COMMANDS_FOLDER, (path,), state="")
    return replace(found, argv=tuple(rest)) if isinstance(found, Script) else found


def find_script(site: Site, event: Event, role: str) -> Script | ScriptProblem:
    """The script for an event, or why there is none; with a hint where it was not committed."""
    tree = trusted_tree(site.repo, site.settings, event)
    dialect = by_name(event.statement.dialect)
    paths = dialect.scripts(event.state, role)
    folder = paths[0].partition("/")[0]
    names = tuple(path.partition("/")[2] for path in paths)
    found = site.shelf.find(tree, folder, names, event.state)
    if isinstance(found, ScriptProblem) and found.word == "missing-script":
        where = branch_of(trusted_name(site.repo, site.settings))
        source = f" on {where} (scripts come from there)" if where else ""
        hint = _uncommitted(site.repo, paths, where)
        return ScriptProblem(found.word, found.detail + source + hint)
    shipped = isinstance(found, Script) and found.home == site.shelf.shipped_home
    if shipped and event.state in HELD_STATES:
        # A state that waits for a person is not run by a script that merely ships with aynig.
        return ScriptProblem("missing-script", "no script of this repository's own")
    return found


def _uncommitted(repo: Repo, paths: tuple[str, ...], where: str) -> str:
    """`where` is the branch that scripts come from; empty for the task's own commit."""
    place, mend = f"on {where}", f"commit it on {where}"
    if not where:
        # On another branch it may be committed already: that helps only new tasks.
        place, mend = "in this commit", "commit it on this branch, with the state"
    for path in paths:
        if repo.work_tree is not None and (repo.work_tree / path).exists():
            return f"; {path} is in the working tree, but not {place}: {mend}"
    return ""


# --- one commit is dispatched once -------------------------------------------------------------


def answered_by(site: Site, event: Event) -> str | None:
    """The commit that answers this one already, on any branch (design section 1.2)."""
    lease = site.repo.read_ref(lease_name(event.ref))
    return site.answers.answer_to(event.oid, event.time, lease)


def owner(site: Site, event: Event) -> str | None:
    """Of several branches at the same commit, the one that it is dispatched on.

    The one with a live lease; else the one that the commit was written to as an answer; else the
    first by name: every runner comes to the same one.
    """
    sharing = site.scan.sharing(event.oid)
    if len(sharing) < 2:
        return None
    written = []
    for ref in sorted(sharing):
        standing = site.leases.read(ref)
        if isinstance(standing, Lease) and site.leases.is_live(standing, event.oid):
            return ref
        if standing == event.oid and site.scan.wanted(ref):
            written.append(ref)
    # Who goes first is settled among those that this runner works on; the lease settles the rest.
    return written[0] if written else min(filter(site.scan.wanted, sharing), default=event.ref)


# --- working trees ---------------------------------------------------------------------------


def _obstacle(site: Site, event: Event, script: Script | ScriptProblem) -> str:
    """Looked up only where there is something to run: it costs a git status."""
    if isinstance(script, ScriptProblem):
        return ""
    checkout = find_checkout(site.repo, event.ref)
    return obstacle(checkout, BEFORE_A_RUN) if checkout is not None else ""
