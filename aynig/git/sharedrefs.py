"""The compare-and-swap on the refs of a remote: with the same words as on those of a repository.

One `git push --atomic` with `--force-with-lease` for each ref is all of it (design section 2). A
push whose outcome is unknown is settled by reading the refs again, never by guessing: each value is
an object that nobody else has made, so where it is found, it was ours that won.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Sequence, Set

from aynig.errors import AynigError, RefBusy, RefMoved, Unreachable, WaitUntil
from aynig.git.mirror import Mirror
from aynig.git.refs import RefEdit, RefStore
from aynig.model import BESIDE, HEADS, RESCUES

_SHARED = (HEADS, *BESIDE)
# So many rescue refs go along with one push.
_MOST_ALONG = 8
_MOST_AT_ONCE = 100


class SharedRefs:
    """Writes refs of a remote, and those of its mirror; safe to share between threads."""

    # A push compares any number of refs at the cost of one.
    checks_together = True

    def __init__(self, mirror: Mirror, local: RefStore) -> None:
        self._mirror = mirror
        self._local = local
        self._mutex = threading.Lock()
        # Rescue refs that the remote does not have yet, and what they point at.
        self._unsent: dict[str, str] = {}
        # Those from before this process: the remote may have them.
        self._unsure = mirror.repo.refs_below(RESCUES)

    def commit(self, edits: Sequence[RefEdit]) -> None:
        """Make all changes or none, on the remote and then here.

        Raises RefMoved where a ref of the remote is not what its edit says, and the mirror knows
        then what it is; Unreachable where the outcome is unknown; Refused where the server does
        not want it.
        """
        shared = [edit for edit in edits if edit.ref.startswith(_SHARED)]
        own = [edit for edit in edits if not edit.ref.startswith(_SHARED)]
        if own:
            self._commit_own(own)
        if shared:
            self._push(shared)

    def delete(self, edits: Iterable[RefEdit]) -> None:
        """Delete refs that nobody needs: those of the remote, or rescue refs here and there."""
        shared = []
        for edit in edits:
            if edit.ref.startswith(RESCUES):
                self._delete_rescue(edit)
            else:
                shared.append(edit)
        for start in range(0, len(shared), _MOST_AT_ONCE):
            # Where one is not what it was, another runner is at the same work.
            with contextlib.suppress(RefMoved):
                self._push(shared[start : start + _MOST_AT_ONCE])

    def publish(self) -> None:
        """Push the rescue refs that the remote does not have yet; those that it refuses stay here.

        Raises Unreachable.
        """
        with self._mutex:
            unsure, self._unsure = self._unsure, {}
            wanted = unsure | self._unsent
        if not wanted:
            return
        there = self._mirror.remote.below(RESCUES)
        for ref, oid in wanted.items():
            edit = RefEdit(ref, None, oid)
            if there.get(ref) == oid or self._attempt([edit]) is None:
                self._sent([edit])

    def solitude(self) -> int | None:
        """None: others may be at work at any time."""
        return None

    def close(self) -> None:
        """End what runs; a later `commit` starts it again."""
        self._local.close()
        self._mirror.close()

    # --- pushing -------------------------------------------------------------------------------

    def _push(self, edits: list[RefEdit]) -> None:
        with self._mirror.pushing(edits):
            self._push_and_follow(edits)

    def _push_and_follow(self, edits: list[RefEdit]) -> None:
        along = self._along({edit.new for edit in edits})
        error = self._attempt([*edits, *along])
        if along and error is not None and not isinstance(error, Unreachable):
            # What goes along must not keep back what matters.
            along = []
            error = self._attempt(edits)
        if error is not None:
            self._settle(edits, error)
        self._sent(along)
        self._mirror.landed(edits)

    def _attempt(self, edits: list[RefEdit]) -> RefMoved | WaitUntil | None:
        try:
            self._mirror.remote.push(edits)
        except (RefMoved, WaitUntil) as error:
            return error
        return None

    def _settle(self, edits: list[RefEdit], error: RefMoved | WaitUntil) -> None:
        """Find out what became of a push that has not plainly succeeded; returns if it has.

        The whole view is renewed: whoever lost one task knows then which others are taken.
        """
        try:
            self._mirror.sync(leases=True)
        except (AynigError, OSError) as blind:
            if isinstance(error, RefMoved) and isinstance(blind, WaitUntil):
                # By a push of our own, perhaps, whose outcome is unknown: nothing is decided.
                raise blind from error
            raise error from None
        found = {edit.ref: self._mirror.said(edit.ref) for edit in edits}
        if all(found[edit.ref] == edit.new for edit in edits):
            return
        for edit in edits:
            if found[edit.ref] != edit.old:
                raise RefMoved(
                    f"{edit.ref} is at {found[edit.ref] or 'nothing'} on "
                    f"{self._mirror.remote.address.shown}, not at {edit.old or 'nothing'}",
                    ref=edit.ref,
                ) from error
        if isinstance(error, RefMoved):
            raise RefBusy(f"{error}, and is back by now") from error
        raise error

    # --- rescue refs ---------------------------------------------------------------------------

    def _commit_own(self, edits: list[RefEdit]) -> None:
        self._local.commit(edits)
        with self._mutex:
            for edit in edits:
                if edit.ref.startswith(RESCUES) and edit.new is not None:
                    self._unsent[edit.ref] = edit.new

    def _along(self, beside: Set[str | None]) -> list[RefEdit]:
        """Rescue refs to push with something else; not one that only keeps what lands now."""
        with self._mutex:
            unsent = [(ref, oid) for ref, oid in self._unsent.items() if oid not in beside]
        return [RefEdit(ref, None, oid) for ref, oid in unsent[:_MOST_ALONG]]

    def _sent(self, edits: Iterable[RefEdit]) -> None:
        with self._mutex:
            for edit in edits:
                if self._unsent.get(edit.ref) == edit.new:
                    del self._unsent[edit.ref]

    def _delete_rescue(self, edit: RefEdit) -> None:
        # It may be another runner's, which is on the remote alone.
        with contextlib.suppress(AynigError):
            self._local.delete([edit])
        with self._mutex:
            unsent = self._unsent.pop(edit.ref, None)
        if unsent is None:
            with contextlib.suppress(AynigError):
                self._mirror.remote.push([edit])
