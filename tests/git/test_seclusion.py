"""A worker in seclusion works as in any worktree, finds nothing hidden, smuggles nothing out."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from aynig.errors import RunFault
from aynig.git.repo import Repo
from aynig.git.seclusion import Secluded, Seclusion
from aynig.git.worktree import Harvest
from aynig.git.worktrees import WorktreePool
from tests.world import GitRepo, wait_for

RUN = "20260131T093000Z-1f3a9c2e07"
SECRET = "the answer is 42, and nobody is to know"
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Lab:
    """A repository with a task on `work`, and hidden scenarios under a ref of their own."""

    world: GitRepo
    tip: str
    tree: str
    temporary: Path

    @property
    def seclusion(self) -> Seclusion:
        return Seclusion(Repo.open(self.world.path))

    def run(self, script: str, *, room: Secluded | None = None) -> tuple[Harvest, str]:
        """A script as the worker: what it left, and what it printed."""
        if room is not None:
            output = worker(room, script)
            return room.harvest(self.tip, self.tree), output
        with self.seclusion.lend(self.tip, self.tree, RUN) as lent:
            return self.run(script, room=lent)

    def objects(self) -> set[str]:
        args = ("cat-file", "--batch-all-objects", "--batch-check=%(objectname)")
        return set(self.world.git(*args).splitlines())

    def shared(self) -> dict[str, bytes]:
        """Whatever of the repository git obeys: settings, hooks, refs, alternates."""
        folder = self.world.git_dir
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
            and not ("objects" in path.parts and "info" not in path.parts)
            and "aynig" not in path.relative_to(folder).parts
        }


def worker(room: Secluded, script: str) -> str:
    environment = room.conceal({**os.environ, "AYNIG_RUN_ID": RUN})
    done = subprocess.run(
        ["/bin/sh", "-c", script],
        cwd=room.path,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    return done.stdout


@pytest.fixture
def lab(repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    files: dict[str, str | bytes | None] = {
        "kept": "one\n", "gone": "two\n", "dir/run": "#!/bin/sh\n", ".gitignore": "ignored\n",
    }  # fmt: skip
    repo.commit("before", branch="work", files={"kept": "zero\n"}, parent=repo.tip())
    tip = repo.commit("please", branch="work", files=files)
    repo.commit("hidden", branch="judge", files={"set/secret": f"#!/bin/sh\n# {SECRET}\n"})
    yield Lab(repo, tip, repo.git("rev-parse", f"{tip}^{{tree}}"), tmp_path / "tmp")
    assert list((tmp_path / "tmp").iterdir()) == []


# --- what it is like ---------------------------------------------------------------------------


def test_the_worktree_is_the_clean_one_of_the_commit_with_its_history(lab: Lab) -> None:
    script = "git status --porcelain --ignored; git rev-parse HEAD; git log --format=%s; ls -A dir"
    _, output = lab.run(script)
    assert output.split() == [lab.tip, "please", "before", "root", "run"]


AS_IN_ANY_WORKTREE = {
    "nothing": "true",
    "files": "echo new > made; rm gone; echo changed > kept; echo x > ignored; chmod +x kept",
    "commit": "echo new > made; git add made; git commit -qm mine",
    "commit and files": "git rm -q gone; git commit -qm mine; echo more > made",
    "a branch of its own": "git checkout -qb own; echo x > made; git add .; git commit -qm mine",
    "a packed branch": (
        "git checkout -qb own; echo x > made; git add .; git commit -qm mine; git pack-refs --all"
    ),
    "an earlier commit": "git reset -q --hard HEAD~1",
    "hidden changes": "git update-index --assume-unchanged kept; echo changed > kept",
    "an ignored file": "echo x > ignored; git add -f ignored",
    "a merge": "git checkout -qb a; git commit -q --allow-empty -m a; git checkout -q --detach "
    "HEAD~1; echo b > b; git add b; git commit -qm b; git merge -q a -m merged",
}


@pytest.mark.parametrize("script", AS_IN_ANY_WORKTREE.values(), ids=AS_IN_ANY_WORKTREE)
def test_what_is_left_is_harvested_as_from_any_worktree(
    lab: Lab, script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_DATE", "1700000000 +0000")
    secluded, _ = lab.run(script)
    clone = tmp_path / "clone"
    lab.world.git("clone", "--quiet", "--branch", "work", str(lab.world.path), str(clone))
    pool = WorktreePool(Repo.open(clone), tmp_path / "pool")
    with pool.lend(lab.tip, lab.tree) as worktree:
        subprocess.run(["/bin/sh", "-c", script], cwd=worktree.path, check=False)
        usual = worktree.harvest(lab.tip, lab.tree)
    pool.close()
    assert secluded == usual
    for oid in (secluded.head, secluded.tree):
        lab.world.git("rev-list", "--objects", "--quiet", oid)


def test_in_a_shallow_repository_the_history_ends_where_it_ended_before(
    lab: Lab, tmp_path: Path
) -> None:
    shallow = GitRepo(tmp_path / "shallow")
    url = f"file://{lab.world.path}"
    lab.world.git("clone", "-q", "--depth=1", "--branch", "work", url, str(shallow.path))
    made = "git log --format=%s; echo x > made; git add made; git commit -qm mine; echo y > made"
    with Seclusion(Repo.open(shallow.path)).lend(lab.tip, lab.tree, RUN) as room:
        output = worker(room, made)
        harvest = room.harvest(lab.tip, lab.tree)
    assert output.split() == ["please"]
    assert shallow.git("rev-parse", f"{harvest.head}^") == lab.tip
    assert shallow.git("show", f"{harvest.tree}:made") == "y"


def test_the_settings_that_decide_about_files_and_authors_are_those_of_the_repository(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.delenv(f"GIT_{role}_NAME")
        monkeypatch.delenv(f"GIT_{role}_EMAIL")
    lab.world.git("config", "user.name", "Una User")
    lab.world.git("config", "user.email", "una@example.org")
    lab.world.git("config", "remote.origin.url", "https://token@example.org/x.git")
    lab.world.git("config", "filter.up.clean", f"{lab.world.path}/tools/up")
    _, output = lab.run("git commit -q --allow-empty -m x; git log -1 --format=%an; git config -l")
    assert output.startswith("Una User\n")
    assert "token" not in output
    assert str(lab.world.path) not in output


# --- what it hides -----------------------------------------------------------------------------

SPY = """
git show judge:set/secret refs/heads/judge:set/secret
git log --all --format=%B
git for-each-ref
git cat-file --batch-all-objects --batch
git cat-file -p BLOB
common=$(git rev-parse --git-common-dir)
ls "$common" "$common/.." "$common/../.."
cat "$common/objects/info/alternates" "$common/config" "$common"/worktrees/*/* .git
git config --list --show-origin
git fetch . judge; git fetch origin; git remote -v
env
cat "$AYNIG_CONTEXT"
grep -r 42 "$common" "$common/.."
"""


def test_a_worker_that_searches_all_it_is_given_finds_no_scenario(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = str(lab.world.path)
    monkeypatch.setenv("PWD", place)
    monkeypatch.setenv("PATH", f"{place}/.venv/bin:{os.environ['PATH']}")
    home = lab.world.path / ".git" / "aynig" / "scripts" / "x"
    home.mkdir(parents=True)
    (home / "go").write_text("#!/bin/sh\n")
    spy = SPY.replace("BLOB", lab.world.git("rev-parse", "judge:set/secret"))
    with lab.seclusion.lend(lab.tip, lab.tree, RUN) as room:
        room.folder.write("context.json", json.dumps({"repository": str(room.path)}).encode())
        monkeypatch.setenv("AYNIG_CONTEXT", str(room.folder.context))
        monkeypatch.setenv("AYNIG_HOME", room.copy_home(str(home)))
        told = worker(room, spy)
    assert "please" in told
    assert "AYNIG_HOME=" in told
    assert SECRET not in told
    assert place not in told


def test_the_same_search_in_a_linked_worktree_finds_it(lab: Lab, tmp_path: Path) -> None:
    pool = WorktreePool(Repo.open(lab.world.path), tmp_path / "pool")
    with pool.lend(lab.tip, lab.tree) as worktree:
        script = "git show judge:set/secret"
        done = subprocess.run(
            ["/bin/sh", "-c", script], cwd=worktree.path, capture_output=True, text=True, check=True
        )
    pool.close()
    assert SECRET in done.stdout


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("PWD", "{repo}", None),
        ("PWD", "{repo}/.git", None),
        ("NOTE", "see '{repo}'", None),
        ("NOTE", "{repo}site", "{repo}site"),
        ("NOTE", "/elsewhere", "/elsewhere"),
        ("PATH", "/bin:{repo}/bin:/usr/bin", "/bin:/usr/bin"),
        ("PYTHONPATH", "{repo}", None),
        ("XDG_DATA_DIRS", "{repo}/share:/usr/share", "/usr/share"),
    ],
)
def test_the_environment_does_not_tell_where_the_repository_is(
    lab: Lab, name: str, value: str, kept: str | None
) -> None:
    place = str(lab.world.path)
    with lab.seclusion.lend(lab.tip, lab.tree, RUN) as room:
        found = room.conceal({name: value.format(repo=place)})
    assert found.get(name) == (kept.format(repo=place) if kept else None)


def test_the_clone_of_a_mirror_is_not_told_either(lab: Lab) -> None:
    seclusion = Seclusion(Repo.open(lab.world.path), hidden=[Path("/srv/clone")])
    with seclusion.lend(lab.tip, lab.tree, RUN) as room:
        assert room.conceal({"PWD": "/srv/clone/sub", "X": "/srv"}) == {"X": "/srv"}


# --- what does not come back ---------------------------------------------------------------------

SMUGGLER = """
common=$(git rev-parse --git-common-dir)
echo x > made; git add made; git commit -qm mine
git update-ref refs/heads/main HEAD; git update-ref refs/heads/judge HEAD; git tag smuggled
git replace "$(git rev-parse HEAD~1)" HEAD
git pack-refs --all; git commit-graph write --reachable; git gc -q
mkdir -p "$common/hooks" "$common/objects/info" "$common/info"
for name in post-checkout reference-transaction pre-commit post-index-change; do
    printf '#!/bin/sh\\ntouch MARK\\n' > "$common/hooks/$name"; chmod +x "$common/hooks/$name"
done
echo ELSEWHERE/.git/objects > "$common/objects/info/alternates"
echo '* filter=evil' > "$common/info/attributes"
echo '* filter=evil' > .gitattributes
git config filter.evil.clean 'touch MARK; cat'
git config filter.evil.required true
git config core.fsmonitor 'touch MARK'
git config core.hooksPath "$common/hooks"
git config --worktree core.editor evil
cp -r "$common" OUTSIDE; echo OUTSIDE > "$(git rev-parse --git-dir)/commondir"
echo more > made
"""


def test_refs_settings_hooks_and_alternates_of_the_worker_have_no_effect(
    lab: Lab, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    words = {"MARK": mark, "ELSEWHERE": lab.world.path, "OUTSIDE": tmp_path / "outside"}
    script = SMUGGLER
    for word, path in words.items():
        script = script.replace(word, str(path))
    before, objects = lab.shared(), lab.objects()
    with lab.seclusion.lend(lab.tip, lab.tree, RUN) as room:
        worker(room, script)
        # What it starts itself while it works is its own affair.
        mark.unlink(missing_ok=True)
        harvest = room.harvest(lab.tip, lab.tree)
    assert not mark.exists()
    assert lab.shared() == before
    assert lab.world.git("show", f"{harvest.tree}:made") == "more"
    assert lab.world.git("rev-list", "--count", f"{lab.tip}..{harvest.head}") == "1"
    # The commit, its tree and file, and the files that it left: nothing else came.
    assert len(lab.objects() - objects) == 6


def test_objects_of_other_repositories_are_not_brought_along(lab: Lab, tmp_path: Path) -> None:
    other = GitRepo.init(tmp_path / "other")
    other.commit("foreign", files={"foreign": "objects\n"})
    blob = other.git("rev-parse", "main:foreign")
    script = f"""
    info=$(git rev-parse --git-common-dir)/objects/info; mkdir -p $info
    echo {other.path}/.git/objects > $info/alternates
    git update-index --add --cacheinfo 100644,{blob},stolen; git commit -qm stolen
    """
    with pytest.raises(RunFault, match="not whole"):
        lab.run(script)
    assert blob not in lab.objects()


def test_objects_that_lie_about_their_name_are_found_out(lab: Lab) -> None:
    lie = """
    common=$(git rev-parse --git-common-dir)
    echo good > made; git add made; git commit -qm mine
    bad=$(echo bad | git hash-object -w --stdin); good=$(git rev-parse HEAD:made)
    file() { echo "$common/objects/$(echo $1 | cut -c1-2)/$(echo $1 | cut -c3-)"; }
    chmod u+w "$(file $good)"; cp "$(file $bad)" "$(file $good)"
    """
    with pytest.raises(RunFault, match="not whole"):
        lab.run(lie)


@pytest.mark.parametrize(
    "script",
    [
        'rm -rf "$(git rev-parse --git-common-dir)"',
        'rm -rf "$(git rev-parse --git-common-dir)"/worktrees',
        'cd "$(git rev-parse --git-common-dir)"; rm -rf objects; ln -s /tmp objects',
        'echo nonsense > "$(git rev-parse --git-dir)/HEAD"',
        "cd ..; rm -rf tree",
        "cd ../..; rm -rf work",
    ],
)
def test_a_worker_that_breaks_its_repository_has_failed_and_nothing_else(
    lab: Lab, script: str
) -> None:
    before = lab.shared()
    with pytest.raises(RunFault):
        lab.run(script)
    assert lab.shared() == before


# --- the end --------------------------------------------------------------------------------------

KILLED = """
import subprocess, sys, os
from aynig.git.repo import Repo
from aynig.git.seclusion import Seclusion
path, tip, tree, run = sys.argv[1:]
with Seclusion(Repo.open(path)).lend(tip, tree, run) as room:
    env = {**os.environ, "AYNIG_RUN_ID": run}
    subprocess.run(["/bin/sh", "-c", "echo work > made; exec sleep 1000"], cwd=room.path, env=env)
"""


def test_the_work_of_a_killed_runner_is_kept_and_the_rest_is_removed(lab: Lab) -> None:
    runner = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(lab.world.path), lab.tip, lab.tree, RUN],
        env={**os.environ, "TMPDIR": str(lab.temporary), "PYTHONPATH": str(ROOT)},
    )
    wait_for(lambda: list(lab.temporary.glob("*/work/tree/made")), what="the worker to begin")
    kept: list[tuple[str, Harvest]] = []
    seclusion = Seclusion(
        Repo.open(lab.world.path), lambda run, harvest: kept.append((run, harvest))
    )
    assert seclusion.sweep() == 0
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    assert seclusion.sweep() == 1
    ((run, harvest),) = kept
    assert (run, harvest.head) == (RUN, lab.tip)
    assert lab.world.git("show", f"{harvest.tree}:made") == "work"


def test_a_half_made_one_is_removed_without_a_word(lab: Lab) -> None:
    with lab.seclusion.lend(lab.tip, lab.tree, RUN) as room:
        whole = room.path.parents[1]
        name = whole.name.rpartition("-")[0] + "-000000000000"
        shutil.copytree(whole / "store", whole.with_name(name) / "store")
        assert lab.seclusion.sweep() == 1
        assert whole.exists()


def test_files_that_git_can_not_keep_are_moved_aside(lab: Lab, tmp_path: Path) -> None:
    with lab.seclusion.lend(lab.tip, lab.tree, RUN) as room:
        worker(
            room, "echo x > made; git init -q nested; git -C nested commit -q --allow-empty -m x"
        )
        with pytest.raises(RunFault, match="repository inside"):
            room.harvest(lab.tip, lab.tree)
        room.keep(tmp_path / "kept")
    assert (tmp_path / "kept" / "made").read_text() == "x\n"
