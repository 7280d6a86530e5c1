"""The direction of imports, and the few rules about who may do what."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import aynig

PACKAGE = Path(aynig.__file__).parent

# A module imports only from rows before its own; those in one row do not import each other.
ROWS: tuple[tuple[str, ...], ...] = (
    ("workflow",),
    ("errors", "text", "model", "resources", "runs"),
    (
        "addresses", "cycles", "durations", "trailers", "processes", "signatures", "wakesecret",
        "yamlfile",
    ),
    ("configvalues",),
    ("configplaces",),
    ("policyconfig", "usage"),
    ("usagefile", "dialects", "config", "settingkinds", "wakerequest"),
    ("settings",),
    (
        "git.command", "git.disk", "git.indexfile", "git.inert", "git.names", "git.patience",
        "git.reffiles", "git.versions",
    ),
    ("git.unusable",),
    ("git.repo", "git.settingsfile", "git.snapshot", "git.survey", "git.complaints", "git.line"),
    (
        "git.locks", "git.trees", "git.history", "git.shared", "git.address", "git.replay",
        "git.private", "git.merging", "git.authorship", "git.differences",
    ),
    ("git.agreement", "git.fence", "git.refs", "git.worktree"),
    ("git.checkouts", "git.guard", "git.scripts", "git.worktrees", "git.remote", "git.mending"),
    ("git.landings", "git.mirror", "git.scenarios", "git.seclusion"),
    ("git.sharedrefs", "thread", "attempts", "promise", "checklist"),
    ("threads", "scan", "rescue", "records", "account"),
    ("limits", "doorbell", "wakeserver", "watch", "families"),
    (
        "policies.assignment", "policies.breaker", "policies.contention", "policies.dependencies",
        "policies.fallback", "policies.loop", "policies.retries", "policies.setback",
        "policies.verification", "policies.budget", "policies.commitment", "policies.approval",
        "policies.autonomy", "policies.people",
    ),
    ("policies.joining",),
    (
        "policies.kinship", "policies.supervising", "policies.resources", "policies.priority",
        "policies.deadline", "policies.crashes", "plan",
    ),
    ("lease", "presence", "renewal", "sync"),
    ("pulse", "turns", "trail", "reffeed"),
    ("ledger",),
    ("spending", "breakers", "executors", "executors.output"),
    ("executors.subprocess", "executors.summons", "environment", "answer"),
    ("conduct", "iterations", "proposing", "onbranch", "flow"),
    ("flaws", "planfile", "drawing", "elsewhere", "waits", "held"),
    ("upstream",),
    ("site",),
    ("beside", "places", "standing"),
    ("family",),
    ("requests",),
    ("lost",),
    ("approvals",),
    ("rulings",),
    ("facts", "respond", "barred", "beginnings", "commitments"),
    ("verify", "declared", "branchlease", "oversight", "conversation", "fanout", "reopening"),
    ("prompts", "ending", "workplace"),
    ("briefing", "responsefile"),
    ("execution", "stepping", "story"),
    ("reconcile", "notices", "recover"),
    ("underway", "rechecks"),
    ("releasing",),
    ("desk",),
    ("outlook",),
    ("daemon",),
    (
        "costs", "status", "tasks", "githooks", "outputs", "starter", "showcase", "checks",
        "statecommit", "judges", "audit",
    ),
    (
        "fleet", "replies", "submitting", "checks.machine", "checks.repository", "checks.workflow",
        "checks.leftovers",
    ),
    ("checks.remote",),
    ("diagnosis", "cli.output"),
    ("cli.rows", "cli.place"),
    ("cli.work", "cli.submit", "cli.set_state", "cli.declaration"),
    ("cli.said",),
    (
        "cli.init", "cli.run", "cli.daemon", "cli.status", "cli.runners", "cli.log", "cli.logs",
        "cli.retry", "cli.resume", "cli.cancel", "cli.respond", "cli.hooks", "cli.doctor",
        "cli.assign", "cli.reopen", "cli.demo", "cli.set_working", "cli.costs", "cli.child",
        "cli.judge", "cli.audit", "cli.check", "cli.graph", "cli.approve", "cli.reject",
        "cli.answer",
    ),
    ("cli.main",),
    ("__main__",),
)  # fmt: skip

# Empty packages, or with nothing but a docstring.
SHELLS = {"__init__", "cli", "git", "policies"}
# Design section 6, Words.
UNWANTED = ("manager", "helper", "utils", "handler", "processor", "service")


def name_of(path: Path) -> str:
    """`aynig/git/repo.py` as `git.repo`."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
RANK = {name: number for number, row in enumerate(ROWS) for name in row}


def imports(path: Path) -> Iterator[str]:
    """Full names of all that a module imports, also inside of functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(path: Path) -> Iterator[str]:
    """The modules of the package that a module imports."""
    for full in imports(path):
        if full.startswith("aynig."):
            name = full.removeprefix("aynig.")
            while name not in MODULES and "." in name:
                name = name.rpartition(".")[0]
            if name in MODULES:
                yield name


def test_every_module_has_its_row() -> None:
    assert set(MODULES) - SHELLS == set(RANK)


def test_a_shell_holds_no_code() -> None:
    for name in SHELLS - {"__init__"}:
        body = ast.parse(MODULES[name].read_text()).body
        assert all(isinstance(node, ast.Expr) for node in body)


@pytest.mark.parametrize("name", sorted(set(MODULES) - SHELLS))
def test_a_module_imports_only_from_rows_before_its_own(name: str) -> None:
    below = [other for other in own_imports(MODULES[name]) if RANK[other] >= RANK[name]]
    assert not below, f"{name} imports {', '.join(below)}"


@pytest.mark.parametrize(
    ("library", "places"),
    [
        ("pygit2", ("git",)),
        ("click", ("cli",)),
        ("rich", ("cli",)),
        ("watchdog", ("watch",)),
        ("yaml", ("yamlfile",)),
        # `githooks` asks whether the program that a hook will start does start.
        ("subprocess", ("git", "executors", "processes", "githooks")),
    ],
)
def test_a_library_is_imported_in_one_place(library: str, places: tuple[str, ...]) -> None:
    users = {
        name
        for name, path in MODULES.items()
        if any(full.partition(".")[0] == library for full in imports(path))
    }
    assert {name for name in users if name.partition(".")[0] not in places} == set()


def test_only_the_command_line_prints_or_exits() -> None:
    found = [
        f"{name}: {call}"
        for name, path in MODULES.items()
        if not name.startswith("cli")
        for call in calls(path)
        if call in {"print", "exit", "quit", "sys.exit", "os._exit", "sys.stdout.write"}
    ]
    assert found == []


def calls(path: Path) -> Iterator[str]:
    """The names of all functions that a module calls, as they are written."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def test_policies_do_no_input_or_output() -> None:
    for name in (*(name for name in MODULES if name.startswith("policies.")), "plan", "answer"):
        taken = {full.partition(".")[0] for full in imports(MODULES[name])}
        assert taken.isdisjoint({"os", "pathlib", "time", "socket", "subprocess", "shutil"}), name


def test_names_are_from_the_list_of_words() -> None:
    for name, path in MODULES.items():
        defined = [name.rpartition(".")[2]]
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                defined.append(node.name)
        for word in defined:
            assert not any(unwanted in word.lower() for unwanted in UNWANTED), f"{name}: {word}"


def test_answering_needs_neither_libgit2_nor_the_daemon() -> None:
    """`aynig respond` is called by every script: what it imports is what it costs."""
    seen: set[str] = set()
    pending = ["cli.respond", "cli.child", "cli.main"]
    while pending:
        name = pending.pop()
        if name not in seen:
            seen.add(name)
            pending += own_imports(MODULES[name])
    assert not any(name.startswith(("git", "daemon", "site")) for name in seen), seen
