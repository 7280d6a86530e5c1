"""Renews the lease of one run while its script lives.

On a remote a renewal may hang for as long as the network does. Whoever waits for the script must
not hang with it: it also minds its time limit, its output, and wishes to stop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from aynig.errors import LeaseLost
from aynig.model import Lease


class Renewal:
    """The lease of one run, as it was last renewed."""

    def __init__(
        self,
        lease: Lease,
        renew: Callable[[Lease], Lease],
        lost: Callable[[], None],
        *,
        aside: bool,
    ) -> None:
        """`lost` is called when somebody else has taken over; `aside`: renew in a thread."""
        self._lease = lease
        self._renew = renew
        self._lost = lost
        self._aside = aside
        self._thread: threading.Thread | None = None

    def tick(self) -> None:
        """It is time for a renewal. Raises what went wrong, where it is not done aside."""
        if not self._aside:
            self._lease = self._renew(self._lease)
        elif self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._renew_aside, name="aynig-renewal")
            self._thread.start()

    def settled(self) -> Lease:
        """The lease when no renewal is under way any more."""
        if self._thread is not None:
            self._thread.join()
        return self._lease

    def _renew_aside(self) -> None:
        try:
            self._lease = self._renew(self._lease)
        except LeaseLost:
            self._lost()
        except Exception:
            # A remote that is away now may be back at the next tick.
            return
