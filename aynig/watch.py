"""Says "look again", and carries no facts (design section 3, level-triggered).

Three things wake the daemon: the file system (`Watcher`), a hook's poke (`Doorbell`) and time
(the timeout of `Waker.wait`). Each may be lost or come too often, and nothing but speed depends
on them: what happened is found out by looking at the refs.

Two measured traps set the shape (design section 5, "Watching"). Reading refs must not be an
event, so only moves, creations and deletions are asked for. And whatever keeps an event from
arriving (a full queue, a dead thread, no more watches to be had) ends in a wake of everything or
in an entry of `Watcher.problems`, never in silence.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers.api import BaseObserver, EventQueue, ObservedWatch

from aynig.model import HEADS

# A look in the same instant as a change may miss a second change with the same time stamp, so
# each event is followed by a second wake after this many seconds.
AGAIN = 0.06
# The key under which `Watcher.problems` has what concerns all repositories.
EVERYTHING = ""

_EVENTS: list[type[FileSystemEvent]] = [
    FileMovedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    DirMovedEvent,
    DirCreatedEvent,
    DirDeletedEvent,
]
# What is of interest in the git directory itself; all else there (the index, HEAD, messages)
# changes all day and is no branch.
_GIT_DIR_NAMES = frozenset({"packed-refs", "refs"})

Lost = Callable[[], None]
Refused = Callable[[bytes, str], None]


class Waker:
    """Where one thread waits for any of many reasons to look again.

    `wake` may be called from every thread and, without `after`, from a signal handler. `wait`
    belongs to one thread.
    """

    def __init__(self) -> None:
        self._waiting_end, self._waking_end = socket.socketpair()
        self._waiting_end.setblocking(False)
        self._waking_end.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._waiting_end, selectors.EVENT_READ)
        # Dicts as sets: storing and `popitem` are single steps, with no lock that a signal
        # handler could find taken by the very code it interrupted.
        self._woken: dict[str, None] = {}
        self._due: dict[str, float] = {}
        self._due_lock = threading.Lock()

    def wake(self, source: str = "", *, after: float = 0.0) -> None:
        """Let `wait` return with `source`; with `after` only when so many seconds have passed.

        Of several delayed wakes of one source the latest counts.
        """
        if after > 0:
            with self._due_lock:
                self._due[source] = time.monotonic() + after
        elif source in self._woken:
            # Not taken yet, so whoever takes it will look after this call.
            return
        else:
            self._woken[source] = None
        # A full buffer will wake as well, and a closed one has nobody to wake.
        with contextlib.suppress(OSError):
            self._waking_end.send(b"\0")

    def wait(self, timeout: float | None) -> set[str]:
        """The sources woken since the last call; empty when `timeout` seconds brought none."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            # First the bell, then the names: a name put down in between rings again.
            self._silence()
            woken = self._take()
            now = time.monotonic()
            if woken or (end is not None and now >= end):
                return woken
            self._selector.select(self._pause(now, end))

    def close(self) -> None:
        """Give the descriptors back; `wake` does nothing from then on."""
        self._selector.close()
        self._waiting_end.close()
        self._waking_end.close()

    def _silence(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._waiting_end.recv(4096):
                pass

    def _take(self) -> set[str]:
        woken: set[str] = set()
        now = time.monotonic()
        with self._due_lock:
            for source in [source for source, due in self._due.items() if due <= now]:
                del self._due[source]
                woken.add(source)
        while self._woken:
            woken.add(self._woken.popitem()[0])
        return woken

    def _pause(self, now: float, end: float | None) -> float | None:
        with self._due_lock:
            due = min(self._due.values(), default=None)
        ends = [moment for moment in (due, end) if moment is not None]
        return max(0.0, min(ends) - now) if ends else None


if sys.platform == "linux":
    from watchdog.observers.inotify import InotifyEmitter
    from watchdog.observers.inotify_c import (
        CallbackId,
        InotifyEvent,
        InotifyFD,
        Mask,
        WatchCallback,
        WatchDescriptor,
    )

    class _Inotify(InotifyFD):
        """The thread that reads the queue of inotify(7), outspoken about what it misses.

        By itself it logs an overflow and mends its watches, but tells nobody who could look
        again; and a directory below a watched one that it can't watch is passed over.
        """

        def __init__(self, lost: Lost, refused: Refused) -> None:
            super().__init__()
            self._lost = lost
            self._refused = refused

        def add_callback(
            self, path: bytes, mask: Mask, callback: WatchCallback, id_: CallbackId
        ) -> WatchDescriptor:
            try:
                descriptor = super().add_callback(path, mask, callback, id_)
            except OSError as error:
                # Gone before it could be watched: its parent has an event for that.
                if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                    self._refused(path, error.strerror or str(error))
                raise
            if descriptor == -1:
                self._refused(path, os.strerror(errno.EACCES))
            return descriptor

        def _add_callback(
            self, path: bytes, mask: Mask, callback: WatchCallback, id_: CallbackId
        ) -> WatchDescriptor:
            # A new folder is often met twice, by its event and by the walk through its parent's.
            # The original warns each time, in a text that spells out every watch there is.
            watch = self._get_or_create_watch(path, mask)
            watch.callbacks[id_] = callback
            return watch.wd

        def handle_event(self, event: InotifyEvent) -> None:
            super().handle_event(event)
            # After the watches were mended, so that what the look misses has an event again.
            if event.is_queue_overflow:
                self._lost()

        def run(self) -> None:
            try:
                super().run()
            finally:
                self._lost()

    class _Emitter(InotifyEmitter):
        """The thread of one watched tree; its end is told, as events may have ended with it."""

        def __init__(
            self,
            event_queue: EventQueue,
            watch: ObservedWatch,
            *,
            timeout: float,
            event_filter: list[type[FileSystemEvent]] | None,
            inotify_fd: InotifyFD,
            lost: Lost,
        ) -> None:
            super().__init__(
                event_queue,
                watch,
                timeout=timeout,
                event_filter=event_filter,
                inotify_fd=inotify_fd,
            )
            self._lost = lost

        def run(self) -> None:
            try:
                super().run()
            finally:
                self._lost()

    class _Observer(BaseObserver):
        """One inotify instance for all repositories (one each fails at the 129th)."""

        def __init__(self, lost: Lost, refused: Refused) -> None:
            self._inotify = _Inotify(lost, refused)
            self._inotify.start()
            super().__init__(_Emitter, inotify_fd=self._inotify, lost=lost)
            self._lost = lost

        def run(self) -> None:
            try:
                super().run()
            finally:
                self._lost()

        def on_thread_stop(self) -> None:
            super().on_thread_stop()
            self._inotify.stop()
            self._inotify.join()

        def is_whole(self) -> bool:
            return self.is_alive() and self._inotify.is_alive()

    def _new_observer(lost: Lost, refused: Refused) -> _Observer:
        return _Observer(lost, refused)

    def _is_whole(observer: BaseObserver) -> bool:
        return isinstance(observer, _Observer) and observer.is_whole()

else:

    def _new_observer(lost: Lost, refused: Refused) -> BaseObserver:
        """What the platform has; its own losses are found by polling only."""
        from watchdog.observers import Observer
        from watchdog.observers.polling import PollingObserver

        observer = Observer()
        if isinstance(observer, PollingObserver):
            # It would walk all refs without end; a look is cheaper than that.
            raise OSError(errno.ENOSYS, "this platform can't watch files")
        return observer

    def _is_whole(observer: BaseObserver) -> bool:
        return observer.is_alive()


class _Ear(FileSystemEventHandler):
    """Wakes for those events that name something of interest."""

    def __init__(self, concerns: Callable[[str], bool], wake: Callable[[], None]) -> None:
        self._concerns = concerns
        self._wake = wake

    def on_any_event(self, event: FileSystemEvent) -> None:
        for path in (event.dest_path, event.src_path):
            if path and self._concerns(os.fsdecode(path)):
                self._wake()
                return


@dataclass(slots=True)
class _Root:
    """One repository: its common git directory and what watches it at the moment."""

    common: Path
    watches: tuple[ObservedWatch, ...] = ()
    # Which directories these were, so that one made anew in the same place is told from them.
    identity: tuple[int, ...] = ()

    @property
    def remotes(self) -> Path:
        return self.common / "refs/remotes"

    @property
    def heads(self) -> Path:
        return self.common / HEADS.rstrip("/")

    def look_up(self) -> tuple[int, ...]:
        """Device and inode of both directories; OSError where one is missing."""
        found = (self.common.stat(), self.heads.stat())
        return tuple(number for one in found for number in (one.st_dev, one.st_ino))


class Watcher:
    """Wakes for every change below refs/heads and refs/remotes and of packed-refs, in any number
    of repositories.

    Nothing here raises when watching is not to be had: `problems` says why, and polling finds
    what watching does not. All methods belong to one thread.
    """

    def __init__(self, waker: Waker) -> None:
        self._waker = waker
        self._roots: dict[str, _Root] = {}
        self._problems: dict[str, str] = {}
        self._observer: BaseObserver | None = None

    @property
    def problems(self) -> Mapping[str, str]:
        """Key to why its repository is not (wholly) watched; `EVERYTHING` for all of them."""
        return MappingProxyType(dict(self._problems))

    @property
    def healthy(self) -> bool:
        """Whether everything that was added is watched."""
        if self._observer is None or self._problems or not _is_whole(self._observer):
            return False
        watched = self._watched()
        return all(root.watches and watched.issuperset(root.watches) for root in self._list())

    def add(self, key: str, common_dir: Path) -> None:
        """Watch a repository by its common git directory; ends in a wake of `key`.

        That wake covers what happened between the caller's last look and the first watch.
        """
        self.remove(key)
        self._roots[key] = _Root(common_dir)
        if self._observer is not None:
            self._watch(key)
            self._waker.wake(key)

    def remove(self, key: str) -> None:
        """Watch a repository no longer; nothing where it was not watched."""
        if key in self._roots:
            self._unwatch(key)
            del self._roots[key]
        self._problems.pop(key, None)

    def start(self) -> None:
        """Begin; may be called again after `stop`. Ends in a wake of everything."""
        if self._observer is not None:
            return
        self._problems.clear()
        observer: BaseObserver | None = None
        try:
            observer = _new_observer(self._wake_all, self._refuse)
            observer.start()
        except (OSError, RuntimeError) as error:
            # No inotify instance left, or no thread.
            self._problems[EVERYTHING] = f"can't watch for changes: {_reason(error)}"
            if observer is not None:
                observer.stop()
        else:
            self._observer = observer
            for key in self._roots:
                self._watch(key)
        self._wake_all()

    def stop(self) -> None:
        """End all threads of watching; what was added stays for another `start`."""
        observer, self._observer = self._observer, None
        if observer is None:
            return
        observer.stop()
        if observer.is_alive():
            observer.join()
        for root in self._list():
            root.watches = ()

    def mend(self) -> None:
        """Try again what failed and replace what died; cheap where all is well.

        That is: threads that ended, repositories that had a problem, and directories that were
        removed and made anew (nobody is told of the new one).
        """
        if self._observer is None or not _is_whole(self._observer):
            self.stop()
            self.start()
            return
        watched = self._watched()
        for key, root in tuple(self._roots.items()):
            if key not in self._problems and watched.issuperset(root.watches):
                with contextlib.suppress(OSError):
                    if root.watches and root.look_up() == root.identity:
                        continue
            self._unwatch(key)
            self._problems.pop(key, None)
            self._watch(key)
            self._stir(key)

    def _list(self) -> tuple[_Root, ...]:
        return tuple(self._roots.values())

    def _watched(self) -> set[ObservedWatch]:
        """The watches whose thread lives: it ends when what it watches is removed."""
        if self._observer is None:
            return set()
        return {emitter.watch for emitter in self._observer.emitters if emitter.is_alive()}

    def _watch(self, key: str) -> None:
        assert self._observer is not None
        root = self._roots[key]
        common, heads = os.fspath(root.common), os.fspath(root.heads)

        def wake() -> None:
            self._stir(key)

        def is_no_lock(path: str) -> bool:
            return not path.endswith(".lock")

        def is_ref_storage(path: str) -> bool:
            return path == common or os.path.basename(path) in _GIT_DIR_NAMES  # noqa: PTH119

        try:
            # Before the watches: where a directory changes in between, `mend` notices.
            root.identity = root.look_up()
            root.watches = (self._schedule(heads, _Ear(is_no_lock, wake), recursive=True),)
            root.watches += (self._schedule(common, _Ear(is_ref_storage, wake), recursive=False),)
            if root.remotes.is_dir():
                # Tasks may wait for branches that were fetched.
                ear = _Ear(is_no_lock, wake)
                root.watches += (self._schedule(str(root.remotes), ear, recursive=True),)
        except (OSError, RuntimeError) as error:
            self._problems[key] = f"can't watch {common}: {_reason(error)}"

    def _schedule(self, path: str, ear: _Ear, *, recursive: bool) -> ObservedWatch:
        assert self._observer is not None
        return self._observer.schedule(ear, path, recursive=recursive, event_filter=_EVENTS)

    def _unwatch(self, key: str) -> None:
        root = self._roots[key]
        if self._observer is not None:
            for watch in root.watches:
                with contextlib.suppress(KeyError):
                    self._observer.unschedule(watch)
        root.watches = ()

    def _stir(self, key: str) -> None:
        self._waker.wake(key)
        self._waker.wake(key, after=AGAIN)

    def _wake_all(self) -> None:
        for key in tuple(self._roots):
            self._stir(key)

    def _refuse(self, path: bytes, reason: str) -> None:
        """A directory can't be watched. Called by watchdog's threads, so without any lock."""
        name = os.fsdecode(path)
        for key, root in tuple(self._roots.items()):
            if Path(name).is_relative_to(root.common):
                self._problems[key] = f"can't watch {name}: {reason}"


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
