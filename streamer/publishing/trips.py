"""Round trips to the store: which part of a unit's way was the store's doing, and which our own.

Pure but for `Pulse`, which needs the loop it listens to: times come in as arguments, in nanoseconds of the host's
monotonic clock.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from streamer.clock import NS_PER_MS, NS_PER_S, Clock

# What a round trip may take with the store well. What one that takes longer should have taken is what the slowest of
# so many before it took, or that where there were too few.
_FAIR_NS = 20 * NS_PER_MS
_USUAL_TRIPS, _FEW_TRIPS = 64, 8
_BEAT_NS = 10 * NS_PER_MS
# Enough for 20 s of round trips that are all slow; an outage is one span, however long.
_SPANS = 512

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Trip:
    """A round trip that has ended. `stalls`: when the loop stood still during it in such a way that an answer may have
    lain there unread, or a request unwritten; `failed`: nothing came of it."""

    sent_ns: int
    ended_ns: int
    stalls: tuple[Span, ...] = ()
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Blame:
    """Of the time between two moments: when the store was away or slow (`store`, the latest first), and in how much of
    it our own loop stood still, all together (`stalled_ns`) and up to a deadline (`stalled_early_ns`)."""

    store: tuple[Span, ...] = ()
    stalled_ns: int = 0
    stalled_early_ns: int = 0

    @property
    def store_ns(self) -> int:
        """How long the store was away or slow."""
        return _length(self.store)


class Pulse:
    """Finds where the event loop itself stood still during a round trip: a timer of 10 ms that rang too late.

    A stall after which the loop ran on time while there was still no answer to what had been asked has kept nobody
    waiting: the store had not answered. On a busy machine there are many such ones in every outage.

    The loop is asked only while a trip is under way, and a trip of usual length is over before the first ring.

    Args:
        requests: how many requests have been written to the store so far. One that follows a stall may have been held
            up by it.
    """

    def __init__(self, clock: Clock, requests: Callable[[], int]) -> None:
        self._clock = clock
        self._requests = requests
        self._timer: asyncio.TimerHandle | None = None
        self._last_ns = 0
        self._begun_with = 0
        # Stalls that did harm or may have, and those of which the next rings will tell, with the requests until then.
        self._stalls: list[Span] = []
        self._doubtful: list[tuple[Span, int]] = []

    def begin(self) -> int:
        """A trip begins; returns the time."""
        self._stalls, self._doubtful = [], []
        self._begun_with = self._requests()
        self._last_ns = self._clock.now_ns()
        self._arm()
        return self._last_ns

    def end(self, sent_ns: int, *, failed: bool) -> Trip:
        """The trip that began at `sent_ns` is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._listen()
        stalls = sorted([*self._stalls, *(span for span, _ in self._doubtful)])
        return Trip(sent_ns, self._last_ns, tuple(stalls), failed)

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_BEAT_NS / NS_PER_S, self._beat)

    def _beat(self) -> None:
        if not self._listen() and self._doubtful:
            self._settle_doubts()
        self._arm()

    def _listen(self) -> bool:
        """Whether the loop stood still."""
        now_ns = self._clock.now_ns()
        stood_still = now_ns - self._last_ns > 2 * _BEAT_NS
        if stood_still:
            self._doubtful.append(((self._last_ns, now_ns), self._requests()))
        self._last_ns = now_ns
        return stood_still

    def _settle_doubts(self) -> None:
        requests = self._requests()
        harmful = [span for span, then in self._doubtful if then == self._begun_with or then != requests]
        self._stalls += harmful
        self._doubtful = []


class Trouble:
    """When the store was away or slow, as far as it was not this process that stood still."""

    def __init__(self) -> None:
        self._spans: deque[Span] = deque(maxlen=_SPANS)
        self._stalls: deque[Span] = deque(maxlen=_SPANS)
        self._usual: deque[int] = deque(maxlen=_USUAL_TRIPS)
        self._away_since_ns: int | None = None

    def trip(self, trip: Trip) -> None:
        """A round trip ended. One that took no longer than fair is no trouble, unless it failed."""
        took_ns = trip.ended_ns - trip.sent_ns
        begin_ns = trip.sent_ns
        if not trip.failed:
            if took_ns <= _FAIR_NS:
                self._usual.append(took_ns)
                return
            begin_ns += max(self._usual) if len(self._usual) >= _FEW_TRIPS else _FAIR_NS
        for stall_begin_ns, stall_end_ns in trip.stalls:
            self._stalls.append((stall_begin_ns, stall_end_ns))
            self._add(begin_ns, min(stall_begin_ns, trip.ended_ns))
            begin_ns = max(begin_ns, stall_end_ns)
        self._add(begin_ns, trip.ended_ns)

    def away(self, since: Trip) -> None:
        """The store does not take what is sent, or has lost what it had, until `back`: seen by the trip `since`."""
        if self._away_since_ns is not None:
            return
        self._away_since_ns = since_ns = max([since.sent_ns, *(end_ns for _, end_ns in since.stalls)])
        while self._spans and self._spans[-1][1] > since_ns:
            begin_ns, _ = self._spans.pop()
            if begin_ns < since_ns:
                self._spans.append((begin_ns, since_ns))

    def back(self, now_ns: int) -> None:
        """The store is back, and what had to wait for it is written."""
        since_ns, self._away_since_ns = self._away_since_ns, None
        if since_ns is not None:
            self._add(since_ns, now_ns)

    def within(self, since_ns: int, until_ns: int, deadline_ns: int | None = None) -> Blame:
        """Whose doing what was between `since_ns` and `until_ns`."""
        store = _within(self._spans, since_ns, until_ns)
        if self._away_since_ns is not None and until_ns > self._away_since_ns:
            store = ((max(since_ns, self._away_since_ns), until_ns), *store)
        if not self._stalls or self._stalls[-1][1] <= since_ns:
            return Blame(store)
        early_ns = until_ns if deadline_ns is None else min(deadline_ns, until_ns)
        stalls, early = _within(self._stalls, since_ns, until_ns), _within(self._stalls, since_ns, early_ns)
        return Blame(store, _length(stalls), _length(early))

    def _add(self, begin_ns: int, end_ns: int) -> None:
        """Spans come in the order of their ends; what an outage covers already is not counted twice."""
        if self._away_since_ns is not None:
            end_ns = min(end_ns, self._away_since_ns)
        if self._spans:
            begin_ns = max(begin_ns, self._spans[-1][1])
        if end_ns > begin_ns:
            self._spans.append((begin_ns, end_ns))


def _within(spans: deque[Span], since_ns: int, until_ns: int) -> tuple[Span, ...]:
    """What of `spans`, which are in the order of their ends, lies between the two."""
    found = []
    for begin_ns, end_ns in reversed(spans):
        if end_ns <= since_ns:
            break
        begin_ns, end_ns = max(begin_ns, since_ns), min(end_ns, until_ns)
        if end_ns > begin_ns:
            found.append((begin_ns, end_ns))
    return tuple(found)


def _length(spans: tuple[Span, ...]) -> int:
    return sum(end_ns - begin_ns for begin_ns, end_ns in spans)
