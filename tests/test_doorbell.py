"""The FIFO by which hooks and commands poke a daemon."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from aynig.doorbell import Doorbell, ring, sweep
from aynig.watch import Waker
from tests.world import GitRepo, wait_for

PATIENCE = 60.0


@pytest.fixture
def waker() -> Iterator[Waker]:
    waker = Waker()
    yield waker
    waker.close()


@pytest.fixture
def fifo(bare: GitRepo) -> Path:
    return bare.git_dir / "aynig/wake" / str(os.getpid())


def poke(path: Path) -> None:
    """What a hook does."""
    subprocess.run(["sh", "-c", 'printf . > "$1"', "sh", str(path)], check=True)


def test_a_poke_rings(fifo: Path, waker: Waker) -> None:
    with Doorbell(fifo, lambda: waker.wake("bell")) as bell:
        assert bell.problem == ""
        for _ in range(3):
            poke(fifo)
            assert waker.wait(PATIENCE) == {"bell"}
    assert not fifo.exists()


def test_each_bell_rings_for_itself_through_one_thread(bare: GitRepo, waker: Waker) -> None:
    folder = bare.git_dir / "aynig/wake"
    before = threading.active_count()
    with contextlib.ExitStack() as stack:
        for number in range(200):
            path, key = folder / str(number), str(number)
            stack.enter_context(Doorbell(path, lambda key=key: waker.wake(key)))  # type: ignore[misc]
        assert threading.active_count() <= before + 1
        poke(folder / "77")
        assert waker.wait(PATIENCE) == {"77"}
    assert list(folder.iterdir()) == []


def test_no_poke_is_no_ring_and_no_spinning(fifo: Path, waker: Waker) -> None:
    rings: list[int] = []
    with Doorbell(fifo, lambda: rings.append(1)):
        for _ in range(2):
            poke(fifo)
        wait_for(lambda: rings)
        # The writers are gone, and an end of file would ring for ever.
        assert waker.wait(0.3) == set()
        assert len(rings) <= 2


def test_more_than_a_pipe_holds_does_not_block_the_poker(fifo: Path) -> None:
    rings: list[int] = []
    with Doorbell(fifo, lambda: rings.append(1)):
        subprocess.run(["sh", "-c", f"head -c 1000000 /dev/zero > '{fifo}'"], check=True)
        assert rings


def test_others_may_poke_whatever_the_umask_is(fifo: Path) -> None:
    mask = os.umask(0o077)
    try:
        with Doorbell(fifo, lambda: None):
            assert stat.S_IMODE(fifo.stat().st_mode) == 0o622
            folder = stat.S_IMODE(fifo.parent.stat().st_mode)
            assert folder == stat.S_IMODE(fifo.parent.parent.parent.stat().st_mode)
    finally:
        os.umask(mask)


def test_a_leftover_of_the_same_process_id_is_replaced(fifo: Path, waker: Waker) -> None:
    fifo.parent.mkdir(parents=True)
    os.mkfifo(fifo)
    (fifo.parent / f".{fifo.name}.new").write_text("left over\n")
    with Doorbell(fifo, lambda: waker.wake("bell")):
        poke(fifo)
        assert waker.wait(PATIENCE) == {"bell"}


def test_closing_twice_is_harmless(fifo: Path) -> None:
    bell = Doorbell(fifo, lambda: None)
    bell.close()
    bell.close()


def test_a_fifo_that_can_not_be_made_is_a_problem_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "aynig").write_text("in the way\n")
    for path in (tmp_path / "aynig/wake/1", tmp_path / "no/such/repository/aynig/wake/1"):
        bell = Doorbell(path, lambda: None)
        assert "can't make" in bell.problem
        bell.close()
    assert not (tmp_path / "no").exists()


def test_sweeping_removes_what_nobody_answers(fifo: Path) -> None:
    folder = fifo.parent
    with Doorbell(fifo, lambda: None):
        os.mkfifo(folder / "999999")
        os.mkfifo(folder / ".999998.new")
        os.mkfifo(folder / ".12.new")
        (folder / "notes").write_text("kept\n")
        (folder / "4242").write_text("no FIFO, kept\n")
        sweep(folder, lambda pid: pid == 12)
        left = {path.name for path in folder.iterdir()}
        assert left == {fifo.name, ".12.new", "notes", "4242"}
    sweep(folder / "missing", lambda pid: True)


def test_sweeping_spares_a_reader_that_seems_dead(fifo: Path, waker: Waker) -> None:
    """It may live in another container, where its process id means something else."""
    with Doorbell(fifo, lambda: waker.wake("bell")):
        sweep(fifo.parent, lambda pid: False)
        poke(fifo)
        assert waker.wait(PATIENCE) == {"bell"}


def test_a_killed_daemon_leaves_a_fifo_that_sweeping_removes(fifo: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from aynig.doorbell import Doorbell
bell = Doorbell(Path(sys.argv[1]), lambda: None)
print("open", flush=True)
time.sleep(600)
"""
    child = subprocess.Popen([sys.executable, "-c", code, str(fifo)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    sweep(fifo.parent, lambda pid: False)
    assert fifo.exists()
    child.kill()
    child.wait()
    # The name may be that of a process that lives again by now.
    sweep(fifo.parent, lambda pid: True)
    assert not fifo.exists()


def test_ringing_wakes_every_daemon_and_passes_over_the_dead(bare: GitRepo, waker: Waker) -> None:
    folder = bare.git_dir / "aynig/wake"
    with (
        Doorbell(folder / "1", lambda: waker.wake("one")),
        Doorbell(folder / "2.part", lambda: waker.wake("two")),
    ):
        os.mkfifo(folder / "3")
        ring(folder)
        woken: set[str] = set()
        while woken != {"one", "two"}:
            got = waker.wait(PATIENCE)
            assert got, "nothing rang"
            woken |= got


def test_ringing_where_nobody_listens_is_harmless(bare: GitRepo) -> None:
    ring(bare.git_dir / "aynig/wake")
