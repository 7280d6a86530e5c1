"""What lands beside an answer comes with it, whatever happens in between."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from aynig.beside import keep, kept_for, kept_ref, mend
from aynig.errors import RefBusy
from aynig.git.refs import RefEdit, RefStore
from aynig.model import HEADS, RESCUES
from aynig.recover import recover
from aynig.site import Site, open_site
from tests.fleet import Fleet
from tests.stage import Stage
from tests.test_family import config, fan_out
from tests.world import GitRepo

GO = "Please go\n\naynig: go\n"
RUN = "20260131T093000Z-1f3a9c2e07"


@pytest.fixture
def site(repo: GitRepo) -> Iterator[Site]:
    site = open_site(repo.path)
    yield site
    site.close()


def answered(repo: GitRepo) -> tuple[str, tuple[RefEdit, ...]]:
    """An answer that is not on its branch yet, and the children that belong to it."""
    trigger = repo.commit(GO, branch="big")
    answer = repo.commit(f"x\n\naynig: gather\naynig: answers: {trigger}\n", branch="aside")
    repo.git("branch", "-D", "aside")
    along = []
    for name in ("one", "two"):
        oid = repo.commit(f"{name}\n\naynig: go\n", branch="aside", parent=answer)
        repo.git("branch", "-D", "aside")
        along.append(RefEdit(HEADS + name, None, oid))
    return answer, tuple(along)


def test_what_a_git_that_was_killed_has_left_out_is_begun(repo: GitRepo, site: Site) -> None:
    answer, along = answered(repo)
    keep(site, RUN, HEADS + "big", answer, along)
    repo.git("update-ref", HEADS + "big", answer)
    repo.git("update-ref", along[0].ref, along[0].new or "")
    moved = repo.commit("by its script\n\naynig: done\n", branch="one")
    told = recover(site)
    assert [leftover.detail for leftover in told] == ["began two, a child"]
    assert repo.tip("two") == along[1].new
    assert repo.tip("one") == moved
    assert repo.git("for-each-ref", RESCUES) == ""


def test_what_belongs_to_an_answer_that_never_landed_is_forgotten(
    repo: GitRepo, site: Site
) -> None:
    answer, along = answered(repo)
    keep(site, RUN, HEADS + "big", answer, along)
    assert mend(site) == []
    assert repo.git("for-each-ref", RESCUES) == ""
    assert repo.tip("one") == ""


def test_what_belongs_to_an_answer_that_is_kept_is_kept(repo: GitRepo, site: Site) -> None:
    answer, along = answered(repo)
    keep(site, RUN, HEADS + "big", answer, along)
    repo.git("update-ref", RESCUES + RUN, answer)
    mend(site)
    assert kept_for(site, RUN, answer) == along
    assert kept_for(site, RUN, repo.tip("big")) == ()


def test_a_lock_in_the_way_loses_nothing(
    repo: GitRepo, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, along = answered(repo)
    keep(site, RUN, HEADS + "big", answer, along)
    repo.git("update-ref", HEADS + "big", answer)

    def busy(store: RefStore, edits: object) -> None:
        raise RefBusy("a lock")

    with monkeypatch.context() as patch:
        patch.setattr(RefStore, "commit", busy)
        assert mend(site) == []
    assert sorted(mend(site)) == ["one", "two"]


@pytest.mark.parametrize("message", ["x", "x\n\nrefs/heads/a\nrefs/heads/b", "x\n\n/etc/passwd"])
def test_what_says_something_else_is_left_alone(repo: GitRepo, site: Site, message: str) -> None:
    oid = repo.git("commit-tree", "main^{tree}", "-p", "main", stdin=message)
    repo.git("update-ref", kept_ref(RUN), oid)
    assert mend(site) == []
    assert repo.git("rev-parse", kept_ref(RUN)) == oid


def test_an_answer_that_waited_brings_its_children_when_another_runner_lands_it(
    stage: Stage,
) -> None:
    repo = stage.repo
    log, dirt = repo.path.parent / "log", repo.path / "file"
    split = f"echo x >>{log}; echo more >more; echo mine >{dirt}\n{fan_out('one')}"
    files: dict[str, str | bytes | None] = {
        ".aynig/split": f"#!/bin/sh\n{split}",
        ".aynig/go": "#!/bin/sh\nexit 0\n",
        ".aynig/config.yaml": config(),
        "file": "one\n",
    }
    repo.commit("x\n\naynig: split\n", files=files)
    repo.sync()
    stage.run()
    assert repo.tip("main-one") == ""
    repo.git("checkout", "--quiet", "--", "file")
    stage.run()
    assert repo.state("main") == "collect"
    assert repo.state("main-one") == "done"
    assert log.read_text() == "x\n"
    assert repo.git("for-each-ref", RESCUES) == ""


def test_a_runner_elsewhere_finds_what_belongs_to_an_answer_on_the_remote(fleet: Fleet) -> None:
    bob, carol = fleet.open("bob"), fleet.open("carol")
    try:
        assert bob.mirror is not None
        assert carol.mirror is not None
        bob.mirror.sync(leases=True)
        carol.mirror.sync(leases=True)
        base = fleet.server.tip("main")
        oid = bob.repo.write_commit(
            tree=bob.repo.commit(base).tree, parents=[base], message="x\n\naynig: go\n"
        )
        along = (RefEdit(HEADS + "one", None, oid),)
        keep(bob, RUN, HEADS + "main", base, along)
        bob.store.publish()  # type: ignore[attr-defined]
        assert kept_for(carol, RUN, base) == along
        assert carol.repo.has_commit(oid)
    finally:
        bob.close()
        carol.close()


@pytest.fixture
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    return Fleet.make(tmp_path_factory.mktemp("fleet"), {"go": "exit 0"})
