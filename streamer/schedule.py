"""Which windows are computed next, and which can't be any more. Pure: time is an argument, nothing is awaited.

Earliest deadline first over all streams. Whether a window can still make it is decided *before* computing, from batch
times measured as they happen: a batch starts only when now + batch time + publish time is before the earliest deadline
in it. Waiting up to the deadline is allowed; to shed a window that could have been answered is a fault as well.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass, field

from streamer.media import Window

_HIGH, _MIDDLE = 0.99, 0.5
_REMEMBERED = 128
_FORGOTTEN_NS = 10_000_000_000


@dataclass(frozen=True, slots=True)
class SchedulePolicy:
    """`max_windows`: the most windows in one batch. `first_batch_ns`: what a batch is taken to cost before one was
    measured."""

    max_windows: int = 8
    first_batch_ns: int = 150_000_000


@dataclass(slots=True)
class _Durations:
    """What batches of one size took of late: (end, duration) in nanoseconds, and the durations sorted."""

    times: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    ordered: list[int] = field(default_factory=list)

    def record(self, duration_ns: int, now_ns: int) -> None:
        self.times.append((now_ns, duration_ns))
        self.ordered = sorted(duration for _, duration in self.times)

    def forget(self, now_ns: int) -> None:
        # The newest stays however old it is: it is still the best that is known of its size.
        if len(self.times) > 1 and now_ns - self.times[0][0] > _FORGOTTEN_NS:
            while len(self.times) > 1 and now_ns - self.times[0][0] > _FORGOTTEN_NS:
                self.times.popleft()
            self.ordered = sorted(duration for _, duration in self.times)

    def quantile(self, quantile: float) -> int:
        return self.ordered[min(len(self.ordered) - 1, math.ceil(quantile * len(self.ordered)) - 1)]


@dataclass(slots=True)
class BatchTimes:
    """Durations of recent batches by size, in powers of two; asked for a high quantile, because a mean is late half the
    time. What is older than 10 s says nothing of now and is forgotten."""

    first_ns: int
    _recent: dict[int, _Durations] = field(default_factory=dict)

    def record(self, units: int, duration_ns: int, now_ns: int) -> None:
        """A batch of `units` encodings took `duration_ns` and ended at `now_ns`."""
        self._recent.setdefault(_bucket(units), _Durations()).record(duration_ns, now_ns)

    def expect(self, units: int, now_ns: int, quantile: float = _HIGH) -> int:
        """Nanoseconds that a batch of `units` encodings stays under in `quantile` of all cases, as far as seen.

        A size never seen is taken from the nearest size, scaled up but never down: small batches have a floor.
        """
        if not self._recent:
            return self.first_ns
        bucket = _bucket(units)
        nearest = min(self._recent, key=lambda size: abs(size - bucket))
        durations = self._recent[nearest]
        durations.forget(now_ns)
        return int(durations.quantile(quantile) * max(1.0, 2.0 ** (bucket - nearest)))


def _bucket(units: int) -> int:
    return max(0, math.ceil(math.log2(max(1, units))))


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows to compute together, earliest deadline first; `units` is how many pictures and patches are new in
    them."""

    windows: tuple[Window, ...]
    units: int


class Scheduler:
    """Windows that wait for compute. Bounded: a window never stays past its deadline, and a stream has few at a
    time."""

    def __init__(self, policy: SchedulePolicy) -> None:
        self._policy = policy
        self._times = BatchTimes(policy.first_batch_ns)
        self._heap: list[tuple[int, int, Window]] = []
        self._order = 0
        self._encoded: dict[str, tuple[int, int]] = {}
        self._publish_ns = 0

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def times(self) -> BatchTimes:
        """The batch times measured so far."""
        return self._times

    def expect_publish(self, publish_ns: int) -> None:
        """Set the time to keep free for publishing: a high quantile of what it took of late."""
        self._publish_ns = publish_ns

    def submit(self, window: Window) -> None:
        """Queue a closed window."""
        heapq.heappush(self._heap, (window.deadline_ns, self._order, window))
        self._order += 1

    def next_batch(self, now_ns: int) -> tuple[Batch | None, list[Window]]:
        """The batch to start at `now_ns`, and the windows that can't make it any more, which the caller sheds.

        Where by the high quantile none can make it any more, the one with the most time left is tried all the same, if
        it can by the middle one: an engine that stands idle learns of no better times, and would shed for ever after
        one
        slow batch. (A result that comes too late is thrown away by the caller's guard.)
        """
        missed: list[Window] = []
        while self._heap and not self._makes_it([self._heap[0][2]], now_ns):
            missed.append(heapq.heappop(self._heap)[2])
        chosen: list[Window] = []
        while self._heap and len(chosen) < self._policy.max_windows:
            candidate = self._heap[0][2]
            if not self._makes_it([*chosen, candidate], now_ns):
                break
            chosen.append(heapq.heappop(self._heap)[2])
        if not chosen and missed and self._makes_it(missed[-1:], now_ns, _MIDDLE):
            chosen.append(missed.pop())
        return (self._started(chosen) if chosen else None), missed

    def _makes_it(self, windows: list[Window], now_ns: int, quantile: float = _HIGH) -> bool:
        # Earliest first: the first window's deadline is the batch's.
        cost_ns = self._times.expect(self._units(windows), now_ns, quantile) + self._publish_ns
        return now_ns + cost_ns <= windows[0].deadline_ns

    def _units(self, windows: list[Window]) -> int:
        newest: dict[str, tuple[int, int]] = {}
        units = 0
        for window in windows:
            picture, patch = newest.get(window.stream) or self._encoded.get(window.stream, (-1, -1))
            units += sum(p.index > picture for p in window.pictures) + sum(p.index > patch for p in window.patches)
            newest[window.stream] = _newest(window, picture, patch)
        return units

    def _started(self, windows: list[Window]) -> Batch:
        units = self._units(windows)
        for window in windows:
            self._encoded[window.stream] = _newest(window, *self._encoded.get(window.stream, (-1, -1)))
        return Batch(tuple(windows), units)

    def completed(self, batch: Batch, duration_ns: int, now_ns: int) -> None:
        """Learn from a batch that ran for `duration_ns` until `now_ns`."""
        self._times.record(batch.units, duration_ns, now_ns)

    def forget(self, stream: str) -> list[Window]:
        """Remove a stream with all it has waiting; returns what waited, for the caller to answer."""
        waiting = [window for _, _, window in self._heap if window.stream == stream]
        self._heap = [entry for entry in self._heap if entry[2].stream != stream]
        heapq.heapify(self._heap)
        self._encoded.pop(stream, None)
        return waiting

    def forget_waiting(self) -> list[Window]:
        """Empty the queue; returns what waited."""
        waiting = [window for _, _, window in sorted(self._heap, key=lambda entry: entry[:2])]
        self._heap.clear()
        return waiting


def _newest(window: Window, picture: int, patch: int) -> tuple[int, int]:
    return (
        max([picture, *(p.index for p in window.pictures)]),
        max([patch, *(p.index for p in window.patches)]),
    )
