"""Whether the store takes what is published, since when it does not, and what of a unit's way it has to answer for."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

from streamer.clock import NS_PER_MS, NS_PER_S, Clock
from streamer.errors import StoreError
from streamer.publishing.acknowledged import Outage
from streamer.publishing.trips import Blame, Pulse, Trip, Trouble

log = logging.getLogger(__name__)

# A round trip longer than this counts as an outage even before it times out.
_SLOW_NS = 500 * NS_PER_MS
_NEVER_NS = 1 << 63


class Health:
    """The store at `shown`, as the publisher sees it. Belongs to the publisher's loop, but for `outage`.

    Attributes:
        waiting: units handed over and not acknowledged.
        outages: how often the store went away.
        since_ns: since when all is well and nothing waits any more that had to wait; far ahead while it is not.
        latest: the round trip that ended last.

    Args:
        requests: how many requests have been written to the store so far.
    """

    def __init__(self, clock: Clock, shown: str, requests: Callable[[], int]) -> None:
        self._clock = clock
        self._shown = shown
        self._pulse = Pulse(clock, requests)
        self._trouble = Trouble()
        self._asked_ns: int | None = None
        self._outage: tuple[int, str] | None = None
        # Units that waited when the store came back: until they are written, the outage explains what is late.
        self._behind = 0
        self.waiting = 0
        self.outages = 0
        self.since_ns = 0
        self.latest = Trip(0, 0)

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Around a call of the store: how long it took, and how much of that was the store's own doing."""
        self._asked_ns = asked_ns = self._pulse.begin()
        failed = True
        try:
            yield
            failed = False
        finally:
            self._asked_ns = None
            self.latest = self._pulse.end(asked_ns, failed=failed)
            self._trouble.trip(self.latest)

    def blame(self, since_ns: int, until_ns: int, deadline_ns: int | None) -> Blame:
        """How long between the two the store was away or slow, and our own loop stood still."""
        return self._trouble.within(since_ns, until_ns, deadline_ns)

    def more(self, units: int) -> None:
        """So many units wait in addition (fewer, where it is negative)."""
        self.waiting += units
        if units < 0 and self._behind:
            self._behind = max(self._behind + units, 0)
            if not self._behind:
                self._caught_up()

    def failed(self, error: StoreError, seen: Trip | None = None, *, own: bool = False) -> None:
        """The store did not take what was sent, which the round trip `seen` found out. `own`: it was not its fault."""
        now_ns = self._clock.now_ns()
        self._behind, self.since_ns = 0, _NEVER_NS
        if not own:
            self._trouble.away(seen or Trip(now_ns, now_ns))
        if self._outage is None:
            self.outages += 1
            self._outage = (now_ns, str(error))
            log.warning("%s; segments are kept and stored later", error)
        else:
            self._outage = (self._outage[0], str(error))

    def succeeded(self) -> None:
        """The store took what was sent."""
        if self._outage is None:
            return
        away_s = (self._clock.now_ns() - self._outage[0]) / NS_PER_S
        log.warning("the store %s is back after %.1f s; %d units wait", self._shown, away_s, self.waiting)
        self._outage = None
        self._behind = self.waiting
        if not self._behind:
            self._caught_up()

    def lost(self, seen: Trip) -> None:
        """The store has lost what it had acknowledged, which the round trip `seen` found out: what waits now is late
        for that, if it is."""
        self._trouble.away(seen)
        self.since_ns = _NEVER_NS
        if self._outage is None:
            self._behind = self.waiting

    def outage(self) -> Outage | None:
        """What is wrong with the store, None while all is well. Any thread may ask."""
        outage, asked_ns = self._outage, self._asked_ns  # read once: either may be over the moment after
        if outage is not None:
            return Outage(*outage, self.waiting)
        if asked_ns is not None and self._clock.now_ns() - asked_ns > _SLOW_NS:
            return Outage(asked_ns, f"the store {self._shown} does not answer", self.waiting)
        return None

    def _caught_up(self) -> None:
        self.since_ns = self._clock.now_ns()
        self._trouble.back(self.since_ns)
