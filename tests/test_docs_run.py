"""The examples of the documents work as they are written: each is taken from its page and run.

Places that every machine has its own of (`~`, `/srv`) lie in the sandbox; nothing else of an
example is changed. What can't be run here is named in NOT_RUN, with the reason.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from aynig.config import parse_workflow
from aynig.model import ENDED_STATES, HELD_STATES
from aynig.planfile import parse_plan
from aynig.workflow import Limits
from tests.keys import Key
from tests.stage import daemon
from tests.test_docs import PAGES, ROOT, page
from tests.world import GitRepo, wait_for

# (page, number of the block in it) -> why it is not run here.
NOT_RUN = {
    ("CONTRIBUTING.md", 0): "clones and tests the checkout",
    ("README.md", 0): "builds and tests the checkout",
    ("README.md", 1): "what the demonstration prints: tests/test_docs.py",
    ("README.md", 2): "what the demonstration prints",
    ("README.md", 3): "installs from the network",
    ("docs/architecture.md", 0): "a picture",
    ("docs/dwp.md", 0): "what a history looks like: tests/test_branchlease.py",
    ("docs/fleet.md", 3): "rules of gitolite: tests/test_refusals.py",
    ("docs/limits.md", 1): "what status says: tests/policies/test_resources.py",
    ("docs/limits.md", 6): "needs a pause of half an hour: tests/test_breakers.py",
    ("docs/one-shot.md", 1): "a line of a crontab",
    ("docs/one-shot.md", 2): "a line of a crontab",
    ("docs/operating.md", 0): "a unit of systemd",
    ("docs/operating.md", 1): "needs systemd",
    ("docs/protocol.md", 0): "a message",
    ("docs/verification.md", 0): "settings, of scenarios that are not there: tests/test_verify.py",
    ("docs/verification.md", 1): "what a judge types: tests/cli/test_judge.py",
    ("docs/verification.md", 2): "what a judge types: tests/cli/test_judge.py",
    ("docs/verification.md", 3): "what an auditor sees: tests/cli/test_judge.py",
    ("docs/workflow.md", 2): "settings of pre-commit, which installs from the network",
    ("docs/wake.md", 2): "settings of nginx, which need its certificates",
    ("examples/github-actions/README.md", 0): "a picture",
    ("examples/github-actions/README.md", 1): "tests/examples",
    ("examples/github-actions/README.md", 2): "tests/examples",
    ("examples/github-actions/README.md", 3): "pushes to a forge: tests/examples",
    ("examples/github-actions/README.md", 4): "a job of GitLab's",
    ("docs/protocol.md", 2): "a message",
    ("docs/protocol.md", 3): "a message",
    ("examples/parallel-checks/README.md", 0): "tests/examples",
    ("examples/parallel-checks/README.md", 1): "tests/examples",
    ("examples/review-loop/README.md", 0): "a picture",
    ("examples/review-loop/README.md", 1): "tests/examples",
    ("examples/review-loop/README.md", 2): "tests/examples",
    ("examples/parallel-aggregate/README.md", 0): "a picture",
    ("examples/parallel-aggregate/README.md", 1): "tests/examples",
    ("examples/parallel-aggregate/README.md", 2): "a picture: tests/examples",
    ("examples/parallel-aggregate/README.md", 3): "tests/examples",
    ("examples/parallel-aggregate/README.md", 4): "a picture: tests/examples",
    ("examples/hierarchical/README.md", 0): "a picture: tests/examples",
    ("examples/hierarchical/README.md", 1): "tests/examples",
    ("examples/hierarchical/README.md", 2): "a picture: tests/examples",
    ("examples/event-driven-docs/README.md", 0): "a picture: tests/examples",
    ("examples/event-driven-docs/README.md", 1): "tests/examples",
    ("examples/event-driven-docs/README.md", 2): "a picture: tests/examples",
    ("examples/ralph-loop/README.md", 0): "tests/examples",
    ("examples/ralph-loop/README.md", 1): "a picture: tests/examples",
    ("examples/ralph-loop/README.md", 2): "tests/examples",
    ("examples/sequential-pipeline/README.md", 0): "tests/examples",
    ("examples/sequential-pipeline/README.md", 1): "a picture: tests/examples",
    ("examples/data-pipeline/README.md", 0): "tests/examples",
    ("examples/data-pipeline/README.md", 1): "a picture: tests/examples",
    ("examples/data-pipeline/README.md", 2): "a picture: tests/examples",
    ("examples/human-approval/README.md", 0): "tests/examples",
    ("examples/human-approval/README.md", 1): "a picture: tests/examples",
    ("examples/human-approval/README.md", 2): "a picture: tests/examples",
    ("examples/human-approval/README.md", 3): "a picture: tests/examples",
    ("examples/human-approval/README.md", 4): "a picture: tests/examples",
    ("examples/two-agents-talking/README.md", 0): "tests/examples",
    ("examples/two-agents-talking/README.md", 1): "tests/examples",
    ("examples/two-agents-talking/README.md", 2): "tests/examples",
    ("examples/two-agents-talking/README.md", 3): "tests/examples",
    ("examples/two-agents-talking/README.md", 4): "tests/examples",
    ("examples/two-agents-talking/README.md", 5): "tests/examples",
    ("examples/worker-and-judge/README.md", 0): "tests/examples",
    ("examples/worker-and-judge/README.md", 1): "a picture: tests/examples",
    ("examples/worker-and-judge/README.md", 2): "what an auditor sees: tests/examples",
}

_FENCED = re.compile(r"^```[a-z]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?<=\n\n)(?: {4}.*\n|\n(?= {4}))+")


def blocks(name: str) -> list[str]:
    """The blocks of code of a page, in order."""
    text = page(name)
    fenced = list(_FENCED.finditer(text))
    # Within a fence, an indented line is no block of its own.
    outside = "".join(
        character if not any(one.start() <= at < one.end() for one in fenced) else "x"
        for at, character in enumerate(text)
    )
    found = [(one.start(), one[1]) for one in fenced]
    found += [
        (one.start(), re.sub("^    ", "", one[0], flags=re.MULTILINE))
        for one in _INDENTED.finditer(outside)
    ]
    return [block for _, block in sorted(found)]


@dataclass(frozen=True)
class Shell:
    """A POSIX shell in which `aynig` is on the PATH and git knows who commits."""

    home: Path

    def run(self, text: str, cwd: Path, **env: str) -> str:
        """Run a block of a page to its end; what it prints on standard output."""
        done = subprocess.run(
            ["sh", "-e", "-c", self.placed(text)],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(ROOT), **env},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def placed(self, text: str) -> str:
        return text.replace("server:/srv/", "/srv/").replace("/srv/", f"{self.home}/srv/")


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    home, programs = tmp_path / "home", tmp_path / "programs"
    for folder in (home / "srv/git", home / "work", programs):
        folder.mkdir(parents=True)
    program = programs / "aynig"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m aynig "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return Shell(home)


def scripts(repo: GitRepo, config: str = "", **texts: str) -> None:
    """A commit on main with the scripts of states, and the workflow."""
    files: dict[str, str | bytes | None] = {
        f".aynig/{state.replace('_', '-')}": f"#!/bin/sh\n{text}\n" for state, text in texts.items()
    }
    repo.commit("scripts", files={**files, ".aynig/config.yaml": config})
    repo.sync()


def asked(repo: GitRepo, message: str, branch: str) -> None:
    """A person's commit, without files, that asks for something on a new branch."""
    repo.git("branch", "--force", branch, repo.commit(message, parent=repo.tip(), update=False))


def line_of(repo: GitRepo, branch: str) -> list[str]:
    """The subjects on a branch since main, newest first, as the pages show them."""
    told = repo.git("log", "--first-parent", "--format=* %s", f"main..{branch}")
    return told.splitlines()


def test_each_block_is_run_here_or_it_is_said_why_not() -> None:
    source = Path(__file__).read_text()
    for path in PAGES:
        name = str(path.relative_to(ROOT))
        taken = {
            int(number) for number in re.findall(rf'blocks\("{re.escape(name)}"\)\[(\d+)\]', source)
        }
        named = {number for place, number in NOT_RUN if place == name}
        assert taken | named == set(range(len(blocks(name)))), name
        assert not taken & named, name


# --- README.md -------------------------------------------------------------------------------


def anonymous(history: str) -> list[str]:
    """Lines of `git log --oneline` without oids and names of branches."""
    return [re.sub(r"^[0-9a-f]{7} (\(\S+\) )?", "", line) for line in history.splitlines()]


def test_the_first_state_of_the_readme(shell: Shell, tmp_path: Path) -> None:
    shell.run("git init --quiet trial", tmp_path)
    trial = tmp_path / "trial"
    said = shell.run(blocks("README.md")[4], trial)
    shown = anonymous(blocks("README.md")[5])
    assert anonymous("\n".join(said.splitlines()[-3:])) == shown
    shell.run(blocks("README.md")[6], trial)
    assert GitRepo(trial).message("HEAD").startswith(shown[0])
    assert (trial / "words.txt").read_text().split() == ["5"]


# --- docs/workflow.md ------------------------------------------------------------------------


@pytest.fixture
def declared(shell: Shell, repo: GitRepo) -> GitRepo:
    """The example of the page, with the scripts that it needs."""
    folder = repo.path / ".aynig"
    (folder / "agents").mkdir(parents=True)
    (folder / "config.yaml").write_text(blocks("docs/workflow.md")[0])
    for name in ("submitted", "build", "review", "deploy", "roll-back", "agents/coder"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    return repo


def test_the_workflow_of_the_page_is_right_and_drawn_as_shown(
    shell: Shell, declared: GitRepo
) -> None:
    assert shell.run("aynig check --strict", declared.path).endswith("is right: 4 states.\n")
    assert shell.run("aynig graph", declared.path) == blocks("docs/workflow.md")[3]


def test_the_hook_of_the_page_refuses_a_wrong_workflow(shell: Shell, declared: GitRepo) -> None:
    (declared.path / ".git/hooks").mkdir(exist_ok=True)
    shell.run(blocks("docs/workflow.md")[1], declared.path)
    commit = "git add .aynig && git commit --quiet -m x"
    (declared.path / ".aynig/review").unlink()
    refused = shell.run(f"{commit} 2>&1 || echo refused", declared.path)
    assert "the state review has no script" in refused
    assert refused.endswith("refused\n")
    (declared.path / ".aynig/config.yaml").write_text("states: {deploy: {}}\n")
    assert shell.run(f"{commit} && echo taken", declared.path).endswith("taken\n")


@pytest.mark.parametrize(
    "begin",
    [
        blocks("docs/workflow.md")[4],
        "cat >plan.yaml <<'.'\n"
        + blocks("docs/workflow.md")[5]
        + ".\naynig submit --file plan.yaml",
    ],
    ids=["one by one", "as a plan"],
)
def test_a_task_after_another(shell: Shell, repo: GitRepo, begin: str) -> None:
    scripts(repo, build=": >built", deploy="git cat-file -e task/build:built")
    shell.run(begin, repo.path)
    assert "for task/build" in shell.run("aynig status", repo.path)
    shell.run("aynig run", repo.path)
    assert [repo.state(f"task/{name}") for name in ("build", "deploy")] == ["done", "done"]


# --- docs/states.md --------------------------------------------------------------------------


@pytest.fixture
def written(shell: Shell, repo: GitRepo) -> GitRepo:
    """A repository with the two scripts of the page, each under the name that the page gives."""
    folder = repo.path / ".aynig"
    folder.mkdir()
    (folder / "shout").write_text(blocks("docs/states.md")[1])
    (folder / "review-needed").write_text(blocks("docs/states.md")[2])
    shell.run(blocks("docs/states.md")[3], repo.path)
    return repo


def test_the_scripts_of_the_page_hand_on_to_each_other_and_end(written: GitRepo) -> None:
    line = written.git("log", "--first-parent", "--format=%s", "main..task/loud")
    assert line.splitlines() == [
        "review-needed -> done: 3 loud words",
        "shout -> review-needed: made it louder",
        "shout: Three little words",
    ]
    assert written.git("show", "task/loud:loud.txt") == "THREE LITTLE WORDS"


def test_the_page_shows_where_its_scripts_lie(written: GitRepo) -> None:
    shown = {line.split()[0] for line in blocks("docs/states.md")[0].splitlines() if line.strip()}
    listed = written.git("ls-tree", "-r", "--name-only", "main", ".aynig/").splitlines()
    assert {path.removeprefix(".aynig/") for path in listed} <= shown


def test_a_script_is_tried_out_by_hand_and_then_for_real(shell: Shell, written: GitRepo) -> None:
    said = shell.run(blocks("docs/states.md")[7], written.path)
    assert "exit 0\nmade it louder\n\naynig: review-needed\n" in said
    said = shell.run(blocks("docs/states.md")[8], written.path)
    assert "3 loud words" in said
    assert written.tip("try/one") == ""


@pytest.mark.parametrize(("status", "state"), [(0, "done"), (7, "go")])
def test_the_script_that_asks_for_a_later_retry(
    shell: Shell, repo: GitRepo, tmp_path: Path, status: int, state: str
) -> None:
    # No network here: a curl that succeeds, and one that can't connect.
    curl = tmp_path / "programs" / "curl"
    curl.write_text(f"#!/bin/sh\n: >data.json\nexit {status}\n")
    curl.chmod(0o755)
    files: dict[str, str | bytes | None] = {".aynig/go": blocks("docs/states.md")[4]}
    repo.commit("x\n\naynig: go\n", branch="task", parent=repo.tip(), files=files)
    shell.run("aynig run --quiet", repo.path)
    assert repo.state("task") == state
    held = shell.run("aynig status", repo.path)
    assert ("waiting" in held and "example.org does not answer" in held) is (state == "go")


def test_the_script_that_sends_work_back(shell: Shell, repo: GitRepo) -> None:
    again = 'test -z "$AYNIG_TRAILER_VALIDATION_ERRORS" && exit\necho all >orders.csv\n'
    check = "git cat-file -e orders/transform:orders.csv && exit\n" + blocks("docs/states.md")[5]
    files = {".aynig/transform": f"#!/bin/sh\n{again}", ".aynig/check": f"#!/bin/sh\n{check}"}
    repo.commit("scripts", files=files)
    repo.sync()
    shell.run(
        "aynig submit transform -b orders/transform && aynig submit check -b check"
        " --after orders/transform && aynig run",
        repo.path,
    )
    assert [repo.state(name) for name in ("orders/transform", "check")] == ["done", "done"]
    assert repo.git("show", "orders/transform:orders.csv") == "all"
    assert "validation-errors: 2 orders are missing" in repo.git("log", "orders/transform")


@pytest.mark.parametrize(
    ("line", "state"),
    [
        ('echo "aynig: approved" >>"$AYNIG_RESPONSE"', "approved"),
        ('aynig respond approved -m "2 findings fixed" --meta coverage=91', "approved"),
    ],
)
def test_the_ways_to_answer(shell: Shell, repo: GitRepo, line: str, state: str) -> None:
    assert f"`{line}`" in page("docs/states.md")
    files: dict[str, str | bytes | None] = {".aynig/go": f"#!/bin/sh\n{line}\n"}
    repo.commit("x\n\naynig: go\n", branch="task", parent=repo.tip(), files=files)
    shell.run("aynig run --quiet", repo.path)
    assert repo.state("task") == state


def test_the_workflows_that_are_shown_can_be_read() -> None:
    ours = parse_workflow(blocks("docs/states.md")[6].encode(), where="states.md")
    named = {name for name, _ in ours.states} | {
        state for _, one in ours.states for state in (one.next, one.on_failure) if state
    }
    assert named <= {"shout", "review-needed"} | ENDED_STATES | HELD_STATES
    assert parse_workflow(blocks("docs/protocol.md")[1].encode(), where="protocol.md").states


# --- docs/local-daemon.md --------------------------------------------------------------------


def test_a_local_daemon(shell: Shell) -> None:
    for name in ("api", "web"):
        GitRepo.init(shell.home / "work" / name)
    api = GitRepo(shell.home / "work/api")
    *begin, last = blocks("docs/local-daemon.md")[0].strip().splitlines()
    assert last == "aynig daemon"
    shell.run("\n".join(begin), shell.home)
    with daemon(api.path):
        shell.run(blocks("docs/local-daemon.md")[1], api.path)
        shell.run(blocks("docs/local-daemon.md")[2], api.path)
        wait_for(lambda: api.state("main") == "done", what="the answer on main")
        shell.run(blocks("docs/local-daemon.md")[4], api.path)
        wait_for(lambda: api.state("task/a-first-task") == "done", what="the answer")
    for line in blocks("docs/local-daemon.md")[3].strip().splitlines():
        words = line.replace("~", str(shell.home)).replace("'", "").split()
        assert words[:2] == ["aynig", "daemon"]
        with daemon(api.path, *words[2:]) as started:
            assert started.process.poll() is None


# --- docs/one-shot.md ------------------------------------------------------------------------


@pytest.fixture
def origin(shell: Shell, repo: GitRepo) -> GitRepo:
    """A remote with a task, and `project` beside it, a clone with its default branch only."""
    repo.commit("scripts", files={".aynig/go": "#!/bin/sh\n"})
    repo.commit("x\n\naynig: go\n", branch="task/one", parent=repo.tip())
    shell.run("git clone --quiet --single-branch . ../project", repo.path)
    return repo


def test_one_shot(shell: Shell, origin: GitRepo) -> None:
    project = origin.path.parent / "project"
    shell.run("git fetch --quiet origin task/one:task/one", project)
    shell.run("git clone --quiet --bare ../repo ../backup.git", project)
    shell.run("git remote add backup ../backup.git", project)
    shell.run(blocks("docs/one-shot.md")[0], project)
    backup = GitRepo(project.parent / "backup.git")
    for repo in (GitRepo(project), origin, backup):
        assert repo.state("task/one") == "done"


def test_one_shot_in_ci(shell: Shell, origin: GitRepo) -> None:
    project = origin.path.parent / "project"
    steps = re.findall(r"^  - run: (.*)$", blocks("docs/one-shot.md")[3], re.MULTILINE)
    assert steps.pop(0) == "pip install aynig"
    for step in steps:
        shell.run(step, project)
    assert origin.state("task/one") == "done"


# --- docs/operating.md -----------------------------------------------------------------------


def test_hooks_are_installed_and_taken_out(shell: Shell, repo: GitRepo, bare: GitRepo) -> None:
    lines = blocks("docs/operating.md")[2].strip().splitlines()
    for line in lines:
        shell.run(line, bare.path if "--server" in line else repo.path)
    assert not list((repo.git_dir / "hooks").glob("post-commit*"))
    assert (bare.path / "hooks/post-receive").exists()


def test_rescued_work_is_got_back(shell: Shell, repo: GitRepo) -> None:
    files: dict[str, str | bytes | None] = {".aynig/go": "#!/bin/sh\necho work >it\nexit 1\n"}
    repo.commit("x\n\naynig: go\n", branch="task", parent=repo.tip(), files=files)
    shell.run("aynig run --quiet || true", repo.path)
    repo.git("checkout", "--quiet", "task")
    run = repo.fields("HEAD")["run"]
    shell.run(blocks("docs/operating.md")[3].replace("RUN", run), repo.path)
    assert (repo.path / "it").read_text() == "work\n"
    assert repo.git("for-each-ref", "refs/aynig/rescue") == ""


# --- docs/post-receive.md --------------------------------------------------------------------


def test_a_server_with_the_hook(shell: Shell, tmp_path: Path) -> None:
    shell.run(blocks("docs/post-receive.md")[0], tmp_path)
    server = GitRepo(shell.home / "srv/git/project.git", bare=True)
    *before, last = blocks("docs/post-receive.md")[1].strip().splitlines()
    assert last.startswith("git pull --ff-only ")
    with daemon(tmp_path, *shell.placed(blocks("docs/post-receive.md")[3]).split()[2:]):
        shell.run("\n".join(before), tmp_path)
        wait_for(lambda: server.state("task/hello") == "done", what="the answer")
    shell.run(last, tmp_path / "project")
    assert GitRepo(tmp_path / "project").state("task/hello") == "done"


def test_the_settings_of_a_server(shell: Shell, bare: GitRepo) -> None:
    bare.git("branch", "trusted")
    shell.run(blocks("docs/post-receive.md")[2], bare.path)
    shell.run(blocks("docs/post-receive.md")[4], bare.path)
    assert "task/*" in bare.git("config", "aynig.branch")
    shell.run("aynig run && aynig doctor", bare.path)


# --- docs/fleet.md ---------------------------------------------------------------------------


def test_a_first_fleet(shell: Shell, tmp_path: Path) -> None:
    server = GitRepo.init(shell.home / "srv/git/project.git", bare=True, empty=True)
    shell.run("git clone --quiet server:/srv/git/project.git alice", tmp_path)
    alice = tmp_path / "alice"
    shell.run(
        "aynig init && git add . && git commit -m workflow && git push origin HEAD:main", alice
    )
    shell.run(blocks("docs/fleet.md")[0], alice)
    *before, last = blocks("docs/fleet.md")[1].strip().splitlines()
    assert last == "aynig daemon --remote origin"
    shell.run("\n".join(before), tmp_path)
    with daemon(tmp_path / "runner", *last.split()[2:]):
        task = "task/a-first-task"
        wait_for(lambda: server.state(task) == "done", what="the answer")
    with daemon(tmp_path / "runner", *blocks("docs/fleet.md")[2].split()[2:]) as picky:
        assert picky.of("problem") == []


# --- docs/wake.md ----------------------------------------------------------------------------


@pytest.mark.skipif(not shutil.which("curl"), reason="the page has a line with curl")
def test_a_daemon_that_a_forge_may_wake(shell: Shell, repo: GitRepo) -> None:
    *before, last = blocks("docs/wake.md")[0].strip().splitlines()
    assert last == "aynig daemon"
    shell.run("\n".join(before), repo.path)
    # The port of the page may be taken here.
    assert "aynig.wakeListen 8737" in before[-1]
    with daemon(repo.path, "--wake-listen", "0") as found:
        url = found.of("listening")[0]["detail"].split()[0]
        line = blocks("docs/wake.md")[1].replace("http://127.0.0.1:8737/wake", url)
        assert shell.run(line, repo.path) == "looking again\n"
        assert found.of("problem") == []


# --- docs/dwp.md -----------------------------------------------------------------------------


def test_the_commands_for_scripts_in_dwp(shell: Shell, repo: GitRepo) -> None:
    repo.commit("Files", files={"notes.md": "What was found\n"})
    repo.sync()
    shell.run(blocks("docs/dwp.md")[1], repo.path)
    assert repo.message("main^").startswith("Ready\n\nWhat was found\n\ndwp-state: review\n")
    found = dict(repo.trailers("main"))
    assert (found["dwp-origin-state"], found["dwp-lease-seconds"]) == ("review", "900")


# --- docs/dependencies.md --------------------------------------------------------------------


@pytest.fixture
def reporting(shell: Shell, repo: GitRepo) -> GitRepo:
    """The scripts of the page: the numbers are right only when they were sent back."""
    fetch = '#!/bin/sh\necho "${AYNIG_TRAILER_VALIDATION_ERRORS:+total}" >may.txt\n'
    files = {".aynig/fetch": fetch, ".aynig/report": blocks("docs/dependencies.md")[2]}
    repo.commit("scripts", files=files)
    repo.sync()
    return repo


def test_a_task_that_waits_for_another_and_sends_it_back(shell: Shell, reporting: GitRepo) -> None:
    said = shell.run(blocks("docs/dependencies.md")[0], reporting.path)
    assert "for numbers to be done" in said
    shell.run("aynig run", reporting.path)
    assert [reporting.state(name) for name in ("numbers", "report")] == ["done", "done"]
    assert reporting.git("show", "numbers:may.txt") == "total"
    shell.run('aynig reopen numbers -m "the total is missing"', reporting.path)
    assert reporting.state("numbers") == "fetch"


def test_the_plan_of_the_page_and_its_agents(shell: Shell, reporting: GitRepo) -> None:
    (reporting.path / "plan.yaml").write_text(blocks("docs/dependencies.md")[1])
    shell.run("aynig submit --file plan.yaml && aynig run", reporting.path)
    assert [reporting.state(name) for name in ("numbers", "report")] == ["done", "done"]
    ours = parse_workflow(blocks("docs/dependencies.md")[3].encode(), where="x")
    agent = ours.agent("coder")
    assert agent is not None
    assert agent.command == ("agents/coder", "--fast")


# --- docs/fan-out.md -------------------------------------------------------------------------


def test_the_example_of_fan_out_comes_together(shell: Shell, repo: GitRepo) -> None:
    config, split = blocks("docs/fan-out.md")[0], blocks("docs/fan-out.md")[1]
    work = '#!/bin/sh\necho x >"$AYNIG_BRANCH"\n'
    scripts = {"split": split, "review": work, "sum-up": work, "collect": work}
    files = {f".aynig/{name}": text for name, text in scripts.items()}
    repo.commit("scripts", files={".aynig/config.yaml": config, **files})
    repo.sync()
    shell.run("aynig submit split -b task && aynig run", repo.path)
    assert repo.state("task") == "done"
    assert "it is in" in shell.run(blocks("docs/fan-out.md")[3], repo.path)
    names = [task.name for task in parse_plan(blocks("docs/fan-out.md")[2], "plan").tasks]
    assert names == ["api", "report"]
    assert parse_workflow(blocks("docs/fan-out.md")[4].encode(), where="x").of("watch").on_child


# --- docs/approvals.md -----------------------------------------------------------------------

GRACE = {
    "GIT_AUTHOR_NAME": "Grace",
    "GIT_AUTHOR_EMAIL": "grace@example.org",
    "GIT_COMMITTER_NAME": "Grace",
    "GIT_COMMITTER_EMAIL": "grace@example.org",
}


@pytest.fixture
def risky(shell: Shell, repo: GitRepo) -> GitRepo:
    """The first workflow of the page, with scripts."""
    config = blocks("docs/approvals.md")[0]
    build = 'echo login >form\necho "login form" >"$AYNIG_RESPONSE"'
    scripts(repo, config, build=build, lint=":", review=":", deploy=":", release=":", rework=":")
    assert "is right: 4 states" in shell.run("aynig check", repo.path)
    return repo


def test_what_is_asked_and_what_follows_are_in_the_history(shell: Shell, risky: GitRepo) -> None:
    asked(risky, "Version 1.4\n\naynig: deploy\n", "task/version")
    asked(risky, "Build the login form\n\naynig: build\n", "task/form")
    shell.run("aynig run", risky.path)
    assert "+login" in risky.message("task/form")
    assert risky.fields("task/form")["proposes"] == "review"
    shell.run("aynig approve task/version -m 'Looks good'", risky.path, **GRACE)
    shell.run("aynig approve task/form", risky.path, **GRACE)
    shell.run("aynig run", risky.path)
    shown = blocks("docs/approvals.md")[1].splitlines()
    assert line_of(risky, "task/version") == shown
    shown = blocks("docs/approvals.md")[2].splitlines()
    assert line_of(risky, "task/form")[1:] == shown


def test_the_ways_to_reply(shell: Shell, risky: GitRepo) -> None:
    status, *replies = blocks("docs/approvals.md")[3].strip().splitlines()
    ends = ("done", "failed", "awaiting-approval")
    assert len(replies) == len(ends)
    for reply, end in zip(replies, ends, strict=True):
        asked(risky, "Log in\n\naynig: deploy\n", "task/login")
        shell.run("aynig run", risky.path)
        assert "asks for deploy" in shell.run(status, risky.path)
        shell.run(reply, risky.path)
        shell.run("aynig run --quiet || true", risky.path)
        assert risky.state("task/login") == end
    assert "Longer, please" in risky.message("task/login")
    risky.git("checkout", "--quiet", "task/login")
    shell.run(blocks("docs/approvals.md")[4], risky.path)
    shell.run("aynig run", risky.path)
    assert risky.state("task/login") == "done"


def test_a_signed_approval_counts_and_a_plain_one_does_not(shell: Shell, repo: GitRepo) -> None:
    (shell.home / ".ssh").mkdir()
    key = Key.made(shell.home / ".ssh", "id_ed25519")
    listed = blocks("docs/approvals.md")[6].replace("ssh-ed25519 AAAA...", key.public)
    signers: dict[str, str | bytes | None] = {".aynig/allowed_signers": listed}
    repo.commit("signers", files=signers)
    config = blocks("docs/approvals.md")[5] + "states: {deploy: {risk: high}}\n"
    scripts(repo, config, deploy=":")
    asked(repo, "Log in\n\naynig: deploy\n", "task/login")
    shell.run("aynig run", repo.path)
    repo.git("checkout", "--quiet", "task/login")
    shell.run(blocks("docs/approvals.md")[4], repo.path, **GRACE)
    shell.run("aynig run", repo.path)
    assert "not signed" in repo.fields("task/login")["refused"]
    repo.git("checkout", "--quiet", "main")
    shell.run(blocks("docs/approvals.md")[7], repo.path)
    shell.run("aynig run", repo.path)
    assert repo.state("task/login") == "done"


def test_a_question_and_what_the_script_is_told_then(shell: Shell, repo: GitRepo) -> None:
    ask = blocks("docs/approvals.md")[8]
    scripts(repo, build=f'test "$AYNIG_TRAILER_ANSWER" && cp "$AYNIG_CONTEXT" told && exit\n{ask}')
    asked(repo, "Build the login form\n\naynig: build\n", "task/login")
    task = repo.tip("task/login")
    shell.run("aynig run", repo.path)
    assert repo.state("task/login") == "awaiting-answer"
    shell.run("aynig answer task/login -m 8080", repo.path, **GRACE)
    shell.run("aynig run", repo.path)
    told = json.loads(repo.git("show", "task/login:told"))
    shown = json.loads("{" + blocks("docs/approvals.md")[9] + "}")
    shown["conversation"]["task"] |= {"oid": task, "body": ""}
    assert told["conversation"] == shown["conversation"]


def test_what_only_people_write_is_no_answer_of_a_script(shell: Shell, repo: GitRepo) -> None:
    scripts(repo, blocks("docs/approvals.md")[10], go='echo "aynig: released" >"$AYNIG_RESPONSE"')
    shell.run("aynig submit go -b task; aynig run || true", repo.path)
    assert repo.state("task") == "failed"
    said = "it wrote `released`, which only people may write"
    assert said in repo.message("task")
    assert said in page("docs/approvals.md")


def test_a_task_asks_for_a_stricter_level(shell: Shell, repo: GitRepo) -> None:
    config = blocks("docs/approvals.md")[11]
    scripts(repo, config, build='echo "aynig: design" >"$AYNIG_RESPONSE"', design=":")
    shell.run(blocks("docs/approvals.md")[12], repo.path)
    shell.run("aynig submit build -b easy", repo.path)
    shell.run("aynig run", repo.path)
    careful = next(name for name in repo.git("branch", "--format=%(refname:short)").split()
                   if name not in {"main", "easy"})  # fmt: skip
    for branch, proposed in ((careful, "design"), ("easy", "done")):
        assert repo.state(branch) == "awaiting-approval"
        assert repo.fields(branch)["proposes"] == proposed


def test_a_person_is_told(shell: Shell, risky: GitRepo, tmp_path: Path) -> None:
    told = tmp_path / "told"
    program = tmp_path / "programs/notify-send"
    program.write_text(f'#!/bin/sh\n{{ echo "$1 $AYNIG_BRANCH $AYNIG_STATE"; cat; }} >{told}.new\n'
                       f"mv {told}.new {told}\n")  # fmt: skip
    program.chmod(0o755)
    shell.run(blocks("docs/approvals.md")[13], risky.path)
    asked(risky, "Log in\n\naynig: deploy\n", "task/login")
    with daemon(risky.path):
        wait_for(told.exists, what="the command to be run")
    assert told.read_text().startswith("aynig task/login awaiting-approval\n")


# --- docs/limits.md --------------------------------------------------------------------------


def test_the_resources_and_places_of_the_page_can_be_read() -> None:
    ours = parse_workflow(blocks("docs/limits.md")[0].encode(), where="limits.md")
    assert ours.of("deploy").resources == ("deploy-prod",)
    assert ours.of("build").limits == Limits(concurrent=4)
    assert ours.limits == Limits(concurrent=8)


def test_the_higher_priority_goes_first(shell: Shell, repo: GitRepo) -> None:
    scripts(repo, blocks("docs/limits.md")[2], build=":", hotfix=":")
    shell.run("aynig submit build -b a && aynig submit hotfix -b b", repo.path)
    rows = shell.run("aynig run --jobs 1", repo.path).splitlines()
    assert [row.split()[0] for row in rows[1:3]] == ["b", "a"]


def test_what_is_past_its_deadline_is_answered_without_a_script(
    shell: Shell, repo: GitRepo
) -> None:
    scripts(repo, blocks("docs/limits.md")[3], review=": >ran")
    asked(repo, "Look\n\naynig: review\n", "task")
    shell.run("aynig run --quiet || true", repo.path)
    assert repo.state("task") == "failed"
    assert repo.fields("task")["step"] == "deadline"


def test_a_limit_holds_what_has_spent_it(shell: Shell, repo: GitRepo) -> None:
    spend = "printf 'aynig: build\\naynig: cost-usd: 3\\naynig: tokens-in: 1\\n'"
    scripts(repo, blocks("docs/limits.md")[4], build=f'{spend} >"$AYNIG_RESPONSE"')
    shell.run("aynig submit build -b task && aynig run --quiet", repo.path)
    assert len(line_of(repo, "task")) == 3
    assert "over-budget" in shell.run("aynig status", repo.path)


def test_failures_of_a_state_open_its_breaker(shell: Shell, repo: GitRepo) -> None:
    scripts(repo, blocks("docs/limits.md")[5], build="exit 1")
    for number in range(6):
        shell.run(f"aynig submit build -b t{number}", repo.path)
    shell.run("aynig run --quiet --jobs 1 || true", repo.path)
    assert [repo.state(f"t{number}") for number in range(6)].count("failed") == 5
    assert "breaker" in shell.run("aynig status", repo.path)
    shell.run("aynig resume --state build && aynig run --quiet || true", repo.path)
    assert [repo.state(f"t{number}") for number in range(6)].count("failed") == 6


# --- docs/loops.md ---------------------------------------------------------------------------


def test_the_ways_on_after_the_last_attempt(shell: Shell, repo: GitRepo) -> None:
    config = "states:\n  build: {retries: {max: 1, backoff: 0}, escalate: help}\n"
    scripts(repo, config, build="echo x >work\necho 'no such table'\nexit 1")
    shell.run("aynig submit build -b task/login && aynig run --quiet || true", repo.path)
    shown = blocks("docs/loops.md")[0].strip().removesuffix("...")
    assert shown in repo.message("task/login")
    for line in blocks("docs/loops.md")[1].strip().splitlines():
        assert repo.state("task/login") == "help"
        shell.run(line.replace("REV", "task/login~1").replace("STATE", "build"), repo.path)
        assert repo.state("task/login") == ("canceled" if "cancel" in line else "build")
        shell.run("aynig run --quiet || true", repo.path)


def test_the_loop_of_the_page(shell: Shell, repo: GitRepo) -> None:
    make: dict[str, str | bytes | None] = {
        "Makefile": "test:\n\ttest -f built\n",
        "plan.md": "- [ ] one\n- [ ] two\n",
    }
    repo.commit("files", files=make)
    tick = 'sed -e "s/\\[ \\] $AYNIG_PLAN_ITEM/[x] $AYNIG_PLAN_ITEM/" plan.md >new'
    build = f": >built\n{tick} && mv new plan.md"
    scripts(repo, blocks("docs/loops.md")[2], build=build, review=":", needs_help=":")
    shell.run("aynig submit build -b task && aynig run", repo.path)
    subjects = line_of(repo, "task")
    assert subjects[0] == "* review -> done"
    assert subjects[1].startswith("* build -> review: iteration 2 of 20")
    assert subjects[2].startswith("* build -> build: iteration 1 of 20")


# --- docs/costs.md ---------------------------------------------------------------------------


def test_what_is_reported_is_in_the_sums(shell: Shell, repo: GitRepo) -> None:
    scripts(repo, build=blocks("docs/costs.md")[0])
    shell.run("aynig submit build -b task/login && aynig run", repo.path)
    for line in blocks("docs/costs.md")[1].strip().splitlines():
        # Whatever the date of this machine is.
        row = shell.run(line.replace("2026", "2020"), repo.path).splitlines()[-1].split()
        assert row[1] == "1", "one answer"
        assert {"0.12", "0.120000"} & set(row), row
        assert "500" in row
