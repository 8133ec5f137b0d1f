"""Round trips to the store: which part of a unit's way was the store's doing, and which our own.

Pure but for `Pulse`, which needs the loop it listens to: times come in as arguments, in nanoseconds of the host's
monotonic clock.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from streamer.clock import NS_PER_MS, NS_PER_S, Clock

# What a round trip may take with the store well; only what is beyond it was the store's slowness.
_FAIR_NS = 20 * NS_PER_MS
_BEAT_NS = 10 * NS_PER_MS
# Enough for 20 s of round trips that are all slow; an outage is one span, however long.
_SPANS = 512

Span = tuple[int, int]


class Pulse:
    """Finds where the event loop itself stood still during a round trip: a timer of 10 ms that rang too late.

    The loop is asked only while a trip is under way, and a trip of usual length is over before the first ring.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self._last_ns = 0
        self._stalls: list[Span] = []

    def begin(self) -> int:
        """A trip begins; returns the time."""
        self._stalls = []
        self._last_ns = self._clock.now_ns()
        self._arm()
        return self._last_ns

    def end(self) -> tuple[int, Sequence[Span]]:
        """The trip is over; returns the time, and when the loop stood still during it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._listen()
        return self._last_ns, self._stalls

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_BEAT_NS / NS_PER_S, self._beat)

    def _beat(self) -> None:
        self._listen()
        self._arm()

    def _listen(self) -> None:
        now_ns = self._clock.now_ns()
        if now_ns - self._last_ns > 2 * _BEAT_NS:
            self._stalls.append((self._last_ns, now_ns))
        self._last_ns = now_ns


class Trouble:
    """When the store was away or slow, as far as it was not this process that stood still."""

    def __init__(self) -> None:
        self._spans: deque[Span] = deque(maxlen=_SPANS)
        self._away_since_ns: int | None = None

    def trip(self, sent_ns: int, ended_ns: int, stalls: Sequence[Span], *, failed: bool = False) -> None:
        """A round trip ended. One that took no longer than fair is no trouble, unless it `failed`."""
        begin_ns = sent_ns if failed else sent_ns + _FAIR_NS
        for stall_begin_ns, stall_end_ns in stalls:
            self._add(begin_ns, min(stall_begin_ns, ended_ns))
            begin_ns = max(begin_ns, stall_end_ns)
        self._add(begin_ns, ended_ns)

    def away(self, since_ns: int) -> None:
        """The store does not take what is sent, until `back`."""
        if self._away_since_ns is None:
            self._away_since_ns = since_ns

    def back(self, now_ns: int) -> None:
        """The store is back, and what had to wait for it is written."""
        since_ns, self._away_since_ns = self._away_since_ns, None
        if since_ns is not None:
            self._add(since_ns, now_ns)

    def within(self, since_ns: int, until_ns: int) -> int:
        """Nanoseconds of trouble between `since_ns` and `until_ns`."""
        total_ns = 0
        if self._away_since_ns is not None:
            total_ns += max(0, until_ns - max(since_ns, self._away_since_ns))
        for begin_ns, end_ns in reversed(self._spans):
            if end_ns <= since_ns:
                break
            total_ns += max(0, min(end_ns, until_ns) - max(begin_ns, since_ns))
        return total_ns

    def _add(self, begin_ns: int, end_ns: int) -> None:
        """Spans come in the order of their ends; what an outage covers already is not counted twice."""
        if self._away_since_ns is not None:
            end_ns = min(end_ns, self._away_since_ns)
        if self._spans:
            begin_ns = max(begin_ns, self._spans[-1][1])
        if end_ns > begin_ns:
            self._spans.append((begin_ns, end_ns))
